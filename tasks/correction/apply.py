"""The second writing pass: calibrated images without the estimated effects, with positions and sky
coordinates.

Each image has its own WCS: the target's catalogue position at its measured place, turned by the
roll angle. What was taken away is delivered beside: the background of every image, the flags of the
pixels, and the tracks of cosmic rays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray
from schemas.flags import PixelFlag
from schemas.payloads import (
    Background,
    Calibrated,
    Corrected,
    Corrections,
    Defects,
    Leaf,
    Look,
    Pointing,
    Position,
    Psf,
    Smearing,
    Stars,
    Status,
)
from schemas.products import soc_structure
from schemas.used import with_keywords
from tasks.correction.cosmics import Track, tracks
from tasks.correction.hits import COSMIC
from tasks.engine.run import new_file
from tasks.engine.step import Leaves, history, step
from tasks.files.byte_order import to_big_endian
from tasks.files.reader import blocks
from tasks.files.writer import FitsWriter, NewHdu
from tasks.numerics.geometry import cd_matrix, reference_pixel
from tasks.visit.clean import Effects, clean_block, read_effects, read_flags
from tasks.visit.headers import image_metadata, step_keywords, target_position, visit_keywords
from tasks.visit.images import Images, open_images
from tasks.visit.terms import term_column, term_image

_STATES = ("BKGSL_C", "BDPIX_C1", "BDPIX_C2", "BDPIX_C3", "BDPIX_C4")


@step("correct", *_STATES, version="4", payload=Corrected, leaves=["SCI_COR_SubArray"])
def correct_subarray(
    calibrated: Calibrated,
    calibration: tuple[Leaf, ...],
    pointing: Pointing,
    look: Look,
    background: Background,
    psf: Psf,
    stars: Stars,
    position: Position,
    smearing: Smearing,
    defects: Defects,
) -> Leaves:
    """Write the corrected images of the sub-array."""
    x, y, validity = term_column(position.product, "TERM_POSITION", "X", "Y", "VALIDITY")
    (roll,) = term_column(pointing.product, "TERM_POINTING", "ROLL_ANGLE")
    steps: list[Leaf] = [
        *calibration,
        calibrated,
        pointing,
        look,
        background,
        psf,
        stars,
        position,
        smearing,
        defects,
    ]
    used = {k: v for leaf in steps for k, v in leaf.used.items()}
    place, scale = (float(used["LOC_X"]), float(used["LOC_Y"])), float(used["STAR_SCL"])
    with open_images(calibrated.product) as images:
        declared = with_keywords(soc_structure("SCI_COR_SubArray"), used)
        states = {**step_keywords(steps), **dict.fromkeys(_STATES, str(Status.COMPLETED))}
        keywords = {**visit_keywords(images, declared), **states, **used, "BUNIT": "electrons"}
        effects = read_effects(images, background, smearing, defects)
        smeared = term_image(smearing.product, "TERM_SMEARING")
        with FitsWriter(new_file("SCI_COR_SubArray")) as writer:
            writer.begin_cube(
                NewHdu(
                    declared, keywords, shape=(images.count, *images.shape), history=history(steps)
                )
            )
            for block, pixels in images.blocks():
                clean_block(pixels, block, effects)
                total = to_big_endian(pixels.view(np.uint64))
                writer.write_block(pixels.data.cast("B"), int(total))
            writer.end_cube()
            writer.write(centroid_table(images, x, y, validity, place))
            columns = sky_coordinates(images, x, y, roll + float(used["STAR_ROL"]), scale)
            writer.write(image_metadata(images, "SCI_COR_ImageMetadata", columns))
            share = (
                float(used["SMEAR_TE"]) / float(used["SMEAR_T"])
                if float(used["SMEAR_T"]) > 0
                else 0.0
            )
            for name, row in (
                ("SCI_COR_SmearingRow", smeared),
                ("SCI_COR_SmearingRowError", share * smeared),
            ):
                structure = soc_structure(name)
                head = {**visit_keywords(images, structure), "BUNIT": "electrons"}
                writer.write(NewHdu(structure, head, pixels=row[:, None, :]))
    return Leaves(written={"SCI_COR_SubArray": "SCI_COR_SubArray"})


@step("corrections", version="1", payload=Corrections, leaves=[])
def write_corrections(calibrated: Calibrated, background: Background, defects: Defects) -> Leaves:
    """Write what was taken away: the background of every image, the flags of the pixels, the tracks
    of cosmic rays.
    """
    (error,) = term_column(background.product, "TERM_BACKGROUND", "LEVEL_ERR")
    flags = read_flags(defects)
    with open_images(calibrated.product) as images:
        effects = read_effects(images, background)
        declared = soc_structure("PIP_COR_BkgSLSubArray")
        keywords = {**visit_keywords(images, declared), "BUNIT": "electrons"}
        outside = (flags & int(PixelFlag.OUTSIDE)) != 0
        with FitsWriter(new_file("PIP_COR_BkgSLSubArray")) as writer:
            ny, nx = images.shape
            writer.begin_cube(NewHdu(declared, keywords, shape=(images.count, ny, nx)))
            for a, b in blocks(images.count, ny * nx * 8):
                level = background_planes(effects, slice(a, b), images.shape)
                level[:, outside] = np.nan
                total = to_big_endian(level.view(np.uint64))
                writer.write_block(level.data.cast("B"), int(total))
            writer.end_cube()
            writer.write(image_metadata(images, "PIP_COR_BkgSLImageMetadata", {"BKG_ERROR": error}))
        files = {
            "PIP_COR_PixelFlagMapSubArray": [flag_map(images, flags)],
            "PIP_REP_DetectedCosmics": [detected_cosmics(images, defects)],
        }
    return Leaves(files, written={"PIP_COR_BkgSLSubArray": "PIP_COR_BkgSLSubArray"})


def background_planes(effects: Effects, block: slice, shape: tuple[int, int]) -> FloatArray:
    """Return the background of every pixel of the images `block`, shape (n, ny, nx) [electron]."""
    level = effects.background[block][:, None, None] + np.zeros((1, *shape))
    if effects.slope is not None:
        dy, dx = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
        slope = effects.slope[block][:, :, None, None]
        level += slope[:, 0] * (dx - effects.centre[0]) + slope[:, 1] * (dy - effects.centre[1])
    return np.ascontiguousarray(level)


def flag_map(images: Images, flags: npt.NDArray[np.int64]) -> NewHdu:
    """Return PIP_COR_PixelFlagMapSubArray."""
    declared = soc_structure("PIP_COR_PixelFlagMapSubArray")
    return NewHdu(declared, visit_keywords(images, declared), pixels=flags)


def detected_cosmics(images: Images, defects: Defects) -> NewHdu:
    """Return PIP_REP_DetectedCosmics: a row for each track of every image."""
    declared = soc_structure("PIP_REP_DetectedCosmics")
    image, x, y, amount, kind = term_column(
        defects.product, "TERM_DEFECTS", "IMAGE_INDEX", "X", "Y", "AMOUNT", "KIND"
    )
    utc, counter = images.metadata.column("UTC_TIME"), images.metadata.column("CE_COUNTER")
    rows: list[tuple[int, Track]] = []
    rays = kind == COSMIC
    for i in np.unique(image[rays]):
        of_image = rays & (image == i)
        columns, lines = (v[of_image].astype(np.int64) for v in (x, y))
        rows += [
            (int(i), track) for track in tracks(lines, columns, amount[of_image], images.shape)
        ]
    which = np.array([i for i, _ in rows], np.int64)
    values = {
        "UTC_TIME": utc[which],
        "MJD_TIME": images.mjd[which],
        "CE_COUNTER": counter[which],
        "IMAGE_NUM": which & 0xFFFF,
        "RELATED_DATA": np.full(len(rows), "SCI_COR_SubArray"),
        "X_CENT_POS": np.array([t.x + 0.5 + images.x_offset for _, t in rows]),
        "Y_CENT_POS": np.array([t.y + 0.5 + images.y_offset for _, t in rows]),
        "ELLIPTICITY": np.array([t.ellipticity for _, t in rows]),
        "POS_ANGLE": np.array([t.angle for _, t in rows]),
        "SIZE_SMAJOR_AXIS": np.array([t.major for _, t in rows]),
        "SIZE_SMINOR_AXIS": np.array([t.minor for _, t in rows]),
        "NUM_PIXELS": np.array([t.pixels for _, t in rows]),
    }
    return NewHdu(
        declared, {**visit_keywords(images, declared), "DATANAME": "SubArray"}, columns=values
    )


def centroid_table(
    images: Images,
    x: FloatArray,
    y: FloatArray,
    validity: npt.NDArray[np.uint8],
    place: tuple[float, float],
) -> NewHdu:
    """Return PIP_COR_Centroid: where the target is, and where it was meant to be."""
    n = images.count
    columns = {
        "IMAGE_INDEX": np.arange(n) & 0xFFFF,
        "LOCATION_X": np.full(n, place[0]),
        "LOCATION_Y": np.full(n, place[1]),
        "CENTROID_X": x,
        "CENTROID_Y": y,
        "VALIDITY": validity,
    }
    return image_metadata(images, "PIP_COR_Centroid", columns)


def sky_coordinates(
    images: Images, x: FloatArray, y: FloatArray, roll: FloatArray, scale: float
) -> Mapping[str, npt.NDArray[np.generic]]:
    """Return the WCS columns of every image; where the roll is not known the matrix is NaN."""
    ra, dec = target_position(images)
    n = images.count
    cd = np.full((n, 2, 2), np.nan)
    good = np.isfinite(roll)
    cd[good] = cd_matrix(roll[good], scale)
    return {
        "CTYPE1": np.full(n, "RA---TAN"),
        "CTYPE2": np.full(n, "DEC--TAN"),
        "CUNIT1": np.full(n, "deg"),
        "CUNIT2": np.full(n, "deg"),
        "CRVAL1": np.full(n, ra),
        "CRVAL2": np.full(n, dec),
        "CRPIX1": reference_pixel(x, images.x_offset),
        "CRPIX2": reference_pixel(y, images.y_offset),
        "CD1_1": cd[:, 0, 0],
        "CD1_2": cd[:, 0, 1],
        "CD2_1": cd[:, 1, 0],
        "CD2_2": cd[:, 1, 1],
    }
