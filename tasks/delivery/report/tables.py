"""The tables behind the first page: apertures, metrics, stages, correlations, conditions,
events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from schemas.arrays import BoolArray, FloatArray
from schemas.flags import (
    EVENT_COSMIC_RAYS,
    EVENT_EARTH,
    EVENT_MOON,
    EVENT_SAA,
    EVENT_SUN,
    EVENT_TEMPERATURE,
    Quality,
)
from schemas.inputs import SAA_MAP, VISIT_LIMITS
from schemas.light_curves import DEFAULT_RADIUS, OPTIMAL, PSF, RADII
from schemas.payloads import Inventory, Leaf, Payload, Scalar, Status
from schemas.terms import TERMS
from tasks.delivery.report.findings import Findings, Quantity
from tasks.delivery.report.series import (
    harmonics,
    relation,
    relative_flux,
    removed_variance,
    varies,
)
from tasks.delivery.report.summary import state_of
from tasks.delivery.report.wording import Row, figures, known
from tasks.photometry.noise import cdpp, point_to_point, robust_std

DASH = "–"

ROUNDING = 1e-6  # ppm; what sums of some thousand pixels differ by

_NO_POINTS = "too few good points"

EVENT_DIGITS: tuple[tuple[int, str, Mapping[int, str]], ...] = (
    (EVENT_SAA, "SAA", {1: "in the South Atlantic Anomaly"}),
    (EVENT_TEMPERATURE, "temperature", {1: "beyond the soft limit", 2: "beyond the hard limit"}),
    (
        EVENT_EARTH,
        "Earth",
        {
            1: "stray light, or limb below the soft limit",
            2: "limb below the hard limit",
            9: "behind the Earth",
        },
    ),
    (EVENT_MOON, "Moon", {1: "angle below the soft limit", 2: "angle below the hard limit"}),
    (EVENT_SUN, "Sun", {1: "angle below the soft limit", 2: "angle below the hard limit"}),
    (
        EVENT_COSMIC_RAYS,
        "cosmic rays",
        {1: "hit on more than 1% of the aperture", 2: "hit on more than 5% of the image"},
    ),
)

BIT_WORDS = {
    Quality.SAA: "in the SAA",
    Quality.OCCULTED: "behind the Earth",
    Quality.STRAY_LIGHT: "stray light, or near the Earth's limb",
    Quality.TEMPERATURE: "a temperature is beyond its limits",
    Quality.SUN_OR_MOON: "too near to Sun or Moon",
    Quality.COSMIC_RAYS: "many cosmic rays",
    Quality.UNUSABLE_IMAGE: "garbled, empty or saturated image, or no star in it",
    Quality.DUPLICATE_TIME: "the time of another image",
    Quality.HOUSEKEEPING: "a voltage or temperature is missing or was replaced",
    Quality.POINTING: "no attitude, or the star is far from its place",
    Quality.BACKGROUND: "background spike",
    Quality.MARGIN: "bias could not be measured in the margins",
    Quality.CENTROID: "position could not be measured",
    Quality.NO_STACK: "no stacked image holds the imagette; conditions are those of the nearest",
    Quality.GRADIENT: "background much brighter on one side",
}


class Table(Payload):
    """A table of texts; columns of `numbers` stand to the right. `note` says what a reader must
    know of it.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[bool, ...]
    note: str = ""


class Metric(Row):
    """One number of the light curve, and what the operational pipeline's header says under a
    keyword of that kind.
    """

    keyword: str = ""
    header: str = ""


def shown(value: float, style: str = "") -> str:
    """Return a number for a table; a dash where it is none."""
    if not math.isfinite(value):
        return DASH
    return (format(value, style) if style else figures(value)).replace("-", "−")


def ppm(value: float) -> str:
    """Return parts per million for a table: whole from 100 on, one decimal from 1 on."""
    if not math.isfinite(value):
        return DASH
    size = abs(value) if abs(value) > ROUNDING else 0.0
    digits = 0 if size >= 100 or size == 0 else 1 if size >= 1 else 3
    return f"{value if size else 0.0:.{digits}f}".replace("-", "−")


def stage_name(name: str) -> str:
    """Return how a stage is called in figures and tables."""
    names = {
        "STATIC": "hot pixels",
        "TELEGRAPHIC": "telegraphic pixels",
        "DEAD": "dead pixels",
        "FLAT": "flat field",
    }
    return names.get(name, name.lower().replace("_", " "))


