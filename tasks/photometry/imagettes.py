"""Photometry of imagettes: a circle as large as the small window allows, and the PSF.

The window cuts the circle where the star comes near its edge: what is missing is filled in by the
PSF model. Motion within an exposure and the breathing of the PSF carry light over the edge of so
small a circle: the model's share of the light within it tells how much, and the flux is brought to
the usual share,

    F = sum <share> / share
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray
from schemas.constants import DAY
from schemas.flags import EVENT_COSMIC_RAYS, Quality
from schemas.light_curves import IMAGETTE, IMAGETTE_PSF
from schemas.payloads import (
    Background,
    Bias,
    Corrected,
    Dark,
    Defects,
    Gain,
    ImagettePhotometry,
    Pointing,
    Position,
    Psf,
    QualityTerm,
    Smearing,
    Stars,
)
from schemas.settings import ImagetteSettings
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.geometry import mean_angle
from tasks.numerics.times import bjd_tdb
from tasks.photometry.apertures import aperture_sums, flux_variances, masked_fraction
from tasks.photometry.noise import curve_metrics
from tasks.photometry.quality import cosmic_digit, make_up_losses, median_ratio
from tasks.scene.imagettes import Companions, ImagetteModel, companions, free_radius, imagette_model
from tasks.scene.star_model import read_psf
from tasks.scene.stars import read_field
from tasks.scene.track import read_track
from tasks.visit.headers import target_position
from tasks.visit.images import Imagettes, open_images, open_imagettes
from tasks.visit.terms import term_column, term_image

SMALLEST = 3.0  # pixel; a circle below it measures no star


def fitting_radius(free: FloatArray, inside: float) -> float:
    """Return the largest radius, in half pixels, with which a share `inside` of the circles fit.

    Parameters
    ----------
    free : ndarray, shape (n,)
        Radius of the largest circle that fits in each imagette; what is not finite is left out
        [pixel].
    inside : float
        Share of the imagettes, 0 to 1.

    Raises
    ------
    ValueError
        If no radius is finite.
    """
    good = np.sort(free[np.isfinite(free)])
    if not good.size:
        raise ValueError("no imagette has a place for a circle")
    return float(
        max(np.floor(2 * good[int(np.floor((1 - inside) * (good.size - 1)))]) / 2, SMALLEST)
    )


class Circle:
    """Measures the star of one imagette after the other within a circle, and by PSF."""

    def __init__(
        self, imagettes: Imagettes, known: Companions, model: ImagetteModel | None, radius: float
    ) -> None:
        self.imagettes, self.known, self.model, self.radius = imagettes, known, model, radius

    def sum(self, image: FloatArray, x: float, y: float) -> tuple[float, float]:
        """Return the sum and the area within the circle about a place of the imagette."""
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
        """Return sum, area, share of the PSF within the circle, flux by PSF, its error, and chi
        square of imagette `i`.

        `others` is the light of field stars in it, which the sum holds and the fit does not.
        """
        nan = float("nan")
        if not (np.isfinite(x) and np.isfinite(y)):
            return nan, 0.0, nan, nan, nan, nan
        total, area = self.sum(image, x, y)
        if self.model is None or not np.nansum(image) > 0:
            return total, area, nan, nan, nan, nan
        offsets = int(self.imagettes.x_offset[i]), int(self.imagettes.y_offset[i])
        here = self.model.at(*offsets, float(self.known.share[i]))
        star = self.model.star(here, i, self.known, image - others, (x, y), motion)
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
            np.maximum(stamp, 0.0) + self.known.floor[i]
        )
        return total, area, within / star.flux, star.flux, float(errors[0]), float(np.nanmean(pull))


@step("imagette_photometry", version="3", payload=ImagettePhotometry, leaves=["TERM_IMAGETTES"])
def measure_imagettes(
    corrected: Corrected,
    subarray: Corrected,
    pointing: Pointing,
    background: Background,
    bias: Bias,
    gain: Gain,
    dark: Dark,
    psf: Psf,
    stars: Stars,
    position: Position,
    smearing: Smearing,
    defects: Defects,
    quality: QualityTerm,
    settings: ImagetteSettings,
) -> Leaves:
    """Measure the target in every imagette within a circle and by PSF."""
    places = corrected.products["TERM_IMAGETTE_POSITION"]
    x, y, x_error, y_error, hits, flags = term_column(
        places, "TERM_IMAGETTE_POSITION", "X", "Y", "X_ERR", "Y_ERR", "HITS", "QUALITY"
    )
    event, bits = term_column(quality.product, "TERM_QUALITY", "EVENT", "QUALITY")
    light_time, light_rate = term_column(
        quality.product, "TERM_QUALITY", "SAT_LIGHT_TIME", "SAT_LIGHT_RATE"
    )
    charge, (factor,) = (
        term_image(dark.product, "TERM_DARK"),
        term_column(dark.product, "TERM_DARK_SCALE", "SCALE"),
    )
    track = read_track(pointing)
    warnings = []
    with (
        open_images(subarray.products["SCI_COR_SubArray"]) as stacks,
        open_imagettes(corrected.products["SCI_COR_Imagette"]) as imagettes,
    ):
        n, (ny, nx) = imagettes.count, imagettes.shape
        model = imagette_model(psf, imagettes, stacks)
        lag = model.model.lag if model is not None else 0.0
        known = companions(
            imagettes, stacks, background, bias, gain, position, smearing, defects, track, model
        )
        field = read_field(stars, read_psf(psf), track) if model is not None else None
        doubt = field.of_errors(stars) if field is not None else None
        px, py = x - imagettes.x_offset, y - imagettes.y_offset
        free = np.full(n, np.nan)
        for block, pixels in imagettes.blocks():
            for i, image in enumerate(pixels, block.start):
                if np.isfinite(px[i]) and np.isfinite(py[i]):
                    free[i] = free_radius(~np.isfinite(image), float(px[i]), float(py[i]))
        radius = (
            settings.radius
            if settings.radius is not None
            else fitting_radius(free, settings.inside)
        )
        circle = Circle(imagettes, known, model, radius)
        found, extras = np.empty((n, 6)), np.zeros((n, 5))
        for block, pixels in imagettes.blocks():
            for i, image in enumerate(pixels, block.start):
                place, time, seconds = (
                    (float(px[i]), float(py[i])),
                    float(imagettes.mjd[i]),
                    float(known.span[i]),
                )
                left, low = (
                    imagettes.x_offset[i] - stacks.x_offset,
                    imagettes.y_offset[i] - stacks.y_offset,
                )
                row = known.smeared_row(i, int(left), nx)
                thermal = (
                    factor[known.stack[i]]
                    * imagettes.nexp[i]
                    * charge[low : low + ny, left : left + nx]
                )
                part = float(known.share[i])
                others, doubtful = (
                    f.image((ny, nx), *place, time, seconds, part)
                    if f is not None
                    else np.zeros((ny, nx))
                    for f in (field, doubt)
                )
                found[i] = circle.measure(
                    i, image, *place, track.during(time, seconds, lag), others
                )
                still = known.still(i, int(left), int(low), (ny, nx))
                same = np.ascontiguousarray(np.broadcast_to(row, (ny, nx)))
                extras[i] = [
                    circle.sum(np.ascontiguousarray(a), *place)[0]
                    for a in (thermal, same, others, still, doubtful)
                ]
        half = known.span / 2 / DAY
        roll = mean_angle(
            track.origin + track.time / DAY, track.roll, imagettes.mjd - half, imagettes.mjd + half
        )
        mjd, bjd = imagettes.mjd, bjd_tdb(imagettes.mjd, *target_position(imagettes))
        # within half a minute of the middle of the stack the rate is good to 0.02 ms, less than
        # what a double holds of a BJD
        light_time = (
            light_time[known.stack]
            + light_rate[known.stack] * (mjd - stacks.mjd[known.stack]) * DAY
        )
        duration = float(np.median(imagettes.duration))
        window = int(np.isfinite(pixels[-1]).sum()) or nx * ny
    total, area, share, by_psf, psf_error, chi2 = found.T
    if model is None:
        warnings.append(
            "there is no PSF of the visit: imagettes are measured within the circle only, "
            "losses stay"
        )
    circle_area = np.pi * radius**2
    read_out = np.sqrt(known.floor - known.level.clip(0))  # of all exposures of an imagette
    variances = flux_variances(
        total,
        circle_area * known.level,
        extras[:, 0],
        extras[:, 3],
        extras[:, 1],
        circle_area,
        1,
        read_out,
        known.level_error,
    )
    error = np.sqrt(sum(variances.values(), np.float64(0)))
    digit = cosmic_digit(hits, hits, window)
    event = event[known.stack] % EVENT_COSMIC_RAYS + EVENT_COSMIC_RAYS * digit
    bits = (
        bits[known.stack] & ~int(Quality.COSMIC_RAYS)
        | flags
        | np.where(digit > 0, int(Quality.COSMIC_RAYS), 0)
    )
    good = (event == 0) & (bits == 0) & np.isfinite(total)
    made_up = make_up_losses(total[:, None], share[:, None], good)[:, 0]
    target = float(np.median(total[good] - extras[good, 2])) if good.any() else 0.0
    conta, conta_error = (extras[:, k] / target if target > 0 else np.zeros(n) for k in (2, 4))
    factor = np.where(total > 0, made_up / total, 1.0)
    scale = median_ratio(made_up, by_psf, good)
    curves = {IMAGETTE: (made_up, error * factor)}
    if np.isfinite(by_psf).any():
        curves[IMAGETTE_PSF] = scale * by_psf, scale * psf_error
    nothing = np.full(n, np.nan)
    own = {"IMAG_RAD": radius}
    columns = {
        "MJD_TIME": mjd,
        "BJD_TIME": bjd,
        "SAT_LIGHT_TIME": light_time,
        "X": x,
        "Y": y,
        "X_ERR": x_error,
        "Y_ERR": y_error,
        "RADIUS": np.full(n, radius),
        "SUM": total,
        "SUM_ERR": error,
        "SHARE": share,
        "MASKED": masked_fraction(area[:, None], [radius])[:, 0],
        "TOTAL": by_psf,
        "TOTAL_ERR": psf_error,
        "CHI2": chi2,
        "FLUX": curves[IMAGETTE][0],
        "FLUXERR": curves[IMAGETTE][1],
        "PSF_FLUX": curves.get(IMAGETTE_PSF, (nothing, nothing))[0],
        "PSF_ERR": curves.get(IMAGETTE_PSF, (nothing, nothing))[1],
        "LEVEL": known.level,
        "DARK": extras[:, 0],
        "SMEARING": extras[:, 1],
        "CONTA": conta,
        "CONTA_ERR": conta_error,
        "ROLL_ANGLE": roll,
        "EVENT": event,
        "STATUS": (event != 0).astype(np.int32),
        "QUALITY": bits,
    }
    rows = [
        curve_metrics(name, radius, mjd, f, e, event, bits, duration)
        for name, (f, e) in curves.items()
    ]
    metrics = {
        c.name: np.array([row[c.name] for row in rows]) for c in TERMS["TERM_METRICS"].columns
    }
    tables = [
        NewHdu(TERMS["TERM_IMAGETTES"], own, columns=columns),
        NewHdu(TERMS["TERM_METRICS"], columns=metrics),
    ]
    return Leaves({"TERM_IMAGETTES": tables}, used=own, warnings=warnings)
