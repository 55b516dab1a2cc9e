"""The target's relative flux: a transit times granulation, or what the user gives.

The user's table has the columns `flux` (relative, 1 is the star of the case's magnitude) and either
`time` (days since the start of the visit) or `mjd` (modified Julian date, TT; `mjd_time` is the
same); capitals do not matter and further columns are left alone. It is read linearly between its
rows. An exposure sees the mean over its length, not the value at its middle.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits

from schemas.arrays import FloatArray
from schemas.constants import DAY
from tasks.simulation import granulation, main_sequence
from tasks.simulation.case import Case
from tasks.simulation.transit import Planet, limb_darkening

LightCurve = Callable[[FloatArray], FloatArray]  # relative flux at times [s]

LONGEST_PART = 10.0  # of an exposure, between two of the values that are averaged [s]
FEWEST_PARTS = 5
MJD_NAMES = ("mjd", "mjd_time")


def target_light(
    rng: np.random.Generator,
    case: Case,
    start: float,
    transit_middle: float,
    first: float,
    last: float,
) -> LightCurve:
    """Return the relative flux of the case's target as a function of time [s from the start of the
    visit].

    Parameters
    ----------
    start : float
        Start of the visit [MJD, TT].
    transit_middle, first, last : float
        Mid-transit, and the times between which there are exposures [s].

    Raises
    ------
    ValueError
        If the case's light curve is none of this visit.
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
    """Return the mean light of each exposure, from values at the middles of at least five equal
    parts.

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
        The file; a name that ends in .fits or .fit is a FITS file, of which the first table is
        read.
    start : float
        Start of the visit [MJD, TT].
    first, last : float
        The times that must be covered [s from the start of the visit].

    Returns
    -------
    tuple of ndarray, shape (n,)
        Time [s from the start of the visit] and relative flux.

    Raises
    ------
    ValueError
        If the file is no such table, or its values cannot be a light curve of the visit.
    """
    table = _fits_columns(path) if path.suffix.lower() in (".fits", ".fit") else _text_columns(path)
    dated = next((name for name in MJD_NAMES if name in table), None)
    if "flux" not in table or (dated is None and "time" not in table):
        found = ", ".join(table) or "none"
        raise ValueError(
            f"{path}: columns are {found}; wanted flux, and time [day from the start of the "
            f"visit] or mjd [TT]"
        )
    flux = table["flux"]
    time = (table[dated] - start) * DAY if dated is not None else table["time"] * DAY
    if time.size < 2:
        raise ValueError(f"{path}: a light curve has at least two rows, this one has {time.size}")
    for name, values in (("time", time), ("flux", flux)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"{path}: {name} in row {np.flatnonzero(~np.isfinite(values))[0] + 1} is not a "
                f"finite number"
            )
    if (np.diff(time) <= 0).any():
        raise ValueError(
            f"{path}: time does not increase after row {np.flatnonzero(np.diff(time) <= 0)[0] + 1}"
        )
    if (flux <= 0).any():
        raise ValueError(
            f"{path}: flux in row {np.flatnonzero(flux <= 0)[0] + 1} is "
            f"{flux[flux <= 0][0]:g}, wanted more than 0"
        )
    if time[0] > first or time[-1] < last:
        raise ValueError(
            f"{path}: covers day {time[0] / DAY:.5f} to {time[-1] / DAY:.5f} from the start of "
            f"the visit, "
            f"whose exposures take {first / DAY:.5f} to {last / DAY:.5f}"
        )
    return time, flux


def _fits_columns(path: Path) -> dict[str, FloatArray]:
    try:
        with fits.open(path, memmap=False) as file:
            tables = [hdu for hdu in file if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
            if not tables:
                raise ValueError(f"{path}: holds no table")
            data = tables[0].data
            names = [str(name) for name in data.names]
            wanted = [name for name in names if name.lower() in ("flux", "time", *MJD_NAMES)]
            return {name.lower(): np.asarray(data[name], float).ravel() for name in wanted} | {
                name.lower(): np.zeros(0) for name in names if name not in wanted
            }
    except OSError as error:
        raise ValueError(f"{path}: is no FITS file ({error})") from error
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: its table cannot be read ({error})") from error


def _text_columns(path: Path) -> dict[str, FloatArray]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text, and its name does not end in .fits") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError(f"{path}: holds no table")
    rows = list(csv.reader(lines)) if "," in lines[0] else [line.split() for line in lines]
    names = [name.strip().lower() for name in rows[0]]
    short = next((i for i, row in enumerate(rows[1:], 1) if len(row) != len(names)), None)
    if short is not None:
        raise ValueError(
            f"{path}: row {short} has {len(rows[short])} values, its head names {len(names)} "
            f"columns"
        )
    table: dict[str, FloatArray] = {}
    for column, name in enumerate(names):
        wanted = name in ("flux", "time", *MJD_NAMES)
        values = []
        for number, row in enumerate(rows[1:], 1):
            try:
                values.append(float(row[column].strip() or "nan") if wanted else 0.0)
            except ValueError:
                raise ValueError(
                    f"{path}: {name} in row {number} is {row[column]!r}, wanted a number"
                ) from None
        table[name] = np.array(values)
    return table
