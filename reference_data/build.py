"""Builds the default reference library from the simulated instrument, with calibration errors.

Each map is the simulator's truth plus a seeded error: bias 0.05 ADU and flat field 0.05 % per
pixel, dark current 0.02 electron/s and 2 % of its value, gain factors and linearisation curvatures
1 %, size of the PSF 0.2 %. Truth and references thus differ as they do in flight. Physical curves
(quantum efficiency, throughput, spectra) are the simulator's own. All files are valid from 2015 to
2050 except the dark frames, of which two bracket the date of a young CCD and two that of an aged
one, and the two bad-pixel maps, one for each. The same code gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from schemas.arrays import AnyArray, Float32Array, FloatArray
from schemas.products import soc_structure
from tasks.simulation import bias, dark, files, flat, gain, layout, linearity, psf, spectrum
from tasks.simulation.spacecraft import in_saa

DATE = "2021-03-01T00:00:00"  # in the headers of all files
FIRST, LAST = "2015-01-01T00:00:00", "2050-01-01T00:00:00"
FREQUENCIES = (230_000, 100_000)  # in the order of the bias frame [Hz]
TEFF = (3500, 4000, 4500, 5000, 5500, 6000, 7000, 8000)  # [K]
BIAS_ERROR, FLAT_ERROR, DARK_ERROR, DARK_RELATIVE_ERROR = 0.05, 0.0005, 0.02, 0.02
PSF_ERROR = 0.002
KNOWN_TELEGRAPHIC = 0.6  # fraction of the telegraphic pixels that the map lists
SECOND_MAP = "2023-01-01T00:00:00"  # start of the second bad-pixel map
HOT_LIMIT = 3.0  # [electron/s]


def build_library(folder: Path) -> list[Path]:
    """Write the default reference library to `folder` and return the paths of its files, sorted.

    Parameters
    ----------
    folder : Path
        Created if absent; existing files are not overwritten.

    Raises
    ------
    FileExistsError
        If one of the files already exists.
    """
    paths: list[Path] = []
    for build in BUILDERS:
        paths += build(folder)
    return sorted(paths)


def keywords(extname: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords that `extname` declares; `more` adds to the common ones."""
    values = {
        "ARCH_REV": 1,
        "PROC_NUM": 0,
        "V_STRT_U": f"{FIRST}.000000",
        "V_STOP_U": f"{LAST}.000000",
        "PROVIDER": "reference_data",
        "DESCRIP": "synthetic",
        **more,
    }
    return {
        name: value for name, value in values.items() if name in soc_structure(extname).keywords
    }


def image(extname: str, data: AnyArray, **more: Any) -> files.Part:
    """Return the image or cube `extname`; `more` are keywords."""
    return files.image(extname, keywords(extname, more), data, DATE)


def table(extname: str, columns: Mapping[str, Any], rows: int, **more: Any) -> files.Part:
    """Return the table `extname`; `more` are keywords."""
    return files.table(extname, keywords(extname, more), columns, rows, DATE)


def file_name(extname: str, dataname: str = "", start: str = FIRST) -> str:
    """Return the name of a reference file that is valid from `start`."""
    dash = f"-{dataname}" if dataname else ""
    return f"CH_TU{start.replace(':', '-')}_{extname}{dash}_V0100.fits"


def write(
    folder: Path, parts: list[files.Part], dataname: str = "", start: str = FIRST
) -> list[Path]:
    """Write a reference file, named after its first part, and return its path in a list."""
    return [files.write(folder / file_name(parts[0].structure.extname, dataname, start), parts)]


def bias_frame(folder: Path) -> list[Path]:
    """Bias, its error and read-out noise for 230 and 100 kHz; margins repeat the planes."""
    frame = _bias_planes()
    mode = {"CCD_TEMP": layout.CCD_TEMPERATURE, "RO_HW": "main"}
    planes = {
        "DATA_TYPE": ["BIAS", "BIAS ERROR", "RON"] * 2,
        "FEE_TEMP": -10.0,
        "RO_FREQU": np.repeat(FREQUENCIES, 3),
    }
    offsets = {
        "RO_FREQU": FREQUENCIES,
        "BIAS_OFFSET": [bias.BIAS[f] + 0.03 for f in FREQUENCIES],
        "BIAS_OFFSET_ERR": BIAS_ERROR,
        "RON": [bias.READ_OUT_NOISE[f] for f in FREQUENCIES],
        "RON_ERR": 0.02,
    }
    parts = [
        image("REF_APP_BiasFrame", frame[:, : layout.SIZE, layout.EXPOSED]),
        table("REF_APP_BiasFrameMetadata", {**planes, **mode}, 6),
        *(
            image(f"REF_APP_Bias{name}Frame", np.concatenate([margin] * 2))
            for name, margin in _bias_margins(frame).items()
        ),
        table("REF_APP_BiasOffset", {**offsets, **mode}, 2),
    ]
    return write(folder, parts)


