"""Noise of public light curves from flight, and of simulated visits of like stars and exposures.

Run: python -m benchmarks.flight FLIGHT [SCRATCH], with a folder of SCI_COR_Lightcurve-DEFAULT
files; simulated and reduced visits are kept in SCRATCH (default: build/flight). For every flight
light curve a visit of the same magnitude, temperature, exposure and number of exposures is
simulated (at most 300 stacks, with the CCD of March 2021, or of 2024 for later ones) and reduced
with the default library. Prints a table for
docs/validation.md, which says what it can and cannot tell.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits

from schemas import ROOT
from schemas.arrays import BoolArray, FloatArray
from tasks.delivery.detrended import detrended
from tasks.engine.child import COMMAND, start_python
from tasks.photometry.noise import PPM, cdpp, point_to_point
from tasks.photometry.optimal import running_median

SLOW = 3.0 / 24.0  # width of the running median that removes transits and slow changes [day]
CLIP = 5.0  # robust sigma
BLOCK = 0.5  # length of the means of beta [h]
FEWEST = 4  # means that give a scatter
MOST_STACKS = 300
YOUNG, AGED = "2021-03", "2024-03"  # for which states of the CCD are simulated
SIMULATED = ("DEFAULT", "OPTIMAL")
CONDITIONS = ("FLUX", "FLUXERR", "MJD_TIME", "BJD_TIME", "ROLL_ANGLE", "BACKGROUND")
CONDITIONS += ("CENTROID_X", "CENTROID_Y", "SMEARING_LC", "CONTA_LC")
ELSEWHERE = ((0.0, 1.0),)  # a transit that is in no visit: dips are not left out
HEAD = "| star, G | exposure | light curve | points | formal | p2p | CDPP 30 min | beta 30 min |"


class Series(NamedTuple):
    """Unflagged points of a light curve, shape (n,)."""

    mjd: FloatArray
    flux: FloatArray
    error: FloatArray


class Noise(NamedTuple):
    """The noise of a light curve [ppm]; NaN where it cannot be computed."""

    points: int
    formal: float  # median FLUXERR
    neighbours: float  # from point to point
    means: float  # CDPP in 30 min
    beta: float  # scatter of means of 30 min over that of independent points


class Star(NamedTuple):
    """What a simulated visit needs to be like that of a flight light curve."""

    name: str
    magnitude: float
    teff: int
    nexp: int
    exptime: float
    stacks: int
    year: int

    def case(self) -> str:
        """Return the settings of the simulated visit."""
        settings = {
            "images": min(self.stacks, MOST_STACKS),
            "nexp": self.nexp,
            "exptime": self.exptime,
            "magnitude": self.magnitude,
            "teff": self.teff,
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        start = f'start = "{AGED if self.year >= int(AGED[:4]) else YOUNG}-10T08:00:00"'
        return "\n".join([*lines, start, "transit = false", "tilt = 20.0", ""])


def read_series(path: Path, column: str = "FLUX") -> Series:
    """Read the unflagged points of a light curve; those of flight have no QUALITY."""
    with fits.open(path, memmap=False) as file:
        table = file[1].data
        good: BoolArray = (table["EVENT"] == 0) & (table["STATUS"] == 0)
        if "QUALITY" in table.names:
            good &= table["QUALITY"] == 0
        columns = [np.asarray(table[c], np.float64) for c in ("MJD_TIME", column, "FLUXERR")]
    good &= np.isfinite(columns[1])
    return Series(*(values[good] for values in columns))


def read_detrended(path: Path) -> Series:
    """Read the unflagged points of a light curve from flight, detrended as if it had no transit.

    Its file does not have the telescope's temperature, of which the roll angle has to do the work.
    """
    with fits.open(path, memmap=False) as file:
        table = file[1].data
        columns = {c: np.asarray(table[c], np.float64) for c in CONDITIONS}
        flags = {c: np.asarray(table[c], np.int64) for c in ("EVENT", "STATUS")}
    unknown = np.full(len(columns["FLUX"]), np.nan)
    made, keywords = detrended({**columns, **flags, "QUALITY": flags["STATUS"]}, unknown, ELSEWHERE)
    print(f"{path.name[:22]}: {keywords['DET_TERM']}", file=sys.stderr)
    flux = made["FLUX_DETRENDED"]
    good = (flags["EVENT"] == 0) & (flags["STATUS"] == 0) & np.isfinite(flux)
    return Series(columns["MJD_TIME"][good], flux[good], columns["FLUXERR"][good])


def read_star(path: Path) -> Star:
    """Read the star and the exposures of a light curve."""
    header = fits.getheader(path, 1)
    return Star(
        str(header["TARGNAME"]),
        float(header["MAG_G"]),
        int(header["T_EFF"]),
        int(header["NEXP"]),
        float(header["EXPTIME"]),
        int(header["NAXIS2"]),
        int(str(header["V_STRT_U"])[:4]),
    )


def measure(series: Series) -> Noise:
    """Measure the noise of a light curve about a running median of three hours."""
    slow = running_median(series.mjd, series.flux[None], SLOW)[0]
    away = series.flux / slow - 1.0
    near = np.abs(away) < CLIP * 1.4826 * np.median(np.abs(away))
    mjd, rest = series.mjd[near], away[near]
    neighbours = point_to_point(rest)
    return Noise(
        len(rest),
        float(PPM * np.median(series.error / series.flux)),
        PPM * neighbours,
        cdpp(mjd, 1.0 + rest, BLOCK),
        beta(24.0 * mjd, rest, neighbours),
    )


def beta(hours: FloatArray, rest: FloatArray, noise: float) -> float:
    """Return the scatter of means over BLOCK, relative to that of independent points.

    `noise` is that of a point from its neighbours. A mean counts if half of its points exist.
    """
    step = float(np.median(np.diff(hours)))
    size = max(round(BLOCK / step), 1)
    block = np.round((hours - hours[0]) / step).astype(int) // size
    count = np.bincount(block)
    full = 2 * count >= size
    if full.sum() < FEWEST:
        return float("nan")
    means = np.bincount(block, weights=rest)[full] / count[full]
    return float(np.std(means, ddof=1) / noise / np.sqrt(np.mean(1.0 / count[full])))


def simulated(star: Star, scratch: Path) -> Path:
    """Return the published folder of a visit like that of a star; simulate it if need be."""
    folder = scratch / "".join(c if c.isalnum() else "_" for c in star.name)
    if not (published := sorted(folder.glob("products/CH_*"))):
        folder.mkdir(parents=True, exist_ok=True)
        case = folder / "case.toml"
        case.write_text(star.case(), encoding="utf-8")
        run("simulate", folder / "visit", "--case", case)
        products, work = folder / "products", folder / "work"
        run("reduce", folder / "visit", "--output", products, "--work", work, "--engine", "plain")
        published = sorted(products.glob("CH_*"))
    return published[0]


def run(*arguments: object) -> None:
    """Run a command of drp in a process of its own; RuntimeError if it fails."""
    if code := start_python([*COMMAND, *map(str, arguments)]).wait():
        raise RuntimeError(f"drp {arguments[0]} of {arguments[1]} ended with {code}")


def rows(path: Path, scratch: Path) -> Iterator[str]:
    """Yield the rows of the table for a light curve from flight."""
    star = read_star(path)
    where = f"{star.name}, {star.magnitude:.2f} | {star.nexp} x {star.exptime:g} s"
    yield row(where, "flight, DEFAULT", measure(read_series(path)))
    yield row(where, "flight, DEFAULT, detrended", measure(read_detrended(path)))
    published = simulated(star, scratch)
    for name in SIMULATED:
        (curve,) = published.glob(f"*SCI_COR_Lightcurve-{name}_V*.fits")
        yield row(where, f"simulated, {name}", measure(read_series(curve)))
    quiet = measure(read_series(curve, "FLUX_DETRENDED"))
    yield row(where, f"simulated, {SIMULATED[-1]}, detrended", quiet)


def row(where: str, what: str, noise: Noise) -> str:
    """Return a row of the table; an unknown number is a dash."""
    numbers = [f"{value:.0f}" for value in noise[1:4]] + [f"{noise.beta:.2f}"]
    cells = [where, what, str(noise.points), *(n.replace("nan", "—") for n in numbers)]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> None:
    """Print the table for the folder named on the command line."""
    scratch = Path(arguments[1]) if len(arguments) > 1 else ROOT / "build" / "flight"
    print(HEAD)
    print("|" + " --- |" * (HEAD.count("|") - 1))
    for path in sorted(Path(arguments[0]).glob("*SCI_COR_Lightcurve-DEFAULT_V*.fits")):
        for text in rows(path, scratch):
            print(text, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
