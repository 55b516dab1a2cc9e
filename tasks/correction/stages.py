"""Effect of each correction on the light curve within one circle around the star.

The corrections are applied one at a time, by the function that also writes the corrected images.
The result is used by the report only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import CORRECTION_STAGES, DEFAULT_RADIUS
from schemas.payloads import CorrectionStages, Defects, Look, Product, Removed
from schemas.terms import TERMS
from tasks.correction.hits import COSMIC, FROM_MODEL, HIGH_STATE, IN_IMAGETTE, POSSIBLE
from tasks.engine.step import Leaves, step
from tasks.files.writer import NewHdu
from tasks.numerics.geometry import circle_sums
from tasks.visit.clean import Effects, Hits, clean_block, hits_of, read_effects
from tasks.visit.images import open_images
from tasks.visit.terms import look_places, read_defect_list

# Corrections in the order in which they are applied: column, and members of `Effects`.
ORDER: dict[str, tuple[str, ...]] = {
    "SMEARING": ("smearing",),
    "STATIC": ("static",),
    "TELEGRAPHIC": ("hits",),
    "DEAD": ("hits",),
    "COSMIC_RAYS": ("hits",),
    "BACKGROUND": ("background", "slope", "centre"),
}
KINDS = {
    "TELEGRAPHIC": (HIGH_STATE,),
    "DEAD": (FROM_MODEL,),
    "COSMIC_RAYS": (COSMIC, POSSIBLE, IN_IMAGETTE),
}


def one_by_one(effects: Effects, hits: Mapping[str, Hits]) -> list[Effects]:
    """Return the effects one at a time, in the order in which they are subtracted.

    Unknown effects do nothing.

    Parameters
    ----------
    effects : Effects
        All of them.
    hits : mapping
        Pixels of single images, by the stage in which they are subtracted.
    """
    single = []
    for stage, parts in ORDER.items():
        known = {part: getattr(effects, part) for part in parts}
        if "hits" in known:
            known["hits"] = hits.get(stage)
        single.append(Effects(**{"background": np.zeros_like(effects.background), **known}))
    return single


def stages(
    images: FloatArray,
    block: slice,
    effects: Sequence[Effects],
    x: FloatArray,
    y: FloatArray,
    radius: float,
) -> FloatArray:
    """Sum a block of images within a circle, before and after each correction, shape (n, k + 1).

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Calibrated images, which are corrected in place [electron per stack].
    block : slice
        Their indices in the visit.
    effects : sequence of Effects, k
        Effects to subtract one after the other, of all images of the visit; see `one_by_one`.
    x, y : ndarray, shape (n,)
        Centres in the window, pixel i spans [i, i+1) [pixel].
    radius : float
        Radius of the circle [pixel].
    """
    sums = [circle_sums(images, x, y, radius)]
    for effect in effects:
        clean_block(images, block, effect)
        sums.append(circle_sums(images, x, y, radius))
    return np.stack(sums, axis=1)


def hits_by_stage(term: Defects, count: int, shape: tuple[int, int]) -> dict[str, Hits]:
    """Return the corrected pixels of single images, by the stage of their correction."""
    image, x, y, amount, kind = read_defect_list(term)
    hits = {}
    for stage, kinds in KINDS.items():
        of = np.isin(kind, kinds)
        hits[stage] = hits_of(count, shape, image[of], x[of], y[of], amount[of])
    return hits


@step("correction_stages", version="4", payload=CorrectionStages, leaves=["TERM_COR_STAGES"])
def measure_correction_stages(calibrated: Product, look: Look, removed: Removed) -> Leaves:
    """Measure the light curve within one circle after each correction."""
    assert removed.defects is not None
    x, y = look_places(look)
    with open_images(calibrated) as images:
        known = read_effects(images, removed.background, removed.smearing, removed.defects)
        effects = one_by_one(known, hits_by_stage(removed.defects, images.count, images.shape))
        sums = np.empty((images.count, len(CORRECTION_STAGES)))
        for block, pixels in images.blocks():
            places = x[block] - images.x_offset, y[block] - images.y_offset
            sums[block] = stages(pixels, block, effects, *places, DEFAULT_RADIUS)
        columns = {"MJD_TIME": images.mjd, **dict(zip(CORRECTION_STAGES, sums.T, strict=True))}
    return Leaves({"TERM_COR_STAGES": [NewHdu(TERMS["TERM_COR_STAGES"], columns=columns)]})
