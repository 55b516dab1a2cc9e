"""The viewer: it shows the published numbers, runs only its own scripts, and can be used."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from schemas import ROOT
from schemas.errors import MissingInputError, StorageError
from schemas.flags import Quality
from schemas.light_curves import LIGHT_CURVES
from schemas.products import PER_RADIUS
from schemas.settings import ViewerSettings
from schemas.terms import TERMS
from tasks.delivery.report.findings import Quantity, Stage, read_findings
from tasks.delivery.viewer import data as viewer_data
from tasks.delivery.viewer.data import ERROR_STEP, FLUX_STEP, image_points, pack, scaled
from tasks.delivery.viewer.page import (
    DATA,
    UPLOT,
    as_json,
    asset,
    collect_viewer,
    make_page,
    write_viewer,
)
from tasks.visit.images import open_images
from tests.support.browser import CHROMIUM, Browser
from tests.support.faults import fill_disk
from tests.support.runs import Bench
from tests.support.visit_report import VISIT, Visit

FACTS = {
    "version": "V0001",
    "date": "2026-02-03T04:05:06",
    "software": "0.1.0",
    "folder": f"CH_{VISIT}_V0001",
}

HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> & \u2028"

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (Debian package chromium)"
)


def collect(visit: Visit, folder: Path, settings: ViewerSettings | None = None) -> dict[str, Any]:
    """Return the data that the viewer shows of a visit; they are written to `folder`."""
    *arguments, _ = visit.arguments(folder)
    leaves = collect_viewer.fn(*arguments, settings or ViewerSettings())
    (folder / DATA).write_bytes(leaves.blobs[DATA])
    return dict(json.loads(leaves.blobs[DATA]))


def page_of(visit: Visit, folder: Path) -> Path:
    collect(visit, folder)
    write_viewer(folder, FACTS, folder / "viewer.html")
    return folder / "viewer.html"


def block(page: str, name: str) -> Any:
    """Return a JSON block of a page."""
    found = re.search(
        rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL
    )
    assert found is not None
    return json.loads(found[1])


def unpack(packed: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return the values of a packed series, as the page reads them."""
    width = int(packed["width"])
    raw = np.frombuffer(base64.b64decode(packed["data"]), np.uint8).reshape(-1, width)
    wide = np.zeros((len(raw), 8), np.uint8)
    wide[:, :width] = raw
    numbers = wide.view("<u8")[:, 0]
    values = scaled(numbers.astype(np.float64) + packed["first"], -packed["digits"])
    return np.where(numbers == 256**width - 1, np.nan, values)


def published_page(bench: Bench) -> Path:
    (folder,) = bench.published()
    (page,) = folder.glob("*.html")
    return page


@given(
    arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e8, 1e8)),
    st.sampled_from([1.0, 0.3, 0.01, 1e-4, 250.0]),
)
def test_a_series_is_unpacked_to_within_half_a_step(
    values: np.ndarray[Any, Any], step: float
) -> None:
    packed = pack(values, step)
    assert 10.0 ** -packed["digits"] <= step * (1 + 1e-9)
    # half a step, plus the rounding of a double of that size
    np.testing.assert_allclose(
        unpack(packed), values, rtol=1e-14, atol=0.5000001 * 10.0 ** -packed["digits"]
    )


@given(arrays(np.float64, st.integers(0, 20)), st.floats())
def test_any_series_is_packed_and_missing_values_stay_missing(
    values: np.ndarray[Any, Any], step: float
) -> None:
    known = np.isfinite(values)
    with np.errstate(all="ignore"):
        packed = pack(values, step)
        back = unpack(packed)
    json.dumps(packed, allow_nan=False)
    assert len(back) == len(values)
    assert not np.isfinite(back[~known]).any()


def test_a_series_takes_as_few_bytes_as_possible() -> None:
    widths = [
        pack(np.array([0.0, top]), 1.0)["width"]
        for top in (0, 254, 255, 65534, 65535, 2**24, 2**32)
    ]
    assert widths == [1, 1, 2, 2, 3, 4, 6]
    assert unpack(pack(np.array([7.25, np.nan, 7.75]), 0.01)).tolist()[0::2] == [7.25, 7.75]


