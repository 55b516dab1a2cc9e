"""The command `drp`. Heavy packages are imported within the commands, so that --help comes at once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.ending import explained, watch_storage
from flows.toml_file import read_toml
from schemas import VERSION
from schemas.errors import DrpError, Interrupted, StorageError, UsageError

if TYPE_CHECKING:
    from tasks.step import Run, StepReport

FOLDER = click.Path(path_type=Path)
VISIT = click.Path(path_type=Path, readable=False)  # one that cannot be read is no wrong command: it is told as any other fault


def note(text: str, nl: bool = True) -> None:
    """Write a line to standard error; where that fails nobody can be told, and the work goes on."""
    try:
        click.echo(text, err=True, nl=nl)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def fail(error: BaseException, verbose: bool, work: Path | None) -> int:
    """Say in one line what went wrong, and return the exit code."""
    if verbose:
        note("".join(traceback.format_exception(error)), nl=False)
    code, text = explained(error, work)
    note(f"ERROR {text}")
    return code


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_stopped: list[Interrupted] = []


def _stop(number: int, _frame: object) -> None:
    # from now on the run cleans up; nothing may disturb that
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    _stopped.append(Interrupted(number, signal.Signals(number).name))
    raise _stopped[0]


def stop_if_asked() -> None:
    """Stop if a signal said so at a moment when Python could only ignore what its handler raised."""
    if _stopped:
        raise _stopped[0]


def guarded(
    body: Callable[[], int], verbose: bool, work: Path | None = None, hangs: Callable[[DrpError], None] | None = None
) -> None:
    """Run a command's body: signals stop it cleanly, errors become one line and an exit code.

    `hangs` tells of a file system that does not answer, in place of an ERROR line; the command ends behind it.
    """
    for number in _SIGNALS:
        signal.signal(number, _stop)
    watching: Callable[[], None] = lambda: None  # noqa: E731
    try:
        watching = watch_storage(hangs or (lambda error: note(f"ERROR {error}")))
        code = body()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    except click.ClickException:
        raise
    except (Exception, Interrupted) as error:
        code = fail(error, verbose, work)
    finally:
        watching()
    if (server := sys.modules.get("flows.server")) is not None and server.lost.is_set():
        os._exit(code)  # at its exit Prefect would wait for the server that is gone
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="drp")
def main() -> None:
    """Reduce CHEOPS visits: raw images to calibrated images, light curves and a report."""
    # one thread a visit; several visits run side by side
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # compiled kernels are kept beside their source, or in the user's cache; without both numba would refuse to work
    if "NUMBA_CACHE_DIR" not in os.environ and not os.access(Path(__file__).resolve().parent.parent / "tasks", os.W_OK):
        from tasks.store import default_work_folder

        with contextlib.suppress(DrpError):
            os.environ["NUMBA_CACHE_DIR"] = str(default_work_folder(lambda _: None) / "numba")


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Answer in JSON."),
        click.option("-q", "quiet", is_flag=True, help="No progress."),
        click.option("-v", "verbose", is_flag=True, help="Tracebacks of errors, and every warning."),
    ):
        command = option(command)
    return command


def say(text: str) -> None:
    """Write a line of the answer to standard output.

    Raises
    ------
    StorageError
        If it can't be written; it holds the line. A reader that has gone away is no error.
    """
    try:
        click.echo(text)
        sys.stdout.flush()
    except OSError as error:
        # what is still in the buffer would fail again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            raise StorageError(
                f"standard output: write failed, {os.strerror(error.errno or 0)}; the answer was: {text}"
            ) from error


class Progress:
    """Tells of the steps on standard error: a line for each, and on a terminal what is being done now."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()

    def __call__(self, step: str, report: StepReport | None) -> None:
        """Tell that a step begins (no report) or ended."""
        stop_if_asked()
        if self.quiet:
            return
        if report is None:
            if self.terminal:
                note(f"\r\033[K  {step} ...", nl=False)
            return
        states = ", ".join(sorted({str(s) for s in report.leaf.status.values()}))
        line = f"  {step:21s} {report.outcome:8s} {states:10s} {report.seconds:7.2f} s"
        note(f"\r\033[K{line}" if self.terminal else line)
        for warning in report.leaf.warnings if report.outcome != "cached" else ():
            note(f"    ! {warning}")


