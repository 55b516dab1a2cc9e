"""The second writing pass: calibrated images without the estimated effects, with positions and sky coordinates.

Each image has its own WCS: the target's catalogue position at its measured place, turned by the roll angle.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from schemas.payloads import (
    Background,
    Calibrated,
    Corrected,
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
from schemas.terms import with_keywords
from tasks.clean import clean_block, read_effects
from tasks.exposures import term_column, term_image
from tasks.fits_writer import FitsWriter, NewHdu
from tasks.geometry import cd_matrix, reference_pixel
from tasks.level1 import Images, image_metadata, open_images, step_keywords, target_position, visit_keywords
from tasks.step import Leaves, new_file, step
from tasks.words import to_big_endian

FloatArray = npt.NDArray[np.float64]


@step("correct", "BKGSL_C", "BDPIX_C1", "BDPIX_C3", version="2", payload=Corrected, leaves=["SCI_COR_SubArray"])
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
    steps: list[Leaf] = [*calibration, calibrated, pointing, look, background, psf, stars, position, smearing, defects]
    used = {k: v for leaf in steps for k, v in leaf.used.items()}
    place, scale = (float(used["LOC_X"]), float(used["LOC_Y"])), float(used["STAR_SCL"])
    with open_images(calibrated.product) as images:
        declared = with_keywords(soc_structure("SCI_COR_SubArray"), used)
        states = {**step_keywords(steps), **dict.fromkeys(("BKGSL_C", "BDPIX_C1", "BDPIX_C3"), str(Status.COMPLETED))}
        keywords = {**visit_keywords(images, declared), **states, **used, "BUNIT": "electrons"}
        ny, nx = images.shape
        smeared = term_image(smearing.product, "TERM_SMEARING")
        effects = read_effects(images, background, smearing, defects)
        with FitsWriter(new_file("SCI_COR_SubArray")) as writer:
            writer.begin_cube(NewHdu(declared, keywords, shape=(images.count, ny, nx)))
            for block, pixels in images.blocks():
                clean_block(pixels, block, effects)
                total = to_big_endian(pixels.view(np.uint64))
                writer.write_block(pixels.data.cast("B"), int(total))
            writer.end_cube()
            writer.write(centroid_table(images, x, y, validity, place))
            columns = sky_coordinates(images, x, y, roll + float(used["STAR_ROL"]), scale)
            writer.write(image_metadata(images, "SCI_COR_ImageMetadata", columns))
            share = float(used["SMEAR_TE"]) / float(used["SMEAR_T"]) if float(used["SMEAR_T"]) > 0 else 0.0
            for name, row in (("SCI_COR_SmearingRow", smeared), ("SCI_COR_SmearingRowError", share * smeared)):
                structure = soc_structure(name)
                head = {**visit_keywords(images, structure), "BUNIT": "electrons"}
                writer.write(NewHdu(structure, head, pixels=row[:, None, :]))
    return Leaves(written={"SCI_COR_SubArray": "SCI_COR_SubArray"})


def centroid_table(
    images: Images, x: FloatArray, y: FloatArray, validity: npt.NDArray[np.uint8], place: tuple[float, float]
) -> NewHdu:
    """Return PIP_COR_Centroid: where the target is, and where it was meant to be."""
    n = images.count
    columns = {
        "IMAGE_INDEX": np.arange(n) & 0xFFFF, "LOCATION_X": np.full(n, place[0]), "LOCATION_Y": np.full(n, place[1]),
        "CENTROID_X": x, "CENTROID_Y": y, "VALIDITY": validity,
    }  # fmt: skip
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
        "CTYPE1": np.full(n, "RA---TAN"), "CTYPE2": np.full(n, "DEC--TAN"), "CUNIT1": np.full(n, "deg"),
        "CUNIT2": np.full(n, "deg"), "CRVAL1": np.full(n, ra), "CRVAL2": np.full(n, dec),
        "CRPIX1": reference_pixel(x, images.x_offset), "CRPIX2": reference_pixel(y, images.y_offset),
        "CD1_1": cd[:, 0, 0], "CD1_2": cd[:, 0, 1], "CD2_1": cd[:, 1, 0], "CD2_2": cd[:, 1, 1],
    }  # fmt: skip