def test_the_page_holds_every_light_curve_of_the_published_files(reduced: Bench) -> None:
    page = published_page(reduced)
    shown = block(page.read_text(), "data")
    files = sorted(page.parent.glob("*SCI_COR_Lightcurve-*.fits"))
    curves = {name: (part, c) for part in shown["sets"] for name, c in part["curves"].items()}
    assert {re.search(r"Lightcurve-(\w+)_V", f.name)[1] for f in files} == set(curves)  # type: ignore[index]
    for file in files:
        with fits.open(file) as opened:
            name, table = opened[1].header["DATANAME"], opened[1].data
            part, curve = curves[name]
            own = part["curves"][curve.get("same", name)]
            assert curve["radius"] == pytest.approx(opened[1].header["AP_RADI"])
            flux, error = table["FLUX"], table["FLUXERR"]
            np.testing.assert_allclose(
                unpack(own["flux"]), flux, rtol=0, atol=0.51 * FLUX_STEP * np.nanmedian(flux)
            )
            np.testing.assert_allclose(
                unpack(own["error"]), error, rtol=0, atol=0.51 * ERROR_STEP * np.nanmedian(error)
            )
            np.testing.assert_allclose(unpack(part["bjd"]), table["BJD_TIME"], rtol=0, atol=0.6e-8)
            for column in ("EVENT", "QUALITY"):
                np.testing.assert_array_equal(unpack(part[column.lower()]), table[column])
            conditions = {q["name"]: q for q in part["quantities"]}
            for quantity, column in (
                ("roll", "ROLL_ANGLE"),
                ("x", "CENTROID_X"),
                ("y", "CENTROID_Y"),
            ):
                step = 10.0 ** -conditions[quantity]["digits"]
                # the SOC's columns are single precision: 3e-5 at 512
                np.testing.assert_allclose(
                    unpack(conditions[quantity]), table[column], rtol=6e-8, atol=0.51 * step
                )


def test_the_budget_adds_up_to_flux_and_error(reduced: Bench) -> None:
    shown = block(published_page(reduced).read_text(), "data")["sets"][0]
    budget, default = shown["budget"], shown["curves"]["DEFAULT"]
    left = unpack(budget["start"]) + sum(unpack(stage) for stage in budget["stages"])
    # the circle of the stages is fixed, that of the light curve follows the star: they differ by
    # some per mille
    np.testing.assert_allclose(left, unpack(default["flux"]), rtol=0.01)
    total = np.sqrt(sum(unpack(term) ** 2 for term in budget["errors"]))
    np.testing.assert_allclose(total, unpack(default["error"]), rtol=ERROR_STEP)
    at = budget["radii"].index(budget["radius"])
    for term in budget["errors"]:
        assert term["typical"][at] == pytest.approx(
            np.median(unpack(term)), rel=0.02, abs=10.0 ** -term["digits"]
        )


def test_the_page_is_named_like_the_report_and_listed_in_the_manifest(reduced: Bench) -> None:
    page = published_page(reduced)
    assert page.with_suffix(".pdf").is_file()
    listed = {
        f["name"]: f for f in json.loads((page.parent / "manifest.json").read_text())["files"]
    }
    assert (listed[page.name]["step"], listed[page.name]["product"]) == ("viewer", "html")
    assert listed[page.name]["sha256"] == hashlib.sha256(page.read_bytes()).hexdigest()
    assert block(page.read_text(), "published")["folder"] == page.parent.name


