"""A published visit, read back: its manifest, terms and light curves, each through the gate and
with its sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import BadInputError, MissingInputError, UsageError
from schemas.inputs import Input, Use
from schemas.payloads import Product
from schemas.products import Column, Structure, soc_structure
from schemas.terms import TERMS
from tasks.delivery.light_curves import OWN_COLUMNS
from tasks.delivery.published.folder import MANIFEST, is_published, read_manifest
from tasks.files.reader import open_declared

Columns = dict[str, npt.NDArray[Any]]

CURVE = "SCI_COR_Lightcurve"


def published_folder(path: Path) -> Path:
    """Return `path`, or the one published folder that it holds.

    Raises
    ------
    MissingInputError
        If there is none.
    UsageError
        If there are several, or `path` is a file.
    """
    if path.is_file():
        raise UsageError(f"{path}: is a file, wanted the folder of a published visit")
    if not path.is_dir():
        raise MissingInputError(f"{path}: is not there")
    if is_published(path):
        return path
    found = sorted(
        p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and is_published(p)
    )
    if not found:
        raise MissingInputError(f"{path}: no published visit is here (a folder with {MANIFEST})")
    if len(found) > 1:
        raise UsageError(
            f"{path}: holds {len(found)} published visits, name one: "
            f"{', '.join(p.name for p in found[:8])}"
        )
    return found[0]


@dataclass(frozen=True)
class PublishedVisit:
    """A published folder and what its manifest says."""

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def at(cls, path: Path) -> PublishedVisit:
        """Return the published visit at, or in, `path`."""
        folder = published_folder(path)
        return cls(folder, read_manifest(folder))

    def place(self, step: str, product: str) -> Path:
        """Return the file that holds a product of a step."""
        for file in self.manifest["files"]:
            if (file["step"], file["product"]) == (step, product):
                path = self.folder / str(file["name"])
                if not path.resolve().is_relative_to(self.folder.resolve()):
                    raise BadInputError(
                        f"{self.folder / MANIFEST}: {file['name']} leads out of the folder"
                    )
                if not path.is_file():
                    raise MissingInputError(f"{path}: is missing")
                return path
        raise MissingInputError(f"{self.folder}: holds no {product} of the step {step}")

    def term(self, step: str, extname: str, hdu: str = "") -> Columns:
        """Return the columns of a term, or of the HDU `hdu` that follows it in its file."""
        declared = TERMS[hdu or extname]
        return table(self.place(step, extname), extname, declared)

    def used(self, step: str, extname: str, key: str) -> Any:
        """Return a used value from the header of a term."""
        declared = TERMS[extname]
        with open_declared(self.place(step, extname), _only(extname, Use(declared))) as file:
            return file[extname].keyword(key)

    def image(self, step: str, extname: str, hdu: str = "") -> npt.NDArray[np.float64]:
        """Return the image of a term, or of the HDU `hdu` that follows it in its file."""
        declared = TERMS[hdu or extname]
        with open_declared(
            self.place(step, extname), _only(extname, Use(declared)), sums=True
        ) as file:
            return file[declared.extname].finite_image()

    def cube(self, step: str, extname: str) -> Product:
        """Return calibrated or corrected images, to be opened by `tasks.visit.images.open_images`."""
        path = self.place(step, extname)
        (digest,) = (
            str(f["sha256"])
            for f in self.manifest["files"]
            if (f["step"], f["product"]) == (step, extname)
        )
        return Product(path=str(path), sha256=digest, extname=extname)

    def curve_names(self) -> list[str]:
        """Return the names of the light curves of the stacks."""
        names = [str(f["product"]) for f in self.manifest["files"] if f["step"] == "light_curves"]
        return [n.removeprefix(f"{CURVE}-") for n in names if n.startswith(f"{CURVE}-")]

    def curve(self, name: str) -> Columns:
        """Return the columns of a light curve, those that this reduction does not have left out."""
        return table(
            self.place("light_curves", f"{CURVE}-{name}"), CURVE, soc_structure(CURVE), OWN_COLUMNS
        )

    def keywords(self, name: str, *wanted: str) -> dict[str, Any]:
        """Return some values of the header of a light curve."""
        path = self.place("light_curves", f"{CURVE}-{name}")
        with open_declared(path, _only(CURVE, Use(soc_structure(CURVE)))) as file:
            return {k: file[CURVE].keyword(k) for k in wanted}


def _only(first: str, use: Use) -> Input:
    return Input(first, (first,), {use.structure.extname: use}, "")


def table(path: Path, first: str, declared: Structure, more: tuple[Column, ...] = ()) -> Columns:
    """Return the declared columns of a table, and those of `more` that it has."""
    from dataclasses import replace

    names = tuple(c.name for c in declared.columns)
    use = Use(replace(declared, columns=(*declared.columns, *more)), columns=names)
    with open_declared(path, _only(first, use), sums=True) as file:
        hdu = file[declared.extname]
        present = hdu.present()
        return {
            name: hdu.column(name)
            for name in (*names, *(c.name for c in more if c.name in present))
        }


def sizes(values: npt.NDArray[Any]) -> dict[str, float | int]:
    """Return how many values there are, how many are no numbers, and least, median and largest of
    the others.
    """
    numbers = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not numbers.size:
        return {"values": int(values.size), "not_numbers": int(values.size)}
    low, middle, high = (float(f(numbers)) for f in (np.min, np.median, np.max))
    return {
        "values": int(values.size),
        "not_numbers": int(values.size - numbers.size),
        "least": low,
        "median": middle,
        "largest": high,
    }
