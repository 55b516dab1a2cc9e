"""Payloads that pass between steps: plain values and references to products, never arrays."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.names import VISIT, Version
from schemas.settings import PsfSettings, PsfUse

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
VisitId = Annotated[str, StringConstraints(pattern=f"^{VISIT.pattern}$")]
Scalar = bool | int | float | str


class Status(StrEnum):
    """How a step ended; the value of its header keyword."""

    COMPLETED = "completed"
    SKIPPED = "skipped"
    WARNING = "warning"
    NOT_APPLICABLE = "N/A"


class Payload(BaseModel):
    """Base of all payloads: immutable; unknown fields and NaN are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def keyed_fields(self) -> list[str]:
        """Return the names of the fields that enter the keys of steps."""
        return list(type(self).model_fields)


class Product(Payload):
    """A file, with the digest and type that it must have.

    `path` is its present place; it never enters a key.
    """

    path: str
    sha256: Digest
    extname: str


class Reference(Payload):
    """A reference file that was chosen for the visit.

    `version` is that of its header, None in manifests of earlier versions. `synthetic` marks a file
    made by drp itself for a visit that `drp simulate` did not make.
    """

    kind: str
    product: Product
    valid_from: str
    version: Version | None = None
    synthetic: bool = False

    def keyed_fields(self) -> list[str]:
        """Leave out the version, which changes no number, and `synthetic` unless it is set."""
        rest = [name for name in super().keyed_fields() if name not in ("version", "synthetic")]
        return [*rest, "synthetic"] if self.synthetic else rest


class Unused(Payload):
    """A reference file that was found but is not used for the visit, and why."""

    kind: str
    path: str
    version: Version
    reason: str


class Leaf(Payload):
    """The result of a step: its products by name, its state, the values it used, and warnings.

    `status` holds the state of each header keyword that the step owns, `used` the values by
    declared keyword, `by_hand` the names of products that the user replaced.
    """

    step: str
    products: dict[str, Product] = Field(default_factory=dict)
    status: dict[str, Status] = Field(default_factory=dict)
    used: dict[str, Scalar] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()

    @property
    def product(self) -> Product:
        """The step's only or main product."""
        return next(iter(self.products.values()))


class Events(Leaf):
    """Conditions of every image."""


class Housekeeping(Leaf):
    """Ranges of voltages and temperatures, and images beyond their limits; for the report only."""


class Bias(Leaf):
    """Bias level and read-out noise of every image, and the structure of the bias."""


class Gain(Leaf):
    """Gain of every image."""


class Linearity(Leaf):
    """Corrected signal of one exposure as a function of the measured one."""


class Spread(Leaf):
    """Motion of the star from exposure to exposure of a stack."""


class Dark(Leaf):
    """Thermal charge of one exposure, and its error."""


class Flat(Leaf):
    """Relative response of the pixels to the target's light, and its error."""


class FlatField(Leaf):
    """The flat field of the whole CCD, as the SOC defines it."""


class Calibrated(Leaf):
    """Images in electrons: SCI_CAL_SubArray, SCI_CAL_Imagette or SCI_CAL_FullArray."""


class Pointing(Leaf):
    """Roll, direction and motion blur of every image."""


class Look(Leaf):
    """First position, ring level and flux of every image, and the static map."""


class CalibrationStages(Leaf):
    """The light curve in one circle after each step of the calibration; for the report only."""


class CorrectionStages(Leaf):
    """The light curve in one circle after each correction; for the report only."""


class Background(Leaf):
    """Sky and stray light of every image."""


class Prior(Leaf):
    """Reference PSF, bad pixels and catalogue, cut to the visit."""


class Psf(Leaf):
    """Super-resolved PSF of the visit, and the scatter of pixels about it."""

    def is_made(self, use: PsfUse) -> bool:
        """Return whether enough images went into the PSF for it to be used."""
        return int(self.used.get("PSF_N", 0)) >= use.fewest


class Plate(Leaf):
    """Stars of the full array, and its offsets in roll and scale."""


class Stars(Leaf):
    """Catalogue stars around the target, with their fluxes."""


class Smearing(Leaf):
    """Light smeared along the columns, one row per image."""


class Contamination(Leaf):
    """Light of field stars within the apertures, relative to the target's."""


class Defects(Leaf):
    """Cosmic rays of every image, and static defects of the detector."""


class ImagetteHits(Leaf):
    """Cosmic rays in imagettes, with the stacks that hold them."""


