"""Which references a visit gets: each file once, by the version of its header, with reasons."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.references import list_references
from flows.runs.reduction import synthetic_warnings
from schemas.errors import BadInputError, MissingInputError
from schemas.inputs import PIXEL_SCALE
from schemas.payloads import Inventory
from schemas.settings import PipelineSettings
from tasks.delivery.folder import is_published, relocated
from tasks.engine.digests import Digests
from tasks.files import disk
from tasks.visit.inventory import Seen, renew_references, take_inventory
from tasks.visit.search import Found, search
from tests.support.faults import edited

SETTINGS = PipelineSettings()


@dataclass
class Place:
    """A visit and a library that a test may change, and the inventory taken of them."""

    visit: Path
    library: Path
    memory: Digests
    seen: Seen = field(default_factory=Seen)

    def inventory(self, *folders: Path) -> Inventory:
        """Take the inventory with references of some folders."""
        return take_inventory(
            self.visit,
            folders,
            SETTINGS,
            lambda _: self.memory,
            lambda: self.library,
            seen=self.seen,
        )

    def scale(self, folder: Path, name: str, version: tuple[int, int], label: str) -> Path:
        """Put a pixel scale of some version into a folder, under a name that ends with `label`."""
        folder.mkdir(exist_ok=True)
        (source,) = self.library.glob("*REF_APP_PixelScale*")
        path = Path(
            shutil.copyfile(source, folder / f"CH_TU{name}_REF_APP_PixelScale_{label}.fits")
        )
        with edited(path, "REF_APP_PixelScale") as part:
            part.set("ARCH_REV", version[0])
            part.set("PROC_NUM", version[1])
        return path

    def unsimulated(self) -> None:
        """Make the visit one of another origin than `drp simulate`."""
        (path,) = self.visit.rglob("*SCI_RAW_SubArray*")
        with edited(path, "SCI_RAW_SubArray") as part:
            part.set("STAMP", "archive 13")


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Digests:
    """Digests of the library's files, which take longer than the rest of a test."""
    return Digests(tmp_path_factory.mktemp("memory") / "digests.json")


@pytest.fixture
def place(tiny_visit: Path, library: Path, memory: Digests, tmp_path: Path) -> Place:
    visit = Path(shutil.copytree(tiny_visit, tmp_path / "visit"))
    return Place(visit, library, memory)


def names(inventory: Inventory) -> list[str]:
    """Return the names of the references."""
    return sorted(Path(r.product.path).name for r in inventory.chosen)


@pytest.mark.parametrize("way", ["nested", "named", "linked", "hard links"])
def test_a_file_that_is_reached_twice_is_one_file(place: Place, way: str, tmp_path: Path) -> None:
    expected = names(place.inventory(place.library))
    below = Path(shutil.copytree(place.library, place.visit / "references", copy_function=os.link))
    more = tmp_path / "more"
    more.mkdir()
    for path in sorted(below.iterdir()):
        if way == "linked":
            (more / path.name).symlink_to(path)
        else:
            os.link(path, more / path.name.replace("_V0100", "_V0101"))
    folders = {
        "nested": [place.visit],
        "named": [below, below, place.library],
        "linked": [more],
        "hard links": [more],
    }
    assert names(place.inventory(*folders[way])) == expected


def test_a_link_to_a_folder_is_not_followed_but_noted(place: Place) -> None:
    link = place.visit / "references"
    link.symlink_to(place.library)
    assert f"{link}: is a link to a folder; its content is ignored" in place.inventory().notes


def test_two_files_of_one_name_and_version_are_named_with_their_folders(
    place: Place, tmp_path: Path
) -> None:
    copies = [place.scale(tmp_path / name, "2015-01-01T00-00-00", (3, 0), "V0300") for name in "ab"]
    with pytest.raises(BadInputError, match="references of the kind pixel scale") as caught:
        place.inventory(place.library, *(path.parent for path in copies))
    assert all(str(path) in str(caught.value) for path in copies)


def test_the_default_library_never_competes_with_references_of_the_visit(place: Place) -> None:
    own = place.scale(place.visit / "own", "2015-01-01T00-00-00", (0, 1), "V0001")
    inventory = place.inventory()
    assert inventory.references[PIXEL_SCALE.kind].product.path == str(own)
    assert len(inventory.references) == len(place.inventory(place.library).references)
    shutil.copytree(place.library, place.visit / "all", copy_function=os.link)
    own.unlink()
    next((place.visit / "all").glob("*REF_APP_Limits*")).unlink()
    place.library = place.visit / "never asked for"  # the visit has all mandatory kinds
    assert place.inventory().fallbacks.keys() >= {"housekeeping limits"}


