"""Settings of the steps.

The key of a step holds its own settings only, so that a change re-runs this step and those that
depend on it.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.light_curves import (
    LARGEST_RADIUS,
    RADII,
    RINF_RADIUS,
    Radii,
    circle_name,
    radii_with,
)

_PAIR = r"[0-9]{1,9}(\.[0-9]{0,12})? +[0-9]{1,4}(\.[0-9]{0,12})?"  # of numbers
_PAIRS = rf"{_PAIR}(, *{_PAIR})*"


class Settings(BaseModel):
    """Base: immutable; unknown names and NaN are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EventSettings(Settings):
    """Conditions of the images."""

    atmosphere: float = Field(
        100.0, ge=0, le=1000, description="height of the atmosphere that hides a star [km]"
    )
    duplicate_tolerance: float = Field(
        1e-3, ge=0, le=10, description="images nearer in time than this are duplicates [s]"
    )
    saturation: float = Field(
        60_000.0,
        gt=0,
        le=65_535,
        description="from here on a pixel is saturated [ADU per exposure]",
    )


class BiasSettings(Settings):
    """Bias level from the margins."""

    smooth: float = Field(
        30.0,
        ge=0,
        le=6000,
        description="window that smooths what follows neither time, orbit nor temperature "
        "[min]; 0: none",
    )
    clip: float = Field(
        4.0, gt=1, le=20, description="margin pixels further out are rejected [sigma]"
    )


class GainSettings(Settings):
    """Gain from the housekeeping."""

    smooth: float = Field(
        30.0,
        ge=0,
        le=6000,
        description="window that smooths what follows neither time nor orbit [min]; 0: gain "
        "as measured",
    )
    deviation: float = Field(
        0.01,
        gt=0,
        le=1,
        description="a gain further from the nominal one is not used, as a share of it",
    )


class LinearitySettings(Settings):
    """Non-linearity."""

    skip: bool = Field(False, description="leave the signal as measured")
    low_signal: float = Field(
        0.0,
        ge=-0.2,
        le=0.2,
        description="share of the charge missing at 100 electrons per exposure, none from 800 on",
    )


class SpreadSettings(Settings):
    """Motion within stacks."""

    skip: bool = Field(
        False, description="linearise stacks as if the star did not move within each"
    )


class DarkSettings(Settings):
    """Dark current."""

    skip: bool = Field(False, description="subtract no dark current; no dark frame is needed then")
    scale: float | None = Field(
        None,
        ge=0,
        le=100,
        description="factor of the dark frames, in place of that of the dark columns",
    )
    shrink: bool = Field(
        True,
        description="shrink pixels towards the usual value as far as the error of the map allows",
    )


class FlatSettings(Settings):
    """Flat field."""

    skip: bool = Field(False, description="divide by no flat field; no flat field is needed then")
    teff: float | None = Field(
        None, ge=1000, le=100_000, description="effective temperature, in place of the target's [K]"
    )
    source: Literal["planes", "wavelengths"] = Field(
        "planes",
        description="planes: interpolate between effective temperatures; wavelengths: combine flat "
        "fields by wavelength",
    )


class PointingSettings(Settings):
    """Attitude."""

    partial: bool = Field(
        False,
        description="continue with an attitude that covers only part of the visit; flag the rest",
    )
    gap: float = Field(
        5.0,
        ge=0,
        le=600,
        description="images that touch a longer gap in the attitude are flagged [s]",
    )
    share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="images of which gaps in the attitude hide a larger share are flagged",
    )


class LookSettings(Settings):
    """First look."""

    sample: int = Field(128, ge=1, le=1024, description="images whose median is the static map")


class BackgroundSettings(Settings):
    """Ring around the target."""

    inner: float = Field(45.0, ge=5, le=500, description="inner radius [pixel]")
    outer: float = Field(97.0, ge=6, le=700, description="outer radius [pixel]")
    clip: float = Field(3.0, gt=1, le=20, description="pixels further out are rejected [sigma]")


class PsfSettings(Settings):
    """PSF of the visit."""

    size: int = Field(
        128, ge=64, le=200, multiple_of=2, description="side of the stamp around the target [pixel]"
    )
    radius: float = Field(
        40.0, ge=10, le=90, description="pixels further out do not enter flux and position [pixel]"
    )
    rounds: int = Field(4, ge=1, le=20, description="alternations between PSF and stars")
    smoothness: float = Field(
        1e-4, gt=0, le=1, description="prior against frequencies that the images do not constrain"
    )
    stiffness: float = Field(
        3e-3, gt=0, le=10, description="prior against a change of the PSF with temperature"
    )
    enough: int = Field(
        16, ge=4, le=1000, description="with fewer images the reference PSF contributes"
    )
    fewest: int = Field(3, ge=1, le=100, description="with fewer images no PSF is estimated")
    lag: float | None = Field(
        None,
        ge=-10,
        le=10,
        description="delay of the attitude, in place of the estimate [s]",
    )


