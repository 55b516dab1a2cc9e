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

from pydantic import BaseModel

from schemas.errors import BadInputError, BusyError, DrpError, StorageError, UsageError
from schemas.inputs import term_input
from schemas.payloads import Leaf, Product, Scalar, Status
from schemas.terms import TERMS, USED
from tasks import disk
from tasks.fits import NewHdu, Value, open_declared, write_fits
from tasks.store import Workspace, make_key

P = ParamSpec("P")
L = TypeVar("L", bound=Leaf)
R = TypeVar("R", bound=BaseModel)


@dataclass
class Leaves:
    """What a step function returns.

    `files` are products as HDUs, by name; `written` are names of products that the function wrote itself, under `new_file`;
    `blobs` are other files by name. `used` are values by declared keyword; `warning` says which fall-back was used.
    """

    files: dict[str, Sequence[NewHdu]] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)  # name -> EXTNAME
    blobs: dict[str, bytes] = field(default_factory=dict)
    used: dict[str, Scalar] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    skipped: bool = False
    status: dict[str, Status] = field(default_factory=dict)  # where a step owns more than one keyword


@dataclass
class StepReport:
    """What happened to one step in a run, for progress, manifest and tests."""

    step: str
    outcome: str  # done, cached, by hand, would run
    seconds: float
    key: str
    leaf: Leaf


