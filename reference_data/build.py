"""Builds the default reference library from the simulated instrument, with the errors that
calibration would leave.

Each map is the simulator's truth plus a seeded error: bias 0.05 ADU and flat field 0.05 % a pixel,
dark current 0.02 electron/s and 2 % of its value, gain factors and linearisation curvatures 1 %,
the size of the PSF 0.2 %. So truth and references differ as they do in flight. Physical curves
(quantum efficiency, throughput, spectra) are the simulator's own. All files are valid from 2015 to
2050, but the dark frames, of which two bracket the date of a young CCD and two that of an aged one,
and the two bad-pixel maps, one for each. The same code gives the same bytes.
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
FREQUENCIES = (230_000, 100_000)  # in the order of the bias frame
TEFF = (3500, 4000, 4500, 5000, 5500, 6000, 7000, 8000)  # [K]
BIAS_ERROR, FLAT_ERROR, DARK_ERROR, DARK_RELATIVE_ERROR = 0.05, 0.0005, 0.02, 0.02
PSF_ERROR = 0.002
KNOWN_TELEGRAPHIC = 0.6  # part of the telegraphic pixels that the map lists
SECOND_MAP = "2023-01-01T00:00:00"  # when the second bad-pixel map takes over
HOT_LIMIT = 3.0  # [electron/s]


def build_library(folder: Path) -> list[Path]:
    """Write the default reference library into `folder` and return its files.

    Parameters
    ----------
    folder : Path
        Made if absent; files that exist are not overwritten.

    Returns
    -------
    list of Path
        The files, in order of their names.

    Raises
    ------
    FileExistsError
        If one of the files exists already.
    """
    paths: list[Path] = []
    for build in BUILDERS:
        paths += build(folder)
    return sorted(paths)


def _keywords(extname: str, more: Mapping[str, Any]) -> dict[str, Any]:
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


def _image(extname: str, data: AnyArray, **more: Any) -> files.Part:
    return files.image(extname, _keywords(extname, more), data, DATE)


def _table(extname: str, columns: Mapping[str, Any], rows: int, **more: Any) -> files.Part:
    return files.table(extname, _keywords(extname, more), columns, rows, DATE)


def _name(extname: str, dataname: str = "", start: str = FIRST) -> str:
    dash = f"-{dataname}" if dataname else ""
    return f"CH_TU{start.replace(':', '-')}_{extname}{dash}_V0100.fits"


def _write(
    folder: Path, parts: list[files.Part], dataname: str = "", start: str = FIRST
) -> list[Path]:
    return [files.write(folder / _name(parts[0].structure.extname, dataname, start), parts)]


def bias_frame(folder: Path) -> list[Path]:
    """Bias, its error and read-out noise for 230 and 100 kHz; planes 7 to 12 of margins repeat
    them.
    """
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
    frame = np.stack(planes).astype(np.float32)
    rows = layout.SIZE
    margins = {name: frame[:, :rows, columns] for name, columns in layout.MARGINS.items()}
    margins["DarkTop"] = frame[:, layout.DARK_TOP, layout.EXPOSED]
    margins["OverscanTop"] = frame[:, layout.OVERSCAN_TOP, layout.EXPOSED][
        :, :3
    ]  # the definition has three rows of six
    names = (
        "DarkLeft",
        "DarkRight",
        "DarkTop",
        "BlankLeft",
        "BlankRight",
        "OverscanLeft",
        "OverscanTop",
    )
    mode = {"CCD_TEMP": layout.CCD_TEMPERATURE, "RO_HW": "main"}
    kinds = {
        "DATA_TYPE": ["BIAS", "BIAS ERROR", "RON"] * 2,
        "FEE_TEMP": -10.0,
        "RO_FREQU": np.repeat(FREQUENCIES, 3),
    }
    offset = {
        "RO_FREQU": FREQUENCIES,
        "BIAS_OFFSET": [bias.BIAS[f] + 0.03 for f in FREQUENCIES],
        "BIAS_OFFSET_ERR": BIAS_ERROR,
        "RON": [bias.READ_OUT_NOISE[f] for f in FREQUENCIES],
        "RON_ERR": 0.02,
    }
    parts = [
        _image("REF_APP_BiasFrame", frame[:, :rows, layout.EXPOSED]),
        _table("REF_APP_BiasFrameMetadata", {**kinds, **mode}, 6),
        *(
            _image(f"REF_APP_Bias{name}Frame", np.concatenate([margins[name]] * 2))
            for name in names
        ),
        _table("REF_APP_BiasOffset", {**offset, **mode}, 2),
    ]
    return _write(folder, parts)


def gain_correction(folder: Path) -> list[Path]:
    """Polynomial of the gain, each factor with an error of one per cent."""
    factor, *powers = np.array(gain.GAIN_TERMS).T
    error = 0.01 * np.abs(factor)
    names = ("VSS", "VOD", "VRD", "VOG", "TEMP")
    columns = {
        "FACTOR": factor + error * np.random.default_rng(2).normal(size=factor.size),
        "FACTOR_ERR": error,
        **{f"EXP_{name}": power.astype(int) for name, power in zip(names, powers, strict=True)},
    }
    offsets = {f"{name}_OFF": value for name, value in gain.GAIN_OFFSETS.items()}
    part = _table(
        "REF_APP_GainCorrection",
        columns,
        factor.size,
        **offsets,
        RO_HW="main",
        GAIN_NOM=gain.GAIN_NOMINAL,
    )
    return _write(folder, [part])


def linearisation(folder: Path) -> list[Path]:
    """Look-up tables and splines for both frequencies in one file; the last row of a spline only
    marks its end.
    """
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
        splines.append(_table(f"REF_APP_CCDLinearisation{kilohertz}", columns, rows + 1))
        measured = np.linspace(0, spline.end, 2001)
        lut = {"NON_LINEAR": measured, "CORRECTED": spline.correct(measured)}
        luts.append(_table(f"REF_APP_CCDLinearisationLUT{kilohertz}", lut, measured.size))
    return _write(folder, luts + splines)


def flat_field(folder: Path) -> list[Path]:
    """Flat fields for eight effective temperatures, then their error maps; all share the same
    error.
    """
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
    words = {key: _name(extname) for key, extname in names.items()}
    words |= {"DATANAME": "PointSource", "FF_RF": "N/A", "SED_F_RF": "N/A"}
    temperature = 273.15 + layout.CCD_TEMPERATURE
    parts = [
        _image("REF_APP_FlatFieldTeff", planes, TEMP=temperature, **words),
        _table("REF_APP_FlatFieldTeffMetadata", data, 2 * len(TEFF), DATANAME="PointSource"),
    ]
    return _write(folder, parts, "PointSource")


def flat_filters(folder: Path, step: float = 20.0, noisy: bool = True) -> list[Path]:
    """Flat fields for light of some wavelengths and their errors; 300 MB, so not a part of the
    default library.

    Parameters
    ----------
    folder : Path
        Where the file is written.
    step : float
        Distance of the wavelengths [nm].
    noisy : bool
        Whether the planes have the errors that they state.
    """
    rng = np.random.default_rng(8)
    wavelength = np.arange(flat.WAVELENGTH[0], flat.WAVELENGTH[-1] + step / 2, step)
    shape = layout.SIZE, layout.SIZE
    planes = np.empty((2 * wavelength.size, *shape), np.float32)
    for i, centre in enumerate(wavelength):
        error = FLAT_ERROR * rng.standard_normal(shape, np.float32) if noisy else 0.0
        planes[i] = flat.monochromatic(float(centre)) * (1 + error)
    planes[wavelength.size :] = FLAT_ERROR if noisy else 0.0
    data = {
        "DATA_TYPE": ["FLAT FIELD"] * wavelength.size + ["FLAT FIELD ERROR"] * wavelength.size,
        "FILTER": [f"{w:.0f}" for w in wavelength] * 2,
        "BANDWIDTH": step,
        "STATUS": 0,
    }
    words = {"DATANAME": "PointSource", "FF_RF": "N/A"}
    parts = [
        _image("REF_APP_FlatFieldFilter", planes, TEMP=273.15 + layout.CCD_TEMPERATURE, **words),
        _table(
            "REF_APP_FlatFieldFilterMetadata", data, 2 * wavelength.size, DATANAME="PointSource"
        ),
    ]
    return _write(folder, parts, "PointSource")


def dark_frames(folder: Path) -> list[Path]:
    """Dark current and its error at the dates between which the simulated dark current changes."""
    rng, paths = np.random.default_rng(4), []
    dates = [epoch.date for epoch in dark.EPOCHS]
    for number, (start, stop) in enumerate(zip(dates, [*dates[1:], LAST], strict=True)):
        truth = _dark_truth(number)
        error = np.hypot(DARK_ERROR, DARK_RELATIVE_ERROR * truth)
        frame = np.stack([truth + error * rng.normal(size=truth.shape), error]).astype(np.float32)
        valid = {"V_STRT_U": f"{start}.000000", "V_STOP_U": f"{stop}.000000"}
        parts = [_image("REF_APP_DarkFrame", frame[:, : layout.SIZE, layout.EXPOSED], **valid)]
        for side in ("Left", "Right"):
            columns = layout.MARGINS[f"Dark{side}"]
            parts.append(
                _image(f"REF_APP_DarkFrame{side}", frame[:, : layout.SIZE, columns], **valid)
            )
        parts.append(
            _image("REF_APP_DarkFrameTop", frame[:, layout.DARK_TOP, layout.EXPOSED], **valid)
        )
        paths += _write(folder, parts, start=start)
    return paths


def _dark_truth(number: int) -> Float32Array:
    """Return what a long series of dark frames at one of the epochs would show [electron/s]."""
    darkness = dark.at_epoch(number)
    return darkness.smooth + darkness.hot + dark.telegraphic_mean(darkness.telegraphic)


def bad_pixel_map(folder: Path) -> list[Path]:
    """Pixels above 3 electron/s are hot (1), dead ones partially (-1) or wholly (-2) so, known
    telegraphic ones 3.
    """
    paths, ends = [], ((0, FIRST, SECOND_MAP), (2, SECOND_MAP, LAST))
    grey, _, _, dead = flat.patterns()
    for number, start, stop in ends:
        code = (_dark_truth(number) > HOT_LIMIT).astype(np.int16)
        pixels = dark.telegraphs(dark.EPOCHS[number].telegraphic)
        known = np.random.default_rng(7).uniform(size=pixels.level.size) < KNOWN_TELEGRAPHIC
        code[pixels.row[known], pixels.column[known]] = 3
        exposed = code[: layout.SIZE, layout.EXPOSED]
        exposed[dead] = np.where(grey[dead] < 0.2, -2, -1)
        sides = {
            "": exposed,
            "Left": code[: layout.SIZE, layout.MARGINS["DarkLeft"]],
            "Right": code[: layout.SIZE, layout.MARGINS["DarkRight"]],
            "Top": code[layout.DARK_TOP, layout.EXPOSED],
        }
        words = {
            "METHOD": "absolute value",
            "METH_LIM": HOT_LIMIT,
            "GAIN_RF": _name("REF_APP_GainCorrection"),
            "FF_RF": _name("REF_APP_FlatFieldTeff", "PointSource"),
            "DARK_RF": _name("REF_APP_DarkFrame", start=dark.EPOCHS[number].date),
            "V_STRT_U": f"{start}.000000",
            "V_STOP_U": f"{stop}.000000",
        }
        parts = [
            _image(f"REF_APP_BadPixelMap{side}", data, **words) for side, data in sides.items()
        ]
        parts += [
            _image(f"REF_APP_PhotPixelMap{side}", data != 0, **words)
            for side, data in sides.items()
        ]
        paths += _write(folder, parts, start=start)
    return paths


def white_psf(folder: Path) -> list[Path]:
    """PSF on 200 x 200 pixels, centred, of sum 1, for four temperatures of the telescope, 0.2 % too
    large.
    """
    change = {
        "fixed": 0.0,
        "cold": -1.0,
        "hot1": 0.5,
        "hot2": 1.0,
    }  # from the usual temperature [degC]
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
    return _write(
        folder, [_image("REF_APP_WhitePSF", data), _table("REF_APP_WhitePSFMetadata", columns, 4)]
    )


def pixel_scale(folder: Path) -> list[Path]:
    """Scale of 1.002 arcsec, as simulated."""
    return _write(folder, [_table("REF_APP_PixelScale", {"PIXEL_SCALE": 1.002}, 1)])


def quantum_efficiency(folder: Path) -> list[Path]:
    """Quantum efficiency with wavelength."""
    columns = {
        "WAVELENGTH": spectrum.WAVELENGTH,
        "QE": spectrum.quantum_efficiency(spectrum.WAVELENGTH),
        "QE_ERROR": 0.01,
        "QE_VS_TEMP_SLOPE": 0.0,
    }
    temperature = 273.15 + layout.CCD_TEMPERATURE
    return _write(
        folder, [_table("REF_APP_QE", columns, spectrum.WAVELENGTH.size, TEMP_CCD=temperature)]
    )


def throughput(folder: Path) -> list[Path]:
    """Throughput of the optics with wavelength."""
    columns = {
        "WAVELENGTH": spectrum.WAVELENGTH,
        "THROUGHPUT": spectrum.throughput(spectrum.WAVELENGTH),
    }
    return _write(folder, [_table("REF_APP_Throughput", columns, spectrum.WAVELENGTH.size)])


def spectra(folder: Path) -> list[Path]:
    """Spectra of stars, as simulated."""
    teff, wavelength = np.arange(2300.0, 10001.0, 100.0), np.arange(200.0, 1151.0)
    columns = {
        "WAVELENGTH": np.tile(wavelength, (teff.size, 1)),
        "FLUX": np.stack([spectrum.star_spectrum(wavelength, t) for t in teff]),
        "TEMPERATUR": teff,
    }
    return _write(folder, [_table("REF_APP_SEDTeff", columns, teff.size)])


def flux_conversion(folder: Path) -> list[Path]:
    """Colour term and mean efficiency with effective temperature; flux at magnitude zero."""
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
    return _write(
        folder, [_table("REF_APP_FluxConversion", columns, teff.size, **words, F0_X=zero, X0=0.0)]
    )


def read_out(folder: Path) -> list[Path]:
    """Durations of the parts of each read-out script [ms]; a row takes its shift and its pixels."""
    modes = {
        "full frame": (4, 3, 230_000),
        "bright": (6, 5, 230_000),
        "ultrabright": (8, 7, 230_000),
        "faint": (31, 32, 100_000),
        "faint fast": (33, 34, 100_000),
    }
    rows = [
        (n, name, hw, f)
        for name, (*n2, f) in modes.items()
        for n, hw in zip(n2, ("main", "redundant"), strict=True)
    ]
    frequency = np.array([row[3] for row in rows])
    shift = 1e3 * layout.ROW_SHIFT_TIME
    row_time = shift + 1e3 * layout.COLUMNS / frequency
    read = np.where(np.isin([row[1] for row in rows], ("full frame", "faint")), layout.ROWS, 209)
    columns = {
        "RO_SCRPT": [row[0] for row in rows],
        "RD_MODE": [row[1] for row in rows],
        "RO_HW": [row[2] for row in rows],
        "RO_FREQU": frequency,
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
    return _write(folder, [_table("REF_APP_ReadOut", columns, len(rows))])


def visit_constraints(folder: Path) -> list[Path]:
    """Soft and hard limits of the angles between the line of sight and Sun, Moon, Earth's limb
    [deg].
    """
    columns = {
        "MIN_LOS_TO_SUN_ANGLE": [[120.0, 115.0]],
        "MIN_LOS_TO_MOON_ANGLE": [[5.0, 5.0]],
        "MIN_LOS_TO_EARTH_ANGLE": [[3.0, 0.0]],
    }
    return _write(folder, [_table("REF_APP_VisitConstraints", columns, 1)])


def limits(folder: Path) -> list[Path]:
    """Soft and hard limits of housekeeping values [V, degC]."""
    table = {  # name: value, soft and hard distance from it
        "HK_TEMP_FEE_CCD": (layout.CCD_TEMPERATURE, 0.5, 2.0),
        "HK_TEMP_FEE_BIAS": (-10.0, 1.0, 5.0),
        "HK_TEMP_FEE_ADC": (-8.0, 1.0, 5.0),
        "thermFront_2": (-12.0, 5.0, 15.0),
        **{f"HK_VOLT_FEE_{name}": (value, 0.02, 0.1) for name, value in gain.VOLTAGES.items()},
    }
    middle = np.array([[value] for value, _, _ in table.values()])
    distance = np.array([[soft, hard] for _, soft, hard in table.values()])
    columns = {
        "PARAM_NAME": list(table),
        "STRUCT_NAME": "SCI_RAW_ImageMetadata",
        "ACTIVE": True,
        "UPPER_LIMIT": middle + distance,
        "LOWER_LIMIT": middle - distance,
    }
    return _write(
        folder, [_table("REF_APP_Limits", columns, len(table), DATANAME="ScienceHk")], "ScienceHk"
    )


def saa_map(folder: Path) -> list[Path]:
    """South Atlantic Anomaly at 700 km on a grid of 2 by 3 degrees."""
    latitude, longitude = (
        grid.ravel()
        for grid in np.meshgrid(np.arange(-89, 90, 2), np.arange(-180, 181, 3), indexing="ij")
    )
    columns = {
        "LATITUDE": latitude,
        "LONGITUDE": longitude,
        "SAA_FLAG": in_saa(latitude, longitude),
    }
    return _write(folder, [_table("EXT_APP_SAAMap", columns, latitude.size, ALTITUDE=700.0)])


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
