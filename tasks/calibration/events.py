"""Events: conditions under which each image was taken, as the digits of EVENT."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.arrays import AnyArray, BoolArray, FloatArray, Int32Array
from schemas.errors import NoScienceDataError
from schemas.flags import UNUSABLE, Quality
from schemas.inputs import HOUSEKEEPING_LIMITS, VISIT_LIMITS
from schemas.payloads import Events, Product, Reference
from schemas.settings import EventSettings
from schemas.terms import TERMS
from tasks.calibration.damage import Damage, assess_images, damage_warnings
from tasks.calibration.event_digits import (
    angle_digit,
    compose_event,
    earth_digit,
    event_quality,
    limit_digit,
)
from tasks.calibration.repeated_times import flag_repeated_times
from tasks.calibration.sight import Sight, along_orbit, sight_of
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import open_declared, read_from
from tasks.files.writer import NewHdu
from tasks.numerics.times import after_leap_second_expiry, bjd_tdb
from tasks.visit.raw import Exposures, open_exposures

# of the satellite and its line of sight
POSITIONS = (
    "LOS_TO_SUN_ANGLE",
    "LOS_TO_MOON_ANGLE",
    "LOS_TO_EARTH_ANGLE",
    "LATITUDE",
    "LONGITUDE",
)
TEMPERATURES = ("HK_TEMP_FEE_CCD", "HK_TEMP_FEE_BIAS", "HK_TEMP_FEE_ADC")


class _AngleDigits(NamedTuple):
    limb: Int32Array
    moon: Int32Array
    sun: Int32Array


def _temperature_digit(raw: Exposures, limits: Reference | None, warnings: list[str]) -> Int32Array:
    digit = np.zeros(raw.count, dtype=np.int32)
    if limits is None:
        return digit
    with open_declared(require(limits.product.path), HOUSEKEEPING_LIMITS) as file:
        table = file["REF_APP_Limits"]
        names, active = table.column("PARAM_NAME"), table.column("ACTIVE").astype(bool)
        upper, lower = table.column("UPPER_LIMIT"), table.column("LOWER_LIMIT")
        undefined = table.undefined("ACTIVE")
    if undefined.any():
        warnings.append(
            f"REF_APP_Limits: ACTIVE is undefined for {', '.join(names[undefined])}: not compared "
            f"with limits"
        )
    present = [name for name in TEMPERATURES if name in raw.metadata.present()]
    for name in present:
        for row in np.flatnonzero(active & np.isin(names, (name, name.removeprefix("HK_")))):
            with read_from(limits.product.path, f"REF_APP_Limits: {name}"):
                of_row = limit_digit(raw.metadata.column(name), lower[row], upper[row])
            digit = np.maximum(digit, of_row)
    return digit


def _angle_digits(raw: Exposures, limb: FloatArray, limits: Reference | None) -> _AngleDigits:
    """Compare the angles to the Earth's limb, the Moon and the Sun with their limits."""
    angles = {
        n: raw.metadata.column(f"LOS_TO_{n}_ANGLE").astype(np.float64) for n in ("SUN", "MOON")
    }
    smallest = _read_angle_limits(limits)
    with read_from(limits.product.path if limits else "", "REF_APP_VisitConstraints"):
        return _AngleDigits(
            angle_digit(limb, smallest["EARTH"]),
            angle_digit(angles["MOON"], smallest["MOON"]),
            angle_digit(angles["SUN"], smallest["SUN"]),
        )


def _read_angle_limits(limits: Reference | None) -> dict[str, FloatArray | None]:
    """Return the smallest allowed angles, soft and hard [deg], by name; None without limits."""
    if limits is None:
        return dict.fromkeys(("SUN", "MOON", "EARTH"))
    with open_declared(require(limits.product.path), VISIT_LIMITS) as file:
        table = file["REF_APP_VisitConstraints"]
        return {
            n: table.finite_column(f"MIN_LOS_TO_{n}_ANGLE")[0] for n in ("SUN", "MOON", "EARTH")
        }


def _compose(
    raw: Exposures,
    sight: Sight,
    limits: Reference | None,
    housekeeping: Reference | None,
    warnings: list[str],
) -> Int32Array:
    """Compose EVENT of every image, without cosmic rays: they are found much later."""
    limb, moon, sun = _angle_digits(raw, sight.limb, limits)
    return compose_event(
        sight.saa,
        _temperature_digit(raw, housekeeping, warnings),
        earth_digit(limb, sight.stray_light, sight.occulted),
        moon,
        sun,
        np.zeros(raw.count),
    )


