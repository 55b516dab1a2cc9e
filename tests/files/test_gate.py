"""The gate: every file is read as declared or refused, whatever its bytes are."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits as afits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import ROOT
from schemas.errors import BadInputError, BusyError, DrpError, MissingInputError
from schemas.inputs import REFERENCES, VISIT_INPUTS, Allowed, Input, Use
from schemas.payloads import Product
from schemas.products import Column, Structure, soc_structure
from tasks.files.reader import BLOCK, FitsFile, blocks, open_declared, scan
from tasks.files.units import unit_change
from tasks.files.writer import NewHdu, write_fits
from tasks.visit.images import open_images
from tasks.visit.raw import open_exposures
from tests.support.outside import outside
from tests.support.small_product import (
    COLUMNS,
    IMAGE,
    INPUT,
    OPTIONAL,
    TABLE,
    VALUES,
    astropy_hdus,
    astropy_table,
    new_hdus,
    write_astropy,
)

Change = Callable[[afits.HDUList], None]

PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)

many = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def changed(path: Path, change: Change, checksum: bool = True) -> Path:
    """Write the small product by astropy after `change` had its way with it."""
    hdus = astropy_hdus()
    change(hdus)
    return write_astropy(path, hdus, checksum)


def rewritten(path: Path, *cards: tuple[str, str, str]) -> Path:
    """Write the small product and then put raw cards, (EXTNAME, keyword, whole card), in place of
    its own.
    """
    data = write_astropy(path, astropy_hdus(), checksum=False).read_bytes()
    for extname, keyword, new in cards:
        start = (
            0
            if extname == "PRIMARY"
            else data.rindex(b"XTENSION", 0, data.index(f"'{extname}".encode()))
        )
        at = data.index(f"\n{keyword:8}".encode()[1:], start)
        data = data[:at] + new.encode("latin-1").ljust(80)[:80] + data[at + 80 :]
    path.write_bytes(data)
    return path


def content(path: Path, sums: bool = True) -> list[Any]:
    """Return all that a step could read of the small product."""
    with open_declared(path, INPUT, sums=sums) as file:
        image, table = file["TST_IMAGE"], file["TST_TABLE"]
        values: list[Any] = [image.keyword(name) for name in VALUES]
        return [
            *values,
            image.image().tobytes(),
            *(table.column(c.name).tobytes() for c in TABLE.columns),
        ]


def content_or_refusal(path: Path) -> list[Any] | str:
    """Return all of the small product, or the gate's message; any other exception is a failure."""
    try:
        return content(path)
    except BadInputError as error:
        return str(error)


def refused(path: Path, match: str, declared: Input = INPUT, sums: bool = True) -> None:
    """Assert that the gate refuses with code 65 and a message of one line that names the file and
    `match`.
    """
    with pytest.raises(BadInputError, match=match) as caught:
        open_declared(path, declared, sums=sums)
    assert caught.value.exit_code == 65
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "small.fits"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gate") / "ours.fits"
    write_fits(path, new_hdus())
    return path


def test_columns_of_every_type_written_by_astropy_read_as_they_were(path: Path) -> None:
    with open_declared(write_astropy(path, astropy_hdus()), INPUT, sums=True) as file:
        assert file.deviations == []
        for column in TABLE.columns:
            read = file["TST_TABLE"].column(column.name)
            np.testing.assert_array_equal(read, COLUMNS[column.name])
            assert read.dtype.isnative
            assert read.dtype.kind == COLUMNS[column.name].dtype.kind


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32", "uint32", "float", "double"])
def test_images_of_every_type_written_by_astropy_read_as_they_were(kind: str, path: Path) -> None:
    dtype = np.dtype({"float": "f4", "double": "f8"}.get(kind, kind))
    low, high = (0, 1) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    pixels = np.array([[[low, high, 3]], [[1, 0, 2]]], dtype)
    afits.HDUList([afits.PrimaryHDU(), afits.ImageHDU(pixels, name="X")]).writeto(path)
    declared = Input("x", ("X",), {"X": Use(Structure("X", image=kind, axes=(3, 1, 0)))}, "")
    with open_declared(path, declared) as file:
        hdu = file["X"]
        np.testing.assert_array_equal(hdu.image(), pixels)
        np.testing.assert_array_equal(hdu.finite_image(1, 2), pixels[1:])
        assert hdu.stored(1).shape == (1, 1, 3)
        assert hdu.rows == 2


