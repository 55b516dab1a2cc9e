"""Zodiacal light: sunlight scattered by the dust between the planets, the same in every pixel.

The surface brightness in V [mag/arcsec^2] depends on the ecliptic latitude b and the longitude l
relative to the Sun. With s = |sin b| and x = cos b cos l (the cosine of the angle to the Sun) it is
22.06 + 1.42 s - 0.19 s^2 - (0.91 - 0.44 s) x - 0.76 x^2. This fits the table in the handbook of
HST's WFC3 (21.3 to 23.3) within 0.12 mag; the table ends 52 to 60 deg from the Sun. The colour is
that of the Sun: the flux at 550 nm is that of V = 0, 3.63e-9 erg/s/cm^2/A, dimmed, and a pixel
covers 1.002^2 arcsec^2, which gives 3 electron/s at 22.1 mag.
"""

from __future__ import annotations

import erfa
import numpy as np

from schemas.arrays import FloatArray
from tasks.simulation import spectrum

V_ZERO = 3.63e-9  # at 550 nm [erg/s/cm^2/A]
PIXEL_SCALE = 1.002  # [arcsec]
SUN_TEFF = 5772.0  # [K]
OBLIQUITY = float(np.deg2rad(23.4392911))  # of the ecliptic, J2000
SUN_AVOIDED = 0.62  # cosine of the angle to the Sun where the table ends: 52 deg


def sun_direction(day: FloatArray, fraction: FloatArray) -> FloatArray:
    """Return the unit vector from the Earth to the Sun, shape (..., 3).

    `day` and `fraction` are the two parts of Julian dates (TT).
    """
    sun = -erfa.epv00(day, fraction)[0]["p"]
    return np.asarray(sun / np.linalg.norm(sun, axis=-1, keepdims=True))


def to_ecliptic(direction: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ecliptic longitude and latitude [deg] of equatorial directions, shape (..., 3)."""
    x, y, z = np.moveaxis(np.asarray(direction), -1, 0)
    cosine, sine = np.cos(OBLIQUITY), np.sin(OBLIQUITY)
    longitude = np.arctan2(cosine * y + sine * z, x)
    return np.asarray(np.rad2deg(longitude)), np.asarray(
        np.rad2deg(np.arcsin(np.clip(cosine * z - sine * y, -1, 1)))
    )


def surface_brightness(latitude: FloatArray | float, longitude: FloatArray | float) -> FloatArray:
    """Return the surface brightness in V [mag/arcsec^2].

    The longitude is relative to the Sun; both angles are ecliptic [deg]. Closer to the Sun than the
    table extends, where no telescope points, the brightness is constant.
    """
    b, ell = np.deg2rad(latitude), np.deg2rad(longitude)
    s, x = np.abs(np.sin(b)), np.minimum(np.cos(b) * np.cos(ell), SUN_AVOIDED)
    return np.asarray(22.06 + 1.42 * s - 0.19 * s**2 - (0.91 - 0.44 * s) * x - 0.76 * x**2)


def zodiacal_light(target: FloatArray, sun: FloatArray) -> float:
    """Return the zodiacal light [electron/s/pixel] for the unit vectors of target and Sun."""
    (longitude, latitude), (sun_longitude, _) = to_ecliptic(target), to_ecliptic(sun)
    magnitude = float(surface_brightness(latitude, longitude - sun_longitude))
    light = spectrum.star_spectrum(spectrum.WAVELENGTH, SUN_TEFF)
    light *= V_ZERO / float(spectrum.star_spectrum(550.0, SUN_TEFF))
    return PIXEL_SCALE**2 * 10 ** (-0.4 * magnitude) * spectrum.detected(spectrum.WAVELENGTH, light)