def test_the_version_of_the_header_counts_and_a_name_that_says_otherwise_is_reported(
    place: Place, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    higher = place.scale(new, "2015-01-01T00-00-00", (1, 9), "V0001")
    lower = place.scale(new, "2016-01-01T00-00-00", (1, 8), "V9900")
    inventory = place.inventory(place.library, new)
    chosen = inventory.references[PIXEL_SCALE.kind]
    assert (chosen.product.path, chosen.version) == (str(higher), (1, 9))
    assert f"{higher.name}: its name says V0001, its header V0109, which counts" in inventory.notes
    reasons = {Path(u.path): u.reason for u in place.seen.unused}
    assert reasons[lower] == (
        f"version V0108 is lower than V0109 of {higher.name}; its name says V9900, its header "
        "V0108, which counts"
    )
    rows = list_references([place.library, new], "2021-03-10T08:00:10")
    assert [r["file"] for r in rows if r["chosen"] and r["kind"] == PIXEL_SCALE.kind] == [
        higher.name
    ]
    assert next(r["note"] for r in rows if r["file"] == lower.name) == reasons[lower]
    assert all(r["chosen"] or r["note"] for r in rows)


def test_reprocessing_compares_versions_of_headers_whatever_the_names_say(
    place: Place, tmp_path: Path
) -> None:
    old = place.scale(tmp_path / "old", "2015-01-01T00-00-00", (1, 7), "V9900")
    new = place.scale(tmp_path / "new", "2016-01-01T00-00-00", (1, 8), "V0001")
    other = place.scale(tmp_path / "other", "2017-01-01T00-00-00", (1, 6), "V9901")
    published = place.inventory(place.library, old.parent)
    again, changes, unused = renew_references(published, [new.parent], SETTINGS, place.memory)
    assert changes == [f"pixel scale: {new.name} instead of {old.name}"]
    assert again.references[PIXEL_SCALE.kind].version == (1, 8)
    assert unused == []
    again, changes, unused = renew_references(published, [other.parent], SETTINGS, place.memory)
    assert (again.references, changes) == (published.references, [])
    assert unused[0].path == str(other)
    assert unused[0].reason.startswith(f"version V0106 is lower than V0107 of {old.name}")


def test_of_two_files_of_a_name_the_one_that_was_used_is_found_again(
    place: Place, tmp_path: Path
) -> None:
    used = place.scale(tmp_path / "used", "2015-01-01T00-00-00", (1, 7), "V0107")
    other = place.scale(tmp_path / "a", "2015-01-01T00-00-00", (1, 1), "V0107")
    inventory = place.inventory(place.library, used.parent)
    found = relocated(inventory, [other.parent, used.parent], disk.sha256)
    assert found.references[PIXEL_SCALE.kind].product.path == str(used)


def test_synthetic_references_are_marked_unless_the_visit_is_simulated(place: Place) -> None:
    quiet = place.inventory()
    assert quiet.simulated
    assert quiet.synthetic == ()
    assert synthetic_warnings(quiet) == []
    place.unsimulated()
    loud = place.inventory()
    assert set(loud.synthetic) == {*loud.references, "dark frame"}
    (warning,) = synthetic_warnings(loud)
    assert "drp simulate did not make this visit" in warning
    assert "bias frame" in warning


def test_a_synthetic_reference_never_outranks_one_of_the_instrument(
    place: Place, tmp_path: Path
) -> None:
    real = place.scale(tmp_path / "real", "2015-01-01T00-00-00", (0, 0), "V0000")
    with edited(real, "REF_APP_PixelScale") as part:
        part.set("STAMP", "archive 13")
    place.unsimulated()
    inventory = place.inventory(place.library, real.parent)
    assert inventory.references[PIXEL_SCALE.kind].product.path == str(real)
    assert PIXEL_SCALE.kind not in inventory.synthetic
    (reason,) = (u.reason for u in place.seen.unused if u.kind == PIXEL_SCALE.kind)
    assert reason == f"synthetic, other than {real.name}"
    published = place.inventory(place.library)
    again, _, _ = renew_references(published, [real.parent], SETTINGS, place.memory)
    assert again.references[PIXEL_SCALE.kind].product.path == str(real)


def test_a_validity_without_fractions_of_a_second_compares_as_a_time() -> None:
    ends = "2021-03-10T08:00:10", "2021-03-10T08:00:10.5"
    found = Found(Path("x"), "REF_APP_PixelScale", (1, 0), *ends)
    assert found.is_valid("2021-03-10T08:00:10.000000")
    assert found.is_valid("2021-03-10T08:00:10.500000")
    assert not found.is_valid("2021-03-10T08:00:10.500001")


@pytest.mark.parametrize("name", ["{}.gz", "observation.fits.gz"])
def test_a_compressed_file_is_named_where_its_kind_is_missing(place: Place, name: str) -> None:
    (raw,) = place.visit.rglob("*SCI_RAW_SubArray*")
    packed = raw.rename(raw.with_name(name.format(raw.name)))
    with pytest.raises(MissingInputError, match=r"is compressed: unpack it$") as c:
        place.inventory(place.library)
    assert f"below this folder; {packed.name} " in str(c.value)
    assert f"{packed.name}: is compressed, ignored; unpack it" in search([place.visit], []).notes


def test_a_compressed_reference_is_named_where_its_kind_is_missing(
    place: Place, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(place.library, tmp_path / "packed", copy_function=os.link))
    (bias,) = folder.glob("*REF_APP_BiasFrame*")
    bias.rename(f"{bias}.gz")
    with pytest.raises(MissingInputError, match=f"{bias.name}.gz is compressed: unpack it"):
        place.inventory(folder)


def test_a_file_below_a_folder_that_is_not_utf8_is_refused_in_ascii(place: Place) -> None:
    (raw,) = place.visit.rglob("*SCI_RAW_SubArray*")
    odd = Path(os.fsdecode(os.fsencode(place.visit) + b"/latin_\xe9"))
    odd.mkdir()
    raw.rename(odd / raw.name)
    with pytest.raises(BadInputError, match=r"/latin_\\udce9/.*: is not UTF-8; rename"):
        place.inventory(place.library)


def test_a_manifest_beside_raw_data_makes_no_published_folder(place: Place, tmp_path: Path) -> None:
    (place.visit / "manifest.json").write_text("{}")
    assert not is_published(place.visit)
    published = tmp_path / "CH_PR900001_TG000101_V0000"
    place.visit.rename(published)  # to which raw data were added
    assert is_published(published)
