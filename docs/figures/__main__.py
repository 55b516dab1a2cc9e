"""Draw the figures of the documentation: ``python -m docs.figures FOLDER``.

A small visit is simulated from a seed and reduced; every step then gets one figure,
``FOLDER/figures/STEP.png``. They are drawn again only if code or simulated cases have changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from docs.figures import FIGURES
from docs.figures.visit import CASE, SEED, reduce_visit
from schemas import ROOT

CODE = ("flows", "tasks", "schemas", "reference_data", "docs/figures")


def source_files() -> Iterator[Path]:
    """Yield the files that the figures depend on, in a fixed order."""
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".toml"):
                yield path


def source_digest() -> str:
    """Return the SHA-256 of the simulated case and of all code that the figures depend on."""
    digest = hashlib.sha256(json.dumps([CASE, SEED]).encode())
    for path in source_files():
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def draw_figures(folder: Path) -> None:
    """Draw all figures into ``folder/figures`` unless they are up to date."""
    figures, visit_folder = folder / "figures", folder / "figures_visit"
    stamp = figures / "made"
    if stamp.is_file() and stamp.read_text() == source_digest():
        return
    begun = time.monotonic()
    print("simulating and reducing the visit for the figures (about a minute)", flush=True)
    for part in (figures, visit_folder):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    visit = reduce_visit(visit_folder)
    for name, figure in FIGURES.items():
        figure.draw(visit).savefig(figures / f"{name}.png", metadata={"Software": None})
    shutil.rmtree(visit_folder)
    stamp.write_text(source_digest())
    print(f"{len(FIGURES)} figures drawn in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    draw_figures(Path(sys.argv[1]))
