"""The steps that a visit will call, so that progress can count them and foresee the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from schemas.payloads import Inventory


class Part(StrEnum):
    """The images that a step works on."""

    SUBARRAY = "sub-array"
    IMAGETTES = "imagettes"
    FULL_ARRAY = "full array"


class Call(NamedTuple):
    """One call of a step."""

    step: str
    part: Part


# each step in the order of its calls, and its share of the time of a visit with 300 stacks. Only
# ratios matter: the time left is scaled by that of the steps already done
SUBARRAY: Mapping[str, float] = {
    "events": 0.3,
    "housekeeping": 0.1,
    "bias": 0.3,
    "gain": 0.1,
    "linearity": 0.1,
    "spread": 0.1,
    "dark": 0.5,
    "flat": 0.1,
    "flat_field": 0.3,
    "calibrate": 1.0,
    "pointing": 0.2,
    "prior": 0.1,
    "look": 1.0,
    "calibration_stages": 0.7,
    "background_1": 0.5,
    "psf_1": 4.0,
    "stars_1": 0.2,
    "smearing": 0.6,
    "stars": 1.5,
    "defects_1": 2.5,
    "background": 0.7,
    "psf": 4.0,
    "position": 1.0,
    "defects": 3.0,
    "correction_stages": 1.0,
    "correct": 1.0,
    "corrections": 0.7,
    "apertures": 1.5,
    "psf_fit": 1.0,
    "contamination": 0.5,
    "quality": 1.0,
    "light_curves": 0.8,
    "viewer": 0.5,
    "report": 1.5,
}

IMAGETTES: Mapping[str, float] = {
    "calibrate_imagettes": 0.4,
    "imagette_hits": 2.0,
    "correct_imagettes": 2.0,
    "imagette_photometry": 3.0,
    "imagette_light_curves": 0.3,
}

# the full array repeats the first of these steps for itself, since it has margins of its own
FULL_ARRAY: Mapping[str, float] = {
    "bias": 0.3,
    "gain": 0.1,
    "linearity": 0.1,
    "dark": 0.8,
    "flat": 0.3,
    "calibrate_full_array": 0.4,
    "plate": 1.0,
    "correct_full_array": 1.0,
}

WEIGHT = 5.0

SECONDS = {Part.SUBARRAY: SUBARRAY, Part.IMAGETTES: IMAGETTES, Part.FULL_ARRAY: FULL_ARRAY}


def expected_calls(inventory: Inventory) -> tuple[Call, ...]:
    """Return the calls of a visit's steps, part by part."""
    parts = [Part.SUBARRAY]
    parts += [Part.IMAGETTES] if inventory.imagettes is not None else []
    parts += [Part.FULL_ARRAY] if inventory.full_array is not None else []
    return tuple(Call(step, part) for part in parts for step in SECONDS[part])


def next_call(step: str, ended: Iterable[Call], expected: Iterable[Call]) -> Call:
    """Return the call of a step that begins: the first expected one that has not ended."""
    done = set(ended)
    waiting = (call for call in expected if call.step == step and call not in done)
    return next(waiting, Call(step, Part.SUBARRAY))


def seconds_left(timed: Mapping[Call, float], waiting: Iterable[Call]) -> float:
    """Return the time that the waiting calls will take [s].

    Parameters
    ----------
    timed : mapping
        Duration of each call that was worked on [s].
    waiting : iterable of Call
        The calls that have not ended.
    """
    usual = sum(SECONDS[call.part].get(call.step, 0.0) for call in timed)
    # as if WEIGHT seconds of work had kept the usual pace: the first step alone, which waits for
    # the disk or compiles kernels, says little about the others
    pace = (sum(timed.values()) + WEIGHT) / (usual + WEIGHT)
    return pace * sum(SECONDS[call.part].get(call.step, 0.0) for call in waiting)
