"""Every setting is read: another value changes what its step gives, or the step refuses it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from astropy.io import fits

from schemas.errors import DrpError, MissingInputError
from schemas.settings import PipelineSettings
from tests.conftest import MadeOnce, raw_file
from tests.support.runs import Bench, undrawn

# an hour and a half near the plane of the Galaxy: a warming telescope, jumping pixels, more stars
# than any limit of a setting, and a full array
FIELD = """
images = 40
nexp = 4
exptime = 30.0
magnitude = 9.0
teff = 5600
transit = false
near_stars = 12
nearest = 20.0
stars = 400.0
faintest = 15.0
saa = "never"
imagettes = false
full_frame = true
"""
# images that follow each other within the largest tolerance of duplicates, and no constraints:
# angles to the limb of the Earth come from the orbit
QUICK = "images = 3\nnexp = 1\nexptime = 2.0\nmagnitude = 7.0\ntransit = false\n"


class Change(NamedTuple):
    """Another value of a setting, the step that must notice it, and the visit on which it does."""

    value: Any
    step: str
    visit: str = "reduced"


CHANGES = {
    "events.atmosphere": Change(200.0, "events", "quick"),
    "events.duplicate_tolerance": Change(10.0, "events", "quick"),
    "events.saturation": Change(5000.0, "events"),
    "bias.smooth": Change(0.0, "bias", "jump"),
    "bias.clip": Change(1.5, "bias"),
    "gain.smooth": Change(0.0, "gain"),
    "gain.deviation": Change(0.001, "gain"),
    "linearity.skip": Change(True, "linearity"),
    "linearity.low_signal": Change(0.1, "linearity"),
    "spread.skip": Change(True, "spread"),
    "dark.skip": Change(True, "dark"),
    "dark.scale": Change(2.0, "dark"),
    "dark.shrink": Change(False, "dark"),
    "flat.skip": Change(True, "flat"),
    "flat.teff": Change(4000.0, "flat"),
    "flat.source": Change("wavelengths", "flat"),
    "look.sample": Change(3, "look"),
    "background.inner": Change(60.0, "background_1"),
    "background.outer": Change(80.0, "background_1"),
    "background.clip": Change(1.5, "background_1"),
    "psf.size": Change(100, "psf_1"),
    "psf.radius": Change(20.0, "psf_1"),
    "psf.rounds": Change(1, "psf_1"),
    "psf.smoothness": Change(1e-2, "psf_1"),
    "psf.stiffness": Change(1.0, "psf_1", "field"),
    "psf.enough": Change(1000, "psf_1"),
    "psf.fewest": Change(13, "psf_1"),
    "psf.lag": Change(1.0, "psf_1"),
    "plate.significance": Change(100.0, "plate", "field"),
    "plate.window": Change(14.0, "plate", "field"),
    "plate.near": Change(0.1, "plate", "field"),
    "plate.turn": Change(0.001, "plate", "field"),
    "plate.fewest": Change(1000, "plate", "field"),
    "plate.stars": Change(10, "plate", "field"),
    "stars.fit": Change(False, "stars"),
    "stars.sample": Change(3, "stars"),
    "stars.most": Change(1, "stars"),
    "stars.prior": Change(0.01, "stars"),
    "smearing.time": Change(50e-6, "smearing"),
    "defects.seed": Change(10.0, "defects_1"),
    "defects.neighbour": Change(1.5, "defects_1"),
    "defects.static": Change(50.0, "defects_1"),
    "defects.hot": Change(10.0, "defects_1"),
    "defects.share": Change(0.5, "defects_1"),
    "defects.gap": Change(30.0, "defects_1", "field"),
    "defects.contrast": Change(50.0, "defects_1", "field"),
    "position.radius": Change(15.0, "position"),
    "position.iterations": Change(1, "position"),
    "apertures.radii": Change([12.5], "apertures"),
    "optimal.smallest": Change(30.0, "quality"),
    "optimal.corrected": Change(30.0, "quality"),
    "optimal.largest": Change(26.0, "quality"),
    "optimal.psf": Change(False, "quality"),
    "imagettes.radius": Change(8.0, "imagette_photometry"),
    "imagettes.inside": Change(0.1, "imagette_photometry"),
    "detrend.transit": Change("2459283.85 3.1", "light_curves"),
    "viewer.points": Change(10, "viewer"),
    "report.points": Change(10, "report"),
}
NAMES = [
    f"{part}.{name}"
    for part, field in PipelineSettings.model_fields.items()
    if part != "publication"  # of no step: see test_publication.py
    for name in type(field.default).model_fields
]


def outcome(bench: Bench, step: str, settings: dict[str, Any]) -> tuple[Any, ...]:
    """What a step gives: products, used values, status and warnings; or why the run is refused."""
    try:
        with undrawn():
            _, run = bench.reduce(until=step, settings=settings)
    except DrpError as error:
        return type(error), str(error).splitlines()[0]
    leaf = [report.leaf for report in run.reports if report.step == step][-1]
    digests = {name: product.sha256 for name, product in leaf.products.items()}
    return digests, leaf.used, leaf.status, leaf.warnings


def simulated(folder: Path, case: str) -> Path:
    from flows.simulate import simulate_into

    file = folder / "case.toml"
    file.write_text(case)
    simulate_into(folder / "visit", str(file), None, 1, None)
    return folder / "visit"


@pytest.fixture(scope="session")
def field(library: Path, made_once: MadeOnce) -> Bench:
    """The visit of FIELD, reduced once up to the last step that is asked for; read-only."""

    def reduce(folder: Path) -> None:
        bench = Bench(simulated(folder, FIELD), (library,), Path(), Path()).fresh(folder)
        outcome(bench, "defects_1", {})

    folder = made_once("field", reduce)
    return Bench(folder / "visit", (library,), Path(), Path()).fresh(folder)


@pytest.fixture(scope="session")
def quick(library: Path, made_once: MadeOnce) -> Bench:
    """The visit of QUICK."""

    def simulate(folder: Path) -> None:
        (constraints,) = simulated(folder, QUICK).rglob("*MPS_PRE_Visits*")
        constraints.unlink()
        (folder / "work").mkdir()

    folder = made_once("quick", simulate)
    return Bench(folder / "visit", (library,), Path(), Path()).fresh(folder)


@pytest.fixture(scope="session")
def jump(tiny_visit: Path, library: Path, made_once: MadeOnce) -> Bench:
    """The tiny visit with a bias that jumps in the middle, which no smooth drift explains."""

    def change(folder: Path) -> None:
        raw = raw_file(shutil.copytree(tiny_visit, folder / "visit"), "SCI_RAW_SubArray")
        with fits.open(raw, memmap=False) as hdus:
            for hdu in hdus[1:]:
                if hdu.is_image and hdu.data.ndim == 3:
                    late = hdu.data[6:]
                    late[late > 0] += 30  # ADU a stack of three exposures
            hdus.writeto(raw, overwrite=True, checksum=True)
        (folder / "work").mkdir()

    folder = made_once("jump", change)
    return Bench(folder / "visit", (library,), Path(), Path()).fresh(folder)


@pytest.fixture(scope="module")
def usual() -> dict[tuple[str, str], tuple[Any, ...]]:
    """What steps of the visits give with default settings, as far as it is known."""
    return {}


@pytest.fixture
def benches(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A copy of the bench that is asked for by name, in which every step is done."""

    def copy(name: str) -> Bench:
        return request.getfixturevalue(name).known(tmp_path / name)

    yield copy
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_every_setting_has_a_change_to_try() -> None:
    with_attitude_cut = {"pointing.partial", "pointing.gap", "pointing.share"}  # the last tests
    assert set(NAMES) - with_attitude_cut == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_changes_what_its_step_gives(
    name: str, benches: Any, usual: dict[tuple[str, str], tuple[Any, ...]]
) -> None:
    value, step, visit = CHANGES[name]
    part, key = name.split(".")
    default = getattr(getattr(PipelineSettings(), part), key)
    assert value != default
    bench = benches(visit)
    if (visit, step) not in usual:
        usual[visit, step] = outcome(bench, step, {})
    assert outcome(bench, step, {part: {key: value}}) != usual[visit, step]


