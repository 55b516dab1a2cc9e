"""The gate: a file holds the HDUs that are declared, and closes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as afits

from schemas.errors import DrpError
from schemas.inputs import REFERENCES, VISIT_INPUTS, Input
from tasks.files.reader import FitsFile, open_declared, scan
from tests.support.damaged_product import (
    Change,
    changed,
    refused,
    rewritten,
)
from tests.support.outside import outside
from tests.support.small_product import (
    INPUT,
    OPTIONAL,
    astropy_hdus,
    write_astropy,
)


def test_asking_for_what_is_not_declared_is_our_own_mistake(ours: Path) -> None:
    with open_declared(ours, INPUT) as file, scan(ours) as unchecked:
        with pytest.raises(KeyError, match="declares no keyword DARK"):
            file["TST_IMAGE"].keyword("DARK")
        with pytest.raises(KeyError, match="declares no column DARK"):
            file["TST_TABLE"].column("DARK")
        with pytest.raises(KeyError, match="is not declared"):
            unchecked["TST_TABLE"].column("NAME")
        with pytest.raises(KeyError, match="declares no keyword"):
            unchecked["TST_TABLE"].keyword("NEXP")


def test_a_file_closes_once_and_for_all(ours: Path) -> None:
    file = scan(ours)
    file.close()
    file.close()
    with pytest.raises(DrpError, match="read failed"):
        file.read_at(0, memoryview(bytearray(1)))


def _rename(hdus: afits.HDUList) -> None:
    hdus[2].name = "TST_TABEL"


def _first(hdus: afits.HDUList) -> None:
    hdus[1], hdus[2] = hdus[2], hdus[1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda h: h.pop(2), "HDU TST_TABLE is missing"),
        (_rename, "HDU TST_TABLE is missing"),
        (lambda h: h.append(h[2].copy()), "HDU TST_TABLE occurs twice"),
        (_first, "HDU 1 is TST_TABLE, expected TST_IMAGE"),
        (lambda h: h[1].header.remove("EXTNAME"), r"HDU 1 is \(no EXTNAME\), expected TST_IMAGE"),
    ],
)
def test_needed_hdus_stand_there_once(change: Change, match: str, path: Path) -> None:
    refused(changed(path, change), match)


def ascii_table(extname: str) -> afits.TableHDU:
    return afits.TableHDU.from_columns([afits.Column("A", "I4", array=[1])], name=extname)


def test_hdus_that_no_step_uses_may_be_there_and_optional_ones_absent(path: Path) -> None:
    def change(hdus: afits.HDUList) -> None:
        hdus.pop(2)
        hdus.extend(
            [afits.ImageHDU(name="OTHER"), afits.ImageHDU(name="OTHER"), ascii_table("ASCII")]
        )

    for checksum in (True, False):
        with open_declared(changed(path, change, checksum), OPTIONAL, sums=True) as file:
            assert file["OTHER"].declared is None


def test_a_table_in_place_of_an_image_is_refused_and_the_other_way_round(path: Path) -> None:
    def swap(hdus: afits.HDUList) -> None:
        hdus[1].name, hdus[2].name = "TST_TABLE", "TST_IMAGE"
        hdus[1], hdus[2] = hdus[2], hdus[1]

    refused(changed(path, swap), "HDU 1 TST_IMAGE: is a table, expected an image")
    hdus = astropy_hdus()
    hdus[2] = ascii_table("TST_TABLE")
    refused(write_astropy(path, hdus), "HDU 2 TST_TABLE: is a TABLE, expected a table")
    rewritten(path, ("TST_IMAGE", "XTENSION", "XTENSION=                    5"))
    refused(path, "HDU 1 TST_IMAGE: is a 5, expected an image")


@pytest.mark.parametrize("folder", ["visits", "real"])
def test_every_outside_file_that_a_step_reads_passes_the_gate(folder: str) -> None:
    place = outside(folder)
    kinds = {
        first: declared for declared in (*VISIT_INPUTS, *REFERENCES) for first in declared.first
    }
    passed = 0
    for path in sorted(p for p in place.rglob("*.fits") if "truth" not in p.parts):
        with scan(path) as file:
            declared = kinds.get(file.extname)
        if declared is not None:
            with open_declared(path, declared, sums=True) as file:
                read_all(file, declared)
            passed += 1
    assert passed > 5


def read_all(file: FitsFile, declared: Input) -> None:
    """Compare what is used of a file with what astropy reads."""
    with afits.open(file.path) as other:
        for hdu in file.hdus[1:]:
            use = declared.hdus.get(hdu.extname)
            if use is None:
                continue
            if use.structure.image:
                np.testing.assert_array_equal(hdu.image(), other[hdu.index].data)
            for name in use.columns:
                found = other[hdu.index].data[name]
                np.testing.assert_array_equal(
                    hdu.column(name), np.char.strip(found) if found.dtype.kind == "U" else found
                )