def test_verdict_and_key_numbers_are_those_of_the_report(tmp_path: Path) -> None:
    from tasks.delivery.report.report import DATA as REPORT
    from tasks.delivery.report.report import collect_report

    visit = Visit(ended={"bias": {"status": {"BIAS_RON": "warning"}, "warnings": ("bias: odd",)}})
    report = json.loads(collect_report.fn(*visit.arguments(tmp_path)).blobs[REPORT])
    shown = collect(visit, tmp_path)
    assert (shown["verdict"], shown["metrics"], shown["run"]) == (
        report["verdict"],
        report["metrics"],
        report["run"],
    )
    assert shown["verdict"]["word"] == "usable with care"


def test_the_tiles_are_key_numbers_of_the_report(tmp_path: Path) -> None:
    shown = collect(Visit(), tmp_path)
    assert set(shown["tiles"]) <= {row["label"] for row in shown["metrics"]}


def test_points_beyond_the_limit_of_the_setting_are_thinned_evenly(
    tmp_path: Path,
) -> None:
    shown = collect(Visit(n=450), tmp_path, ViewerSettings(points=100))["sets"][0]
    index = unpack(shown["index"])
    assert (len(index), shown["count"]) == (100, 450)
    assert (index[0], index[-1]) == (0, 449)
    assert len(unpack(shown["curves"]["DEFAULT"]["flux"])) == 100


def test_three_thousand_points_in_all_apertures_take_less_than_a_megabyte(tmp_path: Path) -> None:
    n, rng = 3000, np.random.default_rng(5)
    inventory, calibrated, corrected, measured, _ = Visit(n=n).arguments(tmp_path)
    with open_images(corrected.subarray.products["SCI_COR_SubArray"]) as images:
        found = read_findings(calibrated, corrected, measured, images)

    def noisy(level: float, sigma: float, wild: float) -> np.ndarray[Any, Any]:
        values = level + sigma * rng.normal(size=n)
        values[::97] += wild
        return values

    # noise of 200 ppm and far outliers, as in the SAA
    curves = {name: (noisy(2.4e7, 5e3, 3e6), radius) for name, (_, radius) in found.curves.items()}
    curves.update({twin: curves[f"R{LIGHT_CURVES[twin]:g}"] for twin in ("DEFAULT", "RSUP")})
    levels = {
        "roll": (180.0, 100.0),
        "x": (500.0, 0.3),
        "y": (500.0, 0.3),
        "background": (190.0, 9.0),
        "bias": (610.0, 0.5),
    }
    quantities = {
        name: Quantity(name, q.label, q.unit, noisy(*levels.get(name, (300.0, 30.0)), 500.0))
        for name, q in found.quantities.items()
    }
    far = {"BACKGROUND": 3e6, "COSMIC_RAYS": 3e6}
    stages = tuple(
        Stage(s.name, s.meaning, np.zeros(n), noisy(-3e5, 3e3, far.get(s.name, 0.0)))
        for s in found.stages
    )
    variances = {name: noisy(1e4, 2e3, 1e4) ** 2 for name in found.variances}
    full = replace(
        found,
        points=replace(found.points, flux=curves["DEFAULT"][0]),
        curves=curves,
        quantities=quantities,
        stages=stages,
        variances=variances,
    )
    shown = image_points(full, measured, ViewerSettings().points)
    data = as_json({"visit": inventory.visit, "flags": viewer_data.flags(), "sets": [shown]})
    assert len(unpack(shown["curves"]["R31"]["flux"])) == n
    assert len(make_page(data, FACTS)) < 1_000_000


def test_the_page_without_data_takes_about_a_hundred_kilobytes() -> None:
    # the plotting code takes 51 kB, its licence 1 kB, our own files 40 kB
    assert len(make_page(b"{}", FACTS)) < 105_000


