"""Tools about what is there: explain a point, compare reductions, check and show files. Each
answers as data and as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.errors import BadInputError, DrpError, MissingInputError, UsageError, plain

Answer = tuple[Any, list[str]]  # for --json, and lines for a person


def aligned(
    rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), indent: str = "  "
) -> list[str]:
    """Return rows of texts as lines with aligned columns, those of `numbers` to the right; nothing
    but printable characters.
    """
    cells = [[plain(cell, 90) for cell in row] for row in rows]
    widths = [
        max((len(row[i]) for row in cells), default=0) for i in range(len(cells[0]) if cells else 0)
    ]
    pad = [str.rjust if i in numbers else str.ljust for i in range(len(widths))]
    return [
        indent + "  ".join(f(cell, w) for f, cell, w in zip(pad, row, widths, strict=True)).rstrip()
        for row in cells
    ]


def shown(value: Any, style: str = ".6g") -> str:
    """Return a value for a table; a dash where there is none."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    text = format(value, style)
    return text.lstrip("+-") if float(text) == 0 else text


def explain(visit: Path, image: int, aperture: str) -> Answer:
    """Take the flux of one image apart."""
    from tasks.delivery.published.explain import explain as explained
    from tasks.delivery.published.visit import PublishedVisit

    told = explained(PublishedVisit.at(visit), image, aperture)
    kind = {
        "Moving": "a circle of {:g} pixels that moves with the star",
        "Fixed": "a circle of {:g} pixels that stays",
    }
    x, y = told["centroid"]
    lines = [
        f"{told['visit']} {told['version']}, image {image} of 0 to {told['images'] - 1}",
        f"{told['utc']} UTC, BJD {told['bjd']:.6f} TDB",
        f"aperture {aperture}: "
        f"{kind.get(told['type'], 'by PSF, on the scale of {:g} pixels').format(told['radius'])}",
        f"star at ({shown(x, '.3f')}, {shown(y, '.3f')}) on the CCD, roll angle "
        f"{shown(told['roll_angle'], '.3f')} deg",
        "EVENT " + "; ".join([str(told["event"]), *told["event_words"]]),
        "QUALITY " + "; ".join([str(told["quality"]), *told["quality_words"]]),
        "",
        f"electrons in the circle of {told['stages_radius']:g} pixels about the first "
        f"position, after each operation:",
    ]
    head = [["after", "electrons", "change", "+-", ""]]
    lines += aligned(
        head
        + [
            [
                s["stage"],
                shown(s["electrons"], ".1f"),
                shown(s["change"], "+.1f"),
                shown(s["error"], ".1f"),
                s["meaning"],
            ]
            for s in told["stages"]
        ],
        (1, 2, 3),
    )
    lines += ["", f"in the aperture {aperture}:"]
    lines += aligned(
        [
            [
                "FLUX",
                shown(told["flux"], ".1f"),
                shown(told["error"], ".1f"),
                f"{shown(told['error_ppm'], '.1f')} ppm",
            ]
        ]
        + [
            [r["column"], shown(r["electrons"], ".1f"), shown(r["error"], ".1f"), r["meaning"]]
            for r in told["within"]
        ],
        (1, 2),
    )
    lines += ["", "the error, term by term:"]
    lines += aligned(
        [
            [
                e["term"],
                shown(e["electrons"], ".1f"),
                "-" if e["share"] is None else f"{100 * e['share']:.2f} %",
                e["meaning"],
            ]
            for e in told["errors"]
        ]
        + [["sum", shown(told["errors_sum"], ".1f"), "", "root of the sum of squares"]],
        (1, 2),
    )
    return told, lines + ([f"  note: {told['errors_note']}"] if told["errors_note"] else [])


def explain_pixel(visit: Path, image: int, x: int, y: int) -> Answer:
    """Take one pixel of one image apart."""
    from tasks.delivery.published.explain import explain_pixel as explained
    from tasks.delivery.published.visit import PublishedVisit

    told = explained(PublishedVisit.at(visit), image, x, y)
    lines = [f"{told['visit']} {told['version']}, image {image}, pixel ({x}, {y}) of the CCD", ""]
    lines += aligned(
        [[v["name"], shown(v["value"], ".8g"), v["meaning"]] for v in told["values"]], (1,)
    )
    lines += [
        "",
        "flags of the pixel: " + (", ".join(told["flag_words"]) or "none"),
        "",
        "the error of the calibrated stack:",
    ]
    lines += aligned(
        [[e["term"], shown(e["electrons"], ".2f"), e["meaning"]] for e in told["errors"]]
        + [["sum", shown(told["error"], ".2f"), "root of the sum of squares"]],
        (1,),
    )
    return told, lines


_MADE_FROM = {
    "inputs": "inputs",
    "references": "references",
    "settings": "settings",
    "software": "software",
    "fallbacks": "fall-backs",
    "step_versions": "versions of steps",
    "step_status": "states of steps",
    "by_hand": "given by hand",
}


