"""Published products open in astropy, STILTS, lightkurve, pycheops and PIPE.

The last three run in environments of their own.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Table
from astropy.timeseries import TimeSeries
from astropy.units import UnitsWarning

import flows.reduce  # noqa: F401  (its imports declare the steps)
from schemas.light_curves import LIGHT_CURVES
from schemas.products import soc_structure
from tasks.engine.run import STEPS
from tasks.numerics.times import bjd_tdb
from tests.conftest import raw_file
from tests.support.clients import last_line
from tests.support.runs import Bench


@pytest.fixture(scope="module")
def curve(reduced: Bench) -> Path:
    """The light curve DEFAULT of the tiny visit."""
    return raw_file(reduced.published()[0], "Lightcurve-DEFAULT")


def test_the_columns_of_the_soc_come_first_and_those_for_clients_follow(curve: Path) -> None:
    with fits.open(curve) as file:
        names, found = file[1].columns.names, file[1].columns.units
        soc = soc_structure("SCI_COR_Lightcurve").columns
        assert names[: len(soc)] == [c.name for c in soc]
        assert found[: len(soc)] == [c.unit for c in soc]
        assert names[len(soc) :] == [
            *("TIME", "BJD_TDB", "FLUX_ERR", "QUALITY", "SAT_LIGHT_TIME", "LOSS"),
            *("FLUX_DETRENDED", "TAKEN_TEMPERATURE", "TAKEN_ROLL", "TAKEN_BACKGROUND"),
            *("TAKEN_PLACE", "TAKEN_SMEARING", "TAKEN_CONTAMINATION"),
        ]
        table, header = file[1].data, file[1].header
        np.testing.assert_array_equal(table["FLUX_ERR"], table["FLUXERR"])
        # a double holds a BJD to 40 microseconds
        np.testing.assert_allclose(
            table["TIME"] + header["BJDREFI"] + header["BJDREFF"],
            table["BJD_TIME"],
            rtol=0,
            atol=1e-9,
        )


def test_every_light_curve_identifies_itself_in_its_primary_header(reduced: Bench) -> None:
    files = sorted(reduced.published()[0].glob("*Lightcurve-*.fits"))
    assert len(files) >= len(LIGHT_CURVES)
    for path in files:
        first, table = fits.getheader(path, 0), fits.getheader(path, 1)
        assert (first["TELESCOP"], first["OBJECT"]) == ("CHEOPS", table["TARGNAME"])
        assert (first["RA_OBJ"], first["DEC_OBJ"]) == (table["RA_TARG"], table["DEC_TARG"])


def test_the_history_of_a_light_curve_lists_its_steps_and_their_states(
    reduced: Bench,
) -> None:
    made = json.loads((reduced.published()[0] / "manifest.json").read_text())["steps"]
    warned = {step["step"]: step["payload"]["warnings"] for step in made}
    for name, last in (
        ("Lightcurve-DEFAULT", "quality"),
        ("Lightcurve-IMAGETTE_V", "imagette_photometry"),
    ):
        lines = "\n".join(
            map(str, fits.getheader(raw_file(reduced.published()[0], name), 1)["HISTORY"])
        ).replace("\n    ", " ")
        steps = {line.split()[0]: line for line in lines.splitlines()}
        assert [*steps][:: len(steps) - 1] == ["events", last]
        for step, line in steps.items():
            assert line.startswith(f"{step} {STEPS[step].version}: ")
            assert all(" ".join(warning.split()) in line for warning in warned[step])
        assert steps["bias"] == f"bias {STEPS['bias'].version}: completed"


def test_astropy_reads_a_light_curve_as_table_and_as_time_series(curve: Path) -> None:
    with warnings.catch_warnings():
        # 'electrons' and 'day' are units of the SOC, not of FITS
        warnings.simplefilter("ignore", UnitsWarning)
        warnings.filterwarnings("ignore", "column UTC_TIME has a unit")
        table = Table.read(curve)
        series = TimeSeries.read(
            curve, format="fits", time_column="BJD_TDB", time_format="jd", time_scale="tdb"
        )
    assert len(series) == len(table) == 12
    np.testing.assert_array_equal(series.time.jd, np.asarray(table["BJD_TIME"]))
    assert np.all(np.asarray(series["FLUX"].value) > 0)


def test_units_survive_a_round_trip_through_astropy(curve: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitsWarning)
        Table.read(curve).write(tmp_path / "copy.fits")
    before, after = (
        {n: (c.unit or "") for n, c in zip(h.names, h, strict=True)}
        for h in map(_columns, (curve, tmp_path / "copy.fits"))
    )
    same = {"pix": "pixel"}  # two names of one unit
    assert {n: same.get(u, u) for n, u in after.items()} == before


def test_star_temperatures_use_the_unit_name_common_to_the_soc_and_fits(
    reduced: Bench,
) -> None:
    # the SOC's star catalogue has Kelvin, its flat fields K; astropy does not accept Kelvin as a
    # FITS unit, not even as an alias
    soc = {c.name: c.unit for c in soc_structure("REF_APP_FlatFieldTeffMetadata").columns}
    for term, hdu in (("stars", "TERM_STARS"), ("prior", "TERM_PRIOR_STARS")):
        with fits.open(reduced.published()[0] / "terms" / f"{term}.fits") as file:
            unit = file[hdu].columns["T_EFF"].unit
        assert unit == soc["T_EFF"]
        assert units.Unit(unit, format="fits") is units.K


def _columns(path: Path) -> fits.ColDefs:
    with fits.open(path) as file:
        return file[1].columns


@pytest.mark.slow
def test_lightkurve_reads_a_light_curve_unaided(curve: Path) -> None:
    seen = last_line("lightkurve", "read_light_curves.py", curve)
    table = fits.getdata(curve, 1)
    assert (seen["label"], seen["mission"]) == (fits.getheader(curve, 1)["TARGNAME"], "CHEOPS")
    assert seen["rows"] == len(table)
    assert seen["flux"] == table["FLUX"].tolist()
    assert seen["flux_err"] == table["FLUXERR"].tolist()
    assert seen["quality"] == table["QUALITY"].tolist()
    # TIME is labelled TT, like TIMESYS of the file; both scales agree within 2 ms
    assert seen["bjd"] == pytest.approx(table["BJD_TIME"][0], abs=2e-8)
    assert seen["series_bjd"] == table["BJD_TIME"][0]
    assert (seen["median"], seen["unit"]) == (pytest.approx(1, abs=1e-12), "")
    assert seen["error_ppm"] == pytest.approx(
        1e6 * np.median(table["FLUXERR"] / np.median(table["FLUX"])), rel=1e-9
    )
    assert (seen["flattened"], seen["binned"]) == (len(table), 3)


def stilts(*arguments: str) -> list[dict[str, str]]:
    """Run STILTS, the command line of TOPCAT, and return its table; skip the test without it."""
    command = shutil.which("stilts")
    if command is None:
        if os.environ.get("DRP_CLIENTS") == "required" and shutil.which("java"):
            pytest.fail("stilts is not installed, although Java is")
        pytest.skip("stilts is not installed (it needs Java)")
    done = subprocess.run(
        [command, "tpipe", *arguments, "ofmt=csv"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_topcat_reads_columns_units_and_numbers_of_a_light_curve(curve: Path) -> None:
    columns = stilts(f"in={curve}", "cmd=meta Name Units Description")
    with fits.open(curve) as file:
        declared = {c.name: c.unit or "" for c in file[1].columns}
        table = file[1].data
        good = (table["EVENT"] == 0) & (table["QUALITY"] == 0)
        free = table["FLUX"][good] / (1 + table["CONTA_LC"][good])
    assert {row["Name"]: row["Units"] for row in columns} == declared
    meanings = {row["Name"]: row["Description"] for row in columns}
    assert all(meanings.values())
    assert meanings["BJD_TIME"] == "BJD in TDB at the geocentre, mid-exposure"
    assert (
        meanings["SAT_LIGHT_TIME"]
        == "light time to the geocentre, to add to BJD_TIME; NaN: no orbit"
    )  # longer than a comment
    cuts = "cmd=select EVENT==0&&QUALITY==0", "cmd=addcol FREE FLUX/(1+CONTA_LC)"
    found = stilts(f"in={curve}", *cuts, "cmd=keepcols 'BJD_TIME FREE'")
    assert [float(row["BJD_TIME"]) for row in found] == table["BJD_TIME"][good].tolist()
    assert [float(row["FREE"]) for row in found] == pytest.approx(free, rel=1e-15)


@pytest.fixture(scope="module")
def archive(reduced: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the tiny visit."""
    bench = reduced.copy(tmp_path_factory.mktemp("archive"))
    published, _ = bench.reduce(archive=True)
    assert published is not None
    assert not published.new
    return Path(f"{published.folder}.tgz")


