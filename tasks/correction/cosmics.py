"""Tracks of cosmic rays: adjacent hit pixels of an image, with their place, size and shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from schemas.arrays import FloatArray, IntArray

PIXEL = 1.0 / 12.0  # variance of a uniform pixel; makes a single pixel round


@dataclass(frozen=True)
class Track:
    """A track of a cosmic ray."""

    x: float  # index [pixel]
    y: float
    major: float  # axes [pixel]
    minor: float
    angle: float  # of the major axis, from x towards y [deg]
    pixels: int

    @property
    def ellipticity(self) -> float:
        """1 - minor / major axis."""
        return 1.0 - self.minor / self.major


def tracks(
    rows: IntArray, columns: IntArray, charge: FloatArray, shape: tuple[int, int]
) -> list[Track]:
    """Group the hit pixels of an image into tracks.

    Parameters
    ----------
    rows, columns : ndarray of int, shape (k,)
        Hit pixels.
    charge : ndarray, shape (k,)
        Excess charge, the weight for place and shape [electron].
    shape : tuple of int
        (ny, nx) of the image.

    Returns
    -------
    list of Track
        In order of their first pixel, row by row. Axes are the standard deviations of the charge,
        including that of a pixel.

    Raises
    ------
    ValueError
        If a pixel lies outside of the image.
    """
    if len(rows) and (
        min(rows.min(), columns.min()) < 0 or rows.max() >= shape[0] or columns.max() >= shape[1]
    ):
        raise ValueError(f"a hit pixel lies outside of an image of {shape[1]} x {shape[0]} pixels")
    mask, weight = np.zeros(shape, dtype=bool), np.zeros(shape)
    mask[rows, columns] = True
    weight[rows, columns] = np.maximum(charge, 1e-9)
    labels, count = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
    found = []
    for k, box in enumerate(scipy.ndimage.find_objects(labels), 1):
        y, x = np.nonzero(labels[box] == k)
        y, x = y + box[0].start, x + box[1].start
        found.append(_track(x, y, weight[y, x]))
    assert len(found) == count
    return found


def _track(x: IntArray, y: IntArray, charge: FloatArray) -> Track:
    """Return the track of adjacent pixels, from the moments of their charge."""
    w = charge / charge.sum()
    cx, cy = float(w @ x), float(w @ y)
    xx, yy, xy = w @ (x - cx) ** 2 + PIXEL, w @ (y - cy) ** 2 + PIXEL, w @ ((x - cx) * (y - cy))
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    angle = float(np.degrees(0.5 * np.arctan2(2 * xy, xx - yy)))
    major, minor = float(np.sqrt(middle + spread)), float(np.sqrt(middle - spread))
    return Track(cx, cy, major, minor, angle, len(x))
