"""Typesets a page, in a process of its own: without enough memory Typst ends the process that it
runs in.

The process reads a JSON object from its standard input, file names to their bytes in base64, and
writes the PDF to its standard output. It ends with 1 where the files cannot be typeset (standard
error says why), with 3 where memory was short.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

CANNOT, SHORT = 1, 3

# Typst wants a root that is there, and follows symbolic links out of a folder: below this one there
# can be no file
NO_FOLDER = os.devnull


def make_pdf(inside: Mapping[str, bytes]) -> bytes:
    """Return the PDF of files that are given by name, `main.typ` first of all.

    Parameters
    ----------
    inside : mapping
        Names and contents; nothing else is read.

    Raises
    ------
    RuntimeError
        If they cannot be typeset; it holds what Typst says.
    MemoryError
        If there is not enough memory.
    """
    request = json.dumps(
        {name: base64.b64encode(content).decode() for name, content in inside.items()}
    )
    # not the package: what it imports is not needed, and would take memory
    made = subprocess.run(
        [sys.executable, "-P", __file__], input=request.encode(), capture_output=True, check=False
    )
    said = made.stderr.decode(errors="replace")
    if made.returncode == CANNOT:
        raise RuntimeError(said)
    if made.returncode != 0:
        raise MemoryError(f"typesetting ended with {made.returncode}: {said}")
    return made.stdout


def main() -> None:
    """Typeset what standard input holds."""
    try:
        import typst

        inside: Any = {
            name: base64.b64decode(content) for name, content in json.load(sys.stdin.buffer).items()
        }
        made = typst.compile(
            inside,
            root=NO_FOLDER,
            ignore_system_fonts=True,
            format="pdf",
            pdf_standards=["a-2a", "ua-1"],
        )
    except RuntimeError as error:
        sys.stderr.write(str(error))
        sys.exit(CANNOT)
    except BaseException as error:  # a panic of Typst is no Exception
        sys.stderr.write(f"{type(error).__name__}: {error}")
        sys.exit(SHORT)
    sys.stdout.buffer.write(bytes(made))


if __name__ == "__main__":
    main()