class PsfFit(Leaf):
    """PSF flux of the target and share of light within each aperture, for every image."""


class Position(Leaf):
    """Position of the target in every image."""


class Corrected(Leaf):
    """Images with every estimated effect subtracted.

    The product is SCI_COR_SubArray, SCI_COR_Imagette or SCI_COR_FullArray.
    """


class Corrections(Leaf):
    """Corrections in the SOC's own products: background, flags of pixels, cosmic rays."""


class Apertures(Leaf):
    """Sums within circles around the target."""


class QualityTerm(Leaf):
    """Errors, flags and metrics of the light curves."""


class ImagettePhotometry(Leaf):
    """Fluxes, errors, flags and metrics of imagettes."""


class LightCurves(Leaf):
    """SCI_COR_Lightcurve files, by data name."""


class Bundle(Payload):
    """Payloads that are always read together, passed as one argument.

    The key of a step holds the content of each, and `drp reduce --dry-run` names each separately.
    """


class ReadOut(Bundle):
    """The conversion of electrons to ADU: bias level, read-out noise and gain."""

    bias: Bias
    gain: Gain


class Detector(Bundle):
    """Effects of the detector; `spread` is None for the full array, a single exposure."""

    readout: ReadOut
    linearity: Linearity
    spread: Spread | None
    dark: Dark
    flat: Flat


class FirstScene(Bundle):
    """The scene before the visit has a PSF."""

    look: Look
    pointing: Pointing
    prior: Prior


class Scene(Bundle):
    """The model of target and field stars; `position` is None until it is measured."""

    look: Look
    pointing: Pointing
    prior: Prior
    psf: Psf
    stars: Stars
    psf_use: PsfUse
    position: Position | None = None

    @property
    def has_psf(self) -> bool:
        """Whether the visit has a PSF."""
        return self.psf.is_made(self.psf_use)

    def placed(self, position: Position) -> Scene:
        """Return the scene with the measured position of the target."""
        return self.model_copy(update={"position": position})


class Removed(Bundle):
    """Effects subtracted from a calibrated image; `defects` is None before the first search."""

    background: Background
    smearing: Smearing
    defects: Defects | None = None

    def with_defects(self, defects: Defects) -> Removed:
        """Return a copy with these defects."""
        return self.model_copy(update={"defects": defects})


class Fluxes(Bundle):
    """Fluxes of the target in the stacked images, and the light of field stars among them."""

    apertures: Apertures
    psf_fit: PsfFit
    contamination: Contamination


class Photometry(Fluxes):
    """Measurements of the target in the stacked images."""

    quality: QualityTerm

    def leaves(self) -> list[Leaf]:
        """Return the results of all steps, in order."""
        return [self.apertures, self.psf_fit, self.contamination, self.quality]


class ReportData(Leaf):
    """Numbers and figures of the report, ready for typesetting."""


class ViewerData(Leaf):
    """Numbers that the viewer shows, ready for its page."""


class Inventory(Payload):
    """All inputs of a visit, found, opened and digested before the first step."""

    visit: VisitId
    obsid: int
    target: str
    arch_rev: int
    proc_num: int
    start: str  # V_STRT_U of the raw sub-array: the time for which references are chosen
    images: int
    subarray: Product
    attitude: Product
    full_array: Product | None = None
    imagettes: Product | None = None
    planned: Product | None = None
    constraints: Product | None = None
    orbit: Product | None = None
    stars: Product | None = None
    references: dict[str, Reference] = Field(default_factory=dict)  # by kind, without dark frames
    dark_frames: tuple[Reference, ...] = ()  # one, or the two that bracket the visit
    deviations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fallbacks: dict[str, str] = Field(default_factory=dict)  # missing kind -> its fall-back
    # whether `drp simulate` made the visit; None in manifests of earlier versions
    simulated: bool | None = None

    def keyed_fields(self) -> list[str]:
        """Leave out `simulated`: where it matters, references are marked."""
        return [name for name in super().keyed_fields() if name != "simulated"]

    @property
    def chosen(self) -> tuple[Reference, ...]:
        """All references, dark frames last."""
        return (*self.references.values(), *self.dark_frames)

    @property
    def synthetic(self) -> tuple[str, ...]:
        """Kinds of reference that were made by drp itself although the visit was not."""
        return tuple(dict.fromkeys(r.kind for r in self.chosen if r.synthetic))


