"""The truth of a simulated visit; no pipeline may read it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from schemas.products import Column, Structure
from tasks.simulation import files
from tasks.simulation.camera import Exposure
from tasks.simulation.plan import Plan


class Truth:
    """What is true of each stack and each exposure; no pipeline may read it."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        case = visit.case
        rows = case.images
        names = "FLUX TARGET CENTROID_X CENTROID_Y BACKGROUND COSMIC_ELECTRONS COSMIC_PIXELS".split()
        self.stack = {name: np.zeros(rows) for name in names}
        self.stack["SMEARING"] = np.zeros((rows, case.width))
        self.exposure = {name: np.zeros(rows * case.nexp) for name in ("FLUX", "TARGET", "CENTROID_X", "CENTROID_Y")}

    def add_exposure(self, e: int, exposure: Exposure) -> None:
        """Note exposure number `e`."""
        values = (exposure.light, exposure.target, exposure.x, exposure.y)
        for column, value in zip(self.exposure.values(), values, strict=True):
            column[e] = value

    def add_stack(self, n: int, exposures: list[Exposure]) -> None:
        """Note stack `n`."""
        cosmics = np.sum([exposure.cosmics for exposure in exposures], axis=0)
        self.stack["FLUX"][n] = np.mean([exposure.light for exposure in exposures])
        self.stack["TARGET"][n] = np.sum([exposure.target for exposure in exposures])
        self.stack["CENTROID_X"][n] = np.mean([exposure.x for exposure in exposures])
        self.stack["CENTROID_Y"][n] = np.mean([exposure.y for exposure in exposures])
        self.stack["BACKGROUND"][n] = np.sum([exposure.background for exposure in exposures])
        self.stack["SMEARING"][n] = np.sum([exposure.smearing for exposure in exposures], axis=0)
        self.stack["COSMIC_ELECTRONS"][n] = cosmics.sum()
        self.stack["COSMIC_PIXELS"][n] = np.count_nonzero(cosmics)

    def write(self) -> None:
        """Write truth.fits (stacks, exposures, stars) and case.json."""
        visit, case = self.visit, self.visit.case
        roll = np.interp(visit.middle, visit.attitude.time, visit.attitude.roll) % 360
        gain = visit.housekeeping.gain.reshape(case.images, case.nexp).mean(axis=1)
        drift = case.bias_drift * np.sin(2 * np.pi * visit.exposure_middle / PERIOD)
        bias = visit.offset_bias + drift.reshape(case.images, case.nexp).mean(axis=1)
        stack = {
            "MJD_TIME": visit.clock.mjd(visit.middle),
            "CE_COUNTER": visit.counter,
            **self.stack,
            "ROLL_ANGLE": roll,
            "GAIN": gain,
            "BIAS": bias,
            "SAA": visit.flagged_saa,
            "OCCULTED": visit.flagged_occulted,
        }
        exposure = {"MJD_TIME": visit.clock.mjd(visit.exposure_middle), **self.exposure, "GAIN": visit.housekeeping.gain}
        field = visit.field
        stars = {"XI": field.xi, "ETA": field.eta, "MAG_GAIA": field.g_magnitude, "T_EFF": field.teff, "FLUX": field.flux}
        parts = [
            files.encode_table(_truth_structure(name, case.width), {}, columns, rows, visit.date)
            for name, columns, rows in (
                ("TRUTH_STACKS", stack, case.images),
                ("TRUTH_EXPOSURES", exposure, visit.exposure_middle.size),
                ("TRUTH_STARS", stars, field.xi.size),
            )
        ]
        files.write(visit.folder / "truth" / "truth.fits", parts)
        settings = {"seed": visit.seed, **case.model_dump()}
        visit.folder.joinpath("truth", "case.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _truth_structure(name: str, width: int) -> Structure:
    time = Column("MJD_TIME", "double", "day", "mid-time, TT")
    flux = Column("FLUX", "double", "", "relative flux of the target")
    target = Column("TARGET", "double", "electron", "charge of the target on a flat detector of any size")
    x = Column("CENTROID_X", "double", "pixel", "mean place of the target; pixel i spans [i, i+1) of the exposed area")
    y = Column("CENTROID_Y", "double", "pixel")
    gain = Column("GAIN", "double", "ADU/electron")
    if name == "TRUTH_EXPOSURES":
        return Structure(name, columns=(time, flux, target, x, y, gain))
    if name == "TRUTH_STARS":
        units = {"XI": "arcsec", "ETA": "arcsec", "MAG_GAIA": "mag", "T_EFF": "K", "FLUX": "electron/s"}
        return Structure(name, columns=tuple(Column(star, "double", unit) for star, unit in units.items()))
    more = (
        Column("CE_COUNTER", "uint16"),
        Column("ROLL_ANGLE", "double", "deg", "SC_ROLL_ANGLE at mid-time"),
        Column("BACKGROUND", "double", "electron/pixel", "sky and stray light, a stack"),
        Column("SMEARING", "double", "electron", "in each column, a stack", size=width),
        Column("COSMIC_ELECTRONS", "double", "electron", "in the window"),
        Column("COSMIC_PIXELS", "double", "", "pixels of the window that were hit"),
        gain,
        Column("BIAS", "double", "ADU", "offset of one exposure; the structure has mean zero"),
        Column("SAA", "bool"),
        Column("OCCULTED", "bool"),
    )
    return Structure(name, columns=(time, flux, target, x, y, *more))
