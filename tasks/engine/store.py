"""The store of a visit: records of results, their products, and the lock.

A *key* identifies a step's result by its ingredients: the step's name and version, the declared
structure of its products, its settings, and the SHA-256 of the products it reads. A *record* is a
JSON file with the payload of the result; it is valid only while the digests of its products hold.
Everything lies below one work folder::

    WORK/records/VISIT/STEP-KEY.json     WORK/products/VISIT/STEP-KEY/NAME.fits
    WORK/locks/VISIT.lock                WORK/locks/VISIT.run

The lock is an flock, free at once when its process dies. It works between processes of one machine,
and on network file systems that support flock (NFS 4 does, some cluster file systems do not). The
mark of a run, VISIT.run, is removed when the run ends by itself: without a lock it belongs to a run
that was interrupted. It names the machine of the run, since locks of other machines cannot be seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from schemas.errors import BusyError, DrpError
from schemas.payloads import Digest, Leaf, Payload, Product, Scalar
from tasks.engine.digests import Digests
from tasks.engine.generic import L
from tasks.engine.keys import sha256_of
from tasks.files import disk

RECORD_VERSION = 1

MOST_BYTES = 4 << 20  # of a record

MOST_MARK = 4096  # bytes

# of a product below the folder of its result
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,199}")

Warn = Callable[[str], None]


def run_mark(root: Path, visit: str) -> Path:
    """Return the path of the mark of a visit that is being reduced."""
    return root / "locks" / f"{visit}.run"


class RunMark(Payload):
    """The mark of a run: the process, its machine, and when it began [s since 1970]."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: Annotated[str, Field(max_length=64)]
    process: int
    began: float


def host_of_run(root: Path, visit: str) -> str:
    """Return the machine of the run that left the mark of a visit; empty if it is not known."""
    try:
        data = disk.read_bytes(run_mark(root, visit), limit=MOST_MARK)
        return RunMark.model_validate_json(data, strict=True).host
    except (DrpError, ValidationError):
        return ""


