"""The raw products of a visit in the SOC's structures: tables, full frame, and the cubes that grow stack by stack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.products import Structure, soc_structure
from tasks.simulation import detector, files, sky
from tasks.simulation.camera import Camera, Exposure
from tasks.simulation.plan import LEAD, PIXEL_SCALE, Plan, present
from tasks.simulation.spacecraft import draw_housekeeping, from_standard, line_of_sight

Floats = NDArray[np.float64]

    def path(self, subfolder: str, extname: str, seconds: float, dataname: str = "") -> Path:
        """Return where a product goes; `seconds` is the time in its name."""
        case = self.case
        identity = f"PR{case.programme_type:02d}{case.programme:04d}_TG{case.request:04d}{case.visit_counter:02d}_"
        visit = identity if "REQ_ID" in soc_structure(extname).keywords or extname.startswith("MPS_") else ""
        date = self.clock.stamp(seconds)[:19].replace(":", "-")
        dash = f"-{dataname}" if dataname else ""
        return self.folder / subfolder / f"CH_{visit}TU{date}_{extname}{dash}_V0000.fits"

    def keywords(self, extname: str, first: float, last: float, **more: Any) -> dict[str, Any]:
        """Return the keywords that `extname` declares; valid from `first` to `last` [s]."""
        case, clock = self.case, self.clock
        magnitude = float(sky.cheops_magnitude(case.magnitude, case.teff))
        values: dict[str, Any] = {
            "PROC_CHN": "simulation",
            "ARCH_REV": 0,
            "PROC_NUM": 0,
            "V_STRT_U": clock.stamp(first),
            "V_STOP_U": clock.stamp(last),
            "V_STRT_M": clock.mjd(first),
            "V_STOP_M": clock.mjd(last),
            "PI_NAME": "simulation",
            "PI_UID": 0,
            "PROGTYPE": case.programme_type,
            "PROG_ID": case.programme,
            "REQ_ID": case.request,
            "VISITCTR": case.visit_counter,
            "OBSID": self.obsid,
            "PRP_VST1": 365,
            "PRP_VSTN": 548,
            "TARGNAME": case.target_name,
            "SPECTYPE": case.spectral_type,
            "T_EFF": case.teff,
            "MAG_G": case.magnitude,
            "MAG_GERR": 0.001,
            "MAG_CHPS": magnitude,
            "MAG_CERR": 0.01,
            "RA_TARG": self.orbit.ra,
            "DEC_TARG": self.orbit.dec,
            "ROUNDING": 0,
            "NLIN_COR": False,
            "RO_HW": "main",
            **more,
        }
        declared = soc_structure(extname).keywords
        return {name: value for name, value in values.items() if name in declared}

    @property
    def obsid(self) -> int:
        """Identifier of the visit."""
        return 100 * self.case.request + self.case.visit_counter

    def exposure_keywords(self, middle: Floats, nexp: int, mode: detector.Mode, repetition: float) -> dict[str, Any]:
        """Return the keywords of a series of images at mid-times `middle` [s]."""
        case, clock = self.case, self.clock
        first, last = float(middle[0]), float(middle[-1])
        times = {
            f"T_{name}_{letter}": scale(seconds)
            for name, seconds in (("STRT", first), ("STOP", last))
            for letter, scale in (("O", clock.obt), ("U", clock.stamp), ("M", clock.mjd))
        }
        return {
            **times,
            "NEXP": nexp,
            "EXPTIME": case.exptime,
            "TEXPTIME": nexp * case.exptime,
            "STACKING": "coadd" if nexp > 1 else "none",
            "RO_SCRPT": mode.script,
            "RO_FREQU": mode.frequency,
            "IFSW_VER": 0,
            "ACQ_MODE": 5 if mode is detector.FULL_FRAME else 1,
            "RD_MODE": mode.name,
            "OVERSAMP": False,
            "F_SOURCE": 0,
            "REPETIT": repetition,
        }

    def times(self, seconds: Floats) -> dict[str, NDArray[Any]]:
        """Return the three time columns."""
        clock = self.clock
        return {"OBT_TIME": clock.obt(seconds), "UTC_TIME": clock.text(seconds), "MJD_TIME": clock.mjd(seconds)}

    def metadata(self, middle: Floats, counter: NDArray[Any], hk: Mapping[str, Floats], mode: detector.Mode) -> dict[str, Any]:
        """Return the columns of SCI_RAW_ImageMetadata."""
        around = self.orbit.at(middle)
        return {
            **self.times(middle),
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
            "PIX_DATA_OFFSET": round(detector.BIAS[mode.frequency]),
            "HK_SOURCE": "hk tm",
            **{f"HK_VOLT_FEE_{name}": hk[name] for name in ("VOD", "VRD", "VOG", "VSS")},
            **{f"HK_TEMP_FEE_{name}": hk[name] for name in ("CCD", "ADC", "BIAS")},
            **{name: hk[name] for name in hk if name.startswith(("therm", "ADC_"))},
            "HEADER_COMPR": np.nan,
            "STACKED_COMPR": np.nan,
            "MARGINS_COMPR": np.nan,
            "LEFT_DARK_COL_MASK": 0xFFFF,
            "RIGHT_DARK_COL_MASK": 0xFFFF,
        }

    def unstacked(self, middle: Floats, counter: NDArray[Any], hk: Mapping[str, Floats], mode: detector.Mode) -> dict[str, Any]:
        """Return the columns of SCI_RAW_UnstackedImageMetadata; BIAS is filled in when the exposures are taken."""
        return {
            **self.times(middle),
            "CE_COUNTER": counter,
            "GAIN_0": detector.GAIN_NOMINAL,
            "BIAS_0": detector.BIAS[mode.frequency],
            "BIAS": np.nan,
            **{f"CE_VOLT_FEE_{name}": hk[name] for name in ("VOD", "VRD", "VOG", "VSS")},
            "CE_TEMP_FEE_CCD": hk["CCD"],
            "PHOTOMETRY_1": np.nan,
            "PHOTOMETRY_2": np.nan,
            "PHOTOMETRY_3": np.nan,
        }

    def _one(self, subfolder: str, extname: str, first: float, last: float, columns: dict[str, Any], rows: int, **more: Any) -> None:
        keywords = self.keywords(extname, first, last, **more)
        path = self.path(subfolder, extname, first, str(more.get("DATANAME", "")))
        files.write(path, [files.table(extname, keywords, columns, rows, self.date)])

    def _write_tables(self) -> None:
        self._write_attitude()
        self._write_centroids()
        self._write_catalogue()
        self._write_plan()
        self._write_orbit()

    def _write_attitude(self) -> None:
        ra, dec = line_of_sight(self.orbit, self.attitude, PIXEL_SCALE)
        time = self.attitude.time
        columns = {**self.times(time), "SC_RA": ra, "SC_DEC": dec, "SC_ROLL_ANGLE": self.attitude.roll % 360}
        self._one("data", "SCI_RAW_Attitude", float(time[0]), float(time[-1]), columns, time.size)

    def _write_centroids(self) -> None:
        """On-board centroids: the true offset of each exposure with an error of 0.02 pixel."""
        case = self.case
        start, counter = self.exposure_start, np.repeat(self.counter, case.nexp)
        if case.full_frame:
            start, counter = np.append(LEAD, start), np.append(1, counter)
        stop, full = start + case.exptime, start < self.first
        _, x, y = self.attitude.at(start + case.exptime / 2)
        error = 0.02 * self._rng(5).normal(size=(2, start.size))
        columns = {
            **{name.replace("TIME", "START"): values for name, values in self.times(start).items()},
            **{name.replace("TIME", "STOP"): values for name, values in self.times(stop).items()},
            "FULL_FRAME": full,
            "CE_COUNTER": counter,
            "ACQUISITION_ID": 0,
            "OFFSET_X": x + error[0],
            "OFFSET_Y": y + error[1],
            "LOCATION_X": case.place[0],
            "LOCATION_Y": case.place[1],
            "DATA_CADENCE": self.repetition,
            "VALIDITY": full.astype(int),
        }
        self._one("data", "SCI_RAW_Centroid", float(start[0]), float(stop[-1]), columns, start.size)

    def _write_catalogue(self) -> None:
        """The star catalogue, by distance; magnitudes of field stars carry an error of 0.02."""
        field, rng = self.field, self._rng(6)
        order = np.argsort(np.hypot(field.xi, field.eta))
        ra, dec = from_standard(field.xi[order], field.eta[order], self.orbit.ra, self.orbit.dec)
        error = np.where(order == 0, 0.0, 0.02)
        day, fraction = self.clock.tt(0.0)
        columns = {
            "ID": [f"{4_000_000_000 + star}" for star in order],
            "TARGET": order == 0,
            "RA": ra,
            "RA_ERR": 0.0,
            "DEC": dec,
            "DEC_ERR": 0.0,
            "DISTANCE": np.hypot(field.xi, field.eta)[order],
            "MAG_GAIA": field.g_magnitude[order] + error * rng.normal(size=order.size),
            "MAG_GAIA_ERR": error,
            "T_EFF": field.teff[order],
            "T_EFF_ERR": 100.0,
        }
        more: dict[str, Any] = {
            "DATANAME": f"OBSID{self.obsid:010d}",
            "EXTINCT": 0.0,
            "OBSEPOCH": 2000 + float(day - 2451545.0 + fraction) / 365.25,
            "CENT_RA": self.orbit.ra,
            "CENT_DEC": self.orbit.dec,
            "GAIN": detector.GAIN_NOMINAL,
            "FOV": 551.0,
            "PITL": True,
        }
        self._one("data", "EXT_PRE_StarCatalogue", 0.0, self.stop + LEAD, columns, order.size, **more)

    def _write_plan(self) -> None:
        """The planned visit and, every minute, its constraints."""
        case = self.case
        end = self.stop + LEAD
        same = {
            "PROGRAMME_TYPE": case.programme_type,
            "PROGRAMME_ID": case.programme,
            "REQUEST_ID": case.request,
            "OBSID": self.obsid,
        }
        transit = self.clock.barycentric(np.array([self.transit_middle]), self.orbit.ra, self.orbit.dec)
        visit = {
            **same,
            "UTC_TIME_START": self.clock.stamp(0.0),
            "UTC_TIME_STOP": self.clock.stamp(end),
            "PI_NAME": "simulation",
            "PI_UID": 0,
            "E_MAIL": "",
            "PROP_FIRST_VISIT": 365,
            "PROP_LAST_VISIT": 548,
            "TARGET_NAME": case.target_name[:24],
            "SPECTRAL_TYPE": case.spectral_type[:15],
            "OBS_CATEGORY": "time critical",
            "READOUT_MODE": self.mode.name,
            "MARGIN_MODE": case.margins,
            "EXPTIME": case.exptime,
            "NEXP": case.nexp,
            "NEXP_IMAGETTES": int(case.imagettes),
            "N_FULLFRAME_EXP": int(case.full_frame),
            "N_WINDOWFRAME_EXP": int(self.slots[-1] + 1) * case.nexp,
            "MAG_TARG": case.magnitude,
            "RA_TARG": self.orbit.ra,
            "DEC_TARG": self.orbit.dec,
            "TRANSIT_TIME": transit if case.transit else np.nan,
            "TRANSIT_PERIOD": case.transit_period if case.transit else np.nan,
            "TARGET_LOCATION_X": case.place[0],
            "TARGET_LOCATION_Y": case.place[1],
            "STRAY_LIGHT_THRESHOLD": 1e9,
        }
        time = np.arange(0.0, end + 60, 60.0)
        around, times = self.orbit.at(time), self.times(time)
        constraints = {
            **same,
            "UTC_TIME": times["UTC_TIME"],
            "MJD_TIME": times["MJD_TIME"],
            "LOS_TO_SUN_ANGLE": around.sun,
            "LOS_TO_MOON_ANGLE": around.moon,
            "STRAY_LIGHT": sky.stray_light(around.limb, case.stray_light),
            "EARTH_OCCULTATION": _present(case.occultation, around.occulted),
            "SAA_FLAG": _present(case.saa, around.in_saa),
        }
        names = ("MPS_PRE_Visits", "MPS_PRE_VisitConstraints")
        parts = [
            files.table(name, self.keywords(name, 0.0, end), columns, rows, self.date)
            for name, columns, rows in zip(names, (visit, constraints), (1, time.size), strict=True)
        ]
        files.write(self.path("data", names[0], 0.0), parts)

    def _write_orbit(self) -> None:
        """The orbit every minute, from five minutes before to five minutes after."""
        time = np.arange(-300.0, self.stop + 360, 60.0)
        around = self.orbit.at(time)
        columns: dict[str, Any] = {"EPOCH": self.clock.text(time)}
        for i, axis in enumerate("XYZ"):
            columns[axis] = around.position[:, i]
            columns[f"{axis}_DOT"] = around.velocity[:, i]
        columns |= {"LATITUDE": around.latitude, "LONGITUDE": around.longitude}
        first, last = float(time[0]), float(time[-1])
        more: dict[str, Any] = {
            "USE_STTM": self.clock.stamp(first),
            "USE_ENTM": self.clock.stamp(last),
            "DEG_INRT": 7,
        }
        self._one("aux", "AUX_RES_Orbit", first, last, columns, time.size, **more)

    def _write_full_frame(self) -> None:
        """One exposure of the whole CCD before the first stack."""
        case, mode = self.case, detector.FULL_FRAME
        camera = Camera(case, mode, 0, 0, detector.SIZE, detector.SIZE, self._dark_weight())
        middle = np.array([LEAD + case.exptime / 2])
        hk = draw_housekeeping(self._rng(7), middle)
        exposure = self.expose(camera, self._rng(8), LEAD, float(hk.gain[0]), False, False)
        words = self.exposure_keywords(middle, 1, mode, max(case.exptime, detector.ROWS * detector.COLUMNS / mode.frequency))
        words |= {"MRG_MODE": "image", "MRG_PROC": "image", "X_WINOFF": 0, "Y_WINOFF": 0}
        words |= {f"MRG_DTY{i}": "N/A" for i in range(1, 5)}
        valid = LEAD, LEAD + case.exptime

        def part(extname: str, data: NDArray[Any]) -> files.Part:
            return files.image(extname, self.keywords(extname, *valid, **words), data, self.date)

        margins = _margins(exposure.sides.astype(float), exposure.top.astype(float))
        parts = [part("SCI_RAW_FullArray", exposure.image)]
        parts += [part(f"SCI_RAW_{name}", data[None]) for name, data in margins.items()]
        columns = self.unstacked(middle, np.array([1]), hk.measured, mode)
        columns["BIAS"] = margins["OverscanLeft"].mean()
        metadata = self.metadata(middle, np.array([1]), hk.measured, mode)
        for name, values in (("ImageMetadata", metadata), ("UnstackedImageMetadata", columns)):
            extname = f"SCI_RAW_{name}"
            parts.append(files.table(extname, self.keywords(extname, *valid, **words), values, 1, self.date))
        files.write(self.path("data", "SCI_RAW_FullArray", float(middle[0])), parts)


class Cubes:
    """The files that grow with the stacks: sub-array with margins and metadata, imagettes, cosmic rays."""

    def __init__(self, visit: Visit, camera: Camera) -> None:
        self.visit, self.case = visit, visit.case
        case = self.case
        self.mask = _window_mask(case.height, case.width, min(case.height, case.width) / 2, case.shape)
        self.valid = float(visit.start[0]), visit.stop
        self.words = visit.exposure_keywords(visit.middle, case.nexp, visit.mode, visit.repetition)
        self.words |= {"X_WINOFF": camera.left, "Y_WINOFF": camera.bottom, "SHAPE": case.shape, "MRG_MODE": case.margins}
        self.streams: list[files.Stream] = []
        self.subarray = self._open_subarray()
        self.imagette = self._open_imagette() if case.imagettes else None
        self.cosmics = self._open_cosmics() if case.truth_cosmics else None

    def __enter__(self) -> Cubes:
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self.subarray.update(9)
        for stream in self.streams:
            stream.__exit__(*error)

    def _stream(self, path: Path, parts: list[files.Part]) -> files.Stream:
        self.streams.append(files.Stream(path, parts))
        return self.streams[-1]

    def _open_subarray(self) -> files.Stream:
        case, visit = self.case, self.visit
        ready = "SCI_RAW_SubArray", (case.images, case.height, case.width)
        parts = [files.cube(ready[0], visit.keywords(ready[0], *self.valid, **self.words), ready[1], visit.date)]
        blank = _collapse(case.margins, _margins(np.zeros((case.height, 52)), np.zeros((9, case.width))))
        for name, (data, process, kinds) in blank.items():
            extname = f"SCI_RAW_{name}"
            more = {**self.words, "MRG_PROC": process, **{f"MRG_DTY{i}": kind for i, kind in enumerate(kinds, 1)}}
            words = visit.keywords(extname, *self.valid, **more)
            parts.append(files.cube(extname, words, (case.images, *data.shape), visit.date))
        hk = visit.housekeeping.measured
        mean = {name: values.reshape(case.images, case.nexp).mean(axis=1) for name, values in hk.items()}
        tables = (
            ("SCI_RAW_ImageMetadata", visit.metadata(visit.middle, visit.counter, mean, visit.mode)),
            (
                "SCI_RAW_UnstackedImageMetadata",
                visit.unstacked(visit.exposure_middle, np.repeat(visit.counter, case.nexp), hk, visit.mode),
            ),
        )
        for extname, columns in tables:
            words = visit.keywords(extname, *self.valid, **self.words)
            parts.append(files.table(extname, words, columns, len(columns["MJD_TIME"]), visit.date))
        return self._stream(visit.path("data", "SCI_RAW_SubArray", float(visit.middle[0])), parts)

    def _open_imagette(self) -> files.Stream:
        case, visit, size = self.case, self.visit, self.case.imagette_size
        self.imagette_mask = _window_mask(size, size, size // 2, "circular")
        x, y = (
            int(np.clip(np.floor(place) - size // 2 - offset, 0, length - size))
            for place, offset, length in zip(
                case.place, (case.window_x, case.window_y), (case.width, case.height), strict=True
            )
        )
        self.imagette_cut = slice(y, y + size), slice(x, x + size)
        words = {**self.words, **visit.exposure_keywords(visit.exposure_middle, 1, visit.mode, visit.repetition)}
        words |= {"SHAPE": "circular", "STACKING": "none", "CROPPING": "static window"}
        columns = {
            **visit.times(visit.exposure_middle),
            "CE_COUNTER": np.repeat(visit.counter, case.nexp),
            "IMAGETTES_COMPR": np.nan,
            "NEXP": 1,
            "X_OFF_FULL_ARRAY": case.window_x + x,
            "Y_OFF_FULL_ARRAY": case.window_y + y,
            "X_OFF_SUB_ARRAY": x,
            "Y_OFF_SUB_ARRAY": y,
        }
        rows = visit.exposure_middle.size
        name, table = "SCI_RAW_Imagette", "SCI_RAW_ImagetteMetadata"
        parts = [
            files.cube(name, visit.keywords(name, *self.valid, **words), (rows, size, size), visit.date),
            files.table(table, visit.keywords(table, *self.valid, **words), columns, rows, visit.date),
        ]
        return self._stream(visit.path("data", name, float(visit.exposure_middle[0])), parts)

    def _open_cosmics(self) -> files.Stream:
        case = self.case
        structure = Structure("TRUTH_COSMICS", "charge of cosmic rays in each stack [electron]", image="float")
        part = files.Part(structure, {}, (case.images, case.height, case.width), self.visit.date)
        return self._stream(self.visit.folder / "truth" / "cosmics.fits", [part])

    def add_exposure(self, e: int, exposure: Exposure) -> None:
        """Put exposure number `e` where single exposures go."""
        table = self.subarray.parts[9].data
        if table is not None:
            table["BIAS"][e] = exposure.sides[:, :4].mean()
        if self.imagette is not None:
            self.imagette.put(0, e, np.where(self.imagette_mask, exposure.image[self.imagette_cut], 0))

    def add_stack(self, n: int, exposures: list[Exposure]) -> None:
        """Co-add the exposures of stack `n` and write it."""
        image = np.sum([exposure.image for exposure in exposures], axis=0, dtype=np.uint32)
        self.subarray.put(0, n, np.where(self.mask, image, 0))
        sides = np.sum([exposure.sides for exposure in exposures], axis=0, dtype=float)
        top = np.sum([exposure.top for exposure in exposures], axis=0, dtype=float)
        for index, (data, _, _) in enumerate(_collapse(self.case.margins, _margins(sides, top)).values(), 1):
            self.subarray.put(index, n, data)
        if self.cosmics is not None:
            self.cosmics.put(0, n, np.sum([exposure.cosmics for exposure in exposures], axis=0))


def _window_mask(height: int, width: int, radius: float, shape: str) -> NDArray[np.bool_]:
    """Return the pixels that are transmitted: all, or those whose centre lies within `radius` of the centre."""
    y, x = np.ogrid[:height, :width]
    inside = (x + 0.5 - width / 2) ** 2 + (y + 0.5 - height / 2) ** 2 <= radius**2
    return inside if shape == "circular" else np.ones((height, width), bool)


def _margins(sides: Floats, top: Floats) -> dict[str, Floats]:
    """Split side columns and top rows into the margins, in the order of the file."""
    return {
        "BlankLeft": sides[:, 4:12],
        "BlankRight": sides[:, 44:52],
        "DarkLeft": sides[:, 12:28],
        "DarkRight": sides[:, 28:44],
        "DarkTop": top[:3],
        "OverscanLeft": sides[:, :4],
        "OverscanTop": top[3:],
    }


def _collapse(mode: str, margins: dict[str, Floats]) -> dict[str, tuple[Floats, str, tuple[str, ...]]]:
    """Return each margin as it is transmitted, the name of the process and of its rows or columns."""
    result = {}
    for name, data in margins.items():
        top = name.endswith("Top")
        if mode == "image" or (mode == "reduced" and top):
            result[name] = data, "image", ("N/A",) * 4
        elif mode == "reduced" and name.startswith("Dark"):
            rows = np.stack([data.mean(axis=1), data.std(axis=1, ddof=1), np.median(data, axis=1)], axis=1)
            result[name] = rows, "row collapsed", ("mean", "stdev", "median", "N/A")
        else:
            middle = float(np.median(data))
            four = np.array([data.mean(), data.std(ddof=1), middle, np.median(np.abs(data - middle))])
            result[name] = four.reshape((4, 1) if top else (1, 4)), "total collapsed", ("mean", "stdev", "median", "mad")
    return result