def test_the_archive_holds_exactly_one_file_of_each_kind_that_pycheops_expects(
    archive: Path,
) -> None:
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    for part in (
        "SCI_RAW_SubArray",
        "SCI_RAW_Imagette",
        "SCI_COR_SubArray",
        "RPT_COR_DataReduction",
        "SCI_COR_Lightcurve-DEFAULT_V",
    ):
        assert [part in name for name in names].count(True) == 1, part
    assert not [name for name in names if name.startswith(".") or "Lightcurve-IMAGETTE" in name]


@pytest.mark.slow
def test_pycheops_opens_the_archive_and_fits_every_aperture(archive: Path, tmp_path: Path) -> None:
    seen = last_line("pycheops", "use_pycheops.py", archive, tmp_path / "home")
    assert (seen["target"], seen["obsid"]) == ("Simulated", 101)
    assert set(LIGHT_CURVES) | {"OPTIMAL", "PSF", "R25_Fixed"} == set(seen["apertures"])
    for aperture, (points, scatter, decontaminated) in seen["apertures"].items():
        # photon noise of the demo star: 200 ppm per point
        assert (points, scatter < 1e-3, decontaminated < 1e-12) == (12, True, True), aperture
    # a fit to twelve points may fail in some apertures, which pycheops then leaves out
    assert {"R15", "R20", "R30"} <= set(seen["scan"]) | {"RSUP"}
    assert len(seen["scan"]) >= 20
    assert all(np.isfinite(rms) for rms in seen["scan"].values())
    assert seen["metadata"] == seen["subarrays"][0] == 12
    assert seen["subarrays"][1:] == [200, 200]
    assert seen["imagettes"][0] == 36
    assert seen["delta_t"] > 0
    assert seen["report"] == "%PDF-"
    assert seen["plot"] > 10_000


