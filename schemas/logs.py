"""Loggers of the standard library: one for each module, all below `drp`.

Nothing is written unless an application asks for it: the command with -v, --log-format or DRP_LOG,
a job order, Prefect, or the code that imports `drp`.
"""

from __future__ import annotations

import logging

TOP = "drp"

PROGRESS = 25  # between INFO and WARNING: a step has ended

logging.addLevelName(PROGRESS, "PROGRESS")
# without a handler, Python would write warnings to standard error
logging.getLogger(TOP).addHandler(logging.NullHandler())


def logger_of(module: str) -> logging.Logger:
    """Return the logger of a module, such as `drp.tasks.calibration.bias`."""
    return logging.getLogger(f"{TOP}.{module.removeprefix(f'{TOP}.')}")