def _bias_planes() -> Float32Array:
    """Return bias, its error and read-out noise, three planes for each frequency [ADU]."""
    rng = np.random.default_rng(1)
    planes: list[FloatArray] = []
    for frequency in FREQUENCIES:
        truth = bias.structure(frequency) + bias.BIAS[frequency]
        noise = bias.READ_OUT_NOISE[frequency]
        planes += [
            truth + BIAS_ERROR * rng.normal(size=truth.shape),
            np.full(truth.shape, BIAS_ERROR),
            noise * (1 + 0.01 * rng.normal(size=truth.shape)),
        ]
    return np.stack(planes).astype(np.float32)


def _bias_margins(frame: Float32Array) -> dict[str, Float32Array]:
    """Return the margins of the bias frame, in the order of the file."""
    sides = {name: frame[:, : layout.SIZE, columns] for name, columns in layout.MARGINS.items()}
    # the SOC's definition has three of the six overscan rows
    overscan = frame[:, layout.OVERSCAN_TOP, layout.EXPOSED][:, :3]
    tops = {"DarkTop": frame[:, layout.DARK_TOP, layout.EXPOSED], "OverscanTop": overscan}
    order = ("DarkLeft", "DarkRight", "DarkTop", "BlankLeft", "BlankRight", "OverscanLeft")
    return {name: (sides | tops)[name] for name in (*order, "OverscanTop")}


def gain_correction(folder: Path) -> list[Path]:
    """Polynomial of the gain, each factor with an error of one percent."""
    factor, *powers = np.array(gain.GAIN_TERMS).T
    error = 0.01 * np.abs(factor)
    names = ("VSS", "VOD", "VRD", "VOG", "TEMP")
    columns = {
        "FACTOR": factor + error * np.random.default_rng(2).normal(size=factor.size),
        "FACTOR_ERR": error,
        **{f"EXP_{name}": power.astype(int) for name, power in zip(names, powers, strict=True)},
    }
    offsets = {f"{name}_OFF": value for name, value in gain.GAIN_OFFSETS.items()}
    part = table(
        "REF_APP_GainCorrection",
        columns,
        factor.size,
        **offsets,
        RO_HW="main",
        GAIN_NOM=gain.GAIN_NOMINAL,
    )
    return write(folder, [part])


def linearisation(folder: Path) -> list[Path]:
    """Look-up tables and splines for both frequencies; the last row of a spline marks its end."""
    luts: list[files.Part] = []
    splines: list[files.Part] = []
    for kilohertz in (100, 230):
        boundary, slope, curvature = linearity.LINEARITY[1000 * kilohertz]
        spline = linearity.Spline.smooth(boundary, slope, tuple(1.01 * c for c in curvature))
        rows = spline.boundary.size
        coefficients = {
            "COEF_0": spline.c0,
            "COEF_1": spline.c1,
            "COEF_2": spline.c2,
            "COEF_3": np.zeros(rows),
        }
        columns = {name: np.append(values, np.nan) for name, values in coefficients.items()}
        columns["BOUNDARY"] = np.array(boundary, float)
        splines.append(table(f"REF_APP_CCDLinearisation{kilohertz}", columns, rows + 1))
        measured = np.linspace(0, spline.end, 2001)
        lut = {"NON_LINEAR": measured, "CORRECTED": spline.correct(measured)}
        luts.append(table(f"REF_APP_CCDLinearisationLUT{kilohertz}", lut, measured.size))
    return write(folder, luts + splines)


