"""Photometry of imagettes: within the largest circle that fits in the small window, and by PSF.

Where the star is close to the edge of the window, the missing part of the circle is filled by the
PSF model. Motion within an exposure and changes of the PSF carry light across the border of such a
small circle. The model gives the share of the light within it, and the flux is corrected to the
median share,

    F = sum <share> / share
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray
from schemas.constants import DAY
from schemas.flags import EVENT_COSMIC_RAYS, Quality
from schemas.light_curves import IMAGETTE, IMAGETTE_PSF
from schemas.payloads import (
    Corrected,
    Detector,
    ImagettePhotometry,
    QualityTerm,
    Removed,
    Scene,
)
from schemas.settings import ImagetteSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.geometry import mean_angle
from tasks.numerics.times import bjd_tdb
from tasks.photometry.apertures import Collected, aperture_sums, flux_variances, masked_fraction
from tasks.photometry.noise import Points, curve_metrics, metrics_table
from tasks.photometry.quality import (
    cosmic_digit,
    light_lost,
    make_up,
    median_share,
    point_columns,
)
from tasks.scene.circles import Circles
from tasks.scene.imagettes import Companions, ImagetteModel, companions, free_radius, imagette_model
from tasks.scene.prior import read_reference_psf
from tasks.scene.star_model import read_psf
from tasks.scene.stars import read_field
from tasks.scene.track import Track, read_track
from tasks.visit.headers import target_position
from tasks.visit.images import Images, Imagettes, open_images, open_imagettes
from tasks.visit.terms import (
    DarkTerm,
    ImagettePositionTerm,
    PointsTerm,
    read_dark,
    read_imagette_position,
    read_points,
)

SMALLEST = 3.0  # pixel; smallest useful radius of a circle


def fitting_radius(free: FloatArray, inside: float) -> float:
    """Return the largest radius, in half pixels, that fits in a share `inside` of the imagettes.

    Parameters
    ----------
    free : ndarray, shape (n,)
        Radius of the largest circle in each imagette; values that are not finite are ignored
        [pixel].
    inside : float
        Fraction of the imagettes, 0 to 1.

    Returns
    -------
    float
        The smallest useful radius, if the star has a place in none of the imagettes.
    """
    good = np.sort(free[np.isfinite(free)])
    if not good.size:
        return SMALLEST
    return float(
        max(np.floor(2 * good[int(np.floor((1 - inside) * (good.size - 1)))]) / 2, SMALLEST)
    )


class Circle:
    """Measures the star in imagettes, within a circle and by PSF."""

    def __init__(
        self, imagettes: Imagettes, known: Companions, model: ImagetteModel | None, radius: float
    ) -> None:
        self.imagettes, self.known, self.model, self.radius = imagettes, known, model, radius

    def sum(self, image: FloatArray, x: float, y: float) -> tuple[float, float]:
        """Return sum and summed area within the circle about a place in the imagette."""
        sums, areas = aperture_sums(image[None], [x], [y], [self.radius])
        return float(sums[0, 0]), float(areas[0, 0])

    def measure(
        self,
        i: int,
        image: FloatArray,
        x: float,
        y: float,
        motion: tuple[FloatArray, FloatArray],
        others: FloatArray,
    ) -> tuple[float, ...]:
        """Measure imagette `i`.

        Returns sum, area, share of the PSF within the circle, flux by PSF, its error, and chi
        square. `others` is the light of field stars, which is part of the sum but not of the fit.
        """
        nan = float("nan")
        if not (np.isfinite(x) and np.isfinite(y)):
            return nan, 0.0, nan, nan, nan, nan
        total, area = self.sum(image, x, y)
        if self.model is None or not np.nansum(image) > 0:
            return total, area, nan, nan, nan, nan
        offsets = int(self.imagettes.x_offset[i]), int(self.imagettes.y_offset[i])
        here = self.model.at(*offsets, float(self.known.share[i]))
        star = self.model.star(here, i, self.known, image - others, others, (x, y), motion)
        stamp, errors = here.fit(star)
        if not star.flux > 0:
            return total, area, nan, nan, nan, nan
        px, py = here.where.index(x, y)
        light = np.zeros_like(stamp)
        (x0, y0), (ny, nx) = here.where.corner, image.shape
        light[-y0 : ny - y0, -x0 : nx - x0] = others
        filled = np.where(np.isfinite(star.stamp), star.stamp, stamp) + light
        within, _ = self.sum(stamp, px + 0.5, py + 0.5)
        total, _ = self.sum(filled, px + 0.5, py + 0.5)
        pull = (star.stamp - stamp - star.level) ** 2 / (
            np.maximum(stamp + light, 0.0) + self.known.floor[i]
        )
        return total, area, within / star.flux, star.flux, float(errors[0]), float(np.nanmean(pull))


class Measured(NamedTuple):
    """The star in every imagette, arrays of shape (n,) [electron]."""

    total: FloatArray  # within the circle
    area: FloatArray  # summed area [pixel^2]
    share: FloatArray  # of the PSF within the circle
    by_psf: FloatArray  # flux by PSF
    psf_error: FloatArray
    chi2: FloatArray


class Extras(NamedTuple):
    """Other charge within the circle, arrays of shape (n,) [electron]."""

    dark: FloatArray
    smeared: FloatArray
    hot: FloatArray
    field: FloatArray
    doubt: FloatArray  # error of the field stars


STANDING, FIELD = slice(3), slice(3, 5)  # extras that stand still, and those of the field stars


@step("imagette_photometry", version="14", payload=ImagettePhotometry, leaves=["TERM_IMAGETTES"])
def measure_imagettes(
    corrected: Corrected,
    subarray: Corrected,
    scene: Scene,
    detector: Detector,
    removed: Removed,
    quality: QualityTerm,
    settings: ImagetteSettings,
) -> Leaves:
    """Measure the target in every imagette within a circle and by PSF."""
    position, of_stacks = read_imagette_position(corrected), read_points(quality)
    with (
        open_images(subarray.products["SCI_COR_SubArray"]) as stacks,
        open_imagettes(corrected.products["SCI_COR_Imagette"]) as imagettes,
    ):
        model = imagette_model(scene, imagettes, stacks)
        known = companions(imagettes, stacks, scene, detector.readout, removed, model)
        place = position.x - imagettes.x_offset, position.y - imagettes.y_offset
        radius = settings.radius
        if radius is None:
            radius = fitting_radius(free_radii(imagettes, *place), settings.inside)
        circle = Circle(imagettes, known, model, radius)
        measured, extras = measure_all(circle, place, scene, removed, read_dark(detector.dark))
        times = times_of(imagettes, stacks, known, of_stacks, read_track(scene.pointing))
        points = flag_points(imagettes, known, position, of_stacks, measured)
    warnings = []
    if model is None:
        warnings.append(
            "there is no PSF of the visit: imagettes are measured within the circle only, "
            "without correction for losses"
        )
    error = np.sqrt(sum(variances(measured, extras, known, radius).values(), np.float64(0)))
    curves = make_curves(measured, error, points)
    measurable = int(np.isfinite(curves[IMAGETTE][0]).sum())
    if not measurable:
        warnings.append("the star cannot be measured in any imagette: no light curve of imagettes")
    own = {"IMAG_RAD": radius, "IMAG_N": measurable}
    columns = {
        **times,
        "X": position.x,
        "Y": position.y,
        "X_ERR": position.x_error,
        "Y_ERR": position.y_error,
        **photometry_columns(measured, extras, error, radius, points),
        **curve_columns(curves, len(error)),
        "LEVEL": known.level,
        **point_columns(points),
    }
    rows = [curve_metrics(name, radius, *curve, points) for name, curve in curves.items()]
    tables = [NewHdu(TERMS["TERM_IMAGETTES"], own, columns=columns), metrics_table(rows)]
    return Leaves({"TERM_IMAGETTES": tables}, used=own, warnings=warnings)


def free_radii(imagettes: Imagettes, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the radius of the largest circle in each imagette [pixel].

    It is NaN without a place, and for damaged imagettes, which have no pixels: some of these would
    lower the radius of all others.
    """
    free = np.full(imagettes.count, np.nan)
    for block, pixels in imagettes.blocks():
        for i, image in enumerate(pixels, block.start):
            known = np.isfinite(image)
            if np.isfinite(x[i]) and np.isfinite(y[i]) and known.any():
                free[i] = free_radius(~known, float(x[i]), float(y[i]))
    return free


