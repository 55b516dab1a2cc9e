"""What is decided before the first exposure: stars, pointing, housekeeping, and which stacks are
taken when.

Stacks follow one another without pause. Those in the South Atlantic Anomaly or behind the Earth are
not transmitted, as in flight, unless the case keeps some; of the others some are lost. The counter
of stacks counts all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
LEAD = 10.0  # between start of the visit and first exposure [s]
SETTLING = 30.0  # between full frame and first stack [s]


@dataclass(frozen=True)
class Schedule:
    """The stacks that are written: number of their slot and what is wrong with them."""

    slots: IntArray
    saa: BoolArray
    occulted: BoolArray


class Plan:
    """A visit before its first exposure. Times are seconds since its start."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.seed = case, seed
        self.clock = Clock(case.start)
        self.orbit = Orbit(self.clock, case.tilt)
        self.mode = layout.read_out_mode(case.exptime)
        rows = layout.ROWS if self.mode.whole else case.height + layout.ROWS - layout.SIZE
        self.repetition = max(case.exptime, rows * layout.COLUMNS / self.mode.frequency)
        self.span = (
            case.nexp - 1
        ) * self.repetition + case.exptime  # of a stack, from first start to last end
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
        """The stars."""
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
        """DATE of all products: the end of the visit."""
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
        """Return the target's relative flux, the mean over each exposure with its middle at
        `seconds`, shape (n,).
        """
        return mean_over_exposure(self._light, seconds, self.case.exptime)

    def star_flux(self, second: float, light: float) -> FloatArray:
        """Return the flux of each star in an exposure [electron/s], the target first.

        `second` is the exposure's middle, `light` the target's relative flux in it.
        """
        flux = self.field.flux_at(np.array([second]))[:, 0]
        flux[0] *= light
        return np.asarray(flux)

    @cached_property
    def zodiacal(self) -> float:
        """Zodiacal light in the middle of the visit [electron/s/pixel]."""
        sun = sun_direction(*self.clock.tt(np.array([self.stop / 2])))[0]
        return self.case.zodiacal * zodiacal_light(unit_vector(self.orbit.ra, self.orbit.dec), sun)

    def stray_light(self, seconds: FloatArray) -> FloatArray:
        """Return the light of the bright Earth [electron/s/pixel] at each time, shape (n,)."""
        position = self.orbit.at(seconds).position
        sun = sun_direction(*self.clock.tt(seconds))
        target = unit_vector(self.orbit.ra, self.orbit.dec)
        return stray_light(position, target, sun, self.case.stray_light, self.case.stray_angle)

    def background(self, seconds: FloatArray) -> FloatArray:
        """Return sky and stray light [electron/s/pixel]."""
        return self.zodiacal + self.stray_light(seconds)

    def bias_drift(self, seconds: FloatArray) -> FloatArray:
        """Return the change of the bias [ADU]."""
        return np.asarray(self.case.bias_drift * np.sin(2 * np.pi * seconds / PERIOD))

    def _schedule(self) -> Schedule:
        """Choose the slots whose stacks are written: all that are clear, and the wanted part of the
        others.
        """
        case, step = self.case, self.case.nexp * self.repetition
        size = max(case.images, int(PERIOD / step) + 1)
        blocks: list[tuple[IntArray, BoolArray, BoolArray]] = []
        found = met = 0
        while found < case.images:
            if len(blocks) * size > 100 * case.images + 10_000:
                raise ImpossibleCase(
                    "the target is hardly ever visible: choose another tilt or start, or set "
                    "kept_flagged"
                )
            slot = np.arange(len(blocks) * size, (len(blocks) + 1) * size)
            parts = [
                self.orbit.at(self.first + slot * step + part * self.span)
                for part in (0.0, 0.5, 1.0)
            ]
            saa = present(case.saa, np.logical_or.reduce([part.in_saa for part in parts]))
            occulted = present(
                case.occultation, np.logical_or.reduce([part.occulted for part in parts])
            )
            number = met + np.cumsum(saa | occulted)
            share = np.floor(number * case.kept_flagged) > np.floor(
                (number - 1) * case.kept_flagged
            )
            lost = self.rng(12, len(blocks)).uniform(size=size) < case.missing
            kept = np.where(saa | occulted, share, ~lost)
            blocks.append((slot[kept], saa[kept], occulted[kept]))
            found, met = found + int(kept.sum()), int(number[-1])
        slots, saa, occulted = (
            np.concatenate(columns)[: case.images] for columns in zip(*blocks, strict=True)
        )
        return Schedule(slots, saa, occulted)


def present(choice: Presence, flags: BoolArray) -> BoolArray:
    """Return the flags of the orbit, or the same everywhere if the case wants so."""
    return flags if choice == "orbit" else np.full(flags.shape, choice == "always")
