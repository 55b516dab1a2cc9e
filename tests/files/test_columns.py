"""Columns of tables: read as declared, or refused with their name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as afits

from schemas.errors import BadInputError
from schemas.inputs import SAA_MAP, Input, Use
from schemas.products import Column, Structure
from tasks.files.columns import column_format, row_width
from tasks.files.header import Cards
from tasks.files.reader import open_declared
from tasks.files.writer import write_fits
from tests.support.any_product import set_logical, some_table
from tests.support.damaged_product import (
    refused,
    rewritten,
)
from tests.support.small_product import (
    COLUMNS,
    INPUT,
    OPTIONAL,
    TABLE,
    astropy_hdus,
    astropy_table,
    write_astropy,
)


def test_columns_of_every_type_written_by_astropy_read_as_they_were(path: Path) -> None:
    with open_declared(write_astropy(path, astropy_hdus()), INPUT, sums=True) as file:
        assert file.deviations == []
        for column in TABLE.columns:
            read = file["TST_TABLE"].column(column.name)
            np.testing.assert_array_equal(read, COLUMNS[column.name])
            assert read.dtype.isnative
            assert read.dtype.kind == COLUMNS[column.name].dtype.kind


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
            "has TFORM 1D TZERO 0 TSCAL 1, expected TFORM 1E TZERO 0 TSCAL 1",
        ),
        (
            "COUNTER",
            afits.Column("COUNTER", "1J", array=[1] * 3),
            "has TFORM 1J TZERO 0 TSCAL 1, expected TFORM 1J TZERO 2147483648 TSCAL 1",
        ),
        ("NAME", afits.Column("NAME", "9A", array=["a"] * 3), "has TFORM 9A .* expected TFORM 8A"),
        (
            "VECTOR",
            afits.Column("VECTOR", "2E", array=np.zeros((3, 2))),
            "has TFORM 2E .* expected TFORM 3E",
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
    refused(path, "HDU 2 TST_TABLE: column TEMPERATURE occurs twice")
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
            "HDU 2 TST_TABLE: column TEMPERATURE has the unit 'K', expected 'degC'"
            in file.deviations
        )
        assert "HDU 2 TST_TABLE: column VOLTAGE has the unit '', expected 'V'" in file.deviations
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
        ("TFORM3  = '999999999E'", "columns need [0-9]+ bytes per row"),
        ("TFORM3  = '999999999999E'", "column VOLTAGE has the format 999999999999E"),
        ("TFORM3  = '0E'", "columns need [0-9]+ bytes per row"),
        ("TFIELDS = -1", "keyword TFIELDS is -1, expected an integer from 0 to 999"),
        ("TFIELDS = 1000000000", "keyword TFIELDS is 1000000000"),
        ("TFIELDS = 'x'", "keyword TFIELDS is 'x'"),
        ("NAXIS   = 1", "columns need [0-9]+ bytes per row"),
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
            ("NAXIS1", 4 + 2**29),
            ("NAXIS2", 0),
            ("TFIELDS", 2),
            ("TTYPE1", "A"),
            ("TFORM1", "1J"),
            ("TTYPE2", "B"),
            ("TFORM2", f"{2**29}B"),
            ("EXTNAME", "X"),
        ]
    )
    path.write_bytes(afits.PrimaryHDU().header.tostring().encode() + header.tostring().encode())
    refused(
        path,
        "HDU 1 X: a row has 536870916 bytes",
        Input("x", ("X",), {"X": Use(declared, {}, ("A",))}, ""),
    )


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


def spelled(path: Path, case: Callable[[str], str]) -> Path:
    """Write an SAA map with names in another case."""
    write_fits(path, [some_table("EXT_APP_SAAMap", 3, LATITUDE=[-1, 0, 1])])
    with afits.open(path, memmap=False) as hdus:
        for i in range(1, 4):
            hdus[1].header[f"TTYPE{i}"] = case(hdus[1].header[f"TTYPE{i}"])
        hdus[1].header["EXTNAME"] = case("EXT_APP_SAAMap")
        data = [hdus[0].copy(), hdus[1].copy()]
    afits.HDUList(data).writeto(path, overwrite=True, checksum=True)
    return path


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_names_are_compared_without_regard_to_case(case: Callable[[str], str], path: Path) -> None:
    with open_declared(spelled(path, case), SAA_MAP, sums=True) as file:
        assert file.extname == "EXT_APP_SAAMap"
        assert file["EXT_APP_SAAMap"].column("LATITUDE").tolist() == [-1, 0, 1]
        assert list(file["EXT_APP_SAAMap"].present()) == ["LATITUDE", "LONGITUDE", "SAA_FLAG"]
        where = "HDU 1 EXT_APP_SAAMap: "
        assert f"{where}EXTNAME is spelled {case('EXT_APP_SAAMap')}" in file.deviations
        other = f"{where}column SAA_FLAG is spelled {case('SAA_FLAG')}"
        assert (other in file.deviations) == (case("SAA_FLAG") != "SAA_FLAG")


def test_names_that_differ_in_case_only_are_one_column_twice(path: Path) -> None:
    def twins(name: str) -> str:
        return {"LONGITUDE": "latitude"}.get(name, name)

    refused(spelled(path, twins), "column LATITUDE occurs twice", SAA_MAP)


def test_an_undefined_logical_is_neither_true_nor_false(path: Path) -> None:
    write_fits(path, [some_table("EXT_APP_SAAMap", 4, SAA_FLAG=[1, 0, 1, 0])])
    set_logical(path, "SAA_FLAG", [0, 3])
    with open_declared(path, SAA_MAP) as file:
        table = file["EXT_APP_SAAMap"]
        assert table.column("SAA_FLAG").tolist() == [False, False, True, False]
        assert table.undefined("SAA_FLAG").tolist() == [True, False, False, True]


def test_a_number_in_a_logical_column_is_refused(path: Path) -> None:
    write_fits(path, [some_table("EXT_APP_SAAMap", 4)])
    set_logical(path, "SAA_FLAG", [2], 1)
    with (
        open_declared(path, SAA_MAP) as file,
        pytest.raises(BadInputError, match=r"SAA_FLAG: 1 of 4 .* is byte 1 in row 3"),
    ):
        file["EXT_APP_SAAMap"].column("SAA_FLAG")


@pytest.mark.parametrize("digits", [10, 4299, 5000])
def test_a_repeat_count_of_many_digits_is_no_format(digits: int) -> None:
    header = Cards([("TFIELDS", 1), ("TTYPE1", "X"), ("TFORM1", f"{'1' * digits}D")])
    assert column_format(header, 1) == (0, "?")
    with pytest.raises(ValueError, match="column X has the format 111"):
        row_width(header, 1)
