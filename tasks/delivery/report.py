"""The report: one page on a visit, from which an astronomer sees in a minute what the light curve is worth.

`collect_report` puts everything that the page shows into JSON and draws the light curve; it knows neither the version of the
publication nor any date of processing, so the same input gives the same bytes. `typeset_report` adds these facts and makes
the PDF. Text from outside (names in headers) reaches the typesetter as JSON strings only and is never read as markup.
"""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from schemas.flags import EARTH_OCCULTED, EVENT_EARTH, EVENT_SAA
from schemas.inputs import SAA_MAP, VISIT_LIMITS
from schemas.payloads import (
    CalibratedVisit,
    CorrectedVisit,
    Inventory,
    Leaf,
    MeasuredVisit,
    Payload,
    ReportData,
    Scalar,
    Status,
)
from schemas.products import soc_structure
from schemas.settings import ReportSettings
from schemas.terms import DEFAULT_RADIUS, RADII, TERMS, USED
from tasks import disk
from tasks.exposures import term_column
from tasks.level1 import Images, open_images
from tasks.step import Leaves, step

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Word = Literal["good", "usable with care", "not usable"]

DATA, FIGURE = "report.json", "light_curve.svg"
LONGEST = 80  # characters of a header string
LONGEST_WARNING = 160  # what fits on one line of the page
MOST_WARNINGS = 6

# ---- the rules of the verdict, each with its reason

