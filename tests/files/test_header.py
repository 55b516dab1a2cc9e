"""Headers: keywords are read as declared or refused, whatever their cards are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits as afits
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BadInputError
from schemas.inputs import Use
from schemas.ranges import Allowed
from tasks.files.reader import open_declared
from tasks.files.structure import BLOCK
from tests.support.damaged_product import (
    PRINTABLE,
    UNSUMMED,
    changed,
    content_or_refusal,
    many,
    refused,
    rewritten,
)
from tests.support.small_product import (
    IMAGE,
    INPUT,
)


def test_typed_keywords_come_as_their_types(ours: Path) -> None:
    with open_declared(ours, INPUT) as file:
        hdu = file["TST_IMAGE"]
        assert (
            hdu.text("TARGNAME"),
            hdu.integer("NEXP"),
            hdu.number("NEXP"),
            hdu.keyword("DONE"),
        ) == ("55 Cnc", 3, 3.0, True)
        assert "TST_TABLE" in file
        assert "PRIMARY" not in file
        with pytest.raises(BadInputError, match="HDU TST_OTHER is missing"):
            file["TST_OTHER"]


@many
@given(data=st.data())
def test_any_card_in_a_header_breaks_nothing_but_our_own_way(
    data: st.DataObject, path: Path
) -> None:
    raw = bytearray(UNSUMMED)
    at = 80 * data.draw(
        st.sampled_from(
            [i for i in range(len(raw) // 80) if bytes(raw[80 * i + 8 : 80 * i + 10]) == b"= "]
        )
    )
    value = st.one_of(
        st.text(PRINTABLE, max_size=70),
        st.integers().map(str),
        st.floats().map(str),
        st.sampled_from(["", "''", "'", "T", "(1,2)", "9" * 70, "1E999", "-0"]),
    )
    raw[at + 10 : at + 80] = data.draw(value).encode().ljust(70)[:70]
    path.write_bytes(raw)
    found = content_or_refusal(path)
    assert isinstance(found, list) or str(path) in found


@pytest.mark.parametrize(
    ("keyword", "value", "match"),
    [
        ("NEXP", None, "keyword NEXP is missing"),
        ("NEXP", 0, "keyword NEXP is 0, expected 1 to 100"),
        ("NEXP", 3.0, "keyword NEXP is 3.0, expected type integer"),
        ("NEXP", "3", "keyword NEXP is '3', expected type integer"),
        ("NEXP", True, "keyword NEXP is True, expected type integer"),
        ("NEXP", afits.card.Undefined(), "keyword NEXP is empty, expected type integer"),
        ("EXPTIME", -1.0, r"keyword EXPTIME is -1\.0, expected more than 0"),
        ("EXPTIME", 0, "keyword EXPTIME is 0, expected more than 0"),
        ("EXPTIME", False, "keyword EXPTIME is False, expected type real"),
        ("EXPTIME", 1 + 2j, "keyword EXPTIME is .*, expected type real"),
        ("DONE", 1, "keyword DONE is 1, expected type boolean"),
        ("DONE", "T", "keyword DONE is 'T', expected type boolean"),
        ("TARGNAME", 55, "keyword TARGNAME is 55, expected type string"),
        ("V_STRT_U", "yesterday", "keyword V_STRT_U is 'yesterday', expected a time"),
        ("V_STRT_U", 2020, "keyword V_STRT_U is 2020, expected type utc"),
    ],
)
def test_a_needed_keyword_that_is_not_as_declared_is_refused(
    keyword: str, value: Any, match: str, path: Path
) -> None:
    def change(hdus: afits.HDUList) -> None:
        del hdus[1].header[keyword]
        if value is not None:
            hdus[1].header[keyword] = value

    refused(changed(path, change), f"HDU 1 TST_IMAGE: {match}")


@pytest.mark.parametrize(
    ("card", "match"),
    [
        ("NEXP    = 3 4", "keyword NEXP cannot be read"),
        ("NEXP    = 'x", "keyword NEXP cannot be read"),
        ("EXPTIME = NaN", "keyword EXPTIME cannot be read"),
        ("EXPTIME = 1E999", "keyword EXPTIME is inf, expected a finite number"),
        ("ARCH_REV= ^", None),
    ],
)
def test_a_card_that_cannot_be_read_is_refused_where_it_is_needed(
    card: str, match: str | None, path: Path
) -> None:
    rewritten(path, ("TST_IMAGE", card[:8].strip(" ="), card))
    if match:
        refused(path, f"HDU 1 TST_IMAGE: {match}", sums=False)
    else:
        with open_declared(path, INPUT) as file:
            assert "HDU 1 TST_IMAGE: keyword ARCH_REV cannot be read" in file.deviations


def test_a_needed_keyword_that_stands_there_twice_is_refused(path: Path) -> None:
    rewritten(path, ("TST_IMAGE", "ARCH_REV", "NEXP    =                    5"))
    refused(path, "HDU 1 TST_IMAGE: keyword NEXP occurs twice", sums=False)


def test_an_optional_keyword_and_another_version_are_deviations(path: Path) -> None:
    def change(hdus: afits.HDUList) -> None:
        hdus[1].header["EXT_VER"] = "9.9"
        del hdus[1].header["ARCH_REV"]

    with open_declared(changed(path, change), INPUT, sums=True) as file:
        assert file.deviations == [
            "HDU 1 TST_IMAGE: EXT_VER 9.9, expected 1.0",
            "HDU 1 TST_IMAGE: keyword ARCH_REV is missing",
        ]


def test_values_of_a_keyword_may_be_a_choice(ours: Path) -> None:
    declared = replace(
        INPUT, hdus={"TST_IMAGE": Use(IMAGE, {"TARGNAME": Allowed(choices=("K", "L"))})}
    )
    refused(ours, "keyword TARGNAME is '55 Cnc', expected 'K' or 'L'", declared)


@pytest.mark.parametrize(
    "twice",
    ["NAXIS1  =                    1", "EXTNAME = 'TST_IMAGE'", "BZERO   =                    0"],
)
def test_a_keyword_of_the_structure_that_stands_there_twice_is_refused(
    twice: str, path: Path
) -> None:
    refused(
        rewritten(path, ("TST_IMAGE", "ARCH_REV", twice)),
        f"HDU 1: keyword {twice[:8].strip()} occurs twice",
    )


def test_a_header_of_many_megabytes_is_refused(path: Path, ours: Path) -> None:
    data = ours.read_bytes()
    end = data.index(b"END".ljust(80), BLOCK)
    path.write_bytes(
        data[:end] + b"HISTORY x".ljust(80) * 137_500 + b"END".ljust(80) + data[2 * BLOCK :]
    )
    refused(path, "HDU 1: header is larger than 737280 bytes")


@pytest.mark.parametrize("byte", [0x00, 0x09, 0x0A, 0x1B, 0x7F, 0x80, 0xE9, 0xFF])
@pytest.mark.parametrize("place", ["value", "EXTNAME", "first of a block", "behind END"])
def test_control_and_foreign_bytes_in_a_header_are_refused(
    byte: int, place: str, path: Path
) -> None:
    data = bytearray(UNSUMMED)
    at = {
        "value": data.index(b"55 Cnc"),
        "EXTNAME": data.index(b"TST_IMAGE") + 3,
        "first of a block": data.index(b"XTENSION= 'BINTABLE'") + BLOCK,
        "behind END": data.index(b"END".ljust(80)) + 300,
    }[place]
    data[at] = byte
    path.write_bytes(data)
    refused(path, f"byte {at} of the header is not printable ASCII")


def test_text_behind_the_end_of_a_header_is_refused(path: Path) -> None:
    at = UNSUMMED.index(b"END".ljust(80)) + 300
    path.write_bytes(UNSUMMED[:at] + b"x" + UNSUMMED[at + 1 :])
    refused(path, "HDU 0: text after END")