def flat_field(folder: Path) -> list[Path]:
    """Flat fields for eight effective temperatures, which share one error, then their errors."""
    shape = layout.SIZE, layout.SIZE
    error = (FLAT_ERROR * np.random.default_rng(3).normal(size=shape)).astype(np.float32)
    planes = np.empty((2 * len(TEFF), *shape), np.float32)
    for i, teff in enumerate(TEFF):
        planes[i] = flat.star_flat(teff) * (1 + error)
    planes[len(TEFF) :] = FLAT_ERROR
    data = {
        "DATA_TYPE": ["FLAT FIELD"] * len(TEFF) + ["FLAT FIELD ERROR"] * len(TEFF),
        "T_EFF": [*TEFF, *TEFF],
        "STATUS": 0,
    }
    names = {"THRGH_RF": "REF_APP_Throughput", "QE_RF": "REF_APP_QE", "SED_T_RF": "REF_APP_SEDTeff"}
    words = {key: file_name(extname) for key, extname in names.items()}
    words |= {"DATANAME": "PointSource", "FF_RF": "N/A", "SED_F_RF": "N/A"}
    temperature = 273.15 + layout.CCD_TEMPERATURE
    parts = [
        image("REF_APP_FlatFieldTeff", planes, TEMP=temperature, **words),
        table("REF_APP_FlatFieldTeffMetadata", data, 2 * len(TEFF), DATANAME="PointSource"),
    ]
    return write(folder, parts, "PointSource")


def dark_frames(folder: Path) -> list[Path]:
    """Dark current and its error, one file for each epoch of the simulated dark current."""
    rng, paths = np.random.default_rng(4), []
    dates = [epoch.date for epoch in dark.EPOCHS]
    for number, (start, stop) in enumerate(zip(dates, [*dates[1:], LAST], strict=True)):
        truth = _dark_truth(number)
        error = np.hypot(DARK_ERROR, DARK_RELATIVE_ERROR * truth)
        frame = np.stack([truth + error * rng.normal(size=truth.shape), error]).astype(np.float32)
        valid = {"V_STRT_U": f"{start}.000000", "V_STOP_U": f"{stop}.000000"}
        parts = [image("REF_APP_DarkFrame", frame[:, : layout.SIZE, layout.EXPOSED], **valid)]
        for side in ("Left", "Right"):
            columns = layout.MARGINS[f"Dark{side}"]
            parts.append(
                image(f"REF_APP_DarkFrame{side}", frame[:, : layout.SIZE, columns], **valid)
            )
        parts.append(
            image("REF_APP_DarkFrameTop", frame[:, layout.DARK_TOP, layout.EXPOSED], **valid)
        )
        paths += write(folder, parts, start=start)
    return paths


def _dark_truth(number: int) -> Float32Array:
    """Return the mean of a long series of dark frames at one of the epochs [electron/s]."""
    darkness = dark.at_epoch(number)
    return darkness.smooth + darkness.hot + dark.telegraphic_mean(darkness.telegraphic)


def bad_pixel_map(folder: Path) -> list[Path]:
    """Hot pixels (above 3 electron/s, 1), partly and wholly dead (-1, -2), and telegraphic (3)."""
    paths = []
    for number, start, stop in ((0, FIRST, SECOND_MAP), (2, SECOND_MAP, LAST)):
        code = _pixel_codes(number)
        sides = {
            "": code[: layout.SIZE, layout.EXPOSED],
            "Left": code[: layout.SIZE, layout.MARGINS["DarkLeft"]],
            "Right": code[: layout.SIZE, layout.MARGINS["DarkRight"]],
            "Top": code[layout.DARK_TOP, layout.EXPOSED],
        }
        words = {
            "METHOD": "absolute value",
            "METH_LIM": HOT_LIMIT,
            "GAIN_RF": file_name("REF_APP_GainCorrection"),
            "FF_RF": file_name("REF_APP_FlatFieldTeff", "PointSource"),
            "DARK_RF": file_name("REF_APP_DarkFrame", start=dark.EPOCHS[number].date),
            "V_STRT_U": f"{start}.000000",
            "V_STOP_U": f"{stop}.000000",
        }
        maps = [(f"REF_APP_BadPixelMap{side}", data) for side, data in sides.items()]
        maps += [(f"REF_APP_PhotPixelMap{side}", data != 0) for side, data in sides.items()]
        parts = [image(extname, data, **words) for extname, data in maps]
        paths += write(folder, parts, start=start)
    return paths


