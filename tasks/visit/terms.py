"""Terms as steps read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray
from schemas.payloads import Look, Product
from tasks.files.disk import require
from tasks.files.reader import open_declared


def term_column(product: Product, extname: str, *names: str) -> list[npt.NDArray[Any]]:
    """Return columns of a term."""
    from schemas.inputs import term_input

    with open_declared(Path(require(product.path)), term_input(product.extname)) as file:
        return [file[extname].column(name) for name in names]


def look_places(look: Look) -> tuple[FloatArray, FloatArray]:
    """Return the target's first position in every image, edge based [pixel]; between images where
    it was not seen.
    """
    mjd, *places = term_column(look.product, "TERM_LOOK", "MJD_TIME", "CENTROID_X", "CENTROID_Y")
    seen = np.isfinite(places[0]) & np.isfinite(places[1])
    if not seen.any():
        return np.full_like(mjd, np.nan), np.full_like(mjd, np.nan)
    order = np.flatnonzero(seen)[np.argsort(mjd[seen], kind="stable")]
    x, y = (np.where(seen, p, np.interp(mjd, mjd[order], p[order])) for p in places)
    return x, y


def first_sampled(look: Look) -> int:
    """Return the index of the first image that the first look sampled: where one image has to stand
    for all.
    """
    (sampled,) = term_column(look.product, "TERM_LOOK", "SAMPLED")
    return int(np.argmax(sampled))


def term_image(product: Product, extname: str) -> FloatArray:
    """Return an image of a term; pixels that are no numbers are refused."""
    from schemas.inputs import term_input

    with open_declared(Path(require(product.path)), term_input(product.extname)) as file:
        return file[extname].finite_image()