def measure_all(
    circle: Circle,
    place: tuple[FloatArray, FloatArray],
    scene: Scene,
    removed: Removed,
    thermal: DarkTerm,
) -> tuple[Measured, Extras]:
    """Measure the star and other charge in every imagette; `place` is in the imagettes."""
    imagettes, known, track = circle.imagettes, circle.known, read_track(scene.pointing)
    field = circles = None
    lag, sky = 0.0, float(removed.background.used["BKG_STAR"])
    if circle.model is not None:
        lag = circle.model.model.lag
        field = read_field(scene.stars, read_psf(scene.psf, scene.psf_use.radius), track)
        doubts = field.of_errors(scene.stars).flux
        circles = Circles.of(field.psf, read_reference_psf(scene.prior), [circle.radius])
    measured, extras = np.empty((imagettes.count, 6)), np.zeros((imagettes.count, 5))
    for block, pixels in imagettes.blocks():
        for i, image in enumerate(pixels, block.start):
            x, y = float(place[0][i]), float(place[1][i])
            when = float(imagettes.mjd[i]), float(known.span[i])
            share, others = float(known.share[i]), np.zeros(image.shape)
            if field is not None and circles is not None and np.isfinite(x + y):
                others = field.image(image.shape, x, y, *when, share)
                light, error = circles.light(field, doubts, *when, sky)
                extras[i, FIELD] = share * light[0], share * error[0]
            motion = track.during(*when, lag)
            measured[i] = circle.measure(i, image, x, y, motion, others)
            dark, smeared, still = standing_light(circle, i, thermal)
            layers = (dark, smeared, still)
            extras[i, STANDING] = [circle.sum(np.ascontiguousarray(a), x, y)[0] for a in layers]
    return Measured(*measured.T), Extras(*extras.T)


