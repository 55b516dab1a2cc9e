"""The error budget: the impact of each effect on a light curve, before and after the pipeline.

A short visit without noise contains a moving star and one effect. The impact of the effect is the
difference from the same visit (same seed, same motion) without it: the rms over the visit of ``F /
truth`` with the effect minus ``F / truth`` without. Before: the plain sum within a fixed circle of
25 pixels, at nominal bias and gain, minus the typical level of a ring. After: the published light
curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.io import fits

from schemas.arrays import BoolArray, FloatArray
from tasks.validation.files import AbsentError, Part, only_file
from tasks.validation.light_curves import PPM, overlap

RADIUS = 25.0
RING = 45.0, 97.0
AFTER = ("DEFAULT", "PSF")
IMAGES = 100  # one orbit, a full cycle of telescope temperature and background


@dataclass(frozen=True)
class Effect:
    """One effect: the settings that cause it, and the step that owns it.

    Attributes
    ----------
    title : str
        The effect in words.
    owner : str
        The steps responsible for it.
    settings : mapping
        Settings of the case, in addition to those of the effect `over`.
    over : str
        The effect this one comes on top of; the difference is from the visit of that effect.
    correct : tuple of str
        Steps that correct the effect; they are skipped in visits without it.
    """

    title: str
    owner: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    over: str = "motion"
    correct: tuple[str, ...] = ()


# A star on an ideal detector, through ideal optics, without sky. The structure of the bias remains:
# without it, all pixels of the sky would be rounded alike, which noise always prevents.
NOTHING: Mapping[str, Any] = {
    "images": IMAGES,
    "noise": False,
    "rounding": False,
    "transit": False,
    "near_stars": 0,
    "stars": 0.0,
    "psf_position": 0.0,
    "breathing": 0.0,
    "halo": 0.0,
    "ghost": 0.0,
    "zodiacal": 0.0,
    "stray_light": 0.0,
    "flat": 0.0,
    "dark": 0.0,
    "hot": 0.0,
    "telegraphic": 0.0,
    "nonlinearity": 0.0,
    "cti": 0.0,
    "smearing": 0.0,
    "bias_structure": 1.0,
    "bias_drift": 0.0,
    "gain_drift": 0.0,
    "cosmic_rays": 0.0,
    "variable_stars": 0.0,
    "saa": "never",
    "occultation": "never",
    "tilt": 26.0,
}
FIELD = {"near_stars": 4, "stars": 38.0}
EFFECTS: Mapping[str, Effect] = {
    "motion": Effect(
        "motion of the star, 0.3 pixel", "position, apertures", {"jitter": 0.3}, over=""
    ),
    "blur": Effect(
        "motion within a stack, 0.9 pixel",
        "psf, apertures",
        {"jitter": 0.9, "jitter_time": 10.0},
        over="",
    ),
    "breathing": Effect("breathing of the telescope", "psf", {"breathing": 1.0}),
    "field": Effect("field stars", "stars, contamination", FIELD),
    "psf_position": Effect(
        "PSF that varies over the field",
        "stars, contamination",
        {"psf_position": 1.0},
        over="field",
    ),
    "halo": Effect("light scattered by the mirror", "background", {"halo": 1.0}, over="field"),
    "ghost": Effect("reflections", "background", {"ghost": 1.0}, over="field"),
    "smearing": Effect(
        "smearing", "smearing", {"smearing": 1.0}, over="field", correct=("smearing",)
    ),
    "zodiacal": Effect("zodiacal light", "background", {"zodiacal": 1.0}),
    "stray_light": Effect("stray light", "background", {"stray_light": 2.0}),
    "bias_error": Effect("bias frame that changed, 0.3 ADU", "bias, defects", {"bias_error": 0.3}),
    "bias_drift": Effect("drift of the bias, 0.2 ADU", "bias", {"bias_drift": 0.2}),
    "gain_drift": Effect("drift of the voltages", "gain", {"gain_drift": 1.0}),
    "nonlinearity": Effect(
        "non-linearity", "linearity", {"nonlinearity": 1.0}, correct=("linearity",)
    ),
    "linearity_blur": Effect(
        "the same, motion within a stack of 0.9 pixel",
        "linearity",
        {"nonlinearity": 1.0},
        over="blur",
        correct=("linearity",),
    ),
    "linearity_error": Effect(
        "non-linearity that changed, 10 %",
        "linearity",
        {"linearity_error": 0.1},
        over="nonlinearity",
        correct=("linearity",),
    ),
    "flat": Effect("flat field", "flat", {"flat": 1.0}, correct=("flat",)),
    "flat_error": Effect(
        "flat field that changed, 0.1 %",
        "flat",
        {"flat_error": 0.001},
        over="flat",
        correct=("flat",),
    ),
    "dark": Effect(
        "dark current, hot pixels", "dark", {"dark": 1.0, "hot": 1.0}, correct=("dark",)
    ),
    "dark_error": Effect(
        "dark current that changed, 5 %",
        "dark, defects",
        {"dark_error": 0.05},
        over="dark",
        correct=("dark",),
    ),
    "warm": Effect(
        "new hot pixels, 1 %", "defects", {"warm": 0.01}, over="dark", correct=("dark",)
    ),
    "telegraphic": Effect(
        "telegraphic pixels", "defects", {"telegraphic": 1.0}, over="dark", correct=("dark",)
    ),
    "detector": Effect(
        "bias and gain drift, non-linearity, dark, flat together",
        "calibrate",
        {
            "bias_drift": 0.2,
            "gain_drift": 1.0,
            "nonlinearity": 1.0,
            "dark": 1.0,
            "hot": 1.0,
            "flat": 1.0,
        },
        correct=("linearity", "dark", "flat"),
    ),
    "cti": Effect("charge lost in the transfers", "none", {"cti": 1.0}),
    "cosmic_rays": Effect("cosmic rays", "defects", {"cosmic_rays": 1.0}),
    "streaks": Effect("satellites, 6 per hour", "defects", {"streaks": 6.0}),
    "rounding": Effect("steps of the converter", "none", {"rounding": True}),
}


def case_settings(name: str) -> dict[str, Any]:
    """Return the settings of the case with an effect."""
    effect = EFFECTS[name]
    return {**(case_settings(effect.over) if effect.over else NOTHING), **effect.settings}


def pipeline_settings(name: str) -> dict[str, Any]:
    """Return the pipeline settings for an effect: steps that correct absent effects are skipped."""
    correct: set[str] = set()
    while name:
        correct |= set(EFFECTS[name].correct)
        name = EFFECTS[name].over
    settings: dict[str, Any] = {
        step: {"skip": True} for step in ("linearity", "dark", "flat") if step not in correct
    }
    return settings | ({} if "smearing" in correct else {"smearing": {"time": 1e-9}})


def naive_flux(images: FloatArray, x: float, y: float, bias: float, gain: float) -> FloatArray:
    """Return the sum within 25 pixels of raw stacks, minus the level of a ring.

    The level is the mean of the middle half of the ring's sorted pixels, since a median would be in
    steps of 1 ADU.

    Parameters
    ----------
    images : ndarray, shape (n, ny, nx)
        Raw stacks [ADU].
    x, y : float
        Centre of circle and ring; pixel i spans [i, i+1).
    bias : float
        Bias of a stack [ADU].
    gain : float
        [ADU/electron].

    Returns
    -------
    ndarray, shape (n,)
        [electron].
    """
    inside = overlap((images.shape[1], images.shape[2]), x, y, RADIUS)
    up, across = np.indices(inside.shape) + 0.5
    distance = np.hypot(across - x, up - y)
    ring = (distance > RING[0]) & (distance < RING[1])
    electrons = (images - bias) / gain
    quarter, most = ring.sum() // 4, 3 * ring.sum() // 4
    sky = np.sort(electrons[:, ring], axis=1)[:, quarter:most].mean(axis=1)
    return np.asarray(np.tensordot(electrons, inside, 2) - inside.sum() * sky)


def series(part: Part, raw_folder: Any) -> dict[str, list[float | None]]:
    """Return flux over truth of every stack, before and after the pipeline, in JSON's types.

    Points that must not be used are None.
    """
    with fits.open(only_file(raw_folder, "SCI_RAW_SubArray"), memmap=False) as hdus:
        images = hdus["SCI_RAW_SubArray"].data.astype(float)
    target, good = part.truth.stacks["TARGET"], part.truth.good
    gain = float(np.median(part.truth.stacks["GAIN"]))
    naive = naive_flux(images, *part.place, part.nexp * part.facts.bias, gain) / target
    curves = {"before": as_list(naive, good)}
    for name in AFTER:
        try:
            curve = part.products.curve(name)
        except AbsentError:
            continue
        curves[name] = as_list(curve.flux / target, curve.used & good)
    return curves


def as_list(values: FloatArray, used: BoolArray) -> list[float | None]:
    """Return values as a list, with None for those that are not used."""
    return [float(v) if u and np.isfinite(v) else None for v, u in zip(values, used, strict=True)]


def effect_ppm(
    with_it: list[float | None], without: list[float | None] | None
) -> tuple[float, int]:
    """Return the rms of the change due to an effect, about its mean [ppm], and its points.

    Raises
    ------
    ValueError
        If the visits differ in length.
    """
    if without is not None and len(with_it) != len(without):
        raise ValueError(
            f"the visit has {len(with_it)} stacks with the effect, but {len(without)} without"
        )
    one = _normalised(with_it)
    other = np.ones_like(one) if without is None else _normalised(without)
    change = (one - other)[np.isfinite(one) & np.isfinite(other)]
    return (float(PPM * np.std(change)), len(change)) if len(change) else (float("nan"), 0)


def _normalised(values: list[float | None]) -> FloatArray:
    """Return a light curve over its median, with NaN for None."""
    curve = np.array([np.nan if v is None else v for v in values])
    return curve / np.nanmedian(curve) if np.isfinite(curve).any() else curve


def budget(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the budget, for the effects with visits, in the order of `EFFECTS`."""
    rows = []
    for name, effect in EFFECTS.items():
        if name not in parts or (effect.over and effect.over not in parts):
            continue
        row: dict[str, Any] = {"effect": effect.title, "owner": effect.owner, "over": effect.over}
        with_it = parts[name].get("series", {})
        without = parts[effect.over].get("series", {}) if effect.over else None
        for column in ("before", *AFTER):
            if column in with_it and (without is None or column in without):
                base = None if without is None else without[column]
                ppm, points = effect_ppm(with_it[column], base)
                row[column], row["points"] = (ppm if points else None), points
        row["note"] = parts[name].get("failed", "")
        rows.append(row)
    return rows
