"""Flat field: the relative response of the pixels to light of the target's colour.

The reference has a plane for each of several effective temperatures, weighted over wavelength with
the spectrum of such a star, followed by the planes of their errors; they are interpolated linearly
in temperature. Alternatively the flat field is built from planes for light of several wavelengths:
F = sum_k W_k F_k, with weights from the electrons of the star at each wavelength, w = SED(Teff)
wavelength throughput QE, and F linear in wavelength between the planes. It is then normalised to a
mean of one more than 100 pixels from the edge of the CCD, as the planes of the reference are.

The flat field of the whole CCD is a product of its own; in the window it is the one that the images
were divided by.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray, IntArray
from schemas.errors import BadInputError
from schemas.inputs import FLAT_FIELD, FLAT_FILTERS, QUANTUM_EFFICIENCY, SPECTRA, THROUGHPUT, Input
from schemas.payloads import Flat, FlatField, Product, Reference
from schemas.products import soc_structure
from schemas.settings import FlatSettings
from schemas.terms import TERMS
from schemas.used import FLAT_OF, flat_nodes, with_keywords
from tasks.calibration.plausible import plausible_mean, plausible_response
from tasks.engine.step import Leaves, history, step
from tasks.files.disk import require
from tasks.files.reader import FitsFile, Hdu, open_declared
from tasks.files.writer import NewHdu
from tasks.visit.headers import visit_keywords
from tasks.visit.raw import Exposures, open_exposures
from tasks.visit.terms import read_flat

CCD = 1024, 1024  # exposed pixels, (ny, nx)
EDGE = 100  # pixels left out of the mean that is normalised to one
PRODUCTS = "PIP_CAL_FlatField", "PIP_CAL_FlatFieldError"
SUN = 5777.0  # used if the target's temperature is unknown [K]
SAMPLES = 1.0  # spacing of the wavelengths at which spectra are multiplied [nm]


class ByWavelength(NamedTuple):
    """The references that a flat field is built from."""

    filters: Reference
    spectra: Reference
    throughput: Reference
    efficiency: Reference


class Weighted(NamedTuple):
    """A flat field of the whole CCD as a weighted sum of planes."""

    response: FloatArray  # shape (1024, 1024)
    error: FloatArray
    teff: float  # of the star it is for [K]
    of: str  # meaning of the nodes: T_EFF [K] or WAVELENGTH [nm]
    nodes: FloatArray  # of the planes, shape (m,)
    weights: FloatArray  # of the planes, shape (m,)


def bracket(teff: float, grid: FloatArray) -> tuple[int, int, float]:
    """Return the entries of an increasing grid around `teff`, and the weight of the second.

    Outside of the grid both are its edge.
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


def choose_teff(
    teff: float, grid: FloatArray, name: str, warnings: list[str]
) -> tuple[float, float]:
    """Return the target's temperature, and the one nearest to it within an increasing grid [K].

    An unknown temperature is replaced by the one of the grid nearest to the Sun's. `name` is the
    quantity on the grid, for warnings.
    """
    if not teff > 0:
        teff = float(grid[int(np.argmin(np.abs(grid - SUN)))])
        warnings.append(f"the target's T_EFF is unknown: using the {name} of {teff:.0f} K")
    used = float(np.clip(teff, grid[0], grid[-1]))
    if used != teff:
        warnings.append(
            f"T_EFF {teff:.0f} K is outside the range of the reference: using the {name} of "
            f"{used:.0f} K"
        )
    return teff, used


def photon_weights(wavelength: FloatArray, nodes: FloatArray) -> FloatArray:
    """Return the weights of the nodes in a mean over the light of a star.

    The quantity to be averaged is linear between the nodes and constant beyond them.

    Parameters
    ----------
    wavelength : ndarray, shape (n, 2)
        Wavelengths [nm], and the electrons at each in any unit.
    nodes : ndarray, shape (m,)
        Increasing wavelengths of the planes [nm].

    Returns
    -------
    ndarray, shape (m,)
        Weights; their sum is one.
    """
    if len(nodes) == 1:
        return np.ones(1)
    place, light = wavelength[:, 0], wavelength[:, 1]
    upper = np.clip(np.searchsorted(nodes, place, "right"), 1, len(nodes) - 1)
    share = np.clip((place - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1]), 0.0, 1.0)
    weights = np.bincount(upper - 1, (1 - share) * light, len(nodes)) + np.bincount(
        upper, share * light, len(nodes)
    )
    return np.asarray(weights / light.sum())


