"""The page on a campaign: one HTML file that needs no other."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from flows.campaign.plots import bar, scatter_plot
from flows.campaign.state import History, place_of
from schemas import VERSION, errors
from schemas.campaigns import Outcome
from tasks.files import disk

MOST_FAILURES = 2000  # listed one by one
SLOWEST = 20

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1f24; margin: 2rem auto; max-width: 60rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.1rem; margin-top: 2.2rem; border-bottom: 1px solid #d0d7de; }
.quiet { color: #57606a; }
.tiles { display: flex; flex-wrap: wrap; gap: 0.7rem; margin: 1rem 0; padding: 0; }
.tiles li { list-style: none; border: 1px solid #d0d7de; border-radius: 6px;
  padding: 0.4rem 0.9rem; }
.tiles b { display: block; font-size: 1.35rem; }
.bad b { color: #b3390a; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; }
th, td { padding: 0.15rem 0.7rem 0.15rem 0; border-bottom: 1px solid #eaeef2; vertical-align: top; }
th.number, td.number { text-align: right; white-space: nowrap; }
.wide { overflow-x: auto; }
.wide > svg { max-width: 100%; min-width: 34rem; }
.long { display: inline-block; min-width: 14rem; overflow-wrap: anywhere; }
svg.bar { width: 100%; min-width: 4rem; height: 0.7rem; }
svg text { font-size: 12px; fill: #57606a; }
.middle { text-anchor: middle; }
.end { text-anchor: end; }
.grid { stroke: #eaeef2; }
.point { fill: #1f5fa8; fill-opacity: 0.75; }
.pale { fill: #c9dcf0; }
.limit { fill: #8c959f; }
a { color: #1f5fa8; }
"""


def write_page(history: History, path: Path) -> None:
    """Write the page on a campaign."""
    disk.write_file(path, render_page(history, path.parent).encode(errors="backslashreplace"))


def render_page(history: History, folder: Path) -> str:
    """Return the page on a campaign; its links are as seen from `folder`."""
    outcomes = history.reached()
    begin = history.begin
    name = escape(begin.name) if begin is not None else ""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>Campaign {name}</title><style>{STYLE}</style></head><body>",
        f"<h1>Campaign {name}</h1>",
        head_line(history, outcomes),
        tiles(history, outcomes),
        section("Noise", noise(outcomes)),
        section("Verdicts", verdicts(outcomes)),
        section("Failures by cause", causes(outcomes)),
        section("Time of each step", step_times(outcomes)),
        section("Slowest visits", slowest(outcomes, folder)),
        section("Machines and retries", machines(outcomes)),
        section("Failed visits", failures(outcomes)),
        section("All visits", all_visits(outcomes, folder)),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def section(title: str, body: str) -> str:
    """Return a part of the page."""
    return f"<h2>{title}</h2>\n{body}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table of cells that are HTML; columns with `numbers` are set to the right."""

    def line(tag: str, cells: Sequence[str]) -> str:
        marks = [' class="number"' if i in numbers else "" for i in range(len(cells))]
        cells = [f"<{tag}{mark}>{c}</{tag}>" for mark, c in zip(marks, cells, strict=True)]
        return f"<tr>{''.join(cells)}</tr>"

    lines = [line("th", head), *(line("td", row) for row in rows)]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def long(text: str) -> str:
    """Return a cell for a text that may be broken anywhere, such as a path."""
    return f'<span class="long">{escape(text)}</span>'


