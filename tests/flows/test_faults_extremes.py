"""A saturated star in a window too small for the background ring: measured, flagged and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from schemas.flags import PixelFlag, Quality
from tasks.simulation.case import Case
from tasks.simulation.visit import simulate_visit
from tests.support.damage import flagged, manifest
from tests.support.faults import Bench, light_curve


def test_a_saturated_star_in_a_small_window_is_measured_and_flagged(tmp_path: Path) -> None:
    # magnitude 5 in 20 s: charge at the full well over hundreds of pixels, a third of the window
    case = Case(
        images=4,
        nexp=3,
        exptime=20.0,
        magnitude=5.0,
        teff=5900,
        transit=False,
        saa="never",
        imagettes=True,
        width=90,
        height=90,
    )
    simulate_visit(tmp_path / "visit", case, 7)
    bench = Bench(tmp_path / "visit", tmp_path)
    outcome = bench.published()
    rows, every = light_curve(outcome.folder), list(range(4))
    assert flagged(rows, Quality.SATURATED) == every
    assert flagged(rows, Quality.BACKGROUND) == every
    assert flagged(rows, Quality.UNUSABLE_IMAGE) == []
    assert np.isfinite(rows["FLUX"]).all()
    # the charge that bled is not lost, so that the points agree although they are not linear
    assert np.ptp(rows["FLUX"]) < 0.01 * rows["FLUX"].mean()
    warnings = " ".join(manifest(outcome)["warnings"])
    assert "the star is saturated in 4 of 4 images" in warnings
    assert "the window is too small for the background ring" in warnings
    (path,) = outcome.folder.glob("*PIP_COR_PixelFlagMapSubArray*.fits")
    flags = fits.getdata(path, 1)
    assert np.count_nonzero(flags & int(PixelFlag.SATURATED)) > 1000
    # nothing is found where the model of the star does not hold
    wrong = PixelFlag.HOT | PixelFlag.TELEGRAPHIC | PixelFlag.DEAD | PixelFlag.COSMIC_RAYS
    assert not (flags[(flags & int(PixelFlag.SATURATED)) != 0] & int(wrong)).any()
