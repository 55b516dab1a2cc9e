"""The writer: whole files or none, sums that astropy finds right, and no text that breaks a
card.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits as afits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import BadInputError, CannotCreateError
from schemas.inputs import Input, Use
from schemas.products import Column, Keyword, Structure, soc_extnames, soc_structure
from schemas.terms import TERMS
from tasks.files import disk
from tasks.files.cards import card, sum_header
from tasks.files.reader import open_declared, scan
from tasks.files.structure import BLOCK
from tasks.files.sums import encode_checksum, ones_complement_sum
from tasks.files.writer import (
    PUBLICATION,
    FitsWriter,
    NewHdu,
    compose_header,
    restamp,
    structure_of,
    write_fits,
)
from tests.support.disk_faults import fail_every_call, faults, listing
from tests.support.small_product import COLUMNS, IMAGE, INPUT, PIXELS, TABLE, VALUES, new_hdus

many = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

STAMP: dict[str, str | int | float | bool] = {
    "DATE": "2026-01-01T00:00:00",
    "STAMP": "drp " + "9" * 60,
    "PIPE_VER": "version " + "8" * 60,
    "ARCH_REV": 3,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "small.fits"


def test_astropy_reads_what_was_written_and_finds_the_sums_right(path: Path) -> None:
    write_fits(path, new_hdus())
    with afits.open(path, checksum=True) as hdus:  # a wrong sum warns, and warnings are errors
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus["TST_IMAGE"].data, PIXELS)
        assert hdus["TST_IMAGE"].data.dtype == np.uint16
        for column in TABLE.columns:
            np.testing.assert_array_equal(hdus["TST_TABLE"].data[column.name], COLUMNS[column.name])
            assert (hdus["TST_TABLE"].columns[column.name].unit or "") == column.unit
        header = hdus["TST_IMAGE"].header
        assert {name: header[name] for name in VALUES} == VALUES
        assert header.comments["EXPTIME"] == "[s] exposure time"
        assert all("CHECKSUM" in h.header and "DATASUM" in h.header for h in hdus)


def test_astropy_warns_of_a_wrong_sum_so_that_its_silence_means_something(path: Path) -> None:
    write_fits(path, new_hdus())
    data = bytearray(path.read_bytes())
    data[2 * BLOCK] ^= 1
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="(Checksum|Datasum) verification failed"):
        read_sums(path)


def read_sums(path: Path) -> None:
    with afits.open(path, checksum=True) as hdus:
        assert len(hdus) == 3


WRITTEN = [
    name
    for name in (*soc_extnames(), *TERMS)
    if structure_of(name).is_table or structure_of(name).image
]


@pytest.mark.parametrize("extname", WRITTEN)
def test_every_declared_structure_can_be_written_and_passes_the_gate_and_astropy(
    extname: str, path: Path
) -> None:
    structure = structure_of(extname)
    words = {
        "string": "it's",
        "utc": "2020-01-01T00:00:00",
        "boolean": True,
        "real": -1.5,
        "mjd": 59000.5,
        "bjd": 2.46e6,
    }
    keywords: dict[str, Any] = {
        k.name: words.get(k.type, 7)
        for k in structure.keywords.values()
        if k.name not in PUBLICATION
    }
    if structure.is_table:
        cells = {c.name: some_cells(c, 2) for c in structure.for_radii(29).columns}
        write_fits(path, [NewHdu(structure, keywords, columns=cells)])
    else:
        write_fits(
            path,
            [
                NewHdu(
                    structure, keywords, pixels=np.ones([n or 2 for n in reversed(structure.axes)])
                )
            ],
        )
    use = Use(
        structure, dict.fromkeys(structure.keywords), tuple(c.name for c in structure.columns)
    )
    declared = Input("x", (extname,), {extname: use}, "")
    with open_declared(path, declared, sums=True) as file, afits.open(path, checksum=True) as other:
        assert [d for d in file.deviations if "EXT_VER" not in d] == []
        other.verify("exception")
        assert {name: file[extname].keyword(name) for name in keywords} == keywords
        for column in structure.columns:
            np.testing.assert_array_equal(file[extname].column(column.name), cells[column.name])


def some_cells(column: Column, rows: int) -> np.ndarray[Any, Any]:
    if column.letter == "A":
        return np.full(rows, "x")
    if column.letter == "L":
        return np.full((rows, column.size) if column.size > 1 else rows, True)
    return np.full((rows, column.size) if column.size > 1 else rows, 100)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    write_fits(tmp_path / "a.fits", new_hdus())
    write_fits(tmp_path / "b.fits", new_hdus())
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()
    write_fits(tmp_path / "c.fits", new_hdus(DONE=False))
    assert (tmp_path / "a.fits").read_bytes() != (tmp_path / "c.fits").read_bytes()


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        ("uint16", 65535, True),
        ("uint16", 65536, False),
        ("uint16", -1, False),
        ("int16", -32768, True),
        ("int16", 32768, False),
        ("uint8", 255, True),
        ("uint8", 256, False),
        ("int8", -128, True),
        ("int8", 128, False),
        ("uint64", 2**64 - 1, True),
        ("uint64", -1, False),
        ("int64", 2**63, False),
        ("int32", 1.0, True),
        ("int32", 1.5, False),
        ("int32", np.nan, False),
        ("int32", np.inf, False),
    ],
)
def test_whole_numbers_that_do_not_fit_are_refused_and_never_wrapped(
    kind: str, value: float, fits: bool, path: Path
) -> None:
    structure = Structure("X", columns=(Column("C", kind),))
    hdu = NewHdu(structure, columns={"C": np.array([value, value])})
    if fits:
        write_fits(path, [hdu])
        with open_declared(path, Input("x", ("X",), {"X": Use(structure, {}, ("C",))}, "")) as file:
            assert int(file["X"].column("C")[0]) == value
    else:
        with pytest.raises(ValueError, match=f"column C: values do not fit {kind}"):
            write_fits(path, [hdu])
        assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "pixels", [np.full((1, 1, 1), 65536), np.full((1, 1, 1), -1), np.full((1, 1, 1), 0.5)]
)
def test_pixels_that_do_not_fit_are_refused(pixels: np.ndarray[Any, Any], path: Path) -> None:
    with pytest.raises(ValueError, match="TST_IMAGE: pixels do not fit uint16"):
        write_fits(path, [NewHdu(IMAGE, VALUES, pixels=pixels)])


@pytest.mark.parametrize(
    ("hdu", "error", "match"),
    [
        (
            NewHdu(IMAGE, {**VALUES, "DARK": 1}, pixels=PIXELS),
            KeyError,
            "TST_IMAGE declares no keyword DARK",
        ),
        (NewHdu(IMAGE, {}, pixels=PIXELS), KeyError, "TST_IMAGE: no value for keyword NEXP"),
        (
            NewHdu(IMAGE, {**VALUES, "NEXP": 1.5}, pixels=PIXELS),
            ValueError,
            "keyword NEXP is 1.5, expected type integer",
        ),
        (NewHdu(IMAGE, {**VALUES, "NEXP": "3"}, pixels=PIXELS), ValueError, "keyword NEXP is '3'"),
        (
            NewHdu(IMAGE, {**VALUES, "EXPTIME": np.nan}, pixels=PIXELS),
            ValueError,
            "keyword EXPTIME is nan",
        ),
        (
            NewHdu(IMAGE, {**VALUES, "EXPTIME": "1"}, pixels=PIXELS),
            ValueError,
            "keyword EXPTIME is '1'",
        ),
        (NewHdu(IMAGE, {**VALUES, "DONE": 3}, pixels=PIXELS), ValueError, "keyword DONE is 3"),
        (NewHdu(IMAGE, VALUES), ValueError, "TST_IMAGE: an image needs pixels"),
        (
            NewHdu(IMAGE, VALUES, pixels=PIXELS[0]),
            ValueError,
            r"TST_IMAGE: image has the shape \(4, 5\), expected \(0, 0, 0\)",
        ),
        (NewHdu(TABLE), ValueError, "TST_TABLE: a table needs columns"),
        (
            NewHdu(TABLE, columns={**COLUMNS, "FLAG": np.array([True])}),
            ValueError,
            "column FLAG has 1 rows, the first has 3",
        ),
        (NewHdu(TABLE, columns={"FLAG": COLUMNS["FLAG"]}), KeyError, "UTC_TIME"),
    ],
)
def test_what_is_not_as_declared_is_refused_and_leaves_nothing(
    hdu: NewHdu, error: type[Exception], match: str, path: Path
) -> None:
    path.write_bytes(b"older")
    with pytest.raises(error, match=match):
        write_fits(path, [hdu])
    assert listing(path.parent) == {"small.fits": b"older"}


def test_values_take_the_declared_type(path: Path) -> None:
    write_fits(path, new_hdus(EXPTIME=2, NEXP=5.0, DONE=1, TARGNAME=55))
    with open_declared(path, INPUT, sums=True) as file:
        hdu = file["TST_IMAGE"]
        assert [hdu.keyword(n) for n in ("EXPTIME", "NEXP", "DONE", "TARGNAME")] == [
            2.0,
            5,
            True,
            "55",
        ]
        assert isinstance(hdu.keyword("EXPTIME"), float)


def test_an_image_of_integers_says_what_stands_for_no_data(path: Path) -> None:
    write_fits(path, [NewHdu(replace(IMAGE, null=65535), VALUES, pixels=PIXELS)])
    assert afits.getheader(path, 1)["BLANK"] == 32767  # 65535 - 32768: BLANK is the stored number


def test_structures_are_found_by_name() -> None:
    assert structure_of("TERM_DARK") is TERMS["TERM_DARK"]
    assert structure_of("SCI_CAL_SubArray") == soc_structure("SCI_CAL_SubArray")


HOSTILE = [
    "",
    "  x  ",
    "it's",
    "'" * 68,
    "'" * 200,
    "x" * 68,
    "x" * 69,
    "x" * 1000,
    "x" * 67 + "'",
    "y" * 66 + "'&",
    "α Cen",
    "\u202egnp",
    "line\nSIMPLE  =                    F",
    "\x00\x1b[31m",
    "END",
    "a / b",
    "&",
    "é" * 68,
    "\ud800",
    "<script>",
    "=cmd()",
    "../../x",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_cut_or_escaped_and_never_breaks_a_card(text: str, path: Path) -> None:
    write_fits(path, new_hdus(TARGNAME=text))
    with open_declared(path, INPUT, sums=True) as file, afits.open(path, checksum=True) as other:
        assert file.deviations == []
        found = file["TST_IMAGE"].text("TARGNAME")
        assert other[1].header["TARGNAME"] == found
        assert other[1].header["NEXP"] == 3
        other.verify("exception")
    if text.isascii() and text.isprintable() and len(text.replace("'", "''")) <= 68:
        assert found == text.rstrip()
    else:
        assert found.isascii()
        assert found.isprintable()


@many
@given(st.text(max_size=120), st.text(max_size=120))
def test_any_value_and_comment_make_one_card_of_80_bytes(value: str, comment: str) -> None:
    made = card("TARGNAME", value, comment)
    assert len(made) == 80
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = afits.Card.fromstring(made)
        read.verify("exception")
        if value.isascii() and value.isprintable() and len(value.replace("'", "''")) <= 68:
            assert read.value == value.rstrip()


@many
@given(
    st.one_of(
        st.integers(-(2**63), 2**64),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
    )
)
def test_any_number_reads_back_from_its_card(value: float) -> None:
    read = afits.Card.fromstring(card("NUMBER", value, "a comment")).value
    assert type(read) is type(value)
    assert read == value


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_a_table_stays_in_its_cell(text: str, path: Path) -> None:
    write_fits(
        path,
        [new_hdus()[0], NewHdu(TABLE, columns={**COLUMNS, "NAME": np.array([text, "b", "c"])})],
    )
    with open_declared(path, INPUT, sums=True) as file, afits.open(path, checksum=True) as other:
        found = file["TST_TABLE"].column("NAME")
        assert list(found[1:]) == ["b", "c"]
        assert found[0].isascii()
        assert found[0].isprintable()
        assert other[2].data["NAME"][0].strip() == found[0]
        np.testing.assert_array_equal(file["TST_TABLE"].column("VECTOR"), COLUMNS["VECTOR"])


def test_bytes_in_a_text_column_are_cleaned_too(path: Path) -> None:
    structure = Structure("X", columns=(Column("C", "string", size=4),))
    write_fits(path, [NewHdu(structure, columns={"C": np.array([b"a\xff\nb", b"ok"])})])
    with open_declared(path, Input("x", ("X",), {"X": Use(structure, {}, ("C",))}, "")) as file:
        assert list(file["X"].column("C")) == ["a??b", "ok"]


def test_the_encoded_checksum_is_that_of_the_standard() -> None:
    # FITS 4.0, appendix J.4: the example's complement of 868229149 is hcHjjc9ghcEghc9g
    assert encode_checksum(868229149) == "hcHjjc9ghcEghc9g"


@many
@given(st.integers(0, 2**32 - 1))
def test_the_encoded_checksum_completes_any_sum_to_all_ones(total: int) -> None:
    text = encode_checksum(total)
    assert text.isalnum()
    rotated = text[1:] + text[0]  # the characters stand one byte off the words in the header
    words = np.frombuffer(bytes(c - 48 for c in rotated.encode()), ">u4")
    assert int(words.sum(dtype=np.uint64)) == 0xFFFFFFFF - total


@many
@given(st.binary(max_size=400), st.integers(0, 2**32 - 1))
def test_the_sum_is_the_slow_one_of_the_standard(data: bytes, start: int) -> None:
    data += bytes(-len(data) % 4)
    slow = start
    for i in range(0, len(data), 4):
        slow += int.from_bytes(data[i : i + 4], "big")
        slow = (slow & 0xFFFFFFFF) + (slow >> 32)
    assert ones_complement_sum(data, start) == slow


def test_a_header_with_its_sum_adds_up_to_all_ones() -> None:
    header = sum_header(compose_header(new_hdus()[0], 0), 12345)
    assert ones_complement_sum(header, 12345) == 0xFFFFFFFF
    assert len(header) % BLOCK == 0


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "float", "double"])
@pytest.mark.parametrize("cuts", [[], [1], [2, 3], [1, 1, 4], [1, 2, 3, 4]])
def test_a_streamed_cube_has_the_bytes_of_a_whole_one(
    kind: str, cuts: list[int], tmp_path: Path
) -> None:
    structure = replace(IMAGE, image=kind)
    pixels = np.random.default_rng(1).integers(0, 255, (5, 3, 7))
    write_fits(tmp_path / "whole.fits", [NewHdu(structure, VALUES, pixels=pixels), new_hdus()[1]])
    with scan(tmp_path / "whole.fits") as file:
        stored = file["TST_IMAGE"].stored()
    with FitsWriter(tmp_path / "stream.fits") as writer:
        writer.begin_cube(NewHdu(structure, VALUES, shape=pixels.shape))
        for block in np.split(
            stored, cuts
        ):  # of 21 pixels a plane: blocks do not end at words of 4 bytes
            writer.write_block(block.tobytes())
        writer.end_cube()
        writer.write(new_hdus()[1])
    assert (tmp_path / "stream.fits").read_bytes() == (tmp_path / "whole.fits").read_bytes()


def test_a_sum_that_is_known_already_is_taken(tmp_path: Path) -> None:
    structure = replace(IMAGE, image="double")
    pixels = np.arange(60.0).reshape(3, 4, 5)
    write_fits(tmp_path / "whole.fits", [NewHdu(structure, VALUES, pixels=pixels)])
    with FitsWriter(tmp_path / "stream.fits") as writer:
        writer.begin_cube(NewHdu(structure, VALUES, shape=pixels.shape))
        for plane in pixels.astype(">f8"):
            words = int(plane.view(">u4").sum(dtype=np.uint64))  # carries not yet folded in
            writer.write_block(plane.tobytes(), words)
        writer.end_cube()
    assert (tmp_path / "stream.fits").read_bytes() == (tmp_path / "whole.fits").read_bytes()


@pytest.mark.parametrize("planes", [2, 4])
def test_a_cube_of_another_size_than_its_header_says_is_refused(planes: int, path: Path) -> None:
    def write() -> None:
        with FitsWriter(path) as writer:
            writer.begin_cube(NewHdu(IMAGE, VALUES, shape=(3, 4, 5)))
            writer.write_block(bytes(planes * 40))
            writer.end_cube()

    with pytest.raises(ValueError, match=f"{planes * 40} bytes, expected 120"):
        write()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("after", ["finish", "write", "begin_cube"])
def test_a_cube_that_is_not_ended_is_never_published(after: str, path: Path) -> None:
    def write() -> None:
        with FitsWriter(path) as writer:
            writer.begin_cube(NewHdu(IMAGE, VALUES, shape=(3, 4, 5)))
            writer.write_block(bytes(120))
            if after == "write":
                writer.write(new_hdus()[1])
            if after == "begin_cube":
                writer.begin_cube(NewHdu(IMAGE, VALUES, shape=(3, 4, 5)))

    with pytest.raises(ValueError, match="a cube was not ended"):
        write()
    assert list(path.parent.iterdir()) == []


def stream(path: Path) -> None:
    with FitsWriter(path) as writer:
        writer.begin_cube(NewHdu(IMAGE, VALUES, shape=PIXELS.shape))
        for plane in PIXELS:
            writer.write_block((plane ^ np.uint16(1 << 15)).astype(">u2").tobytes())
        writer.end_cube()
        writer.write(new_hdus()[1])


@faults
@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize(
    ("write", "least"), [(lambda p: write_fits(p, new_hdus()), 7), (stream, 11)]
)
def test_a_product_is_written_whole_or_not_at_all(
    write: Callable[[Path], None], least: int, older: bool, code: int, for_good: bool, path: Path
) -> None:
    if older:
        path.write_bytes(b"older")
    assert fail_every_call(lambda: write(path), path.parent, code, for_good) >= least + older
    with open_declared(path, INPUT, sums=True) as file:
        np.testing.assert_array_equal(file["TST_IMAGE"].image(), PIXELS)


@faults
def test_a_restamped_copy_is_whole_or_not_there(code: int, for_good: bool, path: Path) -> None:
    write_fits(path, new_hdus())
    target = path.with_name("stamped.fits")
    assert fail_every_call(lambda: restamp(path, target, STAMP), path.parent, code, for_good) > 10
    with open_declared(target, INPUT, sums=True) as file:
        assert file["TST_IMAGE"].integer("ARCH_REV") == 3


def test_a_product_is_on_the_disk_before_it_has_its_name_and_its_name_after(
    path: Path, calls: list[tuple[str, str]]
) -> None:
    write_fits(path, new_hdus())
    actions = [action for action, _ in calls]
    assert set(actions[:-3]) == {"create", "write"}
    assert calls[-3:] == [("fsync", path.name), ("rename", path.name), ("fsync", path.parent.name)]
    calls.clear()
    restamp(path, path.with_name("stamped.fits"), STAMP)
    assert calls[-3:] == [
        ("fsync", "stamped.fits"),
        ("rename", "stamped.fits"),
        ("fsync", path.parent.name),
    ]
    assert [action for action, _ in calls].count("fsync") == 2


def test_nothing_is_left_of_a_writer_whose_user_fails(path: Path) -> None:
    path.write_bytes(b"older")
    writer = FitsWriter(path)

    def write() -> None:
        with writer:
            writer.write(new_hdus()[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert listing(path.parent) == {"small.fits": b"older"}
    writer.abandon()  # once more does no harm


def test_a_writer_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CannotCreateError,
        match=r"missing/small\.fits: cannot be created, its folder does not exist",
    ):
        FitsWriter(tmp_path / "missing" / "small.fits")


@pytest.mark.parametrize(
    "stamp", [STAMP, {"PIPE_VER": "1.0"}, {"STAMP": "'" * 80}, {"ARCH_REV": 99, "DATE": "α"}, {}]
)
def test_a_stamp_there_and_back_gives_the_same_bytes(
    stamp: dict[str, str | int | float | bool], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        TERMS, "TST_IMAGE", IMAGE
    )  # comments that a long stamp displaced come back from the declaration
    write_fits(path, new_hdus())
    before = path.read_bytes()
    there, back = path.with_name("there.fits"), path.with_name("back.fits")
    restamp(path, there, stamp)
    restamp(there, back, {**PUBLICATION, "PIPE_VER": "N/A"})
    assert back.read_bytes() == before
    assert path.read_bytes() == before
    assert (there.read_bytes() == before) == (not stamp)
    with open_declared(there, INPUT, sums=True) as file, afits.open(there, checksum=True) as other:
        other.verify("exception")
        np.testing.assert_array_equal(file["TST_IMAGE"].image(), PIXELS)


@pytest.mark.parametrize("extname", ["SCI_CAL_SubArray", "SCI_COR_Lightcurve"])
def test_a_published_product_comes_back_though_its_stamps_left_no_room_for_comments(
    extname: str, path: Path
) -> None:
    structure = soc_structure(extname)
    words = {"string": "x", "utc": "2020-01-01T00:00:00", "boolean": True}
    keywords: dict[str, Any] = {
        k.name: words.get(k.type, 7)
        for k in structure.keywords.values()
        if k.name not in PUBLICATION
    }
    files = [name for name in structure.keywords if name.startswith("RF_FIL")]
    keywords |= dict.fromkeys(files, "N/A")
    if structure.is_table:
        hdu = NewHdu(
            structure, keywords, columns={c.name: some_cells(c, 2) for c in structure.columns}
        )
    else:
        hdu = NewHdu(structure, keywords, pixels=np.ones((2, 3, 4)))
    write_fits(path, [hdu])
    there, back = path.with_name("there.fits"), path.with_name("back.fits")
    restamp(
        path,
        there,
        {
            **STAMP,
            "PROC_NUM": 12,
            **dict.fromkeys(files, "CH_TU2020-01-29T00-00-00_REF_APP_" + "F" * 60),
        },
    )
    restamp(there, back, {**PUBLICATION, **dict.fromkeys(files, "N/A")})
    assert back.read_bytes() == path.read_bytes()
    assert there.read_bytes() != path.read_bytes()


def test_a_file_of_somebody_else_keeps_its_comments(path: Path, tmp_path: Path) -> None:
    image = afits.ImageHDU(PIXELS, name="FOREIGN")
    image.header["STATION"] = ("x", "where it was received")
    afits.HDUList([afits.PrimaryHDU(), image]).writeto(path, checksum=True)
    restamp(path, tmp_path / "b.fits", {"STATION": "y"})
    with afits.open(tmp_path / "b.fits", checksum=True) as hdus:
        assert tuple(hdus[1].header.cards["STATION"]) == ("STATION", "y", "where it was received")


def test_stamping_refuses_what_it_cannot_vouch_for(path: Path, tmp_path: Path) -> None:
    afits.HDUList([afits.PrimaryHDU(), afits.ImageHDU(PIXELS, name="X")]).writeto(path)
    target = tmp_path / "target.fits"
    with pytest.raises(BadInputError, match=r"small\.fits: HDU 1 X: has no CHECKSUM or no DATASUM"):
        restamp(path, target, STAMP)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInputError, match=r"small\.fits: HDU 1 X: truncated"):
        restamp(path, target, STAMP)
    assert sorted(os.listdir(tmp_path)) == ["small.fits"]
    write_fits(path, new_hdus())
    target.write_bytes(b"older")
    with pytest.raises(CannotCreateError, match=r"target\.fits: already exists"):
        restamp(path, target, STAMP)
    assert target.read_bytes() == b"older"


def test_a_keyword_that_is_absent_is_not_added(path: Path, tmp_path: Path) -> None:
    write_fits(path, new_hdus())
    restamp(path, tmp_path / "b.fits", {"NEWKEY": 1})
    assert (tmp_path / "b.fits").read_bytes() == path.read_bytes()
    assert disk.sha256(path) == disk.sha256(tmp_path / "b.fits")


def test_a_keyword_unit_leads_its_comment() -> None:
    structure = Structure(
        "X", image="uint8", axes=(0,), keywords={"A": Keyword("A", "real", "m", "length")}
    )
    text = compose_header(NewHdu(structure, {"A": 1}, pixels=np.zeros(1)), 0)
    assert b"A       =                  1.0 / [m] length" in text


def test_history_is_told_in_cards_that_go_on_where_a_line_is_long(tmp_path: Path) -> None:
    line = "smearing 3: warning; " + "the top margin does not tell the time of a shift, " * 3
    declared = TERMS["TERM_APERTURES_RADII"]
    path = tmp_path / "a.fits"
    write_fits(
        path,
        [
            NewHdu(
                declared,
                columns={"RADIUS": np.array([1.0])},
                history=("bias 2: completed", line, "naïve"),
            )
        ],
    )
    with afits.open(path, checksum=True) as file:
        cards = list(map(str, file[1].header["HISTORY"]))
    assert cards[0] == "bias 2: completed"
    assert cards[-1] == "na\\xefve"
    assert all(part.startswith("    ") for part in cards[2:-1])
    assert " ".join(part.strip() for part in cards[1:-1]) == line.strip()
