"""The environment of a Prefect server and its clients: quiet, and without telemetry."""

from __future__ import annotations

import logging
import os
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
