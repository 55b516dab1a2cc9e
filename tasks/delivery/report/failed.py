"""The report on a visit that was not reduced: why and where it stopped, and what to do about it.

It is written as text and as PDF. Text from headers or file names is put on one line without control
characters, and reaches the typesetter only as JSON strings: it is never read as markup.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from schemas.payloads import Payload
from tasks.delivery.report.pdf import moment, templates, write_pdf
from tasks.delivery.report.summary import StepRow
from tasks.delivery.report.wording import printable

TEMPLATES = ("look.typ", "failed.typ")

# Lines of long lists that fit on the two pages of the PDF; the text has them all.
MOST_WARNINGS = 8

MOST_NOTES = 5

MOST_FILES = 32

LONGEST = {"target": 80, "why": 900, "line": 120, "value": 24}  # characters


class FileRead(Payload):
    """A file that was read: kind of input, name, and digest (SHA-256) if known."""

    kind: str
    name: str
    sha256: str = ""


class DoneStep(Payload):
    """A step that was completed before the failure, with its output."""

    outcome: str
    row: StepRow
    warnings: tuple[str, ...] = ()
    products: tuple[str, ...] = ()  # paths

    def states(self) -> str:
        """Return the state of the step, by keyword if it has any."""
        return ", ".join(f"{name} {state}" for name, state in self.row.keywords.items()) or str(
            self.row.state
        )

    def as_lines(self) -> list[str]:
        """List step, state, values, warnings and products as text."""
        used = [f"{u.keyword} {u.shown} {u.unit}".rstrip() for u in self.row.used]
        return [
            f"{self.row.step:21s} {self.outcome:8s} {self.states()}",
            *([f"  used {', '.join(used)}"] if used else []),
            *(f"  ! {warning}" for warning in self.warnings),
            *(f"  {path}" for path in self.products),
        ]


class FailedVisit(Payload):
    """The contents of the report; `settings` holds name, value and default."""

    of: str = "visit"  # or job order, if its visit is unknown
    visit: str  # its name, or that of the order
    given: str  # the folder or order that was requested
    target: str  # empty if not known yet
    reason: str
    where: str
    why: str
    advice: str
    steps: tuple[DoneStep, ...] = ()
    read: tuple[FileRead, ...] = ()
    absent: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settings: tuple[tuple[str, str, str], ...] = ()
    software: str
    date: str  # UTC, yyyy-mm-ddThh:mm:ss

    @property
    def state(self) -> str:
        """The state of the visit or order in words."""
        return "not reduced" if self.of == "visit" else "not done"

    def _lists(self) -> list[tuple[str, Sequence[str]]]:
        """List titles and lines of the remaining sections that have any."""
        lists: list[tuple[str, Sequence[str]]] = [
            ("Missing inputs and their substitutes", self.absent),
            ("Deviations from the definitions", self.deviations),
            (
                "Non-default settings",
                [f"{n} = {v} (default {d})" for n, v, d in self.settings],
            ),
            ("Notes", self.notes),
        ]
        return [(title, lines) for title, lines in lists if lines]

    def as_text(self) -> str:
        """Format the report as text."""
        target = f" ({self.target})" if self.target else ""
        steps = [line for done in self.steps for line in done.as_lines()]
        files = [f"{file.kind}: {file.name}" for file in self.read]
        stopped = [f"{self.where}; nothing was published", f"requested: {self.given}"]
        sections: list[tuple[str, Sequence[str]]] = [
            ("Why", [self.why]),
            ("Where it stopped", stopped),
            ("What to do", [self.advice]),
            ("Steps completed", steps or ["none"]),
            ("Files read", files or ["none"]),
            *self._lists(),
        ]
        lines = [f"{self.visit}{target} was {self.state}: {self.reason}"]
        for title, texts in sections:
            lines += ["", title, *(f"  {text}" for text in texts)]
        lines += ["", f"drp {self.software}, {self.date} UTC", ""]
        return "\n".join(lines)

    def as_json(self) -> bytes:
        """Encode the contents of the PDF as JSON, with lists cut to fit its pages."""
        warnings = [f"{done.row.step}: {text}" for done in self.steps for text in done.warnings]
        steps = [
            {"outcome": done.outcome, **done.row.model_dump(mode="json")} for done in self.steps
        ]
        for step in steps:
            for used in step["used"]:
                used["shown"] = printable(used["shown"], LONGEST["value"])
        contents = {
            "of": self.of,
            "state": self.state,
            "visit": printable(self.visit, LONGEST["target"]),
            "target": printable(self.target, LONGEST["target"]),
            "reason": self.reason,
            "where": self.where,
            "given": printable(self.given, LONGEST["line"]),
            "why": printable(self.why, LONGEST["why"]),
            "advice": self.advice,
            "steps": steps,
            "read": [
                [printable(f.kind), printable(f.name, 120), f.sha256[:16]]
                for f in self.read[:MOST_FILES]
            ],
            "more_read": _more(self.read, MOST_FILES),
            "warnings": _first(warnings, MOST_WARNINGS),
            "lists": [[title, _first(lines, MOST_NOTES)] for title, lines in self._lists()],
        }
        return json.dumps(contents, sort_keys=True).encode("ascii")


def _first(lines: Sequence[str], most: int) -> list[str]:
    return [printable(text, LONGEST["line"]) for text in lines[:most]] + _more(lines, most)


def _more(lines: Sequence[object], most: int) -> list[str]:
    """Return a line with the number of lines omitted, if any."""
    omitted = len(lines) - most
    return [f"... and {omitted} more in the text version of this report"] if omitted > 0 else []


def typeset_failed(failed: FailedVisit, target: Path) -> None:
    """Typeset the report as PDF; raises the errors of `write_pdf`."""
    facts = {
        "date": failed.date,
        "software": printable(failed.software),
        "moment": moment(failed.date),
    }
    inside = {
        "main.typ": b'#include "failed.typ"\n',
        "facts.json": json.dumps(facts, sort_keys=True).encode(),
        "report.json": failed.as_json(),
        **templates(*TEMPLATES),
    }
    write_pdf(inside, target)
