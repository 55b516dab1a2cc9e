"""The result of a validation: a Markdown page with SVG figures, and the same as JSON."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.validation.budget import AFTER, budget
from tasks.validation.claims import CLAIMS, Measure, judge, pooled
from tasks.validation.files import DETRENDED
from tasks.validation.statistics import Averaged

SIGNS = {"pass": "pass", "fail": "**FAIL**", "open": "open"}


def summary(
    parts: list[dict[str, Any]], effects: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Combine the visits of each case and judge every claim.

    Parameters
    ----------
    parts : list of dict
        Results of `measure_part` with ``case`` and ``seed``; a visit that could not be reduced has
        the reason as ``failed``.
    effects : mapping
        Visits of the error budget, by effect.

    Returns
    -------
    dict
        In JSON's types; ``failed`` is the number of claims that are not met and of visits that
        could not be reduced.
    """
    rows, averaging, notes = [], [], []
    for case in dict.fromkeys(p["case"] for p in parts):
        visits = [p for p in parts if p["case"] == case]
        notes += visit_notes(case, visits)
        measures = [Measure.from_json(m) for p in visits for m in p.get("measures", ())]
        rows += judge_case(case, measures)
        curves = add_averaging([a for p in visits for a in p.get("averaging", ())])
        averaging += [{"case": case, **curve} for curve in curves]
    notes += [
        f"error budget, {name}: could not be reduced: {p['failed']}"
        for name, p in effects.items()
        if "failed" in p
    ]
    reduced = Counter(p["case"] for p in parts if "failed" not in p)
    counts = {verdict: sum(r["verdict"] == verdict for r in rows) for verdict in SIGNS}
    return {
        "cases": [case_summary(case, number, rows) for case, number in reduced.items()],
        "claims": rows,
        "budget": budget(effects),
        "averaging": averaging,
        "notes": notes,
        "counts": counts,
        "failed": counts["fail"] + sum("failed" in p for p in (*parts, *effects.values())),
        "visits": len(parts) + len(effects),
    }


def case_summary(case: str, visits: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the row of a case in the first table: visits, points, noise, errors and failures.

    ``noise``, ``neighbours`` and ``fluxerr`` (scatter in units of FLUXERR) are by light curve;
    without noise, ``exact`` is the rms over the truth. ``background`` is the scatter in units of
    LEVEL_ERR.
    """
    own = [r for r in rows if r["case"] == case]

    def by_curve(claim: str, column: str = "reached") -> dict[str, float | None]:
        return {r["of"]: r[column] for r in own if r["claim"] == claim}

    main = [r for r in own if r["claim"] in ("noise", "exact")]
    errors = [r["error"] for r in main if r["error"] is not None]
    missed = [r for r in own if r["verdict"] == "fail"]
    return {
        "case": case,
        "visits": visits,
        "points": max((r["points"] for r in main), default=0),
        "noise": by_curve("noise"),
        "exact": by_curve("exact"),
        "error": max(errors, default=None),
        "neighbours": by_curve("noise_neighbours"),
        "fluxerr": by_curve("honesty"),
        "background": by_curve("background").get(""),
        "missed": list(dict.fromkeys(r["title"] for r in missed)),
    }


def visit_notes(case: str, visits: list[dict[str, Any]]) -> list[str]:
    """Return the reasons why something was not measured; seeds of one reason share a line."""
    failed = [
        f"{case}, seed {p['seed']}: could not be reduced: {p['failed']}"
        for p in visits
        if "failed" in p
    ]
    seeds: dict[str, list[str]] = {}
    for p in visits:
        for note in p.get("notes", ()):
            seeds.setdefault(note, []).append(str(p["seed"]))
    return failed + [f"{case}, seed {', '.join(of)}: {note}" for note, of in seeds.items()]


def judge_case(case: str, measures: list[Measure]) -> list[dict[str, Any]]:
    """Return one row for each claim and light curve of a case, in the order of `CLAIMS`.

    Raises
    ------
    KeyError
        If a measure belongs to no claim.
    """
    if unknown := sorted({m.claim for m in measures} - set(CLAIMS)):
        raise KeyError(f"{unknown[0]} was measured, but is not a claim")
    rows = []
    for key, claim in CLAIMS.items():
        for of in dict.fromkeys(m.of for m in measures if m.claim == key):
            reached, points = pooled(claim, [m for m in measures if (m.claim, m.of) == (key, of)])
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
                    "verdict": judge(claim, reached),
                }
            )
    return rows


def add_averaging(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the averaging curves of the visits of a case, light curve by light curve."""
    added = []
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
        points = [
            {
                "hours": a.hours,
                "ppm": a.noise.value,
                "error": a.noise.error,
                "independent": float(np.sqrt(a.white / a.freedom)),
            }
            for a in sorted(sums.values())
            if a.freedom > 0
        ]
        added.append({"of": name, "curve": points})
    return added


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a number as text, with so many significant digits; a dash for None."""
    return "—" if value is None else f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.0f}"


def format_reached(row: Mapping[str, Any]) -> str:
    """Return value and error of a row as text; the error decides on the digits."""
    value, error = row["reached"], row["error"]
    if value is None or error is None or error <= 0:
        return format_number(value, 4)
    places = int(np.clip(1 - np.floor(np.log10(error)), 0, 6))
    return f"{value:.{places}f} ± {error:.{places}f}"


def markdown_table(head: tuple[str, ...], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, with an empty line at the end."""
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return [
        *lines,
        *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows),
        "",
    ]


