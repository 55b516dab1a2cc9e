"""Corrected images: calibrated images without the estimated effects, with sky coordinates.

Each image has its own WCS: the target's catalogue position at its measured place, rotated by the
roll angle. The corrections are delivered too: the background of every image, the flags of the
pixels, and the tracks of cosmic rays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from schemas.arrays import AnyArray, BoolArray, FloatArray, IntArray
from schemas.flags import PixelFlag
from schemas.payloads import (
    Background,
    Calibrated,
    Corrected,
    Corrections,
    Defects,
    Leaf,
    Removed,
    Scalar,
    Scene,
    Status,
)
from schemas.products import soc_structure
from schemas.used import with_keywords
from tasks.correction.cosmics import find_tracks
from tasks.correction.hits import RAYS
from tasks.engine.run import new_file
from tasks.engine.step import Leaves, history, step
from tasks.files.byte_order import to_big_endian
from tasks.files.reader import blocks
from tasks.files.writer import FitsWriter, NewHdu
from tasks.numerics.geometry import cd_matrix, reference_pixel
from tasks.visit.clean import Effects, clean_block, read_effects, read_flags
from tasks.visit.headers import image_metadata, step_keywords, target_position, visit_keywords
from tasks.visit.images import Images, open_images
from tasks.visit.terms import (
    PositionTerm,
    read_background,
    read_defect_list,
    read_position,
    read_roll,
    read_smearing,
)

_STATES = ("BKGSL_C", "BDPIX_C1", "BDPIX_C2", "BDPIX_C3", "BDPIX_C4")


@step("correct", *_STATES, version="5", payload=Corrected, leaves=["SCI_COR_SubArray"])
def correct_subarray(
    calibrated: Calibrated, calibration: tuple[Leaf, ...], scene: Scene, removed: Removed
) -> Leaves:
    """Write the corrected images of the sub-array."""
    assert scene.position is not None
    assert removed.defects is not None
    position = read_position(scene.position)
    steps: list[Leaf] = [
        *calibration,
        calibrated,
        scene.pointing,
        scene.look,
        removed.background,
        scene.psf,
        scene.stars,
        scene.position,
        removed.smearing,
        removed.defects,
    ]
    used = {k: v for leaf in steps for k, v in leaf.used.items()}
    roll, scale = read_roll(scene.pointing) + float(used["STAR_ROL"]), float(used["STAR_SCL"])
    with open_images(calibrated.product) as images:
        declared = with_keywords(soc_structure("SCI_COR_SubArray"), used)
        states = {**step_keywords(steps), **dict.fromkeys(_STATES, str(Status.COMPLETED))}
        keywords = {**visit_keywords(images, declared), **states, **used, "BUNIT": "electrons"}
        effects = read_effects(images, removed.background, removed.smearing, removed.defects)
        cube = NewHdu(
            declared, keywords, shape=(images.count, *images.shape), history=history(steps)
        )
        columns = sky_coordinates(images, position.x, position.y, roll, scale)
        with FitsWriter(new_file("SCI_COR_SubArray")) as writer:
            write_cleaned(writer, cube, images, effects)
            writer.write(centroid_table(images, position, intended_place(used)))
            writer.write(image_metadata(images, "SCI_COR_ImageMetadata", columns))
            write_smearing(writer, images, read_smearing(removed.smearing), smearing_error(used))
    return Leaves(written={"SCI_COR_SubArray": "SCI_COR_SubArray"})


def intended_place(used: Mapping[str, Scalar]) -> tuple[float, float]:
    """Return the intended place of the target on the CCD [pixel]."""
    return float(used["LOC_X"]), float(used["LOC_Y"])


def write_cleaned(writer: FitsWriter, cube: NewHdu, images: Images, effects: Effects) -> None:
    """Write images without the known effects, as a cube."""
    writer.begin_cube(cube)
    for block, pixels in images.blocks():
        clean_block(pixels, block, effects)
        total = to_big_endian(pixels.view(np.uint64))
        writer.write_block(pixels.data.cast("B"), int(total))
    writer.end_cube()


def smearing_error(used: Mapping[str, Scalar]) -> float:
    """Return the relative error of the smeared light, 0 if it is unknown."""
    time = float(used["SMEAR_T"])
    return float(used["SMEAR_TE"]) / time if time > 0 else 0.0


def write_smearing(writer: FitsWriter, images: Images, rows: FloatArray, share: float) -> None:
    """Write the smeared light of every image, shape (n, nx), and its error, `share` times it."""
    for name, values in (
        ("SCI_COR_SmearingRow", rows),
        ("SCI_COR_SmearingRowError", share * rows),
    ):
        structure = soc_structure(name)
        head = {**visit_keywords(images, structure), "BUNIT": "electrons"}
        writer.write(NewHdu(structure, head, pixels=values[:, None, :]))


@step(
    "corrections",
    version="3",
    payload=Corrections,
    leaves=[],
    writes=["PIP_COR_BkgSLSubArray", "PIP_COR_PixelFlagMapSubArray", "PIP_REP_DetectedCosmics"],
)
def write_corrections(calibrated: Calibrated, background: Background, defects: Defects) -> Leaves:
    """Write the corrections: background, flags of the pixels, and tracks of cosmic rays."""
    flags = read_flags(defects)
    with open_images(calibrated.product) as images:
        write_background(images, background, (flags & int(PixelFlag.OUTSIDE)) != 0)
        files = {
            "PIP_COR_PixelFlagMapSubArray": [flag_map(images, flags)],
            "PIP_REP_DetectedCosmics": [detected_cosmics(images, defects)],
        }
    return Leaves(files, written={"PIP_COR_BkgSLSubArray": "PIP_COR_BkgSLSubArray"})


def write_background(images: Images, background: Background, outside: BoolArray) -> None:
    """Write PIP_COR_BkgSLSubArray: the background of every pixel, NaN `outside` of the window."""
    error, effects = read_background(background).error, read_effects(images, background)
    declared = soc_structure("PIP_COR_BkgSLSubArray")
    keywords = {**visit_keywords(images, declared), "BUNIT": "electrons"}
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


def background_planes(effects: Effects, block: slice, shape: tuple[int, int]) -> FloatArray:
    """Return the background of every pixel of the images `block`, shape (n, ny, nx) [electron]."""
    level = effects.background[block][:, None, None] + np.zeros((1, *shape))
    if effects.slope is not None:
        dy, dx = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
        slope = effects.slope[block][:, :, None, None]
        level += slope[:, 0] * (dx - effects.centre[0]) + slope[:, 1] * (dy - effects.centre[1])
    return np.ascontiguousarray(level)


def flag_map(images: Images, flags: IntArray) -> NewHdu:
    """Return PIP_COR_PixelFlagMapSubArray."""
    declared = soc_structure("PIP_COR_PixelFlagMapSubArray")
    return NewHdu(declared, visit_keywords(images, declared), pixels=flags)


def detected_cosmics(images: Images, defects: Defects) -> NewHdu:
    """Return PIP_REP_DetectedCosmics, with a row for each track in every image."""
    declared = soc_structure("PIP_REP_DetectedCosmics")
    listed = read_defect_list(defects)
    rays = np.isin(listed.kind, RAYS)
    image, rows, columns = (v[rays] for v in (listed.image, listed.y, listed.x))
    found = find_tracks(image, rows, columns, listed.amount[rays], images.shape)
    which = found.image
    values = {
        "UTC_TIME": images.metadata.column("UTC_TIME")[which],
        "MJD_TIME": images.mjd[which],
        "CE_COUNTER": images.metadata.column("CE_COUNTER")[which],
        "IMAGE_NUM": which & 0xFFFF,
        "RELATED_DATA": np.full(len(which), "SCI_COR_SubArray"),
        "X_CENT_POS": found.x + 0.5 + images.x_offset,
        "Y_CENT_POS": found.y + 0.5 + images.y_offset,
        "ELLIPTICITY": found.ellipticity,
        "POS_ANGLE": found.angle,
        "SIZE_SMAJOR_AXIS": found.major,
        "SIZE_SMINOR_AXIS": found.minor,
        "NUM_PIXELS": found.pixels,
    }
    keywords = {**visit_keywords(images, declared), "DATANAME": "SubArray"}
    return NewHdu(declared, keywords, columns=values)


def centroid_table(images: Images, position: PositionTerm, intended: tuple[float, float]) -> NewHdu:
    """Return PIP_COR_Centroid: measured and intended places of the target."""
    n = images.count
    columns = {
        "IMAGE_INDEX": np.arange(n) & 0xFFFF,
        "LOCATION_X": np.full(n, intended[0]),
        "LOCATION_Y": np.full(n, intended[1]),
        "CENTROID_X": position.x,
        "CENTROID_Y": position.y,
        "VALIDITY": position.validity,
    }
    return image_metadata(images, "PIP_COR_Centroid", columns)


def sky_coordinates(
    images: Images, x: FloatArray, y: FloatArray, roll: FloatArray, scale: float
) -> Mapping[str, AnyArray]:
    """Return the WCS columns of every image; the matrix is NaN where the roll is unknown."""
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
