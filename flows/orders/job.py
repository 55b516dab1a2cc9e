"""A job of the scheduler: reads a job order, publishes products, writes log and trigger file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.orders.log import SocHandler
from flows.orders.order import allowed_path, read_order, rules_of_environment
from flows.orders.trigger import read_trigger, visit_of, write_trigger
from flows.runs.ending import BESIDE, describe_error
from schemas import VERSION
from schemas.constants import PROCESSOR
from schemas.errors import (
    BadInputError,
    BusyError,
    ConfigurationError,
    DrpError,
    Interrupted,
    MissingInputError,
    UsageError,
    plain,
    shortage,
)
from schemas.logs import logger_of
from schemas.names import VISIT
from schemas.nearest import did_you_mean
from schemas.orders import TRIGGER, JobInput, JobOrder, Parameter, Trigger
from schemas.requests import ReduceRequest, assign
from tasks.files import disk

if TYPE_CHECKING:
    from flows.runs.reduction import Engine
    from schemas.payloads import Published
    from tasks.engine.run import StepReport


log = logger_of(__name__)

RAW = "SCI_RAW_SubArray"

FLAGS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass
class Job:
    """A job order in progress.

    `links` maps the paths under which the pipeline reads the order's files to their paths in the
    order. `over` is True once the products are published.
    """

    path: Path
    order: JobOrder
    stop_if_asked: Callable[[], None]
    links: dict[str, str] = field(default_factory=dict)
    over: bool = False

    @property
    def visit(self) -> str:
        """The visit in the name of the raw file; empty if there is none."""
        match = next(
            (m for item in self.order.of_type(RAW) if (m := VISIT.search(item.path.name))), None
        )
        return match[0] if match else ""

    def named(self, text: str) -> str:
        """Return a text with the order's own names of files."""
        for link, name in self.links.items():
            text = text.replace(link, name)
        return text

    def report_progress(self, _step: str, _report: StepReport | None) -> None:
        """Stop between two steps if a signal has arrived."""
        self.stop_if_asked()


def run_job(
    path: Path,
    engine: Engine,
    handler: SocHandler,
    log_file: Path | None = None,
    stop_if_asked: Callable[[], None] = lambda: None,
) -> int:
    """Process a job order and return the exit code.

    Parameters
    ----------
    path : Path
        The job order.
    engine : str or callable
        As in `run_reduce`.
    handler : SocHandler
        Takes the log lines of the run; its levels are set by the order.
    log_file : Path or None
        The log file; by default the order's path with the suffix ``.log``.
    stop_if_asked : callable
        Raises an exception if a signal has arrived.
    """
    with handler.attached():
        return _run_job(path, engine, handler, log_file, stop_if_asked)


def _run_job(
    path: Path,
    engine: Engine,
    handler: SocHandler,
    log_file: Path | None,
    stop_if_asked: Callable[[], None],
) -> int:
    job: Job | None = None
    try:
        path = disk.absolute(path)
        if disk.is_file(path) or log_file is not None:
            handler.open(log_file or path.with_suffix(".log"))
        order = read_order(path, rules_of_environment())
        handler.levels(order.stdout_level, order.stderr_level)
        job = Job(path, order, stop_if_asked)
        handler.named = job.named
        return _reduce_order(job, engine)
    except (Exception, Interrupted) as error:
        _report(error, path, job)
        code, text = describe_error(error, path.parent)
        log.error("%s", text)
        if code == 70:
            log.critical("operator needed: this is a bug in the program")
        return code


def _report(error: BaseException, path: Path, job: Job | None) -> None:
    """Write a report beside an order that failed, unless its visit has one already."""
    if not isinstance(error, Exception) or shortage(error) or (job is not None and job.over):
        return
    from flows.runs.failure import order_failure_reported

    visit, named = (job.visit, job.named) if job is not None else ("", str)
    order_failure_reported(error, path, visit, named)


def _reduce_order(job: Job, engine: Engine) -> int:
    from flows.runs.failure import OfOrder
    from flows.runs.reduction import run_reduce

    log.info("%s %s starts processing %s", PROCESSOR, VERSION, job.path.name)
    for line in job.order.ignored:
        log.warning("%s", line)
    trigger = input_trigger(job.order)
    with scratch(job) as folder:
        for ending in BESIDE:
            disk.discard(job.path.with_suffix(ending))  # of an earlier attempt
        request = build_request(job, folder, trigger)
        try:
            reduction = run_reduce(
                request, engine, job.report_progress, order=OfOrder(job.path, job.named)
            )
        except UsageError as error:
            raise ConfigurationError(f"{job.path}: {error}") from error
        job.over = True
    assert reduction.published is not None
    _hand_over(job, trigger, reduction.published)
    return 3 if request.strict and reduction.warned else 0


