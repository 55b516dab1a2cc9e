"""Events: where the satellite was and what it looked at while an image was taken, as the digits of
EVENT.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.arrays import FloatArray, Int32Array
from schemas.errors import NoScienceDataError
from schemas.flags import (
    UNUSABLE,
    Quality,
)
from schemas.inputs import HOUSEKEEPING_LIMITS, VISIT_LIMITS
from schemas.payloads import Events, Product, Reference
from schemas.settings import EventSettings
from schemas.terms import TERMS
from tasks.calibration.event_digits import (
    angle_digit,
    compose_event,
    earth_digit,
    event_quality,
    limit_digit,
)
from tasks.calibration.sight import along_orbit, sight_of
from tasks.calibration.unusable import flag_repeated_times, unusable_images
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import open_declared, read_from
from tasks.files.writer import NewHdu
from tasks.numerics.times import after_leap_second_expiry, bjd_tdb
from tasks.visit.raw import Exposures, open_exposures


def _temperature_digit(raw: Exposures, limits: Reference | None) -> Int32Array:
    digit = np.zeros(raw.count, dtype=np.int32)
    if limits is None:
        return digit
    with open_declared(require(limits.product.path), HOUSEKEEPING_LIMITS) as file:
        table = file["REF_APP_Limits"]
        names, active = table.column("PARAM_NAME"), table.column("ACTIVE").astype(bool)
        upper, lower = table.column("UPPER_LIMIT"), table.column("LOWER_LIMIT")
    for name in ("HK_TEMP_FEE_CCD", "HK_TEMP_FEE_BIAS", "HK_TEMP_FEE_ADC"):
        for row in np.flatnonzero(active & np.isin(names, (name, name.removeprefix("HK_")))):
            if name in raw.metadata.present():
                with read_from(limits.product.path, f"REF_APP_Limits: {name}"):
                    found = limit_digit(raw.metadata.column(name), lower[row], upper[row])
                digit = np.maximum(digit, found)
    return digit


@step("events", "FLAGGING", version="3", payload=Events, leaves=["TERM_EVENTS"])
def flag_events(
    raw: Product,
    tables: tuple[Product, ...],
    orbit: Product | None,
    saa_map: Reference | None,
    limits: Reference | None,
    housekeeping: Reference | None,
    settings: EventSettings,
) -> Leaves:
    """Flag the conditions of every image, and images that cannot be used."""
    warnings: list[str] = []
    with open_exposures(raw) as exposures:
        mjd, meta = exposures.mjd, exposures.metadata
        with read_from(exposures.file.path, f"{meta.extname}: column MJD_TIME"):
            repeated = flag_repeated_times(mjd, settings.duplicate_tolerance)
        along = along_orbit(exposures, orbit, settings, warnings)
        sight = sight_of(exposures, tables, along.limb, saa_map, warnings)
        angles = {n: meta.column(f"LOS_TO_{n}_ANGLE").astype(np.float64) for n in ("SUN", "MOON")}
        bounds = _angle_limits(limits)
        with read_from(limits.product.path if limits else "", "REF_APP_VisitConstraints"):
            limb, moon, sun = (
                angle_digit(angle, bounds[name])
                for angle, name in (
                    (sight.limb, "EARTH"),
                    (angles["MOON"], "MOON"),
                    (angles["SUN"], "SUN"),
                )
            )
        event = compose_event(
            sight.saa,
            _temperature_digit(exposures, housekeeping),
            earth_digit(limb, sight.stray_light, sight.occulted),
            moon,
            sun,
            np.zeros(len(mjd)),
        )
        unusable = unusable_images(exposures)
        unusable |= meta.column("CE_INTEGRITY") != 0
        bjd = bjd_tdb(mjd, exposures.image.number("RA_TARG"), exposures.image.number("DEC_TARG"))
    if limits is None:
        warnings.append(
            "no limits of angles are given: the Sun, Moon and Earth-limb digits stay 0 but for "
            "occultation"
        )
    if housekeeping is None:
        warnings.append("no limits of housekeeping are given: the temperature digit stays 0")
    if repeated.any():
        warnings.append(f"{repeated.sum()} images repeat the time of another one: flagged")
    if after_leap_second_expiry(mjd).any():
        warnings.append(
            "the visit is later than the known leap seconds: its times may be off by seconds"
        )
    quality = event_quality(event)
    quality |= np.where(unusable, int(Quality.UNUSABLE_IMAGE), 0) | np.where(
        repeated, int(Quality.DUPLICATE_TIME), 0
    )
    if ((quality & int(UNUSABLE)) != 0).all():
        raise NoScienceDataError(
            f"none of {len(mjd)} images can be used: {unusable.sum()} are all zero, saturated "
            f"throughout or marked as damaged, "
            f"{sight.occulted.sum()} are occulted by the Earth, {sight.saa.sum()} were taken "
            f"in the SAA"
        )
    used = {
        "N_SAA": int(sight.saa.sum()),
        "N_OCCULT": int(sight.occulted.sum()),
        "N_BADIMG": int(unusable.sum()),
    }
    columns: dict[str, npt.NDArray[Any]] = {
        "MJD_TIME": mjd,
        "BJD_TIME": bjd,
        "EVENT": event,
        "QUALITY": quality,
        "EARTH_LIMB": sight.limb,
        "SAT_LIGHT_TIME": along.light_time,
        "SAT_LIGHT_RATE": along.light_rate,
    }
    return Leaves(
        {"TERM_EVENTS": [NewHdu(TERMS["TERM_EVENTS"], used, columns=columns)]},
        used=used,
        warnings=warnings,
    )


def _angle_limits(limits: Reference | None) -> dict[str, FloatArray | None]:
    if limits is None:
        return dict.fromkeys(("SUN", "MOON", "EARTH"))
    with open_declared(require(limits.product.path), VISIT_LIMITS) as file:
        table = file["REF_APP_VisitConstraints"]
        return {
            n: table.finite_column(f"MIN_LOS_TO_{n}_ANGLE")[0] for n in ("SUN", "MOON", "EARTH")
        }