def clock(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def head_line(history: History, outcomes: Sequence[Outcome]) -> str:
    """Return when and where the campaign ran."""
    begin = history.begin
    if begin is None:
        return "<p>It has not begun.</p>"
    dates = [time.strftime("%Y-%m-%d %H:%M", time.gmtime(begin.began))]
    if outcomes:
        last = max(o.ended for o in outcomes)
        dates.append(time.strftime("%Y-%m-%d %H:%M", time.gmtime(last)))
    calls = f", {history.calls} calls" if history.calls > 1 else ""
    return (
        f'<p class="quiet">drp {escape(begin.version)} {escape(place_of(begin.engine))}, '
        f"last call {dates[0]}, last outcome {dates[-1]} UTC{calls}. "
        f"Page written by drp {VERSION}.</p>"
    )


def tiles(history: History, outcomes: Sequence[Outcome]) -> str:
    """Return the numbers of visits."""
    total = len(history.begin.visits) if history.begin is not None else 0
    done = sum(o.code == 0 for o in outcomes)
    numbers = [
        ("visits", str(total), ""),
        ("done", str(done), ""),
        ("failed", str(len(outcomes) - done), "bad" if done < len(outcomes) else ""),
        ("to do", str(total - len(outcomes)), ""),
        ("computing time", clock(sum(o.seconds for o in outcomes)), ""),
    ]
    items = (f'<li class="{kind}"><b>{n}</b>{label}</li>' for label, n, kind in numbers)
    return f'<ul class="tiles">{"".join(items)}</ul>'


def noise(outcomes: Sequence[Outcome]) -> str:
    """Draw the noise of every visit against its magnitude."""
    known = [o for o in outcomes if o.magnitude is not None]
    measured = [
        (o.magnitude or 0.0, o.scatter, f"{Path(o.text).name}: {o.scatter:.1f} ppm")
        for o in known
        if o.scatter is not None
    ]
    limits = [(o.magnitude or 0.0, o.photon_limit, "") for o in known if o.photon_limit is not None]
    ratios = [o.scatter / o.photon_limit for o in known if o.scatter and o.photon_limit]
    text = (
        "Point-to-point scatter of the DEFAULT light curve. Grey bars: photon noise of the star in "
        "an image of that visit."
    )
    if ratios:
        text += f" Median ratio of the two: {statistics.median(ratios):.2f}."
    return f'<div class="wide">{scatter_plot(measured, limits)}</div><p>{text}</p>'


def verdicts(outcomes: Sequence[Outcome]) -> str:
    """Tabulate the verdicts."""
    counts = Counter(o.verdict for o in outcomes if o.verdict)
    if not counts:
        return "<p>None yet.</p>"
    most = max(counts.values())
    rows = [
        (f"the light curve is {escape(word)}", str(n), bar(n / most))
        for word, n in counts.most_common()
    ]
    return table(("verdict", "visits", ""), rows, (1,))


def meaning(code: int) -> str:
    """Return what an exit code means."""
    for kind in errors.DrpError.__subclasses__():
        if kind.exit_code == code and kind.__module__ == errors.__name__:
            return (kind.__doc__ or "").split("\n")[0]
    others = {
        3: "A step ended with a warning, or an input deviates (--strict).",
        70: "An internal error of drp.",
    }
    if code > 128 and code - 128 in set(signal.Signals):
        return f"Ended by {signal.Signals(code - 128).name}."
    return others.get(code, "Unknown.")


def causes(outcomes: Sequence[Outcome]) -> str:
    """Tabulate how many visits failed for which cause."""
    failed = [o for o in outcomes if o.code]
    if not failed:
        return "<p>No visit has failed.</p>"
    counts = Counter(o.code for o in failed)
    examples = {o.code: o for o in reversed(failed)}
    rows = [
        (str(code), str(n), escape(meaning(code)), long(examples[code].text[:300]))
        for code, n in counts.most_common()
    ]
    return table(("exit code", "visits", "meaning", "first example"), rows, (1,))


def step_times(outcomes: Sequence[Outcome]) -> str:
    """Tabulate median and 90th percentile of the time of each step."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        for step, value in outcome.steps.items():
            seconds[step].append(value)
    if not seconds:
        return "<p>No step was run.</p>"
    rows = []
    middle = {step: statistics.median(values) for step, values in seconds.items()}
    high = {step: sorted(values)[int(0.9 * (len(values) - 1))] for step, values in seconds.items()}
    most = max(*high.values(), 1e-3)
    for step, values in seconds.items():
        shown = bar(middle[step] / most, high[step] / most)
        rows.append(
            (escape(step), str(len(values)), f"{middle[step]:.2f}", f"{high[step]:.2f}", shown)
        )
    total = sum(map(sum, seconds.values()))
    head = ("step", "runs", "median [s]", "90 % below [s]", "")
    return f"{table(head, rows, (1, 2, 3))}<p>All steps together: {clock(total)}.</p>"


def link(path: str, folder: Path, text: str) -> str:
    """Return a link to a file as seen from the folder of the page; empty without a path."""
    if not path:
        return ""
    return f'<a href="{escape(os.path.relpath(path, folder))}">{text}</a>'


def links(outcome: Outcome, folder: Path) -> str:
    """Return the links to the pages of a visit."""
    pages = (link(outcome.report, folder, "report"), link(outcome.viewer, folder, "viewer"))
    return " ".join(filter(None, pages))


def slowest(outcomes: Sequence[Outcome], folder: Path) -> str:
    """Tabulate the visits that took longest."""
    chosen = sorted(outcomes, key=lambda o: -o.seconds)[:SLOWEST]
    rows = [
        (
            escape(Path(o.visit).name),
            f"{o.seconds:.1f}",
            slowest_step(o),
            escape(o.host),
            links(o, folder),
        )
        for o in chosen
    ]
    return table(("visit", "seconds", "slowest step", "machine", "pages"), rows, (1,))


def slowest_step(outcome: Outcome) -> str:
    """Return the step of a visit that took longest."""
    if not outcome.steps:
        return ""
    step = max(outcome.steps, key=lambda name: outcome.steps[name])
    return f"{escape(step)} {outcome.steps[step]:.1f} s"


def machines(outcomes: Sequence[Outcome]) -> str:
    """Tabulate the visits of each machine, and what was lost to retries."""
    by_host: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_host[outcome.host or "unknown"].append(outcome)
    rows = [
        (
            escape(host),
            str(len(theirs)),
            f"{statistics.median(o.seconds for o in theirs):.1f}",
            str(sum(o.code != 0 for o in theirs)),
            str(sum(o.attempts > 1 for o in theirs)),
            clock(sum(o.lost for o in theirs)),
        )
        for host, theirs in sorted(by_host.items())
    ]
    head = ("machine", "visits", "median [s]", "failed", "tried more than once", "lost to retries")
    return table(head, rows, (1, 2, 3, 4, 5))


def failures(outcomes: Sequence[Outcome]) -> str:
    """List the visits that failed."""
    failed = [o for o in outcomes if o.code]
    rows = [
        (str(o.code), long(o.visit), long(o.text), str(o.attempts)) for o in failed[:MOST_FAILURES]
    ]
    if not rows:
        return "<p>None.</p>"
    more = len(failed) - len(rows)
    text = f"<p>{more} more are in the state file.</p>" if more else ""
    return table(("exit code", "visit", "error", "attempts"), rows, (3,)) + text


def all_visits(outcomes: Sequence[Outcome], folder: Path) -> str:
    """List the visits that are done."""
    rows = [
        (
            escape(Path(o.text).name or o.visit),
            escape(o.verdict),
            "" if o.magnitude is None else f"{o.magnitude:.2f}",
            "" if o.scatter is None else f"{o.scatter:.1f}",
            f"{o.seconds:.1f}",
            links(o, folder),
        )
        for o in outcomes
        if o.code == 0
    ]
    head = ("published", "verdict", "G [mag]", "noise [ppm]", "seconds", "pages")
    shown = table(head, rows, (2, 3, 4))
    return f"<details><summary>{len(rows)} visits that are done</summary>{shown}</details>"
