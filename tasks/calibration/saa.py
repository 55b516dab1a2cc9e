"""Passages through the South Atlantic Anomaly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, FloatArray
from schemas.inputs import SAA_MAP
from schemas.payloads import Reference
from tasks.files.disk import require
from tasks.files.reader import open_declared, read_from
from tasks.visit.raw import Exposures

# ---- South Atlantic anomaly


def _axis(values: FloatArray, name: str) -> tuple[float, float, int]:
    """Return first value, step and number of the values of a regular axis."""
    axis = np.unique(values)
    if len(axis) < 2 or not np.allclose(np.diff(axis), axis[1] - axis[0]):
        raise ValueError(f"{name} of the SAA map is not in even steps")
    return float(axis[0]), float(axis[1] - axis[0]), len(axis)


def flag_saa(
    map_latitude: npt.ArrayLike,
    map_longitude: npt.ArrayLike,
    map_flag: npt.ArrayLike,
    latitude: npt.ArrayLike,
    longitude: npt.ArrayLike,
) -> tuple[BoolArray, BoolArray]:
    """Look up in the SAA map, at the nearest cell, whether the satellite was inside.

    Assumes that the map goes once around the Earth; where it has both -180 and 180 deg, either may
    flag.

    Parameters
    ----------
    map_latitude, map_longitude : array_like, shape (m,)
        Centre of each cell, all pairs of evenly spaced values, in any order [deg].
    map_flag : array_like of bool, shape (m,)
        True where a cell is inside.
    latitude, longitude : array_like, shape (n,)
        Place of the satellite; any turn of longitude [deg].

    Returns
    -------
    flagged : ndarray of bool, shape (n,)
        True inside; False where the place is unknown.
    known : ndarray of bool, shape (n,)
        False where latitude or longitude is not finite.

    Raises
    ------
    ValueError
        If the map is not a full grid, each cell once, all around the Earth.
    """
    rows, columns = (
        np.asarray(map_latitude, dtype=np.float64),
        np.asarray(map_longitude, dtype=np.float64),
    )
    (south, height, ny), (west, width, nx) = _axis(rows, "LATITUDE"), _axis(columns, "LONGITUDE")
    turn = round(360 / width)
    if nx not in (turn, turn + 1) or abs(turn * width - 360) > 1e-6 * width:
        raise ValueError(f"SAA map spans {nx} longitudes of {width:g} deg, wanted 360 deg")
    count = np.zeros((ny, nx), dtype=np.int32)
    grid = np.zeros((ny, turn), dtype=np.bool_)
    i, j = (
        np.rint((rows - south) / height).astype(int),
        np.rint((columns - west) / width).astype(int),
    )
    np.add.at(count, (i, j), 1)
    if (count != 1).any():
        raise ValueError(f"SAA map has {rows.size} rows, wanted each of {ny} x {nx} cells once")
    np.logical_or.at(grid, (i, j % turn), np.asarray(map_flag, dtype=np.bool_))
    y, x = np.asarray(latitude, dtype=np.float64), np.asarray(longitude, dtype=np.float64)
    known = np.isfinite(y) & np.isfinite(x)
    i = np.rint((np.where(known, y, south) - south) / height).astype(int).clip(0, ny - 1)
    j = np.rint((np.where(known, x, west) - west) / width).astype(int) % turn
    return grid[i, j] & known, known


def saa_from_map(
    raw: Exposures,
    saa_map: Reference | None,
    saa: BoolArray,
    unseen: BoolArray,
    warnings: list[str],
) -> None:
    """Flag the images of a map of the South Atlantic Anomaly, where no constraint covers them."""
    if saa_map is None:
        warnings.append(
            f"no visit constraints and no SAA map for {unseen.sum()} images: taken as outside "
            f"of the SAA"
        )
        return
    with open_declared(require(saa_map.product.path), SAA_MAP) as file:
        table = file["EXT_APP_SAAMap"]
        cells = (
            table.finite_column("LATITUDE"),
            table.finite_column("LONGITUDE"),
            table.column("SAA_FLAG"),
        )
    latitude, longitude = (
        raw.metadata.column(c).astype(np.float64) for c in ("LATITUDE", "LONGITUDE")
    )
    with read_from(saa_map.product.path, "EXT_APP_SAAMap"):
        flagged, known = flag_saa(*cells, latitude, longitude)
    saa[unseen] = flagged[unseen]
    if lost := int((unseen & ~known).sum()):
        warnings.append(
            f"the place of the satellite is not known for {lost} images: taken as outside of "
            f"the SAA"
        )
