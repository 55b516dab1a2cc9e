"""Forms that an operator fills in for the deployed flows.

The server rejects invalid values before it creates a run. A worker runs in a folder of its own, so
paths are absolute here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.requests import ReduceRequest, ValidateRequest
from schemas.settings import PipelineSettings

# absolute, no control character, no part of dots only
Folder = Annotated[
    str, Field(pattern=r"^(/\.*[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*)+/?$", max_length=1000)
]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
StepName = Literal[
    "events",
    "housekeeping",
    "bias",
    "gain",
    "linearity",
    "spread",
    "dark",
    "flat",
    "flat_field",
    "calibrate",
    "calibrate_imagettes",
    "calibrate_full_array",
    "pointing",
    "prior",
    "look",
    "calibration_stages",
    "background_1",
    "psf_1",
    "plate",
    "stars_1",
    "smearing",
    "stars",
    "defects_1",
    "background",
    "psf",
    "position",
    "imagette_hits",
    "defects",
    "correction_stages",
    "correct",
    "corrections",
    "correct_imagettes",
    "correct_full_array",
    "apertures",
    "psf_fit",
    "contamination",
    "quality",
    "light_curves",
    "imagette_photometry",
    "imagette_light_curves",
    "viewer",
    "report",
]


def _in_order(schema: dict[str, Any]) -> None:
    """Add the places of fields for the web pages: a database may sort them by name."""
    for position, field in enumerate(schema.get("properties", {}).values()):
        field["position"] = position


class Form(BaseModel):
    """Base: immutable; unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_in_order)


class HowToReduce(Form):
    """What the forms of a single visit and of many visits share."""

    references: tuple[Folder, ...] = Field(
        (),
        description="folders with reference files; default: the library",
        examples=[["/data/references"]],
    )
    output: Folder | None = Field(
        None,
        description="folder in which the products are published; empty: that of this installation",
        examples=["/data/products"],
    )
    work: Folder | None = Field(
        None, description="folder of intermediate products; empty: that of this installation"
    )
    from_step: StepName | None = Field(
        None, description="repeat this step and those that depend on it"
    )
    until: StepName | None = Field(None, description="stop after this step without publishing")
    replace: tuple[Folder, ...] = Field((), description="files that replace intermediate products")
    settings: PipelineSettings = Field(
        default_factory=PipelineSettings, description="settings that differ from the defaults"
    )
    archive: bool = Field(False, description="also write the .tgz that pycheops opens")
    strict: bool = Field(False, description="reject inputs that deviate from their definitions")

    def how(self) -> dict[str, object]:
        """Return what was filled in of the shared fields, as JSON."""
        asked = self.model_dump(
            mode="json", include=set(HowToReduce.model_fields), exclude_unset=True
        )
        return {name: value for name, value in asked.items() if value is not None}


class OneVisit(Form):
    """The visit of a form."""

    visit: Folder = Field(
        description="folder of the visit, or a published folder",
        examples=["/data/visits/PR100001_TG000101"],
    )


# the fields of the last base come first in the form


class ReduceForm(HowToReduce, OneVisit):
    """Reduce one visit, or continue from a published one."""

    wait: bool = Field(False, description="wait until another run on the visit has finished")

    def request(self, output: Path) -> ReduceRequest:
        """Return the request; `output` is used if the form names no output folder."""
        asked = self.model_dump(exclude_unset=True)
        return ReduceRequest(
            **{
                "output": output,
                **{name: value for name, value in asked.items() if value is not None},
            }
        )


class ManyVisits(Form):
    """The visits of a campaign, and its name."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}$",
        description="name of the campaign, for its state file and its report",
        examples=["spring-2027"],
    )
    folder: Folder | None = Field(
        None,
        description="folder whose subfolders are the visits",
        examples=["/data/visits"],
    )
    list: Folder | None = Field(
        None, description="file with the path of a visit on each line", examples=["/data/todo.txt"]
    )


class CampaignForm(HowToReduce, ManyVisits):
    """Reduce many visits; running it again with the same name goes on."""

    most_open: int = Field(150, ge=1, le=1000, description="largest number of runs at a time")
    again: bool = Field(False, description="reduce visits again that are done or have failed")

    def form_of_visit(self, output: Path) -> dict[str, object]:
        """Return the form of a visit, without the visit; `output` is used if none is named."""
        return {"output": str(output), "wait": True, **self.how()}


class SimulateForm(Form):
    """Simulate a visit."""

    output: Folder = Field(
        description="the new folder of the visit", examples=["/data/simulated/demo"]
    )
    case: Name = Field("demo", description="name of the simulated case")
    images: int | None = Field(
        None, ge=1, description="number of stacked images; empty: the case's own"
    )
    seed: int = Field(1, ge=0, description="the same seed gives the same bytes")


class ValidateForm(Form):
    """Validate the pipeline on simulated visits."""

    output: Folder = Field(
        description="folder of results and finished parts", examples=["/data/validation"]
    )
    cases: tuple[Name, ...] = Field((), description="names of cases, or budget; default: all")
    seeds: int | None = Field(
        None, ge=1, description="visits of each case; empty: as many as its noise requires"
    )
    images: int | None = Field(
        None, ge=1, description="stacks of each visit; empty: the case's own"
    )
    again: bool = Field(False, description="repeat finished parts")

    def request(self) -> ValidateRequest:
        """Return the request."""
        return ValidateRequest(**self.model_dump())


class IntakeForm(Form):
    """Process the job orders in a folder, each once."""

    folder: Folder = Field(
        description="folder in which job orders arrive", examples=["/data/orders"]
    )


class ReprocessForm(Form):
    """Reduce published visits again that new references or new versions of steps affect."""

    output: Folder | None = Field(
        None,
        description="folder in which the visits are published; empty: that of this installation",
    )
    references: tuple[Folder, ...] = Field((), description="folders with new reference files")
    visits: tuple[Folder, ...] = Field(
        (), description="folders with raw files and other references that the steps need"
    )
    work: Folder | None = Field(
        None, description="folder of intermediate products; empty: that of this installation"
    )
    do: bool = Field(False, description="run the plan; otherwise only show it")
