"""The decimal digits of EVENT: composing them from conditions, and decomposing them again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.arrays import Int32Array
from schemas.flags import EARTH_OCCULTED, EARTH_STRAY_LIGHT, EVENT_DIGITS, Quality


class EventDigits(NamedTuple):
    """The digits of EVENT, arrays with one value per image."""

    saa: Int32Array
    temperature: Int32Array
    earth: Int32Array
    moon: Int32Array
    sun: Int32Array
    cosmic_rays: Int32Array


_PLACES = EventDigits(*(np.array(place, dtype=np.int32) for place in EVENT_DIGITS))


def angle_digit(angle: npt.ArrayLike, limits: npt.ArrayLike | None) -> Int32Array:
    """Return the digit of an angle to Sun, Moon or Earth.

    It is 1 below the soft limit, 2 below the hard limit.

    Parameters
    ----------
    angle : array_like, shape (n,)
        Angle from the line of sight [deg]. NaN gives 0.
    limits : array_like, shape (2,), or None
        Smallest allowed angle, soft and hard [deg]; None or NaN for no limit.

    Returns
    -------
    ndarray of int32, shape (n,)
        0, 1 or 2.

    Raises
    ------
    ValueError
        Unless there are two limits, the hard one not above the soft one.
    """
    return limit_digit(angle, limits, None)


def limit_digit(
    value: npt.ArrayLike, lower: npt.ArrayLike | None, upper: npt.ArrayLike | None
) -> Int32Array:
    """Return the digit of a value with lower and upper limits.

    It is 1 beyond a soft limit, 2 beyond a hard limit.

    Parameters
    ----------
    value : array_like, shape (n,)
        Value, for example a temperature [deg C]. NaN gives 0.
    lower, upper : array_like, shape (2,), or None
        Soft and hard limit, in the unit of `value`; None or NaN for no limit.

    Returns
    -------
    ndarray of int32, shape (n,)
        0, 1 or 2.

    Raises
    ------
    ValueError
        Unless there are two limits on a side, the hard one not within the soft one.
    """
    values = np.asarray(value, dtype=np.float64)
    digit = np.zeros(values.shape, dtype=np.int32)
    for limits, sign in ((lower, -1), (upper, 1)):
        if limits is None:
            continue
        pair = np.asarray(limits, dtype=np.float64)
        if pair.shape != (2,) or sign * pair[1] < sign * pair[0]:
            raise ValueError(
                f"limits are {pair.tolist()}, expected a soft limit and a hard one beyond it"
            )
        for level in (1, 2):
            digit = np.where(
                sign * values > sign * pair[level - 1], np.maximum(digit, level), digit
            )
    return np.asarray(digit, dtype=np.int32)


def earth_digit(
    limb: npt.ArrayLike, stray_light: npt.ArrayLike, occulted: npt.ArrayLike
) -> Int32Array:
    """Combine the effects of the Earth on an image into one digit; the worst one counts.

    Parameters
    ----------
    limb : array_like of int, shape (n,)
        Digit of the angle to the limb, from `angle_digit`.
    stray_light : array_like of bool, shape (n,)
        True where the predicted stray light exceeds its threshold.
    occulted : array_like of bool, shape (n,)
        True where the Earth occults the star.

    Returns
    -------
    ndarray of int32, shape (n,)
        0; 1 stray light or below the soft limit; 2 below the hard limit; 9 occulted.

    Raises
    ------
    ValueError
        If a digit of `limb` is not 0, 1 or 2.
    """
    digit = np.asarray(limb)
    if not np.isin(digit, (0, 1, 2)).all():
        raise ValueError(
            f"digits of the limb angle are {np.unique(digit).tolist()}, expected 0, 1 or 2"
        )
    digit = np.where(
        np.asarray(stray_light, dtype=np.bool_), np.maximum(digit, EARTH_STRAY_LIGHT), digit
    )
    return np.where(np.asarray(occulted, dtype=np.bool_), EARTH_OCCULTED, digit).astype(np.int32)


def compose_event(
    saa: npt.ArrayLike,
    temperature: npt.ArrayLike,
    earth: npt.ArrayLike,
    moon: npt.ArrayLike,
    sun: npt.ArrayLike,
    cosmic_rays: npt.ArrayLike,
) -> Int32Array:
    """Compose EVENT from its digits: 901 is occulted by the Earth and in the SAA.

    Parameters
    ----------
    saa, temperature, earth, moon, sun, cosmic_rays : array_like, shape (n,) or scalar
        The digits, lowest first.

    Returns
    -------
    ndarray of int32, shape (n,)
        EVENT.

    Raises
    ------
    ValueError
        If a digit is not 0 to 9.
    """
    event = np.zeros((), dtype=np.int32)
    digits = (saa, temperature, earth, moon, sun, cosmic_rays)
    for name, place, values in zip(EventDigits._fields, _PLACES, digits, strict=True):
        digit = np.asarray(values)
        if ((digit < 0) | (digit > 9)).any():
            raise ValueError(
                f"digit {name} of EVENT ranges from {digit.min()} to {digit.max()}, expected 0 to 9"
            )
        event = event + place * digit.astype(np.int32)
    return np.asarray(event, dtype=np.int32)


def decompose_event(event: npt.ArrayLike) -> EventDigits:
    """Decompose EVENT into its digits.

    Parameters
    ----------
    event : array_like of int, shape (n,)
        EVENT.

    Returns
    -------
    EventDigits
        Six arrays of int32, shape (n,).

    Raises
    ------
    ValueError
        If EVENT is negative or has more than six digits.
    """
    values = np.asarray(event)
    if ((values < 0) | (values > 999_999)).any():
        raise ValueError(
            f"EVENT ranges from {values.min()} to {values.max()}, expected 0 to 999999"
        )
    return EventDigits(*(np.asarray(values // place % 10, dtype=np.int32) for place in _PLACES))


def event_quality(event: npt.ArrayLike) -> Int32Array:
    """Return the bits of QUALITY that EVENT implies.

    Parameters
    ----------
    event : array_like of int, shape (n,)
        EVENT.

    Returns
    -------
    ndarray of int32, shape (n,)
        Sum of bits of `Quality`.

    Raises
    ------
    ValueError
        If EVENT is negative or has more than six digits.
    """
    digit = decompose_event(event)
    occulted = digit.earth == EARTH_OCCULTED
    quality = np.zeros(digit.earth.shape, dtype=np.int32)
    for bit, where in (
        (Quality.SAA, digit.saa > 0),
        (Quality.OCCULTED, occulted),
        (Quality.STRAY_LIGHT, (digit.earth > 0) & ~occulted),
        (Quality.TEMPERATURE, digit.temperature > 0),
        (Quality.SUN_OR_MOON, (digit.sun > 0) | (digit.moon > 0)),
        (Quality.COSMIC_RAYS, digit.cosmic_rays > 0),
    ):
        quality |= np.where(where, np.int32(bit), np.int32(0))
    return quality
