"""The terms of a visit, read for the report.

A step without a product (skipped, or not part of this kind of run) gives NaN, which the report
shows as a dash.
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
    OPTIMAL,
    PSF,
    Radii,
    Way,
    circles,
)
from schemas.payloads import CalibratedVisit, CorrectedVisit, Leaf, MeasuredVisit, QualityTerm
from schemas.products import PER_RADIUS
from schemas.terms import TERMS
from tasks.calibration.housekeeping import Parameter, read_housekeeping
from tasks.delivery.detrended import read_detrended
from tasks.delivery.report.series import Points
from tasks.delivery.report.shown_images import Picture, read_pictures
from tasks.photometry import noise
from tasks.visit.images import Images
from tasks.visit.terms import (
    AperturesTerm,
    columns_by_radius,
    first_sampled,
    read_apertures,
    term_column,
)

TEMPERATURE = "thermFront_2"

# relative to the target: light of this size in the aperture is only the wings of distant stars
TRACE = 1e-7

LEVELS = ("raw", "calibrated", "corrected")


@dataclass(frozen=True)
class Quantity:
    """A quantity with one value per image."""

    name: str
    label: str
    unit: str
    values: FloatArray


@dataclass(frozen=True)
class Stage:
    """A step that changes the light curve: flux before and after it [electron]."""

    name: str
    meaning: str
    before: FloatArray
    after: FloatArray


@dataclass(frozen=True)
class Neighbour:
    """A field star: its offset from the target, and its light relative to the target's."""

    magnitude: float
    teff: float  # [K], 0 if unknown
    east: float  # [arcsec]
    north: float  # [arcsec]
    share: float
    error: float


@dataclass(frozen=True)
class Findings:
    """Everything that the figures and tables of the report show."""

    mjd: FloatArray
    points: Points
    curves: Mapping[str, tuple[FloatArray, float]]  # flux [electron] and radius, by data name
    metrics: Mapping[str, Mapping[str, float]]  # by data name, then column of TERM_METRICS
    quantities: Mapping[str, Quantity]
    stages: tuple[Stage, ...]
    levels: tuple[Quantity, ...]  # the light curve raw, calibrated, corrected
    image_index: int  # index of the image that is drawn
    window: tuple[int, int]  # offset of the window on the CCD
    variances: Mapping[str, FloatArray]  # of the DEFAULT flux, by term [electron^2]
    radii: Radii  # of the visit [pixel]
    all_variances: Mapping[str, FloatArray]  # the same within each of them, shape (n, k)
    fluxes: FloatArray  # within each of them, shape (n, k) [electron]
    # light of field stars relative to the target's within each of them, and its error, (n, k)
    field_light: tuple[FloatArray, FloatArray]
    neighbours: tuple[Neighbour, ...]  # brightest first
    way: Way  # how OPTIMAL is measured
    candidates: Mapping[Way, tuple[FloatArray, FloatArray]]  # radius [pixel] and noise [ppm]
    detrended: Mapping[str, float]  # metrics of OPTIMAL's FLUX_DETRENDED, empty if there is none
    housekeeping: tuple[Parameter, ...] = ()
    pictures: Mapping[str, Picture] = field(default_factory=dict)

    @property
    def default(self) -> int:
        """Index of the radius of DEFAULT."""
        return self.radii.index(DEFAULT_RADIUS)


def read_findings(
    calibrated: CalibratedVisit, corrected: CorrectedVisit, measured: MeasuredVisit, images: Images
) -> Findings:
    """Read the terms of a visit, except for the slower parts, which `for_report` adds."""
    mjd, event, quality = term_column(
        measured.quality.product, "TERM_QUALITY", "MJD_TIME", "EVENT", "QUALITY"
    )
    sums = read_apertures(measured.apertures)
    fluxes, usual = sums.flux, sums.radii.index(DEFAULT_RADIUS)
    points = Points(
        24 * (mjd - mjd[0]), fluxes[:, usual], event.astype(np.int64), quality.astype(np.int64)
    )
    metrics = read_metrics(measured)
    curves = read_curves(measured, sums, metrics)
    light = read_field_light(measured, images.count, sums.radii)
    quantities = (
        Quantity("time", "time", "h", points.hours),
        *read_places(corrected, images.count),
        *read_lights(corrected, light[0][:, usual], sums.smearing[:, usual]),
        read_temperature(images),
        *read_detector(calibrated, images.count),
        *read_cosmic_rays(corrected, images.count),
    )
    before, after = read_stage_fluxes(corrected, images.count)
    variances = read_variances(measured, sums.radii)
    return Findings(
        mjd=mjd,
        points=points,
        curves=curves,
        metrics=metrics,
        quantities={q.name: q for q in quantities},
        stages=(*_stages(CALIBRATION_STAGES, before), *_stages(CORRECTION_STAGES, after)),
        levels=_levels(before[0], after[0], after[-1]),
        image_index=first_sampled(corrected.look) if "TERM_LOOK" in corrected.look.products else 0,
        window=(images.x_offset, images.y_offset),
        variances={name: v[:, usual] for name, v in variances.items()},
        radii=sums.radii,
        all_variances=variances,
        fluxes=fluxes,
        field_light=light,
        neighbours=read_neighbours(corrected),
        way=Way(str(measured.quality.used["OPT_WAY"])),
        candidates=read_candidates(measured.quality),
        detrended=read_detrended_metrics(
            measured, curves[OPTIMAL][1], images.nexp * images.exposure_time
        ),
    )


