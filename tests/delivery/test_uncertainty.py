"""The uncertainty of a calibrated pixel against what many draws of it scatter by, and against
stacks of a reduced visit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from tasks.delivery.published.uncertainty import (
    MEANINGS,
    FlatErrors,
    ReadOutErrors,
    ThermalErrors,
    calibrated_variances,
)
from tasks.numerics.geometry import circle_overlap
from tasks.photometry.apertures import edge_variance
from tests.conftest import raw_file
from tests.support.runs import Bench

DRAWS = 40_000

# what the pixel is, and what each term is wrong by
PIXEL = {"exposures": 3, "ron": 3.5, "gain": 0.514, "thermal": 20.0, "flat": 0.95}

WRONG = {"BIAS": 0.4, "GAIN": 0.001, "DARK": 3.0, "FLAT": 0.004}


def drawn(electrons: float, only: str) -> Any:
    """Return draws of a calibrated stack of so many electrons whose only error is one."""
    draw = np.random.default_rng(7)
    n, g, q, f = PIXEL["exposures"], PIXEL["gain"], PIXEL["thermal"], PIXEL["flat"]

    def error(name: str) -> Any:
        return draw.normal(0, WRONG[name], DRAWS) if only == name else 0.0

    mean = electrons * f + n * q
    collected = draw.poisson(mean, DRAWS) if only == "PHOTONS" else mean
    noise = draw.normal(0, PIXEL["ron"] * np.sqrt(n), DRAWS) if only == "READ_OUT" else 0.0
    adu = collected * g + noise
    return ((adu - n * error("BIAS")) / (g + error("GAIN")) - n * (q + error("DARK"))) / (
        f + error("FLAT")
    )


def formal(electrons: float, only: str) -> float:
    wrong = {name: value if only == name else 0.0 for name, value in WRONG.items()}
    variances = calibrated_variances(
        electrons,
        int(PIXEL["exposures"]),
        ReadOutErrors(PIXEL["ron"], wrong["BIAS"], PIXEL["gain"], wrong["GAIN"]),
        ThermalErrors(PIXEL["thermal"], wrong["DARK"], 0.0),
        FlatErrors(PIXEL["flat"], wrong["FLAT"]),
    )
    assert list(variances) == list(MEANINGS)
    assert all(v > 0 for v in variances.values()) == (only == "all")
    return float(variances[only])


@pytest.mark.parametrize("electrons", [0.0, 50_000.0])
@pytest.mark.parametrize("term", list(MEANINGS))
def test_each_term_is_the_scatter_of_many_draws(electrons: float, term: str) -> None:
    # A variance of 40 000 draws is known to 0.7 %. The gain's error also moves the thermal charge,
    # 1e-3 of the stack's.
    scatter = np.var(drawn(electrons, term))
    if electrons == 0.0 and term in ("GAIN", "FLAT"):
        assert formal(electrons, term) == 0.0
        assert scatter < 0.1  # of the thermal charge
    else:
        assert formal(electrons, term) == pytest.approx(scatter, rel=0.025)


def test_what_the_dark_frames_were_scaled_by_counts_with_the_charge() -> None:
    variances = calibrated_variances(
        0.0,
        3,
        ReadOutErrors(0.0, 0.0, 0.5, 0.0),
        ThermalErrors([0.0, 100.0], 0.0, 0.02),
        FlatErrors(1.0, 0.0),
    )
    np.testing.assert_allclose(variances["DARK"], [0.0, (3 * 100 * 0.02) ** 2])


def test_the_pixels_of_a_visit_scatter_as_is_told(reduced: Bench) -> None:
    # Sky pixels from stack to stack, by the median of their differences: hits have no say. Their
    # scatter is known to 0.6 %. Close to the star the field turns slowly: further out faint stars
    # that pass add up to 8 %, here 2 %.
    (folder,) = reduced.published()
    cube = fits.getdata(raw_file(folder, "SCI_CAL_SubArray"), "SCI_CAL_SubArray").astype(float)
    bias, gain = (fits.getdata(folder / f"terms/{t}.fits", 1) for t in ("bias", "gain"))
    charge, flat = (fits.getdata(folder / f"terms/{t}.fits", 1) for t in ("dark", "flat"))
    y, x = np.indices(cube.shape[1:])
    away = np.hypot(x - 100, y - 100)
    sky = (away > 45) & (away < 55) & (charge < np.median(charge) * 1.5)
    expected = np.mean(
        [
            sum(
                calibrated_variances(
                    np.median(image[sky]),
                    3,
                    ReadOutErrors(float(b["RON"]), 0.0, float(g["GAIN"]), 0.0),
                    ThermalErrors(charge[sky], 0.0, 0.0),
                    FlatErrors(flat[sky], 0.0),
                ).values()
            )
            for image, b, g in zip(cube, bias, gain, strict=True)
        ],
        axis=0,
    )
    steps = np.diff(cube[:, sky], axis=0)
    steps -= np.median(steps, axis=1)[:, None]
    scatter = 1.4826 * np.median(np.abs(steps / np.sqrt(2 * expected)))
    assert scatter == pytest.approx(1.0, abs=0.04)


def test_an_edge_that_moves_over_errors_that_stand_still() -> None:
    draw = np.random.default_rng(1)
    x, y = 50.3 + 0.3 * draw.standard_normal(200), 50.1 + 0.2 * draw.standard_normal(200)
    shares = np.stack(
        [circle_overlap((100, 100), a, b, 25.0).ravel() for a, b in zip(x, y, strict=True)]
    )
    fluxes = shares @ draw.normal(0, 2.0, (100 * 100, 1000))
    expected = edge_variance(
        np.full((100, 100), 2.0), 50.3, 50.1, (float(np.std(x)), float(np.std(y))), [25.0]
    )
    # a thousand variances of two modes each are known to 3 %; that shares change in proportion
    # holds to 10 %
    assert np.mean(np.var(fluxes, axis=0)) == pytest.approx(expected[0], rel=0.13)