def test_the_policy_lists_exactly_the_digests_of_the_scripts_and_styles(
    tmp_path: Path,
) -> None:
    page = page_of(Visit(), tmp_path).read_text()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert policy is not None
    rules = {name: rest for name, *rest in (rule.split() for rule in policy[1].split(";"))}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == ["'none'"]

    def digests(pattern: str) -> list[str]:
        blocks = re.findall(pattern, page, re.DOTALL)
        return [
            f"'sha256-{base64.b64encode(hashlib.sha256(b.encode()).digest()).decode()}'"
            for b in blocks
        ]

    assert rules["script-src"] == digests(r"<script>(.*?)</script>")
    assert rules["style-src"] == digests(r"<style>(.*?)</style>")
    assert len(rules["script-src"]) == len(rules["style-src"]) == 2
    # nothing is fetched: no address, no attribute with one, no style or handler in an attribute
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"https?:|\bsrc=|\bstyle=|\bon\w+=|<link|<iframe|<object|<base", markup)
    assert page.index("Content-Security-Policy") < page.index("<style>")


@pytest.mark.parametrize(
    "name", ["uplot/uPlot.iife.min.js", "uplot/uPlot.min.css", "viewer.js", "viewer.css"]
)
def test_no_file_of_the_page_closes_its_element_or_evaluates_text(name: str) -> None:
    text = asset(name)
    assert not re.search(
        r"</(script|style)|<!--|\beval\(|new Function|innerHTML|insertAdjacentHTML|document\.write",
        text,
    )
    assert "{{" not in text  # it would look like a slot


def test_third_party_code_is_unchanged_and_comes_with_its_licence(tmp_path: Path) -> None:
    readme = asset("uplot/README.md")
    assert f"# uPlot {UPLOT}\n" in readme
    for name in ("uPlot.iife.min.js", "uPlot.min.css"):
        data = (ROOT / "tasks/delivery/viewer/web/uplot" / name).read_bytes()
        assert f"| `{name}` | `{hashlib.sha256(data).hexdigest()}` |" in readme
    assert f"v{UPLOT}" in asset("uplot/uPlot.iife.min.js")[:200]
    page = page_of(Visit(), tmp_path).read_text()
    assert "The MIT License (MIT)" in page
    assert "Leon Sorokin" in page


def test_hostile_header_strings_stay_text(tmp_path: Path) -> None:
    plain = page_of(Visit(), tmp_path / "plain").read_text()
    page = page_of(
        Visit(header={"TARGNAME": HOSTILE[:60], "PI_NAME": "<!--", "SPECTYPE": "'\"&lt;"}),
        tmp_path / "hostile",
    ).read_text()
    assert re.search(r'id="data">([^<>&]*)</script>', page)
    for mark in ("<script", "</script", "<!--", "<img"):
        assert page.count(mark) == plain.count(mark), mark
    shown = {row["label"]: row["shown"] for row in block(page, "data")["run"]}
    assert shown["Target name"] == HOSTILE[:60]
    assert shown["PI name"] == "<!--"


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
        max_leaves=8,
    )
)
def test_any_data_survive_json_that_cannot_close_an_element(value: Any) -> None:
    text = as_json(value)
    assert not set(b"<>&") & set(text)
    assert json.loads(text) == value


def test_equal_input_gives_equal_bytes_and_publications_differ_only_in_their_facts(
    tmp_path: Path,
) -> None:
    one, two = (page_of(Visit(), tmp_path / name).read_bytes() for name in ("one", "two"))
    assert one == two
    write_viewer(tmp_path / "one", {**FACTS, "version": "V0002"}, tmp_path / "other.html")
    assert (tmp_path / "other.html").read_bytes() == one.replace(
        b'"version":"V0001"', b'"version":"V0002"'
    )
    assert str(tmp_path).encode() not in one


def test_a_visit_without_a_good_point_has_a_page(tmp_path: Path) -> None:
    shown = collect(
        Visit(
            n=5, quality=np.full(5, int(Quality.UNUSABLE_IMAGE), np.int32), flux=np.full(5, np.nan)
        ),
        tmp_path,
    )
    assert shown["verdict"]["word"] == "not usable"
    assert "DEFAULT" not in shown["sets"][0]["curves"]


