"""Declares steps and recipes and runs them, plain or under Prefect. With `flows`, the only place that knows Prefect.

A step is a function of payloads and settings that returns `Leaves`: what it estimated, as HDUs, with its state and the
values it used. Calling it finds its record or runs it, writes the products, and returns the payload. A recipe is a function
that calls steps. Under the plain engine both are mere function calls. Under Prefect a step is a task, a recipe a flow; what
is found again ends as the state `Cached`. Products never depend on the server: where it stops answering in mid-run, the rest
is done plain.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, cast

import numpy as np
from pydantic import BaseModel

from schemas.errors import BadInputError, BusyError, StorageError, UsageError, plain, short_of_memory, wanted_memory
from schemas.inputs import term_input
from schemas.payloads import Inventory, Leaf, Product, Scalar, Status
from schemas.terms import NOT_OF_IMAGES, NOT_OF_WINDOW, TERMS, USED
from tasks import disk
from tasks.fits import Hdu, Value, blocks, open_declared, scan
from tasks.fits_writer import PUBLICATION, NewHdu, restamp, write_fits
from tasks.reasons import NOT_YET, ingredients, why
from tasks.store import Workspace, make_key

P = ParamSpec("P")
L = TypeVar("L", bound=Leaf)
R = TypeVar("R", bound=BaseModel)
# what stands in the headers of images and light curves before their publication
UNPUBLISHED: dict[str, Value] = {**PUBLICATION, **{f"RF_FIL{i}": "N/A" for i in range(1, 21)}}


@dataclass
class Leaves:
    """What a step function returns.

    `files` are products as HDUs, by name; `written` are names of products that the function wrote itself, under `new_file`;
    `blobs` are other files by name. `used` are values by declared keyword; `warning` says which fall-back was used.
    """

    files: Mapping[str, Sequence[NewHdu]] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)  # name -> EXTNAME
    blobs: dict[str, bytes] = field(default_factory=dict)
    used: Mapping[str, Scalar] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    skipped: bool = False
    status: dict[str, Status] = field(default_factory=dict)  # where a step owns more than one keyword


@dataclass
class StepReport:
    """What happened to one step in a run, for progress, manifest and tests. `why` says why a step would run."""

    step: str
    outcome: str  # done, cached, by hand, would run
    seconds: float
    key: str
    leaf: Leaf
    why: str = ""


@dataclass
class Run:
    """One run over one visit.

    A replacement takes the place of what the first call of its step leaves, the sub-array's, and is then struck off.
    """

    workspace: Workspace
    engine: str = "plain"  # plain or prefect
    forget: set[str] = field(default_factory=set)  # steps that are done again whatever the records say
    made: set[str] = field(default_factory=set)  # keys of what was done in this run
    until: str | None = None
    replacements: dict[str, Path] = field(default_factory=dict)  # EXTNAME -> a person's own version
    dry: bool = False
    records_only: bool = False  # what is not in the records raises WorkToDo
    retries: int = 2
    retry_delay: float = 1.0
    reports: list[StepReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tell: Callable[[str, StepReport | None], None] = lambda _step, _report: None

    def warn(self, text: str) -> None:
        """Note something that a person should know."""
        self.warnings.append(text)


class Stopped(Exception):
    """The run reached the step it was to stop behind."""


class WorkToDo(Exception):
    """A run from the records alone came to a step that is not in them."""


_run: ContextVar[Run | None] = ContextVar("drp_run", default=None)
_folder: ContextVar[Path | None] = ContextVar("drp_folder", default=None)
STEPS: dict[str, Step[..., Any]] = {}


def current_run() -> Run:
    """Return the run in which a step is called."""
    run = _run.get()
    if run is None:
        raise RuntimeError("a step was called outside of a run; call its .fn for the bare function")
    return run


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Make `run` the one in which steps are called."""
    token = _run.set(run)
    try:
        yield run
    finally:
        _run.reset(token)


def new_file(name: str) -> Path:
    """Return where a step that streams its product writes the file `name`."""
    folder = _folder.get()
    if folder is None:
        raise RuntimeError("no step is running")
    return folder / f"{name}.fits"