class _Cube(NamedTuple):
    """The planes of a reference and their nodes."""

    cube: Hdu
    table: Hdu
    nodes: FloatArray  # T_EFF [K] or wavelength [nm] of each plane

    def order(self, kind: str) -> tuple[FloatArray, IntArray]:
        """Return the increasing nodes of the planes of one kind, and the indices of the planes."""
        planes = np.flatnonzero(self.table.column("DATA_TYPE") == kind)
        order = planes[np.argsort(self.nodes[planes], kind="stable")]
        if len(order) and (np.diff(self.nodes[order]) <= 0).any():
            column = "T_EFF" if "Teff" in self.cube.extname else "FILTER"
            raise self.cube.refuse(f"has two {kind} planes with the same {column}")
        return self.nodes[order], order

    def read(self, plane: int) -> FloatArray:
        """Return one plane."""
        return np.asarray(self.cube.finite_image(int(plane), int(plane) + 1)[0])


def _open_cube(file: FitsFile, extname: str, nodes: Callable[[Hdu], FloatArray]) -> _Cube:
    """Return the planes of a reference, and check that they hold flat fields of the whole CCD."""
    cube, table = file[extname], file[f"{extname}Metadata"]
    planes = _Cube(cube, table, nodes(table))
    if table.rows != cube.rows:
        raise table.refuse(f"has {table.rows} rows for {cube.rows} planes")
    if cube.shape[1:] != CCD:
        raise cube.refuse(
            f"has planes of {cube.shape[2]} x {cube.shape[1]} pixels, expected 1024 x 1024"
        )
    if not (table.column("DATA_TYPE") == "FLAT FIELD").any():
        raise table.refuse("column DATA_TYPE lists no FLAT FIELD plane")
    return planes


def _between_planes(cube: _Cube, kind: str, teff: float) -> FloatArray:
    """Interpolate between the planes of one kind, 0 if there are none."""
    grid, order = cube.order(kind)
    if not len(grid):
        return np.zeros(CCD)
    i, j, weight = bracket(teff, grid)
    return between(cube.read(order[i]), cube.read(order[j]), weight)


def interpolate_flat(product: Product, teff: float, warnings: list[str]) -> Weighted:
    """Interpolate the flat field between the planes of two effective temperatures."""
    with open_declared(require(product.path), FLAT_FIELD) as file:
        cube = _open_cube(file, "REF_APP_FlatFieldTeff", lambda table: table.finite_column("T_EFF"))
        grid, _ = cube.order("FLAT FIELD")
        teff, used = choose_teff(teff, grid, "flat field", warnings)
        flat = _between_planes(cube, "FLAT FIELD", teff)
        error = _between_planes(cube, "FLAT FIELD ERROR", teff)
    i, j, weight = bracket(teff, grid)
    nodes, weights = grid[[i]], np.ones(1)
    if i != j:
        nodes, weights = grid[[i, j]], np.array([1 - weight, weight])
    return Weighted(flat, error, used, "T_EFF", nodes, weights)


class _Spectra(NamedTuple):
    """Spectra of stars: effective temperatures (k,) [K], wavelengths [nm] and fluxes (k, m)."""

    teff: FloatArray
    wavelength: FloatArray
    flux: FloatArray


def _read_spectra(reference: Reference) -> _Spectra:
    """Return the spectra in order of temperature."""
    with open_declared(require(reference.product.path), SPECTRA) as file:
        hdu = file["REF_APP_SEDTeff"]
        teff, wavelength, flux = (
            hdu.finite_column(n) for n in ("TEMPERATUR", "WAVELENGTH", "FLUX")
        )
    order = np.argsort(teff, kind="stable")
    return _Spectra(teff[order], np.atleast_2d(wavelength)[order], np.atleast_2d(flux)[order])


