"""The raw products in the SOC's structures: names, keywords, columns, and all files of tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from schemas.arrays import AnyArray, FloatArray
from schemas.products import soc_structure
from tasks.simulation import bias, field, files, gain, layout, spectrum
from tasks.simulation.plan import LEAD, PIXEL_SCALE, Plan, present
from tasks.simulation.spacecraft import draw_housekeeping, from_standard, line_of_sight

Columns = dict[str, Any]

VOLTAGES = ("VOD", "VRD", "VOG", "VSS")
HK_CADENCE = 20.0  # [s]
NO_SENSOR = (  # columns of the extended housekeeping that are not modelled
    "TEMP_FEE_STRAP",
    "TEMP_FEE_DEB",
    "VOLT_FEE_CLK",
    "VOLT_FEE_ANA_P5",
    "VOLT_FEE_ANA_N5",
    "VOLT_FEE_ANA_P3_3",
    "CURR_FEE_CLK_BUF",
    "VOLT_SCU_FPGA_P1_5",
    "CURR_SCU_P3_4",
)
# errors of the catalogue [arcsec, mag, K]
POSITION_ERROR, MAGNITUDE_ERROR, TEFF_ERROR = 0.5e-3, 0.02, 100.0
# fraction of the stars without a proper motion: their positions are those of the epoch
UNMOVED, CATALOGUE_EPOCH = 0.05, 2016.0


def product_path(
    folder: Path, plan: Plan, extname: str, seconds: float, dataname: str = ""
) -> Path:
    """Return the path of a product; `seconds` is the time in its name."""
    case = plan.case
    visit = ""
    if extname.startswith("MPS_") or "REQ_ID" in soc_structure(extname).keywords:
        programme = f"PR{case.programme_type:02d}{case.programme:04d}"
        visit = f"{programme}_TG{case.request:04d}{case.visit_counter:02d}_"
    date = plan.clock.stamp(seconds)[:19].replace(":", "-")
    dash = f"-{dataname}" if dataname else ""
    return folder / f"CH_{visit}TU{date}_{extname}{dash}_V0000.fits"


def keywords(
    plan: Plan, extname: str, first: float, last: float, more: Mapping[str, Any]
) -> Columns:
    """Return the keywords that `extname` declares, valid from `first` to `last` [s]."""
    clock = plan.clock
    values = {
        "PROC_CHN": "simulation",
        "ARCH_REV": 0,
        "PROC_NUM": 0,
        "V_STRT_U": clock.stamp(first),
        "V_STOP_U": clock.stamp(last),
        "V_STRT_M": clock.mjd(first),
        "V_STOP_M": clock.mjd(last),
        **_visit_keywords(plan),
        "ROUNDING": 0,
        "NLIN_COR": False,
        "RO_HW": "main",
        **more,
    }
    declared = soc_structure(extname).keywords
    return {name: value for name, value in values.items() if name in declared}


def _visit_keywords(plan: Plan) -> Columns:
    """Return the keywords that identify the visit and describe its target."""
    case = plan.case
    return {
        "PI_NAME": "simulation",
        "PI_UID": 0,
        "PROGTYPE": case.programme_type,
        "PROG_ID": case.programme,
        "REQ_ID": case.request,
        "VISITCTR": case.visit_counter,
        "OBSID": plan.obsid,
        "PRP_VST1": 365,
        "PRP_VSTN": 548,
        "TARGNAME": case.target_name,
        "SPECTYPE": case.spectral_type,
        "T_EFF": case.teff,
        "MAG_G": case.magnitude,
        "MAG_GERR": 0.001,
        "MAG_CHPS": spectrum.cheops_magnitude(case.magnitude, case.teff),
        "MAG_CERR": 0.01,
        "RA_TARG": plan.orbit.ra,
        "DEC_TARG": plan.orbit.dec,
    }


def exposure_keywords(
    plan: Plan, middle: FloatArray, nexp: int, mode: layout.Mode, repetition: float
) -> Columns:
    """Return the keywords of a series of images at mid-times `middle`, shape (n,) [s]."""
    case, clock = plan.case, plan.clock
    words: Columns = {}
    for name, seconds in (("STRT", float(middle[0])), ("STOP", float(middle[-1]))):
        words |= {
            f"T_{name}_O": clock.obt(seconds),
            f"T_{name}_U": clock.stamp(seconds),
            f"T_{name}_M": clock.mjd(seconds),
        }
    return words | {
        "NEXP": nexp,
        "EXPTIME": case.exptime,
        "TEXPTIME": nexp * case.exptime,
        "STACKING": "coadd" if nexp > 1 else "none",
        "RO_SCRPT": mode.script,
        "RO_FREQU": mode.frequency,
        "IFSW_VER": 0,
        "ACQ_MODE": 5 if mode is layout.FULL_FRAME else 1,
        "RD_MODE": mode.name,
        "OVERSAMP": False,
        "F_SOURCE": 0,
        "REPETIT": repetition,
    }


def times(plan: Plan, seconds: FloatArray) -> Columns:
    """Return the three time columns."""
    clock = plan.clock
    return {
        "OBT_TIME": clock.obt(seconds),
        "UTC_TIME": clock.text(seconds),
        "MJD_TIME": clock.mjd(seconds),
    }


def image_metadata(
    plan: Plan,
    middle: FloatArray,
    counter: AnyArray,
    hk: Mapping[str, FloatArray],
    mode: layout.Mode,
) -> Columns:
    """Return the columns of SCI_RAW_ImageMetadata."""
    around = plan.orbit.at(middle)
    return {
        **times(plan, middle),
        "LOS_TO_SUN_ANGLE": around.sun,
        "LOS_TO_MOON_ANGLE": around.moon,
        "LOS_TO_EARTH_ANGLE": around.limb,
        "LATITUDE": around.latitude,
        "LONGITUDE": around.longitude,
        "OBT_CE_TIME": -1,
        "UTC_CE_TIME": "1970-01-01T00:00:00.000000",
        "CE_COUNTER": counter,
        "CE_SIZE": 0,
        "CE_INTEGRITY": 0,
        "CCD_TIMING_SCRIPT": mode.script,
        "PIX_DATA_OFFSET": round(bias.BIAS[mode.frequency]),
        "HK_SOURCE": "hk tm",
        **{f"HK_VOLT_FEE_{name}": hk[name] for name in VOLTAGES},
        **{f"HK_TEMP_FEE_{name}": hk[name] for name in ("CCD", "ADC", "BIAS")},
        **{name: hk[name] for name in hk if name.startswith(("therm", "ADC_"))},
        "HEADER_COMPR": np.nan,
        "STACKED_COMPR": np.nan,
        "MARGINS_COMPR": np.nan,
        "LEFT_DARK_COL_MASK": 0xFFFF,
        "RIGHT_DARK_COL_MASK": 0xFFFF,
    }


def unstacked_metadata(
    plan: Plan,
    middle: FloatArray,
    counter: AnyArray,
    hk: Mapping[str, FloatArray],
    mode: layout.Mode,
) -> Columns:
    """Return the columns of SCI_RAW_UnstackedImageMetadata; BIAS is filled in with the images."""
    return {
        **times(plan, middle),
        "CE_COUNTER": counter,
        "GAIN_0": gain.GAIN_NOMINAL,
        "BIAS_0": bias.BIAS[mode.frequency],
        "BIAS": np.nan,
        **{f"CE_VOLT_FEE_{name}": hk[name] for name in VOLTAGES},
        "CE_TEMP_FEE_CCD": hk["CCD"],
        "PHOTOMETRY_1": np.nan,
        "PHOTOMETRY_2": np.nan,
        "PHOTOMETRY_3": np.nan,
    }


def write_tables(folder: Path, plan: Plan) -> None:
    """Write all tables: the orbit to aux/, everything else to data/."""
    data = folder / "data"
    write_attitude(data, plan)
    write_centroids(data, plan)
    write_housekeeping(data, plan)
    write_catalogue(data, plan)
    write_visit(data, plan)
    write_orbit(folder / "aux", plan)


def _write(
    folder: Path,
    plan: Plan,
    extname: str,
    valid: tuple[float, float],
    columns: Columns,
    rows: int,
    **more: Any,
) -> None:
    part = files.table(extname, keywords(plan, extname, *valid, more), columns, rows, plan.date)
    files.write(product_path(folder, plan, extname, valid[0], more.get("DATANAME", "")), [part])


def write_attitude(folder: Path, plan: Plan) -> None:
    """Write the direction of the target's intended position, and the roll angle."""
    attitude = plan.attitude
    ra, dec = line_of_sight(plan.orbit, attitude, PIXEL_SCALE)
    columns = {
        **times(plan, attitude.time),
        "SC_RA": ra,
        "SC_DEC": dec,
        "SC_ROLL_ANGLE": attitude.roll % 360,
    }
    valid = float(attitude.time[0]), float(attitude.time[-1])
    _write(folder, plan, "SCI_RAW_Attitude", valid, columns, attitude.time.size)


