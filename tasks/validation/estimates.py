"""The estimates of the steps against the truth.

Flags, defects, calibration, background, smearing, positions, field stars and contamination.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

from schemas.arrays import AnyArray, BoolArray, FloatArray, IntArray
from schemas.flags import EVENT_SAA, PixelFlag, Quality
from tasks.validation.claims import Measure
from tasks.validation.files import AbsentError, Part, occulted
from tasks.validation.light_curves import PPM, overlap
from tasks.validation.statistics import bootstrapped, root_mean_square, scatter

Pixels = set[tuple[int, int]]  # row and column of the window

SPIKE, TOO_MUCH = 3.0, 300.0  # times the usual sky; in an exposure [electron/pixel]
BRIGHT_HIT = 10.0  # [noise of the pixel]
CLEAR_GAP = 4.0  # [noise of the pixel]
HIGH_SHARE = 0.1, 0.9  # of the stacks, between which a telegraphic pixel shows both of its levels
CORE = 15.0  # [pixel]
WELL_KNOWN = 0.005  # formal error of a field star [mag]
SAME_STAR = 1.0  # [arcsec]
COSMIC_RAY, HOT, WARM, TELEGRAPHIC = 1, 1, 2, 3
SEEN_IN_IMAGETTE = 5
RADIUS = 25.0
CONTAMINATED_STACKS = 12


def measure_flags(part: Part) -> list[Measure]:
    """Measure whether the stacks in the SAA or behind the Earth are flagged, and no others."""
    event = part.products.term("quality", "TERM_QUALITY")["EVENT"]
    flagged = {"saa": event % 10 == EVENT_SAA, "occultation": occulted(event)}
    measures = []
    for claim, column in (("saa", "SAA"), ("occultation", "OCCULTED")):
        true = part.truth.stacks[column].astype(bool)
        for name, rows in ((claim, true), (f"{claim}_false", ~true)):
            if n := int(rows.sum()):
                measures.append(Measure.of_share(name, int(flagged[claim][rows].sum()), n))
    return measures


def measure_spikes(part: Part) -> list[Measure]:
    """Measure whether stacks with much or sudden stray light, or a gradient, are flagged.

    The usual sky is that of stacks without sudden light; more than 300 electrons per pixel and
    exposure are too much in any case. The gradient is that across the ring, compared with the usual
    level of the ring, which includes the halo of the star.
    """
    stacks, good = part.truth.stacks, part.truth.good
    if "SPIKE" not in stacks.columns:
        raise AbsentError("the truth has no sudden stray light")
    quality = part.products.term("quality", "TERM_QUALITY")["QUALITY"].astype(int)
    sky, sudden = stacks["BACKGROUND"], stacks["SPIKE"] > 0
    much = sky > SPIKE * np.median(sky[good & ~sudden])
    right = much | sudden | (sky > TOO_MUCH * part.nexp)
    gradient = _has_gradient(part)
    return [
        *_score_flag("spike", good & ((quality & Quality.BACKGROUND) != 0), good & much, right),
        *_score_flag(
            "gradient", good & ((quality & Quality.GRADIENT) != 0), good & gradient, gradient
        ),
    ]


def _has_gradient(part: Part) -> BoolArray:
    """Return the stacks whose gradient across the ring exceeds the usual level of the ring."""
    term, stacks = part.products.term("background", "TERM_BACKGROUND"), part.truth.stacks
    across = 2 * float(term.header["RING_OUT"]) * np.hypot(stacks["SLOPE_X"], stacks["SLOPE_Y"])
    return np.asarray(across > np.median(term["LEVEL"][part.truth.good]))


def _score_flag(
    name: str, flagged: BoolArray, expected: BoolArray, right: BoolArray
) -> Iterator[Measure]:
    """Yield the share of the expected stacks that are flagged, and of the flags that are right."""
    for claim, total, hits in (
        (f"{name}_recall", expected, flagged),
        (f"{name}_purity", flagged, right),
    ):
        if n := int(total.sum()):
            yield Measure.of_share(claim, int((total & hits).sum()), n)


def measure_cosmic_rays(part: Part) -> list[Measure]:
    """Measure recall of bright hits, and purity of pixels called hit, in good stacks."""
    charge, noise, good = part.truth.cosmic_charge(), part.pixel_noise, part.truth.good
    table = part.products.term("defects", "TERM_DEFECTS")
    rays = np.isin(table["KIND"], (COSMIC_RAY, SEEN_IN_IMAGETTE))
    places = (table[c][rays].astype(int).tolist() for c in ("IMAGE_INDEX", "Y", "X"))
    flagged = {key for key in zip(*places, strict=True) if good[key[0]]}
    bright = {
        key for key, q in charge.items() if good[key[0]] and q > BRIGHT_HIT * noise[key[1], key[2]]
    }
    measures = []
    if bright:
        measures.append(Measure.of_share("cosmic_recall", len(bright & flagged), len(bright)))
    if flagged:
        hit = sum(charge.get(key, 0.0) > 0 for key in flagged)
        measures.append(Measure.of_share("cosmic_purity", hit, len(flagged)))
    return measures


class TruePixels(NamedTuple):
    """The pixels of one kind in the window: their entries in TRUTH_PIXELS, rows and columns."""

    entry: IntArray
    y: IntArray
    x: IntArray


def pixels_of(part: Part, kind: int) -> TruePixels:
    """Return the pixels of a kind that lie in the window."""
    table = part.truth.table("TRUTH_PIXELS")
    x, y = (table[c].astype(int) - int(part.case[f"window_{c.lower()}"]) for c in "XY")
    shape = part.pixel_noise.shape
    inside = (table["KIND"] == kind) & (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
    entry = np.flatnonzero(inside)
    entry = entry[np.isfinite(part.pixel_noise[y[entry], x[entry]])]
    return TruePixels(entry, y[entry], x[entry])


def _pixel_set(y: AnyArray, x: AnyArray) -> Pixels:
    return set(zip(y.astype(int).tolist(), x.astype(int).tolist(), strict=True))


def measure_hot_pixels(part: Part) -> list[Measure]:
    """Measure recall of pixels hot since the last dark frame, and purity of pixels called hot."""
    table, noise = part.truth.table("TRUTH_PIXELS"), part.pixel_noise
    flags = part.products.term("defects", "TERM_DEFECTS_FLAGS").data.astype(int)
    found = _pixel_set(*np.nonzero(flags & (PixelFlag.HOT | PixelFlag.TELEGRAPHIC)))
    called_hot = _pixel_set(*np.nonzero(flags & PixelFlag.HOT))
    warm = pixels_of(part, WARM)
    clear = table["RATE"][warm.entry] * part.duration > CLEAR_GAP * noise[warm.y, warm.x]
    new = _pixel_set(warm.y[clear], warm.x[clear])
    measures = []
    if new:
        measures.append(Measure.of_share("hot_recall", len(new & found), len(new)))
    if called_hot:
        true: Pixels = set()
        for kind in (HOT, WARM, TELEGRAPHIC):
            pixels = pixels_of(part, kind)
            true |= _pixel_set(pixels.y, pixels.x)
        measures.append(Measure.of_share("hot_purity", len(called_hot & true), len(called_hot)))
    return measures


def measure_telegraphic_pixels(part: Part) -> list[Measure]:
    """Measure recall of clearly jumping pixels, and purity of pixels called telegraphic."""
    pixels = pixels_of(part, TELEGRAPHIC)
    clear = _jumps_clearly(part, pixels)
    listed = part.products.term("defects", "TERM_TELEGRAPHIC")
    found = _pixel_set(listed["Y"], listed["X"])
    true = _pixel_set(pixels.y[clear], pixels.x[clear])
    measures = []
    if true:
        measures.append(Measure.of_share("telegraphic_recall", len(true & found), len(true)))
    if found:
        right = len(found & _pixel_set(pixels.y, pixels.x))
        measures.append(Measure.of_share("telegraphic_purity", right, len(found)))
    return measures


def _jumps_clearly(part: Part, pixels: TruePixels) -> BoolArray:
    """Return the telegraphic pixels with a step above the noise that show both of their levels."""
    table = part.truth.table("TRUTH_PIXELS")
    charge = part.truth.table("TRUTH_TELEGRAPHIC").data.astype(float)
    column = np.cumsum(table["KIND"] == TELEGRAPHIC)[pixels.entry] - 1  # in TRUTH_TELEGRAPHIC
    charge = charge[part.truth.good][:, column]
    gap = table["LEVEL"][pixels.entry] * part.duration
    high = (charge > gap / 2).mean(axis=0)
    clear = gap > CLEAR_GAP * part.pixel_noise[pixels.y, pixels.x]
    return np.asarray(clear & (high > HIGH_SHARE[0]) & (high < HIGH_SHARE[1]))


def measure_bias(part: Part) -> list[Measure]:
    """Measure the error of the bias level, and that of the read-out noise."""
    term = part.products.term("bias", "TERM_BIAS")
    error = (term["LEVEL"] - part.truth.stacks["BIAS"])[part.truth.good]
    stated = max(float(np.median(term["LEVEL_ERR"])), 1e-9)
    measures = [
        Measure("bias_level", "", float(error.mean()), stated, len(error)),
        Measure.of_series("bias_drift", error, root_mean_square),
    ]
    if part.case["noise"]:
        each = bootstrapped(term["RON"][part.truth.good], lambda v: float(np.sqrt(np.mean(v**2))))
        value = float(term.header["RON_ADU"]) / part.facts.read_out_noise
        measures.append(
            Measure("read_out_noise", "", value, each.error / part.facts.read_out_noise, len(error))
        )
    return measures


def measure_gain(part: Part) -> list[Measure]:
    """Measure the error of the gain about its mean."""
    gain = part.products.term("gain", "TERM_GAIN")["GAIN"]
    error = PPM * (gain / part.truth.stacks["GAIN"] - 1)
    return [Measure.of_series("gain_drift", error, root_mean_square)]


def measure_dark(part: Part) -> list[Measure]:
    """Measure the error of the dark current of the typical pixel, the median of all."""
    true = part.truth.table("TRUTH_DARK").data.astype(float)
    seconds = part.facts.dark_seconds
    error = (part.products.term("dark", "TERM_DARK").data / seconds - true).ravel()
    value = float(np.median(error))
    return [
        Measure("dark", "", value, float(1.25 * scatter(error) / np.sqrt(error.size)), error.size)
    ]


def measure_dark_gradient(part: Part) -> list[Measure]:
    """Measure the uncorrected fraction of the rise of the thermal charge with the read-out time.

    The rise is that of the medians of the rows; the whole rise is that left by a single time for
    all rows. There is no measure where the rise is too small to be known to 3 %.
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
    """Measure the scatter of the background's error in units of its stated error.

    A constant error is ignored: it is the star's own halo. An error of the bias level is expected
    in the background, which subtracts it from the star too.
    """
    term = part.products.term("background", "TERM_BACKGROUND")
    stated = term["LEVEL_ERR"]
    good = part.truth.good & (stated > 0)
    if good.sum() < 4:
        raise AbsentError("the background has no stated errors")
    stacks = part.truth.stacks
    bias = part.products.term("bias", "TERM_BIAS")["LEVEL"]
    left = part.nexp * (stacks["BIAS"] - bias) / stacks["GAIN"]
    error = (term["LEVEL"] - stacks["BACKGROUND"] - left)[good]
    # the constant comes first: divided by errors that differ, it would look like noise
    error = (error - np.median(error)) / stated[good]
    return [Measure.of_series("background", error, scatter)]


