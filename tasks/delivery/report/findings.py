"""What the terms of a visit say, read for the report: one value an image, some images, and the
stages of the light curve.

A step that left no product (it was skipped, or belongs to no run of this kind) gives values that
are no numbers: the report shows a dash where they would stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import (
    CALIBRATION_STAGES,
    CORRECTION_STAGES,
    DEFAULT_RADIUS,
    FIXED,
    LIGHT_CURVES,
    OPTIMAL,
    PSF,
    RADII,
)
from schemas.payloads import CalibratedVisit, CorrectedVisit, Leaf, MeasuredVisit
from schemas.terms import TERMS
from tasks.calibration.housekeeping import Parameter, read_housekeeping
from tasks.delivery.report.series import Points
from tasks.delivery.report.shown_images import Picture, read_pictures
from tasks.visit.images import Images
from tasks.visit.terms import first_sampled, term_column

TEMPERATURE = "thermFront_2"

# of the target's light: what the ends of the PSF of stars outside of the aperture leave in it
TRACE = 1e-7

DEFAULT = RADII.index(DEFAULT_RADIUS)

LEVELS = ("raw", "calibrated", "corrected")


@dataclass(frozen=True)
class Quantity:
    """Something that has one value an image."""

    name: str
    label: str
    unit: str
    values: FloatArray


@dataclass(frozen=True)
class Stage:
    """A step that changed the light curve in the circle of the stages: flux before and after it
    [electron].
    """

    name: str
    meaning: str
    before: FloatArray
    after: FloatArray


@dataclass(frozen=True)
class Neighbour:
    """A field star: where it stands from the target, and its light over the target's."""

    magnitude: float
    teff: float  # [K], 0 where it is not known
    east: float  # [arcsec]
    north: float  # [arcsec]
    share: float
    error: float


@dataclass(frozen=True)
class Findings:
    """Everything that the figures and tables of the report are made from."""

    mjd: FloatArray
    points: Points
    curves: Mapping[str, tuple[FloatArray, float]]  # flux [electron] and radius, by data name
    metrics: Mapping[str, Mapping[str, float]]  # by data name, then column of TERM_METRICS
    quantities: Mapping[str, Quantity]
    stages: tuple[Stage, ...]
    levels: tuple[Quantity, ...]  # the light curve raw, calibrated, corrected
    shown: int  # which image stands for all
    window: tuple[int, int]  # offset of the window on the CCD
    variances: Mapping[str, FloatArray]  # of the flux DEFAULT, term by term [electron^2]
    all_variances: Mapping[
        str, FloatArray
    ]  # of the flux within each of RADII, shape (n, k) [electron^2]
    fluxes: FloatArray  # within each of RADII, shape (n, k) [electron]
    field_light: tuple[
        FloatArray, FloatArray
    ]  # of the field stars over the target's within each of RADII, and its error, (n, k)
    neighbours: tuple[Neighbour, ...]  # brightest first
    housekeeping: tuple[Parameter, ...] = ()
    pictures: Mapping[str, Picture] = field(default_factory=dict)


def read_findings(
    calibrated: CalibratedVisit, corrected: CorrectedVisit, measured: MeasuredVisit, images: Images
) -> Findings:
    """Read the terms of a visit. What takes longer is left out: see `for_report`."""
    mjd, event, quality = term_column(
        measured.quality.product, "TERM_QUALITY", "MJD_TIME", "EVENT", "QUALITY"
    )
    (fluxes,) = term_column(measured.apertures.product, "TERM_APERTURES", "FLUX")
    points = Points(
        24 * (mjd - mjd[0]), fluxes[:, DEFAULT], event.astype(np.int64), quality.astype(np.int64)
    )
    metrics = read_metrics(measured)
    light = read_field_light(measured, images.count)
    quantities = (
        Quantity("time", "time", "h", points.hours),
        *read_places(corrected, images.count),
        *read_lights(corrected, measured, light[0][:, DEFAULT]),
        read_temperature(images),
        *read_detector(calibrated, images.count),
        *read_cosmic_rays(corrected, images.count),
    )
    before, after = read_stage_fluxes(corrected, images.count)
    variances = read_variances(measured)
    return Findings(
        mjd=mjd,
        points=points,
        curves=read_curves(measured, fluxes, metrics),
        metrics=metrics,
        quantities={q.name: q for q in quantities},
        stages=(*_stages(CALIBRATION_STAGES, before), *_stages(CORRECTION_STAGES, after)),
        levels=_levels(before[0], after[0], after[-1]),
        shown=first_sampled(corrected.look) if "TERM_LOOK" in corrected.look.products else 0,
        window=(images.x_offset, images.y_offset),
        variances={name: v[:, DEFAULT] for name, v in variances.items()},
        all_variances=variances,
        fluxes=fluxes,
        field_light=light,
        neighbours=read_neighbours(corrected),
    )


