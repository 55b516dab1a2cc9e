"""Declared products: every HDU, keyword and column that is read or written, with unit and meaning.

The SOC's structures are in `soc.toml`; our own (terms) are declared in `terms.py` with the same
classes. Reader, writer, report and documentation all use these declarations.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np

KeywordType = Literal[
    "string", "integer", "unsigned", "real", "boolean", "utc", "mjd", "bjd", "obt"
]

# Column and image types: FITS letter or BITPIX, stored numpy type (big-endian), offset that makes
# it unsigned.
STORED: Mapping[str, tuple[str, str, int]] = {
    "bool": ("L", "S1", 0),
    "uint8": ("B", "u1", 0),
    "int8": ("B", "u1", -128),
    "int16": ("I", ">i2", 0),
    "uint16": ("I", ">i2", 1 << 15),
    "int32": ("J", ">i4", 0),
    "uint32": ("J", ">i4", 1 << 31),
    "int64": ("K", ">i8", 0),
    "uint64": ("K", ">i8", 1 << 63),
    "float": ("E", ">f4", 0),
    "double": ("D", ">f8", 0),
    "mjd": ("D", ">f8", 0),
    "bjd": ("D", ">f8", 0),
    "obt": ("K", ">i8", 0),
    "utc": ("A", "S26", 0),
}
BITPIX: Mapping[str, int] = {
    "uint8": 8,
    "int16": 16,
    "uint16": 16,
    "int32": 32,
    "uint32": 32,
    "float": -32,
    "double": -64,
}

# Size of a column with one element per radius: a visit has as many as its settings ask for.
PER_RADIUS = 0

_SIZED = re.compile(r"^([a-z]+\d*)\((\d+)\)$")


@dataclass(frozen=True, slots=True)
class Keyword:
    """One header keyword; `default` is written if there is no value."""

    name: str
    type: KeywordType
    unit: str = ""
    meaning: str = ""
    default: str | int | float | bool | None = None

    def __post_init__(self) -> None:
        """Reject a name that FITS would cut."""
        if len(self.name) > 8:
            raise ValueError(f"keyword {self.name} is longer than 8 characters")


@dataclass(frozen=True, slots=True)
class Column:
    """One table column; `size` is the length of a string or the number of elements.

    `size` is `PER_RADIUS` if there is one element per radius of the visit. `per` lists the radii or
    light curves for each of which the column always has an element or a row. It is not written to
    files, but changes what a step computes, hence its key.
    """

    name: str
    type: str
    unit: str = ""
    meaning: str = ""
    size: int = 1
    null: int | None = None
    per: tuple[float | str, ...] = ()

    @property
    def letter(self) -> str:
        """FITS letter of the format: A, L, B, I, J, K, E or D."""
        return "A" if self.type == "string" else STORED[self.type][0]

    @property
    def repeat(self) -> int:
        """Repeat count of the FITS format."""
        return 26 if self.type == "utc" else self.size

    @property
    def tform(self) -> str:
        """FITS format, such as 1D or 26A."""
        return f"{self.repeat}{self.letter}"

    @property
    def tzero(self) -> int:
        """Offset that is added to the stored integers."""
        return 0 if self.type == "string" else STORED[self.type][2]

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of one cell as stored in the file."""
        if self.type == "string":
            return np.dtype(f"S{self.size}")
        base = np.dtype(STORED[self.type][1])
        return np.dtype((base, (self.size,))) if self.size > 1 else base


@dataclass(frozen=True, slots=True)
class Structure:
    """One HDU, an image or a table.

    An image has a pixel type (`image`) and its NAXISn (`axes`, 0 for any size), a table `columns`.
    """

    extname: str
    meaning: str = ""
    version: str = ""
    level: str = ""
    keywords: Mapping[str, Keyword] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    image: str = ""
    axes: tuple[int, ...] = ()
    null: int | None = None
    associated: Mapping[str, bool] = field(default_factory=dict)  # EXTNAME -> mandatory

    @property
    def is_table(self) -> bool:
        """Whether this is a binary table."""
        return bool(self.columns)

    def for_radii(self, count: int) -> Structure:
        """Return the structure for a visit with this number of radii."""
        if not any(column.size == PER_RADIUS for column in self.columns):
            return self
        columns = (replace(c, size=count) if c.size == PER_RADIUS else c for c in self.columns)
        return replace(self, columns=tuple(columns))

    def column(self, name: str) -> Column:
        """Return the declaration of column `name`."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.extname} declares no column {name}")


def sized(text: str) -> tuple[str, int]:
    """Split a declared type such as ``string(20)`` into name and size."""
    match = _SIZED.match(text)
    return (match[1], int(match[2])) if match else (text, 1)


@cache
def _soc() -> dict[str, Any]:
    return tomllib.loads(files("schemas").joinpath("soc.toml").read_text(encoding="utf-8"))


@cache
def soc_structure(extname: str) -> Structure:
    """Return the SOC's definition of `extname`; KeyError if this project does not use it."""
    entry = _soc()["structure"][extname]
    associated = entry.get("associated", ())
    return Structure(
        extname=extname,
        meaning=entry.get("meaning", ""),
        version=entry["version"],
        level=entry["level"],
        keywords=_soc_keywords(entry),
        columns=_soc_columns(entry),
        image=entry.get("image", ""),
        axes=tuple(entry.get("axes", ())),
        null=entry.get("null"),
        associated={name.rstrip("?"): not name.endswith("?") for name in associated},
    )


def _soc_keywords(entry: Mapping[str, Any]) -> dict[str, Keyword]:
    model = _soc()
    names = ["EXT_VER", "DATA_LVL"]
    for name in entry["keywords"]:
        names += model["group"][name[1:]] if name.startswith("@") else [name]
    defaults = {
        "EXT_VER": entry["version"],
        "DATA_LVL": entry["level"],
        "TELESCOP": "CHEOPS",
        "INSTRUME": "CHEOPS",
        "ORIGIN": "SOC",
        "TIMESYS": "TT",
        **dict.fromkeys(
            ["PIPE_VER", *model["group"]["steps"], *model["group"]["references"]], "N/A"
        ),
        **entry.get("defaults", {}),
    }
    keywords = {}
    for name in names:
        kind, unit, meaning = model["keyword"][name]
        kind, unit = entry.get("keyword_types", {}).get(name, (kind, unit))
        keywords[name] = Keyword(name, kind, unit, meaning, defaults.get(name))
    return keywords


def _soc_columns(entry: Mapping[str, Any]) -> tuple[Column, ...]:
    columns = []
    for name in entry.get("columns", ()):
        kind, unit, meaning = _soc()["column"][name]
        kind, unit = entry.get("column_types", {}).get(name, (kind, unit))
        kind, size = sized(kind)
        columns.append(Column(name, kind, unit, meaning, size, entry.get("nulls", {}).get(name)))
    return tuple(columns)


def soc_extnames() -> tuple[str, ...]:
    """Return the EXTNAMEs of all SOC structures in `soc.toml`."""
    return tuple(_soc()["structure"])