def standing_light(
    circle: Circle, i: int, thermal: DarkTerm
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return thermal charge, smeared light and steady excess of the pixels of imagette `i`."""
    imagettes, known = circle.imagettes, circle.known
    ny, nx = imagettes.shape
    left = imagettes.x_offset[i] - known.corner[0]
    low = imagettes.y_offset[i] - known.corner[1]
    charge = thermal.charge[low : low + ny, left : left + nx]
    dark = thermal.scale[known.stack[i]] * imagettes.nexp[i] * charge
    row = known.smeared_row(i, int(left), nx)
    return dark, np.broadcast_to(row, (ny, nx)), known.still(i, int(left), int(low), (ny, nx))


def times_of(
    imagettes: Imagettes, stacks: Images, known: Companions, of_stacks: PointsTerm, track: Track
) -> dict[str, FloatArray]:
    """Return the columns of BJD, light time and roll angle.

    Within half a minute of the middle of a stack its light-time rate is good to 0.02 ms, less than
    a BJD resolves in double precision.
    """
    mjd, half = imagettes.mjd, known.span / 2 / DAY
    time = track.origin + track.time / DAY
    drift = of_stacks.light_rate[known.stack] * (mjd - stacks.mjd[known.stack]) * DAY
    return {
        "BJD_TIME": bjd_tdb(mjd, *target_position(imagettes)),
        "SAT_LIGHT_TIME": of_stacks.light_time[known.stack] + drift,
        "ROLL_ANGLE": mean_angle(time, track.roll, mjd - half, mjd + half),
    }


def flag_points(
    imagettes: Imagettes,
    known: Companions,
    position: ImagettePositionTerm,
    of_stacks: PointsTerm,
    measured: Measured,
) -> Points:
    """Return the points of the imagettes, with the flags of their stacks and own cosmic rays."""
    digit = cosmic_digit(position.hits, position.hits, window_pixels(imagettes))
    event = of_stacks.event[known.stack] % EVENT_COSMIC_RAYS + EVENT_COSMIC_RAYS * digit
    bits = (
        of_stacks.quality[known.stack] & ~int(Quality.COSMIC_RAYS)
        | position.quality
        | np.where(digit > 0, int(Quality.COSMIC_RAYS), 0)
        | np.where(measured.area > 0, 0, int(Quality.UNUSABLE_IMAGE))
    )
    return Points(imagettes.mjd, event, bits, float(np.median(imagettes.duration)))


def window_pixels(imagettes: Imagettes) -> int:
    """Return the number of pixels with a value in an imagette, from the last one."""
    last = imagettes.image.stored(imagettes.count - 1, imagettes.count)
    return int(np.isfinite(last).sum()) or imagettes.shape[0] * imagettes.shape[1]


def variances(
    measured: Measured, extras: Extras, known: Companions, radius: float
) -> dict[str, FloatArray]:
    """Return the variances of the sums within the circle by source [electron^2]."""
    area = np.pi * radius**2
    read_out = np.sqrt(known.floor - known.level.clip(0))  # of all exposures of an imagette
    collected = Collected(
        measured.total, area * known.level, extras.dark, extras.hot, extras.smeared
    )
    return flux_variances(collected, area, 1, read_out, known.level_error)


def make_curves(
    measured: Measured, error: FloatArray, points: Points
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return flux and error of the light curves by name, shape (n,) each [electron]."""
    good = points.good & np.isfinite(measured.total)
    made_up = make_up(measured.total, light_lost(measured.share[:, None], good)[:, 0])
    factor = np.where(measured.total > 0, made_up / measured.total, 1.0)
    curves = {IMAGETTE: (made_up, error * factor)}
    if np.isfinite(measured.by_psf).any():
        scale = median_share(measured.share, good)
        curves[IMAGETTE_PSF] = scale * measured.by_psf, scale * measured.psf_error
    return curves


def curve_columns(
    curves: Mapping[str, tuple[FloatArray, FloatArray]], count: int
) -> dict[str, FloatArray]:
    """Return the columns of the light curves, NaN for a missing one."""
    nothing = np.full(count, np.nan), np.full(count, np.nan)
    flux, error = curves[IMAGETTE]
    psf_flux, psf_error = curves.get(IMAGETTE_PSF, nothing)
    return {"FLUX": flux, "FLUXERR": error, "PSF_FLUX": psf_flux, "PSF_ERR": psf_error}


def photometry_columns(
    measured: Measured, extras: Extras, error: FloatArray, radius: float, points: Points
) -> dict[str, FloatArray]:
    """Return the columns of the sums within the circle, the fit, and other charge."""
    good = points.good & np.isfinite(measured.total)
    target = float(np.median(measured.total[good] - extras.field[good])) if good.any() else 0.0
    conta, conta_error = (
        v / target if target > 0 else np.zeros(len(v)) for v in (extras.field, extras.doubt)
    )
    return {
        "RADIUS": np.full(len(error), radius),
        "SUM": measured.total,
        "SUM_ERR": error,
        "SHARE": measured.share,
        "MASKED": masked_fraction(measured.area[:, None], [radius])[:, 0],
        "TOTAL": measured.by_psf,
        "TOTAL_ERR": measured.psf_error,
        "CHI2": measured.chi2,
        "DARK": extras.dark,
        "SMEARING": extras.smeared,
        "CONTA": conta,
        "CONTA_ERR": conta_error,
    }
