"""Typesetting in a separate process, because Typst aborts its process when memory runs out.

The process reads a JSON object from standard input, which maps file names to their bytes in base64,
and writes the PDF to standard output. It exits with 1 if the files cannot be typeset (the reason is
on standard error), and with 3 if memory ran out.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

CANNOT, SHORT = 1, 3

# Typst needs an existing root, and follows symbolic links out of it: below this one there can be no
# file
NO_FOLDER = os.devnull


def make_pdf(inside: Mapping[str, bytes]) -> bytes:
    """Typeset files in a separate process and return the PDF.

    Parameters
    ----------
    inside : mapping
        Names and contents of files, `main.typ` among them; nothing else is read.

    Raises
    ------
    RuntimeError
        If the files cannot be typeset, with the message of Typst.
    MemoryError
        If there is not enough memory.
    """
    request = json.dumps(
        {name: base64.b64encode(content).decode() for name, content in inside.items()}
    )
    from tasks.engine.child import run_python

    # the file and not its module: importing the package would cost memory
    ended = run_python([__file__], request.encode())
    message = ended.stderr.decode(errors="replace")
    if ended.returncode == CANNOT:
        raise RuntimeError(message)
    if ended.returncode != 0:
        raise MemoryError(f"typesetting ended with {ended.returncode}: {message}")
    return ended.stdout


def main() -> None:
    """Typeset the files on standard input."""
    try:
        import typst

        inside: Any = {
            name: base64.b64decode(content) for name, content in json.load(sys.stdin.buffer).items()
        }
        pdf = typst.compile(
            inside,
            root=NO_FOLDER,
            ignore_system_fonts=True,
            format="pdf",
            pdf_standards=["a-2a", "ua-1"],
        )
    except RuntimeError as error:
        sys.stderr.write(str(error))
        sys.exit(CANNOT)
    except BaseException as error:  # a panic of Typst is not an Exception
        sys.stderr.write(f"{type(error).__name__}: {error}")
        sys.exit(SHORT)
    sys.stdout.buffer.write(bytes(pdf))


if __name__ == "__main__":
    main()
