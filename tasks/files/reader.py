"""Strict reader of declared FITS products: the gate through which every file passes.

Faults have two levels. *Damage* (truncation, a wrong sum, an impossible shape, a needed HDU, column
or keyword missing or of the wrong type) raises BadInputError. A *deviation* from the definition
(no checksum, another EXT_VER, no TUNIT) is accepted and listed in `FitsFile.deviations`. Nothing is
allocated before the sizes in the headers were checked against the length of the file.

FITS standard 4.0 (2018): sections 3 (organisation), 4.4.2.7 (CHECKSUM, DATASUM), 7.3 (binary
tables).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import BadInputError
from schemas.inputs import Input, Use
from schemas.products import (
    BITPIX,
    PER_RADIUS,
    STORED,
    Column,
    Structure,
    soc_extnames,
    soc_structure,
)
from tasks.files import disk
from tasks.files.columns import column_format, column_names
from tasks.files.hdu import FitsFile, Hdu, Value
from tasks.files.header import parse_cards, times_in_words
from tasks.files.structure import BLOCK, data_size, hdu_kind, padded
from tasks.files.sums import ones_complement_sum
from tasks.files.units import unit_change

__all__ = [
    "FitsFile",
    "Hdu",
    "Value",
    "blocks",
    "note_unused",
    "open_declared",
    "read_from",
    "scan",
    "verify_sums",
]

MAX_HEADER = 256 * BLOCK  # 0.7 MB; real headers need 8 to 20 kB

MAX_HDUS = 64

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"PK\x03": "a zip archive",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF",
    b"<": "HTML or XML",
}

_PRINTABLE = bytes(range(32, 127))


def scan(path: Path) -> FitsFile:
    """Open a file and read its headers, checking all sizes against its length.

    Raises
    ------
    BadInputError
        If it is not a FITS file, or is truncated or contradictory.
    """
    fd = disk.open_to_read(path)
    file = FitsFile(path, _fd=fd)
    try:
        length = os.fstat(fd).st_size
        if length == 0:
            raise BadInputError(f"{path}: is empty (0 bytes)")
        offset = 0
        while offset < length:
            if len(file.hdus) >= MAX_HDUS:
                raise BadInputError(f"{path}: has more than {MAX_HDUS} HDUs")
            offset = _scan_hdu(file, offset, length)
        if len(file.hdus) < 2:
            raise BadInputError(f"{path}: has no extension")
        return file
    except BaseException:
        file.close()
        raise


def _scan_hdu(file: FitsFile, offset: int, length: int) -> int:
    index = len(file.hdus)
    text = _header_text(file, offset, length)
    header, unreadable = parse_cards(text.decode("ascii"), f"{file.path}: HDU {index}")
    hdu = Hdu(file, index, header, offset, offset + len(text), 0, unreadable=unreadable)
    try:
        hdu.data_size = data_size(header, index == 0)
    except ValueError as error:
        raise hdu.refuse(str(error)) from error
    if index == 0 and hdu.data_size:
        raise hdu.refuse("contains data, expected none")
    end = hdu.data_start + padded(hdu.data_size)
    if end > length:
        raise hdu.refuse(f"truncated, {end - length} bytes are missing")
    for name in sorted(unreadable):
        hdu.deviates(f"keyword {name} cannot be read")
    if index > 0 and hdu.extname != (spelled := header.text("EXTNAME")):
        hdu.deviates(f"EXTNAME is spelled {spelled}")
    file.hdus.append(hdu)
    return end


def _header_text(file: FitsFile, offset: int, length: int) -> bytes:
    """Return the header that starts at `offset` of a file of `length` bytes, in whole blocks."""
    where = f"{file.path}: HDU {len(file.hdus)}"
    text = bytearray()
    while len(text) < MAX_HEADER:
        block = _header_block(file, offset + len(text), length, where, first=not text)
        text += block
        for card in range(0, BLOCK, 80):
            if block[card : card + 8] == b"END     ":
                if block[card + 3 :].strip():
                    raise BadInputError(f"{where}: text after END in the header")
                return bytes(text)
    raise BadInputError(f"{where}: header is larger than {MAX_HEADER} bytes")


def _header_block(file: FitsFile, start: int, length: int, where: str, first: bool) -> bytearray:
    block = bytearray(min(BLOCK, length - start))
    file.read_at(start, memoryview(block))
    if first:
        _check_start(file, block, length - start)
    if odd := block.translate(None, _PRINTABLE):
        raise BadInputError(
            f"{where}: byte {start + block.index(odd[0])} of the header is not printable ASCII"
        )
    if len(block) < BLOCK:
        raise BadInputError(
            f"{where}: truncated in its header, {BLOCK - len(block)} bytes are missing"
        )
    return block


def _check_start(file: FitsFile, block: bytearray, remaining: int) -> None:
    start = b"XTENSION= " if file.hdus else b"SIMPLE  = "
    if block[: len(start)] == start[: len(block)]:
        return
    if file.hdus:
        raise BadInputError(
            f"{file.path}: {remaining} bytes after the last HDU ({file.hdus[-1].index} "
            f"{file.hdus[-1].extname})"
        )
    kind = next((k for m, k in _MAGIC.items() if block.startswith(m)), None)
    raise BadInputError(
        f"{file.path}: is not a FITS file" + (f", it looks like {kind}" if kind else "")
    )


def verify_sums(file: FitsFile) -> None:
    """Check CHECKSUM and DATASUM of every HDU over its raw bytes; absent ones are deviations."""
    for hdu in file.hdus:
        missing = [name for name in ("CHECKSUM", "DATASUM") if not hdu.header.text(name)]
        if missing and hdu.index > 0:
            hdu.deviates(f"no {' and no '.join(missing)}")
        if "CHECKSUM" in missing:
            _check_padding(hdu)
        if len(missing) < 2:
            _check_sums(hdu)


def _check_padding(hdu: Hdu) -> None:
    padding = bytearray(padded(hdu.data_size) - hdu.data_size)
    hdu.file.read_at(hdu.data_start + hdu.data_size, memoryview(padding))
    if padding.strip(b" " if hdu_kind(hdu.header) == "TABLE" else b"\0"):
        raise hdu.refuse("the padding after the data is not zero")


def _check_sums(hdu: Hdu) -> None:
    stored = hdu.header.text("DATASUM")
    end = hdu.data_start + padded(hdu.data_size)
    data = _sum_bytes(hdu.file, hdu.data_start, end)
    if stored and stored.lstrip("0") != str(data).lstrip("0"):
        raise hdu.refuse(f"checksum: DATASUM is {stored}, the sum of the data is {data}")
    total = _sum_bytes(hdu.file, hdu.header_start, hdu.data_start, data)
    if hdu.header.text("CHECKSUM") and total not in (0, 0xFFFFFFFF):
        raise hdu.refuse("checksum: CHECKSUM does not match the bytes of this HDU")


def _sum_bytes(file: FitsFile, start: int, end: int, total: int = 0) -> int:
    buffer = memoryview(bytearray(min(end - start, disk.CHUNK // BLOCK * BLOCK)))
    while start < end:
        part = buffer[: min(len(buffer), end - start)]
        file.read_at(start, part)
        total = ones_complement_sum(part, total)
        start += len(part)
    return total


def open_declared(path: Path, declared: Input, sums: bool = False) -> FitsFile:
    """Open a file and check it against its definition.

    Parameters
    ----------
    path : Path
        The file.
    declared : Input
        The HDUs, keywords and columns that are used. Of other HDUs only the size is checked.
    sums : bool
        Read the whole file: check CHECKSUM and DATASUM, and the values of columns too.

    Raises
    ------
    BadInputError
        If the file is damaged or lacks something that is used.
    """
    file = scan(path)
    try:
        if sums:
            verify_sums(file)
        _check_hdus(file, declared)
        if sums:
            _check_values(file, declared)
        return file
    except BaseException:
        file.close()
        raise


def _check_hdus(file: FitsFile, declared: Input) -> None:
    names = [hdu.extname for hdu in file.hdus[1:]]
    for name in declared.hdus:
        if names.count(name) > 1:
            raise BadInputError(
                f"{file.path}: HDU {name} occurs {times_in_words(names.count(name))}"
            )
    if names[0] not in declared.first:
        raise BadInputError(
            f"{file.path}: HDU 1 is {names[0] or '(no EXTNAME)'}, expected "
            f"{' or '.join(declared.first)}"
        )
    for extname, use in declared.hdus.items():
        if extname in file:
            _check_hdu(file[extname], use)
        elif not use.optional:
            raise BadInputError(f"{file.path}: HDU {extname} is missing")


def _check_values(file: FitsFile, declared: Input) -> None:
    """Reject values out of range in used columns; those that count as missing are deviations."""
    for extname, use in declared.hdus.items():
        if extname not in file or not use.structure.is_table:
            continue
        hdu = file[extname]
        present = hdu.present()
        for name, allowed in use.ranges.items():
            if name in present and (name in use.columns or allowed.missing):
                for line in hdu.implausible_values(name):
                    hdu.deviates(line)


def note_unused(file: FitsFile) -> None:
    """Add the deviations of HDUs that no step uses to those of an open file."""
    for hdu in file.hdus[1:]:
        if hdu.declared is None and hdu.extname in soc_extnames():
            try:
                _check_hdu(hdu, Use(soc_structure(hdu.extname), shape_matters=False))
            except BadInputError as error:
                file.deviations.append(str(error).removeprefix(f"{file.path}: "))


def _check_hdu(hdu: Hdu, use: Use) -> None:
    structure = hdu.declared = use.structure
    hdu.ranges = use.ranges
    _check_kind(hdu, structure)
    for name, allowed in use.keywords.items():
        value = hdu.keyword(name)
        if allowed is not None and not allowed.permits(value):
            raise hdu.refuse(f"keyword {name} is {value!r}, expected {allowed}")
    version = hdu.header.get("EXT_VER")
    if structure.version and version != structure.version:
        hdu.deviates(f"EXT_VER {version}, expected {structure.version}")
    for name in structure.keywords:
        if name not in hdu.header and name not in hdu.unreadable:
            hdu.deviates(f"keyword {name} is missing")
    if structure.is_table:
        _check_columns(hdu, use, structure)
    else:
        _check_pixels(hdu, use, structure)


def _check_kind(hdu: Hdu, structure: Structure) -> None:
    names = {"IMAGE": "an image", "BINTABLE": "a table"}
    kind = hdu_kind(hdu.header)
    found = names.get(kind, f"a {kind}")
    expected = names["BINTABLE" if structure.is_table else "IMAGE"]
    if found != expected:
        raise hdu.refuse(f"is {found}, expected {expected}")


def _check_pixels(hdu: Hdu, use: Use, structure: Structure) -> None:
    found = (int(hdu.header["BITPIX"]), int(hdu.header.get("BZERO", 0)))
    expected = (BITPIX[structure.image], STORED[structure.image][2])
    shape, free = hdu.shape[::-1], structure.axes
    if found != expected:
        raise hdu.refuse(
            f"pixels have BITPIX and BZERO {found}, expected {structure.image} {expected}"
        )
    if len(shape) != len(free):
        raise hdu.refuse(f"has {len(shape)} axes {shape}, expected {len(free)}")
    if any(n != m and m for n, m in zip(shape, free, strict=True)):
        if use.shape_matters:
            raise hdu.refuse(
                f"has the shape {shape} (NAXIS1, NAXIS2, ...), expected {free}, 0 for any"
            )
        hdu.deviates(f"shape {shape}, expected {free}")
    if 0 in shape:
        raise hdu.refuse(f"is empty, its shape is {shape}")


def _check_columns(hdu: Hdu, use: Use, structure: Structure) -> None:
    if use.columns and not (use.optional or use.may_be_empty) and hdu.rows == 0:
        raise hdu.refuse("has no rows")
    present = hdu.present()
    structure = hdu.declared = structure.for_radii(_radii_of(hdu, structure))
    times = Counter(hdu.column_names())
    for spelled, name in zip(column_names(hdu.header), hdu.column_names(), strict=True):
        if spelled != name:
            hdu.deviates(f"column {name} is spelled {spelled}")
    for column in structure.columns:
        text = None
        if column.name not in present:
            text = f"column {column.name} is missing"
        elif times[column.name] > 1:
            text = f"column {column.name} occurs {times_in_words(times[column.name])}"
        else:
            text = _format_fault(hdu, column, present[column.name]) or _unit_fault(
                hdu, column, present[column.name]
            )
        if text and column.name in use.columns:
            raise hdu.refuse(text)
        if text:
            hdu.deviates(text)
            hdu.unused.add(column.name)


def _radii_of(hdu: Hdu, structure: Structure) -> int:
    """Return the number of radii of a visit by the first column with an element for each of them.

    There are at least those of every visit.
    """
    present = hdu.present()
    wide = [c for c in structure.columns if c.size == PER_RADIUS and c.name in present]
    if not wide:
        return 1
    return max(column_format(hdu.header, present[wide[0].name])[0], len(wide[0].per))


def _format_fault(hdu: Hdu, column: Column, i: int) -> str | None:
    header = hdu.header
    zero, scale = header.get(f"TZERO{i}", 0), header.get(f"TSCAL{i}", 1)
    if (column_format(header, i), zero, scale) == ((column.repeat, column.letter), column.tzero, 1):
        return None
    found = f"TFORM {header[f'TFORM{i}']} TZERO {zero} TSCAL {scale}"
    expected = f"TFORM {column.tform} TZERO {column.tzero} TSCAL 1"
    return f"column {column.name} has {found}, expected {expected}"


def _unit_fault(hdu: Hdu, column: Column, i: int) -> str | None:
    """Return the fault of a column's unit, or None after noting its conversion, if it needs one."""
    unit = hdu.header.text(f"TUNIT{i}")
    if unit == column.unit:
        return None
    if unit and column.letter not in "AL" and column.unit:
        change = unit_change(unit, column.unit)
        if change is None:
            return f"column {column.name} is in {unit}, which cannot be converted to {column.unit}"
        hdu.file.unit_changes[hdu.extname, column.name] = change
    hdu.deviates(f"column {column.name} has the unit {unit!r}, expected {column.unit!r}")
    return None


@contextmanager
def read_from(path: Path | str, table: str) -> Iterator[None]:
    """Turn a kernel's ValueError about impossible values into an error that names their file."""
    try:
        yield
    except ValueError as error:
        raise BadInputError(f"{path}: {table}: {error}") from error


def blocks(rows: int, row_bytes: int, size: int = 1 << 23) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of blocks of planes that together fill about `size` bytes."""
    step = max(1, size // max(row_bytes, 1))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)
