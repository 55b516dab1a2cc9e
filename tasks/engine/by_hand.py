"""Replacements: products of the user in place of those of a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from schemas.errors import BadInputError, UsageError, plain
from schemas.flags import BAD_PIXEL_CODES, PixelFlag
from schemas.inputs import term_input
from schemas.payloads import Inventory
from schemas.ranges import Allowed, unit_range
from schemas.terms import NOT_OF_IMAGES, NOT_OF_WINDOW, TERMS
from schemas.used import USED
from tasks.engine.run import STEPS
from tasks.engine.store import Workspace
from tasks.files import disk
from tasks.files.reader import Hdu, Value, blocks, open_declared, scan
from tasks.files.writer import PUBLICATION, restamp

MOST_ELECTRONS = 1e12  # of a pixel; a stack of ten thousand exposures holds a thousandth

# header values of images and light curves before their publication
UNPUBLISHED: dict[str, Value] = {**PUBLICATION, **{f"RF_FIL{i}": "N/A" for i in range(1, 21)}}


def used_values(path: Path, extname: str) -> dict[str, Value]:
    """Return the used values in the header of a term."""
    with open_declared(path, term_input(extname), sums=True) as file:
        hdu = file[extname]
        return {name: hdu.keyword(name) for name in TERMS[extname].keywords if name in USED}


def replacement(path: Path) -> tuple[str, Path]:
    """Return EXTNAME and path of a file that is to replace a product.

    Raises
    ------
    UsageError
        If no step has such a product.
    BadInputError
        If the file is damaged, or deviates from its definition: it will be published.
    """
    from schemas.inputs import level1_input

    with scan(path) as file:
        extname = file.extname
    owners = [s.name for s in STEPS.values() if extname in s.leaves]
    if not owners:
        known = ", ".join(sorted({name for s in STEPS.values() for name in s.leaves}))
        raise UsageError(
            f"{path}: no step has the product {plain(extname)}; replaceable are {known}"
        )
    declared = term_input(extname) if extname in TERMS else level1_input(extname)
    with open_declared(path, declared, sums=True) as file:
        if file.deviations:
            raise BadInputError(
                f"{path}: a replacement must match its definition: {file.deviations[0]}"
            )
        for hdu in file.hdus[1:]:
            check_ranges(hdu)
            if hdu.extname == "TERM_TRACK":
                check_track(hdu)
        if extname in TERMS:
            check_finite(file[extname])
        else:
            check_cube(file[extname])
    return extname, path


def check_images(path: Path, inventory: Inventory) -> None:
    """Reject a replacement of other images than the visit's, or of another window.

    The window is compared only while the raw sub-array exists.
    """
    with scan(path) as file:
        if file.extname.endswith(("Imagette", "FullArray")):
            return
        for hdu in file.hdus[1:]:
            if _is_of_images(hdu) and hdu.rows != inventory.images:
                raise hdu.refuse(f"has {hdu.rows} images, the visit has {inventory.images}")
            if (
                "X_WINOFF" in hdu.header
                and hdu.extname not in NOT_OF_WINDOW
                and disk.exists(Path(inventory.subarray.path))
            ):
                _check_window(hdu, Path(inventory.subarray.path))


def _is_of_images(hdu: Hdu) -> bool:
    """Whether an HDU has one row or plane per image of the visit."""
    if "TFIELDS" in hdu.header:
        return "MJD_TIME" in hdu.present() and hdu.extname not in NOT_OF_IMAGES
    return len(hdu.shape) == 3 or hdu.extname == "TERM_SMEARING"


def _check_window(hdu: Hdu, subarray: Path) -> None:
    with scan(subarray) as raw:
        header, shape = raw.hdus[1].header, raw.hdus[1].shape[1:]
    window, visit_window = (
        (h.get("X_WINOFF"), h.get("Y_WINOFF"), s)
        for h, s in ((hdu.header, hdu.shape[-2:]), (header, shape))
    )
    if window != visit_window:
        raise hdu.refuse(f"has the window (x, y, shape) {window}, the visit has {visit_window}")


def own_copy(workspace: Workspace, name: str, path: Path) -> Path:
    """Return a copy of a replacement in the work folder.

    In images and light curves the values that publication filled in become neutral again.
    """
    digest = workspace.digests.of(path)
    folder = workspace.folder("hand", digest)
    copy = folder / f"{name}.fits"
    if disk.same_file(copy, path):
        return copy
    disk.remove(folder)
    disk.make_folder(folder)
    if name in TERMS:
        disk.copy_file(path, copy)
    else:
        restamp(path, copy, UNPUBLISHED)
    if workspace.digests.of(path) != digest or (
        name in TERMS and workspace.digests.of(copy) != digest
    ):
        raise BadInputError(f"{path}: changed while it was read")
    return copy


def check_cube(hdu: Hdu) -> None:
    """Reject a cube with infinite or absurd pixels; NaN means no data."""
    ny, nx = hdu.shape[-2:]
    planes = blocks(hdu.rows, ny * nx * 8) if len(hdu.shape) == 3 else [(0, ny)]
    # comparisons with NaN are false: it is not counted
    if bad := sum(
        int(np.count_nonzero(np.abs(hdu.stored(a, b)) > MOST_ELECTRONS)) for a, b in planes
    ):
        raise hdu.refuse(f"{bad} pixels are infinite or beyond {MOST_ELECTRONS:g} electrons")


# Columns of terms that hold a number in every row: the step fills in values that it could not
# measure, and flags them.
_FILLED = frozenset(
    ("MJD_TIME", "LEVEL", "LEVEL_ERR", "RON", "GAIN", "BOUNDARY", *(f"COEF_{i}" for i in range(4)))
)

_NOT_FILLED = frozenset((("TERM_PSF_FIT", "LEVEL"),))

# images of whole numbers: codes and flags
_CODED = {
    "TERM_PRIOR": Allowed(min(BAD_PIXEL_CODES), max(BAD_PIXEL_CODES)),
    "TERM_DEFECTS_FLAGS": Allowed(0, sum(PixelFlag)),
}


def check_ranges(hdu: Hdu) -> None:
    """Reject columns, pixels and used values of a term that are out of range for their unit."""
    if hdu.declared is None:
        return
    for keyword in hdu.declared.keywords.values():
        value = hdu.header.get(keyword.name) if keyword.name in USED else None
        allowed = unit_range(keyword.unit)
        if isinstance(value, int | float) and not allowed.permits(value):
            raise hdu.refuse(f"keyword {keyword.name} is {value!r}, expected {allowed}")
    if hdu.declared.is_table and hdu.extname in TERMS:
        hdu.ranges = {column.name: unit_range(column.unit) for column in hdu.declared.columns}
        for name in hdu.present():
            if hdu.declared.column(name).letter not in "AL":
                hdu.column(name)
    elif hdu.declared.image and hdu.extname in TERMS:
        check_pixels(hdu)


def check_pixels(hdu: Hdu) -> None:
    """Reject an image of a term with pixels that are out of range for their unit."""
    pixels, coded = hdu.image(), _CODED.get(hdu.extname)
    allowed = coded or unit_range(str(hdu.header.get("BUNIT", "")))
    wrong = np.isfinite(pixels) & allowed.outside(pixels)
    if coded:
        wrong |= np.isfinite(pixels) & (pixels != np.round(pixels))
    if wrong.any():
        words = "whole numbers from " if coded else ""
        raise hdu.refuse(
            f"{wrong.sum()} of {pixels.size} pixels are {pixels[wrong][0]:.10g} or the like, "
            f"expected {words}{allowed}"
        )


def check_track(hdu: Hdu) -> None:
    """Reject a track of the attitude without rows, or with times that do not increase."""
    mjd = hdu.finite_column("MJD_TIME")
    steps = np.flatnonzero(~(np.diff(mjd) > 0))
    if not len(mjd) or len(steps):
        found = f"row {steps[0] + 2} is not after the one before" if len(steps) else "has no rows"
        raise hdu.refuse(f"column MJD_TIME: {found}; expected times that increase")


def check_finite(hdu: Hdu) -> None:
    """Reject a term with NaN in its pixels, or in a column that has a number in every row."""
    assert hdu.declared is not None
    if hdu.declared.image:
        hdu.finite_image()
    for column in hdu.declared.columns:
        if column.name in _FILLED and (hdu.extname, column.name) not in _NOT_FILLED:
            hdu.finite_column(column.name)
