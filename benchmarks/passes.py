"""The calibrating pass against its floor: read raw words, convert them, write the product.

Digests and the step machine are excluded on both sides. Run: python -m benchmarks.passes
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flows.simulate import simulate_into
from reference_data.library import library_folder
from schemas.products import soc_structure
from schemas.settings import PipelineSettings
from tasks.calibration.apply import calibrate_images
from tasks.calibration.detector import PerImage, Response
from tasks.calibration.motion import BlockMotion
from tasks.calibration.spread import offsets_of
from tasks.engine.store import Workspace
from tasks.files.byte_order import to_big_endian
from tasks.files.reader import blocks
from tasks.files.writer import FitsWriter, NewHdu
from tasks.visit.headers import visit_keywords
from tasks.visit.inventory import take_inventory
from tasks.visit.raw import Exposures, open_exposures
from tasks.visit.terms import Curve

IMAGES, ROUNDS = 300, 5

Pass = Callable[[np.ndarray, int, int, np.ndarray], int | None]  # words, first, stop, out


def convert(words: np.ndarray, _first: int, _stop: int, out: np.ndarray) -> int | None:
    """Convert a block of raw words to float64, the floor of any pass."""
    out[:] = words.byteswap() ^ np.uint32(1 << 31)
    out.byteswap(inplace=True)
    return 0


def calibrating_pass(raw: Exposures) -> Pass:
    """Return the calibration of a block of images, with terms of the usual size."""
    zero, image = np.zeros(raw.count, np.int64), np.full(raw.shape, 0.1)
    numbers = [np.full(raw.count, v) for v in (3.0, 3.0, 610.0, 0.511, 1.0)]
    images = PerImage(*numbers, zero, zero)
    response = Response(image, image, image)
    curve = Curve(np.arange(7) * 2e4, np.tile([0.0, 1.0, 1e-8, 0.0], (7, 1)))
    motion = offsets_of(*np.random.default_rng(1).normal(0, 0.5, (2, raw.count, 3)))
    core = np.full((raw.count, 0, 0), np.nan)

    def calibrate(words: np.ndarray, first: int, stop: int, out: np.ndarray) -> int | None:
        block = BlockMotion(motion[first:stop], core[first:stop], (0, 0))
        calibrate_images(words, images.block(first, stop), response, curve, block, out)
        return int(to_big_endian(out.view(np.uint64)))

    return calibrate


def time_pass(raw: Exposures, work: Pass, path: Path) -> float:
    """Return the seconds of reading all images, processing them and writing a product."""
    ny, nx = raw.shape
    declared = soc_structure("SCI_CAL_SubArray")
    keywords = {**visit_keywords(raw, declared), "BUNIT": "electrons"}
    started = time.perf_counter()
    with FitsWriter(path) as writer:
        writer.begin_cube(NewHdu(declared, keywords, shape=(raw.count, ny, nx)))
        for first, stop in blocks(raw.count, ny * nx * 8):
            out = np.empty((stop - first, ny, nx))
            total = work(raw.words(first, stop), first, stop, out)
            writer.write_block(out.data.cast("B"), total)
        writer.end_cube()
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        simulate_into(root / "visit", "tiny", IMAGES, 1, None)
        inventory = take_inventory(
            root / "visit",
            [],
            PipelineSettings(),
            lambda v: Workspace(root / "work", v).digests,
            library_folder,
        )
        with open_exposures(inventory.subarray) as raw:
            calibrate = calibrating_pass(raw)
            time_pass(raw, calibrate, root / "warm.fits")  # compiles kernels
            floors, passes = [], []
            for _ in range(ROUNDS):
                floors.append(time_pass(raw, convert, root / "floor.fits"))
                passes.append(time_pass(raw, calibrate, root / "pass.fits"))
    floor, calibrated = (min(times) / IMAGES * 1e3 for times in (floors, passes))
    print(
        f"floor {floor:.3f} ms per image, pass {calibrated:.3f} ms per image, ratio "
        f"{calibrated / floor:.2f}"
    )


if __name__ == "__main__":
    main()
