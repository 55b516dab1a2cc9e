"""Validation: simulate and reduce visits and compare the results with the truth.

The work is divided into parts, whose results are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.plain_matplotlib import plain_matplotlib
from flows.reduce import reduce_to_products
from flows.runs.reduction import run_reduce
from flows.simulate import simulate_case
from schemas import ROOT, VERSION
from schemas.errors import BusyError, ConfigurationError, DrpError, StorageError, UsageError, plain
from schemas.nearest import did_you_mean
from schemas.requests import ReduceRequest, ValidateRequest
from tasks.engine.child import Process, start_python
from tasks.engine.folders import process_lives
from tasks.files import disk
from tasks.files.toml import read_toml
from tasks.validation.budget import EFFECTS, case_settings, pipeline_settings, series
from tasks.validation.files import Facts, Part, Products, Truth
from tasks.validation.measure import measure_part, telegraphic_share
from tasks.validation.page import figures, page, summary

if TYPE_CHECKING:
    from schemas.payloads import Published
    from tasks.engine.run import StepReport
    from tasks.simulation.case import Case

Progress = Callable[[str, bool], None]  # a progress message, and whether it ends the line

BUDGET = "budget"  # name of the error budget among the cases
FIXTURES = ("tiny",)  # cases for tests only
POINTS = 5000  # points of a light curve that determine a scatter to 2 %
MOST_SEEDS = 34  # of the case with the fewest images
FEWEST_IMAGES = 625  # of a visit with noise: shorter ones cost more for each point
MOST_EXPOSURES = 100_000  # of a case: forty in a stack would take as long as ten other cases
QUEUE = 4000  # parts whose numbers fit into a pipe
QUIET_SEEDS = 4  # visits of a case that are also simulated without telegraphic pixels
MOST_BYTES = 16 << 20  # of a kept result
MANY = 0.01  # share of telegraphic pixels above which the visit is also simulated without them
COMMAND = ROOT / "flows" / "command"  # does not affect the results
JUDGES = ("page.py", "claims.py")  # assess results but do not affect them


class NotReducedError(Exception):
    """The pipeline failed on a simulated visit."""


@dataclass(frozen=True)
class Work:
    """A part: a visit to simulate, reduce and measure.

    `effect` is an effect of the error budget, or empty.
    """

    name: str
    case: Case
    seed: int
    effect: str = ""

    @property
    def label(self) -> str:
        """The name in progress messages."""
        return f"{self.name}, {self.effect}" if self.effect else f"{self.name}, seed {self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the pipeline that differ from their defaults."""
        return pipeline_settings(self.effect) if self.effect else {}


def run_validation(
    request: ValidateRequest, progress: Progress = lambda _text, _end: None
) -> dict[str, Any]:
    """Validate the pipeline and return the content of validation.json.

    Parts with results from the same code and settings are not repeated. Writes ``validation.md``
    with ``figures/``, ``validation.json`` and ``parts/``; the page is updated after each case.

    Raises
    ------
    UsageError
        If a case does not exist.
    """
    works = list(plan_parts(request))
    output = disk.absolute(request.output)
    disk.make_folder(output / "parts")
    code = code_digest()
    done: dict[int, dict[str, Any]] = {}
    open_parts = Counter(work.name for work in works)
    result: dict[str, Any] = {}
    for i, part in do_parts(request, works, output, code, progress):
        done[i] = part
        open_parts[works[i].name] -= 1
        if not open_parts[works[i].name]:
            result = combine(works, done, code)
            write_result(output, result)
    return result


def combine(works: list[Work], done: dict[int, dict[str, Any]], code: str) -> dict[str, Any]:
    """Return the content of validation.json for the parts that are done, in their order."""
    numbers = sorted(done)
    parts = [done[i] for i in numbers if not works[i].effect]
    effects = {works[i].effect: done[i] for i in numbers if works[i].effect}
    return {"software": VERSION, "code": code, **summary(parts, effects)}


