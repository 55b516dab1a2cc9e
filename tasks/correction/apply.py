"""The second writing pass: calibrated images without the estimated effects, with positions and sky coordinates.

Each image has its own WCS: the target's catalogue position at its measured place, turned by the roll angle.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from schemas.payloads import Background, Calibrated, Corrected, Leaf, Look, Pointing, Position, Product, Reference, Status
from schemas.products import soc_structure
from schemas.terms import with_keywords
from tasks.clean import clean
from tasks.exposures import Exposures, open_exposures, term_column
from tasks.fits import FitsWriter, NewHdu
from tasks.geometry import cd_matrix, reference_pixel
from tasks.level1 import image_metadata, open_images, step_keywords, target_position, visit_keywords
from tasks.scene.look import intended_place
from tasks.scene.pointing import pixel_scale
from tasks.step import Leaves, new_file, step
from tasks.words import to_big_endian

FloatArray = npt.NDArray[np.float64]


@step("correct", "BKGSL_C", version="1", payload=Corrected, leaves=["SCI_COR_SubArray"])
def correct_subarray(
    raw: Product,
    calibrated: Calibrated,
    calibration: tuple[Leaf, ...],
    pointing: Pointing,
    look: Look,
    background: Background,
    position: Position,
    planned: Product | None,
    scale: Reference | None,
) -> Leaves:
    """Write the corrected images of the sub-array."""
    (level,) = term_column(background.product, "TERM_BACKGROUND", "LEVEL")
    x, y, validity = term_column(position.product, "TERM_POSITION", "X", "Y", "VALIDITY")
    (roll,) = term_column(pointing.product, "TERM_POINTING", "ROLL_ANGLE")
    steps: list[Leaf] = [*calibration, calibrated, pointing, look, background, position]
    used = {k: v for leaf in steps for k, v in leaf.used.items()}
    with open_exposures(raw) as exposures, open_images(calibrated.product) as images:
        if images.count != exposures.count:
            raise images.hdu.refuse(f"has {images.count} images, the raw sub-array {exposures.count}")
        declared = with_keywords(soc_structure("SCI_COR_SubArray"), used)
        states = {**step_keywords(steps), "BKGSL_C": str(Status.COMPLETED)}
        keywords = {**visit_keywords(exposures, declared), **states, **used, "BUNIT": "electrons"}
        place = intended_place(planned, images)
        ny, nx = images.shape
        with FitsWriter(new_file("SCI_COR_SubArray")) as writer:
            writer.begin_cube(NewHdu(declared, keywords, shape=(images.count, ny, nx)))
            for block, pixels in images.blocks():
                clean(pixels, level[block])
                total = to_big_endian(pixels.view(np.uint64))
                writer.write_block(pixels.data.cast("B"), int(total))
            writer.end_cube()
            writer.write(centroid_table(exposures, x, y, validity, place))
            columns = {**sky_coordinates(exposures, x, y, roll, pixel_scale(scale)), **_carried(calibrated.product)}
            writer.write(image_metadata(exposures, "SCI_COR_ImageMetadata", columns))
            for name in ("SCI_COR_SmearingRow", "SCI_COR_SmearingRowError"):
                row = soc_structure(name)
                nothing = np.zeros((images.count, 1, nx))
                writer.write(NewHdu(row, {**visit_keywords(exposures, row), "BUNIT": "electrons"}, pixels=nothing))
    return Leaves(written={"SCI_COR_SubArray": "SCI_COR_SubArray"})


def _carried(calibrated: Product) -> dict[str, FloatArray]:
    """Return bias and read-out noise of every image as the calibrated product tells them."""
    from schemas.inputs import level1_input
    from tasks.fits import open_declared
    from tasks.store import require

    with open_declared(require(calibrated.path), level1_input(calibrated.extname)) as file:
        table = file["SCI_CAL_ImageMetadata"]
        return {name: table.column(name) for name in ("BIAS", "RON")}


def centroid_table(
    raw: Exposures, x: FloatArray, y: FloatArray, validity: npt.NDArray[np.uint8], place: tuple[float, float]
) -> NewHdu:
    """Return PIP_COR_Centroid: where the target is, and where it was meant to be."""
    declared = soc_structure("PIP_COR_Centroid")
    n = raw.count
    columns = {
        "IMAGE_INDEX": np.arange(n) & 0xFFFF, "LOCATION_X": np.full(n, place[0]), "LOCATION_Y": np.full(n, place[1]), "CENTROID_X": x,
        "CENTROID_Y": y, "VALIDITY": validity,
    }  # fmt: skip
    table = image_metadata(raw, "PIP_COR_Centroid", columns)
    return NewHdu(declared, table.keywords, columns=table.columns)


def sky_coordinates(
    raw: Exposures, x: FloatArray, y: FloatArray, roll: FloatArray, scale: float
) -> Mapping[str, npt.NDArray[np.generic]]:
    """Return the WCS columns of every image; where the roll is not known the matrix is NaN."""
    ra, dec = target_position(raw)
    n = raw.count
    cd = np.full((n, 2, 2), np.nan)
    good = np.isfinite(roll)
    cd[good] = cd_matrix(roll[good], scale)
    return {
        "CTYPE1": np.full(n, "RA---TAN"), "CTYPE2": np.full(n, "DEC--TAN"), "CUNIT1": np.full(n, "deg"),
        "CUNIT2": np.full(n, "deg"), "CRVAL1": np.full(n, ra), "CRVAL2": np.full(n, dec),
        "CRPIX1": reference_pixel(x, raw.x_offset), "CRPIX2": reference_pixel(y, raw.y_offset),
        "CD1_1": cd[:, 0, 0], "CD1_2": cd[:, 0, 1], "CD2_1": cd[:, 1, 0], "CD2_2": cd[:, 1, 1],
    }  # fmt: skip
