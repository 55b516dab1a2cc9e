"""Tables of the first page: the observation, the key numbers, and the outcome of each step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from schemas.arrays import BoolArray
from schemas.inputs import SAA_MAP, VISIT_LIMITS
from schemas.payloads import Inventory, Leaf, Payload, Scalar, Status
from schemas.products import soc_structure
from schemas.used import USED
from tasks.delivery.report.methods import METHODS
from tasks.delivery.report.observation import SILENT, HeaderValues
from tasks.delivery.report.series import Points
from tasks.delivery.report.verdict import (
    CARE_POINTS,
    CARE_RATIO,
    CARE_SHARE,
    FEWEST_POINTS,
    GOOD_CONTAMINATION,
    GOOD_RATIO,
    GOOD_SHARE,
    worst_state,
)
from tasks.delivery.report.wording import Row, format_value, make_ppm, make_row, printable
from tasks.engine.run import STEPS
from tasks.photometry.noise import filtered_scatter
from tasks.visit.images import Images

LONGEST_WARNING = 160  # characters that fit on one line of the page


class UsedValue(Payload):
    """A value that a step used."""

    keyword: str
    value: Scalar
    shown: str
    error: str
    unit: str
    meaning: str


class StepRow(Payload):
    """The outcome of one step."""

    step: str
    method: str
    state: Status
    keywords: dict[str, Status]
    used: tuple[UsedValue, ...]
    warnings: int
    by_hand: tuple[str, ...]


def run_table(inventory: Inventory, images: Images) -> tuple[Row, ...]:
    """Tabulate the observation."""
    header = HeaderValues(images.image.header)
    magnitude, teff = header.number("MAG_G"), header.number("T_EFF")
    kelvin = "" if teff is None else f"{teff:.0f} K"
    star = ", ".join(text for text in (header.text("SPECTYPE"), kelvin) if text)
    nexp, exposure = images.nexp, images.exposure_time
    ny, nx = images.shape
    return (
        header.time_row("Data start (UTC)", "V_STRT_U"),
        header.time_row("Data stop (UTC)", "V_STOP_U"),
        make_row("Visit", f"{inventory.visit}, OBSID {inventory.obsid}"),
        header.text_row("Target name", "TARGNAME"),
        make_row(
            "G magnitude", None if magnitude is None else float(magnitude), "mag", SILENT, ".2f"
        ),
        make_row("Spectral type, Teff", star, reason=SILENT),
        make_row("Images", images.count),
        make_row("Exposures per image", f"{nexp} × {exposure:g} s = {nexp * exposure:g} s"),
        make_row("Window", f"{nx} × {ny} pixels at ({images.x_offset}, {images.y_offset})"),
        header.text_row("PI name", "PI_NAME"),
    )


Mark = Literal["", "met", "beyond goal", "beyond limit", "above"]

# Noise requirements of the mission for a quiet star [ppm], by Gaia magnitude: window [h], goal or
# None, limit.
REQUIRED = ((9.0, 6.0, 10.0, 20.0), (12.0, 3.0, None, 85.0))

NO_POINTS = "too few good points"

# Shorter than a transit, so that its bottom is filtered out, and long enough for a median of some
# tens of the usual stacks.
FILTER_HOURS = 0.5

FILTERED = f"High-pass scatter ({60 * FILTER_HOURS:g} min)"


class KeyNumber(Row):
    """A number of the first page, with its goal and its limit."""

    goal: str = ""
    limit: str = ""
    mark: Mark = ""


def bounded(
    row: Row, goal: float | None, limit: float | None, unit: str = "", *, least: bool = False
) -> KeyNumber:
    """Add goal and limit to a row: the smallest allowed values if `least`, or else the largest."""
    sign = "≥" if least else "≤"
    texts = {
        name: "" if value is None else f"{sign} {format_value(value, 3)}{unit}"
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


def unbounded(row: Row) -> KeyNumber:
    """Make a key number without goal and limit."""
    return bounded(row, None, None)


def required(magnitude: float | None, hours: float) -> tuple[float | None, float | None]:
    """Return goal and limit of the mission for the noise of a star in a window [ppm]."""
    for faintest, window, goal, limit in REQUIRED:
        if magnitude is not None and magnitude <= faintest:
            return (goal, limit) if window == hours else (None, None)
    return None, None


def key_numbers(
    inventory: Inventory,
    metrics: Mapping[str, float],
    points: Points,
    leaves: Sequence[Leaf],
    images: Images,
) -> tuple[KeyNumber, ...]:
    """Tabulate the key numbers, with the goals and limits of the verdict and the mission."""
    magnitude = HeaderValues(images.image.header).number("MAG_G")
    return (
        *count_numbers(points),
        *noise_numbers(metrics, points, magnitude),
        contamination_number(leaves),
        *loss_numbers(inventory, points),
        *defect_numbers(leaves),
    )


def count_numbers(points: Points) -> tuple[KeyNumber, ...]:
    """Count the good points, and their share of the points with the star in sight."""
    good = int(points.good.sum())
    visible = int((~points.in_saa & ~points.occulted).sum())
    share = 100 * float(good) / visible if visible else None
    return (
        bounded(make_row("Good points", good), CARE_POINTS, FEWEST_POINTS, least=True),
        bounded(
            make_row(
                "Good fraction, star in sight", share, "%", "the star was never in sight", ".1f"
            ),
            100 * GOOD_SHARE,
            100 * CARE_SHARE,
            least=True,
        ),
    )


def noise_numbers(
    metrics: Mapping[str, float], points: Points, magnitude: float | None
) -> tuple[KeyNumber, ...]:
    """Tabulate scatter, formal error, CDPP and flux.

    The scatter is compared with the formal error, the CDPP with the mission's requirements. Robust
    scatter and CDPP include a transit; the scatter about a running median does not.
    """
    formal = metrics["FORM_PPM"]
    goal, limit = (GOOD_RATIO * formal, CARE_RATIO * formal) if formal > 0 else (None, None)
    scatter = make_ppm("Point-to-point scatter", metrics["P2P_PPM"], NO_POINTS)

    def cdpp(label: str, column: str, hours: float) -> KeyNumber:
        reason = NO_POINTS if points.duration >= hours else "visit too short"
        row = make_ppm(label, metrics[column], reason)
        number = bounded(row, *required(magnitude, hours))
        # a transit exceeds the requirement for a quiet star: this is not a verdict
        return number if number.mark in ("", "met") else number.model_copy(update={"mark": "above"})

    return (
        unbounded(make_ppm("Photon noise of the star", photon_noise(points), NO_POINTS)),
        bounded(scatter, goal, limit),
        unbounded(make_ppm("Median formal error", formal, NO_POINTS)),
        unbounded(make_ppm("Robust scatter", metrics["ROB_PPM"], NO_POINTS)),
        filtered_number(points),
        cdpp("CDPP in 30 min", "CDPP_30M", 0.5),
        cdpp("CDPP in 3 h", "CDPP_3H", 3.0),
        cdpp("CDPP in 6 h", "CDPP_6H", 6.0),
        unbounded(make_row("Median flux", metrics["MEDIAN"], "electron/s", NO_POINTS)),
    )


def filtered_number(points: Points) -> KeyNumber:
    """Tabulate the scatter about a running median, which transits and trends do not enter."""
    flux, good = points.flux, points.good
    scatter = filtered_scatter(points.hours[good], flux[good], FILTER_HOURS)
    return unbounded(make_ppm(FILTERED, scatter, NO_POINTS))


def photon_noise(points: Points) -> float:
    """Return the photon noise of the star in an image [ppm], NaN without a flux."""
    flux = points.flux[points.good]
    middle = float(np.median(flux)) if flux.size else math.nan
    return 1e6 / math.sqrt(middle) if middle > 0 else math.nan


def contamination_number(leaves: Sequence[Leaf]) -> KeyNumber:
    """Tabulate the light of field stars within 25 pixels."""
    label = "Contamination within 25 pixels"
    ratio, reason = used_value(leaves, "CONTA_25", "contamination", "stars")
    percent = 100 * ratio if isinstance(ratio, int | float) else None
    row = make_row(label, percent, "%", reason, ".2g")
    return bounded(row, 100 * GOOD_CONTAMINATION, None)


class Unknown(NamedTuple):
    """Reasons why images in the SAA or with stray light were not flagged; empty if they were."""

    saa: str
    stray_light: str


def unknown_losses(inventory: Inventory) -> Unknown:
    """Find which losses are unknown for lack of inputs."""
    planned = inventory.planned is not None
    saa = planned or inventory.constraints is not None or SAA_MAP.kind in inventory.references
    limits = planned or VISIT_LIMITS.kind in inventory.references
    return Unknown(
        "" if saa else "no visit constraints and no SAA map",
        "" if limits else "no limits available",
    )


def loss_numbers(inventory: Inventory, points: Points) -> tuple[KeyNumber, ...]:
    """Tabulate the percentage of images lost to SAA, occultation and stray light."""
    unknown = unknown_losses(inventory)

    def share(label: str, flags: BoolArray, reason: str) -> KeyNumber:
        lost = None if reason and not flags.any() else 100 * float(flags.sum()) / points.count
        return unbounded(make_row(label, lost, "%", reason, ".1f"))

    return (
        share("Lost to the SAA", points.in_saa, unknown.saa),
        share("Lost to occultation", points.occulted, ""),
        share("Stray light or Earth limb", points.stray_light, unknown.stray_light),
    )


def defect_numbers(leaves: Sequence[Leaf]) -> tuple[KeyNumber, ...]:
    """Tabulate cosmic rays, hot pixels, and the number of steps with a warning."""
    rate, no_rate = used_value(leaves, "CR_RATE", "defects")
    hot, no_hot = used_value(leaves, "HOT_PIX", "defects")
    warned = sum(state_of(leaf) is Status.WARNING for leaf in leaves)
    return (
        unbounded(make_row("Cosmic rays", rate, "pixels/s", no_rate, ".2g")),
        unbounded(make_row("Pixels with a steady excess", hot, reason=no_hot)),
        bounded(make_row("Steps with a warning", warned), 0, None),
    )


def used_value(
    leaves: Sequence[Leaf], keyword: str, step: str, *others: str
) -> tuple[Scalar | None, str]:
    """Return a value that a step used, or None with the reason.

    There is none if the step, or one of the others that it depends on, did not complete.
    """
    if unfinished := unfinished_steps(leaves, step, *others):
        return None, f"see {unfinished} below"
    used = next((leaf.used for leaf in leaves if leaf.step == step), {})
    value = used.get(keyword)
    return value, "" if value is not None else "not measured in this run"


def unfinished_steps(leaves: Iterable[Leaf], *steps: str) -> str:
    """List those of some steps that did not complete."""
    return ", ".join(
        leaf.step
        for leaf in leaves
        if leaf.step in steps and state_of(leaf) is not Status.COMPLETED
    )


def state_of(leaf: Leaf) -> Status:
    """Return the state of a step: the worst of its keywords or, without any, by its warnings."""
    return worst_state(leaf.status, leaf.warnings)


# Values with an error that is shown next to them.
ERROR_OF = {"BKG_AVG": "BKG_ERR", "PSF_LAG": "PSF_LAGE", "SMEAR_T": "SMEAR_TE"}


def is_error(name: str, leaf: Leaf) -> bool:
    """Return whether a used value is the error of another value of its step."""
    return any(error == name and value in leaf.used for value, error in ERROR_OF.items())


def step_row(leaf: Leaf) -> StepRow:
    """Tabulate the outcome of a step and the values it used."""
    # in the order of declaration: a manifest does not keep that of the dictionary, nor is it part
    # of the key
    names = [name for name in USED if name in leaf.used and not is_error(name, leaf)]
    return StepRow(
        step=leaf.step,
        method=method_of(leaf.step),
        state=state_of(leaf),
        keywords=leaf.status,
        used=tuple(used_row(name, leaf) for name in names),
        warnings=len(leaf.warnings),
        by_hand=leaf.by_hand,
    )


def used_row(name: str, leaf: Leaf) -> UsedValue:
    """Describe a value that a step used, with its error if it has one."""
    value, declared = leaf.used[name], USED[name]
    text = format_value(value)
    shown = text if isinstance(value, str) else text.replace("-", "−")
    error = format_value(leaf.used[ERROR_OF[name]], 2) if ERROR_OF.get(name) in leaf.used else ""
    return UsedValue(
        keyword=name,
        value=text if isinstance(value, str) else value,
        shown=shown,
        error=error.replace("-", "−"),
        unit=declared.unit,
        meaning=declared.meaning,
    )


def method_of(name: str) -> str:
    """Describe the method of a step in words."""
    if name in METHODS or name not in STEPS:
        return METHODS.get(name, "")
    return (STEPS[name].fn.__doc__ or "").splitlines()[0]


def absent_steps(leaves: Iterable[Leaf]) -> tuple[str, ...]:
    """List the steps in the SOC's definitions that no step of this run covers."""
    owned = {keyword for leaf in leaves for keyword in leaf.status}
    words = "step state: "
    declared = soc_structure("SCI_COR_SubArray").keywords.values()
    # METH_CFG states that the method was chosen, which is not a step
    states = {
        k.name: k.meaning.removeprefix(words)
        for k in declared
        if k.meaning.startswith(words) and k.name != "METH_CFG"
    }
    return tuple(f"{meaning} ({name})" for name, meaning in states.items() if name not in owned)


