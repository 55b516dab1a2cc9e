"""Corrected full array: without sky, smearing, hot pixels and cosmic rays.

It is a single exposure, without information from a time series. The sky is a quadratic surface
through boxes without stars. Smearing is computed for the catalogue's stars with the shift time from
the sub-array; if it is unknown it stays in the image, and the step reports `N/A`. Hot pixels and
cosmic rays are searched for away from stars: there a pixel far above the median of its neighbours
is neither star nor sky, and is set to NaN. Within the light of a star they cannot be recognised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.payloads import Calibrated, Corrected, Plate, Pointing, Scene, Smearing, Status
from schemas.products import Structure, soc_structure
from schemas.settings import DefectSettings
from schemas.used import USED, with_keywords
from tasks.correction.apply import (
    centroid_table,
    intended_place,
    sky_coordinates,
    write_smearing,
)
from tasks.correction.hits import find_hits
from tasks.correction.smearing import column_profile, column_sums
from tasks.engine.run import new_file
from tasks.engine.step import Leaves, history, step
from tasks.files.writer import FitsWriter, NewHdu
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.scene.optics import to_grid
from tasks.scene.plate import LOST, is_lost, sky_surface, without_specks
from tasks.scene.star_model import read_psf
from tasks.scene.stars import field_places
from tasks.scene.track import read_track
from tasks.visit.headers import image_metadata, visit_keywords
from tasks.visit.images import Images, open_frame, open_images
from tasks.visit.terms import PositionTerm, read_stars

DARKNESS = 5.0  # sigma of a pixel; a median of the neighbours above it is a star
OWN = ("BKGSL_W", "BKGSL_C", "BDPIX_D1", "BDPIX_D3", "BDPIX_C1", "BDPIX_C3")
MEASURED = ("FA_SKY", "FA_SLOPE", "FA_BAD")  # values used


def specks(image: FloatArray, seed: float, neighbour: float) -> BoolArray:
    """Return a mask of hot pixels and cosmic rays away from stars, shape (ny, nx).

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Frame without sky; NaN is not marked [electron].
    seed, neighbour : float
        Limits for a pixel, and for pixels adjacent to a marked one [sigma].
    """
    smooth = without_specks(image)
    excess = image - smooth
    noise = MAD_TO_SIGMA * float(np.nanmedian(np.abs(excess), overwrite_input=True))
    hit = np.zeros(image.shape, dtype=bool)
    if noise > 0:
        find_hits(np.where(smooth < DARKNESS * noise, excess / noise, np.nan), seed, neighbour, hit)
    return hit


@dataclass(frozen=True)
class Place:
    """The target on the full array."""

    x: float  # on the CCD [pixel]
    y: float
    measured: bool  # False for the intended place


def place_of(plate: Plate, pointing: Pointing) -> Place:
    """Return the place of the target on the full array."""
    measured = float(plate.used["PLT_X"]) > 0
    source, name = (plate, "PLT") if measured else (pointing, "LOC")
    return Place(float(source.used[f"{name}_X"]), float(source.used[f"{name}_Y"]), measured)


def smeared_columns(
    frame: Images, stack_seconds: float, scene: Scene, tau: float, place: Place
) -> FloatArray | None:
    """Return the smeared light of every column of the frame [electron], or None if it is unknown.

    Parameters
    ----------
    frame : Images
        The full array.
    stack_seconds : float
        Exposure time of a stack, to which the fluxes of stars refer [s].
    scene : Scene
        PSF and stars.
    tau : float
        Time of a row shift [s].
    place : Place
        The target.
    """
    stars = read_stars(scene.stars)
    if not scene.has_psf or not stars.target.any() or not tau > 0:
        return None
    model, track = read_psf(scene.psf, scene.psf_use.radius), read_track(scene.pointing)
    dx, dy, roll = track.path(float(frame.mjd[0]), frame.exposure_time, model.lag)
    turned, scale = roll + float(scene.stars.used["STAR_ROL"]), float(scene.stars.used["STAR_SCL"])
    x, y = place.x - 0.5 + dx, place.y - 0.5 + dy
    places, rows = field_places(stars.xi, stars.eta, turned, x, y, scale)
    on_ccd = ((rows > 0) & (rows < frame.shape[0])).all(axis=1)
    profile = column_profile(to_grid(model.psf.mean))
    sums = column_sums(frame.shape[1], places[on_ccd], stars.flux[on_ccd], *profile)
    return np.asarray(tau * sums / stack_seconds)


def subtract_sky(image: FloatArray, settings: DefectSettings) -> dict[str, float | int]:
    """Subtract the sky and set hot and hit pixels to NaN, in place; return the used values.

    A lost frame stays as it is.
    """
    if is_lost(image):
        return {"FA_SKY": 0.0, "FA_SLOPE": 0.0, "FA_BAD": 0}
    sky, _ = sky_surface(image)
    bad = specks(image - sky, settings.seed, settings.neighbour)
    image[bad] = np.nan
    # once more: in the SAA a quarter of the pixels is hit, which raises the medians
    if not is_lost(image):
        sky, _ = sky_surface(image)
    image -= sky
    return {
        "FA_SKY": float(np.median(sky)),
        "FA_SLOPE": float(np.ptp(sky)),
        "FA_BAD": int(bad.sum()),
    }


def roll_of(frame: Images, scene: Scene) -> FloatArray:
    """Return the roll angle of the frame, shape (1,) [deg]."""
    lag = float(scene.psf.used.get("PSF_LAG", 0.0))
    track = read_track(scene.pointing)
    _, _, roll = track.path(float(frame.mjd[0]), frame.exposure_time, lag)
    middle = float(np.mean(np.unwrap(roll, period=360.0)))
    return np.array([middle + float(scene.stars.used["STAR_ROL"])])


def frame_states(scene: Scene, smeared: bool) -> dict[str, str]:
    """Return the states of the steps applied to the full array, by keyword."""
    done, absent = str(Status.COMPLETED), str(Status.NOT_APPLICABLE)
    earlier = (*scene.pointing.status.items(), *scene.stars.status.items())
    return {
        **{k: str(v) for k, v in earlier},
        "WCS": done,
        "SMEARING": done if smeared else absent,
        **dict.fromkeys(OWN, done),
    }


@step(
    "correct_full_array",
    *OWN,
    version="6",
    payload=Corrected,
    leaves=["SCI_COR_FullArray"],
    writes=[Structure("SCI_COR_FullArray", keywords={name: USED[name] for name in MEASURED})],
)
def correct_full_array(
    calibrated: Calibrated,
    subarray: Calibrated,
    scene: Scene,
    smearing: Smearing,
    plate: Plate,
    settings: DefectSettings,
) -> Leaves:
    """Write the corrected full array."""
    pointing, stars = scene.pointing, scene.stars
    place, tau = place_of(plate, pointing), float(smearing.used["SMEAR_T"])
    with open_images(subarray.product) as stacks:
        seconds = stacks.nexp * stacks.exposure_time
    with open_frame(calibrated.products["SCI_CAL_FullArray"]) as (frame, image):
        smeared = smeared_columns(frame, seconds, scene, tau, place)
        row, share = np.zeros(frame.shape[1]), 0.0
        if smeared is not None:
            row, share = smeared, float(smearing.used["SMEAR_TE"]) / tau
            image -= smeared
        warnings = [f"{LOST}: its sky is not subtracted"] if is_lost(image) else []
        own = subtract_sky(image, settings)
        header = frame.image.header
        past = {k: header[k] for k in USED if k in header}
        used = {**past, **pointing.used, **plate.used, **stars.used, **own}
        declared = with_keywords(soc_structure("SCI_COR_FullArray"), used)
        states = frame_states(scene, smeared is not None)
        keywords = {**visit_keywords(frame, declared), **states, **used, "BUNIT": "electrons"}
        steps = history([calibrated, pointing, scene.psf, stars, smearing, plate])
        validity = np.array([0 if place.measured else 1], np.uint8)
        position = PositionTerm(
            np.array([place.x]), np.array([place.y]), np.full(1, np.nan), validity
        )
        scale, roll = float(stars.used["STAR_SCL"]), roll_of(frame, scene)
        columns = sky_coordinates(frame, position.x, position.y, roll, scale)
        with FitsWriter(new_file("SCI_COR_FullArray")) as writer:
            writer.write(NewHdu(declared, keywords, pixels=image, history=steps))
            writer.write(centroid_table(frame, position, intended_place(pointing.used)))
            writer.write(image_metadata(frame, "SCI_COR_ImageMetadata", columns))
            write_smearing(writer, frame, row[None], share)
    return Leaves(written={"SCI_COR_FullArray": "SCI_COR_FullArray"}, used=own, warnings=warnings)