@pytest.mark.parametrize(
    ("found", "wanted", "values", "expected"),
    [
        ("K", "degC", [0.0, 273.15, 295.0], [-273.15, 0.0, 21.85]),
        ("deg_C", "K", [-273.15, 0.0], [0.0, 273.15]),
        ("mV", "V", [1500.0, -1.0], [1.5, -0.001]),
        ("days", "s", [0.5], [43200.0]),
        ("rad", "deg", [np.pi], [180.0]),
    ],
)
def test_units_that_convert_are_converted(
    found: str, wanted: str, values: list[float], expected: list[float], path: Path
) -> None:
    declared = Input(
        "x",
        ("X",),
        {"X": Use(Structure("X", columns=(Column("C", "double", wanted),)), {}, ("C",))},
        "",
    )
    column = afits.Column("C", "1D", unit=found, array=np.array(values))
    afits.HDUList([afits.PrimaryHDU(), afits.BinTableHDU.from_columns([column], name="X")]).writeto(
        path
    )
    with open_declared(path, declared) as file:
        # one multiplication and one addition of float64: 1e-12 is some thousand roundings
        np.testing.assert_allclose(
            file["X"].column("C"), expected, rtol=1e-12, atol=1e-12 * max(np.abs(values))
        )
        assert any("column C has the unit" in d for d in file.deviations)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("m", "s"),
        ("furlong", "V"),
        ("mag", "electron"),
        ("dex(s)", "s"),
        ("1e400 V", "V"),
        ("0 V", "V"),
        ("V**(1/0)", "V"),
        ("((V", "V"),
        ("", "V"),
    ],
)
def test_units_that_do_not_convert_are_none(found: str, wanted: str) -> None:
    assert unit_change(found, wanted) is None


@many
@given(st.text(PRINTABLE, max_size=68), st.sampled_from(["V", "degC", "electron", "Hz"]))
def test_no_text_in_place_of_a_unit_breaks_the_gate(found: str, wanted: str) -> None:
    change = unit_change(found, wanted)
    assert change is None or np.isfinite(change).all()


def test_strings_end_at_a_nul_and_lose_what_is_not_ascii(path: Path) -> None:
    data = write_astropy(path, astropy_hdus(), checksum=False).read_bytes()
    path.write_bytes(data.replace(b"12345678", b"12\x00\xff5678").replace(b"b c\0", b"b\xe9c\0"))
    with open_declared(path, INPUT) as file:
        assert list(file["TST_TABLE"].column("NAME")) == ["", "b\ufffdc", "12"]


def test_an_empty_table_has_empty_columns_where_it_is_optional(path: Path) -> None:
    hdus = astropy_hdus()
    hdus[2] = astropy_table({name: values[:0] for name, values in COLUMNS.items()})
    with open_declared(write_astropy(path, hdus), OPTIONAL, sums=True) as file:
        assert {file["TST_TABLE"].column(c.name).size for c in TABLE.columns} == {0}
    refused(path, "HDU 2 TST_TABLE: has no rows")


def test_blocks_cover_all_planes_once() -> None:
    assert list(blocks(7, 100, 300)) == [(0, 3), (3, 6), (6, 7)]
    assert list(blocks(2, 1000, 300)) == [(0, 1), (1, 2)]
    assert list(blocks(0, 0)) == []


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


def test_a_file_closes_once_and_for_all(ours: Path) -> None:
    file = scan(ours)
    file.close()
    file.close()
    with pytest.raises(DrpError, match="read failed"):
        file.read_at(0, memoryview(bytearray(1)))


def test_an_empty_file_is_refused(path: Path) -> None:
    path.write_bytes(b"")
    refused(path, "is empty")


def test_a_file_that_is_not_there_is_missing_not_bad(path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"small\.fits: no such file"):
        open_declared(path, INPUT)


@pytest.mark.parametrize(
    ("length", "match"),
    [
        (1000, "HDU 0: truncated in its header, 1880 bytes are missing"),
        (BLOCK + 3, "HDU 1: truncated in its header, 2877 bytes are missing"),
        (BLOCK + 100, "HDU 1: truncated in its header, 2780 bytes are missing"),
        (2 * BLOCK, "HDU 1 TST_IMAGE: truncated, 2880 bytes are missing"),
        (2 * BLOCK + 50, "HDU 1 TST_IMAGE: truncated, 2830 bytes are missing"),
        (3 * BLOCK, "HDU TST_TABLE is missing"),
        (3 * BLOCK + 300, "HDU 2: truncated in its header, 2580 bytes are missing"),
        (-BLOCK, "HDU 2 TST_TABLE: truncated, 2880 bytes are missing"),
        (-1, "HDU 2 TST_TABLE: truncated, 1 bytes are missing"),
    ],
)
def test_a_cut_file_is_refused_with_what_is_missing(
    length: int, match: str, path: Path, ours: Path
) -> None:
    path.write_bytes(ours.read_bytes()[:length])
    refused(path, match)


def test_a_header_cut_at_a_block_is_refused(path: Path, ours: Path) -> None:
    data = ours.read_bytes()
    end = data.index(b"END".ljust(80), 3 * BLOCK) // BLOCK * BLOCK
    assert end > 3 * BLOCK  # the table's header has more than one block
    path.write_bytes(data[:end])
    refused(path, "HDU 2: truncated in its header, 2880 bytes are missing")


@many
@given(data=st.data())
def test_no_cut_passes(data: st.DataObject, ours: Path, path: Path) -> None:
    whole = ours.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(BadInputError, match=r"small\.fits: "):
        content(path)


