"""Truth and products of a simulated visit, read from their files; absent parts raise an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from schemas.arrays import AnyArray, BoolArray, FloatArray
from schemas.constants import DAY
from schemas.flags import EVENT_COSMIC_RAYS, EVENT_DIGITS, EVENT_EARTH, Quality

# Digits of EVENT up to which pycheops keeps a point by default, and the equivalent bits of QUALITY:
# stray light, the Earth's limb within its soft limit, and hits, all of which are corrected.
SOFT_EVENT = {EVENT_EARTH: 1, EVENT_COSMIC_RAYS: 2}
SOFT_QUALITY = Quality.STRAY_LIGHT | Quality.COSMIC_RAYS
DETRENDED = "OPTIMAL, detrended"  # the companion of OPTIMAL, in the same file
SAMPLE = 60  # images for the typical noise of a pixel


class AbsentError(Exception):
    """A table, column or file is absent; the message names it."""


@dataclass(frozen=True)
class Facts:
    """True properties of the simulated instrument that are in no table."""

    read_out_noise: float  # of one exposure [ADU]
    transfer_time: float  # of the frame transfer, per row [s]
    bias: float  # nominal level [ADU]
    pixel_scale: float  # [arcsec]
    # time in which each pixel of the window collects dark charge in an exposure [s]
    dark_seconds: FloatArray = field(repr=False)


@dataclass(frozen=True)
class Hdu:
    """Header and data of one HDU."""

    header: Mapping[str, Any]
    data: AnyArray
    columns: tuple[str, ...]

    def __getitem__(self, column: str) -> AnyArray:
        """Return a column in the machine's byte order; AbsentError if it is absent."""
        if column not in self.columns:
            raise AbsentError(f"{self.header['EXTNAME']} has no column {column}")
        values = np.asarray(self.data[column])
        return values.astype(values.dtype.newbyteorder("="))


def read_hdus(path: Path) -> dict[str, Hdu]:
    """Return the HDUs of a file by name, with all data in memory."""
    by_name = {}
    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus:
            if hdu.data is not None:
                names = tuple(hdu.columns.names) if isinstance(hdu, fits.BinTableHDU) else ()
                by_name[hdu.name.upper()] = Hdu(
                    {k: v for k, v in hdu.header.items() if k}, hdu.data, names
                )
    return by_name


def only_file(folder: Path, part: str) -> Path:
    """Return the only FITS file below a folder with `part` in its name.

    Raises
    ------
    AbsentError
        If there is none, or more than one.
    """
    paths = sorted(folder.rglob(f"*{part}*.fits"))
    if len(paths) != 1:
        raise AbsentError(f"{folder.name} has {len(paths)} files {part}, expected one")
    return paths[0]


class Truth:
    """The truth of a visit."""

    def __init__(self, visit: Path) -> None:
        self.folder = visit / "truth"
        self.case: dict[str, Any] = json.loads(
            (self.folder / "case.json").read_text(encoding="utf-8")
        )
        self.hdus = read_hdus(self.folder / "truth.fits")

    def table(self, name: str) -> Hdu:
        """Return an HDU of truth.fits; AbsentError if it is absent."""
        if name.upper() not in self.hdus:
            raise AbsentError(f"the truth has no {name}")
        return self.hdus[name.upper()]

    @property
    def stacks(self) -> Hdu:
        """The table of stacks, one row per stack."""
        return self.table("TRUTH_STACKS")

    @cached_property
    def good(self) -> BoolArray:
        """Stacks that are not in the SAA, occulted, damaged or crossed by a satellite."""
        stacks = self.stacks
        bad = [
            stacks[c].astype(bool)
            for c in ("SAA", "OCCULTED", "DAMAGED", "STREAK")
            if c in stacks.columns
        ]
        return np.asarray(~np.logical_or.reduce(bad))

    def cosmic_charge(self) -> dict[tuple[int, int, int], float]:
        """Return the charge of cosmic rays [electron] by stack, row and column of the window."""
        if "TRUTH_COSMICS" in self.hdus:
            table = self.table("TRUTH_COSMICS")
            keys = zip(*(table[c].astype(int).tolist() for c in ("STACK", "Y", "X")), strict=True)
            charge: dict[tuple[int, int, int], float] = {}
            for key, value in zip(keys, table["CHARGE"].tolist(), strict=True):
                charge[key] = charge.get(key, 0.0) + value
            return charge
        path = self.folder / "cosmics.fits"
        if not path.is_file():
            raise AbsentError("the truth has no TRUTH_COSMICS")
        cube = read_hdus(path)["TRUTH_COSMICS"].data
        return {(int(i), int(y), int(x)): float(cube[i, y, x]) for i, y, x in np.argwhere(cube > 0)}


