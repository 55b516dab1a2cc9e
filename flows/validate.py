"""Validation: visits are simulated, reduced and measured against their truth, part by part; each
part is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.runs.reduction import run_reduce
from flows.simulate import simulate_case
from schemas import ROOT, VERSION
from schemas.errors import BusyError, StorageError, UsageError, plain
from schemas.requests import ReduceRequest, ValidateRequest
from tasks.files import disk
from tasks.validation.budget import EFFECTS, case_settings, pipeline_settings, series
from tasks.validation.files import Facts, Part, Products, Truth
from tasks.validation.measure import measure_part, telegraphic_share
from tasks.validation.page import figures, page, summary

if TYPE_CHECKING:
    from schemas.payloads import Published
    from tasks.engine.run import StepReport
    from tasks.simulation.case import Case

Tell = Callable[[str, bool], None]  # what is being done, and whether that ends the line

BUDGET = "budget"  # the name under which the error budget is asked for
FIXTURES = ("tiny",)  # cases that are there for tests only
POINTS = 5000  # of a light curve, with which a scatter is known to 2 %
MOST_SEEDS = 34  # of the case with the fewest images
MANY = (
    0.01  # share of telegraphic pixels from which on the same visit without them is looked at too
)
COMMAND = ROOT / "flows" / "command"  # decides nothing about a part
JUDGES = ("page.py", "claims.py")  # they judge what is kept: a change there makes no part anew


class NotReducedError(Exception):
    """The pipeline failed on a simulated visit."""


@dataclass(frozen=True)
class Work:
    """One part: a visit that is simulated, reduced and measured. `effect` is empty or one of the
    error budget.
    """

    name: str
    case: Case
    seed: int
    effect: str = ""

    @property
    def label(self) -> str:
        """What a person sees."""
        return f"{self.name}, {self.effect}" if self.effect else f"{self.name}, seed {self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the pipeline that differ from the defaults."""
        return pipeline_settings(self.effect) if self.effect else {}


def run_validation(
    request: ValidateRequest, tell: Tell = lambda _text, _end: None
) -> dict[str, Any]:
    """Validate the pipeline; return what is written to validation.json.

    Parts that were measured with this code and these settings are not done again. Written are
    ``validation.md`` with ``figures/``, ``validation.json`` and ``parts/``; the page also whenever
    a case is finished, with what is there.

    Raises
    ------
    UsageError
        If there is no case of a name.
    """
    works = list(plan_parts(request))
    output = request.output.absolute()
    disk.make_folder(output / "parts")
    code = code_digest()
    parts: list[dict[str, Any]] = []
    effects: dict[str, dict[str, Any]] = {}
    result: dict[str, Any] = {}
    for i, work in enumerate(works):
        tell_part = with_number(tell, f"[{i + 1}/{len(works)}]")
        part = do_part(work, output, code, request.again, tell_part)
        if work.effect:
            effects[work.effect] = part
        else:
            parts.append(part)
        if i + 1 == len(works) or works[i + 1].name != work.name:
            result = {"software": VERSION, "code": code, **summary(parts, effects)}
            write_result(output, result)
    return result


def with_number(tell: Tell, place: str) -> Tell:
    """Return what tells the same with the number of the part before it."""
    return lambda text, end: tell(f"{place} {text}", end)