@pytest.mark.parametrize(
    ("tail", "match"),
    [
        (b"x", "1 bytes after the last HDU"),
        (bytes(100), "100 bytes after the last HDU"),
        (b" " * BLOCK, "2880 bytes after the last HDU"),
        (bytes(2 * BLOCK), "5760 bytes after the last HDU"),
        (b"XTENS", "HDU 3: truncated in its header"),
    ],
)
def test_trailing_bytes_are_refused(tail: bytes, match: str, path: Path, ours: Path) -> None:
    path.write_bytes(ours.read_bytes() + tail)
    refused(path, match)


def _zip(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("small.fits", data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda d: b"\x89PNG\r\n\x1a\n" + d, "is not a FITS file, it looks like a PNG picture"),
        (lambda d: b"<!DOCTYPE html><p>404", "is not a FITS file, it looks like HTML"),
        (gzip.compress, "is not a FITS file, it looks like gzip"),
        (_zip, "is not a FITS file, it looks like a zip archive"),
        (lambda d: b"BZh9" + d, "is not a FITS file, it looks like bzip2"),
        (lambda d: b"SIMPLY  =" + d[9:], "is not a FITS file"),
        (lambda d: b"no", "is not a FITS file"),
        (lambda d: bytes(3 * BLOCK), "is not a FITS file"),
    ],
)
def test_what_is_not_fits_is_refused(
    make: Callable[[bytes], bytes], match: str, path: Path, ours: Path
) -> None:
    path.write_bytes(make(ours.read_bytes()))
    refused(path, match)


def test_a_primary_header_alone_is_refused(path: Path) -> None:
    write_astropy(path, afits.HDUList([afits.PrimaryHDU()]))
    refused(path, "has no extension")


def test_a_primary_with_data_is_refused(path: Path) -> None:
    write_astropy(path, afits.HDUList([afits.PrimaryHDU(np.zeros(3)), *astropy_hdus()[1:]]))
    refused(path, "HDU 0 PRIMARY: holds data")


def test_too_many_hdus_are_refused(path: Path) -> None:
    write_astropy(
        path,
        afits.HDUList([afits.PrimaryHDU(), *(afits.ImageHDU(name=f"X{i}") for i in range(64))]),
    )
    refused(path, "more than 64 HDUs")


def test_a_flipped_bit_in_data_is_refused_as_checksum(path: Path, ours: Path) -> None:
    data = bytearray(ours.read_bytes())
    data[2 * BLOCK + 7] ^= 16
    path.write_bytes(data)
    refused(path, "HDU 1 TST_IMAGE: checksum: DATASUM is [0-9]+, the data give [0-9]+")


@pytest.mark.parametrize("checksum", [True, "datasum", False])
def test_a_flipped_bit_in_padding_is_refused_with_and_without_sums(
    checksum: Any, path: Path
) -> None:
    hdus = astropy_hdus()
    hdus.writeto(path, checksum=checksum)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refused(path, "HDU 2 TST_TABLE: (checksum|the padding)")


def test_a_flipped_bit_in_a_comment_is_refused_as_checksum(path: Path, ours: Path) -> None:
    data = ours.read_bytes()
    path.write_bytes(data.replace(b"exposures", b"exposurew"))
    refused(path, "HDU 1 TST_IMAGE: checksum: CHECKSUM does not fit")


def test_absent_sums_are_deviations(path: Path) -> None:
    with open_declared(changed(path, lambda h: None, checksum=False), INPUT, sums=True) as file:
        assert file.deviations == [
            "HDU 1 TST_IMAGE: no CHECKSUM and no DATASUM",
            "HDU 2 TST_TABLE: no CHECKSUM and no DATASUM",
        ]


def test_empty_sums_count_as_absent(path: Path) -> None:
    cards = [("TST_IMAGE", "ARCH_REV", "CHECKSUM= ''"), ("TST_IMAGE", "PIPE_VER", "DATASUM =")]
    with open_declared(rewritten(path, *cards), OPTIONAL, sums=True) as file:
        assert "HDU 1 TST_IMAGE: no CHECKSUM and no DATASUM" in file.deviations


def test_a_datasum_alone_is_checked(path: Path) -> None:
    astropy_hdus().writeto(path, checksum="datasum")
    with open_declared(path, INPUT, sums=True) as file:
        assert "HDU 1 TST_IMAGE: no CHECKSUM" in file.deviations
    path.write_bytes(path.read_bytes().replace(b"b c\0", b"b d\0"))
    refused(path, "HDU 2 TST_TABLE: checksum: DATASUM")


def test_a_datasum_may_have_leading_zeros(path: Path) -> None:
    hdus = astropy_hdus()
    hdus[1] = afits.ImageHDU(np.full((1, 1, 2), 32769, np.uint16), hdus[1].header)
    hdus.writeto(path, checksum="datasum")
    data = path.read_bytes()
    assert b"DATASUM = '65537   '" in data
    path.write_bytes(data.replace(b"DATASUM = '65537   '", b"DATASUM = '00065537'"))
    content(path)


