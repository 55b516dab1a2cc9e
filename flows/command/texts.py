"""The answers of explain, diff, check and show, as data and as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.errors import DrpError, plain
from schemas.words import counted
from tasks.delivery.published.answer import as_json
from tasks.delivery.report.wording import format_digits

if TYPE_CHECKING:
    from tasks.delivery.published.check import CheckedFile
    from tasks.delivery.published.diff import (
        ColumnDifference,
        CurveDifference,
        Difference,
        Provenance,
    )
    from tasks.delivery.published.explain import ErrorTerm, Explanation, Share, Stage
    from tasks.delivery.published.explain_pixel import PixelExplanation
    from tasks.delivery.published.show import (
        ColumnContents,
        Count,
        Ends,
        HduContents,
        KeywordValue,
        Truths,
    )


class Answer(NamedTuple):
    """An answer as JSON values, and as lines of text."""

    data: Any
    lines: list[str]


class CheckAnswer(NamedTuple):
    """The answer of a check, and the error with which the command ends, if any."""

    data: Any
    lines: list[str]
    error: DrpError | None


def aligned(
    rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), indent: str = "  "
) -> list[str]:
    """Return rows of cells as lines with aligned columns, in printable characters only.

    The columns `numbers` are aligned to the right.
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


def cell_text(value: Any, style: str = ".6g", scale: float = 1.0) -> str:
    """Return the text of a value in a table; a dash for None."""
    if value is None:
        return "-"
    return format_digits(value, style, scale) if isinstance(value, float) else str(value)