class Facts(Payload):
    """What a record says to people: durations, software, and the ingredients of the result."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seconds: float | None = None
    engine: str | None = None
    made_from: dict[str, Scalar | None] | None = None
    source: str | None = None
    restored: str | None = None


class Record(Payload):
    """A record as it is on disk; `digest` is that of the payload."""

    version: Annotated[int, Field(ge=RECORD_VERSION, le=RECORD_VERSION)]
    step: str
    key: Digest
    digest: Digest
    payload: dict[str, Any]
    facts: Facts


class Workspace:
    """The part of a work folder that belongs to one visit."""

    def __init__(self, root: Path, visit: str) -> None:
        self.root = root
        self.visit = visit
        self.records = root / "records" / visit
        self.products = root / "products" / visit
        disk.make_folder(self.records)
        disk.make_folder(self.products)
        self._lock = (root, -1)  # path and descriptor
        self.digests = Digests(root / "records" / f"{visit}.digests.json")

    def record_path(self, step: str, key: str) -> Path:
        """Return the path of the record of a result."""
        return self.records / f"{step}-{key[:24]}.json"

    def folder(self, step: str, key: str) -> Path:
        """Return the folder of the products of a result."""
        return self.products / f"{step}-{key[:24]}"

    def believe(self, step: str, key: str, payload: type[L], warn: Warn) -> L | None:
        """Return the recorded payload, or None if there is none or a product of it was changed.

        A record or product that cannot be used is reported by `warn`.
        """
        path = self.record_path(step, key)
        if not disk.is_taken(path):
            return None
        try:
            leaf = self._read_result(step, key, payload)
        except (DrpError, ValueError, RecursionError) as error:
            # errors of JSON and of pydantic are ValueErrors too
            fault = str(error).splitlines()[0] if type(error) is ValueError else "cannot be read"
            warn(f"record of {step} {fault}: the step runs again")
            return None
        leaf = located(leaf, lambda p: str(self.root / p))
        for name, product in leaf.products.items():
            if (state := self._state(product)) is not None:
                warn(f"{step}: product {name} {state}: the step runs again")
                return None
        return leaf

    def _read_result(self, step: str, key: str, payload: type[L]) -> L:
        """Return the payload in a record; ValueError if it was changed or is of another result."""
        record = read_record(self.record_path(step, key))
        if (record.step, record.key) != (step, key):
            raise ValueError("is of another version")
        if record.digest != sha256_of(record.payload):
            raise ValueError("was changed")
        leaf = payload.model_validate_json(json.dumps(record.payload), strict=True)
        within = self.products.relative_to(self.root)
        for product in leaf.products.values():
            path = PurePosixPath(product.path)
            # products of a result, or those of another that the user supplied
            if path.parent.parent != PurePosixPath(within) or not (
                _NAME.fullmatch(path.name) and _NAME.fullmatch(path.parent.name)
            ):
                raise ValueError("names a product outside of the visit's own")
        if leaf.step != step:
            raise ValueError("holds the payload of another step")
        return leaf

    def _state(self, product: Product) -> str | None:
        """Return the fault of a recorded product, or None."""
        try:
            if not disk.exists(Path(product.path)):
                return "is missing"
            return None if self.digests.of(Path(product.path)) == product.sha256 else "was changed"
        except DrpError:
            return "cannot be read"

    def remember(self, step: str, key: str, leaf: Leaf, facts: Mapping[str, object]) -> None:
        """Record the result of a step; `facts` (time, duration, software) are for people only."""
        payload = located(leaf, lambda p: str(Path(p).relative_to(self.root))).model_dump(
            mode="json"
        )
        record = {
            "version": RECORD_VERSION,
            "step": step,
            "key": key,
            "digest": sha256_of(payload),
            "payload": payload,
            "facts": dict(facts),
        }
        disk.write_file(self.record_path(step, key), json.dumps(record, indent=1).encode())

    @contextlib.contextmanager
    def lock(self, wait: bool, notify: Warn) -> Iterator[None]:
        """Hold the visit for this run; if another run holds it, wait or raise BusyError."""
        disk.make_folder(self.root / "locks")
        path = self.root / "locks" / f"{self.visit}.lock"
        fd = disk.open_lock(path)
        self._lock = (path, fd)
        try:
            if not disk.try_lock(fd, path):
                if not wait:
                    raise BusyError(
                        f"{self.visit} is being reduced by another run in {self.root}; use --wait "
                        f"to wait for it"
                    )
                notify(f"waiting for another run on {self.visit}")
                while not disk.try_lock(fd, path):
                    time.sleep(0.2)
            self._remove_remnants()
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def marked(self) -> Iterator[None]:
        """Mark the visit as being reduced, for people; a run that is cut short leaves the mark.

        A mark that cannot be written is no reason not to reduce the visit.
        """
        path = run_mark(self.root, self.visit)
        mark = RunMark(host=disk.host(), process=os.getpid(), began=time.time())
        with contextlib.suppress(DrpError):
            disk.write_file(path, mark.model_dump_json().encode())
        try:
            yield
        except Exception:
            disk.discard(path)
            raise
        disk.discard(path)

    def lost(self, leaves: Iterable[Leaf]) -> Path | None:
        """Return the lock or a product that was deleted while this run holds the visit, or None."""
        path, fd = self._lock
        status = disk.status(path)
        if status is None or not os.path.samestat(status, os.fstat(fd)):
            return path
        products = (Path(p.path) for leaf in leaves for p in leaf.products.values())
        return next((p for p in products if not disk.exists(p)), None)

    def _remove_remnants(self) -> None:
        """Remove what a killed run was writing (`.part`) or about to replace (`.old`)."""
        memory = f".{self.visit}.digests.json."
        for path in disk.entries(self.records):
            if path.name.startswith(".") and path.suffix in (".part", ".old"):
                disk.remove(path)
        mark = f".{run_mark(self.root, self.visit).name}."
        for folder, name in ((self.records.parent, memory), (self.root / "locks", mark)):
            for path in disk.entries(folder):
                if path.name.startswith(name):
                    disk.remove(path)


def read_record(path: Path) -> Record:
    """Return a record; ValueError if it is not one, or of another version."""
    data = disk.read_bytes(path, limit=MOST_BYTES)
    try:
        return Record.model_validate_json(data, strict=True)
    except ValidationError as error:
        if error.errors()[0]["loc"][:1] == ("version",):
            raise ValueError("is of another version") from error
        raise


def located(leaf: L, place: Callable[[str], str]) -> L:
    """Return the payload with `place` applied to the path of every product."""
    products = {
        name: p.model_copy(update={"path": place(p.path)}) for name, p in leaf.products.items()
    }
    return leaf.model_copy(update={"products": products})