def _pixel_codes(number: int) -> AnyArray:
    """Return the code of each pixel of the read-out at one of the epochs; 0 is a good pixel."""
    code = (_dark_truth(number) > HOT_LIMIT).astype(np.int16)
    pixels = dark.telegraphs(dark.EPOCHS[number].telegraphic)
    known = np.random.default_rng(7).uniform(size=pixels.level.size) < KNOWN_TELEGRAPHIC
    code[pixels.row[known], pixels.column[known]] = 3
    grey, _, _, dead = flat.patterns()
    code[: layout.SIZE, layout.EXPOSED][dead] = np.where(grey[dead] < 0.2, -2, -1)
    return code


def white_psf(folder: Path) -> list[Path]:
    """PSF at four telescope temperatures, on 200 x 200 pixels, of sum 1 and 0.2 % too large."""
    # deviation from the usual temperature [degC]
    change = {"fixed": 0.0, "cold": -1.0, "hot1": 0.5, "hot2": 1.0}
    planes = [
        psf.flight_like_psf((0.0, 0.0), t, 1 + PSF_ERROR).image(100.0, 100.0, 1.0, 0, 0, 200, 200)
        for t in change.values()
    ]
    columns = {
        "STATUS": 1,
        "TEMP_TEL": 263.0,
        "THERMAL_MAP": list(change),
        "INDEX_TEMP": np.arange(4),
    }
    data = np.stack([plane / plane.sum() for plane in planes])
    return write(
        folder, [image("REF_APP_WhitePSF", data), table("REF_APP_WhitePSFMetadata", columns, 4)]
    )


def pixel_scale(folder: Path) -> list[Path]:
    """Scale of 1.002 arcsec per pixel, as simulated."""
    return write(folder, [table("REF_APP_PixelScale", {"PIXEL_SCALE": 1.002}, 1)])


def quantum_efficiency(folder: Path) -> list[Path]:
    """Quantum efficiency by wavelength."""
    columns = {
        "WAVELENGTH": spectrum.WAVELENGTH,
        "QE": spectrum.quantum_efficiency(spectrum.WAVELENGTH),
        "QE_ERROR": 0.01,
        "QE_VS_TEMP_SLOPE": 0.0,
    }
    temperature = 273.15 + layout.CCD_TEMPERATURE
    return write(
        folder, [table("REF_APP_QE", columns, spectrum.WAVELENGTH.size, TEMP_CCD=temperature)]
    )


def throughput(folder: Path) -> list[Path]:
    """Throughput of the optics by wavelength."""
    columns = {
        "WAVELENGTH": spectrum.WAVELENGTH,
        "THROUGHPUT": spectrum.throughput(spectrum.WAVELENGTH),
    }
    return write(folder, [table("REF_APP_Throughput", columns, spectrum.WAVELENGTH.size)])


def spectra(folder: Path) -> list[Path]:
    """Spectra of stars by effective temperature, as simulated."""
    teff, wavelength = np.arange(2300.0, 10001.0, 100.0), np.arange(200.0, 1151.0)
    columns = {
        "WAVELENGTH": np.tile(wavelength, (teff.size, 1)),
        "FLUX": np.stack([spectrum.star_spectrum(wavelength, t) for t in teff]),
        "TEMPERATUR": teff,
    }
    return write(folder, [table("REF_APP_SEDTeff", columns, teff.size)])


def flux_conversion(folder: Path) -> list[Path]:
    """Colour term and mean efficiency by effective temperature, and flux at magnitude zero."""
    teff = np.arange(2300.0, 39501.0, 100.0)
    wavelength = spectrum.WAVELENGTH
    efficiency = spectrum.quantum_efficiency(wavelength) * spectrum.throughput(wavelength)
    photons = np.stack([wavelength * spectrum.star_spectrum(wavelength, t) for t in teff])
    columns = {
        "T_EFF": teff,
        "CHEOPSMAG_MINUS_GMAG": spectrum.cheops_magnitude(0.0, teff),
        "ELECTRONS_PER_PHOTON": (photons @ efficiency) / photons.sum(axis=1),
    }
    words = {"THR_AREV": 1, "THR_PNUM": 0, "QE_AREV": 1, "QE_PNUM": 0}
    zero = spectrum.ELECTRONS_AT_ZERO_MAGNITUDE
    return write(
        folder, [table("REF_APP_FluxConversion", columns, teff.size, **words, F0_X=zero, X0=0.0)]
    )


# read-out modes: name, script of the main and the redundant hardware, frequency [Hz]
READ_OUT_MODES = (
    ("full frame", 4, 3, 230_000),
    ("bright", 6, 5, 230_000),
    ("ultrabright", 8, 7, 230_000),
    ("faint", 31, 32, 100_000),
    ("faint fast", 33, 34, 100_000),
)