def write_centroids(folder: Path, plan: Plan) -> None:
    """Write the on-board centroids: the true offset at mid-exposure with an error of 0.02 pixel."""
    case = plan.case
    start, counter = plan.exposure_start, np.repeat(plan.counter, case.nexp)
    if case.full_frame:
        start, counter = np.append(LEAD, start), np.append(1, counter)
    stop, full = start + case.exptime, start < plan.first
    _, x, y = plan.attitude.at(start + case.exptime / 2)
    error = 0.02 * plan.rng(5).normal(size=(2, start.size))
    columns = {
        **{name.replace("TIME", "START"): values for name, values in times(plan, start).items()},
        **{name.replace("TIME", "STOP"): values for name, values in times(plan, stop).items()},
        "FULL_FRAME": full,
        "CE_COUNTER": counter,
        "ACQUISITION_ID": 0,
        "OFFSET_X": x + error[0],
        "OFFSET_Y": y + error[1],
        "LOCATION_X": case.place[0],
        "LOCATION_Y": case.place[1],
        "DATA_CADENCE": plan.repetition,
        "VALIDITY": full.astype(int),
    }
    _write(
        folder, plan, "SCI_RAW_Centroid", (float(start[0]), float(stop[-1])), columns, start.size
    )


def write_housekeeping(folder: Path, plan: Plan) -> None:
    """Write the extended housekeeping: the values of the image metadata with independent noise."""
    seconds: FloatArray = np.arange(0.0, plan.stop + LEAD, HK_CADENCE)
    hk = draw_housekeeping(
        plan.rng(15), seconds, plan.case.gain_drift, plan.case.ccd_warmer
    ).measured
    names = [column.name for column in soc_structure("SCI_RAW_HkExtended").columns]
    columns = {
        **dict.fromkeys((name for name in names if name.startswith("STAT_")), 0),
        **dict.fromkeys(NO_SENSOR, np.nan),
        **times(plan, seconds),
        **{f"VOLT_FEE_{name}": hk[name] for name in VOLTAGES},
        **{f"TEMP_FEE_{name}": hk[name] for name in ("CCD", "ADC", "BIAS")},
        # PIPE reads the temperature from this column, and adds the offset instead of subtracting it
        "VOLT_FEE_CCD": hk["CCD"] - 2 * gain.GAIN_OFFSETS["TEMP"],
    }
    _write(folder, plan, "SCI_RAW_HkExtended", (0.0, float(seconds[-1])), columns, seconds.size)


