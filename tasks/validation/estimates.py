"""What the steps estimated, against the truth: flags, defects, calibration, background, smearing,
places, field stars.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from schemas.arrays import AnyArray, FloatArray
from schemas.flags import EVENT_SAA, PixelFlag, Quality
from tasks.validation.claims import Measure
from tasks.validation.files import AbsentError, Part, occulted
from tasks.validation.light_curves import PPM, overlap
from tasks.validation.statistics import bootstrapped, root_mean_square, scatter, share

Pixels = set[tuple[int, int]]  # row and column of the window

SPIKE, TOO_MUCH = 3.0, 300.0  # of the usual sky; in an exposure [electron/pixel]
BRIGHT_HIT = 10.0  # [noise of the pixel]
CLEAR_GAP = 4.0
HIGH_SHARE = 0.1, 0.9  # of the stacks, between which a telegraphic pixel shows both of its levels
CORE = 15.0  # [pixel]
WELL_KNOWN = 0.005  # formal error of a field star [mag]
COSMIC_RAY, HOT, WARM, TELEGRAPHIC = 1, 1, 2, 3
RADIUS = 25.0
CONTAMINATED_STACKS = 12


def measure_flags(part: Part) -> list[Measure]:
    """Whether stacks in the SAA or behind the Earth are flagged, and no others."""
    event = part.products.term("quality", "TERM_QUALITY")["EVENT"]
    said = {"saa": event % 10 == EVENT_SAA, "occultation": occulted(event)}
    measures = []
    for claim, column in (("saa", "SAA"), ("occultation", "OCCULTED")):
        true = part.truth.stacks[column].astype(bool)
        for name, rows in ((claim, true), (f"{claim}_false", ~true)):
            if rows.any():
                n = int(rows.sum())
                measures.append(Measure(name, "", *share(int(said[claim][rows].sum()), n), n))
    return measures


def measure_spikes(part: Part) -> list[Measure]:
    """Whether stacks with much or sudden stray light are flagged, and no others; and those where it
    grows to one side.

    The usual sky is that of stacks without sudden light; more than 300 electrons a pixel and
    exposure are too much in any case. The gradient is that across the ring, over what the ring
    usually holds, halo of the star included.
    """
    stacks, good, term = (
        part.truth.stacks,
        part.truth.good,
        part.products.term("background", "TERM_BACKGROUND"),
    )
    if "SPIKE" not in stacks.columns:
        raise AbsentError("the truth does not tell sudden stray light")
    quality = part.products.term("quality", "TERM_QUALITY")["QUALITY"].astype(int)
    sky, sudden = stacks["BACKGROUND"], stacks["SPIKE"] > 0
    much = sky > SPIKE * np.median(sky[good & ~sudden])
    across = 2 * float(term.header["RING_OUT"]) * np.hypot(stacks["SLOPE_X"], stacks["SLOPE_Y"])
    gradient = across > np.median(term["LEVEL"][good])
    measures = []
    for name, bit, wanted, right in (
        ("spike", Quality.BACKGROUND, much, much | sudden | (sky > TOO_MUCH * part.nexp)),
        ("gradient", Quality.GRADIENT, gradient, gradient),
    ):
        said = good & ((quality & bit) != 0)
        for claim, of, found in (
            (f"{name}_recall", good & wanted, said),
            (f"{name}_purity", said, right),
        ):
            if n := int(of.sum()):
                measures.append(Measure(claim, "", *share(int((of & found).sum()), n), n))
    return measures


def measure_cosmic_rays(part: Part) -> list[Measure]:
    """Share of the bright hits that are found, and of the found pixels that were hit, in good
    stacks.
    """
    charge, noise, good = part.truth.cosmic_charge(), part.pixel_noise, part.truth.good
    table = part.products.term("defects", "TERM_DEFECTS")
    rays = table["KIND"] == COSMIC_RAY
    found = set(
        zip(*(table[c][rays].astype(int).tolist() for c in ("IMAGE_INDEX", "Y", "X")), strict=True)
    )
    found = {key for key in found if good[key[0]]}
    bright = {
        key for key, q in charge.items() if good[key[0]] and q > BRIGHT_HIT * noise[key[1], key[2]]
    }
    measures = []
    if bright:
        measures.append(
            Measure("cosmic_recall", "", *share(len(bright & found), len(bright)), len(bright))
        )
    if found:
        true = sum(charge.get(key, 0.0) > 0 for key in found)
        measures.append(Measure("cosmic_purity", "", *share(true, len(found)), len(found)))
    return measures


def pixels_of(part: Part, kind: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return rows in TRUTH_PIXELS, and rows and columns of the window, of the pixels of a kind that
    are inside of it.
    """
    table = part.truth.table("TRUTH_PIXELS")
    x, y = (table[c].astype(int) - int(part.case[f"window_{c.lower()}"]) for c in "XY")
    shape = part.pixel_noise.shape
    inside = (table["KIND"] == kind) & (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
    rows = np.flatnonzero(inside)
    seen = np.isfinite(part.pixel_noise[y[rows], x[rows]])
    rows = rows[seen]
    return rows, y[rows], x[rows]


def _set(y: AnyArray, x: AnyArray) -> Pixels:
    return set(zip(y.astype(int).tolist(), x.astype(int).tolist(), strict=True))


def measure_hot_pixels(part: Part) -> list[Measure]:
    """Share of the pixels that became hot after the last dark frame that are found, and of the
    found ones that are hot.
    """
    table, noise = part.truth.table("TRUTH_PIXELS"), part.pixel_noise
    flags = part.products.term("defects", "TERM_DEFECTS_FLAGS").data.astype(int)
    found = _set(*np.nonzero(flags & (PixelFlag.HOT | PixelFlag.TELEGRAPHIC)))
    hot = _set(*np.nonzero(flags & PixelFlag.HOT))
    rows, y, x = pixels_of(part, WARM)
    clear = table["RATE"][rows] * part.duration > CLEAR_GAP * noise[y, x]
    new = _set(y[clear], x[clear])
    measures = []
    if new:
        measures.append(Measure("hot_recall", "", *share(len(new & found), len(new)), len(new)))
    if hot:
        true = set().union(*(_set(*pixels_of(part, kind)[1:]) for kind in (HOT, WARM, TELEGRAPHIC)))
        measures.append(Measure("hot_purity", "", *share(len(hot & true), len(hot)), len(hot)))
    return measures


def measure_telegraphic_pixels(part: Part) -> list[Measure]:
    """Share of the clearly jumping pixels that are found, and of the found ones that jump."""
    table, noise = part.truth.table("TRUTH_PIXELS"), part.pixel_noise
    charge = part.truth.table("TRUTH_TELEGRAPHIC").data.astype(float)
    rows, y, x = pixels_of(part, TELEGRAPHIC)
    place = np.cumsum(table["KIND"] == TELEGRAPHIC)[rows] - 1  # its column in TRUTH_TELEGRAPHIC
    charge = charge[part.truth.good][:, place]
    gap = table["LEVEL"][rows] * part.duration
    high = (charge > gap / 2).mean(axis=0)
    clear = (gap > CLEAR_GAP * noise[y, x]) & (high > HIGH_SHARE[0]) & (high < HIGH_SHARE[1])
    listed = part.products.term("defects", "TERM_TELEGRAPHIC")
    found, true = _set(listed["Y"], listed["X"]), _set(y[clear], x[clear])
    measures = []
    if true:
        measures.append(
            Measure("telegraphic_recall", "", *share(len(true & found), len(true)), len(true))
        )
    if found:
        purity = share(len(found & _set(y, x)), len(found))
        measures.append(Measure("telegraphic_purity", "", *purity, len(found)))
    return measures


def measure_bias(part: Part) -> list[Measure]:
    """Error of the bias level, and of the read-out noise."""
    term = part.products.term("bias", "TERM_BIAS")
    error = (term["LEVEL"] - part.truth.stacks["BIAS"])[part.truth.good]
    stated = max(float(np.median(term["LEVEL_ERR"])), 1e-9)
    measures = [
        Measure("bias_level", "", float(error.mean()), stated, len(error)),
        Measure("bias_drift", "", *bootstrapped(error, root_mean_square), len(error)),
    ]
    if part.case["noise"]:
        each = bootstrapped(term["RON"][part.truth.good], lambda v: float(np.sqrt(np.mean(v**2))))
        value = float(term.header["RON_ADU"]) / part.facts.read_out_noise
        measures.append(
            Measure("read_out_noise", "", value, each.error / part.facts.read_out_noise, len(error))
        )
    return measures


def measure_gain(part: Part) -> list[Measure]:
    """Error of the gain about its mean."""
    gain = part.products.term("gain", "TERM_GAIN")["GAIN"]
    error = PPM * (gain / part.truth.stacks["GAIN"] - 1)
    return [Measure("gain_drift", "", *bootstrapped(error, root_mean_square), len(error))]


def measure_dark(part: Part) -> list[Measure]:
    """Mean error of the dark current of the pixels, as the bulk of them has it."""
    true = part.truth.table("TRUTH_DARK").data.astype(float)
    seconds = part.facts.dark_seconds
    error = (part.products.term("dark", "TERM_DARK").data / seconds - true).ravel()
    value = float(np.median(error))
    return [
        Measure("dark", "", value, float(1.25 * scatter(error) / np.sqrt(error.size)), error.size)
    ]


def measure_dark_gradient(part: Part) -> list[Measure]:
    """Measure what is left of the rise of the thermal charge with the time until a row is read,
    over the whole of it.

    The usual pixel of a row tells; the whole is what one time for all rows would leave. Where it is
    too small to be told to 3 % there is no measure.
    """
    true, seconds = part.truth.table("TRUTH_DARK").data.astype(float), part.facts.dark_seconds
    left = np.median(part.products.term("dark", "TERM_DARK").data - true * seconds, axis=1)
    whole = np.median(true * (seconds - seconds.mean()), axis=1)
    row = np.arange(len(left)) - (len(left) - 1) / 2
    slope, rise = (float(row @ v / (row @ row)) for v in (left, whole))
    error = float(np.std(left - left.mean() - slope * row) / np.sqrt(row @ row))
    if not abs(rise) > error / 0.03:
        return []
    return [Measure("dark_gradient", "", abs(slope / rise), error / abs(rise), left.size)]


def measure_background(part: Part) -> list[Measure]:
    """Scatter of the error of the background in units of its stated error.

    A constant does not count: it is the star's own halo. What the bias level was missed by must
    stand in the background, which takes it away from the star too.
    """
    term = part.products.term("background", "TERM_BACKGROUND")
    stated = term["LEVEL_ERR"]
    good = part.truth.good & (stated > 0)
    if good.sum() < 4:
        raise AbsentError("the background has no stated errors")
    stacks = part.truth.stacks
    left = (
        part.nexp
        * (stacks["BIAS"] - part.products.term("bias", "TERM_BIAS")["LEVEL"])
        / stacks["GAIN"]
    )
    error = ((term["LEVEL"] - stacks["BACKGROUND"] - left) / np.where(good, stated, 1.0))[good]
    return [Measure("background", "", *bootstrapped(error, scatter), len(error))]


def measure_smearing(part: Part) -> list[Measure]:
    """Time of a row shift, and the error of the smeared light within 25 pixels."""
    term, good = part.products.term("smearing", "TERM_SMEARING"), part.truth.good
    true = part.truth.stacks["SMEARING"]
    chord = overlap(part.pixel_noise.shape, *part.place, RADIUS).sum(axis=0)
    error = PPM * ((term.data - true) @ chord / np.maximum(part.truth.stacks["TARGET"], 1.0))[good]
    measures = [Measure("smearing_curve", "", *bootstrapped(error, root_mean_square), len(error))]
    time, stated = float(term.header["SMEAR_T"]), float(term.header["SMEAR_TE"])
    expected = part.facts.transfer_time * float(part.case["smearing"])
    if (
        expected > 0
        and stated > 0
        and part.products.curve("DEFAULT").header["SMEARING"] == "completed"
    ):
        measures.append(
            Measure("smearing_time", "", time / expected, stated / expected, len(error))
        )
    return measures


def measure_position(part: Part) -> list[Measure]:
    """Error of the position about its mean, in x and y."""
    term = part.products.term("position", "TERM_POSITION")
    used = part.truth.good & (term["VALIDITY"] == 0)
    measures = []
    for axis in "XY":
        error = (term[axis] - part.truth.stacks[f"CENTROID_{axis}"])[used]
        measures.append(Measure("position", axis, *bootstrapped(error, scatter), len(error)))
    return measures


def core_light(psf: AnyArray) -> float:
    """Return the share of a PSF, two samples a pixel, within 15 pixels of its centre."""
    half = psf.shape[0] // 2
    y, x = np.mgrid[-half:half, -half:half] / 2
    return float(psf[np.hypot(x, y) <= CORE].sum() / psf.sum())


def measure_field_stars(part: Part) -> list[Measure]:
    """Error of the magnitudes of the field stars that are known well, on the scale of the target's
    flux.

    They were measured with another PSF than the target: the light in the cores is compared.
    """
    term, true = part.products.term("stars", "TERM_STARS"), part.truth.table("TRUTH_STARS")
    fitted = part.products.term("psf_fit", "TERM_PSF_FIT")["FLUX"]
    ratio = fitted / np.maximum(part.truth.stacks["TARGET"], 1.0)
    known = np.isfinite(ratio) & part.truth.good
    if not known.any():
        raise AbsentError("no flux was fitted by PSF")
    scale = (
        float(np.median(ratio[known]))
        * core_light(part.products.term("psf", "TERM_PSF").data)
        / float(term.header["STAR_COR"])
    )
    magnitudes = []
    for xi, eta, flux, error, target in zip(
        *(term[c] for c in ("XI", "ETA", "FLUX", "FLUXERR", "TARGET")), strict=True
    ):
        distance = np.hypot(true["XI"] - xi, true["ETA"] - eta)
        star = int(distance.argmin())
        if target or distance[star] > 1.0 or not 0 < 1.086 * error < WELL_KNOWN * flux:
            continue
        magnitudes.append(-2.5 * np.log10(flux / part.duration / scale / true["FLUX"][star]))
    if not magnitudes:
        raise AbsentError("no field star is known well enough")
    values = np.array(magnitudes)
    rms = float(np.sqrt(np.mean(values**2)))
    return [Measure("field_stars", "", rms, rms / np.sqrt(2 * len(values)), len(values))]


def measure_contamination(part: Part) -> list[Measure]:
    """Error of CONTA_LC, mean and about its mean, against true field stars drawn with the true PSF
    at some stacks.
    """
    psf, stars = part.truth.table("TRUTH_PSF").data.astype(float), part.truth.table("TRUTH_STARS")
    curve, stacks = part.products.curve("DEFAULT"), part.truth.stacks
    rows = np.flatnonzero(curve.used & part.truth.good)
    rows = (
        rows[np.unique(np.linspace(0, len(rows) - 1, CONTAMINATED_STACKS).astype(int))]
        if len(rows)
        else rows
    )
    if len(rows) < 4:
        raise AbsentError("too few good stacks")
    own = float((overlap(psf.shape, psf.shape[1] / 2, psf.shape[0] / 2, RADIUS) * psf).sum())
    errors = []
    for row in rows:
        roll = np.radians(stacks["ROLL_ANGLE"][row])
        light = 0.0
        for xi, eta, flux in zip(stars["XI"][1:], stars["ETA"][1:], stars["FLUX"][1:], strict=True):
            # at roll 0 North is +y and East is -x; North turns towards +x
            x = (-xi * np.cos(roll) + eta * np.sin(roll)) / part.facts.pixel_scale
            y = (eta * np.cos(roll) + xi * np.sin(roll)) / part.facts.pixel_scale
            if np.hypot(x, y) < psf.shape[0] / 2 - 1 + RADIUS:
                light += flux * light_within(psf, -x, -y, RADIUS)
        errors.append(
            PPM * (float(curve.table["CONTA_LC"][row]) - light / (float(stars["FLUX"][0]) * own))
        )
    error = np.array(errors)
    return [
        Measure(
            "contamination_level", "", *bootstrapped(error, lambda e: float(e.mean())), len(error)
        ),
        Measure("contamination", "", *bootstrapped(error, root_mean_square), len(error)),
    ]


def light_within(psf: FloatArray, x: float, y: float, radius: float) -> float:
    """Return the share of a PSF, shape (ny, nx), within a circle about x, y from its centre
    [pixel]; beyond its image none.
    """
    side = np.arange(-int(radius) - 2, int(radius) + 3)
    inside = overlap((side.size, side.size), side.size / 2, side.size / 2, radius)
    middle = (psf.shape[0] - 1) / 2, (psf.shape[1] - 1) / 2
    rows, columns = np.meshgrid(side + y + middle[0], side + x + middle[1], indexing="ij")
    return float((map_coordinates(psf, [rows, columns], order=1, cval=0.0) * inside).sum())


Score = Callable[[Part], list[Measure]]


def scores(case: dict[str, Any]) -> dict[str, Score]:
    """Return what is measured of the estimates of a case, by a name that tells it."""
    wanted: dict[str, Score] = {"flags": measure_flags, "bias": measure_bias, "gain": measure_gain}
    wanted["position"] = measure_position
    conditions: dict[str, tuple[bool, Score]] = {
        "sudden stray light": (case.get("spikes", 0.0) > 0, measure_spikes),
        "cosmic rays": (case["cosmic_rays"] > 0 and case["noise"], measure_cosmic_rays),
        "hot pixels": (case["hot"] > 0 or case["warm"] > 0, measure_hot_pixels),
        "telegraphic pixels": (case["telegraphic"] > 0, measure_telegraphic_pixels),
        "dark current": (case["dark"] > 0 and case["dark_error"] == 0, measure_dark),
        "read-out time of the dark current": (case["dark"] > 0, measure_dark_gradient),
        "background": (case["noise"], measure_background),
        "smearing": (case["smearing"] > 0, measure_smearing),
        "field stars": (case["stars"] > 0 or case["near_stars"] > 0, measure_field_stars),
        "contamination": (case["stars"] > 0 or case["near_stars"] > 0, measure_contamination),
    }
    return {**wanted, **{name: score for name, (applies, score) in conditions.items() if applies}}
