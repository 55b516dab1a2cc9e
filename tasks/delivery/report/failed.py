"""The report on a visit that was not reduced: where it stopped, why, what to do, and what was done
before; as text and as PDF.

Whatever comes from headers or names of files stands on one line without control characters, and
reaches the typesetter as JSON strings only: it is never read as markup.
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

# What the two pages of the PDF hold of long lists; the text holds all.
MOST_WARNINGS = 8

MOST_NOTES = 5

MOST_FILES = 32

LONGEST = {"target": 80, "why": 900, "line": 120, "value": 24}  # characters


class FileRead(Payload):
    """A file that was read: kind of input, name, and where it is known the digest (SHA-256)."""

    kind: str
    name: str
    sha256: str = ""


class DoneStep(Payload):
    """A step that was done before, with what it left."""

    outcome: str
    row: StepRow
    warnings: tuple[str, ...] = ()
    products: tuple[str, ...] = ()  # paths

    def states(self) -> str:
        """Return how the step ended, by keyword where it has some."""
        return ", ".join(f"{name} {state}" for name, state in self.row.keywords.items()) or str(
            self.row.state
        )

    def as_lines(self) -> list[str]:
        """Return step, state, values, warnings and products as text."""
        used = [f"{u.keyword} {u.shown} {u.unit}".rstrip() for u in self.row.used]
        return [
            f"{self.row.step:21s} {self.outcome:8s} {self.states()}",
            *([f"  used {', '.join(used)}"] if used else []),
            *(f"  ! {warning}" for warning in self.warnings),
            *(f"  {path}" for path in self.products),
        ]


class FailedVisit(Payload):
    """Everything that the report shows. Lists of text have a line for each thing; `settings` hold
    name, value, default.
    """

    of: str = "visit"  # or job order, where it is not known of which visit
    visit: str  # its name, or that of the order
    given: str  # the folder or order that was asked for
    target: str  # empty where it is not known yet
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
        """What did not become of it."""
        return "not reduced" if self.of == "visit" else "not done"

    def _lists(self) -> list[tuple[str, Sequence[str]]]:
        """Return titles and lines of what else there is to say."""
        lists: list[tuple[str, Sequence[str]]] = [
            ("Not given, and what is done instead", self.absent),
            ("Deviations from the definitions", self.deviations),
            (
                "Settings that differ from their defaults",
                [f"{n} = {v} (default {d})" for n, v, d in self.settings],
            ),
            ("Notes", self.notes),
        ]
        return [(title, lines) for title, lines in lists if lines]

    def as_text(self) -> str:
        """Return the report as text."""
        target = f" ({self.target})" if self.target else ""
        steps = [line for done in self.steps for line in done.as_lines()]
        files = [f"{file.kind}: {file.name}" for file in self.read]
        stopped = [f"{self.where}; nothing was published", f"asked for: {self.given}"]
        sections: list[tuple[str, Sequence[str]]] = [
            ("Why", [self.why]),
            ("Where it stopped", stopped),
            ("What to do", [self.advice]),
            ("Steps done before", steps or ["none"]),
            ("Read", files or ["none"]),
            *self._lists(),
        ]
        lines = [f"{self.visit}{target} was {self.state}: {self.reason}"]
        for title, texts in sections:
            lines += ["", title, *(f"  {text}" for text in texts)]
        lines += ["", f"drp {self.software}, {self.date} UTC", ""]
        return "\n".join(lines)

    def as_json(self) -> bytes:
        """Return what the pages of the PDF show: characters that can be typeset, and no more of a
        list than they hold.
        """
        warnings = [f"{done.row.step}: {text}" for done in self.steps for text in done.warnings]
        steps = [
            {"outcome": done.outcome, **done.row.model_dump(mode="json")} for done in self.steps
        ]
        for step in steps:
            for used in step["used"]:
                used["shown"] = printable(used["shown"], LONGEST["value"])
        shown = {
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
        return json.dumps(shown, sort_keys=True).encode("ascii")


def _first(lines: Sequence[str], most: int) -> list[str]:
    return [printable(text, LONGEST["line"]) for text in lines[:most]] + _more(lines, most)


def _more(lines: Sequence[object], most: int) -> list[str]:
    """Return the line that says how many were left out, if any were."""
    left = len(lines) - most
    return [f"... and {left} more in the text beside this page"] if left > 0 else []


def typeset_failed(failed: FailedVisit, target: Path) -> None:
    """Typeset the report as PDF; the errors are those of `write_pdf`."""
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
