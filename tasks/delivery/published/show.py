"""What a file holds, for a person: its HDUs with their meanings, key numbers, and the values that
the steps used.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from schemas.errors import BadInputError
from schemas.inputs import Input, Use
from schemas.products import Structure
from schemas.used import USED
from tasks.delivery.light_curves import OWN_COLUMNS
from tasks.delivery.published.visit import CURVE, sizes
from tasks.files.reader import FitsFile, Hdu, blocks, open_declared, scan
from tasks.files.writer import PUBLICATION, structure_of

_KEY = (
    "TARGNAME",
    "OBSID",
    "DATANAME",
    "AP_RADI",
    "AP_TYPE",
    "V_STRT_U",
    "V_STOP_U",
    "T_STRT_U",
    "T_STOP_U",
    "NEXP",
    "EXPTIME",
    "TEXPTIME",
    "ARCH_REV",
    "PROC_NUM",
    "PIPE_VER",
    "DATE",
    "BUNIT",
)


def contents(path: Path) -> dict[str, Any]:
    """Return what a FITS file holds; what is not declared is told by its shape only.

    Raises
    ------
    BadInputError
        If the file is damaged.
    """
    with scan(path) as file:
        hdus = [_hdu(file, hdu) for hdu in file.hdus[1:]]
        return {"file": path.name, "type": file.extname, "bytes": path.stat().st_size, "hdus": hdus}


def _hdu(file: FitsFile, hdu: Hdu) -> dict[str, Any]:
    kind = {"IMAGE": "image", "BINTABLE": "table"}.get(
        str(hdu.header.get("XTENSION", "")).strip(), "other"
    )
    told: dict[str, Any] = {
        "index": hdu.index,
        "extname": hdu.extname,
        "kind": kind,
        "shape": list(hdu.shape),
        "meaning": "not declared here",
        "keywords": _values(hdu, None),
        "used": [],
        "columns": [],
        "pixels": None,
        "note": "",
    }
    try:
        structure = structure_of(hdu.extname)
    except KeyError:
        return told
    if hdu.extname == CURVE:
        structure = replace(structure, columns=(*structure.columns, *OWN_COLUMNS))
    told |= {
        "meaning": structure.meaning or _meaning(structure),
        "keywords": _values(hdu, structure),
        "used": _used(hdu),
    }
    try:
        use = Use(structure, shape_matters=False, may_be_empty=True)
        with open_declared(
            file.path, Input(hdu.extname, (file.extname,), {hdu.extname: use}, "")
        ) as opened:
            here = opened[hdu.extname]
            if structure.is_table:
                told["columns"] = _columns(here, structure)
            else:
                told["pixels"] = _pixels(here)
    except BadInputError as error:
        told["note"] = str(error).removeprefix(f"{file.path}: ")
    return told


def _meaning(structure: Structure) -> str:
    level = {"L0.5": "raw telemetry", "L1": "images", "L2": "light curves", "REF": "reference"}.get(
        structure.level, structure.level
    )
    return f"defined by the SOC, level {structure.level} ({level})"


def _values(hdu: Hdu, structure: Structure | None) -> list[dict[str, Any]]:
    declared = structure.keywords if structure else {}
    return [
        {
            "name": k,
            "value": hdu.header[k],
            "unit": declared[k].unit if k in declared else "",
            "meaning": declared[k].meaning if k in declared else "",
        }
        for k in _KEY
        if k in hdu.header and not (k == "DATE" and hdu.header[k] == PUBLICATION["DATE"])
    ]


def _used(hdu: Hdu) -> list[dict[str, Any]]:
    return [
        {"name": k.name, "value": hdu.header[k.name], "unit": k.unit, "meaning": k.meaning}
        for k in USED.values()
        if k.name in hdu.header
    ]


def _columns(hdu: Hdu, structure: Structure) -> list[dict[str, Any]]:
    rows = []
    for column in structure.columns:
        if column.name not in hdu.present():
            continue
        values = hdu.column(column.name)
        told: dict[str, Any] = {
            "name": column.name,
            "unit": column.unit,
            "meaning": column.meaning,
            "format": column.tform,
        }
        if values.dtype.kind in "US":
            told |= (
                {"first": str(values.flat[0]), "last": str(values.flat[-1])} if values.size else {}
            )
        elif values.dtype.kind == "b":
            told |= {"values": int(values.size), "true": int(np.count_nonzero(values))}
        elif values.size:
            told |= sizes(values)
        rows.append(told)
    return rows


def _pixels(hdu: Hdu) -> dict[str, Any]:
    """Return numbers of an image or cube, read in blocks; the median is that of the middle
    plane.
    """
    if len(hdu.shape) == 2:
        return sizes(hdu.image())
    total = bad = 0
    least, largest = np.inf, -np.inf
    plane = abs(int(hdu.header["BITPIX"])) // 8 * int(np.prod(hdu.shape[1:]))
    for start, stop in blocks(hdu.rows, plane):
        pixels = hdu.image(start, stop)
        good = pixels[np.isfinite(pixels)]
        total, bad = total + pixels.size, bad + pixels.size - good.size
        if good.size:
            least, largest = min(least, float(good.min())), max(largest, float(good.max()))
    middle = sizes(hdu.image(hdu.rows // 2, hdu.rows // 2 + 1))
    numbers = (
        {} if bad == total else {"least": least, "median": middle.get("median"), "largest": largest}
    )
    return {"values": int(total), "not_numbers": int(bad), **numbers}