def for_report(
    findings: Findings, calibrated: CalibratedVisit, corrected: CorrectedVisit, images: Images
) -> Findings:
    """Return what was found with the pictures and the housekeeping, and without traces of light
    that are none.
    """
    light, error = (
        np.where(np.abs(values) < TRACE, 0.0, values) for values in findings.field_light
    )
    quantities = findings.quantities
    contamination = replace(quantities["contamination"], values=1e6 * light[:, DEFAULT])
    x, y = (float(quantities[axis].values[findings.shown]) for axis in ("x", "y"))
    return replace(
        findings,
        field_light=(light, error),
        quantities={**quantities, "contamination": contamination},
        housekeeping=read_housekeeping(calibrated.housekeeping),
        pictures=read_pictures(calibrated, corrected, images, findings.shown, (x, y)),
    )


def read_columns(
    leaf: Leaf, count: int, extname: str, *names: str, file: str = ""
) -> list[FloatArray]:
    """Return columns of a leaf's term, all NaN where it has no product."""
    product = leaf.products.get(file or extname)
    if product is None:
        return [np.full(count, np.nan)] * len(names)
    return [values.astype(np.float64) for values in term_column(product, extname, *names)]


def read_curves(
    measured: MeasuredVisit, fluxes: FloatArray, metrics: Mapping[str, Mapping[str, float]]
) -> dict[str, tuple[FloatArray, float]]:
    """Return flux and radius of every light curve, by data name."""
    (fixed,) = term_column(measured.apertures.product, "TERM_APERTURES", "FIXED")
    best, psf = term_column(measured.quality.product, "TERM_QUALITY", "OPT_FLUX", "PSF_FLUX")
    return {
        **{name: (fluxes[:, RADII.index(r)], r) for name, r in LIGHT_CURVES.items()},
        OPTIMAL: (best, metrics.get(OPTIMAL, {}).get("RADIUS", DEFAULT_RADIUS)),
        FIXED: (fixed, DEFAULT_RADIUS),
        PSF: (psf, DEFAULT_RADIUS),
    }


def read_field_light(measured: MeasuredVisit, count: int) -> tuple[FloatArray, FloatArray]:
    """Return the light of field stars over the target's within each of RADII, and its error."""
    ratio, error = (
        values if values.ndim == 2 else np.full((count, len(RADII)), np.nan)
        for values in read_columns(
            measured.contamination, count, "TERM_CONTAMINATION", "RATIO", "ERROR"
        )
    )
    return ratio, error


def read_places(corrected: CorrectedVisit, count: int) -> tuple[Quantity, ...]:
    """Return roll angle and position of the target."""
    (roll,) = read_columns(corrected.pointing, count, "TERM_POINTING", "ROLL_ANGLE")
    x, y = read_columns(corrected.position, count, "TERM_POSITION", "X", "Y")
    return (
        Quantity("roll", "roll angle", "deg", roll),
        Quantity("x", "x", "pixel", x),
        Quantity("y", "y", "pixel", y),
    )


def read_lights(
    corrected: CorrectedVisit, measured: MeasuredVisit, contamination: FloatArray
) -> tuple[Quantity, ...]:
    """Return the light in the aperture that is not the target's."""
    count = len(contamination)
    (background,) = read_columns(corrected.background, count, "TERM_BACKGROUND", "LEVEL")
    (smearing,) = term_column(measured.apertures.product, "TERM_APERTURES", "SMEARING")
    return (
        Quantity("background", "background", "electron/pixel", background),
        Quantity("contamination", "contamination", "ppm", 1e6 * contamination),
        Quantity("smearing", "smearing", "electron", smearing[:, DEFAULT]),
    )


