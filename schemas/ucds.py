"""The UCD of every column that is written: its meaning for the Virtual Observatory.

Names mean the same in all tables but for the unit: a column in electron**2 is a variance.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.products import Column

_COUNT, _ERROR = "phot.count", "stat.error;phot.count"

# UCD, and the names of the columns that have it
_NAMES: Mapping[str, str] = {
    "time.epoch": "MJD_TIME BJD_TIME UTC_TIME TIME BJD_TDB",
    "time.interval": "SAT_LIGHT_TIME",
    "arith.rate;time.interval": "SAT_LIGHT_RATE",
    "meta.code.qual": "EVENT QUALITY STATUS VALIDITY CE_INTEGRITY",
    "meta.code.class": "KIND WAY",
    "meta.code": "SAMPLED TARGET OF",
    "meta.id": "DATANAME NAME RELATED_DATA CTYPE1 CTYPE2",
    "meta.unit": "UNIT CUNIT1 CUNIT2",
    "meta.number;obs.image": "IMAGE_INDEX IMAGE_NUM CE_COUNTER STACK IMAGETTE FIRST ACQUISITION_ID",
    "meta.number;obs.exposure": "NEXP",
    "meta.number;instr.pixel": "ALL INSIDE HITS PIXELS NUM_PIXELS",
    "meta.number": "FLIPS BEYOND MISSING N_GOOD",
    _COUNT: "FLUX PSF_FLUX OPT_FLUX FIXED SUM TOTAL RAW BIAS LINEARITY FLAT CALIBRATED STATIC "
    "TELEGRAPHIC COSMIC_RAYS DEAD AMOUNT GAP LOW FLUX_DETRENDED",
    "phot.count;arith.diff": "TAKEN_TEMPERATURE TAKEN_ROLL TAKEN_BACKGROUND TAKEN_PLACE "
    "TAKEN_SMEARING TAKEN_CONTAMINATION",
    _ERROR: "FLUXERR FLUX_ERR PSF_ERR OPT_ERR FIXED_ERR SUM_ERR TOTAL_ERR SIGMA",
    "phot.count;instr.background": "BACKGROUND RING DARK SMEARING SMEARING_LC HOT SKY LEVEL",
    "stat.error;instr.background": "BKG_ERROR LEVEL_ERR",
    "arith.grad;instr.background": "SLOPE_X SLOPE_Y",
    "phot.flux;arith.ratio": "CONTA_LC CONTA RATIO SHARE",
    "stat.error;phot.flux;arith.ratio": "CONTA_LC_ERR CONTA_ERR",
    "stat.error;instr.background;arith.ratio": "SMEARING_LC_ERR",
    "phot.count;arith.ratio": "LOSS",
    "arith.factor": "SCALE REPLACED MASKED HIGH_SHARE",
    "phot.count;stat.mean": "ROBMEAN",
    "stat.value;stat.median": "MEDIAN",
    "stat.stdev;phot.count": "ROBSTD MAD P2PSTD ROB_PPM P2P_PPM CDPP2_5 CDPP6_5 CDPP_30M CDPP_3H "
    "CDPP_6H NOISE",
    "stat.error": "FORM_PPM ERROR",
    "stat.fit.chi2": "CHI2",
    "stat.fit.param": "COEF_0 COEF_1 COEF_2 COEF_3 BOUNDARY NODE",
    "stat.weight": "WEIGHT",
    "stat.value;stat.min": "LEAST LOWER",
    "stat.value;stat.max": "LARGEST UPPER",
    "stat.value": "VALIDPTS",
    "instr.det.noise": "RON READ_OUT",
    "instr.calib": "GAIN",
    "stat.error;instr.calib": "GAIN_ERR",
    "pos.cartesian.x;instr.det": "X CENTROID_X LOCATION_X X_CENT_POS X_OFF_FULL_ARRAY "
    "X_OFF_SUB_ARRAY",
    "pos.cartesian.y;instr.det": "Y CENTROID_Y LOCATION_Y Y_CENT_POS Y_OFF_FULL_ARRAY "
    "Y_OFF_SUB_ARRAY",
    "stat.error;pos.cartesian.x;instr.det": "X_ERR",
    "stat.error;pos.cartesian.y;instr.det": "Y_ERR",
    "pos.cartesian.x;instr.det;arith.diff": "OFFSET_X DX",
    "pos.cartesian.y;instr.det;arith.diff": "OFFSET_Y DY",
    "pos.posAng;instr.det": "ROLL_ANGLE POS_ANGLE",
    "pos;stat.stdev": "BLUR",
    "pos.cartesian.x": "XI",
    "pos.cartesian.y": "ETA",
    "pos.eq.ra": "SC_RA",
    "pos.eq.dec": "SC_DEC",
    "pos.wcs.cdmatrix": "CD1_1 CD1_2 CD2_1 CD2_2",
    "pos.wcs.crpix": "CRPIX1 CRPIX2",
    "pos.wcs.crval": "CRVAL1 CRVAL2",
    "pos.angDistance": "EARTH_LIMB LOS_TO_EARTH_ANGLE LOS_TO_MOON_ANGLE LOS_TO_SUN_ANGLE",
    "pos.earth.lat": "LATITUDE",
    "pos.earth.lon": "LONGITUDE",
    "phys.angArea;instr.pixel": "AREA FIXED_AREA",
    "phys.size.radius;instr.pixel": "RADIUS",
    "phys.size.smajAxis;instr.pixel": "SIZE_SMAJOR_AXIS",
    "phys.size.sminAxis;instr.pixel": "SIZE_SMINOR_AXIS",
    "src.ellipticity": "ELLIPTICITY",
    "phot.mag;em.opt": "MAG",
    "phys.temperature.effective": "T_EFF",
    "phys.temperature;instr": "ADC_TEMP1 HK_TEMP_FEE_ADC HK_TEMP_FEE_BIAS HK_TEMP_FEE_CCD "
    "thermAft_1 thermAft_2 thermAft_3 thermAft_4 thermFront_1 thermFront_2 thermFront_3 "
    "thermFront_4",
    "phys.electField;instr": "ADC_N5V HK_VOLT_FEE_VOD HK_VOLT_FEE_VOG HK_VOLT_FEE_VRD "
    "HK_VOLT_FEE_VSS",
}
UCDS: Mapping[str, str] = {name: ucd for ucd, names in _NAMES.items() for name in names.split()}


def ucd_of(column: Column) -> str:
    """Return the UCD of a column; empty for one that is only read."""
    if column.unit == "electron**2":
        return "stat.variance;phot.count"
    return UCDS.get(column.name, "")
