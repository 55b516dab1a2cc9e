"""Steps and recipes: how they are declared, and how they run, plain or under Prefect.

A step is a function of payloads and settings that returns `Leaves`: its estimates as HDUs, its
state and the values it used. Calling it finds its record or runs it, writes the products, and
returns the payload. A recipe is a function that calls steps. Under the plain engine both are mere
function calls. Under Prefect a step is a task and a recipe a flow; a result found in the records
ends in the state `Cached`. Products never depend on the server: if it stops answering during a
run, the run continues without it.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple

from pydantic import BaseModel

from schemas.errors import (
    BadInputError,
    BusyError,
    DrpError,
    StorageError,
    disk_failure,
    shortage,
)
from schemas.payloads import Leaf, Product, Reference, Scalar, Status
from schemas.products import Structure
from schemas.terms import TERMS
from schemas.used import USED
from tasks.engine.by_hand import own_copy, used_values
from tasks.engine.declared import declarations
from tasks.engine.generic import L, P, R
from tasks.engine.keys import make_key
from tasks.engine.prefect import call_flow, call_task, is_transient, uses_prefect
from tasks.engine.reasons import NOT_YET, ingredients, why
from tasks.engine.run import STEPS, Run, StepReport, Stopped, WorkToDo, current_run, writing_to
from tasks.engine.source import source_digest
from tasks.files import disk
from tasks.files.writer import NewHdu, write_fits


@dataclass
class Leaves:
    """The result of a step function.

    `files` are products as HDUs, by name; `written` are names of products that the function wrote
    itself, under `new_file`; `blobs` are other files by name. `used` are values by declared
    keyword; a warning names the fall-back that was used.
    """

    files: Mapping[str, Sequence[NewHdu]] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)  # name -> EXTNAME
    blobs: dict[str, bytes] = field(default_factory=dict)
    used: Mapping[str, Scalar] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    skipped: bool = False
    # of a step that owns more than one keyword
    status: dict[str, Status] = field(default_factory=dict)

    @property
    def state(self) -> Status:
        """How the step ended."""
        if self.skipped:
            return Status.SKIPPED
        return Status.WARNING if self.warnings else Status.COMPLETED


class _Call(NamedTuple):
    """One call of a step within a run."""

    run: Run
    key: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class _Result(NamedTuple, Generic[L]):
    """The payload of a call and its outcome; `why` gives the reason for work in a dry run."""

    leaf: L
    outcome: str
    why: str = ""


class Step(Generic[P, L]):
    """A declared step: `fn` is the bare function, `leaves` are the EXTNAMEs of its products.

    `writes` are products that cannot be replaced, or structures that extend those of `leaves`.
    """

    def __init__(
        self,
        fn: Callable[P, Leaves],
        name: str,
        payload: type[L],
        keywords: tuple[str, ...],
        version: str,
        leaves: tuple[str, ...],
        writes: tuple[str | Structure, ...] = (),
    ) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name
        self.payload = payload
        self.keywords = keywords
        self.version = version
        self.leaves = leaves
        self.writes = writes
        self._signature = inspect.signature(fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> L:
        """Run the step, or return its result from the records."""
        run = current_run()
        run.report_progress(self.name, None)

        def work(retries: int) -> tuple[L, bool]:
            return self._work(run, args, kwargs, retries)

        leaf = (
            call_task(run, self.name, self.fn, args, kwargs, work)
            if uses_prefect(run)
            else work(run.retries)[0]
        )
        if run.until == self.name:
            raise Stopped(self.name)
        return leaf

    def key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the key of the step for these arguments."""
        return make_key(self.name, self.version, self.declarations(), self._arguments(args, kwargs))

    def declarations(self) -> dict[str, str]:
        """Return the digests of the structures that the step may write, by EXTNAME."""
        return declarations((*self.leaves, *self.writes))

    def _arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def _ingredients(self, call: _Call) -> dict[str, Scalar | None]:
        arguments = self._arguments(call.args, call.kwargs)
        return ingredients(self.version, self.declarations(), arguments)

    def _work(
        self, run: Run, args: tuple[Any, ...], kwargs: Mapping[str, Any], retries: int
    ) -> tuple[L, bool]:
        """Return the payload, and whether it was found in the records."""
        started = time.perf_counter()
        call = _Call(run, self.key(args, kwargs), args, kwargs)
        replaced = {
            name: run.replacements[name] for name in self.leaves if name in run.replacements
        }
        if replaced and run.records_only:
            raise WorkToDo(self.name)
        if replaced and set(replaced) == set(self.leaves):
            status = dict.fromkeys(self.keywords, Status.COMPLETED)
            result = _Result(self.payload(step=self.name, status=status), "by hand")
        else:
            result = self._find_or_run(call, retries)
        if replaced:
            leaf = self._replace_products(run, result.leaf, replaced)
            result = _Result(leaf, "by hand", result.why)
            for name in replaced:
                del run.replacements[name]
        seconds = time.perf_counter() - started
        report = StepReport(self.name, result.outcome, seconds, call.key, result.leaf, result.why)
        run.reports.append(report)
        run.report_progress(self.name, report)
        return result.leaf, result.outcome == "cached"

    def _find_or_run(self, call: _Call, retries: int) -> _Result[L]:
        """Return the recorded payload, or run the step; in a dry run only say that it would run."""
        run, doubts = call.run, len(call.run.warnings)
        forgotten = self.name in run.forget and call.key not in run.made
        if not forgotten:
            leaf = run.workspace.believe(self.name, call.key, self.payload, run.warn)
            if leaf is not None:
                return _Result(leaf, "cached")
        if run.dry:
            names = [*self.leaves, *(name for name in self.writes if isinstance(name, str))]
            nothing = {name: Product(path="", sha256=NOT_YET, extname=name) for name in names}
            if forgotten:
                reason = "requested"
            elif run.warnings[doubts:]:
                reason = run.warnings[doubts]
            else:
                reason = why(run.workspace, self.name, self._ingredients(call))
            return _Result(self.payload(step=self.name, products=nothing), "would run", reason)
        if run.records_only:
            raise WorkToDo(self.name)
        return _Result(self._run_and_record(call, retries), "done")

    def _run_and_record(self, call: _Call, retries: int) -> L:
        started = time.perf_counter()
        leaf = self._retry(call, retries)
        facts = {
            "seconds": round(time.perf_counter() - started, 4),
            "engine": call.run.engine,
            "made_from": self._ingredients(call),
            "source": source_digest(self.fn),
        }
        call.run.workspace.remember(self.name, call.key, leaf, facts)
        call.run.made.add(call.key)
        disk.crash_point(f"after {self.name}")
        return leaf

    def _retry(self, call: _Call, retries: int) -> L:
        for attempt in range(retries + 1):
            try:
                return self._execute(call)
            except StorageError as error:
                if attempt == retries or not is_transient(error):
                    raise
                call.run.warn(f"{self.name}: {error}; retrying")
                time.sleep(call.run.retry_delay * 2**attempt)
            except Exception as error:
                if isinstance(error, DrpError):
                    raise
                if lack := shortage(error):
                    raise BusyError(f"{self.name}: {lack}") from error
                if fault := disk_failure(error):
                    raise StorageError(f"{self.name}: {fault}") from error
                raise
        raise AssertionError("unreachable")

    def _execute(self, call: _Call) -> L:
        """Run the function on inputs that stay the same meanwhile, and write its products."""
        with self._unchanged_inputs(call):
            folder = call.run.workspace.folder(self.name, call.key)
            disk.remove(folder)
            disk.make_folder(folder)
            disk.crash_point(f"before {self.name}")
            with writing_to(folder):
                output = self._marked(self.fn(*call.args, **call.kwargs), call)
                products = self._write(output, folder, call.run)
        disk.crash_point(f"within {self.name}")
        if unknown := sorted(set(output.used) - set(USED)):
            raise KeyError(f"{self.name} used {unknown[0]}, which is not declared")
        return self.payload(
            step=self.name,
            products=products,
            status={**dict.fromkeys(self.keywords, output.state), **output.status},
            used=dict(output.used),
            warnings=tuple(output.warnings),
        )

    def _marked(self, output: Leaves, call: _Call) -> Leaves:
        """Mark the result for a real visit if it comes from synthetic references."""
        kinds = dict.fromkeys(r.kind for r in synthetic_in([*call.args, *call.kwargs.values()]))
        if output.skipped or not kinds:
            return output
        text = f"synthetic reference, not of this instrument: {', '.join(kinds)}"
        return replace(
            output, used={**output.used, "SYN_REF": True}, warnings=[text, *output.warnings]
        )

    @contextmanager
    def _unchanged_inputs(self, call: _Call) -> Iterator[None]:
        """Reject input files that differ from their digests, or change within the block."""
        digests = call.run.workspace.digests
        inputs = [
            p for p in products_in([*call.args, *call.kwargs.values()]) if disk.exists(Path(p.path))
        ]
        before = {p.path: digests.fingerprint(Path(p.path)) for p in inputs}
        for product in inputs:
            if digests.of(Path(product.path)) != product.sha256:
                raise BadInputError(f"{product.path}: changed since this run began")

        def check() -> None:
            for path, fingerprint in before.items():
                if not disk.exists(Path(path)) or digests.fingerprint(Path(path)) != fingerprint:
                    raise BadInputError(f"{path}: changed while {self.name} read it")

        try:
            yield
        except Exception:
            # an error met in a file that was being rewritten says nothing of the file itself
            check()
            raise
        check()

    def _write(self, output: Leaves, folder: Path, run: Run) -> dict[str, Product]:
        def product(path: Path, extname: str) -> Product:
            return Product(path=str(path), sha256=run.workspace.digests.of(path), extname=extname)

        products = {}
        for name, hdus in output.files.items():
            path = folder / f"{name}.fits"
            write_fits(path, hdus)
            products[name] = product(path, hdus[0].declared.extname)
        for name, extname in output.written.items():
            products[name] = product(folder / f"{name}.fits", extname)
        for name, data in output.blobs.items():
            disk.write_file(folder / name, data)
            products[name] = product(folder / name, name)
        return products

    def _replace_products(self, run: Run, leaf: L, replaced: Mapping[str, Path]) -> L:
        """Return the payload with the user's own products in place of the step's."""
        products, used = dict(leaf.products), dict(leaf.used)
        for name, path in replaced.items():
            copy = path if run.dry else own_copy(run.workspace, name, path)
            products[name] = Product(
                path=str(copy), sha256=run.workspace.digests.of(copy), extname=name
            )
            if name in TERMS:
                used.update(used_values(copy, name))
        text = f"{self.name}: {', '.join(replaced)} replaced by the user"
        return leaf.model_copy(
            update={
                "products": products,
                "used": used,
                "by_hand": tuple(replaced),
                "warnings": (*leaf.warnings, text),
            }
        )


