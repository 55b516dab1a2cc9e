"""A simulated visit: what is observed when, exposure by exposure, written as the raw products of the SOC with the truth beside.

Expected charge of a pixel in one exposure: t flat (stars + background) + smearing + dark (t + read time) [electron]; drawn from a Poisson
distribution, cosmic rays added, then non-linearity, gain, bias, read-out noise, rounding. Exposures are co-added to a stack. Smearing: during
the frame transfer each column passes every row for 25 microseconds, before and after the exposure; the two trails
add up to one value a column but for the motion between the first and the last second, of which the mean is taken.

Positions: pixel i spans [i, i+1) in the exposed area of the CCD. The pointing is the attitude at the time itself. Margins: dark columns and
rows are shielded, blank and overscan columns carry bias and noise, overscan rows the charge of the transfer and of the read-out.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.products import Column, Structure, soc_structure
from tasks.simulation import detector, files, sky
from tasks.simulation.optics import flight_like_psf
from tasks.simulation.spacecraft import (
    DAY,
    PERIOD,
    Attitude,
    Clock,
    Housekeeping,
    Orbit,
    draw_attitude,
    draw_housekeeping,
    from_standard,
    line_of_sight,
    on_ccd,
)

Floats = NDArray[np.float64]
Presence = Literal["orbit", "never", "always"]

PIXEL_SCALE = 1.002  # [arcsec]
SETTLING = 30.0  # between full frame and first stack [s]
LEAD = 10.0  # between start of the visit and first exposure [s]
SAA_COSMIC_FACTOR = 100.0
FAINTEST_TRAIL = 0.05  # stars that smear less charge than this over all columns are left out [electron]


class Case(BaseModel):
    """What is simulated."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    start: str = Field("2024-03-10T08:00:00", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?$", description="UTC")
    images: int = Field(12, ge=1, description="stacks written")
    nexp: int = Field(3, ge=1, le=60, description="exposures in a stack")
    exptime: float = Field(20.0, gt=0, le=600, description="one exposure [s]")

    target_name: str = "Simulated"
    spectral_type: str = "G0V"
    magnitude: float = Field(9.0, description="Gaia G of the target")
    teff: int = Field(5900, ge=2300, le=39500, description="[K]")
    near_stars: int = Field(4, ge=0, description="field stars 30-110 arcsec from the target")
    far_stars: int = Field(40, ge=0, description="field stars up to 551 arcsec from it")
    background: float = Field(3.0, ge=0, description="sky [electron/s/pixel]")
    stray_light: float = Field(2.0, ge=0, description="stray light at the Earth's limb [electron/s/pixel]")
    transit: bool = True
    radius_ratio: float = Field(0.0354, gt=0, lt=1, description="planet to star")
    transit_period: float = Field(2.0, gt=0, description="[day]; mid-transit is half-way through the visit")
    impact: float = Field(0.3, ge=0, lt=1)

    width: int = Field(200, ge=8, le=1024)
    height: int = Field(200, ge=8, le=1024)
    window_x: int = Field(412, ge=0, description="offset of the window [pixel]")
    window_y: int = Field(412, ge=0)
    target_x: float | None = Field(None, description="intended place of the target; none is the window's centre [pixel]")
    target_y: float | None = None
    shape: Literal["circular", "rectangular"] = "circular"
    margins: Literal["image", "reduced", "total collapsed"] = "image"
    full_frame: bool = False
    imagettes: bool = False
    imagette_size: int = Field(35, ge=5)

    noise: bool = Field(True, description="photon and read-out noise")
    cosmic_rays: bool = True
    smearing: bool = True
    dark: bool = True
    flat: bool = True
    nonlinearity: bool = True
    bias_drift: float = Field(0.0, description="amplitude of the bias over an orbit [ADU]")

    jitter: float = Field(0.3, ge=0, description="pointing error in each axis [pixel rms]")
    attitude_cadence: float = Field(1.0, gt=0, description="[s]")
    tilt: float = Field(20.0, ge=-40, le=40, description="target from the orbit's pole [deg]; above 23.8 it is occulted at times")
    saa: Presence = Field("orbit", description="where the map says, or never, or always")
    occultation: Presence = "orbit"
    kept_flagged: float = Field(0.0, ge=0, le=1, description="fraction of the stacks in the SAA or occulted that is written")
    truth_cosmics: bool = Field(False, description="write the cube of cosmic rays")

    programme_type: int = Field(90, ge=10, le=99)
    programme: int = Field(1, ge=0, le=9999)
    request: int = Field(1, ge=0, le=9999)
    visit_counter: int = Field(1, ge=1, le=99)

    @model_validator(mode="after")
    def _possible(self) -> Case:
        if self.window_x + self.width > detector.SIZE or self.window_y + self.height > detector.SIZE:
            raise ValueError(f"the window leaves the exposed area of {detector.SIZE} pixels")
        if self.imagettes and self.nexp == 1:
            raise ValueError("imagettes exist only for stacked exposures: nexp must be at least 2")
        if self.imagettes and self.imagette_size > min(self.width, self.height):
            raise ValueError("imagette_size is larger than the window")
        if "always" in (self.saa, self.occultation) and self.kept_flagged == 0:
            raise ValueError("every stack is in the SAA or occulted: set kept_flagged, or there is nothing to write")
        return self

    @property
    def place(self) -> tuple[float, float]:
        """Intended place of the target in the exposed area [pixel]."""
        x = self.window_x + self.width / 2 if self.target_x is None else self.target_x
        y = self.window_y + self.height / 2 if self.target_y is None else self.target_y
        return x, y


