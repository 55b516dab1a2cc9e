"""Bias: the offset of the analogue-to-digital converter, and the noise of reading a pixel.

b(x, y, t) = level(t) + structure(x, y). The level comes from those margins of every image that see
no charge (overscan and blank columns), after subtraction of the structure that the reference frame
shows there; its slow part is followed over the visit, with the orbit and the temperatures of the
electronics. The structure is the reference frame minus its nominal level. Exposures are co-added on
board, so a stack of n holds n times the bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from schemas.arrays import AnyArray, BoolArray, FloatArray, Int32Array, IntArray
from schemas.flags import Quality
from schemas.inputs import BIAS_FRAME, HOUSEKEEPING
from schemas.payloads import Bias, Product, Reference
from schemas.settings import BiasSettings
from schemas.terms import TERMS
from tasks.calibration.drift import follow
from tasks.calibration.plausible import plausible_structure
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import FitsFile, Hdu, Value, blocks, open_declared
from tasks.files.writer import NewHdu
from tasks.numerics.robust import MAD_TO_SIGMA
from tasks.numerics.series import far_from_neighbours
from tasks.visit.housekeeping import repair
from tasks.visit.raw import Exposures, open_exposures

BLOCK = 1 << 23  # bytes of a margin that are read at once
JUMP = 100.0  # a level this far from the median of the visit comes from garbled margins [ADU]
SMALL_JUMP = 2.0  # a level nearer than this to its neighbours never does [ADU]
# Levels of all modes and years lie between 560 and 950 ADU; those of a mode drift by some ADU.
OFF = 300.0  # a level this far from that of the reference is not used [ADU]
NOISE = 0.5, 10.0  # read-out noise of 1 to 20 electrons [ADU]; 3.5 in flight, 7.2 at 230 kHz
COMPLETE = 0.9  # of the usual number of margin pixels; with fewer, an image is flagged
# Columns without light and dark current, and the HDU of the reference frame with their structure.
COLUMNS = {
    "OverscanLeft": "REF_APP_BiasOverscanLeftFrame",
    "OverscanRight": "REF_APP_BiasOverscanRightFrame",
    "BlankLeft": "REF_APP_BiasBlankLeftFrame",
    "BlankRight": "REF_APP_BiasBlankRightFrame",
}
DARK_COLUMNS = {"DarkLeft": "REF_APP_BiasDarkLeftFrame", "DarkRight": "REF_APP_BiasDarkRightFrame"}
# The level may depend on these.
TEMPERATURES = ("HK_TEMP_FEE_BIAS", "HK_TEMP_FEE_ADC", "HK_TEMP_FEE_CCD")


def clipped_mean(values: FloatArray, clip: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean, standard deviation and number of the values of each row after one clipping.

    Values further than `clip` sigma from the median of their row are left out.

    Parameters
    ----------
    values : ndarray, shape (n, m)
        Values; NaNs are ignored.
    clip : float
        Limit in units of the robust standard deviation of the row.

    Returns
    -------
    mean, sigma, number : ndarray, shape (n,)
        NaN, NaN, 0 for a row without values.
    """
    mean, sigma = np.full(len(values), np.nan), np.full(len(values), np.nan)
    number = np.zeros(len(values))
    deviation = np.abs(values - _medians(values)[:, None])
    limit = clip * np.maximum(MAD_TO_SIGMA * _medians(deviation), 1.0 / np.sqrt(12))
    for i, row in enumerate(values):
        kept = row[deviation[i] <= limit[i]]
        if kept.size == 0:
            continue
        mean[i], sigma[i], number[i] = (
            kept.mean(),
            kept.std(ddof=1) if kept.size > 1 else np.nan,
            kept.size,
        )
    return mean, sigma, number


def _medians(values: FloatArray) -> FloatArray:
    """Return the median of the finite values of each row (n, m); NaN for a row without any."""
    finite = np.isfinite(values)
    whole = finite.all(axis=1)
    medians = np.full(len(values), np.nan)
    medians[whole] = np.median(values[whole], axis=1)
    for i in np.flatnonzero(finite.any(axis=1) & ~whole):
        medians[i] = np.median(values[i, finite[i]])
    return medians


@dataclass(frozen=True)
class BiasReference:
    """Bias of one read-out mode according to the reference frame [ADU]."""

    level: float  # nominal
    level_error: float
    ron: float  # read-out noise
    structure: FloatArray  # exposed area minus the level, shape (1024, 1024)
    margins: dict[str, FloatArray]  # columns beside it minus the level, by side
    warning: str = ""