@pytest.mark.parametrize("action", ["create", "write", "fsync", "rename"])
def test_a_full_disk_leaves_no_page(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(Visit(n=20), tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    fill_disk(monkeypatch, action)
    with pytest.raises(StorageError, match="No space left on device"):
        write_viewer(tmp_path, FACTS, tmp_path / "viewer.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"viewer\.json: no such file"):
        write_viewer(tmp_path, FACTS, tmp_path / "viewer.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 240 points, every twelfth flagged: by EVENT and QUALITY, or QUALITY alone."""
    event, quality = np.zeros((2, 240), np.int32)
    event[::24] = 1
    quality[::24] = int(Quality.SAA)
    quality[12::24] = int(Quality.BACKGROUND)
    return page_of(Visit(n=240, event=event, quality=quality), tmp_path_factory.mktemp("page"))


@pytest.fixture
def loaded(browser: Browser, page: Path) -> Iterator[Browser]:
    browser.load(page)
    yield browser
    assert browser.complaints == []


def status(browser: Browser) -> str:
    return str(browser.ask("document.getElementById('status').textContent"))


def shown_points(browser: Browser) -> int:
    found = re.search(r": (\d+) of \d+ ", status(browser))
    assert found is not None
    return int(found[1])


OVER = '[data-panel="flux"] .u-over'

CHOOSE = (
    "(e => {{ e.value = '{}'; e.dispatchEvent(new Event('change')); "
    "}})(document.getElementById('curve'))"
)


@needs_chromium
def test_the_page_shows_verdict_key_numbers_and_curve(loaded: Browser) -> None:
    text = loaded.ask("document.body.innerText")
    for words in ("HD 209458", VISIT, "V0001", "Median formal error", "DEFAULT"):
        assert words in text
    assert loaded.ask("document.getElementById('verdict').textContent") == "Verdict: ✓good"
    assert shown_points(loaded) == 240
    inked = (
        "(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => "
        "v))(document.querySelector('canvas'))"
    )
    assert loaded.ask(inked)


@needs_chromium
def test_the_numbers_in_the_page_are_those_of_python(loaded: Browser, page: Path) -> None:
    curve = block(page.read_text(), "data")["sets"][0]["curves"]["DEFAULT"]
    for name in ("flux", "error"):
        inside = loaded.ask(f"viewer.values(viewer.data.sets[0].curves.DEFAULT.{name})")
        np.testing.assert_array_equal(inside, unpack(curve[name]))


@needs_chromium
def test_flags_are_toggled(loaded: Browser) -> None:
    labels = loaded.ask(
        "[...document.querySelectorAll('#flags label')].map(l => l.textContent.trim())"
    )
    assert labels == ["all", "SAA 10", "SAA 10", "background 10"]
    loaded.click("#flags label:last-of-type input")
    assert shown_points(loaded) == 230
    loaded.click("#flags label input")  # all again
    assert shown_points(loaded) == 240
    loaded.click("#flags label input")  # and none
    assert shown_points(loaded) == 220
    assert "220 good" in status(loaded)


@needs_chromium
def test_drag_and_wheel_zoom_all_panels_and_a_double_click_shows_all(
    loaded: Browser,
) -> None:
    loaded.drag(OVER, 0.25, 0.75)
    zoomed = shown_points(loaded)
    assert 110 <= zoomed <= 130
    ranges = loaded.ask("viewer.plots.map(u => [u.scales.x.min, u.scales.x.max])")
    assert len(ranges) > 1
    assert all(r == ranges[0] for r in ranges)
    assert loaded.ask("viewer.state.point") is None  # a drag is no click
    loaded.wheel(OVER, -100)
    assert shown_points(loaded) < zoomed
    loaded.click(OVER, times=2)
    assert shown_points(loaded) == 240
    loaded.click("#in")
    assert shown_points(loaded) < 240
    first = "viewer.plots[0].scales.x.min"
    before = loaded.ask(first)
    loaded.click("#right")
    moved = loaded.ask(first)
    loaded.click("#left")
    assert moved > before == pytest.approx(loaded.ask(first))
    loaded.click("#reset")
    assert shown_points(loaded) == 240


@needs_chromium
def test_hovering_describes_a_point_and_a_click_shows_its_budget(loaded: Browser) -> None:
    loaded.click(OVER, across=0.5)
    hover = loaded.ask("document.getElementById('hover').textContent")
    assert re.match(
        r"image 1\d\d: BJD 59000\.0\d+, [12]\.\d+ h, flux [\d.]+ ± [\d.]+ electrons", hover
    ), hover
    point = loaded.ask("document.getElementById('point').innerText")
    for words in (
        "Flux, step by step",
        "background",
        "Error, term by term",
        "read out",
        "Conditions",
    ):
        assert words in point
    # each term has a variance of 4 electron^2
    total = loaded.ask(
        "[...document.querySelectorAll('#point tr.sum')].at(-1).cells[1].textContent"
    )
    wide = [c.name for c in TERMS["TERM_ERRORS"].columns if c.size == PER_RADIUS]
    terms = [name for name in wide if name != "DRP"]
    assert float(total) == pytest.approx(math.sqrt(4 * len(terms)), abs=0.05)


@needs_chromium
def test_everything_can_be_reached_with_the_keyboard(loaded: Browser) -> None:
    loaded.ask("document.querySelector('[data-panel=flux]').focus()")
    loaded.press("Home")
    heading = "document.querySelector('#point h2').textContent"
    assert loaded.ask(heading) == "Image 0"
    assert "× SAA (EVENT): in the South Atlantic Anomaly" in loaded.ask(
        "document.getElementById('point').innerText"
    )
    loaded.press("ArrowRight")
    loaded.press("ArrowRight", modifiers=8)
    assert loaded.ask(heading) == "Image 11"
    loaded.press("+")
    assert shown_points(loaded) < 240
    loaded.press("End")
    assert loaded.ask(heading) == "Image 239"
    assert loaded.ask("viewer.plots[0].scales.x.max > 239 / 60")  # the range follows the point
    loaded.press("0")
    loaded.press("Escape")
    assert shown_points(loaded) == 240
    assert loaded.ask("document.getElementById('point').children.length") == 0
    # the tab key reaches every control and panel, and each has a name
    names = loaded.ask(
        "[...document.querySelectorAll('button, input, select, [tabindex=\"0\"], a, summary')]"
        ".map(e => e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent)"
    )
    assert all(name.strip() for name in names)
    assert len(set(names)) == len(names)


@needs_chromium
def test_other_curves_and_units_can_be_chosen(loaded: Browser) -> None:
    loaded.ask(CHOOSE.format("PSF"))
    assert status(loaded).startswith("PSF, 25 pixels: 240 of 240")
    loaded.ask(CHOOSE.format("DEFAULT"))
    loaded.click("[name=unit][value=electron]")
    assert loaded.ask("viewer.view().main.series[0].y[5]") == pytest.approx(1e7, rel=0.01)
    for name in ("#bars", "#bins", "#whole"):
        loaded.click(name)


@needs_chromium
def test_the_points_in_view_are_saved_as_csv(loaded: Browser, page: Path) -> None:
    loaded.drag(OVER, 0.25, 0.75)
    expected = shown_points(loaded)
    loaded.click("#csv")
    target = loaded.downloads / f"CH_{VISIT}_V0001_DEFAULT.csv"
    for _ in range(200):
        if target.exists():
            break
        loaded.ask("new Promise(done => setTimeout(done, 50))")
    lines = target.read_text().splitlines()
    assert lines[0].startswith(
        f"# CH_{VISIT}_V0001, light curve DEFAULT, 25 pixels, {expected} of 240"
    )
    assert lines[2].startswith(
        "INDEX,BJD_TIME [d],FLUX [electron],FLUXERR [electron],EVENT,QUALITY"
    )
    assert len(lines) == 3 + expected
    index, bjd, flux, *_ = lines[3].split(",")
    curve = block(page.read_text(), "data")["sets"][0]["curves"]["DEFAULT"]
    assert float(flux) == pytest.approx(
        unpack(curve["flux"])[int(index)], abs=10.0 ** -curve["flux"]["digits"]
    )
    assert float(bjd) == pytest.approx(59000 + int(index) / 1440, abs=2e-8)
    target.unlink()


@needs_chromium
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)]
)
def test_the_page_fits_wide_and_narrow_light_and_dark(
    browser: Browser, reduced: Bench, width: int, dark: bool
) -> None:
    browser.load(published_page(reduced), width=width, dark=dark)
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    ground = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) is dark
    browser.click("#theme")
    assert browser.ask("getComputedStyle(document.body).backgroundColor") != ground
    assert browser.complaints == []


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_every_panel_has_at_least_two_labelled_ticks(
    browser: Browser, reduced: Bench, width: int
) -> None:
    browser.load(published_page(reduced), width=width)
    browser.ask("document.querySelectorAll('#panels input:not(:checked)').forEach(e => e.click())")
    for over in ("time", "roll"):
        browser.click(f"[name=over][value={over}]")
        numbers = browser.ask(
            "viewer.plots.map((u, i) => "
            "[document.querySelectorAll('[data-panel]')[i].dataset.panel, "
            "u.axes[1]._splits.filter(y => u.scales.y.min <= y && y <= u.scales.y.max).length])"
        )
        assert len(numbers) >= 8
        assert [name for name, count in numbers if count < 2] == []


