"""Imagettes without background, smearing, steady excesses and cosmic rays.

They lie inside the star's light: a ring of their own they have not, so background, smearing and
excesses are those of the stack that holds them, by their share of its exposures. Cosmic rays stand
out of the residual to the star's model, as it moved and blurred in that very exposure; they are
replaced by the model, and so are dead and telegraphic pixels, whose state in a single exposure the
stack does not tell.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.flags import PixelFlag, Quality
from schemas.payloads import (
    Background,
    Bias,
    Calibrated,
    Corrected,
    Defects,
    Gain,
    Leaf,
    Pointing,
    Position,
    Psf,
    Smearing,
    Stars,
    Status,
)
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
    ImagetteModel,
    companions,
    free_radius,
    imagette_model,
    part_of,
)
from tasks.scene.light import centre_of_light
from tasks.scene.star_model import FURTHEST, read_psf
from tasks.scene.stars import Field, read_field
from tasks.scene.track import Track, read_track
from tasks.visit.clean import read_flags
from tasks.visit.headers import image_metadata, step_keywords, visit_keywords
from tasks.visit.images import Imagettes, open_images, open_imagettes

UNSTEADY = PixelFlag.TELEGRAPHIC | PixelFlag.DEAD
OWN = ("BKGSL_C", "BDPIX_C1", "BDPIX_C3")
COLUMNS = ("X", "Y", "X_ERR", "Y_ERR", "FLUX", "CHI2", "HITS", "VALIDITY")


class Stage:
    """Frees imagettes from what is known beforehand, and finds the star and cosmic rays in the
    rest.
    """

    def __init__(
        self,
        imagettes: Imagettes,
        known: Companions,
        unsteady: BoolArray,
        model: ImagetteModel | None,
        field: Field | None,
        track: Track,
        limits: DefectSettings,
    ) -> None:
        self.imagettes, self.known, self.unsteady, self.model, self.field = (
            imagettes,
            known,
            unsteady,
            model,
            field,
        )
        self.track, self.limits = track, limits

    def corner(self, i: int) -> tuple[int, int]:
        """Return where index [0, 0] of imagette `i` lies in the sub-array, x and y."""
        x0, y0 = self.known.corner
        return int(self.imagettes.x_offset[i]) - x0, int(self.imagettes.y_offset[i]) - y0

    def clean(self, i: int, image: FloatArray) -> FloatArray:
        """Take the excess and cosmic rays out of imagette `i`, in place; return the values of
        COLUMNS.
        """
        image -= self.known.excess(i, *self.corner(i), self.imagettes.shape)
        place = (
            self.known.x[i] - self.imagettes.x_offset[i],
            self.known.y[i] - self.imagettes.y_offset[i],
        )
        found = (
            self._fit(i, image, *place) if self.model is not None else self._light(i, image, *place)
        )
        if found[7] == 1:  # nothing found: the attitude's place
            found[:4] = *place, np.nan, np.nan
        found[:2] += self.imagettes.x_offset[i], self.imagettes.y_offset[i]
        return found

    def _light(self, i: int, image: FloatArray, x: float, y: float) -> FloatArray:
        radius = free_radius(~np.isfinite(image), x, y)
        out = np.zeros((1, 5))
        if radius > 1:
            centre_of_light(
                image[None],
                np.array([x]),
                np.array([y]),
                radius,
                20,
                self.known.floor[i : i + 1],
                out,
            )
        return np.array([*out[0, :4], np.nan, np.nan, 0.0, 1.0 - out[0, 4]])

    def _fit(self, i: int, image: FloatArray, x: float, y: float) -> FloatArray:
        assert self.model is not None
        mjd, duration, floor = (
            float(self.imagettes.mjd[i]),
            float(self.known.span[i]),
            float(self.known.floor[i]),
        )
        lost = np.array([np.nan] * 6 + [0.0, 1.0])
        if not (np.isfinite(x) and np.isfinite(y)) or not np.nansum(image) > 0:
            return lost
        part = float(self.known.share[i])
        others = (
            self.field.image(image.shape, x, y, mjd, duration, part)
            if self.field is not None
            else np.zeros(image.shape)
        )
        offsets = int(self.imagettes.x_offset[i]), int(self.imagettes.y_offset[i])
        here = self.model.at(*offsets, part)
        motion = self.track.during(mjd, duration, here.lag)
        bad = part_of(self.unsteady.astype(np.float64), 1.0, *self.corner(i), image.shape) > 0
        star = self.model.star(
            here, i, self.known, np.where(bad, np.nan, image - others), (x, y), motion
        )
        stamp, errors = here.fit(star)
        inside = tuple(
            slice(-c, -c + side)
            for c, side in zip(here.where.corner[::-1], image.shape, strict=True)
        )
        x_found, y_found = star.x + here.where.corner[0] + 0.5, star.y + here.where.corner[1] + 0.5
        if not star.flux > 0 or np.hypot(x_found - x, y_found - y) > FURTHEST:
            return lost
        light = stamp[inside] + others + star.level
        pull = (image - light) / (np.sqrt(np.maximum(light, 0.0) + floor) * here.scale[inside])
        pull[bad] = np.nan
        hit = np.zeros(image.shape, dtype=bool)
        hits = find_hits(pull, self.limits.seed, self.limits.neighbour, hit)
        replaced = hit | (bad & np.isfinite(image))
        image[replaced] = light[replaced]
        chi2 = float(np.mean(pull[np.isfinite(pull) & ~hit] ** 2))
        return np.array([x_found, y_found, errors[1], errors[2], star.flux, chi2, hits, 0.0])


@step(
    "correct_imagettes",
    *OWN,
    version="2",
    payload=Corrected,
    leaves=["SCI_COR_Imagette", "TERM_IMAGETTE_POSITION"],
)
def correct_imagettes(
    calibrated: Calibrated,
    subarray: Calibrated,
    calibration: tuple[Leaf, ...],
    pointing: Pointing,
    background: Background,
    bias: Bias,
    gain: Gain,
    psf: Psf,
    stars: Stars,
    position: Position,
    smearing: Smearing,
    defects: Defects,
    settings: DefectSettings,
) -> Leaves:
    """Write the corrected imagettes, and where the target is in each."""
    steps: list[Leaf] = [
        *calibration,
        calibrated,
        pointing,
        background,
        psf,
        stars,
        position,
        smearing,
        defects,
    ]
    used = {k: v for leaf in steps for k, v in leaf.used.items()}
    track, warnings = read_track(pointing), []
    with open_images(subarray.product) as stacks, open_imagettes(calibrated.product) as imagettes:
        model = imagette_model(psf, imagettes, stacks)
        known = companions(
            imagettes, stacks, background, bias, gain, position, smearing, defects, track, model
        )
        unsteady = (read_flags(defects) & int(UNSTEADY)) != 0
        field = read_field(stars, read_psf(psf), track) if model is not None else None
        stage = Stage(imagettes, known, unsteady, model, field, track, settings)
        if model is None:
            warnings.append(
                "there is no PSF of the visit: positions by centre of light, cosmic rays stay "
                "in the imagettes"
            )
        declared = with_keywords(soc_structure("SCI_COR_Imagette"), used)
        state = str(Status.COMPLETED) if model is not None else str(Status.WARNING)
        keywords = {
            **visit_keywords(imagettes, declared),
            **step_keywords(steps),
            **dict.fromkeys(OWN, state),
            **used,
            "BUNIT": "electrons",
        }
        found = np.empty((imagettes.count, len(COLUMNS)))
        with FitsWriter(new_file("SCI_COR_Imagette")) as writer:
            writer.begin_cube(
                NewHdu(
                    declared,
                    keywords,
                    shape=(imagettes.count, *imagettes.shape),
                    history=history(steps),
                )
            )
            for block, pixels in imagettes.blocks():
                for k, image in enumerate(pixels):
                    found[block.start + k] = stage.clean(block.start + k, image)
                total = to_big_endian(pixels.view(np.uint64))
                writer.write_block(pixels.data.cast("B"), int(total))
            writer.end_cube()
            writer.write(image_metadata(imagettes, "SCI_COR_ImagetteMetadata", {}))
        mjd = imagettes.mjd
    lost = found[:, 7] == 1
    if lost.any():
        warnings.append(
            f"the star could not be measured in {lost.sum()} imagettes: placed by the attitude "
            f"and flagged"
        )
    quality = np.where(lost, int(Quality.CENTROID), 0) | np.where(
        known.held, 0, int(Quality.NO_STACK)
    )
    columns = {
        "MJD_TIME": mjd,
        "STACK": known.stack,
        **dict(zip(COLUMNS, found.T, strict=True)),
        "QUALITY": quality,
    }
    for name, kind in (("HITS", np.int32), ("VALIDITY", np.uint8)):
        columns[name] = columns[name].astype(kind)
    own = {"CR_IMAG": int(columns["HITS"].sum())}
    table = NewHdu(TERMS["TERM_IMAGETTE_POSITION"], own, columns=columns)
    return Leaves(
        {"TERM_IMAGETTE_POSITION": [table]},
        {"SCI_COR_Imagette": "SCI_COR_Imagette"},
        used=own,
        warnings=warnings,
    )
