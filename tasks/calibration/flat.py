"""Flat field: the relative response of the pixels to light of the target's colour.

Either the reference holds one plane for each of some effective temperatures, weighted over
wavelength with a star's spectrum, and the planes of their errors behind them; between two
temperatures the planes are interpolated linearly. Or the flat field is built from planes for light
of some wavelengths: F = sum_k W_k F_k, with the electrons that the star gives at each wavelength, w
= SED(Teff) wavelength throughput QE, as weights, and F linear in wavelength between the planes. A
built one has mean one beyond 100 pixels of the edge of the CCD, as those of the reference have.

The flat field of the whole CCD is a product of its own, with what the images were divided by in the
window.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray
from schemas.errors import BadInputError
from schemas.inputs import FLAT_FIELD, FLAT_FILTERS, QUANTUM_EFFICIENCY, SPECTRA, THROUGHPUT, Input
from schemas.payloads import Flat, FlatField, Product, Reference
from schemas.products import soc_structure
from schemas.settings import FlatSettings
from schemas.terms import TERMS
from schemas.used import FLAT_OF, flat_nodes, with_keywords
from tasks.engine.step import Leaves, history, step
from tasks.files.disk import require
from tasks.files.reader import Hdu, open_declared
from tasks.files.writer import NewHdu
from tasks.visit.headers import visit_keywords
from tasks.visit.raw import open_exposures
from tasks.visit.terms import term_image

CCD = 1024, 1024  # exposed pixels, (ny, nx)
EDGE = 100  # pixels that do not count for the mean of one
WINDOWS = {
    "PIP_CAL_FlatField": "TERM_FLAT",
    "PIP_CAL_FlatFieldError": "TERM_FLAT_ERROR",
}  # of the CCD, of the window
SUN = 5777.0  # K: taken where the target's temperature is not known
SAMPLES = 1.0  # distance of the wavelengths at which spectra are multiplied [nm]


class ByWavelength(NamedTuple):
    """What a flat field is built from."""

    filters: Reference
    spectra: Reference
    throughput: Reference
    efficiency: Reference


class Weighted(NamedTuple):
    """A flat field of the whole CCD with its error, and the nodes and weights that it was made
    with.
    """

    response: FloatArray
    error: FloatArray
    teff: float
    of: str
    nodes: FloatArray
    weights: FloatArray


def bracket(teff: float, grid: FloatArray) -> tuple[int, int, float]:
    """Return the two entries of a rising `grid` around `teff` and the weight of the second; the
    edges hold outside of it.
    """
    if grid.size == 1 or teff <= grid[0]:
        return 0, 0, 0.0
    if teff >= grid[-1]:
        return grid.size - 1, grid.size - 1, 0.0
    upper = int(np.searchsorted(grid, teff, "right"))
    return upper - 1, upper, float((teff - grid[upper - 1]) / (grid[upper] - grid[upper - 1]))


def between(first: FloatArray, second: FloatArray, weight: float) -> FloatArray:
    """Return (1 - weight) first + weight second."""
    return first if weight == 0 else (1.0 - weight) * first + weight * second


def taken_teff(
    teff: float, grid: FloatArray, what: str, warnings: list[str]
) -> tuple[float, float]:
    """Return the temperature to look for in a rising `grid`, the Sun's where it is not known, and
    the one within it [K].
    """
    if not teff > 0:
        teff = float(grid[int(np.argmin(np.abs(grid - SUN)))])
        warnings.append(f"the target's T_EFF is not known: the {what} of {teff:.0f} K is used")
    used = float(np.clip(teff, grid[0], grid[-1]))
    if used != teff:
        warnings.append(
            f"T_EFF {teff:.0f} K lies outside of those of the reference: the {what} of "
            f"{used:.0f} K is used"
        )
    return teff, used


def photon_weights(wavelength: FloatArray, nodes: FloatArray) -> FloatArray:
    """Return how much each node counts in a sum over light that is linear between the nodes and
    constant beyond them.

    Parameters
    ----------
    wavelength : ndarray, shape (n, 2)
        Wavelengths [nm] and the electrons that come with each, in any unit.
    nodes : ndarray, shape (m,)
        Rising wavelengths of the planes [nm].

    Returns
    -------
    ndarray, shape (m,)
        Weights of sum one.
    """
    place, light = wavelength[:, 0], wavelength[:, 1]
    upper = (
        np.clip(np.searchsorted(nodes, place, "right"), 1, len(nodes) - 1)
        if len(nodes) > 1
        else np.zeros(len(place), int)
    )
    if len(nodes) == 1:
        return np.ones(1)
    share = np.clip((place - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1]), 0.0, 1.0)
    weights = np.bincount(upper - 1, (1 - share) * light, len(nodes)) + np.bincount(
        upper, share * light, len(nodes)
    )
    return np.asarray(weights / light.sum())


def _planes(
    hdu: Hdu, kinds: npt.NDArray[np.str_], grid: FloatArray, kind: str
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    planes = np.flatnonzero(kinds == kind)
    order = planes[np.argsort(grid[planes], kind="stable")]
    if len(order) and (np.diff(grid[order]) <= 0).any():
        raise hdu.refuse(
            f"holds two planes {kind} of one {'T_EFF' if 'Teff' in hdu.extname else 'FILTER'}"
        )
    return grid[order], order


def _check(table: Hdu, cube: Hdu) -> None:
    if table.rows != cube.rows:
        raise table.refuse(f"{table.rows} rows for {cube.rows} planes")
    if cube.shape[1:] != CCD:
        raise cube.refuse(
            f"planes are {cube.shape[2]} x {cube.shape[1]} pixels, wanted 1024 x 1024"
        )


def interpolated(product: Product, teff: float, warnings: list[str]) -> Weighted:
    """Interpolate the flat field between the planes of two effective temperatures."""
    with open_declared(require(product.path), FLAT_FIELD) as file:
        cube, table = file["REF_APP_FlatFieldTeff"], file["REF_APP_FlatFieldTeffMetadata"]
        kinds, temperatures = table.column("DATA_TYPE"), table.finite_column("T_EFF")
        _check(table, cube)
        grid, order = _planes(cube, kinds, temperatures, "FLAT FIELD")
        if not len(grid):
            raise table.refuse("column DATA_TYPE names no plane FLAT FIELD")
        teff, used = taken_teff(teff, grid, "flat field", warnings)
        i, j, weight = bracket(teff, grid)
        nodes, weights = (
            (grid[[i, j]], np.array([1 - weight, weight])) if i != j else (grid[[i]], np.ones(1))
        )
        first, second = (cube.finite_image(k, k + 1)[0] for k in (order[i], order[j]))
        flat = between(first, second, weight)
        errors, error_order = _planes(cube, kinds, temperatures, "FLAT FIELD ERROR")
        error = np.zeros(flat.shape)
        if len(errors):
            i, j, weight = bracket(teff, errors)
            first, second = (
                cube.finite_image(k, k + 1)[0] for k in (error_order[i], error_order[j])
            )
            error = between(first, second, weight)
    return Weighted(flat, error, used, "T_EFF", nodes, weights)


def star_light(given: ByWavelength, teff: float, warnings: list[str]) -> tuple[FloatArray, float]:
    """Return wavelengths and electrons (n, 2) of a star, and the effective temperature that was
    taken [K].
    """
    with open_declared(require(given.spectra.product.path), SPECTRA) as file:
        hdu = file["REF_APP_SEDTeff"]
        grid, wavelength, flux = (
            hdu.finite_column(n) for n in ("TEMPERATUR", "WAVELENGTH", "FLUX")
        )
    order = np.argsort(grid, kind="stable")
    grid, wavelength, flux = (
        grid[order],
        np.atleast_2d(wavelength)[order],
        np.atleast_2d(flux)[order],
    )
    teff, used = taken_teff(teff, grid, "spectrum", warnings)
    i, j, weight = bracket(teff, grid)
    through, efficiency = (
        _curve(given.throughput, THROUGHPUT, "THROUGHPUT"),
        _curve(given.efficiency, QUANTUM_EFFICIENCY, "QE"),
    )
    place = np.arange(
        max(through[0][0], efficiency[0][0]),
        min(through[0][-1], efficiency[0][-1]) + SAMPLES / 2,
        SAMPLES,
    )
    seen = place * np.interp(place, *through) * np.interp(place, *efficiency)
    # spectra of two temperatures count by the electrons that they give, as planes do that are
    # interpolated
    light = [seen * np.interp(place, wavelength[k], flux[k], left=0.0, right=0.0) for k in (i, j)]
    if not all(v.sum() > 0 and (v >= 0).all() for v in light):
        with open_declared(require(given.spectra.product.path), SPECTRA) as file:
            raise file["REF_APP_SEDTeff"].refuse(
                "column FLUX gives no light where the telescope sees, or less than none"
            )
    return np.stack(
        [place, between(light[0] / light[0].sum(), light[1] / light[1].sum(), weight)], axis=1
    ), used


def _curve(reference: Reference, declared: Input, column: str) -> tuple[FloatArray, FloatArray]:
    with open_declared(require(reference.product.path), declared) as file:
        hdu = file[declared.first[0]]
        wavelength, values = hdu.finite_column("WAVELENGTH"), hdu.finite_column(column)
        if len(wavelength) < 2 or (np.diff(wavelength) <= 0).any():
            raise hdu.refuse("column WAVELENGTH does not rise")
    return wavelength, values


def built(given: ByWavelength, teff: float, warnings: list[str]) -> Weighted:
    """Build the flat field from those of some wavelengths, weighted with the star's light."""
    light, used = star_light(given, teff, warnings)
    with open_declared(require(given.filters.product.path), FLAT_FILTERS) as file:
        cube, table = file["REF_APP_FlatFieldFilter"], file["REF_APP_FlatFieldFilterMetadata"]
        kinds, names = table.column("DATA_TYPE"), table.column("FILTER")
        _check(table, cube)
        centre = np.array([_nanometres(table, str(name)) for name in names])
        nodes, order = _planes(cube, kinds, centre, "FLAT FIELD")
        if not len(nodes):
            raise table.refuse("column DATA_TYPE names no plane FLAT FIELD")
        weights = photon_weights(light, nodes)
        whole = np.zeros(CCD)
        for plane, weight in zip(order, weights, strict=True):
            if weight > 0:
                whole += weight * cube.finite_image(int(plane), int(plane) + 1)[0]
        variance = np.zeros(CCD)
        errors, error_order = _planes(cube, kinds, centre, "FLAT FIELD ERROR")
        if len(errors):
            for plane, weight in zip(error_order, photon_weights(light, errors), strict=True):
                if weight > 0:
                    variance += np.square(weight * cube.finite_image(int(plane), int(plane) + 1)[0])
    mean = float(whole[EDGE:-EDGE, EDGE:-EDGE].mean())
    if not mean > 0:
        raise BadInputError(
            f"{given.filters.product.path}: REF_APP_FlatFieldFilter: the mean response is not "
            f"positive"
        )
    return Weighted(whole / mean, np.sqrt(variance) / mean, used, "WAVELENGTH", nodes, weights)