def case_names() -> list[str]:
    """Return the names of the cases that are shipped."""
    return sorted(path.name.removesuffix(".toml") for path in package_files("tasks.simulation").joinpath("cases").iterdir())


def load_case(name: str | Path) -> Case:
    """Return a shipped case by its name, or one from a TOML file by its path."""
    if isinstance(name, str) and name in case_names():
        text = package_files("tasks.simulation").joinpath("cases", f"{name}.toml").read_text(encoding="utf-8")
    else:
        text = Path(name).read_text(encoding="utf-8")
    return Case.model_validate(tomllib.loads(text))


def simulate_visit(
    folder: Path, case: Case, seed: int = 1, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the raw products of a visit below `folder`: data/, aux/ and, for tests only, truth/.

    The same case and seed give the same bytes. Cubes are written image by image: memory does not grow with their length.

    Parameters
    ----------
    folder : Path
        Where to write; files that exist are not overwritten.
    case : Case
        What to simulate.
    seed : int
        Seed of stars, pointing, housekeeping and noise.
    progress : callable, optional
        Called with the number of stacks done and to do.

    Raises
    ------
    FileExistsError
        If a product exists already.
    ValueError
        If the case leaves nothing to write.
    """
    Visit(folder, case, seed).write(progress)


@dataclass(frozen=True)
class Exposure:
    """One exposure: raw values [ADU] of the window, the side margins and the top margins, and what is true of it."""

    image: NDArray[np.uint16]
    sides: NDArray[np.uint16]
    top: NDArray[np.uint16]
    target: float  # charge of the target on a flat detector [electron]
    light: float  # relative flux of the target
    x: float
    y: float
    background: float  # [electron/pixel]
    smearing: Floats  # [electron] of each column
    cosmics: Floats  # [electron]


class Visit:
    """All that is decided before the first exposure, and the exposures."""

    def __init__(self, folder: Path, case: Case, seed: int) -> None:
        self.folder, self.case, self.seed = folder, case, seed
        self.clock = Clock(case.start)
        self.orbit = Orbit(self.clock, case.tilt)
        self.mode = detector.read_out_mode(case.exptime)
        self.field = sky.draw_field(self._rng(1), case.magnitude, case.teff, case.near_stars, case.far_stars)
        rows = detector.ROWS if self.mode.whole else case.height + 9
        self.repetition = max(case.exptime, rows * detector.COLUMNS / self.mode.frequency)
        self.span = (case.nexp - 1) * self.repetition + case.exptime  # of a stack, first start to last end
        self.first = LEAD + (case.exptime + SETTLING if case.full_frame else 0.0)
        self.slots, self.flagged_saa, self.flagged_occulted = self._schedule()
        self.start = self.first + self.slots * case.nexp * self.repetition
        self.middle = self.start + self.span / 2
        self.stop = float(self.start[-1] + self.span)
        exposures = self.start[:, None] + np.arange(case.nexp) * self.repetition
        self.exposure_start = exposures.ravel()
        self.exposure_middle = self.exposure_start + case.exptime / 2
        cadence = case.attitude_cadence
        samples = np.arange(int(np.ceil((self.stop + 20) / cadence)) + 1) * cadence
        self.attitude: Attitude = draw_attitude(self._rng(2), self.orbit, samples, case.jitter)
        self.housekeeping: Housekeeping = draw_housekeeping(self._rng(3), self.exposure_middle)
        self.counter = (self.slots + (2 if case.full_frame else 1)) % 65536  # 16 bits
        self.date = self.clock.stamp(self.stop)[:19]
        self.transit_middle = (self.first + self.stop) / 2
        self.planet = sky.Planet(case.radius_ratio, case.transit_period, case.impact)
        self.offset_bias = detector.BIAS[self.mode.frequency]

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *stream))

    def _schedule(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Choose the slots whose stacks are written: all that are clear, and the wanted part of the others."""
        case, step = self.case, self.case.nexp * self.repetition
        slots: list[NDArray[np.int64]] = []
        flags: list[NDArray[np.bool_]] = []
        found = met = block = 0
        size = max(case.images, int(PERIOD / step) + 1)
        while found < case.images:
            if block * size > 100 * case.images + 10_000:
                raise ValueError("the target is hardly ever visible: choose another tilt or start, or set kept_flagged")
            slot = np.arange(block * size, (block + 1) * size)
            begin = self.first + slot * step
            ends = [self.orbit.at(begin + part * self.span) for part in (0.0, 0.5, 1.0)]
            saa = _present(case.saa, np.logical_or.reduce([s.in_saa for s in ends]))
            occulted = _present(case.occultation, np.logical_or.reduce([s.occulted for s in ends]))
            flagged = saa | occulted
            number = met + np.cumsum(flagged)
            kept = ~flagged | (np.floor(number * case.kept_flagged) > np.floor((number - 1) * case.kept_flagged))
            slots.append(slot[kept])
            flags.append(np.stack([saa, occulted])[:, kept])
            found, met, block = found + int(kept.sum()), met + int(flagged.sum()), block + 1
        chosen = np.concatenate(flags, axis=1)[:, : case.images]
        return np.concatenate(slots)[: case.images], chosen[0], chosen[1]

    # Exposures

    def write(self, progress: Callable[[int, int], None] | None) -> None:
        """Write everything."""
        case = self.case
        window = Camera(case, self.mode, case.window_x, case.window_y, case.width, case.height, self._dark_weight())
        self._write_tables()
        if case.full_frame:
            self._write_full_frame()
        truth = Truth(self)
        with Cubes(self, window) as cubes:
            for n in range(case.images):
                rng = self._rng(4, int(self.slots[n]))
                saa, occulted = bool(self.flagged_saa[n]), bool(self.flagged_occulted[n])
                exposures = []
                for e in range(n * case.nexp, (n + 1) * case.nexp):
                    gain = float(self.housekeeping.gain[e])
                    exposure = self.expose(window, rng, float(self.exposure_start[e]), gain, saa, occulted)
                    exposures.append(exposure)
                    truth.add_exposure(e, exposure)
                    cubes.add_exposure(e, exposure)
                cubes.add_stack(n, exposures)
                truth.add_stack(n, exposures)
                if progress is not None:
                    progress(n + 1, case.images)
        truth.write()

    def expose(
        self, camera: Camera, rng: np.random.Generator, start: float, gain: float, saa: bool, occulted: bool
    ) -> Exposure:
        """Take one exposure that begins at `start` [s]."""
        case, seconds = self.case, self.case.exptime
        steps = max(1, int(np.ceil(seconds)))
        time = start + (np.arange(steps) + 0.5) * seconds / steps
        roll, shift_x, shift_y = self.attitude.at(time)
        x, y = case.place[0] + shift_x, case.place[1] + shift_y
        middle = start + seconds / 2
        light = float(self._light_curve(np.array([middle]))[0])
        flux = self.field.flux * (0.0 if occulted else 1.0)
        flux[0] *= light
        around = self.orbit.at(middle)
        background = seconds * float(case.background + sky.stray_light(around.limb, case.stray_light)[0])
        charge = np.full((camera.height, camera.width), background)
        for star in range(flux.size):
            dx, dy = on_ccd(self.field.xi[star], self.field.eta[star], roll, PIXEL_SCALE)
            if flux[star] and camera.sees(x.mean() + dx.mean(), y.mean() + dy.mean()):
                every = 1 if star == 0 else max(1, steps // 6)
                charge += camera.draw((x + dx)[::every], (y + dy)[::every], float(flux[star]) * seconds)
        smearing = self._smearing(camera, flux, roll[[0, -1]], x[[0, -1]], y[[0, -1]], background / seconds)
        cosmics = np.zeros_like(charge)
        if case.cosmic_rays:
            factor = SAA_COSMIC_FACTOR if saa else 1.0
            cosmics = detector.cosmic_rays(rng, seconds, camera.height, camera.width, factor)
        drift = case.bias_drift * float(np.sin(2 * np.pi * middle / PERIOD))
        image, sides, top = camera.read(rng, charge, smearing, cosmics, gain, drift)
        target = float(flux[0]) * seconds
        return Exposure(image, sides, top, target, light, float(x.mean()), float(y.mean()), background, smearing, cosmics)

    def _smearing(self, camera: Camera, flux: Floats, roll: Floats, x: Floats, y: Floats, background: float) -> Floats:
        """Return the charge that the transfer leaves in each column [electron], mean of first and last second."""
        if not self.case.smearing:
            return np.zeros(camera.width)
        bright = np.flatnonzero(flux * detector.TRANSFER_TIME > FAINTEST_TRAIL)
        dx, dy = on_ccd(self.field.xi[bright, None], self.field.eta[bright, None], roll, PIXEL_SCALE)
        share = np.repeat(flux[bright] / 2, 2)
        rate = camera.columns((x + dx).ravel(), (y + dy).ravel(), share)
        return np.asarray(detector.TRANSFER_TIME * (rate + detector.SIZE * background))

    def _light_curve(self, seconds: Floats) -> Floats:
        if not self.case.transit:
            return np.ones(seconds.size)
        return self.planet.light_curve((seconds - self.transit_middle) / DAY)

    def _dark_weight(self) -> float:
        """Return the place of the visit between the two epochs of the dark maps: 0 the first, 1 the second."""
        early, late = (float(Clock(epoch).mjd(0.0)) for epoch in detector.DARK_EPOCHS)
        return (float(self.clock.mjd(0.0)) - early) / (late - early)

    # Products

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


class Camera:
    """A window of the CCD in one read-out mode: draws stars on it and reads it."""

    def __init__(
        self, case: Case, mode: detector.Mode, left: int, bottom: int, width: int, height: int, dark_weight: float
    ) -> None:
        self.left, self.bottom, self.width, self.height = left, bottom, width, height
        self.noise = detector.READ_OUT_NOISE[mode.frequency] if case.noise else 0.0
        self.photon_noise = case.noise
        self.curve = detector.linearisation(mode.frequency) if case.nonlinearity else None
        self.psf = flight_like_psf()
        maps = detector.truth_maps()
        rows = slice(bottom, bottom + height)
        columns = slice(detector.EXPOSED.start + left, detector.EXPOSED.start + left + width)
        self.flat = maps.flat(case.teff)[rows, left : left + width].astype(float) if case.flat else np.ones((height, width))
        waiting = detector.read_time(mode, bottom, height)
        exposed = np.where(np.arange(detector.ROWS)[:, None] < detector.OVERSCAN_TOP.start, case.exptime, 0.0)
        dark = maps.dark_at(dark_weight) * (exposed + waiting) if case.dark else np.zeros(waiting.shape)
        bias = maps.bias[mode.frequency] + detector.BIAS[mode.frequency]
        top = slice(detector.DARK_TOP.start, detector.OVERSCAN_TOP.stop)
        self.dark = dark[rows, columns], dark[rows][:, detector.SIDES], dark[top, columns]
        self.bias = bias[rows, columns], bias[rows][:, detector.SIDES], bias[top, columns]

    def sees(self, x: float, y: float) -> bool:
        """Return whether light of a star at x, y reaches the window: it stands at most 60 pixels outside."""
        return -60 < x - self.left < self.width + 60 and -60 < y - self.bottom < self.height + 60

    def draw(self, x: Floats, y: Floats, flux: float) -> Floats:
        """Return the light of one star in the window."""
        return self.psf.image(x, y, flux, self.left, self.bottom, self.width, self.height)

    def columns(self, x: Floats, y: Floats, flux: Floats) -> Floats:
        """Return the light of stars in each column of the window, summed over all exposed rows."""
        return self.psf.columns(x, y, flux, self.left, self.width, detector.SIZE)

    def read(
        self, rng: np.random.Generator, light: Floats, smearing: Floats, cosmics: Floats, gain: float, drift: float
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]]:
        """Return raw values of image, side margins and top margins for the light that fell on the window [electron]."""
        image, sides, top = (
            self._draw(rng, expected)
            for expected in (light * self.flat + smearing + self.dark[0], self.dark[1], self.dark[2] + smearing)
        )
        image += cosmics
        if self.curve is not None:
            image = self.curve.measure(image)
        raw = [
            detector.digitise(charge, gain, bias + drift, self.noise, rng)
            for charge, bias in zip((image, sides, top), self.bias, strict=True)
        ]
        return raw[0], raw[1], raw[2]

    def _draw(self, rng: np.random.Generator, expected: Floats) -> Floats:
        return rng.poisson(expected).astype(float) if self.photon_noise else np.array(expected, float)


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


def _present(choice: Presence, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return flags if choice == "orbit" else np.full(flags.shape, choice == "always")


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
