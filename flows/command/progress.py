"""Progress on standard error: a line for each step, and a sign of life while one takes long."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from flows.command.console import age_text, note, stop_if_asked

if TYPE_CHECKING:
    from flows.runs.expected import Call
    from tasks.engine.run import Run, StepReport

SILENCE = 3.0  # longest silence of a wait that is not shown on a terminal [s]


class Pulse:
    """Says every few seconds what the command is doing, so that no wait looks like a hang.

    On a terminal the last line is replaced once a second; elsewhere a line is added when nothing
    was written for some seconds. `doing` may be changed at any time.
    """

    def __init__(self, silent: bool, doing: str) -> None:
        self.silent = silent
        self.doing = doing
        self.terminal = sys.stderr.isatty()
        self.since = self.written = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        """Begin to show signs of life."""
        if not self.silent:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End them, and clear the line that a terminal shows."""
        self._ended.set()
        if not self.silent:
            self._thread.join()
            if self.terminal:
                note("\r\033[K", nl=False)

    def begin(self, doing: str) -> None:
        """Say what is being done from now on."""
        with self._lock:
            self.doing, self.since = doing, time.monotonic()
        if self.terminal and not self.silent:
            self._show()

    def write(self, line: str) -> None:
        """Write a line."""
        if self.silent:
            return
        with self._lock:
            note(f"\r\033[K{line}" if self.terminal else line)
            self.written = time.monotonic()

    def _beat(self) -> None:
        while not self._ended.wait(1.0):
            if self.terminal or time.monotonic() - self.written >= SILENCE:
                self._show()

    def _show(self) -> None:
        with self._lock:
            waited = time.monotonic() - self.since
            text = f"{self.doing} ... {waited:.0f} s" if waited >= 1 else self.doing
            note(f"\r\033[K{text}" if self.terminal else text, nl=not self.terminal)
            self.written = time.monotonic()


def progress_bar(pulse: Pulse, label: str) -> Callable[[int, int], None]:
    """Return a function of (done, total) that shows progress and the time left.

    On a terminal it draws a bar, elsewhere it writes a line at every tenth.
    """
    first: list[float] = []
    last_tenth = -1

    def advance(done: int, total: int) -> None:
        nonlocal last_tenth
        now = time.monotonic()
        first[:] = first or [now, done]
        pace = (now - first[0]) / max(done - first[1], 1)
        left = f", {age_text(pace * (total - done))} left" if first[1] < done < total else ""
        text = f"{label} {done}/{total}{left}"
        full, tenth = 30 * done // max(total, 1), 10 * done // max(total, 1)
        if pulse.terminal:
            pulse.begin(f"[{'#' * full}{'.' * (30 - full)}] {text}")
        else:
            pulse.doing, pulse.since = text, now
            if tenth != last_tenth:
                pulse.write(text)
        last_tenth = tenth

    return advance


class Progress:
    """Reports the steps of a reduction: number, time, and the time left.

    Use it as a context manager, which also shows signs of life; it is then called with each step.
    """

    def __init__(self, silent: bool) -> None:
        self.silent = silent
        self.pulse = Pulse(silent, "loading the pipeline")
        self.run: Run | None = None
        self.expected: tuple[Call, ...] = ()
        self.ended: dict[Call, float] = {}
        self.timed: dict[Call, float] = {}

    def __enter__(self) -> Progress:
        """Begin."""
        self.pulse.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        self.pulse.__exit__(kind, error, trace)
        if kind is None:
            for line in self.parts():
                self.pulse.write(line)

    def __call__(self, step: str, report: StepReport | None) -> None:
        """Report that a step begins (`report` is None) or has ended."""
        from flows.runs.expected import next_call

        stop_if_asked()
        if self.silent:
            return
        self.look_at_run()
        call = next_call(step, self.ended, self.expected)
        name = full_name(call)
        if report is None:
            self.pulse.begin(f"{self.count(1)}  {name}")
            return
        self.ended[call] = report.seconds
        if report.outcome == "done":
            self.timed[call] = report.seconds
        states = ", ".join(sorted({str(s) for s in report.leaf.status.values()}))
        line = f"{self.count()}  {name:22s} {report.outcome:8s} {states:10s}"
        self.pulse.write(f"{line} {report.seconds:7.2f} s{self.left()}")
        for warning in report.leaf.warnings:
            self.pulse.write(f"       ! {warning}")
        self.pulse.begin("publishing" if len(self.ended) >= len(self.expected) else "next step")

    def look_at_run(self) -> None:
        """Begin to count anew if this is another run, as when many visits are reduced."""
        from flows.runs.expected import Call, Part
        from tasks.engine.run import ongoing_run

        run = ongoing_run()
        if run is not self.run:
            self.run, self.ended, self.timed = run, {}, {}
            calls = run.expected if run is not None else ()
            self.expected = tuple(Call(step, Part(part)) for step, part in calls)

    def count(self, ahead: int = 0) -> str:
        """Return the number of the present step, and that of all steps."""
        number = len(self.ended) + ahead
        return f"{number:3d}/{max(len(self.expected), number)}"

    def left(self) -> str:
        """Return the time left, if it is worth telling."""
        from flows.runs.expected import seconds_left

        left = seconds_left(self.timed, [c for c in self.expected if c not in self.ended])
        return f"   {age_text(left)} left" if self.timed and left >= 1 else ""

    def parts(self) -> list[str]:
        """Return a line for sub-array, imagettes and full array each, if a step was worked on."""
        if not self.timed:
            return []
        parts = dict.fromkeys(call.part for call in self.ended)
        seconds = {part: [t for c, t in self.ended.items() if c.part == part] for part in parts}
        return [f"{p:11s} {len(s):2d} steps  {sum(s):6.1f} s" for p, s in seconds.items()]


def full_name(call: Call) -> str:
    """Return the name of a call; a step that the full array repeats for itself says so."""
    from flows.runs.expected import SUBARRAY, Part

    repeated = call.part is Part.FULL_ARRAY and call.step in SUBARRAY
    return f"{call.step}, {call.part}" if repeated else call.step
