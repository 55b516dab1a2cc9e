"""Build the environment of the Makefile from the lock file: ``deploy/environment.py FOLDER``.

uv does it in seconds, pip in a minute; either checks the hash of every file. What is being done is
shown every few seconds. Needs only the standard library.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
OLDEST = (3, 11)
EVERY = 2.5  # seconds between two lines

# in the order in which pip and uv print them
NOW = re.compile(r"^ *(Collecting|Downloading|Building|Preparing|Installing) +(.*)", re.MULTILINE)


def main() -> int:
    """Build the environment; return the exit code."""
    folder = Path(sys.argv[1])
    if sys.version_info < OLDEST:
        print("Python 3.11 or newer is needed", file=sys.stderr)
        return 1
    python = folder / "bin" / "python"
    began = time.monotonic()
    uv = shutil.which("uv")
    total = len(re.findall(r"^[A-Za-z0-9._-]+==", LOCK.read_text(), re.MULTILINE))
    print(f"building the environment in {folder} with {'uv' if uv else 'pip'}", flush=True)
    if not python.exists():
        run("creating it", [sys.executable, "-P", "-m", "venv", str(folder)])
    run("checking the lock file", [str(python), "deploy/check_lock.py"])
    pip = [str(python), "-P", "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
    fast = [uv, "pip", "install", "--python", str(python), "--no-deps"] if uv else pip
    what = f"installing at most {total} packages"
    locked = ["--require-hashes", "-r", str(LOCK)]
    if run(what, [*fast, *locked], folder, must=not uv):
        print("uv could not install them: trying pip", flush=True)
        run(what, [*pip, *locked], folder)
    run("installing the pipeline", [*pip, "--no-build-isolation", "-e", str(ROOT)])
    run("checking the packages", [str(python), "-P", "-m", "pip", "check"])
    print(f"the environment is ready ({time.monotonic() - began:.0f} s)", flush=True)
    return 0


def run(what: str, command: Sequence[str], folder: Path | None = None, must: bool = True) -> int:
    """Run a command, and show what is being done from its start to its end.

    Its output is shown only if it fails, which ends this program if it `must` not. With `folder`,
    the packages that the environment in it has are counted.
    """
    with tempfile.TemporaryFile("w+") as output:
        ended = threading.Event()
        began = time.monotonic()

        def show() -> None:
            while not ended.wait(EVERY):
                waited = f"{time.monotonic() - began:.0f} s"
                print(f"  {what}: {state(output.fileno(), folder)}{waited}", flush=True)

        # several commands shorter than the interval would otherwise pass in silence
        print(f"  {what}", flush=True)
        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False)
        ended.set()
        thread.join()
        if done.returncode:
            output.seek(0)
            print(output.read()[-4000:], file=sys.stderr)
            if must:
                print(f"{what}: failed", file=sys.stderr)
                raise SystemExit(done.returncode)
    return done.returncode


def state(output: int, folder: Path | None) -> str:
    """Return what the installer is doing, from the end of its output and the packages installed."""
    if folder is None:
        return ""
    size = os.fstat(output).st_size
    text = os.pread(output, 1 << 16, max(0, size - (1 << 16))).decode(errors="replace")
    doing = NOW.findall(text)
    there = len(list(folder.glob("lib/python3*/site-packages/*.dist-info")))
    if doing and doing[-1][0] != "Installing":
        name = re.split(r"[=<> (;]", doing[-1][1])[0].rpartition("/")[2]
        return f"{doing[-1][0].lower()} {name[:40]}, "
    return f"{there} installed, "


if __name__ == "__main__":
    sys.exit(main())
