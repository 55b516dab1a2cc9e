"""The calibrating pass against its floor: reading the raw words, converting them and writing the
same float64 product.

Digests and the step machine are left out on both sides. Run: python -m benchmarks.passes
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
from tasks.visit.raw import open_exposures
from tasks.visit.terms import Curve

IMAGES, ROUNDS = 300, 5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        simulate_into(root / "visit", "tiny", IMAGES, 1, None)
        found = take_inventory(
            root / "visit",
            [],
            PipelineSettings(),
            lambda v: Workspace(root / "work", v).digests,
            library_folder,
        )
        with open_exposures(found.subarray) as raw:
            ny, nx = raw.shape
            declared = soc_structure("SCI_CAL_SubArray")
            keywords = {**visit_keywords(raw, declared), "BUNIT": "electrons"}
            zero, image = np.zeros(raw.count, np.int64), np.full((ny, nx), 0.1)
            numbers = [np.full(raw.count, v) for v in (3.0, 3.0, 610.0, 0.511, 1.0)]
            images = PerImage(*numbers, zero, zero)
            response = Response(image, image, image)
            curve = Curve(np.arange(7) * 2e4, np.tile([0.0, 1.0, 1e-8, 0.0], (7, 1)))
            motion = offsets_of(*np.random.default_rng(1).normal(0, 0.5, (2, raw.count, 3)))
            core = np.full((raw.count, 0, 0), np.nan)

            def convert(words: np.ndarray, _a: int, _b: int, out: np.ndarray) -> int | None:
                out[:] = words.byteswap() ^ np.uint32(1 << 31)
                out.byteswap(inplace=True)
                return 0

            def calibrate(words: np.ndarray, a: int, b: int, out: np.ndarray) -> int | None:
                block = BlockMotion(motion[a:b], core[a:b], (0, 0))
                calibrate_images(words, images.block(a, b), response, curve, block, out)
                return int(to_big_endian(out.view(np.uint64)))

            def write(
                make: Callable[[np.ndarray, int, int, np.ndarray], int | None], name: str
            ) -> float:
                started = time.perf_counter()
                with FitsWriter(root / f"{name}.fits") as writer:
                    writer.begin_cube(NewHdu(declared, keywords, shape=(raw.count, ny, nx)))
                    for a, b in blocks(raw.count, ny * nx * 8):
                        out = np.empty((b - a, ny, nx))
                        total = make(raw.words(a, b), a, b, out)
                        writer.write_block(out.data.cast("B"), total)
                    writer.end_cube()
                return time.perf_counter() - started

            times: dict[str, list[float]] = {"floor": [], "pass": []}
            write(calibrate, "warm")
            for _ in range(ROUNDS):
                times["floor"].append(write(convert, "floor"))
                times["pass"].append(write(calibrate, "pass"))
    floor, calibrated = (min(times[k]) / IMAGES * 1e3 for k in ("floor", "pass"))
    print(
        f"floor {floor:.3f} ms an image, pass {calibrated:.3f} ms an image, ratio "
        f"{calibrated / floor:.2f}"
    )


if __name__ == "__main__":
    main()