def diff(a: Path, b: Path) -> Answer:
    """Compare two reductions of a visit; as text all columns of DEFAULT, and the flux of every
    light curve.
    """
    from tasks.delivery.published.diff import differences
    from tasks.delivery.published.visit import PublishedVisit

    told = differences(PublishedVisit.at(a), PublishedVisit.at(b))
    lines = [
        f"{told['visit']}: {told['b']} minus {told['a']}; "
        + ("the same result" if told["same_result"] else "not the same")
    ]
    for key, name in _MADE_FROM.items():
        if told[key]:
            lines += [
                f"{name}:",
                *aligned([[k, str(one), "->", str(two)] for k, (one, two) in told[key].items()]),
            ]
    lines += (
        []
        if any(told[k] for k in _MADE_FROM)
        else ["inputs, references, settings, versions: the same"]
    )
    if told["steps_with_other_products"]:
        lines.append(f"steps whose products differ: {', '.join(told['steps_with_other_products'])}")
    for which in ("a", "b"):
        if told[f"only_in_{which}"]:
            lines.append(
                f"light curves only in {which.upper()}: {', '.join(told[f'only_in_{which}'])}"
            )
    rows = [["light curve", "column", "median", "scatter", "largest", "unit", "rows"]]
    for name, curve in told["curves"].items():
        for c in curve["columns"]:
            if c["rows"] and (name == "DEFAULT" or c["column"] == "FLUX"):
                numbers = [shown(c.get(k), ".4g") for k in ("median", "scatter", "largest")]
                rows.append(
                    [name, c["column"], *numbers, c["unit"], f"{c['rows']} of {curve['images']}"]
                )
        for which in ("a", "b"):
            if n := curve[f"only_in_{which}"]:
                lines.append(f"{name}: {n} images only in {which.upper()}")
    return told, lines + (
        aligned(rows, (2, 3, 4, 6), "")
        if len(rows) > 1
        else [
            "light curves: no column differs"
            if any(c["images"] for c in told["curves"].values())
            else "no image is in both"
        ]
    )


def check(paths: Sequence[Path], strict: bool) -> tuple[Any, list[str], DrpError | None]:
    """Hold files against their definitions; return also the error to end with, if there is one."""
    from tasks.delivery.published.check import check as checked
    from tasks.delivery.published.check import products_below

    told, lines, failed, missing = [], [], [], []
    for path in paths:
        files = products_below(path)
        if not path.exists() or not files:
            missing.append(
                f"{path}: "
                f"{'no FITS file, PDF or HTML is in it' if path.is_dir() else 'is not there'}"
            )
            lines.append(plain(f"missing   {missing[-1]}"))
            told.append(
                {
                    "file": str(path),
                    "state": "missing",
                    "type": "",
                    "faults": [missing[-1]],
                    "deviations": [],
                }
            )
        for file in files if path.exists() else ():
            v = checked(file)
            told.append(
                {
                    "file": str(file),
                    "state": v.state,
                    "type": v.extname,
                    "faults": v.faults,
                    "deviations": v.deviations,
                }
            )
            lines.append(plain(f"{v.state:9s} {file}" + (f" ({v.extname})" if v.extname else "")))
            lines += [f"    fault: {plain(t)}" for t in v.faults] + [
                f"    deviation: {plain(t)}" for t in v.deviations
            ]
            if v.faults or (strict and v.deviations):
                failed.append(f"{file}: {(v.faults or v.deviations)[0]}")
    error: DrpError | None = None
    if failed:
        error = BadInputError(
            f"{len(failed)} of {len(told)} files are not as they are defined; the first: "
            f"{failed[0]}"
        )
    elif missing:
        error = MissingInputError(missing[0])
    return told, lines, error


def show(path: Path) -> Answer:
    """Tell what a file holds."""
    from tasks.delivery.published.show import contents

    if path.is_dir():
        raise UsageError(f"{path}: is a folder, wanted a file")
    if not path.exists():
        raise MissingInputError(f"{path}: is not there")
    told = contents(path)
    lines = [
        plain(f"{told['file']}: {told['type']}, {told['bytes']} bytes, {len(told['hdus'])} HDUs")
    ]
    for h in told["hdus"]:
        size = (
            f"{h['shape'][0]} rows"
            if h["kind"] == "table"
            else " x ".join(map(str, reversed(h["shape"]))) or "empty"
        )
        lines += [
            "",
            plain(f"HDU {h['index']} {h['extname']}: {h['kind']}, {size}; {h['meaning']}"),
        ]
        lines += [f"  note: {plain(h['note'])}"] if h["note"] else []
        for title, key in (("", "keywords"), ("  values that were used", "used")):
            rows = [[k["name"], shown(k["value"], ".10g"), k["unit"], k["meaning"]] for k in h[key]]
            lines += ([title] if title and rows else []) + aligned(rows)
        if h["columns"]:
            head = [["column", "unit", "least", "median", "largest", "no numbers", "meaning"]]
            lines += aligned(head + [_column(c) for c in h["columns"]], (2, 3, 4, 5))
        if p := h["pixels"]:
            unit = next((str(k["value"]) for k in h["keywords"] if k["name"] == "BUNIT"), "")
            numbers = ", ".join(
                f"{k} {shown(p[k])}" for k in ("least", "median", "largest") if p.get(k) is not None
            )
            lines.append(
                f"  pixels [{plain(unit)}]: {numbers or 'no numbers'}; {p['not_numbers']} of "
                f"{p['values']} are no numbers"
            )
    return told, lines


def _column(c: dict[str, Any]) -> list[str]:
    if "first" in c:
        numbers = [c["first"], "", c["last"], ""]
    elif "true" in c:
        numbers = ["", f"{c['true']} true", f"of {c['values']}", ""]
    else:
        numbers = [shown(c.get(k), ".9g") for k in ("least", "median", "largest")] + [
            str(c.get("not_numbers", 0) or "")
        ]
    return [c["name"], c["unit"], *numbers, c["meaning"]]
