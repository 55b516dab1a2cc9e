"""Damaged FITS files: exit code, an ERROR line that names the place, and no side effects."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from schemas import ROOT
from tests.support.faults import BLOCK, Bench, Part, edited, put_together, replace, take_apart

SUBARRAY, METADATA = "SCI_RAW_SubArray", "SCI_RAW_ImageMetadata"


def end_of(path: Path, extname: str, header: bool = False) -> int:
    """Return where an HDU (or its header) ends in the file."""
    at = 0
    for part in take_apart(path):
        whole = len(part.content(sums=False))
        if part.extname == extname:
            return at + (whole - -(-len(part.data) // BLOCK) * BLOCK if header else whole)
        at += whole
    raise KeyError(extname)


# ---- 1, 2: empty and cut files


@pytest.mark.parametrize(
    "kind", ["SCI_RAW_SubArray", "SCI_RAW_Attitude", "AUX_RES_Orbit", "MPS_PRE_Visits"]
)
def test_an_empty_file_is_named(bench: Bench, kind: str) -> None:
    path = bench.raw(kind)
    replace(path, b"")
    bench.refused(65, str(path), "empty (0 bytes)")


def test_an_empty_reference_is_named(own: Bench) -> None:
    path = own.reference("GainCorrection")
    replace(path, b"")
    own.refused(65, str(path), "empty (0 bytes)")


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("header", ("HDU 1", "truncated in its header", "missing")),
        ("record", (f"HDU 1 {SUBARRAY}", "truncated", "bytes are missing")),
        ("data", (f"HDU 1 {SUBARRAY}", "truncated", "bytes are missing")),
        ("table", (f"HDU 9 {METADATA}", "truncated", "bytes are missing")),
    ],
)
def test_a_cut_file_is_named_with_hdu_and_missing_bytes(
    bench: Bench, where: str, words: tuple[str, ...]
) -> None:
    path = bench.raw(SUBARRAY)
    header, end = end_of(path, SUBARRAY, header=True), end_of(path, SUBARRAY)
    cut = {
        "header": header - 1000,
        "record": end - BLOCK,
        "data": header + 12345,
        "table": end_of(path, METADATA) - 10,
    }[where]
    replace(path, path.read_bytes()[:cut])
    bench.refused(65, str(path), *words)


def test_a_cut_says_exactly_how_many_bytes_are_missing(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    replace(path, path.read_bytes()[: end_of(path, SUBARRAY) - 777])
    bench.refused(65, "777 bytes are missing")


def test_a_file_cut_between_two_hdus_lacks_the_next(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    replace(path, path.read_bytes()[: end_of(path, "SCI_RAW_OverscanTop")])
    bench.refused(65, str(path), f"HDU {METADATA} is missing")


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0, 1, exclude_max=True))
def test_no_cut_of_the_orbit_passes(bench: Bench, share: float) -> None:
    path = bench.raw("AUX_RES_Orbit")
    whole = path.read_bytes()
    replace(path, whole[: int(share * len(whole))])
    try:
        bench.refused(65, str(path))
    finally:
        replace(path, whole)


# ---- 3 to 6: bits and bytes


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_of_the_orbit_passes(bench: Bench, share: float, bit: int) -> None:
    path = bench.raw("AUX_RES_Orbit")
    whole = path.read_bytes()
    damaged = bytearray(whole)
    # behind the primary HDU, which carries no checksum and nothing that is used; a CHECKSUM of
    # another name is a missing one
    at = BLOCK + int(share * (len(whole) - BLOCK))
    assume(not 0 <= at - whole.index(b"CHECKSUM=") < 8)
    damaged[at] ^= 1 << bit
    replace(path, bytes(damaged))
    try:
        bench.refused(65, str(path))
    finally:
        replace(path, whole)


@pytest.mark.parametrize("extname", [SUBARRAY, "SCI_RAW_OverscanLeft", METADATA])
def test_a_flipped_bit_in_the_data_is_found_by_the_checksum(bench: Bench, extname: str) -> None:
    path = bench.raw(SUBARRAY)
    damaged = bytearray(path.read_bytes())
    damaged[end_of(path, extname, header=True) + 321] ^= 4
    replace(path, bytes(damaged))
    bench.refused(65, str(path), extname, "checksum", "DATASUM")


@pytest.mark.parametrize("sums", ["with", "without"])
def test_a_flipped_bit_in_the_padding_is_found(bench: Bench, sums: str) -> None:
    path = bench.raw("AUX_RES_Orbit")
    if sums == "without":
        with edited(path, "AUX_RES_Orbit") as part:
            part.drop("CHECKSUM", "DATASUM")
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    replace(path, bytes(damaged))
    bench.refused(65, str(path), "HDU 1 AUX_RES_Orbit", "checksum" if sums == "with" else "padding")


def without_sums(path: Path) -> None:
    parts = take_apart(path)
    for part in parts:
        part.drop("CHECKSUM", "DATASUM")
    put_together(path, parts)


def test_files_without_checksums_are_accepted_and_recorded(own: Bench) -> None:
    for path in (own.raw("SCI_RAW_Attitude"), own.reference("PixelScale")):
        without_sums(path)
    outcome = own.published()
    deviations = json.loads((outcome.folder / "manifest.json").read_text())["deviations"]
    for kind in ("SCI_RAW_Attitude", "REF_APP_PixelScale"):
        (line,) = [d for d in deviations if kind in d]
        assert f"HDU 1 {kind}: no CHECKSUM and no DATASUM" in line


def test_files_without_checksums_are_refused_if_one_is_strict(bench: Bench) -> None:
    path = bench.raw("SCI_RAW_Attitude")
    without_sums(path)
    bench.refused(
        65, str(path), "deviates", "HDU 1 SCI_RAW_Attitude", "no CHECKSUM", more=("--strict",)
    )


@pytest.mark.parametrize("size", [1, 100, BLOCK, 3 * BLOCK + 5])
def test_trailing_bytes_are_counted(bench: Bench, size: int) -> None:
    path = bench.raw("AUX_RES_Orbit")
    replace(path, path.read_bytes() + bytes(size))
    bench.refused(65, str(path), f"{size} bytes after the last HDU")


# ---- 7: other formats


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("orbit.fits", b"SIMPLE  =" * 1000)
    return buffer.getvalue()


OTHER_FORMATS = {
    "a PNG picture": b"\x89PNG\r\n\x1a\n" + bytes(5000),
    "HTML or XML": b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 100,
    "gzip": gzip.compress(os.urandom(5000)),
    "a zip archive": zipped(),
    "a PDF": b"%PDF-1.7\n" + bytes(5000),
    "": b"not a table, nor an image\n" * 300,
}


@pytest.mark.parametrize("looks", OTHER_FORMATS)
@pytest.mark.parametrize("length", [None, 30])
def test_what_is_not_fits_is_told_apart(bench: Bench, looks: str, length: int | None) -> None:
    path = bench.raw("SCI_RAW_Attitude")
    replace(path, OTHER_FORMATS[looks][:length])
    bench.refused(65, str(path), "is not a FITS file", looks)


# ---- 8: HDUs


def test_a_missing_hdu_is_named(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    put_together(path, [p for p in take_apart(path) if p.extname != METADATA])
    bench.refused(65, str(path), f"HDU {METADATA} is missing")


def test_a_missing_hdu_of_a_reference_is_named(own: Bench) -> None:
    path = own.reference("BiasFrame")
    put_together(path, [p for p in take_apart(path) if p.extname != "REF_APP_BiasOffset"])
    own.refused(65, str(path), "HDU REF_APP_BiasOffset is missing")


@pytest.mark.parametrize(
    ("kind", "extname"),
    [
        (SUBARRAY, METADATA),
        (SUBARRAY, SUBARRAY),
        ("SCI_RAW_Attitude", "SCI_RAW_Attitude"),
        ("AUX_RES_Orbit", "AUX_RES_Orbit"),
    ],
)
def test_a_renamed_hdu_is_named(bench: Bench, kind: str, extname: str) -> None:
    path = bench.raw(kind)
    with edited(path, extname) as part:
        part.set("EXTNAME", "SCI_RAW_Something")
    bench.refused(65, str(path), extname)


def test_an_hdu_that_stands_there_twice_is_named(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    parts = take_apart(path)
    put_together(path, [*parts, next(p for p in parts if p.extname == METADATA)])
    bench.refused(65, str(path), f"HDU {METADATA} occurs twice")


def test_a_missing_margin_is_no_damage(bench: Bench) -> None:
    # the bias comes from the other margins; which ones is recorded
    path = bench.raw(SUBARRAY)
    put_together(path, [p for p in take_apart(path) if p.extname != "SCI_RAW_OverscanLeft"])
    bench.measured()
    record = max(bench.work.rglob("bias-*.json"), key=lambda path: path.stat().st_mtime_ns)
    assert json.loads(record.read_text())["payload"]["used"]["BIAS_SRC"] == "BlankLeft+BlankRight"


# ---- 9: columns


def rename_column(part: Part, name: str) -> None:
    part.set(f"TTYPE{part.number_of(name)}", f"{name}_X"[:8])


def test_a_missing_column_is_named(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, METADATA) as part:
        rename_column(part, "HK_TEMP_FEE_CCD")
    bench.refused(65, str(path), METADATA, "column HK_TEMP_FEE_CCD is missing")


def test_a_column_of_another_type_is_named_with_what_was_found_and_wanted(bench: Bench) -> None:
    path = bench.raw("SCI_RAW_Attitude")
    with edited(path, "SCI_RAW_Attitude") as part:
        part.set(f"TFORM{part.number_of('SC_ROLL_ANGLE')}", "1J")
    bench.refused(65, str(path), "SCI_RAW_Attitude", "column SC_ROLL_ANGLE", "1J", "1E")


def test_a_unit_that_cannot_be_converted_is_named(bench: Bench) -> None:
    path = bench.raw("AUX_RES_Orbit")
    with edited(path, "AUX_RES_Orbit") as part:
        part.set(f"TUNIT{part.number_of('X')}", "kg")
    bench.refused(65, str(path), "AUX_RES_Orbit", "column X", "kg", "km")


def test_a_unit_that_can_be_converted_is_and_that_is_recorded(bench: Bench) -> None:
    limb = bench.measured() and bench.term("events")["EARTH_LIMB"]
    path = bench.raw("AUX_RES_Orbit")
    with edited(path, "AUX_RES_Orbit") as part:
        table = part.rows
        for axis in "XYZ":
            part.set(f"TUNIT{part.number_of(axis)}", "m")
            table[axis] *= 1000
        part.rows = table
    shutil.rmtree(bench.work)
    outcome = bench.published()
    # a thousandth of the thousandfold is the same to some roundings of 1e-16 of an orbit of 7000 km
    assert np.allclose(bench.term("events")["EARTH_LIMB"], limb, rtol=0, atol=1e-9)
    deviations = json.loads((outcome.folder / "manifest.json").read_text())["deviations"]
    assert sum("has the unit 'm', expected 'km'" in d for d in deviations) == 3


def test_an_unused_hdu_of_another_shape_is_a_deviation(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    extname = "SCI_RAW_UnstackedImageMetadata"
    with edited(path, extname) as part:
        rename_column(part, "PHOTOMETRY_1")
    outcome = bench.published()
    deviations = json.loads((outcome.folder / "manifest.json").read_text())["deviations"]
    assert any(extname in d and "PHOTOMETRY_1" in d for d in deviations)


# ---- 10: keywords


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("EXPTIME", -1.0, ("-1", "more than 0")),
        ("EXPTIME", 0.0, ("0", "more than 0")),
        ("NEXP", 0, ("0", "1 to 10000")),
        ("NEXP", -3, ("-3", "1 to 10000")),
        ("NEXP", 3.5, ("3.5", "integer")),
        ("EXPTIME", "20 s", ("20 s", "real")),
        ("EXPTIME", True, ("True", "real")),
        ("RO_FREQU", 12, ("12", "100000 or 230000")),
        ("STACKING", "median", ("median", "coadd")),
        ("X_WINOFF", 5000, ("5000", "0 to 1023")),
        ("RA_TARG", 999.0, ("999", "0 to 360")),
        ("SHAPE", "triangle", ("triangle", "circular")),
        ("NEXP", None, ("missing",)),
        ("EXPTIME", None, ("missing",)),
        ("V_STRT_U", None, ("missing",)),
        ("PROG_ID", None, ()),
        ("OBSID", "a", ("OBSID",)),
    ],
)
def test_a_wrong_keyword_is_named(
    bench: Bench, key: str, value: object, words: tuple[str, ...]
) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, SUBARRAY) as part:
        part.drop(key) if value is None else part.set(key, value)
    bench.refused(65, str(path), f"HDU 1 {SUBARRAY}", key, *words)


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "2024-13-45T00:00:00",
        "2024-03-10T08:00:10.000000x",
        "2024-02-30T00:00:00",
        "1970-01-01T00:00:00",
        "",
    ],
)
def test_a_time_that_is_none_is_named(bench: Bench, value: str) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, SUBARRAY) as part:
        part.set("V_STRT_U", value)
    bench.refused(65, str(path), f"HDU 1 {SUBARRAY}", f"V_STRT_U is {value!r}", "expected a time")


@pytest.mark.parametrize("text", ["NaN", "1e400", "Infinity", "-", "1.0.0", "'open"])
def test_a_keyword_that_is_no_number_is_named(bench: Bench, text: str) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, SUBARRAY) as part:
        part.put_card("EXPTIME", f"EXPTIME = {text:>20s}".encode())
    bench.refused(65, str(path), "HDU 1", "EXPTIME")


# ---- 11, 12: counts and shapes


def test_images_and_rows_of_other_number_are_counted(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, METADATA) as part:
        part.rows = part.rows[:-1]
    bench.refused(65, str(path), f"{SUBARRAY} has 12 images", f"{METADATA} has 11 rows")


def test_imagettes_and_rows_of_other_number_are_counted_before_any_step(bench: Bench) -> None:
    path = bench.raw("SCI_RAW_Imagette")
    with edited(path, "SCI_RAW_ImagetteMetadata") as part:
        part.rows = part.rows[:-1]
    outcome = bench.refused(
        65, str(path), "SCI_RAW_Imagette has 36 images", "SCI_RAW_ImagetteMetadata has 35 rows"
    )
    assert "events" not in outcome.err


def test_a_window_of_another_shape_is_named_with_the_margins_that_show_it(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, SUBARRAY) as part:
        part.pixels = part.pixels[:, :199]
    bench.refused(65, str(path), "SCI_RAW_BlankLeft", "(12, 200, 8)", "(12, 199, 8)")


def test_margins_of_another_shape_are_named(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, "SCI_RAW_OverscanTop") as part:
        part.pixels = part.pixels[:, :, :150]
    bench.refused(65, str(path), "SCI_RAW_OverscanTop", "(12, 6, 150)", "(12, 6, 200)")


def test_margins_of_fewer_images_are_named(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, "SCI_RAW_BlankRight") as part:
        part.pixels = part.pixels[:11]
    bench.refused(65, str(path), "SCI_RAW_BlankRight", "(11, 200, 8)", "(12, 200, 8)")


def test_a_cube_that_is_a_flat_image_is_named(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, SUBARRAY) as part:
        part.pixels = part.pixels[0]
    bench.refused(65, str(path), f"HDU 1 {SUBARRAY}", "2 axes", "expected 3")


def test_a_window_that_leaves_the_ccd_is_named(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, SUBARRAY) as part:
        part.set("X_WINOFF", 900)
    bench.refused(65, str(path), f"HDU 1 {SUBARRAY}", "200 x 200", "(900, 412)")


def test_an_empty_cube_is_named(bench: Bench) -> None:
    path = bench.raw(SUBARRAY)
    parts = take_apart(path)
    for part in parts:
        if part.extname == METADATA:
            part.rows = part.rows[:0]
        elif part.get("NAXIS") == 3:
            part.pixels = part.pixels[:0]
    put_together(path, parts)
    bench.refused(65, str(path), f"HDU 1 {SUBARRAY}", "empty")


# ---- 13 to 17: headers that lie


def limited(megabytes: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    return limit


HUGE = {
    "axis": ("NAXIS1", 10**9),
    "axes": ("NAXIS3", 10**15),
    "negative": ("NAXIS2", -200),
    "depth": ("NAXIS", 999),
    "minus": ("NAXIS", -1),
    "BITPIX": ("BITPIX", 33),
}


@pytest.mark.parametrize("case", HUGE)
def test_impossible_sizes_are_refused(bench: Bench, case: str) -> None:
    path = bench.raw(SUBARRAY)
    key, value = HUGE[case]
    with edited(path, SUBARRAY, sums=False) as part:
        part.set(key, value)
    bench.refused(65, str(path), "HDU 1")


def test_a_huge_size_is_refused_before_memory_is_asked_for(bench: Bench) -> None:
    # 40 GB are claimed; the process may have 2 GB
    path = bench.raw(SUBARRAY)
    with edited(path, SUBARRAY, sums=False) as part:
        part.set("NAXIS3", 250_000)
    command = [sys.executable, "-m", "flows.command.main", *bench.arguments()]
    result = subprocess.run(
        command, cwd=ROOT, text=True, capture_output=True, check=False, preexec_fn=limited(2048)
    )
    assert result.returncode == 65, result.stderr
    assert f"HDU 1 {SUBARRAY}: truncated" in result.stderr


def test_a_header_of_11_megabytes_is_refused(bench: Bench) -> None:
    path = bench.raw("AUX_RES_Orbit")
    with edited(path, "AUX_RES_Orbit", sums=False) as part:
        part.cards += [b"HISTORY again".ljust(80)] * (11_000_000 // 80)
    bench.refused(65, str(path), "HDU 1", "header is larger than")


@pytest.mark.parametrize("byte", [0x00, 0x0A, 0x1B, 0x7F, 0xE9])
def test_bytes_in_a_header_that_are_no_text_are_refused(bench: Bench, byte: int) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, SUBARRAY, sums=False) as part:
        part.put_card("TARGNAME", b"TARGNAME= 'Sim" + bytes([byte]) + b"lated'")
    bench.refused(65, str(path), "HDU 1", "not printable ASCII")


def tile_compressed() -> bytes:
    """A header that promises 100 GB of pixels from some bytes of heap."""
    primary = Part(
        [
            b"SIMPLE  =                    T".ljust(80),
            b"BITPIX  =                    8".ljust(80),
            b"NAXIS   =                    0".ljust(80),
        ]
    )
    table = Part([b"XTENSION= 'BINTABLE'".ljust(80)], bytes(8))
    cards = {
        "BITPIX": 8,
        "NAXIS": 2,
        "NAXIS1": 8,
        "NAXIS2": 1,
        "PCOUNT": 100,
        "GCOUNT": 1,
        "TFIELDS": 1,
        "TTYPE1": "COMPRESSED_DATA",
        "TFORM1": "1PB(100)",
        "ZIMAGE": True,
        "ZBITPIX": 32,
        "ZNAXIS": 3,
        "ZNAXIS1": 5000,
        "ZNAXIS2": 5000,
        "ZNAXIS3": 1000,
        "ZTILE1": 5000,
        "ZTILE2": 5000,
        "ZTILE3": 1000,
        "ZCMPTYPE": "RICE_1",
        "EXTNAME": "SCI_RAW_Attitude",
    }
    for key, value in cards.items():
        table.set(key, value)
    return primary.content(False) + table.content(False)


@pytest.mark.parametrize("bomb", ["gzip", "tiles"])
def test_a_compression_bomb_is_not_unpacked(bench: Bench, bomb: str) -> None:
    path = bench.raw("SCI_RAW_Attitude")
    replace(path, gzip.compress(bytes(300 << 20), 1) if bomb == "gzip" else tile_compressed())
    bench.run("--dry-run")  # what is imported and digested once must not count
    tracemalloc.start()
    try:
        bench.refused(65, str(path), "not a FITS file" if bomb == "gzip" else "HDU 1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 << 20  # what the promise says; unpacked it would be 300 MB and 100 GB


@pytest.mark.parametrize(("form", "count"), [("1PD(7)", 0), ("1QD(7)", 0), ("1D", 16)])
def test_a_heap_is_refused_wherever_its_pointers_lead(bench: Bench, form: str, count: int) -> None:
    path = bench.raw("AUX_RES_Orbit")
    with edited(path, "AUX_RES_Orbit") as part:
        part.set(f"TFORM{part.number_of('X')}", form)
        part.set("PCOUNT", count)
    bench.refused(65, str(path), "HDU 1")


# ---- 18: hostile texts

HOSTILE = [
    ["../../../etc/passwd", "x\\nERROR all is lost\\r\\x1b[2J", "<script>alert(1)</script>"],
    ['#read("/etc/passwd")', "#import sys; $x^2$ *bold* _it_ @ref <label>", "=cmd()|'"],
    ["${HOME} `id` $(id) %s {0} \\", "'; DROP TABLE visits; --", '=HYPERLINK("http://x","y")'],
]


@pytest.mark.parametrize("texts", HOSTILE)
def test_hostile_names_are_only_text(bench: Bench, texts: list[str]) -> None:
    path = bench.raw(SUBARRAY)
    with edited(path, SUBARRAY) as part:
        for key, text in zip(("TARGNAME", "PI_NAME", "SPECTYPE"), texts, strict=True):
            part.set(key, text)
    outcome = bench.published("-v")
    assert all(line.isprintable() for line in (outcome.out + outcome.err).splitlines())
    assert (
        json.loads((outcome.folder / "manifest.json").read_text())["inventory"]["target"]
        == texts[0]
    )
    (curve,) = outcome.folder.glob("*Lightcurve-DEFAULT*")
    assert fits.getheader(curve, 1)["TARGNAME"] == texts[0]
    names = [p.name for p in outcome.folder.rglob("*")]
    assert all(
        name.replace("_", "").replace("-", "").replace(".", "").isalnum() for name in names
    ), names
    assert sorted(p.name for p in bench.root.iterdir()) == ["out", "visit", "work"]


def test_an_image_of_the_visit_keeps_its_values_when_taken_apart_and_put_together(
    bench: Bench,
) -> None:
    # the tool of these tests: what it writes unchanged is the same file, what it changed has sums
    # that astropy believes
    for path in bench.visit.rglob("data/*.fits"):
        before = path.read_bytes()
        put_together(path, take_apart(path))
        assert path.read_bytes() == before
    with edited(bench.raw(SUBARRAY), SUBARRAY) as part:
        values = part.pixels + 7
        part.pixels = values
        part.set("TARGNAME", "another name")
    with fits.open(
        bench.raw(SUBARRAY), checksum=True
    ) as hdus:  # astropy warns of wrong sums; warnings are errors
        assert np.array_equal(hdus[SUBARRAY].data, values)
        assert hdus[SUBARRAY].header["TARGNAME"] == "another name"
