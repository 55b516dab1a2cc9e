"""Units of FITS columns, and the factors between them."""

from __future__ import annotations

import math
import warnings


def unit_change(found: str, wanted: str) -> tuple[float, float] | None:
    """Return (factor, offset) that turns values in unit `found` into `wanted`; None if that cannot
    be done.
    """
    from astropy import units

    names = {"degC": "deg_C", "Kelvin": "K", "sec": "s", "days": "d"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source, target = (units.Unit(names.get(u, u)) for u in (found, wanted))
            zero, one, two = (
                float((x * source).to_value(target, units.temperature())) for x in (0.0, 1.0, 2.0)
            )
    except (ValueError, TypeError, ArithmeticError, units.UnitConversionError):
        return None
    factor = (
        one - zero if zero == 0.0 else float(f"{one - zero:.12g}")
    )  # 274.15 - 273.15 leaves rounding in the last digits
    linear = math.isclose(two, zero + 2 * factor, rel_tol=1e-12)
    return (
        (factor, zero)
        if linear and factor != 0.0 and math.isfinite(factor) and math.isfinite(zero)
        else None
    )