def for_report(
    findings: Findings, calibrated: CalibratedVisit, corrected: CorrectedVisit, images: Images
) -> Findings:
    """Add pictures and housekeeping to the findings, and set traces of field stars to zero."""
    light, error = (
        np.where(np.abs(values) < TRACE, 0.0, values) for values in findings.field_light
    )
    quantities = findings.quantities
    contamination = replace(quantities["contamination"], values=1e6 * light[:, findings.default])
    x, y = (float(quantities[axis].values[findings.image_index]) for axis in ("x", "y"))
    return replace(
        findings,
        field_light=(light, error),
        quantities={**quantities, "contamination": contamination},
        housekeeping=read_housekeeping(calibrated.housekeeping),
        pictures=read_pictures(calibrated, corrected, images, findings.image_index, (x, y)),
    )


def read_columns(
    leaf: Leaf, count: int, extname: str, *names: str, file: str = ""
) -> list[FloatArray]:
    """Read columns of a term, shape (count,); all NaN if the leaf has no product."""
    product = leaf.products.get(file or extname)
    if product is None:
        return [np.full(count, np.nan)] * len(names)
    return [values.astype(np.float64) for values in term_column(product, extname, *names)]


def read_curves(
    measured: MeasuredVisit, sums: AperturesTerm, metrics: Mapping[str, Mapping[str, float]]
) -> dict[str, tuple[FloatArray, float]]:
    """Read flux [electron] and radius [pixel] of every light curve, by data name."""
    best, psf = term_column(measured.quality.product, "TERM_QUALITY", "OPT_FLUX", "PSF_FLUX")
    return {
        **{name: (sums.flux[:, sums.radii.index(r)], r) for name, r in circles(sums.radii).items()},
        OPTIMAL: (best, metrics.get(OPTIMAL, {}).get("RADIUS", DEFAULT_RADIUS)),
        FIXED: (sums.fixed, DEFAULT_RADIUS),
        PSF: (psf, DEFAULT_RADIUS),
    }


def read_candidates(quality: QualityTerm) -> dict[Way, tuple[FloatArray, FloatArray]]:
    """Read radius [pixel] and noise [ppm] of the light curves from which OPTIMAL is chosen."""
    ways, radius, noise = term_column(quality.product, "TERM_CANDIDATES", "WAY", "RADIUS", "NOISE")
    of = {way: np.array([str(name) == way for name in ways]) for way in Way}
    return {way: (radius[which], noise[which]) for way, which in of.items()}


def read_detrended_metrics(
    measured: MeasuredVisit, radius: float, duration: float
) -> dict[str, float]:
    """Measure the noise of OPTIMAL's FLUX_DETRENDED, by column of TERM_METRICS.

    `radius` is that of OPTIMAL [pixel], `duration` the exposure time of a stack [s]. Empty if there
    is no such light curve.
    """
    product = measured.light_curves.products.get(f"SCI_COR_Lightcurve-{OPTIMAL}")
    flux = read_detrended(product) if product is not None else None
    if flux is None:
        return {}
    names = "MJD_TIME", "EVENT", "QUALITY", "OPT_ERR"
    mjd, event, quality, error = term_column(measured.quality.product, "TERM_QUALITY", *names)
    row = noise.curve_metrics(
        OPTIMAL, radius, flux, error, noise.Points(mjd, event, quality, duration)
    )
    return {name: value for name, value in row.items() if not isinstance(value, str)}