def _nanometres(table: Hdu, text: str) -> float:
    """Return the wavelength that the name of a filter holds [nm]."""
    match = re.search(r"\d+(\.\d+)?", text)
    if match is None:
        raise table.refuse(f"column FILTER: {text!r} names no wavelength")
    return float(match[0])


def whole_flat(
    header_teff: float,
    reference: Reference | None,
    by_wavelength: tuple[Reference, ...],
    settings: FlatSettings,
    warnings: list[str],
) -> Weighted:
    """Make the flat field of the whole CCD as the settings want it: built, interpolated, or one
    throughout.
    """
    teff = settings.teff or header_teff
    if not settings.skip and by_wavelength:
        return built(ByWavelength(*by_wavelength), teff, warnings)
    if not settings.skip and reference is not None:
        return interpolated(reference.product, teff, warnings)
    return Weighted(np.ones(CCD), np.zeros(CCD), teff, "T_EFF", np.zeros(0), np.zeros(0))


@step("flat", "FFIELD", version="3", payload=Flat, leaves=["TERM_FLAT"])
def estimate_flat(
    raw: Product,
    reference: Reference | None,
    by_wavelength: tuple[Reference, ...],
    settings: FlatSettings,
) -> Leaves:
    """Make the flat field for the target's effective temperature.

    `by_wavelength` are the references of `ByWavelength` in its order where the flat field is built,
    else empty.
    """
    warnings: list[str] = []
    with open_exposures(raw) as exposures:
        window, teff = exposures.window, float(exposures.image.header.get("T_EFF") or 0)
        offsets = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
    flat = whole_flat(teff, reference, by_wavelength, settings, warnings)
    response, error = flat.response[window].copy(), flat.error[window].copy()
    if not (response > 0).all():
        source = next(r.product for r in (*by_wavelength, reference) if r is not None)
        raise BadInputError(
            f"{source.path}: {source.extname}: {int((response <= 0).sum())} pixels of the "
            f"window are not positive"
        )
    used = {"FLAT_T": flat.teff, "FLAT_STD": float(response.std() / response.mean())}
    image = NewHdu(TERMS["TERM_FLAT"], {**offsets, **used}, pixels=response)
    image_error = NewHdu(TERMS["TERM_FLAT_ERROR"], offsets, pixels=error)
    columns = {"OF": np.full(len(flat.nodes), flat.of), "NODE": flat.nodes, "WEIGHT": flat.weights}
    weights = NewHdu(TERMS["TERM_FLAT_WEIGHTS"], columns=columns)
    return Leaves(
        {"TERM_FLAT": [image, image_error, weights]},
        used=used,
        warnings=warnings,
        skipped=settings.skip,
    )


