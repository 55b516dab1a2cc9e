"""What is remembered of a visit: keys, records, digests, locks.

A *key* names a step's result by what it is made from: the step's name and version, its settings, and the SHA-256 of the
products it reads. A *record* is a JSON file of the payload that the step left under that key, believed only while the digests
of its products hold. Everything lies below one work folder::

    WORK/records/VISIT/STEP-KEY.json     WORK/products/VISIT/STEP-KEY/NAME.fits     WORK/locks/VISIT.lock

The lock is an flock: free at once when its process dies. It holds between processes of one machine, and on network file
systems only where they support flock (NFS 4 does, some cluster file systems do not).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.errors import BadInputError, BusyError, CannotCreateError, DrpError, MissingInputError
from schemas.payloads import Leaf, Product
from tasks import disk

RECORD_VERSION = 1
BIG = 8 << 20  # files above this size are digested again only when their fingerprint changed
TICK = 20_000_000  # time stamps of files may stand still for as long as this [ns]
L = TypeVar("L", bound=Leaf)
Warn = Callable[[str], None]


def canonical(value: object) -> str:
    """Return `value` as JSON with sorted keys and no space: equal content gives equal text. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def content(value: object) -> object:
    """Return an argument of a step as plain values in which a product is its EXTNAME and digest, never its path."""
    if isinstance(value, Product):
        return {"extname": value.extname, "sha256": value.sha256}
    if isinstance(value, BaseModel):
        fields = {name: content(getattr(value, name)) for name in type(value).model_fields}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: content(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [content(v) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} cannot be part of a key")


def make_key(step: str, version: str, arguments: Mapping[str, object]) -> str:
    """Return the key of a step for these arguments: 64 hexadecimal digits. An argument that has no content is an error."""
    return _digest({"step": step, "version": version, "arguments": {k: content(v) for k, v in arguments.items()}})


def _digest(value: object) -> str:
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


class Digests:
    """SHA-256 of files; those of big files are remembered by fingerprint (device, inode, size, mtime, ctime).

    A damaged memory is forgotten: a wrong digest would be a wrong key.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._known: dict[str, list[Any]] = {}
        with contextlib.suppress(DrpError, ValueError, KeyError, TypeError, RecursionError):
            stored = json.loads(disk.read_bytes(memory, limit=16 << 20))
            if stored["sha256"] == _digest(stored["files"]):
                self._known = stored["files"]

    @staticmethod
    def fingerprint(path: Path) -> list[int]:
        """Return what changes whenever the content of `path` does."""
        with disk.guarded("read", path):
            s = os.stat(path)
        return [s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns]

    def known(self, path: Path) -> str | None:
        """Return the digest if the file is big and as it was when it was digested."""
        entry = self._known.get(str(path))
        if not isinstance(entry, list) or len(entry) != 6 or entry[2] <= BIG:
            return None
        return str(entry[5]) if self.fingerprint(path) == entry[:5] else None

    def of(self, path: Path) -> str:
        """Return the SHA-256 of `path`."""
        digest = self.known(path)
        if digest is None:
            before = self.fingerprint(path)
            digest = disk.sha256(path)
            if self.fingerprint(path) != before:
                raise BadInputError(f"{path}: changed while it was read")
            # a change right after this one could leave the time stamps as they are
            if before[2] > BIG and time.time_ns() - before[4] > TICK:
                self._known[str(path)] = [*before, digest]
        return digest

    def save(self) -> None:
        """Write down what is known, without files that are gone."""
        self._known = {p: e for p, e in self._known.items() if os.path.exists(p)}
        disk.make_folder(self._memory.parent)
        disk.write_file(self._memory, json.dumps({"sha256": _digest(self._known), "files": self._known}).encode())


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
        """Where the record of a step's result stands."""
        return self.records / f"{step}-{key[:24]}.json"

    def folder(self, step: str, key: str) -> Path:
        """Where the products of a step's result stand."""
        return self.products / f"{step}-{key[:24]}"

    def believe(self, step: str, key: str, payload: type[L], warn: Warn) -> L | None:
        """Return the recorded payload if there is one and its products are as they were; else None, saying why."""
        path = self.record_path(step, key)
        if not path.exists():
            return None
        try:
            record = json.loads(disk.read_bytes(path, limit=4 << 20))
            if not isinstance(record, dict) or record.get("version") != RECORD_VERSION or record.get("key") != key:
                raise ValueError("is of another version")
            if record["digest"] != _digest(record["payload"]):
                raise ValueError("was changed")
            leaf = payload.model_validate(record["payload"])
        except (DrpError, ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
            what = str(error).splitlines()[0] if type(error) is ValueError else "cannot be read"
            warn(f"record of {step} {what}: the step is done again")
            return None
        leaf = located(leaf, lambda p: str(self.root / p))
        for name, product in leaf.products.items():
            if (state := self._state(product)) is not None:
                warn(f"{step}: product {name} {state}: the step is done again")
                return None
        return leaf

    def _state(self, product: Product) -> str | None:
        """Return what is wrong with a recorded product, or None."""
        if not os.path.exists(product.path):
            return "is gone"
        try:
            return None if self.digests.of(Path(product.path)) == product.sha256 else "was changed"
        except DrpError:
            return "cannot be read"

    def remember(self, step: str, key: str, leaf: Leaf, facts: Mapping[str, object]) -> None:
        """Record what a step left. `facts` (time, duration, software) are for people and stand in the record only."""
        payload = located(leaf, lambda p: str(Path(p).relative_to(self.root))).model_dump(mode="json")
        record = {
            "version": RECORD_VERSION, "step": step, "key": key, "digest": _digest(payload), "payload": payload,
            "facts": dict(facts),
        }  # fmt: skip
        disk.write_file(self.record_path(step, key), json.dumps(record, indent=1).encode())

    @contextlib.contextmanager
    def lock(self, wait: bool, notify: Warn) -> Iterator[None]:
        """Hold the visit for this run. Another run gets BusyError, or its turn if it waits."""
        disk.make_folder(self.root / "locks")
        path = self.root / "locks" / f"{self.visit}.lock"
        with disk.guarded("create", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        try:
            if not _try_lock(fd):
                if not wait:
                    raise BusyError(f"{self.visit} is being reduced by another run in {self.root} (--wait waits for it)")
                notify(f"waiting for another run on {self.visit}")
                while not _try_lock(fd):
                    time.sleep(0.2)
            # what a killed run was writing; `.old` is what it was about to replace
            memory = f".{self.visit}.digests.json.*"
            for left in (*self.records.glob(".*.part"), *self.records.glob(".*.old"), *self.records.parent.glob(memory)):
                disk.remove(left)
            yield
        finally:
            os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def located(leaf: L, place: Callable[[str], str]) -> L:
    """Return the payload with the path of every product changed by `place`."""
    products = {name: p.model_copy(update={"path": place(p.path)}) for name, p in leaf.products.items()}
    return leaf.model_copy(update={"products": products})


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder, so that two publications into it come one after the other."""
    with disk.guarded("create", folder):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def default_work_folder(warn: Warn) -> Path:
    """Return where intermediate products go if nobody says: DRP_WORK, the user's cache folder, or else a temporary one."""
    if named := os.environ.get("DRP_WORK"):
        return Path(named).absolute()
    home = os.environ.get("HOME")
    cache = os.environ.get("XDG_CACHE_HOME") or (str(Path(home) / ".cache") if home else "")
    if cache:
        folder = Path(cache) / "cheops-drp"
        try:
            disk.make_folder(folder)
            if os.access(folder, os.W_OK):
                return folder
        except DrpError:
            pass
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"cheops-drp-{os.getuid()}"
    with disk.guarded("create", folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    # anybody may write into a temporary folder: one that is not ours alone could hold results that are not ours
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise CannotCreateError(f"{folder}: is not ours alone; name a folder for intermediate products by --work")
    warn(f"no folder for intermediate products can be written: they go to {folder} (--work names another)")
    return folder


def require(path: str) -> Path:
    """Return the path of a product that is there; one known only by its digest (from a published folder) is refused."""
    if not path or not os.path.exists(path):
        raise MissingInputError(f"{path or 'an input of this step'}: is not there any more; give the visit's own folder")
    return Path(path)
