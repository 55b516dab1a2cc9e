"""Tracks of cosmic rays: adjacent hit pixels of an image, with their place, size and shape."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from schemas.arrays import FloatArray, IntArray

PIXEL = 1.0 / 12.0  # variance of a uniform pixel; makes a single pixel round


class Tracks(NamedTuple):
    """Tracks of cosmic rays, arrays of shape (k,)."""

    image: IntArray
    x: FloatArray  # index [pixel]
    y: FloatArray
    major: FloatArray  # axes [pixel]
    minor: FloatArray
    angle: FloatArray  # of the major axis, from x towards y [deg]
    pixels: IntArray

    @property
    def ellipticity(self) -> FloatArray:
        """1 - minor / major axis."""
        return 1.0 - self.minor / self.major


def find_tracks(
    image: IntArray, rows: IntArray, columns: IntArray, charge: FloatArray, shape: tuple[int, int]
) -> Tracks:
    """Group the hit pixels of some images into tracks.

    Parameters
    ----------
    image, rows, columns : ndarray of int, shape (n,)
        Hit pixels, each once.
    charge : ndarray, shape (n,)
        Excess charge, the weight for place and shape [electron].
    shape : tuple of int
        (ny, nx) of the images.

    Returns
    -------
    Tracks
        Ordered by image and first pixel, row by row. Axes are the standard deviations of the
        charge, including that of a pixel.

    Raises
    ------
    ValueError
        If a pixel lies outside of its image.
    """
    if len(rows) and (
        min(rows.min(), columns.min()) < 0 or rows.max() >= shape[0] or columns.max() >= shape[1]
    ):
        raise ValueError(f"a hit pixel lies outside of an image of {shape[1]} x {shape[0]} pixels")
    order = np.lexsort((columns, rows, image))
    image, rows, columns = image[order], rows[order], columns[order]
    track, count = _connected(image, rows, columns, shape)
    weight = np.maximum(charge[order], 1e-9)
    first = np.unique(track, return_index=True)[1]

    def mean(values: FloatArray) -> FloatArray:
        sums, weights = (np.bincount(track, w, count) for w in (weight * values, weight))
        return np.asarray(sums / weights, np.float64)

    x, y = mean(columns.astype(np.float64)), mean(rows.astype(np.float64))
    dx, dy = (np.asarray(p - m[track]) for p, m in ((columns, x), (rows, y)))
    xx, yy, xy = mean(dx * dx) + PIXEL, mean(dy * dy) + PIXEL, mean(dx * dy)
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    angle = np.degrees(0.5 * np.arctan2(2 * xy, xx - yy))
    axes = np.sqrt(middle + spread), np.sqrt(middle - spread)
    return Tracks(image[first], x, y, *axes, angle, np.bincount(track, minlength=count))


def _connected(
    image: IntArray, rows: IntArray, columns: IntArray, shape: tuple[int, int]
) -> tuple[IntArray, int]:
    """Return the number of each pixel's group of adjacent ones, and how many groups there are.

    Groups are numbered in the order of their first pixels. Pixels are ordered; those that touch
    diagonally are adjacent.
    """
    n, width = len(rows), shape[1] + 1  # a free column, so that the edges of rows do not touch
    if not n:
        return np.zeros(0, np.int64), 0
    place = (image.astype(np.int64) * (shape[0] + 1) + rows) * width + columns
    pairs = []
    for step in (1, width - 1, width, width + 1):  # to the right, and in the next row
        at = np.minimum(np.searchsorted(place, place + step), n - 1)
        mine = np.flatnonzero(place[at] == place + step)
        pairs.append(np.stack([mine, at[mine]]))
    here, there = np.concatenate(pairs, axis=1)
    touching = scipy.sparse.coo_array((np.ones(len(here), np.int8), (here, there)), shape=(n, n))
    count, label = scipy.sparse.csgraph.connected_components(touching, directed=False)
    return np.asarray(label, np.int64), int(count)
