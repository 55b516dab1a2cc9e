"""Contamination: the light of field stars within the apertures, relative to the target's.

The field is drawn for every image, rotated with the satellite, and summed within the same circles
as the target. Its error is that of the fluxes of the field stars, measured or expected.
"""

from __future__ import annotations

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import DEFAULT_RADIUS, RADII
from schemas.payloads import Apertures, Contamination, Corrected, Scene
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.photometry.apertures import aperture_sums
from tasks.scene.star_model import read_psf
from tasks.scene.stars import Field, read_field
from tasks.scene.track import read_track
from tasks.visit.images import Images, open_images
from tasks.visit.terms import PositionTerm, read_apertures, read_position


@step(
    "contamination", "CONTAMIN", version="7", payload=Contamination, leaves=["TERM_CONTAMINATION"]
)
def estimate_contamination(corrected: Corrected, scene: Scene, apertures: Apertures) -> Leaves:
    """Estimate the share of field stars' light in every aperture of every image."""
    assert scene.position is not None
    position, flux = read_position(scene.position), read_apertures(apertures).flux
    known = scene.has_psf
    with open_images(corrected.products["SCI_COR_SubArray"]) as images:
        model = read_psf(scene.psf, scene.psf_use.radius)
        field = read_field(scene.stars, model, read_track(scene.pointing))
        sums, doubts = (np.zeros((images.count, len(RADII))) for _ in range(2))
        if known and len(field.flux):
            sums = field_sums(field, images, position)
            doubts = field_sums(field.of_errors(scene.stars), images, position)
        mjd = images.mjd
    measured = np.isfinite(flux).all(axis=1) & np.isfinite(position.x) & np.isfinite(position.y)
    ratio, error = np.zeros_like(sums), np.zeros_like(sums)
    if measured.any():
        # the measured flux includes the field stars
        own = np.median(flux[measured], axis=0) - np.median(sums[measured], axis=0)
        lit = own > 0
        ratio[:, lit], error[:, lit] = sums[:, lit] / own[lit], doubts[:, lit] / own[lit]
    warnings = [] if known else ["there is no PSF of the visit: contamination is assumed to be 0"]
    usual = ratio[measured, RADII.index(DEFAULT_RADIUS)]
    used = {"CONTA_25": float(np.median(usual)) if measured.any() else 0.0}
    table = NewHdu(
        TERMS["TERM_CONTAMINATION"], used, columns={"MJD_TIME": mjd, "RATIO": ratio, "ERROR": error}
    )
    return Leaves({"TERM_CONTAMINATION": [table]}, used=used, warnings=warnings)


def field_sums(field: Field, images: Images, position: PositionTerm) -> FloatArray:
    """Return the light of field stars within the apertures, shape (n, radii) [electron].

    It is 0 in images without a position of the target.
    """
    duration = field.track.span(images.nexp, images.exposure_time)
    sums = np.zeros((images.count, len(RADII)))
    for i in range(images.count):
        x, y = float(position.x[i]) - images.x_offset, float(position.y[i]) - images.y_offset
        if np.isfinite(x) and np.isfinite(y):
            rows, columns = (reached(p, n) for p, n in zip((y, x), images.shape, strict=True))
            x, y, shape = x - columns.start, y - rows.start, (len(rows), len(columns))
            drawn = field.image(shape, x, y, float(images.mjd[i]), duration)
            sums[i] = aperture_sums(drawn[None], [x], [y])[0][0]
    return sums


def reached(place: float, count: int) -> range:
    """Return which of `count` pixels along an axis the apertures around a place reach."""
    first, last = place - max(RADII), place + max(RADII)
    return range(min(max(int(first), 0), count - 1), max(min(int(last) + 1, count), 1))
