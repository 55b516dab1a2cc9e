"""Contamination: the light of field stars within the apertures, relative to the target's.

The field is drawn for every image as the satellite turned, and summed within the same circles as
the target. Its error is that of the fluxes of the field stars, measured or expected.
"""

from __future__ import annotations

import numpy as np

from schemas.light_curves import RADII
from schemas.payloads import Apertures, Contamination, Corrected, Pointing, Position, Psf, Stars
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.photometry.apertures import aperture_sums
from tasks.scene.star_model import read_psf
from tasks.scene.stars import read_field
from tasks.scene.track import read_track
from tasks.visit.images import open_images
from tasks.visit.terms import term_column


@step(
    "contamination", "CONTAMIN", version="2", payload=Contamination, leaves=["TERM_CONTAMINATION"]
)
def estimate_contamination(
    corrected: Corrected,
    pointing: Pointing,
    psf: Psf,
    stars: Stars,
    position: Position,
    apertures: Apertures,
) -> Leaves:
    """Estimate the share of field stars' light in every aperture of every image."""
    x, y = term_column(position.product, "TERM_POSITION", "X", "Y")
    (flux,) = term_column(apertures.product, "TERM_APERTURES", "FLUX")
    known = int(psf.used.get("PSF_N", 0)) >= 3
    with open_images(corrected.products["SCI_COR_SubArray"]) as images:
        n, track = images.count, read_track(pointing)
        duration = track.span(images.nexp, images.exposure_time)
        sums, doubts = (np.zeros((n, len(RADII))) for _ in range(2))
        field = read_field(stars, read_psf(psf), track)
        doubtful = field.of_errors(stars)
        for i in range(n if known and len(field.flux) else 0):
            px, py = float(x[i]) - images.x_offset, float(y[i]) - images.y_offset
            if np.isfinite(px) and np.isfinite(py):
                drawn = field.image(images.shape, px, py, float(images.mjd[i]), duration)
                sums[i] = aperture_sums(drawn[None], [px], [py])[0][0]
                unsure = doubtful.image(images.shape, px, py, float(images.mjd[i]), duration)
                doubts[i] = aperture_sums(unsure[None], [px], [py])[0][0]
        mjd = images.mjd
    measured = np.isfinite(flux).all(axis=1) & np.isfinite(x) & np.isfinite(y)
    ratio, error = np.zeros_like(sums), np.zeros_like(sums)
    if measured.any():
        # the measured flux holds the field stars too
        own = np.median(flux[measured], axis=0) - np.median(sums[measured], axis=0)
        lit = own > 0
        ratio[:, lit], error[:, lit] = sums[:, lit] / own[lit], doubts[:, lit] / own[lit]
    warnings = [] if known else ["there is no PSF of the visit: contamination is taken to be none"]
    used = {
        "CONTA_25": float(np.median(ratio[measured, RADII.index(25.0)])) if measured.any() else 0.0
    }
    table = NewHdu(
        TERMS["TERM_CONTAMINATION"], used, columns={"MJD_TIME": mjd, "RATIO": ratio, "ERROR": error}
    )
    return Leaves({"TERM_CONTAMINATION": [table]}, used=used, warnings=warnings)
