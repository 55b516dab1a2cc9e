"""Campaigns: the outcome of a visit, and what the state file of a campaign says."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

# circumstances that may pass: storage failed, busy, a product did not read back
PASSING = frozenset({74, 75, 76})

# ended by an operator or a scheduler, on purpose
STOPPED = frozenset({130, 143})


def worth_a_retry(code: int) -> bool:
    """Return whether a visit that ended with a code may end otherwise at once; also if killed."""
    return code in PASSING or (code >= 128 and code not in STOPPED)


def is_final(code: int) -> bool:
    """Return whether a visit is not tried again when its campaign goes on."""
    return code not in PASSING | STOPPED


class Line(BaseModel):
    """Base: immutable; fields of later versions are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Outcome(Line):
    """The outcome of a visit."""

    visit: str = Field(description="folder of the visit")
    code: int = Field(description="exit code; 128 and more: killed by a signal")
    seconds: float = Field(0.0, description="of all attempts")
    attempts: int = 1
    lost: float = Field(0.0, description="seconds of attempts that were not the last")
    host: str = Field("", description="machine that reduced it")
    ended: float = Field(0.0, description="Unix time")
    verdict: str = ""
    text: str = Field("", description="published folder, or error message")
    new: bool = Field(False, description="whether this run published it")
    report: str = Field("", description="path of the report")
    viewer: str = Field("", description="path of the viewer")
    magnitude: float | None = Field(None, description="G [mag]")
    scatter: float | None = Field(None, description="from point to point [ppm]")
    photon_limit: float | None = Field(None, description="photon noise of an image [ppm]")
    steps: dict[str, float] = Field(
        default_factory=dict, description="seconds of each step that was run"
    )


class Begin(Line):
    """A call of a campaign."""

    name: str
    digest: str = Field(description="of version and options; outcomes of another one do not count")
    visits: tuple[str, ...]
    options: tuple[str, ...]
    engine: str = Field(description="where it runs")
    version: str = Field(description="of this software")
    began: float = Field(description="Unix time")


class Entry(Line):
    """A line of a state file: one of the two."""

    begin: Begin | None = None
    outcome: Outcome | None = None