class Step(Generic[P, L]):
    """A declared step. `fn` is the bare function, `leaves` the EXTNAMEs of the products it leaves."""

    def __init__(
        self,
        fn: Callable[P, Leaves],
        name: str,
        payload: type[L],
        keywords: tuple[str, ...],
        version: str,
        leaves: tuple[str, ...],
    ) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name
        self.payload = payload
        self.keywords = keywords
        self.version = version
        self.leaves = leaves
        self._signature = inspect.signature(fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> L:
        """Run the step, or take its result from the records."""
        run = current_run()
        run.tell(self.name, None)
        leaf = self._under_prefect(run, args, kwargs) if _prefect(run) else self._work(run, args, kwargs, run.retries)[0]
        if run.until == self.name:
            raise Stopped(self.name)
        return leaf

    def key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the key of the step for these arguments."""
        return make_key(self.name, self.version, self._arguments(args, kwargs))

    def _arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def _work(self, run: Run, args: tuple[Any, ...], kwargs: Mapping[str, Any], retries: int) -> tuple[L, bool]:
        """Return the payload, and whether it was found in the records."""
        started = time.perf_counter()
        key = self.key(args, kwargs)
        known = self.name not in run.forget or key in run.made
        replaced = {name: run.replacements[name] for name in self.leaves if name in run.replacements}
        outcome, reason = "cached", ""
        doubts = len(run.warnings)
        leaf: L | None
        if replaced and run.records_only:
            raise WorkToDo(self.name)
        if replaced and set(replaced) == set(self.leaves):
            leaf = self.payload(step=self.name, status=dict.fromkeys(self.keywords, Status.COMPLETED))
        elif known and (leaf := run.workspace.believe(self.name, key, self.payload, run.warn)) is not None:
            pass
        elif run.dry:
            nothing = {name: Product(path="", sha256=NOT_YET, extname=name) for name in self.leaves}
            leaf, outcome = self.payload(step=self.name, products=nothing), "would run"
            made = ingredients(self.version, self._arguments(args, kwargs))
            reason = "asked for" if not known else (run.warnings[doubts:] or [why(run.workspace, self.name, made)])[0]
        elif run.records_only:
            raise WorkToDo(self.name)
        else:
            leaf, outcome = self._retry(run, key, args, kwargs, retries), "done"
            made = ingredients(self.version, self._arguments(args, kwargs))
            facts = {"seconds": round(time.perf_counter() - started, 4), "engine": run.engine, "made_from": made}
            run.workspace.remember(self.name, key, leaf, facts)
            run.made.add(key)
            disk.crash_point(f"after {self.name}")
        if replaced:
            leaf, outcome = self._by_hand(run, leaf, replaced), "by hand"
            for name in replaced:
                del run.replacements[name]
        report = StepReport(self.name, outcome, time.perf_counter() - started, key, leaf, reason)
        run.reports.append(report)
        run.tell(self.name, report)
        return leaf, outcome == "cached"

    def _retry(self, run: Run, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], retries: int) -> L:
        for attempt in range(retries + 1):
            try:
                return self._execute(run, key, args, kwargs)
            except StorageError as error:
                if attempt == retries or not _transient(error):
                    raise
                run.warn(f"{self.name}: {error}; tried again")
                time.sleep(run.retry_delay * 2**attempt)
            except (MemoryError, ImportError, OSError) as error:
                if not short_of_memory(error):
                    raise
                raise BusyError(f"{self.name}: {wanted_memory(error)}") from error
        raise AssertionError("unreachable")

    def _execute(self, run: Run, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> L:
        inputs = list(products_in([*args, *kwargs.values()]))
        before = {p.path: run.workspace.digests.fingerprint(Path(p.path)) for p in inputs if os.path.exists(p.path)}
        for product in inputs:
            if product.path in before and run.workspace.digests.of(Path(product.path)) != product.sha256:
                raise BadInputError(f"{product.path}: changed since this run began")

        def unchanged() -> None:
            for path, fingerprint in before.items():
                if not os.path.exists(path) or run.workspace.digests.fingerprint(Path(path)) != fingerprint:
                    raise BadInputError(f"{path}: changed while {self.name} read it")

        folder = run.workspace.folder(self.name, key)
        disk.remove(folder)
        disk.make_folder(folder)
        disk.crash_point(f"before {self.name}")
        token = _folder.set(folder)
        try:
            made = self.fn(*args, **kwargs)
            products = self._write(made, folder, run)
        except Exception:
            unchanged()  # whatever the step met in a file that was being written is not what the file says
            raise
        finally:
            _folder.reset(token)
        unchanged()
        disk.crash_point(f"within {self.name}")
        unknown = set(made.used) - set(USED)
        if unknown:
            raise KeyError(f"{self.name} used {sorted(unknown)[0]}, which is not declared")
        state = Status.SKIPPED if made.skipped else Status.WARNING if made.warnings else Status.COMPLETED
        status = {**dict.fromkeys(self.keywords, state), **made.status}
        used, warnings = dict(made.used), tuple(made.warnings)
        return self.payload(step=self.name, products=products, status=status, used=used, warnings=warnings)

    def _write(self, made: Leaves, folder: Path, run: Run) -> dict[str, Product]:
        products = {}
        for name, hdus in made.files.items():
            path = folder / f"{name}.fits"
            write_fits(path, hdus)
            products[name] = Product(path=str(path), sha256=run.workspace.digests.of(path), extname=hdus[0].declared.extname)
        for name, extname in made.written.items():
            path = folder / f"{name}.fits"
            products[name] = Product(path=str(path), sha256=run.workspace.digests.of(path), extname=extname)
        for name, data in made.blobs.items():
            path = folder / name
            disk.write_file(path, data)
            products[name] = Product(path=str(path), sha256=run.workspace.digests.of(path), extname=name)
        return products

    def _by_hand(self, run: Run, leaf: L, replaced: Mapping[str, Path]) -> L:
        """Return the payload with a person's own products in place of the step's."""
        products, used = dict(leaf.products), dict(leaf.used)
        for name, path in replaced.items():
            own = path if run.dry else _taken(run.workspace, name, path)
            products[name] = Product(path=str(own), sha256=run.workspace.digests.of(own), extname=name)
            if name in TERMS:
                used.update(_used_values(own, name))
        text = f"{self.name}: {', '.join(replaced)} given by hand"
        return leaf.model_copy(
            update={"products": products, "used": used, "by_hand": tuple(replaced), "warnings": (*leaf.warnings, text)}
        )

    # ------------------------------------------------------------------------------------------------------------ Prefect

    def _under_prefect(self, run: Run, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> L:
        """Run the step as a Prefect task. What the step itself did counts; where Prefect fails, the rest is done plain."""
        from prefect.states import Completed

        ended: list[L | Exception] = []  # the last attempt

        @functools.wraps(self.fn)
        def body(*_args: Any, **_kwargs: Any) -> Any:
            ended.clear()
            try:
                leaf, cached = self._work(run, args, kwargs, 0)
            except Exception as error:
                ended.append(error)
                if _transient(error):
                    run.warn(f"{self.name}: {error}; tried again")
                raise
            ended.append(leaf)
            name = "Cached" if cached else "ByHand" if leaf.by_hand else None
            data = leaf.model_dump(mode="json")
            return Completed(name=name, data=data) if name else data

        try:
            self._as_task(run, body)(*args, **kwargs)
        except Exception as error:
            if ended and ended[0] is error:
                raise
            _leave_prefect(run, error)
        if ended and isinstance(ended[0], Exception) and not _transient(ended[0]):
            raise ended[0]
        if ended and not isinstance(ended[0], Exception):
            return ended[0]
        return self._work(run, args, kwargs, run.retries)[0]

    def _as_task(self, run: Run, body: Callable[..., Any]) -> Callable[..., Any]:
        from prefect import task
        from prefect.cache_policies import NO_CACHE

        return task(
            name=self.name,
            description=(self.fn.__doc__ or "").splitlines()[0],
            task_run_name=f"{self.name} {run.workspace.visit}",
            tags=[run.workspace.visit],
            retries=run.retries,
            retry_delay_seconds=run.retry_delay,
            retry_condition_fn=lambda _task, _run, state: _transient(state.data),
            cache_policy=NO_CACHE,
            persist_result=False,
            result_serializer="json",
        )(body)


def step(
    name: str, *keywords: str, version: str, payload: type[L], leaves: Sequence[str]
) -> Callable[[Callable[P, Leaves]], Step[P, L]]:
    """Declare a step: its name, its header keywords, its version, the payload it returns, the products it leaves.

    A version changes whenever the same input could give other bytes: what the step made before is then made again.
    """

    def declare(fn: Callable[P, Leaves]) -> Step[P, L]:
        declared = Step(fn, name, payload, keywords, version, tuple(leaves))
        STEPS[name] = declared
        return declared

    return declare


def history(leaves: Sequence[Leaf]) -> tuple[str, ...]:
    """Return a line for each step that made something: its name, version and state, and what was odd."""
    lines = []
    for leaf in leaves:
        states = dict.fromkeys(map(str, leaf.status.values())) or {
            str(Status.WARNING if leaf.warnings else Status.COMPLETED): None
        }
        told = "".join(f"; {warning}" for warning in leaf.warnings)
        lines.append(f"{leaf.step} {STEPS[leaf.step].version}: {', '.join(states)}{told}")
    return tuple(lines)


class Recipe(Generic[P, R]):
    """A function that calls steps or recipes in order; under Prefect a flow."""

    def __init__(self, fn: Callable[P, R], result: type[R], name: str) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.result = result
        self.name = name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the recipe within the current run."""
        run = current_run()
        if not _prefect(run):
            return self.fn(*args, **kwargs)
        ended: list[R | BaseException] = []
        from prefect import tags

        try:
            with tags(run.workspace.visit):
                self._as_flow(ended, run)(*args, **kwargs)
        except Exception as error:
            if not ended or ended[0] is not error:
                _leave_prefect(run, error)
        if not ended:
            return self.fn(*args, **kwargs)
        if isinstance(ended[0], BaseException):
            raise ended[0]
        return ended[0]

    def _as_flow(self, ended: list[R | BaseException], run: Run) -> Callable[P, Any]:
        from prefect import flow
        from prefect.states import Completed

        @functools.wraps(self.fn)
        def body(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                ended.append(self.fn(*args, **kwargs))
            except BaseException as error:
                ended.append(error)
                if isinstance(error, Stopped):
                    return Completed(name="Stopped", message=f"stopped behind {error}")
                raise
            return ended[0]

        name = f"{self.name} {run.workspace.visit}"
        options: dict[str, Any] = {"name": self.name, "flow_run_name": name, "persist_result": False}
        return cast("Callable[P, Any]", flow(**options, result_serializer="json", validate_parameters=False)(body))


def recipe(result: type[R], name: str) -> Callable[[Callable[P, R]], Recipe[P, R]]:
    """Declare a recipe that returns `result`."""
    return lambda fn: Recipe(fn, result, name)


def _prefect(run: Run) -> bool:
    """Whether a call goes to Prefect; where its server is gone, the rest of the run is done plain."""
    if run.engine != "prefect" or run.dry:
        return False
    if not server_answers():
        _leave_prefect(run, None)
    return run.engine == "prefect"


def _leave_prefect(run: Run, error: Exception | None) -> None:
    if run.engine == "plain":
        return
    run.engine = "plain"
    reason = "does not answer"
    if error is not None and server_answers():
        reason = f"failed ({type(error).__name__}: {plain(error, limit=200)})"
    run.warn(f"the Prefect server {reason}: the rest of this run is done without it")
    from prefect.context import SyncClientContext

    # the flows that are still open report their end over this connection: closed, it fails at once, and not after minutes
    if (context := SyncClientContext.get()) is not None:
        context.client.__exit__(None, None, None)


def _transient(error: object) -> bool:
    return isinstance(error, StorageError) and not error.permanent


def server_answers(timeout: float = 5.0) -> bool:
    """Whether the Prefect server that is named by PREFECT_API_URL answers now."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return False
    if not url.startswith(("http://", "https://")):
        return False
    request = urllib.request.Request(f"{url.rstrip('/')}/health")  # noqa: S310
    if auth := os.environ.get("PREFECT_API_AUTH_STRING"):
        import base64

        request.add_header("Authorization", "Basic " + base64.b64encode(auth.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def products_in(values: Sequence[object]) -> Iterator[Product]:
    """Yield the products that some payloads, or collections of them, name."""
    for value in values:
        if isinstance(value, Product):
            yield value
        elif isinstance(value, BaseModel):
            yield from products_in([getattr(value, name) for name in type(value).model_fields])
        elif isinstance(value, Mapping):
            yield from products_in(list(value.values()))
        elif isinstance(value, tuple | list):
            yield from products_in(list(value))


def _used_values(path: Path, extname: str) -> dict[str, Value]:
    with open_declared(path, term_input(extname), sums=True) as file:
        hdu = file[extname]
        return {name: hdu.keyword(name) for name in TERMS[extname].keywords if name in USED}


def replacement(path: Path) -> tuple[str, Path]:
    """Return (name of the product, path) of a file that a person wants in place of a step's own.

    Raises
    ------
    UsageError
        If no step leaves such a product.
    BadInputError
        If the file is not what it claims to be, or deviates from its definition: it is to be published.
    """
    from schemas.inputs import level1_input

    with scan(path) as file:
        extname = file.extname
    owners = [s.name for s in STEPS.values() if extname in s.leaves]
    if not owners:
        known = ", ".join(sorted({name for s in STEPS.values() for name in s.leaves}))
        raise UsageError(f"{path}: no step leaves {plain(extname)}; what can be replaced: {known}")
    declared = term_input(extname) if extname in TERMS else level1_input(extname)
    with open_declared(path, declared, sums=True) as file:
        if file.deviations:
            raise BadInputError(f"{path}: a replacement must be as it is defined: {file.deviations[0]}")
        if extname in TERMS:
            check_finite(file[extname])
        else:
            check_no_infinity(file[extname])
    return extname, path


def check_images(path: Path, found: Inventory) -> None:
    """Refuse a replacement that is not of the visit's images, or of its window where the raw sub-array is there to compare."""
    with scan(path) as file:
        for hdu in file.hdus[1:] if not file.extname.endswith(("Imagette", "FullArray")) else ():
            axes = hdu.shape
            if "TFIELDS" in hdu.header:
                of_images = "MJD_TIME" in hdu.present() and hdu.extname not in NOT_OF_IMAGES
            else:
                of_images = len(axes) == 3 or hdu.extname == "TERM_SMEARING"
            if of_images and axes[0] != found.images:
                raise hdu.refuse(f"is of {axes[0]} images, the visit has {found.images}")
            if "X_WINOFF" in hdu.header and hdu.extname not in NOT_OF_WINDOW and os.path.exists(found.subarray.path):
                with scan(Path(found.subarray.path)) as raw:
                    header, shape = raw.hdus[1].header, raw.hdus[1].shape[1:]
                window = [(h.get("X_WINOFF"), h.get("Y_WINOFF"), s) for h, s in ((hdu.header, axes[-2:]), (header, shape))]
                if window[0] != window[1]:
                    raise hdu.refuse(f"is of the window (x, y, shape) {window[0]}, the visit's is {window[1]}")


def _taken(workspace: Workspace, name: str, path: Path) -> Path:
    """Return our own copy of a replacement. In images, what publication filled in stands for nothing again."""
    digest = workspace.digests.of(path)
    folder = workspace.folder("hand", digest)
    own = folder / f"{name}.fits"
    if own.exists() and own.samefile(path):
        return own
    disk.remove(folder)
    disk.make_folder(folder)
    if name in TERMS:
        disk.copy_file(path, own)
    else:
        restamp(path, own, UNPUBLISHED)
    if workspace.digests.of(path) != digest or (name in TERMS and workspace.digests.of(own) != digest):
        raise BadInputError(f"{path}: changed while it was read")
    return own


def check_no_infinity(hdu: Hdu) -> None:
    """Refuse a cube with infinite pixels; NaN is no data."""
    ny, nx = hdu.shape[-2:]
    planes = blocks(hdu.rows, ny * nx * 8) if len(hdu.shape) == 3 else [(0, ny)]
    if bad := sum(int(np.count_nonzero(np.isinf(hdu.stored(a, b)))) for a, b in planes):
        raise hdu.refuse(f"{bad} pixels are infinite")


# Columns of terms that hold a number in every row: what cannot be measured is filled in by the step and flagged.
_FILLED = frozenset(("MJD_TIME", "LEVEL", "LEVEL_ERR", "RON", "GAIN", "BOUNDARY", "COEF_0", "COEF_1", "COEF_2", "COEF_3"))
_NOT_FILLED = frozenset((("TERM_PSF_FIT", "LEVEL"),))


def check_finite(hdu: Hdu) -> None:
    """Refuse a term with pixels that are no numbers, or without a number in a column that always has one."""
    assert hdu.declared is not None
    if hdu.declared.image:
        hdu.finite_image()
    for column in hdu.declared.columns:
        if column.name in _FILLED and (hdu.extname, column.name) not in _NOT_FILLED:
            hdu.finite_column(column.name)
