"""Run the notebooks for the pages: ``python -m docs.run_notebooks FOLDER``.

They run in ``FOLDER/notebooks_visit``, where the demo is simulated for them, and become
``FOLDER/notebooks/NAME.md`` with the pictures beside it. They run again only if they, the code or
the simulated case have changed. An error in a notebook ends the run with an error.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

from docs.figures.__main__ import source_digest
from schemas import ROOT

NOTEBOOKS = ROOT / "docs" / "notebooks"
SEED = 1


def digest() -> str:
    """Return the SHA-256 of the notebooks and of the code that they depend on."""
    files = [*sorted((ROOT / "drp").glob("*.py")), *sorted(NOTEBOOKS.glob("*.ipynb"))]
    parts = [source_digest().encode(), *(path.read_bytes() for path in files)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def run_notebooks(folder: Path) -> None:
    """Run all notebooks and write them as Markdown into ``folder/notebooks``."""
    pages, visit = folder / "notebooks", folder / "notebooks_visit"
    stamp = pages / "made"
    if stamp.is_file() and stamp.read_text() == digest():
        return
    begun = time.monotonic()
    print("simulating the demo and running the notebooks (some minutes)", flush=True)
    for part in (pages, visit):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    simulate_demo(visit / "demo" / "visit")
    for path in sorted(NOTEBOOKS.glob("*.ipynb"), reverse=True):
        notebook = run_notebook(path, visit)
        text = "\n\n".join(markdown(notebook, path.stem, pages))
        (pages / f"{path.stem}.md").write_text(text + "\n", encoding="utf-8")
    shutil.rmtree(visit)
    stamp.write_text(digest())
    print(f"notebooks run in {time.monotonic() - begun:.0f} s")


def run_notebook(path: Path, folder: Path) -> Any:
    """Run a notebook in a folder and return it with its results."""
    notebook = nbformat.read(path, as_version=4)
    # the kernel listens to sockets of this user, not to ports of the machine
    with tempfile.TemporaryDirectory() as sockets:
        ipc = {"transport": "ipc", "ip": str(Path(sockets) / "kernel")}
        NotebookClient(
            notebook,
            config=Config({"KernelManager": ipc}),
            resources={"metadata": {"path": str(folder)}},
            startup_timeout=300,
            timeout=900,
        ).execute()
    return notebook


def simulate_demo(folder: Path) -> None:
    """Simulate the visit of the demo."""
    from flows.simulate import simulate_into

    folder.parent.mkdir(parents=True)
    simulate_into(folder, "demo", None, SEED, None)


def markdown(notebook: Any, name: str, pages: Path) -> Iterator[str]:
    """Yield the cells of a notebook that has run as Markdown; write its pictures to `pages`."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            yield cell.source
            continue
        yield f"```python\n{cell.source}\n```"
        for output in cell.outputs:
            data: Mapping[str, str] = output.get("data", {})
            if "image/png" in data:
                picture = pages / f"{name}_{number}.png"
                picture.write_bytes(base64.b64decode(data["image/png"]))
                alt = cell.metadata.get("alt", "")
                yield f"```{{image}} /../build/docs/notebooks/{picture.name}\n:alt: {alt}\n```"
            elif text := output.get("text", data.get("text/plain", "")):
                yield f"```text\n{text.rstrip()}\n```"


if __name__ == "__main__":
    run_notebooks(Path(sys.argv[1]).resolve())
