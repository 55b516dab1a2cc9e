"""Passages through the South Atlantic Anomaly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.arrays import BoolArray, FloatArray
from schemas.inputs import SAA_MAP
from schemas.payloads import Reference
from tasks.files.disk import require
from tasks.files.reader import open_declared, read_from
from tasks.visit.raw import Exposures


def _axis(values: FloatArray, name: str) -> tuple[float, float, int]:
    """Return first value, step and number of values of a regular axis."""
    axis = np.unique(values)
    if len(axis) < 2 or not np.allclose(np.diff(axis), axis[1] - axis[0]):
        raise ValueError(f"{name} of the SAA map is not evenly spaced")
    return float(axis[0]), float(axis[1] - axis[0]), len(axis)


class SaaMap(NamedTuple):
    """Regular cells once around the Earth."""

    inside: BoolArray  # True for a cell within the SAA, shape (ny, nx)
    south: float  # latitude of the first row [deg]
    west: float  # longitude of the first column [deg]
    height: float  # of a cell [deg]
    width: float  # of a cell [deg]

    @classmethod
    def of(cls, latitude: npt.ArrayLike, longitude: npt.ArrayLike, flag: npt.ArrayLike) -> SaaMap:
        """Arrange cells in a map; see `flag_saa`."""
        rows = np.asarray(latitude, dtype=np.float64)
        columns = np.asarray(longitude, dtype=np.float64)
        south, height, ny = _axis(rows, "LATITUDE")
        west, width, nx = _axis(columns, "LONGITUDE")
        turn = round(360 / width)
        if nx not in (turn, turn + 1) or abs(turn * width - 360) > 1e-6 * width:
            raise ValueError(f"SAA map spans {nx} longitudes of {width:g} deg, expected 360 deg")
        i = np.rint((rows - south) / height).astype(int)
        j = np.rint((columns - west) / width).astype(int)
        count = np.zeros((ny, nx), dtype=np.int32)
        np.add.at(count, (i, j), 1)
        if (count != 1).any():
            raise ValueError(
                f"SAA map has {rows.size} rows, expected each of {ny} x {nx} cells once"
            )
        inside = np.zeros((ny, turn), dtype=np.bool_)
        np.logical_or.at(inside, (i, j % turn), np.asarray(flag, dtype=np.bool_))
        return cls(inside, south, west, height, width)

    def at(self, latitude: FloatArray, longitude: FloatArray) -> BoolArray:
        """Return the values of the nearest cells."""
        ny, nx = self.inside.shape
        i = np.rint((latitude - self.south) / self.height).astype(int).clip(0, ny - 1)
        j = np.rint((longitude - self.west) / self.width).astype(int) % nx
        return np.asarray(self.inside[i, j])


def flag_saa(
    map_latitude: npt.ArrayLike,
    map_longitude: npt.ArrayLike,
    map_flag: npt.ArrayLike,
    latitude: npt.ArrayLike,
    longitude: npt.ArrayLike,
) -> tuple[BoolArray, BoolArray]:
    """Look up whether the satellite was inside the SAA, in the nearest cell of a map.

    The map spans the Earth once; if it has both -180 and 180 deg, either cell may flag.

    Parameters
    ----------
    map_latitude, map_longitude : array_like, shape (m,)
        Centres of the cells: all pairs of evenly spaced values, in any order [deg].
    map_flag : array_like of bool, shape (m,)
        True for cells inside the SAA.
    latitude, longitude : array_like, shape (n,)
        Position of the satellite; longitudes may differ by turns [deg].

    Returns
    -------
    flagged : ndarray of bool, shape (n,)
        True inside the SAA; False where the position is unknown.
    known : ndarray of bool, shape (n,)
        False where latitude or longitude is not finite.

    Raises
    ------
    ValueError
        Unless the map has each cell of a full grid around the Earth once.
    """
    cells = SaaMap.of(map_latitude, map_longitude, map_flag)
    y, x = np.asarray(latitude, dtype=np.float64), np.asarray(longitude, dtype=np.float64)
    known = np.isfinite(y) & np.isfinite(x)
    return cells.at(np.where(known, y, cells.south), np.where(known, x, cells.west)) & known, known


def saa_from_map(
    raw: Exposures, saa_map: Reference | None, unseen: BoolArray, warnings: list[str]
) -> BoolArray:
    """Return the images that a map of the South Atlantic Anomaly flags, shape (n,).

    `unseen` marks the images that no visit constraint covers, for which the map decides.
    """
    if saa_map is None:
        warnings.append(
            f"no visit constraints and no SAA map for {unseen.sum()} of {raw.count} images: "
            f"treated as outside the SAA"
        )
        return np.zeros(raw.count, dtype=bool)
    with open_declared(require(saa_map.product.path), SAA_MAP) as file:
        table = file["EXT_APP_SAAMap"]
        rows, columns = table.finite_column("LATITUDE"), table.finite_column("LONGITUDE")
        flag, undefined = table.column("SAA_FLAG"), table.undefined("SAA_FLAG")
    latitude, longitude = (
        raw.metadata.column(c).astype(np.float64) for c in ("LATITUDE", "LONGITUDE")
    )
    with read_from(saa_map.product.path, "EXT_APP_SAAMap"):
        flagged, known = flag_saa(rows, columns, flag, latitude, longitude)
        unsure = flag_saa(rows, columns, undefined, latitude, longitude)[0] & unseen
    if unsure.any():
        warnings.append(
            f"the SAA map is undefined at the position of {unsure.sum()} of {raw.count} images: "
            f"treated as outside the SAA"
        )
    if lost := int((unseen & ~known).sum()):
        warnings.append(
            f"the satellite's position is unknown for {lost} of {raw.count} images: treated as "
            f"outside the SAA"
        )
    return flagged
