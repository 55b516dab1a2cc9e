"""A process that does parts of a validation until none is left: `flows.validate` starts it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from flows.validate import code_digest, do_part, plan_parts
from schemas.requests import ValidateRequest

NUMBER = 8  # bytes of a number in the pipe, with its line end
LONGEST = 1000  # characters of a message: its line is written whole into a pipe
OFTEN = 0.2  # least time between two messages [s]


def work(numbers: int, request: ValidateRequest) -> None:
    """Do the parts whose numbers are read from a pipe, and print a line of JSON for each message.

    The last message of a part has ``end``, and the reason in ``failed`` if it could not be reduced.
    """
    works = list(plan_parts(request))
    code = code_digest()
    while number := os.read(numbers, NUMBER):
        part = Messages(int(number))
        result = do_part(works[part.number], Path(request.output), code, request.again, part.note)
        part.end(result.get("failed", ""))


class Messages:
    """The messages of one part."""

    def __init__(self, number: int) -> None:
        self.number, self.text, self.last = number, "", 0.0

    def note(self, text: str, end: bool) -> None:
        """Pass a progress message on; the last one is kept for `end`."""
        self.text = text
        if not end and time.monotonic() - self.last > OFTEN:
            self.last = time.monotonic()
            self._say(text=text, end=False)

    def end(self, failed: str) -> None:
        """Say that the part has ended."""
        self._say(text=self.text, end=True, failed=failed[:LONGEST])

    def _say(self, text: str, **facts: Any) -> None:
        line = json.dumps({"part": self.number, "text": text[:LONGEST], **facts})
        os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides
    work(int(sys.argv[1]), ValidateRequest.model_validate_json(sys.argv[2]))