def table(title: str, rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> list[str]:
    """Return an empty line, a title and aligned rows."""
    return ["", title, *aligned(rows, numbers)]


def explain(visit: Path, image: int, aperture: str) -> Answer:
    """Explain the flux of one image."""
    from tasks.delivery.published.explain import explain as explain_flux
    from tasks.delivery.published.visit import PublishedVisit

    explanation = explain_flux(PublishedVisit.at(visit), image, aperture)
    return Answer(as_json(explanation), explanation_lines(explanation))


def explanation_lines(e: Explanation) -> list[str]:
    """Return the explanation of a flux as text."""
    kinds = {
        "Moving": "circle of radius {:g} pixels, centred on the star",
        "Fixed": "circle of radius {:g} pixels, at a fixed position",
    }
    kind = kinds.get(e.type, "PSF fit, scaled to a radius of {:g} pixels").format(e.radius)
    x, y = (cell_text(place, ".3f") for place in e.centroid)
    return [
        f"{e.visit} {e.version}, image {e.image} (0 to {e.images - 1})",
        f"{e.utc} UTC, BJD {e.bjd:.6f} TDB",
        f"aperture {e.aperture}: {kind}",
        f"star at ({x}, {y}) on the CCD, roll angle {cell_text(e.roll_angle, '.3f')} deg",
        "EVENT " + "; ".join([str(e.event), *e.event_words]),
        "QUALITY " + "; ".join([str(e.quality), *e.quality_words]),
        *table(
            f"electrons within {e.stages_radius:g} pixels of the first position, after each "
            f"operation:",
            [["after", "electrons", "change", "error", ""], *map(_stage_row, e.stages)],
            (1, 2, 3),
        ),
        *table(
            f"electrons in the aperture {e.aperture}:",
            [_flux_row(e), *map(_share_row, e.within)],
            (1, 2),
        ),
        *table(
            "error, term by term:",
            [
                *map(_error_row, e.errors),
                ["sum", cell_text(e.errors_sum, ".1f"), "", "quadratic sum"],
            ],
            (1, 2),
        ),
        *([f"  note: {e.errors_note}"] if e.errors_note else []),
    ]


def _stage_row(stage: Stage) -> list[str]:
    return [
        stage.stage,
        cell_text(stage.electrons, ".1f"),
        cell_text(stage.change, "+.1f"),
        cell_text(stage.error, ".1f"),
        stage.meaning,
    ]


def _flux_row(e: Explanation) -> list[str]:
    ppm = f"{cell_text(e.error_ppm, '.1f')} ppm"
    return ["FLUX", cell_text(e.flux, ".1f"), cell_text(e.error, ".1f"), ppm]


def _share_row(share: Share) -> list[str]:
    return [
        share.column,
        cell_text(share.electrons, ".1f"),
        cell_text(share.error, ".1f"),
        share.meaning,
    ]


def _error_row(term: ErrorTerm) -> list[str]:
    share = "-" if term.share is None else f"{100 * term.share:.2f} %"
    return [term.term, cell_text(term.electrons, ".1f"), share, term.meaning]


def explain_pixel(visit: Path, image: int, x: int, y: int) -> Answer:
    """Explain one pixel of one image."""
    from tasks.delivery.published.explain_pixel import explain_pixel as explain_one
    from tasks.delivery.published.visit import PublishedVisit

    explanation = explain_one(PublishedVisit.at(visit), image, x, y)
    return Answer(as_json(explanation), pixel_lines(explanation))


def pixel_lines(e: PixelExplanation) -> list[str]:
    """Return the explanation of a pixel as text."""
    x, y = e.pixel
    values = [[v.name, cell_text(v.value, ".8g"), v.meaning] for v in e.values]
    errors = [[t.term, cell_text(t.electrons, ".2f"), t.meaning] for t in e.errors]
    total = ["sum", cell_text(e.error, ".2f"), "quadratic sum"]
    return [
        f"{e.visit} {e.version}, image {e.image}, pixel ({x}, {y}) of the CCD",
        "",
        *aligned(values, (1,)),
        "",
        "pixel flags: " + (", ".join(e.flag_words) or "none"),
        *table("error of the calibrated stack:", [*errors, total], (1,)),
    ]


_PROVENANCE = {
    "inputs": "inputs",
    "references": "references",
    "settings": "settings",
    "software": "software",
    "fallbacks": "fallbacks",
    "step_versions": "step versions",
    "step_status": "step states",
    "by_hand": "supplied by hand",
}


def diff(a: Path, b: Path) -> Answer:
    """Compare two reductions of a visit.

    The text lists all columns of DEFAULT that differ, and the flux of every light curve.
    """
    from tasks.delivery.published.diff import differences
    from tasks.delivery.published.visit import PublishedVisit

    difference = differences(PublishedVisit.at(a), PublishedVisit.at(b))
    return Answer(as_json(difference), difference_lines(difference))


def difference_lines(d: Difference) -> list[str]:
    """Return the differences between two reductions as text."""
    same = "same result" if d.same_result else "different results"
    only_in = {"A": d.only_in_a, "B": d.only_in_b}
    return [
        f"{d.visit}: {d.b} minus {d.a}; {same}",
        *_provenance_lines(d.provenance),
        *(
            f"light curves only in {which}: {', '.join(names)}"
            for which, names in only_in.items()
            if names
        ),
        *_image_lines(d.curves),
        *_curve_lines(d.curves),
    ]


def _provenance_lines(provenance: Provenance) -> list[str]:
    changes = {title: getattr(provenance, kind) for kind, title in _PROVENANCE.items()}
    lines = []
    for title, changed in changes.items():
        if changed:
            rows = [[name, str(one), "->", str(two)] for name, (one, two) in changed.items()]
            lines += [f"{title}:", *aligned(rows)]
    if not lines:
        lines.append("inputs, references, settings, versions: identical")
    if provenance.steps_with_other_products:
        steps = ", ".join(provenance.steps_with_other_products)
        lines.append(f"steps with different products: {steps}")
    return lines


def _image_lines(curves: Mapping[str, CurveDifference]) -> list[str]:
    return [
        f"{name}: {counted(count, 'image')} only in {which}"
        for name, curve in curves.items()
        for which, count in (("A", curve.only_in_a), ("B", curve.only_in_b))
        if count
    ]


def _curve_lines(curves: Mapping[str, CurveDifference]) -> list[str]:
    rows = [
        [name, *_column_row(c, curve.images)]
        for name, curve in curves.items()
        for c in curve.columns
        if c.rows and (name == "DEFAULT" or c.column == "FLUX")
    ]
    if rows:
        head = ["light curve", "column", "median", "scatter", "largest", "unit", "rows"]
        return aligned([head, *rows], (2, 3, 4, 6), "")
    if any(curve.images for curve in curves.values()):
        return ["light curves: identical"]
    return ["light curves: no common image"]


def _column_row(c: ColumnDifference, images: int) -> list[str]:
    numbers = (
        ["-"] * 3
        if c.spread is None
        else [cell_text(n, ".4g") for n in (c.spread.median, c.spread.scatter, c.spread.largest)]
    )
    return [c.column, *numbers, c.unit, f"{c.rows} of {images}"]


def check(paths: Sequence[Path], strict: bool) -> CheckAnswer:
    """Check files against their definitions."""
    from tasks.delivery.published.check import check_below, failure

    files = [file for path in paths for file in check_below(path)]
    lines = [line for file in files for line in _checked_lines(file)]
    return CheckAnswer(as_json(files), lines, failure(files, strict))


def _checked_lines(file: CheckedFile) -> list[str]:
    if file.state == "missing":
        return [plain(f"missing   {file.faults[0]}")]
    return [
        plain(f"{file.state:9s} {file.file}" + (f" ({file.type})" if file.type else "")),
        *(f"    fault: {plain(text)}" for text in file.faults),
        *(f"    deviation: {plain(text)}" for text in file.deviations),
    ]


def show(path: Path) -> Answer:
    """Show the contents of a file."""
    from tasks.delivery.published.show import contents

    file = contents(path)
    title = plain(f"{file.file}: {file.type}, {file.bytes} bytes, {counted(len(file.hdus), 'HDU')}")
    return Answer(as_json(file), [title, *(line for hdu in file.hdus for line in _hdu_lines(hdu))])


def _hdu_lines(hdu: HduContents) -> list[str]:
    size = (
        counted(hdu.shape[0], "row")
        if hdu.kind == "table"
        else " x ".join(map(str, reversed(hdu.shape))) or "empty"
    )
    lines = [
        "",
        plain(f"HDU {hdu.index} {hdu.extname}: {hdu.kind}, {size}; {hdu.meaning}"),
        *([f"  note: {plain(hdu.note)}"] if hdu.note else []),
        *aligned([_keyword_row(k) for k in hdu.keywords]),
    ]
    if hdu.used:
        lines += ["  used values", *aligned([_keyword_row(k) for k in hdu.used])]
    if hdu.columns:
        head = ["column", "unit", "minimum", "median", "maximum", "NaN", "meaning"]
        lines += aligned([head, *map(_column_values, hdu.columns)], (2, 3, 4, 5))
    if hdu.pixels is not None:
        lines.append(_pixels_line(hdu, hdu.pixels))
    return lines


def _keyword_row(keyword: KeywordValue) -> list[str]:
    return [keyword.name, cell_text(keyword.value, ".10g"), keyword.unit, keyword.meaning]


def _column_values(column: ColumnContents) -> list[str]:
    return [column.name, column.unit, *_in_four_cells(column.values), column.meaning]


def _in_four_cells(values: Count | Ends | Truths | None) -> list[str]:
    """Return the cells for minimum, median, maximum and the number of NaN."""
    from tasks.delivery.published.show import Count, Ends, Range, Truths

    match values:
        case Ends():
            return [values.first, "", values.last, ""]
        case Truths():
            return ["", f"{values.true} true", f"of {values.values}", ""]
        case Range():
            numbers = [values.least, values.median, values.largest]
            texts = [cell_text(n, ".9g", scale_of(numbers)) for n in numbers]
            return [*texts, str(values.not_numbers or "")]
        case Count():
            return ["-", "-", "-", str(values.not_numbers or "")]
        case _:
            return ["-", "-", "-", ""]


def scale_of(values: Iterable[float | None]) -> float:
    """Return the largest size of some values of a kind, beside which rounding is negligible."""
    return max((abs(v) for v in values if v is not None and math.isfinite(v)), default=1.0)


def _pixels_line(hdu: HduContents, pixels: Count) -> str:
    from tasks.delivery.published.show import Range

    unit = next((str(k.value) for k in hdu.keywords if k.name == "BUNIT"), "")
    numbers = (
        {"minimum": pixels.least, "median": pixels.median, "maximum": pixels.largest}
        if isinstance(pixels, Range)
        else {}
    )
    scale = scale_of(numbers.values())
    text = ", ".join(
        f"{name} {cell_text(n, scale=scale)}" for name, n in numbers.items() if n is not None
    )
    return (
        f"  pixels [{plain(unit)}]: {text or 'none finite'}; {pixels.not_numbers} of "
        f"{pixels.values} are NaN"
    )
