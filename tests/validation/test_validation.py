"""The validation: scores of visits with known results, verdicts, the page, parts, a whole visit."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import flows.validate
from schemas.errors import UsageError
from schemas.flags import PixelFlag, Quality
from schemas.requests import ValidateRequest
from tasks.engine.child import start_python
from tasks.files import disk
from tasks.validation import budget, estimates, light_curves
from tasks.validation.claims import CLAIMS, Claim, Measure, judge, pooled
from tasks.validation.files import AbsentError, Facts, Part, Products, Truth
from tasks.validation.measure import measure_part
from tasks.validation.page import figures, page, summary
from tasks.validation.statistics import (
    Estimate,
    averages,
    bootstrapped,
    linear_fit,
    scatter,
    scatter_of_differences,
    share,
    within_windows,
)
from tests.conftest import Drp

MINUTE = 1 / 60  # [h]

FACTS = Facts(
    read_out_noise=3.5,
    transfer_time=25e-6,
    bias=627.6,
    pixel_scale=1.0,
    dark_seconds=np.full((60, 60), 20.0),
)


def test_scatter_and_its_error_are_those_of_many_trials() -> None:
    trials = np.random.default_rng(2).normal(size=(200, 300))
    found = bootstrapped(trials[0], scatter)
    # the median deviation of n normal points is known to 1.17 / sqrt(n); 0.3 of an error bar from
    # 200 resamples, three times
    assert found.error == pytest.approx(1.17 / np.sqrt(300), rel=0.3)
    assert np.std([scatter(t) for t in trials]) == pytest.approx(1.17 / np.sqrt(300), rel=0.15)
    assert np.mean([scatter(t) for t in trials]) == pytest.approx(1, abs=0.02)


def test_scatter_of_differences_is_that_of_the_points() -> None:
    noise = np.random.default_rng(3).normal(size=20_000)
    assert scatter_of_differences(np.diff(noise)) == pytest.approx(1, rel=0.03)  # three errors


def test_few_points_have_no_scatter() -> None:
    assert np.isnan(bootstrapped(np.zeros(3), scatter)).all()


def test_correlated_noise_has_a_larger_error_than_independent_points() -> None:
    steps = np.repeat(np.random.default_rng(4).normal(size=100), 10)
    alone = bootstrapped(np.random.default_rng(5).permutation(steps), scatter)
    assert bootstrapped(steps, scatter).error > 1.5 * alone.error


def test_a_share_of_all_of_few_points_is_uncertain() -> None:
    assert share(10, 10).value == 1
    assert share(10, 10).error == pytest.approx(np.sqrt(11 / 12 * 1 / 12 / 10))
    assert np.isnan(share(0, 0)).all()


def test_means_of_white_noise_fall_with_the_root_of_their_points() -> None:
    noise = np.random.default_rng(6).normal(size=6000)
    for found in averages(np.arange(6000) * MINUTE, noise, MINUTE):
        assert found.ratio.value == pytest.approx(1, abs=4 * found.ratio.error + 1e-3)
    hour = next(
        a for a in averages(np.arange(6000) * MINUTE, noise, MINUTE) if a.hours == pytest.approx(1)
    )
    assert hour.noise.value == pytest.approx(60**-0.5, abs=4 * hour.noise.error)


def test_slow_noise_shows_in_means_and_not_in_single_points() -> None:
    hours = np.arange(6000) * MINUTE
    noise = np.random.default_rng(7).normal(size=6000) + 0.5 * np.sin(2 * np.pi * hours / 17)
    found = {round(a.hours, 2): a.ratio.value for a in averages(hours, noise, MINUTE)}
    assert found[0.02] == pytest.approx(1)
    # a wave of amplitude 0.5 has rms 0.35 under 1 / sqrt(60): beta is 2.9 less what an hour smooths
    assert found[1.0] == pytest.approx(np.sqrt(1 + 60 * 0.125) / np.sqrt(1.125), rel=0.1)


def test_means_over_gaps_count_the_existing_points() -> None:
    kept = (np.arange(6000) // 45) % 2 == 0  # 45 minutes on, 45 off, as behind the Earth
    noise = np.random.default_rng(8).normal(size=6000)
    for found in averages((np.arange(6000) * MINUTE)[kept], noise[kept], MINUTE):
        assert found.ratio.value == pytest.approx(1, abs=4 * found.ratio.error + 1e-3)


def test_noise_in_windows_by_hand_and_of_a_visit_that_is_too_short() -> None:
    # windows of two have variances 0.02, 0.005 and 0: sqrt(0.025 / 3 / 2)
    assert within_windows(np.arange(4.0), np.array([1.1, 0.9, 1, 1]), 1.0, 2.0) == pytest.approx(
        np.sqrt(0.025 / 6)
    )
    assert np.isnan(within_windows(np.arange(4.0), np.ones(4), 1.0, 6.0))


def test_a_fit_without_enough_points_is_rejected() -> None:
    with pytest.raises(ValueError, match="fit of 2 coefficients has 2 points"):
        linear_fit([np.ones(2), np.arange(2.0)], np.ones(2))
    with pytest.raises(ValueError, match="linearly dependent"):
        linear_fit([np.ones(9), np.ones(9)], np.ones(9))


NOISE = Claim("noise", "", high=1.1, precision=0.03)


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (1.05, 0.02, "pass"),
        (1.11, 0.02, "pass"),
        (1.13, 0.02, "fail"),
        (1.05, 0.2, "open"),
        (1.3, 0.2, "open"),
        (2.0, 0.2, "fail"),
        (np.nan, np.nan, "open"),
        (1.05, np.nan, "open"),
    ],
)
def test_a_goal_is_reached_within_one_error_and_open_where_the_error_is_large(
    value: float, error: float, verdict: str
) -> None:
    assert judge(NOISE, Estimate(value, error)) == verdict


def test_a_shallow_transit_may_miss_by_two_of_its_errors() -> None:
    assert judge(CLAIMS["shallow"], Estimate(1.15, 0.1)) == "pass"
    assert judge(CLAIMS["shallow"], Estimate(0.75, 0.1)) == "fail"


def test_goals_are_stated_in_words() -> None:
    assert NOISE.goal == "at most 1.1"
    assert CLAIMS["used"].goal == "at least 0.9"
    assert CLAIMS["depth"].goal == "0.99 to 1.01"


def several(pool: Any, *rows: tuple[float, float, int]) -> tuple[Estimate, int]:
    return pooled(Claim("", "", pool=pool), [Measure("", "", *row) for row in rows])


def test_visits_are_combined_by_the_kind_of_claim() -> None:
    assert several("rms", (3.0, 0.3, 100), (4.0, 0.4, 300))[0].value == pytest.approx(
        np.sqrt((9 + 3 * 16) / 4)
    )
    assert several("rms", (3.0, 0.3, 100), (3.0, 0.3, 100))[0].error == pytest.approx(
        0.3 / np.sqrt(2)
    )
    assert several("mean", (1.0, 0.1, 9), (2.0, 0.2, 9))[0] == pytest.approx(
        (1.2, 0.2 / np.sqrt(5))
    )
    assert several("share", (1.0, 0.0, 10), (0.5, 0.0, 30))[0].value == pytest.approx(25 / 40)
    assert several("power", (-4.0, 10.0, 9), (12.0, 10.0, 9))[0].value == pytest.approx(2)
    assert several("rms", (np.nan, np.nan, 9))[1] == 0


def test_a_measure_survives_json() -> None:
    one = Measure("noise", "PSF", 1.2, np.nan, 7)
    again = Measure.from_json(json.loads(json.dumps(one.as_json())))
    assert (again.claim, again.of, again.value, again.points) == ("noise", "PSF", 1.2, 7)
    assert np.isnan(again.error)


N, SIZE, RADIUS = 400, 60, 25.0

SETTINGS: dict[str, Any] = {
    "images": N,
    "nexp": 3,
    "exptime": 20.0,
    "magnitude": 9.0,
    "noise": True,
    "transit": False,
    "light_curve": None,
    "radius_ratio": 0.0354,
    "imagettes": False,
    "imagette_nexp": 1,
    "window_x": 100,
    "window_y": 200,
    "cosmic_rays": 1.0,
    "hot": 1.0,
    "warm": 0.01,
    "telegraphic": 1.0,
    "dark": 1.0,
    "dark_error": 0.0,
    "smearing": 1.0,
    "stars": 0.0,
    "near_stars": 0,
}


class Visit:
    """A synthetic visit: truth and products as tables, which a test may change before writing."""

    def __init__(self) -> None:
        rng = np.random.default_rng(9)
        self.case = dict(SETTINGS)
        target, sky = np.full(N, 1e7), np.full(N, 160.0)
        noise = np.sqrt(
            1e7 + np.pi * RADIUS**2 * (160.0 + 3 * 49.0)
        )  # read-out noise of 7 electrons
        self.white = noise * rng.normal(size=N)
        time = 60000 + np.arange(N) / 1440
        self.stacks: dict[str, Any] = {
            "MJD_TIME": time,
            "FLUX": np.ones(N),
            "TARGET": target,
            "CENTROID_X": 130.0 + 0.3 * rng.normal(size=N),
            "CENTROID_Y": 230.0 + 0.3 * rng.normal(size=N),
            "GAIN": np.full(N, 0.5),
            "ROLL_ANGLE": (-3.6 * np.arange(N)) % 360,
            "BACKGROUND": sky,
            "SMEARING": np.full((N, SIZE), 1.0),
            "BIAS": np.full(N, 627.6),
            "SAA": np.arange(N) % 50 == 0,
            "OCCULTED": np.zeros(N, bool),
        }
        self.curve: dict[str, Any] = {
            "MJD_TIME": time,
            "FLUX": target + self.white,
            "FLUXERR": np.full(N, noise),
            "EVENT": 1 * (np.arange(N) % 50 == 0),
            "QUALITY": np.zeros(N, int),
            "CONTA_LC": np.zeros(N),
            "DARK": np.zeros(N),
        }
        level = 627.6 + 0.01 * rng.normal(size=N)
        wander = rng.normal(size=N)
        left = 3 * (627.6 - level) / 0.5  # of the bias, which the background takes
        self.terms: dict[str, dict[str, dict[str, Any]]] = {
            "quality": {"TERM_QUALITY": {"MJD_TIME": time, "EVENT": self.curve["EVENT"]}},
            "bias": {"TERM_BIAS": {"LEVEL": level, "LEVEL_ERR": np.full(N, 0.01)}},
            "gain": {"TERM_GAIN": {"GAIN": 0.5 * (1 + 5e-7 * rng.normal(size=N))}},
            "position": {
                "TERM_POSITION": {
                    **{
                        c: self.stacks[f"CENTROID_{c}"] + 0.3 + 0.001 * rng.normal(size=N)
                        for c in "XY"
                    },
                    "VALIDITY": np.zeros(N, int),
                }
            },
            "background": {
                "TERM_BACKGROUND": {
                    "LEVEL": sky + 9 + left + 0.1 * wander,
                    "LEVEL_ERR": np.full(N, 0.1),
                }
            },
            "defects": {
                "TERM_DEFECTS": {
                    "IMAGE_INDEX": [3, 4, 7],
                    "X": [5, 6, 30],
                    "Y": [8, 9, 30],
                    "KIND": [1, 1, 3],
                },
                "TERM_TELEGRAPHIC": {"X": np.array([10, 12]), "Y": np.array([20, 20])},
            },
        }
        self.terms["bias"]["TERM_BIAS"]["RON"] = 3.5 + 0.02 * rng.normal(size=N)
        self.cosmics = {
            "STACK": [3, 4, 5],
            "X": [5, 6, 7],
            "Y": [8, 9, 9],
            "CHARGE": [9e3, 9e3, 9e3],
        }
        jumps = (np.arange(N) // 20 % 2).astype(float)
        self.pixels = {
            "X": [110, 111, 115],
            "Y": [220, 220, 240],
            "KIND": [3, 3, 2],
            "RATE": [0.3, 0.3, 9.0],
            "LEVEL": [9.0, 9.0, 0.0],
        }
        self.telegraphic = np.stack([540 * jumps, 540 * jumps], axis=1)
        self.flags = np.zeros((SIZE, SIZE), int)
        self.flags[40, 15] = PixelFlag.HOT
        self.dark = np.full((SIZE, SIZE), 6.1)  # of an exposure, 20 s of 0.305 electron/s
        self.smearing = np.full((N, SIZE), 1.0)
        self.header = {"SMEAR_T": 25e-6, "SMEAR_TE": 1e-7}

    def write(self, folder: Path) -> Part:
        visit, products = folder / "visit", folder / "products"
        (visit / "truth").mkdir(parents=True)
        (products / "terms").mkdir(parents=True)
        (visit / "truth" / "case.json").write_text(json.dumps(self.case))
        tables = {
            "TRUTH_STACKS": self.stacks,
            "TRUTH_COSMICS": self.cosmics,
            "TRUTH_PIXELS": self.pixels,
        }
        hdus = [hdu(name, columns) for name, columns in tables.items()]
        images = {"TRUTH_TELEGRAPHIC": self.telegraphic, "TRUTH_DARK": np.full((SIZE, SIZE), 0.3)}
        hdus += [fits.ImageHDU(pixels, name=name) for name, pixels in images.items()]
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(visit / "truth" / "truth.fits")
        for step, terms in self.terms.items():
            hdus = [hdu(name, columns) for name, columns in terms.items()]
            if step == "bias":
                hdus[0].header["RON_ADU"] = 3.5
            if step == "background":
                hdus[0].header["RING_OUT"] = 97.0
            if step == "defects":
                hdus.append(fits.ImageHDU(self.flags, name="TERM_DEFECTS_FLAGS"))
            fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(products / "terms" / f"{step}.fits")
        for step, pixels in {"dark": self.dark, "smearing": self.smearing}.items():
            image = fits.ImageHDU(pixels, fits.Header(self.header), name=f"TERM_{step.upper()}")
            fits.HDUList([fits.PrimaryHDU(), image]).writeto(products / "terms" / f"{step}.fits")
        curve = hdu("SCI_COR_Lightcurve", self.curve)
        curve.header.update(AP_RADI=RADIUS, AP_TYPE="Moving", SMEARING="completed")
        fits.HDUList([fits.PrimaryHDU(), curve]).writeto(
            products / "CH_SCI_COR_Lightcurve-DEFAULT_V0000.fits"
        )
        cube = fits.ImageHDU(np.zeros((N, SIZE, SIZE)), name="SCI_COR_SubArray")
        fits.HDUList([fits.PrimaryHDU(), cube]).writeto(products / "CH_SCI_COR_SubArray_V0000.fits")
        return Part(Truth(visit), Products(products), FACTS)


def hdu(name: str, columns: dict[str, Any]) -> fits.BinTableHDU:
    """Return a table of 64-bit integers, floats and booleans."""
    made = []
    for column, values in columns.items():
        array = np.asarray(values)
        letter = {"f": "D", "i": "K", "b": "L"}[array.dtype.kind]
        made.append(
            fits.Column(column, f"{array.shape[1] if array.ndim > 1 else 1}{letter}", array=array)
        )
    return fits.BinTableHDU.from_columns(made, name=name)


def values(measures: list[Measure]) -> dict[str, float]:
    return {m.claim: m.value for m in measures}


def test_a_light_curve_at_the_photon_floor_scores_one(tmp_path: Path) -> None:
    part = Visit().write(tmp_path)
    found = values(
        [*light_curves.measure_noise(part, "DEFAULT"), *light_curves.measure_used(part, "DEFAULT")]
    )
    for claim in ("noise", "noise_neighbours", "honesty"):
        # 392 points: 1.17 / sqrt(392) is 6 %, of differences a little more; three times that
        assert found[claim] == pytest.approx(1, abs=0.2), claim
    assert found["used"] == 1
    assert found["outliers"] == 0


def test_noise_outliers_small_errors_and_lost_points_are_seen(tmp_path: Path) -> None:
    visit = Visit()
    visit.curve["FLUX"] = 1e7 + 2 * visit.white
    visit.curve["FLUX"][[11, 13]] *= 1.1
    visit.curve["QUALITY"][200:] = 1
    part = visit.write(tmp_path)
    found = values(
        [*light_curves.measure_noise(part, "DEFAULT"), *light_curves.measure_used(part, "DEFAULT")]
    )
    assert found["noise"] == pytest.approx(2, abs=0.5)
    assert found["honesty"] == pytest.approx(2, abs=0.5)
    assert found["used"] == pytest.approx(0.5, abs=0.01)
    assert found["outliers"] >= 2 / 196


def test_points_with_soft_flags_are_used_and_measured_apart(tmp_path: Path) -> None:
    visit = Visit()
    soft, grave = (
        {1: (100, Quality.STRAY_LIGHT), 2: (200_000, Quality.COSMIC_RAYS)},
        {3: (200, 0), 4: (0, Quality.BACKGROUND), 5: (10, 0)},
    )
    for flags in (soft, grave):
        for i, (event, quality) in flags.items():
            rows = np.arange(i, N, 50)
            visit.curve["EVENT"][rows], visit.curve["QUALITY"][rows] = event, int(quality)
            visit.curve["FLUX"][rows] += (
                3e-3 if flags is grave else 1e-3
            ) * 1e7  # 3 and 1 of some 1/1000
    visit.stacks["SPIKE"] = 100.0 * (np.arange(N) % 50 == 4)
    part = visit.write(tmp_path)
    curve = part.products.curve("DEFAULT")
    assert np.flatnonzero(curve.soft[:50]).tolist() == [1, 2]
    assert np.flatnonzero(~curve.used[:50]).tolist() == [0, 3, 4, 5]
    found = values(
        [*light_curves.measure_noise(part, "DEFAULT"), *light_curves.measure_used(part, "DEFAULT")]
    )
    assert found["used"] == pytest.approx(
        46 / 48, abs=1e-9
    )  # one of 50 is in the SAA, one has sudden light
    shift = 1e4 / visit.curve["FLUXERR"][0]
    # the mean square of 16 draws: a relative error of 1 / sqrt(32) of 1 beside the shift
    assert found["honesty_soft"] == pytest.approx(np.hypot(shift, 1), rel=3 / np.sqrt(16) / shift)
    assert "honesty_soft" not in values(
        light_curves.measure_noise(Visit().write(tmp_path / "quiet"), "DEFAULT")
    )


def test_an_empty_and_a_missing_light_curve_use_no_stacks(
    tmp_path: Path,
) -> None:
    visit = Visit()
    visit.curve["QUALITY"][:] = 1
    part = visit.write(tmp_path)
    with pytest.raises(AbsentError, match="DEFAULT has 0 used points, expected at least 4"):
        light_curves.measure_noise(part, "DEFAULT")
    for name in ("DEFAULT", "PSF"):
        (found,) = light_curves.measure_used(part, name)
        assert judge(CLAIMS["used"], Estimate(found.value, found.error)) == "fail"


def test_the_floor_by_hand() -> None:
    # 10 000 electrons, circle of radius 10 / sqrt(pi): 100 pixels of 20 + 3 x 10^2; 1000 of dark
    # current
    floor = light_curves.photon_floor(
        np.array([1e4]), np.array([20.0]), 1e3, 10.0, 3, 10 / np.sqrt(np.pi)
    )
    assert floor[0] == pytest.approx(np.sqrt(1e4 + 32e3 + 1e3) / 1e4)


def test_contamination_is_divided_out_of_a_circle(tmp_path: Path) -> None:
    visit = Visit()
    wave = 0.01 * np.cos(np.arange(N) / 9)
    visit.curve["FLUX"], visit.curve["CONTA_LC"] = visit.curve["FLUX"] * (1 + wave), wave
    assert values(light_curves.measure_noise(visit.write(tmp_path), "DEFAULT"))[
        "noise"
    ] == pytest.approx(1, abs=0.2)


def test_optimal_is_compared_with_the_quietest_and_with_default(tmp_path: Path) -> None:
    """Light curves with 0.9, 0.8 and 1.2 of the noise of DEFAULT, and some without points."""
    visit = Visit()
    part = visit.write(tmp_path)
    folder, plain = tmp_path / "products", "CH_SCI_COR_Lightcurve-DEFAULT_V0000.fits"
    for name, noise in (("OPTIMAL", 0.9), ("R20", 0.8), ("PSF", 1.2)):
        with fits.open(folder / plain) as file:
            file[1].data["FLUX"] = 1e7 + noise * visit.white
            file.writeto(folder / plain.replace("DEFAULT", name))
    found = values(light_curves.measure_choice(part))
    # the clipped points are the same but for the offset of the median
    assert found == pytest.approx({"optimal": 0.9 / 0.8, "optimal_default": 0.9}, rel=1e-3)
    assert judge(CLAIMS["optimal"], Estimate(found["optimal"], 0.01)) == "fail"
    assert judge(CLAIMS["optimal_default"], Estimate(found["optimal_default"], 0.01)) == "pass"


@pytest.mark.parametrize("known", [True, False])
def test_the_detrended_flux_is_compared_with_that_of_optimal(tmp_path: Path, known: bool) -> None:
    """With 0.98 of the noise; changes of the light of field stars are divided out once."""
    visit = Visit()
    wave = 0.01 * np.cos(np.arange(N) / 9)
    visit.curve |= {"CONTA_LC": wave, "FLUX": (1e7 + visit.white) * (1 + wave)}
    left = 1.0 if known else 1 + wave
    visit.curve["FLUX_DETRENDED"] = (1e7 + 0.98 * visit.white) * left
    part = visit.write(tmp_path)
    plain = tmp_path / "products" / "CH_SCI_COR_Lightcurve-DEFAULT_V0000.fits"
    with fits.open(plain) as file:
        file[1].header["DET_CON"] = known
        file.writeto(plain.with_name(plain.name.replace("DEFAULT", "OPTIMAL")))
    (found,) = light_curves.measure_detrended(part)
    assert found.value == pytest.approx(0.98, rel=1e-3)
    assert judge(CLAIMS["detrended"], Estimate(1.02, 0.005)) == "fail"


@pytest.mark.parametrize("depth", [1.0, 0.8])
def test_the_depth_of_a_transit_is_measured(tmp_path: Path, depth: float) -> None:
    visit = Visit()
    visit.case["transit"] = True
    box = 1e-3 * (np.abs(np.arange(N) - N / 2) < 60)
    visit.stacks["FLUX"] = 1 - box
    visit.stacks["TARGET"] = 1e7 * (1 - box)
    visit.curve["FLUX"] = 1e7 * (1 - depth * box) + visit.white
    (found,) = light_curves.measure_depth(visit.write(tmp_path), "DEFAULT")
    assert found.claim == "depth"  # 1253 ppm of 0.0354 squared is deep
    assert 0.01 < found.error < 0.1  # 330 ppm on 120 and 280 points, of 1000 ppm: 4 %
    assert found.value == pytest.approx(depth, abs=3 * found.error)


def test_a_wave_with_the_roll_angle_is_distinguished_from_noise(tmp_path: Path) -> None:
    visit = Visit()
    visit.curve["FLUX"] = visit.curve["FLUX"] * (
        1 + 400e-6 * np.cos(2 * np.radians(visit.stacks["ROLL_ANGLE"]) + 1)
    )
    found = {
        m.claim: m for m in light_curves.measure_correlations(visit.write(tmp_path), "DEFAULT")
    }
    assert np.sqrt(found["roll_2"].value) == pytest.approx(
        400, abs=75
    )  # error of a coefficient: 340 ppm sqrt(2 / 392), three
    for claim in ("roll_1", "roll_3", "with_position"):
        assert abs(found[claim].value) < 4 * found[claim].error


def test_exactness_is_the_rms_about_the_truth(tmp_path: Path) -> None:
    visit = Visit()
    visit.curve["FLUX"] = 0.97e7 * (
        1 + 5e-6 * np.where(np.arange(N) % 2, 1, -1)
    )  # a scale does not matter
    found = values(light_curves.measure_exactness(visit.write(tmp_path), "DEFAULT"))
    assert found["exact"] == pytest.approx(5, rel=0.01)


def test_cosmic_rays_are_scored_by_pixel(tmp_path: Path) -> None:
    visit = Visit()
    found = values(estimates.measure_cosmic_rays(visit.write(tmp_path / "one")))
    assert found == {
        "cosmic_recall": pytest.approx(2 / 3),
        "cosmic_purity": 1,
    }  # the dead pixel is no ray, the third is missed
    visit.cosmics["X"][1] = 50  # what was found in stack 4 is then none
    found = values(estimates.measure_cosmic_rays(visit.write(tmp_path / "other")))
    assert found == {"cosmic_recall": pytest.approx(1 / 3), "cosmic_purity": 0.5}


def test_hot_and_telegraphic_pixels_are_scored(tmp_path: Path) -> None:
    visit = Visit()
    part = visit.write(tmp_path / "one")
    assert values(estimates.measure_hot_pixels(part)) == {"hot_recall": 1, "hot_purity": 1}
    assert values(estimates.measure_telegraphic_pixels(part)) == {
        "telegraphic_recall": 0.5,
        "telegraphic_purity": 0.5,
    }
    visit.flags[:] = 0
    visit.flags[1, 1] = PixelFlag.HOT
    visit.telegraphic[:] = 0  # never in the high level: nobody can find them
    part = visit.write(tmp_path / "other")
    assert values(estimates.measure_hot_pixels(part)) == {"hot_recall": 0, "hot_purity": 0}
    assert values(estimates.measure_telegraphic_pixels(part)) == {"telegraphic_purity": 0.5}


def test_flags_are_scored_both_ways(tmp_path: Path) -> None:
    visit = Visit()
    found = values(estimates.measure_flags(visit.write(tmp_path / "one")))
    assert found == {"saa": 1, "saa_false": 0, "occultation_false": 0}
    visit.terms["quality"]["TERM_QUALITY"]["EVENT"] = np.where(np.arange(N) < 4, 900, 0)
    found = values(estimates.measure_flags(visit.write(tmp_path / "other")))
    assert found == {"saa": 0, "saa_false": 0, "occultation_false": 4 / N}


def test_spikes_and_gradients_are_scored_both_ways(tmp_path: Path) -> None:
    visit, place = Visit(), np.arange(N)
    visit.case["spikes"] = 3.0
    spike = np.where(np.isin(place, (10, 11, 12, 13)), 640.0, 0.0)
    spike[20] = 80.0  # sudden, but not much: it need not be flagged, and may be
    visit.stacks |= {
        "SPIKE": spike,
        "BACKGROUND": visit.stacks["BACKGROUND"] + spike,
        "SLOPE_Y": np.zeros(N),
    }
    visit.stacks["SLOPE_X"] = np.where(
        np.isin(place, (10, 11)), 2.0, 0.1
    )  # 2 x 2 x 97 and 19 of 169 electrons
    visit.terms["quality"]["TERM_QUALITY"]["QUALITY"] = np.where(
        np.isin(place, (10, 11, 12, 20, 30)), int(Quality.BACKGROUND), 0
    ) | np.where(place == 10, int(Quality.GRADIENT), 0)
    found = values(estimates.measure_spikes(visit.write(tmp_path / "one")))
    # three of four found; of five that were flagged four are; one gradient of two
    assert found == {
        "spike_recall": 0.75,
        "spike_purity": 0.8,
        "gradient_recall": 0.5,
        "gradient_purity": 1.0,
    }
    del visit.stacks["SPIKE"]
    with pytest.raises(AbsentError, match="the truth has no sudden stray light"):
        estimates.measure_spikes(visit.write(tmp_path / "other"))


def test_estimates_near_the_truth_score_their_errors(tmp_path: Path) -> None:
    part = Visit().write(tmp_path)
    found = values(
        [
            *estimates.measure_bias(part),
            *estimates.measure_gain(part),
            *estimates.measure_dark(part),
            *estimates.measure_background(part),
            *estimates.measure_position(part),
            *estimates.measure_smearing(part),
        ]
    )
    assert found["bias_drift"] == pytest.approx(0.01, rel=0.15)
    assert abs(found["bias_level"]) < 0.002
    assert found["read_out_noise"] == 1
    assert found["gain_drift"] == pytest.approx(0.5, rel=0.15)
    assert found["dark"] == pytest.approx(0.005)
    assert found["background"] == pytest.approx(1, abs=0.2)
    assert found["position"] == pytest.approx(0.001, rel=0.2)
    assert found["smearing_time"] == 1
    assert found["smearing_curve"] == 0


@pytest.mark.parametrize("left", [0.0, 0.1])
def test_the_uncorrected_rise_with_the_rows_is_measured(tmp_path: Path, left: float) -> None:
    visit = Visit()
    part = visit.write(tmp_path)
    wait = np.linspace(0.0, 10.0, SIZE)[:, None]
    seconds = 20.0 + wait + np.zeros((SIZE, SIZE))
    part = replace(part, facts=replace(part.facts, dark_seconds=seconds))
    true = part.truth.table("TRUTH_DARK").data.astype(float)
    term = part.products.term("dark", "TERM_DARK")
    term.data[:] = true * (seconds - left * (wait - 5.0)) + np.random.default_rng(2).normal(
        0, 1e-4, true.shape
    )
    (measure,) = estimates.measure_dark_gradient(part)
    assert measure.value == pytest.approx(left, abs=4 * measure.error)
    assert measure.error < 0.01


def test_wrong_smearing_is_measured_in_ppm_of_the_star(tmp_path: Path) -> None:
    visit = Visit()
    visit.smearing = 1.0 + 0.02 * np.where(np.arange(N) % 2, 1, -1)[:, None] * np.ones(SIZE)
    found = values(estimates.measure_smearing(visit.write(tmp_path)))
    assert found["smearing_curve"] == pytest.approx(0.02 * np.pi * RADIUS**2 / 1e7 * 1e6, rel=0.01)


def test_light_of_a_star_beside_the_circle() -> None:
    y, x = np.indices((200, 200)) - 99.5
    psf = np.exp(-(x**2 + y**2) / 2 / 4**2) / (2 * np.pi * 4**2)
    assert estimates.light_within(psf, 0.0, 0.0, 25.0) == pytest.approx(1, abs=1e-4)
    # the circle's edge cuts the star in halves; its curvature takes sigma / (2 R sqrt(2 pi)) = 3 %
    # away
    assert estimates.light_within(psf, 25.0, 0.0, 25.0) == pytest.approx(0.47, abs=0.01)


def test_missing_parts_of_the_truth_are_noted(tmp_path: Path) -> None:
    visit = Visit()
    visit.case |= {"stars": 38.0}
    found = measure_part(visit.write(tmp_path))
    assert {m["claim"] for m in found["measures"]} >= {
        "noise",
        "bias_drift",
        "cosmic_recall",
        "dark",
    }
    assert "contamination: the truth has no TRUTH_PSF" in found["notes"]
    assert (
        "noise of PSF: products has 0 files SCI_COR_Lightcurve-PSF_V, expected one"
        in found["notes"]
    )


def test_products_of_another_visit_are_not_measured(tmp_path: Path) -> None:
    visit = Visit()
    visit.terms["quality"]["TERM_QUALITY"]["MJD_TIME"] = visit.stacks["MJD_TIME"] + 1
    found = measure_part(visit.write(tmp_path))
    assert found["measures"] == []
    assert found["notes"] == [
        "nothing was measured: products and truth differ in time by 86400.0 s"
    ]


def test_a_missing_term_is_named(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match="the term of step stars was not published"):
        estimates.measure_field_stars(Visit().write(tmp_path))


def test_the_nearest_time_is_found() -> None:
    assert light_curves.nearest(
        np.array([0.0, 10.0, 20.0]), np.array([-5.0, 4.0, 6.0, 14.9, 99.0])
    ).tolist() == [0, 0, 1, 1, 2]


def test_the_naive_sum_is_that_of_the_star() -> None:
    images = np.full((2, 200, 200), 1000.0)
    images[:, 99:101, 99:101] += [[[50.0]], [[100.0]]]
    found = budget.naive_flux(images, 100.0, 100.0, 600.0, 0.5)
    np.testing.assert_allclose(found, [400, 800])


def test_an_effect_is_the_difference_from_the_visit_without_it() -> None:
    motion = 1e-3 * np.random.default_rng(10).normal(size=100)
    effect = 1e-5 * np.where(np.arange(100) % 2, 1, -1)
    ppm, points = budget.effect_ppm(
        [*(5 * (1 + motion + effect)), None], [*(3 * (1 + motion)), 3.0]
    )
    assert points == 100
    assert ppm == pytest.approx(10, rel=0.05)
    assert budget.effect_ppm([*(1 + motion)], None)[0] == pytest.approx(
        1e6 * motion.std(), rel=0.01
    )
    with pytest.raises(ValueError, match="3 stacks with the effect, but 2 without"):
        budget.effect_ppm([1.0, 1.0, 1.0], [1.0, 1.0])


@pytest.mark.parametrize("name", list(budget.EFFECTS))
def test_every_effect_can_be_simulated_and_reduced(name: str) -> None:
    from schemas.requests import make_settings
    from tasks.simulation.case import Case

    Case.model_validate(budget.case_settings(name))
    make_settings(budget.pipeline_settings(name))
    assert not budget.EFFECTS[name].over or budget.EFFECTS[name].over in budget.EFFECTS


def part_of(case: str, seed: int, noise: float, points: int = 4000) -> dict[str, Any]:
    measure = Measure("noise", "DEFAULT", noise, noise * 1.17 / np.sqrt(points), points)
    curve = [{"hours": h, "squares": 9.0, "freedom": 9.0, "white": 4.0} for h in (0.1, 1.0)]
    return {
        "case": case,
        "seed": seed,
        "measures": [measure.as_json()],
        "averaging": [{"of": "DEFAULT", "curve": curve}],
        "notes": ["smearing: absent"],
    }


EFFECT_PARTS = {
    "motion": {
        "series": {"before": [1.0, 1.1, 0.9], "DEFAULT": [1.0, 1.0, 1.0], "PSF": [1.0, None, 1.0]}
    },
    "zodiacal": {"series": {"before": [1.0, 1.1, 0.91], "DEFAULT": [1.0, 1.0, 1.00001]}},
    "dark": {"failed": "ValueError: no"},
}


def test_the_page_has_claims_budget_and_missing_measurements() -> None:
    result = summary(
        [part_of("demo", 1, 1.05), part_of("demo", 2, 1.07), part_of("faint", 1, 1.4)], EFFECT_PARTS
    )
    assert result["counts"] == {"pass": 1, "fail": 1, "open": 0}
    assert result["failed"] == 2  # one claim, and one visit that could not be reduced
    text = page(result, "1.0")
    assert (
        "| robust scatter over the photon floor | DEFAULT | at most 1.1 | 1.060 ± 0.014 | 8000 "
        "| pass |" in text
    )
    assert (
        "| faint | robust scatter over the photon floor | DEFAULT | at most 1.1 | 1.400 ± "
        "0.026 | 4000 | **FAIL** |" in text
    )
    assert "- demo, seed 1, 2: smearing: absent" in text
    assert "| zodiacal light |" in text
    assert "error budget, dark: could not be reduced: ValueError: no" in text
    assert "(figures/averaging-demo.svg)" in text
    json.dumps(result, allow_nan=False)


def test_the_first_table_has_a_row_for_each_case() -> None:
    part = part_of("demo", 1, 1.05)
    for claim, of, value in (
        ("noise", "OPTIMAL, detrended", 1.01),
        ("honesty", "DEFAULT", 1.2),
        ("background", "", 1.5),
    ):
        part["measures"].append(Measure(claim, of, value, 0.01, 4000).as_json())
    result = summary([part, part_of("faint", 1, 1.4, points=3000)], {})
    assert [r["case"] for r in result["cases"]] == ["demo", "faint"]
    text = page(result, "1.0")
    assert (
        "| demo | 1 | 4000 | 1.050 | — | — | 1.010 | 0.019 |  | 1.20 | 1.5 | scatter in units of "
        "FLUXERR; scatter of the background's error over its stated error |" in text
    )
    assert "| faint | 1 | 3000 | 1.400 | — | — | — | 0.030 |  |  | — | robust scatter" in text
    assert text.index("| demo | 1 |") < text.index("## Not met")


def test_every_measure_must_belong_to_a_claim() -> None:
    part = part_of("demo", 1, 1.05)
    part["measures"][0]["claim"] = "beauty"
    with pytest.raises(KeyError, match="beauty was measured, but is not a claim"):
        summary([part], {})


def test_figures_are_the_same_each_time_and_show_every_light_curve() -> None:
    result = summary([part_of("demo", 1, 1.05)], {})
    drawn = figures(result)
    assert list(drawn) == ["averaging-demo.svg"]
    assert b"DEFAULT" in drawn["averaging-demo.svg"]
    assert drawn == figures(result)
    assert result["averaging"][0]["curve"][0] == pytest.approx(
        {"hours": 0.1, "ppm": 1.0, "error": 1 / np.sqrt(18), "independent": 2 / 3}
    )


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace simulation and reduction with a quick stand-in; list the parts it is asked for."""
    done: list[str] = []

    def stand_in(work: flows.validate.Work, _folder: Path, _progress: Any) -> dict[str, Any]:
        done.append(work.label)
        return part_of(work.name, work.seed, 2.0 if work.name == "demo" else 1.0)

    monkeypatch.setattr(flows.validate, "measure", stand_in)
    return done


