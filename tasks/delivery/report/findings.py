"""What the terms of a visit say, read for the report: one value an image, some images, and the
stages of the light curve.

A step that left no product (it was skipped, or belongs to no run of this kind) gives values that
are no numbers: the report shows a dash where they would stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from tasks.delivery.report.scene import scene_of
from tasks.delivery.report.series import Points
from tasks.files.disk import require
from tasks.files.reader import scan
from tasks.visit.images import Images, open_frame, open_images
from tasks.visit.terms import first_sampled, term_column, term_image

FLAG_MAP = "PIP_COR_PixelFlagMapSubArray"

TEMPERATURE = "thermFront_2"

# of the target's light: what the ends of the PSF of stars outside of the aperture leave in it
TRACE = 1e-7

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
class Picture:
    """An image of the window, the PSF or the CCD.

    `circle` is centre and radius of the aperture in it, `frame` first pixel and size of the window,
    edge based [pixel].
    """

    title: str
    unit: str
    pixels: FloatArray
    circle: tuple[float, float, float] | None = None
    frame: tuple[int, int, int, int] | None = None


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
    n = images.count
    k = RADII.index(DEFAULT_RADIUS)
    mjd, event, quality, best, psf = term_column(
        measured.quality.product,
        "TERM_QUALITY",
        "MJD_TIME",
        "EVENT",
        "QUALITY",
        "OPT_FLUX",
        "PSF_FLUX",
    )
    flux, smeared, fixed = term_column(
        measured.apertures.product, "TERM_APERTURES", "FLUX", "SMEARING", "FIXED"
    )
    points = Points(
        24 * (mjd - mjd[0]), flux[:, k], event.astype(np.int64), quality.astype(np.int64)
    )
    metrics = read_metrics(measured)
    curves = {name: (flux[:, RADII.index(r)], r) for name, r in LIGHT_CURVES.items()}
    curves[OPTIMAL] = best, metrics.get(OPTIMAL, {}).get("RADIUS", DEFAULT_RADIUS)
    curves[FIXED] = fixed, DEFAULT_RADIUS
    curves[PSF] = psf, DEFAULT_RADIUS

    def column(leaf: Leaf, extname: str, *names: str, file: str = "") -> list[FloatArray]:
        product = leaf.products.get(file or extname)
        if product is None:
            return [np.full(n, np.nan)] * len(names)
        return [values.astype(np.float64) for values in term_column(product, extname, *names)]

    (roll,) = column(corrected.pointing, "TERM_POINTING", "ROLL_ANGLE")
    x, y = column(corrected.position, "TERM_POSITION", "X", "Y")
    (background,) = column(corrected.background, "TERM_BACKGROUND", "LEVEL")
    field_light = [
        values if values.ndim == 2 else np.full((n, len(RADII)), np.nan)
        for values in column(measured.contamination, "TERM_CONTAMINATION", "RATIO", "ERROR")
    ]
    contamination = field_light[0][:, k]
    level, ron = column(calibrated.bias, "TERM_BIAS", "LEVEL", "RON")
    (gain,) = column(calibrated.gain, "TERM_GAIN", "GAIN")
    inside, everywhere = column(
        corrected.defects, "TERM_DEFECTS_IMAGES", "INSIDE", "ALL", file="TERM_DEFECTS"
    )
    known = TEMPERATURE in images.metadata.present()
    temperature = (
        images.metadata.column(TEMPERATURE).astype(np.float64) if known else np.full(n, np.nan)
    )
    quantities = (
        Quantity("time", "time", "h", points.hours),
        Quantity("roll", "roll angle", "deg", roll),
        Quantity("x", "x", "pixel", x),
        Quantity("y", "y", "pixel", y),
        Quantity("background", "background", "electron/pixel", background),
        Quantity("contamination", "contamination", "ppm", 1e6 * contamination),
        Quantity("smearing", "smearing", "electron", smeared[:, k]),
        Quantity("temperature", "telescope temperature", "degC", temperature),
        Quantity("bias", "bias", "ADU", level),
        Quantity("ron", "read-out noise", "ADU", ron),
        Quantity("gain", "gain", "ADU/electron", gain),
        Quantity("cosmics", "cosmic rays", "pixels", everywhere),
        Quantity("cosmics_in", "cosmic rays within 25 pixels", "pixels", inside),
    )
    before = column(corrected.calibration_stages, "TERM_CAL_STAGES", *CALIBRATION_STAGES)
    after = column(corrected.correction_stages, "TERM_COR_STAGES", *CORRECTION_STAGES)
    budget = [c.name for c in TERMS["TERM_ERRORS"].columns if c.size > 1]
    variances = term_column(measured.quality.product, "TERM_ERRORS", *budget)
    ends = before[0], after[0], after[-1]
    shown = first_sampled(corrected.look) if "TERM_LOOK" in corrected.look.products else 0
    return Findings(
        mjd=mjd,
        points=points,
        curves=curves,
        metrics=metrics,
        quantities={q.name: q for q in quantities},
        stages=(*_stages(CALIBRATION_STAGES, before), *_stages(CORRECTION_STAGES, after)),
        levels=tuple(
            Quantity(level, level, "electron", values)
            for level, values in zip(LEVELS, ends, strict=True)
        ),
        shown=shown,
        window=(images.x_offset, images.y_offset),
        variances={name: v[:, k] for name, v in zip(budget, variances, strict=True)},
        all_variances=dict(zip(budget, variances, strict=True)),
        fluxes=flux,
        field_light=(field_light[0], field_light[1]),
        neighbours=read_neighbours(corrected),
    )


def for_report(
    found: Findings, calibrated: CalibratedVisit, corrected: CorrectedVisit, images: Images
) -> Findings:
    """Return what was found with the pictures and the housekeeping, and without traces of light
    that are none.
    """
    light, error = (np.where(np.abs(values) < TRACE, 0.0, values) for values in found.field_light)
    contamination = replace(
        found.quantities["contamination"], values=1e6 * light[:, RADII.index(DEFAULT_RADIUS)]
    )
    place = found.quantities["x"].values, found.quantities["y"].values
    return replace(
        found,
        field_light=(light, error),
        quantities={**found.quantities, "contamination": contamination},
        housekeeping=read_housekeeping(calibrated.housekeeping),
        pictures=read_pictures(calibrated, corrected, images, found.shown, place),
    )


def _stages(meanings: Mapping[str, str], values: list[FloatArray]) -> list[Stage]:
    names = list(meanings)
    return [
        Stage(name, meanings[name], before, after)
        for name, before, after in zip(names[1:], values[:-1], values[1:], strict=True)
    ]


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
    own = target.astype(bool)
    light = float(flux[own].sum())
    if not light > 0:
        return ()
    order = np.flatnonzero(~own)[np.argsort(-flux[~own], kind="stable")]
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


def read_pictures(
    calibrated: CalibratedVisit,
    corrected: CorrectedVisit,
    images: Images,
    shown: int,
    place: tuple[FloatArray, FloatArray],
) -> dict[str, Picture]:
    """Return the images that the report shows, as far as the steps left them."""
    x, y = (float(p[shown]) for p in place)
    seen = np.isfinite(x) and np.isfinite(y)
    circle = (x - images.x_offset, y - images.y_offset, DEFAULT_RADIUS) if seen else None
    nexp = images.nexp
    found = {"corrected": Picture("corrected", "electron", images.take(shown), circle)}
    if "TERM_CAL_STAGES" in corrected.calibration_stages.products:
        raw = term_image(corrected.calibration_stages.products["TERM_CAL_STAGES"], "TERM_RAW_IMAGE")
        found["raw"] = Picture("raw", "ADU", np.where(raw > 0, raw, np.nan), circle)
    if "SCI_CAL_SubArray" in calibrated.subarray.products:
        with open_images(calibrated.subarray.products["SCI_CAL_SubArray"]) as before:
            found["calibrated"] = Picture("calibrated", "electron", before.take(shown), circle)
    for name, leaf, file, extname, title, unit in (
        (
            "median",
            corrected.look,
            "TERM_LOOK",
            "TERM_LOOK_STATIC",
            "median of the sample",
            "electron",
        ),
        (
            "static",
            corrected.defects,
            "TERM_DEFECTS",
            "TERM_DEFECTS_STATIC",
            "steady excess",
            "electron",
        ),
        (
            "dark",
            calibrated.dark,
            "TERM_DARK",
            "TERM_DARK",
            "thermal charge of a stack",
            "electron",
        ),
        ("flat", calibrated.flat, "TERM_FLAT", "TERM_FLAT", "flat field", ""),
        ("psf", corrected.psf, "TERM_PSF", "TERM_PSF", "PSF, half pixels", ""),
        (
            "change",
            corrected.psf,
            "TERM_PSF",
            "TERM_PSF_CHANGE",
            "change of the PSF with temperature",
            "",
        ),
    ):
        if file in leaf.products:
            pixels = term_image(leaf.products[file], extname) * (nexp if name == "dark" else 1)
            ring = None if name in ("psf", "change") else circle
            found[name] = Picture(title, unit, pixels, ring)
    if (scene := scene_of(calibrated, corrected, images, shown)) is not None:
        target, others, pull = scene
        found["alone"] = Picture(
            "without the target", "electron", found["corrected"].pixels - target, circle
        )
        found["field"] = Picture("field stars, model", "electron", others, circle)
        found["residual"] = Picture("residual to target and field", "noise", pull, circle)
    if corrected.full_array is not None and "SCI_COR_FullArray" in corrected.full_array.products:
        with open_frame(corrected.full_array.products["SCI_COR_FullArray"]) as (_, pixels):
            window = (images.x_offset, images.y_offset, images.shape[1], images.shape[0])
            found["frame"] = Picture("full array, corrected", "electron", pixels, frame=window)
    if (
        flags := next(
            (leaf.products[FLAG_MAP] for leaf in corrected.leaves() if FLAG_MAP in leaf.products),
            None,
        )
    ) is not None:
        with scan(Path(require(flags.path))) as opened:
            found["flags"] = Picture("flag map", "", opened[FLAG_MAP].image(), circle)
    return found