@main.command()
@click.argument("visit", type=VISIT)
@click.option("--references", multiple=True, type=FOLDER, help="Folder of reference files; several are searched together.")
@click.option("--output", type=FOLDER, default=Path("products"), show_default=True, help="Where products are published.")
@click.option("--work", type=FOLDER, help="Folder of intermediate products [DRP_WORK, or the user's cache].")
@click.option("--from", "from_step", metavar="STEP", help="Do STEP again, and what depends on it.")
@click.option("--until", metavar="STEP", help="Stop behind STEP; nothing is published.")
@click.option("--replace", multiple=True, type=FOLDER, metavar="FILE", help="Your own version of an intermediate product.")
@click.option("--set", "assignments", multiple=True, metavar="STEP.NAME=VALUE", help="Change a setting.")
@click.option("--settings", "settings_file", type=FOLDER, help="TOML file of settings.")
@click.option("--engine", type=click.Choice(["auto", "prefect", "plain"]), default="auto", show_default=True)
@click.option("--archive", is_flag=True, help="Also write the .tgz that pycheops opens.")
@click.option("--strict", is_flag=True, help="Refuse deviating inputs; exit 3 if a step ended with a warning.")
@click.option("--wait", is_flag=True, help="Wait for another run on the visit.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@common
def reduce(
    visit: Path, references: tuple[Path, ...], output: Path, work: Path | None, from_step: str | None, until: str | None,
    replace: tuple[Path, ...], assignments: tuple[str, ...], settings_file: Path | None, engine: str, archive: bool,
    strict: bool, wait: bool, dry_run: bool, as_json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Reduce the visit in the folder VISIT, or go on from a published folder.

    Only what is missing or changed is done. The last line names the published folder.
    """

    def body() -> int:
        from schemas.requests import ReduceRequest, assign

        settings = read_toml(settings_file) if settings_file is not None else {}
        for assignment in assignments:
            assign(settings, assignment)
        for path in (visit, output, *references, *replace, *([work] if work else [])):
            if "\0" in str(path):
                raise UsageError("a path holds a NUL byte")
        request = ReduceRequest(
            visit=visit, references=references, output=output, work=work, from_step=from_step, until=until, replace=replace,
            settings=settings, archive=archive, strict=strict, wait=wait, dry_run=dry_run,
        )  # fmt: skip
        return reduced(request, engine, strict, as_json, quiet, verbose)

    guarded(body, verbose, work)


def reduced(request: Any, engine: str, strict: bool, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Reduce a visit under the engine that was asked for, and report; return the exit code."""
    from flows.reduce import run_reduce
    from flows.server import engine_for

    def chosen() -> contextlib.AbstractContextManager[str]:
        return engine_for(engine, request.work, quiet, verbose)

    published, run = run_reduce(request, chosen, Progress(quiet or as_json))
    warned = any("warning" in map(str, r.leaf.status.values()) for r in run.reports)
    if not quiet:
        for warning in dict.fromkeys(run.warnings):
            note(f"WARNING {warning}")
    if as_json:
        say(json.dumps(answer(published, run), indent=1))
    elif published is not None and published.folder:
        note(f"{'published' if published.new else 'nothing to do, it stands in'}")
        say(published.folder)
    elif request.dry_run:
        for r in run.reports:
            say(f"{r.step:21s} {r.outcome:9s} {r.why}".rstrip())
    else:
        note(f"stopped behind {request.until}; nothing is published")
    return 3 if strict and warned else 0


def answer(published: Any, run: Run) -> dict[str, Any]:
    """Return what --json says of a reduction."""
    steps = [
        {"step": r.step, "outcome": r.outcome, "seconds": round(r.seconds, 3), "key": r.key, "status": dict(r.leaf.status)}
        for r in run.reports
    ]
    outcome = published.model_dump(mode="json") if published is not None else None
    return {"visit": run.workspace.visit, "published": outcome, "engine": run.engine, "steps": steps, "warnings": run.warnings}


@main.command()
@click.argument("output", type=FOLDER)
@click.option("--case", "case_name", default="demo", show_default=True, help="Which visit.")
@click.option("--images", type=click.IntRange(min=1), help="Number of stacked images.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@common
def simulate(output: Path, case_name: str, images: int | None, seed: int, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Simulate the raw products of a visit into the new folder OUTPUT."""

    def body() -> int:
        from flows.simulate import simulate_into

        show = not quiet and not as_json
        simulate_into(output, case_name, images, seed, bar(show, "simulating") if show else None)
        say(json.dumps({"visit": str(output)}) if as_json else str(output))
        return 0

    guarded(body, verbose)


def bar(show: bool, label: str) -> Callable[[int, int], None]:
    """Return a function of (done, all) that shows progress on standard error: a bar on a terminal, else every tenth."""
    terminal = sys.stderr.isatty()
    shown = [-1]

    def advance(done: int, total: int) -> None:
        part = 10 * done // max(total, 1)
        if not show or (not terminal and part == shown[0]):
            return
        shown[0] = part
        if terminal:
            full = 30 * done // max(total, 1)
            note(f"\r{label} [{'#' * full}{'.' * (30 - full)}] {done}/{total}", nl=done == total)
        else:
            note(f"{label} {done}/{total}")

    return advance


CLAIM_FAILED = 4  # exit code of a validation that was done, but found a claim that is not met


@main.command()
@click.option("--case", "cases", multiple=True, metavar="NAME", help="Only this case; `budget` is the error budget.")
@click.option("--seeds", type=click.IntRange(min=1), help="Visits of each case [as many as its noise needs].")
@click.option("--images", type=click.IntRange(min=1), help="Stacks of each visit [the case's own].")
@click.option("--output", type=FOLDER, default=Path("validation"), show_default=True, help="Where results and parts stand.")
@click.option("--again", is_flag=True, help="Do parts again that are there.")
@common
def validate(
    cases: tuple[str, ...], seeds: int | None, images: int | None, output: Path, again: bool, as_json: bool, quiet: bool,
    verbose: bool,
) -> None:  # fmt: skip
    """Simulate visits, reduce them, and measure every claim of accuracy against the truth.

    Takes hours, in parts of a minute that are kept: the same command goes on where it was stopped. The last line names
    the page. Exit code 4: done, but a claim is not met.
    """

    def body() -> int:
        from flows.validate import run_validation
        from schemas.requests import ValidateRequest

        terminal = sys.stderr.isatty()

        def tell(text: str, end: bool) -> None:
            stop_if_asked()
            if not (quiet or as_json) and (end or terminal):
                note(f"\r\033[K{text}" if terminal else text, nl=end)

        request = ValidateRequest(cases=cases, seeds=seeds, images=images, output=output, again=again)
        result = run_validation(request, tell)
        if as_json:
            say(json.dumps(result, indent=1))
        else:
            counts = result["counts"]
            note(f"claims: {counts['pass']} pass, {counts['fail']} fail, {counts['open']} open")
            say(str(output / "validation.md"))
        return CLAIM_FAILED if result["failed"] else 0

    guarded(body, verbose)


@main.command()
@click.argument("folders", nargs=-1, type=FOLDER)
@click.option("--at", "when", default="", help="Time for which they are chosen, yyyy-mm-ddThh:mm:ss; default now.")
@common
def references(folders: tuple[Path, ...], when: str, as_json: bool, quiet: bool, verbose: bool) -> None:  # noqa: ARG001
    """List the reference files in FOLDERS (or the default library): kind, version, validity, and which is valid."""

    def body() -> int:
        from flows.references import list_references

        rows = list_references(folders, when)
        if as_json:
            say(json.dumps(rows, indent=1))
            return 0
        for row in rows:
            mark = "*" if row["chosen"] else " "
            say(f"{mark} {row['kind']:20s} {row['version']:5s} {row['valid_from']} .. {row['valid_to']}  {row['file']}")
            if row["note"]:
                say(f"    {row['note']}")
        return 0

    guarded(body, verbose)


@main.command()
@click.argument("visit", type=FOLDER)
@click.option("--image", type=int, required=True, metavar="I", help="Which image, counted from 0.")
@click.option("--aperture", default="DEFAULT", show_default=True, metavar="NAME", help="Which light curve.")
@click.option("--pixel", type=(int, int), metavar="X Y", help="One pixel of the CCD instead.")
@common
def explain(
    visit: Path, image: int, aperture: str, pixel: tuple[int, int] | None, as_json: bool,
    quiet: bool,  # noqa: ARG001
    verbose: bool,
) -> None:  # fmt: skip
    """Take the flux of one image of the published VISIT apart: each step, each term of the error, flags in words.

    With --pixel, a pixel in place of the flux: its bias, gain, thermal charge, response and flags, and how well it is known.
    """

    def body() -> int:
        from flows import tools

        found = tools.explain(visit, image, aperture) if pixel is None else tools.explain_pixel(visit, image, *pixel)
        return told(*found, as_json)

    guarded(body, verbose)


@main.command()
@click.argument("a", type=FOLDER)
@click.argument("b", type=FOLDER)
@common
def diff(a: Path, b: Path, as_json: bool, quiet: bool, verbose: bool) -> None:  # noqa: ARG001
    """Compare the published reductions A and B of a visit: ppm of flux by column, and what they were made from."""

    def body() -> int:
        from flows import tools

        return told(*tools.diff(a, b), as_json)

    guarded(body, verbose)


@main.command()
@click.argument("files", nargs=-1, type=FOLDER, required=True, metavar="FILE...")
@click.option("--strict", is_flag=True, help="Deviations are faults too.")
@common
def check(files: tuple[Path, ...], strict: bool, as_json: bool, quiet: bool, verbose: bool) -> None:  # noqa: ARG001
    """Hold each FILE (or the FITS files, reports and viewers in a folder) against the definition of its product.

    Structure, sums, keywords, columns, units, name; of pages, that they are whole, and fetch and run nothing.
    Exit code 65: a file is not as it is defined.
    """

    def body() -> int:
        from flows import tools

        answered, lines, error = tools.check(files, strict)
        told(answered, lines, as_json)
        if error is not None:
            raise error
        return 0

    guarded(body, verbose)


@main.command()
@click.argument("file", type=FOLDER)
@common
def show(file: Path, as_json: bool, quiet: bool, verbose: bool) -> None:  # noqa: ARG001
    """Show what FILE holds, a product, reference or term: its HDUs, what they mean, key numbers, used values."""

    def body() -> int:
        from flows import tools

        return told(*tools.show(file), as_json)

    guarded(body, verbose)


def told(answered: Any, lines: list[str], as_json: bool) -> int:
    """Write an answer as JSON or as lines; return exit code 0."""
    say(json.dumps(answered, indent=1) if as_json else "\n".join(lines))
    return 0


@main.command()
@click.argument("order", type=FOLDER, metavar="ORDER.xml")
@click.option("--log", "log_file", type=FOLDER, help="The log file [ORDER.log].")
@click.option("--engine", type=click.Choice(["auto", "prefect", "plain"]), default="auto", show_default=True)
@common
def job(order: Path, log_file: Path | None, engine: str, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Do what the scheduler's job order ORDER.xml says.

    Products and, last, a trigger file go to its output OUT, scratch to TMP, log lines to the streams and the log file.
    """
    from flows.soc_log import SocLog
    from schemas.orders import PROCESSOR, Level

    log = SocLog(PROCESSOR, VERSION, quiet=as_json, errors_only=quiet)

    def body() -> int:
        from flows.job import run_job
        from flows.server import engine_for

        code = run_job(order, lambda: engine_for(engine, None, True, verbose), log, log_file, stop_if_asked)
        if as_json:
            say(json.dumps({"order": str(order), "code": code}))
        return code

    guarded(body, verbose, hangs=lambda error: log(Level.ERROR, error))


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--once", is_flag=True, help="Do what is there, and end.")
@click.option("--every", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Look so often [s].")
@click.option(
    "--settle", type=click.FloatRange(min=0), default=1.0, show_default=True, help="An order keeps still so long [s]."
)
@click.option("--engine", type=click.Choice(["auto", "prefect", "plain"]), default="auto", show_default=True)
@common
def intake(
    folder: Path, once: bool, every: float, settle: float, engine: str, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Do the job orders that arrive in FOLDER, each once, and sort them into FOLDER/done and FOLDER/failed.

    Any number of these commands may run on one folder. Ends with 0 whatever became of the orders.
    """

    def body() -> int:
        from dataclasses import asdict

        from flows import intake as orders

        def tell(text: str) -> None:
            if not (quiet or as_json):
                note(text)

        def do(order: Path, lock: int) -> int:
            return orders.job_process(order, lock, engine)

        if not once:
            orders.watch(folder, every, do, settle, tell)
        outcomes = orders.intake(folder, do, settle, tell)
        if as_json:
            say(json.dumps([asdict(o) for o in outcomes], indent=1))
        else:
            counts = [f"{sum(o.state == state for o in outcomes)} {state}" for state in ("done", "failed", "again")]
            say(f"{len(outcomes)} orders: {', '.join(counts)}")
        return 0

    guarded(body, verbose)


@main.command()
@click.argument("visit", required=False)
@click.option("--output", type=FOLDER, default=Path("products"), show_default=True, help="Where products are published.")
@click.option("--work", type=FOLDER, help="Folder of intermediate products [DRP_WORK, or the user's cache].")
@click.option("--references", multiple=True, type=FOLDER, help="Folder of reference files, as for reduce.")
@click.option("--set", "assignments", multiple=True, metavar="STEP.NAME=VALUE", help="A setting, as for reduce.")
@common
def status(
    visit: str | None, output: Path, work: Path | None, references: tuple[Path, ...], assignments: tuple[str, ...],
    as_json: bool, quiet: bool, verbose: bool,  # noqa: ARG001
) -> None:  # fmt: skip
    """Show every visit: state, version, last step, verdict, age; for one VISIT what each step would do now, and why.

    VISIT is a folder, as for reduce, or the name of a published visit.
    """

    def body() -> int:
        from dataclasses import asdict

        from flows.status import age_text, visit_detail, visit_states
        from schemas.requests import assign
        from tasks.store import default_work_folder

        place = (work or default_work_folder(note)).absolute()
        if visit is None:
            states, detail = visit_states(output, place), None
        else:
            if "\0" in visit:
                raise UsageError("the visit holds a NUL byte")
            settings: dict[str, Any] = {}
            for assignment in assignments:
                assign(settings, assignment)
            detail = visit_detail(Path(visit), output, place, references, settings)
            states = [detail.summary]
        if as_json:
            rows: list[dict[str, Any]] = [{**asdict(s), "age": round(s.age, 1)} for s in states]
            more = {"steps": [asdict(s) for s in detail.steps], "warnings": detail.warnings} if detail is not None else {}
            say(json.dumps({**rows[0], **more} if detail is not None else rows, indent=1))
            return 0
        for s in states:
            age = age_text(s.age) if s.when else "-"
            say(f"{s.visit:17s} {s.state:9s} {s.version or '-':5s} {s.last_step or '-':21s} {s.verdict or '-':16s} {age}")
        for step in detail.steps if detail is not None else ():
            say(f"  {step.step:21s} {step.outcome:9s} {step.why}".rstrip())
        for warning in detail.warnings if detail is not None else ():
            note(f"WARNING {warning}")
        return 0

    guarded(body, verbose)


@main.command()
@click.option("--work", type=FOLDER, help="Folder of intermediate products [DRP_WORK, or the user's cache].")
@click.option("--older", metavar="AGE", help="Take away visits that nobody touched for so long: 30d, 12h.")
@click.option("--quota", metavar="SIZE", help="Keep no more than this: 50G. The oldest visits go first.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@common
def clean(
    work: Path | None, older: str | None, quota: str | None, dry_run: bool, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Take away intermediate products and reports on failures by age and quota.

    Published folders, and visits that a run holds, are left alone.

    A visit that was taken away can be reduced again, or from its published folder.
    """

    def body() -> int:
        from dataclasses import asdict

        from flows.clean import clean as clean_folder
        from flows.clean import parse_age, parse_size
        from flows.status import age_text
        from tasks.store import default_work_folder

        place = (work or default_work_folder(note)).absolute()
        age = parse_age(older) if older is not None else None
        visits = clean_folder(place, age, parse_size(quota) if quota is not None else None, dry_run)
        if as_json:
            say(json.dumps([asdict(v) for v in visits], indent=1))
            return 0
        for v in visits if not quiet else ():
            action = f"would {v.action}" if dry_run and v.action == "remove" else v.action
            say(f"{v.visit:17s} {v.bytes / 1e6:10.1f} MB {age_text(time.time() - v.when):>8s}  {action}")
        return 0

    guarded(body, verbose)


@main.command()
@click.argument("output", type=FOLDER)
@click.option("--references", multiple=True, type=FOLDER, help="Folder with new reference files.")
@click.option("--visits", multiple=True, type=FOLDER, help="Folder with the raw files of the visits, for steps that need them.")
@click.option("--work", type=FOLDER, help="Folder of intermediate products [DRP_WORK, or the user's cache].")
@click.option("--engine", type=click.Choice(["auto", "prefect", "plain"]), default="auto", show_default=True)
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@common
def reprocess(
    output: Path, references: tuple[Path, ...], visits: tuple[Path, ...], work: Path | None, engine: str, yes: bool,
    dry_run: bool, as_json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Reduce those visits published in OUTPUT again that new references, or new versions of steps, touch.

    Shows the plan with its cost first. Only the steps that are touched are done; what was published before stays.
    """

    def body() -> int:
        from dataclasses import asdict

        from flows import reprocess as again
        from flows.server import engine_for

        places = [p.absolute() for p in (*references, *visits)]
        planned = again.plan(output, places, work, lambda text: note(f"WARNING {text}"))
        for each in planned if not as_json else ():
            more = f" and what {', '.join(each.unknown)} takes" if each.unknown else ""
            note(f"{each.visit} from {each.steps[0]}, {len(each.steps)} steps, {each.seconds:.1f} s{more}")
            for line in [*each.reasons, *([] if each.raw else ["its raw files are in none of the folders"])]:
                note(f"    {line}")
        total = sum(each.seconds for each in planned)
        if not as_json:
            note(f"{len(planned)} visits, {total:.1f} s")
        go = (
            bool(planned)
            and not dry_run
            and (yes or (not as_json and sys.stdin.isatty() and click.confirm("Do it?", err=True)))
        )
        done: list[again.Done] = []
        if go:
            with engine_for(engine, work, quiet or as_json, verbose) as chosen:
                done = again.reprocess(
                    planned, output, places, work, chosen, Progress(quiet or as_json),
                    lambda d: None if as_json or d.code == 0 else note(f"ERROR {d.visit}: {d.text}"),
                )  # fmt: skip
        elif planned and not dry_run and not as_json:
            note("nothing was done: --yes does it")
        if as_json:
            say(json.dumps({"plan": [asdict(p) for p in planned], "done": [asdict(d) for d in done]}, indent=1))
        for d in done if not as_json else ():
            if d.code == 0:
                say(d.text)
        return next((d.code for d in done if d.code), 0)

    guarded(body, verbose, work)


@main.command()
@click.argument("visits", nargs=-1, required=True, type=FOLDER)
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="processors", help="At a time.")
@click.option("--references", multiple=True, type=FOLDER, help="Folder of reference files, as for reduce.")
@click.option("--output", type=FOLDER, default=Path("products"), show_default=True, help="Where products are published.")
@click.option("--work", type=FOLDER, help="Folder of intermediate products [DRP_WORK, or the user's cache].")
@click.option("--set", "assignments", multiple=True, metavar="STEP.NAME=VALUE", help="Change a setting.")
@click.option("--settings", "settings_file", type=FOLDER, help="TOML file of settings.")
@click.option("--engine", type=click.Choice(["auto", "prefect", "plain"]), default="auto", show_default=True)
@click.option("--archive", is_flag=True, help="Also write the .tgz that pycheops opens.")
@click.option("--strict", is_flag=True, help="Refuse deviating inputs; exit 3 if a step ended with a warning.")
@common
def campaign(
    visits: tuple[Path, ...], jobs: int, references: tuple[Path, ...], output: Path, work: Path | None,
    assignments: tuple[str, ...], settings_file: Path | None, engine: str, archive: bool, strict: bool, as_json: bool,
    quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Reduce several VISITS side by side. Each fails alone; the exit code is that of the first one that failed."""

    def body() -> int:
        from dataclasses import asdict

        from flows.campaign import VisitResult, run_campaign

        valued = [
            *(("--references", p) for p in references), *(("--set", a) for a in assignments), ("--output", output),
            ("--work", work), ("--settings", settings_file), ("--engine", engine),
        ]  # fmt: skip
        options = [str(part) for name, value in valued if value is not None for part in (name, value)]
        options += [name for name, on in (("--archive", archive), ("--strict", strict)) if on]

        def tell(r: VisitResult) -> None:
            if not (quiet or as_json):
                note(f"  {r.visit}: {f'code {r.code}' if r.code else 'done'}, {r.seconds:.1f} s")

        results = run_campaign(visits, options, jobs, tell)
        if as_json:
            say(json.dumps([asdict(r) for r in results], indent=1))
        for r in results if not as_json else ():
            say(f"{r.code:3d} {r.seconds:8.1f} s  {r.verdict or '-':16s}  {r.visit}  {r.text}")
        return next((r.code for r in results if r.code), 0)

    guarded(body, verbose, work)


@main.command()
@click.option("--database", envvar="DRP_DATABASE", default="", help="URL of a PostgreSQL data base [SQLite].", metavar="URL")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=4200, show_default=True, help="Of loopback; 0: any that is free."
)
@click.option("--runs", type=click.IntRange(min=1), default=2, show_default=True, help="Runs at a time.")
@common
@click.pass_context
def up(context: click.Context, database: str, port: int, runs: int, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Start a Prefect server, a worker and the deployments on this machine; later commands find them by themselves.

    A password of the data base is taken from DRP_DATABASE only. The last line is the address of the pages.
    """

    def body() -> int:
        from flows import keeper, local

        source = context.get_parameter_source("database")
        if source is click.core.ParameterSource.COMMANDLINE and local.has_password(database):
            raise UsageError("everybody can read a command line: give a URL with a password in DRP_DATABASE")
        state, new = local.up(database, port, runs, lambda text: None if quiet or as_json else note(text))
        pages, file = state.api.removesuffix("/api"), keeper.state_file(local.home_folder())
        if as_json:
            say(json.dumps({"new": new, "pages": pages, "api": state.api, "database": state.database, "state": str(file)}))
            return 0
        note(f"{'started' if new else 'it is up already'}; user and password of the pages: `auth` in {file}")
        say(pages)
        return 0

    guarded(body, verbose)


@main.command()
@common
def down(as_json: bool, quiet: bool, verbose: bool) -> None:
    """End what `drp up` started; runs that are under way are resumed by the next `drp up`."""

    def body() -> int:
        from flows import local

        ended = local.down()
        if as_json:
            say(json.dumps({"ended": ended}))
        elif not quiet:
            note("ended" if ended else "nothing was up")
        return 0

    guarded(body, verbose)


if __name__ == "__main__":
    main()
