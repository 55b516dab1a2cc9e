"""Smearing: light collected without a shutter, while images shift to the shielded half of the CCD.

Every pixel passes every row of its column and collects the light of each row for the time of one
shift, tau. Without motion the sum is the same in a whole column: S(x) = n tau sum over y of
rate(x, y), over all 1024 rows, including stars outside of the window. The margin rows at the top
contain only this light (and the dark current of their read-out). They are too noisy to correct an
image, but over a visit they measure tau, which is combined with the time by the clock.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.payloads import Linearity, Product, ReadOut, Scene, Smearing
from schemas.settings import SmearingSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.reader import blocks
from tasks.files.writer import NewHdu
from tasks.numerics.robust import robust_scatter
from tasks.scene.optics import FINE, to_grid
from tasks.scene.prior import read_reference_psf
from tasks.scene.psf import centre_of_plane
from tasks.scene.star_model import read_psf
from tasks.scene.stars import field_places
from tasks.scene.track import read_track
from tasks.visit.linearity_curve import linearise
from tasks.visit.raw import Exposures, open_exposures
from tasks.visit.terms import read_bias, read_gain, read_linearity, read_look, read_stars

# the clock is exact, but the model of the columns' light lacks far wings and faint stars
KNOWN = 0.05
OFF = 4.0  # sigma; beyond this deviation from the clock the margin is believed
# of a star's light, expected error of the part that optics and CCD scatter far from it; and the
# distance in which it falls to half, summed along columns [pixel]
SCATTERED, SCATTER = 0.05, 80.0
# electron in all columns; a star that smears less in an exposure is negligible
FAINTEST = 0.05
BLUR_SAMPLES = 8
CCD_ROWS = 1024
FULL_SCALE = 65535  # ADU of one exposure


def column_profile(
    grid: FloatArray, plane: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return offsets from a star [pixel], and the share of its light in a column at each offset.

    Parameters
    ----------
    grid : ndarray, shape (l, l)
        PSF of the visit on the fine grid, sum 1.
    plane : ndarray, shape (ny, nx), optional
        Reference PSF, which reaches further than that of the visit: columns beside a bright star
        collect the light of wings that are above and below its stamp.
    """
    half = grid.shape[0] // 2
    offsets, profile = (np.arange(grid.shape[1]) - half) / FINE, grid.sum(axis=0) * FINE
    centre = None if plane is None else centre_of_plane(plane)
    if plane is None or centre is None:
        return offsets, profile
    rows, columns = (np.arange(n) - c for n, c in zip(plane.shape, centre[::-1], strict=True))
    outside = np.maximum(np.abs(rows)[:, None], np.abs(columns)) > half / FINE
    inside = float(plane[~outside].sum())
    if not inside > 0:
        return offsets, profile
    wings = np.where(outside, plane, 0.0).sum(axis=0) / inside
    reach = max(-float(columns[0]), float(columns[-1]), float(offsets[-1]))
    wide = np.arange(-np.ceil(FINE * reach), np.ceil(FINE * reach) + 1) / FINE
    both = (np.interp(wide, x, y, 0.0, 0.0) for x, y in ((offsets, profile), (columns, wings)))
    return wide, sum(both, np.zeros(len(wide)))


def column_sums(
    columns: int, x: FloatArray, flux: FloatArray, offsets: FloatArray, profile: FloatArray
) -> FloatArray:
    """Return the light of stars summed along every column, shape (columns,).

    Parameters
    ----------
    columns : int
        Number of columns.
    x : ndarray, shape (k, m)
        Index of the column of each star at m times of the exposure.
    flux : ndarray, shape (k,)
        Fluxes [electron].
    offsets, profile : ndarray, shape (l,)
        Profile of a star, see `column_profile`.
    """
    place = np.arange(columns)
    sums = np.zeros(columns)
    for star, light in zip(x, flux, strict=True):
        for centre in star:
            sums += (
                light / len(star) * np.interp(place - centre, offsets, profile, left=0.0, right=0.0)
            )
    return sums


def columns_passed(
    start: tuple[FloatArray, FloatArray], end: tuple[FloatArray, FloatArray], height: int
) -> tuple[FloatArray, FloatArray]:
    """Return columns and rows of stars as the rows of the window pass them, shape (k, 2 m).

    Charge passes stars above the window on its way in, before an exposure, and stars below it on
    its way out. Stars in the window are passed by some of its rows before, and by the others after.

    Parameters
    ----------
    start, end : tuple of ndarray, shape (k, m)
        Columns and rows of the stars, as indices of the window, at the start and at the end of m
        exposures.
    height : int
        Rows of the window.
    """
    middle = (start[1].mean(axis=1) + end[1].mean(axis=1))[:, None] / 2
    above, below = middle > height - 0.5, middle < -0.5
    columns, rows = (
        np.concatenate([np.where(below, late, early), np.where(above, early, late)], axis=1)
        for early, late in zip(start, end, strict=True)
    )
    return columns, rows