def plan_parts(request: ValidateRequest) -> Iterator[Work]:
    """Yield the parts: cases and seeds that were asked for, or all, with so many seeds that noise
    is known to 2 %.
    """
    from tasks.simulation.case import Case, case_names

    names = request.cases or (*(n for n in case_names() if n not in FIXTURES), BUDGET)
    images = {} if request.images is None else {"images": request.images}
    for name in dict.fromkeys(names):
        if name == BUDGET:
            for effect in EFFECTS:
                case = Case.model_validate({**case_settings(effect), **images})
                yield Work(BUDGET, case, 1, effect)
            continue
        case = Case.model_validate({**find_case(name).model_dump(), **images})
        enough = min(-(-POINTS // case.images), MOST_SEEDS) if case.noise else 1
        for seed in range(1, (request.seeds or enough) + 1):
            yield Work(Path(name).stem, case, seed)


def find_case(name: str) -> Case:
    """Return a case.

    Raises
    ------
    UsageError
        If there is none of this name, or it is not possible.
    """
    from pydantic import ValidationError

    from tasks.simulation.case import case_names, load_case

    try:
        return load_case(name)
    except OSError as error:
        raise UsageError(
            f"there is no case {name!r}; there are {', '.join((*case_names(), BUDGET))}"
        ) from error
    except (ValidationError, ValueError) as error:
        raise UsageError(f"case {name}: {error}") from error


def code_digest() -> str:
    """Return a digest of all code and data that decide what a part holds."""
    digest = hashlib.sha256()
    for folder in ("schemas", "tasks", "reference_data", "flows"):
        for path in sorted((ROOT / folder).rglob("*")):
            decides = path.name not in JUDGES and not path.is_relative_to(COMMAND)
            if decides and path.suffix in (".py", ".toml"):
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def do_part(work: Work, output: Path, code: str, again: bool, tell: Tell) -> dict[str, Any]:
    """Return the result of a part: the kept one where nothing changed, else by doing it.

    A visit that cannot be reduced is a result too (``failed``), but one that is not kept.
    """
    settings = {
        "case": work.case.model_dump(mode="json"),
        "seed": work.seed,
        "pipeline": work.settings,
        "code": code,
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    path = output / "parts" / f"{work.name}-{work.effect or work.seed}.json"
    if not again and (kept := read_kept(path, key)) is not None:
        tell(f"{work.label}: kept", True)
        return kept
    result = {"key": key, "case": work.name, "seed": work.seed, "settings": settings}
    try:
        with scratch(output) as folder:
            result |= measure(work, folder, tell)
    except NotReducedError as error:
        tell(f"{work.label}: failed, {error}", True)
        return result | {"failed": str(error)}
    disk.write_file(path, json.dumps(result).encode())
    tell(f"{work.label}: done", True)
    return result


def read_kept(path: Path, key: str) -> dict[str, Any] | None:
    """Return a kept part, or None where there is none of this key."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) and kept.get("key") == key else None


@contextmanager
def scratch(output: Path) -> Iterator[Path]:
    """Give a folder for one part, which is gone afterwards."""
    folder = output / f".part.{os.getpid()}"
    for left in output.glob(".part.*"):
        if left == folder or not alive(int(left.suffix[1:])):  # of a process that was killed
            disk.remove(left)
    disk.make_folder(folder)
    try:
        yield folder
    finally:
        disk.remove(folder)


def alive(process: int) -> bool:
    """Return whether a process of this number runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def measure(work: Work, folder: Path, tell: Tell) -> dict[str, Any]:
    """Simulate, reduce and measure one part."""
    part = simulate_and_reduce(work, folder / "full", tell)
    tell(f"{work.label}: measuring", False)
    if work.effect:
        return {"series": series(part, folder / "full" / "visit" / "data")}
    quiet = None
    if work.case.telegraphic and work.case.noise and telegraphic_share(part) >= MANY:
        case = work.case.model_validate({**work.case.model_dump(), "telegraphic": 0.0})
        name = f"{work.name} without telegraphic pixels"
        quiet = simulate_and_reduce(Work(name, case, work.seed), folder / "quiet", tell)
    return measure_part(part, quiet)


def simulate_and_reduce(work: Work, folder: Path, tell: Tell) -> Part:
    """Simulate a visit below `folder` and reduce it there."""
    visit = folder / "visit"

    def report_images(done: int, total: int) -> None:
        tell(f"{work.label}: simulating {done}/{total}", False)

    simulate_case(visit, work.case, work.seed, report_images)
    published = reduce_part(work, visit, folder, tell)
    return Part(Truth(visit), Products(Path(published.folder)), case_facts(work.case))


def reduce_part(work: Work, visit: Path, folder: Path, tell: Tell) -> Published:
    """Reduce the simulated visit of a part.

    Raises
    ------
    NotReducedError
        If the pipeline fails on it.
    """

    def report_step(name: str, report: StepReport | None) -> None:
        if report is None:
            tell(f"{work.label}: {name}", False)

    request = ReduceRequest(
        visit=visit, output=folder / "products", work=folder / "work", settings=work.settings
    )
    try:
        published, _ = run_reduce(request, "plain", report_step)
    except (
        StorageError,
        BusyError,
        MemoryError,
    ):  # of this machine: the next part would meet it too
        raise
    # whatever the pipeline dies of is a result, and the other parts are wanted all the same
    except Exception as error:
        raise NotReducedError(f"{type(error).__name__}: {plain(error)}") from error
    assert published is not None
    return published


def case_facts(case: Case) -> Facts:
    """Return what is known of the simulated instrument in a case."""
    from tasks.simulation import bias, layout
    from tasks.simulation.plan import PIXEL_SCALE

    mode = layout.read_out_mode(case.exptime)
    waiting = layout.read_time(mode, case.window_y, case.height)
    left = layout.EXPOSED.start + case.window_x
    rows = slice(case.window_y, case.window_y + case.height)
    return Facts(
        read_out_noise=bias.READ_OUT_NOISE[mode.frequency],
        transfer_time=layout.TRANSFER_TIME,
        bias=bias.BIAS[mode.frequency],
        pixel_scale=PIXEL_SCALE,
        dark_seconds=case.exptime + waiting[rows, left : left + case.width],
    )


def write_result(output: Path, result: dict[str, Any]) -> None:
    """Write page, figures and JSON."""
    disk.make_folder(output / "figures")
    for name, figure in figures(result).items():
        disk.write_file(output / "figures" / name, figure)
    disk.write_file(output / "validation.json", (json.dumps(result, indent=1) + "\n").encode())
    disk.write_file(output / "validation.md", page(result, VERSION).encode())
