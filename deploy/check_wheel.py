"""Build the wheel, and reduce a visit with it on every Python that this machine has.

Each interpreter gets an environment of its own in FOLDER, made from `image.lock`, and a folder
without a checkout: ``deploy/check_wheel.py FOLDER [--several]``; with the option nothing is done
unless there are several interpreters.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
LOCAL = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check")


def main() -> int:
    """Return 0 if the wheel works on all interpreters."""
    folder = Path(sys.argv[1]).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    found = interpreters()
    if len(found) < 2 and "--several" in sys.argv:
        print(f"Python {', '.join(found)} alone is on this machine: the tests use it")
        return 0
    run(sys.executable, "-m", "pip", "wheel", "-q", *LOCAL, "-w", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    for version, python in found.items():
        print(f"Python {version}: installing {wheel.name}", flush=True)
        check(python, wheel, folder / version)
        print(f"Python {version}: reduced a visit and checked its products", flush=True)
    if missing := [v for v in VERSIONS if v not in found]:
        print(f"not on this machine: Python {', '.join(missing)}")
    return 0


def interpreters() -> dict[str, str]:
    """Return the interpreters that the wheel supports and this machine has, by version."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for version in VERSIONS:
        named = shutil.which(f"python{version}")
        places = [str(p) for p in sorted(pyenv.glob(f"{version}.*/bin/python"))]
        for path in [*([named] if named else []), *places]:
            # a shim of pyenv is there also where its version is not chosen
            if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
                found[version] = path
                break
    return found


def check(python: str, wheel: Path, folder: Path) -> None:
    """Install the wheel for an interpreter, simulate and reduce a visit, check the products."""
    run(python, "-P", "-m", "venv", folder / "env")
    own = folder / "env" / "bin" / "python"
    pip = (own, "-P", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps")
    run(*pip, "--require-hashes", "-r", ROOT / "deploy" / "image.lock")
    run(*pip, wheel)
    run(own, "-P", "-m", "pip", "check")
    drp = folder / "env" / "bin" / "drp"
    run(drp, "simulate", "visit", "--case", "tiny", "-q", folder=folder)
    run(drp, "reduce", "visit", "--output", "products", "--engine", "plain", "-q", folder=folder)
    run(drp, "check", "products", folder=folder)


def run(*command: object, folder: Path = ROOT) -> None:
    """Run a command in a folder whose work folder is its own; if it fails, show why and end."""
    environment = {**os.environ, "DRP_WORK": str(folder / "work")}
    environment.pop("PYTHONPATH", None)
    words = [str(c) for c in command]
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"{' '.join(words)}\n{done.stdout}{done.stderr}", file=sys.stderr)
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    sys.exit(main())
