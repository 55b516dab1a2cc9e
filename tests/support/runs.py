"""Helpers for tests of runs: a visit with its folders, and comparisons between publications."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from schemas.payloads import Published
    from tasks.engine.run import Run


CALIBRATION = [
    "events",
    "housekeeping",
    "bias",
    "gain",
    "linearity",
    "spread",
    "dark",
    "flat",
    "flat_field",
    "calibrate",
    "calibrate_imagettes",
]

# the steps of the tiny visit in the order in which they are done
STEPS = [
    *CALIBRATION,
    "pointing",
    "prior",
    "look",
    "calibration_stages",
    "background_1",
    "psf_1",
    "stars_1",
    "smearing",
    "stars",
    "defects_1",
    "background",
    "psf",
    "position",
    "imagette_hits",
    "defects",
    "correction_stages",
    "correct",
    "corrections",
    "correct_imagettes",
    "apertures",
    "psf_fit",
    "contamination",
    "quality",
    "light_curves",
    "imagette_photometry",
    "imagette_light_curves",
    "viewer",
    "report",
]


@dataclass
class Bench:
    """A visit with its references, work folder and output folder."""

    visit: Path
    references: tuple[Path, ...]
    work: Path
    output: Path

    def reduce(self, engine: Any = "plain", **options: Any) -> tuple[Published | None, Run]:
        """Reduce the visit in this process."""
        from flows.runs.reduction import run_reduce
        from schemas.requests import ReduceRequest

        request = {
            "visit": self.visit,
            "references": self.references,
            "output": self.output,
            "work": self.work,
            **options,
        }
        return run_reduce(ReduceRequest(**request), engine)

    def steps(self, draw: bool = False, **options: Any) -> list[str]:
        """Reduce the visit up to the report without publishing; return the executed steps.

        Without `draw` the report's figures are empty.
        """
        with nullcontext() if draw else undrawn():
            published, run = self.reduce(until="report", **options)
        assert published is None
        return executed(run)

    def arguments(self, *more: object) -> list[str]:
        """Return the arguments of the command `drp` that reduces the visit."""
        references = [a for folder in self.references for a in ("--references", folder)]
        return [
            str(a)
            for a in (
                "reduce",
                self.visit,
                *references,
                "--work",
                self.work,
                "--output",
                self.output,
                *more,
            )
        ]

    def copy(self, folder: Path) -> Bench:
        """Return a bench with copies of the work and output folders, which may be changed."""
        work, output = (
            shutil.copytree(self.work, folder / "work"),
            shutil.copytree(self.output, folder / "products"),
        )
        return replace(self, work=Path(work), output=Path(output))

    def fresh(self, folder: Path) -> Bench:
        """Return a bench with work and output folders that are not there yet."""
        return replace(self, work=folder / "work", output=folder / "products")

    def known(self, folder: Path) -> Bench:
        """Return a bench with a copy of the work folder, with all steps done but no publication."""
        bench = self.fresh(folder)
        shutil.copytree(self.work, bench.work)
        return bench

    def published(self) -> list[Path]:
        """Return the published folders: what a person sees in the output folder."""
        return (
            sorted(p for p in self.output.iterdir() if not p.name.startswith("."))
            if self.output.is_dir()
            else []
        )

    def hidden(self) -> list[str]:
        """Return what was left half done, in the output folder and the work folder."""
        return [
            p.name
            for folder in (self.output, self.work)
            if folder.is_dir()
            for p in folder.rglob(".*")
        ]


def simulate_tiny(folder: Path, request: int) -> None:
    """Simulate a tiny visit with a name and noise of its own."""
    from flows.simulate import simulate_into
    from schemas import ROOT

    case = folder.with_suffix(".toml")
    text = (ROOT / "tasks/simulation/cases/tiny.toml").read_text()
    case.write_text(f"{text}\nrequest = {request}\n")
    simulate_into(folder, str(case), None, request, None)


@contextmanager
def undrawn() -> Iterator[None]:
    """Leave the figures of reports empty: drawing takes a third of the time of a small visit."""
    from tasks.delivery.report import report

    empty = (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" '
        b'height="9" fill="white"/></svg>'
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_light_curve", "draw_levels", "draw_scene", "draw_maps"):
            patch.setattr(report, name, lambda *_: empty)
        patch.setattr(report, "draw_all", lambda *_: dict.fromkeys(report.FIGURES, empty))
        yield


def executed(run: Run) -> list[str]:
    return [r.step for r in run.reports if r.outcome == "done"]


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
    }


def comparable(folder: Path) -> dict[str, Any]:
    """Return the contents of a published folder, without durations, outcomes and warnings."""
    files: dict[str, Any] = tree(folder)
    manifest = json.loads(files["manifest.json"])
    for step in manifest["steps"]:
        del step["seconds"], step["outcome"]
    del manifest["warnings"]
    return {**files, "manifest.json": manifest}


def differing(folder: Path, other: Path) -> list[str]:
    """Return the names of files that differ between two published folders."""
    one, two = comparable(folder), comparable(other)
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def used(bench: Bench, kind: str) -> Path:
    """Return the reference of a kind that the published visit was reduced with."""
    (folder,) = bench.output.iterdir()
    references = json.loads((folder / "manifest.json").read_text())["inventory"]["references"]
    name = next(
        r["product"]["path"] for r in references.values() if f"_{kind}_" in r["product"]["path"]
    )
    return next(bench.references[0].rglob(name))


def newer(bench: Bench, folder: Path, kind: str, number: int = 9001) -> Path:
    """Put a higher version of a reference, with other content, into a folder."""
    from tests.support.faults import edited, take_apart

    old = used(bench, kind)
    folder.mkdir(exist_ok=True)
    path = Path(shutil.copyfile(old, folder / f"{old.name[:-9]}{number:04d}.fits"))
    with edited(path, take_apart(path)[1].extname) as hdu:
        hdu.set("ARCH_REV", number // 100)
        hdu.set("PROC_NUM", number % 100)
        pixels = hdu.pixels.copy()
        pixels.flat[5] = 1
        hdu.pixels = pixels
    return path
