"""What the headers and PROV-JSON say of how a product was made."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from astropy.table import Table

from schemas.baseline import baseline
from schemas.errors import BadInputError
from tasks.delivery.folder import read_manifest
from tasks.delivery.published.provenance import provenance
from tasks.delivery.published.show import contents
from tests.conftest import raw_file
from tests.support.runs import Bench


@pytest.fixture(scope="module")
def folder(reduced: Bench) -> Path:
    return reduced.published()[0]


def test_every_hdu_of_every_soc_product_names_its_baseline_and_its_maker(folder: Path) -> None:
    stated = read_manifest(folder).baseline
    assert stated is not None
    for path in folder.glob("*.fits"):
        with fits.open(path) as file:
            for hdu in file[1:]:
                assert hdu.header["BASELINE"] == stated, (path.name, hdu.name)
                assert hdu.header.get("ORIGIN", "cheops-drp") == "cheops-drp"


def test_show_has_both_with_their_meanings(folder: Path) -> None:
    (hdu,) = contents(raw_file(folder, "Lightcurve-PSF")).hdus
    shown = {k.name: (k.value, k.meaning) for k in hdu.keywords}
    assert shown["ORIGIN"] == ("cheops-drp", "site that made this file")
    stated = read_manifest(folder).baseline
    assert shown["BASELINE"] == (stated, "digest of software, references, settings")


def test_the_maker_is_a_setting_that_changes_no_number(reduced: Bench, tmp_path: Path) -> None:
    bench = reduced.copy(tmp_path)
    published, run = bench.reduce(settings={"publication": {"origin": "University of X"}})
    assert published is not None
    assert published.new
    assert [r.step for r in run.reports if r.outcome == "done"] == []
    before, after = bench.published()
    curve = fits.getheader(raw_file(after, "Lightcurve-PSF"), 1)
    assert curve["ORIGIN"] == "University of X"
    assert curve["BASELINE"] == read_manifest(before).baseline


def test_a_baseline_depends_on_software_references_and_settings() -> None:
    parts: dict[str, Any] = {
        "software": {"drp": "1.0.0", "numpy": "2.4", "python": "3.11.7"},
        "steps": {"bias": "3"},
        "references": {"0 BiasFrame": "a" * 64},
        "settings": {"bias": {"clip": 5.0}, "publication": {"origin": "X"}},
    }
    same = {
        "software": {**parts["software"], "python": "3.13.1"},
        "settings": {**parts["settings"], "publication": {"origin": "Y"}},
    }
    assert re.fullmatch("[0-9a-f]{16}", baseline(**parts))
    assert baseline(**parts) == baseline(**{**parts, **same})
    others = [
        {"software": {**parts["software"], "numpy": "2.5"}},
        {"steps": {"bias": "4"}},
        {"references": {"0 BiasFrame": "b" * 64}},
        {"settings": {"bias": {"clip": 4.0}}},
    ]
    assert len({baseline(**{**parts, **other}) for other in [{}, *others]}) == 5


def test_a_manifest_whose_baseline_is_not_that_of_its_parts_is_rejected(
    folder: Path, tmp_path: Path
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"]["psf"]["fewest"] += 1
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInputError, match=r"baseline: is .*, but that of its parts is"):
        read_manifest(tmp_path)
    del manifest["baseline"]  # of an earlier version
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert read_manifest(tmp_path).baseline is None


@pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning")
def test_astropy_reads_the_time_of_a_light_curve_in_its_scale(folder: Path) -> None:
    table = Table.read(raw_file(folder, "Lightcurve-DEFAULT"), astropy_native=True)
    assert table["TIME"].scale == "tdb"
    # a double holds a BJD to 40 microseconds
    assert abs(table["TIME"].jd - table["BJD_TIME"]).max() < 1e-9
    assert table["UTC_TIME"].scale == "utc"
    # MJD_TIME is TT, 69 s ahead; texts have microseconds, doubles a microsecond too
    assert abs(table["UTC_TIME"].tt.mjd - table["MJD_TIME"]).max() < 1e-10


def test_tables_with_times_say_their_scale_and_place(folder: Path) -> None:
    for path in (raw_file(folder, "SCI_CAL_SubArray"), folder / "terms" / "events.fits"):
        with fits.open(path) as file:
            tables = [h for h in file[1:] if isinstance(h, fits.BinTableHDU)]
            assert tables
            for hdu in tables:
                assert (hdu.header["TIMESYS"], hdu.header["TREFPOS"]) == ("TT", "TOPOCENTER")


# roles of each relation in the W3C's schema of PROV-JSON; those that are always there come first
ROLES = {
    "used": ("prov:activity", "prov:entity"),
    "wasGeneratedBy": ("prov:entity", "prov:activity"),
    "wasStartedBy": ("prov:activity", "prov:starter"),
    "wasDerivedFrom": ("prov:generatedEntity", "prov:usedEntity"),
    "wasAssociatedWith": ("prov:activity", "prov:agent", "prov:plan"),
    "actedOnBehalfOf": ("prov:delegate", "prov:responsible"),
}
AGENTS = ("prov:agent", "prov:delegate", "prov:responsible")
ACTIVITIES = ("prov:activity", "prov:starter")
KIND_OF = dict.fromkeys(AGENTS, "agent") | dict.fromkeys(ACTIVITIES, "activity")


def test_the_provenance_has_the_structure_of_prov_json(folder: Path) -> None:
    document = json.loads(json.dumps(provenance(read_manifest(folder))))
    assert set(document) == {"prefix", "entity", "activity", "agent", *ROLES}
    for kind in ("entity", "activity", "agent"):
        for name, attributes in document[kind].items():
            assert name.split(":", 1)[0] in document["prefix"]
            for attribute, value in attributes.items():
                assert attribute.split(":", 1)[0] in document["prefix"]
                assert isinstance(value, str | int | float | bool) or set(value) == {"$", "type"}
    for relation, roles in ROLES.items():
        for name, record in document[relation].items():
            assert name.startswith("_:")
            assert tuple(record) == roles or set(record) == set(roles)
            for role, target in record.items():
                assert target in document[KIND_OF.get(role, "entity")]


def test_the_provenance_names_every_file_its_step_and_every_input(folder: Path) -> None:
    manifest = read_manifest(folder)
    document = provenance(manifest)
    made = {r["prov:entity"]: r["prov:activity"] for r in document["wasGeneratedBy"].values()}
    assert made.keys() == {f"file:{file.name}" for file in manifest.files}
    for file in manifest.files:
        assert document["activity"][made[f"file:{file.name}"]]["prov:label"] == file.step
    used = {r["prov:entity"] for r in document["used"].values()}
    references = {r.product.path for r in manifest.inventory.references.values()}
    assert {f"input:{name}" for name in references} < used
    assert f"input:{manifest.inventory.subarray.path}" in used
