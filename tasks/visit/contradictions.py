"""Values that files give more than once: they must agree, since each step reads one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from schemas.arrays import FloatArray
from schemas.constants import DAY
from schemas.errors import BadInputError
from schemas.inputs import (
    ATTITUDE,
    RAW_FULL_ARRAY,
    RAW_IMAGETTE,
    RAW_SUBARRAY,
    STAR_CATALOGUE,
    VISITS,
)
from schemas.payloads import Product
from tasks.files.reader import FitsFile, Hdu, open_declared, scan

# keywords that mean the same in every HDU of a raw file
COMMON = (
    "PROGTYPE",
    "PROG_ID",
    "REQ_ID",
    "VISITCTR",
    "OBSID",
    "RA_TARG",
    "DEC_TARG",
    "NEXP",
    "EXPTIME",
    "TEXPTIME",
    "STACKING",
    "NLIN_COR",
    "RO_SCRPT",
    "RO_HW",
    "RO_FREQU",
)
# relative difference of real numbers that is rounding in a file
ROUNDING = 1e-4
OVERLAP = 2.0  # [s]; of two images that follow each other, never reached by rounded times
FEWEST_SPACINGS = 3  # of images, to be usual
# Proper motion moves the fastest star by 10 arcsec a year, and no target by this in a century.
OF_CATALOGUE = 5.0  # [arcmin]
# The satellite points at the target, wherever it is put on the CCD of 17 arcmin.
OF_ATTITUDE = 20.0  # [arcmin]

Place = tuple[float, float]  # right ascension and declination [deg]


def check_keywords(file: FitsFile) -> None:
    """Check that keywords of all HDUs in use agree, and exposure times with their sum.

    Raises
    ------
    BadInputError
        If they do not; names both values.
    """
    first = file.hdus[1]
    for hdu in file.hdus[2:]:
        if hdu.declared is None:
            continue
        for name in COMMON:
            ours, theirs = first.header.get(name), hdu.header.get(name)
            if ours is not None and theirs is not None and not _alike(ours, theirs):
                raise hdu.refuse(
                    f"keyword {name} is {theirs!r}, but {ours!r} in HDU {first.index} "
                    f"{first.extname}"
                )
    total, nexp, single = (_number(first, n) for n in ("TEXPTIME", "NEXP", "EXPTIME"))
    if np.isfinite([total, nexp, single]).all() and not _alike(total, nexp * single):
        raise first.refuse(
            f"keyword TEXPTIME is {total:g} s, but NEXP {nexp:g} times EXPTIME {single:g} s is "
            f"{nexp * single:g} s"
        )


def check_spacing(file: FitsFile) -> None:
    """Check that the images of the sub-array do not overlap in time.

    Raises
    ------
    BadInputError
        If an image usually takes longer than the time to the next one; names both times.
    """
    first, total = file.hdus[1], _number(file.hdus[1], "TEXPTIME")
    later = np.diff(file["SCI_RAW_ImageMetadata"].column("MJD_TIME").astype(np.float64))
    later = later[later > 0]
    if len(later) < FEWEST_SPACINGS or not np.isfinite(total):
        return
    apart = float(np.median(later)) * DAY
    if total > apart + OVERLAP:
        raise first.refuse(
            f"keyword TEXPTIME is {total:g} s, but the images of HDU SCI_RAW_ImageMetadata are "
            f"{apart:.4g} s apart"
        )


def _number(hdu: Hdu, name: str) -> float:
    value = hdu.header.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return np.nan
    return float(value)


def _alike(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return bool(np.isclose(float(one), float(other), rtol=ROUNDING, atol=0))
    return one == other


def check_target(inputs: Mapping[str, Product]) -> None:
    """Check that raw images, catalogue, planned visit and attitude mean one place on the sky.

    Parameters
    ----------
    inputs : dict
        The files of a visit by kind.

    Raises
    ------
    BadInputError
        If a place is too far from that of the raw images; names both.
    """
    with open_declared(Path(inputs[RAW_SUBARRAY.kind].path), RAW_SUBARRAY) as file:
        hdu = file.hdus[1]
        target = hdu.number("RA_TARG"), hdu.number("DEC_TARG")
        where = hdu.where
    for place, found, most in (*_headers(inputs), *_places(inputs)):
        if np.isfinite(found).all() and (away := separation(target, found)) > most:
            raise BadInputError(
                f"{where}: keywords RA_TARG and DEC_TARG are {target[0]:.5f} and {target[1]:.5f} "
                f"deg, {away:.1f} arcmin from {found[0]:.5f} and {found[1]:.5f} deg, {place}; "
                f"expected at most {most:g} arcmin"
            )


def _places(inputs: Mapping[str, Product]) -> list[tuple[str, Place, float]]:
    """Return the other places of the target: description, position, allowed difference."""
    places = []
    for declared, columns in ((STAR_CATALOGUE, ("RA", "DEC")), (VISITS, ("RA_TARG", "DEC_TARG"))):
        if product := inputs.get(declared.kind):
            with open_declared(Path(product.path), declared) as file:
                text = f"the target in {file.path.name}"
                places.append((text, _of_target(file.hdus[1], columns), OF_CATALOGUE))
    with open_declared(Path(inputs[ATTITUDE.kind].path), ATTITUDE) as file:
        ra, dec = (file.hdus[1].column(c).astype(np.float64) for c in ("SC_RA", "SC_DEC"))
        text = f"the usual line of sight in {file.path.name}"
        places.append((text, usual_direction(ra, dec), OF_ATTITUDE))
    return places


def _headers(inputs: Mapping[str, Product]) -> Iterator[tuple[str, Place, float]]:
    """Yield the target's place in the headers of the visit's other raw files."""
    for kind in (RAW_FULL_ARRAY, RAW_IMAGETTE, ATTITUDE, STAR_CATALOGUE):
        if product := inputs.get(kind.kind):
            with scan(Path(product.path)) as file:
                found = _number(file.hdus[1], "RA_TARG"), _number(file.hdus[1], "DEC_TARG")
            if found != (0.0, 0.0):  # the mission's simulator leaves these cards at 0
                yield f"the header of {file.path.name}", found, OF_CATALOGUE


def _of_target(table: Hdu, columns: tuple[str, str]) -> Place:
    """Return the position in the row of the target; NaN if it is not known."""
    if not set(columns) <= set(table.present()):
        return np.nan, np.nan
    marked = table.column("TARGET") if "TARGET" in table.present() else np.arange(table.rows) == 0
    if marked.sum() != 1:
        return np.nan, np.nan  # the step that reads the catalogue says so
    ra, dec = (float(table.column(c)[marked][0]) for c in columns)
    return ra, dec


def _vectors(ra: FloatArray, dec: FloatArray) -> FloatArray:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def usual_direction(ra: FloatArray, dec: FloatArray) -> Place:
    """Return the median of directions [deg], NaN if none is known."""
    known = np.isfinite(ra) & np.isfinite(dec)
    if not known.any():
        return np.nan, np.nan
    x, y, z = np.median(_vectors(ra[known], dec[known]), axis=0)
    return float(np.degrees(np.arctan2(y, x)) % 360), float(
        np.degrees(np.arctan2(z, np.hypot(x, y)))
    )


def separation(one: Place, other: Place) -> float:
    """Return the angle between two places on the sky, given in degrees [arcmin]."""
    a, b = _vectors(*np.array([one, other]).T)
    return float(60 * np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), np.dot(a, b))))
