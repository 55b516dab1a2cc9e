"""Everything decided before the first exposure: stars, pointing, housekeeping, and the schedule.

Stacks follow one another without pause. As in flight, stacks taken in the South Atlantic Anomaly or
behind the Earth are not transmitted, unless the case keeps some of them; of the others some are
lost. The counter of stacks counts all of them.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from schemas.arrays import BoolArray, FloatArray, IntArray
from tasks.simulation import layout
from tasks.simulation.case import Case, ImpossibleCase, Presence
from tasks.simulation.field import Field, draw
from tasks.simulation.light_curve import LightCurve, mean_over_exposure, target_light
from tasks.simulation.spacecraft import (
    PERIOD,
    Attitude,
    Clock,
    Housekeeping,
    Orbit,
    draw_attitude,
    draw_housekeeping,
    unit_vector,
)
from tasks.simulation.stray_light import stray_light
from tasks.simulation.zodiacal import sun_direction, zodiacal_light

PIXEL_SCALE = 1.002  # [arcsec]
LEAD = 10.0  # between the start of the visit and the first exposure [s]
SETTLING = 30.0  # between the full frame and the first stack [s]


class Schedule(NamedTuple):
    """The stacks that are written: the numbers of their slots, and their flags."""

    slots: IntArray
    saa: BoolArray
    occulted: BoolArray


class Plan:
    """A visit before its first exposure; times are seconds since its start."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.seed = case, seed
        self.clock = Clock(case.start)
        self.orbit = Orbit(self.clock, case.tilt)
        self.mode = layout.read_out_mode(case.exptime)
        rows = layout.ROWS if self.mode.whole else case.height + layout.ROWS - layout.SIZE
        self.repetition = max(case.exptime, rows * layout.COLUMNS / self.mode.frequency)
        # of a stack, from the start of the first exposure to the end of the last
        self.span = (case.nexp - 1) * self.repetition + case.exptime
        self.first = LEAD + (case.exptime + SETTLING if case.full_frame else 0.0)
        self.schedule = self._schedule()
        self.start: FloatArray = np.asarray(
            self.first + self.schedule.slots * (case.nexp * self.repetition), float
        )
        self.middle: FloatArray = np.asarray(self.start + self.span / 2, float)
        self.stop = float(self.start[-1] + self.span)
        self.exposure_start: FloatArray = np.asarray(
            (self.start[:, None] + np.arange(case.nexp) * self.repetition).ravel(), float
        )
        self.exposure_middle: FloatArray = np.asarray(self.exposure_start + case.exptime / 2, float)
        self.transit_middle = (self.first + self.stop) / 2

    def rng(self, *stream: int) -> np.random.Generator:
        """Return the generator of random numbers for one purpose."""
        return np.random.default_rng((self.seed, *stream))

    @cached_property
    def field(self) -> Field:
        """The stars of the field."""
        return draw(self.rng(1), self.case)

    @cached_property
    def attitude(self) -> Attitude:
        """Pointing from the start of the visit to 20 s after its last exposure."""
        cadence = self.case.attitude_cadence
        samples: FloatArray = (
            np.arange(int(np.ceil((self.stop + 20) / cadence)) + 1, dtype=float) * cadence
        )
        return draw_attitude(
            self.rng(2), self.orbit, samples, self.case.jitter, self.case.jitter_time
        )

    @cached_property
    def housekeeping(self) -> Housekeeping:
        """Housekeeping of every exposure."""
        return draw_housekeeping(
            self.rng(3), self.exposure_middle, self.case.gain_drift, self.case.ccd_warmer
        )

    @property
    def counter(self) -> IntArray:
        """CE_COUNTER of the stacks, 16 bits; the full frame is number 1."""
        return (self.schedule.slots + (2 if self.case.full_frame else 1)) % 65536

    @property
    def date(self) -> str:
        """The end of the visit, DATE of all products."""
        return self.clock.stamp(self.stop)[:19]

    @property
    def obsid(self) -> int:
        """Identifier of the visit."""
        return 100 * self.case.request + self.case.visit_counter

    @cached_property
    def damaged(self) -> BoolArray:
        """Stacks that reach the ground damaged."""
        return self.rng(13).uniform(size=self.case.images) < self.case.damaged

    @cached_property
    def _light(self) -> LightCurve:
        """The target's relative flux at any time of the visit."""
        start = float(self.clock.mjd(0.0))
        return target_light(self.rng(9), self.case, start, self.transit_middle, LEAD, self.stop)

    def light_curve(self, seconds: FloatArray) -> FloatArray:
        """Return the target's mean relative flux in exposures around `seconds`, shape (n,)."""
        return mean_over_exposure(self._light, seconds, self.case.exptime)

    def star_flux(self, second: float, light: float) -> FloatArray:
        """Return the flux of each star in one exposure, the target first [electron/s].

        Parameters
        ----------
        second : float
            Middle of the exposure [s].
        light : float
            Relative flux of the target.
        """
        flux = self.field.flux_at(np.array([second]))[:, 0]
        flux[0] *= light
        return np.asarray(flux)

    @cached_property
    def zodiacal(self) -> float:
        """Zodiacal light at the middle of the visit [electron/s/pixel]."""
        sun = sun_direction(*self.clock.tt(np.array([self.stop / 2])))[0]
        return self.case.zodiacal * zodiacal_light(unit_vector(self.orbit.ra, self.orbit.dec), sun)

    def stray_light(self, seconds: FloatArray) -> FloatArray:
        """Return the light of the bright Earth at each time, shape (n,) [electron/s/pixel]."""
        position = self.orbit.at(seconds).position
        sun = sun_direction(*self.clock.tt(seconds))
        target = unit_vector(self.orbit.ra, self.orbit.dec)
        return stray_light(position, target, sun, self.case.stray_light, self.case.stray_angle)

    def bias_drift(self, seconds: FloatArray) -> FloatArray:
        """Return the deviation from the nominal bias at each time, shape (n,) [ADU]."""
        return np.asarray(self.case.bias_drift * np.sin(2 * np.pi * seconds / PERIOD))

    def _schedule(self) -> Schedule:
        """Choose the slots whose stacks are written, orbit by orbit until there are enough."""
        case, step = self.case, self.case.nexp * self.repetition
        size = max(case.images, int(PERIOD / step) + 1)
        blocks: list[Schedule] = []
        written = flagged = 0
        while written < case.images:
            if len(blocks) * size > 100 * case.images + 10_000:
                raise ImpossibleCase(
                    "the target is hardly ever visible: choose another tilt or start, or set "
                    "kept_flagged"
                )
            slots = np.arange(len(blocks) * size, (len(blocks) + 1) * size)
            lost = self.rng(12, len(blocks)).uniform(size=size) < case.missing
            saa, occulted = self._flags(slots)
            number = flagged + np.cumsum(saa | occulted)
            kept = np.where(saa | occulted, self._is_kept(number), ~lost)
            blocks.append(Schedule(slots[kept], saa[kept], occulted[kept]))
            written, flagged = written + int(kept.sum()), int(number[-1])
        return Schedule(
            *(np.concatenate(columns)[: case.images] for columns in zip(*blocks, strict=True))
        )

    def _flags(self, slots: IntArray) -> tuple[BoolArray, BoolArray]:
        """Return whether stacks are in the SAA, and whether they are occulted.

        Either holds if it does at the start, the middle or the end of the stack.
        """
        start = self.first + slots * (self.case.nexp * self.repetition)
        along = [self.orbit.at(start + part * self.span) for part in (0.0, 0.5, 1.0)]
        saa = np.logical_or.reduce([around.in_saa for around in along])
        occulted = np.logical_or.reduce([around.occulted for around in along])
        return present(self.case.saa, saa), present(self.case.occultation, occulted)

    def _is_kept(self, number: IntArray) -> BoolArray:
        """Return whether the flagged stacks of these numbers, from 1, are written nevertheless."""
        share = self.case.kept_flagged
        return np.asarray(np.floor(number * share) > np.floor((number - 1) * share))


def present(choice: Presence, flags: BoolArray) -> BoolArray:
    """Return the flags of the orbit, or the same flag everywhere if the case asks for that."""
    return flags if choice == "orbit" else np.full(flags.shape, choice == "always")
