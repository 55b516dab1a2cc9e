"""Digests of big files, remembered by fingerprint."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from schemas.errors import BadInputError, DrpError
from schemas.payloads import Digest, Payload
from tasks.engine.keys import sha256_of
from tasks.files import disk

BIG = 8 << 20  # bytes; larger files are digested again only when their fingerprint changes

TICK = 20_000_000  # resolution of the time stamps of files [ns]


_Number = Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)]


class Memory(Payload):
    """The file of remembered digests: by path, the fingerprint and the digest."""

    sha256: Digest
    files: dict[str, tuple[_Number, _Number, _Number, _Number, _Number, Digest]]


class Digests:
    """SHA-256 of files; those of big files are remembered by fingerprint.

    The fingerprint is device, inode, size, mtime and ctime. A damaged memory is ignored: a wrong
    digest would be a wrong key.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._known: dict[str, tuple[int, int, int, int, int, str]] = {}
        with contextlib.suppress(DrpError, ValidationError):
            stored = Memory.model_validate_json(disk.read_bytes(memory, 16 << 20), strict=True)
            if stored.sha256 == sha256_of(stored.files):
                self._known = stored.files

    @staticmethod
    def fingerprint(path: Path) -> tuple[int, int, int, int, int]:
        """Return a fingerprint that changes whenever the content of `path` does."""
        s = disk.status_of(path)
        return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns

    def known(self, path: Path) -> str | None:
        """Return the remembered digest of a big file, or None if the file has changed since."""
        entry = self._known.get(str(path))
        if entry is None or entry[2] <= BIG:
            return None
        return entry[5] if self.fingerprint(path) == entry[:5] else None

    def of(self, path: Path) -> str:
        """Return the SHA-256 of `path`."""
        digest = self.known(path)
        if digest is None:
            before = self.fingerprint(path)
            digest = disk.sha256(path)
            if self.fingerprint(path) != before:
                raise BadInputError(f"{path}: changed while it was read")
            # another change right after this one might not change the time stamps
            if before[2] > BIG and time.time_ns() - before[4] > TICK:
                self._known[str(path)] = (*before, digest)
        return digest

    def save(self) -> None:
        """Save the remembered digests of files that still exist."""
        self._known = {p: e for p, e in self._known.items() if disk.exists(Path(p))}
        disk.make_folder(self._memory.parent)
        disk.write_file(
            self._memory,
            json.dumps({"sha256": sha256_of(self._known), "files": self._known}).encode(),
        )
