"""The star catalogue: where its stars stand about the target, and how bright they are against it.

Fluxes follow from the magnitudes relative to the target's; Gaia G is brought to the band of CHEOPS
by the effective temperature where the reference tells how.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray
from schemas.inputs import FLUX_CONVERSION, STAR_CATALOGUE
from schemas.payloads import Product, Reference
from tasks.files.disk import require
from tasks.files.reader import Hdu, open_declared
from tasks.numerics.geometry import sky_to_tangent

# arcsec about the target: all of the CCD, for stars far off smear into the window's columns
FIELD_RADIUS = 1500.0
FAINTEST = 1e-6  # of the target's flux; fainter stars change nothing that can be measured
SUN = 5772.0  # K
J2000 = 51544.5  # MJD, TT


def to_cheops_band(
    mag: FloatArray, teff: FloatArray, target: int, table: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Return magnitudes in the CHEOPS band from Gaia G.

    Parameters
    ----------
    mag, teff : ndarray, shape (k,)
        Gaia G [mag] and effective temperature [K]; where it is not known (NaN or 0) the colour of
        the target is taken, so that the ratio to its flux is that in G.
    target : int
        Index of the target; if its own temperature is not known, that of the Sun is taken.
    table : tuple of ndarray
        Temperatures in rising order [K], and CHEOPS minus G [mag]; beyond their ends the last value
        holds.

    Raises
    ------
    ValueError
        If the temperatures do not rise.
    """
    temperature, colour = table
    if (np.diff(temperature) <= 0).any():
        raise ValueError("column T_EFF does not rise")
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
            raise table.refuse("column T_EFF does not rise")
        return temperature, colour


def epoch_of(hdu: Hdu) -> float:
    """Return the epoch of a catalogue [Julian year]; NaN where it does not say."""
    value = hdu.header.get("OBSEPOCH")
    return (
        float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and 1900 < value < 2200
        else np.nan
    )


@dataclass(frozen=True)
class Catalogue:
    """The stars of a catalogue: standard coordinates about the target [arcsec], magnitudes [mag],
    temperatures [K, 0 unknown].

    `share` is their flux relative to the target's in the band of CHEOPS, `years` the visit's
    distance from their epoch.
    """

    xi: FloatArray
    eta: FloatArray
    mag: FloatArray
    teff: FloatArray
    share: FloatArray
    target: npt.NDArray[np.bool_]
    years: float
    band: bool  # whether the magnitudes were brought to the band of CHEOPS


def read_catalogue(
    catalogue: Product | None, conversion: Reference | None, mjd: float
) -> Catalogue | None:
    """Read the stars that can matter from a catalogue; None where there is none.

    Raises
    ------
    BadInputError
        If it does not mark one star as the target, or is damaged.
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
            raise hdu.refuse(f"column TARGET marks {target.sum()} stars, wanted one")
        years = 2000.0 + (mjd - J2000) / 365.25 - epoch_of(hdu)
    xi, eta = sky_to_tangent(ra, dec, float(ra[target][0]), float(dec[target][0]))
    band = (
        mag
        if conversion is None
        else to_cheops_band(mag, teff, int(np.argmax(target)), read_colours(conversion))
    )
    share = 10.0 ** (-0.4 * (band - float(band[target][0])))
    taken = np.isfinite(mag) & (share > FAINTEST) & (np.hypot(xi, eta) < FIELD_RADIUS)
    known = np.nan_to_num(teff)
    return Catalogue(
        xi[taken],
        eta[taken],
        mag[taken],
        known[taken],
        share[taken],
        target[taken],
        float(years),
        conversion is not None,
    )