class PsfUse(Settings):
    """Settings of the PSF for all steps that draw it."""

    fewest: int
    radius: float

    @classmethod
    def of(cls, psf: PsfSettings) -> PsfUse:
        """Select them from all settings of the PSF."""
        return cls(fewest=psf.fewest, radius=psf.radius)


class PlateSettings(Settings):
    """Plate solution of the full array."""

    significance: float = Field(
        8.0,
        gt=3,
        le=1000,
        description="least significance of a star above its surroundings [sigma]",
    )
    window: float = Field(
        17.0,
        ge=8,
        le=50,
        description="radius of the circle in which place and size of a star are measured [pixel]",
    )
    near: float = Field(
        50.0,
        ge=0.1,
        le=700,
        description="the target is the brightest star this close to its intended place [pixel]",
    )
    turn: float = Field(
        2.0, ge=0.001, le=20, description="largest roll offset that is searched for [deg]"
    )
    fewest: int = Field(4, ge=3, le=1000, description="with fewer matches there is no solution")
    stars: int = Field(
        300,
        ge=10,
        le=5000,
        description="how many stars of the catalogue are searched for, the brightest",
    )


class StarSettings(Settings):
    """Field stars."""

    fit: bool = Field(True, description="measure the fluxes of field stars that stand out")
    sample: int = Field(32, ge=3, le=256, description="images in which the fluxes are measured")
    most: int = Field(
        100, ge=1, le=1000, description="how many stars are measured at most, the brightest"
    )
    prior: float = Field(0.3, gt=0, le=10, description="relative error of the catalogue's fluxes")


class SmearingSettings(Settings):
    """Smearing."""

    time: float = Field(
        25e-6, gt=0, le=1e-3, description="nominal time of one row shift, trusted to 5 % [s]"
    )


class DefectSettings(Settings):
    """Cosmic rays and static defects."""

    seed: float = Field(
        4.5, gt=2, le=50, description="a pixel this far above the model is a cosmic ray [sigma]"
    )
    neighbour: float = Field(
        2.5,
        gt=1,
        le=50,
        description="a pixel next to a cosmic ray belongs to it from this excess on [sigma]",
    )
    static: float = Field(
        8.0, gt=2, le=100, description="a steady excess this significant is subtracted [sigma]"
    )
    hot: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="a smaller steady excess is subtracted but not called hot [electron/s]",
    )
    share: float = Field(
        0.003,
        ge=0,
        le=1,
        description="a steady excess below this share of the star is not a defect",
    )
    gap: float = Field(
        4.0,
        gt=1,
        le=50,
        description="least distance between the levels of a telegraphic pixel [sigma]",
    )
    contrast: float = Field(
        4.5,
        gt=1,
        le=100,
        description="least ratio of the variance about one level to that about two",
    )


class PositionSettings(Settings):
    """Position of the target."""

    radius: float = Field(25.0, ge=3, le=90, description="radius of the centroid window [pixel]")
    iterations: int = Field(20, ge=1, le=100, description="largest number of iterations")


MOST_RADII, DECIMALS = 10, 2
_RADIUS = {"ge": 3, "le": LARGEST_RADIUS}  # [pixel]


class ApertureSettings(Settings):
    """Circles that follow the target."""

    radii: tuple[Annotated[float, Field(**_RADIUS)], ...] = Field(
        (),
        max_length=MOST_RADII,
        json_schema_extra={"uniqueItems": True},
        description="radii of further circles, each with a light curve such as R12.5 [pixel]; "
        "every visit has those of 15, 16 ... 40 and 22.5 pixels",
    )

    @field_validator("radii", mode="before")
    @classmethod
    def _read_radii(cls, value: object) -> tuple[float, ...]:
        """Return the radii in rising order, from a list or a single number."""
        radii = list(value) if isinstance(value, list | tuple) else [value]
        if len(radii) > MOST_RADII:
            raise ValueError(f"has {len(radii)} radii, expected at most {MOST_RADII}")
        return tuple(sorted(_checked_radius(radius, radii) for radius in radii))

    @property
    def all_radii(self) -> Radii:
        """All radii of the visit, in rising order [pixel]."""
        return radii_with(self.radii)


def _checked_radius(radius: object, radii: list[object]) -> float:
    """Return a further radius as a number; ValueError with what is wrong with it."""
    least, most = _RADIUS["ge"], _RADIUS["le"]
    text = str(radius)[:20]
    if isinstance(radius, bool) or not isinstance(radius, int | float):
        raise ValueError(f"{text!r} is not a number, expected radii such as [12.5, 45]")
    if not least <= radius <= most:  # NaN too
        raise ValueError(f"{text} is not from {least} to {most} pixels")
    if radius in RADII:
        name = "RINF" if radius == RINF_RADIUS else circle_name(radius)
        raise ValueError(f"every visit has a circle of {radius:g} pixels: the light curve {name}")
    if round(radius, DECIMALS) != radius:
        raise ValueError(
            f"{text} has more than {DECIMALS} decimals; the nearest is {round(radius, DECIMALS):g}"
        )
    if (times := radii.count(radius)) > 1:
        raise ValueError(f"{radius:g} occurs {times} times")
    return float(radius)


