"""Flat field: the relative response of the pixels to light of the target's colour.

The reference holds one plane for each of some effective temperatures, weighted over wavelength with a star's spectrum, and the
planes of their errors behind them. Between two temperatures the planes are interpolated linearly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.inputs import FLAT_FIELD
from schemas.payloads import Flat, Product, Reference
from schemas.settings import FlatSettings
from schemas.terms import TERMS
from tasks.exposures import open_exposures
from tasks.fits import Hdu, open_declared
from tasks.fits_writer import NewHdu
from tasks.step import Leaves, step
from tasks.store import require

FloatArray = npt.NDArray[np.float64]


def bracket(teff: float, grid: FloatArray) -> tuple[int, int, float]:
    """Return the two entries of a rising `grid` around `teff` and the weight of the second; the edges hold outside of it."""
    if grid.size == 1 or teff <= grid[0]:
        return 0, 0, 0.0
    if teff >= grid[-1]:
        return grid.size - 1, grid.size - 1, 0.0
    upper = int(np.searchsorted(grid, teff, "right"))
    return upper - 1, upper, float((teff - grid[upper - 1]) / (grid[upper] - grid[upper - 1]))


def between(first: FloatArray, second: FloatArray, weight: float) -> FloatArray:
    """Return (1 - weight) first + weight second."""
    return first if weight == 0 else (1.0 - weight) * first + weight * second


def _planes(hdu: Hdu, kinds: npt.NDArray[np.str_], grid: FloatArray, kind: str) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    planes = np.flatnonzero(kinds == kind)
    order = planes[np.argsort(grid[planes], kind="stable")]
    if len(order) and (np.diff(grid[order]) <= 0).any():
        raise hdu.refuse(f"holds two planes {kind} of one T_EFF")
    return grid[order], order


@step("flat", "FFIELD", version="1", payload=Flat, leaves=["TERM_FLAT"])
def estimate_flat(raw: Product, reference: Reference | None, settings: FlatSettings) -> Leaves:
    """Interpolate the flat field to the target's effective temperature."""
    warnings = []
    with open_exposures(raw) as exposures:
        window, shape = exposures.window, exposures.shape
        teff = settings.teff or float(exposures.image.header.get("T_EFF") or 0)
        offsets = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
    if settings.skip or reference is None:
        flat, error, used_teff = np.ones(shape), np.zeros(shape), teff
    else:
        with open_declared(require(reference.product.path), FLAT_FIELD) as file:
            cube, table = file["REF_APP_FlatFieldTeff"], file["REF_APP_FlatFieldTeffMetadata"]
            kinds, temperatures = table.column("DATA_TYPE"), table.finite_column("T_EFF")
            if table.rows != cube.rows:
                raise table.refuse(f"{table.rows} rows for {cube.rows} planes")
            grid, order = _planes(cube, kinds, temperatures, "FLAT FIELD")
            if not len(grid):
                raise table.refuse("column DATA_TYPE names no plane FLAT FIELD")
            if not teff > 0:
                teff = float(grid[int(np.argmin(np.abs(grid - 5777)))])
                warnings.append(f"the target's T_EFF is not known: the flat field of {teff:.0f} K is used")
            i, j, weight = bracket(teff, grid)
            used_teff = float(between(grid[i], grid[j], weight))
            if used_teff != teff:
                warnings.append(f"T_EFF {teff:.0f} K lies outside of the flat fields: that of {used_teff:.0f} K is used")
            first, second = (cube.finite_image(k, k + 1)[0][window] for k in (order[i], order[j]))
            flat = between(first, second, weight)
            errors, error_order = _planes(cube, kinds, temperatures, "FLAT FIELD ERROR")
            if len(errors):
                i, j, weight = bracket(teff, errors)
                first, second = (cube.finite_image(k, k + 1)[0][window] for k in (error_order[i], error_order[j]))
                error = between(first, second, weight)
            else:
                error = np.zeros(shape)
            if not (flat > 0).all():
                raise cube.refuse(f"{int((flat <= 0).sum())} pixels of the window are not positive")
    used = {"FLAT_T": used_teff, "FLAT_STD": float(flat.std() / flat.mean())}
    image = NewHdu(TERMS["TERM_FLAT"], {**offsets, **used}, pixels=flat)
    image_error = NewHdu(TERMS["TERM_FLAT_ERROR"], offsets, pixels=error)
    return Leaves({"TERM_FLAT": [image, image_error]}, used=used, warnings=warnings, skipped=settings.skip)
