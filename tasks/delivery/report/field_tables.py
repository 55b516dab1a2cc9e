"""Tables of the field stars: their light within the apertures, and the brightest ones."""

from __future__ import annotations

import math

import numpy as np

from schemas.arrays import FloatArray
from schemas.light_curves import added_radii, circle_name
from tasks.delivery.report.findings import Findings, Neighbour
from tasks.delivery.report.noise_tables import BUDGET_RADII, medians
from tasks.delivery.report.tables import Table
from tasks.delivery.report.wording import DASH, format_number

MOST_NEIGHBOURS = 12

WITHIN = 130.0  # arcsec from the target; light of more distant stars hardly reaches the window


def contamination_table(findings: Findings) -> Table:
    """Tabulate the light of field stars within some radii."""
    ratio, error = (100 * values[findings.points.good] for values in findings.field_light)
    shown = {*BUDGET_RADII, *added_radii(findings.radii)}
    rows = tuple(
        (circle_name(radius), *light_row(ratio[:, k], error[:, k]))
        for k, radius in enumerate(findings.radii)
        if radius in shown
    )
    head = ("aperture", "mean [%]", "rms over visit", "minimum", "maximum", "error")
    note = (
        "Light of field stars in percent of the target's, unflagged images. A dash: not measured "
        "in this run."
    )
    return Table(head=head, rows=rows, numbers=(False, *[True] * 5), note=note)


def light_row(ratio: FloatArray, error: FloatArray) -> tuple[str, ...]:
    """Return mean, scatter and range of the light of field stars within a radius, and its error."""
    values = ratio[np.isfinite(ratio)]
    if not values.size:
        return (DASH,) * 5
    moments = (values.mean(), values.std(), values.min(), values.max())
    middle = float(medians(error[:, np.newaxis])[0])
    return (*(format_number(float(v), ".3g") for v in moments), format_number(middle, ".2g"))


def neighbours_table(findings: Findings) -> Table:
    """Tabulate the brightest field stars around the target."""
    near = [star for star in findings.neighbours if math.hypot(star.east, star.north) < WITHIN]
    rows = tuple(neighbour_row(star) for star in near[:MOST_NEIGHBOURS])
    more = len(findings.neighbours) - len(rows)
    note = (
        f"The brightest of {len(near)} field stars within {WITHIN:g} arcsec of the target: "
        "distance in arcsec, position angle in degrees from north through east, light in percent "
        f"of the target's. The model includes {more} more."
        if rows
        else f"No field star within {WITHIN:g} arcsec of the target matters, or there is no "
        "catalogue."
    )
    head = ("G", "Teff [K]", "distance", "angle", "light [%]", "error")
    return Table(head=head, rows=rows, numbers=(True,) * 6, note=note)


def neighbour_row(star: Neighbour) -> tuple[str, ...]:
    """Return magnitude, place and light of a field star."""
    angle = math.degrees(math.atan2(star.east, star.north)) % 360
    return (
        format_number(star.magnitude, ".2f"),
        format_number(star.teff, ".0f") if star.teff > 0 else DASH,
        f"{math.hypot(star.east, star.north):.1f}",
        f"{angle:.0f}",
        format_number(100 * star.share, ".3g"),
        format_number(100 * star.error, ".2g"),
    )
