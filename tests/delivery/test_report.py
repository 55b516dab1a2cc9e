"""The report: rules of the verdict, what the page says, and that it says the same again in the same
bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ROOT
from schemas.errors import BusyError, MissingInputError, StorageError
from schemas.flags import PixelFlag, Quality
from schemas.light_curves import DEFAULT_RADIUS, FIXED, LIGHT_CURVES, OPTIMAL, PSF, RADII
from schemas.payloads import (
    Apertures,
    Background,
    Bias,
    Calibrated,
    CalibratedVisit,
    CalibrationStages,
    Contamination,
    Corrected,
    CorrectedVisit,
    Corrections,
    CorrectionStages,
    Dark,
    Defects,
    Events,
    Flat,
    FlatField,
    Gain,
    Housekeeping,
    Inventory,
    Leaf,
    LightCurves,
    Linearity,
    Look,
    MeasuredVisit,
    Pointing,
    Position,
    Prior,
    Product,
    Psf,
    PsfFit,
    QualityTerm,
    Reference,
    Scalar,
    Smearing,
    Spread,
    Stars,
    Status,
)
from schemas.products import Structure, soc_structure
from schemas.settings import PipelineSettings, ReportSettings
from schemas.terms import TERMS
from tasks.calibration.housekeeping import judge, judge_housekeeping, read_housekeeping
from tasks.delivery.report.drawing import draw_light_curve, drawing
from tasks.delivery.report.drawing import svg as as_svg
from tasks.delivery.report.figures import time_scales
from tasks.delivery.report.findings import FLAG_MAP, Picture
from tasks.delivery.report.pictures import show, stretch, thinned
from tasks.delivery.report.report import DATA, FIGURES, collect_report, svg, typeset_report
from tasks.delivery.report.scene import scene_of
from tasks.delivery.report.series import (
    Points,
    axis_limits,
    bin_medians,
    harmonics,
    ranks,
    relation,
    relative_flux,
    removed_variance,
    thin,
)
from tasks.delivery.report.sources import MOST_DEVIATIONS, changed_settings, gathered, sources
from tasks.delivery.report.summary import method_of
from tasks.delivery.report.tables import BIT_WORDS, ppm, removed_text, with_error
from tasks.delivery.report.typeset import make_pdf
from tasks.delivery.report.verdict import Evidence, verdict
from tasks.delivery.report.wording import figures, known, printable
from tasks.engine.run import STEPS as REGISTERED
from tasks.files import disk
from tasks.files.writer import NewHdu, write_fits
from tasks.visit.images import open_images
from tasks.visit.terms import term_column
from tests.conftest import raw_file
from tests.support.faults import fill_disk, raw_product
from tests.support.outside import needs_poppler
from tests.support.runs import STEPS, Bench

L = TypeVar("L", bound=Leaf)

Array = np.ndarray[Any, Any]

VISIT = "PR900001_TG000001"

FACTS = {
    "version": "V0001",
    "date": "2026-02-03T04:05:06",
    "software": "0.1.0",
    "folder": f"CH_{VISIT}_V0001",
}


@dataclass(frozen=True)
class Visit:
    """What the earlier stages hand on of a visit with `n` images; `ended` says how steps end other
    than completed.
    """

    n: int = 120
    event: Array | None = None
    quality: Array | None = None
    flux: Array | None = None
    header: Mapping[str, Scalar] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    ended: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fallbacks: Mapping[str, str] = field(default_factory=dict)

    def leaf(
        self,
        kind: type[L],
        step: str,
        *keywords: str,
        product: Product | None = None,
        **used: Scalar,
    ) -> L:
        status = dict.fromkeys(keywords, Status.COMPLETED)
        products = {} if product is None else {product.extname: product}
        return kind.model_validate(
            {
                "step": step,
                "products": products,
                "status": status,
                "used": used,
                **self.ended.get(step, {}),
            }
        )

    def arguments(
        self, folder: Path
    ) -> tuple[Inventory, CalibratedVisit, CorrectedVisit, MeasuredVisit, ReportSettings]:
        """Return what the step is called with; its products are written to `folder`."""
        folder.mkdir(exist_ok=True)
        mjd = 59000.0 + np.arange(self.n) / 1440
        images, sums, quality = (
            self.corrected(folder, mjd),
            self.sums(folder, mjd),
            self.judged(folder, mjd),
        )
        inventory = Inventory(
            visit=VISIT,
            obsid=7,
            target="HD 209458",
            arch_rev=0,
            proc_num=0,
            start="2020-05-31T00:00:00",
            images=self.n,
            subarray=images,
            attitude=images,
            deviations=("raw.fits: CHECKSUM is missing",) * 3,
            fallbacks=dict(self.fallbacks),
            references={
                "bias frame": Reference(
                    kind="bias frame", product=sums, valid_from="2019-01-01T00:00:00"
                )
            },
        )
        calibrated = CalibratedVisit(
            events=self.leaf(Events, "events", "FLAGGING", N_SAA=0),
            bias=self.leaf(Bias, "bias", "BIAS_RON", BIAS_SRC="BlankLeft", BIAS_LVL=610.123),
            gain=self.leaf(Gain, "gain", "ADU_CONV"),
            linearity=self.leaf(Linearity, "linearity", "ADU_CONV", LIN_DONE=False),
            spread=self.leaf(Spread, "spread", "ADU_CONV"),
            dark=self.leaf(Dark, "dark", "DARK"),
            flat=self.leaf(Flat, "flat", "FFIELD"),
            flat_field=self.leaf(FlatField, "flat_field"),
            subarray=self.leaf(Calibrated, "calibrate"),
        )
        corrected = CorrectedVisit(
            pointing=self.leaf(Pointing, "pointing", "JITTER"),
            prior=self.leaf(Prior, "prior"),
            look=self.leaf(Look, "look"),
            calibration_stages=self.leaf(CalibrationStages, "calibration_stages"),
            first_background=self.leaf(Background, "background_1"),
            first_psf=self.leaf(Psf, "psf_1"),
            first_stars=self.leaf(Stars, "stars_1"),
            stars=self.leaf(Stars, "stars", "CONTAMIN"),
            smearing=self.leaf(Smearing, "smearing", "SMEARING"),
            first_defects=self.leaf(Defects, "defects_1"),
            background=self.leaf(Background, "background", "BKGSL_W"),
            psf=self.leaf(Psf, "psf", "PSF_FIT"),
            position=self.leaf(Position, "position", "WCS"),
            defects=self.leaf(
                Defects, "defects", "BDPIX_D1", "BDPIX_D3", CR_PIX=412, CR_RATE=0.0572, HOT_PIX=17
            ),
            correction_stages=self.leaf(CorrectionStages, "correction_stages"),
            subarray=self.leaf(Corrected, "correct", "BKGSL_C", product=images),
            corrections=self.leaf(Corrections, "corrections"),
        )
        measured = MeasuredVisit(
            apertures=self.leaf(Apertures, "apertures", "APERTURE", product=sums),
            psf_fit=self.leaf(PsfFit, "psf_fit", "PSF_FIT"),
            contamination=self.leaf(Contamination, "contamination", "CONTAMIN", CONTA_25=0.0125),
            quality=self.leaf(QualityTerm, "quality", "LC_QUAL", product=quality),
            light_curves=self.leaf(LightCurves, "light_curves", "LC_CFG"),
        )
        return inventory, calibrated, corrected, measured, ReportSettings()

    def corrected(self, folder: Path, mjd: Array) -> Product:
        declared, table = soc_structure("SCI_COR_SubArray"), soc_structure("SCI_COR_ImageMetadata")
        values = {
            **neutral(declared),
            "BUNIT": "electrons",
            "SHAPE": "circular",
            "NEXP": 3,
            "EXPTIME": 20.0,
            "TARGNAME": "HD 209458",
            "SPECTYPE": "G0",
            "T_EFF": 6065,
            "MAG_G": 7.51,
            "PI_NAME": "A. Stronomer",
            "V_STRT_U": "2020-05-31T00:00:00.000000",
            "T_STRT_U": "2020-05-31T00:00:30.000000",
            "V_STOP_U": "2020-05-31T02:00:00.000000",
            **self.header,
        }
        columns = {c.name: np.full(self.n, "" if c.letter == "A" else 0) for c in table.columns}
        image = NewHdu(declared, values, pixels=np.zeros((self.n, 2, 3)))
        return write(
            folder, image, NewHdu(table, neutral(table), columns={**columns, "MJD_TIME": mjd})
        )

    def sums(self, folder: Path, mjd: Array) -> Product:
        default = (
            1e7 * (1 + 1e-4 * np.random.default_rng(3).normal(size=self.n))
            if self.flux is None
            else self.flux
        )
        flux = np.full(
            (self.n, len(RADII)), 4.0
        )  # so that only the radius of DEFAULT gives the numbers tested here
        flux[:, RADII.index(DEFAULT_RADIUS)] = default
        columns = {
            "MJD_TIME": mjd,
            "FLUX": flux,
            "AREA": flux,
            "DARK": flux,
            "SMEARING": flux,
            "HOT": flux,
            "FIXED": mjd,
            "FIXED_AREA": mjd,
            "X": mjd,
            "Y": mjd,
        }
        radii = NewHdu(TERMS["TERM_APERTURES_RADII"], columns={"RADIUS": np.array(RADII)})
        return write(folder, NewHdu(TERMS["TERM_APERTURES"], columns=columns), radii)

    def judged(self, folder: Path, mjd: Array) -> Product:
        none = np.zeros(self.n, dtype=np.int32)
        event, quality = (none if flags is None else flags for flags in (self.event, self.quality))
        columns = {
            "MJD_TIME": mjd,
            "BJD_TIME": mjd,
            "EVENT": event,
            "STATUS": none,
            "QUALITY": quality,
            "FLUXERR": np.ones((self.n, len(RADII))),
            "OPT_FLUX": mjd,
            "OPT_ERR": mjd,
            "FIXED_ERR": mjd,
            "PSF_FLUX": mjd,
            "PSF_ERR": mjd,
            "SAT_LIGHT_TIME": mjd,
            "SAT_LIGHT_RATE": mjd,
        }
        curves = [*LIGHT_CURVES, OPTIMAL, FIXED, PSF]
        values = {c.name: 100.0 for c in TERMS["TERM_METRICS"].columns} | {
            "N_GOOD": self.n,
            **self.metrics,
        }
        rows = {name: np.full(len(curves), value) for name, value in values.items()} | {
            "DATANAME": np.array(curves)
        }
        metrics = NewHdu(TERMS["TERM_METRICS"], columns=rows)
        used = {
            "RON_E": 7.0,
            "AP_OPT": 25.0,
            **dict.fromkeys(("LOST_SAA", "LOST_OCC", "LOST_STR", "N_GAP", "DRP_PPM"), 0),
        }
        variances = {
            c.name: np.full((self.n, len(RADII)), 4.0)
            for c in TERMS["TERM_ERRORS"].columns
            if c.size > 1
        }
        errors = NewHdu(TERMS["TERM_ERRORS"], columns={"MJD_TIME": mjd, **variances})
        return write(folder, NewHdu(TERMS["TERM_QUALITY"], used, columns=columns), metrics, errors)


def neutral(declared: Structure) -> dict[str, Scalar]:
    """Return what stands for nothing in every keyword without a default."""
    nothing: dict[str, Scalar] = {"string": "N/A", "utc": "1970-01-01T00:00:00", "boolean": False}
    return {k.name: nothing.get(k.type, 0) for k in declared.keywords.values() if k.default is None}


def write(folder: Path, *hdus: NewHdu) -> Product:
    extname = hdus[0].declared.extname
    path = folder / f"{extname}.fits"
    path.unlink(missing_ok=True)
    write_fits(path, hdus)
    return Product(path=str(path), sha256=disk.sha256(path), extname=extname)


def collect(visit: Visit, folder: Path) -> dict[str, Any]:
    """Return the JSON of a visit's report; it and the figure are left in `folder`."""
    made = collect_report.fn(*visit.arguments(folder))
    for name, data in made.blobs.items():
        (folder / name).write_bytes(data)
    return dict(json.loads(made.blobs[DATA]))


