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
from schemas.ranges import MAGNITUDE
from tasks.files.disk import require
from tasks.files.reader import Hdu, open_declared
from tasks.numerics.geometry import sky_to_tangent

# arcsec; covers the whole CCD, since distant stars smear into the columns of the window
FIELD_RADIUS = 1500.0
FAINTEST = 1e-6  # of the target's flux; fainter stars have no measurable effect
SUN = 5772.0  # K
MOST_UNKNOWN = 0.1  # of the field stars; single ones without magnitude or place are not missed
CONTRADICTION = 0.5  # mag; between catalogue and header, more than variability
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


def known_magnitude(value: object) -> float:
    """Return the magnitude that a header gives; NaN if it is not a number, or not plausible."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return np.nan
    # 0 is the value of a card that nobody filled in; no target is as bright as Vega
    return float(value) if MAGNITUDE.permits(value) and value != 0 else np.nan


def find_target(hdu: Hdu, warnings: list[str]) -> BoolArray:
    """Return the row of the target.

    Raises
    ------
    BadInputError
        If not exactly one star is marked.
    """
    target, unknown = hdu.column("TARGET").astype(bool), hdu.undefined("TARGET")
    if target.sum() != 1:
        undefined = f" ({unknown.sum()} are undefined)" if unknown.any() else ""
        raise hdu.refuse(f"column TARGET marks {target.sum()} stars, expected one{undefined}")
    if unknown.any():
        warnings.append(
            f"{hdu.extname}: column TARGET is undefined for {unknown.sum()} of {len(target)} "
            f"stars: they are assumed to be field stars"
        )
    return target


def complete_magnitude(
    mag: FloatArray, target: BoolArray, of_headers: dict[str, float], warnings: list[str]
) -> FloatArray:
    """Return magnitudes with that of the target from a header if the catalogue lacks it.

    Parameters
    ----------
    mag : ndarray, shape (k,)
        Gaia G of the stars; NaN is unknown.
    target : ndarray of bool, shape (k,)
        Marks the target.
    of_headers : dict
        Other values of the target's magnitude, by where they are from, the best first.
    warnings : list of str
        Receives a warning that names the value used, or says that there is none.
    """
    if np.isfinite(mag[target]).all():
        ours = float(mag[target][0])
        warnings += [
            f"MAG_GAIA of the target is {ours:g} in the star catalogue, but MAG_G is {value:g} in "
            f"{place}: the former is used"
            for place, value in of_headers.items()
            if abs(value - ours) > CONTRADICTION
        ]
        return mag
    for place, value in of_headers.items():
        if np.isfinite(value):
            warnings.append(
                f"MAG_GAIA of the target is not known in the star catalogue: MAG_G of {place}, "
                f"{value:g} mag, is used"
            )
            return np.where(target, value, mag)
    warnings.append(
        "the magnitude of the target is not known, neither MAG_GAIA of the star catalogue nor "
        "MAG_G of the headers: its field stars are left out, since their fluxes relative to the "
        "target are not known"
    )
    return mag


def unknown_stars(known: BoolArray) -> list[str]:
    """Return a warning if many field stars have no magnitude or no place."""
    missing = int(np.count_nonzero(~known))
    if missing <= MOST_UNKNOWN * len(known):
        return []
    return [
        f"star catalogue: {missing} of {len(known)} field stars have no magnitude or no place: "
        f"they are left out"
    ]


def read_catalogue(
    catalogue: Product | None,
    conversion: Reference | None,
    mjd: float,
    magnitude: float = np.nan,
    warnings: list[str] | None = None,
) -> Catalogue | None:
    """Read the relevant stars of a catalogue, or return None without one.

    Parameters
    ----------
    catalogue, conversion : Product, Reference or None
        The catalogue, and the colours of the CHEOPS band.
    mjd : float
        Time of the visit.
    magnitude : float
        Gaia G of the target in the raw images, for a catalogue without it.
    warnings : list of str
        Receives what is missing in the catalogue.

    Raises
    ------
    BadInputError
        If the catalogue is damaged, or does not mark exactly one star as the target.
    """
    if catalogue is None:
        return None
    said = [] if warnings is None else warnings
    with open_declared(require(catalogue.path), STAR_CATALOGUE) as file:
        hdu = file["EXT_PRE_StarCatalogue"]
        ra, dec, mag, teff = (
            hdu.column(c).astype(np.float64) for c in ("RA", "DEC", "MAG_GAIA", "T_EFF")
        )
        target = find_target(hdu, said)
        if not np.isfinite([ra[target], dec[target]]).all():
            raise hdu.refuse("columns RA and DEC are not known for the target")
        of_header = known_magnitude(hdu.header.get("MAG_G"))
        said += hdu.implausible_values("MAG_GAIA", "T_EFF")
        years = 2000.0 + (mjd - J2000) / 365.25 - epoch_of(hdu)
    mag = complete_magnitude(
        mag, target, {"its header": of_header, "the raw images": magnitude}, said
    )
    said += unknown_stars(np.isfinite(mag + ra + dec)[~target])
    xi, eta = sky_to_tangent(ra, dec, float(ra[target][0]), float(dec[target][0]))
    band = (
        mag
        if conversion is None
        else to_cheops_band(mag, teff, int(np.argmax(target)), read_colours(conversion))
    )
    share = np.where(target, 1.0, 10.0 ** (-0.4 * (band - float(band[target][0]))))
    relevant = np.isfinite(mag) & (share > FAINTEST) & (np.hypot(xi, eta) < FIELD_RADIUS)
    relevant |= target
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
