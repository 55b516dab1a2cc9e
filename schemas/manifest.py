"""The manifest of a published folder: its form, and the limits of everything in it.

A manifest is input: it may be damaged, or come from somebody else. Nothing in it is used before all
of it has the form defined here. Names lead nowhere but into the published folder, keys are digests,
and counts, lengths and dates have limits.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from schemas.baseline import baseline
from schemas.errors import plain
from schemas.inputs import REFERENCES
from schemas.names import PAGE, TERM, read_soc_name, read_version, version_label
from schemas.payloads import Digest, Inventory, Leaf, Payload, Status, VisitId
from schemas.products import soc_extnames
from schemas.terms import TERMS
from schemas.words import fault_of

MANIFEST_VERSION = 1

MOST_BYTES = 64 << 20  # of a manifest; that of a visit of a week has some hundred kilobytes

REPORT = "report"  # the step that reaches the verdict

PAGE_STEPS = (REPORT, "viewer")  # of which the verdict does not speak

LONGEST = 20_000  # characters of a text

_WIDEST = 1 << 63  # integers of FITS headers are below


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("contains control characters")
    return text


def _bounded(value: bool | int | float | str) -> bool | int | float | str:
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise ValueError(f"has more than {LONGEST} characters")
        return _printable(value)
    if not -_WIDEST <= value < _WIDEST and isinstance(value, int):
        raise ValueError("is an integer of more than 64 bits")
    return value


def _real_time(text: str) -> str:
    # a leap second is a time, but not to datetime
    datetime.fromisoformat(text[:19].replace(":60", ":59"))
    return text


Text = Annotated[str, StringConstraints(max_length=LONGEST), AfterValidator(_printable)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Keyword = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_-]{0,7}$")]
# of a product or a file: no folder, not hidden
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,199}$")]
Time = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?$"),
    AfterValidator(_real_time),
]
Release = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+!_-]{0,59}$")]
Integer = Annotated[int, Field(ge=-_WIDEST, lt=_WIDEST)]
Value = Annotated[bool | int | float | str, AfterValidator(_bounded)]
Numbers = Annotated[tuple[float, ...], Field(max_length=100)]
_KINDS = {declared.kind: declared.first for declared in REFERENCES}

_Part = Annotated[int, Field(ge=0, le=99)]  # of a version

L = TypeVar("L", bound=Leaf)

Lines = Annotated[tuple[Text, ...], Field(max_length=100_000)]
Word = Literal["good", "usable with care", "not usable"]

WORDS: tuple[Word, ...] = ("good", "usable with care", "not usable")


class ListedProduct(Payload):
    """A product: a bare file name."""

    path: FileName
    sha256: Digest
    extname: FileName


class ListedFile(ListedProduct):
    """A file that was read, named as a SOC product."""

    @field_validator("path")
    @classmethod
    def _is_soc_name(cls, name: str) -> str:
        if read_soc_name(name) is None:
            raise ValueError(f"{plain(name)} is not the name of a SOC product")
        return name


class ListedReference(Payload):
    """A reference file, of a kind that is declared; earlier manifests lack the last two entries."""

    kind: Text
    product: ListedFile
    valid_from: Time
    version: tuple[_Part, _Part] | None = None
    synthetic: bool = False

    @model_validator(mode="after")
    def _is_declared(self) -> ListedReference:
        if self.kind not in _KINDS:
            raise ValueError(f"{plain(self.kind)} is no kind of reference")
        if self.product.extname not in _KINDS[self.kind]:
            raise ValueError(f"{self.product.extname} is no {self.kind}")
        return self


class ListedLeaf(Payload):
    """The result of a step."""

    step: Name
    products: Annotated[dict[FileName, ListedProduct], Field(max_length=1000)]
    status: Annotated[dict[Keyword, Status], Field(max_length=100)]
    used: Annotated[dict[Keyword, Value], Field(max_length=1000)]
    warnings: Lines
    by_hand: Annotated[tuple[FileName, ...], Field(max_length=1000)]

    @model_validator(mode="after")
    def _holds_what_is_by_hand(self) -> ListedLeaf:
        for name in self.by_hand:
            if name not in self.products:
                raise ValueError(f"by_hand names {name}, which is not among the products")
        return self

    @property
    def doubt(self) -> str:
        """Why the step is not completed; empty if it is, or does not apply."""
        states = self.status.values()
        if self.by_hand:
            return "was supplied by hand"
        if Status.SKIPPED in states:
            return "was skipped"
        warned = Status.WARNING in states if self.status else bool(self.warnings)
        return "has a warning" if warned else ""

    def as_leaf(self, payload: type[L]) -> L:
        """Return the payload of a step."""
        return payload.model_validate(self.model_dump())


class ListedInventory(Payload):
    """The inputs of the visit."""

    visit: VisitId
    obsid: Integer
    target: Text
    arch_rev: _Part
    proc_num: _Part
    start: Time
    images: Annotated[int, Field(ge=0, le=10_000_000)]
    subarray: ListedFile
    attitude: ListedFile
    full_array: ListedFile | None
    imagettes: ListedFile | None
    planned: ListedFile | None
    constraints: ListedFile | None
    orbit: ListedFile | None
    stars: ListedFile | None
    references: Annotated[dict[Text, ListedReference], Field(max_length=100)]
    dark_frames: Annotated[tuple[ListedReference, ...], Field(max_length=2)]
    deviations: Lines
    notes: Lines
    fallbacks: dict[Text, Text]
    simulated: bool | None = None  # earlier manifests lack it

    @model_validator(mode="after")
    def _references_by_kind(self) -> ListedInventory:
        for kind, reference in self.references.items():
            if reference.kind != kind:
                raise ValueError(f"references.{kind} is a {reference.kind}")
        return self

    def as_inventory(self) -> Inventory:
        """Return the inventory; its paths are bare file names."""
        return Inventory.model_validate(self.model_dump())


class StepEntry(Payload):
    """A step of the run: the key of its result, and the result."""

    step: Name
    version: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}$")]
    key: Digest
    outcome: Literal["done", "cached", "by hand"]
    seconds: Annotated[float, Field(ge=0, le=1e8)]
    payload: ListedLeaf

    @model_validator(mode="after")
    def _payload_is_its_own(self) -> StepEntry:
        if self.payload.step != self.step:
            raise ValueError(f"payload.step is {self.payload.step}, not {self.step}")
        return self


class FileEntry(Payload):
    """A file of the folder, and the step and product it comes from; `key` is empty for pages."""

    name: Annotated[str, StringConstraints(max_length=250)]
    sha256: Digest
    bytes: Annotated[int, Field(ge=0, lt=1 << 48)]
    step: Name
    key: Digest | Literal[""]
    product: FileName

    @property
    def origin(self) -> tuple[str, str, str]:
        """Step, key and product."""
        return self.step, self.key, self.product


class RuleEntry(Payload):
    """A rule of the verdict."""

    name: Text
    found: Text
    goal: Text
    limit: Text
    word: Word
    reason: Text


class VerdictEntry(Payload):
    """The verdict on the light curve; it follows from its rules."""

    word: Word
    sentence: Text
    reasons: Lines
    rules: Annotated[tuple[RuleEntry, ...], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _follows_from_rules(self) -> VerdictEntry:
        worst = max((rule.word for rule in self.rules), key=WORDS.index)
        if self.word != worst:
            raise ValueError(f"word is {self.word!r}, but the rules give {worst!r}")
        against = {rule.reason for rule in self.rules if rule.word != "good"}
        if against and against != set(self.reasons):
            raise ValueError("reasons are not those of the rules")
        return self


class Manifest(Payload):
    """The content of a manifest."""

    manifest: Annotated[int, Field(ge=MANIFEST_VERSION, le=MANIFEST_VERSION)]
    visit: VisitId
    version: Annotated[str, StringConstraints(pattern=r"^V\d{4}$")]
    identity: Digest
    published: Time
    software: Annotated[dict[Name, Release], Field(max_length=100)]
    baseline: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None = None
    settings: Annotated[dict[Name, dict[Name, Value | Numbers | None]], Field(max_length=100)]
    inventory: ListedInventory
    steps: Annotated[tuple[StepEntry, ...], Field(min_length=1, max_length=1000)]
    files: Annotated[tuple[FileEntry, ...], Field(min_length=1, max_length=10_000)]
    warnings: Lines
    deviations: Lines
    notes: Lines
    fallbacks: dict[Text, Text]
    verdict: VerdictEntry | None = None

    @model_validator(mode="after")
    def _parts_belong_together(self) -> Manifest:
        if self.inventory.visit != self.visit:
            raise ValueError(f"inventory.visit is {self.inventory.visit}, not {self.visit}")
        for name in ("drp", "python"):
            if name not in self.software:
                raise ValueError(f"software.{name}: Field required")
        if self.verdict is None and any(step.step == REPORT for step in self.steps):
            raise ValueError("verdict: Field required")
        if self.verdict is not None and self.verdict.word == "good" and (why := self._doubt()):
            raise ValueError(f"verdict: word is 'good', but {why}")
        if self.baseline not in (None, own := self._own_baseline()):
            raise ValueError(f"baseline: is {self.baseline}, but that of its parts is {own}")
        for i, file in enumerate(self.files):
            if bool(file.key) == bool(PAGE.fullmatch(file.name)):
                raise ValueError(f"files.{i}.key: only pages have no key, and pages have none")
            if fault := _name_fault(file.name, self.visit, self.version):
                raise ValueError(f"files.{i}.name: {plain(file.name)!r} {fault}")
        _check_once("files", [file.name for file in self.files])
        self._check_origins()
        for name in ("deviations", "notes", "fallbacks"):
            if getattr(self, name) != getattr(self.inventory, name):
                raise ValueError(f"{name} differ from those of the inventory")
        return self

    def _own_baseline(self) -> str:
        """Return the baseline of the software, references and settings in the manifest."""
        chosen = [*self.inventory.references.values(), *self.inventory.dark_frames]
        references = {f"{i} {r.kind}": r.product.sha256 for i, r in enumerate(chosen)}
        steps = {step.step: step.version for step in self.steps}
        return baseline(self.software, steps, references, self.settings)

    def _check_origins(self) -> None:
        """Check that files and products of steps list each other."""
        made = {
            (step.step, step.key, name): product
            for step in self.steps
            for name, product in step.payload.products.items()
        }
        steps = {step.step for step in self.steps}
        for i, file in enumerate(self.files):
            product = made.get(file.origin)
            if (product is None) if file.key else (file.step not in steps):
                raise ValueError(f"files.{i}: none of the steps has the product {file.product}")
            if product is not None and product.extname in TERMS and file.sha256 != product.sha256:
                raise ValueError(f"files.{i}.sha256: is not that of the product of the step")
        listed = {file.origin for file in self.files}
        pages = {file.step for file in self.files if not file.key}
        for origin, product in made.items():
            published = product.extname in TERMS or product.extname in soc_extnames()
            if origin not in listed and (published or origin[0] in {*PAGE_STEPS} - pages):
                raise ValueError(f"files: {origin[2]} of step {origin[0]} is not listed")

    def _doubt(self) -> str:
        """Return why the light curve cannot be good, by the steps and references alone."""
        seen = set(PAGE_STEPS)
        for entry in self.steps:
            # steps of the full array follow those of the sub-array, and the light curve is without
            if entry.step not in seen and (state := entry.payload.doubt):
                return f"step {entry.step} {state}"
            seen.add(entry.step)
        inventory = self.inventory
        for reference in (*inventory.references.values(), *inventory.dark_frames):
            if reference.synthetic:
                return f"the {reference.kind} is synthetic"
        return ""


def _name_fault(name: str, visit: str, version: str) -> str:
    """Return what is wrong with the name of a published file; empty if nothing is."""
    if TERM.fullmatch(name):
        return ""
    soc = read_soc_name(name)
    if soc is None and not PAGE.fullmatch(name):
        return "is outside the folder, or not the name of a product"
    if soc.visit != visit if soc is not None else not name.startswith(f"CH_{visit}_"):
        return f"is not of the visit {visit}"
    number = read_version(name.rpartition(".")[0])
    return "" if number and version_label(number) == version else f"is not of version {version}"


def _check_once(name: str, values: Iterable[object]) -> None:
    seen = set()
    for i, value in enumerate(values):
        if value in seen:
            raise ValueError(f"{name}.{i}: {plain(value)} occurs twice")
        seen.add(value)


def first_fault(error: ValidationError) -> str:
    """Return the first error of a validation: the field, and what is wrong with it."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(map(str, first["loc"]))
    message = fault_of(first)
    return plain(f"{field}: {message}" if field else message)
