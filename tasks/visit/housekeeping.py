"""Voltages and temperatures of every image, without values that cannot be right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from tasks.files.reader import Hdu
from tasks.numerics.series import far_from_neighbours, fill_gaps

# Smaller differences are never glitches: 0.3 mV, and 0.01 degrees of the CCD, change the gain by
# 10 ppm in one image, which its smoothing removes.
LEAST = {"V": 3e-4, "degC": 0.01}


class Repaired(NamedTuple):
    """One housekeeping value of every image, shape (n,)."""

    values: FloatArray  # NaN throughout if none is valid
    replaced: BoolArray  # missing, out of range or far from the neighbours, and interpolated

    @property
    def unknown(self) -> bool:
        """Whether there is no valid value at all."""
        return bool(self.replaced.all())


def repair(table: Hdu, name: str, mjd: FloatArray, warnings: list[str]) -> Repaired:
    """Return a column of housekeeping with invalid values interpolated in time.

    Parameters
    ----------
    table : Hdu
        Metadata of the images.
    name : str
        The column.
    mjd : ndarray, shape (n,)
        Times of the images [MJD].
    warnings : list of str
        Receives a warning that gives column, number and first time of the values, unless all are
        invalid, which is left to the caller.
    """
    values = table.column(name).astype(np.float64)
    missing = ~np.isfinite(values)
    unit = "" if table.declared is None else table.declared.column(name).unit
    order = np.argsort(mjd, kind="stable")  # duplicated times may also be out of order
    far = np.zeros_like(missing)
    far[order] = far_from_neighbours(mjd[order], values[order], LEAST.get(unit, 0.0))
    replaced = missing | far
    if not replaced.any():
        return Repaired(values, replaced)
    values = np.where(replaced, np.nan, values)
    values[order] = fill_gaps(mjd[order], values[order])
    counts = ((missing, "missing or out of range"), (far, "far from their neighbours"))
    found = " and ".join(f"{which.sum()} {words}" for which, words in counts if which.any())
    if not replaced.all():
        warnings.append(
            f"{name}: of {len(mjd)} values, {found} (first at MJD {mjd[replaced][0]:.5f}): "
            f"interpolated in time"
        )
    return Repaired(values, replaced)