class Fit(NamedTuple):
    """The time of a row shift by the margin, and the stars' scattered light."""

    time: float  # [s]
    error: float
    scattered: float  # share of a star's light


def fit_time(measured: FloatArray, model: FloatArray, scattered: FloatArray, clock: float) -> Fit:
    """Fit tau, and the share s of scattered light, to the margin, clipped once.

    The margin is constant + tau (model + s scattered). Images are not averaged, since a bright star
    may cross the columns in only a few of them.

    Parameters
    ----------
    measured : ndarray, shape (n, nx)
        Mean charge of the margin rows [electron per stack].
    model, scattered : ndarray, shape (n, nx)
        Expected charge for tau = 1 s, by the PSF and if all light were scattered [electron/s].
    clock : float
        Time of a shift by the clock, for the prior of s [s].
    """
    measured, model, scattered = measured.ravel(), model.ravel(), scattered.ravel()
    good = np.isfinite(measured) & np.isfinite(model)
    for _ in range(2):
        if good.sum() < 10 or np.ptp(model[good]) == 0:
            return Fit(0.0, float("inf"), 0.0)
        design = np.stack([np.ones(int(good.sum())), model[good], scattered[good]], axis=1)
        noise = max(robust_scatter(measured[good]), 1e-12)
        for _ in range(2):  # the prior's weight depends on the noise without the model
            normal = design.T @ design
            normal[2, 2] += (noise / (SCATTERED * clock)) ** 2
            covariance = np.linalg.inv(normal)
            constant, tau, part = covariance @ design.T @ measured[good]
            residual = measured - constant - tau * model - part * scattered
            noise = max(robust_scatter(residual[good]), 1e-12)
        good &= np.abs(residual) < 4 * noise
    share = float(part / tau) if tau > 0 else 0.0
    return Fit(float(tau), float(noise * np.sqrt(covariance[1, 1])), share)


def weighted_mean(*values: tuple[float, float]) -> tuple[float, float]:
    """Return the weighted mean of (value, error) pairs, and its error.

    A value with an infinite error is ignored.
    """
    weights = [1.0 / error**2 for _, error in values]
    total = sum(weights)
    return sum(
        w * value for w, (value, _) in zip(weights, values, strict=True)
    ) / total, total**-0.5


def margin_rows(
    raw: Exposures,
    level: FloatArray,
    gain: FloatArray,
    curve: tuple[FloatArray, FloatArray],
    good: BoolArray,
    size: int = 1 << 23,
) -> FloatArray | None:
    """Return the mean charge of the top overscan rows by column, (n, nx) [electron per stack].

    Only `good` images are returned; None if the rows are not available as images. `level` and
    `gain`, shape (n,), and the linearity `curve` are those of the images, since the charge passes
    the same amplifier. The rows are read in blocks of about `size` bytes.
    """
    if "SCI_RAW_OverscanTop" not in raw.file or not good.any():
        return None
    hdu = raw.file["SCI_RAW_OverscanTop"]
    if hdu.text("MRG_PROC") != "image":
        return None
    added = 1 if hdu.text("STACKING") == "mean" else hdu.integer("NEXP")
    means = np.empty((raw.count, hdu.shape[2]))
    for a, b in blocks(raw.count, 8 * hdu.shape[1] * hdu.shape[2], size):
        rows = hdu.image(a, b)
        rows[(rows <= 0) | (rows > FULL_SCALE * added)] = np.nan  # no data, or impossible
        measured = (rows / added - level[a:b, None, None]) / gain[a:b, None, None]
        means[a:b] = (raw.nexp * linearise(measured.ravel(), *curve).reshape(measured.shape)).mean(
            axis=1
        )
    return means[good]