def test_parts_are_kept_until_code_settings_or_the_user_invalidate_them(
    counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ValidateRequest(cases=("tiny",), seeds=2, output=tmp_path)
    first = flows.validate.run_validation(request)
    assert counted == ["tiny, seed 1", "tiny, seed 2"]
    assert flows.validate.run_validation(request) == first
    assert len(counted) == 2
    flows.validate.run_validation(request.model_copy(update={"seeds": 3}))
    assert counted[2:] == ["tiny, seed 3"]
    flows.validate.run_validation(request.model_copy(update={"images": 13}))
    assert len(counted) == 5
    flows.validate.run_validation(request.model_copy(update={"images": 13, "again": True}))
    assert len(counted) == 7
    (tmp_path / "parts" / "tiny-1.json").write_text("{")
    flows.validate.run_validation(request.model_copy(update={"images": 13}))
    assert counted[7:] == ["tiny, seed 1"]
    monkeypatch.setattr(flows.validate, "code_digest", lambda: "other")
    flows.validate.run_validation(request.model_copy(update={"images": 13}))
    assert len(counted) == 10


def test_a_visit_that_cannot_be_reduced_is_a_result_and_is_retried(
    counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(work: flows.validate.Work, _folder: Path, _progress: Any) -> dict[str, Any]:
        counted.append(work.label)
        raise flows.validate.NotReducedError("NoScienceDataError: nothing left")

    monkeypatch.setattr(flows.validate, "measure", broken)
    request = ValidateRequest(cases=("tiny",), seeds=1, output=tmp_path)
    result = flows.validate.run_validation(request)
    assert result["failed"] == 1
    assert (
        "tiny, seed 1: could not be reduced: NoScienceDataError: nothing left"
        in (tmp_path / "validation.md").read_text()
    )
    flows.validate.run_validation(request)
    assert len(counted) == 2
    assert not list(tmp_path.glob(".part*"))


def test_scratch_folders_of_killed_runs_are_removed_and_those_of_living_ones_are_kept(
    counted: list[str], tmp_path: Path
) -> None:
    host = disk.process_label().split(".")[0]
    too_large = 2**22 + 1  # for the number of a process
    dead, living, elsewhere = (
        tmp_path / f".part.{name}.0123abcd"
        for name in (f"{host}.{too_large}", f"{host}.1", f"another{host}.{too_large}")
    )
    for folder in (dead, living, elsewhere):
        folder.mkdir()
    flows.validate.run_validation(ValidateRequest(cases=("tiny",), seeds=1, output=tmp_path))
    assert [p.exists() for p in (dead, living, elsewhere)] == [False, True, True]


def test_all_cases_and_the_budget_are_planned_with_enough_points(counted: list[str]) -> None:
    works = list(flows.validate.plan_parts(ValidateRequest()))
    assert not counted
    assert {w.name for w in works} >= {"demo", "budget"}
    assert "tiny" not in {w.name for w in works}
    assert [w.effect for w in works if w.name == "budget"] == list(budget.EFFECTS)
    assert sum(w.case.images for w in works if w.name == "demo") >= 5000


def test_shipped_cases_are_lengthened_and_bright_has_fewer_points(counted: list[str]) -> None:
    works = list(flows.validate.plan_parts(ValidateRequest(cases=("demo", "bright", "noiseless"))))
    images = {name: [w.case.images for w in works if w.name == name] for name in ("demo", "bright")}
    assert images == {"demo": [625] * 8, "bright": [625] * 4}
    assert [w.case.images for w in works if w.name == "noiseless"] == [100]
    short = ValidateRequest(cases=("demo",), images=40, seeds=2)
    assert [w.case.images for w in flows.validate.plan_parts(short)] == [40, 40]


def test_an_unknown_case_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(UsageError, match=r"unknown case 'nothing'; the cases are .*demo.*budget"):
        list(flows.validate.plan_parts(ValidateRequest(cases=("nothing",))))


@pytest.mark.parametrize(("case", "code"), [("tiny", 0), ("demo", 4)])
def test_a_failed_claim_sets_the_exit_code(
    counted: list[str],
    tmp_path: Path,
    case: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows.command import console
    from flows.command import main as cli

    ends: list[int] = []
    monkeypatch.setattr(console, "run_guarded", lambda body, *_: ends.append(body()))
    cli.main(
        ["validate", "--case", case, "--seeds", "2", "--output", str(tmp_path)],
        standalone_mode=False,
    )
    assert ends == [code]
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "validation.md")
    assert len(counted) == 2


@pytest.mark.slow
def test_a_small_visit_is_validated_end_to_end_and_its_part_is_kept(
    drp: Drp, tmp_path: Path
) -> None:
    run = drp("validate", "--case", "tiny", "--seeds", "1", "--output", tmp_path / "v", "--json")
    assert run.returncode in (0, 4), run.stderr
    result = json.loads(run.stdout)
    found = {r["claim"]: r for r in result["claims"] if r["of"] in ("", "DEFAULT")}
    assert 5 < found["noise"]["points"] <= 12  # field stars near the target cost some
    assert 0.5 < found["noise"]["reached"] < 3  # 12 points
    assert found["cosmic_recall"]["reached"] > 0.8
    assert found["saa_false"]["reached"] == 0
    again = drp("validate", "--case", "tiny", "--seeds", "1", "--output", tmp_path / "v")
    assert "tiny, seed 1: kept" in again.stderr
    assert again.returncode == run.returncode
    assert sorted(p.name for p in (tmp_path / "v").iterdir()) == [
        "figures",
        "parts",
        "validation.json",
        "validation.md",
    ]


@pytest.mark.slow
def test_several_at_a_time_give_the_same_results_in_the_same_order(
    drp: Drp, tmp_path: Path
) -> None:
    answers = [
        drp(
            *("validate", "--case", "tiny", "--seeds", "2", "--images", "6", "--json"),
            *("--jobs", jobs, "--output", tmp_path / jobs),
        )
        for jobs in ("1", "2")
    ]
    assert answers[0].stdout == answers[1].stdout
    assert json.loads(answers[0].stdout)["visits"] == 2
    one, two = ((tmp_path / jobs / "validation.md").read_bytes() for jobs in ("1", "2"))
    assert one == two


def test_parts_of_a_worker_that_died_are_done_here(
    counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*_arguments: Any, output: int, inherited: tuple[int, ...]) -> Any:
        os.read(inherited[0], 8)  # took a part
        return start_python(["-c", "raise SystemExit(1)"])

    monkeypatch.setattr(flows.validate, "start_python", dead)
    request = ValidateRequest(cases=("tiny",), seeds=3, jobs=2, output=tmp_path)
    result = flows.validate.run_validation(request)
    assert counted == ["tiny, seed 1", "tiny, seed 2", "tiny, seed 3"]
    assert result["visits"] == 3


@pytest.mark.slow
def test_an_effect_of_the_budget_is_simulated_and_reduced(tmp_path: Path) -> None:
    case = {**budget.case_settings("flat"), "images": 16}
    from tasks.simulation.case import Case

    work = flows.validate.Work("budget", Case.model_validate(case), 1, "flat")
    base = replace(
        work,
        case=Case.model_validate({**budget.case_settings("motion"), "images": 16}),
        effect="motion",
    )
    with_it, without = (
        flows.validate.measure(w, tmp_path / w.effect, lambda _text, _end: None)["series"]
        for w in (work, base)
    )
    before, after = (
        budget.effect_ppm(with_it[column], without[column])[0] for column in ("before", "DEFAULT")
    )
    # pixels of 0.6 % under a star that moves by 0.3 of them; the library's flat field takes most of
    # it away
    assert before > 5
    assert after < 0.5 * before