@dataclass(frozen=True)
class Curve:
    """A light curve of the products, one row per stack or imagette."""

    name: str
    header: Mapping[str, Any]
    table: Hdu

    @property
    def radius(self) -> float:
        """Radius of its circle [pixel]."""
        return float(self.header["AP_RADI"])

    @cached_property
    def flux(self) -> FloatArray:
        """Flux of the target alone [electron], but for a constant part if it is detrended."""
        stars = self.table["CONTA_LC"].astype(float)
        if self.name == DETRENDED:
            known = bool(self.header.get("DET_CON", False))  # their changes are not in it
            return np.asarray(self.table["FLUX_DETRENDED"] / (1 + (0 if known else stars)), float)
        return np.asarray(self.table["FLUX"] / (1 + stars), float)

    @cached_property
    def used(self) -> BoolArray:
        """Points that pycheops keeps by default: at most with a soft flag."""
        grave = ((self.table["QUALITY"] & ~int(SOFT_QUALITY)) != 0) | ~np.isfinite(self.flux)
        for place in EVENT_DIGITS:
            grave |= self.table["EVENT"] // place % 10 > SOFT_EVENT.get(place, 0)
        return np.asarray(~grave)

    @cached_property
    def soft(self) -> BoolArray:
        """Used points with a soft flag."""
        return np.asarray(self.used & ((self.table["EVENT"] != 0) | (self.table["QUALITY"] != 0)))


class Products:
    """A published folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._terms: dict[str, dict[str, Hdu]] = {}

    def term(self, step: str, extname: str) -> Hdu:
        """Return an HDU of the term of a step; AbsentError if it is absent."""
        path = self.folder / "terms" / f"{step}.fits"
        if step not in self._terms:
            if not path.is_file():
                raise AbsentError(f"the term of step {step} was not published")
            self._terms[step] = read_hdus(path)
        if extname not in self._terms[step]:
            raise AbsentError(f"{path.name} has no {extname}")
        return self._terms[step][extname]

    def curve(self, name: str) -> Curve:
        """Return a light curve; AbsentError if it was not published."""
        file = "OPTIMAL" if name == DETRENDED else name
        table = read_hdus(only_file(self.folder, f"SCI_COR_Lightcurve-{file}_V"))[
            "SCI_COR_LIGHTCURVE"
        ]
        return Curve(name, table.header, table)

    @cached_property
    def sample(self) -> tuple[FloatArray, Mapping[str, Any]]:
        """The median of some corrected images [electron], and the header of their cube."""
        with fits.open(only_file(self.folder, "SCI_COR_SubArray"), memmap=True) as hdus:
            header = {k: v for k, v in hdus[1].header.items() if k}
            chosen = np.unique(np.linspace(0, hdus[1].header["NAXIS3"] - 1, SAMPLE).astype(int))
            images = np.stack([np.array(hdus[1].section[int(i)], float) for i in chosen])
        lost = np.isnan(images).all(axis=0)
        images[:, lost] = 0.0
        middle = np.nanmedian(images, axis=0)
        middle[lost] = np.nan
        return middle, header

    @property
    def window(self) -> tuple[int, int]:
        """Offset of the window on the CCD, x and y [pixel]."""
        header = self.sample[1]
        return int(header["X_WINOFF"]), int(header["Y_WINOFF"])


@dataclass(frozen=True)
class Part:
    """A reduced visit and its truth, with the same stacks row by row."""

    truth: Truth
    products: Products
    facts: Facts

    @property
    def case(self) -> dict[str, Any]:
        """Settings of the simulated visit."""
        return self.truth.case

    @property
    def nexp(self) -> int:
        """Exposures in a stack."""
        return int(self.case["nexp"])

    @property
    def duration(self) -> float:
        """Exposure time of a stack [s]."""
        return self.nexp * float(self.case["exptime"])

    @cached_property
    def pixel_noise(self) -> FloatArray:
        """Noise of each pixel of a stack [electron]: star, sky, dark current and read-out."""
        image, _ = self.products.sample
        sky = np.median(self.truth.stacks["BACKGROUND"][self.truth.good])
        dark = self.nexp * self.products.term("dark", "TERM_DARK").data.astype(float)
        read_out = (
            self.nexp * (self.facts.read_out_noise / np.median(self.truth.stacks["GAIN"])) ** 2
        )
        return np.asarray(np.sqrt(np.maximum(image, 0) + sky + np.maximum(dark, 0) + read_out))

    @cached_property
    def place(self) -> tuple[float, float]:
        """Median position of the target in the window; pixel i spans [i, i+1)."""
        x, y = (float(np.median(self.truth.stacks[f"CENTROID_{c}"][self.truth.good])) for c in "XY")
        return x - float(self.case["window_x"]), y - float(self.case["window_y"])

    @cached_property
    def contradiction(self) -> str:
        """The reason why products and truth are not of the same stacks; empty if they are."""
        times, truth = (
            self.products.term("quality", "TERM_QUALITY")["MJD_TIME"],
            self.truth.stacks["MJD_TIME"],
        )
        if len(times) != len(truth):
            return f"the products have {len(times)} stacks, the truth has {len(truth)}"
        late = DAY * float(np.abs(times - truth).max())
        return f"products and truth differ in time by {late:.1f} s" if late > 0.5 else ""


def occulted(event: AnyArray) -> BoolArray:
    """Return whether the Earth hid the star, according to EVENT."""
    return np.asarray(event // EVENT_EARTH % 10 == 9)