# Outside of the SAA and with the star in sight; that much may be missing before a transit of some hours is at risk.
GOOD_SHARE = 0.90
# With fewer, conditions rather than the star decide which points are left.
CARE_SHARE = 0.50
# Effects outside of the formal error (jitter on the flat field, granulation) as large as it give sqrt(2) = 1.41.
GOOD_RATIO = 1.5
# Nine times the formal variance: the errors in the file say nothing about the points any more.
CARE_RATIO = 3.0
# Half the formal error: the errors are far too large, or the points were smoothed.
LOW_RATIO = 0.5
# A scatter from 30 points is known to 1 / sqrt(60) = 13 %, not good enough to judge by from fewer.
CARE_POINTS = 30
# No scatter can be measured from fewer.
FEWEST_POINTS = 3


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on. `visible` counts points outside of the SAA and not behind the Earth, `good` those not flagged.

    `scatter` and `error` are the measured point-to-point scatter and the median formal error [ppm], None where unknown.
    """

    visible: int
    good: int
    scatter: float | None
    error: float | None
    warned: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()


class Verdict(Payload):
    """What the light curve is worth, and why."""

    word: Word
    reasons: tuple[str, ...]


def verdict(found: Evidence) -> Verdict:
    """Judge a light curve.

    Parameters
    ----------
    found : Evidence
        Counts of points, scatter and error, and the steps that ended otherwise than completed.

    Returns
    -------
    Verdict
        The worst word that any rule gives, with the reasons of all rules that speak against the light curve; what speaks for
        it where none does.
    """
    bad, care, fine = [], [], []
    share = found.good / found.visible if found.visible else 0.0
    kept = f"{found.good} of {found.visible} points with the star in sight are good ({share:.0%})"
    if found.good < FEWEST_POINTS:
        bad.append(f"{counted(found.good, 'good ')}: no scatter can be measured from fewer than {FEWEST_POINTS}")
    elif found.good < CARE_POINTS:
        care.append(f"{counted(found.good, 'good ')}: fewer than {CARE_POINTS} do not measure the scatter well")
    if share < CARE_SHARE:
        bad.append(f"{kept}, fewer than {CARE_SHARE:.0%}")
    elif share < GOOD_SHARE:
        care.append(f"{kept}, fewer than {GOOD_SHARE:.0%}")
    else:
        fine.append(kept)
    if found.scatter is None or found.error is None or not found.error > 0:
        if found.good >= FEWEST_POINTS:
            care.append("the scatter cannot be compared with the formal error: one of them is not known")
    else:
        ratio = found.scatter / found.error
        compared = f"the scatter from point to point is {ratio:.2f} times the formal error"
        if ratio > CARE_RATIO:
            bad.append(f"{compared}, more than {CARE_RATIO:g}")
        elif ratio > GOOD_RATIO:
            care.append(f"{compared}, more than {GOOD_RATIO:g}")
        elif ratio < LOW_RATIO:
            care.append(f"{compared}, less than {LOW_RATIO:g}")
        else:
            fine.append(compared)
    steps = {"with a warning": found.warned, "skipped by a setting": found.skipped, "given by hand": found.by_hand}
    care += [f"steps {how}: {', '.join(names)}" for how, names in steps.items() if names]
    if bad:
        return Verdict(word="not usable", reasons=(*bad, *care))
    if care:
        return Verdict(word="usable with care", reasons=tuple(care))
    return Verdict(word="good", reasons=(*fine, "every step completed"))


# ---------------------------------------------------------------------------------------------------------- what the page shows


class Row(Payload):
    """One line of a table: a value as number and as text, or None with the reason why it is not known."""

    label: str
    value: Scalar | None = None
    shown: str = "–"
    unit: str = ""
    reason: str = ""


class UsedValue(Payload):
    """A value that a step used."""

    keyword: str
    value: Scalar
    shown: str
    unit: str
    meaning: str


class StepRow(Payload):
    """How one step ended."""

    step: str
    state: Status
    keywords: dict[str, Status]
    used: tuple[UsedValue, ...]
    warnings: int
    by_hand: tuple[str, ...]


class Figure(Payload):
    """What stands beside the light curve."""

    caption: str
    alt: str


class Report(Payload):
    """Everything that the page shows."""

    visit: str
    target: str
    observed: str
    verdict: Verdict
    figure: Figure
    run: tuple[Row, ...]
    metrics: tuple[Row, ...]
    steps: tuple[StepRow, ...]
    absent_steps: tuple[str, ...]
    warnings: tuple[str, ...]
    more_warnings: int
    references: tuple[str, ...]
    fallbacks: tuple[str, ...]
    deviations: int

    def as_json(self) -> bytes:
        """Return the report as JSON with sorted keys."""
        return (json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")


# Besides ASCII: what the typesetter's own fonts surely hold. PDF/A refuses a character without a glyph.
_GLYPHS = frozenset(chr(c) for c in range(0xA1, 0x100) if c != 0xAD) | set("–—…×≤≥≈−µσ")


def printable(value: object, limit: int = LONGEST) -> str:
    """Return `value` as one line of characters that can be typeset: all others escaped, at most `limit` of them."""
    kept = (c if (c.isascii() and c.isprintable()) or c in _GLYPHS else c.encode("unicode_escape").decode() for c in str(value))
    text = "".join(kept)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def figures(value: Scalar, digits: int = 4) -> str:
    """Return a value as a person would write it: numbers with some significant digits, and all those before the point."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, int) or value == 0:
        return str(int(value))
    before = math.floor(math.log10(abs(value))) + 1
    if not -4 < before <= 9:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{max(digits - before, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def known(label: str, value: float | str | None, unit: str = "", reason: str = "", style: str = "") -> Row:
    """Return a line of a table; a value that is None, empty or no finite number is a dash with `reason`."""
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return Row(label=label, reason=reason)
    shown = format(value, style) if style else figures(value)
    return Row(label=label, value=shown if isinstance(value, str) else value, shown=shown, unit=unit)


def run_table(found: Inventory, images: Images) -> tuple[Row, ...]:
    """Return what was observed and how; a header says 0 or N/A where the raw one was silent."""
    header = images.image.header
    silent = "the raw header does not say"

    def text(name: str) -> str:
        value = header.get(name)
        return value.strip() if isinstance(value, str) and value.strip() != "N/A" else ""

    def number(name: str) -> float | None:
        value = header.get(name)
        return float(value) if isinstance(value, int | float) and value != 0 else None

    teff = number("T_EFF")
    star = ", ".join(t for t in (text("SPECTYPE"), "" if teff is None else f"{teff:.0f} K") if t)
    stack = f"{images.nexp} × {images.exposure_time:g} s = {images.nexp * images.exposure_time:g} s"
    ny, nx = images.shape
    return (
        known("Data start (UTC)", text("V_STRT_U")[:19], reason=silent),
        known("Data stop (UTC)", text("V_STOP_U")[:19], reason=silent),
        known("Visit id", f"{found.visit}, OBSID {found.obsid}"),
        known("Target name", text("TARGNAME"), reason=silent),
        known("Magnitude G", number("MAG_G"), "mag", silent, ".2f"),
        known("Spectral type, Teff", star, reason=silent),
        known("Images", images.count),
        known("Exposures of an image", stack),
        known("Window", f"{nx} × {ny} pixels at ({images.x_offset}, {images.y_offset})"),
        known("PI name", text("PI_NAME"), reason=silent),
    )


_NO_POINTS = "too few good points"


def metrics_table(found: Inventory, metrics: Mapping[str, float], points: Points, leaves: Sequence[Leaf]) -> tuple[Row, ...]:
    """Return the numbers of the 2017 report as far as they are measured, and our own."""
    n = points.count
    unseen = found.constraints is None and found.planned is None
    no_saa = "no visit constraints and no SAA map" if unseen and SAA_MAP.kind not in found.references else ""
    no_limits = "no limits are given" if VISIT_LIMITS.kind not in found.references and found.planned is None else ""

    def share(flags: Bools, unknown: str) -> float | None:
        return None if unknown and not flags.any() else 100 * float(flags.sum()) / n

    def cdpp(label: str, column: str, hours: float) -> Row:
        return known(label, metrics[column], "ppm", _NO_POINTS if points.duration >= hours else "the visit is shorter")

    def of_step(label: str, step: str, unit: str, show: Callable[[Mapping[str, Scalar]], float | str], *others: str) -> Row:
        made = {leaf.step: leaf for leaf in leaves if leaf.step in (step, *others)}
        odd = [name for name, leaf in made.items() if state_of(leaf) is not Status.COMPLETED]
        if step not in made or odd:
            return known(label, None, reason=f"see {', '.join(odd)} below" if odd else "no step of this run measures it")
        return known(label, show(made[step].used), unit)

    return (
        known("Median flux", metrics["MEDIAN"], "electron/s", _NO_POINTS),
        known("Robust mean flux", metrics["ROBMEAN"], "electron/s", _NO_POINTS),
        known("Robust scatter", metrics["ROB_PPM"], "ppm", _NO_POINTS),
        known("MAD, as in the header", metrics["MAD"], "ppm", _NO_POINTS),
        known("Scatter from point to point", metrics["P2P_PPM"], "ppm", _NO_POINTS),
        known("Median formal error", metrics["FORM_PPM"], "ppm", _NO_POINTS),
        cdpp("CDPP in 30 min", "CDPP_30M", 0.5),
        cdpp("CDPP in 3 h", "CDPP_3H", 3.0),
        cdpp("CDPP in 6 h", "CDPP_6H", 6.0),
        known("Good points", share(points.good, ""), "%", style=".1f"),
        known("Lost in the SAA", share(points.in_saa, no_saa), "%", no_saa, ".1f"),
        known("Lost behind the Earth", share(points.occulted, ""), "%", style=".1f"),
        known("Stray light, or near the limb", share(points.stray_light, no_limits), "%", no_limits, ".1f"),
        of_step("Contamination within 25 pixels", "contamination", "%", lambda used: 100 * float(used["CONTA_25"]), "stars"),
        of_step("Cosmic rays", "defects", "", lambda used: f"{used['CR_PIX']} pixels, {figures(used['CR_RATE'], 3)} a second"),
        of_step("Pixels with a steady excess", "defects", "", lambda used: int(used["HOT_PIX"])),
    )


def state_of(leaf: Leaf) -> Status:
    """Return how a step ended: the worst of its keywords; without any, by its warnings."""
    order = (Status.NOT_APPLICABLE, Status.COMPLETED, Status.SKIPPED, Status.WARNING)
    return max(leaf.status.values(), key=order.index, default=Status.WARNING if leaf.warnings else Status.COMPLETED)


def step_row(leaf: Leaf) -> StepRow:
    """Return how a step ended and what it used."""

    def used(name: str, value: Scalar) -> UsedValue:
        shown, declared = figures(value), USED[name]
        plain = shown if isinstance(value, str) else value
        return UsedValue(keyword=name, value=plain, shown=shown, unit=declared.unit, meaning=declared.meaning)

    # in the order of their declaration: that of a dictionary is lost in a manifest, and is no part of a key
    values = tuple(used(name, leaf.used[name]) for name in USED if name in leaf.used)
    warnings = len(leaf.warnings)
    return StepRow(
        step=leaf.step, state=state_of(leaf), keywords=leaf.status, used=values, warnings=warnings, by_hand=leaf.by_hand
    )


def absent_steps(leaves: Iterable[Leaf]) -> tuple[str, ...]:
    """Return what the definitions have a step keyword for but no step of this run owned."""
    owned = {keyword for leaf in leaves for keyword in leaf.status}
    words = "step state: "
    declared = soc_structure("SCI_COR_SubArray").keywords.values()
    # METH_CFG says that the method was chosen, which is no step
    states = {k.name: k.meaning.removeprefix(words) for k in declared if k.meaning.startswith(words) and k.name != "METH_CFG"}
    return tuple(f"{meaning} ({name})" for name, meaning in states.items() if name not in owned)


def reference_names(found: Inventory) -> tuple[str, ...]:
    """Return kind and first day of validity of every reference used: no file name, because names are no part of a key."""
    chosen = [*found.references.values(), *found.dark_frames]
    return tuple(sorted(f"{printable(r.kind)} {printable(r.valid_from[:10])}" for r in chosen))


# ------------------------------------------------------------------------------------------------------------- the light curve


@dataclass(frozen=True)
class Points:
    """The points of the light curve DEFAULT: hours since the first one, flux [electron], and what is said of each."""

    hours: Floats
    flux: Floats
    event: npt.NDArray[np.int64]
    quality: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.flux)

    @property
    def duration(self) -> float:
        """Time from the first to the last [h]."""
        known_hours = self.hours[np.isfinite(self.hours)]
        return float(np.ptp(known_hours)) if known_hours.size else 0.0

    @property
    def good(self) -> Bools:
        """Those not flagged, with time and flux."""
        measured = np.isfinite(self.hours) & np.isfinite(self.flux) & (self.flux > 0)
        return np.asarray((self.event == 0) & (self.quality == 0) & measured)

    @property
    def in_saa(self) -> Bools:
        """Those in the SAA."""
        return np.asarray(self.event // EVENT_SAA % 10 != 0)

    @property
    def occulted(self) -> Bools:
        """Those behind the Earth."""
        return np.asarray(self.event // EVENT_EARTH % 10 == EARTH_OCCULTED)

    @property
    def stray_light(self) -> Bools:
        """Those with stray light above its threshold, or near the Earth's limb."""
        return np.asarray((self.event // EVENT_EARTH % 10 != 0) & ~self.occulted)


def relative_flux(flux: Floats, good: Bools) -> Floats:
    """Return the distance of each flux from the median of the good ones, or of all where none is good [ppm]."""
    kept = flux[good] if good.any() else flux[np.isfinite(flux)]
    middle = float(np.median(kept)) if kept.size else np.nan
    return 1e6 * (flux / middle - 1) if middle > 0 else np.full_like(flux, np.nan)


def bin_medians(hours: Floats, values: Floats, width: float) -> tuple[Floats, Floats]:
    """Return middles and medians of bins of some `width` [h]; NaN in place of bins that hold too few, to break a line."""
    place = np.floor(hours / width).astype(np.int64)
    bins, counts = np.unique(place, return_counts=True)
    groups = np.split(values[np.argsort(place, kind="stable")], np.cumsum(counts)[:-1])
    medians = {int(b): float(np.median(g)) for b, g in zip(bins, groups, strict=False) if len(g) >= FEWEST_POINTS}
    ends = {b + 1: math.nan for b in medians}
    line = sorted({**ends, **medians}.items())
    return np.array([(b + 0.5) * width for b, _ in line]), np.array([m for _, m in line])


def thin(count: int, most: int) -> npt.NDArray[np.intp]:
    """Return at most `most` indices spread evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp)) if count else np.empty(0, np.intp)


def axis_limits(values: Floats) -> tuple[float, float]:
    """Return the ends of an axis: the running median of three points, which knows no single spikes, and some more."""
    if values.size < FEWEST_POINTS:
        middle = float(values.mean()) if values.size else 0.0
        return middle - 1000.0, middle + 1000.0
    calm = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), axis=0)
    sigma = 1.4826 * float(np.median(np.abs(np.diff(values)))) / math.sqrt(2)
    margin = max(4 * sigma, 0.08 * float(np.ptp(calm))) or 1.0
    return float(calm.min()) - margin, float(calm.max()) + margin


def to_scale(points: Points) -> tuple[Floats, float, float]:
    """Return relative fluxes and the ends of their axis, which suit the good points if there are any [ppm]."""
    relative = relative_flux(points.flux, points.good)
    return relative, *axis_limits(relative[points.good if points.good.any() else np.isfinite(relative)])


BIN_HOURS = 0.25
_GOOD, _FLAGGED, _LINE = "#0072B2", "#D55E00", "#1a1a1a"  # Okabe & Ito: apart for every kind of colour vision
_NORMALISED_ABOVE = 2e5  # ppm; wider axes are labelled in units of the median flux
_DRAWN_WITH, _TYPESET_WITH = "STIXGeneral", "'Libertinus Serif', 'STIXGeneral', serif"


def draw_light_curve(points: Points, most: int) -> bytes:
    """Return the light curve as SVG, the same bytes for the same points.

    Parameters
    ----------
    points : Points
        The light curve.
    most : int
        Largest number of points to draw; of more, evenly spread ones are taken.

    Returns
    -------
    bytes
        Good points as blue circles, flagged ones as orange crosses, those beyond the axis as triangles at its edge; a line of
        the medians of good points in bins of 15 min. Letters stay text, to be set in the page's own typeface.
    """
    import logging

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a home that cannot be written to is no concern of the user
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    relative, low, high = to_scale(points)
    drawn = np.zeros(points.count, dtype=bool)
    drawn[thin(points.count, most)] = True
    drawn &= np.isfinite(relative) & np.isfinite(points.hours)
    good, flagged = drawn & points.good, drawn & ~points.good
    times, medians = bin_medians(points.hours[points.good], relative[points.good], BIN_HOURS)
    size = float(np.interp(np.log10(max(drawn.sum(), 1)), [2, 4.3], [3.2, 1.2]))
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "drp",
                "svg.fonttype": "none",
                "text.parse_math": False,
                "font.family": _DRAWN_WITH,
                "font.size": 8.5,
                "axes.linewidth": 0.5,
                "axes.edgecolor": "#5a5a5a",
                "xtick.major.width": 0.5,
                "ytick.major.width": 0.5,
                "axes.formatter.useoffset": False,
                "path.simplify": False,
            }
        )
        canvas = Canvas(figsize=(7.0, 2.5))
        FigureCanvasSVG(canvas)
        axes = canvas.add_axes((0.085, 0.165, 0.91, 0.82))
        axes.yaxis.set_label_coords(0.022, 0.575, transform=canvas.transFigure)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e3e5e8", linewidth=0.5)
        axes.set_axisbelow(True)
        wide = high - low > _NORMALISED_ABOVE
        scale, zero = (1e-6, 1.0) if wide else (1.0, 0.0)
        for chosen, shape, colour, edge in ((flagged, "x", _FLAGGED, 0.7), (good, "o", _GOOD, 0.0)):
            above, below = chosen & (relative > high), chosen & (relative < low)
            inset = 0.015 * (high - low)
            height = zero + scale * np.clip(relative, low + inset, high - inset)
            for which, marker, extent in ((chosen & ~above & ~below, shape, size), (above, "^", size), (below, "v", size)):
                axes.plot(
                    points.hours[which], height[which], marker, markersize=extent, color=colour, markeredgewidth=edge,
                    linestyle="none", clip_on=False,
                )  # fmt: skip
        axes.plot(times, zero + scale * medians, color=_LINE, linewidth=1.1, zorder=4)
        axes.set_ylim(zero + scale * low, zero + scale * high)
        axes.set_xlabel("hours since the middle of the first image")
        axes.set_ylabel("relative flux" if wide else "relative flux [ppm]")
        if not drawn.any():
            axes.text(0.5, 0.5, "no point has a flux", transform=axes.transAxes, ha="center", va="center", fontsize=12)
        stream = io.BytesIO()
        canvas.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue().replace(f"'{_DRAWN_WITH}'".encode(), _TYPESET_WITH.encode())


def counted(points: int, kind: str = "") -> str:
    """Return a number of points in words that agree with it."""
    return f"{points} {kind}point{'' if points == 1 else 's'}"


def describe_figure(points: Points, start: str, most: int) -> Figure:
    """Return what is said beside the light curve, and in place of it to those who don't see it."""
    good, flagged = int(points.good.sum()), int((~points.good).sum())
    relative, low, high = to_scale(points)
    parts = [f"Light curve DEFAULT, aperture of {DEFAULT_RADIUS:g} pixels; the first image was taken at {start}."]
    parts.append(f"Blue circles: {counted(good, 'good ')}.")
    if flagged:
        parts.append(f"Orange crosses: {counted(flagged, 'flagged ')}.")
    if beyond := int(((relative < low) | (relative > high)).sum()):
        parts.append(f"Triangles: {counted(beyond)} beyond the edge.")
    if lost := int((~np.isfinite(relative)).sum()):
        parts.append(f"Not drawn: {counted(lost)} without a flux.")
    if good:
        parts.append(f"Line: medians of {60 * BIN_HOURS:g} min.")
    if points.count > most:
        parts.append(f"{most} of {points.count} points, evenly spread, are drawn.")
    kinds = f"{counted(good, 'good ')}, {counted(flagged, 'flagged ')}"
    alt = f"Relative flux against time over {points.duration:.1f} hours: {kinds}."
    if good:
        inner = relative[points.good]
        alt += f" Good points lie between {inner.min():.0f} and {inner.max():.0f} ppm of their median."
    return Figure(caption=" ".join(parts), alt=alt)


# ------------------------------------------------------------------------------------------------------------------------ step


@step("report", version="1", payload=ReportData, leaves=[DATA])
def collect_report(
    inventory: Inventory,
    calibrated: CalibratedVisit,
    corrected: CorrectedVisit,
    measured: MeasuredVisit,
    settings: ReportSettings,
) -> Leaves:
    """Collect what the report shows, and draw the light curve."""
    leaves = [*calibrated.leaves(), *corrected.leaves(), *measured.leaves()]
    mjd, event, quality = term_column(measured.quality.product, "TERM_QUALITY", "MJD_TIME", "EVENT", "QUALITY")
    (flux,) = term_column(measured.apertures.product, "TERM_APERTURES", "FLUX")
    points = Points(24 * (mjd - mjd[0]), flux[:, RADII.index(DEFAULT_RADIUS)], event.astype(np.int64), quality.astype(np.int64))
    metrics = default_metrics(measured)
    with open_images(corrected.subarray.products["SCI_COR_SubArray"]) as images:
        run = run_table(inventory, images)
        first = printable(str(images.image.header.get("T_STRT_U", "an unknown time"))[:19])
    by_label = {row.label: row for row in run}
    start, stop = (by_label[f"Data {end} (UTC)"].value for end in ("start", "stop"))
    warnings = warning_lines(leaves)
    fallbacks = tuple(f"{printable(kind)} ({printable(text)})" for kind, text in sorted(inventory.fallbacks.items()))
    report = Report(
        visit=inventory.visit,
        target=by_label["Target name"].shown,
        observed=f"{start or '–'} to {stop or '–'} UTC",
        verdict=verdict(evidence(points, metrics, leaves)),
        figure=describe_figure(points, f"{first} UTC", settings.points),
        run=run,
        metrics=metrics_table(inventory, metrics, points, leaves),
        steps=tuple(step_row(leaf) for leaf in leaves),
        absent_steps=absent_steps(leaves),
        warnings=tuple(warnings[:MOST_WARNINGS]),
        more_warnings=max(len(warnings) - MOST_WARNINGS, 0),
        references=reference_names(inventory),
        fallbacks=fallbacks,
        deviations=len(inventory.deviations),
    )
    return Leaves(blobs={DATA: report.as_json(), FIGURE: draw_light_curve(points, settings.points)})


def warning_lines(leaves: Iterable[Leaf]) -> list[str]:
    """Return the warnings of all steps, each on one line that begins with its step; the first of every step come first."""
    lines = [
        (i, f"{leaf.step}: {text.removeprefix(f'{leaf.step}: ')}") for leaf in leaves for i, text in enumerate(leaf.warnings)
    ]
    return [printable(line, LONGEST_WARNING) for _, line in sorted(lines, key=lambda line: line[0])]


def default_metrics(measured: MeasuredVisit) -> dict[str, float]:
    """Return the metrics of the light curve DEFAULT by column; NaN where one could not be measured."""
    names = [c.name for c in TERMS["TERM_METRICS"].columns]
    columns = dict(zip(names, term_column(measured.quality.product, "TERM_METRICS", *names), strict=True))
    row = list(columns.pop("DATANAME")).index("DEFAULT")
    return {name: float(values[row]) for name, values in columns.items()}


def evidence(points: Points, metrics: Mapping[str, float], leaves: Iterable[Leaf]) -> Evidence:
    """Return what the verdict rests on."""
    ended = [(leaf.step, state_of(leaf), leaf.by_hand) for leaf in leaves]
    scatter, error = (v if math.isfinite(v) else None for v in (metrics["P2P_PPM"], metrics["FORM_PPM"]))
    return Evidence(
        visible=int((~points.in_saa & ~points.occulted).sum()),
        good=int(points.good.sum()),
        scatter=scatter,
        error=error,
        warned=_once(name for name, state, _ in ended if state is Status.WARNING),
        skipped=_once(name for name, state, _ in ended if state is Status.SKIPPED),
        by_hand=_once(name for name, _, products in ended if products),
    )


def _once(steps: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(steps))


# ------------------------------------------------------------------------------------------------------------------ typesetting


def typeset_report(data: Path, facts: Mapping[str, str], target: Path) -> None:
    """Typeset the report as a tagged PDF/A-2a, which is also PDF/UA-1.

    Parameters
    ----------
    data : Path
        Folder with what `collect_report` left.
    facts : mapping
        What only the publication knows: ``version`` such as V0000, ``date`` (UTC, yyyy-mm-ddThh:mm:ss), ``software``,
        ``folder``.
    target : Path
        The PDF; it appears whole or not at all.

    Raises
    ------
    RuntimeError
        If what the folder holds cannot be typeset.
    StorageError
        If reading or writing fails.
    """
    import typst

    date = datetime.fromisoformat(facts["date"])
    shown = {name: printable(facts.get(name, "–")) for name in ("version", "date", "software", "folder")}
    moment = {part: getattr(date, part) for part in ("year", "month", "day", "hour", "minute", "second")}
    inside: dict[str, bytes] = {
        "main.typ": files("tasks.delivery").joinpath("report.typ").read_bytes(),
        "facts.json": json.dumps({**shown, "moment": moment}, sort_keys=True).encode(),
        **{name: disk.read_bytes(data / name, limit=64 << 20) for name in (DATA, FIGURE)},
    }
    # Typst follows symbolic links out of its root: all it reads lies in memory, and its root is a new folder that stays empty
    with disk.guarded("create", target), tempfile.TemporaryDirectory(prefix=".typeset-", dir=target.parent) as root:
        pdf = compile_page(typst, inside, root)
    disk.write_file(target, pdf)


def compile_page(typst: Any, inside: Mapping[str, bytes], root: str) -> bytes:
    """Return the PDF of files that are given by name."""
    try:
        made = typst.compile(dict(inside), root=root, ignore_system_fonts=True, format="pdf", pdf_standards=["a-2a", "ua-1"])
    except RuntimeError as error:
        raise RuntimeError(f"the report cannot be typeset: {printable(error, 300)}") from error
    return bytes(made)