def _hand_over(job: Job, trigger: Trigger | None, published: Published) -> None:
    """Log the published folder and write the trigger file."""
    if published.verdict:
        log.info("the light curve is %s", published.verdict)
    path = write_trigger(job.order.output, *output_trigger(trigger, published))
    log.info("wrote trigger file %s", path.name)


@dataclass
class Wishes:
    """Options, replacements and settings that an order asks for."""

    options: dict[str, Any]
    replace: list[Path] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


def build_request(job: Job, folder: Path, trigger: Trigger | None) -> ReduceRequest:
    """Return the request of an order, with links to its input files below `folder`.

    Raises
    ------
    ConfigurationError
        If a parameter is unknown or its value invalid; the message gives the line.
    MissingInputError
        If a file does not exist.
    BadInputError
        If a file is not of the type stated in the order.
    """
    visit, references = folder / "inputs" / "visit", folder / "inputs" / "references"
    for place in (visit, references):
        disk.remove(place)
        disk.make_folder(place)
    wishes = Wishes(
        {
            "visit": visit,
            "references": (references,),
            "output": job.order.output,
            "work": folder / "work",
            "resume": True,
            "arch_rev": None,
            "proc_num": trigger.number("PROC_NUM_OUT") if trigger is not None else None,
        }
    )
    read_parameters(job, wishes)
    link_inputs(job, visit, references, wishes)
    if wishes.options["visit"] != visit:
        wishes.options["references"] = (visit, references)
    elif not job.order.of_type(RAW):
        raise MissingInputError(
            f"{job.path}: has no input {RAW}, and no parameter `published` to continue from"
        )
    elif trigger is not None:
        _check_visit(job, job.order.of_type(RAW)[0].path, trigger)
    return ReduceRequest(**wishes.options, replace=tuple(wishes.replace), settings=wishes.settings)


def read_parameters(job: Job, wishes: Wishes) -> None:
    """Read the parameters of an order.

    Raises
    ------
    ConfigurationError
        If a parameter is unknown or its value invalid; the message gives the line.
    """
    for parameter in job.order.parameters:
        try:
            _take_parameter(parameter, wishes)
        except (ConfigurationError, UsageError) as error:
            raise ConfigurationError(
                f"{job.path} line {parameter.line}: parameter {parameter.name}: {error}"
            ) from error


def link_inputs(job: Job, visit: Path, references: Path, wishes: Wishes) -> None:
    """Link the input files of an order into the folders of the visit and of the references.

    Files that replace a product are collected, not linked.

    Raises
    ------
    MissingInputError
        If a file does not exist.
    BadInputError
        If a file is not of the type stated in the order.
    """
    from schemas.inputs import REFERENCES
    from tasks.engine.run import STEPS
    from tasks.visit.search import KINDS

    replaceable = {name for step in STEPS.values() for name in step.leaves}
    for i, item in enumerate(job.order.inputs):
        if item.file_type == TRIGGER:
            continue
        if item.file_type in replaceable:
            wishes.replace.append(item.path)
        elif item.file_type in KINDS:
            is_reference = any(KINDS[item.file_type] is declared for declared in REFERENCES)
            _link(job, item, (references if is_reference else visit) / f"{i:04d}")
        else:
            log.info("line %d: no step reads %s; ignored", item.line, item.file_type)
    # after the files in these folders, whose links begin with the same path
    job.links |= dict.fromkeys((str(visit), str(references)), f"the files of {job.path.name}")


def _take_parameter(parameter: Parameter, wishes: Wishes) -> None:
    from tasks.engine.run import STEPS

    name, value = parameter.name, parameter.value
    if name == "from":
        if value not in STEPS:
            hint = did_you_mean(value, STEPS) or f"; the steps are {', '.join(sorted(STEPS))}"
            raise ConfigurationError(f"unknown step {plain(value)!r}{hint}")
        wishes.options["from_step"] = value
    elif name == "replace":
        wishes.replace.append(allowed_path(value, rules_of_environment()))
    elif name == "published":
        wishes.options["visit"] = allowed_path(value, rules_of_environment())
    elif name in ("strict", "archive"):
        if value.lower() not in FLAGS:
            raise ConfigurationError(f"is {plain(value)!r}, expected true or false")
        wishes.options[name] = FLAGS[value.lower()]
    elif name in ("arch_rev", "proc_num"):
        if not (re.fullmatch(r"[0-9]{1,9}", value) and int(value) <= 99):
            raise ConfigurationError(f"is {plain(value)!r}, expected a number up to 99")
        wishes.options[name] = int(value)
    elif "." in name:
        assign(wishes.settings, f"{name}={value}")
    else:
        names = (
            "from, replace, published, strict, archive, arch_rev, proc_num, or a setting STEP.NAME"
        )
        raise ConfigurationError(f"is unknown; expected {names}")