def do_parts(
    request: ValidateRequest, works: list[Work], output: Path, code: str, progress: Progress
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the result of each part as it ends, several at a time if asked to.

    A part whose process died is repeated here, so that its error is that of this process.
    """
    numbered = [with_number(progress, f"[{i + 1}/{len(works)}]") for i in range(len(works))]
    left = dict(enumerate(works))
    if request.jobs > 1:
        if not request.again:
            for i, work in enumerate(works):
                if (kept := read_kept(*place_and_key(work, output, code))) is not None:
                    numbered[i](f"{work.label}: kept", True)
                    del left[i]
                    yield i, kept
        numbers = sorted(left)
        queues = (numbers[k : k + QUEUE] for k in range(0, len(numbers), QUEUE))
        ended = (end for queue in queues for end in in_workers(request, queue, numbered))
        for i, failed in ended:
            work = left[i]
            path, key = place_and_key(work, output, code)
            part = identified(work, code) | {"failed": failed} if failed else read_kept(path, key)
            if part is not None:
                del left[i]
                yield i, part
    for i, work in left.items():
        yield i, do_part(work, output, code, request.again, numbered[i])


def in_workers(
    request: ValidateRequest, numbers: list[int], progress: list[Progress]
) -> Iterator[tuple[int, str]]:
    """Do parts in processes that last; yield the number of each, and why it failed or ''.

    The numbers lie in a pipe, from which each process takes the next. All write their messages into
    another, in lines short enough not to be torn.
    """
    taken, put = os.pipe()
    heard, said = os.pipe()
    with os.fdopen(put, "wb") as numbers_of_parts:
        numbers_of_parts.write(b"".join(b"%07d\n" % i for i in numbers))
    request = request.model_copy(update={"output": disk.absolute(request.output)})
    command = ["-m", "flows.validate_worker", str(taken), request.model_dump_json()]
    children: list[Process] = []
    try:
        children.extend(
            start_python(command, output=said, inherited=(taken,))
            for _ in range(min(request.jobs, len(numbers)))
        )
    finally:
        os.close(taken)
        os.close(said)
    try:
        with os.fdopen(heard, "rb") as messages:
            for message in map(json.loads, messages):
                progress[message["part"]](message["text"], message["end"])
                if message["end"]:
                    yield message["part"], message["failed"]
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


def with_number(progress: Progress, place: str) -> Progress:
    """Return a function that puts the number of the part before each message."""
    return lambda text, end: progress(f"{place} {text}", end)


def plan_parts(request: ValidateRequest) -> Iterator[Work]:
    """Yield the parts of the requested cases and seeds.

    By default these are all cases, each with enough seeds to determine the noise to 2 %.
    """
    from tasks.simulation.case import Case, case_names

    names = request.cases or (*(n for n in case_names() if n not in FIXTURES), BUDGET)
    shipped = set(case_names()) - set(FIXTURES)
    images = {} if request.images is None else {"images": request.images}
    for name in dict.fromkeys(names):
        if name == BUDGET:
            for effect in EFFECTS:
                case = Case.model_validate({**case_settings(effect), **images})
                yield Work(BUDGET, case, 1, effect)
            continue
        case = find_case(name)
        longer = {"images": max(case.images, FEWEST_IMAGES)}
        lengthened = longer if name in shipped and case.noise else {}
        case = Case.model_validate({**case.model_dump(), **lengthened, **images})
        points = min(POINTS, MOST_EXPOSURES // case.nexp)
        enough = min(-(-points // case.images), MOST_SEEDS) if case.noise else 1
        for seed in range(1, (request.seeds or enough) + 1):
            yield Work(Path(name).stem, case, seed)


def find_case(name: str) -> Case:
    """Return a case by its name.

    Raises
    ------
    UsageError
        If it does not exist or is invalid.
    """
    from tasks.simulation.case import case_names, case_of, load_case

    path = Path(name)
    try:
        if name in case_names():
            return load_case(name)
        if disk.exists(path):
            return case_of(read_toml(path), path.parent)
    except (ConfigurationError, ValueError) as error:  # pydantic's errors are ValueErrors
        raise UsageError(f"case {name}: {error}") from error
    known = *case_names(), BUDGET
    raise UsageError(
        f"unknown case {plain(name)!r}; the cases are {', '.join(known)}{did_you_mean(name, known)}"
    )


def code_digest() -> str:
    """Return a digest of all code and data that affect the results."""
    digest = hashlib.sha256()
    for folder in ("schemas", "tasks", "reference_data", "flows"):
        for path in disk.files_below(ROOT / folder):
            decides = path.name not in JUDGES and not path.is_relative_to(COMMAND)
            if decides and path.suffix in (".py", ".toml"):
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + disk.read_bytes(path))
    return digest.hexdigest()


def identified(work: Work, code: str) -> dict[str, Any]:
    """Return what identifies the result of a part: its settings, and their digest as the key."""
    settings = {
        "case": work.case.model_dump(mode="json"),
        "seed": work.seed,
        "pipeline": work.settings,
        "code": code,
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return {"key": key, "case": work.name, "seed": work.seed, "settings": settings}


def place_and_key(work: Work, output: Path, code: str) -> tuple[Path, str]:
    """Return the file of the result of a part, and its key."""
    path = output / "parts" / f"{work.name}-{work.effect or work.seed}.json"
    return path, identified(work, code)["key"]


def do_part(work: Work, output: Path, code: str, again: bool, progress: Progress) -> dict[str, Any]:
    """Return the result of a part: the kept one if nothing has changed, else a new one.

    A visit that cannot be reduced is a result too (``failed``), but is not kept.
    """
    path, key = place_and_key(work, output, code)
    if not again and (kept := read_kept(path, key)) is not None:
        progress(f"{work.label}: kept", True)
        return kept
    result = identified(work, code)
    try:
        with scratch(output) as folder, translated(folder):
            result |= measure(work, folder, progress)
    except NotReducedError as error:
        progress(f"{work.label}: failed, {error}", True)
        return result | {"failed": str(error)}
    disk.write_file(path, json.dumps(result).encode())
    progress(f"{work.label}: done", True)
    return result


def read_kept(path: Path, key: str) -> dict[str, Any] | None:
    """Return a kept result, or None if there is none with this key."""
    try:
        kept: dict[str, Any] = json.loads(disk.read_bytes(path, limit=MOST_BYTES))
    except (DrpError, ValueError, RecursionError):
        return None
    return kept if isinstance(kept, dict) and kept.get("key") == key else None


@contextmanager
def scratch(output: Path) -> Iterator[Path]:
    """Yield a temporary folder for a part, and remove it afterwards."""
    folder = output / f".part.{disk.process_label()}"
    host = folder.name.split(".")[2]
    for left in disk.entries(output):
        process = re.fullmatch(rf"\.part\.{host}\.(\d{{1,9}})\.\w+", left.name)
        if process and not process_lives(int(process[1])):  # of one that was killed
            disk.remove(left)
    disk.make_folder(folder)
    try:
        yield folder
    finally:
        disk.remove(folder)


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Turn a system error of the validation, which reads its files itself, into one of ours."""
    try:
        yield
    except OSError as error:
        raise disk.explain(error, "read", Path(error.filename or folder)) from error


def measure(work: Work, folder: Path, progress: Progress) -> dict[str, Any]:
    """Simulate, reduce and measure a part."""
    part = simulate_and_reduce(work, folder / "full", progress)
    progress(f"{work.label}: measuring", False)
    if work.effect:
        return {"series": series(part, folder / "full" / "visit" / "data")}
    quiet = None
    jumps = work.case.telegraphic and work.case.noise and work.seed <= QUIET_SEEDS
    if jumps and telegraphic_share(part) >= MANY:
        case = work.case.model_validate({**work.case.model_dump(), "telegraphic": 0.0})
        name = f"{work.name} without telegraphic pixels"
        quiet = simulate_and_reduce(Work(name, case, work.seed), folder / "quiet", progress)
    return measure_part(part, quiet)


def simulate_and_reduce(work: Work, folder: Path, progress: Progress) -> Part:
    """Simulate a visit below `folder` and reduce it there."""
    visit = folder / "visit"

    def report_images(done: int, total: int) -> None:
        progress(f"{work.label}: simulating {done}/{total}", False)

    simulate_case(visit, work.case, work.seed, report_images)
    published = reduce_part(work, visit, folder, progress)
    return Part(Truth(visit), Products(Path(published.folder)), case_facts(work.case))


def reduce_part(work: Work, visit: Path, folder: Path, progress: Progress) -> Published:
    """Reduce the simulated visit of a part.

    Raises
    ------
    NotReducedError
        If the pipeline fails on it.
    """

    def report_step(name: str, ended: StepReport | None) -> None:
        if ended is None:
            progress(f"{work.label}: {name}", False)

    request = ReduceRequest(
        visit=visit, output=folder / "products", work=folder / "work", settings=work.settings
    )
    try:
        published, _ = run_reduce(request, "plain", report_step, reduce_to_products)
    except (StorageError, BusyError, MemoryError):  # the next part would fail as well
        raise
    except Exception as error:  # any other failure is a result; the other parts go on
        raise NotReducedError(f"{type(error).__name__}: {plain(error)}") from error
    assert published is not None
    return published


def case_facts(case: Case) -> Facts:
    """Return the properties of the simulated instrument in a case."""
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
    with plain_matplotlib():
        drawn = figures(result)
    for name, figure in drawn.items():
        disk.write_file(output / "figures" / name, figure)
    disk.write_file(output / "validation.json", (json.dumps(result, indent=1) + "\n").encode())
    disk.write_file(output / "validation.md", page(result, VERSION).encode())