class OptimalSettings(Settings):
    """Radii among which the light curve OPTIMAL is chosen."""

    smallest: float = Field(
        22.0, ge=15, le=40, description="smallest circle as it is [pixel]: it loses light to blur"
    )
    corrected: float = Field(
        18.0, ge=15, le=40, description="smallest circle that is corrected for such losses [pixel]"
    )
    largest: float = Field(
        35.0, ge=15, le=40, description="largest circle [pixel]: it collects noise"
    )
    psf: bool = Field(True, description="whether the PSF is a candidate as well")

    @model_validator(mode="after")
    def _some_circle(self) -> OptimalSettings:
        if not any(self.smallest <= radius <= self.largest for radius in RADII):
            raise ValueError(
                f"no circle has a radius from {self.smallest:g} to {self.largest:g} pixels; the "
                "radii are 15, 16 ... 40 and 22.5 (those of apertures.radii are no candidates)"
            )
        return self


class ImagetteSettings(Settings):
    """Photometry of imagettes."""

    radius: float | None = Field(
        None,
        ge=3,
        le=60,
        description="radius of the circle, in place of the largest one that fits [pixel]",
    )
    inside: float = Field(
        0.9, gt=0, le=1, description="share of the imagettes in which the circle must fit"
    )


class DetrendSettings(Settings):
    """The detrended companion of every light curve."""

    transit: str | None = Field(
        None,
        pattern=f"^{_PAIRS}$",
        max_length=2000,
        description="middle (BJD_TIME, day) and duration (h) of a transit, such as "
        "`2459283.85 3.1`, or of several, with commas between them: their points do not enter the "
        "fit of trends. If not set, points in dips that stand out do not",
    )

    @field_validator("transit", mode="before")
    @classmethod
    def _name_the_form(cls, value: object) -> object:
        """Say what is expected in words; the pattern is for the forms of web pages."""
        if value is not None and not (isinstance(value, str) and re.fullmatch(_PAIRS, value)):
            raise ValueError("expected pairs of numbers, such as '2459283.85 3.1, 2459287.13 3.1'")
        return value

    @property
    def transits(self) -> tuple[tuple[float, float], ...]:
        """The middle [day] and the duration [h] of every transit."""
        pairs = (pair.split() for pair in (self.transit or "").split(",") if pair)
        return tuple((float(middle), float(duration)) for middle, duration in pairs)


class ReportSettings(Settings):
    """The report."""

    points: int = Field(
        20_000, ge=10, le=200_000, description="largest number of points drawn in a figure"
    )


class ViewerSettings(Settings):
    """The viewer."""

    points: int = Field(
        5_000,
        ge=10,
        le=100_000,
        description="largest number of images, and of imagettes, in the page",
    )


class PublicationSettings(Settings):
    """The published folder."""

    access: Literal["umask", "owner", "group", "all"] = Field(
        "umask",
        description="who may read a new published folder and its archive: `umask`, the owner and "
        "the group (0750, files 0640) as far as the umask of the process allows; or, whatever the "
        "umask, the `owner` alone (0700, 0600), owner and `group` (0750, 0640) or `all` "
        "(0755, 0644)",
    )
    origin: str = Field(
        "cheops-drp",
        min_length=1,
        max_length=68,
        pattern=r"^[ -~]+$",
        description="keyword `ORIGIN` of the products: the institution that makes them; `SOC` is "
        "for the Science Operations Centre",
    )


class PipelineSettings(Settings):
    """All settings of a reduction, by step."""

    events: EventSettings = EventSettings()
    bias: BiasSettings = BiasSettings()
    gain: GainSettings = GainSettings()
    linearity: LinearitySettings = LinearitySettings()
    spread: SpreadSettings = SpreadSettings()
    dark: DarkSettings = DarkSettings()
    flat: FlatSettings = FlatSettings()
    pointing: PointingSettings = PointingSettings()
    look: LookSettings = LookSettings()
    background: BackgroundSettings = BackgroundSettings()
    psf: PsfSettings = PsfSettings()
    plate: PlateSettings = PlateSettings()
    stars: StarSettings = StarSettings()
    smearing: SmearingSettings = SmearingSettings()
    defects: DefectSettings = DefectSettings()
    position: PositionSettings = PositionSettings()
    apertures: ApertureSettings = ApertureSettings()
    optimal: OptimalSettings = OptimalSettings()
    imagettes: ImagetteSettings = ImagetteSettings()
    detrend: DetrendSettings = DetrendSettings()
    viewer: ViewerSettings = ViewerSettings()
    report: ReportSettings = ReportSettings()
    publication: PublicationSettings = PublicationSettings()
