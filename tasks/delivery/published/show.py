"""The contents of a FITS file: HDUs with their meanings, key numbers and used values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from schemas.arrays import AnyArray
from schemas.errors import BadInputError, MissingInputError, UsageError
from schemas.inputs import Input, Use
from schemas.products import Structure
from schemas.used import USED
from tasks.delivery.light_curves import OWN_COLUMNS
from tasks.delivery.published.answer import MERGED
from tasks.delivery.published.visit import CURVE
from tasks.files import disk
from tasks.files.reader import FitsFile, Hdu, Value, blocks, open_declared, scan
from tasks.files.writer import BASELINE_IS, PUBLICATION, structure_of

_KEY = (
    "TARGNAME",
    "OBSID",
    "DATANAME",
    "AP_RADI",
    "AP_TYPE",
    "V_STRT_U",
    "V_STOP_U",
    "T_STRT_U",
    "T_STOP_U",
    "NEXP",
    "EXPTIME",
    "TEXPTIME",
    "ARCH_REV",
    "PROC_NUM",
    "PIPE_VER",
    "ORIGIN",
    "BASELINE",
    "DATE",
    "BUNIT",
)

# of keywords that the writer adds to those of a definition
_MEANINGS = {"BASELINE": BASELINE_IS, "DATE": "time of publication, UTC"}


@dataclass(frozen=True)
class KeywordValue:
    """A keyword with its value; `unit` and `meaning` are empty if it is not declared."""

    name: str
    value: Value
    unit: str
    meaning: str


@dataclass(frozen=True)
class Count:
    """Number of values, and how many of them are NaN or infinite."""

    values: int
    not_numbers: int


@dataclass(frozen=True)
class Range(Count):
    """Minimum, median and maximum of the finite values; no median if the middle plane has none."""

    least: float
    median: float | None
    largest: float


@dataclass(frozen=True)
class Ends:
    """The first and last value of a text column."""

    first: str
    last: str


@dataclass(frozen=True)
class Truths:
    """Number of values, and how many of them are true."""

    values: int
    true: int


@dataclass(frozen=True)
class ColumnContents:
    """A column and a summary of its values, which is None for a table without rows."""

    name: str
    unit: str
    meaning: str
    format: str
    values: Count | Ends | Truths | None = field(metadata=MERGED)


@dataclass(frozen=True)
class HduContents:
    """An HDU; a table has columns, an image has pixels."""

    index: int
    extname: str
    kind: str
    shape: list[int]
    meaning: str
    keywords: list[KeywordValue]
    used: list[KeywordValue] = field(default_factory=list)
    columns: list[ColumnContents] = field(default_factory=list)
    pixels: Count | None = None
    note: str = ""


@dataclass(frozen=True)
class Contents:
    """The contents of a FITS file."""

    file: str
    type: str
    bytes: int
    hdus: list[HduContents]


def contents(path: Path) -> Contents:
    """Return the contents of a FITS file; of undeclared HDUs only the shape.

    Raises
    ------
    BadInputError
        If the file is damaged.
    UsageError
        If `path` is a folder.
    MissingInputError
        If there is no such file.
    """
    if disk.is_folder(path):
        raise UsageError(f"{path}: is a folder, expected a file")
    if not disk.exists(path):
        raise MissingInputError(f"{path}: no such file")
    with scan(path) as file:
        hdus = [_hdu_contents(file, hdu) for hdu in file.hdus[1:]]
        return Contents(path.name, file.extname, disk.size(path), hdus)


def _hdu_contents(file: FitsFile, hdu: Hdu) -> HduContents:
    extension = str(hdu.header.get("XTENSION", "")).strip()
    undeclared = HduContents(
        hdu.index,
        hdu.extname,
        {"IMAGE": "image", "BINTABLE": "table"}.get(extension, "other"),
        list(hdu.shape),
        "not declared here",
        _key_values(hdu, None),
    )
    try:
        structure = structure_of(hdu.extname)
    except KeyError:
        return undeclared
    if hdu.extname == CURVE:
        structure = replace(structure, columns=(*structure.columns, *OWN_COLUMNS))
    declared = replace(
        undeclared,
        meaning=structure.meaning or _meaning(structure),
        keywords=_key_values(hdu, structure),
        used=_used_values(hdu),
    )
    try:
        return _with_data(declared, file, structure)
    except BadInputError as error:
        return replace(declared, note=str(error).removeprefix(f"{file.path}: "))


def _with_data(hdu: HduContents, file: FitsFile, structure: Structure) -> HduContents:
    """Return an HDU with a summary of its columns or pixels."""
    use = Use(structure, shape_matters=False, may_be_empty=True)
    declared = Input(hdu.extname, (file.extname,), {hdu.extname: use}, "")
    with open_declared(file.path, declared) as opened:
        here = opened[hdu.extname]
        if structure.is_table:
            return replace(hdu, columns=_columns(here, structure))
        return replace(hdu, pixels=_pixels(here))


def _meaning(structure: Structure) -> str:
    level = {"L0.5": "raw telemetry", "L1": "images", "L2": "light curves", "REF": "reference"}.get(
        structure.level, structure.level
    )
    return f"defined by the SOC, level {structure.level} ({level})"


def _key_values(hdu: Hdu, structure: Structure | None) -> list[KeywordValue]:
    declared = structure.keywords if structure else {}
    return [
        KeywordValue(
            name,
            hdu.header[name],
            declared[name].unit if name in declared else "",
            declared[name].meaning if name in declared else _MEANINGS.get(name, ""),
        )
        for name in _KEY
        if name in hdu.header and not (name == "DATE" and hdu.header[name] == PUBLICATION["DATE"])
    ]


def _used_values(hdu: Hdu) -> list[KeywordValue]:
    return [
        KeywordValue(k.name, hdu.header[k.name], k.unit, k.meaning)
        for k in USED.values()
        if k.name in hdu.header
    ]


def _columns(hdu: Hdu, structure: Structure) -> list[ColumnContents]:
    present = hdu.present()
    return [
        ColumnContents(c.name, c.unit, c.meaning, c.tform, _summary(hdu.column(c.name)))
        for c in structure.columns
        if c.name in present
    ]


def _summary(values: AnyArray) -> Count | Ends | Truths | None:
    if values.dtype.kind == "b":
        return Truths(int(values.size), int(np.count_nonzero(values)))
    if not values.size:
        return None
    if values.dtype.kind in "US":
        return Ends(str(values.flat[0]), str(values.flat[-1]))
    return _range(values)


def _range(values: AnyArray) -> Count:
    """Return the range of the finite values, or only a count if there are none."""
    numbers = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not numbers.size:
        return Count(int(values.size), int(values.size))
    least, median, largest = (float(f(numbers)) for f in (np.min, np.median, np.max))
    return Range(int(values.size), int(values.size - numbers.size), least, median, largest)


def _pixels(hdu: Hdu) -> Count:
    """Return the range of an image or cube; the median of a cube is that of its middle plane."""
    if len(hdu.shape) == 2:
        return _range(hdu.image())
    total = bad = 0
    least, largest = np.inf, -np.inf
    plane = abs(int(hdu.header["BITPIX"])) // 8 * int(np.prod(hdu.shape[1:]))
    for start, stop in blocks(hdu.rows, plane):
        pixels = hdu.image(start, stop)
        good = pixels[np.isfinite(pixels)]
        total, bad = total + pixels.size, bad + pixels.size - good.size
        if good.size:
            least, largest = min(least, float(good.min())), max(largest, float(good.max()))
    if bad == total:
        return Count(int(total), int(bad))
    middle = _range(hdu.image(hdu.rows // 2, hdu.rows // 2 + 1))
    median = middle.median if isinstance(middle, Range) else None
    return Range(int(total), int(bad), least, median, largest)
