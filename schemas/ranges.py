"""Ranges of the values in input files: what a number may be, whatever file it comes from.

A well-formed file may hold an absurd number, such as a declination of 1e30. Every numeric keyword
and column that a step reads therefore has a range. A value outside of it is refused, or counts as
missing (NaN) if the pipeline knows how to go on without it. NaN itself is never outside, nor is
infinity where values are refused: each step decides what they mean. Ranges are wide enough for
every instrument mode and for simulated visits; they are there to catch glitches, wrong units and
wrong conventions, not to judge the instrument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schemas.arrays import AnyArray, BoolArray

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Allowed:
    """Values that a keyword or a cell of a column may have.

    They lie within [`low`, `high`], `low` excluded if `above`, or are among `choices`. Cells of a
    column outside count as `missing`, or are refused.
    """

    low: float = float("-inf")
    high: float = float("inf")
    above: bool = False
    choices: tuple[Value, ...] = ()
    missing: bool = False

    def permits(self, value: Value) -> bool:
        """Whether `value` is allowed."""
        if self.choices:
            return value in self.choices
        number = float(value)
        return (number > self.low if self.above else number >= self.low) and number <= self.high

    def outside(self, values: AnyArray) -> BoolArray:
        """Return where numbers are not allowed; NaN is not outside."""
        if self.choices:
            return ~np.isin(values, self.choices)
        below = values <= self.low if self.above else values < self.low
        return np.asarray(below | (values > self.high))

    def __str__(self) -> str:
        if self.choices:
            return " or ".join(repr(c) for c in self.choices)
        if self.high == float("inf"):
            return f"{'more than' if self.above else 'at least'} {self.low:g}"
        return (
            f"more than {self.low:g}, at most {self.high:g}"
            if self.above
            else f"{self.low:g} to {self.high:g}"
        )


def plausible(low: float, high: float) -> Allowed:
    """Return a range outside of which a value counts as missing."""
    return Allowed(low, high, missing=True)


# identifiers and counters of 16 and 32 bits: any value of their type may occur
ANY_16 = Allowed(0, 65_535)
ANY_32 = Allowed(0, 4_294_967_295)

COUNT = Allowed(1, 10_000)  # exposures of a stack; on board at most some hundred
EXPOSURE = Allowed(0, 600, above=True)  # [s]; at most 60 s in flight
STACK = Allowed(0, 100_000, above=True)  # [s]; all exposures of a stack, a day at most
PIXEL = Allowed(0, 1023)  # first pixel of a window on the exposed area, 1024 x 1024
FREQUENCY = Allowed(10_000, 1_000_000)  # [Hz]; the CCD is read at 100 and 230 kHz
# MJD of 2000 and 2100: the satellite was launched in 2019, simulated visits lie near that. 0, a
# negative time, a Julian date (2.4 million) and the largest double are outside.
MJD = Allowed(51_544, 88_069)
ANGLE = plausible(0, 180)  # from the line of sight to Sun and Moon [deg]; only digits of EVENT
LIMB = plausible(-90, 180)  # to the Earth's limb [deg], negative behind the Earth
LATITUDE = plausible(-90, 90)
LONGITUDE = plausible(-360, 360)  # files use -180 to 180 and 0 to 360
RIGHT_ASCENSION = Allowed(0, 360)
DECLINATION = Allowed(-90, 90)
# The CCD is kept at -40 or -45 deg C within millikelvin; without cooling it is read for tests only.
# 0, which telemetry uses for "not measured", is outside.
CCD = plausible(-80, -10)
# boxes of the electronics and tube of the telescope: between survival limits
BOX = plausible(-80, 80)
# Voltages of the CCD differ from their nominal values (30.8, 17.8, 3.05 and 8.8 V) by millivolts in
# a visit and by tenths of a volt over years. The gain changes by 3 % a volt.
VOD = plausible(28, 34)
VRD = plausible(15, 21)
VOG = plausible(1, 5)
VSS = plausible(7, 11)
MAGNITUDE = plausible(-5, 30)  # 99 and -99 stand for an unknown magnitude in many catalogues
TEMPERATURE_OF_STAR = plausible(500, 300_000)  # [K]; 0 stands for an unknown one
SPECTRAL_GRID = Allowed(500, 300_000)  # [K]; of flat fields, spectra and colours
WAVELENGTH = Allowed(100, 2_000)  # [nm]; the CCD sees 330 to 1100 nm. Angstroms are outside
SHARE = Allowed(0, 1)
# Electrons of one exposure, before and after linearisation: the full well holds 1.2e5 and the
# converter reaches 1.3e5. Splines start a little below 0.
ELECTRONS = Allowed(-100_000, 10_000_000)
DURATION = Allowed(0, 60_000)  # [ms]; a whole read-out takes 11 s
LIMIT = plausible(-1e6, 1e6)  # of any housekeeping value; beyond, there is no limit

COLUMNS: Mapping[str, Allowed] = {
    "MJD_TIME": MJD,
    "LOS_TO_SUN_ANGLE": ANGLE,
    "LOS_TO_MOON_ANGLE": ANGLE,
    "LOS_TO_EARTH_ANGLE": LIMB,
    "LATITUDE": LATITUDE,
    "LONGITUDE": LONGITUDE,
    "CE_COUNTER": ANY_16,
    "CE_INTEGRITY": Allowed(0, 255),  # 0 is good, any other value a problem
    "HK_VOLT_FEE_VOD": VOD,
    "HK_VOLT_FEE_VRD": VRD,
    "HK_VOLT_FEE_VOG": VOG,
    "HK_VOLT_FEE_VSS": VSS,
    "HK_TEMP_FEE_CCD": CCD,
    "HK_TEMP_FEE_ADC": BOX,
    "HK_TEMP_FEE_BIAS": BOX,
    "ADC_N5V": plausible(-6, -4),  # a supply of -5 V
    "ADC_TEMP1": BOX,
    **{f"therm{end}_{i}": BOX for end in ("Aft", "Front") for i in (1, 2, 3, 4)},
    "NEXP": COUNT,
    "X_OFF_FULL_ARRAY": PIXEL,
    "Y_OFF_FULL_ARRAY": PIXEL,
    "TARGET_LOCATION_X": plausible(0, 1024),
    "TARGET_LOCATION_Y": plausible(0, 1024),
    "STRAY_LIGHT_THRESHOLD": Allowed(0, 1e12),  # photons per pixel and second; 1e9 means none
    "STRAY_LIGHT": plausible(0, 1e15),  # far above any threshold
    # the satellite is 7080 km from the centre of the Earth, and 7.5 km/s fast; beyond 10 000 km and
    # 12 km/s it would not be in a low orbit, and metres would be kilometres
    **{axis: Allowed(-10_000, 10_000) for axis in "XYZ"},
    **{f"{axis}_DOT": Allowed(-12, 12) for axis in "XYZ"},
    "RA": RIGHT_ASCENSION,
    "DEC": DECLINATION,
    "MAG_GAIA": MAGNITUDE,
    "T_EFF": SPECTRAL_GRID,
    "RO_FREQU": FREQUENCY,
    "RO_SCRPT": ANY_16,
    "BIAS_OFFSET": Allowed(0, 10_000, above=True),  # [ADU]; 560 to 950 by frequency and year
    "BIAS_OFFSET_ERR": Allowed(0, 1_000),  # [ADU]
    "RON": Allowed(0.5, 10),  # [ADU], 1 to 20 electrons; 3.5 at 100 kHz and 7.2 at 230 kHz
    "FACTOR": Allowed(-1, 1),  # of the gain, for a volt or a kelvin; at most 0.03
    **{f"EXP_{x}": Allowed(0, 9) for x in ("VSS", "VOD", "VRD", "VOG", "TEMP")},  # at most 3
    "BOUNDARY": ELECTRONS,
    "COEF_0": ELECTRONS,
    "COEF_1": Allowed(-100, 100),  # near 1, at saturation some units
    "COEF_2": Allowed(-1, 1),  # a thousandth at most
    "COEF_3": Allowed(-1, 1),
    "NON_LINEAR": ELECTRONS,
    "CORRECTED": ELECTRONS,
    "WAVELENGTH": WAVELENGTH,
    "FLUX": Allowed(0, 1e15),  # of a model star at its surface; 3e7 at 7200 K
    "TEMPERATUR": SPECTRAL_GRID,
    "THROUGHPUT": SHARE,
    "QE": SHARE,
    "PIXEL_SCALE": Allowed(0.9, 1.1),  # [arcsec]; the optics are fixed at 1.00 to 1.01
    "ROW_READ_OUT": DURATION,
    "ROW_READ_OUT_OFFSET": DURATION,
    "MIN_LOS_TO_SUN_ANGLE": Allowed(0, 180),
    "MIN_LOS_TO_MOON_ANGLE": Allowed(0, 180),
    "MIN_LOS_TO_EARTH_ANGLE": Allowed(-90, 180),
    "UPPER_LIMIT": LIMIT,
    "LOWER_LIMIT": LIMIT,
    "CHEOPSMAG_MINUS_GMAG": Allowed(-5, 5),  # 0.1 for the coolest stars
}
# where a column means something else than elsewhere, by EXTNAME
OF_STRUCTURE: Mapping[str, Mapping[str, Allowed]] = {
    # one row a second: single wrong ones can be spared
    "SCI_RAW_Attitude": {
        "MJD_TIME": plausible(MJD.low, MJD.high),
        "SC_RA": plausible(0, 360),
        "SC_DEC": plausible(-90, 90),
        "SC_ROLL_ANGLE": plausible(-360, 360),  # files use 0 to 360 and -180 to 180
    },
    # single stars and rows can be spared too
    "EXT_PRE_StarCatalogue": {
        "RA": plausible(0, 360),
        "DEC": plausible(-90, 90),
        "T_EFF": TEMPERATURE_OF_STAR,
    },
    "AUX_RES_Orbit": {
        **{axis: plausible(-10_000, 10_000) for axis in "XYZ"},
        **{f"{axis}_DOT": plausible(-12, 12) for axis in "XYZ"},
    },
    **{
        name: {"MJD_TIME": plausible(MJD.low, MJD.high)}
        for name in ("AUX_RES_VisitConstraints", "MPS_PRE_VisitConstraints")
    },
    "MPS_PRE_Visits": {"STRAY_LIGHT_THRESHOLD": plausible(0, 1e12)},
    "EXT_APP_SAAMap": {"LATITUDE": Allowed(-90, 90), "LONGITUDE": Allowed(-360, 360)},
}


def column_ranges(extname: str) -> Mapping[str, Allowed]:
    """Return the ranges of the columns of an input, by name."""
    return {**COLUMNS, **OF_STRUCTURE.get(extname, {})}


# What the pipeline itself measures may be anything, and is flagged; a replacement made by hand may
# not. By unit: a value beyond these is in another unit, or wrong.
OF_UNIT: Mapping[str, Allowed] = {
    "day": Allowed(-1e6, 2_400_000.5 + MJD.high),  # differences, MJD and full Julian dates
    "deg": Allowed(-1e6, 1e6),  # the roll angle turns once an orbit, and is summed over a visit
    "arcsec": Allowed(-36_000, 36_000),  # ten degrees about the target
    "pixel": Allowed(-100_000, 100_000),
    "mag": Allowed(MAGNITUDE.low, MAGNITUDE.high),
    "K": Allowed(0, 1_000_000),
    "s": Allowed(-1e7, 1e7),
    "ADU": Allowed(-1e9, 1e9),
    "ADU/electron": Allowed(0, 100),
}
OF_OTHER_UNITS = Allowed(-1e20, 1e20)


def unit_range(unit: str) -> Allowed:
    """Return the range of a value with this unit in a replacement made by hand."""
    return OF_UNIT.get(unit, OF_OTHER_UNITS)