def reference_names(inventory: Inventory) -> tuple[str, ...]:
    """List kind and first day of validity of all references, without file names.

    File names are not part of the key, so the data must not depend on them.
    """
    chosen = [*inventory.references.values(), *inventory.dark_frames]
    return tuple(sorted(f"{printable(r.kind)} {printable(r.valid_from[:10])}" for r in chosen))


def fallback_lines(inventory: Inventory) -> tuple[str, ...]:
    """List the kinds of input that are missing, each with its substitute."""
    return tuple(
        f"{printable(kind)} ({printable(text)})"
        for kind, text in sorted(inventory.fallbacks.items())
    )


def synthetic_lines(inventory: Inventory) -> list[str]:
    """List the warning about references of the simulator on a visit that is not simulated."""
    if not inventory.synthetic:
        return []
    kinds = ", ".join(inventory.synthetic)
    line = f"references: synthetic, of another instrument than the visit: {kinds}"
    return [printable(line, LONGEST_WARNING)]


def warning_lines(leaves: Iterable[Leaf]) -> list[str]:
    """List the warnings of all steps, one per line; the first of every step come first."""
    lines = [
        (i, f"{leaf.step}: {text.removeprefix(f'{leaf.step}: ')}")
        for leaf in leaves
        for i, text in enumerate(leaf.warnings)
    ]
    return [printable(line, LONGEST_WARNING) for _, line in sorted(lines, key=lambda line: line[0])]