@pytest.mark.slow
def test_pipe_reads_a_raw_visit_with_the_references(
    tiny_visit: Path, library: Path, tmp_path: Path
) -> None:
    seen = last_line("pipe", "use_pipe.py", tiny_visit, library, tmp_path / "home")
    raw, truth = raw_file(tiny_visit, "SCI_RAW_SubArray"), tiny_visit / "truth" / "truth.fits"
    stacks, words = fits.getdata(truth, "TRUTH_STACKS"), fits.getheader(raw, 1)
    assert all(
        "SCI_RAW_" in seen["files"][name]
        for name in ("file_att", "file_sa_raw", "file_hk", "file_im")
    )
    assert seen["switched_off"] == []
    assert (seen["stacks"], seen["imagettes"]) == ([12, 200, 200], [36, 35, 35])
    corner = [words["X_WINOFF"], words["Y_WINOFF"]]
    assert seen["offsets"][0] == corner
    assert [a - b for a, b in zip(*seen["offsets"][1:], strict=True)] == corner
    # the factors of the reference are off by 1 % of 0.6 %
    assert seen["gain"] == pytest.approx(1 / stacks["GAIN"].mean(), rel=1e-4)
    # one value for all images, from integers of three exposures
    assert seen["bias"] == pytest.approx(np.median(stacks["BIAS"]), abs=0.2)
    assert seen["ron"] == pytest.approx(3.5, rel=0.05)
    assert seen["mjd"] == stacks["MJD_TIME"].tolist()
    # PIPE takes MJD_TIME, in TT, for UTC: its Earth is 69 s behind, at most 2000 km or 7 ms
    expected = bjd_tdb(stacks["MJD_TIME"], words["RA_TARG"], words["DEC_TARG"])
    np.testing.assert_allclose(seen["bjd"], expected, rtol=0, atol=7e-3 / 86400)
    turned = (np.array(seen["roll"]) - stacks["ROLL_ANGLE"] + 180) % 360 - 180
    np.testing.assert_allclose(turned, 0, atol=1e-3)
    assert len(seen["imagette_roll"]) == 36
    assert (
        seen["temperature"] == fits.getdata(raw, "SCI_RAW_ImageMetadata")["thermFront_2"].tolist()
    )
    assert seen["teff"] == words["T_EFF"]
    assert seen["masked"] > 0
    assert seen["dark"] > 0
    assert seen["stars"] == len(fits.getdata(raw_file(tiny_visit, "EXT_PRE_StarCatalogue"), 1))
    # before its photometry it has the light within 25 pixels, 92 to 93 % of the target's, with a
    # scatter equal to the photon noise
    held = np.array(seen["flux"]) / stacks["TARGET"]
    assert 0.90 < held.mean() < 0.95
    assert held.std() / held.mean() < 3 / np.sqrt(stacks["TARGET"].mean())