def measure_smearing(part: Part) -> list[Measure]:
    """Measure the time of a row shift, and the error of the smeared light within 25 pixels."""
    term, good = part.products.term("smearing", "TERM_SMEARING"), part.truth.good
    true = part.truth.stacks["SMEARING"]
    chord = overlap(part.pixel_noise.shape, *part.place, RADIUS).sum(axis=0)
    error = PPM * ((term.data - true) @ chord / np.maximum(part.truth.stacks["TARGET"], 1.0))[good]
    measures = [Measure.of_series("smearing_curve", error, root_mean_square)]
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
    """Measure the error of the position about its mean, in x and y."""
    term = part.products.term("position", "TERM_POSITION")
    used = part.truth.good & (term["VALIDITY"] == 0)
    measures = []
    for axis in "XY":
        error = (term[axis] - part.truth.stacks[f"CENTROID_{axis}"])[used]
        measures.append(Measure.of_series("position", error, scatter, axis))
    return measures


def core_light(psf: AnyArray) -> float:
    """Return the share of a PSF, two samples per pixel, within 15 pixels of its centre."""
    half = psf.shape[0] // 2
    y, x = np.mgrid[-half:half, -half:half] / 2
    return float(psf[np.hypot(x, y) <= CORE].sum() / psf.sum())


