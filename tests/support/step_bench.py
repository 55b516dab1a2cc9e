"""Two small steps and a recipe in a work folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from schemas.errors import StorageError
from schemas.payloads import Leaf, Payload, Product
from schemas.settings import Settings
from schemas.terms import TERMS
from tasks.engine import step as machine
from tasks.engine.run import Run, Stopped, running
from tasks.engine.step import Leaves, Recipe, Step, recipe, step
from tasks.engine.store import Workspace
from tasks.files.writer import NewHdu, write_fits

VISIT = "PR900001_TG000001"


class Doubled(Leaf):
    """What the first step of these tests leaves."""


class Summed(Leaf):
    """What the second step of these tests leaves."""


class Both(Payload):
    """What the recipe of these tests returns."""

    doubled: Doubled
    summed: Summed


class SumSettings(Settings):
    """Settings of the second step."""

    weight: float = 1.0


def flat(value: float, teff: float) -> list[NewHdu]:
    """A flat field of four equal pixels, as it is defined."""
    window = {"X_WINOFF": 0, "Y_WINOFF": 0}
    image = NewHdu(
        TERMS["TERM_FLAT"],
        {**window, "FLAT_T": teff, "FLAT_STD": 0.0},
        pixels=np.full((2, 2), value),
    )
    return [image, NewHdu(TERMS["TERM_FLAT_ERROR"], window, pixels=np.zeros((2, 2)))]


@dataclass
class Bench:
    """Two steps, one after the other, in a work folder of their own; `calls` counts how often each
    function really ran.
    """

    root: Path
    calls: list[str] = field(default_factory=list)
    before: Callable[[], None] = lambda: None  # runs within the second step
    source: Path = Path()
    version: str = "1"

    def __post_init__(self) -> None:
        self.source = self.root / "source.txt"
        self.source.write_text("21")
        self.declare()

    def declare(self) -> None:
        """Declare the steps, with the version that the second one has now."""

        @step("double", "DARK", version="1", payload=Doubled, leaves=["TERM_DARK"])
        def double(raw: Product) -> Leaves:
            """Double a number."""
            self.calls.append("double")
            number = 2 * int(Path(raw.path).read_text())
            return Leaves(
                blobs={"double.txt": str(number).encode()}, used={"DARK_AVG": float(number)}
            )

        @step("sum", "FFIELD", version=self.version, payload=Summed, leaves=["TERM_FLAT"])
        def total(doubled: Doubled, settings: SumSettings) -> Leaves:
            """Weigh a number."""
            self.calls.append("sum")
            self.before()
            number = float(Path(doubled.products["double.txt"].path).read_text()) * settings.weight
            return Leaves(
                {"TERM_FLAT": flat(number, 5000.0)}, used={"FLAT_T": 5000.0, "FLAT_STD": 0.0}
            )

        @recipe(Both, "both")
        def both(raw: Product, settings: SumSettings) -> Both:
            """Do one after the other."""
            doubled = double(raw)
            return Both(doubled=doubled, summed=total(doubled, settings))

        self.double: Step[..., Doubled] = double
        self.sum: Step[..., Summed] = total
        self.both: Recipe[..., Both] = both

    @property
    def raw(self) -> Product:
        """The input as it is now."""
        return Product(
            path=str(self.source), sha256=machine.disk.sha256(self.source), extname="text"
        )

    def run(self, weight: float = 1.0, **options: object) -> tuple[Both | None, Run]:
        """Run the recipe; the functions that really ran stand in `calls`."""
        self.calls.clear()
        run = Run(Workspace(self.root / "work", VISIT), retry_delay=0.0, **options)  # type: ignore[arg-type]
        with running(run):
            try:
                return self.both(self.raw, SumSettings(weight=weight)), run
            except Stopped:
                return None, run


def outcomes(run: Run) -> list[str]:
    return [f"{r.step} {r.outcome}" for r in run.reports]


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
    }


def fault_once(error: BaseException, times: int = 1) -> Callable[[], None]:
    left = [times]

    def fault() -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return fault


def permanent(text: str) -> StorageError:
    error = StorageError(text)
    error.permanent = True
    return error


def product_of_first(bench: Bench) -> Path:
    (path,) = (bench.root / "work/products").rglob("double.txt")
    return path


def own_flat(path: Path, value: float = 7.0, teff: float = 6000.0) -> Path:
    """A person's own flat field: a term as it is defined."""
    write_fits(path, flat(value, teff))
    return path


def reasons(run: Run) -> dict[str, str]:
    return {r.step: r.why for r in run.reports if r.outcome == "would run"}
