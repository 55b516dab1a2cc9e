"""The full array without sky, smearing, hot pixels and cosmic rays.

It is one exposure, so nothing can be told from a series. The sky is a quadratic surface through
boxes without stars. Smearing is that of the catalogue's stars with the time of a row shift that the
sub-array told; where neither is known it stays in the image, and the step says `N/A`. Hot pixels
and cosmic rays are looked for where no star shines: there a pixel far above the median of its
neighbours is neither star nor sky, and has no number any more. In a star's light the image alone
cannot tell.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.payloads import Calibrated, Corrected, Plate, Pointing, Psf, Smearing, Stars, Status
from schemas.products import soc_structure
from schemas.settings import DefectSettings
from schemas.used import USED, with_keywords
from tasks.correction.apply import centroid_table, sky_coordinates
from tasks.correction.hits import find_hits
from tasks.correction.smearing import column_profile, column_sums
from tasks.engine.run import new_file
from tasks.engine.step import Leaves, history, step
from tasks.files.writer import FitsWriter, NewHdu
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.scene.optics import to_grid
from tasks.scene.plate import sky_surface, without_specks
from tasks.scene.star_model import read_psf
from tasks.scene.stars import field_places
from tasks.scene.track import read_track
from tasks.visit.headers import image_metadata, visit_keywords
from tasks.visit.images import Images, open_frame, open_images
from tasks.visit.terms import term_column

DARKNESS = 5.0  # sigma of a pixel; where the neighbours' median is above it a star shines
FEWEST = 3  # images that must have made the PSF


def specks(image: FloatArray, seed: float, neighbour: float) -> BoolArray:
    """Mark hot pixels and cosmic rays where no star shines, shape (ny, nx).

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Frame without sky; NaN is never marked [electron].
    seed, neighbour : float
        Limits for a pixel, and for pixels that touch a marked one [sigma].
    """
    smooth = without_specks(image)
    rest = image - smooth
    noise = MAD_TO_SIGMA * float(np.nanmedian(np.abs(rest)))
    hit = np.zeros(image.shape, dtype=bool)
    if noise > 0:
        find_hits(np.where(smooth < DARKNESS * noise, rest / noise, np.nan), seed, neighbour, hit)
    return hit


def smeared_columns(
    columns: int,
    frame: Images,
    stack_seconds: float,
    pointing: Pointing,
    psf: Psf,
    stars: Stars,
    smearing: Smearing,
    place: tuple[float, float],
) -> FloatArray | None:
    """Return the smeared light of every column of the frame [electron], shape (columns,); None
    where it is not known.
    """
    xi, eta, light, target = term_column(
        stars.product, stars.product.extname, "XI", "ETA", "FLUX", "TARGET"
    )
    tau = float(smearing.used["SMEAR_T"])
    if int(psf.used.get("PSF_N", 0)) < FEWEST or not target.any() or not tau > 0:
        return None
    model = read_psf(psf)
    dx, dy, roll = read_track(pointing).path(float(frame.mjd[0]), frame.exposure_time, model.lag)
    turned = roll + float(stars.used["STAR_ROL"])
    x, y = place[0] - 0.5 + dx, place[1] - 0.5 + dy
    places, rows = field_places(xi, eta, turned, x, y, float(stars.used["STAR_SCL"]))
    on_ccd = ((rows > 0) & (rows < frame.shape[0])).all(axis=1)
    sums = column_sums(
        columns, places[on_ccd], light[on_ccd], *column_profile(to_grid(model.psf.mean))
    )
    return np.asarray(tau * sums / stack_seconds)


@step(
    "correct_full_array",
    "BKGSL_W",
    "BKGSL_C",
    "BDPIX_D1",
    "BDPIX_D3",
    "BDPIX_C1",
    "BDPIX_C3",
    version="2",
    payload=Corrected,
    leaves=["SCI_COR_FullArray"],
)
def correct_full_array(
    calibrated: Calibrated,
    subarray: Calibrated,
    pointing: Pointing,
    psf: Psf,
    stars: Stars,
    smearing: Smearing,
    plate: Plate,
    settings: DefectSettings,
) -> Leaves:
    """Write the corrected full array."""
    with open_images(subarray.product) as stacks:
        seconds = stacks.nexp * stacks.exposure_time
    with open_frame(calibrated.products["SCI_CAL_FullArray"]) as (frame, image):
        seen = float(plate.used["PLT_X"]) > 0
        place = tuple(
            float(plate.used[f"PLT_{c}"] if seen else pointing.used[f"LOC_{c}"]) for c in "XY"
        )
        smeared = smeared_columns(
            frame.shape[1], frame, seconds, pointing, psf, stars, smearing, (place[0], place[1])
        )
        if smeared is not None:
            image -= smeared
        sky, _ = sky_surface(image)
        bad = specks(image - sky, settings.seed, settings.neighbour)
        image[bad] = np.nan
        sky, _ = sky_surface(
            image
        )  # once more: in the SAA a quarter of the pixels is hit, which lifts the medians
        image -= sky
        own = {
            "FA_SKY": float(np.median(sky)),
            "FA_SLOPE": float(np.ptp(sky)),
            "FA_BAD": int(bad.sum()),
        }
        header = frame.image.header
        used = {
            **{k: header[k] for k in USED if k in header},
            **pointing.used,
            **plate.used,
            **stars.used,
            **own,
        }
        declared = with_keywords(soc_structure("SCI_COR_FullArray"), used)
        done, absent = str(Status.COMPLETED), str(Status.NOT_APPLICABLE)
        states = {
            **{k: str(v) for k, v in (*pointing.status.items(), *stars.status.items())},
            "WCS": done,
            "SMEARING": done if smeared is not None else absent,
            **dict.fromkeys(
                ("BKGSL_W", "BKGSL_C", "BDPIX_D1", "BDPIX_D3", "BDPIX_C1", "BDPIX_C3"), done
            ),
        }
        keywords = {**visit_keywords(frame, declared), **states, **used, "BUNIT": "electrons"}
        x, y = np.array([place[0]]), np.array([place[1]])
        _, _, roll = read_track(pointing).path(
            float(frame.mjd[0]), frame.exposure_time, float(psf.used.get("PSF_LAG", 0.0))
        )
        turned = np.array(
            [float(np.mean(np.unwrap(roll, period=360.0))) + float(stars.used["STAR_ROL"])]
        )
        share = (
            float(smearing.used["SMEAR_TE"]) / float(smearing.used["SMEAR_T"])
            if smeared is not None
            else 0.0
        )
        row = smeared if smeared is not None else np.zeros(frame.shape[1])
        intended = float(pointing.used["LOC_X"]), float(pointing.used["LOC_Y"])
        with FitsWriter(new_file("SCI_COR_FullArray")) as writer:
            past = history([calibrated, pointing, psf, stars, smearing, plate])
            writer.write(NewHdu(declared, keywords, pixels=image, history=past))
            writer.write(
                centroid_table(frame, x, y, np.array([0 if seen else 1], np.uint8), intended)
            )
            coordinates = sky_coordinates(frame, x, y, turned, float(stars.used["STAR_SCL"]))
            writer.write(image_metadata(frame, "SCI_COR_ImageMetadata", coordinates))
            for name, values in (
                ("SCI_COR_SmearingRow", row),
                ("SCI_COR_SmearingRowError", share * row),
            ):
                structure = soc_structure(name)
                head = {**visit_keywords(frame, structure), "BUNIT": "electrons"}
                writer.write(NewHdu(structure, head, pixels=values[None, None, :]))
    return Leaves(written={"SCI_COR_FullArray": "SCI_COR_FullArray"}, used=own)
