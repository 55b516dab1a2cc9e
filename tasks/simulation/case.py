"""The settings of a simulated visit, as shipped in `cases/` or defined by a user or a test."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.simulation import layout

Presence = Literal["orbit", "never", "always"]
FILES = ("light_curve", "field_file", "psf_file")


class ImpossibleCase(ValueError):
    """The values of a case are allowed one by one, but together they leave nothing to simulate."""


class Case(BaseModel):
    """The settings of a simulated visit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # the visit
    start: str = Field(
        "2021-03-10T08:00:00",
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?$",
        description="UTC; the CCD ages with it",
    )
    images: int = Field(12, ge=1, le=10_000_000, description="stacks written")
    nexp: int = Field(3, ge=1, le=60, description="exposures in a stack")
    exptime: float = Field(20.0, gt=0, le=600, description="one exposure [s]")

    # the target
    target_name: str = "Simulated"
    spectral_type: str = "G0V"
    magnitude: float = Field(9.0, ge=-2, le=20, description="Gaia G of the target")
    teff: int = Field(5900, ge=2300, le=39500, description="[K]")
    transit: bool = True
    radius_ratio: float = Field(0.0354, gt=0, lt=1, description="planet to star")
    transit_period: float = Field(
        2.0, gt=0, description="[day]; mid-transit is halfway through the visit"
    )
    impact: float = Field(0.3, ge=0, lt=1)
    granulation: float = Field(
        0.0, ge=0, le=100, description="scale; 1 is a star of this effective temperature"
    )
    light_curve: Path | None = Field(
        None, description="relative flux by time, instead of transit and granulation"
    )

    # the field
    near_stars: int = Field(
        4,
        ge=0,
        le=1000,
        description="field stars 30-110 arcsec from the target, at least 2.5 mag fainter",
    )
    nearest: float = Field(
        25.0,
        ge=0,
        le=500,
        description="smallest distance of generated stars from the target [arcsec]",
    )
    stars: float = Field(
        20.0,
        ge=0,
        le=1e4,
        description="field stars brighter than G = 15 within 551 arcsec of the target",
    )
    faintest: float = Field(18.0, ge=10, le=20, description="faintest field star [mag]")
    count_slope: float = Field(
        0.27, ge=0, le=0.6, description="increase of log10 of the counts per magnitude"
    )
    field_file: Path | None = Field(
        None, description="stars (RA, Dec, magnitude, type) instead of generated ones"
    )
    field_offset: tuple[float, float] = Field(
        (0.0, 0.0),
        description="position of the target in the field of the file, East and North [arcsec]",
    )
    more_stars: tuple[tuple[float, float, float, float], ...] = Field(
        (), description="additional stars: East, North [arcsec], G, effective temperature [K]"
    )
    proper_motion: float = Field(
        1.0, ge=0, le=100, description="scale of the field stars' proper motions"
    )
    variable_stars: float = Field(
        0.05, ge=0, le=1, description="fraction of the field stars that vary"
    )
    cool_excess: float = Field(
        1.0,
        ge=0,
        le=5,
        description="scale of the excess light of M dwarfs, which catalogues do not include",
    )

    # the optics
    psf_file: Path | None = Field(
        None, description="an image of the PSF, instead of the simulated one"
    )
    psf_position: float = Field(
        1.0, ge=0, le=10, description="scale of the PSF's change over the field of view"
    )
    breathing: float = Field(
        1.0,
        ge=0,
        le=100,
        description="scale of the PSF's change with the temperature of the telescope",
    )
    blur: float = Field(
        1.0,
        ge=0,
        le=10,
        description="scale of the motion within an exposure; 0 draws all stars at rest",
    )
    halo: float = Field(1.0, ge=0, le=100, description="scale of the light scattered by the mirror")
    ghost: float = Field(
        1.0, ge=0, le=100, description="scale of the light reflected between surfaces"
    )
    zodiacal: float = Field(1.0, ge=0, le=100, description="scale of the zodiacal light")
    stray_light: float = Field(
        2.0, ge=0, le=1e4, description="light of the bright Earth at its limb [electron/s/pixel]"
    )
    stray_angle: float = Field(
        6.0, gt=0, le=90, description="angle from the limb over which it falls by e [deg]"
    )
    spikes: float = Field(0.0, ge=0, le=1000, description="sudden stray light, events per hour")
    streaks: float = Field(
        0.0, ge=0, le=1000, description="satellites that cross the window, per hour"
    )

    # the window
    width: int = Field(200, ge=8, le=1024)
    height: int = Field(200, ge=8, le=1024)
    window_x: int = Field(412, ge=0, description="offset of the window [pixel]")
    window_y: int = Field(412, ge=0)
    target_x: float | None = Field(
        None,
        description="intended position of the target, by default the centre of the window [pixel]",
    )
    target_y: float | None = None
    shape: Literal["circular", "rectangular"] = "circular"
    margins: Literal["image", "reduced", "total collapsed"] = "image"
    full_frame: bool = False
    imagettes: bool = False
    imagette_size: int = Field(35, ge=5)
    imagette_nexp: int = Field(1, ge=1, description="exposures in an imagette; a divisor of nexp")

    # the detector: each effect has a scale or a switch
    noise: bool = Field(True, description="photon and read-out noise")
    rounding: bool = Field(
        True, description="steps of the converter; without, only the finished stack is rounded"
    )
    flat: float = Field(
        1.0,
        ge=0,
        le=10,
        description="scale of the flat field's deviation from one, dead pixels included",
    )
    dark: float = Field(
        1.0, ge=0, le=100, description="scale of the dark current, without hot pixels"
    )
    ccd_warmer: float = Field(
        0.0, ge=-20, le=20, description="temperature of the CCD above the usual one [degC]"
    )
    hot: float = Field(1.0, ge=0, le=100, description="scale of the current of hot pixels")
    warm: float = Field(
        0.0,
        ge=0,
        le=0.1,
        description="fraction of the pixels that became hot after the last map, 2-5 electron/s",
    )
    telegraphic: float = Field(
        1.0, ge=0, le=100, description="scale of the levels of telegraphic pixels"
    )
    nonlinearity: float = Field(
        1.0, ge=0, le=3, description="scale of the deviation from a straight line"
    )
    saturation: bool = Field(
        True, description="whether charge above the full well bleeds along the columns"
    )
    cti: float = Field(
        1.0, ge=0, le=100, description="scale of the charge lost and trailed in the transfers"
    )
    smearing: float = Field(
        1.0, ge=0, le=100, description="scale of the time per row of the frame transfer"
    )
    bias_structure: float = Field(
        1.0, ge=0, le=100, description="scale of the bias frame's structure"
    )
    bias_drift: float = Field(
        0.0, ge=0, le=1000, description="amplitude of the bias over an orbit [ADU]"
    )
    gain_drift: float = Field(
        1.0, ge=-1000, le=1000, description="scale of the drift of the voltages"
    )
    cosmic_rays: float = Field(1.0, ge=0, le=1000, description="scale of the rate of cosmic rays")

    # changes since the reference files were made
    flat_error: float = Field(0.0, ge=0, le=0.1, description="response of a pixel, relative [rms]")
    dark_error: float = Field(
        0.0, ge=0, le=1, description="dark current of a pixel, relative [rms]"
    )
    bias_error: float = Field(0.0, ge=0, le=10, description="bias of a pixel [ADU rms]")
    psf_error: float = Field(0.0, ge=-0.1, le=0.1, description="size of the PSF, relative")
    linearity_error: float = Field(
        0.0, ge=-1, le=1, description="deviation from a straight line, relative"
    )

    # spacecraft and telemetry
    jitter: float = Field(0.3, ge=0, le=20, description="pointing error in each axis [pixel rms]")
    jitter_time: float = Field(
        30.0, gt=0, le=1e5, description="correlation time of the pointing error [s]"
    )
    attitude_cadence: float = Field(1.0, gt=0, description="[s]")
    tilt: float = Field(
        20.0,
        ge=-40,
        le=40,
        description="target from the orbit's pole [deg]; above 23.8 it is occulted at times",
    )
    saa: Presence = Field("orbit", description="as the map says (orbit), never, or always")
    occultation: Presence = "orbit"
    kept_flagged: float = Field(
        0.0,
        ge=0,
        le=1,
        description="fraction of the stacks in the SAA or occulted that are written",
    )
    missing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the other stacks that are lost on the way to the ground",
    )
    damaged: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the written stacks with a block of zeros and a bad integrity flag",
    )

    programme_type: int = Field(90, ge=10, le=99)
    programme: int = Field(1, ge=0, le=9999)
    request: int = Field(1, ge=0, le=9999)
    visit_counter: int = Field(1, ge=1, le=99)

    @field_validator("light_curve", "field_file", "psf_file")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"{path}: no such file")
        return path

    @model_validator(mode="after")
    def _possible(self) -> Case:
        if self.window_x + self.width > layout.SIZE or self.window_y + self.height > layout.SIZE:
            raise ValueError(f"the window extends beyond the exposed area of {layout.SIZE} pixels")
        if self.imagettes and self.nexp == 1:
            raise ValueError("imagettes need stacked exposures: nexp must be at least 2")
        if self.nexp % self.imagette_nexp:
            raise ValueError(
                "imagette_nexp is not a divisor of nexp: an imagette would contain exposures of "
                "two stacks"
            )
        if self.imagettes and self.imagette_size > min(self.width, self.height):
            raise ValueError("imagette_size is larger than the window")
        if "always" in (self.saa, self.occultation) and self.kept_flagged == 0:
            raise ValueError(
                "every stack is in the SAA or occulted, so that nothing is written: set "
                "kept_flagged"
            )
        return self

    @property
    def window(self) -> layout.Window:
        """The pixels that are read."""
        return layout.Window(self.window_x, self.window_y, self.width, self.height)

    @property
    def place(self) -> tuple[float, float]:
        """Intended position of the target in the exposed area [pixel]."""
        x = self.window_x + self.width / 2 if self.target_x is None else self.target_x
        y = self.window_y + self.height / 2 if self.target_y is None else self.target_y
        return x, y


