"""The truth of a simulated visit; no pipeline may read it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from schemas.products import Column, Structure
from tasks.simulation import detector, files
from tasks.simulation.camera import Exposure
from tasks.simulation.plan import Plan

_TIME = Column("MJD_TIME", "double", "day", "mid-time, TT")
_TARGET = (
    Column("FLUX", "double", "", "relative flux of the target; 0 if occulted"),
    Column("TARGET", "double", "electron", "charge of the target on a flat detector of any size"),
    Column("CENTROID_X", "double", "pixel", "mean place of the target; pixel i of the exposed area spans [i, i+1)"),
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
        Column("FLUX", "double", "electron/s"),
    ),
)
EXPOSURES = Structure("TRUTH_EXPOSURES", "one row an exposure", columns=(_TIME, *_TARGET, _GAIN))


def stacks(width: int) -> Structure:
    """Return the declaration of the table with one row a stack."""
    columns = (
        Column("CE_COUNTER", "uint16", "", "counter of stacks"),
        Column("ROLL_ANGLE", "double", "deg", "SC_ROLL_ANGLE at mid-time"),
        Column("BACKGROUND", "double", "electron/pixel", "sky and stray light in a stack"),
        Column("SMEARING", "double", "electron", "smearing of a stack in each column", size=width),
        Column("COSMIC_ELECTRONS", "double", "electron", "charge of cosmic rays in the window"),
        Column("COSMIC_PIXELS", "double", "", "pixels of the window that were hit, counted in each exposure"),
        Column("BIAS", "double", "ADU", "offset of one exposure; the structure about it has mean zero"),
        Column("SAA", "bool"),
        Column("OCCULTED", "bool"),
    )
    return Structure("TRUTH_STACKS", "one row a stack", columns=(_TIME, *_TARGET, _GAIN, *columns))


class Truth:
    """What is true of each stack and each exposure, while they come in."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        rows, names = plan.case.images, [column.name for column in _TARGET]
        self.exposure = {name: np.zeros(rows * plan.case.nexp) for name in names}
        more = ["BACKGROUND", "COSMIC_ELECTRONS", "COSMIC_PIXELS"]
        self.stack = {name: np.zeros(rows) for name in [*names, *more]} | {"SMEARING": np.zeros((rows, plan.case.width))}

    def add_exposure(self, e: int, exposure: Exposure) -> None:
        """Note exposure number `e`."""
        values = (exposure.light, exposure.target, exposure.x, exposure.y)
        for column, value in zip(self.exposure.values(), values, strict=True):
            column[e] = value

    def add_stack(self, n: int, exposures: list[Exposure]) -> None:
        """Note stack `n`."""
        self.stack["FLUX"][n] = np.mean([exposure.light for exposure in exposures])
        self.stack["TARGET"][n] = np.sum([exposure.target for exposure in exposures])
        self.stack["CENTROID_X"][n] = np.mean([exposure.x for exposure in exposures])
        self.stack["CENTROID_Y"][n] = np.mean([exposure.y for exposure in exposures])
        self.stack["BACKGROUND"][n] = np.sum([exposure.background for exposure in exposures])
        self.stack["SMEARING"][n] = np.sum([exposure.smearing for exposure in exposures], axis=0)
        self.stack["COSMIC_ELECTRONS"][n] = np.sum([exposure.cosmics.sum() for exposure in exposures])
        self.stack["COSMIC_PIXELS"][n] = np.sum([np.count_nonzero(exposure.cosmics) for exposure in exposures])

    def write(self, folder: Path) -> None:
        """Write truth.fits (stacks, exposures, stars) and case.json."""
        plan, case, field = self.plan, self.plan.case, self.plan.field
        shape = case.images, case.nexp
        drift = plan.bias_drift(plan.exposure_middle).reshape(shape).mean(axis=1)
        roll = np.interp(plan.middle, plan.attitude.time, plan.attitude.roll) % 360
        stack = {
            "MJD_TIME": plan.clock.mjd(plan.middle),
            "CE_COUNTER": plan.counter,
            **self.stack,
            "ROLL_ANGLE": roll,
            "GAIN": plan.housekeeping.gain.reshape(shape).mean(axis=1),
            "BIAS": detector.BIAS[plan.mode.frequency] + drift,
            "SAA": plan.schedule.saa,
            "OCCULTED": plan.schedule.occulted,
        }
        exposure = {"MJD_TIME": plan.clock.mjd(plan.exposure_middle), **self.exposure, "GAIN": plan.housekeeping.gain}
        stars = {
            "XI": field.xi,
            "ETA": field.eta,
            "MAG_GAIA": field.g_magnitude,
            "T_EFF": field.teff,
            "FLUX": field.flux,
        }
        parts = [
            files.encode_table(stacks(case.width), {}, stack, case.images, plan.date),
            files.encode_table(EXPOSURES, {}, exposure, plan.exposure_middle.size, plan.date),
            files.encode_table(STARS, {}, stars, field.xi.size, plan.date),
        ]
        files.write(folder / "truth.fits", parts)
        settings = {"seed": plan.seed, **case.model_dump()}
        folder.joinpath("case.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