def typeset(visit: Visit, folder: Path, facts: Mapping[str, Any] = FACTS) -> Path:
    collect(visit, folder)
    typeset_report(folder, facts, folder / "report.pdf")
    return folder / "report.pdf"


def words(pdf: Path, *options: str) -> str:
    """Return the text of a PDF, runs of white space as one blank."""
    found = subprocess.run(
        ["pdftotext", "-layout", *options, pdf, "-"], capture_output=True, text=True, check=True
    ).stdout
    return " ".join(found.split())


def first_page(pdf: Path) -> str:
    """Return the text of the first page, which is whole: the second one begins with the
    introduction.
    """
    assert "Introduction This report tells" in words(pdf, "-f", "2", "-l", "2")
    return words(pdf, "-l", "1")


def pages(pdf: Path) -> int:
    found = subprocess.run(["pdfinfo", pdf], capture_output=True, text=True, check=True).stdout
    return int(found.split("Pages:")[1].split()[0])


def row(table: list[dict[str, Any]], label: str) -> dict[str, Any]:
    (found,) = (r for r in table if r["label"].startswith(label))
    return found


@pytest.fixture(scope="module")
def plain_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report of an uneventful visit."""
    folder = tmp_path_factory.mktemp("plain")
    typeset(Visit(), folder)
    return folder


GOOD = Evidence(visible=1000, good=990, scatter=110.0, error=100.0)


def test_an_uneventful_light_curve_is_good_and_the_reasons_say_why() -> None:
    found = verdict(GOOD)
    assert found.word == "good"
    assert "990 of 1000" in found.reasons[0]
    assert "1.10 times the formal error" in found.reasons[1]


@pytest.mark.parametrize(
    ("change", "word", "reason"),
    [
        ({"good": 900}, "good", "90%"),
        ({"good": 899}, "usable with care", "fewer than 90%"),
        ({"good": 500}, "usable with care", "fewer than 90%"),
        ({"good": 499}, "not usable", "fewer than 50%"),
        ({"visible": 30, "good": 30}, "good", "30 of 30"),
        ({"visible": 29, "good": 29}, "usable with care", "29 good points: fewer than 30"),
        ({"visible": 2, "good": 2}, "not usable", "2 good points: no scatter"),
        ({"visible": 1, "good": 1}, "not usable", "1 good point: no scatter"),
        ({"visible": 0, "good": 0}, "not usable", "0 of 0 points"),
        ({"scatter": 150.0}, "good", "1.50 times"),
        ({"scatter": 151.0}, "usable with care", "more than 1.5"),
        ({"scatter": 300.0}, "usable with care", "more than 1.5"),
        ({"scatter": 301.0}, "not usable", "more than 3"),
        ({"scatter": 49.0}, "usable with care", "less than 0.5"),
        ({"scatter": None}, "usable with care", "not known"),
        ({"error": None}, "usable with care", "not known"),
        ({"error": 0.0}, "usable with care", "not known"),
        ({"warned": ("dark", "flat")}, "usable with care", "steps with a warning: dark, flat"),
        ({"skipped": ("dark",)}, "usable with care", "steps skipped by a setting: dark"),
        ({"by_hand": ("flat",)}, "usable with care", "steps given by hand: flat"),
        ({"contamination": 0.05}, "good", "90"),
        (
            {"contamination": 0.051},
            "usable with care",
            "field stars give 5.10% of the target's light, more than 5%",
        ),
    ],
)
def test_each_rule_of_the_verdict_can_fail(change: dict[str, Any], word: str, reason: str) -> None:
    found = verdict(replace(GOOD, **change))
    assert found.word == word
    assert any(reason in r for r in found.reasons), found.reasons


def test_the_worst_rule_decides_and_all_that_speaks_against_is_said() -> None:
    found = verdict(replace(GOOD, good=950, scatter=400.0, warned=("dark",)))
    assert found.word == "not usable"
    assert len(found.reasons) == 2
    assert "more than 3" in found.reasons[0]


def test_every_rule_is_shown_with_its_bounds_and_the_worst_word_is_the_verdict() -> None:
    found = verdict(replace(GOOD, scatter=160.0, contamination=0.2, skipped=("dark", "flat")))
    assert [rule.name for rule in found.rules] == [
        "Good points",
        "Good, of those with the star in sight",
        "Scatter from point to point, over formal error",
        "Light of field stars, of the target's",
        "Steps with a warning",
        "Steps skipped",
        "Steps given by hand",
    ]
    against = [rule.name for rule in found.rules if rule.word != "good"]
    assert against == [found.rules[2].name, found.rules[3].name, "Steps skipped"]
    assert all(rule.goal and rule.limit and rule.found for rule in found.rules)
    assert found.sentence == "3 of 7 rules are not met"
    assert len(found.reasons) == 3
    assert verdict(GOOD).sentence == "all of 7 rules are met"
    assert verdict(replace(GOOD, scatter=160.0)).sentence == "1 of 7 rules is not met"


@given(
    st.builds(
        Evidence,
        visible=st.integers(0, 5000),
        good=st.integers(0, 5000),
        scatter=st.none() | st.floats(0, 1e6),
        error=st.none() | st.floats(0, 1e6),
        warned=st.lists(st.sampled_from(["dark", "flat"]), unique=True).map(tuple),
    )
)
def test_more_scatter_and_more_warnings_never_make_a_verdict_better(found: Evidence) -> None:
    order = ("good", "usable with care", "not usable")
    before = order.index(verdict(found).word)
    assert order.index(verdict(replace(found, warned=(*found.warned, "bias"))).word) >= before
    if found.scatter is not None and found.error and found.scatter > found.error:
        assert order.index(verdict(replace(found, scatter=10 * found.scatter)).word) >= before


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (610.15068, "610.2"),
        (0.04807265, "0.04807"),
        (121460.487946, "121460"),
        (1.5, "1.5"),
        (0.0, "0"),
        (-3.0, "-3"),
        (1e12, "1.000e+12"),
        (1e-9, "1.000e-09"),
        (241, "241"),
        (True, "yes"),
        (False, "no"),
        ("main", "main"),
    ],
)
def test_numbers_are_written_as_a_person_would(value: Scalar, shown: str) -> None:
    assert figures(value) == shown


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf"), ""])
def test_what_is_not_known_is_a_dash_with_a_reason(nothing: float | str | None) -> None:
    unknown = known("CDPP", nothing, "ppm", "the visit is shorter")
    assert (unknown.value, unknown.shown, unknown.reason) == (None, "–", "the visit is shorter")


@given(st.text())
def test_any_text_becomes_one_line_of_characters_that_can_be_typeset(text: str) -> None:
    shown = printable(text)
    assert len(shown) <= 80
    assert shown.isprintable()
    assert shown.encode("utf-16", "strict")  # no lone surrogates


def test_text_that_can_be_typeset_is_left_alone_and_long_text_is_cut() -> None:
    assert printable("55 Cnc e – 3 × 20 s, Zürich") == "55 Cnc e – 3 × 20 s, Zürich"
    assert printable("a\nb\u202e\u4e00") == "a\\nb\\u202e\\u4e00"
    assert printable("x" * 90) == "x" * 79 + "…"


def points(flux: Array, event: Array | None = None, quality: Array | None = None) -> Points:
    none = np.zeros(len(flux), dtype=np.int64)
    return Points(
        np.arange(len(flux)) / 60,
        flux,
        none if event is None else event,
        none if quality is None else quality,
    )


def test_flux_is_relative_to_the_median_of_good_points() -> None:
    relative = relative_flux(
        np.array([1.0, 2.0, 3.0, 1e9, np.nan]), np.array([True, True, True, False, False])
    )
    np.testing.assert_allclose(relative[:3], [-5e5, 0, 5e5])
    assert relative[3] > 1e14
    assert np.isnan(relative_flux(np.array([-1.0, -2.0]), np.array([True, True]))).all()


def test_bins_hold_medians_and_break_the_line_where_points_are_missing() -> None:
    hours = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 2.0, 2.1, 2.2])
    middles, medians = bin_medians(hours, np.array([1.0, 9.0, 2.0, 5.0, 6.0, 7.0, 8.0, 30.0]), 0.25)
    np.testing.assert_array_equal(middles, [0.125, 0.375, 2.125, 2.375])
    np.testing.assert_array_equal(
        medians, [2.0, np.nan, 8.0, np.nan]
    )  # [0.25, 0.5) holds only two points
    assert bin_medians(np.empty(0), np.empty(0), 0.25)[0].size == 0


@given(st.integers(0, 3000), st.integers(1, 500))
def test_thinning_keeps_both_ends_and_never_more_than_asked_for(count: int, most: int) -> None:
    kept = thin(count, most)
    assert len(kept) == min(count, most)
    if count and most > 1:
        assert (kept[0], kept[-1]) == (0, count - 1)


def test_a_single_spike_does_not_stretch_the_axis_but_a_transit_does() -> None:
    noise = 100 * np.random.default_rng(1).normal(size=500)
    spike, transit = noise.copy(), noise.copy()
    spike[100] = 1e5
    transit[200:300] -= 1e4
    low, high = axis_limits(spike)
    assert high < 2000
    assert low > -2000
    assert axis_limits(transit)[0] < -1e4


def test_flagged_points_have_another_shape_and_another_colour() -> None:
    flags = np.zeros(200, dtype=np.int64)
    flags[::10] = int(Quality.BACKGROUND)
    flux = 1e7 * (1 + 1e-4 * np.random.default_rng(2).normal(size=200))
    without, with_flags = (
        draw_light_curve(points(flux), 1000),
        draw_light_curve(points(flux, quality=flags), 1000),
    )
    assert b"#d55e00" not in without.lower()
    assert with_flags.lower().count(b"#d55e00") >= 20
    shapes = {line for line in with_flags.splitlines() if b"<path id=" in line}
    assert len(shapes) > len({line for line in without.splitlines() if b"<path id=" in line})


def test_no_more_points_are_drawn_than_the_setting_allows() -> None:
    flux = 1e7 * (1 + 1e-4 * np.random.default_rng(2).normal(size=5000))

    def drawn(most: int) -> int:
        return draw_light_curve(points(flux), most).count(b"<use")

    axes = drawn(1)
    assert drawn(401) - axes == pytest.approx(400, abs=5)  # ticks are drawn the same way


@pytest.mark.parametrize(
    "flux",
    [
        np.full(5, np.nan),
        np.array([1.0]),
        np.array([1.0, 2.0]),
        -np.ones(9),
        np.ones(9),
        np.full(9, np.inf),
    ],
    ids=["no number", "one point", "two points", "negative", "constant", "infinite"],
)
def test_a_light_curve_without_much_to_show_is_drawn_too(flux: Array) -> None:
    assert draw_light_curve(points(flux), 100).startswith(b"<?xml")


def test_the_figure_does_not_know_the_users_settings_of_matplotlib_nor_change_them() -> None:
    import matplotlib

    flux = 1e7 * (1 + 1e-4 * np.random.default_rng(2).normal(size=50))
    normal = draw_light_curve(points(flux), 100)
    with matplotlib.rc_context(
        {"axes.facecolor": "red", "lines.markersize": 40, "svg.hashsalt": "other", "font.size": 30}
    ):
        assert draw_light_curve(points(flux), 100) == normal
        assert matplotlib.rcParams["font.size"] == 30


def test_the_data_hold_what_the_page_shows_and_no_nan(tmp_path: Path) -> None:
    nothing = float("nan")
    found = collect(
        Visit(
            metrics={"CDPP_3H": nothing, "CDPP_30M": nothing, "MEDIAN": 4321.5},
            header={"MAG_G": 0.0},
        ),
        tmp_path,
    )
    text = (tmp_path / DATA).read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1) + "\n"
    assert row(found["metrics"], "Median flux")["value"] == 4321.5
    assert row(found["metrics"], "CDPP in 3 h") == {
        "label": "CDPP in 3 h",
        "value": None,
        "shown": "–",
        "unit": "",
        "reason": "the visit is shorter",
        "goal": "",
        "limit": "",
        "mark": "",
    }
    assert row(found["metrics"], "CDPP in 30 min")["reason"] == "too few good points"
    assert row(found["run"], "Magnitude")["reason"] == "the raw header does not say"
    assert row(found["run"], "Exposures")["shown"] == "3 × 20 s = 60 s"
    assert row(found["run"], "PI name")["shown"] == "A. Stronomer"
    assert found["references"] == ["bias frame 2019-01-01"]
    assert found["deviations"] == 3
    assert all(r["shown"] != "–" or r["reason"] for r in [*found["run"], *found["metrics"]])


def test_flags_are_counted_and_what_hides_the_star_is_not_held_against_the_light_curve(
    tmp_path: Path,
) -> None:
    event = np.zeros(200, dtype=np.int32)
    event[:20], event[20:60], event[60:64] = 1, 900, 200
    found = collect(Visit(n=200, event=event), tmp_path)
    assert row(found["metrics"], "Lost in the SAA")["shown"] == "10.0"
    assert row(found["metrics"], "Lost behind the Earth")["shown"] == "20.0"
    assert row(found["metrics"], "Stray light")["shown"] == "2.0"
    assert row(found["metrics"], "Good points")["shown"] == "136"
    assert row(found["metrics"], "Good, of those in sight")["shown"] == "97.1"
    assert found["verdict"]["word"] == "good"
    assert "136 of 140" in found["verdict"]["reasons"][0]


def test_conditions_that_nothing_tells_are_a_dash_and_not_zero(tmp_path: Path) -> None:
    found = collect(Visit(), tmp_path)
    assert (
        row(found["metrics"], "Lost in the SAA")["reason"] == "no visit constraints and no SAA map"
    )
    assert row(found["metrics"], "Stray light")["reason"] == "no limits are given"


def test_contamination_and_cosmic_rays_are_those_that_the_steps_found(tmp_path: Path) -> None:
    table = collect(Visit(), tmp_path)["metrics"]
    contamination = row(table, "Contamination")
    assert (contamination["value"], contamination["unit"]) == (1.25, "%")
    assert (row(table, "Cosmic rays")["shown"], row(table, "Cosmic rays")["unit"]) == (
        "0.0572",
        "pixels/s",
    )
    assert row(table, "Pixels with a steady excess")["value"] == 17


def test_what_steps_with_a_warning_found_is_a_dash_and_not_zero(tmp_path: Path) -> None:
    empty = {"status": {"CONTAMIN": "warning"}, "warnings": ["there is no star catalogue"]}
    blind = {
        "status": {"BDPIX_D1": "warning", "BDPIX_D3": "warning"},
        "warnings": ["there is no PSF"],
    }
    table = collect(Visit(ended={"stars": empty, "defects": blind}), tmp_path)["metrics"]
    assert row(table, "Contamination")["reason"] == "see stars below"
    assert row(table, "Cosmic rays")["reason"] == "see defects below"


def test_every_step_is_there_with_its_state_and_absent_ones_are_named(tmp_path: Path) -> None:
    ended: dict[str, dict[str, Any]] = {
        "dark": {"status": {"DARK": "warning"}, "warnings": ["only one dark frame"]},
        "flat": {"status": {"FFIELD": "skipped"}},
        "position": {"by_hand": ["TERM_POSITION"]},
        "look": {"warnings": ["no star was found"]},
    }
    found = collect(Visit(ended=ended), tmp_path)
    states = {s["step"]: s["state"] for s in found["steps"]}
    assert len(states) == 31
    assert (states["dark"], states["flat"], states["look"], states["bias"]) == (
        "warning",
        "skipped",
        "warning",
        "completed",
    )
    assert found["warnings"] == ["dark: only one dark frame", "look: no star was found"]
    assert any("(BDPIX_D2)" in a for a in found["absent_steps"])
    assert not any("DARK" in a or "SMEARING" in a or "METH_CFG" in a for a in found["absent_steps"])
    assert found["verdict"]["word"] == "usable with care"
    assert [r.split(":")[0] for r in found["verdict"]["reasons"]] == [
        "steps with a warning",
        "steps skipped by a setting",
        "steps given by hand",
    ]


def test_the_key_and_the_data_do_not_know_where_files_lie(tmp_path: Path) -> None:
    here, there = Visit().arguments(tmp_path / "here"), Visit().arguments(tmp_path / "there")
    assert here[0] != there[0]
    assert collect_report.key(here, {}) == collect_report.key(there, {})
    made = [collect_report.fn(*arguments).blobs for arguments in (here, there)]
    assert made[0] == made[1]
    assert not any(str(tmp_path).encode() in data for data in made[0].values())


def test_what_was_restored_from_a_manifest_gives_the_same_data(tmp_path: Path) -> None:
    arguments: Any = Visit(fallbacks={"orbit": "none", "angle limits": "zero"}).arguments(tmp_path)
    restored: Any = tuple(
        type(a).model_validate(json.loads(json.dumps(a.model_dump(mode="json"), sort_keys=True)))
        for a in arguments
    )
    assert list(restored[0].fallbacks) != list(arguments[0].fallbacks)
    assert collect_report.key(restored, {}) == collect_report.key(arguments, {})
    assert collect_report.fn(*restored).blobs == collect_report.fn(*arguments).blobs


@pytest.mark.parametrize("n", [1, 2])
def test_a_visit_of_one_or_two_images_has_a_report(n: int, tmp_path: Path) -> None:
    found = collect(Visit(n=n, metrics={"P2P_PPM": float("nan")}), tmp_path)
    assert found["verdict"]["word"] == "not usable"
    typeset_report(tmp_path, FACTS, tmp_path / "report.pdf")


def test_the_same_input_gives_the_same_bytes_in_another_process_place_and_language(
    plain_report: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, json; from pathlib import Path; from tests.test_report import *\n"
        "f = Path(sys.argv[1]); typeset(Visit(), f)\n"
        "print([hashlib.sha256((f / n).read_bytes()).hexdigest() for n in (DATA, *map(svg, "
        "FIGURES), 'report.pdf')])"
    )
    environment = {
        **os.environ,
        "TZ": "Asia/Kathmandu",
        "LANG": "tr_TR.UTF-8",
        "PYTHONHASHSEED": "7",
    }
    environment |= {
        "SOURCE_DATE_EPOCH": "1",
        "MPLCONFIGDIR": str(tmp_path / "none"),
        "MPLBACKEND": "pdf",
    }
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, tmp_path / "other"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    here = [
        hashlib.sha256((plain_report / n).read_bytes()).hexdigest()
        for n in (DATA, *map(svg, FIGURES), "report.pdf")
    ]
    assert ran.stdout.strip() == str(here)


def test_other_facts_give_other_bytes(plain_report: Path, tmp_path: Path) -> None:
    typeset_report(plain_report, {**FACTS, "version": "V0002"}, tmp_path / "two.pdf")
    assert (tmp_path / "two.pdf").read_bytes() != (plain_report / "report.pdf").read_bytes()


@needs_poppler
def test_the_first_page_says_what_was_found(plain_report: Path) -> None:
    text = first_page(plain_report / "report.pdf")
    for wanted in (
        "HD 209458",
        VISIT,
        "V0001",
        "good",
        "120 of 120 points",
        "relative flux [ppm]",
        "hours since the middle",
        "Light curve DEFAULT",
        "Magnitude G 7.51 mag",
        "G0, 6065 K",
        "A. Stronomer",
        "Good points 120 ≥",
        "The light curve is good: all of 7 rules are met.",
        "point to point 100 ppm ≤ 150 ≤ 300 met",
        "completed",
        "dead pixel detection (BDPIX_D2)",
        "bias frame 2019-01-01",
        "3, all listed in manifest.json",
        "2026-02-03T04:05:06",
    ):
        assert wanted in text, wanted


@needs_poppler
def test_the_pdf_is_tagged_has_a_title_and_no_script(plain_report: Path) -> None:
    found = subprocess.run(
        ["pdfinfo", plain_report / "report.pdf"], capture_output=True, text=True, check=True
    ).stdout
    facts = {
        name: value.strip()
        for name, _, value in (line.partition(":") for line in found.splitlines())
    }
    assert facts["Tagged"] == "yes"
    assert facts["JavaScript"] == "no"
    assert facts["Title"] == f"CHEOPS data reduction report: {VISIT} V0001"
    raw = (plain_report / "report.pdf").read_bytes()
    assert b"<pdfaid:part>2</pdfaid:part>" in raw
    assert b"<pdfuaid:part>1</pdfuaid:part>" in raw


HOSTILE = [
    '#read("/etc/passwd")',
    "<script>alert(1)</script>",
    "=cmd()|/C 'calc'!A0",
    "../../../etc/x $\\frac{1}{0}$ *b* _i_ @a",
]


@needs_poppler
def test_every_table_has_a_head_that_a_screen_reader_can_tell(whole_report: Path) -> None:
    told = subprocess.run(
        ["pdfinfo", "-struct", whole_report], capture_output=True, text=True, check=True
    ).stdout
    _, *tables = re.split(r"^ *Table\b", told, flags=re.MULTILINE)
    assert len(tables) >= 10
    assert [table[:200] for table in tables if not re.search(r"^ *TH\b", table, re.MULTILINE)] == []


@needs_poppler
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_header_strings_appear_as_text(text: str, tmp_path: Path) -> None:
    pdf = typeset(Visit(header={"TARGNAME": text, "PI_NAME": text}), tmp_path)
    assert first_page(pdf).count(" ".join(text.split())) == 3  # title, target name, PI
    assert (
        words(pdf).count(" ".join(text.split())[:20]) >= 7
    )  # introduction, headings of pages, target, PI
    assert "root:" not in words(pdf)


@needs_poppler
def test_hostile_facts_warnings_and_inventory_appear_as_text(tmp_path: Path) -> None:
    text = '#panic("x")\n2026 ERROR \u4e00 \x1b[31m'
    visit = Visit(
        ended={"dark": {"warnings": [text], "status": {"DARK": "warning"}}}, fallbacks={text: text}
    )
    pdf = typeset(visit, tmp_path, {**FACTS, "folder": text, "software": text})
    assert "\x1b" not in words(pdf)
    shown = first_page(pdf)
    assert shown.count('#panic("x")\\n2026 ERROR \\u4e00 \\x1b[31m') == 5


@needs_poppler
def test_the_first_page_stays_one_with_the_longest_names_and_thirty_warnings(
    tmp_path: Path,
) -> None:
    long = {"TARGNAME": "@" * 68, "PI_NAME": "M" * 68, "SPECTYPE": "Q" * 68}
    ended = {
        step: {
            "warnings": [
                f"warning number {i} of this step, {'which_has_much_to_say_' * 9}" for i in range(5)
            ],
            "by_hand": ["TERM_X"],
        }
        for step in ("events", "bias", "dark", "pointing", "look", "quality")
    }
    fallbacks = {
        f"kind number {i}": "what was done without it, in some more words" for i in range(20)
    }
    pdf = typeset(Visit(header=long, ended=ended, fallbacks=fallbacks), tmp_path)
    assert "... and 24 more in manifest.json" in first_page(pdf)
    assert first_page(pdf).count("@") == 2 * 68  # the title and the table, broken over lines
    # all warnings stand on the pages behind it
    assert all(
        f"{step}: warning number 4" in words(pdf)
        for step in ("events", "bias", "dark", "pointing", "look", "quality")
    )


SECTIONS = (
    "Introduction",
    "Verdict",
    "Run",
    "Light curves",
    "Metrics",
    "Noise",
    "Status",
    "Before and after each step",
    "Correlations",
    "Images",
    "Contamination",
    "Conditions",
    "Events",
    "Housekeeping",
    "Files",
)

# Table 2 of the report of 2017
METRICS_OF_2017 = (
    "Flux, median",
    "Flux, robust mean",
    "Flux of field stars",
    "Robust scatter",
    "MAD",
    "Scatter from point to point",
    "CDPP in 2.5 h",
    "CDPP in 6.5 h",
    "Contamination (ratio)",
    "Lost to the SAA",
    "Lost to occultation",
    "Lost to stray light",
    "Cosmic rays in",
    "Cosmic rays out of",
    "Hot pixels in",
    "Hot pixels out of",
    "Dead pixels in",
    "Dead pixels out of",
    "Telegraphic pixels in",
    "Telegraphic pixels out of",
)


@pytest.fixture(scope="module")
def whole_report(reduced: Bench) -> Path:
    """The report of the tiny visit as it was published."""
    (folder,) = reduced.published()
    (pdf,) = folder.glob("*.pdf")
    return pdf


@needs_poppler
@pytest.mark.parametrize("which", ["plain_report", "whole_report"])
def test_every_section_is_there_and_nothing_is_left_undone(
    which: str, request: pytest.FixtureRequest
) -> None:
    found: Path = request.getfixturevalue(which)
    text = words(found / "report.pdf" if found.is_dir() else found, "-f", "2")
    for number, section in enumerate(SECTIONS, 1):
        assert f" {number} {section} " in f" {text} ", section
    for label in METRICS_OF_2017:
        assert label in text, label
    for word in ("TODO", "nan", "NaN", "inf", "None", "none none"):
        assert f" {word} " not in text.replace(
            "Settings that differ from their defaults None.", ""
        ), word
    assert "\\mathdefault" not in text


@needs_poppler
def test_a_published_report_names_steps_files_and_noise(whole_report: Path, reduced: Bench) -> None:
    text = words(whole_report, "-f", "2")
    for step in STEPS[:-2]:  # all but viewer and report themselves
        assert f" {step} " in text, step
    for kind in ("SCI_RAW_SubArray", "SCI_RAW_Attitude", "SCI_RAW_Imagette", "MPS_PRE_Visits"):
        assert raw_file(reduced.visit, kind).name in text
    for stage in (
        "bias",
        "gain",
        "linearity",
        "dark",
        "flat field",
        "smearing",
        "hot pixels",
        "cosmic rays",
        "background",
    ):
        assert f" {stage} with" in text or f" {stage} " in text, stage
    assert "REF_APP_FlatFieldTeff" in text
    for panel in (
        "with the target",
        "without the target",
        "field stars, model",
        "residual to target and field",
        "photon limit",
    ):
        assert panel in text, panel
    assert "numba" in text
    assert whole_report.stat().st_size < 3e6


def test_all_texts_of_the_tables_can_be_typeset_and_rows_are_whole(tmp_path: Path) -> None:
    tables = collect(Visit(), tmp_path)["tables"]
    assert set(tables) == {
        "curves",
        "budget",
        "stages",
        "contamination",
        "neighbours",
        "housekeeping",
        "correlations",
        "conditions",
        "events",
        "quality",
    }
    for name, table in tables.items():
        assert table["rows"] or name in ("neighbours", "housekeeping")
        for line in (table["head"], *table["rows"]):
            assert len(line) == len(table["head"]) == len(table["numbers"])
            assert all(text == printable(text, 999) or "−" in text for text in line)


def test_what_the_defects_step_found_is_read_by_name(tmp_path: Path) -> None:
    used = {
        "CR_IN": 0.0123,
        "CR_OUT": 0.0456,
        "HOT_IN": 3,
        "HOT_OUT": 155,
        "DEAD_IN": 0,
        "DEAD_OUT": 2,
        "TELE_IN": 1,
    }
    table = collect(Visit(ended={"defects": {"used": used}}), tmp_path)["whole_metrics"]
    shown = {
        r["label"].removesuffix(" the target's aperture"): (r["shown"], r["unit"])
        for r in table
        if "aperture" in r["label"]
    }
    assert shown["Cosmic rays in"] == ("0.0123", "ppm/pixel/s")
    assert shown["Hot pixels out of"] == ("155", "pixels")
    assert shown["Dead pixels in"] == ("0", "pixels")
    assert shown["Telegraphic pixels out of"] == ("–", "")
    assert row(table, "Telegraphic pixels out of")["reason"] == "no step of this run measures it"
    blind = {"status": {"BDPIX_D1": "warning"}, "used": used}
    table = collect(Visit(ended={"defects": blind}), tmp_path)["whole_metrics"]
    assert row(table, "Hot pixels in")["reason"] == "see defects in the table of steps"


def test_lost_shares_are_those_of_event_and_quality_together(tmp_path: Path) -> None:
    event, quality = np.zeros(200, dtype=np.int32), np.zeros(200, dtype=np.int32)
    event[:20], event[20:60] = 1, 900
    quality[15:30] = int(Quality.SAA)  # five of them have the digit too
    table = collect(Visit(n=200, event=event, quality=quality), tmp_path)["whole_metrics"]
    assert row(table, "Lost to the SAA")["value"] == 0.15
    assert row(table, "Lost to occultation")["value"] == 0.2
    assert row(table, "Lost to stray light")["reason"] == "no limits are given"


def test_the_header_of_the_soc_stands_beside_our_numbers(tmp_path: Path) -> None:
    table = collect(
        Visit(metrics={"MAD": 321.4, "P2P_PPM": 123.4, "CDPP2_5": float("nan")}), tmp_path
    )["whole_metrics"]
    found = row(table, "Scatter from point to point")
    assert (found["shown"], found["keyword"], found["header"]) == ("123.4", "MAD", "321")
    assert (row(table, "CDPP in 3 h")["keyword"], row(table, "CDPP in 3 h")["header"]) == (
        "CDPP2_5",
        "–",
    )
    assert {r["keyword"] for r in table} == {"", *METRIC_KEYWORDS}


METRIC_KEYWORDS = ("MEDIAN", "ROBMEAN", "ROBSTD", "MAD", "P2PSTD", "CDPP2_5", "CDPP6_5", "VALIDPTS")


def test_events_and_quality_are_counted_by_their_codes(tmp_path: Path) -> None:
    event, quality = np.zeros(50, dtype=np.int32), np.zeros(50, dtype=np.int32)
    event[:3], event[3:7], quality[:9] = 100901, 200, int(Quality.BACKGROUND | Quality.SAA)
    tables = collect(Visit(n=50, event=event, quality=quality), tmp_path)["tables"]
    counts = {line[2]: line[3] for line in tables["events"]["rows"]}
    assert {code: count for code, count in counts.items() if count != "0"} == {
        "1": "3",
        "900": "3",
        "200": "4",
        "100000": "3",
    }
    bits = {line[1]: line[2] for line in tables["quality"]["rows"]}
    assert {name: count for name, count in bits.items() if count != "0"} == {
        "SAA": "9",
        "background": "9",
    }
    assert "43 of 50 images have 0" in tables["events"]["note"]


def test_the_error_is_taken_apart_into_its_terms(tmp_path: Path) -> None:
    # terms of 4 electron^2 each, on 1e7 electrons
    table = collect(Visit(flux=np.full(120, 1e7)), tmp_path)["tables"]["budget"]
    assert table["head"][2:] == ["R15", "R20", "R25", "R30", "R35", "R40", "variance [%]"]
    lines = {line[0]: [line[4], line[-1]] for line in table["rows"]}
    n = len(lines) - 2
    assert lines["star"] == ["0.200", f"{100 / n:.1f}"]
    assert lines["all"] == [f"{0.2 * np.sqrt(n):.3f}", "100.0"]
    assert lines["for comparison"] == ["0.200", ""]
    # 4 electrons of flux within the other radii
    assert table["rows"][0][2] == "500000"


@pytest.mark.parametrize(
    ("label", "metrics", "mag", "goal", "limit", "mark"),
    [
        ("Scatter from point to point", {"P2P_PPM": 151.0}, 7.5, "≤ 150", "≤ 300", "beyond goal"),
        ("Scatter from point to point", {"P2P_PPM": 301.0}, 7.5, "≤ 150", "≤ 300", "beyond limit"),
        ("CDPP in 6 h", {"CDPP_6H": 10.0}, 9.0, "≤ 10", "≤ 20", "met"),
        ("CDPP in 6 h", {"CDPP_6H": 21.0}, 9.0, "≤ 10", "≤ 20", "above"),
        ("CDPP in 3 h", {"CDPP_3H": 85.0}, 9.1, "", "≤ 85", "met"),
        ("CDPP in 3 h", {"CDPP_3H": 86.0}, 12.0, "", "≤ 85", "above"),
        ("CDPP in 3 h", {"CDPP_3H": 86.0}, 12.1, "", "", ""),
        ("CDPP in 6 h", {"CDPP_6H": 86.0}, 0.0, "", "", ""),
        ("Contamination within 25 pixels", {}, 7.5, "≤ 5", "", "met"),
        ("Good points", {}, 7.5, "≥ 30", "≥ 3", "met"),
        ("Steps with a warning", {}, 7.5, "0", "", "met"),
    ],
)
def test_a_key_number_is_held_against_its_goal_and_limit(
    label: str,
    metrics: dict[str, float],
    mag: float,
    goal: str,
    limit: str,
    mark: str,
    tmp_path: Path,
) -> None:
    found = row(collect(Visit(metrics=metrics, header={"MAG_G": mag}), tmp_path)["metrics"], label)
    assert (found["goal"], found["limit"], found["mark"]) == (goal, limit, mark)
    # what the mission asks of a quiet star is no part of the verdict
    assert mark != "above" or collect(Visit(metrics=metrics), tmp_path)["verdict"]["word"] == "good"


def test_every_bit_of_quality_has_a_meaning() -> None:
    assert set(BIT_WORDS) == set(Quality)


CCD = np.array([-45.0, -45.2, -44.0, -42.0, -50.0, np.nan])


def test_housekeeping_beyond_its_limits_is_counted() -> None:
    found = judge("HK_TEMP_FEE_CCD", "degC", CCD, (-46.0, -48.0), (-44.5, -43.0))
    # -44 is beyond the soft limit only, -42 and -50 beyond the hard ones, one is no number
    assert (found.beyond, found.missing) == ((1, 2), 1)
    assert (found.least, found.median, found.largest) == (-50.0, -45.0, -42.0)


def test_without_limits_and_with_a_hard_limit_within_the_soft_one_nothing_is_counted() -> None:
    for limits in ((), ((-48.0, -46.0), (-44.5, -43.0))):
        found = judge("HK_TEMP_FEE_CCD", "degC", CCD, *limits)
        assert not found.limited
        assert found.beyond == (0, 0)


def test_housekeeping_without_any_number_has_no_range() -> None:
    found = judge("thermFront_2", "degC", np.full(3, np.nan), (-1.0, -2.0), (1.0, 2.0))
    assert np.isnan([found.least, found.median, found.largest]).all()
    assert (found.beyond, found.missing) == ((0, 0), 3)


def test_the_step_reads_limits_with_and_without_the_prefix_and_its_term_is_shown(
    tiny_visit: Path, tmp_path: Path
) -> None:
    declared = soc_structure("REF_APP_Limits")
    columns = {
        "PARAM_NAME": np.array(["HK_TEMP_FEE_CCD", "VOLT_FEE_VOD", "thermAft_1"]),
        "STRUCT_NAME": np.array(["X"] * 3),
        "ACTIVE": np.array([True, True, False]),
        "LOWER_LIMIT": np.array([[-40.0, -41.0], [0.0, -1.0], [0.0, 0.0]]),
        "UPPER_LIMIT": np.array([[-30.0, -20.0], [99.0, 100.0], [0.0, 0.0]]),
    }
    product = write(tmp_path, NewHdu(declared, neutral(declared), columns=columns))
    limits = Reference(
        kind="housekeeping limits", product=product, valid_from="2015-01-01T00:00:00"
    )
    made = judge_housekeeping.fn(raw_product(raw_file(tiny_visit, "SCI_RAW_SubArray")), limits)
    term = write(tmp_path, *made.files["TERM_HOUSEKEEPING"])
    leaf = Housekeeping(step="housekeeping", products={"TERM_HOUSEKEEPING": term})
    found = {p.name: p for p in read_housekeeping(leaf)}
    # the CCD of the tiny visit is at -45 degC: 12 images
    assert (found["HK_TEMP_FEE_CCD"].beyond, found["HK_TEMP_FEE_CCD"].unit) == ((0, 12), "degC")
    assert (found["HK_VOLT_FEE_VOD"].beyond, found["HK_VOLT_FEE_VOD"].upper) == (
        (0, 0),
        (99.0, 100.0),
    )
    assert not found["HK_VOLT_FEE_VRD"].limited
    assert "thermAft_1" not in found
    inventory, calibrated, *others = Visit().arguments(tmp_path / "visit")
    blobs = collect_report.fn(
        inventory, calibrated.model_copy(update={"housekeeping": leaf}), *others
    ).blobs
    table = json.loads(blobs[DATA])["tables"]["housekeeping"]
    rows = {line[0]: line[5:] for line in table["rows"]}
    assert rows["HK_TEMP_FEE_CCD"] == ["−40 to −30", "−41 to −20", "0", "12", "0"]
    assert rows["HK_VOLT_FEE_VRD"] == ["–", "–", "–", "–", "0"]
    assert table["note"].startswith("Out of limits: HK_TEMP_FEE_CCD.")
    assert read_housekeeping(None) == ()


def test_neighbours_are_told_by_distance_angle_and_light(tmp_path: Path) -> None:
    columns = {
        "XI": np.array([0.0, 30.0, 0.0, 500.0]),
        "ETA": np.array([0.0, 40.0, -20.0, 0.0]),
        "MAG": np.array([9.0, 14.0, 12.0, 8.0]),
        "T_EFF": np.array([5000.0, 0.0, 4000.0, 4000.0]),
        "FLUX": np.array([1e7, 1e5, 6e5, 3e7]),
        "FLUXERR": np.array([1e3, 1e4, 2e4, 1e6]),
        "TARGET": np.array([True, False, False, False]),
    }
    used = {
        "N_STARS": 3,
        "STAR_FIT": 0,
        **dict.fromkeys(
            ("STAR_SCL", "STAR_ROL", "STAR_EPO", "STAR_AMP", "STAR_AMS", "STAR_COR"), 1.0
        ),
    }
    product = write(
        tmp_path, NewHdu(TERMS["TERM_STARS"], {**used, "STAR_BND": True}, columns=columns)
    )
    inventory, calibrated, corrected, *others = Visit().arguments(tmp_path / "visit")
    stars = corrected.stars.model_copy(update={"products": {"TERM_STARS": product}})
    made = collect_report.fn(
        inventory, calibrated, corrected.model_copy(update={"stars": stars}), *others
    )
    table = json.loads(made.blobs[DATA])["tables"]["neighbours"]
    # the brightest of those near come first; North over East: (30, 40) is atan(3 / 4), straight
    # South 180
    assert table["rows"] == [
        ["12.00", "4000", "20.0", "180", "6", "0.2"],
        ["14.00", "–", "50.0", "37", "1", "0.1"],
    ]
    assert "The brightest of 2 field stars within 130 arcsec" in table["note"]
    assert "1 others are drawn too" in table["note"]


def test_the_model_of_the_scene_leaves_noise_and_knows_the_targets_light(reduced: Bench) -> None:
    (folder,) = reduced.published()
    leaf: dict[str, Any] = {}
    for entry in json.loads((folder / "manifest.json").read_text())["steps"]:
        for product in entry["payload"]["products"].values():
            (place,) = reduced.work.glob(
                f"products/*/{entry['step']}-{entry['key'][:8]}*/{Path(product['path']).name}"
            )
            product["path"] = str(place)
        leaf[entry["step"]] = REGISTERED[entry["step"]].payload.model_validate(entry["payload"])
    calibrated = CalibratedVisit.model_construct(bias=leaf["bias"], gain=leaf["gain"])
    names = ("psf", "pointing", "position", "stars", "look", "background")
    corrected = CorrectedVisit.model_construct(**{name: leaf[name] for name in names})
    with open_images(leaf["correct"].products["SCI_COR_SubArray"]) as images:
        scene = scene_of(calibrated, corrected, images, 2)
        assert scene is not None
        target, field_stars, pull = scene
        image = images.take(2)
    (flux,) = term_column(leaf["psf_fit"].product, "TERM_PSF_FIT", "FLUX")
    # the same fit of the same image; the wings beyond the stamp are some per mille
    assert target.sum() == pytest.approx(flux[2], rel=0.01)
    y, x = np.indices(image.shape)
    near = np.hypot(x - 99.5, y - 99.5) < 25
    # some 2000 pixels of unit variance, more where the PSF of twelve images is not known better
    # than that
    assert 0.7 < 1.4826 * np.median(np.abs(pull[near])) < 2.0
    assert abs((image - target - field_stars)[near].sum()) < 0.005 * image[near].sum()
    blind = corrected.model_copy(
        update={"psf": leaf["psf"].model_copy(update={"used": {"PSF_N": 2}})}
    )
    with open_images(leaf["correct"].products["SCI_COR_SubArray"]) as images:
        assert scene_of(calibrated, blind, images, 2) is None


def test_a_flag_map_is_shown_with_its_codes_where_a_step_left_one(tmp_path: Path) -> None:
    arguments = Visit().arguments(tmp_path)
    declared, flags = soc_structure(FLAG_MAP), np.zeros((20, 30), dtype=np.uint16)
    flags[3, 4:7], flags[9, 9] = (
        int(PixelFlag.TELEGRAPHIC),
        int(PixelFlag.MAP_DEAD | PixelFlag.OUTSIDE),
    )
    product = write(tmp_path, NewHdu(declared, neutral(declared), pixels=flags))
    before = arguments[2]
    corrections = before.corrections.model_copy(update={"products": {FLAG_MAP: product}})
    made = collect_report.fn(
        *arguments[:2], before.model_copy(update={"corrections": corrections}), *arguments[3:]
    )
    shown = made.blobs[svg("maps")]
    assert b"flag map" in shown
    assert b"telegraphic: 3" in shown
    assert b"map dead: 1" in shown
    assert b"flag map" not in collect_report.fn(*arguments).blobs[svg("maps")]


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((4, 5), np.nan),
        np.zeros((4, 5)),
        np.full((4, 5), 7.0),
        -np.ones((1, 1)),
        np.array([[1e-30, 1e30]]),
    ],
    ids=["no number", "zeros", "constant", "one pixel", "wide"],
)
def test_an_image_without_much_to_show_is_drawn_too(pixels: Array) -> None:
    picture = Picture("static", "electron", pixels, (2.0, 2.0, 25.0))
    low, high, width = stretch(pixels)
    assert low < high
    assert width > 0
    with drawing(2.0, 2.0) as canvas:
        show(canvas.add_axes((0, 0, 0.9, 1)), picture, bar=canvas.add_axes((0.9, 0, 0.1, 1)))
        assert as_svg(canvas).startswith(b"<?xml")


def test_the_scale_of_an_image_shows_the_sky_and_the_brightest_pixel() -> None:
    sky = np.random.default_rng(4).normal(100, 5, (50, 50))
    sky[20, 20] = 9e4
    low, high, width = stretch(sky)
    assert 70 < low < 90
    assert high == 9e4
    assert width == pytest.approx(5, rel=0.1)  # a scatter of 2500 pixels is known to 2 percent


def test_coefficients_and_slope_of_four_points_worked_by_hand() -> None:
    # dx = -1.5, -0.5, 0.5, 1.5; dy = -2, 0, -1, 3: sums of products 7, of squares 5 and 14;
    # residual 14 - 49 / 5
    found = relation(np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0, 6.0]))
    assert found.pearson == pytest.approx(7 / np.sqrt(70))
    assert found.spearman == pytest.approx(0.8)
    assert found.slope == pytest.approx(1.4)
    assert found.slope_error == pytest.approx(np.sqrt(4.2 / 2 / 5))


def test_a_quantity_whose_squares_are_too_small_for_a_number_has_a_slope_all_the_same() -> None:
    found = relation(1e-200 * np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0, 6.0]))
    assert found.slope == pytest.approx(1.4e200)
    assert found.pearson == pytest.approx(7 / np.sqrt(70))


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    np.testing.assert_array_equal(ranks(np.array([5.0, 1.0, 5.0, 9.0])), [2.5, 1.0, 2.5, 4.0])


def test_what_a_step_removed_is_free_of_the_noise_that_both_stages_share() -> None:
    rng = np.random.default_rng(6)
    star, cosmic = 1000 * rng.normal(size=400), 30 * rng.normal(size=400)
    removed, error = removed_variance(star + cosmic, star)
    # 900 beside a shared variance of 1e6, of which two independent samples would differ by 1e5
    assert abs(removed - 900) < 4 * error
    assert 500 < error < 5000  # 2 x 30 x 1000 / sqrt(400) = 3000
    assert removed_variance(star, star + cosmic) == (-removed, error)
    assert removed_variance(star + 8, star) == pytest.approx(
        (0.0, 0.0), abs=1e-6
    )  # rounding of squares of 1e6


def test_a_single_outlier_is_no_dispersion_that_was_removed_and_two_points_tell_nothing() -> None:
    noise = np.random.default_rng(7).normal(size=100)
    hit = noise.copy()
    hit[50] = 1e6
    assert removed_variance(hit, noise)[0] == 0.0
    assert np.isnan(removed_variance(np.array([1.0, 2.0]), np.array([1.0, 2.0]))).all()


@pytest.mark.parametrize(
    ("after", "text"),
    [(0.0, "2000"), (1.0, "–"), (2.0, "−3464")],
    ids=["all of it", "nothing", "adds as much"],
)
def test_the_dispersion_a_step_removed_has_a_sign_and_a_dash_where_it_does_nothing(
    after: float, text: str
) -> None:
    before = np.tile([-2.0, 2.0], 50)  # of rms 2
    assert removed_text(before, after * before, after == 1.0, 1000.0) == text


def test_a_dispersion_within_its_error_is_an_upper_limit() -> None:
    rng = np.random.default_rng(8)
    shared = rng.normal(size=100)
    assert removed_text(shared + 1e-3 * rng.normal(size=100), shared, False, 1000.0).startswith(
        "< "
    )


def test_three_harmonics_are_found_with_half_of_their_range() -> None:
    angle = np.linspace(0, 359, 200)
    curve = harmonics(
        angle, 5 + 100 * np.cos(np.radians(angle)) + 10 * np.sin(np.radians(3 * angle))
    )
    np.testing.assert_allclose(curve.coefficients, [5, 100, 0, 0, 0, 0, 10], atol=1e-9)
    assert curve.amplitude == pytest.approx(100, abs=10)
    assert curve.error < 1e-9
    assert curve.at(np.array([0.0]))[0] == pytest.approx(105)
    assert np.isnan(harmonics(angle[:20], angle[:20]).amplitude)


def test_noise_alone_makes_a_curve_of_the_size_of_its_error() -> None:
    rng = np.random.default_rng(9)
    angle = rng.uniform(0, 360, 600)
    found = [harmonics(angle, 50 * rng.normal(size=600)) for _ in range(40)]
    rms = [np.std(curve.at(angle)) for curve in found]
    # the mean square of a curve is sigma^2 k / n, known from 40 curves of six coefficients to 9
    # percent
    assert np.sqrt(np.mean(np.square(rms))) == pytest.approx(
        np.mean([c.error for c in found]), rel=0.3
    )


def test_the_whole_ccd_is_shown_in_groups_of_pixels_and_the_window_with_it() -> None:
    pixels = np.arange(1024 * 1024, dtype=float).reshape(1024, 1024)
    small = thinned(Picture("ccd", "electron", pixels, frame=(412, 400, 200, 200)))
    assert small.pixels.shape == (256, 256)
    assert small.pixels[0, 0] == pixels[:4, :4].mean()
    assert small.frame == (103, 100, 50, 50)
    window = Picture("window", "electron", pixels[:200, :200])
    assert thinned(window) is window


@needs_poppler
def test_an_error_stands_behind_its_value(tmp_path: Path) -> None:
    visit = Visit(ended={"smearing": {"used": {"SMEAR_T": 2.5e-05, "SMEAR_TE": 5e-06}}})
    text = words(typeset(visit, tmp_path), "-f", "2")
    assert "time of one row shift 2.500e-05 ± 5.0e-06 s SMEAR_T" in text
    assert "SMEAR_TE" not in text


@pytest.mark.parametrize(
    ("x", "y"),
    [([1.0, 2.0], [1.0, 2.0]), ([1.0] * 9, range(9)), (range(9), [3.0] * 9), ([], [])],
    ids=["two points", "constant x", "constant y", "none"],
)
def test_what_does_not_vary_has_no_correlation(x: Any, y: Any) -> None:
    assert np.isnan(relation(np.array(x, dtype=float), np.array(y, dtype=float)).pearson)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=3, max_size=30))
def test_a_coefficient_lies_between_minus_and_plus_one_and_changes_sign_with_a_quantity(
    pairs: list[tuple[float, float]],
) -> None:
    x, y = np.array(pairs).T
    found, turned = relation(x, y), relation(-x, y)
    if np.isfinite(found.pearson):
        assert abs(found.pearson) <= 1 + 1e-6
        assert abs(found.spearman) <= 1 + 1e-6
        assert turned.pearson == pytest.approx(-found.pearson, abs=1e-6)


def test_windows_of_noise_reach_from_two_steps_to_half_of_the_visit() -> None:
    found = time_scales(1 / 60, 10.0)
    assert found[0] == pytest.approx(2 / 60)
    assert found[-1] == pytest.approx(5.0)
    assert (np.diff(found) > 0).all()
    assert time_scales(0.0, 10.0).size == time_scales(1.0, 3.0).size == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (319.4, "319"),
        (45.04, "45.0"),
        (0.1478, "0.148"),
        (-272526.3, "−272526"),
        (3e-10, "0"),
        (np.nan, "–"),
    ],
)
def test_parts_per_million_have_as_many_digits_as_mean_something(value: float, text: str) -> None:
    assert ppm(value) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (144.2, 103.4, "140 ± 100"),
        (-19.44, 21.3, "−19 ± 21"),
        (1.2649, 3.412, "1.3 ± 3.4"),
        (5.0, 0.0, "5.000 ± 0.000"),
        (np.nan, np.nan, "–"),
        (2e12, 3e11, "2e+12 ± 3e+11"),
    ],
)
def test_a_slope_has_the_digits_that_its_error_leaves(
    value: float, error: float, text: str
) -> None:
    assert with_error(value, error) == text


def test_sources_name_files_without_folders_and_what_differs_from_the_defaults(
    tmp_path: Path,
) -> None:
    inventory = Visit(fallbacks={"orbit": "none"}).arguments(tmp_path)[0]
    settings = PipelineSettings.model_validate({"dark": {"skip": True}}).model_dump(mode="json")
    found = sources(inventory, settings, {"numpy": "2.1"})
    assert found["settings"] == [["dark.skip", "True", "False"]]
    assert [line[0] for line in found["inputs"]] == ["raw sub-array", "attitude"]
    assert found["references"][0][1] == "TERM_APERTURES.fits"
    assert len(found["references"][0][2]) == 16
    assert str(tmp_path) not in json.dumps(found)
    assert changed_settings(PipelineSettings().model_dump(mode="json")) == []


@needs_poppler
def test_hostile_names_of_files_deviations_and_settings_appear_as_text(tmp_path: Path) -> None:
    text = '#panic("x") $x$ *b* @a <script>'
    inventory = Visit().arguments(tmp_path)[0]
    hostile = inventory.model_copy(
        update={
            "deviations": (f"{text}: HDU 1 X: {text}",),
            "subarray": inventory.subarray.model_copy(update={"path": f"/somewhere/{text}"}),
        }
    )
    given = sources(hostile, {"dark": {"skip": text}}, {text: text})
    shown = words(typeset(Visit(), tmp_path, {**FACTS, "sources": given}), "-f", "2")
    assert shown.count(text) == 6  # file, deviating file and how, setting, software and its version
    assert "somewhere" not in shown


def test_every_step_is_told_in_words() -> None:
    for name in STEPS:
        assert method_of(name).endswith("."), name
    assert method_of("no such step") == ""


def test_deviations_of_one_kind_share_a_line_and_too_many_are_counted() -> None:
    found = gathered(
        [
            "a.fits: HDU 1 X: no sum",
            "a.fits: HDU 2 Y: no sum",
            "a.fits: HDU 2 Y: BUNIT is missing",
            "odd name",
        ]
    )
    assert found["deviations"] == [
        ["a.fits", ["HDU 1, 2: no sum", "HDU 2: BUNIT is missing"]],
        ["", ["odd name"]],
    ]
    many = gathered(
        [f"a.fits: HDU 1 X: keyword K{i} is missing" for i in range(MOST_DEVIATIONS + 7)]
    )
    assert many["more_deviations"] == 7


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_that_is_none_cannot_be_typeset(
    name: str, plain_report: Path, tmp_path: Path
) -> None:
    for file in (DATA, *map(svg, FIGURES)):
        shutil.copy(plain_report / file, tmp_path)
    (tmp_path / svg(name)).write_bytes(b"<svg")
    with pytest.raises(RuntimeError, match=r"the report cannot be typeset: .*SVG"):
        typeset_report(tmp_path, FACTS, tmp_path / "report.pdf")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted((DATA, *map(svg, FIGURES)))


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"report\.json: no such file"):
        typeset_report(tmp_path, FACTS, tmp_path / "report.pdf")


@pytest.mark.parametrize("action", ["create", "write", "fsync", "rename"])
def test_a_full_disk_leaves_nothing_behind(
    action: str, plain_report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, action)
    with pytest.raises(StorageError, match="No space left on device"):
        typeset_report(plain_report, FACTS, tmp_path / "report.pdf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "place", ["{secret}", "/..{secret}", "/../../../../../..{secret}", "/proc/self/environ"]
)
def test_a_page_reads_nothing_from_the_disk(place: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.typ"
    secret.write_text("what nobody may read")
    for page in (f'#read("{place}")', f'#include "{place}"'):
        with pytest.raises(
            RuntimeError, match=r"failed to load file|would escape the project root"
        ):
            make_pdf({"main.typ": page.format(secret=secret).encode()})


def test_a_process_that_is_killed_while_a_page_is_set_leaves_nothing_beside_the_report(
    tmp_path: Path,
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -KILL $PPID\n")
    program.chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from tasks.delivery.pdf import write_pdf;"
        f"sys.executable = {str(program)!r}; write_pdf({{}}, "
        f"Path({str(tmp_path / 'report.pdf')!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9
    assert [p.name for p in tmp_path.iterdir()] == ["python"]


def test_nothing_is_left_beside_the_report(plain_report: Path, tmp_path: Path) -> None:
    typeset_report(plain_report, FACTS, tmp_path / "report.pdf")
    assert [p.name for p in tmp_path.iterdir()] == ["report.pdf"]


@pytest.mark.parametrize("end", ["exit 3", "kill -ABRT $$"])
def test_an_end_of_typst_for_want_of_memory_is_an_error_that_may_be_tried_again(
    end: str, plain_report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho memory allocation failed >&2\n{end}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(
        BusyError,
        match=r"not enough memory: typesetting ended with (3|-6): memory allocation failed",
    ):
        typeset_report(plain_report, FACTS, tmp_path / "report.pdf")
    assert [p.name for p in tmp_path.iterdir()] == ["python"]


def test_a_template_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="unclosed"):
        make_pdf({"main.typ": b"#let x = ("})
