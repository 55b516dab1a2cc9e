"""The raw products that hold images: sub-array with margins, imagettes, full frame. Cubes are
written image by image.

Exposures are co-added on board, image and margins alike. Margins are transmitted in one of three
forms: as images; reduced, where blank and overscan columns become mean, standard deviation, median
and median absolute deviation, and each row of dark columns mean, standard deviation and median; or
collapsed to four such numbers each.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from schemas.arrays import AnyArray, BoolArray, FloatArray
from tasks.simulation import files, layout
from tasks.simulation.camera import Exposure
from tasks.simulation.layout import Window
from tasks.simulation.plan import LEAD, Plan
from tasks.simulation.raw import (
    exposure_keywords,
    image_metadata,
    keywords,
    product_path,
    times,
    unstacked_metadata,
)
from tasks.simulation.spacecraft import Housekeeping

Form = tuple[
    FloatArray, str, tuple[str, ...]
]  # values, name of the process, names of its rows or columns

SIDES = {  # of the columns beside the exposed ones
    "BlankLeft": slice(4, 12),
    "BlankRight": slice(44, 52),
    "DarkLeft": slice(12, 28),
    "DarkRight": slice(28, 44),
    "OverscanLeft": slice(0, 4),
}
ORDER = (
    "BlankLeft",
    "BlankRight",
    "DarkLeft",
    "DarkRight",
    "DarkTop",
    "OverscanLeft",
    "OverscanTop",
)
UNSTACKED = 2 + len(ORDER)  # place of the table of single exposures in the file of the sub-array


class Cubes:
    """The files of the sub-array and the imagettes while the stacks come in."""

    def __init__(self, folder: Path, plan: Plan, window: Window) -> None:
        self.folder, self.plan, self.case = folder, plan, plan.case
        case = self.case
        self.mask = window_mask(
            case.height, case.width, min(case.height, case.width) / 2, case.shape
        )
        self.valid = float(plan.start[0]), plan.stop
        self.words = {
            **exposure_keywords(plan, plan.middle, case.nexp, plan.mode, plan.repetition),
            "X_WINOFF": window.left,
            "Y_WINOFF": window.bottom,
            "SHAPE": case.shape,
            "MRG_MODE": case.margins,
        }
        self.subarray = self._open_subarray()
        self.imagettes = self._open_imagettes() if case.imagettes else None

    def __enter__(self) -> Cubes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.subarray.update(UNSTACKED)
        for stream in (self.subarray, self.imagettes):
            if stream is not None:
                stream.__exit__(kind, error, trace)

    def add_stack(self, n: int, exposures: list[Exposure], damaged: bool) -> None:
        """Co-add the exposures of stack `n` and write it, its margins and its imagettes; a damaged
        one lacks a block.
        """
        image = np.rint(np.sum([exposure.image for exposure in exposures], axis=0))
        image[~self.mask] = 0
        if damaged:
            image[image.shape[0] // 3 : image.shape[0] // 2] = 0
        self.subarray.put(0, n, image)
        sides = np.rint(np.sum([exposure.sides for exposure in exposures], axis=0))
        top = np.rint(np.sum([exposure.top for exposure in exposures], axis=0))
        for index, (values, _, _) in enumerate(
            telemetry_form(self.case.margins, sides, top).values(), 1
        ):
            self.subarray.put(index, n, values)
        table = self.subarray.parts[UNSTACKED].data
        if table is not None:
            offsets = [exposure.sides[:, SIDES["OverscanLeft"]].mean() for exposure in exposures]
            table["BIAS"][n * self.case.nexp : (n + 1) * self.case.nexp] = offsets
        if self.imagettes is not None:
            count = self.case.nexp // self.case.imagette_nexp
            cuts = np.array([exposure.image[self.imagette_cut] for exposure in exposures])
            sums = np.rint(
                cuts.reshape(count, self.case.imagette_nexp, *cuts.shape[1:]).sum(axis=1)
            )
            for k, pixels in enumerate(sums):
                self.imagettes.put(0, n * count + k, np.where(self.imagette_mask, pixels, 0))

    def _open_subarray(self) -> files.Stream:
        case, plan = self.case, self.plan
        name = "SCI_RAW_SubArray"
        parts = [self._cube(name, (case.images, case.height, case.width), self.words)]
        rows, columns = layout.ROWS - layout.SIZE, layout.SIDES.size
        empty = telemetry_form(
            case.margins, np.zeros((case.height, columns)), np.zeros((rows, case.width))
        )
        for margin, (values, process, kinds) in empty.items():
            words = {
                **self.words,
                "MRG_PROC": process,
                **{f"MRG_DTY{i}": kind for i, kind in enumerate(kinds, 1)},
            }
            parts.append(self._cube(f"SCI_RAW_{margin}", (case.images, *values.shape), words))
        hk = plan.housekeeping.measured
        mean = {
            key: values.reshape(case.images, case.nexp).mean(axis=1) for key, values in hk.items()
        }
        counter = np.repeat(plan.counter, case.nexp)
        stacked = image_metadata(plan, plan.middle, plan.counter, mean, plan.mode)
        stacked["CE_INTEGRITY"] = plan.damaged.astype(int)
        single = unstacked_metadata(plan, plan.exposure_middle, counter, hk, plan.mode)
        parts.append(self._table("SCI_RAW_ImageMetadata", stacked, case.images, self.words))
        parts.append(
            self._table("SCI_RAW_UnstackedImageMetadata", single, counter.size, self.words)
        )
        return files.Stream(
            product_path(self.folder / "data", plan, name, float(plan.middle[0])), parts
        )

    def _open_imagettes(self) -> files.Stream:
        case, plan, size = self.case, self.plan, self.case.imagette_size
        self.imagette_mask = window_mask(size, size, size // 2, "circular")
        x, y = (
            int(np.clip(np.floor(place) - size // 2 - offset, 0, length - size))
            for place, offset, length in zip(
                case.place, (case.window_x, case.window_y), (case.width, case.height), strict=True
            )
        )
        self.imagette_cut = slice(y, y + size), slice(x, x + size)
        each = case.imagette_nexp
        middle = plan.exposure_middle.reshape(-1, each).mean(axis=1)
        words = {
            **self.words,
            **exposure_keywords(plan, middle, each, plan.mode, plan.repetition),
            "SHAPE": "circular",
            "CROPPING": "static window",
        }
        rows = middle.size
        columns = {
            **times(plan, middle),
            "CE_COUNTER": np.repeat(plan.counter, case.nexp // each),
            "IMAGETTES_COMPR": np.nan,
            "NEXP": each,
            "X_OFF_FULL_ARRAY": case.window_x + x,
            "Y_OFF_FULL_ARRAY": case.window_y + y,
            "X_OFF_SUB_ARRAY": x,
            "Y_OFF_SUB_ARRAY": y,
        }
        name = "SCI_RAW_Imagette"
        parts = [
            self._cube(name, (rows, size, size), words),
            self._table(f"{name}Metadata", columns, rows, words),
        ]
        return files.Stream(product_path(self.folder / "data", plan, name, float(middle[0])), parts)

    def _cube(self, extname: str, shape: tuple[int, ...], words: dict[str, Any]) -> files.Part:
        return files.cube(
            extname, keywords(self.plan, extname, *self.valid, words), shape, self.plan.date
        )

    def _table(
        self, extname: str, columns: dict[str, Any], rows: int, words: dict[str, Any]
    ) -> files.Part:
        return files.table(
            extname, keywords(self.plan, extname, *self.valid, words), columns, rows, self.plan.date
        )


def write_full_frame(
    folder: Path, plan: Plan, exposure: Exposure, housekeeping: Housekeeping
) -> None:
    """Write one exposure of the whole CCD, taken before the first stack, with all its margins."""
    case, mode = plan.case, layout.FULL_FRAME
    middle = np.array([LEAD + case.exptime / 2])
    repetition = max(case.exptime, layout.ROWS * layout.COLUMNS / mode.frequency)
    words = {
        **exposure_keywords(plan, middle, 1, mode, repetition),
        **{f"MRG_DTY{i}": "N/A" for i in range(1, 5)},
        "MRG_MODE": "image",
        "MRG_PROC": "image",
        "X_WINOFF": 0,
        "Y_WINOFF": 0,
    }
    valid, one = (LEAD, LEAD + case.exptime), np.ones(1, int)
    margins = telemetry_form("image", np.rint(exposure.sides), np.rint(exposure.top))
    images: dict[str, AnyArray] = {"FullArray": np.rint(exposure.image)}
    images |= {name: values[None] for name, (values, _, _) in margins.items()}
    hk = housekeeping.measured
    single = unstacked_metadata(plan, middle, one, hk, mode)
    single["BIAS"] = margins["OverscanLeft"][0].mean()
    tables = {
        "ImageMetadata": image_metadata(plan, middle, one, hk, mode),
        "UnstackedImageMetadata": single,
    }
    parts = []
    for name, pixels in images.items():
        extname = f"SCI_RAW_{name}"
        parts.append(
            files.image(extname, keywords(plan, extname, *valid, words), pixels, plan.date)
        )
    for name, columns in tables.items():
        extname = f"SCI_RAW_{name}"
        parts.append(
            files.table(extname, keywords(plan, extname, *valid, words), columns, 1, plan.date)
        )
    files.write(product_path(folder / "data", plan, "SCI_RAW_FullArray", float(middle[0])), parts)


def window_mask(height: int, width: int, radius: float, shape: str) -> BoolArray:
    """Return the pixels that are transmitted: all, or those whose index lies within `radius` of
    half the size.
    """
    y, x = np.ogrid[:height, :width]
    inside = (x - width // 2) ** 2 + (y - height // 2) ** 2 <= radius**2
    return inside if shape == "circular" else np.ones((height, width), bool)


def telemetry_form(mode: str, sides: FloatArray, top: FloatArray) -> dict[str, Form]:
    """Return each margin as it is transmitted, in the order of the file.

    Parameters
    ----------
    mode : str
        "image", "reduced" or "total collapsed".
    sides : ndarray, shape (ny, 52)
        Overscan, blank and dark columns left, dark and blank columns right [ADU].
    top : ndarray, shape (9, nx)
        Three dark and six overscan rows [ADU].

    Returns
    -------
    dict
        Values, name of the process, names of its rows or columns.
    """
    rows = {"DarkTop": top[:3], "OverscanTop": top[3:]}
    forms: dict[str, Form] = {}
    for name in ORDER:
        pixels = rows[name] if name in rows else sides[:, SIDES[name]]
        if mode == "image" or (mode == "reduced" and name in rows):
            forms[name] = pixels, "image", ("N/A",) * 4
        elif mode == "reduced" and name.startswith("Dark"):
            three = np.stack(
                [pixels.mean(axis=1), pixels.std(axis=1, ddof=1), np.median(pixels, axis=1)], axis=1
            )
            forms[name] = three, "row collapsed", ("mean", "stdev", "median", "N/A")
        else:
            middle = np.median(pixels)
            four = np.array(
                [pixels.mean(), pixels.std(ddof=1), middle, np.median(np.abs(pixels - middle))]
            )
            shape = (4, 1) if name in rows else (1, 4)
            forms[name] = four.reshape(shape), "total collapsed", ("mean", "stdev", "median", "mad")
    return forms