def curves_table(found: Findings) -> Table:
    """Return the noise of all light curves."""
    head = (
        "light curve",
        "radius",
        "median",
        "robust",
        "p. to p.",
        "30 min",
        "3 h",
        "6 h",
        "formal",
        "ratio",
        "good",
    )
    rows = []
    for name, m in found.metrics.items():
        if name in ("RINF", "RSUP", "DEFAULT"):
            continue
        ratio = m["P2P_PPM"] / m["FORM_PPM"] if m["FORM_PPM"] > 0 else math.nan
        columns = ("ROB_PPM", "P2P_PPM", "CDPP_30M", "CDPP_3H", "CDPP_6H", "FORM_PPM")
        rows.append(
            (
                name,
                shown(m["RADIUS"]),
                shown(m["MEDIAN"], ".0f"),
                *(ppm(m[c]) for c in columns),
                shown(ratio, ".2f"),
                str(int(m["N_GOOD"])),
            )
        )
    note = (
        "Radius in pixels, median flux in electron/s, all noise in ppm of unflagged points: "
        "robust scatter, scatter from point "
        "to point, CDPP of three windows, median formal error. Ratio is that of p. to p. to "
        "formal. DEFAULT is R25, RSUP is "
        "R30, RINF a circle of 22.5 pixels; R25_Fixed does not follow the target. "
        f"{OPTIMAL} is made up for the light that jitter moves across its border. A dash: too "
        f"few points, or a visit shorter "
        "than the window."
    )
    return Table(head=head, rows=tuple(rows), numbers=(False, *[True] * 10), note=note)


BUDGET_RADII = (15.0, 20.0, DEFAULT_RADIUS, 30.0, 35.0, 40.0)


def error_terms(found: Findings) -> dict[str, FloatArray]:
    """Return the median error of unflagged points by term, within each of RADII [ppm]; NaN where
    none is known.
    """
    good = found.points.good
    light = np.where(found.fluxes > 0, found.fluxes, np.nan)[good]
    return {
        name: medians(1e6 * np.sqrt(values[good]) / light)
        for name, values in found.all_variances.items()
    }


def medians(values: FloatArray) -> FloatArray:
    """Return the medians of the columns without what is no number, NaN where there is nothing
    else.
    """
    known = [column[np.isfinite(column)] for column in values.T]
    return np.array([float(np.median(column)) if column.size else math.nan for column in known])


def budget_table(found: Findings) -> Table:
    """Return what the formal error is made of, term by term and by radius."""
    meanings = {c.name: c.meaning for c in TERMS["TERM_ERRORS"].columns}
    places = [RADII.index(radius) for radius in BUDGET_RADII]
    terms = error_terms(found)
    as_drp = terms.pop("DRP")
    known = [v for v in terms.values() if np.isfinite(v).any()]
    total = (
        np.sqrt(np.sum([np.nan_to_num(v) ** 2 for v in known], axis=0))
        if known
        else np.full(len(RADII), math.nan)
    )
    middle = total[RADII.index(DEFAULT_RADIUS)]

    def line(name: str, meaning: str, errors: FloatArray, *, part: bool = True) -> tuple[str, ...]:
        share = (
            100 * (errors[RADII.index(DEFAULT_RADIUS)] / middle) ** 2 if middle > 0 else math.nan
        )
        return (
            name,
            meaning,
            *(ppm(float(errors[k])) for k in places),
            shown(float(share), ".1f") if part else "",
        )

    rows = [
        line(name.lower().replace("_", "-"), meanings[name], values)
        for name, values in terms.items()
    ]
    rows.append(line("all", "root of the sum: FLUXERR", total))
    rows.append(
        line("for comparison", "FLUXERR as the operational pipeline has it", as_drp, part=False)
    )
    note = (
        "Medians over unflagged points in ppm of the flux within that radius; variance of "
        "R25 in percent of the sum."
    )
    head = ("term", "what", *(f"R{radius:g}" for radius in BUDGET_RADII), "variance [%]")
    return Table(
        head=head, rows=tuple(rows), numbers=(False, False, *[True] * (len(head) - 2)), note=note
    )


MOST_NEIGHBOURS = 12

