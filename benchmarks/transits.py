"""What the detrended companion does to transits and to noise, in simulated visits.

Run: python -m benchmarks.transits [--transits 500] PUBLISHED=VISIT ..., with published folders and
the simulated visits they come from. Transits of 300 to 5000 ppm and 1 to 3 h are put into FLUX, the
companion is made anew, and their depth is measured with a straight line, as from FLUX. Prints for
each case: the scatter of the detrended flux over the truth relative to that of FLUX; the mean bias
of the depth due to the transit, which is the difference from a fit that cannot see it (in units of
the error of the depth, and at 5000 ppm in percent); and the rms error of the depth from FLUX, from
the companion, and from the companion with the time of the transit given. Results:
docs/validation.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits

from schemas.arrays import AnyArray, BoolArray, FloatArray
from tasks.delivery.detrended import detrended

DEPTHS = (300e-6, 500e-6, 1e-3, 2e-3, 5e-3)
LENGTHS = (1.0, 3.0)  # shortest and longest [h]
MARGIN = 0.05  # of a given transit, on either side [h]
NEEDED = ("FLUX", "BJD_TIME", "EVENT", "QUALITY", "ROLL_ANGLE", "BACKGROUND", "CENTROID_X")
NEEDED += ("CENTROID_Y", "SMEARING_LC", "CONTA_LC")
HEAD = "case, visits: transits | noise | bias [errors] | at 5000 ppm [%] | rms FLUX, blind, given"


class Observed(NamedTuple):
    """A light curve with its truth."""

    case: str
    columns: dict[str, AnyArray]
    temperature: FloatArray
    star: FloatArray  # true light of the star without its transit, relative; shape (n,)
    target: FloatArray  # true electrons, shape (n,)

    @property
    def good(self) -> BoolArray:
        """Unflagged points with a flux."""
        flags = (self.columns["EVENT"] == 0) & (self.columns["QUALITY"] == 0)
        return np.asarray(flags & np.isfinite(self.columns["FLUX"]) & (self.target > 0))

    @property
    def hours(self) -> FloatArray:
        """Times since the first point [h]."""
        return np.asarray(24.0 * (self.columns["BJD_TIME"] - self.columns["BJD_TIME"][0]))


class Injected(NamedTuple):
    """The measured depth of one transit minus the true one, in each way, and its error."""

    depth: float
    error: float
    flux: float
    blind: float
    given: float
    bias: float  # due to the transit itself


def read_observed(published: Path, visit: Path, name: str) -> Observed:
    """Read a published light curve and the truth of its simulated visit."""
    curve = only(published, f"*SCI_COR_Lightcurve-{name}_V*.fits")
    columns = {c: native(curve[1].data[c]) for c in NEEDED}
    metadata = only(published, "*SCI_COR_SubArray_V*.fits")["SCI_COR_ImageMetadata"].data
    stacks = fits.open(visit / "truth" / "truth.fits")["TRUTH_STACKS"].data
    case = json.loads((visit / "truth" / "case.json").read_text(encoding="utf-8"))
    label = f"G = {case['magnitude']:g}, {len(stacks)} images, tilt {case['tilt']:g}"
    return Observed(
        label,
        columns,
        native(metadata["thermFront_2"]),
        native(stacks["FLUX"]),
        native(stacks["TARGET"]),
    )


def only(folder: Path, pattern: str) -> fits.HDUList:
    """Open the only file of a pattern."""
    (path,) = folder.glob(pattern)
    return fits.open(path)


def native(values: AnyArray) -> AnyArray:
    """Return a column in the machine's byte order; floats as double."""
    array = np.asarray(values)
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def companion(
    seen: Observed, flux: FloatArray, transits: Sequence[tuple[float, float]] = ()
) -> FloatArray:
    """Return the detrended flux for another flux."""
    made, _ = detrended({**seen.columns, "FLUX": flux}, seen.temperature, transits)
    return np.asarray(made["FLUX_DETRENDED"])


def noise_ratio(seen: Observed) -> float:
    """Return the scatter of the detrended flux over the truth, relative to that of FLUX."""
    flux = seen.columns["FLUX"]
    pairs = np.stack([companion(seen, flux), flux])[:, seen.good] / seen.target[seen.good]
    away = pairs / np.median(pairs, axis=1, keepdims=True) - 1.0
    near = (np.abs(away) < 5.0 * 1.4826 * np.median(np.abs(away), axis=1)[:, None]).all(axis=0)
    detrended_one, plain = away[:, near].std(axis=1)
    return float(detrended_one / plain)


def transit(hours: FloatArray, middle: float, length: float) -> FloatArray:
    """Return a limb-darkened transit of depth 1 at its middle, shape (n,)."""
    out = np.minimum(np.abs(hours - middle) / (length / 2), 1.0)
    return np.asarray(
        np.clip((1.0 - out) / 0.15, 0.0, 1.0) * (1.0 - 0.15 * np.minimum(out, 1) ** 2)
    )


