"""The result of a validation: a page in Markdown with figures in SVG, and the same as JSON."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.validation.budget import AFTER, budget
from tasks.validation.claims import CLAIMS, Measure, judge, pooled
from tasks.validation.statistics import Averaged

SIGNS = {"pass": "pass", "fail": "**FAIL**", "open": "open"}


def summary(
    parts: list[dict[str, Any]], effects: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Put the visits of each case together and judge every claim.

    Parameters
    ----------
    parts : list of dict
        Results of `measure_part` with ``case`` and ``seed``; those that failed have ``failed``, the
        reason.
    effects : mapping
        Visits of the error budget, by effect.

    Returns
    -------
    dict
        In JSON's types; ``failed`` counts claims that are not met, and visits that could not be
        reduced.
    """
    rows, averaging, notes = [], [], []
    for case in dict.fromkeys(p["case"] for p in parts):
        own = [p for p in parts if p["case"] == case]
        notes += [
            f"{case}, seed {p['seed']}: could not be reduced: {p['failed']}"
            for p in own
            if "failed" in p
        ]
        said = {
            note: [p["seed"] for p in own if note in p.get("notes", ())]
            for p in own
            for note in p.get("notes", ())
        }
        notes += [
            f"{case}, seed {', '.join(map(str, seeds))}: {note}" for note, seeds in said.items()
        ]
        rows += judged(case, [Measure.from_json(m) for p in own for m in p.get("measures", ())])
        averaging += [
            {"case": case, **curve}
            for curve in added([a for p in own for a in p.get("averaging", ())])
        ]
    table = budget(effects)
    broken = [p for p in (*parts, *effects.values()) if "failed" in p]
    notes += [
        f"error budget, {name}: could not be reduced: {p['failed']}"
        for name, p in effects.items()
        if "failed" in p
    ]
    counts = {verdict: sum(r["verdict"] == verdict for r in rows) for verdict in SIGNS}
    return {
        "claims": rows,
        "budget": table,
        "averaging": averaging,
        "notes": notes,
        "counts": counts,
        "failed": counts["fail"] + len(broken),
        "visits": len(parts) + len(effects),
    }


def judged(case: str, measures: list[Measure]) -> list[dict[str, Any]]:
    """Return one row for each claim and light curve of a case, in the order in which claims are
    declared.

    Raises
    ------
    KeyError
        If something was measured that is no claim.
    """
    if unknown := sorted({m.claim for m in measures} - set(CLAIMS)):
        raise KeyError(f"{unknown[0]} was measured, but is no claim")
    rows = []
    for key, claim in CLAIMS.items():
        for of in dict.fromkeys(m.of for m in measures if m.claim == key):
            reached, points = pooled(claim, [m for m in measures if (m.claim, m.of) == (key, of)])
            verdict = judge(claim, reached)
            value, error = (float(v) if np.isfinite(v) else None for v in reached)
            rows.append(
                {
                    "case": case,
                    "claim": key,
                    "of": of,
                    "title": claim.title,
                    "unit": claim.unit,
                    "goal": claim.goal,
                    "reached": value,
                    "error": error,
                    "points": points,
                    "verdict": verdict,
                }
            )
    return rows


def added(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the averaging curves of the visits of a case, light curve by light curve."""
    found = []
    for name in dict.fromkeys(c["of"] for c in curves):
        sums: dict[float, Averaged] = {}
        for point in (p for c in curves if c["of"] == name for p in c["curve"]):
            hours = round(point["hours"], 4)
            old = sums.get(hours, Averaged(hours, 0.0, 0.0, 0.0))
            sums[hours] = Averaged(
                hours,
                old.squares + point["squares"],
                old.freedom + point["freedom"],
                old.white + point["white"],
            )
        rows = [
            {
                "hours": a.hours,
                "ppm": a.noise.value,
                "error": a.noise.error,
                "independent": float(np.sqrt(a.white / a.freedom)),
            }
            for a in sorted(sums.values())
            if a.freedom > 0
        ]
        found.append({"of": name, "curve": rows})
    return found


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for people; a dash where there is none."""
    return "—" if value is None else f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.0f}"


