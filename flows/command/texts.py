"""Tools about what is there: explain a point, compare reductions, check and show files. Each
answers as data and as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.errors import DrpError, plain
from tasks.delivery.published.answer import as_json

if TYPE_CHECKING:
    from tasks.delivery.published.check import CheckedFile
    from tasks.delivery.published.diff import (
        ColumnDifference,
        CurveDifference,
        Difference,
        MadeFrom,
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
    """An answer as values of JSON, and as lines for a person."""

    data: Any
    lines: list[str]


class CheckAnswer(NamedTuple):
    """The answer of a check, and the error that the command ends with, if there is one."""

    data: Any
    lines: list[str]
    error: DrpError | None


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


def table(title: str, rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> list[str]:
    """Return an empty line, a title, and aligned rows."""
    return ["", title, *aligned(rows, numbers)]


def explain(visit: Path, image: int, aperture: str) -> Answer:
    """Take the flux of one image apart."""
    from tasks.delivery.published.explain import explain as explain_flux
    from tasks.delivery.published.visit import PublishedVisit

    explanation = explain_flux(PublishedVisit.at(visit), image, aperture)
    return Answer(as_json(explanation), explanation_lines(explanation))


def explanation_lines(e: Explanation) -> list[str]:
    """Return the flux of one image taken apart as text."""
    kinds = {
        "Moving": "a circle of {:g} pixels that moves with the star",
        "Fixed": "a circle of {:g} pixels that stays",
    }
    kind = kinds.get(e.type, "by PSF, on the scale of {:g} pixels").format(e.radius)
    x, y = (shown(place, ".3f") for place in e.centroid)
    return [
        f"{e.visit} {e.version}, image {e.image} of 0 to {e.images - 1}",
        f"{e.utc} UTC, BJD {e.bjd:.6f} TDB",
        f"aperture {e.aperture}: {kind}",
        f"star at ({x}, {y}) on the CCD, roll angle {shown(e.roll_angle, '.3f')} deg",
        "EVENT " + "; ".join([str(e.event), *e.event_words]),
        "QUALITY " + "; ".join([str(e.quality), *e.quality_words]),
        *table(
            f"electrons in the circle of {e.stages_radius:g} pixels about the first position, "
            f"after each operation:",
            [["after", "electrons", "change", "+-", ""], *map(_stage_row, e.stages)],
            (1, 2, 3),
        ),
        *table(
            f"in the aperture {e.aperture}:", [_flux_row(e), *map(_share_row, e.within)], (1, 2)
        ),
        *table(
            "the error, term by term:",
            [
                *map(_error_row, e.errors),
                ["sum", shown(e.errors_sum, ".1f"), "", "root of the sum of squares"],
            ],
            (1, 2),
        ),
        *([f"  note: {e.errors_note}"] if e.errors_note else []),
    ]


def _stage_row(stage: Stage) -> list[str]:
    return [
        stage.stage,
        shown(stage.electrons, ".1f"),
        shown(stage.change, "+.1f"),
        shown(stage.error, ".1f"),
        stage.meaning,
    ]


def _flux_row(e: Explanation) -> list[str]:
    ppm = f"{shown(e.error_ppm, '.1f')} ppm"
    return ["FLUX", shown(e.flux, ".1f"), shown(e.error, ".1f"), ppm]


def _share_row(share: Share) -> list[str]:
    return [share.column, shown(share.electrons, ".1f"), shown(share.error, ".1f"), share.meaning]


def _error_row(term: ErrorTerm) -> list[str]:
    share = "-" if term.share is None else f"{100 * term.share:.2f} %"
    return [term.term, shown(term.electrons, ".1f"), share, term.meaning]


def explain_pixel(visit: Path, image: int, x: int, y: int) -> Answer:
    """Take one pixel of one image apart."""
    from tasks.delivery.published.explain_pixel import explain_pixel as explain_one
    from tasks.delivery.published.visit import PublishedVisit

    explanation = explain_one(PublishedVisit.at(visit), image, x, y)
    return Answer(as_json(explanation), pixel_lines(explanation))


def pixel_lines(e: PixelExplanation) -> list[str]:
    """Return one pixel of one image taken apart as text."""
    x, y = e.pixel
    values = [[v.name, shown(v.value, ".8g"), v.meaning] for v in e.values]
    errors = [[t.term, shown(t.electrons, ".2f"), t.meaning] for t in e.errors]
    total = ["sum", shown(e.error, ".2f"), "root of the sum of squares"]
    return [
        f"{e.visit} {e.version}, image {e.image}, pixel ({x}, {y}) of the CCD",
        "",
        *aligned(values, (1,)),
        "",
        "flags of the pixel: " + (", ".join(e.flag_words) or "none"),
        *table("the error of the calibrated stack:", [*errors, total], (1,)),
    ]


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

    difference = differences(PublishedVisit.at(a), PublishedVisit.at(b))
    return Answer(as_json(difference), difference_lines(difference))


def difference_lines(d: Difference) -> list[str]:
    """Return how two reductions differ as text."""
    same = "the same result" if d.same_result else "not the same"
    only_in = {"A": d.only_in_a, "B": d.only_in_b}
    return [
        f"{d.visit}: {d.b} minus {d.a}; {same}",
        *_made_from_lines(d.made_from),
        *(
            f"light curves only in {which}: {', '.join(names)}"
            for which, names in only_in.items()
            if names
        ),
        *_image_lines(d.curves),
        *_curve_lines(d.curves),
    ]


def _made_from_lines(made_from: MadeFrom) -> list[str]:
    changes = {title: getattr(made_from, kind) for kind, title in _MADE_FROM.items()}
    lines = []
    for title, changed in changes.items():
        if changed:
            rows = [[name, str(one), "->", str(two)] for name, (one, two) in changed.items()]
            lines += [f"{title}:", *aligned(rows)]
    if not lines:
        lines.append("inputs, references, settings, versions: the same")
    if made_from.steps_with_other_products:
        steps = ", ".join(made_from.steps_with_other_products)
        lines.append(f"steps whose products differ: {steps}")
    return lines


def _image_lines(curves: Mapping[str, CurveDifference]) -> list[str]:
    return [
        f"{name}: {count} images only in {which}"
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
        return ["light curves: no column differs"]
    return ["no image is in both"]


def _column_row(c: ColumnDifference, images: int) -> list[str]:
    numbers = (
        ["-"] * 3
        if c.spread is None
        else [shown(n, ".4g") for n in (c.spread.median, c.spread.scatter, c.spread.largest)]
    )
    return [c.column, *numbers, c.unit, f"{c.rows} of {images}"]


def check(paths: Sequence[Path], strict: bool) -> CheckAnswer:
    """Hold files against their definitions."""
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
    """Show what a file holds."""
    from tasks.delivery.published.show import contents

    file = contents(path)
    title = plain(f"{file.file}: {file.type}, {file.bytes} bytes, {len(file.hdus)} HDUs")
    return Answer(as_json(file), [title, *(line for hdu in file.hdus for line in _hdu_lines(hdu))])


def _hdu_lines(hdu: HduContents) -> list[str]:
    size = (
        f"{hdu.shape[0]} rows"
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
        lines += ["  values that were used", *aligned([_keyword_row(k) for k in hdu.used])]
    if hdu.columns:
        head = ["column", "unit", "least", "median", "largest", "no numbers", "meaning"]
        lines += aligned([head, *map(_column_values, hdu.columns)], (2, 3, 4, 5))
    if hdu.pixels is not None:
        lines.append(_pixels_line(hdu, hdu.pixels))
    return lines


def _keyword_row(keyword: KeywordValue) -> list[str]:
    return [keyword.name, shown(keyword.value, ".10g"), keyword.unit, keyword.meaning]


def _column_values(column: ColumnContents) -> list[str]:
    return [column.name, column.unit, *_in_four_cells(column.values), column.meaning]


def _in_four_cells(values: Count | Ends | Truths | None) -> list[str]:
    """Return least, median, largest and the number of values that are no numbers."""
    from tasks.delivery.published.show import Count, Ends, Range, Truths

    match values:
        case Ends():
            return [values.first, "", values.last, ""]
        case Truths():
            return ["", f"{values.true} true", f"of {values.values}", ""]
        case Range():
            numbers = [shown(n, ".9g") for n in (values.least, values.median, values.largest)]
            return [*numbers, str(values.not_numbers or "")]
        case Count():
            return ["-", "-", "-", str(values.not_numbers or "")]
        case _:
            return ["-", "-", "-", ""]


def _pixels_line(hdu: HduContents, pixels: Count) -> str:
    from tasks.delivery.published.show import Range

    unit = next((str(k.value) for k in hdu.keywords if k.name == "BUNIT"), "")
    numbers = (
        {"least": pixels.least, "median": pixels.median, "largest": pixels.largest}
        if isinstance(pixels, Range)
        else {}
    )
    text = ", ".join(f"{name} {shown(n)}" for name, n in numbers.items() if n is not None)
    return (
        f"  pixels [{plain(unit)}]: {text or 'no numbers'}; {pixels.not_numbers} of "
        f"{pixels.values} are no numbers"
    )
