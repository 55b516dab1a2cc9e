"""What is simulated: the settings of a visit, as shipped in `cases/` or given by a test."""

from __future__ import annotations

import tomllib
from importlib.resources import files as package_files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.simulation import detector

Presence = Literal["orbit", "never", "always"]


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
    tilt: float = Field(
        20.0, ge=-40, le=40, description="target from the orbit's pole [deg]; above 23.8 it is occulted at times"
    )
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
