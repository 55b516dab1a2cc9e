"""The light on a window of the CCD in one exposure: stars, halo, ghost, sky.

The target and all stars with more than two percent of its flux are drawn from a table of the PSF at
their own positions, at each second of the exposure; the other stars together by a convolution.
Halo: the simplified Peterson law for the dust on a mirror, H = 395e-6 (1 + 19 r^2)^-1.135 per mm^2
(r in mm on the CCD), which is 0.05 % of the light. Ghost: 0.03 % of the light of a target on the
axis, 0.06 % at the edge of the CCD, spread evenly over a disc of 150 pixels. Stray light increases
by 3 % per 100 pixels towards the Earth, which is always in the same direction on the CCD.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.arrays import FloatArray, IntArray
from tasks.simulation import charge, psf_file
from tasks.simulation.drawing import AROUND, Crowd, Table, add_wings, tabulate
from tasks.simulation.layout import SIZE, TRANSFER_TIME, Window
from tasks.simulation.psf import REACH, Psf, flight_like_psf, wings

BRIGHT = 0.02  # of the target's flux; brighter stars are drawn one by one
PIXEL_SIZE = 0.013  # [mm]
GHOST, GHOST_EDGE, GHOST_RADIUS = 3e-4, 3e-4, 150.0
GRADIENT = 0.03  # increase of stray light in 100 pixels towards the Earth
DRAWN_TRAIL = 1.0  # stars in the window that smear more charge are smeared row by row [electron]
FAINTEST_TRAIL = 0.05  # stars that smear less charge over all columns are ignored [electron]
STEP = 4.0  # between the places at which faint stars are drawn [s]


class Motion(NamedTuple):
    """The position of the field at the middle of equal parts of an exposure."""

    roll: FloatArray  # [rad]
    x: FloatArray  # shift [pixel]
    y: FloatArray


class Optics:
    """Draws stars on one window.

    Parameters
    ----------
    window : Window
        The pixels to draw on.
    breathing, position : float
        Scales of the PSF's change with temperature and over the field of view.
    size : float
        Scale of the core of the PSF.
    file : Path or None
        An image of the PSF to be used instead.
    """

    def __init__(
        self, window: Window, breathing: float, position: float, size: float, file: Path | None
    ) -> None:
        self.window, self.breathing, self.position, self.size = window, breathing, position, size
        self.user_psf = psf_file.read(file) if file is not None else None
        self.middle = self._place(window.left + window.width / 2, window.bottom + window.height / 2)
        self.shapes = self._tabulate_shapes()

    def _place(self, x: float, y: float) -> tuple[float, float]:
        """Return a position on the CCD relative to its centre, in halves of its size."""
        return 2 * x / SIZE - 1, 2 * y / SIZE - 1

    def psf(self, place: tuple[float, float], temperature: float) -> Psf:
        """Return the components of the PSF at a position, in halves of the size of the CCD."""
        u, v = place
        return flight_like_psf(
            (self.position * u, self.position * v), self.breathing * temperature, self.size
        )

    def _tabulate_shapes(self) -> FloatArray:
        """Return the table's layers at the centre of the window, and their changes.

        These are the changes per degree, and per half CCD to the right and up.
        """

        def slope(u: float, v: float, t: float, step: float) -> FloatArray:
            ends = [
                (self.middle[0] + sign * u, self.middle[1] + sign * v, sign * t)
                for sign in (step, -step)
            ]
            tables = [tabulate(self.psf((x, y), temperature).core) for x, y, temperature in ends]
            return (tables[0].layers - tables[1].layers) * (0.5 / step)

        usual = tabulate(self.psf(self.middle, 0.0).core)
        return np.stack(
            [usual.layers, slope(0, 0, 1, 1.0), slope(1, 0, 0, 0.1), slope(0, 1, 0, 0.1)]
        )

    def table(self, x: float, y: float, temperature: float) -> Table:
        """Return the core of the PSF at a position on the CCD."""
        if self.user_psf is not None:
            return self.user_psf
        u, v = self._place(x, y)
        weights = np.array([1.0, temperature, u - self.middle[0], v - self.middle[1]])
        return Table(np.tensordot(weights, self.shapes, 1), REACH)

    def draw(
        self, picture: FloatArray, x: FloatArray, y: FloatArray, flux: float, temperature: float
    ) -> None:
        """Add a star that spends equal times at each of the places x, y, shape (n,)."""
        table = self.table(float(x.mean()), float(y.mean()), temperature)
        table.add(picture, x, y, flux, self.window.left, self.window.bottom)
        if self.user_psf is None:
            add_wings(
                picture,
                wings(self.breathing * temperature),
                x,
                y,
                flux,
                self.window.left,
                self.window.bottom,
            )

    def draw_centred(self, stamp: FloatArray, x: float, y: float) -> None:
        """Add the PSF of a position, at the usual temperature, to the centre of a stamp."""
        middle = stamp.shape[0] / 2
        self.table(x, y, 0.0).add(stamp, middle, middle, 1.0, 0, 0)
        if self.user_psf is None:
            add_wings(stamp, wings(), middle, middle, 1.0, 0, 0)

    @cached_property
    def crowd(self) -> tuple[Crowd, NDArray[np.complex64], NDArray[np.complex64]]:
        """The drawer of many faint stars, the transform of their PSF, and its change per degree.

        Their PSF is that at the centre of the window.
        """
        window = self.window
        crowd = Crowd(window.width, window.height)
        if self.user_psf is not None:
            usual = crowd.transform_of(self.user_psf)
            return crowd, usual, usual * 0
        usual, warm, cold = (crowd.transform(self.psf(self.middle, t)) for t in (0.0, 1.0, -1.0))
        return crowd, usual, (warm - cold) / 2

    def draw_crowd(
        self, x: FloatArray, y: FloatArray, flux: FloatArray, temperature: float
    ) -> FloatArray:
        """Return the picture of many point sources, shape (height, width)."""
        crowd, usual, change = self.crowd
        transform = usual + change * np.float32(temperature)
        return crowd.draw(transform, x - self.window.left, y - self.window.bottom, flux)

    @cached_property
    def profile(self) -> FloatArray:
        """Light of a star in a column at distances from -120 to 120 pixels, in eighths of one."""
        if self.user_psf is not None:
            picture = np.zeros((2 * self.user_psf.reach + 3, 243))
            lines = [np.zeros_like(picture) for _ in range(8)]
            for k, line in enumerate(lines):
                self.user_psf.add(line, 121.5 + k / 8, picture.shape[0] / 2, 1.0, 0, 0)
            # light at the distances i + 0.5 - 121.5 - k / 8
            columns = np.stack([line.sum(axis=0) for line in lines])
            return np.asarray(columns[::-1].T.ravel()[15:-8])
        psf = self.psf(self.middle, 0.0)
        edges = np.arange(-120.5, 120.5 + 1e-9, 0.125)
        cells = psf.integral(edges, np.array([-1e4, 1e4]))[0]
        return np.asarray(np.convolve(cells, np.ones(8), "valid"))

    def columns(self, x: FloatArray, flux: FloatArray) -> FloatArray:
        """Return the light of stars in each column of the window, over all rows, shape (width,)."""
        distance = self.window.left + 0.5 + np.arange(self.window.width) - x[:, None]
        grid = np.arange(self.profile.size) / 8 - 120
        return np.asarray(flux @ np.interp(distance, grid, self.profile, 0.0, 0.0))


class Scene:
    """The stars that shine into a window or its columns.

    Parameters
    ----------
    optics : Optics
        Draws on the window.
    xi, eta : ndarray, shape (n,)
        Standard coordinates of the stars, the target first [arcsec].
    flux : ndarray, shape (n,)
        Their mean flux [electron/s].
    place : tuple of float
        Intended position of the target [pixel].
    scale : float
        Size of a pixel [arcsec].
    """

    def __init__(
        self,
        optics: Optics,
        xi: FloatArray,
        eta: FloatArray,
        flux: FloatArray,
        place: tuple[float, float],
        scale: float,
    ) -> None:
        self.optics, self.place = optics, place
        self.xi, self.eta = xi / scale, eta / scale
        window = optics.window
        corners = [
            np.hypot(x - place[0], y - place[1])
            for x in (window.left, window.left + window.width)
            for y in (window.bottom, window.bottom + window.height)
        ]
        distance = np.hypot(self.xi, self.eta)
        seen = distance < max(corners) + AROUND
        bright = seen & (flux > BRIGHT * flux[0])
        bright[0] = True
        self.bright = np.flatnonzero(bright)
        self.faint = np.flatnonzero(seen & ~bright)
        trail = flux * TRANSFER_TIME
        drawn = bright & (trail > DRAWN_TRAIL)
        drawn[0] = True
        self.smeared = np.flatnonzero(drawn)
        self.trails = np.flatnonzero(~drawn & (trail > FAINTEST_TRAIL))
        self.halo = _halo(window, place)
        axis = np.hypot(*(2 * np.array(place) / SIZE - 1))
        self.ghost = (GHOST + GHOST_EDGE * float(axis) ** 2) / (np.pi * GHOST_RADIUS**2)

    def tracks(self, stars: IntArray, motion: Motion) -> tuple[FloatArray, FloatArray]:
        """Return x and y of stars in each part of an exposure, shape (stars, parts) [pixel]."""
        xi, eta = self.xi[stars][:, None], self.eta[stars][:, None]
        cosine, sine = np.cos(motion.roll), np.sin(motion.roll)
        x = self.place[0] + motion.x + eta * sine - xi * cosine
        y = self.place[1] + motion.y + eta * cosine + xi * sine
        return x, y

    def stars(
        self, flux: FloatArray, motion: Motion, coarse: Motion, temperature: float
    ) -> FloatArray:
        """Return the light of all stars, shape (height, width), in the unit of `flux`.

        Bright stars follow `motion`, faint ones `coarse`.
        """
        window = self.optics.window
        picture = np.zeros((window.height, window.width))
        for x, y, one in zip(*self.tracks(self.bright, motion), flux[self.bright], strict=True):
            if one > 0 and self._near(x, y):
                self.optics.draw(picture, x, y, float(one), temperature)
        if self.faint.size and flux[self.faint].any():
            x, y = self.tracks(self.faint, coarse)
            parts = np.repeat(flux[self.faint] / coarse.roll.size, coarse.roll.size)
            picture += self.optics.draw_crowd(x.ravel(), y.ravel(), parts, temperature)
        return picture

    def smearing(
        self, flux: FloatArray, motion: Motion, sky: float, temperature: float, time: float
    ) -> FloatArray:
        """Return the charge that the frame transfer adds, shape (height, width) [electron].

        A star above the window counts with its position in the first second, a star below it with
        that in the last. Of a star in the window, half of the wings outside count for each.

        Parameters
        ----------
        flux : ndarray, shape (n,)
            Of all stars [electron/s].
        motion : Motion
            Of the field during the exposure.
        sky : float
            [electron/s/pixel].
        temperature : float
            Of the telescope, relative to the usual one [degC].
        time : float
            Time per row of the transfer [s].
        """
        window = self.optics.window
        images, outside = [], []
        for k in (0, -1):
            end = Motion(*(values[[k]] for values in motion))
            image, light = np.zeros((window.height, window.width)), np.zeros(window.width)
            for star, x, y in zip(self.smeared, *self.tracks(self.smeared, end), strict=True):
                one = np.zeros_like(image)
                if flux[star] > 0 and self._near(x, y):
                    self.optics.draw(one, x, y, float(flux[star]), temperature)
                image += one
                light += self._side(y, k) * (self.optics.columns(x, flux[[star]]) - one.sum(axis=0))
            x, y = (places[:, 0] for places in self.tracks(self.trails, end))
            share = self._side(y, k)
            light += self.optics.columns(x[share > 0], (share * flux[self.trails])[share > 0])
            images.append(image)
            outside.append(light)
        above = outside[0] + sky * (SIZE - window.bottom - window.height)
        below = outside[1] + sky * window.bottom
        return charge.smear(images[0] + sky, images[1] + sky, above, below, time)

    def _side(self, y: FloatArray, end: int) -> FloatArray:
        """Return the share of a star's outside light above (end 0) or below (end -1) the window."""
        window = self.optics.window
        above = np.where(
            y > window.bottom + window.height, 1.0, np.where(y < window.bottom, 0.0, 0.5)
        )
        return np.where((y > 0) & (y < SIZE), above if end == 0 else 1 - above, 0.0)

    def _near(self, x: FloatArray, y: FloatArray) -> bool:
        window = self.optics.window
        return bool(
            -AROUND < x.mean() - window.left < window.width + AROUND
            and -AROUND < y.mean() - window.bottom < window.height + AROUND
        )


def _halo(window: Window, place: tuple[float, float]) -> FloatArray:
    """Return the scattered light per pixel of a star at `place`, relative to its light."""
    y, x = np.ogrid[: window.height, : window.width]
    squared = (
        (x + 0.5 + window.left - place[0]) ** 2 + (y + 0.5 + window.bottom - place[1]) ** 2
    ) * PIXEL_SIZE**2
    return np.asarray(395e-6 * PIXEL_SIZE**2 * (1 + 19 * squared) ** -1.135)


def gradient(window: Window, place: tuple[float, float], direction: float) -> FloatArray:
    """Return the stray light on the window relative to that at `place`, shape (height, width).

    `direction` is that of the Earth, from +x towards +y [rad].
    """
    y, x = np.ogrid[: window.height, : window.width]
    towards = (x + 0.5 + window.left - place[0]) * np.cos(direction) + (
        y + 0.5 + window.bottom - place[1]
    ) * np.sin(direction)
    return np.asarray(np.clip(1 + GRADIENT * towards / 100, 0, None))