@many
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_changes_nothing(
    data: st.DataObject, ours: Path, path: Path
) -> None:
    raw = bytearray(ours.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    found = content_or_refusal(path)
    # a flip in the name CHECKSUM makes it absent, which is a deviation: DATASUM still vouches for
    # the data
    assert found == content(ours) if isinstance(found, list) else str(path) in found


@many
@given(data=st.data())
def test_a_flipped_bit_in_a_file_without_sums_breaks_nothing_but_our_own_way(
    data: st.DataObject, path: Path
) -> None:
    raw = bytearray(UNSUMMED)
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    found = content_or_refusal(path)
    assert isinstance(found, list) or str(path) in found


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


def _unsummed() -> bytes:
    buffer = io.BytesIO()
    astropy_hdus().writeto(buffer)
    return buffer.getvalue()


UNSUMMED = _unsummed()


def _rename(hdus: afits.HDUList) -> None:
    hdus[2].name = "TST_TABEL"


def _first(hdus: afits.HDUList) -> None:
    hdus[1], hdus[2] = hdus[2], hdus[1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda h: h.pop(2), "HDU TST_TABLE is missing"),
        (_rename, "HDU TST_TABLE is missing"),
        (lambda h: h.append(h[2].copy()), "HDU TST_TABLE stands there 2 times"),
        (_first, "HDU 1 is TST_TABLE, wanted TST_IMAGE"),
        (lambda h: h[1].header.remove("EXTNAME"), r"HDU 1 is \(no EXTNAME\), wanted TST_IMAGE"),
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

    refused(changed(path, swap), "HDU 1 TST_IMAGE: is a table, wanted an image")
    hdus = astropy_hdus()
    hdus[2] = ascii_table("TST_TABLE")
    refused(write_astropy(path, hdus), "HDU 2 TST_TABLE: is a TABLE, wanted a table")
    rewritten(path, ("TST_IMAGE", "XTENSION", "XTENSION=                    5"))
    refused(path, "HDU 1 TST_IMAGE: is a 5, wanted an image")


def table_with(path: Path, replaced: afits.Column | None, name: str) -> Path:
    """Write the small product with column `name` replaced, or without it."""
    hdus = astropy_hdus()
    columns = [c for c in hdus[2].columns if c.name != name] + (
        [replaced] if replaced is not None else []
    )
    hdus[2] = afits.BinTableHDU.from_columns(columns, name="TST_TABLE")
    return write_astropy(path, hdus)


@pytest.mark.parametrize(
    ("name", "replaced", "match"),
    [
        ("VOLTAGE", None, "is missing"),
        (
            "VOLTAGE",
            afits.Column("VOLTAGE", "1D", unit="V", array=[1.0] * 3),
            "has TFORM 1D TZERO 0 TSCAL 1, wanted 1E 0 1",
        ),
        (
            "COUNTER",
            afits.Column("COUNTER", "1J", array=[1] * 3),
            "has TFORM 1J TZERO 0 TSCAL 1, wanted 1J 2147483648 1",
        ),
        ("NAME", afits.Column("NAME", "9A", array=["a"] * 3), "has TFORM 9A .* wanted 8A"),
        (
            "VECTOR",
            afits.Column("VECTOR", "2E", array=np.zeros((3, 2))),
            "has TFORM 2E .* wanted 3E",
        ),
        (
            "VOLTAGE",
            afits.Column("VOLTAGE", "1E", unit="s", array=[1.0] * 3),
            "is in s, .* be converted to V",
        ),
    ],
)
def test_a_needed_column_that_deviates_is_refused_and_another_is_not_used(
    name: str, replaced: afits.Column | None, match: str, path: Path
) -> None:
    table_with(path, replaced, name)
    refused(path, f"HDU 2 TST_TABLE: column {name} {match}")
    with open_declared(path, OPTIONAL, sums=True) as file:
        table = file["TST_TABLE"]
        assert any(name in d for d in file.deviations)
        assert name not in table.present()
        assert set(table.present()) == {c.name for c in TABLE.columns} - {name}
        with pytest.raises(BadInputError, match=f"column {name} (is missing|cannot be used)"):
            table.column(name)
        np.testing.assert_array_equal(table.column("UHUGE"), COLUMNS["UHUGE"])


@pytest.mark.parametrize(
    "card",
    [
        "TZERO{}  =              32768.5",
        "TZERO{}  = '32768'",
        "TZERO{}  =",
        "TZERO{}  = 1E308",
        "TSCAL{}  = 2",
        "TSCAL{}  = 'x'",
    ],
)
def test_offsets_and_scales_that_are_not_declared_are_refused(card: str, path: Path) -> None:
    number = [c.name for c in TABLE.columns].index("WORD") + 1
    card = card.format(number)
    hdus = astropy_hdus()
    hdus[2].header[f"TSCAL{number}"] = 1
    write_astropy(path, hdus, checksum=False)
    data = path.read_bytes()
    at = data.index(card[:8].encode())
    path.write_bytes(data[:at] + card.encode().ljust(80) + data[at + 80 :])
    refused(path, "HDU 2 TST_TABLE: column WORD has TFORM 1I TZERO")


def test_a_needed_column_that_stands_there_twice_is_refused(path: Path) -> None:
    rewritten(path, ("TST_TABLE", "TTYPE3", "TTYPE3  = 'TEMPERATURE'"))
    refused(path, "HDU 2 TST_TABLE: column TEMPERATURE stands there 2 times")
    with open_declared(path, OPTIONAL) as file:
        assert "TEMPERATURE" not in file["TST_TABLE"].present()


def test_a_missing_unit_is_a_deviation_and_a_foreign_one_is_converted_where_no_step_asked_for_it(
    path: Path,
) -> None:
    hdus = astropy_hdus()
    columns = {name: COLUMNS[name] for name in COLUMNS if name != "VECTOR"}
    hdus[2] = astropy_table(columns, TEMPERATURE="K", VOLTAGE=" ")
    with open_declared(write_astropy(path, hdus), OPTIONAL) as file:
        assert (
            "HDU 2 TST_TABLE: column TEMPERATURE has the unit 'K', defined 'degC'"
            in file.deviations
        )
        assert "HDU 2 TST_TABLE: column VOLTAGE has the unit '', defined 'V'" in file.deviations
        # 273.15 is not a binary fraction: one rounding of values of some hundred
        np.testing.assert_allclose(
            file["TST_TABLE"].column("TEMPERATURE"), COLUMNS["TEMPERATURE"] - 273.15, atol=1e-12
        )
        np.testing.assert_array_equal(file["TST_TABLE"].column("VOLTAGE"), COLUMNS["VOLTAGE"])


@pytest.mark.parametrize(
    ("card", "match"),
    [
        ("TFORM3  = '1X'", "column VOLTAGE has the format 1X"),
        ("TFORM3  = '1PE(9)'", r"column VOLTAGE has the format 1PE\(9\)"),
        ("TFORM3  = 'hello'", "column VOLTAGE has the format hello"),
        ("TFORM3  = 7", "column VOLTAGE has the format 7"),
        ("TFORM3  = '999999999999E'", "columns need [0-9]+ bytes a row"),
        ("TFORM3  = '0E'", "columns need [0-9]+ bytes a row"),
        ("TFIELDS = -1", "keyword TFIELDS is -1, wanted an integer from 0 to 999"),
        ("TFIELDS = 1000000000", "keyword TFIELDS is 1000000000"),
        ("TFIELDS = 'x'", "keyword TFIELDS is 'x'"),
        ("NAXIS   = 1", "columns need [0-9]+ bytes a row"),
        ("TTYPE3  = 'A", "keyword TTYPE3 cannot be read"),
    ],
)
def test_a_table_that_does_not_add_up_is_refused(card: str, match: str, path: Path) -> None:
    refused(rewritten(path, ("TST_TABLE", card[:8].strip(), card)), f"HDU 2.*{match}", sums=False)


def test_a_giant_row_in_a_table_without_rows_is_refused(path: Path) -> None:
    declared = Structure("X", columns=(Column("A", "int32"),))
    header = afits.Header(
        [
            ("XTENSION", "BINTABLE"),
            ("BITPIX", 8),
            ("NAXIS", 2),
            ("NAXIS1", 4 + 2**39),
            ("NAXIS2", 0),
            ("TFIELDS", 2),
            ("TTYPE1", "A"),
            ("TFORM1", "1J"),
            ("TTYPE2", "B"),
            ("TFORM2", f"{2**39}B"),
            ("EXTNAME", "X"),
        ]
    )
    path.write_bytes(afits.PrimaryHDU().header.tostring().encode() + header.tostring().encode())
    refused(
        path,
        "HDU 1 X: a row of 549755813892 bytes",
        Input("x", ("X",), {"X": Use(declared, {}, ("A",))}, ""),
    )


@pytest.mark.parametrize(
    ("keyword", "value", "match"),
    [
        ("NEXP", None, "keyword NEXP is missing"),
        ("NEXP", 0, "keyword NEXP is 0, allowed is 1 to 100"),
        ("NEXP", 3.0, "keyword NEXP is 3.0, which is not of type integer"),
        ("NEXP", "3", "keyword NEXP is '3', which is not of type integer"),
        ("NEXP", True, "keyword NEXP is True, which is not of type integer"),
        ("NEXP", afits.card.Undefined(), "keyword NEXP is empty, which is not of type integer"),
        ("EXPTIME", -1.0, r"keyword EXPTIME is -1\.0, allowed is above 0"),
        ("EXPTIME", 0, "keyword EXPTIME is 0, allowed is above 0"),
        ("EXPTIME", False, "keyword EXPTIME is False, which is not of type real"),
        ("EXPTIME", 1 + 2j, "keyword EXPTIME is .*, which is not of type real"),
        ("DONE", 1, "keyword DONE is 1, which is not of type boolean"),
        ("DONE", "T", "keyword DONE is 'T', which is not of type boolean"),
        ("TARGNAME", 55, "keyword TARGNAME is 55, which is not of type string"),
        ("V_STRT_U", "yesterday", "keyword V_STRT_U is 'yesterday', wanted a time"),
        ("V_STRT_U", 2020, "keyword V_STRT_U is 2020, which is not of type utc"),
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
        ("EXPTIME = 1E999", "keyword EXPTIME is inf, which is not a finite number"),
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
    refused(path, "HDU 1 TST_IMAGE: keyword NEXP stands there 2 times", sums=False)


def test_an_optional_keyword_and_another_version_are_deviations(path: Path) -> None:
    def change(hdus: afits.HDUList) -> None:
        hdus[1].header["EXT_VER"] = "9.9"
        del hdus[1].header["ARCH_REV"]

    with open_declared(changed(path, change), INPUT, sums=True) as file:
        assert file.deviations == [
            "HDU 1 TST_IMAGE: EXT_VER 9.9, defined 1.0",
            "HDU 1 TST_IMAGE: keyword ARCH_REV is missing",
        ]


def test_values_of_a_keyword_may_be_a_choice(ours: Path) -> None:
    declared = replace(
        INPUT, hdus={"TST_IMAGE": Use(IMAGE, {"TARGNAME": Allowed(choices=("K", "L"))})}
    )
    refused(ours, "keyword TARGNAME is '55 Cnc', allowed is 'K' or 'L'", declared)


def neutral(
    structure: Structure, **values: str | int | float | bool
) -> dict[str, str | int | float | bool]:
    """Return a value of the right type for every keyword."""
    nothing: dict[str, str | int | float | bool] = {
        "string": "x",
        "utc": "2020-01-01T00:00:00",
        "boolean": False,
        "real": 1.0,
        "mjd": 1.0,
        "bjd": 1.0,
    }
    return {k.name: values.get(k.name, nothing.get(k.type, 1)) for k in structure.keywords.values()}


def some_table(extname: str, rows: int) -> NewHdu:
    structure = soc_structure(extname)
    shapes = {
        c.name: (rows, c.size) if c.size > 1 and c.letter != "A" else (rows,)
        for c in structure.columns
    }
    columns = {
        c.name: np.full(shapes[c.name], "x" if c.letter == "A" else 0) for c in structure.columns
    }
    return NewHdu(structure, neutral(structure), columns=columns)


def some_image(extname: str, shape: tuple[int, ...], **values: str | int | float | bool) -> NewHdu:
    structure = soc_structure(extname)
    return NewHdu(structure, neutral(structure, **values), pixels=np.ones(shape))


RAW_VALUES: dict[str, str | int | float | bool] = {
    "STACKING": "coadd",
    "RO_HW": "main",
    "RO_FREQU": 100_000,
    "SHAPE": "rectangular",
}


def raw_file(path: Path, rows: int, margin: tuple[int, ...], x: int = 1) -> Product:
    hdus = [
        some_image("SCI_RAW_SubArray", (3, 20, 19), X_WINOFF=x, **RAW_VALUES),
        some_table("SCI_RAW_ImageMetadata", rows),
        some_image("SCI_RAW_BlankLeft", margin, MRG_PROC="image", **RAW_VALUES),
    ]
    write_fits(path, hdus)
    return Product(path=str(path), sha256="0" * 64, extname="SCI_RAW_SubArray")


def test_images_and_metadata_of_different_number_are_refused_with_both(path: Path) -> None:
    with open_exposures(raw_file(path, 3, (3, 20, 8))) as raw:
        assert raw.count == 3
    with pytest.raises(
        BadInputError, match="SCI_RAW_SubArray has 3 images, SCI_RAW_ImageMetadata 2 rows"
    ):
        open_exposures(raw_file(path, 2, (3, 20, 8)))
    calibrated = some_image("SCI_CAL_SubArray", (3, 20, 19), SHAPE="circular")
    write_fits(path, [calibrated, some_table("SCI_CAL_ImageMetadata", 4)])
    product = Product(path=str(path), sha256="0" * 64, extname="SCI_CAL_SubArray")
    with (
        pytest.raises(
            BadInputError, match="SCI_CAL_SubArray has 3 images, SCI_CAL_ImageMetadata 4 rows"
        ),
        open_images(product),
    ):
        raise AssertionError("it was opened")


@pytest.mark.parametrize(
    ("margin", "x", "match"),
    [
        (
            (3, 19, 8),
            1,
            r"BlankLeft: has the shape \(3, 19, 8\), expected \(3, 20, 8\) for images of 19 x "
            r"20 pixels",
        ),
        ((2, 20, 8), 1, r"BlankLeft: has the shape \(2, 20, 8\), expected \(3, 20, 8\)"),
        ((3, 20, 8), 1020, r"window of 19 x 20 pixels at \(1020, 1\) extends beyond the CCD"),
    ],
)
def test_margins_and_windows_that_do_not_fit_are_refused_with_shapes(
    margin: tuple[int, ...], x: int, match: str, path: Path
) -> None:
    with pytest.raises(BadInputError, match=match):
        open_exposures(raw_file(path, 3, margin, x))


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        (
            np.zeros((2, 199, 200), np.uint16),
            r"has the shape \(200, 199, 2\) \(NAXIS1, .*\), wanted \(200, 200, 0\)",
        ),
        (np.zeros((200, 200), np.uint16), r"has 2 axes \(200, 200\), wanted 3"),
        (
            np.zeros((2, 200, 200), np.int16),
            r"pixels have BITPIX and BZERO \(16, 0\), wanted uint16 \(16, 32768\)",
        ),
        (
            np.zeros((2, 200, 200), np.float32),
            r"pixels have BITPIX and BZERO \(-32, 0\), wanted uint16",
        ),
        (np.zeros((0, 200, 200), np.uint16), "is empty, its shape is"),
    ],
)
def test_an_image_of_another_shape_or_type_is_refused(
    pixels: np.ndarray[Any, Any], match: str, path: Path
) -> None:
    hdu = (
        afits.ImageHDU(pixels, name="X")
        if pixels.size
        else afits.ImageHDU(np.zeros((1, 200, 200), np.uint16), name="X")
    )
    afits.HDUList([afits.PrimaryHDU(), hdu]).writeto(path)
    if not pixels.size:
        data = path.read_bytes().replace(
            b"NAXIS3  =                    1", b"NAXIS3  =                    0"
        )
        path.write_bytes(data[: 2 * BLOCK])
    structure = Structure("X", image="uint16", axes=(200, 200, 0))
    refused(path, f"HDU 1 X: {match}", Input("x", ("X",), {"X": Use(structure)}, ""))


def test_another_shape_is_a_deviation_where_it_does_not_matter(path: Path) -> None:
    write_astropy(path, astropy_hdus())
    use = Use(replace(IMAGE, axes=(5, 5, 0)), shape_matters=False)
    with open_declared(path, Input("x", ("TST_IMAGE",), {"TST_IMAGE": use}, "")) as file:
        assert "HDU 1 TST_IMAGE: shape (5, 4, 3), defined (5, 5, 0)" in file.deviations


HOSTILE = [
    ("TST_IMAGE", "NAXIS1  =  4611686018427387904", "keyword NAXIS1 is 4611686018427387904"),
    ("TST_IMAGE", "NAXIS1  =         999999999999", "truncated, [0-9]+ bytes are missing"),
    ("TST_IMAGE", "NAXIS1  =                   -5", "keyword NAXIS1 is -5"),
    ("TST_IMAGE", "NAXIS1  =                  5.0", r"keyword NAXIS1 is 5\.0"),
    ("TST_IMAGE", "NAXIS1  =                    T", "keyword NAXIS1 is True"),
    ("TST_IMAGE", "NAXIS   =                    4", "keyword NAXIS4 is missing"),
    (
        "TST_IMAGE",
        "NAXIS   =                    5",
        "keyword NAXIS is 5, wanted an integer from 0 to 4",
    ),
    ("TST_IMAGE", "NAXIS   =                  999", "keyword NAXIS is 999"),
    ("TST_IMAGE", "NAXIS   =                   -1", "keyword NAXIS is -1"),
    ("TST_IMAGE", "NAXIS   =                    0", "after the last HDU"),
    ("TST_IMAGE", "BITPIX  =                   17", "keyword BITPIX is 17"),
    ("TST_IMAGE", "BITPIX  =                 16.0", r"keyword BITPIX is 16\.0"),
    ("TST_IMAGE", "BITPIX  =           2147483648", "keyword BITPIX is 2147483648"),
    ("TST_IMAGE", "PCOUNT  =        1000000000000", "has a heap or groups"),
    ("TST_IMAGE", "GCOUNT  =        1000000000000", "has a heap or groups"),
    ("TST_IMAGE", "GCOUNT  =                   -1", "has a heap or groups"),
    ("TST_IMAGE", "BZERO   =                1E308", r"BSCALE 1 and BZERO 1e\+308"),
    ("TST_IMAGE", "BZERO   =                     ", "BSCALE 1 and BZERO None"),
    ("TST_IMAGE", "BSCALE  =                  0.5", r"BSCALE 0\.5 and BZERO 32768"),
    ("TST_IMAGE", "BSCALE  = 'x'                 ", "BSCALE x and BZERO 32768"),
    ("TST_TABLE", "NAXIS2  =        1000000000000", "truncated, [0-9]+ bytes are missing"),
    ("TST_TABLE", "NAXIS2  =                   -1", "keyword NAXIS2 is -1"),
    ("TST_TABLE", "PCOUNT  =                    8", "has a heap or groups"),
    ("PRIMARY", "SIMPLE  =                    F", "keyword SIMPLE is False, wanted T"),
    ("PRIMARY", "NAXIS   =                    3", "keyword NAXIS1 is missing"),
]


@pytest.mark.parametrize(("extname", "card", "match"), HOSTILE)
def test_impossible_sizes_are_refused(extname: str, card: str, match: str, path: Path) -> None:
    refused(rewritten(path, (extname, card[:8].strip(), card)), match)


def test_compressed_data_are_refused_even_without_a_heap(path: Path) -> None:
    refused(
        rewritten(path, ("TST_TABLE", "GCOUNT", "ZTABLE  =                    T")),
        "HDU 2 TST_TABLE: is compressed",
    )


@pytest.mark.parametrize(
    "twice",
    ["NAXIS1  =                    1", "EXTNAME = 'TST_IMAGE'", "BZERO   =                    0"],
)
def test_a_keyword_of_the_structure_that_stands_there_twice_is_refused(
    twice: str, path: Path
) -> None:
    refused(
        rewritten(path, ("TST_IMAGE", "ARCH_REV", twice)),
        f"HDU 1: keyword {twice[:8].strip()} stands there 2 times",
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
    refused(path, "HDU 0: something stands behind END")


def test_a_heap_pointer_is_never_followed(path: Path) -> None:
    column = afits.Column("V", "PJ()", array=np.array([np.arange(3), np.arange(2)], dtype=object))
    hdus = afits.HDUList(
        [*astropy_hdus()[:2], afits.BinTableHDU.from_columns([column], name="TST_TABLE")]
    )
    data = bytearray(write_astropy(path, hdus, checksum=False).read_bytes())
    at = data.rindex(np.array([3, 0], ">i4").tobytes())
    data[at : at + 8] = np.array([2**31 - 1, 2**31 - 1], ">i4").tobytes()
    path.write_bytes(data)
    refused(path, "HDU 2 TST_TABLE: has a heap")


def test_bombs_are_refused_in_little_memory(tmp_path: Path) -> None:
    for number, (extname, card, _) in enumerate(HOSTILE):
        rewritten(tmp_path / f"hostile{number}.fits", (extname, card[:8].strip(), card))
    with gzip.open(tmp_path / "gzip.fits", "wb", compresslevel=1) as bomb:
        for _ in range(400):
            bomb.write(bytes(1 << 20))
    tiles = afits.HDUList(
        [afits.PrimaryHDU(), afits.CompImageHDU(np.zeros((16, 16), np.uint16), name="TST_IMAGE")]
    )
    tiles.writeto(tmp_path / "tiles.fits")
    data = (tmp_path / "tiles.fits").read_bytes()
    for i in "12":
        data = data.replace(
            f"ZNAXIS{i} =                   16".encode(),
            f"ZNAXIS{i} =              2000000".encode(),
        )
    (tmp_path / "tiles.fits").write_bytes(data)
    assert b"2000000" in data
    with open(
        tmp_path / "sparse.fits", "wb"
    ) as sparse:  # what its header says is there: 2.5 TB that nobody may allocate
        sparse.write(
            rewritten(
                tmp_path / "x.fits", ("TST_TABLE", "NAXIS2", "NAXIS2  =          10000000000")
            ).read_bytes()
        )
        with open_declared(write_astropy(tmp_path / "sound.fits", astropy_hdus()), INPUT) as sound:
            start, row = sound["TST_TABLE"].data_start, sound["TST_TABLE"].shape[1]
        sparse.truncate(start + -(-row * 10**10 // BLOCK) * BLOCK)
    (tmp_path / "x.fits").unlink()
    script = """
        import resource, sys
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        from pathlib import Path
        from schemas.errors import DrpError
        from tests.small_product import INPUT
        from tasks.fits import open_declared
        for path in sorted(Path(sys.argv[1]).glob("*.fits")):
            try:
                with open_declared(path, INPUT) as file:
                    file["TST_TABLE"].column("COUNTER")
                print(path.stem, "passed")
            except DrpError as error:
                print(path.stem, error.exit_code, error)
        # ru_maxrss would count what the process had before it became this one
        status = open("/proc/self/status").read().splitlines()
        (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM"))
        print("peak", int(peak) >> 10)
    """
    root = ROOT
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        cwd=root,
        text=True,
        capture_output=True,
        check=True,
    )
    *lines, peak = run.stdout.splitlines()
    codes = dict(line.split()[:2] for line in lines)
    assert codes.pop("sound") == "passed"
    assert codes.pop("sparse") == str(BusyError.exit_code)
    assert set(codes.values()) == {"65"}
    assert len(codes) == len(HOSTILE) + 2
    assert (
        int(peak.split()[1]) < 200
    )  # MB, the bound of the fault list; Python, numpy and astropy alone take about 100


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_counted_where_a_step_needs_them_finite(
    bad: float, path: Path
) -> None:
    structure = Structure("X", image="float", axes=(0, 0))
    table = Structure("Y", columns=(Column("C", "double"),))
    pixels, cells = np.ones((3, 4)), np.ones(5)
    pixels[1, 2:] = bad
    cells[3] = bad
    write_fits(path, [NewHdu(structure, pixels=pixels), NewHdu(table, columns={"C": cells})])
    declared = Input("x", ("X",), {"X": Use(structure), "Y": Use(table, {}, ("C",))}, "")
    with open_declared(path, declared, sums=True) as file:
        with pytest.raises(BadInputError, match="HDU 1 X: 2 pixels are not finite numbers"):
            file["X"].finite_image()
        with pytest.raises(
            BadInputError, match="HDU 2 Y: column C: 1 values are not finite numbers"
        ):
            file["Y"].finite_column("C")
        np.testing.assert_array_equal(file["Y"].column("C"), cells)


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