def _warn(
    mjd: FloatArray,
    repeated: BoolArray,
    limits: Reference | None,
    housekeeping: Reference | None,
    warnings: list[str],
) -> None:
    if limits is None:
        warnings.append(
            "no limits for angles: the Sun, Moon and Earth digits of EVENT stay 0 except for "
            "occultation"
        )
    if housekeeping is None:
        warnings.append("no limits for housekeeping: the temperature digit of EVENT stays 0")
    if repeated.any():
        warnings.append(
            f"{repeated.sum()} of {len(mjd)} images flagged: same time as the image before"
        )
    if after_leap_second_expiry(mjd).any():
        warnings.append(
            "the visit is later than the table of leap seconds covers: its times may be off by "
            "seconds"
        )


def _assess(raw: Exposures, saturation: float) -> Damage:
    """Assess the images, including those that the camera marked as damaged."""
    damage = assess_images(raw, np.full(raw.count, float(raw.coadded)), saturation)
    damage.causes["the camera marked them as damaged"] = raw.metadata.column("CE_INTEGRITY") != 0
    return damage


def _require_usable(quality: Int32Array, damage: Damage, sight: Sight) -> None:
    if ((quality & int(UNUSABLE)) != 0).all():
        raise NoScienceDataError(
            f"none of {len(quality)} images can be used: {damage.unusable.sum()} are damaged "
            f"(pixels lost, repeated or saturated throughout, or marked by the camera), "
            f"{sight.occulted.sum()} are occulted by the Earth, {sight.saa.sum()} were taken in "
            f"the SAA"
        )


@step("events", "FLAGGING", version="10", payload=Events, leaves=["TERM_EVENTS"])
def flag_events(
    raw: Product,
    tables: tuple[Product, ...],
    orbit: Product | None,
    saa_map: Reference | None,
    limits: Reference | None,
    housekeeping: Reference | None,
    settings: EventSettings,
) -> Leaves:
    """Flag the conditions of every image, and the images that cannot be used."""
    warnings: list[str] = []
    with open_exposures(raw) as exposures:
        mjd, meta = exposures.mjd, exposures.metadata
        with read_from(exposures.file.path, f"{meta.extname}: column MJD_TIME"):
            repeated = flag_repeated_times(mjd, settings.duplicate_tolerance)
        along = along_orbit(exposures, orbit, settings, warnings)
        sight = sight_of(exposures, tables, along.limb, saa_map, warnings)
        event = _compose(exposures, sight, limits, housekeeping, warnings)
        warnings += meta.implausible_values(*POSITIONS)
        damage = _assess(exposures, settings.saturation)
        corner = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
        bjd = bjd_tdb(mjd, exposures.image.number("RA_TARG"), exposures.image.number("DEC_TARG"))
    _warn(mjd, repeated, limits, housekeeping, warnings)
    warnings += damage_warnings(damage, settings.saturation)
    quality = event_quality(event)
    for bit, images in (
        (Quality.UNUSABLE_IMAGE, damage.unusable),
        (Quality.LOST_PIXELS, damage.some_lost),
        (Quality.SATURATED, damage.star_saturated),
        (Quality.DUPLICATE_TIME, repeated),
    ):
        quality |= np.where(images, int(bit), 0)
    _require_usable(quality, damage, sight)
    used = {
        "N_SAA": int(sight.saa.sum()),
        "N_OCCULT": int(sight.occulted.sum()),
        "N_BADIMG": int(damage.unusable.sum()),
        "N_LOSTPX": int(damage.some_lost.sum()),
        "N_SATUR": int(damage.star_saturated.sum()),
    }
    columns: dict[str, AnyArray] = {
        "MJD_TIME": mjd,
        "BJD_TIME": bjd,
        "EVENT": event,
        "QUALITY": quality,
        "EARTH_LIMB": sight.limb,
        "SAT_LIGHT_TIME": along.light_time,
        "SAT_LIGHT_RATE": along.light_rate,
    }
    table = NewHdu(TERMS["TERM_EVENTS"], used, columns=columns)
    pixels = damage.saturated_in.astype(np.float64)
    image = NewHdu(TERMS["TERM_EVENTS_SATURATED"], corner, pixels=pixels)
    return Leaves({"TERM_EVENTS": [table, image]}, used=used, warnings=warnings)