def _link(job: Job, item: JobInput, folder: Path) -> None:
    from tasks.files.reader import scan

    target = disk.resolved(item.path)
    if not disk.exists(target):
        raise MissingInputError(f"{item.path}: does not exist ({job.path.name} line {item.line})")
    with scan(target) as file:
        if file.extname != item.file_type:
            extname = file.extname or "(no EXTNAME)"
            raise BadInputError(
                f"{item.path}: HDU 1 is {extname}, but {job.path.name} line {item.line} says "
                f"{item.file_type}"
            )
    disk.make_folder(folder)
    link = folder / item.path.name
    disk.link(link, target)
    job.links[str(link)] = str(item.path)


def input_trigger(order: JobOrder) -> Trigger | None:
    """Read the order's trigger file, if it has one.

    Raises
    ------
    BadInputError
        If it is damaged, or if there are several.
    """
    files = order.of_type(TRIGGER)
    if len(files) > 1:
        raise BadInputError(f"{files[1].path}: is the second trigger file of this order")
    return read_trigger(files[0].path) if files else None


def _check_visit(job: Job, raw: Path, trigger: Trigger) -> None:
    from tasks.files.reader import scan

    with scan(raw) as file:
        header = file.hdus[1].header
    for name in ("PROGTYPE", "PROG_ID", "REQ_ID", "VISITCTR"):
        number = trigger.number(name)
        if number is not None and header.get(name) != number:
            path = job.order.of_type(TRIGGER)[0].path
            raise BadInputError(f"{path}: {name} is {number}, but {header.get(name)} in {raw.name}")


def output_trigger(trigger: Trigger | None, published: Published) -> tuple[Trigger, str, str, str]:
    """Return the trigger of the products, and their visit, version and date of publication."""
    from tasks.delivery.folder import read_manifest
    from tasks.files.reader import scan

    folder = Path(published.folder)
    manifest = read_manifest(folder)
    curve = next(f.name for f in manifest.files if "_SCI_COR_Lightcurve-DEFAULT_" in f.name)
    with scan(folder / curve) as file:
        header = file.hdus[1].header
    visit, label = manifest.visit, manifest.version
    if trigger is not None and visit_of(trigger) not in (None, visit):
        raise BadInputError(
            f"the trigger file is for {visit_of(trigger)}, the products are of {visit}"
        )
    values = {
        name: str(header[name]) for name in ("PROGTYPE", "PROG_ID", "REQ_ID", "VISITCTR", "OBSID")
    }
    values["PROC_NUM"] = str(manifest.inventory.proc_num)
    new = Trigger(
        validity_start=str(header["V_STRT_U"])[:19],
        validity_stop=str(header["V_STOP_U"])[:19],
        values={**values, "PROC_NUM_OUT": str(int(label[1:]) % 100)},
    )
    if trigger is not None:
        values = {**new.values, **trigger.values, "PROC_NUM_OUT": new.values["PROC_NUM_OUT"]}
        new = trigger.model_copy(update={"values": values})
    return new, visit, label, manifest.published


@contextlib.contextmanager
def scratch(job: Job) -> Iterator[Path]:
    """Yield a temporary folder of the order below TMP, and remove it afterwards.

    If a killed job has left the folder behind, its contents are used.

    Raises
    ------
    BusyError
        If another process is working on the same order.
    """
    name = f"drp-{hashlib.sha256(str(job.path).encode()).hexdigest()[:16]}"
    folder = job.order.scratch / name
    disk.make_folder(folder)
    fd = disk.open_folder(folder)
    try:
        found = disk.status(folder) if disk.try_lock(fd, folder) else None
        if found is None or found.st_ino != os.fstat(fd).st_ino:
            raise BusyError(f"another process is working on {job.path}")
        try:
            yield folder
        finally:
            try:
                disk.remove(folder)
            except DrpError as error:
                log.warning("the temporary folder could not be removed: %s", error)
    finally:
        os.close(fd)
