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
that was interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from schemas.errors import BusyError, DrpError
from schemas.payloads import Leaf, Product
from tasks.engine.digests import Digests
from tasks.engine.generic import L
from tasks.engine.keys import sha256_of
from tasks.files import disk

RECORD_VERSION = 1

Warn = Callable[[str], None]


def run_mark(root: Path, visit: str) -> Path:
    """Return the path of the mark of a visit that is being reduced."""
    return root / "locks" / f"{visit}.run"


class Workspace:
    """The part of a work folder that belongs to one visit."""

    def __init__(self, root: Path, visit: str) -> None:
        self.root = root
        self.visit = visit
        self.records = root / "records" / visit
        self.products = root / "products" / visit
        disk.make_folder(self.records)
        disk.make_folder(self.products)
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
        if not path.exists():
            return None
        try:
            leaf = _read_record(path, key, payload)
        except (DrpError, ValueError, KeyError, TypeError, RecursionError) as error:
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

    def _state(self, product: Product) -> str | None:
        """Return the fault of a recorded product, or None."""
        if not os.path.exists(product.path):
            return "is missing"
        try:
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
        with disk.guarded("create", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        try:
            if not _try_lock(fd):
                if not wait:
                    raise BusyError(
                        f"{self.visit} is being reduced by another run in {self.root}; use --wait "
                        f"to wait for it"
                    )
                notify(f"waiting for another run on {self.visit}")
                while not _try_lock(fd):
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
        facts = {"process": os.getpid(), "began": time.time()}
        with contextlib.suppress(DrpError):
            disk.write_file(path, json.dumps(facts).encode())
        try:
            yield
        except Exception:
            disk.discard(path)
            raise
        disk.discard(path)

    def _remove_remnants(self) -> None:
        """Remove what a killed run was writing (`.part`) or about to replace (`.old`)."""
        memory = f".{self.visit}.digests.json.*"
        for remnant in (
            *self.records.glob(".*.part"),
            *self.records.glob(".*.old"),
            *self.records.parent.glob(memory),
        ):
            disk.remove(remnant)


def _read_record(path: Path, key: str, payload: type[L]) -> L:
    """Return the payload in a record; ValueError if it is of another version or was changed."""
    record = json.loads(disk.read_bytes(path, limit=4 << 20))
    if (
        not isinstance(record, dict)
        or record.get("version") != RECORD_VERSION
        or record.get("key") != key
    ):
        raise ValueError("is of another version")
    if record["digest"] != sha256_of(record["payload"]):
        raise ValueError("was changed")
    return payload.model_validate(record["payload"])


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def located(leaf: L, place: Callable[[str], str]) -> L:
    """Return the payload with `place` applied to the path of every product."""
    products = {
        name: p.model_copy(update={"path": place(p.path)}) for name, p in leaf.products.items()
    }
    return leaf.model_copy(update={"products": products})
