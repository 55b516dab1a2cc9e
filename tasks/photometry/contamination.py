"""Contamination: the light of field stars within the apertures, relative to the target's.

The field of every image, rotated with the satellite, is summed within the same circles as the
target, minus what was subtracted with the sky. Its error is that of the fluxes of the field stars,
measured or expected, and that of the wings of the PSF, by which stars outside of a circle
contribute.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import DEFAULT_RADIUS, RADII, Radii
from schemas.payloads import Apertures, Background, Contamination, Corrected, Scene
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.robust import median_of_known
from tasks.scene.circles import Circles
from tasks.scene.prior import read_reference_psf
from tasks.scene.star_model import read_psf
from tasks.scene.stars import Field, read_field
from tasks.scene.track import read_track
from tasks.visit.images import Images, open_images
from tasks.visit.terms import PositionTerm, read_apertures, read_position


@step(
    "contamination", "CONTAMIN", version="10", payload=Contamination, leaves=["TERM_CONTAMINATION"]
)
def estimate_contamination(
    corrected: Corrected, scene: Scene, apertures: Apertures, background: Background
) -> Leaves:
    """Estimate the share of field stars' light in every aperture of every image."""
    assert scene.position is not None
    position, total = read_position(scene.position), read_apertures(apertures)
    flux, radii = total.flux, total.radii
    known = scene.has_psf
    with open_images(corrected.products["SCI_COR_SubArray"]) as images:
        model = read_psf(scene.psf, scene.psf_use.radius)
        field = read_field(scene.stars, model, read_track(scene.pointing))
        sums = errors = np.zeros((images.count, len(radii)))
        if known and len(field.flux):
            sums, errors = field_light(field, scene, images, position, background, radii)
        mjd = images.mjd
    always = flux[:, np.isin(radii, RADII)]
    measured = np.isfinite(always).all(axis=1) & np.isfinite(position.x) & np.isfinite(position.y)
    ratio, error = np.zeros_like(sums), np.zeros_like(sums)
    if measured.any():
        # the measured flux includes the field stars
        own = median_of_known(flux[measured]) - np.median(sums[measured], axis=0)
        lit = own > 0
        ratio[:, lit], error[:, lit] = sums[:, lit] / own[lit], errors[:, lit] / own[lit]
    warnings = [] if known else ["there is no PSF of the visit: contamination is assumed to be 0"]
    usual = ratio[measured, radii.index(DEFAULT_RADIUS)]
    used = {"CONTA_25": float(np.median(usual)) if measured.any() else 0.0}
    table = NewHdu(
        TERMS["TERM_CONTAMINATION"], used, columns={"MJD_TIME": mjd, "RATIO": ratio, "ERROR": error}
    )
    return Leaves({"TERM_CONTAMINATION": [table]}, used=used, warnings=warnings)


def field_light(
    field: Field,
    scene: Scene,
    images: Images,
    position: PositionTerm,
    background: Background,
    radii: Radii,
) -> tuple[FloatArray, FloatArray]:
    """Return light of field stars within the circles, and its error, (n, radii) [electron].

    Both are 0 in images without a position of the target.
    """
    duration = field.track.span(images.nexp, images.exposure_time)
    sky = float(background.used["BKG_STAR"])
    doubts = field.of_errors(scene.stars).flux
    circles = Circles.of(field.psf, read_reference_psf(scene.prior), radii)
    light, errors = np.zeros((2, images.count, len(radii)))
    for i in np.flatnonzero(np.isfinite(position.x) & np.isfinite(position.y)):
        light[i], errors[i] = circles.light(field, doubts, float(images.mjd[i]), duration, sky)
    return light, errors