class CatalogueStars(NamedTuple):
    """The stars as a catalogue lists them, the target first: with errors, all but the target."""

    xi: FloatArray  # standard coordinates about the target [arcsec]
    eta: FloatArray
    magnitude: FloatArray
    teff: FloatArray  # NaN where unknown [K]
    error: FloatArray  # 0 for the target, 1 for all others


def draw_catalogue(rng: np.random.Generator, stars: field.Field, epoch: float) -> CatalogueStars:
    """Draw the catalogue of a field at an epoch [year].

    As in a real catalogue, positions, magnitudes and effective temperatures of the field stars have
    errors, some stars have not been moved to the epoch, and some have no temperature: 2 % at G =
    12, 30 % at G = 18. The target's values are exact.
    """
    size = stars.xi.size
    error = np.where(np.arange(size) == 0, 0.0, 1.0)
    late = error * (rng.uniform(size=size) < UNMOVED) * (epoch - CATALOGUE_EPOCH)
    xi, eta = (
        position - late * motion + POSITION_ERROR * error * rng.normal(size=size)
        for position, motion in ((stars.xi, stars.motion_xi), (stars.eta, stars.motion_eta))
    )
    magnitude = stars.g_magnitude + MAGNITUDE_ERROR * error * rng.normal(size=size)
    teff = np.maximum(stars.teff + (TEFF_ERROR * error * rng.normal(size=size)).round(), 2300.0)
    unknown = rng.uniform(size=size) < 0.02 + 0.28 * spectrum.smooth_step(stars.g_magnitude, 12, 18)
    teff[unknown & (error > 0)] = np.nan
    return CatalogueStars(xi, eta, magnitude, teff, error)