CLAIM_HEAD = ("claim", "of", "goal", "reached", "points", "")
BUDGET_HEAD = (
    "effect",
    "before",
    "after, DEFAULT",
    "after, PSF",
    "step that owns it",
    "on top of",
)


CASE_CURVES = ("DEFAULT", "OPTIMAL", "PSF", DETRENDED)
CASE_HEAD = (
    "case",
    "visits",
    "points",
    *CASE_CURVES,
    "error",
    "point to point",
    "in units of FLUXERR",
    "background in LEVEL_ERR",
    "goals not met",
)


def case_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of a case in the first table; [ppm] for a case without noise."""
    noise, unit = (row["noise"], "") if row["noise"] else (row["exact"], " ppm")

    def fixed(value: float | None, unit: str = "") -> str:
        return "—" if value is None else f"{value:.{1 if unit else 3}f}{unit}"

    several = (
        ", ".join(f"{row[key][name]:.2f}" for name in CASE_CURVES if row[key].get(name) is not None)
        for key in ("neighbours", "fluxerr")
    )
    return (
        row["case"],
        str(row["visits"]),
        str(row["points"]),
        *(fixed(noise.get(name), unit) for name in CASE_CURVES),
        fixed(row["error"], unit),
        *several,
        format_number(row["background"]),
        "; ".join(row["missed"]),
    )


def claim_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of a claim."""
    goal, reached = (f"{text} {row['unit']}".strip() for text in (row["goal"], format_reached(row)))
    return row["title"], row["of"], goal, reached, str(row["points"]), SIGNS[row["verdict"]]


def budget_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of an effect of the budget."""
    numbers = (format_number(row.get(column)) for column in ("before", *AFTER))
    return row["effect"], *numbers, row["owner"], row["over"]


def page(result: Mapping[str, Any], version: str) -> str:
    """Return the page as Markdown."""
    counts = result["counts"]
    lines = [
        "# Validation",
        "",
        f"Version {version}, {result['visits']} simulated visits. Claims: {counts['pass']} pass, "
        f"{counts['fail']} fail, {counts['open']} are open (too few points). How to read this page "
        f"is explained in docs/validation.md.",
        *_cases_section(result),
        *_failed_section(result),
    ]
    for case in dict.fromkeys(r["case"] for r in result["claims"]):
        lines += _case_section(result, case)
    lines += _budget_section(result)
    if result["notes"]:
        lines += ["", "## Not measured", "", *(f"- {note}" for note in result["notes"])]
    return "\n".join(lines).rstrip() + "\n"


def _cases_section(result: Mapping[str, Any]) -> list[str]:
    if not result["cases"]:
        return []
    return [
        "",
        "## Cases",
        "",
        "Robust scatter over the photon floor; the error is the largest of the light curves. Point "
        "to point, and in units of FLUXERR: the same light curves in this order.",
        "",
        *markdown_table(CASE_HEAD, [case_cells(row) for row in result["cases"]]),
    ]


def _failed_section(result: Mapping[str, Any]) -> list[str]:
    failed = [(r["case"], *claim_cells(r)) for r in result["claims"] if r["verdict"] == "fail"]
    if not failed:
        return []
    return ["", "## Not met", "", *markdown_table(("case", *CLAIM_HEAD), failed)]


def _case_section(result: Mapping[str, Any], case: str) -> list[str]:
    claims = [claim_cells(r) for r in result["claims"] if r["case"] == case]
    lines = ["", f"## {case}", "", *markdown_table(CLAIM_HEAD, claims)]
    if any(a["case"] == case and a["curve"] for a in result["averaging"]):
        lines += [f"![noise of means, {case}](figures/averaging-{case}.svg)", ""]
    return lines


def _budget_section(result: Mapping[str, Any]) -> list[str]:
    if not result["budget"]:
        return []
    return [
        "",
        "## Error budget",
        "",
        "The impact of each effect alone on the light curve, rms [ppm].",
        "",
        *markdown_table(BUDGET_HEAD, [budget_cells(r) for r in result["budget"]]),
    ]


def figures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the averaging curves as SVG, by file name, one figure per case."""
    curves = [a for a in result["averaging"] if a["curve"]]
    return {
        f"averaging-{case}.svg": draw_averaging(case, [a for a in curves if a["case"] == case])
        for case in dict.fromkeys(a["case"] for a in curves)
    }


def draw_averaging(case: str, curves: list[Mapping[str, Any]]) -> bytes:
    """Draw the noise of means against their length, and that of independent points (dotted)."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "validation", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for curve in curves:
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
        axes.set_title(f"{case}; dotted: independent points", fontsize=10)
        axes.legend(fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
