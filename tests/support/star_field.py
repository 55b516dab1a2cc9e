"""A full-array frame with stars on known places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS

from schemas.arrays import FloatArray

SIDE = 1024


TARGET = (120.0, -35.0)


NOMINAL, SCALE = 1.010, 1.0037  # arcsec/pixel, as expected and true


# a triangle about 20 pixels wide, its centre of light at 0: x, y, sigma [pixel], share
LOBES = ((0.0, 7.0, 4.0, 0.4), (-7.0, -4.0, 3.5, 0.3), (7.0, -16 / 3, 3.5, 0.3))


ROLL, TURN = 137.0, 0.37  # deg, as expected and true above it


@dataclass(frozen=True)
class Sky:
    """A frame, and the stars on it: sky coordinates [deg], true places (pixel i spans [i, i+1)),
    fluxes [electron].
    """

    frame: FloatArray
    ra: FloatArray
    dec: FloatArray
    x: FloatArray
    y: FloatArray
    flux: FloatArray


def draw_sky() -> Sky:
    """A frame of 60 s with 70 stars, hot pixels, cosmic rays, and a sky that is not flat; the
    target is the first star.
    """
    rng = np.random.default_rng(5)
    phi = np.radians(ROLL + TURN)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = TARGET
    wcs.wcs.crpix = [1.0, 1.0]  # pixel 0: the target's place is added below
    sine, cosine = SCALE / 3600 * np.sin(phi), SCALE / 3600 * np.cos(phi)
    # North is up and East to the left at roll 0, and North turns to the right as it grows
    wcs.wcs.cd = [[-cosine, sine], [sine, cosine]]
    x, y = rng.uniform(20, SIDE - 20, (2, 70))
    x[0], y[0] = 530.4, 495.8
    ra, dec = wcs.all_pix2world(x - x[0], y - y[0], 0)
    flux = 2e7 * 10 ** (-0.4 * np.concatenate([[0.0], rng.uniform(1.5, 5.0, 69)]))
    j, i = np.mgrid[:SIDE, :SIDE]
    frame = 120.0 + 0.03 * i - 0.02 * j + 2e-5 * (i - 500.0) ** 2
    for k in range(70):
        for dx, dy, sigma, share in LOBES:
            place = x[k] + dx - 0.5, y[k] + dy - 0.5
            rows = slice(max(int(place[1]) - 25, 0), int(place[1]) + 26)
            columns = slice(max(int(place[0]) - 25, 0), int(place[0]) + 26)
            d2 = (i[rows, columns] - place[0]) ** 2 + (j[rows, columns] - place[1]) ** 2
            frame[rows, columns] += (
                flux[k] * share * np.exp(-d2 / (2 * sigma**2)) / (2 * np.pi * sigma**2)
            )
    frame += np.sqrt(frame + 200.0) * rng.normal(size=frame.shape)
    frame[tuple(rng.integers(0, SIDE, (2, 800)))] += rng.exponential(5000, 800)
    for _ in range(200):
        row, column, length = *rng.integers(0, SIDE - 30, 2), int(rng.integers(2, 30))
        steps = np.arange(length)
        frame[row + steps * int(rng.integers(0, 2)), column + steps] += 1500.0
    return Sky(frame, np.asarray(ra), np.asarray(dec), x, y, flux)
