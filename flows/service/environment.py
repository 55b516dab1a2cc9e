"""The environment of a Prefect server and its clients: quiet, and without telemetry."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

START_SECONDS = 120


def quiet_environment(home: Path) -> None:
    """Set what Prefect reads from the environment: no telemetry, no long waits for a server that is
    gone.
    """
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
    """Return a port of loopback that can be taken: this one, or any for 0.

    Raises
    ------
    OSError
        If the port is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


def server_command(port: int) -> list[str]:
    """Return the module and arguments of a server on loopback."""
    return ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]


def reach_directly() -> None:
    """Let no proxy of the site stand between this process and a server on loopback."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = without_proxy(os.environ.get(name))


def without_proxy(hosts: str | None) -> str:
    """Return the hosts that are reached without a proxy, with loopback among them."""
    return ",".join(filter(None, (hosts, "127.0.0.1")))


def silence(verbose: bool) -> None:
    """Keep Prefect's own log lines off the terminal; the server gets them all the same."""
    if verbose:
        return
    import prefect.main  # noqa: F401  (sets its logging up, which is then changed)

    # lines that a dead server does not take are lost without a word: the manifest has what counts
    logging.raiseExceptions = False
    for name in ["", *logging.root.manager.loggerDict]:
        logger = logging.getLogger(name)
        terminal = [h for h in logger.handlers if isinstance(h, logging.StreamHandler)]
        for handler in (h for h in terminal if type(h).__module__.startswith("prefect.")):
            logger.removeHandler(handler)
            # without any handler, warnings would go to the terminal all the same
            logger.addHandler(logging.NullHandler())