def _read_passband(parts: ByWavelength) -> tuple[FloatArray, FloatArray]:
    """Return wavelengths [nm] and the electrons there per unit of a star's flux, shape (n,)."""
    through = _read_curve(parts.throughput, THROUGHPUT, "THROUGHPUT")
    efficiency = _read_curve(parts.efficiency, QUANTUM_EFFICIENCY, "QE")
    first, last = (
        max(through[0][0], efficiency[0][0]),
        min(through[0][-1], efficiency[0][-1]),
    )
    nm = np.arange(first, last + SAMPLES / 2, SAMPLES)
    return nm, nm * np.interp(nm, *through) * np.interp(nm, *efficiency)


def star_light(parts: ByWavelength, teff: float, warnings: list[str]) -> tuple[FloatArray, float]:
    """Return wavelengths [nm] and electrons of a star, (n, 2), and the temperature used [K]."""
    spectra = _read_spectra(parts.spectra)
    teff, used = choose_teff(teff, spectra.teff, "spectrum", warnings)
    i, j, weight = bracket(teff, spectra.teff)
    nm, passband = _read_passband(parts)
    # two spectra are weighted by their electrons, as two interpolated planes are
    light = [
        passband * np.interp(nm, spectra.wavelength[k], spectra.flux[k], left=0.0, right=0.0)
        for k in (i, j)
    ]
    if not all(v.sum() > 0 and (v >= 0).all() for v in light):
        with open_declared(require(parts.spectra.product.path), SPECTRA) as file:
            raise file["REF_APP_SEDTeff"].refuse(
                "column FLUX is negative, or zero throughout the passband"
            )
    electrons = between(light[0] / light[0].sum(), light[1] / light[1].sum(), weight)
    return np.stack([nm, electrons], axis=1), used


def _read_curve(
    reference: Reference, declared: Input, column: str
) -> tuple[FloatArray, FloatArray]:
    with open_declared(require(reference.product.path), declared) as file:
        hdu = file[declared.first[0]]
        wavelength, values = hdu.finite_column("WAVELENGTH"), hdu.finite_column(column)
        if len(wavelength) < 2 or (np.diff(wavelength) <= 0).any():
            raise hdu.refuse("column WAVELENGTH does not increase")
    return wavelength, values


def build_flat(parts: ByWavelength, teff: float, warnings: list[str]) -> Weighted:
    """Build the flat field from planes for several wavelengths, weighted with the star's light."""
    light, used = star_light(parts, teff, warnings)
    with open_declared(require(parts.filters.product.path), FLAT_FILTERS) as file:
        cube = _open_cube(file, "REF_APP_FlatFieldFilter", _read_wavelengths)
        nodes, order = cube.order("FLAT FIELD")
        weights = photon_weights(light, nodes)
        whole, variance = np.zeros(CCD), np.zeros(CCD)
        for plane, weight in zip(order, weights, strict=True):
            if weight > 0:
                whole += weight * cube.read(plane)
        errors, error_order = cube.order("FLAT FIELD ERROR")
        if len(errors):
            for plane, weight in zip(error_order, photon_weights(light, errors), strict=True):
                if weight > 0:
                    variance += np.square(weight * cube.read(plane))
    mean = float(whole[EDGE:-EDGE, EDGE:-EDGE].mean())
    if not mean > 0:
        raise BadInputError(
            f"{parts.filters.product.path}: REF_APP_FlatFieldFilter: the mean response is not "
            f"positive"
        )
    return Weighted(whole / mean, np.sqrt(variance) / mean, used, "WAVELENGTH", nodes, weights)


def _read_wavelengths(table: Hdu) -> FloatArray:
    return np.array([_nanometres(table, str(name)) for name in table.column("FILTER")])