def _choose_rows(file: FitsFile, frequency: int, hardware: str) -> tuple[int, int, str]:
    """Return the plane of a read-out mode and its row in the table of offsets.

    The third value is a warning, empty unless plane and row are those of the other channel.
    """
    table, planes = file["REF_APP_BiasOffset"], file["REF_APP_BiasFrameMetadata"]
    kinds, frequencies, channels = (planes.column(n) for n in ("DATA_TYPE", "RO_FREQU", "RO_HW"))
    same = (kinds == "BIAS") & (frequencies == frequency)
    rows = table.column("RO_FREQU") == frequency
    if not same.any() or not rows.any():
        raise file["REF_APP_BiasFrame"].refuse(
            f"has no bias for the read-out frequency {frequency} Hz"
        )
    if planes.rows != file["REF_APP_BiasFrame"].rows:
        raise planes.refuse(f"has {planes.rows} rows for {file['REF_APP_BiasFrame'].rows} planes")
    own_planes, own_rows = same & (channels == hardware), rows & (table.column("RO_HW") == hardware)
    if own_planes.any() and own_rows.any():
        return int(np.argmax(own_planes)), int(np.argmax(own_rows)), ""
    warning = f"the bias frame has no read-out channel {hardware}: using the other channel"
    return int(np.argmax(same)), int(np.argmax(rows)), warning


def read_bias_reference(product: Product, frequency: int, hardware: str) -> BiasReference:
    """Read the bias frame of one read-out frequency and channel.

    If the frame lacks the channel, the other one is used, with a warning.
    """
    with open_declared(require(product.path), BIAS_FRAME) as file:
        plane, row, warning = _choose_rows(file, frequency, hardware)
        table = file["REF_APP_BiasOffset"]
        level, level_error, ron = (
            float(table.finite_column(name)[row])
            for name in ("BIAS_OFFSET", "BIAS_OFFSET_ERR", "RON")
        )
        structure = file["REF_APP_BiasFrame"].finite_image(plane, plane + 1)[0] - level
        margins = _margin_structure(file, plane, level)
    return BiasReference(level, level_error, ron, structure, margins, warning)


def _margin_structure(file: FitsFile, plane: int, level: float) -> dict[str, FloatArray]:
    margins = {}
    for side, extname in (COLUMNS | DARK_COLUMNS).items():
        if extname in file and len(file[extname].shape) == 3 and file[extname].shape[0] > plane:
            margins[side] = file[extname].finite_image(plane, plane + 1)[0] - level
    return margins


class MarginLevels(NamedTuple):
    """Bias of one exposure of every image, shape (n,) [ADU]; NaN without usable pixels."""

    level: FloatArray
    error: FloatArray  # of the level
    ron: FloatArray  # read-out noise
    source: str  # the margins, joined by "+"
    partial: BoolArray  # images with a margin that lacks pixels or was not used
    warnings: tuple[str, ...] = ()  # about margins that were not used


class _Margin(NamedTuple):
    """One margin of every image, shape (n,); 0 without usable pixels."""

    level: FloatArray  # [ADU]
    variance: FloatArray  # of a pixel, in one exposure of a mean or sum [ADU^2]
    number: FloatArray  # of pixels

    def without(self, bad: BoolArray) -> _Margin:
        """Return the margin without some images."""
        return _Margin(*(np.where(bad, 0.0, values) for values in self))


