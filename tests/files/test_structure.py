"""Structure: what is not a whole FITS file is refused before anything is allocated."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as afits
from hypothesis import given
from hypothesis import strategies as st

from schemas import ROOT
from schemas.errors import BadInputError, BusyError, MissingInputError
from tasks.files.reader import open_declared
from tasks.files.structure import BLOCK
from tests.support.damaged_product import (
    content,
    many,
    refused,
    rewritten,
)
from tests.support.small_product import (
    INPUT,
    astropy_hdus,
    write_astropy,
)


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
    refused(path, "HDU 0 PRIMARY: contains data")


def test_too_many_hdus_are_refused(path: Path) -> None:
    write_astropy(
        path,
        afits.HDUList([afits.PrimaryHDU(), *(afits.ImageHDU(name=f"X{i}") for i in range(64))]),
    )
    refused(path, "more than 64 HDUs")


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
        "keyword NAXIS is 5, expected an integer from 0 to 4",
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
    ("TST_TABLE", "BITPIX  =                   64", "keyword BITPIX of a table is 64, expected 8"),
    ("TST_TABLE", "BITPIX  =                  -32", "keyword BITPIX of a table is -32"),
    ("TST_TABLE", "NAXIS   =                    1", "bytes per row, NAXIS1 is"),
    ("TST_TABLE", "NAXIS   =                    0", "bytes per row, NAXIS1 is"),
    ("TST_TABLE", "NAXIS   =                  2.0", r"keyword NAXIS is 2\.0"),
    ("TST_TABLE", "PCOUNT  =                    8", "has a heap or groups"),
    ("PRIMARY", "SIMPLE  =                    F", "keyword SIMPLE is False, expected T"),
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
        from tests.support.small_product import INPUT
        from tasks.files.reader import open_declared
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
