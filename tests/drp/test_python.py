"""The public module `drp`: its page and docstrings run as they are printed, and it says what is
wrong in a line.
"""

from __future__ import annotations

import doctest
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import QTable
from astropy.utils.masked import Masked

import drp
from drp import cube, reduction, series, visit
from schemas import ROOT
from schemas.errors import MissingInputError, UsageError
from tests.conftest import raw_file
from tests.support.clients import last_line
from tests.support.runs import Bench

PAGE = ROOT / "docs" / "python.md"

# lightkurve and pandas are no dependencies; tests/delivery/test_clients.py runs their blocks
ELSEWHERE = ("to_lightkurve", "to_pandas")


@pytest.fixture(scope="module")
def place(reduced: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the visit and its products, as the examples name them."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "visit").symlink_to(reduced.visit)
    shutil.copytree(reduced.output, folder / "products")
    shutil.copytree(reduced.work, folder / "work")
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("DRP_WORK", str(place / "work"))
    return place


def run_examples(text: str, name: str) -> doctest.TestResults:
    parsed = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    return doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(parsed)


@pytest.mark.usefixtures("here")
def test_the_examples_of_the_page_run_as_printed() -> None:
    blocks = re.findall(r"```pycon\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    text = "\n".join(b for b in blocks if not any(name in b for name in ELSEWHERE))
    outcome = run_examples(text, PAGE.name)
    assert outcome.attempted > 25
    assert outcome.failed == 0


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("module", [drp, cube, reduction, series, visit])
def test_the_examples_of_docstrings_run_as_printed(module: ModuleType) -> None:
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.slow
def test_lightkurve_and_pandas_take_a_light_curve_without_a_remark(place: Path) -> None:
    paths = PAGE, sysconfig.get_path("purelib"), ROOT
    outcome = last_line("lightkurve", "run_page.py", *paths, cwd=place)
    assert outcome["tried"] > 25
    assert outcome["failed"] == []


def test_flagged_points_are_masked_dropped_or_kept() -> None:
    columns = {
        "BJD_TIME": np.array([2459283.1, 2459283.2, 2459283.3, 2459283.4], ">f8"),
        "FLUX": np.array([1.0, np.nan, 3.0, 4.0], ">f8"),
        "FLUXERR": np.full(4, 0.1, ">f8"),
        "EVENT": np.array([0, 0, 2, 0], ">i4"),
        "QUALITY": np.array([0, 0, 0, 1], ">i4"),
    }
    masked = series.time_series(columns, {})
    assert isinstance(masked["flux"], Masked)
    assert masked["flux"].mask.tolist() == [False, True, True, True]
    assert masked["flux_err"].mask.tolist() == [False, True, True, True]
    assert series.time_series(columns, {}, "drop")["flux"].value.tolist() == [1.0]
    kept = series.time_series(columns, {}, "keep")
    assert (len(kept), kept["flux"].unit) == (4, units.electron)
    assert kept["event"].dtype.isnative
    with pytest.raises(UsageError, match="flagged='hide': expected one of mask, drop, keep"):
        series.time_series(columns, {}, "hide")


def test_a_light_curve_has_the_numbers_of_its_file(reduced: Bench) -> None:
    folder = reduced.published()[0]
    opened = drp.open_visit(folder)
    table = fits.getdata(raw_file(folder, "Lightcurve-IMAGETTE_PSF"), 1)
    curve = opened.light_curve("IMAGETTE_PSF", flagged="keep")
    assert QTable(curve)["flux"].value.tolist() == table["FLUX"].tolist()
    assert curve.time.jd.tolist() == table["BJD_TIME"].tolist()
    declared = {source for source, _ in series.COLUMNS.values()}
    # the text of UTC_TIME is that of MJD_TIME; the others repeat columns
    assert set(table.names) - declared == {"UTC_TIME", "BJD_TIME", "TIME", "BJD_TDB", "FLUX_ERR"}


def test_images_are_those_of_the_file_and_only_asked_ones_are_read(reduced: Bench) -> None:
    folder = reduced.published()[0]
    opened = drp.open_visit(folder)
    pixels = fits.getdata(raw_file(folder, "SCI_CAL_SubArray"), 1)
    images = opened.images("CAL")
    np.testing.assert_array_equal(images[-1], pixels[-1])
    np.testing.assert_array_equal(images[4:1:-2], pixels[4:1:-2])
    np.testing.assert_array_equal(np.asarray(images), pixels)
    assert images[12:].shape == (0, 200, 200)
    with pytest.raises(IndexError):
        images[12]
    with pytest.raises(UsageError, match="images RAW sub_array: the levels are CAL, COR"):
        opened.images("RAW")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="did you mean COR"):
        opened.images("CORR")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="did you mean imagette"):
        opened.images(kind="imagettes")  # type: ignore[arg-type]
    with pytest.raises(MissingInputError, match="holds no SCI_COR_FullArray"):
        opened.images(kind="full_array")


def test_a_mistyped_light_curve_is_answered_with_the_nearest(reduced: Bench) -> None:
    opened = drp.open_visit(reduced.published()[0])
    for ask in (opened.light_curve, opened.noise, lambda name: opened.explain(0, name)):
        with pytest.raises(
            UsageError, match=r"OPTIMALL: this visit has .*; did you mean OPTIMAL\?"
        ):
            ask("OPTIMALL")


def test_settings_may_be_named_as_on_the_command_line() -> None:
    named = reduction.nested({"flat.skip": True, "psf": {"fewest": 20}, "psf.rounds": 3, "x": 1})
    assert named == {"flat": {"skip": True}, "psf": {"fewest": 20, "rounds": 3}, "x": 1}


def test_importing_drp_imports_neither_prefect_nor_plots() -> None:
    heavy = "prefect", "matplotlib"
    code = f"import sys, drp; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