WITHIN = 130.0  # arcsec from the target; further out a star shines hardly into the window


def contamination_table(found: Findings) -> Table:
    """Return the light of field stars within some radii."""
    ratio, error = (values[found.points.good] for values in found.field_light)
    rows = []
    for radius in BUDGET_RADII:
        values = 100 * ratio[:, RADII.index(radius)]
        values = values[np.isfinite(values)]
        if not values.size:
            rows.append((f"R{radius:g}", *[DASH] * 5))
            continue
        spread = (
            float(values.mean()),
            float(values.std()),
            float(values.min()),
            float(values.max()),
        )
        own = float(medians(100 * error[:, [RADII.index(radius)]])[0])
        rows.append((f"R{radius:g}", *(shown(v, ".3g") for v in spread), shown(own, ".2g")))
    head = ("aperture", "mean [%]", "rms over the visit", "least", "largest", "error")
    note = (
        "Light of field stars over the target's, in percent, unflagged images. A dash: no "
        "step of this run measured it."
    )
    return Table(head=head, rows=tuple(rows), numbers=(False, *[True] * 5), note=note)


def neighbours_table(found: Findings) -> Table:
    """Return the brightest field stars about the target."""
    rows = []
    near = [star for star in found.neighbours if math.hypot(star.east, star.north) < WITHIN]
    for star in near[:MOST_NEIGHBOURS]:
        angle = math.degrees(math.atan2(star.east, star.north)) % 360
        rows.append(
            (
                shown(star.magnitude, ".2f"),
                shown(star.teff, ".0f") if star.teff > 0 else DASH,
                f"{math.hypot(star.east, star.north):.1f}",
                f"{angle:.0f}",
                shown(100 * star.share, ".3g"),
                shown(100 * star.error, ".2g"),
            )
        )
    more = len(found.neighbours) - len(rows)
    note = (
        f"The brightest of {len(near)} field stars within {WITHIN:g} arcsec of the target: "
        f"distance in arcsec, position angle "
        f"from North over East in degrees, light in percent of the target's. {more} others are "
        f"drawn too."
        if rows
        else f"No field star within {WITHIN:g} arcsec of the target can matter, or there is no "
        f"catalogue."
    )
    head = ("G", "Teff [K]", "distance", "angle", "light [%]", "error")
    return Table(head=head, rows=tuple(rows), numbers=(True,) * 6, note=note)


def housekeeping_table(found: Findings) -> Table:
    """Return the range of voltages and temperatures, their limits, and how many images lie
    beyond.
    """
    rows = []
    for parameter in found.housekeeping:
        spread = parameter.largest - parameter.least
        ends = [
            _like(v, spread) if math.isfinite(v) else DASH
            for v in (parameter.least, parameter.median, parameter.largest)
        ]
        bounds = [
            f"{shown(low)} to {shown(high)}"
            for low, high in zip(parameter.lower, parameter.upper, strict=True)
        ]
        judged = (
            (*bounds, *map(str, parameter.beyond))
            if parameter.limited
            else (DASH, DASH, DASH, DASH)
        )
        rows.append((parameter.name, parameter.unit, *ends, *judged, str(parameter.missing)))
    beyond = [p.name for p in found.housekeeping if p.beyond != (0, 0)]
    verdict = (
        f"Out of limits: {', '.join(beyond)}."
        if beyond
        else "All are within the limits that are given."
    )
    limited = any(p.limited for p in found.housekeeping)
    note = (
        f"{verdict if limited else 'No limits of these are given.'} The digit temperature of "
        f"EVENT follows from "
        "HK_TEMP_FEE_CCD, _BIAS and _ADC only."
    )
    head = (
        "parameter",
        "unit",
        "least",
        "median",
        "largest",
        "soft limits",
        "hard limits",
        "beyond soft",
        "hard",
        "missing",
    )
    return Table(head=head, rows=tuple(rows), numbers=(False, False, *[True] * 8), note=note)