def write_catalogue(folder: Path, plan: Plan) -> None:
    """Write the star catalogue at the epoch of the visit, ordered by distance from the target."""
    epoch = 2000 + (float(plan.clock.mjd(0.0)) - 51544.5) / 365.25
    stars = draw_catalogue(plan.rng(6), plan.field, epoch)
    distance = np.hypot(stars.xi, stars.eta)
    order = np.argsort(np.where(stars.error > 0, distance, -1.0))
    xi, eta, magnitude, teff, error = (values[order] for values in stars)
    ra, dec = from_standard(xi, eta, plan.orbit.ra, plan.orbit.dec)
    columns = {
        "ID": [f"{4_000_000_000 + star}" for star in order],
        "TARGET": order == 0,
        "RA": ra,
        "RA_ERR": POSITION_ERROR / 3600 * error,
        "DEC": dec,
        "DEC_ERR": POSITION_ERROR / 3600 * error,
        "DISTANCE": distance[order],
        "MAG_GAIA": magnitude,
        "MAG_GAIA_ERR": MAGNITUDE_ERROR * error,
        "T_EFF": teff,
        "T_EFF_ERR": np.where(np.isnan(teff), np.nan, TEFF_ERROR),
    }
    words = {
        "DATANAME": f"OBSID{plan.obsid:010d}",
        "EXTINCT": 0.0,
        "OBSEPOCH": epoch,
        "CENT_RA": plan.orbit.ra,
        "CENT_DEC": plan.orbit.dec,
        "GAIN": gain.GAIN_NOMINAL,
        "FOV": field.RADIUS,
        "PITL": True,
    }
    _write(
        folder, plan, "EXT_PRE_StarCatalogue", (0.0, plan.stop + LEAD), columns, order.size, **words
    )


def write_visit(folder: Path, plan: Plan) -> None:
    """Write the planned visit, and its constraints every minute."""
    end = plan.stop + LEAD
    time: FloatArray = np.arange(0.0, end + 60, 60.0)
    first, second = "MPS_PRE_Visits", "MPS_PRE_VisitConstraints"
    parts = [
        files.table(first, keywords(plan, first, 0.0, end, {}), visit_columns(plan), 1, plan.date),
        files.table(
            second,
            keywords(plan, second, 0.0, end, {}),
            constraint_columns(plan, time),
            time.size,
            plan.date,
        ),
    ]
    files.write(product_path(folder, plan, first, 0.0), parts)


