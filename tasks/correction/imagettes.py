"""Corrected imagettes: without background, smearing, steady excess and cosmic rays.

Imagettes lie within the star's light and have no background ring. Background, smearing and steady
excess are those of their stack, in proportion to the exposures. Cosmic rays are found in the
residuals of the star's model, shifted and blurred as in the exposure, and replaced by the model. So
are dead and telegraphic pixels, whose state in a single exposure is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.flags import PixelFlag, Quality
from schemas.payloads import Calibrated, Corrected, Leaf, ReadOut, Removed, Scene, Status
from schemas.products import soc_structure
from schemas.settings import DefectSettings
from schemas.terms import TERMS
from schemas.used import with_keywords
from tasks.correction.hits import find_hits
from tasks.engine.run import new_file
from tasks.engine.step import Leaves, history, step
from tasks.files.byte_order import to_big_endian
from tasks.files.writer import FitsWriter, NewHdu
from tasks.scene.imagettes import (
    Companions,
    ImagetteFits,
    companions,
    free_radius,
    imagette_model,
    part_of,
)
from tasks.scene.light import centre_of_light
from tasks.visit.clean import read_flags
from tasks.visit.headers import image_metadata, step_keywords, visit_keywords
from tasks.visit.images import Imagettes, open_images, open_imagettes

UNSTEADY = PixelFlag.TELEGRAPHIC | PixelFlag.DEAD
OWN = ("BKGSL_C", "BDPIX_C1", "BDPIX_C3")
COLUMNS = ("X", "Y", "X_ERR", "Y_ERR", "FLUX", "CHI2", "HITS", "VALIDITY")
# of the window that finds the centre of light. No setting: it starts at the place that the attitude
# gives, and if it is not at rest after so many moves, that place is used
MOVES = 20


class Stage:
    """Subtracts known effects from imagettes, and finds star and cosmic rays in the rest."""

    def __init__(
        self,
        imagettes: Imagettes,
        known: Companions,
        unsteady: BoolArray,
        fits: ImagetteFits | None,
        limits: DefectSettings,
    ) -> None:
        self.imagettes, self.known, self.unsteady = imagettes, known, unsteady
        self.fits, self.limits = fits, limits

    def clean(self, i: int, image: FloatArray) -> FloatArray:
        """Correct imagette `i` in place, and return the values of COLUMNS."""
        corner = self.known.corner_of(self.imagettes, i)
        image -= self.known.excess(i, *corner, self.imagettes.shape)
        place = (
            self.known.x[i] - self.imagettes.x_offset[i],
            self.known.y[i] - self.imagettes.y_offset[i],
        )
        if self.fits is None:
            found = self._light(i, image, *place)
        else:
            found = self._fit(self.fits, i, image)
        if found[7] == 1:  # not found: placed by the attitude
            found[:4] = *place, np.nan, np.nan
        found[:2] += self.imagettes.x_offset[i], self.imagettes.y_offset[i]
        return found

    def _light(self, i: int, image: FloatArray, x: float, y: float) -> FloatArray:
        """Measure the centre of light."""
        radius, floor = free_radius(~np.isfinite(image), x, y), self.known.floor[i : i + 1]
        out = np.zeros((1, 5))
        if radius > 1:
            centre_of_light(image[None], np.array([x]), np.array([y]), radius, MOVES, floor, out)
        return np.array([*out[0, :4], np.nan, np.nan, 0.0, 1.0 - out[0, 4]])

    def _fit(self, fits: ImagetteFits, i: int, image: FloatArray) -> FloatArray:
        """Fit the star, and replace cosmic rays and unsteady pixels by its model."""
        corner = self.known.corner_of(self.imagettes, i)
        bad = part_of(self.unsteady.astype(np.float64), 1.0, *corner, image.shape) > 0
        star = fits.fit(i, image, bad)
        if star is None:
            return np.array([np.nan] * 6 + [0.0, 1.0])
        hits, chi2 = self._replace(image, star.light, star.noise, bad)
        return np.array([star.x, star.y, star.x_error, star.y_error, star.flux, chi2, hits, 0.0])

    def _replace(
        self, image: FloatArray, light: FloatArray, noise: FloatArray, bad: BoolArray
    ) -> tuple[int, float]:
        """Replace hit and bad pixels by the model, in place; return hits and chi square."""
        pull = (image - light) / noise
        pull[bad] = np.nan
        hit = np.zeros(image.shape, dtype=bool)
        hits = find_hits(pull, self.limits.seed, self.limits.neighbour, hit)
        replaced = hit | (bad & np.isfinite(image))
        image[replaced] = light[replaced]
        return hits, float(np.mean(pull[np.isfinite(pull) & ~hit] ** 2))


@step(
    "correct_imagettes",
    *OWN,
    version="7",
    payload=Corrected,
    leaves=["SCI_COR_Imagette", "TERM_IMAGETTE_POSITION"],
)
def correct_imagettes(
    calibrated: Calibrated,
    subarray: Calibrated,
    calibration: tuple[Leaf, ...],
    scene: Scene,
    readout: ReadOut,
    removed: Removed,
    settings: DefectSettings,
) -> Leaves:
    """Write the corrected imagettes and the position of the target in each."""
    assert scene.position is not None
    assert removed.defects is not None
    steps: list[Leaf] = [
        *calibration,
        calibrated,
        scene.pointing,
        removed.background,
        scene.psf,
        scene.stars,
        scene.position,
        removed.smearing,
        removed.defects,
    ]
    warnings = []
    with open_images(subarray.product) as stacks, open_imagettes(calibrated.product) as imagettes:
        model = imagette_model(scene, imagettes, stacks)
        if model is None:
            warnings.append(
                "there is no PSF of the visit: imagette positions are centres of light, and "
                "cosmic rays stay in the imagettes"
            )
        known = companions(imagettes, stacks, scene, readout, removed, model)
        unsteady = (read_flags(removed.defects) & int(UNSTEADY)) != 0
        fits = None if model is None else ImagetteFits.of(imagettes, known, model, scene)
        stage = Stage(imagettes, known, unsteady, fits, settings)
        found = write_imagettes(stage, steps)
        mjd = imagettes.mjd
    lost = found[:, 7] == 1
    if lost.any():
        warnings.append(
            f"the star could not be measured in {lost.sum()} imagettes: placed by the attitude "
            f"and flagged"
        )
    table, own = position_table(mjd, known, found)
    return Leaves(
        {"TERM_IMAGETTE_POSITION": [table]},
        {"SCI_COR_Imagette": "SCI_COR_Imagette"},
        used=own,
        warnings=warnings,
    )


def write_imagettes(stage: Stage, steps: Sequence[Leaf]) -> FloatArray:
    """Write the corrected imagettes; return the values of COLUMNS, shape (n, 8)."""
    imagettes, used = stage.imagettes, {k: v for leaf in steps for k, v in leaf.used.items()}
    declared = with_keywords(soc_structure("SCI_COR_Imagette"), used)
    state = str(Status.COMPLETED) if stage.fits is not None else str(Status.WARNING)
    keywords = {
        **visit_keywords(imagettes, declared),
        **step_keywords(steps),
        **dict.fromkeys(OWN, state),
        **used,
        "BUNIT": "electrons",
    }
    shape, found = (imagettes.count, *imagettes.shape), np.empty((imagettes.count, len(COLUMNS)))
    with FitsWriter(new_file("SCI_COR_Imagette")) as writer:
        writer.begin_cube(NewHdu(declared, keywords, shape=shape, history=history(steps)))
        for block, pixels in imagettes.blocks():
            for i, image in enumerate(pixels, block.start):
                found[i] = stage.clean(i, image)
            total = to_big_endian(pixels.view(np.uint64))
            writer.write_block(pixels.data.cast("B"), int(total))
        writer.end_cube()
        writer.write(image_metadata(imagettes, "SCI_COR_ImagetteMetadata", {}))
    return found


def position_table(
    mjd: FloatArray, known: Companions, found: FloatArray
) -> tuple[NewHdu, dict[str, int]]:
    """Return TERM_IMAGETTE_POSITION from the values of COLUMNS, and the used values."""
    columns = {
        "MJD_TIME": mjd,
        "STACK": known.stack,
        **dict(zip(COLUMNS, found.T, strict=True)),
        "QUALITY": np.where(found[:, 7] == 1, int(Quality.CENTROID), 0)
        | np.where(known.held, 0, int(Quality.NO_STACK)),
    }
    for name, kind in (("HITS", np.int32), ("VALIDITY", np.uint8)):
        columns[name] = columns[name].astype(kind)
    own = {"CR_IMAG": int(columns["HITS"].sum())}
    return NewHdu(TERMS["TERM_IMAGETTE_POSITION"], own, columns=columns), own
