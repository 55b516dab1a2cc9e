"""Housekeeping: how far voltages and temperatures went during the visit, and how often beyond their
limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.inputs import HOUSEKEEPING_LIMITS
from schemas.payloads import Housekeeping, Product, Reference
from schemas.terms import TERMS
from tasks.calibration.event_digits import limit_digit
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.files.writer import NewHdu
from tasks.visit.raw import open_exposures
from tasks.visit.terms import term_column

Pair = tuple[float, float]
NO_LIMIT: Pair = (np.nan, np.nan)
# Besides what the limits name: what the steps read, and what tells of the telescope.
ALWAYS = (
    "HK_VOLT_FEE_VOD",
    "HK_VOLT_FEE_VRD",
    "HK_VOLT_FEE_VOG",
    "HK_VOLT_FEE_VSS",
    "HK_TEMP_FEE_CCD",
    "HK_TEMP_FEE_BIAS",
    "HK_TEMP_FEE_ADC",
    "thermFront_2",
)


@dataclass(frozen=True)
class Parameter:
    """Range and limits (soft, hard) of one value of housekeeping; NaN where there is none.

    `beyond` counts images beyond a soft limit only and beyond a hard one, `missing` those without a
    number.
    """

    name: str
    unit: str
    least: float
    median: float
    largest: float
    lower: Pair
    upper: Pair
    beyond: tuple[int, int]
    missing: int

    @property
    def limited(self) -> bool:
        """Whether any limit is given."""
        return bool(np.isfinite([*self.lower, *self.upper]).any())


def judge(
    name: str, unit: str, values: npt.ArrayLike, lower: Pair = NO_LIMIT, upper: Pair = NO_LIMIT
) -> Parameter:
    """Hold one parameter against its limits.

    Parameters
    ----------
    name, unit : str
        Of the parameter.
    values : array_like, shape (n,)
        One an image; NaN counts as missing.
    lower, upper : tuple of float
        Soft and hard limit. A hard limit within the soft one says nothing: then there is none on
        either side.

    Returns
    -------
    Parameter
        Its range and how many images lie beyond.
    """
    found = np.asarray(values, dtype=np.float64)
    known = found[np.isfinite(found)]
    if lower[1] > lower[0] or upper[1] < upper[0]:
        lower = upper = NO_LIMIT
    digit = limit_digit(found, lower, upper)
    least, median, largest = (
        float(f(known)) if known.size else np.nan for f in (np.min, np.median, np.max)
    )
    beyond = int((digit == 1).sum()), int((digit == 2).sum())
    return Parameter(
        name, unit, least, median, largest, lower, upper, beyond, int(len(found) - len(known))
    )


def read_limits(limits: Reference | None) -> dict[str, tuple[Pair, Pair]]:
    """Return lower and upper limits of the parameters that are watched."""
    if limits is None:
        return {}
    with open_declared(require(limits.product.path), HOUSEKEEPING_LIMITS) as file:
        table = file["REF_APP_Limits"]
        names, active = table.column("PARAM_NAME"), table.column("ACTIVE").astype(bool)
        lower, upper = (table.column(c).astype(np.float64) for c in ("LOWER_LIMIT", "UPPER_LIMIT"))
    return {
        str(names[row]): (
            (float(lower[row, 0]), float(lower[row, 1])),
            (float(upper[row, 0]), float(upper[row, 1])),
        )
        for row in np.flatnonzero(active)
    }


@step("housekeeping", version="1", payload=Housekeeping, leaves=["TERM_HOUSEKEEPING"])
def judge_housekeeping(raw: Product, limits: Reference | None) -> Leaves:
    """Hold voltages and temperatures against their limits."""
    given = read_limits(limits)
    with open_exposures(raw) as exposures:
        table = exposures.metadata
        units = (
            {c.name: c.unit for c in table.declared.columns} if table.declared is not None else {}
        )
        names = [
            n
            for n in table.present()
            if n in ALWAYS or n in given or n.removeprefix("HK_") in given
        ]
        found = [
            judge(
                name,
                units.get(name, ""),
                table.column(name),
                *given.get(name, given.get(name.removeprefix("HK_"), ())),
            )
            for name in sorted(names)
        ]
    columns = {
        "NAME": np.array([p.name for p in found]),
        "UNIT": np.array([p.unit for p in found]),
        "LEAST": np.array([p.least for p in found]),
        "MEDIAN": np.array([p.median for p in found]),
        "LARGEST": np.array([p.largest for p in found]),
        "LOWER": np.array([p.lower for p in found]),
        "UPPER": np.array([p.upper for p in found]),
        "BEYOND": np.array([p.beyond for p in found]),
        "MISSING": np.array([p.missing for p in found]),
    }
    return Leaves({"TERM_HOUSEKEEPING": [NewHdu(TERMS["TERM_HOUSEKEEPING"], columns=columns)]})


def read_housekeeping(term: Housekeeping | None) -> tuple[Parameter, ...]:
    """Return what the step found; nothing where it left nothing."""
    if term is None or not term.products:
        return ()
    names = ("NAME", "UNIT", "LEAST", "MEDIAN", "LARGEST", "LOWER", "UPPER", "BEYOND", "MISSING")
    rows = zip(*term_column(term.product, "TERM_HOUSEKEEPING", *names), strict=True)
    return tuple(
        Parameter(
            str(name),
            str(unit),
            float(least),
            float(median),
            float(largest),
            (float(lower[0]), float(lower[1])),
            (float(upper[0]), float(upper[1])),
            (int(beyond[0]), int(beyond[1])),
            int(missing),
        )
        for name, unit, least, median, largest, lower, upper, beyond, missing in rows
    )
