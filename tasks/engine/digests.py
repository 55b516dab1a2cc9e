"""Digests of big files, remembered by fingerprint."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from schemas.errors import BadInputError, DrpError
from tasks.engine.keys import sha256_of
from tasks.files import disk

BIG = 8 << 20  # files above this size are digested again only when their fingerprint changed

TICK = 20_000_000  # time stamps of files may stand still for as long as this [ns]


class Digests:
    """SHA-256 of files; those of big files are remembered by fingerprint (device, inode, size,
    mtime, ctime).

    A damaged memory is forgotten: a wrong digest would be a wrong key.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._known: dict[str, list[Any]] = {}
        with contextlib.suppress(DrpError, ValueError, KeyError, TypeError, RecursionError):
            stored = json.loads(disk.read_bytes(memory, limit=16 << 20))
            if stored["sha256"] == sha256_of(stored["files"]):
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
        disk.write_file(
            self._memory,
            json.dumps({"sha256": sha256_of(self._known), "files": self._known}).encode(),
        )