def depth(seen: Observed, flux: FloatArray, shape: FloatArray) -> tuple[float, float]:
    """Return the depth of a transit of known shape, fitted with a straight line, and its error."""
    good, hours = seen.good, seen.hours
    design = np.stack([np.ones(good.sum()), hours[good] - hours[good].mean(), -shape[good]], axis=1)
    values = flux[good] / np.median(flux[good])
    kept = np.ones(len(values), dtype=np.bool_)
    for _ in range(2):
        fit = np.linalg.lstsq(design[kept], values[kept], rcond=None)[0]
        away = np.abs(values - design @ fit)
        kept = away < 5.0 * 1.4826 * np.median(away)
    covariance = np.linalg.inv(design[kept].T @ design[kept]) * np.mean(away[kept] ** 2)
    return float(fit[2] / fit[0]), float(np.sqrt(covariance[2, 2]) / fit[0])


def inject(seen: Observed, size: float, rng: np.random.Generator) -> Injected | None:
    """Inject a transit at random; None if too little of it, or of what surrounds it, is seen."""
    hours, good = seen.hours, seen.good
    length = float(rng.uniform(*LENGTHS))
    first, last = hours[good][[0, -1]]
    middle = float(rng.uniform(first + 0.2 * length, last - 0.2 * length))
    shape = transit(hours, middle, length)
    if (shape[good] > 0.5).sum() < 8 or (shape[good] == 0).sum() < 30:
        return None
    start = float(np.nanmin(seen.columns["BJD_TIME"]))
    time = [(start + middle / 24.0, length + 2 * MARGIN)]
    quiet = seen.columns["FLUX"] / seen.star
    flux = quiet * (1.0 - size * shape)
    blind, error = depth(seen, companion(seen, flux), shape)
    given, _ = depth(seen, companion(seen, flux, time), shape)
    without, _ = depth(seen, companion(seen, quiet, time), shape)
    plain, _ = depth(seen, flux, shape)
    return Injected(size, error, plain - size, blind - size, given - size, blind - size - without)


def inject_many(visits: Sequence[Observed], count: int) -> list[Injected]:
    """Inject so many transits into the visits of a case, of all depths in turn."""
    rng = np.random.default_rng(1)
    found: list[Injected] = []
    for k in range(20 * count):  # some are not seen
        if len(found) == count:
            break
        one = inject(visits[k % len(visits)], DEPTHS[len(found) % len(DEPTHS)], rng)
        found += [one] if one is not None else []
    return found


def line(case: str, visits: Sequence[Observed], found: Sequence[Injected]) -> str:
    """Return the results of a case in a line."""
    ratio = max(noise_ratio(seen) for seen in visits)
    if not found:
        return f"{case}, {len(visits)}: shorter than 3 h | {ratio:.3f}"
    table = np.array(found)
    size, error = table[:, 0], table[:, 1]
    bias = table[:, 5] / error
    deep = size == max(DEPTHS)
    rms = 1e6 * np.sqrt(np.mean(table[:, 2:5] ** 2, axis=0))
    return (
        f"{case}, {len(visits)}: {len(found)} | {ratio:.3f} | {bias.mean():+.2f} | "
        f"{100 * np.mean(table[deep, 5] / size[deep]):+.2f} | "
        f"{rms[0]:.0f}, {rms[1]:.0f}, {rms[2]:.0f} ppm"
    )


def report(cases: Mapping[str, Sequence[Observed]], count: int) -> None:
    """Print the results of all cases, and those of all transits by depth."""
    print(HEAD)
    everything: list[Injected] = []
    for case, visits in cases.items():
        long = [seen for seen in visits if np.ptp(seen.hours[seen.good]) > 3.0]
        found = inject_many(long, count) if long else []
        everything += found
        print(line(case, visits, found), flush=True)
    for size in DEPTHS:
        of = np.array([one for one in everything if one.depth == size])
        if len(of):
            mean, share = np.mean(of[:, 5] / of[:, 1]), 100 * np.mean(of[:, 5]) / size
            print(f"{1e6 * size:.0f} ppm: {len(of)}, bias {mean:+.2f} errors, {share:+.2f} %")


def main(arguments: list[str]) -> None:
    """Read the visits named on the command line and print the results."""
    count = 500
    if arguments[:1] == ["--transits"]:
        count, arguments = int(arguments[1]), arguments[2:]
    cases: dict[str, list[Observed]] = {}
    for argument in arguments:
        published, _, visit = argument.partition("=")
        seen = read_observed(Path(published), Path(visit), "OPTIMAL")
        cases.setdefault(seen.case, []).append(seen)
    report(cases, count)


if __name__ == "__main__":
    main(sys.argv[1:])