def metrics_rows(
    inventory: Inventory, found: Findings, leaves: Sequence[Leaf]
) -> tuple[Metric, ...]:
    """Return every row of the table of metrics."""
    metrics, points = found.metrics["DEFAULT"], found.points
    good = points.good
    flux = points.flux[good]
    middle = float(np.median(flux)) if flux.size else math.nan
    factor = 1e6 / middle if middle > 0 else math.nan

    def own(
        label: str, value: float, unit: str, keyword: str = "", reason: str = _NO_POINTS
    ) -> Metric:
        row = known(label, value, unit, reason)
        header = ppm(metrics[keyword]) if keyword else ""
        return Metric(**row.model_dump(), keyword=keyword, header=header)

    def window(hours: float, keyword: str = "") -> Metric:
        name = "30 min" if hours == 0.5 else f"{hours:g} h"
        reason = _NO_POINTS if points.duration >= hours else "the visit is shorter"
        return own(f"CDPP in {name}", cdpp(found.mjd[good], flux, hours), "ppm", keyword, reason)

    spread = factor * float(np.median(np.abs(flux - middle))) if flux.size else math.nan
    differences = factor * float(np.std(np.diff(flux))) if flux.size > 2 else math.nan
    contamination, others = (
        found.quantities["contamination"].values,
        _odd(leaves, "contamination", "stars"),
    )
    light = float(np.median(contamination[good])) if good.any() and not others else math.nan
    why = f"see {others} in the table of steps" if others else "not measured"
    formal = metrics["FORM_PPM"]
    return (
        own("Flux, median", metrics["MEDIAN"], "electron/s", "MEDIAN"),
        own("Flux, median of an image", middle, "electron"),
        own("Flux, robust mean", metrics["ROBMEAN"], "electron/s", "ROBMEAN"),
        own("Flux of field stars in the aperture", light * 1e-6 * middle, "electron", reason=why),
        own("Contamination (ratio)", light * 1e-6, "", reason=why),
        own("Robust scatter", metrics["ROB_PPM"], "ppm", "ROBSTD"),
        own("MAD (median deviation from the median)", spread, "ppm"),
        own("Scatter from point to point, robust", metrics["P2P_PPM"], "ppm", "MAD"),
        own("Standard deviation of differences of neighbours", differences, "ppm", "P2PSTD"),
        own("Formal error, median", formal, "ppm"),
        own("Point to point / formal", metrics["P2P_PPM"] / formal if formal > 0 else math.nan, ""),
        window(0.5),
        window(2.5),
        window(3.0, "CDPP2_5"),
        window(6.0, "CDPP6_5"),
        window(6.5),
        own("Good points", 100 * float(good.mean()) if points.count else math.nan, "%", "VALIDPTS"),
        *(Metric(**row.model_dump()) for row in lost_rows(inventory, found)),
        *(Metric(**row.model_dump()) for row in defect_rows(leaves)),
    )


def _odd(leaves: Iterable[Leaf], *steps: str) -> str:
    """Return which of some steps ended otherwise than completed."""
    return ", ".join(
        leaf.step
        for leaf in leaves
        if leaf.step in steps and state_of(leaf) is not Status.COMPLETED
    )


def lost_rows(inventory: Inventory, found: Findings) -> tuple[Row, ...]:
    """Return which share of all images is lost to SAA, occultation and stray light."""
    points = found.points
    unseen = inventory.constraints is None and inventory.planned is None
    no_saa = (
        "no visit constraints and no SAA map"
        if unseen and SAA_MAP.kind not in inventory.references
        else ""
    )
    no_limits = (
        "no limits are given"
        if VISIT_LIMITS.kind not in inventory.references and inventory.planned is None
        else ""
    )

    def share(label: str, event: BoolArray, bit: Quality, unknown: str) -> Row:
        flags = event | (points.quality & int(bit) != 0)
        value = None if unknown and not flags.any() else float(flags.mean())
        return known(label, value, "of all images", unknown, ".4f")

    return (
        share("Lost to the SAA (ratio)", points.in_saa, Quality.SAA, no_saa),
        share("Lost to occultation (ratio)", points.occulted, Quality.OCCULTED, ""),
        share("Lost to stray light (ratio)", points.stray_light, Quality.STRAY_LIGHT, no_limits),
    )


