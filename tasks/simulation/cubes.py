"""The raw products that hold images: sub-array with margins, imagettes, full frame.

Cubes are written image by image. Exposures are co-added on board, image and margins alike. Margins
are transmitted in one of three forms: as images; reduced, where blank and overscan columns become
mean, standard deviation, median and median absolute deviation, and each row of dark columns mean,
standard deviation and median; or collapsed to four such numbers each.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from schemas.arrays import AnyArray, BoolArray, FloatArray
from tasks.simulation import files, layout
from tasks.simulation.camera import Exposure
from tasks.simulation.layout import Window
from tasks.simulation.plan import LEAD, Plan
from tasks.simulation.raw import (
    Columns,
    exposure_keywords,
    image_metadata,
    keywords,
    product_path,
    times,
    unstacked_metadata,
)
from tasks.simulation.spacecraft import Housekeeping


class Form(NamedTuple):
    """A margin as it is transmitted."""

    values: FloatArray
    process: str
    kinds: tuple[str, ...]  # of its rows or columns


SIDES = {  # margins in the columns beside the exposed ones
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
UNSTACKED = 2 + len(ORDER)  # index of the table of single exposures in the sub-array's file


class Cubes:
    """The files of the sub-array and of the imagettes, filled stack by stack."""

    def __init__(self, folder: Path, plan: Plan, window: Window) -> None:
        self.folder, self.plan, self.case = folder, plan, plan.case
        case = self.case
        self.mask = window_mask(
            case.height, case.width, min(case.height, case.width) / 2, case.shape
        )
        self.words = {
            **exposure_keywords(plan, plan.middle, case.nexp, plan.mode, plan.repetition),
            "X_WINOFF": window.left,
            "Y_WINOFF": window.bottom,
            "SHAPE": case.shape,
            "MRG_MODE": case.margins,
        }
        self.subarray = self._open_subarray()
        self.imagettes = Imagettes(folder, plan, self.words) if case.imagettes else None

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
        imagettes = self.imagettes.stream if self.imagettes is not None else None
        for stream in (self.subarray, imagettes):
            if stream is not None:
                stream.__exit__(kind, error, trace)

    def add_stack(self, n: int, exposures: list[Exposure], damaged: bool) -> None:
        """Co-add the exposures of stack `n` and write image, margins and imagettes.

        The image of a damaged stack has a block of zeros.
        """
        image = np.rint(np.sum([exposure.image for exposure in exposures], axis=0))
        image[~self.mask] = 0
        if damaged:
            image[image.shape[0] // 3 : image.shape[0] // 2] = 0
        self.subarray.put(0, n, image)
        sides = np.rint(np.sum([exposure.sides for exposure in exposures], axis=0))
        top = np.rint(np.sum([exposure.top for exposure in exposures], axis=0))
        for index, form in enumerate(telemetry_form(self.case.margins, sides, top).values(), 1):
            self.subarray.put(index, n, form.values)
        table = self.subarray.parts[UNSTACKED].data
        if table is not None:
            offsets = [exposure.sides[:, SIDES["OverscanLeft"]].mean() for exposure in exposures]
            table["BIAS"][n * self.case.nexp : (n + 1) * self.case.nexp] = offsets
        if self.imagettes is not None:
            self.imagettes.add_stack(n, exposures)

    def _open_subarray(self) -> files.Stream:
        case, plan = self.case, self.plan
        name = "SCI_RAW_SubArray"
        path = product_path(self.folder / "data", plan, name, float(plan.middle[0]))
        image = _cube(plan, name, (case.images, case.height, case.width), self.words)
        return files.Stream(path, [image, *self._margins(), *self._metadata()])

    def _margins(self) -> list[files.Part]:
        case = self.case
        rows, columns = layout.ROWS - layout.SIZE, layout.SIDES.size
        empty = telemetry_form(
            case.margins, np.zeros((case.height, columns)), np.zeros((rows, case.width))
        )
        parts = []
        for margin, form in empty.items():
            words = {
                **self.words,
                "MRG_PROC": form.process,
                **{f"MRG_DTY{i}": kind for i, kind in enumerate(form.kinds, 1)},
            }
            shape = (case.images, *form.values.shape)
            parts.append(_cube(self.plan, f"SCI_RAW_{margin}", shape, words))
        return parts

    def _metadata(self) -> list[files.Part]:
        case, plan = self.case, self.plan
        hk = plan.housekeeping.measured
        mean = {
            key: values.reshape(case.images, case.nexp).mean(axis=1) for key, values in hk.items()
        }
        counter = np.repeat(plan.counter, case.nexp)
        stacked = image_metadata(plan, plan.middle, plan.counter, mean, plan.mode)
        stacked["CE_INTEGRITY"] = plan.damaged.astype(int)
        single = unstacked_metadata(plan, plan.exposure_middle, counter, hk, plan.mode)
        return [
            _table(plan, "SCI_RAW_ImageMetadata", stacked, self.words),
            _table(plan, "SCI_RAW_UnstackedImageMetadata", single, self.words),
        ]


class Imagettes:
    """The file of the imagettes, filled stack by stack."""

    def __init__(self, folder: Path, plan: Plan, words: Columns) -> None:
        case, size = plan.case, plan.case.imagette_size
        self.case = case
        self.mask = window_mask(size, size, size // 2, "circular")
        x, y = (
            int(np.clip(np.floor(place) - size // 2 - offset, 0, length - size))
            for place, offset, length in zip(
                case.place, (case.window_x, case.window_y), (case.width, case.height), strict=True
            )
        )
        self.cut = slice(y, y + size), slice(x, x + size)
        middle = plan.exposure_middle.reshape(-1, case.imagette_nexp).mean(axis=1)
        words = {
            **words,
            **exposure_keywords(plan, middle, case.imagette_nexp, plan.mode, plan.repetition),
            "SHAPE": "circular",
            "CROPPING": "static window",
        }
        columns = {
            **times(plan, middle),
            "CE_COUNTER": np.repeat(plan.counter, case.nexp // case.imagette_nexp),
            "IMAGETTES_COMPR": np.nan,
            "NEXP": case.imagette_nexp,
            "X_OFF_FULL_ARRAY": case.window_x + x,
            "Y_OFF_FULL_ARRAY": case.window_y + y,
            "X_OFF_SUB_ARRAY": x,
            "Y_OFF_SUB_ARRAY": y,
        }
        name = "SCI_RAW_Imagette"
        self.stream = files.Stream(
            product_path(folder / "data", plan, name, float(middle[0])),
            [
                _cube(plan, name, (middle.size, size, size), words),
                _table(plan, f"{name}Metadata", columns, words),
            ],
        )

    def add_stack(self, n: int, exposures: list[Exposure]) -> None:
        """Cut the imagettes out of the exposures of stack `n`, co-add and write them."""
        count = self.case.nexp // self.case.imagette_nexp
        cuts = np.array([exposure.image[self.cut] for exposure in exposures])
        sums = np.rint(cuts.reshape(count, self.case.imagette_nexp, *cuts.shape[1:]).sum(axis=1))
        for k, pixels in enumerate(sums):
            self.stream.put(0, n * count + k, np.where(self.mask, pixels, 0))


def _cube(plan: Plan, extname: str, shape: tuple[int, ...], words: Columns) -> files.Part:
    values = keywords(plan, extname, float(plan.start[0]), plan.stop, words)
    return files.cube(extname, values, shape, plan.date)


def _table(plan: Plan, extname: str, columns: Columns, words: Columns) -> files.Part:
    values = keywords(plan, extname, float(plan.start[0]), plan.stop, words)
    return files.table(extname, values, columns, len(columns["CE_COUNTER"]), plan.date)


def write_full_frame(
    folder: Path, plan: Plan, exposure: Exposure, housekeeping: Housekeeping
) -> None:
    """Write one exposure of the whole CCD, taken before the first stack, with all its margins."""
    case = plan.case
    middle, one = np.array([LEAD + case.exptime / 2]), np.ones(1, int)
    margins = telemetry_form("image", np.rint(exposure.sides), np.rint(exposure.top))
    images: dict[str, AnyArray] = {"FullArray": np.rint(exposure.image)}
    images |= {name: form.values[None] for name, form in margins.items()}
    hk = housekeeping.measured
    single = unstacked_metadata(plan, middle, one, hk, layout.FULL_FRAME)
    single["BIAS"] = margins["OverscanLeft"].values.mean()
    tables = {
        "ImageMetadata": image_metadata(plan, middle, one, hk, layout.FULL_FRAME),
        "UnstackedImageMetadata": single,
    }
    words = _full_frame_keywords(plan, middle)

    def declared(extname: str) -> Columns:
        return keywords(plan, extname, LEAD, LEAD + case.exptime, words)

    parts = [
        files.image(f"SCI_RAW_{name}", declared(f"SCI_RAW_{name}"), pixels, plan.date)
        for name, pixels in images.items()
    ]
    parts += [
        files.table(f"SCI_RAW_{name}", declared(f"SCI_RAW_{name}"), columns, 1, plan.date)
        for name, columns in tables.items()
    ]
    files.write(product_path(folder / "data", plan, "SCI_RAW_FullArray", float(middle[0])), parts)


def _full_frame_keywords(plan: Plan, middle: FloatArray) -> Columns:
    mode = layout.FULL_FRAME
    repetition = max(plan.case.exptime, layout.ROWS * layout.COLUMNS / mode.frequency)
    return {
        **exposure_keywords(plan, middle, 1, mode, repetition),
        **{f"MRG_DTY{i}": "N/A" for i in range(1, 5)},
        "MRG_MODE": "image",
        "MRG_PROC": "image",
        "X_WINOFF": 0,
        "Y_WINOFF": 0,
    }


def window_mask(height: int, width: int, radius: float, shape: str) -> BoolArray:
    """Return the pixels that are transmitted, shape (height, width).

    All of them in a rectangular window, in a circular one those within `radius` of its centre.
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
    """
    rows = {"DarkTop": top[:3], "OverscanTop": top[3:]}
    forms: dict[str, Form] = {}
    for name in ORDER:
        pixels = rows[name] if name in rows else sides[:, SIDES[name]]
        if mode == "image" or (mode == "reduced" and name in rows):
            forms[name] = Form(pixels, "image", ("N/A",) * 4)
        elif mode == "reduced" and name.startswith("Dark"):
            forms[name] = _collapse_rows(pixels)
        else:
            forms[name] = _collapse(pixels, (4, 1) if name in rows else (1, 4))
    return forms


def _collapse_rows(pixels: FloatArray) -> Form:
    numbers = [pixels.mean(axis=1), pixels.std(axis=1, ddof=1), np.median(pixels, axis=1)]
    return Form(np.stack(numbers, axis=1), "row collapsed", ("mean", "stdev", "median", "N/A"))


def _collapse(pixels: FloatArray, shape: tuple[int, int]) -> Form:
    middle = np.median(pixels)
    numbers = [pixels.mean(), pixels.std(ddof=1), middle, np.median(np.abs(pixels - middle))]
    values = np.array(numbers).reshape(shape)
    return Form(values, "total collapsed", ("mean", "stdev", "median", "mad"))