def read_field_light(
    measured: MeasuredVisit, count: int, radii: Radii
) -> tuple[FloatArray, FloatArray]:
    """Read the light of field stars relative to the target's, and its error, shape (n, k)."""
    product = measured.contamination.products.get("TERM_CONTAMINATION")
    if product is None:
        unknown = np.full((count, len(radii)), np.nan)
        return unknown, unknown
    ratio, error = columns_by_radius(product, "TERM_CONTAMINATION", radii, "RATIO", "ERROR")
    return ratio, error


def read_places(corrected: CorrectedVisit, count: int) -> tuple[Quantity, ...]:
    """Read the roll angle and the position of the target."""
    (roll,) = read_columns(corrected.pointing, count, "TERM_POINTING", "ROLL_ANGLE")
    x, y = read_columns(corrected.position, count, "TERM_POSITION", "X", "Y")
    return (
        Quantity("roll", "roll angle", "deg", roll),
        Quantity("x", "x", "pixel", x),
        Quantity("y", "y", "pixel", y),
    )


def read_lights(
    corrected: CorrectedVisit, contamination: FloatArray, smearing: FloatArray
) -> tuple[Quantity, ...]:
    """Read the light in the aperture that is not from the target."""
    count = len(contamination)
    (background,) = read_columns(corrected.background, count, "TERM_BACKGROUND", "LEVEL")
    return (
        Quantity("background", "background", "electron/pixel", background),
        Quantity("contamination", "contamination", "ppm", 1e6 * contamination),
        Quantity("smearing", "smearing", "electron", smearing),
    )


def read_temperature(images: Images) -> Quantity:
    """Read the telescope temperature; NaN if the images do not have it."""
    if TEMPERATURE in images.metadata.present():
        values = images.metadata.column(TEMPERATURE).astype(np.float64)
    else:
        values = np.full(images.count, np.nan)
    return Quantity("temperature", "telescope temperature", "degC", values)


def read_detector(calibrated: CalibratedVisit, count: int) -> tuple[Quantity, ...]:
    """Read bias, read-out noise and gain."""
    level, ron = read_columns(calibrated.bias, count, "TERM_BIAS", "LEVEL", "RON")
    (gain,) = read_columns(calibrated.gain, count, "TERM_GAIN", "GAIN")
    return (
        Quantity("bias", "bias", "ADU", level),
        Quantity("ron", "read-out noise", "ADU", ron),
        Quantity("gain", "gain", "ADU/electron", gain),
    )


def read_cosmic_rays(corrected: CorrectedVisit, count: int) -> tuple[Quantity, ...]:
    """Read the number of pixels hit by cosmic rays, in the window and in the aperture."""
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
    """Read the flux at each stage of the calibration, and at each stage of the correction."""
    return (
        read_columns(corrected.calibration_stages, count, "TERM_CAL_STAGES", *CALIBRATION_STAGES),
        read_columns(corrected.correction_stages, count, "TERM_COR_STAGES", *CORRECTION_STAGES),
    )


def read_variances(measured: MeasuredVisit, radii: Radii) -> dict[str, FloatArray]:
    """Read the variance of the flux within each radius by term, shape (n, k)."""
    names = [c.name for c in TERMS["TERM_ERRORS"].columns if c.size == PER_RADIUS]
    values = columns_by_radius(measured.quality.product, "TERM_ERRORS", radii, *names)
    return dict(zip(names, values, strict=True))


def _stages(meanings: Mapping[str, str], values: list[FloatArray]) -> list[Stage]:
    names = list(meanings)
    return [
        Stage(name, meanings[name], before, after)
        for name, before, after in zip(names[1:], values[:-1], values[1:], strict=True)
    ]


def _levels(*fluxes: FloatArray) -> tuple[Quantity, ...]:
    """Name the light curves raw, calibrated and corrected."""
    return tuple(
        Quantity(level, level, "electron", flux) for level, flux in zip(LEVELS, fluxes, strict=True)
    )


def read_neighbours(corrected: CorrectedVisit) -> tuple[Neighbour, ...]:
    """Read the field stars, brightest first; none without a catalogue or a target in it."""
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
    """Read the metrics of every light curve by column; NaN if not measured."""
    names = [c.name for c in TERMS["TERM_METRICS"].columns]
    columns = dict(
        zip(names, term_column(measured.quality.product, "TERM_METRICS", *names), strict=True)
    )
    curves = columns.pop("DATANAME")
    return {
        str(curve): {name: float(values[row]) for name, values in columns.items()}
        for row, curve in enumerate(curves)
    }