def _nanometres(table: Hdu, text: str) -> float:
    """Return the wavelength in the name of a filter [nm]."""
    match = re.search(r"\d+(\.\d+)?", text)
    if match is None:
        raise table.refuse(f"column FILTER: {text!r} contains no wavelength")
    return float(match[0])


def make_flat(
    header_teff: float,
    reference: Reference | None,
    by_wavelength: tuple[Reference, ...],
    settings: FlatSettings,
    warnings: list[str],
) -> Weighted:
    """Make the flat field of the whole CCD: build it, interpolate it, or set it to one."""
    teff = settings.teff or header_teff
    if not settings.skip and by_wavelength:
        return build_flat(ByWavelength(*by_wavelength), teff, warnings)
    if not settings.skip and reference is not None:
        return interpolate_flat(reference.product, teff, warnings)
    return Weighted(np.ones(CCD), np.zeros(CCD), teff, "T_EFF", np.zeros(0), np.zeros(0))


def _teff(raw: Exposures) -> float:
    """Return the target's effective temperature, 0 where it is not known [K]."""
    return float(raw.image.header.get("T_EFF") or 0)


@step("flat", "FFIELD", version="6", payload=Flat, leaves=["TERM_FLAT"])
def estimate_flat(
    raw: Product,
    reference: Reference | None,
    by_wavelength: tuple[Reference, ...],
    settings: FlatSettings,
) -> Leaves:
    """Make the flat field for the target's effective temperature.

    `by_wavelength` holds the references of `ByWavelength` in its order if the flat field is to be
    built, and is empty otherwise.
    """
    warnings: list[str] = []
    with open_exposures(raw) as exposures:
        window, teff = exposures.window, _teff(exposures)
        offsets = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
    flat = make_flat(teff, reference, by_wavelength, settings, warnings)
    response, error = plausible_mean(flat.response, flat.error, warnings)
    response, error = plausible_response(response[window].copy(), error[window].copy(), warnings)
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


@step("flat_field", version="2", payload=FlatField, leaves=[], writes=["PIP_CAL_FlatField"])
def write_flat_field(
    raw: Product,
    flat: Flat,
    reference: Reference | None,
    by_wavelength: tuple[Reference, ...],
    settings: FlatSettings,
) -> Leaves:
    """Write the flat field of the whole CCD with its error.

    In the window it is the one that the images were divided by. A flat field supplied by the user
    covers only the window: the product is NaN elsewhere, and has no weights.
    """
    with open_exposures(raw) as exposures:
        if flat.by_hand:
            unknown = np.full(CCD, np.nan)
            whole = Weighted(unknown, unknown, 0.0, "", np.zeros(0), np.zeros(0))
        else:
            whole = make_flat(_teff(exposures), reference, by_wavelength, settings, [])
        hdus = []
        images = zip(PRODUCTS, (whole.response, whole.error), read_flat(flat), strict=True)
        for name, of_ccd, of_window in images:
            pixels = of_ccd.copy()
            pixels[exposures.window] = of_window
            declared = with_keywords(soc_structure(name), flat.used)
            keywords = {**visit_keywords(exposures, declared), **flat.used}
            hdus.append(NewHdu(declared, keywords, pixels, history=history([flat])))
    return Leaves({"PIP_CAL_FlatField": [with_weights(hdus[0], whole), hdus[1]]})


def with_weights(hdu: NewHdu, flat: Weighted) -> NewHdu:
    """Return an HDU with the planes of a flat field and their weights in its header."""
    used = flat.weights > 0
    if not used.any():
        return hdu
    keywords, values = {FLAT_OF.name: FLAT_OF}, {**hdu.keywords, FLAT_OF.name: flat.of}
    planes = zip(flat_nodes(int(used.sum())), flat.nodes[used], flat.weights[used], strict=True)
    for (node, weight), of_plane, share in planes:
        keywords |= {node.name: node, weight.name: weight}
        values |= {node.name: float(of_plane), weight.name: float(share)}
    return replace(
        hdu,
        declared=replace(hdu.declared, keywords={**hdu.declared.keywords, **keywords}),
        keywords=values,
    )
