"""Pictures of README and start page, from the demo: ``python -m docs.pictures DEMO FOLDER``.

They are checked in, so that a reader of the repository sees them. `make docs` draws them again if
the demo was reduced (`make demo`) and the two programs are there: pdftoppm for the report, Chromium
for the viewer.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from pathlib import Path

from docs.figures import drawing  # noqa: F401  (fonts and colours)
from docs.figures.drawing import BLUE, GREY, RED
from tasks.engine.child import handed_over, start_python

LARGEST = 200_000  # bytes of a picture

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")

# a page is drawn at this size and then reduced
REPORT_DPI = 100
VIEWER_SIZE = (1180, 1010)


def main() -> int:
    """Draw the pictures; return the exit code."""
    demo, folder = Path(sys.argv[1]), Path(sys.argv[2])
    published = demo / "latest"
    if not published.is_dir():
        print(f"{folder}: as checked in; `make demo docs` draws its pictures again")
        return 0
    folder.mkdir(exist_ok=True)
    draw_light_curve(published.resolve(), folder / "light_curve.png")
    draw_report(published.resolve(), folder / "report.png")
    for name, dark in (("viewer", False), ("viewer_dark", True)):
        draw_viewer(published.resolve(), folder / f"{name}.png", dark)
    return 0


def draw_light_curve(published: Path, path: Path) -> None:
    """Draw the transit with its noise."""
    import numpy as np
    from astropy.io import fits
    from matplotlib.figure import Figure

    (file,) = published.glob("*Lightcurve-OPTIMAL*")
    curve = fits.getdata(file, 1)
    good = (curve["EVENT"] == 0) & (curve["QUALITY"] == 0)
    hours = np.asarray(curve["BJD_TIME"] - curve["BJD_TIME"][0]) * 24
    # about the light outside of the transit, the brighter half
    top = np.median(np.sort(curve["FLUX"][good])[good.sum() // 2 :])
    flux = 1e6 * (np.asarray(curve["FLUX"]) / top - 1)
    error = 1e6 * float(np.median(curve["FLUXERR"][good])) / top
    edges = np.arange(0.0, hours.max() + 0.25, 0.25)
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axis = figure.subplots()
    axis.plot(hours[good], flux[good], ".", color=BLUE, ms=4, alpha=0.5, label="one minute each")
    for left, right in itertools.pairwise(edges):
        within = good & (hours >= left) & (hours < right)
        if within.sum() >= 5:
            mean, bar = flux[within].mean(), error / np.sqrt(within.sum())
            axis.errorbar((left + right) / 2, mean, bar, fmt="o", color=RED, ms=4, lw=1.2)
    axis.plot([], [], "o", color=RED, label="a quarter of an hour, with error")
    axis.axhline(0, color=GREY, lw=0.6)
    axis.set(xlabel="time [h]", ylabel="flux [ppm]")
    axis.set_title(f"light curve OPTIMAL of a simulated star, G = 9: {error:.0f} ppm in a minute")
    axis.set_ylim(axis.get_ylim()[0] - 350, None)
    axis.legend(loc="lower right", ncols=2)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    shrink(path)


def draw_report(published: Path, path: Path) -> None:
    """Draw the first page of the report."""
    program = shutil.which("pdftoppm")
    if program is None:
        print(f"{path}: as checked in, since pdftoppm (poppler-utils) is missing")
        return
    (report,) = published.glob("*_RPT_*.pdf")
    page = [program, "-r", str(REPORT_DPI), "-f", "1", "-l", "1", "-png", "-singlefile"]
    run(*page, str(report), str(path.with_suffix("")))
    shrink(path)


def draw_viewer(published: Path, path: Path, dark: bool) -> None:
    """Draw the viewer as a browser shows it."""
    browser = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if browser is None:
        print(f"{path}: as checked in, since Chromium is missing")
        return
    (page,) = published.glob("*_RPT_*.html")
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += ["--blink-settings=preferredColorScheme=0"] if dark else []
        width, height = VIEWER_SIZE
        options += [f"--window-size={width},{height}", "--virtual-time-budget=4000"]
        options += [f"--user-data-dir={profile}", f"--screenshot={path.resolve()}"]
        run(browser, *options, page.as_uri())
    shrink(path)


def run(*command: str) -> None:
    """Run a program to its end.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    if code := start_python(handed_over(*command)).wait(timeout=300):
        raise RuntimeError(f"{command[0]} ended with {code}")


def shrink(path: Path) -> None:
    """Reduce a picture to a palette, and check that it is small.

    Raises
    ------
    ValueError
        If it is too large for the repository.
    """
    from PIL import Image

    with Image.open(path) as picture:
        reduced = picture.convert("RGB").quantize(colors=128, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"{path}: has {size} bytes, expected at most {LARGEST}")


if __name__ == "__main__":
    sys.exit(main())
