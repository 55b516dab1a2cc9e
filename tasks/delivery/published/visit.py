"""A published visit: its manifest, terms and light curves.

Every file is checked against its definition, and its checksums are verified.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from schemas.arrays import AnyArray, FloatArray
from schemas.errors import MissingInputError, UsageError
from schemas.inputs import Input, Use
from schemas.light_curves import Radii
from schemas.manifest import FileEntry, Manifest
from schemas.payloads import Product
from schemas.products import Column, Structure, soc_structure
from schemas.terms import TERMS
from schemas.used import with_keywords
from tasks.delivery.folder import MANIFEST, is_published, published_file, read_manifest
from tasks.delivery.light_curves import OWN_COLUMNS, OWN_METRICS
from tasks.files import disk
from tasks.files.reader import open_declared

Columns = dict[str, AnyArray]

CURVE = "SCI_COR_Lightcurve"

CURVE_STEPS = ("light_curves", "imagette_light_curves")


def published_folder(path: Path) -> Path:
    """Return `path` if it is a published folder, else the single published folder in it.

    Raises
    ------
    MissingInputError
        If there is no published folder.
    UsageError
        If there are several, or `path` is a file.
    """
    if disk.is_file(path):
        raise UsageError(f"{path}: is a file, expected the folder of a published visit")
    if not disk.is_folder(path):
        raise MissingInputError(f"{path}: no such folder")
    if is_published(path):
        return path
    folders = [
        p
        for p in disk.entries(path)
        if not p.name.startswith(".") and disk.is_folder(p) and is_published(p)
    ]
    if not folders:
        raise MissingInputError(f"{path}: holds no published visit (a folder with {MANIFEST})")
    if len(folders) > 1:
        raise UsageError(
            f"{path}: holds {len(folders)} published visits, choose one: "
            f"{', '.join(p.name for p in folders[:8])}"
        )
    return folders[0]


@dataclass(frozen=True)
class PublishedVisit:
    """A published folder and its manifest."""

    folder: Path
    manifest: Manifest

    @classmethod
    def at(cls, path: Path) -> PublishedVisit:
        """Return the published visit at `path`, or the single one in it."""
        folder = published_folder(path)
        return cls(folder, read_manifest(folder))

    def place(self, step: str, product: str) -> Path:
        """Return the path of a product of a step."""
        return published_file(self.folder, self._entry(step, product))

    def _entry(self, step: str, product: str) -> FileEntry:
        """Return the entry of a product of a step, the first for one that ran twice."""
        for file in self.manifest.files:
            if (file.step, file.product) == (step, product):
                return file
        raise MissingInputError(f"{self.folder}: holds no {product} of step {step}")

    def term(self, step: str, extname: str, hdu: str = "") -> Columns:
        """Return the columns of a term, or of another HDU in its file."""
        declared = TERMS[hdu or extname]
        return table(self.place(step, extname), extname, declared)

    def used(self, step: str, extname: str, key: str) -> Any:
        """Return a used value from the header of a term."""
        declared = TERMS[extname]
        with open_declared(self.place(step, extname), _only(extname, Use(declared))) as file:
            return file[extname].keyword(key)

    @property
    def radii(self) -> Radii:
        """The radii of the circles that follow the target, in rising order [pixel]."""
        values = self.term("apertures", "TERM_APERTURES", "TERM_APERTURES_RADII")["RADIUS"]
        return tuple(float(radius) for radius in values)

    def image(self, step: str, extname: str, hdu: str = "") -> FloatArray:
        """Return the image of a term, or of another HDU in its file."""
        declared = TERMS[hdu or extname]
        with open_declared(
            self.place(step, extname), _only(extname, Use(declared)), sums=True
        ) as file:
            return file[declared.extname].finite_image()

    def cube(self, step: str, extname: str) -> Product:
        """Return the product of calibrated or corrected images, for `open_images`."""
        path, entry = self.place(step, extname), self._entry(step, extname)
        return Product(path=str(path), sha256=entry.sha256, extname=extname)

    def curve_names(self) -> list[str]:
        """Return the names of the light curves of the stacked images."""
        return self._curves_of("light_curves")

    def every_curve(self) -> list[str]:
        """Return the names of all light curves, those of the imagettes last."""
        return [name for step in CURVE_STEPS for name in self._curves_of(step)]

    def _curves_of(self, step: str) -> list[str]:
        names = [file.product for file in self.manifest.files if file.step == step]
        return [n.removeprefix(f"{CURVE}-") for n in names if n.startswith(f"{CURVE}-")]

    def curve_path(self, name: str) -> Path:
        """Return the path of a light curve."""
        step = next((s for s in CURVE_STEPS if name in self._curves_of(s)), CURVE_STEPS[0])
        return self.place(step, f"{CURVE}-{name}")

    def curve(self, name: str) -> Columns:
        """Return the columns of a light curve; our own columns only if it has them."""
        return table(self.curve_path(name), CURVE, soc_structure(CURVE), OWN_COLUMNS)

    def keywords(self, name: str, *keys: str) -> dict[str, Any]:
        """Return values from the header of a light curve."""
        declared = with_keywords(soc_structure(CURVE), OWN_METRICS)
        with open_declared(self.curve_path(name), _only(CURVE, Use(declared))) as file:
            return {k: file[CURVE].keyword(k) for k in keys}


def _only(first: str, use: Use) -> Input:
    return Input(first, (first,), {use.structure.extname: use}, "")


def table(path: Path, first: str, declared: Structure, more: tuple[Column, ...] = ()) -> Columns:
    """Return the declared columns of a table, and any of the columns `more` that it has."""
    names = tuple(c.name for c in declared.columns)
    use = Use(replace(declared, columns=(*declared.columns, *more)), columns=names)
    with open_declared(path, _only(first, use), sums=True) as file:
        hdu = file[declared.extname]
        present = hdu.present()
        return {
            name: hdu.column(name)
            for name in (*names, *(c.name for c in more if c.name in present))
        }