@step("flat_field", version="1", payload=FlatField, leaves=[])
def write_flat_field(
    raw: Product,
    flat: Flat,
    reference: Reference | None,
    by_wavelength: tuple[Reference, ...],
    settings: FlatSettings,
) -> Leaves:
    """Write the flat field of the whole CCD with its error; in the window it is what the images
    were divided by.

    A flat field that a person gave is known in the window only: there is no number outside of it
    then, and no weight.
    """
    with open_exposures(raw) as exposures:
        window, teff = exposures.window, float(exposures.image.header.get("T_EFF") or 0)
        if flat.by_hand:
            made = Weighted(
                np.full(CCD, np.nan), np.full(CCD, np.nan), 0.0, "", np.zeros(0), np.zeros(0)
            )
        else:
            made = whole_flat(teff, reference, by_wavelength, settings, [])
        hdus = []
        for name, pixels in zip(WINDOWS, (made.response.copy(), made.error.copy()), strict=True):
            pixels[window] = term_image(flat.product, WINDOWS[name])
            declared = with_keywords(soc_structure(name), flat.used)
            hdus.append(
                NewHdu(
                    declared,
                    {**visit_keywords(exposures, declared), **flat.used},
                    pixels,
                    history=history([flat]),
                )
            )
    return Leaves({"PIP_CAL_FlatField": [with_weights(hdus[0], made), hdus[1]]})


def with_weights(hdu: NewHdu, flat: Weighted) -> NewHdu:
    """Return an HDU with the planes that a flat field was made from in its header, those that
    count, and their weights.
    """
    counted = flat.weights > 0
    if not counted.any():
        return hdu
    keywords, values = {FLAT_OF.name: FLAT_OF}, {**hdu.keywords, FLAT_OF.name: flat.of}
    planes = zip(
        flat_nodes(int(counted.sum())), flat.nodes[counted], flat.weights[counted], strict=True
    )
    for (node, weight), place, share in planes:
        keywords |= {node.name: node, weight.name: weight}
        values |= {node.name: float(place), weight.name: float(share)}
    return replace(
        hdu,
        declared=replace(hdu.declared, keywords={**hdu.declared.keywords, **keywords}),
        keywords=values,
    )