@step("smearing", "SMEARING", version="10", payload=Smearing, leaves=["TERM_SMEARING"])
def estimate_smearing(
    raw: Product,
    scene: Scene,
    readout: ReadOut,
    linearity: Linearity,
    settings: SmearingSettings,
) -> Leaves:
    """Model the smeared light of all stars, and fit the time of a shift to the top margin."""
    made = scene.has_psf
    known = made and bool(read_stars(scene.stars).target.any())
    missing = "star catalogue" if made else "PSF of the visit"
    warnings = [] if known else [f"there is no {missing}: smeared light is not subtracted"]
    with open_exposures(raw) as exposures:
        columns = Columns(exposures, scene, read_reference_psf(scene.prior), settings.time)
        rate, scattered = np.zeros((2, exposures.count, exposures.shape[1]))
        margin, mjd = None, exposures.mjd
        if known:
            for i in np.flatnonzero(columns.good):
                sums = columns.sums(int(i))
                rate[i], scattered[i] = (v / exposures.exposure_time for v in sums)
            margin = read_margin(exposures, readout, linearity, columns.good)
        corner = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
    fit, good = Fit(0.0, float("inf"), 0.0), columns.good
    if margin is not None:
        fit = fit_time(margin, rate[good], scattered[good], settings.time)
    tau, error = fit.time, fit.error
    if known:
        tau, error = choose_time((tau, error), settings.time, warnings)
    rate += fit.scattered * scattered
    used = {
        "SMEAR_T": tau,
        "SMEAR_TE": error if np.isfinite(error) else 0.0,
        "SMEAR_SC": fit.scattered,
        "SMEAR_MX": float((tau * rate).max()) if known else 0.0,
    }
    images = NewHdu(TERMS["TERM_SMEARING"], {**corner, **used}, pixels=tau * rate)
    totals = {"MJD_TIME": mjd, "TOTAL": (tau * rate).sum(axis=1)}
    times = NewHdu(TERMS["TERM_SMEARING_IMAGES"], columns=totals)
    return Leaves({"TERM_SMEARING": [images, times]}, used=used, warnings=warnings)


class Columns:
    """Light of the smearing stars, summed along the columns of every image.

    The centre of light of the first look is good to a tenth of a pixel, which does not affect the
    sum of a column.
    """

    def __init__(
        self, exposures: Exposures, scene: Scene, reference: FloatArray | None, shift: float
    ) -> None:
        look, stars = read_look(scene.look), read_stars(scene.stars)
        model = read_psf(scene.psf, scene.psf_use.radius)
        self.exposures, self.x, self.y = exposures, look.x, look.y
        self.good = np.isfinite(look.flux) & (look.flux > 0) & np.isfinite(look.x)
        self.track, self.lag = read_track(scene.pointing), model.lag
        self.profile = column_profile(to_grid(model.psf.mean), reference)
        self.scale = float(scene.stars.used["STAR_SCL"])
        self.turn = float(scene.stars.used["STAR_ROL"])
        duration = exposures.nexp * exposures.exposure_time
        smears = stars.flux / duration * shift > FAINTEST
        self.xi, self.eta, self.flux = stars.xi[smears], stars.eta[smears], stars.flux[smears]
        some = np.unique(
            np.linspace(0, exposures.nexp - 1, min(BLUR_SAMPLES, exposures.nexp)).round()
        )
        step = max(exposures.repetition, exposures.exposure_time)
        self.starts = some * step - exposures.span / 2

    def places(self, i: int, seconds: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return column and row of the stars at times since the middle of image `i` [s]."""
        e = self.exposures
        dx, dy, roll = self.track.at(seconds, float(e.mjd[i]), e.span, self.lag)
        x, y = self.x[i] - e.x_offset - 0.5 + dx, self.y[i] - e.y_offset - 0.5 + dy
        return field_places(self.xi, self.eta, roll + self.turn, x, y, self.scale)

    def sums(self, i: int) -> tuple[FloatArray, FloatArray]:
        """Return the light of image `i` summed along every column, shape (nx,) [electron].

        The second sum is that of the stars' light if all of it were scattered.
        """
        height, width = self.exposures.shape
        start = self.places(i, self.starts)
        end = self.places(i, self.starts + self.exposures.exposure_time)
        columns, rows = columns_passed(start, end, height)
        on_ccd = rows + self.exposures.y_offset
        lit = ((on_ccd > 0) & (on_ccd < CCD_ROWS)).all(axis=1)
        columns, flux = columns[lit], self.flux[lit]
        away = np.arange(width) - columns.mean(axis=1)[:, None]
        scattered = flux @ (SCATTER / np.pi / (away**2 + SCATTER**2))
        return column_sums(width, columns, flux, *self.profile), np.asarray(scattered)


def read_margin(
    exposures: Exposures, readout: ReadOut, linearity: Linearity, good: BoolArray
) -> FloatArray | None:
    """Return the charge of the top margin in the `good` images (see `margin_rows`)."""
    level, gains = read_bias(readout.bias).level, read_gain(readout.gain).gain
    return margin_rows(exposures, level, gains, read_linearity(linearity), good)


def choose_time(
    measured: tuple[float, float], clock: float, warnings: list[str]
) -> tuple[float, float]:
    """Return the time of a shift and its error [s].

    This is the weighted mean of measurement and clock, or the measurement if it contradicts the
    clock.
    """
    tau, error = measured
    if abs(tau - clock) > OFF * np.hypot(error, KNOWN * clock):
        warnings.append(
            f"the top margin gives a shift of {tau * 1e6:.1f} microseconds, not {clock * 1e6:.1f}"
        )
        return measured
    return weighted_mean(measured, (clock, KNOWN * clock))
