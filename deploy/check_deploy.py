"""Check every file that an operator installs: its syntax, and with its own program where that is.

``docker compose config``, ``helm template`` and ``systemd-analyze verify`` are run where they are
installed; the others are named, so that none is skipped silently. Charts of Prefect are looked for
in the folder DRP_CHARTS (``helm pull --untar prefect/prefect-server``).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent

INSTRUCTIONS = [
    "ARG",
    "FROM",
    "RUN",
    "COPY",
    "ENV",
    "LABEL",
    "USER",
    "WORKDIR",
    "VOLUME",
    "ENTRYPOINT",
    "CMD",
    "EXPOSE",
    "HEALTHCHECK",
]

# of compose.yaml, for a check only
VARIABLES = {
    "DRP_AUTH": "drp:secret",
    "DRP_DATABASE_PASSWORD": "secret",
    "DRP_DATA": "/data",
    "DRP_PRODUCTS": "/products",
}


def main() -> int:
    """Print each fault, and each program that is missing; return the exit code."""
    faults = [
        *yaml_faults(),
        *dockerfile_faults(),
        *unit_faults(),
        *script_faults(),
        *compose_faults(),
        *chart_faults(),
    ]
    for fault in faults:
        print(f"deploy: {fault}", file=sys.stderr)
    return 1 if faults else 0


def run(command: Sequence[object], **environment: str) -> str:
    """Run a program; return what it says if it fails, and nothing if it is not installed."""
    if shutil.which(str(command[0])) is None:
        print(f"deploy: {command[0]} is not installed: not checked with it")
        return ""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stderr or done.stdout).strip() or "failed" if done.returncode else ""


def yaml_faults() -> Iterator[str]:
    """Parse all YAML, and the JSON in the values of the worker."""
    for path in sorted(HERE.rglob("*.yaml")):
        try:
            documents = list(yaml.safe_load_all(path.read_text()))
        except yaml.YAMLError as error:
            yield f"{path.name}: {error}"
            continue
        if path.name == "values-worker.yaml":
            template = documents[0]["worker"]["config"]["baseJobTemplate"]["configuration"]
            try:
                declared = json.loads(template)["variables"]["properties"]
            except (ValueError, KeyError) as error:
                yield f"{path.name}: baseJobTemplate: {error}"
                continue
            used = set(re.findall(r"\{\{ (\w+) \}\}", template))
            yield from (f"{path.name}: {{{{ {n} }}}} is not declared" for n in used - set(declared))


def dockerfile_faults() -> Iterator[str]:
    """Check instructions, copied files, and that the image does not run as root."""
    text = (HERE / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    steps = [line.split() for line in lines if line.strip()]
    yield from (f"Dockerfile: {s[0]} is no instruction" for s in steps if s[0] not in INSTRUCTIONS)
    for step in (s for s in steps if s[0] == "COPY" and not s[1].startswith("--from")):
        yield from (
            f"Dockerfile: {name} does not exist"
            for name in step[1:-1]
            if not (HERE.parent / name).exists()
        )
    users = [s[1] for s in steps if s[0] == "USER"]
    if not users or users[-1].split(":")[0] in ("0", "root"):
        yield "Dockerfile: runs as root"


def unit_faults() -> Iterator[str]:
    """Check the units of systemd."""
    units = sorted((HERE / "systemd").glob("*.service"))
    with tempfile.TemporaryDirectory() as folder:
        for unit in units:
            text = unit.read_text()
            for part in ("[Unit]", "[Service]", "[Install]", "ExecStart=", "Restart=always"):
                if part not in text:
                    yield f"{unit.name}: {part} is missing"
            # the program need not be installed here
            (Path(folder) / unit.name).write_text(text.replace("/opt/drp/bin/prefect", "/bin/true"))
        named = [Path(folder) / u.name.replace("@.", "@2.") for u in units]
        for unit, name in zip(units, named, strict=True):
            if unit.name != name.name:
                shutil.copyfile(Path(folder) / unit.name, name)
        why = run(["systemd-analyze", "verify", "--man=no", *named], SYSTEMD_LOG_LEVEL="err")
        if why:
            yield f"systemd-analyze: {why}"


def script_faults() -> Iterator[str]:
    """Check the syntax of scripts."""
    for path in (HERE / "entrypoint.sh", HERE / "slurm" / "array.sbatch"):
        if why := run(["bash", "-n", path]):
            yield f"{path.name}: {why}"


def compose_faults() -> Iterator[str]:
    """Check that each variable without a default is known, and the file by Docker Compose."""
    path = HERE / "compose.yaml"
    needed = set(re.findall(r"\$\{(\w+):\?", path.read_text()))
    if needed != set(VARIABLES):
        yield f"compose.yaml: needs {sorted(needed)}, expected {sorted(VARIABLES)}"
    plugin = shutil.which("docker") and not run(["docker", "compose", "version"])
    command = ["docker", "compose"] if plugin else ["docker-compose"]
    if why := run([*command, "-f", path, "config", "--quiet"], **VARIABLES):
        yield f"docker compose: {why}"


def chart_faults() -> Iterator[str]:
    """Render the charts with our values."""
    charts = os.environ.get("DRP_CHARTS")
    if not charts:
        print("deploy: DRP_CHARTS is not set: the values of the charts are not rendered")
        return
    for name in ("server", "worker"):
        values = HERE / "kubernetes" / f"values-{name}.yaml"
        if why := run(
            ["helm", "template", f"prefect-{name}", f"{charts}/prefect-{name}", "-f", values]
        ):
            yield f"helm: values-{name}.yaml: {why}"


if __name__ == "__main__":
    sys.exit(main())
