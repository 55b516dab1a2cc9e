"""The truth of a simulated visit; no pipeline may read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from schemas.arrays import AnyArray, FloatArray
from schemas.products import Column, Structure
from tasks.simulation import bias, files, flat
from tasks.simulation.camera import Exposure
from tasks.simulation.observatory import Observatory
from tasks.simulation.plan import Plan

HOT, WARM, TELEGRAPHIC, PARTLY_DEAD, DEAD = 1, 2, 3, -1, -2
STAMP = 200  # size of the image of the true PSF [pixel]

_TIME = Column("MJD_TIME", "double", "day", "mid-time, TT")
_TARGET = (
    Column("FLUX", "double", "", "relative flux of the target; 0 if occulted"),
    Column("TARGET", "double", "electron", "charge of the target on a flat, unlimited detector"),
    Column(
        "CENTROID_X",
        "double",
        "pixel",
        "mean position of the target; pixel i of the exposed area spans [i, i+1)",
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
EXPOSURES = Structure("TRUTH_EXPOSURES", "one row per exposure", columns=(_TIME, *_TARGET, _GAIN))
PIXELS = Structure(
    "TRUTH_PIXELS",
    "hot, telegraphic and dead pixels of the window",
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
    "pixels hit by cosmic rays, by stack",
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
    "TRUTH_DARK": "dark current of the window [electron/s], without telegraphic steps",
    "TRUTH_BIAS": "bias of the window [ADU]",
    "TRUTH_PSF": "PSF at the target's position and the usual temperature, centred on pixel corner "
    "(100, 100)",
}


STACK_COLUMNS = (
    Column("CE_COUNTER", "uint16", "", "counter of stacks"),
    Column("ROLL_ANGLE", "double", "deg", "SC_ROLL_ANGLE at mid-time"),
    Column("BACKGROUND", "double", "electron/pixel", "sky and stray light in a stack"),
    Column("ZODIACAL", "double", "electron/pixel"),
    Column("STRAY_LIGHT", "double", "electron/pixel", "spikes included"),
    Column("SPIKE", "double", "electron/pixel", "sudden stray light"),
    Column("SLOPE_X", "double", "electron/pixel", "increase of the stray light per pixel along x"),
    Column("SLOPE_Y", "double", "electron/pixel", "increase of the stray light per pixel along y"),
    Column("SMEARING", "double", "electron", "smearing of a stack by column, mean over the rows"),
    Column("COSMIC_ELECTRONS", "double", "electron", "charge of cosmic rays in the window"),
    Column("COSMIC_PIXELS", "double", "", "pixels of the window hit, counted in each exposure"),
    Column("BIAS", "double", "ADU", "offset of an exposure; its structure has mean zero"),
    Column("BLUR", "double", "pixel", "motion of the target within the stack, rms of both axes"),
    Column("TELESCOPE", "double", "degC", "temperature of the front of the tube"),
    Column("SAA", "bool"),
    Column("OCCULTED", "bool"),
    Column("DAMAGED", "bool"),
    Column("STREAK", "bool", "", "a satellite crossed"),
)
# the columns that add up or average the exposures of a stack
SUMMED = ("BACKGROUND", "ZODIACAL", "STRAY_LIGHT", "SPIKE", "SLOPE_X", "SLOPE_Y")
COUNTED = ("COSMIC_ELECTRONS", "COSMIC_PIXELS", "BLUR")


def stacks(width: int) -> Structure:
    """Declare the table of stacks, one row per stack, for a window of so many columns."""
    columns = (
        replace(column, size=width) if column.name == "SMEARING" else column
        for column in STACK_COLUMNS
    )
    return Structure(
        "TRUTH_STACKS", "one row per stack", columns=(_TIME, *_TARGET, _GAIN, *columns)
    )


class Truth:
    """The truth of each stack and each exposure, collected as they are taken."""

    def __init__(self, plan: Plan, observatory: Observatory) -> None:
        self.plan, self.observatory = plan, observatory
        rows, names = plan.case.images, [column.name for column in _TARGET]
        self.exposure = {name: np.zeros(rows * plan.case.nexp) for name in names}
        self.stack = {name: np.zeros(rows) for name in (*names, *SUMMED, *COUNTED)} | {
            "SMEARING": np.zeros((rows, plan.case.width))
        }
        self.telegraphic = np.zeros((rows, observatory.camera.telegraphs.level.size), np.float32)
        self.cosmics: list[FloatArray] = []

    def add_stack(self, n: int, exposures: list[Exposure]) -> None:
        """Record stack `n` and its exposures."""
        for e, one in enumerate(exposures, n * self.plan.case.nexp):
            values = (one.light, one.target, one.x, one.y)
            for column, value in zip(self.exposure.values(), values, strict=True):
                column[e] = value
            hits = one.cosmics
            self.cosmics.append(
                np.stack([np.full(hits.row.size, n, float), hits.column, hits.row, hits.charge])
            )
        for name, value in _stack_values(exposures).items():
            self.stack[name][n] = value
        self.telegraphic[n] = np.sum([exposure.telegraphic for exposure in exposures], axis=0)

    def write(self, folder: Path) -> None:
        """Write truth.fits (stacks, exposures, stars, pixels, cosmic rays, maps) and case.json."""
        files.write(folder / "truth.fits", [*self._tables(), *self._maps()])
        settings = {"seed": self.plan.seed, **self.plan.case.model_dump(mode="json")}
        folder.joinpath("case.json").write_text(
            json.dumps(settings, indent=1) + "\n", encoding="utf-8"
        )

    def _tables(self) -> list[files.Part]:
        plan, field = self.plan, self.plan.field
        exposures = {
            "MJD_TIME": plan.clock.mjd(plan.exposure_middle),
            **self.exposure,
            "GAIN": plan.housekeeping.gain,
        }
        stars = {
            "XI": field.xi,
            "ETA": field.eta,
            "MAG_GAIA": field.g_magnitude,
            "T_EFF": field.teff,
            "FLUX": field.flux,
        }
        hits = np.concatenate([*self.cosmics, np.empty((4, 0))], axis=1)
        cosmics = dict(zip(("STACK", "X", "Y", "CHARGE"), hits, strict=True))
        tables: list[tuple[Structure, Mapping[str, AnyArray], int]] = [
            (stacks(plan.case.width), self._stacks(), plan.case.images),
            (EXPOSURES, exposures, plan.exposure_middle.size),
            (STARS, stars, field.xi.size),
            (PIXELS, pixels := self._pixels(), pixels["X"].size),
            (COSMICS, cosmics, hits.shape[1]),
        ]
        return [
            files.encode_table(structure, {}, columns, rows, plan.date)
            for structure, columns, rows in tables
        ]

    def _maps(self) -> list[files.Part]:
        return [
            files.Part(
                Structure(extname, CUBES[extname], image="float"),
                {},
                values.shape,
                self.plan.date,
                values.astype(np.float32),
            )
            for extname, values in self._images().items()
            if values.size
        ]

    def _stacks(self) -> dict[str, AnyArray]:
        plan, case = self.plan, self.plan.case
        shape = case.images, case.nexp
        drift = plan.bias_drift(plan.exposure_middle).reshape(shape).mean(axis=1)
        starts = plan.exposure_start.reshape(shape)
        streaks = np.array([streak.second for streak in self.observatory.streaks])
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

    def _pixels(self) -> dict[str, AnyArray]:
        """List the hot, telegraphic and dead pixels; one that is two of these is listed twice."""
        case, camera, window = self.plan.case, self.observatory.camera, self.plan.case.window
        dead = flat.patterns()[3][window.rows, window.columns] & (case.flat > 0)
        telegraphs = camera.telegraphs
        groups = {
            HOT: np.nonzero((camera.hot > 0) & (case.hot > 0)),
            WARM: np.nonzero(camera.warm),
            TELEGRAPHIC: (telegraphs.row, telegraphs.column),
            DEAD: np.nonzero(dead),
        }
        kind = np.concatenate([np.full(row.size, code) for code, (row, _) in groups.items()])
        row, column = (np.concatenate(indices) for indices in zip(*groups.values(), strict=True))
        response = camera.flat[row, column]
        kind[(kind == DEAD) & (response > 0.2)] = PARTLY_DEAD
        level, low, high = np.full((3, row.size), np.nan)
        for column_values, values in (
            (level, case.telegraphic * telegraphs.level),
            (low, telegraphs.low),
            (high, telegraphs.high),
        ):
            column_values[kind == TELEGRAPHIC] = values
        return {
            "X": column + window.left,
            "Y": row + window.bottom,
            "KIND": kind,
            "RATE": camera.rate[row, column],
            "LEVEL": level,
            "DWELL_LOW": low,
            "DWELL_HIGH": high,
            "RESPONSE": response,
        }

    def _images(self) -> dict[str, AnyArray]:
        camera = self.observatory.camera
        psf = np.zeros((STAMP, STAMP))
        self.observatory.optics.draw_centred(psf, *self.plan.case.place)
        return {
            "TRUTH_TELEGRAPHIC": self.telegraphic,
            "TRUTH_FLAT": camera.flat,
            "TRUTH_DARK": camera.rate,
            "TRUTH_BIAS": camera.parts[0].bias,
            "TRUTH_PSF": psf,
        }


def _stack_values(exposures: list[Exposure]) -> dict[str, Any]:
    """Return the truth of a stack that follows from its exposures, by column."""

    def total(values: Iterable[float]) -> float:
        return float(np.sum(list(values)))

    track = np.concatenate([exposure.track for exposure in exposures], axis=1)
    zodiacal, stray = total(e.zodiacal for e in exposures), total(e.stray for e in exposures)
    return {
        "FLUX": np.mean([exposure.light for exposure in exposures]),
        "TARGET": total(exposure.target for exposure in exposures),
        "CENTROID_X": track[0].mean(),
        "CENTROID_Y": track[1].mean(),
        "BACKGROUND": zodiacal + stray,
        "ZODIACAL": zodiacal,
        "STRAY_LIGHT": stray,
        "SPIKE": total(exposure.spike for exposure in exposures),
        "SLOPE_X": total(exposure.slope[0] for exposure in exposures),
        "SLOPE_Y": total(exposure.slope[1] for exposure in exposures),
        "SMEARING": np.sum([exposure.smearing for exposure in exposures], axis=0),
        "COSMIC_ELECTRONS": total(exposure.cosmics.charge.sum() for exposure in exposures),
        "COSMIC_PIXELS": total(exposure.cosmics.charge.size for exposure in exposures),
        "BLUR": np.sqrt(track.var(axis=1).sum()),
    }