def margin_levels(
    raw: Exposures, reference: BiasReference, clip: float, size: int = BLOCK
) -> MarginLevels:
    """Measure bias level and read-out noise of every image in all its margins together.

    Margins come as images (co-added pixels), or collapsed on board to mean and standard deviation.
    They are read in blocks of about `size` bytes, so that memory does not grow with the number of
    images. A margin with an implausible level or noise is not used.
    """
    sides = [side for side in COLUMNS if f"SCI_RAW_{side}" in raw.file]
    if not sides:
        nothing = np.full(raw.count, np.nan)
        return MarginLevels(nothing, nothing, nothing, "", np.zeros(raw.count, np.bool_))
    measured = [_measure_margin(raw, side, reference, clip, size) for side in sides]
    measured, warnings = _reject_implausible(
        dict(zip(sides, measured, strict=True)), raw, reference
    )
    levels, variances, weights = (list(v) for v in zip(*measured, strict=True))
    weight = np.sum(weights, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = np.sum(np.multiply(weights, levels), axis=0) / weight
        variance = np.sum(np.multiply(weights, variances), axis=0) / weight
        error = np.sqrt(variance / weight)
    used = [side for side, number in zip(sides, weights, strict=True) if number.any()]
    usual = [np.median(number) for number in weights]
    partial = np.any([n < COMPLETE * m for n, m in zip(weights, usual, strict=True)], axis=0)
    ron = np.sqrt(variance * raw.nexp)
    return MarginLevels(level, error, ron, "+".join(used or sides), partial, tuple(warnings))


def plausible_noise(ron: FloatArray) -> BoolArray:
    """Return which values can be the read-out noise of an exposure [ADU]."""
    return np.asarray((ron >= NOISE[0]) & (ron <= NOISE[1]))


def _reject_implausible(
    margins: dict[str, _Margin], raw: Exposures, reference: BiasReference
) -> tuple[list[_Margin], list[str]]:
    """Return the margins without images whose level or noise cannot be right, and warnings.

    If no margin has any plausible noise, noise rejects none: images may be simulated without it.
    """
    quiet = {side: ~plausible_noise(np.sqrt(m.variance * raw.nexp)) for side, m in margins.items()}
    noisy = any((~quiet[side] & (m.number > 0)).any() for side, m in margins.items())
    kept, warnings = [], []
    for side, margin in margins.items():
        off = np.abs(margin.level - reference.level) > OFF
        bad = (margin.number > 0) & (off | quiet[side] if noisy else off)
        kept.append(margin.without(bad))
        if bad.any():
            first = int(np.argmax(bad))
            ron = float(np.sqrt(margin.variance[first] * raw.nexp))
            warnings.append(
                f"{side}: level or noise of {bad.sum()} of {raw.count} images cannot be right (the "
                f"first, at MJD {raw.mjd[first]:.5f}: {margin.level[first]:.1f} ADU with a noise "
                f"of {ron:.2f} ADU; reference: {reference.level:.1f} and {reference.ron:.2f} ADU): "
                f"not used"
            )
    return kept, warnings


def _measure_margin(
    raw: Exposures, side: str, reference: BiasReference, clip: float, size: int
) -> _Margin:
    """Measure level, variance and number of pixels of one margin."""
    hdu = raw.file[f"SCI_RAW_{side}"]
    added, structure = _coadded(hdu), _structure_beside(raw, side, reference)
    spans = blocks(raw.count, bytes_of(hdu), size)
    if hdu.text("MRG_PROC") == "image":
        parts = [_of_pixels(hdu.image(a, b), added, structure, clip) for a, b in spans]
    else:
        kinds, level = _kinds(hdu), float(structure.mean())
        pixels = float(raw.shape[0] * (4 if side.startswith("Overscan") else 8))
        parts = [_of_collapsed(hdu.image(a, b), kinds, added, level, pixels) for a, b in spans]
    mean, sigma, number = (np.concatenate(v) for v in zip(*parts, strict=True))
    sigma = np.maximum(sigma, 1.0 / np.sqrt(12.0 * added))  # rounding alone scatters that much
    good = np.isfinite(mean) & (number > 0) & np.isfinite(sigma)
    return _Margin(mean, sigma**2, number).without(~good)


def _coadded(hdu: Hdu) -> int:
    """Return how many exposures a pixel of a margin is the sum of."""
    return 1 if hdu.text("STACKING") == "mean" else hdu.integer("NEXP")


def lost_columns(raw: Exposures, size: int = BLOCK) -> BoolArray:
    """Return in which images a whole column of a margin has no data, shape (n,).

    A column is lost if all of its values are NaN or, in margins that came as images, 0; but not if
    it is 0 in every image. The margins are read in blocks of about `size` bytes.
    """
    lost = np.zeros(raw.count, dtype=bool)
    for side in (*COLUMNS, *DARK_COLUMNS):
        if f"SCI_RAW_{side}" not in raw.file:
            continue
        hdu = raw.file[f"SCI_RAW_{side}"]
        parts = [hdu.image(a, b) for a, b in blocks(raw.count, bytes_of(hdu), size)]
        lost |= np.concatenate([np.isnan(part).all(axis=1) for part in parts]).any(axis=1)
        if hdu.text("MRG_PROC") == "image":
            empty = np.concatenate([(part == 0).all(axis=1) for part in parts])
            lost |= (empty & ~np.asarray(empty.all(axis=0))).any(axis=1)
    return lost


def _structure_beside(raw: Exposures, side: str, reference: BiasReference) -> FloatArray:
    """Return the bias structure of a margin in the rows of the window, 0 if it is not known."""
    return reference.margins.get(side, np.zeros((1024, 1)))[raw.window[0]]


def bytes_of(hdu: Hdu) -> int:
    """Return the memory that one plane of a cube takes as float64 [byte]."""
    return 8 * math.prod(hdu.shape[1:])


def _of_pixels(
    pixels: FloatArray, added: int, structure: FloatArray, clip: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean, sigma and number of pixels of margins that came as images.

    The structure of the bias is subtracted where it has the shape of the margin.
    """
    pixels = np.where(pixels == 0, np.nan, pixels) / added  # a raw 0 is no data
    if structure.shape == pixels.shape[1:]:
        pixels = pixels - structure
    return clipped_mean(pixels.reshape(len(pixels), -1), clip)


def margin_mean(
    raw: Exposures, side: str, reference: BiasReference, chosen: IntArray
) -> FloatArray | None:
    """Return the pixels of a margin in one exposure of some images, minus the structure [ADU].

    Returns
    -------
    ndarray, shape (n, ny, m), or None
        Pixels of each image; for margins collapsed on board the medians of their rows (m = 1), or
        of all pixels (ny = m = 1). NaN for pixels without data. None if the margin is missing or
        has neither pixels nor medians.
    """
    name = f"SCI_RAW_{side}"
    if name not in raw.file:
        return None
    hdu = raw.file[name]
    added, structure = _coadded(hdu), _structure_beside(raw, side, reference)
    values = np.concatenate([hdu.image(i, i + 1) for i in chosen])
    if hdu.text("MRG_PROC") == "image":
        pixels = np.where(values == 0, np.nan, values) / added
        return pixels - structure if structure.shape[1] in (1, pixels.shape[2]) else pixels
    names = _collapsed_to(hdu)
    if "median" not in names[: values.shape[-1]]:
        return None
    median = values[..., names.index("median")] / added  # (n, rows) or (n, 1)
    rows = (
        np.median(structure, axis=1)
        if median.shape[1] == raw.shape[0]
        else np.array([np.median(structure)])
    )
    return np.asarray((median - rows)[:, :, None])


def _collapsed_to(hdu: Hdu) -> list[str]:
    """Return the statistics that a margin was collapsed to on board (MRG_DTYn)."""
    return [str(hdu.header.get(f"MRG_DTY{i}", "N/A")).strip() for i in (1, 2, 3, 4)]


def _kinds(hdu: Hdu) -> tuple[int, int]:
    """Return the indices of mean and standard deviation among the statistics of a margin."""
    names = _collapsed_to(hdu)
    if missing := {"mean", "stdev"} - set(names[: hdu.shape[-1]]):
        raise hdu.refuse(
            f"keywords MRG_DTY1 to MRG_DTY4 are {', '.join(names)}, without "
            f"{' and '.join(sorted(missing))}"
        )
    return names.index("mean"), names.index("stdev")


def _of_collapsed(
    values: FloatArray, kinds: tuple[int, int], added: int, structure: float, pixels: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean, sigma and number of `pixels` of margins that were collapsed on board."""
    flat = values.reshape(len(values), -1, values.shape[-1])
    mean = flat[..., kinds[0]].mean(axis=1) / added - structure
    sigma = np.sqrt((flat[..., kinds[1]] ** 2).mean(axis=1)) / added
    return mean, sigma, np.where(np.isfinite(mean), pixels, 0.0)


def _known_levels(raw: Exposures, level: FloatArray) -> BoolArray:
    """Return which levels are near those of the visit and of their neighbours."""
    known = np.isfinite(level)
    if known.any():
        known &= np.abs(level - np.median(level[known])) < JUMP
        known &= ~far_from_neighbours(raw.mjd, np.where(known, level, np.nan), SMALL_JUMP)
    return known


def _read_temperatures(raw: Exposures, warnings: list[str]) -> tuple[list[FloatArray], BoolArray]:
    """Return the temperatures that the level may depend on, and images with a replaced value."""
    replaced = np.zeros(raw.count, np.bool_)
    temperatures = []
    for name in TEMPERATURES:
        if name not in raw.metadata.present():
            continue
        # the step gain warns about the CCD
        column = repair(raw.metadata, name, raw.mjd, [] if name in HOUSEKEEPING else warnings)
        if column.unknown:
            warnings.append(f"no valid {name}: the bias level does not follow it")
        else:
            replaced |= column.replaced
            temperatures.append(column.values)
    return temperatures, replaced


def _follow_level(
    raw: Exposures,
    margins: MarginLevels,
    reference: BiasReference,
    settings: BiasSettings,
    warnings: list[str],
) -> tuple[MarginLevels, Int32Array]:
    """Return the slow part of the level for every image, and flags.

    Without any usable level, level and noise are those of the reference.
    """
    known = _known_levels(raw, margins.level)
    bad = (~known | margins.partial) & bool(margins.source)
    if not known.any():
        warnings.append("no usable margins: using the nominal bias of the reference")
        nominal = reference.level, reference.level_error, reference.ron
        level, error, ron = (np.full(raw.count, value) for value in nominal)
        quality = np.where(bad, int(Quality.MARGIN), 0).astype(np.int32)
        return margins._replace(level=level, error=error, ron=ron, source="reference"), quality
    if not known.all():
        warnings.append(
            f"bias interpolated for {(~known).sum()} of {raw.count} images: no usable margins"
        )
    temperatures, replaced = _read_temperatures(raw, warnings)
    level = np.where(known, margins.level, np.nan)
    level, error = follow(raw.mjd, level, margins.error, settings.smooth / 1440.0, temperatures)
    ron = np.where(known, margins.ron, np.median(margins.ron[known]))
    quality = np.where(bad, int(Quality.MARGIN), 0)
    quality |= np.where(replaced, int(Quality.HOUSEKEEPING), 0)
    return margins._replace(level=level, error=error, ron=ron), quality.astype(np.int32)


def _plausible_ron(
    ron: FloatArray, reference: BiasReference, warnings: list[str]
) -> tuple[FloatArray, str]:
    """Return the read-out noise of every image and its source: margins or reference."""
    usual = float(np.median(ron))
    if plausible_noise(np.array([usual, reference.ron])).tolist() != [False, True]:
        return ron, "margins"
    warnings.append(
        f"the read-out noise of the margins is {usual:.3g} ADU, expected {NOISE[0]:g} to "
        f"{NOISE[1]:g}: using {reference.ron:g} ADU of the reference"
    )
    return np.full_like(ron, reference.ron), "reference"


@step("bias", "BIAS_RON", version="7", payload=Bias, leaves=["TERM_BIAS"])
def estimate_bias(raw: Product, frame: Reference, settings: BiasSettings) -> Leaves:
    """Estimate bias level and read-out noise of every image from its margins."""
    with open_exposures(raw) as exposures:
        reference = read_bias_reference(frame.product, exposures.frequency, exposures.hardware)
        warnings = [reference.warning] if reference.warning else []
        margins = margin_levels(exposures, reference, settings.clip)
        warnings.extend(margins.warnings)
        followed, quality = _follow_level(exposures, margins, reference, settings, warnings)
        ron, ron_source = _plausible_ron(followed.ron, reference, warnings)
        lost = lost_columns(exposures) & np.isfinite(margins.level)
        if lost.any():
            warnings.append(
                f"whole columns of the margins have no data in {lost.sum()} of "
                f"{len(lost)} images: the others give the bias; flagged"
            )
        quality |= np.where(lost, np.int32(Quality.MARGIN), np.int32(0))
        used: dict[str, Value] = {
            "BIAS_LVL": float(followed.level.mean()),
            "BIAS_STD": float(followed.level.std()),
            "BIAS_SRC": followed.source,
            "RON_ADU": float(np.median(ron)),
            "RON_SRC": "reference" if followed.source == "reference" else ron_source,
        }
        columns: dict[str, AnyArray] = {
            "MJD_TIME": exposures.mjd,
            "LEVEL": followed.level,
            "LEVEL_ERR": followed.error,
            "RON": ron,
            "QUALITY": quality,
        }
        offsets = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
        structure = plausible_structure(reference.structure[exposures.window], warnings)
    table = NewHdu(TERMS["TERM_BIAS"], used, columns=columns)
    image = NewHdu(TERMS["TERM_BIAS_STRUCTURE"], offsets, pixels=structure)
    return Leaves({"TERM_BIAS": [table, image]}, used=used, warnings=warnings)