def step(
    name: str,
    *keywords: str,
    version: str,
    payload: type[L],
    leaves: Sequence[str],
    writes: Sequence[str | Structure] = (),
) -> Callable[[Callable[P, Leaves]], Step[P, L]]:
    """Declare a step.

    Parameters
    ----------
    name : str
        Its name.
    *keywords : str
        Header keywords for its state.
    version : str
        Changes whenever the same input could give other bytes: earlier results of the step are then
        computed again.
    payload : type
        Class of its result.
    leaves : sequence of str
        EXTNAMEs of the products that a user may replace.
    writes : sequence of str or Structure
        Other products, and structures with more columns or keywords than those of `leaves`. If the
        declaration of any product changes, the step runs again without a new version.
    """

    def declare(fn: Callable[P, Leaves]) -> Step[P, L]:
        declared = Step(fn, name, payload, keywords, version, tuple(leaves), tuple(writes))
        STEPS[name] = declared
        return declared

    return declare


def history(leaves: Sequence[Leaf]) -> tuple[str, ...]:
    """Return a line for each step: its name, version, state and warnings."""
    lines = []
    for leaf in leaves:
        states = dict.fromkeys(map(str, leaf.status.values())) or {
            str(Status.WARNING if leaf.warnings else Status.COMPLETED): None
        }
        warnings = "".join(f"; {warning}" for warning in leaf.warnings)
        lines.append(f"{leaf.step} {STEPS[leaf.step].version}: {', '.join(states)}{warnings}")
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
        if not uses_prefect(run):
            return self.fn(*args, **kwargs)
        return call_flow(run, self.name, self.fn, args, kwargs)


def recipe(result: type[R], name: str) -> Callable[[Callable[P, R]], Recipe[P, R]]:
    """Declare a recipe that returns `result`."""
    return lambda fn: Recipe(fn, result, name)


def synthetic_in(values: Sequence[object]) -> Iterator[Reference]:
    """Yield the synthetic references among the arguments of a step, alone or in tuples."""
    for value in values:
        if isinstance(value, Reference) and value.synthetic:
            yield value
        elif isinstance(value, tuple):
            yield from synthetic_in(value)


def products_in(values: Sequence[object]) -> Iterator[Product]:
    """Yield the products in payloads, or in collections of them."""
    for value in values:
        if isinstance(value, Product):
            yield value
        elif isinstance(value, BaseModel):
            yield from products_in([getattr(value, name) for name in type(value).model_fields])
        elif isinstance(value, Mapping):
            yield from products_in(list(value.values()))
        elif isinstance(value, tuple | list):
            yield from products_in(list(value))