def defect_rows(leaves: Sequence[Leaf]) -> tuple[Row, ...]:
    """Return what was found wrong with pixels inside and outside of the aperture R25."""
    used: Mapping[str, Scalar] = next((leaf.used for leaf in leaves if leaf.step == "defects"), {})
    odd = _odd(leaves, "defects")
    reason = f"see {odd} in the table of steps" if odd else "no step of this run measures it"
    kinds = (
        ("Cosmic rays", "CR", "ppm/pixel/s"),
        ("Hot pixels", "HOT", "pixels"),
        ("Dead pixels", "DEAD", "pixels"),
        ("Telegraphic pixels", "TELE", "pixels"),
    )
    rows = []
    for label, name, unit in kinds:
        for where, suffix in (("in", "IN"), ("out of", "OUT")):
            value = None if odd else used.get(f"{name}_{suffix}")
            number = None if value is None or isinstance(value, str) else float(value)
            rows.append(known(f"{label} {where} the target's aperture", number, unit, reason))
    return tuple(rows)


def stages_table(found: Findings) -> Table:
    """Return the noise of the light curve before and after each step, and of what the step
    changed.
    """
    good = found.points.good
    final = found.levels[-1].values[good]
    middle = float(np.median(final)) if final.size else math.nan
    factor = 1e6 / middle if middle > 0 else math.nan
    rows = []
    for stage in found.stages:
        before, after = stage.before[good], stage.after[good]
        change = after - before
        noise = [factor * point_to_point(v) for v in (before, after, change)]
        scatter = [factor * robust_std(v) for v in (before, after, change)]
        shift = factor * float(np.median(change)) if change.size else math.nan
        steps = [np.diff(v) / math.sqrt(2) for v in (before, after)]
        still = bool(change.size) and bool((change == 0).all())
        quiet = [
            0.0 if still or (change.size > 2 and not math.isfinite(v)) else v
            for v in (noise[2], scatter[2])
        ]
        rows.append(
            (
                stage_name(stage.name),
                ppm(shift),
                ppm(noise[0]),
                ppm(noise[1]),
                removed_text(steps[0], steps[1], still, factor),
                ppm(quiet[0]),
                ppm(scatter[0]),
                ppm(scatter[1]),
                removed_text(before, after, still, factor),
                ppm(quiet[1]),
            )
        )
    noises = (
        "p. to p. before",
        "after",
        "removed",
        "of the change",
        "robust before",
        "after",
        "removed",
        "of the change",
    )
    note = (
        "The flux is summed in one circle of 25 pixels about the first position, unflagged "
        "points only, and given in ppm of "
        f"the final median, {shown(middle, '.5g')} electron. Change is the median of the "
        f"difference; p. to p. is the robust "
        "scatter from point to point, robust the robust scatter. Removed is the root of the "
        "mean difference of squares of the "
        "same points before and after, those beyond 5 sigma left out; negative where a step "
        "adds noise, an upper limit where "
        "chance would do as much. Where more than half of the points are left as they are, the "
        "robust scatter of the change "
        "is 0."
    )
    head = ("step", "change", *noises)
    return Table(head=head, rows=tuple(rows), numbers=(False, *[True] * 9), note=note)


def removed_text(before: FloatArray, after: FloatArray, still: bool, factor: float) -> str:
    """Return the noise that a step removed, `factor` times that of fluxes, or an upper limit; a
    dash where it is `still`.
    """
    removed, error = removed_variance(before, after)
    if still or not math.isfinite(removed):
        return DASH
    if abs(removed) < 2 * error:
        return f"< {ppm(factor * math.sqrt(2 * error))}"
    return ppm(math.copysign(factor * math.sqrt(abs(removed)), removed))


def correlations_table(found: Findings, names: Sequence[str]) -> Table:
    """Return how the flux goes with other quantities."""
    relative = relative_flux(found.points.flux, found.points.good)
    rows = []
    for name in names:
        quantity = found.quantities[name]
        chosen = found.points.good & np.isfinite(quantity.values) & np.isfinite(relative)
        x = quantity.values[chosen]
        r = relation(x, relative[chosen])
        rest = shown(x.min()) + " to " + shown(x.max()) if len(x) else "not measured"
        rest = rest if not len(x) or varies(x) else f"{shown(x[0])}, does not vary"
        slope = with_error(r.slope, r.slope_error)
        unit = f"ppm per {quantity.unit}" if math.isfinite(r.slope) and quantity.unit else ""
        if name == "roll":
            curve = harmonics(x, relative[chosen])
            slope, unit = (
                with_error(curve.amplitude, curve.error),
                "ppm semi-amplitude" if math.isfinite(curve.amplitude) else "",
            )
        rows.append(
            (
                quantity.label,
                rest,
                quantity.unit,
                shown(r.pearson, "+.2f"),
                shown(r.spearman, "+.2f"),
                slope,
                unit,
            )
        )
    head = ("quantity", "range", "", "Pearson", "Spearman", "slope", "")
    note = (
        "Coefficients of the relative flux of DEFAULT with each quantity, and the slope of a "
        "straight line with its error, "
        "from unflagged points; of the roll angle half of the range of a curve of three "
        "harmonics. A transit "
        "and slow changes of the star enter them; roll angle and time hide one another in a "
        "short visit."
    )
    return Table(
        head=head,
        rows=tuple(rows),
        numbers=(False, True, False, True, True, True, False),
        note=note,
    )


