"""The simulated observatory: the conditions of every exposure, and the parts that make an image."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from schemas.arrays import FloatArray
from tasks.simulation import cosmics, dark, layout
from tasks.simulation.camera import Camera, Charges, Exposure, MarginHits
from tasks.simulation.layout import Window
from tasks.simulation.light import GRADIENT, STEP, Motion, Optics, Scene, gradient
from tasks.simulation.plan import LEAD, PIXEL_SCALE, Plan
from tasks.simulation.spacecraft import NADIR, TELESCOPE_TEMPERATURE, Housekeeping
from tasks.simulation.spikes import SpikeLight, draw_spikes, mean_light
from tasks.simulation.streaks import Streak, draw_streaks

# relative slope of the light of the Earth per pixel along x and y
EARTHWARDS = (GRADIENT / 100 * np.cos(NADIR), GRADIENT / 100 * np.sin(NADIR))


class Conditions(NamedTuple):
    """The conditions under which one exposure is taken."""

    start: float  # [s]
    light: float  # relative flux of the target
    hidden: bool  # the Earth hides all stars
    zodiacal: float  # [electron/s/pixel]
    stray: float  # [electron/s/pixel]
    cosmic_factor: float  # rate of cosmic rays relative to the usual rate
    gain: float  # [ADU/electron]
    bias_drift: float  # deviation from the nominal bias [ADU]
    telescope: float  # deviation from the usual temperature [degC]


class Observatory:
    """Takes exposures of one window.

    Parameters
    ----------
    plan : Plan
        The visit.
    window : Window
        The pixels that are read.
    mode : layout.Mode
        How they are read.
    """

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
    def conditions(self) -> list[Conditions]:
        """Conditions of all exposures of the stacks."""
        return all_conditions(self.plan)

    def prepare(self) -> None:
        """Compute everything that the threads share, before they start."""
        _ = (
            self.conditions,
            self.plan.attitude,
            self.plan.field,
            self.optics.crowd,
            self.optics.profile,
        )

    def stack(self, n: int) -> list[Exposure]:
        """Take the exposures of stack number `n`."""
        nexp = self.case.nexp
        rng = self.plan.rng(4, int(self.plan.schedule.slots[n]))
        return [self.expose(rng, now) for now in self.conditions[n * nexp : (n + 1) * nexp]]

    def expose(self, rng: np.random.Generator, now: Conditions) -> Exposure:
        """Take one exposure."""
        camera, seconds = self.camera, self.case.exptime
        flux = self._star_flux(now)
        motion = self.motion(now.start, max(1, int(np.ceil(seconds))))
        spike = mean_light(self.spikes, now.start, now.start + seconds)
        light = self._collect_light(now, flux, motion, spike)
        smearing = self._smear(now, flux, motion, spike)
        hits, margin_hits = self._draw_cosmic_rays(rng, now.cosmic_factor)
        telegraphic = camera.telegraphic_charge(self.jumps, now.start)
        charges = Charges(light, smearing, hits, margin_hits, telegraphic)
        image, sides, top = camera.read(rng, charges, now.gain, now.bias_drift)
        x, y = self.scene.tracks(np.array([0]), motion)
        return Exposure(
            image=image,
            sides=sides,
            top=top,
            target=float(flux[0]) * seconds,
            light=now.light if not now.hidden else 0.0,
            x=float(x.mean()),
            y=float(y.mean()),
            zodiacal=seconds * now.zodiacal,
            stray=seconds * (now.stray + spike.light),
            spike=seconds * spike.light,
            slope=tuple(
                seconds * (now.stray * s + t)
                for s, t in zip(EARTHWARDS, (spike.slope_x, spike.slope_y), strict=True)
            ),
            smearing=smearing.mean(axis=0),
            cosmics=hits,
            telegraphic=telegraphic,
            track=np.concatenate([x, y]),
        )

    def motion(self, start: float, parts: int) -> Motion:
        """Return where the field is at the middle of equal parts of an exposure."""
        time = start + (np.arange(parts) + 0.5) * self.case.exptime / parts
        series = np.array(self.plan.attitude.at(time))
        mean = series.mean(axis=1, keepdims=True)
        series = mean + self.case.blur * (series - mean)
        return Motion(np.deg2rad(series[0]), series[1], series[2])

    def crossing(self, start: float) -> list[Streak]:
        """Return the satellites that cross during an exposure."""
        return [
            streak for streak in self.streaks if start <= streak.second < start + self.case.exptime
        ]

    def _star_flux(self, now: Conditions) -> FloatArray:
        """Return the flux of each star [electron/s]; zero while the Earth hides the field."""
        if now.hidden:
            return np.zeros(self.scene.xi.size)
        return self.plan.star_flux(now.start + self.case.exptime / 2, now.light)

    def _collect_light(
        self, now: Conditions, flux: FloatArray, motion: Motion, spike: SpikeLight
    ) -> FloatArray:
        """Return the light of stars, sky, Earth and satellites on the window [electron]."""
        case, scene, seconds = self.case, self.scene, self.case.exptime
        coarse = self.motion(now.start, max(1, int(np.ceil(seconds / STEP))))
        rate = scene.stars(flux, motion, coarse, now.telescope)
        rate += flux[0] * (case.halo * scene.halo + case.ghost * scene.ghost)
        earth = now.stray * self.gradient
        sudden = spike.light + spike.slope_x * self.across + spike.slope_y * self.up
        light: FloatArray = seconds * (rate + now.zodiacal + earth + np.clip(sudden, 0, None))
        for streak in self.crossing(now.start):
            light += self.optics.draw_crowd(streak.x, streak.y, streak.charge, now.telescope)
        return light

    def _smear(
        self, now: Conditions, flux: FloatArray, motion: Motion, spike: SpikeLight
    ) -> FloatArray:
        """Return the charge that the frame transfer adds to the window [electron]."""
        if not self.case.smearing:
            window = self.camera.window
            return np.zeros((window.height, window.width))
        time = self.case.smearing * layout.TRANSFER_TIME
        sky = now.zodiacal + now.stray + spike.light
        return self.scene.smearing(flux, motion, sky, now.telescope, time)

    def _draw_cosmic_rays(
        self, rng: np.random.Generator, cosmic_factor: float
    ) -> tuple[cosmics.Hits, MarginHits]:
        """Draw the cosmic rays in the window and in its margins."""
        factor = self.case.cosmic_rays * cosmic_factor
        if not factor:
            return cosmics.NONE, MarginHits()
        height, width = self.camera.window.height, self.camera.window.width
        gathering = self.case.exptime + self.camera.mean_wait
        areas = (height, width), (height, 16), (height, 16), (3, width)
        hits, left, right, dark_top = (
            cosmics.draw_hits(rng, gathering, rows, columns, factor) for rows, columns in areas
        )
        # overscan rows collect charge only while they are read
        overscan_top = cosmics.draw_hits(rng, self.camera.top_wait, 6, width, factor)
        return hits, MarginHits(left, right, dark_top, overscan_top)


def all_conditions(plan: Plan) -> list[Conditions]:
    """Return the conditions of all exposures of the stacks."""
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
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Conditions(*row) for row in rows]


def full_frame_conditions(plan: Plan, housekeeping: Housekeeping) -> Conditions:
    """Return the conditions of the full frame, the exposure before the first stack."""
    middle = np.array([LEAD + plan.case.exptime / 2])
    return Conditions(
        start=LEAD,
        light=float(plan.light_curve(middle)[0]),
        hidden=False,
        zodiacal=float(np.ravel(plan.zodiacal)[0]),
        stray=float(plan.stray_light(middle)[0]),
        cosmic_factor=1.0,
        gain=float(housekeeping.gain[0]),
        bias_drift=float(plan.bias_drift(middle)[0]),
        telescope=float(housekeeping.true["thermFront_2"][0]) - TELESCOPE_TEMPERATURE,
    )