def measure_field_stars(part: Part) -> list[Measure]:
    """Measure the rms error of the magnitudes of field stars with a small formal error."""
    term, true = part.products.term("stars", "TERM_STARS"), part.truth.table("TRUTH_STARS")
    scale = _star_scale(part)
    magnitudes = []
    for xi, eta, flux, error, target in zip(
        *(term[c] for c in ("XI", "ETA", "FLUX", "FLUXERR", "TARGET")), strict=True
    ):
        distance = np.hypot(true["XI"] - xi, true["ETA"] - eta)
        star = int(distance.argmin())
        if target or distance[star] > SAME_STAR or not 0 < 1.086 * error < WELL_KNOWN * flux:
            continue
        magnitudes.append(-2.5 * np.log10(flux / part.duration / scale / true["FLUX"][star]))
    if not magnitudes:
        raise AbsentError("no field star is known well enough")
    values = np.array(magnitudes)
    rms = float(np.sqrt(np.mean(values**2)))
    return [Measure("field_stars", "", rms, rms / np.sqrt(2 * len(values)), len(values))]


def _star_scale(part: Part) -> float:
    """Return the scale of the field stars' fluxes, that of the target over its true flux.

    Field stars were measured with another PSF than the target, so the light in the cores is
    compared.
    """
    fitted = part.products.term("psf_fit", "TERM_PSF_FIT")["FLUX"]
    ratio = fitted / np.maximum(part.truth.stacks["TARGET"], 1.0)
    known = np.isfinite(ratio) & part.truth.good
    if not known.any():
        raise AbsentError("no flux was fitted by PSF")
    star_core = float(part.products.term("stars", "TERM_STARS").header["STAR_COR"])
    core = core_light(part.products.term("psf", "TERM_PSF").data)
    return float(np.median(ratio[known])) * core / star_core