class CalibratedVisit(Payload):
    """Result of the first stage."""

    events: Events
    bias: Bias
    gain: Gain
    linearity: Linearity
    spread: Spread
    dark: Dark
    flat: Flat
    flat_field: FlatField
    subarray: Calibrated
    imagettes: Calibrated | None = None
    full_array: Calibrated | None = None
    housekeeping: Housekeeping | None = None

    @property
    def readout(self) -> ReadOut:
        """Bias and gain."""
        return ReadOut(bias=self.bias, gain=self.gain)

    @property
    def detector(self) -> Detector:
        """All effects of the detector."""
        return Detector(
            readout=self.readout,
            linearity=self.linearity,
            spread=self.spread,
            dark=self.dark,
            flat=self.flat,
        )

    def terms(self) -> tuple[Leaf, ...]:
        """Return the estimates behind the images of this stage."""
        return (
            self.events,
            self.bias,
            self.gain,
            self.linearity,
            self.spread,
            self.dark,
            self.flat,
        )

    def leaves(self) -> list[Leaf]:
        """Return the results of all steps of the stage, in order."""
        first = [leaf for leaf in (self.events, self.housekeeping) if leaf is not None]
        steps = [
            *first,
            self.bias,
            self.gain,
            self.linearity,
            self.spread,
            self.dark,
            self.flat,
            self.flat_field,
        ]
        return [
            *steps,
            *(c for c in (self.subarray, self.imagettes, self.full_array) if c is not None),
        ]


class CorrectedVisit(Payload):
    """Result of the second stage."""

    pointing: Pointing
    prior: Prior
    look: Look
    calibration_stages: CalibrationStages
    first_background: Background
    first_psf: Psf
    first_stars: Stars
    stars: Stars
    smearing: Smearing
    first_defects: Defects
    background: Background
    psf: Psf
    position: Position
    defects: Defects
    correction_stages: CorrectionStages
    subarray: Corrected
    corrections: Corrections
    imagette_hits: ImagetteHits | None = None
    imagettes: Corrected | None = None
    plate: Plate | None = None
    full_array: Corrected | None = None
    psf_use: PsfUse = PsfUse.of(PsfSettings())

    @property
    def scene(self) -> Scene:
        """The final model of target and field stars."""
        return Scene(
            look=self.look,
            pointing=self.pointing,
            prior=self.prior,
            psf=self.psf,
            stars=self.stars,
            psf_use=self.psf_use,
            position=self.position,
        )

    @property
    def removed(self) -> Removed:
        """The effects subtracted from the corrected images."""
        return Removed(background=self.background, smearing=self.smearing, defects=self.defects)

    def terms(self) -> tuple[Leaf, ...]:
        """Return the estimates behind the images of this stage, and the images."""
        return (
            self.pointing,
            self.look,
            self.stars,
            self.smearing,
            self.background,
            self.psf,
            self.position,
            self.defects,
            self.subarray,
        )

    def leaves(self) -> list[Leaf]:
        """Return the results of all steps of the stage, in order."""
        steps = [
            self.pointing,
            self.prior,
            self.look,
            self.calibration_stages,
            self.first_background,
            self.first_psf,
            self.first_stars,
            self.smearing,
            self.stars,
            self.first_defects,
            self.background,
            self.psf,
            self.position,
            *([] if self.imagette_hits is None else [self.imagette_hits]),
            self.defects,
            self.correction_stages,
            self.subarray,
            self.corrections,
        ]
        return [
            *steps,
            *(c for c in (self.imagettes, self.plate, self.full_array) if c is not None),
        ]


class MeasuredVisit(Payload):
    """Result of the third stage."""

    apertures: Apertures
    psf_fit: PsfFit
    contamination: Contamination
    quality: QualityTerm
    light_curves: LightCurves
    imagettes: ImagettePhotometry | None = None
    imagette_light_curves: LightCurves | None = None
    unmeasured: ImagettePhotometry | None = None  # no imagette could be measured

    def leaves(self) -> list[Leaf]:
        """Return the results of all steps of the stage, in order."""
        steps = [self.apertures, self.psf_fit, self.contamination, self.quality, self.light_curves]
        some = self.unmeasured, self.imagettes, self.imagette_light_curves
        return [*steps, *(p for p in some if p is not None)]


class Published(Payload):
    """The outcome of a run; `new` is False if the result had been published before."""

    visit: VisitId
    folder: str
    new: bool
    warnings: tuple[str, ...] = ()
    verdict: str = ""
