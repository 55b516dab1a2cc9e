"""Units of FITS columns, and the factors between them."""

from __future__ import annotations

import math
import warnings


def unit_change(found: str, wanted: str) -> tuple[float, float] | None:
    """Return factor and offset that convert values from the unit `found` to `wanted`.

    Returns
    -------
    (float, float) or None
        None if the units cannot be converted by a linear function.
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
    # the last digits of 274.15 - 273.15 are rounding
    factor = one - zero if zero == 0.0 else float(f"{one - zero:.12g}")
    linear = math.isclose(two, zero + 2 * factor, rel_tol=1e-12)
    return (
        (factor, zero)
        if linear and factor != 0.0 and math.isfinite(factor) and math.isfinite(zero)
        else None
    )