def test_part_of_an_attitude_is_refused_unless_the_setting_accepts_it(
    tiny_visit: Path, library: Path, tmp_path: Path
) -> None:
    visit = Path(shutil.copytree(tiny_visit, tmp_path / "visit"))
    attitude = raw_file(visit, "SCI_RAW_Attitude")
    with fits.open(attitude, memmap=False) as hdus:
        hdus[1].data = hdus[1].data[:375]  # half of the visit
        hdus.writeto(attitude, overwrite=True, checksum=True)
    bench = Bench(visit, (library,), Path(), Path()).fresh(tmp_path)
    refused, reason = outcome(bench, "pointing", {})
    assert refused is MissingInputError
    assert "pointing.partial" in reason
    assert len(outcome(bench, "pointing", {"pointing": {"partial": True}})) == 4


def test_a_gap_in_the_attitude_flags_images_unless_the_settings_accept_it(
    tiny_visit: Path, library: Path, tmp_path: Path
) -> None:
    visit = Path(shutil.copytree(tiny_visit, tmp_path / "visit"))
    attitude = raw_file(visit, "SCI_RAW_Attitude")
    with fits.open(attitude, memmap=False) as hdus:
        hdus[1].data = np.delete(hdus[1].data, slice(300, 310))
        hdus.writeto(attitude, overwrite=True, checksum=True)
    bench = Bench(visit, (library,), Path(), Path()).fresh(tmp_path)
    *_, warnings = outcome(bench, "pointing", {})
    assert "gaps in the attitude of 1 images" in warnings[0]
    # 10 s hide a fifth of an image
    assert "gaps in" in outcome(bench, "pointing", {"pointing": {"gap": 60.0}})[-1][0]
    assert outcome(bench, "pointing", {"pointing": {"gap": 60.0, "share": 0.25}})[-1] == ()
