"""The relative flux of the target: a transit times granulation, or the user's own light curve.

The user's table has the columns `flux` (relative; 1 is a star of the case's magnitude) and either
`time` (days since the start of the visit) or `mjd` (modified Julian date, TT; `mjd_time` is the
same). Upper and lower case are equivalent, other columns are ignored. Values between two rows are
interpolated linearly. An exposure sees the mean over its length, not the value at its middle.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits

from schemas.arrays import BoolArray, FloatArray
from schemas.constants import DAY
from tasks.simulation import granulation, main_sequence
from tasks.simulation.case import Case
from tasks.simulation.transit import Planet, limb_darkening

LightCurve = Callable[[FloatArray], FloatArray]  # relative flux at times [s]

LONGEST_PART = 10.0  # of an exposure, represented by one sample of the light curve [s]
FEWEST_PARTS = 5
MJD_NAMES = ("mjd", "mjd_time")
COLUMNS = ("flux", "time", *MJD_NAMES)  # that are read


def target_light(
    rng: np.random.Generator,
    case: Case,
    start: float,
    transit_middle: float,
    first: float,
    last: float,
) -> LightCurve:
    """Return the relative flux of the target as a function of time [s since the visit's start].

    Parameters
    ----------
    rng : Generator
        Draws the granulation.
    case : Case
        The star, its planet, or the file of its light curve.
    start : float
        Start of the visit [MJD, TT].
    transit_middle, first, last : float
        Mid-transit, and the times between which there are exposures [s].

    Raises
    ------
    ValueError
        If the file is not a light curve that covers the visit.
    """
    if case.light_curve is not None:
        time, flux = read_light_curve(case.light_curve, start, first, last)
        return lambda seconds: np.asarray(np.interp(seconds, time, flux))
    factors: list[LightCurve] = []
    if case.transit:
        u1, u2 = limb_darkening(case.teff)
        density = float(main_sequence.density(case.teff))
        planet = Planet(case.radius_ratio, case.transit_period, case.impact, density, u1, u2)
        factors.append(lambda seconds: planet.light_curve((seconds - transit_middle) / DAY))
    if case.granulation:
        grid, change = granulation.draw(rng, granulation.granulation(case.teff), 0.0, last)
        factors.append(
            lambda seconds: np.asarray(1 + case.granulation * np.interp(seconds, grid, change))
        )

    def light(seconds: FloatArray) -> FloatArray:
        flux = np.ones(seconds.shape)
        for factor in factors:
            flux *= factor(seconds)
        return flux

    return light


def mean_over_exposure(light: LightCurve, middle: FloatArray, exposure_time: float) -> FloatArray:
    """Return the mean light of each exposure, sampled at the middles of five or more equal parts.

    Parameters
    ----------
    light : callable
        Light at times [s].
    middle : ndarray, shape (n,)
        Middles of the exposures [s].
    exposure_time : float
        [s].
    """
    parts = max(FEWEST_PARTS, int(np.ceil(exposure_time / LONGEST_PART)))
    offset = ((np.arange(parts) + 0.5) / parts - 0.5) * exposure_time
    return np.asarray(
        light((middle[:, None] + offset).ravel()).reshape(middle.size, parts).mean(axis=1)
    )


def read_light_curve(
    path: Path, start: float, first: float, last: float
) -> tuple[FloatArray, FloatArray]:
    """Read the user's light curve from a CSV, ECSV or FITS table.

    Parameters
    ----------
    path : Path
        The file; if its name ends in .fits or .fit, the first table of a FITS file is read.
    start : float
        Start of the visit [MJD, TT].
    first, last : float
        The times that must be covered [s since the start of the visit].

    Returns
    -------
    tuple of ndarray, shape (n,)
        Time [s since the start of the visit] and relative flux.

    Raises
    ------
    ValueError
        If the file is not such a table, or its values are not a light curve that covers the visit.
    """
    table = _fits_columns(path) if path.suffix.lower() in (".fits", ".fit") else _text_columns(path)
    dated = next((name for name in MJD_NAMES if name in table), None)
    if "flux" not in table or (dated is None and "time" not in table):
        raise ValueError(
            f"{path}: columns are {', '.join(table) or 'none'}; expected flux, and time [days "
            f"since the start of the visit] or mjd [TT]"
        )
    flux = table["flux"]
    time = (table[dated] - start) * DAY if dated is not None else table["time"] * DAY
    _check_values(path, time, flux)
    if time[0] > first or time[-1] < last:
        raise ValueError(
            f"{path}: covers days {time[0] / DAY:.5f} to {time[-1] / DAY:.5f} of the visit, "
            f"but its exposures need {first / DAY:.5f} to {last / DAY:.5f}"
        )
    return time, flux


def _check_values(path: Path, time: FloatArray, flux: FloatArray) -> None:
    """Check that time is finite and increasing, and flux finite and positive."""
    if time.size < 2:
        raise ValueError(f"{path}: a light curve needs at least two rows, this one has {time.size}")
    for name, values in (("time", time), ("flux", flux)):
        if (wrong := ~np.isfinite(values)).any():
            raise ValueError(f"{path}: {name} in row {_first(wrong)} is not a finite number")
    if (wrong := np.diff(time) <= 0).any():
        raise ValueError(f"{path}: time does not increase after row {_first(wrong)}")
    if (wrong := flux <= 0).any():
        raise ValueError(
            f"{path}: flux in row {_first(wrong)} is {flux[wrong][0]:g}, expected more than 0"
        )


def _first(wrong: BoolArray) -> int:
    """Return the number of the first row that is wrong, counted from 1."""
    return int(np.flatnonzero(wrong)[0]) + 1


def _fits_columns(path: Path) -> dict[str, FloatArray]:
    try:
        with fits.open(path, memmap=False) as file:
            tables = [hdu for hdu in file if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
            if not tables:
                raise ValueError(f"{path}: has no table")
            data = tables[0].data
            names = [str(name) for name in data.names]
            return {
                name.lower(): np.asarray(data[name], float).ravel()
                for name in names
                if name.lower() in COLUMNS
            } | {name.lower(): np.zeros(0) for name in names if name.lower() not in COLUMNS}
    except OSError as error:
        raise ValueError(f"{path}: is not a FITS file ({error})") from error
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: its table cannot be read ({error})") from error


def _text_columns(path: Path) -> dict[str, FloatArray]:
    names, rows = _text_rows(path)
    return {
        name: np.array(
            [_number(path, name, n, row[column]) for n, row in enumerate(rows, 1)]
            if name in COLUMNS
            else np.zeros(len(rows))
        )
        for column, name in enumerate(names)
    }


def _text_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the column names of a text table, in lower case, and the cells of its rows."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: is not a text file, and its name does not end in .fits"
        ) from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError(f"{path}: has no table")
    head, *rows = list(csv.reader(lines)) if "," in lines[0] else [line.split() for line in lines]
    names = [name.strip().lower() for name in head]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise ValueError(
                f"{path}: row {number} has {len(row)} values, expected {len(names)}, one per column"
            )
    return names, rows


def _number(path: Path, name: str, row: int, cell: str) -> float:
    """Return the number in a cell; NaN if it is empty."""
    try:
        return float(cell.strip() or "nan")
    except ValueError:
        raise ValueError(f"{path}: {name} in row {row} is {cell!r}, expected a number") from None
