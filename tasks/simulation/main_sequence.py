"""The main sequence: properties of dwarfs by effective temperature.

Radius and mass relative to the Sun, and absolute magnitude in Gaia G, by spectral type: round
numbers from memory of the tables of Pecaut & Mamajek (2013, ApJS 208, 9), good to a few percent and
0.2 mag, which is less than the differences between dwarfs of the same temperature. Between the
rows, logarithms are interpolated linearly in log Teff.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from schemas.arrays import FloatArray

SUN_LOG_G = 4.438  # log10 of surface gravity [cm/s^2]
SUN_DENSITY = 1.41  # [g/cm^3]
_TYPES = (  # type, effective temperature [K], radius, mass, absolute magnitude; coldest first
    ("M9", 2400, 0.10, 0.08, 16.0),
    ("M7", 2650, 0.12, 0.09, 14.5),
    ("M5", 3060, 0.20, 0.16, 12.2),
    ("M4", 3200, 0.27, 0.23, 11.2),
    ("M2", 3550, 0.44, 0.44, 9.3),
    ("M0", 3850, 0.58, 0.57, 8.2),
    ("K5", 4440, 0.70, 0.68, 7.0),
    ("K2", 5100, 0.77, 0.78, 6.0),
    ("K0", 5270, 0.81, 0.87, 5.6),
    ("G5", 5660, 0.98, 0.98, 4.8),
    ("G2", 5770, 1.00, 1.00, 4.6),
    ("G0", 5930, 1.10, 1.08, 4.3),
    ("F5", 6550, 1.45, 1.33, 3.3),
    ("F0", 7200, 1.70, 1.60, 2.6),
    ("A5", 8100, 1.80, 1.88, 1.9),
    ("A0", 9700, 2.10, 2.20, 1.1),
    ("B5", 15700, 3.40, 4.70, -0.9),
    ("B0", 31000, 7.00, 17.5, -3.6),
    ("O5", 41000, 10.0, 35.0, -5.2),
)
_TEFF, _RADIUS, _MASS, _MAGNITUDE = np.array([row[1:] for row in _TYPES], float).T
_CLASSES = "OBAFGKM"


def _between(teff: ArrayLike, values: FloatArray) -> FloatArray:
    return np.asarray(np.interp(np.log(np.asarray(teff, float)), np.log(_TEFF), values))


def log_gravity(teff: ArrayLike) -> FloatArray:
    """Return log10 of the surface gravity [cm/s^2], log g = log(g Sun) + log(M / R^2)."""
    return SUN_LOG_G + _between(teff, np.log10(_MASS / _RADIUS**2))


def density(teff: ArrayLike) -> FloatArray:
    """Return the mean density, M / R^3 times that of the Sun [g/cm^3]."""
    return SUN_DENSITY * 10 ** _between(teff, np.log10(_MASS / _RADIUS**3))


def absolute_magnitude(teff: ArrayLike) -> FloatArray:
    """Return the absolute magnitude in Gaia G."""
    return _between(teff, _MAGNITUDE)


def temperature(spectral_type: str) -> float:
    """Return the effective temperature [K] of a spectral type such as G, G2, G2V or K7.5V.

    A single letter means its first subclass.

    Raises
    ------
    ValueError
        If the text does not begin with one of the letters O B A F G K M.
    """
    letter, subclass = spectral_type[:1].upper(), spectral_type[1:]
    if not letter or letter not in _CLASSES:
        raise ValueError(
            f"spectral type is {spectral_type!r}, expected a letter of {_CLASSES} with an "
            f"optional digit"
        )
    digits = subclass[: len(subclass) - len(subclass.lstrip("0123456789."))]
    try:
        place = min(float(digits or 0), 9.9) + 10 * _CLASSES.index(letter)
    except ValueError:
        raise ValueError(
            f"spectral type is {spectral_type!r}, expected a number instead of {digits!r}"
        ) from None
    places = [10 * _CLASSES.index(name[0]) + float(name[1:]) for name, *_ in reversed(_TYPES)]
    return float(np.interp(place, places, _TEFF[::-1]))
