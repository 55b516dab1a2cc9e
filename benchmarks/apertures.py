"""Speed of the aperture kernel, relative to photutils and to a plain copy of the image.

These ratios hold on any machine. Run: python -m benchmarks.apertures; it uses one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
from photutils.aperture import CircularAperture

from tasks.photometry.apertures import aperture_sums

RADII = np.arange(12.0, 42.0)
IMAGES = 500


def best_time(work: Callable[[], object], images: int, rounds: int = 5) -> float:
    """Return the shortest time of `work` per image [ms], after a first round that may compile."""
    work()
    times = []
    for _ in range(rounds):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return 1e3 * min(times) / images


def main() -> None:
    """Print the times and their ratios."""
    rng = np.random.default_rng(1)
    double = rng.normal(1e4, 100.0, (IMAGES, 200, 200))
    single = double.astype(np.float32)
    gaps = double.copy()
    gaps[:, 95, 95] = np.nan
    x, y = rng.normal(100.0, 0.3, (2, IMAGES))
    target = np.empty_like(double)

    def photutils() -> None:
        for image, centre in zip(double[:5], np.stack([x, y], axis=1), strict=False):
            for radius in RADII:
                CircularAperture(centre - 0.5, radius).do_photometry(image, method="exact")

    copy = best_time(lambda: np.copyto(target, double), IMAGES)
    oracle = best_time(photutils, 5, rounds=2)
    print(f"{len(RADII)} radii, 200 x 200 pixels, {IMAGES} images")
    print(f"{'':24} {'ms per image':>12} {'copies':>8} {'photutils / this':>18}")
    print(f"{'copy, float64':24} {copy:12.4f} {1:8.1f}")
    print(f"{'photutils, exact':24} {oracle:12.4f} {oracle / copy:8.1f} {1:18.1f}")
    for name, images in (("float64", double), ("float32", single), ("float64 with a NaN", gaps)):
        ours = best_time(lambda images=images: aperture_sums(images, x, y, RADII), IMAGES)  # type: ignore[misc]
        print(
            f"{'aperture_sums, ' + name:24} {ours:12.4f} {ours / copy:8.1f} {oracle / ours:18.1f}"
        )


if __name__ == "__main__":
    main()
