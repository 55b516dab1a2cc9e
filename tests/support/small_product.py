"""A small product with a cube and a table of all column types, from our writer or astropy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits as afits

from schemas.inputs import Input, Use
from schemas.products import Column, Keyword, Structure
from schemas.ranges import Allowed
from tasks.files.writer import NewHdu

KEYWORDS = (
    Keyword("EXT_VER", "string", "", "version", "1.0"),
    Keyword("NEXP", "integer", "", "exposures"),
    Keyword("EXPTIME", "real", "s", "exposure time"),
    Keyword("V_STRT_U", "utc", "", "start of validity"),
    Keyword("DONE", "boolean", "", "whether it is done"),
    Keyword("TARGNAME", "string", "", "target, text from outside"),
    Keyword("ARCH_REV", "integer", "", "archive revision"),
    Keyword(
        "PIPE_VER",
        "string",
        "",
        "version of the pipeline, with a comment far longer than a card",
    ),
)

IMAGE = Structure(
    "TST_IMAGE", "a cube", "1.0", "T", {k.name: k for k in KEYWORDS}, (), "uint16", (0, 0, 0)
)

TABLE = Structure(
    "TST_TABLE",
    "a table",
    columns=(
        Column("UTC_TIME", "utc", "TIMESYS=UTC"),
        Column("TEMPERATURE", "double", "degC"),
        Column("VOLTAGE", "float", "V"),
        Column("FLAG", "bool"),
        Column("BYTE", "uint8"),
        Column("SIGNED_BYTE", "int8"),
        Column("SHORT", "int16"),
        Column("WORD", "uint16"),
        Column("LONG", "int32"),
        Column("COUNTER", "uint32"),
        Column("HUGE", "int64"),
        Column("UHUGE", "uint64"),
        Column("NAME", "string", size=8),
        Column("VECTOR", "float", "electron", size=3),
        Column("FLAGS", "bool", size=2),
        Column("WORDS", "uint16", size=2),
    ),
)

NEEDED: dict[str, Allowed | None] = {
    "NEXP": Allowed(1, 100),
    "EXPTIME": Allowed(0, above=True, high=1e5),
    "V_STRT_U": None,
    "DONE": None,
    "TARGNAME": None,
}

INPUT = Input(
    "small product",
    ("TST_IMAGE",),
    {
        "TST_IMAGE": Use(IMAGE, NEEDED),
        "TST_TABLE": Use(TABLE, {}, tuple(c.name for c in TABLE.columns)),
    },
    "for tests",
)

OPTIONAL = Input(
    "the image only",
    ("TST_IMAGE",),
    {"TST_IMAGE": Use(IMAGE), "TST_TABLE": Use(TABLE, optional=True)},
    "",
)

VALUES: dict[str, str | int | float | bool] = {
    "NEXP": 3,
    "EXPTIME": 1.5,
    "V_STRT_U": "2020-02-29T00:00:00",
    "DONE": True,
    "TARGNAME": "55 Cnc",
    "ARCH_REV": 0,
}

PIXELS = (np.arange(60, dtype=np.uint16) * 1092).reshape(3, 4, 5)  # 0 to 64428

COLUMNS: dict[str, np.ndarray[Any, Any]] = {
    "UTC_TIME": np.array([f"2020-02-29T23:59:5{i}.123456" for i in range(3)]),
    "TEMPERATURE": np.array([-40.0, np.nan, 21.5]),
    "VOLTAGE": np.array([0.25, -8.5, 30.0], np.float32),
    "FLAG": np.array([True, False, True]),
    "BYTE": np.array([0, 7, 255], np.uint8),
    "SIGNED_BYTE": np.array([-128, 0, 127], np.int8),
    "SHORT": np.array([-32768, 0, 32767], np.int16),
    "WORD": np.array([0, 1, 65535], np.uint16),
    "LONG": np.array([-(2**31), 0, 2**31 - 1], np.int32),
    "COUNTER": np.array([0, 1, 2**32 - 1], np.uint32),
    "HUGE": np.array([-(2**63), 0, 2**63 - 1], np.int64),
    "UHUGE": np.array([0, 2**63, 2**64 - 1], np.uint64),
    "NAME": np.array(["", "b c", "12345678"]),
    "VECTOR": np.arange(9, dtype=np.float32).reshape(3, 3),
    "FLAGS": np.array([[True, False], [False, False], [True, True]]),
    "WORDS": np.array([[0, 1], [2, 65535], [40000, 3]], np.uint16),
}


def new_hdus(**keywords: str | int | float | bool) -> list[NewHdu]:
    """Return the HDUs for our writer."""
    return [NewHdu(IMAGE, {**VALUES, **keywords}, pixels=PIXELS), NewHdu(TABLE, columns=COLUMNS)]


def astropy_hdus() -> afits.HDUList:
    """Return the same HDUs as astropy objects."""
    image = afits.ImageHDU(PIXELS, name="TST_IMAGE")
    image.header.update({"EXT_VER": "1.0", **VALUES, "PIPE_VER": "N/A"})
    return afits.HDUList([afits.PrimaryHDU(), image, astropy_table(COLUMNS)])


def astropy_table(columns: Mapping[str, np.ndarray[Any, Any]], **units: str) -> afits.BinTableHDU:
    """Return the table as an astropy object; `units` replace those declared."""
    declared = [
        afits.Column(
            c.name,
            c.tform,
            unit=units.get(c.name, c.unit) or None,
            bzero=c.tzero or None,
            array=columns[c.name],
        )
        for c in TABLE.columns
        if c.name in columns
    ]
    return afits.BinTableHDU.from_columns(declared, name="TST_TABLE")


def write_astropy(path: Path, hdus: afits.HDUList, checksum: bool = True) -> Path:
    """Write with astropy; checksums are optional."""
    hdus.writeto(path, checksum=checksum, overwrite=True)
    return path
