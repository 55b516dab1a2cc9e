"""`drp plot` writes light curves as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows import plot
from flows.command.inspect import plot as command
from schemas.errors import UsageError
from tasks.delivery.published.visit import PublishedVisit
from tests.support.faults import run_in_process
from tests.support.runs import Bench


@pytest.fixture(scope="module")
def visit(reduced: Bench) -> PublishedVisit:
    return PublishedVisit.at(reduced.published()[0])


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("b.pdf", b"%PDF-")])
def test_a_plot_is_a_picture_of_the_named_kind_with_the_same_bytes_each_time(
    name: str, start: bytes, visit: PublishedVisit, tmp_path: Path
) -> None:
    for folder in ("once", "again"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / name
        done = run_in_process(
            *("plot", visit.folder, "--light-curve", "PSF", "--light-curve", "R25"),
            *("--against", "temperature", "--flagged", "--output", path),
        )
        assert (done.code, done.out) == (0, f"{path}\n"), done.err
    first, second = ((tmp_path / f / name).read_bytes() for f in ("once", "again"))
    assert first.startswith(start)
    assert len(first) > 10_000
    assert first == second


def test_every_quantity_has_a_value_for_each_point(visit: PublishedVisit) -> None:
    curve = visit.curve("DEFAULT")
    for against in plot.AXES:
        values = plot.place_of(visit, "DEFAULT", curve, against)
        assert values.shape == (12,)
        assert np.isfinite(values).all(), against
    (option,) = [p for p in command.params if p.name == "against"]
    assert list(option.type.choices) == list(plot.AXES)  # type: ignore[attr-defined]


def test_a_curve_without_good_points_is_drawn_all_the_same(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    ones = np.ones(5)
    curve = dict.fromkeys(("FLUX", "FLUXERR", "EVENT"), ones) | {"CONTA_LC": 0 * ones}
    panel = Figure().subplots()
    plot.draw_curve(panel, np.arange(5.0), curve, True)
    assert panel.get_title(loc="right") == "no good points"
    plot.draw_curve(panel, np.arange(5.0), curve, False)
    assert panel.get_title(loc="right") == "no good points; --flagged shows the others"
    # nor a flux at all: a circle that leaves the window
    plot.draw_curve(panel, np.arange(5.0), curve | {"FLUX": np.nan * ones}, False)
    assert panel.get_title(loc="right") == "no good points"


def test_wrong_names_are_usage_errors_that_list_the_right_ones(
    visit: PublishedVisit, tmp_path: Path
) -> None:
    for names, against, file, message in (
        (["R99"], "time", "a.png", "light curve R99: this visit has DEFAULT, "),
        (["optimall"], "time", "a.png", "; did you mean OPTIMAL"),
        (["PSF"], "time", "a.jpg", "expected a name that ends in .png, .pdf or .svg"),
        (["IMAGETTE"], "ccd", "a.png", "--against ccd: not known for imagettes"),
    ):
        with pytest.raises(UsageError, match=message):
            plot.plot_visit(visit, names, against, False, tmp_path / file)