def reached(row: Mapping[str, Any]) -> str:
    """Return value and error of a row, with as many digits as the error tells."""
    value, error = row["reached"], row["error"]
    if value is None or error is None or error <= 0:
        return number(value, 4)
    places = int(np.clip(1 - np.floor(np.log10(error)), 0, 6))
    return f"{value:.{places}f} ± {error:.{places}f}"


def table(head: tuple[str, ...], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return [
        *lines,
        *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows),
        "",
    ]


CLAIM_HEAD = ("claim", "of", "goal", "reached", "points", "")


def claim_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a claim as cells of a table."""
    goal, found = (f"{value} {row['unit']}".strip() for value in (row["goal"], reached(row)))
    return row["title"], row["of"], goal, found, str(row["points"]), SIGNS[row["verdict"]]


def budget_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return an effect of the budget as cells of a table."""
    return (
        row["effect"],
        *(number(row.get(c)) for c in ("before", *AFTER)),
        row["owner"],
        row["over"],
    )


def page(result: Mapping[str, Any], version: str) -> str:
    """Return the page as Markdown."""
    counts = result["counts"]
    lines = [
        "# Validation",
        "",
        f"Version {version}, {result['visits']} simulated visits. Claims: {counts['pass']} pass, ",
    ]
    lines[-1] += (
        f"{counts['fail']} fail, {counts['open']} are open (too few points to tell). How to "
        f"read this page stands in "
    )
    lines[-1] += "docs/validation.md."
    failed = [r for r in result["claims"] if r["verdict"] == "fail"]
    if failed:
        lines += [
            "",
            "## Not met",
            "",
            *table(("case", *CLAIM_HEAD), [(r["case"], *claim_cells(r)) for r in failed]),
        ]
    for case in dict.fromkeys(r["case"] for r in result["claims"]):
        own = [r for r in result["claims"] if r["case"] == case]
        lines += ["", f"## {case}", "", *table(CLAIM_HEAD, [claim_cells(r) for r in own])]
        if any(a["case"] == case and a["curve"] for a in result["averaging"]):
            lines += [f"![noise of means, {case}](figures/averaging-{case}.svg)", ""]
    if result["budget"]:
        lines += [
            "",
            "## Error budget",
            "",
            "What each effect alone does to the light curve, rms [ppm].",
            "",
        ]
        head = (
            "effect",
            "before",
            "after, DEFAULT",
            "after, PSF",
            "step that owns it",
            "on top of",
        )
        lines += table(head, [budget_cells(r) for r in result["budget"]])
    if result["notes"]:
        lines += ["", "## Not measured", "", *(f"- {note}" for note in result["notes"])]
    return "\n".join(lines).rstrip() + "\n"


def figures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the figures by name: noise of means against the length of the mean, one figure a
    case.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    found = {}
    for case in dict.fromkeys(a["case"] for a in result["averaging"] if a["curve"]):
        with mpl.rc_context({"svg.hashsalt": "validation", "svg.fonttype": "none"}):
            figure = Figure(figsize=(7, 4.5), layout="constrained")
            FigureCanvasSVG(figure)
            axes = figure.add_subplot()
            for curve in (a for a in result["averaging"] if a["case"] == case and a["curve"]):
                hours, ppm, error, white = (
                    [p[k] for p in curve["curve"]] for k in ("hours", "ppm", "error", "independent")
                )
                drawn = axes.errorbar(hours, ppm, error, marker="o", ms=3, lw=1, label=curve["of"])
                axes.plot(hours, white, ls=":", lw=1, color=drawn.lines[0].get_color())
            axes.set(
                xscale="log",
                yscale="log",
                xlabel="length of the mean [h]",
                ylabel="noise of means [ppm]",
            )
            axes.set_title(f"{case}: dotted, if points were independent", fontsize=10)
            axes.legend(fontsize=8)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        found[f"averaging-{case}.svg"] = buffer.getvalue()
    return found