@needs_chromium
def test_a_published_page_shows_roll_angle_imagettes_and_the_flux_step_by_step(
    browser: Browser, reduced: Bench
) -> None:
    browser.load(published_page(reduced))
    browser.click("[name=over][value=roll]")
    assert "°" in status(browser)
    x = browser.ask("viewer.view().x")
    assert x == sorted(x)
    assert 0 <= x[0] <= x[-1] < 360
    browser.click("[name=over][value=time]")
    browser.ask("document.querySelector('[data-panel=flux]').focus()")
    browser.press("End")
    rows = browser.ask(
        "[...document.querySelector('#point table').rows].map(r => [...r.cells].map(c => "
        "c.textContent))"
    )
    assert [r[0] for r in rows[1:4]] == ["as read out", "bias", "gain"]
    left = [float(r[2].replace("−", "-")) for r in rows[1:]]
    change = [float(r[1].replace("−", "-").replace("+", "")) for r in rows[2:]]
    np.testing.assert_allclose(np.diff(left), change, atol=1.5)  # each is rounded to one electron
    browser.ask(CHOOSE.format("IMAGETTE_PSF"))
    assert "imagettes shown" in status(browser)
    assert browser.complaints == []


@needs_chromium
def test_hostile_strings_are_not_executed_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    browser.load(page_of(Visit(header={"TARGNAME": HOSTILE[:60]}), tmp_path))
    assert browser.ask("document.getElementById('target').textContent") == HOSTILE[:60]
    assert browser.ask("document.querySelectorAll('script:not([type])').length") == 2
    assert browser.complaints == []


@needs_chromium
def test_an_injected_script_is_blocked(browser: Browser, page: Path, tmp_path: Path) -> None:
    changed = page.read_text().replace(
        "</body>",
        "<script>window.slipped = 1</script><img src=x onerror='window.slipped = 1'></body>",
    )
    (tmp_path / "changed.html").write_text(changed)
    browser.load(tmp_path / "changed.html")
    assert browser.ask("window.slipped") is None
    assert any("Content Security Policy" in text for text in browser.complaints)


@needs_chromium
@pytest.mark.parametrize(
    "make",
    [lambda: Visit(n=1), lambda: Visit(n=2), lambda: Visit(n=4, quality=np.ones(4, np.int32))],
)
def test_pages_with_very_few_points_give_no_errors(
    make: Callable[[], Visit], browser: Browser, tmp_path: Path
) -> None:
    browser.load(page_of(make(), tmp_path))
    browser.click(OVER)
    browser.wheel(OVER, -100)
    browser.click("[name=over][value=roll]") if browser.ask(
        "!document.getElementById('over').disabled"
    ) else None
    assert browser.complaints == []
