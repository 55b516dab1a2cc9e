"""Housekeeping: the range of voltages and temperatures, and how often they exceed their limits."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from schemas.inputs import HOUSEKEEPING_LIMITS
from schemas.payloads import Housekeeping, Product, Reference
from schemas.terms import TERMS
from tasks.calibration.event_digits import limit_digit
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import Hdu, open_declared
from tasks.files.writer import NewHdu
from tasks.visit.raw import open_exposures
from tasks.visit.terms import term_column

Pair = tuple[float, float]
NO_LIMIT: Pair = (np.nan, np.nan)
# Judged even without limits: the inputs of other steps, and the temperature of the telescope.
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
    """Range and limits of one housekeeping parameter; NaN where there is none."""

    name: str
    unit: str
    least: float
    median: float
    largest: float
    lower: Pair  # soft and hard limit
    upper: Pair
    beyond: tuple[int, int]  # images beyond a soft limit only, and beyond a hard one
    missing: int  # images without a number

    @property
    def limited(self) -> bool:
        """Whether the parameter has any limit."""
        return bool(np.isfinite([*self.lower, *self.upper]).any())


# column of the table -> field of `Parameter`
COLUMNS = {field.name.upper(): field.name for field in fields(Parameter)}


def judge(
    name: str, unit: str, values: npt.ArrayLike, lower: Pair = NO_LIMIT, upper: Pair = NO_LIMIT
) -> Parameter:
    """Compare one parameter with its limits.

    Parameters
    ----------
    name, unit : str
        Of the parameter.
    values : array_like, shape (n,)
        One value per image; NaN counts as missing.
    lower, upper : tuple of float
        Soft and hard limit. If a hard limit lies within the soft one, all limits are ignored.

    Returns
    -------
    Parameter
        Its range, and the number of images beyond its limits.
    """
    of_images = np.asarray(values, dtype=np.float64)
    known = of_images[np.isfinite(of_images)]
    if lower[1] > lower[0] or upper[1] < upper[0]:
        lower = upper = NO_LIMIT
    digit = limit_digit(of_images, lower, upper)
    least, median, largest = (
        float(f(known)) if known.size else np.nan for f in (np.min, np.median, np.max)
    )
    beyond = int((digit == 1).sum()), int((digit == 2).sum())
    return Parameter(
        name, unit, least, median, largest, lower, upper, beyond, len(of_images) - len(known)
    )


def read_limits(limits: Reference | None) -> dict[str, tuple[Pair, Pair]]:
    """Return the lower and upper limits of the parameters with active limits, by name."""
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


def _measure_parameters(table: Hdu, limits: dict[str, tuple[Pair, Pair]]) -> list[Parameter]:
    """Judge the parameters that have limits, and those that are always judged."""
    declared = table.declared.columns if table.declared is not None else ()
    units = {column.name: column.unit for column in declared}
    of_column = {n: limits.get(n, limits.get(n.removeprefix("HK_"), ())) for n in table.present()}
    names = sorted(n for n, pairs in of_column.items() if n in ALWAYS or pairs)
    return [judge(n, units.get(n, ""), table.column(n), *of_column[n]) for n in names]


@step("housekeeping", version="3", payload=Housekeeping, leaves=["TERM_HOUSEKEEPING"])
def judge_housekeeping(raw: Product, limits: Reference | None) -> Leaves:
    """Compare voltages and temperatures with their limits."""
    with open_exposures(raw) as exposures:
        parameters = _measure_parameters(exposures.metadata, read_limits(limits))
    columns = {
        name: np.array([getattr(parameter, field) for parameter in parameters])
        for name, field in COLUMNS.items()
    }
    return Leaves({"TERM_HOUSEKEEPING": [NewHdu(TERMS["TERM_HOUSEKEEPING"], columns=columns)]})


def read_housekeeping(term: Housekeeping | None) -> tuple[Parameter, ...]:
    """Return the parameters that the step judged; none if it did not run."""
    if term is None or not term.products:
        return ()
    rows = zip(*term_column(term.product, "TERM_HOUSEKEEPING", *COLUMNS), strict=True)
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
