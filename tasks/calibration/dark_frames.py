"""Dark frames: the dark current at the time of the visit, and the noise of its map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import FloatArray
from schemas.inputs import DARK_FRAME
from schemas.payloads import Product, Reference
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.numerics.times import utc_to_mjd

FAR = 4.0  # distance from the usual dark current beyond which a pixel is hot [sigma]


def interpolate_frames(
    time: float, times: FloatArray, frames: FloatArray, errors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Interpolate dark current and error between two frames; they are constant beyond them.

    Parameters
    ----------
    time : float
        Time of the visit [MJD].
    times : ndarray, shape (k,)
        Times of one or two frames [MJD].
    frames, errors : ndarray, shape (k, ny, nx)
        Dark current and its error [electron/s].
    """
    if len(times) == 1 or times[1] == times[0]:
        return frames[0], errors[0]
    w = float(np.clip((time - times[0]) / (times[1] - times[0]), 0.0, 1.0))
    return (1 - w) * frames[0] + w * frames[1], np.hypot((1 - w) * errors[0], w * errors[1])


def shrink(rate: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Reduce the noise of a map of the dark current, and return the map and its error.

    Each pixel is the median of the map plus a difference d with an error e. The differences of most
    pixels have a common variance V, their scatter beyond the errors; those of hot pixels, which lie
    further out than that scatter and noise together reach, have d^2 - e^2. Each difference is
    multiplied by v / (v + e^2), with v the variance of its kind (empirical Bayes).

    Parameters
    ----------
    rate, error : ndarray, shape (ny, nx)
        Map and its error [electron/s].
    """
    usual = float(np.median(rate))
    difference = rate - usual
    noise = np.square(error)
    spread = max(
        float(MAD_TO_SIGMA * np.median(np.abs(difference))) ** 2 - float(np.median(noise)), 0.0
    )
    variance = np.where(
        np.square(difference) > FAR**2 * (spread + noise), np.square(difference) - noise, spread
    )
    share = np.divide(variance, variance + noise, out=np.ones_like(rate), where=noise > 0)
    return usual + share * difference, error * np.sqrt(share)


@dataclass(frozen=True)
class DarkFrames:
    """The dark frames that bracket a visit, or the only one."""

    products: tuple[Product, ...]
    times: FloatArray  # shape (k,) [MJD]
    middle: float  # of the visit [MJD]

    @classmethod
    def of(cls, frames: tuple[Reference, ...], mjd: FloatArray) -> DarkFrames:
        """Return the frames of a visit, whose images were taken at `mjd`."""
        times = utc_to_mjd(np.array([f.valid_from for f in frames]))
        return cls(tuple(f.product for f in frames), times, float(np.median(mjd)))

    @property
    def age(self) -> float:
        """Time between the visit and the nearest frame [day]."""
        return float(np.min(np.abs(self.times - self.middle)))

    def read_rate(self, window: tuple[slice, slice]) -> tuple[FloatArray, FloatArray]:
        """Return dark current and error of a window at the time of the visit [electron/s]."""
        return self._interpolate([_read_frame(p, window) for p in self.products])

    def read_columns(self, side: str, rows: slice) -> FloatArray | None:
        """Return the dark current of the dark columns of one side, (ny, 16) [electron/s].

        None unless every frame has these columns.
        """
        columns = [c for p in self.products if (c := _read_columns(p, side, rows)) is not None]
        return self._interpolate(columns)[0] if len(columns) == len(self.products) else None

    def _interpolate(
        self, planes: list[tuple[FloatArray, FloatArray]]
    ) -> tuple[FloatArray, FloatArray]:
        rates, errors = (np.stack(p) for p in zip(*planes, strict=True))
        return interpolate_frames(self.middle, self.times, rates, errors)


def _read_frame(product: Product, window: tuple[slice, slice]) -> tuple[FloatArray, FloatArray]:
    with open_declared(require(product.path), DARK_FRAME) as file:
        rate, error = file["REF_APP_DarkFrame"].finite_image()
    return rate[window], error[window]


def _read_columns(product: Product, side: str, rows: slice) -> tuple[FloatArray, FloatArray] | None:
    extname = f"REF_APP_DarkFrame{side.removeprefix('Dark')}"
    with open_declared(require(product.path), DARK_FRAME) as file:
        if extname not in file or file[extname].shape != (2, 1024, 16):
            return None
        rate, error = file[extname].finite_image()
    return rate[rows], error[rows]
