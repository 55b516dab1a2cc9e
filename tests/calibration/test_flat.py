"""The flat field built by wavelength, against the star's own and the interpolated one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from reference_data import build
from schemas.errors import BadInputError
from schemas.payloads import Reference
from tasks.calibration.flat import (
    EDGE,
    ByWavelength,
    between,
    build_flat,
    interpolate_flat,
    photon_weights,
    star_light,
)
from tasks.simulation import flat
from tests.conftest import raw_file
from tests.support.faults import Bench as Faulty
from tests.support.faults import raw_product
from tests.support.flat_filters import flat_filters
from tests.support.outside import outside
from tests.support.runs import Bench


def test_light_at_the_nodes_counts_for_them_and_between_them_for_both() -> None:
    # 2 electrons at 450 nm: half each for 400 and 500; 1 at 500; 1 at 300, below the first node:
    # the first
    light = np.array([[300.0, 1.0], [450.0, 2.0], [500.0, 1.0]])
    assert photon_weights(light, np.array([400.0, 500.0, 600.0])) == pytest.approx(
        [0.5, 0.5, 0.0], rel=1e-15
    )
    assert photon_weights(light, np.array([700.0])).tolist() == [1.0]


def test_a_response_that_is_linear_in_wavelength_is_summed_exactly() -> None:
    rng = np.random.default_rng(1)
    light = np.stack([np.arange(330.0, 1101.0), rng.uniform(0, 1, 771)], axis=1)
    nodes = np.sort(rng.uniform(300, 1150, 20))
    nodes[0], nodes[-1] = 300.0, 1150.0
    wanted = np.average(0.9 + 2e-4 * light[:, 0], weights=light[:, 1])
    assert photon_weights(light, nodes) @ (0.9 + 2e-4 * nodes) == pytest.approx(wanted, rel=1e-13)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> ByWavelength:
    """Flat fields without noise every 20 nm, with spectra, throughput and efficiency."""
    folder = tmp_path_factory.mktemp("flat")
    made = (
        flat_filters(folder, noisy=False),
        build.spectra(folder),
        build.throughput(folder),
        build.quantum_efficiency(folder),
    )
    given = [Reference(kind="", product=raw_product(path), valid_from="") for (path,) in made]
    return ByWavelength(*given)


@pytest.mark.slow
@pytest.mark.parametrize("teff", [3600.0, 5500.0, 5777.0, 8000.0])
def test_built_interpolated_and_true_flat_fields_are_the_same_to_a_hundred_thousandth(
    parts: ByWavelength, teff: float
) -> None:
    warnings: list[str] = []
    found = build_flat(parts, teff, warnings)
    truth = flat.star_flat(teff).astype(float)
    # single precision is 6e-8; between planes of 20 nm the patterns bend by 6e-6, in their
    # strongest pixels by five times that
    assert np.std(found.response - truth) < 1e-5
    low, high = 500 * (teff // 500), 500 * (teff // 500) + 500
    share = (teff - low) / 500
    planes = between(flat.star_flat(low).astype(float), flat.star_flat(high).astype(float), share)
    # planes of 500 K miss a star between them by as much as its colour bends: 2e-5 of M dwarfs,
    # none at the planes
    assert np.std(found.response - planes) < 1e-5 + np.std(planes - truth)
    assert np.std(planes - truth) < (1e-5 if teff > 4000 else 3e-5)
    assert found.response[EDGE:-EDGE, EDGE:-EDGE].mean() == pytest.approx(1.0, rel=1e-12)
    assert found.weights.sum() == pytest.approx(1.0, rel=1e-12)
    assert (found.weights >= 0).all()
    assert (found.of, found.teff, warnings) == ("WAVELENGTH", teff, [])
    assert (found.error == 0).all()


@pytest.mark.slow
def test_hot_stars_are_bluer_and_temperatures_outside_the_grid_are_reported(
    parts: ByWavelength,
) -> None:
    warnings: list[str] = []
    cool, hot = (star_light(parts, teff, warnings)[0] for teff in (3500.0, 9000.0))
    mean = [float(np.average(light[:, 0], weights=light[:, 1])) for light in (cool, hot)]
    assert mean[0] - mean[1] > 100  # nm
    assert warnings == []
    _, used = star_light(parts, 0.0, warnings)
    assert used == 5800.0
    _, used = star_light(parts, 50_000.0, warnings)
    assert used == 10_000.0
    assert warnings == [
        "the target's T_EFF is unknown: using the spectrum of 5800 K",
        "T_EFF 50000 K is outside the range of the reference: using the spectrum of 10000 K",
    ]


@pytest.mark.slow
def test_errors_of_many_planes_average_out(
    tmp_path: Path, parts: ByWavelength, library: Path
) -> None:
    (path,) = flat_filters(tmp_path, 40.0)
    noisy = parts._replace(filters=Reference(kind="", product=raw_product(path), valid_from=""))
    found = build_flat(noisy, 5777.0, [])
    expected = build.FLAT_ERROR * np.sqrt(np.sum(found.weights**2))
    assert found.error == pytest.approx(np.full((1024, 1024), expected), rel=1e-4)
    # the scatter of a million pixels is good to 0.1 %; planes 40 nm apart miss the curved patterns
    # by 2e-5, of 1.4e-4
    assert np.std(found.response - flat.star_flat(5777.0)) == pytest.approx(expected, rel=0.05)
    (planes,) = library.rglob("*FlatFieldTeff*")
    by_planes = interpolate_flat(raw_product(planes), 5777.0, [])
    assert by_planes.nodes.tolist() == [5500.0, 6000.0]
    assert by_planes.weights == pytest.approx([0.446, 0.554], rel=1e-12)


@pytest.mark.slow
def test_a_filter_without_a_wavelength_is_refused(tmp_path: Path, parts: ByWavelength) -> None:
    (path,) = flat_filters(tmp_path, 250.0, noisy=False)
    with fits.open(path, mode="update") as hdus:
        hdus[2].data["FILTER"][1] = "blue"
        hdus[2].add_checksum()
    wrong = parts._replace(filters=Reference(kind="", product=raw_product(path), valid_from=""))
    with pytest.raises(BadInputError, match="column FILTER: 'blue' contains no wavelength"):
        build_flat(wrong, 5777.0, [])


@pytest.mark.slow
def test_a_visit_is_reduced_with_a_flat_field_that_is_built(
    tiny_visit: Path, references: Path, tmp_path: Path
) -> None:
    bench = Faulty(tiny_visit, tmp_path, references)
    more = "--set", "flat.source=wavelengths"
    bench.refused(66, "reference flat fields by wavelength (REF_APP_FlatFieldFilter)", more=more)
    flat_filters(references, 100.0)
    for path in references.rglob("*FlatFieldTeff*"):
        path.unlink()  # it is not needed
    outcome = bench.published(*more)
    rows = fits.getdata(outcome.folder / "terms" / "flat.fits", "TERM_FLAT_WEIGHTS")
    assert set(rows["OF"]) == {"WAVELENGTH"}
    assert rows["WEIGHT"].sum() == pytest.approx(1.0)
    head = fits.getheader(raw_file(outcome.folder, "PIP_CAL_FlatField"), 1)
    counted = rows[rows["WEIGHT"] > 0]
    assert head["FLAT_OF"] == "WAVELENGTH"
    assert [head[f"FLATNO{n}"] for n in range(1, len(counted) + 1)] == counted["NODE"].tolist()
    assert [head[f"FLATWT{n}"] for n in range(1, len(counted) + 1)] == counted["WEIGHT"].tolist()


def flat_of_window(folder: Path) -> tuple[Any, Any, tuple[slice, slice]]:
    """Return flat field and error of the window, and where it is."""
    with fits.open(folder / "terms" / "flat.fits", memmap=False) as hdus:
        image, error, head = hdus[1].data, hdus[2].data, hdus[1].header
    y, x, (ny, nx) = head["Y_WINOFF"], head["X_WINOFF"], image.shape
    return image, error, (slice(y, y + ny), slice(x, x + nx))


def test_the_flat_field_of_the_ccd_is_what_the_images_were_divided_by_and_goes_on_beyond_them(
    reduced: Bench, references: Path
) -> None:
    (folder,) = reduced.published()
    *of_window, window = flat_of_window(folder)
    with fits.open(raw_file(folder, "PIP_CAL_FlatField"), memmap=False) as hdus:
        head, *of_ccd = hdus[1].header, hdus[1].data, hdus[2].data
    (path,) = references.rglob("*FlatFieldTeff*")
    wanted = interpolate_flat(raw_product(path), float(head["T_EFF"]), [])
    for found, part, image in zip(of_ccd, of_window, (wanted.response, wanted.error), strict=True):
        assert found.shape == (1024, 1024)
        np.testing.assert_array_equal(found[window], part)
        np.testing.assert_array_equal(found, image)
    assert head["FLAT_T"] == head["T_EFF"] == wanted.teff
    assert head["FLAT_OF"] == "T_EFF"
    used = [(head[f"FLATNO{n}"], head[f"FLATWT{n}"]) for n in range(1, len(wanted.nodes) + 1)]
    assert used == list(zip(wanted.nodes.tolist(), wanted.weights.tolist(), strict=True))
    assert sum(weight for _, weight in used) == pytest.approx(
        1.0, rel=1e-15
    )  # two doubles of which one is 1 less the other
    assert f"FLATNO{len(wanted.nodes) + 1}" not in head


def test_the_flat_field_of_the_ccd_is_as_the_soc_defines_it(reduced: Bench) -> None:
    (folder,) = reduced.published()
    model = outside("datamodel")
    parts = (
        model / "check_product.py",
        model / "data_model.json",
        raw_file(folder, "PIP_CAL_FlatField"),
    )
    checked = subprocess.run(
        [sys.executable, *map(str, parts)], capture_output=True, text=True, check=False
    )
    assert "1 file(s): 0 errors, 0 warnings" in checked.stdout, checked.stdout


def test_of_a_flat_field_given_by_hand_only_the_window_is_known(
    reduced: Bench, tmp_path: Path
) -> None:
    (folder,) = reduced.published()
    own = Path(shutil.copy(folder / "terms" / "flat.fits", tmp_path / "mine.fits"))
    with fits.open(own, mode="update") as hdus:
        hdus[1].data += 0.01
        for hdu in hdus[1:]:
            hdu.add_checksum()
    bench = reduced.copy(tmp_path)
    _, run = bench.reduce(replace=(own,), until="flat_field")
    (path,) = (r.leaf.product.path for r in run.reports if r.step == "flat_field")
    image, _, window = flat_of_window(folder)
    with fits.open(path, memmap=False) as made:
        np.testing.assert_array_equal(made[1].data[window], image + 0.01)
        outer = np.ones((1024, 1024), dtype=bool)
        outer[window] = False
        assert np.isnan(made[1].data[outer]).all()
        assert "FLAT_OF" not in made[1].header
        assert "TERM_FLAT replaced by the user" in str(made[1].header["HISTORY"])


def test_without_a_flat_field_the_product_is_one_and_says_so(
    reduced: Bench, tmp_path: Path
) -> None:
    bench = reduced.copy(tmp_path)
    _, run = bench.reduce(settings={"flat": {"skip": True}}, until="flat_field")
    (path,) = (r.leaf.product.path for r in run.reports if r.step == "flat_field")
    with fits.open(path, memmap=False) as made:
        assert (made[1].data == 1).all()
        assert (made[2].data == 0).all()
        assert "skipped" in str(made[1].header["HISTORY"])


def test_the_flat_field_comes_back_from_a_published_folder_with_its_bytes(
    reduced: Bench, tmp_path: Path
) -> None:
    bench = reduced.copy(tmp_path)
    (folder,) = bench.published()
    _, run = bench.reduce(visit=folder, work=tmp_path / "empty", until="flat_field")
    assert {r.step: r.outcome for r in run.reports}["flat_field"] == "cached"
