"""The tables of the report's first page: what was observed and how, the key numbers, and how each
step ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from schemas.arrays import BoolArray
from schemas.inputs import SAA_MAP, VISIT_LIMITS
from schemas.payloads import Inventory, Leaf, Payload, Scalar, Status
from schemas.products import soc_structure
from schemas.used import USED
from tasks.delivery.methods import METHODS
from tasks.delivery.report.series import Points
from tasks.delivery.report.verdict import (
    CARE_POINTS,
    CARE_RATIO,
    CARE_SHARE,
    FEWEST_POINTS,
    GOOD_CONTAMINATION,
    GOOD_RATIO,
    GOOD_SHARE,
)
from tasks.delivery.report.wording import Row, figures, known, printable
from tasks.engine.run import STEPS
from tasks.visit.images import Images

LONGEST_WARNING = 160  # what fits on one line of the page


class UsedValue(Payload):
    """A value that a step used."""

    keyword: str
    value: Scalar
    shown: str
    error: str
    unit: str
    meaning: str


class StepRow(Payload):
    """How one step ended."""

    step: str
    method: str
    state: Status
    keywords: dict[str, Status]
    used: tuple[UsedValue, ...]
    warnings: int
    by_hand: tuple[str, ...]


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


class Group(Payload):
    """Lines of a table that belong together."""

    title: str
    side: int  # column of the page
    rows: tuple[Row, ...]


def run_groups(
    found: Inventory, images: Images, points: Points, radii: Sequence[float]
) -> tuple[Group, ...]:
    """Return everything that the headers say of target, programme, observation and read-out."""
    header = images.image.header
    silent = "the raw header does not say"

    def text(label: str, name: str) -> Row:
        value = header.get(name)
        given = isinstance(value, str) and value.strip() not in ("", "N/A")
        return known(label, str(value).strip() if given else "", reason=silent)

    def number(
        label: str, name: str, unit: str = "", style: str = "", *, zero: bool = False
    ) -> Row:
        value = header.get(name)
        given = (
            isinstance(value, int | float) and not isinstance(value, bool) and (zero or value != 0)
        )
        return known(label, value if given else None, unit, silent, style)

    ny, nx = images.shape
    step = float(np.median(np.diff(points.hours))) * 3600 if points.count > 1 else None
    imagettes = "yes" if found.imagettes is not None else "none"
    first, last = (str(header.get(name, ""))[:19] for name in ("T_STRT_U", "T_STOP_U"))
    on_board = value if isinstance(value := header.get("NLIN_COR"), bool) else None
    return (
        Group(
            title="Target",
            side=0,
            rows=(
                text("Name", "TARGNAME"),
                number("Right ascension", "RA_TARG", "deg", ".5f", zero=True),
                number("Declination", "DEC_TARG", "deg", ".5f", zero=True),
                number("Magnitude, CHEOPS", "MAG_CHPS", "mag", ".3f"),
                number("Magnitude, G", "MAG_G", "mag", ".3f"),
                text("Spectral type", "SPECTYPE"),
                number("Effective temperature", "T_EFF", "K"),
            ),
        ),
        Group(
            title="Programme",
            side=0,
            rows=(
                known("Visit", found.visit),
                known("OBSID", found.obsid),
                number("Programme type", "PROGTYPE", zero=True),
                number("Programme", "PROG_ID", zero=True),
                number("Request", "REQ_ID", zero=True),
                number("Visit of the request", "VISITCTR", zero=True),
                text("PI", "PI_NAME"),
                text("Category", "OBS_CAT"),
            ),
        ),
        Group(
            title="Observation",
            side=1,
            rows=(
                known("Start (UTC)", str(header.get("V_STRT_U", ""))[:19], reason=silent),
                known("Stop (UTC)", str(header.get("V_STOP_U", ""))[:19], reason=silent),
                known("Middle of the first image (UTC)", first, reason=silent),
                known("Middle of the last image (UTC)", last, reason=silent),
                known("First to last image", points.duration, "h", style=".2f"),
                known("Images", images.count),
                known("Good images", int(points.good.sum())),
                known("Flagged images", int((~points.good).sum())),
                known(
                    "Time from image to image, median", step, "s", "there is only one image", ".2f"
                ),
            ),
        ),
        Group(
            title="Exposure and read-out",
            side=1,
            rows=(
                known("Exposure", images.exposure_time, "s"),
                known("Exposures of an image", images.nexp),
                known("Exposure of an image", images.nexp * images.exposure_time, "s"),
                text("Stacking on board", "STACKING"),
                known("Window", f"{nx} × {ny} pixels"),
                known("First pixel (x, y)", f"({images.x_offset}, {images.y_offset})"),
                text("Shape of the window", "SHAPE"),
                text("Read-out hardware", "RO_HW"),
                number("Read-out frequency", "RO_FREQU", "Hz"),
                number("Read-out script", "RO_SCRPT"),
                known(
                    "Linearity corrected on board",
                    {True: "yes", False: "no", None: ""}[on_board],
                    reason=silent,
                ),
                known("Imagettes", imagettes),
                known("Full array", "yes" if found.full_array is not None else "none"),
            ),
        ),
        Group(
            title="Photometry",
            side=0,
            rows=(
                known(
                    "Apertures",
                    f"{len(radii)} circles of {min(radii):g} to {max(radii):g} pixels, "
                    f"following the target",
                ),
            ),
        ),
    )


Mark = Literal["", "met", "beyond goal", "beyond limit", "above"]

# What the mission asks of a quiet star [ppm], by Gaia magnitude: window [h], goal or None, limit.
REQUIRED = ((9.0, 6.0, 10.0, 20.0), (12.0, 3.0, None, 85.0))

_NO_POINTS = "too few good points"


class KeyNumber(Row):
    """A number of the first page: with the bound up to which it is good, and the one beyond which
    it is not usable.
    """

    goal: str = ""
    limit: str = ""
    mark: Mark = ""


def bounded(
    row: Row, goal: float | None, limit: float | None, unit: str = "", *, least: bool = False
) -> KeyNumber:
    """Return a row with its goal and limit, which are the `least` or else the largest values that
    are allowed.
    """
    sign = "≥" if least else "≤"
    texts = {
        name: "" if value is None else f"{sign} {figures(value, 3)}{unit}"
        for name, value in (("goal", goal), ("limit", limit))
    }
    mark: Mark = ""
    if goal == 0:
        texts["goal"] = "0"
    if isinstance(row.value, int | float) and (goal is not None or limit is not None):
        turn = -1.0 if least else 1.0
        over = [
            bound is not None and turn * float(row.value) > turn * bound for bound in (goal, limit)
        ]
        mark = "beyond limit" if over[1] else "beyond goal" if over[0] else "met"
    return KeyNumber(**row.model_dump(), **texts, mark=mark)


def required(magnitude: float | None, hours: float) -> tuple[float | None, float | None]:
    """Return what the mission asks of the noise in a window for a star of that magnitude [ppm]."""
    for faintest, window, goal, limit in REQUIRED:
        if magnitude is not None and magnitude <= faintest:
            return (goal, limit) if window == hours else (None, None)
    return None, None


def key_numbers(
    found: Inventory,
    metrics: Mapping[str, float],
    points: Points,
    leaves: Sequence[Leaf],
    images: Images,
) -> tuple[KeyNumber, ...]:
    """Return the numbers that most readers want, with goal and limit where the verdict or the
    mission has one.
    """
    n = points.count
    given = images.image.header.get("MAG_G")
    magnitude = float(given) if isinstance(given, int | float) and given != 0 else None
    unseen = found.constraints is None and found.planned is None
    no_saa = (
        "no visit constraints and no SAA map"
        if unseen and SAA_MAP.kind not in found.references
        else ""
    )
    no_limits = (
        "no limits are given"
        if VISIT_LIMITS.kind not in found.references and found.planned is None
        else ""
    )
    visible = int((~points.in_saa & ~points.occulted).sum())

    def share(flags: BoolArray, unknown: str) -> float | None:
        return None if unknown and not flags.any() else 100 * float(flags.sum()) / n

    def free(row: Row) -> KeyNumber:
        return bounded(row, None, None)

    def cdpp(label: str, column: str, hours: float) -> KeyNumber:
        reason = _NO_POINTS if points.duration >= hours else "the visit is shorter"
        row = bounded(known(label, metrics[column], "ppm", reason), *required(magnitude, hours))
        # a transit stands above what the mission asks of a quiet star: that is no verdict
        return row if row.mark in ("", "met") else row.model_copy(update={"mark": "above"})

    def of_step(
        label: str,
        step: str,
        unit: str,
        show: Callable[..., float | str],
        *names: str,
        also: str = "",
    ) -> Row:
        made = {leaf.step: leaf for leaf in leaves if leaf.step in (step, also)}
        odd = [name for name, leaf in made.items() if state_of(leaf) is not Status.COMPLETED]
        if step not in made or odd or not made[step].used.keys() >= set(names):
            return known(
                label,
                None,
                reason=f"see {', '.join(odd)} below" if odd else "no step of this run measures it",
            )
        return known(label, show(*(made[step].used[name] for name in names)), unit)

    formal = metrics["FORM_PPM"]
    noise = (GOOD_RATIO * formal, CARE_RATIO * formal) if formal > 0 else (None, None)
    good_share = 100 * float(points.good.sum()) / visible if visible else None
    within = "Contamination within 25 pixels"
    contamination = of_step(
        within, "contamination", "%", lambda ratio: 100 * ratio, "CONTA_25", also="stars"
    )
    return (
        bounded(
            known("Good points", int(points.good.sum())), CARE_POINTS, FEWEST_POINTS, least=True
        ),
        bounded(
            known("Good, of those in sight", good_share, "%", "the star was never in sight", ".1f"),
            100 * GOOD_SHARE,
            100 * CARE_SHARE,
            least=True,
        ),
        bounded(
            known("Scatter from point to point", metrics["P2P_PPM"], "ppm", _NO_POINTS), *noise
        ),
        free(known("Median formal error", formal, "ppm", _NO_POINTS)),
        free(known("Robust scatter", metrics["ROB_PPM"], "ppm", _NO_POINTS)),
        cdpp("CDPP in 30 min", "CDPP_30M", 0.5),
        cdpp("CDPP in 3 h", "CDPP_3H", 3.0),
        cdpp("CDPP in 6 h", "CDPP_6H", 6.0),
        free(known("Median flux", metrics["MEDIAN"], "electron/s", _NO_POINTS)),
        bounded(contamination, 100 * GOOD_CONTAMINATION, None),
        free(known("Lost in the SAA", share(points.in_saa, no_saa), "%", no_saa, ".1f")),
        free(known("Lost behind the Earth", share(points.occulted, ""), "%", style=".1f")),
        free(
            known(
                "Stray light, or near the limb",
                share(points.stray_light, no_limits),
                "%",
                no_limits,
                ".1f",
            )
        ),
        free(of_step("Cosmic rays", "defects", "pixels/s", lambda rate: rate, "CR_RATE")),
        free(of_step("Pixels with a steady excess", "defects", "", lambda n: n, "HOT_PIX")),
        bounded(
            known("Steps with a warning", sum(state_of(leaf) is Status.WARNING for leaf in leaves)),
            0,
            None,
        ),
    )


def state_of(leaf: Leaf) -> Status:
    """Return how a step ended: the worst of its keywords; without any, by its warnings."""
    order = (Status.NOT_APPLICABLE, Status.COMPLETED, Status.SKIPPED, Status.WARNING)
    return max(
        leaf.status.values(),
        key=order.index,
        default=Status.WARNING if leaf.warnings else Status.COMPLETED,
    )


# Values that are the error of another one, and stand behind it.
ERROR_OF = {"BKG_AVG": "BKG_ERR", "PSF_LAG": "PSF_LAGE", "SMEAR_T": "SMEAR_TE"}


def told_as_error(name: str, leaf: Leaf) -> bool:
    """Return whether a used value is the error of another one of its step."""
    return any(error == name and value in leaf.used for value, error in ERROR_OF.items())


def step_row(leaf: Leaf) -> StepRow:
    """Return how a step ended and what it used."""

    def used(name: str, value: Scalar) -> UsedValue:
        shown, declared = figures(value), USED[name]
        plain = shown if isinstance(value, str) else value
        error = figures(leaf.used[ERROR_OF[name]], 2) if ERROR_OF.get(name) in leaf.used else ""
        return UsedValue(
            keyword=name,
            value=plain,
            shown=shown,
            error=error,
            unit=declared.unit,
            meaning=declared.meaning,
        )

    # in the order of their declaration: that of a dictionary is lost in a manifest, and is no part
    # of a key
    values = tuple(
        used(name, leaf.used[name])
        for name in USED
        if name in leaf.used and not told_as_error(name, leaf)
    )
    warnings = len(leaf.warnings)
    return StepRow(
        step=leaf.step,
        method=method_of(leaf.step),
        state=state_of(leaf),
        keywords=leaf.status,
        used=values,
        warnings=warnings,
        by_hand=leaf.by_hand,
    )


def method_of(name: str) -> str:
    """Return how a step does its work, in words."""
    if name in METHODS or name not in STEPS:
        return METHODS.get(name, "")
    return (STEPS[name].fn.__doc__ or "").splitlines()[0]


def absent_steps(leaves: Iterable[Leaf]) -> tuple[str, ...]:
    """Return what the definitions have a step keyword for but no step of this run owned."""
    owned = {keyword for leaf in leaves for keyword in leaf.status}
    words = "step state: "
    declared = soc_structure("SCI_COR_SubArray").keywords.values()
    # METH_CFG says that the method was chosen, which is no step
    states = {
        k.name: k.meaning.removeprefix(words)
        for k in declared
        if k.meaning.startswith(words) and k.name != "METH_CFG"
    }
    return tuple(f"{meaning} ({name})" for name, meaning in states.items() if name not in owned)


def reference_names(found: Inventory) -> tuple[str, ...]:
    """Return kind and first day of validity of every reference used: no file name, because names
    are no part of a key.
    """
    chosen = [*found.references.values(), *found.dark_frames]
    return tuple(sorted(f"{printable(r.kind)} {printable(r.valid_from[:10])}" for r in chosen))


def warning_lines(leaves: Iterable[Leaf]) -> list[str]:
    """Return the warnings of all steps, each on one line that begins with its step; the first of
    every step come first.
    """
    lines = [
        (i, f"{leaf.step}: {text.removeprefix(f'{leaf.step}: ')}")
        for leaf in leaves
        for i, text in enumerate(leaf.warnings)
    ]
    return [printable(line, LONGEST_WARNING) for _, line in sorted(lines, key=lambda line: line[0])]
