"""Noise of light curves from flight: the statistics, and the numbers in the page of validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.flight import Series, measure, read_detrended, read_series, read_star, row
from schemas import ROOT

PAGE = ROOT / "docs" / "validation.md"


def series(slow: float = 0.0) -> Series:
    """Return 10 h of 200 ppm of noise with a wave of 1.6 h and an outlier."""
    rng = np.random.default_rng(1)
    hours = np.arange(600) / 60
    flux = 1e6 * (1 + rng.normal(0, 200e-6, 600) + slow * np.sin(2 * np.pi * hours / 1.6))
    flux[100] *= 1.1
    return Series(59000 + hours / 24, flux, np.full(600, 150.0))


def test_white_noise_has_a_beta_of_one() -> None:
    noise = measure(series())
    assert (noise.points, noise.formal) == (599, pytest.approx(150, rel=1e-3))
    assert noise.neighbours == pytest.approx(200, rel=0.1)  # 600 points: 5 %
    assert noise.means == pytest.approx(200 / np.sqrt(30), rel=0.1)
    assert noise.beta == pytest.approx(1, abs=0.35)  # 20 means: 16 %, less the running median


def test_a_wave_is_in_means_but_not_from_point_to_point() -> None:
    quiet, wavy = measure(series()), measure(series(500e-6))
    assert wavy.neighbours == pytest.approx(quiet.neighbours, rel=0.05)
    assert wavy.beta > 4 * quiet.beta


def test_the_page_has_the_noise_of_the_light_curves_from_flight(shared: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    paths = sorted((shared / "real" / "flight").glob("*SCI_COR_Lightcurve-DEFAULT_V*.fits"))
    if not paths:
        pytest.skip("the light curves from flight are not beside the repository")
    for path in paths:
        star = read_star(path)
        where = f"{star.name}, {star.magnitude:.2f} | {star.nexp} x {star.exptime:g} s"
        assert row(where, "flight, DEFAULT", measure(read_series(path))) in text
        assert row(where, "flight, DEFAULT, detrended", measure(read_detrended(path))) in text
