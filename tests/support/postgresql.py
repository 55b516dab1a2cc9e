"""A temporary PostgreSQL database on a socket; the server does not run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Database:
    """A database, its programs, and the process of its server."""

    folder: Path
    programs: Path
    owner: dict[str, Any]
    server: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"postgresql://drp@/drp?host={self.folder}"

    def run(self, *line: object, check: bool = True) -> int:
        """Run one of the programs."""
        command = [str(self.programs / str(line[0])), *map(str, line[1:])]
        done = subprocess.run(  # type: ignore[call-overload]
            command, check=check, capture_output=True, cwd=self.folder, **self.owner
        )
        return int(done.returncode)

    def start(self) -> None:
        """Start the server."""
        options = ("-c", "listen_addresses=", "-c", "fsync=off")
        line = [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder, *options]
        with open(self.folder / "log", "ab") as log:
            self.server = [
                subprocess.Popen(line, stdout=log, stderr=log, cwd=self.folder, **self.owner)
            ]

    def stop(self) -> None:
        """Stop the server; connections are cut."""
        for server in self.server:
            server.send_signal(2)  # without waiting for clients
            server.wait(30)


@contextmanager
def postgresql() -> Iterator[Database]:
    """Run a database server; tests are skipped where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    root = os.getuid() == 0
    owner: dict[str, Any] = (
        {"user": "nobody", "group": "nogroup", "extra_groups": []} if root else {}
    )
    folder = Path(tempfile.mkdtemp(prefix="drp-pg-"))  # a socket's name is short
    database = Database(folder, found[-1].parent, owner)
    try:
        if root:
            shutil.chown(folder, "nobody", "nogroup")
        options = ("-U", "drp", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        database.run("initdb", "-D", folder / "data", *options)
        database.start()
        deadline = time.monotonic() + 60
        while database.run("createdb", "-h", folder, "-U", "drp", "drp", check=False):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield database
    finally:
        database.stop()
        shutil.rmtree(folder, ignore_errors=True)
