"""Calibrated images of the mission's simulator against their truth, effect by effect, as a table.

``python -m tests.support.calibrated VISIT PUBLISHED`` prints it in Markdown: VISIT is the folder
with the raw products and `truth/`, PUBLISHED the folder of the reduced products.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from tasks.numerics.geometry import circle_sums

MAD = 1.4826

RADIUS, INNER, OUTER = 25.0, 45.0, 97.0

# levels in the simulator by read-out frequency [ADU]
BIAS, READ_OUT_NOISE = {100_000: 610.0, 230_000: 950.0}, {100_000: 3.55, 230_000: 7.2}

NEAR_A_STAR = 40.0  # hot pixels closer to the target are in its light [pixel]


class Row(NamedTuple):
    """One line of the table: error of the mean and scatter of the errors about it."""

    effect: str
    compared: str
    mean: float
    scatter: float
    unit: str


def only(folder: Path, name: str) -> Path:
    """Return the only file below a folder with a name."""
    (path,) = folder.rglob(f"*{name}*.fits")
    return path


def read(path: Path, hdu: int | str = 1) -> tuple[Any, Any]:
    """Return data and header of an HDU."""
    with fits.open(path, memmap=False) as hdus:
        return np.array(hdus[hdu].data), hdus[hdu].header


def scatter(values: Any) -> float:
    """Return the robust standard deviation."""
    return float(MAD * np.median(np.abs(values - np.median(values))))


class Visit:
    """Calibrated images of a visit, its terms and its truth."""

    def __init__(self, visit: Path, published: Path) -> None:
        self.cube, self.head = read(only(published, "SCI_CAL_SubArray"))
        self.truth, _ = read(only(visit / "truth", "SIM_TRU_SubArray"))
        self.terms = {
            s: read(published / "terms" / f"{s}.fits")
            for s in ("bias", "gain", "position", "quality")
        }
        self.good = (self.terms["quality"][0]["EVENT"] == 0) & (
            self.terms["quality"][0]["QUALITY"] == 0
        )
        position = self.terms["position"][0]
        self.x, self.y = (
            position["X"] - self.head["X_WINOFF"],
            position["Y"] - self.head["Y_WINOFF"],
        )
        y, x = np.mgrid[: self.cube.shape[1], : self.cube.shape[2]] + 0.5
        self.away = np.hypot(x - np.median(self.x), y - np.median(self.y))

    def rows(self) -> Iterator[Row]:
        """Yield the lines of the table."""
        frequency = int(self.head["RO_FREQU"])
        level = self.terms["bias"][0]["LEVEL"][self.good]
        yield Row(
            "bias",
            "level of an exposure",
            float(np.mean(level)) - BIAS[frequency],
            float(np.std(level)),
            "ADU",
        )
        noise = 100 * (self.head["RON_ADU"] / READ_OUT_NOISE[frequency] - 1)
        ron = 100 * self.terms["bias"][0]["RON"][self.good] / READ_OUT_NOISE[frequency]
        yield Row("read-out noise", "of an exposure", float(noise), float(np.std(ron)), "%")
        gain = 1e6 * (self.terms["gain"][0]["GAIN"] / self.truth["GAIN"] - 1)[self.good]
        yield Row("gain", "ADU/electron", float(np.mean(gain)), float(np.std(gain)), "ppm")
        yield from self._sky()
        yield from self._hot_pixels()
        yield from self._fluxes()

    def sky(self) -> tuple[Any, Any, Any]:
        """Return the level of the ring, its part due to the true sky [electron], and its pixels.

        The truth refers to light before the telescope, and the ring contains a halo of the star, so
        a straight line is fitted.
        """
        ring = (self.away > INNER) & (self.away < OUTER) & np.isfinite(self.cube[0])
        level = np.median(self.cube[:, ring], axis=1)
        true = self.truth["ZODIACAL_LIGHT"] + self.truth["STRAY_LIGHT"]
        line = (
            np.polyfit(true[self.good], level[self.good], 1)
            if np.ptp(true[self.good]) > 1
            else [0.0, np.median(level)]
        )
        return level, np.polyval(line, true), ring

    def _sky(self) -> Iterator[Row]:
        level, true, _ = self.sky()
        yield Row(
            "bias, dark",
            "ring of 45 to 97 pixels, per pixel",
            np.nan,
            float(np.std((level - true)[self.good])),
            "electron",
        )

    def _hot_pixels(self) -> Iterator[Row]:
        """Yield the charge of hot pixels that are not in the dark frame, over the true one."""
        left, charge, places = [], [], set()
        _, _, ring = self.sky()
        for i in np.flatnonzero(self.good):
            row, image = self.truth[i], self.cube[i]
            known = np.isfinite(image) & (self.away > NEAR_A_STAR)
            for x, y, n, kind in zip(
                *(row[f"HOT_{c}"] for c in ("XPIXEL", "YPIXEL", "NELECTRONS", "TYPE")), strict=True
            ):
                inside = 0 <= x < image.shape[1] and 0 <= y < image.shape[0]
                if kind == 0 and n > 0 and inside and known[y, x]:
                    left.append(image[y, x] - float(np.median(image[ring])))
                    charge.append(float(n))
                    places.add((int(x), int(y)))
        if left:
            share = 100 * (np.array(left) / np.array(charge) - 1)
            compared = f"{len(places)} hot pixels of {np.median(charge):.0f} electrons"
            yield Row("gain, linearity, flat", compared, *middle(share), "%")

    def _fluxes(self) -> Iterator[Row]:
        """Yield the scatter of the flux within 25 pixels over the truth.

        As calibrated, then with true cosmic rays, smearing and sky subtracted.
        """
        images = np.where(np.isfinite(self.cube), self.cube, 0.0)
        area = circle_sums(np.isfinite(self.cube).astype(float), self.x, self.y, RADIUS)
        light = self.truth["PSF_FLUX"][:, 0] * self.truth["GLOBAL_THROUGHPUT"]
        level, sky, _ = self.sky()
        smear = np.repeat(
            self.truth["SMEAR_ROW"][:, None, : images.shape[2]], images.shape[1], axis=1
        ).astype(float)
        hits = np.zeros_like(images)
        for i, row in enumerate(self.truth):
            for x, y, n in zip(
                *(row[f"COSMIC_{c}"] for c in ("XPIXEL", "YPIXEL", "NELECTRONS")), strict=True
            ):
                if 0 <= x < images.shape[2] and 0 <= y < images.shape[1] and n > 0:
                    hits[i, y, x] += n
        curves = {
            "level of the ring subtracted": (images, level),
            "true cosmic rays subtracted too": (images - hits, level),
            "true smearing subtracted too": (
                images - hits - smear,
                level - np.median(smear[:, 0], axis=1),
            ),
            "true sky instead of the ring": (
                images - hits - smear,
                sky - np.median(smear[:, 0], axis=1),
            ),
        }
        for name, (cube, background) in curves.items():
            ratio = ((circle_sums(cube, self.x, self.y, RADIUS) - area * background) / light)[
                self.good
            ]
            yield Row(
                "star",
                f"flux in 25 pixels: {name}",
                np.nan,
                1e6 * scatter(ratio / np.median(ratio)),
                "ppm",
            )
        floor = 1e6 / np.sqrt(np.median(light[self.good]))
        yield Row("star", "photon noise of the star alone", np.nan, float(floor), "ppm")


def middle(values: Any) -> tuple[float, float]:
    """Return median and robust scatter."""
    return float(np.median(values)), scatter(values)


def main(visit: str, published: str) -> None:
    """Print the table."""
    print("| effect | compared | mean error | scatter | unit |\n| --- | --- | --- | --- | --- |")
    for row in Visit(Path(visit), Path(published)).rows():
        mean = f"{row.mean:.2g}" if np.isfinite(row.mean) else "—"
        print(f"| {row.effect} | {row.compared} | {mean} | {row.scatter:.3g} | {row.unit} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