def _identity(plan: Plan) -> Columns:
    """Return the columns that identify a visit."""
    return {
        "PROGRAMME_TYPE": plan.case.programme_type,
        "PROGRAMME_ID": plan.case.programme,
        "REQUEST_ID": plan.case.request,
        "OBSID": plan.obsid,
    }


def visit_columns(plan: Plan) -> Columns:
    """Return the columns of MPS_PRE_Visits, one row."""
    case, clock = plan.case, plan.clock
    transit = clock.barycentric(plan.transit_middle, plan.orbit.ra, plan.orbit.dec)
    return {
        **_identity(plan),
        "UTC_TIME_START": clock.stamp(0.0),
        "UTC_TIME_STOP": clock.stamp(plan.stop + LEAD),
        "PI_NAME": "simulation",
        "PI_UID": 0,
        "E_MAIL": "",
        "PROP_FIRST_VISIT": 365,
        "PROP_LAST_VISIT": 548,
        "TARGET_NAME": case.target_name[:24],
        "SPECTRAL_TYPE": case.spectral_type[:15],
        "OBS_CATEGORY": "time critical",
        "READOUT_MODE": plan.mode.name,
        "MARGIN_MODE": case.margins,
        "EXPTIME": case.exptime,
        "NEXP": case.nexp,
        "NEXP_IMAGETTES": case.imagette_nexp if case.imagettes else 0,
        "N_FULLFRAME_EXP": int(case.full_frame),
        "N_WINDOWFRAME_EXP": int(plan.schedule.slots[-1] + 1) * case.nexp,
        "MAG_TARG": case.magnitude,
        "RA_TARG": plan.orbit.ra,
        "DEC_TARG": plan.orbit.dec,
        "TRANSIT_TIME": transit if case.transit else np.nan,
        "TRANSIT_PERIOD": case.transit_period if case.transit else np.nan,
        "TARGET_LOCATION_X": case.place[0],
        "TARGET_LOCATION_Y": case.place[1],
        "STRAY_LIGHT_THRESHOLD": 1e9,
    }


def constraint_columns(plan: Plan, time: FloatArray) -> Columns:
    """Return the columns of MPS_PRE_VisitConstraints at each time, shape (n,) [s]."""
    around, stamps = plan.orbit.at(time), times(plan, time)
    return {
        **_identity(plan),
        "UTC_TIME": stamps["UTC_TIME"],
        "MJD_TIME": stamps["MJD_TIME"],
        "LOS_TO_SUN_ANGLE": around.sun,
        "LOS_TO_MOON_ANGLE": around.moon,
        "STRAY_LIGHT": plan.stray_light(time),
        "EARTH_OCCULTATION": present(plan.case.occultation, around.occulted),
        "SAA_FLAG": present(plan.case.saa, around.in_saa),
    }


def write_orbit(folder: Path, plan: Plan) -> None:
    """Write the orbit every minute, from five minutes before the visit to five minutes after."""
    time: FloatArray = np.arange(-300.0, plan.stop + 360, 60.0)
    around = plan.orbit.at(time)
    columns: Columns = {
        "EPOCH": plan.clock.text(time),
        "LATITUDE": around.latitude,
        "LONGITUDE": around.longitude,
    }
    for i, axis in enumerate("XYZ"):
        columns |= {axis: around.position[:, i], f"{axis}_DOT": around.velocity[:, i]}
    valid = float(time[0]), float(time[-1])
    ends = {"USE_STTM": plan.clock.stamp(valid[0]), "USE_ENTM": plan.clock.stamp(valid[1])}
    _write(folder, plan, "AUX_RES_Orbit", valid, columns, time.size, **ends, DEG_INRT=7)