def measure_contamination(part: Part) -> list[Measure]:
    """Measure the error of CONTA_LC, mean and scatter, in some stacks.

    What the background subtracts of the field stars is not in CONTA_LC, but in its own term.
    """
    curve, sky = part.products.curve("DEFAULT"), part.products.term("background", "TERM_BACKGROUND")
    rows = np.flatnonzero(curve.used & part.truth.good)
    if len(rows) >= 4:
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, CONTAMINATED_STACKS).astype(int))]
    if len(rows) < 4:
        raise AbsentError("too few good stacks")
    true = np.array([true_contamination(part, int(row)) for row in rows])
    area = np.pi * curve.radius**2
    subtracted = area * float(sky.header["BKG_STAR"]) / float(np.median(curve.flux[rows]))
    error = PPM * (curve.table["CONTA_LC"][rows].astype(float) + subtracted - true)
    stated = PPM * curve.table["CONTA_LC_ERR"][rows].astype(float)
    pull = (error / stated)[stated > 0]
    # the error is common to all stacks of a visit: each visit is one draw of it
    pulls = [abs(float(pull.mean()))] if pull.size else []
    return [
        *(Measure("contamination_pull", "", value, 1.0, 1) for value in pulls),
        Measure.of_series("contamination_level", error, lambda e: float(e.mean())),
        Measure.of_series("contamination", error, root_mean_square),
    ]