def read_temperature(images: Images) -> Quantity:
    """Return the temperature of the telescope, NaN where the images do not say it."""
    if TEMPERATURE in images.metadata.present():
        values = images.metadata.column(TEMPERATURE).astype(np.float64)
    else:
        values = np.full(images.count, np.nan)
    return Quantity("temperature", "telescope temperature", "degC", values)


def read_detector(calibrated: CalibratedVisit, count: int) -> tuple[Quantity, ...]:
    """Return bias, read-out noise and gain."""
    level, ron = read_columns(calibrated.bias, count, "TERM_BIAS", "LEVEL", "RON")
    (gain,) = read_columns(calibrated.gain, count, "TERM_GAIN", "GAIN")
    return (
        Quantity("bias", "bias", "ADU", level),
        Quantity("ron", "read-out noise", "ADU", ron),
        Quantity("gain", "gain", "ADU/electron", gain),
    )


def read_cosmic_rays(corrected: CorrectedVisit, count: int) -> tuple[Quantity, ...]:
    """Return how many pixels cosmic rays hit, everywhere and in the aperture."""
    inside, everywhere = read_columns(
        corrected.defects, count, "TERM_DEFECTS_IMAGES", "INSIDE", "ALL", file="TERM_DEFECTS"
    )
    return (
        Quantity("cosmics", "cosmic rays", "pixels", everywhere),
        Quantity("cosmics_in", "cosmic rays within 25 pixels", "pixels", inside),
    )


def read_stage_fluxes(
    corrected: CorrectedVisit, count: int
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return the flux at the stages of the calibration, and at those of the correction."""
    return (
        read_columns(corrected.calibration_stages, count, "TERM_CAL_STAGES", *CALIBRATION_STAGES),
        read_columns(corrected.correction_stages, count, "TERM_COR_STAGES", *CORRECTION_STAGES),
    )


def read_variances(measured: MeasuredVisit) -> dict[str, FloatArray]:
    """Return the variance of the flux within each of RADII, term by term, shape (n, k)."""
    names = [c.name for c in TERMS["TERM_ERRORS"].columns if c.size > 1]
    return dict(
        zip(names, term_column(measured.quality.product, "TERM_ERRORS", *names), strict=True)
    )


def _stages(meanings: Mapping[str, str], values: list[FloatArray]) -> list[Stage]:
    names = list(meanings)
    return [
        Stage(name, meanings[name], before, after)
        for name, before, after in zip(names[1:], values[:-1], values[1:], strict=True)
    ]


def _levels(*fluxes: FloatArray) -> tuple[Quantity, ...]:
    """Return the light curve raw, calibrated and corrected."""
    return tuple(
        Quantity(level, level, "electron", flux) for level, flux in zip(LEVELS, fluxes, strict=True)
    )


def read_neighbours(corrected: CorrectedVisit) -> tuple[Neighbour, ...]:
    """Return the field stars, the brightest first; none where there is no catalogue, or no target
    in it.
    """
    if "TERM_STARS" not in corrected.stars.products:
        return ()
    names = ("MAG", "T_EFF", "XI", "ETA", "FLUX", "FLUXERR", "TARGET")
    mag, teff, east, north, flux, error, target = term_column(
        corrected.stars.product, "TERM_STARS", *names
    )
    is_target = target.astype(bool)
    light = float(flux[is_target].sum())
    if not light > 0:
        return ()
    order = np.flatnonzero(~is_target)[np.argsort(-flux[~is_target], kind="stable")]
    return tuple(
        Neighbour(
            float(mag[i]),
            float(teff[i]),
            float(east[i]),
            float(north[i]),
            float(flux[i] / light),
            float(error[i] / light),
        )
        for i in order
    )


def read_metrics(measured: MeasuredVisit) -> dict[str, dict[str, float]]:
    """Return the metrics of every light curve by column; NaN where one could not be measured."""
    names = [c.name for c in TERMS["TERM_METRICS"].columns]
    columns = dict(
        zip(names, term_column(measured.quality.product, "TERM_METRICS", *names), strict=True)
    )
    curves = columns.pop("DATANAME")
    return {
        str(curve): {name: float(values[row]) for name, values in columns.items()}
        for row, curve in enumerate(curves)
    }
