"""The flux of a star on the detector, from its effective temperature and magnitude.

A spectrum f(lambda) [erg/s/cm^2/A] gives N = A int f lambda / (h c) T(lambda) QE(lambda) d lambda
electron/s, with the telescope's area A = 706.86 cm^2, the throughput T of its optics and the
quantum efficiency QE of the CCD (rounded points of the published curves of the instrument).

The spectrum is a black body with the absorption that shapes stars in this band: molecules (TiO)
below 720 nm, which strengthen below 4200 K, and metal lines, which crowd towards the blue, are
strongest in K stars and vanish in A stars. Their depths are chosen so that the mean wavelength of
the detected photons is within 10 nm of that of library spectra from 2900 to 7050 K (20 nm too blue
below). The Balmer jump of hot stars is ignored: the optics are dark there.

The scale comes from flight, not from this integral: F = r(Teff) F0 10^(-0.4 m), where F0 = 1.8347e9
electron/s at magnitude 0 in the CHEOPS band (REF_APP_FluxConversion V0104), r = 0.94604 - 2.0074e-6
Teff is the ratio of observed to predicted flux, and m = G + (CHEOPS - G)(Teff), rounded from the
same file. M dwarfs were observed 15 to 22 % brighter than expected from their catalogued G and
Teff: `cool_excess` is this term, 18 % below 3300 K and nothing above 4000 K. No reference file
includes it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from schemas.arrays import FloatArray

AREA = 706.86  # [cm^2]
ELECTRONS_AT_ZERO_MAGNITUDE = 1.8347e9  # [electron/s]
COLOUR_TEFF = np.array(
    [2300, 2900, 3500, 4100, 4700, 5300, 5900, 6500, 7100, 8300, 9500, 11900, 20300, 39500], float
)
COLOUR = (
    np.array([20, 26, 15, 3, -4, -6, -6, -5, -5, -1, 4, 14, 44, 99], float) / 1000
)  # CHEOPS - G [mag]
COOL_EXCESS = 0.18
WAVELENGTH = np.arange(330.0, 1101.0)  # band of the telescope [nm]
QE_POINTS = (
    (330, 380, 430, 480, 520, 580, 630, 680, 730, 780, 830, 880, 930, 980, 1030, 1100),
    (
        0.16,
        0.39,
        0.73,
        0.88,
        0.93,
        0.93,
        0.90,
        0.83,
        0.73,
        0.63,
        0.49,
        0.35,
        0.20,
        0.095,
        0.033,
        0.006,
    ),
)
THROUGHPUT_POINTS = (
    (330, 380, 430, 530, 630, 730, 830, 930, 1030, 1100),
    (0.0001, 0.25, 0.72, 0.94, 0.92, 0.83, 0.92, 0.96, 0.98, 0.985),
)
_PLANCK, _LIGHT, _BOLTZMANN = 6.62607015e-34, 299792458.0, 1.380649e-23  # SI


def quantum_efficiency(wavelength: ArrayLike) -> FloatArray:
    """Return the electrons per photon on the CCD at wavelengths [nm]; zero outside 330-1100 nm."""
    return np.asarray(np.interp(np.asarray(wavelength, float), *QE_POINTS, left=0.0, right=0.0))


def throughput(wavelength: ArrayLike) -> FloatArray:
    """Return the transmission of the optics at wavelengths [nm]; zero outside 330-1100 nm."""
    return np.asarray(
        np.interp(np.asarray(wavelength, float), *THROUGHPUT_POINTS, left=0.0, right=0.0)
    )


def black_body(wavelength: ArrayLike, temperature: float) -> FloatArray:
    """Return pi times Planck's function [erg/s/cm^2/A] at wavelengths [nm]."""
    metre = np.asarray(wavelength, float) * 1e-9
    per_metre = (
        2
        * np.pi
        * _PLANCK
        * _LIGHT**2
        / metre**5
        / np.expm1(_PLANCK * _LIGHT / (metre * _BOLTZMANN * temperature))
    )
    return np.asarray(per_metre * 1e-7)  # W/m^3 is 1e-7 erg/s/cm^2/A


def smooth_step(value: ArrayLike, low: float, high: float) -> FloatArray:
    """Return 0 below `low`, 1 above `high` and 3 u^2 - 2 u^3 between."""
    u = np.clip((np.asarray(value, float) - low) / (high - low), 0, 1)
    return np.asarray(u * u * (3 - 2 * u))


def star_spectrum(wavelength: ArrayLike, teff: float) -> FloatArray:
    """Return the light of a star's surface [erg/s/cm^2/A] at wavelengths [nm]."""
    wavelength = np.asarray(wavelength, float)
    molecules = 0.75 * smooth_step(-teff, -4200, -2400) * (1 - smooth_step(wavelength, 660, 780))
    metals = 0.5 * smooth_step(-teff, -7500, -3500) * (1 - smooth_step(wavelength, 330, 500))
    return black_body(wavelength, teff) * (1 - molecules) * (1 - metals)


def detected(wavelength: FloatArray, light: FloatArray) -> float:
    """Return the electrons per second from a spectrum at the Earth, by the trapezium rule.

    Parameters
    ----------
    wavelength : ndarray, shape (n,)
        [nm].
    light : ndarray, shape (n,)
        Spectrum at these wavelengths [erg/s/cm^2/A].
    """
    photon = _PLANCK * _LIGHT / (wavelength * 1e-9) * 1e7  # [erg]
    rate = light / photon * throughput(wavelength) * quantum_efficiency(wavelength)
    return float(AREA * np.trapezoid(rate, 10 * wavelength))


def weights(teff: float, wavelength: ArrayLike) -> FloatArray:
    """Return the share of each wavelength in the electrons of a star, sum 1.

    Parameters
    ----------
    teff : float
        Effective temperature [K].
    wavelength : array_like, shape (n,)
        Increasing; each represents the wavelengths halfway to its neighbours [nm].
    """
    wavelength = np.asarray(wavelength, float)
    step = np.gradient(wavelength) if wavelength.size > 1 else np.ones(1)
    share = (
        star_spectrum(wavelength, teff)
        * wavelength
        * throughput(wavelength)
        * quantum_efficiency(wavelength)
        * step
    )
    return np.asarray(share / share.sum())


def cheops_magnitude(g_magnitude: ArrayLike, teff: ArrayLike) -> FloatArray:
    """Return the magnitude in the CHEOPS band for Gaia G and an effective temperature [K]."""
    return np.asarray(np.asarray(g_magnitude) + np.interp(np.asarray(teff), COLOUR_TEFF, COLOUR))


def cool_excess(teff: ArrayLike, scale: float) -> FloatArray:
    """Return the observed over the catalogued brightness of a star; a `scale` of 0 gives 1."""
    return 1 + scale * COOL_EXCESS * smooth_step(-np.asarray(teff, float), -4000, -3300)


def star_flux(g_magnitude: ArrayLike, teff: ArrayLike, excess: float = 0.0) -> FloatArray:
    """Return the flux on the detector [electron/s]; `excess` scales the excess of cool stars."""
    observed = 0.94604 - 2.0074e-6 * np.asarray(teff, float)
    flux = (
        observed * ELECTRONS_AT_ZERO_MAGNITUDE * 10 ** (-0.4 * cheops_magnitude(g_magnitude, teff))
    )
    return np.asarray(flux * cool_excess(teff, excess))
