"""The images in the report, read from the products of the steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import DEFAULT_RADIUS
from schemas.payloads import CalibratedVisit, CorrectedVisit, Leaf
from tasks.delivery.report.scene import scene_of
from tasks.files.disk import require
from tasks.files.reader import scan
from tasks.visit.images import Images, open_frame, open_images
from tasks.visit.terms import term_image

FLAG_MAP = "PIP_COR_PixelFlagMapSubArray"

Circle = tuple[float, float, float]


@dataclass(frozen=True)
class Picture:
    """An image of the window, the PSF or the CCD.

    `circle` is the centre and radius of the aperture, `frame` the first pixel and size of the
    window, edge based [pixel].
    """

    title: str
    unit: str
    pixels: FloatArray
    circle: Circle | None = None
    frame: tuple[int, int, int, int] | None = None


class MapSource(NamedTuple):
    """A map among the terms of a visit: its leaf, file and HDU, title and unit."""

    leaf: Leaf
    file: str
    extname: str
    title: str
    unit: str = "electron"


def read_pictures(
    calibrated: CalibratedVisit,
    corrected: CorrectedVisit,
    images: Images,
    index: int,
    place: tuple[float, float],
) -> dict[str, Picture]:
    """Read all images that are available, by name."""
    x, y = place
    seen = np.isfinite(x) and np.isfinite(y)
    circle = (x - images.x_offset, y - images.y_offset, DEFAULT_RADIUS) if seen else None
    pictures = {
        **read_levels(calibrated, corrected, images, index, circle),
        **read_maps(calibrated, corrected, images.nexp, circle),
        **read_full_array(corrected, images),
        **read_flag_map(corrected, circle),
    }
    if (scene := scene_of(calibrated, corrected, images, index)) is not None:
        target, others, pull = scene
        alone = pictures["corrected"].pixels - target
        pictures["alone"] = Picture("target subtracted", "electron", alone, circle)
        pictures["field"] = Picture("field-star model", "electron", others, circle)
        pictures["residual"] = Picture("both subtracted", "noise", pull, circle)
    return pictures


def read_levels(
    calibrated: CalibratedVisit,
    corrected: CorrectedVisit,
    images: Images,
    index: int,
    circle: Circle | None,
) -> dict[str, Picture]:
    """Read one image raw, calibrated and corrected."""
    levels = {"corrected": Picture("corrected", "electron", images.take(index), circle)}
    stages = corrected.calibration_stages.products
    if "TERM_CAL_STAGES" in stages:
        raw = term_image(stages["TERM_CAL_STAGES"], "TERM_RAW_IMAGE")
        levels["raw"] = Picture("raw", "ADU", np.where(raw > 0, raw, np.nan), circle)
    if "SCI_CAL_SubArray" in calibrated.subarray.products:
        with open_images(calibrated.subarray.products["SCI_CAL_SubArray"]) as before:
            levels["calibrated"] = Picture("calibrated", "electron", before.take(index), circle)
    return levels


def read_maps(
    calibrated: CalibratedVisit, corrected: CorrectedVisit, nexp: int, circle: Circle | None
) -> dict[str, Picture]:
    """Read median image, steady excess, dark current and flat field of the window, and the PSF."""
    sources = {
        "median": MapSource(
            corrected.look, "TERM_LOOK", "TERM_LOOK_STATIC", "median of the sample"
        ),
        "static": MapSource(
            corrected.defects, "TERM_DEFECTS", "TERM_DEFECTS_STATIC", "steady excess"
        ),
        "dark": MapSource(calibrated.dark, "TERM_DARK", "TERM_DARK", "thermal charge of a stack"),
        "flat": MapSource(calibrated.flat, "TERM_FLAT", "TERM_FLAT", "flat field", ""),
        "psf": MapSource(corrected.psf, "TERM_PSF", "TERM_PSF", "PSF (half pixels)", ""),
        "change": MapSource(
            corrected.psf, "TERM_PSF", "TERM_PSF_CHANGE", "change of the PSF with temperature", ""
        ),
    }
    maps = {}
    for name, source in sources.items():
        if source.file in source.leaf.products:
            pixels = term_image(source.leaf.products[source.file], source.extname)
            exposures = nexp if name == "dark" else 1
            ring = None if name in ("psf", "change") else circle
            maps[name] = Picture(source.title, source.unit, pixels * exposures, ring)
    return maps


def read_full_array(corrected: CorrectedVisit, images: Images) -> dict[str, Picture]:
    """Read the image of the whole CCD, if the visit has one, with the frame of the window."""
    leaf = corrected.full_array
    if leaf is None or "SCI_COR_FullArray" not in leaf.products:
        return {}
    ny, nx = images.shape
    window = (images.x_offset, images.y_offset, nx, ny)
    with open_frame(leaf.products["SCI_COR_FullArray"]) as (_, pixels):
        return {"frame": Picture("full array, corrected", "electron", pixels, frame=window)}


def read_flag_map(corrected: CorrectedVisit, circle: Circle | None) -> dict[str, Picture]:
    """Read the pixel flags of the whole visit, if a step wrote them."""
    for leaf in corrected.leaves():
        if FLAG_MAP in leaf.products:
            with scan(Path(require(leaf.products[FLAG_MAP].path))) as opened:
                return {"flags": Picture("flag map", "", opened[FLAG_MAP].image(), circle)}
    return {}
