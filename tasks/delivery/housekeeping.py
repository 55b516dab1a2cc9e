"""Housekeeping of the images against its limits, for the report: what went how far, and how often beyond."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.inputs import HOUSEKEEPING_LIMITS
from schemas.payloads import Inventory
from tasks.calibration.events import limit_digit
from tasks.fits import Hdu, open_declared

Floats = npt.NDArray[np.float64]
# Besides what the limits name: what the steps read, and what tells of the telescope.
ALWAYS = (
    "HK_VOLT_FEE_VOD", "HK_VOLT_FEE_VRD", "HK_VOLT_FEE_VOG", "HK_VOLT_FEE_VSS", "HK_TEMP_FEE_CCD", "HK_TEMP_FEE_BIAS",
    "HK_TEMP_FEE_ADC", "thermFront_2",
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One value of housekeeping in every image, shape (n,), and its limits: soft and hard, NaN where there is none."""

    name: str
    unit: str
    values: Floats
    lower: tuple[float, float] = (np.nan, np.nan)
    upper: tuple[float, float] = (np.nan, np.nan)

    @property
    def limited(self) -> bool:
        """Whether any limit is given."""
        return bool(np.isfinite([*self.lower, *self.upper]).any())

    def beyond(self) -> tuple[int, int]:
        """Return how many images lie beyond a soft and beyond a hard limit."""
        digit = limit_digit(self.values, np.array(self.lower), np.array(self.upper))
        return int((digit == 1).sum()), int((digit == 2).sum())


def read_limits(found: Inventory) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Return lower and upper limits by parameter; none where no limits are given, or their file is not at hand any more."""
    reference = found.references.get(HOUSEKEEPING_LIMITS.kind)
    if reference is None or not Path(reference.product.path).is_file():
        return {}
    with open_declared(Path(reference.product.path), HOUSEKEEPING_LIMITS) as file:
        table = file["REF_APP_Limits"]
        names, active = table.column("PARAM_NAME"), table.column("ACTIVE").astype(bool)
        lower, upper = (table.column(c).astype(np.float64) for c in ("LOWER_LIMIT", "UPPER_LIMIT"))
    return {
        str(names[row]): ((float(lower[row, 0]), float(lower[row, 1])), (float(upper[row, 0]), float(upper[row, 1])))
        for row in np.flatnonzero(active)
    }


def read_housekeeping(found: Inventory, metadata: Hdu) -> tuple[Parameter, ...]:
    """Return the parameters that have limits or that the steps read, as far as the images' metadata hold them."""
    limits = read_limits(found)
    units = {c.name: c.unit for c in metadata.declared.columns} if metadata.declared is not None else {}
    present = metadata.present()
    names = [n for n in present if n in ALWAYS or n in limits or n.removeprefix("HK_") in limits]
    none = ((np.nan, np.nan), (np.nan, np.nan))
    parameters = []
    for name in sorted(names):
        lower, upper = limits.get(name, limits.get(name.removeprefix("HK_"), none))
        if lower[1] > lower[0] or upper[1] < upper[0]:  # a hard limit within the soft one says nothing
            lower, upper = none
        parameters.append(Parameter(name, units.get(name, ""), metadata.column(name).astype(np.float64), lower, upper))
    return tuple(parameters)