@dataclass
class Run:
    """One run over one visit."""

    workspace: Workspace
    engine: str = "plain"  # plain or prefect
    forget: set[str] = field(default_factory=set)
    until: str | None = None
    replacements: dict[str, Path] = field(default_factory=dict)  # EXTNAME -> a person's own version
    dry: bool = False
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
        if run.engine == "prefect" and not run.dry and server_answers():
            try:
                return self._unwrap(self._as_task(run)(*args, **kwargs))
            except DrpError:
                raise
            except Exception:
                if server_answers():
                    raise
                _leave_prefect(run)
        elif run.engine == "prefect" and not run.dry:
            _leave_prefect(run)
        return self._work(run, args, kwargs, run.retries)[0]

    def key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the key of the step for these arguments."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return make_key(self.name, self.version, bound.arguments)

    def _work(self, run: Run, args: tuple[Any, ...], kwargs: Mapping[str, Any], retries: int) -> tuple[L, bool]:
        """Return the payload, and whether it was found in the records."""
        started = time.perf_counter()
        key = self.key(args, kwargs)
        hit = None if self.name in run.forget else run.workspace.believe(self.name, key, self.payload, run.warn)
        run.forget.discard(self.name)
        replaced = {name: run.replacements[name] for name in self.leaves if name in run.replacements}
        outcome = "cached" if hit is not None else "done"
        if replaced and hit is None and set(replaced) == set(self.leaves):
            leaf, outcome = self.payload(step=self.name, status=dict.fromkeys(self.keywords, Status.COMPLETED)), "by hand"
        elif hit is not None:
            leaf = hit
        elif run.dry:
            nothing = {name: Product(path="", sha256="0" * 64, extname=name) for name in self.leaves}
            leaf, outcome = self.payload(step=self.name, products=nothing), "would run"
        else:
            leaf = self._retry(run, key, args, kwargs, retries)
            facts = {"seconds": round(time.perf_counter() - started, 4), "engine": run.engine}
            run.workspace.remember(self.name, key, leaf, facts)
            disk.crash_point(f"after {self.name}")
        if replaced and not run.dry:
            leaf, outcome = self._by_hand(run, leaf, replaced), "by hand"
        report = StepReport(self.name, outcome, time.perf_counter() - started, key, leaf)
        run.reports.append(report)
        run.tell(self.name, report)
        if run.until == self.name:
            raise Stopped(self.name)
        return leaf, outcome == "cached"

    def _retry(self, run: Run, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], retries: int) -> L:
        for attempt in range(retries + 1):
            try:
                return self._execute(run, key, args, kwargs)
            except StorageError as error:
                if error.permanent or attempt == retries:
                    raise
                run.warn(f"{self.name}: {error}; tried again")
                time.sleep(run.retry_delay * 2**attempt)
            except MemoryError as error:
                raise BusyError(f"{self.name}: not enough memory") from error
        raise AssertionError("unreachable")

    def _execute(self, run: Run, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> L:
        inputs = list(_products([*args, *kwargs.values()]))
        before = {p.path: run.workspace.digests.fingerprint(Path(p.path)) for p in inputs if os.path.exists(p.path)}
        for product in inputs:
            if product.path in before and run.workspace.digests.of(Path(product.path)) != product.sha256:
                raise BadInputError(f"{product.path}: changed since this run began")
        folder = run.workspace.folder(self.name, key)
        disk.remove(folder)
        disk.make_folder(folder)
        disk.crash_point(f"before {self.name}")
        token = _folder.set(folder)
        try:
            made = self.fn(*args, **kwargs)
            products = self._write(made, folder, run)
        finally:
            _folder.reset(token)
        for path, fingerprint in before.items():
            if run.workspace.digests.fingerprint(Path(path)) != fingerprint:
                raise BadInputError(f"{path}: changed while {self.name} read it")
        disk.crash_point(f"within {self.name}")
        unknown = set(made.used) - set(USED)
        if unknown:
            raise KeyError(f"{self.name} used {sorted(unknown)[0]}, which is not declared")
        state = Status.SKIPPED if made.skipped else Status.WARNING if made.warnings else Status.COMPLETED
        status = {**dict.fromkeys(self.keywords, state), **made.status}
        return self.payload(step=self.name, products=products, status=status, used=made.used, warnings=tuple(made.warnings))

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
            digest = run.workspace.digests.of(path)
            folder = run.workspace.folder("hand", digest)
            disk.make_folder(folder)
            own = folder / f"{name}.fits"
            if not own.exists() or run.workspace.digests.of(own) != digest:
                disk.remove(own)
                disk.copy_file(path, own)
            products[name] = Product(path=str(own), sha256=digest, extname=name)
            if name in TERMS:
                used.update(_used_values(own, name))
        text = f"{self.name}: {', '.join(replaced)} given by hand"
        return leaf.model_copy(
            update={"products": products, "used": used, "by_hand": tuple(replaced), "warnings": (*leaf.warnings, text)}
        )

    # ------------------------------------------------------------------------------------------------------------ Prefect

    def _as_task(self, run: Run) -> Callable[P, Any]:
        """The step as a Prefect task."""
        from prefect import task
        from prefect.cache_policies import NO_CACHE
        from prefect.states import Completed

        def again(_task: object, _run: object, state: Any) -> bool:
            error = state.result(raise_on_failure=False)
            return isinstance(error, StorageError) and not error.permanent

        @functools.wraps(self.fn)
        def body(*args: P.args, **kwargs: P.kwargs) -> Any:
            leaf, cached = self._work(run, args, kwargs, 0)
            name = "Cached" if cached else "ByHand" if leaf.by_hand else None
            data = leaf.model_dump(mode="json")
            return Completed(name=name, data=data) if name else data

        return task(
            name=self.name,
            description=(self.fn.__doc__ or "").splitlines()[0],
            task_run_name=f"{self.name} {run.workspace.visit}",
            tags=[run.workspace.visit],
            retries=run.retries,
            retry_delay_seconds=run.retry_delay,
            retry_condition_fn=again,
            cache_policy=NO_CACHE,
            persist_result=False,
            result_serializer="json",
        )(body)

    def _unwrap(self, outcome: Any) -> L:
        data = outcome.data if hasattr(outcome, "is_completed") else outcome
        return self.payload.model_validate(data)


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
        if run.engine != "prefect" or run.dry or not server_answers():
            return self.fn(*args, **kwargs)
        done: list[R] = []
        try:
            return self._as_flow(done, run)(*args, **kwargs)
        except (DrpError, Stopped):
            raise
        except Exception:
            if server_answers():
                raise
            _leave_prefect(run)
            return done[0] if done else self.fn(*args, **kwargs)

    def _as_flow(self, done: list[R], run: Run) -> Callable[P, R]:
        from prefect import flow

        @functools.wraps(self.fn)
        def body(*args: P.args, **kwargs: P.kwargs) -> R:
            done.append(self.fn(*args, **kwargs))
            return done[0]

        name = f"{self.name} {run.workspace.visit}"
        options: dict[str, Any] = {"name": self.name, "flow_run_name": name, "persist_result": False}
        return cast(Callable[P, R], flow(**options, result_serializer="json", validate_parameters=False)(body))


def recipe(result: type[R], name: str) -> Callable[[Callable[P, R]], Recipe[P, R]]:
    """Declare a recipe that returns `result`."""
    return lambda fn: Recipe(fn, result, name)


def _leave_prefect(run: Run) -> None:
    run.engine = "plain"
    run.warn("the Prefect server does not answer any more: the rest of this run is done without it")


def server_answers(timeout: float = 2.0) -> bool:
    """Whether the Prefect server that is named by PREFECT_API_URL answers now."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return False
    request = urllib.request.Request(f"{url.rstrip('/')}/health")  # noqa: S310
    if auth := os.environ.get("PREFECT_API_AUTH_STRING"):
        import base64

        request.add_header("Authorization", "Basic " + base64.b64encode(auth.encode()).decode())
    if not url.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _products(values: Sequence[object]) -> Iterator[Product]:
    for value in values:
        if isinstance(value, Product):
            yield value
        elif isinstance(value, BaseModel):
            yield from _products([getattr(value, name) for name in type(value).model_fields])
        elif isinstance(value, Mapping):
            yield from _products(list(value.values()))
        elif isinstance(value, tuple | list):
            yield from _products(list(value))


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
        If the file is not what it claims to be.
    """
    from tasks.fits import scan

    with scan(path) as file:
        extname = file.extname
    owners = [s.name for s in STEPS.values() if extname in s.leaves]
    if not owners:
        known = ", ".join(sorted({name for s in STEPS.values() for name in s.leaves}))
        raise UsageError(f"{path}: no step leaves {extname}; what can be replaced: {known}")
    if extname in TERMS:
        _used_values(path, extname)
        with open_declared(path, term_input(extname)) as file:
            check_finite(file[extname])
    else:
        from schemas.inputs import level1_input

        open_declared(path, level1_input(extname), sums=True).close()
    return extname, path


def check_finite(hdu: Any) -> None:
    """Refuse an image with pixels that are no numbers, or a column without any number."""
    if hdu.declared.image:
        hdu.finite_image()