def read_out(folder: Path) -> list[Path]:
    """Durations of the parts of each read-out script [ms]; a row takes its shift and its pixels."""
    scripts, names, hardware, frequencies = zip(
        *(
            row
            for name, main, redundant, frequency in READ_OUT_MODES
            for row in (
                (main, name, "main", frequency),
                (redundant, name, "redundant", frequency),
            )
        ),
        strict=True,
    )
    shift = 1e3 * layout.ROW_SHIFT_TIME
    row_time = shift + 1e3 * layout.COLUMNS / np.array(frequencies)
    read = np.where(np.isin(names, ("full frame", "faint")), layout.ROWS, 209)
    columns = {
        "RO_SCRPT": scripts,
        "RD_MODE": names,
        "RO_HW": hardware,
        "RO_FREQU": frequencies,
        "CCD_INIT": 0.0,
        "CCD_CLEAR": 1e3 * layout.TRANSFER_TIME * layout.ROWS,
        "CCD_FAST_SHIFT": 1e3 * layout.TRANSFER_TIME * layout.ROWS,
        "CCD_READ_OUT": read * row_time + (layout.ROWS - read) * shift,
        "ROW_DUMP": shift,
        "ROW_DUMP_OFFSET": 0.0,
        "ROW_READ_OUT": row_time,
        "ROW_READ_OUT_OFFSET": 0.0,
        "TOP_READ_OUT": 9 * row_time,
    }
    return write(folder, [table("REF_APP_ReadOut", columns, len(scripts))])


def visit_constraints(folder: Path) -> list[Path]:
    """Soft and hard limits of the angles to the Sun, the Moon and the limb of the Earth [deg]."""
    columns = {
        "MIN_LOS_TO_SUN_ANGLE": [[120.0, 115.0]],
        "MIN_LOS_TO_MOON_ANGLE": [[5.0, 5.0]],
        "MIN_LOS_TO_EARTH_ANGLE": [[3.0, 0.0]],
    }
    return write(folder, [table("REF_APP_VisitConstraints", columns, 1)])


def limits(folder: Path) -> list[Path]:
    """Soft and hard limits of housekeeping values [V, degC]."""
    parameters = {  # nominal value, soft and hard distance from it
        "HK_TEMP_FEE_CCD": (layout.CCD_TEMPERATURE, 0.5, 2.0),
        "HK_TEMP_FEE_BIAS": (-10.0, 1.0, 5.0),
        "HK_TEMP_FEE_ADC": (-8.0, 1.0, 5.0),
        "thermFront_2": (-12.0, 5.0, 15.0),
        **{f"HK_VOLT_FEE_{name}": (value, 0.02, 0.1) for name, value in gain.VOLTAGES.items()},
    }
    middle = np.array([[value] for value, _, _ in parameters.values()])
    distance = np.array([[soft, hard] for _, soft, hard in parameters.values()])
    columns = {
        "PARAM_NAME": list(parameters),
        "STRUCT_NAME": "SCI_RAW_ImageMetadata",
        "ACTIVE": True,
        "UPPER_LIMIT": middle + distance,
        "LOWER_LIMIT": middle - distance,
    }
    part = table("REF_APP_Limits", columns, len(parameters), DATANAME="ScienceHk")
    return write(folder, [part], "ScienceHk")


def saa_map(folder: Path) -> list[Path]:
    """South Atlantic Anomaly at 700 km, on a grid of 2 by 3 degrees."""
    latitude, longitude = (
        grid.ravel()
        for grid in np.meshgrid(np.arange(-89, 90, 2), np.arange(-180, 181, 3), indexing="ij")
    )
    columns = {
        "LATITUDE": latitude,
        "LONGITUDE": longitude,
        "SAA_FLAG": in_saa(latitude, longitude),
    }
    return write(folder, [table("EXT_APP_SAAMap", columns, latitude.size, ALTITUDE=700.0)])


BUILDERS: tuple[Callable[[Path], list[Path]], ...] = (
    bias_frame,
    gain_correction,
    linearisation,
    flat_field,
    dark_frames,
    bad_pixel_map,
    white_psf,
    pixel_scale,
    quantum_efficiency,
    throughput,
    spectra,
    flux_conversion,
    read_out,
    visit_constraints,
    limits,
    saa_map,
)