def true_contamination(part: Part, row: int) -> float:
    """Return the light of the true field stars within 25 pixels, drawn with the true PSF.

    It is relative to the light of the target in the same circle, in the stack `row`.
    """
    psf, stars = round_psf(part), part.truth.table("TRUTH_STARS")
    roll = np.radians(part.truth.stacks["ROLL_ANGLE"][row])
    light = 0.0
    for xi, eta, flux in zip(stars["XI"][1:], stars["ETA"][1:], stars["FLUX"][1:], strict=True):
        # at roll 0 North is +y and East is -x; North turns towards +x
        x = (-xi * np.cos(roll) + eta * np.sin(roll)) / part.facts.pixel_scale
        y = (eta * np.cos(roll) + xi * np.sin(roll)) / part.facts.pixel_scale
        if np.hypot(x, y) < psf.shape[0] / 2 - 1 + RADIUS:
            light += flux * light_within(psf, -x, -y, RADIUS)
    inside = overlap((psf.shape[0], psf.shape[1]), psf.shape[1] / 2, psf.shape[0] / 2, RADIUS)
    return light / (float(stars["FLUX"][0]) * float((inside * psf).sum()))


def round_psf(part: Part) -> FloatArray:
    """Return the true PSF without the corners of its image.

    Its wings are round. A star whose light reached the target by a corner would seem to flicker
    with the roll angle.
    """
    psf = part.truth.table("TRUTH_PSF").data.astype(float)
    y, x = (np.arange(n) - (n - 1) / 2 for n in psf.shape)
    return np.where(np.hypot(y[:, None], x) < min(psf.shape) / 2, psf, 0.0)


def light_within(psf: FloatArray, x: float, y: float, radius: float) -> float:
    """Return the share of a PSF, shape (ny, nx), within a circle; none lies outside its image.

    The centre of the circle is at x, y from the centre of the PSF [pixel].
    """
    side = np.arange(-int(radius) - 2, int(radius) + 3)
    inside = overlap((side.size, side.size), side.size / 2, side.size / 2, radius)
    middle = (psf.shape[0] - 1) / 2, (psf.shape[1] - 1) / 2
    rows, columns = np.meshgrid(side + y + middle[0], side + x + middle[1], indexing="ij")
    return float((map_coordinates(psf, [rows, columns], order=1, cval=0.0) * inside).sum())


Score = Callable[[Part], list[Measure]]


def scores(case: dict[str, Any]) -> dict[str, Score]:
    """Return the measurements of the estimates that apply to a case, by name."""
    has_field = case["stars"] > 0 or case["near_stars"] > 0 or bool(case.get("more_stars"))
    conditions: dict[str, tuple[bool, Score]] = {
        "flags": (True, measure_flags),
        "bias": (True, measure_bias),
        "gain": (True, measure_gain),
        "position": (True, measure_position),
        "sudden stray light": (case.get("spikes", 0.0) > 0, measure_spikes),
        "cosmic rays": (case["cosmic_rays"] > 0 and case["noise"], measure_cosmic_rays),
        "hot pixels": (case["hot"] > 0 or case["warm"] > 0, measure_hot_pixels),
        "telegraphic pixels": (case["telegraphic"] > 0, measure_telegraphic_pixels),
        "dark current": (case["dark"] > 0 and case["dark_error"] == 0, measure_dark),
        "read-out time of the dark current": (case["dark"] > 0, measure_dark_gradient),
        "background": (case["noise"], measure_background),
        "smearing": (case["smearing"] > 0, measure_smearing),
        "field stars": (has_field, measure_field_stars),
        "contamination": (has_field, measure_contamination),
    }
    return {name: score for name, (applies, score) in conditions.items() if applies}
