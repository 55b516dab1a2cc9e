"""The simulated observatory: conditions of every exposure, and the parts that make an image."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tasks.simulation import cosmics, dark, layout
from tasks.simulation.camera import Camera, Exposure, MarginHits
from tasks.simulation.light import GRADIENT, STEP, Motion, Optics, Scene, Window, gradient
from tasks.simulation.plan import PIXEL_SCALE, Plan
from tasks.simulation.spacecraft import NADIR, TELESCOPE_TEMPERATURE
from tasks.simulation.spikes import draw_spikes, mean_light
from tasks.simulation.streaks import Streak, draw_streaks

EARTHWARDS = (
    GRADIENT / 100 * np.cos(NADIR),
    GRADIENT / 100 * np.sin(NADIR),
)  # slope of the Earth's light, relative, a pixel


class Conditions(NamedTuple):
    """Under which one exposure is taken."""

    start: float  # [s]
    light: float  # relative flux of the target
    hidden: bool  # the Earth hides all stars
    zodiacal: float  # [electron/s/pixel]
    stray: float  # [electron/s/pixel]
    cosmic_factor: float  # rate of cosmic rays relative to the usual one
    gain: float  # [ADU/electron]
    bias_drift: float  # from the nominal bias [ADU]
    telescope: float  # temperature from the usual one [degC]


class Studio:
    """Takes exposures of one window."""

    def __init__(self, plan: Plan, window: Window, mode: layout.Mode) -> None:
        case, field = plan.case, plan.field
        self.plan, self.case = plan, case
        self.camera = Camera(case, mode, window, float(plan.clock.mjd(0.0)), plan.rng(14))
        self.optics = Optics(
            window, case.breathing, case.psf_position, 1 + case.psf_error, case.psf_file
        )
        self.scene = Scene(self.optics, field.xi, field.eta, field.flux, case.place, PIXEL_SCALE)
        self.gradient = gradient(window, case.place, NADIR)
        self.across = window.left + np.arange(window.width) + 0.5 - case.place[0]
        self.up = (window.bottom + np.arange(window.height) + 0.5 - case.place[1])[:, None]
        self.jumps = dark.draw_jumps(plan.rng(10), self.camera.telegraphs, 0.0, plan.stop + 60)
        middle = window.left + window.width / 2, window.bottom + window.height / 2
        self.spikes = draw_spikes(plan.rng(15), case.spikes, plan.stop, plan.zodiacal)
        self.streaks = draw_streaks(
            plan.rng(11), case.streaks, plan.stop, middle, 1.5 * max(window.width, window.height)
        )

    @cached_property
    def conditions(self) -> list[tuple[Any, ...]]:
        """Conditions of every exposure of the stacks."""
        return all_conditions(self.plan)

    def stack(self, n: int) -> list[Exposure]:
        """Take the exposures of stack number `n`."""
        nexp = self.case.nexp
        rng = self.plan.rng(4, int(self.plan.schedule.slots[n]))
        return [
            self.expose(rng, Conditions(*row)) for row in self.conditions[n * nexp : (n + 1) * nexp]
        ]

    def prepare(self) -> None:
        """Make what all threads use."""
        _ = (
            self.conditions,
            self.plan.attitude,
            self.plan.field,
            self.optics.crowd,
            self.optics.profile,
        )

    def crossing(self, start: float) -> list[Streak]:
        """Return the satellites that cross during an exposure."""
        return [
            streak for streak in self.streaks if start <= streak.second < start + self.case.exptime
        ]

    def expose(self, rng: np.random.Generator, now: Conditions) -> Exposure:
        """Take one exposure."""
        case, scene, camera, seconds = self.case, self.scene, self.camera, self.case.exptime
        middle = now.start + seconds / 2
        flux = self.plan.star_flux(middle, now.light) if not now.hidden else np.zeros(scene.xi.size)
        motion = self.motion(now.start, max(1, int(np.ceil(seconds))))
        coarse = self.motion(now.start, max(1, int(np.ceil(seconds / STEP))))
        rate = scene.stars(flux, motion, coarse, now.telescope)
        rate += flux[0] * (case.halo * scene.halo + case.ghost * scene.ghost)
        earth = now.stray * self.gradient
        spike, *slope = mean_light(self.spikes, now.start, now.start + seconds)
        light = seconds * (
            rate
            + now.zodiacal
            + earth
            + np.clip(spike + slope[0] * self.across + slope[1] * self.up, 0, None)
        )
        for streak in self.crossing(now.start):
            light += self.optics.draw_crowd(streak.x, streak.y, streak.charge, now.telescope)
        smearing = np.zeros_like(light)
        if case.smearing:
            time = case.smearing * layout.TRANSFER_TIME
            smearing = scene.smearing(
                flux, motion, now.zodiacal + now.stray + spike, now.telescope, time
            )
        hits, margin_hits = cosmics.NONE, MarginHits()
        factor = case.cosmic_rays * now.cosmic_factor
        if factor:
            (height, width), gathering = light.shape, seconds + camera.mean_wait
            areas = (height, width), (height, 16), (height, 16), (3, width)
            hits, left, right, top_hits = (
                cosmics.draw_hits(rng, gathering, h, w, factor) for h, w in areas
            )
            # overscan rows gather charge only while they are read
            margin_hits = MarginHits(
                left, right, top_hits, cosmics.draw_hits(rng, camera.top_wait, 6, width, factor)
            )
        telegraphic = camera.telegraphic_charge(self.jumps, now.start)
        image, sides, top = camera.read(
            rng, light, smearing, hits, margin_hits, telegraphic, now.gain, now.bias_drift
        )
        x, y = scene.tracks(np.array([0]), motion)
        return Exposure(
            image=image,
            sides=sides,
            top=top,
            target=float(flux[0]) * seconds,
            light=now.light if not now.hidden else 0.0,
            x=float(x.mean()),
            y=float(y.mean()),
            zodiacal=seconds * now.zodiacal,
            stray=seconds * (now.stray + spike),
            spike=seconds * spike,
            slope=tuple(
                seconds * (now.stray * s + t) for s, t in zip(EARTHWARDS, slope, strict=True)
            ),
            smearing=smearing.mean(axis=0),
            cosmics=hits,
            telegraphic=telegraphic,
            track=np.concatenate([x, y]),
        )

    def motion(self, start: float, parts: int) -> Motion:
        """Return where the field is in the middle of equal parts of an exposure."""
        time = start + (np.arange(parts) + 0.5) * self.case.exptime / parts
        series = np.array(self.plan.attitude.at(time))
        mean = series.mean(axis=1, keepdims=True)
        series = mean + self.case.blur * (series - mean)
        return Motion(np.deg2rad(series[0]), series[1], series[2])


def all_conditions(plan: Plan) -> list[tuple[Any, ...]]:
    """Return the conditions of all exposures of the stacks, one a row."""
    middle = plan.exposure_middle
    stack = np.arange(middle.size) // plan.case.nexp
    columns = (
        plan.exposure_start,
        plan.light_curve(middle),
        plan.schedule.occulted[stack],
        np.broadcast_to(plan.zodiacal, middle.shape),
        plan.stray_light(middle),
        np.where(plan.schedule.saa[stack], cosmics.SAA_FACTOR, 1.0),
        plan.housekeeping.gain,
        plan.bias_drift(middle),
        plan.housekeeping.true["thermFront_2"] - TELESCOPE_TEMPERATURE,
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))
