"""The truth of a simulated visit; no pipeline may read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from schemas.products import Column, Structure
from tasks.simulation import bias, files, flat
from tasks.simulation.plan import Plan

if TYPE_CHECKING:
    from tasks.simulation.camera import Exposure
    from tasks.simulation.observatory import Studio

Floats = NDArray[np.float64]

HOT, WARM, TELEGRAPHIC, PARTLY_DEAD, DEAD = 1, 2, 3, -1, -2
STAMP = 200  # pixels of the true PSF's image

_TIME = Column("MJD_TIME", "double", "day", "mid-time, TT")
_TARGET = (
    Column("FLUX", "double", "", "relative flux of the target; 0 if occulted"),
    Column("TARGET", "double", "electron", "charge of the target on a flat detector of any size"),
    Column(
        "CENTROID_X",
        "double",
        "pixel",
        "mean place of the target; pixel i of the exposed area spans [i, i+1)",
    ),
    Column("CENTROID_Y", "double", "pixel"),
)
_GAIN = Column("GAIN", "double", "ADU/electron", "conversion of the detector")
STARS = Structure(
    "TRUTH_STARS",
    "stars of the field, the target first",
    columns=(
        Column("XI", "double", "arcsec", "standard coordinate about the target, East"),
        Column("ETA", "double", "arcsec", "standard coordinate about the target, North"),
        Column("MAG_GAIA", "double", "mag"),
        Column("T_EFF", "double", "K"),
        Column("FLUX", "double", "electron/s", "mean"),
    ),
)
EXPOSURES = Structure("TRUTH_EXPOSURES", "one row an exposure", columns=(_TIME, *_TARGET, _GAIN))
PIXELS = Structure(
    "TRUTH_PIXELS",
    "pixels of the window that are not as others",
    columns=(
        Column("X", "int32", "pixel", "index in the exposed area"),
        Column("Y", "int32", "pixel"),
        Column(
            "KIND",
            "int32",
            "",
            "1 hot, 2 hot since the last map, 3 telegraphic, -1 partly dead, -2 dead",
        ),
        Column("RATE", "double", "electron/s", "dark current without telegraphic steps"),
        Column("LEVEL", "double", "electron/s", "step of a telegraphic pixel"),
        Column("DWELL_LOW", "double", "s", "mean stay of a telegraphic pixel in its low level"),
        Column("DWELL_HIGH", "double", "s"),
        Column("RESPONSE", "double", "", "to light, relative"),
    ),
)
COSMICS = Structure(
    "TRUTH_COSMICS",
    "pixels that cosmic rays hit, by stack",
    columns=(
        Column("STACK", "int32"),
        Column("X", "int32", "pixel", "index in the window"),
        Column("Y", "int32", "pixel"),
        Column("CHARGE", "double", "electron"),
    ),
)
CUBES = {
    "TRUTH_TELEGRAPHIC": "charge of each telegraphic pixel in each stack [electron]",
    "TRUTH_FLAT": "response of each pixel of the window to the target's light",
    "TRUTH_DARK": "dark current of the window [electron/s], telegraphic steps apart",
    "TRUTH_BIAS": "bias of the window [ADU]",
    "TRUTH_PSF": "PSF at the target's place at the usual temperature, centred on pixel corner "
    "(100, 100)",
}


def stacks(width: int) -> Structure:
    """Return the declaration of the table with one row a stack."""
    columns = (
        Column("CE_COUNTER", "uint16", "", "counter of stacks"),
        Column("ROLL_ANGLE", "double", "deg", "SC_ROLL_ANGLE at mid-time"),
        Column("BACKGROUND", "double", "electron/pixel", "sky and stray light in a stack"),
        Column("ZODIACAL", "double", "electron/pixel"),
        Column("STRAY_LIGHT", "double", "electron/pixel", "spikes included"),
        Column("SPIKE", "double", "electron/pixel", "sudden stray light"),
        Column(
            "SLOPE_X", "double", "electron/pixel", "growth of the stray light by a pixel along x"
        ),
        Column(
            "SLOPE_Y", "double", "electron/pixel", "growth of the stray light by a pixel along y"
        ),
        Column(
            "SMEARING",
            "double",
            "electron",
            "smearing of a stack in each column, mean over the rows",
            size=width,
        ),
        Column("COSMIC_ELECTRONS", "double", "electron", "charge of cosmic rays in the window"),
        Column(
            "COSMIC_PIXELS",
            "double",
            "",
            "pixels of the window that were hit, counted in each exposure",
        ),
        Column(
            "BIAS", "double", "ADU", "offset of one exposure; the structure about it has mean zero"
        ),
        Column(
            "BLUR",
            "double",
            "pixel",
            "motion of the target inside the stack about its mean, rms of both axes together",
        ),
        Column("TELESCOPE", "double", "degC", "temperature of the front of the tube"),
        Column("SAA", "bool"),
        Column("OCCULTED", "bool"),
        Column("DAMAGED", "bool"),
        Column("STREAK", "bool", "", "a satellite crossed"),
    )
    return Structure("TRUTH_STACKS", "one row a stack", columns=(_TIME, *_TARGET, _GAIN, *columns))


class Truth:
    """What is true of each stack and each exposure, while they come in."""

    def __init__(self, plan: Plan, studio: Studio) -> None:
        self.plan, self.studio = plan, studio
        rows, names = plan.case.images, [column.name for column in _TARGET]
        self.exposure = {name: np.zeros(rows * plan.case.nexp) for name in names}
        more = [
            "BACKGROUND",
            "ZODIACAL",
            "STRAY_LIGHT",
            "SPIKE",
            "SLOPE_X",
            "SLOPE_Y",
            "COSMIC_ELECTRONS",
            "COSMIC_PIXELS",
            "BLUR",
        ]
        self.stack = {name: np.zeros(rows) for name in [*names, *more]} | {
            "SMEARING": np.zeros((rows, plan.case.width))
        }
        self.telegraphic = np.zeros((rows, studio.camera.telegraphs.level.size), np.float32)
        self.cosmics: list[Floats] = []

    def add_stack(self, n: int, exposures: list[Exposure]) -> None:
        """Note stack `n` and its exposures."""
        first = n * self.plan.case.nexp
        for e, one in enumerate(exposures, first):
            values = (one.light, one.target, one.x, one.y)
            for column, value in zip(self.exposure.values(), values, strict=True):
                column[e] = value
        track = np.concatenate([exposure.track for exposure in exposures], axis=1)
        zodiacal, stray = (
            float(np.sum([getattr(e, name) for e in exposures])) for name in ("zodiacal", "stray")
        )
        values_of_stack = {
            "FLUX": np.mean([exposure.light for exposure in exposures]),
            "TARGET": np.sum([exposure.target for exposure in exposures]),
            "CENTROID_X": track[0].mean(),
            "CENTROID_Y": track[1].mean(),
            "BACKGROUND": zodiacal + stray,
            "ZODIACAL": zodiacal,
            "STRAY_LIGHT": stray,
            "SPIKE": float(np.sum([exposure.spike for exposure in exposures])),
            "SLOPE_X": float(np.sum([exposure.slope[0] for exposure in exposures])),
            "SLOPE_Y": float(np.sum([exposure.slope[1] for exposure in exposures])),
            "SMEARING": np.sum([exposure.smearing for exposure in exposures], axis=0),
            "COSMIC_ELECTRONS": np.sum([exposure.cosmics.charge.sum() for exposure in exposures]),
            "COSMIC_PIXELS": np.sum([exposure.cosmics.charge.size for exposure in exposures]),
            "BLUR": np.sqrt(track.var(axis=1).sum()),
        }
        for name, value in values_of_stack.items():
            self.stack[name][n] = value
        self.telegraphic[n] = np.sum([exposure.telegraphic for exposure in exposures], axis=0)
        for exposure in exposures:
            hits = exposure.cosmics
            self.cosmics.append(
                np.stack([np.full(hits.row.size, n, float), hits.column, hits.row, hits.charge])
            )

    def write(self, folder: Path) -> None:
        """Write truth.fits (stacks, exposures, stars, pixels, cosmic rays, maps) and case.json."""
        plan, case = self.plan, self.plan.case
        exposure = {
            "MJD_TIME": plan.clock.mjd(plan.exposure_middle),
            **self.exposure,
            "GAIN": plan.housekeeping.gain,
        }
        cosmics = np.concatenate([*self.cosmics, np.empty((4, 0))], axis=1)
        pixels, images = self._pixels(), self._images()
        field = plan.field
        stars = {
            "XI": field.xi,
            "ETA": field.eta,
            "MAG_GAIA": field.g_magnitude,
            "T_EFF": field.teff,
            "FLUX": field.flux,
        }
        parts = [
            files.encode_table(stacks(case.width), {}, self._stacks(), case.images, plan.date),
            files.encode_table(EXPOSURES, {}, exposure, plan.exposure_middle.size, plan.date),
            files.encode_table(STARS, {}, stars, field.xi.size, plan.date),
            files.encode_table(PIXELS, {}, pixels, pixels["X"].size, plan.date),
            files.encode_table(
                COSMICS,
                {},
                dict(zip(("STACK", "X", "Y", "CHARGE"), cosmics, strict=True)),
                cosmics.shape[1],
                plan.date,
            ),
        ]
        for extname, values in images.items():
            if values.size:
                structure = Structure(extname, CUBES[extname], image="float")
                parts.append(
                    files.Part(structure, {}, values.shape, plan.date, values.astype(np.float32))
                )
        files.write(folder / "truth.fits", parts)
        settings = {"seed": plan.seed, **case.model_dump(mode="json")}
        folder.joinpath("case.json").write_text(
            json.dumps(settings, indent=1) + "\n", encoding="utf-8"
        )

    def _stacks(self) -> dict[str, NDArray[Any]]:
        plan, case = self.plan, self.plan.case
        shape = case.images, case.nexp
        drift = plan.bias_drift(plan.exposure_middle).reshape(shape).mean(axis=1)
        starts = plan.exposure_start.reshape(shape)
        streaks = np.array([streak.second for streak in self.studio.streaks])
        crossed = (
            (streaks >= starts[..., None]) & (streaks < starts[..., None] + case.exptime)
        ).any(axis=(1, 2))
        return {
            "MJD_TIME": plan.clock.mjd(plan.middle),
            "CE_COUNTER": plan.counter,
            **self.stack,
            "ROLL_ANGLE": np.interp(plan.middle, plan.attitude.time, plan.attitude.roll) % 360,
            "GAIN": plan.housekeeping.gain.reshape(shape).mean(axis=1),
            "BIAS": bias.BIAS[plan.mode.frequency] + drift,
            "TELESCOPE": plan.housekeeping.true["thermFront_2"].reshape(shape).mean(axis=1),
            "SAA": plan.schedule.saa,
            "OCCULTED": plan.schedule.occulted,
            "DAMAGED": plan.damaged,
            "STREAK": crossed,
        }

    def _pixels(self) -> dict[str, NDArray[Any]]:
        """List pixels that are hot, telegraphic or dead; a pixel that is two of these stands
        twice.
        """
        camera, window = self.studio.camera, self.studio.camera.window
        rows = slice(window.bottom, window.bottom + window.height)
        columns = slice(window.left, window.left + window.width)
        dead = flat.patterns()[3][rows, columns] & (self.plan.case.flat > 0)
        tele = camera.telegraphs
        hot = np.nonzero((camera.hot > 0) & (self.plan.case.hot > 0))
        warm, faint = np.nonzero(camera.warm), np.nonzero(dead)
        groups = [
            (HOT, hot[0], hot[1]),
            (WARM, warm[0], warm[1]),
            (TELEGRAPHIC, tele.row, tele.column),
            (DEAD, faint[0], faint[1]),
        ]
        kind = np.concatenate([np.full(row.size, code) for code, row, _ in groups])
        row, column = (np.concatenate([group[i] for group in groups]) for i in (1, 2))
        response = camera.flat[row, column]
        kind[(kind == DEAD) & (response > 0.2)] = PARTLY_DEAD
        of_tele = np.full((3, row.size), np.nan)
        of_tele[:, kind == TELEGRAPHIC] = (
            self.plan.case.telegraphic * tele.level,
            tele.low,
            tele.high,
        )
        return {
            "X": column + window.left,
            "Y": row + window.bottom,
            "KIND": kind,
            "RATE": camera.rate[row, column],
            "LEVEL": of_tele[0],
            "DWELL_LOW": of_tele[1],
            "DWELL_HIGH": of_tele[2],
            "RESPONSE": response,
        }

    def _images(self) -> dict[str, NDArray[Any]]:
        camera = self.studio.camera
        psf = np.zeros((STAMP, STAMP))
        self.studio.optics.draw_centred(psf, *self.plan.case.place)
        return {
            "TRUTH_TELEGRAPHIC": self.telegraphic,
            "TRUTH_FLAT": camera.flat,
            "TRUTH_DARK": camera.rate,
            "TRUTH_BIAS": camera.parts[0].bias,
            "TRUTH_PSF": psf,
        }
