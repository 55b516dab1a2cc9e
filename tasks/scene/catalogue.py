"""The star catalogue: places of its stars about the target, and fluxes relative to the target's.

Fluxes follow from magnitudes relative to the target's. Gaia G is converted to the CHEOPS band by
the effective temperature if there is a reference for the conversion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.inputs import FLUX_CONVERSION, STAR_CATALOGUE
from schemas.payloads import Product, Reference
from tasks.files.disk import require
from tasks.files.reader import Hdu, open_declared
from tasks.numerics.geometry import sky_to_tangent

# arcsec; covers the whole CCD, since distant stars smear into the columns of the window
FIELD_RADIUS = 1500.0
FAINTEST = 1e-6  # of the target's flux; fainter stars have no measurable effect
SUN = 5772.0  # K
J2000 = 51544.5  # MJD, TT


def to_cheops_band(
    mag: FloatArray, teff: FloatArray, target: int, table: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Return magnitudes in the CHEOPS band from Gaia G.

    Parameters
    ----------
    mag, teff : ndarray, shape (k,)
        Gaia G [mag] and effective temperature [K]. A star of unknown temperature (NaN or 0) gets
        the colour of the target, so that its flux ratio is that in G.
    target : int
        Index of the target; if its own temperature is unknown, the Sun's is used.
    table : tuple of ndarray
        Increasing temperatures [K], and CHEOPS minus G [mag], constant beyond either end.

    Raises
    ------
    ValueError
        If the temperatures are not increasing.
    """
    temperature, colour = table
    if (np.diff(temperature) <= 0).any():
        raise ValueError("column T_EFF is not increasing")
    known = np.isfinite(teff) & (teff > 0)
    usual = teff[target] if known[target] else SUN
    return mag + np.interp(np.where(known, teff, usual), temperature, colour)


def read_colours(reference: Reference) -> tuple[FloatArray, FloatArray]:
    """Return the table of `to_cheops_band`."""
    with open_declared(require(reference.product.path), FLUX_CONVERSION) as file:
        table = file["REF_APP_FluxConversion"]
        temperature, colour = (
            table.finite_column("T_EFF"),
            table.finite_column("CHEOPSMAG_MINUS_GMAG"),
        )
        if (np.diff(temperature) <= 0).any():
            raise table.refuse("column T_EFF is not increasing")
        return temperature, colour


def epoch_of(hdu: Hdu) -> float:
    """Return the epoch of a catalogue [Julian year], NaN if it is not given."""
    value = hdu.header.get("OBSEPOCH")
    return (
        float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and 1900 < value < 2200
        else np.nan
    )


@dataclass(frozen=True)
class Catalogue:
    """Stars of a catalogue, arrays of shape (k,)."""

    xi: FloatArray  # standard coordinates about the target [arcsec]
    eta: FloatArray
    mag: FloatArray
    teff: FloatArray  # [K]; 0 is unknown
    share: FloatArray  # flux relative to the target's
    target: BoolArray
    years: float  # from the epoch of the catalogue to the visit; NaN is unknown
    band: bool  # whether `share` is in the CHEOPS band


def read_catalogue(
    catalogue: Product | None, conversion: Reference | None, mjd: float
) -> Catalogue | None:
    """Read the relevant stars of a catalogue, or return None without one.

    Raises
    ------
    BadInputError
        If the catalogue is damaged, or does not mark exactly one star as the target.
    """
    if catalogue is None:
        return None
    with open_declared(require(catalogue.path), STAR_CATALOGUE) as file:
        hdu = file["EXT_PRE_StarCatalogue"]
        ra, dec, mag, teff = (
            hdu.column(c).astype(np.float64) for c in ("RA", "DEC", "MAG_GAIA", "T_EFF")
        )
        target = hdu.column("TARGET").astype(bool)
        if target.sum() != 1:
            raise hdu.refuse(f"column TARGET marks {target.sum()} stars, expected one")
        years = 2000.0 + (mjd - J2000) / 365.25 - epoch_of(hdu)
    xi, eta = sky_to_tangent(ra, dec, float(ra[target][0]), float(dec[target][0]))
    band = (
        mag
        if conversion is None
        else to_cheops_band(mag, teff, int(np.argmax(target)), read_colours(conversion))
    )
    share = 10.0 ** (-0.4 * (band - float(band[target][0])))
    relevant = np.isfinite(mag) & (share > FAINTEST) & (np.hypot(xi, eta) < FIELD_RADIUS)
    known = np.nan_to_num(teff)
    return Catalogue(
        xi[relevant],
        eta[relevant],
        mag[relevant],
        known[relevant],
        share[relevant],
        target[relevant],
        float(years),
        conversion is not None,
    )