def case_names() -> list[str]:
    """Return the names of the shipped cases."""
    return sorted(
        path.name.removesuffix(".toml")
        for path in package_files("tasks.simulation").joinpath("cases").iterdir()
    )


def describe_case(name: str) -> str:
    """Return the comment with which the file of a shipped case begins."""
    path = package_files("tasks.simulation").joinpath("cases", f"{name}.toml")
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return " ".join(line.lstrip("# ") for line in comment)


def load_case(name: str | Path) -> Case:
    """Return a shipped case by its name, or one from a TOML file by its path.

    Paths in a TOML file are relative to its folder.

    Raises
    ------
    OSError
        If there is no such case or file.
    ValueError
        If the file is not TOML, or has unknown keys or impossible values; pydantic's
        ValidationError names them all.
    """
    if isinstance(name, str) and name in case_names():
        text = (
            package_files("tasks.simulation")
            .joinpath("cases", f"{name}.toml")
            .read_text(encoding="utf-8")
        )
        return Case.model_validate(tomllib.loads(text))
    path = Path(name)
    return case_of(tomllib.loads(path.read_text(encoding="utf-8")), path.parent)


def case_of(values: Mapping[str, Any], folder: Path) -> Case:
    """Return the case with these settings; paths in them are relative to `folder`.

    Raises
    ------
    ValueError
        As in `load_case`.
    """
    files = {key: folder / values[key] for key in FILES if isinstance(values.get(key), str)}
    return Case.model_validate({**values, **files})
