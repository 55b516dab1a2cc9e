"""The environment of a Prefect server and its clients: no telemetry, little output."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from schemas.logs import TOP
from tasks.files import disk

START_SECONDS = 120

# Prefect's variables that the user may set; those of the client begin with PREFECT_CLIENT_
_OF_THE_SITE = (
    "PREFECT_HOME",
    *(f"PREFECT_API_{n}" for n in ("URL", "KEY", "AUTH_STRING", "REQUEST_TIMEOUT", "ENABLE_HTTP2")),
    *("PREFECT_API_SSL_CERT_FILE", "PREFECT_API_TLS_INSECURE_SKIP_VERIFY"),
)


def quiet_environment(home: Path) -> None:
    """Set Prefect's environment variables: no telemetry, short waits for a lost server.

    Of the user's own ones those remain that say which server to use and how to reach it.
    """
    for name in [n for n in os.environ if n.startswith("PREFECT_")]:
        if name not in _OF_THE_SITE and not name.startswith("PREFECT_CLIENT_"):
            del os.environ[name]
    os.environ.setdefault("PREFECT_HOME", str(home))
    os.environ["PREFECT_PROFILES_PATH"] = str(home / "profiles.toml")
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLIENT_MAX_RETRIES": "1",
        "PREFECT_API_REQUEST_TIMEOUT": "15",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        # run logs get the lines of our loggers; what is logged outside of a run is not theirs
        "PREFECT_LOGGING_EXTRA_LOGGERS": TOP,
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }.items():
        os.environ.setdefault(name, value)


def free_port(port: int = 0) -> int:
    """Return a free port of the loopback interface: the given one, or any if 0.

    Raises
    ------
    OSError
        If the given port is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


@contextmanager
def open_log(path: Path) -> Iterator[IO[bytes]]:
    """Open the log of a process to append to it; only its owner can read it."""
    with os.fdopen(disk.open_log(path, 0o600), "ab") as log:
        yield log


def server_command(port: int) -> list[str]:
    """Return module and arguments of a server on the loopback interface."""
    return ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]


def reach_directly() -> None:
    """Make this process connect to the loopback interface without a proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = without_proxy(os.environ.get(name))


def without_proxy(hosts: str | None) -> str:
    """Return the hosts to reach without a proxy, with the loopback interface added."""
    return ",".join(filter(None, (hosts, "127.0.0.1")))


def log_to_runs() -> None:
    """Let our loggers pass the lines that Prefect's handler gives to the logs of runs."""
    top = logging.getLogger(TOP)
    if top.level == logging.NOTSET:
        top.setLevel(logging.INFO)


def silence(verbose: bool) -> None:
    """Keep Prefect's own log lines off the terminal; the server still receives them."""
    import prefect.main  # noqa: F401  (sets up its logging, which is modified below)

    log_to_runs()
    if verbose:
        return

    # do not complain about log lines that a dead server cannot take
    logging.raiseExceptions = False
    for name in ["", *logging.root.manager.loggerDict]:
        logger = logging.getLogger(name)
        terminal = [h for h in logger.handlers if isinstance(h, logging.StreamHandler)]
        for handler in (h for h in terminal if type(h).__module__.startswith("prefect.")):
            logger.removeHandler(handler)
            # without any handler, warnings would still go to the terminal
            logger.addHandler(logging.NullHandler())
