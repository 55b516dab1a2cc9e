"""Declares steps and recipes, and runs them plain or under Prefect.

A step is a function of payloads and settings that returns `Leaves`: what it estimated, as HDUs,
with its state and the values it used. Calling it finds its record or runs it, writes the products,
and returns the payload. A recipe is a function that calls steps. Under the plain engine both are
mere function calls. Under Prefect a step is a task, a recipe a flow; what is found again ends as
the state `Cached`. Products never depend on the server: where it stops answering in mid-run, the
rest is done plain.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from pydantic import BaseModel

from schemas.errors import BadInputError, BusyError, StorageError, short_of_memory, wanted_memory
from schemas.payloads import Leaf, Product, Scalar, Status
from schemas.terms import TERMS
from schemas.used import USED
from tasks.engine.by_hand import own_copy, used_values
from tasks.engine.keys import make_key
from tasks.engine.prefect import call_flow, call_task, is_transient, uses_prefect
from tasks.engine.reasons import NOT_YET, ingredients, why
from tasks.engine.run import (
    STEPS,
    L,
    P,
    R,
    Run,
    StepReport,
    Stopped,
    WorkToDo,
    current_run,
    product_folder,
)
from tasks.files import disk
from tasks.files.writer import NewHdu, write_fits


@dataclass
class Leaves:
    """What a step function returns.

    `files` are products as HDUs, by name; `written` are names of products that the function wrote
    itself, under `new_file`; `blobs` are other files by name. `used` are values by declared
    keyword; `warning` says which fall-back was used.
    """

    files: Mapping[str, Sequence[NewHdu]] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)  # name -> EXTNAME
    blobs: dict[str, bytes] = field(default_factory=dict)
    used: Mapping[str, Scalar] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    skipped: bool = False
    status: dict[str, Status] = field(
        default_factory=dict
    )  # where a step owns more than one keyword


class Step(Generic[P, L]):
    """A declared step. `fn` is the bare function, `leaves` the EXTNAMEs of the products it
    leaves.
    """

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
        return make_key(self.name, self.version, self._arguments(args, kwargs))

    def _arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def _work(
        self, run: Run, args: tuple[Any, ...], kwargs: Mapping[str, Any], retries: int
    ) -> tuple[L, bool]:
        """Return the payload, and whether it was found in the records."""
        started = time.perf_counter()
        key = self.key(args, kwargs)
        known = self.name not in run.forget or key in run.made
        replaced = {
            name: run.replacements[name] for name in self.leaves if name in run.replacements
        }
        outcome, reason = "cached", ""
        doubts = len(run.warnings)
        leaf: L | None
        if replaced and run.records_only:
            raise WorkToDo(self.name)
        if replaced and set(replaced) == set(self.leaves):
            leaf = self.payload(
                step=self.name, status=dict.fromkeys(self.keywords, Status.COMPLETED)
            )
        elif (
            known
            and (leaf := run.workspace.believe(self.name, key, self.payload, run.warn)) is not None
        ):
            pass
        elif run.dry:
            nothing = {name: Product(path="", sha256=NOT_YET, extname=name) for name in self.leaves}
            leaf, outcome = self.payload(step=self.name, products=nothing), "would run"
            made = ingredients(self.version, self._arguments(args, kwargs))
            reason = (
                "asked for"
                if not known
                else (run.warnings[doubts:] or [why(run.workspace, self.name, made)])[0]
            )
        elif run.records_only:
            raise WorkToDo(self.name)
        else:
            leaf, outcome = self._retry(run, key, args, kwargs, retries), "done"
            made = ingredients(self.version, self._arguments(args, kwargs))
            facts = {
                "seconds": round(time.perf_counter() - started, 4),
                "engine": run.engine,
                "made_from": made,
            }
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

    def _retry(
        self, run: Run, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], retries: int
    ) -> L:
        for attempt in range(retries + 1):
            try:
                return self._execute(run, key, args, kwargs)
            except StorageError as error:
                if attempt == retries or not is_transient(error):
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
        before = {
            p.path: run.workspace.digests.fingerprint(Path(p.path))
            for p in inputs
            if os.path.exists(p.path)
        }
        for product in inputs:
            if (
                product.path in before
                and run.workspace.digests.of(Path(product.path)) != product.sha256
            ):
                raise BadInputError(f"{product.path}: changed since this run began")

        def unchanged() -> None:
            for path, fingerprint in before.items():
                if (
                    not os.path.exists(path)
                    or run.workspace.digests.fingerprint(Path(path)) != fingerprint
                ):
                    raise BadInputError(f"{path}: changed while {self.name} read it")

        folder = run.workspace.folder(self.name, key)
        disk.remove(folder)
        disk.make_folder(folder)
        disk.crash_point(f"before {self.name}")
        token = product_folder.set(folder)
        try:
            made = self.fn(*args, **kwargs)
            products = self._write(made, folder, run)
        except Exception:
            # whatever the step met in a file that was being written is not what the file says
            unchanged()
            raise
        finally:
            product_folder.reset(token)
        unchanged()
        disk.crash_point(f"within {self.name}")
        unknown = set(made.used) - set(USED)
        if unknown:
            raise KeyError(f"{self.name} used {sorted(unknown)[0]}, which is not declared")
        state = (
            Status.SKIPPED
            if made.skipped
            else Status.WARNING
            if made.warnings
            else Status.COMPLETED
        )
        status = {**dict.fromkeys(self.keywords, state), **made.status}
        used, warnings = dict(made.used), tuple(made.warnings)
        return self.payload(
            step=self.name, products=products, status=status, used=used, warnings=warnings
        )

    def _write(self, made: Leaves, folder: Path, run: Run) -> dict[str, Product]:
        products = {}
        for name, hdus in made.files.items():
            path = folder / f"{name}.fits"
            write_fits(path, hdus)
            products[name] = Product(
                path=str(path),
                sha256=run.workspace.digests.of(path),
                extname=hdus[0].declared.extname,
            )
        for name, extname in made.written.items():
            path = folder / f"{name}.fits"
            products[name] = Product(
                path=str(path), sha256=run.workspace.digests.of(path), extname=extname
            )
        for name, data in made.blobs.items():
            path = folder / name
            disk.write_file(path, data)
            products[name] = Product(
                path=str(path), sha256=run.workspace.digests.of(path), extname=name
            )
        return products

    def _by_hand(self, run: Run, leaf: L, replaced: Mapping[str, Path]) -> L:
        """Return the payload with a person's own products in place of the step's."""
        products, used = dict(leaf.products), dict(leaf.used)
        for name, path in replaced.items():
            own = path if run.dry else own_copy(run.workspace, name, path)
            products[name] = Product(
                path=str(own), sha256=run.workspace.digests.of(own), extname=name
            )
            if name in TERMS:
                used.update(used_values(own, name))
        text = f"{self.name}: {', '.join(replaced)} given by hand"
        return leaf.model_copy(
            update={
                "products": products,
                "used": used,
                "by_hand": tuple(replaced),
                "warnings": (*leaf.warnings, text),
            }
        )


def step(
    name: str, *keywords: str, version: str, payload: type[L], leaves: Sequence[str]
) -> Callable[[Callable[P, Leaves]], Step[P, L]]:
    """Declare a step: its name, its header keywords, its version, the payload it returns, the
    products it leaves.

    A version changes whenever the same input could give other bytes: what the step made before is
    then made again.
    """

    def declare(fn: Callable[P, Leaves]) -> Step[P, L]:
        declared = Step(fn, name, payload, keywords, version, tuple(leaves))
        STEPS[name] = declared
        return declared

    return declare


def history(leaves: Sequence[Leaf]) -> tuple[str, ...]:
    """Return a line for each step that made something: its name, version and state, and what was
    odd.
    """
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
        if not uses_prefect(run):
            return self.fn(*args, **kwargs)
        return call_flow(run, self.name, self.fn, args, kwargs)


def recipe(result: type[R], name: str) -> Callable[[Callable[P, R]], Recipe[P, R]]:
    """Declare a recipe that returns `result`."""
    return lambda fn: Recipe(fn, result, name)


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
