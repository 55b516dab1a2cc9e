"""The environment of a Prefect server and its clients: no telemetry, little output."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

START_SECONDS = 120


def quiet_environment(home: Path) -> None:
    """Set Prefect's environment variables: no telemetry, short waits for a lost server."""
    os.environ.setdefault("PREFECT_HOME", str(home))
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLIENT_MAX_RETRIES": "1",
        "PREFECT_API_REQUEST_TIMEOUT": "15",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
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


def silence(verbose: bool) -> None:
    """Keep Prefect's own log lines off the terminal; the server still receives them."""
    if verbose:
        return
    import prefect.main  # noqa: F401  (sets up its logging, which is modified below)

    # do not complain about log lines that a dead server cannot take
    logging.raiseExceptions = False
    for name in ["", *logging.root.manager.loggerDict]:
        logger = logging.getLogger(name)
        terminal = [h for h in logger.handlers if isinstance(h, logging.StreamHandler)]
        for handler in (h for h in terminal if type(h).__module__.startswith("prefect.")):
            logger.removeHandler(handler)
            # without any handler, warnings would still go to the terminal
            logger.addHandler(logging.NullHandler())