def with_error(value: float, error: float) -> str:
    """Return a number and its error, both with the digits of which the error leaves two."""
    if not math.isfinite(value):
        return DASH
    digits = 1 - math.floor(math.log10(error)) if error > 0 else 3
    if not -5 < digits < 8:
        return f"{shown(value, '.3g')} ± {shown(error, '.2g')}"
    value, error = (round(v, digits) for v in (value, error))
    return f"{value:.{max(digits, 0)}f} ± {error:.{max(digits, 0)}f}".replace("-", "−")


def conditions_table(found: Findings, names: Sequence[str]) -> Table:
    """Return mean and scatter of what was measured in every image."""
    rows = []
    for name in names:
        quantity = found.quantities[name]
        rows.append((quantity.label, quantity.unit, *_moments(quantity, found.points.good)))
    note = "Unflagged images; of x and y what the columns CENTROID_X and CENTROID_Y hold."
    head = ("quantity", "unit", "mean", "standard deviation", "least", "largest")
    return Table(head=head, rows=tuple(rows), numbers=(False, False, *[True] * 4), note=note)


def _moments(quantity: Quantity, good: BoolArray) -> tuple[str, str, str, str]:
    values: FloatArray = quantity.values[good & np.isfinite(quantity.values)]
    if not values.size:
        return DASH, DASH, DASH, DASH
    spread = float(values.std()) if varies(values) else 0.0
    mean, least, largest = (
        _like(float(v), spread) for v in (values.mean(), values.min(), values.max())
    )
    return mean, shown(spread, ".3g") if spread else "0", least, largest


def _like(value: float, spread: float) -> str:
    """Return a number with as many decimals as its scatter has significant ones."""
    if not spread > 0:
        return shown(value)
    digits = int(np.clip(2 - math.floor(math.log10(spread)), 0, 9))
    return shown(value, f".{digits}f")


def events_table(found: Findings) -> Table:
    """Return the codes of EVENT and how many images have each."""
    event = found.points.event
    rows = []
    for position, (place, name, values) in enumerate(EVENT_DIGITS):
        digits = event // place % 10
        for digit, meaning in values.items():
            rows.append(
                (
                    str(position),
                    name,
                    str(digit * place),
                    str(int((digits == digit).sum())),
                    meaning,
                )
            )
    head = ("digit", "what", "adds", "images", "meaning")
    note = (
        f"EVENT is the sum; 0 says that nothing was met. {int((event == 0).sum())} of "
        f"{len(event)} images have 0. STATUS is 1 "
        "where EVENT is not 0. Digits are counted from the right."
    )
    return Table(head=head, rows=tuple(rows), numbers=(True, False, True, True, False), note=note)


def bit_name(bit: Quality) -> str:
    """Return how a bit of QUALITY is called in figures and tables."""
    return "SAA" if bit is Quality.SAA else str(bit.name).lower().replace("_", " ")


def quality_table(found: Findings) -> Table:
    """Return the bits of QUALITY and how many images have each."""
    quality = found.points.quality
    rows = []
    for bit in Quality:
        raised = int((quality & int(bit) != 0).sum())
        rows.append((str(int(bit)), bit_name(bit), str(raised), BIT_WORDS.get(bit, "")))
    note = f"QUALITY is the sum; {int((quality == 0).sum())} of {len(quality)} images have 0."
    return Table(
        head=("bit", "name", "images", "meaning"),
        rows=tuple(rows),
        numbers=(True, False, True, False),
        note=note,
    )


__all__ = ["PSF", "Metric", "Table"]
