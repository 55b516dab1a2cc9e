"""Child processes: no other module starts any.

Python searches the working folder first for what a program imports, or the folder of its script: a
file `numpy.py` where the operator works would run in place of numpy. Children are therefore started
with -P, in an environment that passes it on to their own children, and run the code of this
process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from schemas import ROOT

Process = subprocess.Popen[bytes]

TimeoutExpired = subprocess.TimeoutExpired

NOTHING = subprocess.DEVNULL

COMMAND = ("-m", "flows.command.main")

# how the user's own Python is to behave, which would change output and exit code of ours
_OF_THE_USER = (
    "PYTHONBREAKPOINT",
    "PYTHONCASEOK",
    "PYTHONINSPECT",
    "PYTHONOPTIMIZE",
    "PYTHONPROFILEIMPORTTIME",
    "PYTHONSTARTUP",
    "PYTHONVERBOSE",
    "PYTHONWARNINGS",
)

_PR_SET_PDEATHSIG = 1


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Python imports nothing from its working folder.

    Empty and relative entries of PYTHONPATH, which mean the working folder, are dropped.
    """
    kept = {name: value for name, value in environment.items() if name not in _OF_THE_USER}
    entries = kept.pop("PYTHONPATH", "").split(os.pathsep)
    installed = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    ours = () if str(ROOT) in installed else (str(ROOT),)
    places = dict.fromkeys((*ours, *filter(os.path.isabs, entries)))
    if places:
        kept["PYTHONPATH"] = os.pathsep.join(places)
    return kept | {"PYTHONSAFEPATH": "1"}


def start_python(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    output: IO[bytes] | int = NOTHING,
    errors: IO[bytes] | int = NOTHING,
    inherited: Sequence[int] = (),
    keeper: bool = False,
) -> Process:
    """Start Python in a child process, without standard input.

    Parameters
    ----------
    arguments : sequence of str
        Its arguments, such as ``-m`` and a module.
    environment : mapping, optional
        Its environment; by default that of this process.
    folder : Path, optional
        Its working folder, and then it also leads a session of its own.
    output, errors : file or int
        Its standard output and standard error.
    inherited : sequence of int
        File descriptors to keep open in it.
    keeper : bool
        Whether it outlives this process; otherwise it is terminated when this process ends.
    """
    return subprocess.Popen(
        [sys.executable, "-P", *arguments],
        env=child_environment(os.environ if environment is None else environment),
        cwd=folder,
        stdin=NOTHING,
        stdout=output,
        stderr=errors,
        pass_fds=inherited,
        start_new_session=folder is not None,
        preexec_fn=None if keeper else _end_with_parent,
    )


def handed_over(*command: str | Path) -> list[str]:
    """Return the arguments with which Python becomes another program, given by its path."""
    return ["-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", *map(str, command)]


def run_python(arguments: Sequence[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run Python in a child process to its end, with `given` as its standard input."""
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        env=child_environment(os.environ),
        input=given,
        capture_output=True,
        check=False,
    )


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
