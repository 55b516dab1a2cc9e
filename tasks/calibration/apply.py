"""The first writing pass: raw ADU to electrons, every calibration term in one loop over the pixels.

For a stack of n exposures with value S,

    m = (S / n - level(t) - structure(x, y)) / gain(t)    one exposure above its bias [electron] e =
    f(m) + 1/2 f''(m) V(x, y, t)                      its charge, linearised; V: its variance within
    the stack [electron] N = n (e - Q(x, y) h(t)) / flat(x, y)                 the stack without
    thermal charge, at uniform response [electron]

The images are read and written in blocks, so memory does not grow with their number; the sum that
goes into DATASUM is made in the same pass. A raw 0 is no data (the corners of a circular window)
and becomes NaN.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.arrays import FloatArray
from schemas.payloads import (
    Bias,
    Calibrated,
    Dark,
    Events,
    Flat,
    Gain,
    Leaf,
    Linearity,
    Product,
    Spread,
)
from schemas.products import Structure, soc_structure
from schemas.used import with_keywords
from tasks.calibration.spread import Motion, imagette_corners, stack_variances
from tasks.engine.run import new_file
from tasks.engine.step import Leaves, history, step
from tasks.files.byte_order import from_big_endian, to_big_endian
from tasks.files.reader import Value, blocks
from tasks.files.writer import FitsWriter, NewHdu
from tasks.visit.headers import image_metadata, step_keywords, visit_keywords
from tasks.visit.linearity_curve import bend, linearised, read_linearity
from tasks.visit.raw import Exposures, maybe_exposures, open_exposures
from tasks.visit.terms import term_column, term_image


@njit(cache=True, nogil=True, error_model="numpy")
def mean_exposure(
    words: npt.NDArray[np.uint32],
    scale: float,
    level: float,
    structure: FloatArray,
    x0: int,
    y0: int,
    gain: float,
    signal: FloatArray,
) -> None:
    """Find the mean exposure of a stack above its bias, one of the images that `calibrate_images`
    is given [electron].

    `signal`, shape (ny, nx), receives it, NaN where the raw value is 0; its index [0, 0] lies at
    `x0`, `y0` of the structure.
    """
    per_exposure, per_gain = 1.0 / scale, 1.0 / gain
    for y in range(words.shape[0]):
        for x in range(words.shape[1]):
            value = from_big_endian(words[y, x]) ^ np.uint32(0x80000000)
            above = (value * per_exposure - level - structure[y + y0, x + x0]) * per_gain
            signal[y, x] = above if value else np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def calibrate_images(
    words: npt.NDArray[np.uint32],
    exposures: FloatArray,
    scale: FloatArray,
    level: FloatArray,
    gain: FloatArray,
    thermal: FloatArray,
    x0: npt.NDArray[np.int64],
    y0: npt.NDArray[np.int64],
    structure: FloatArray,
    dark: FloatArray,
    flat: FloatArray,
    boundary: FloatArray,
    coefficients: FloatArray,
    offsets: FloatArray,
    core: FloatArray,
    corner: tuple[int, int],
    out: FloatArray,
) -> None:
    """Calibrate a block of images.

    Parameters
    ----------
    words : ndarray of uint32, shape (n, ny, nx)
        Raw images as big-endian words of 32-bit integers, offset 2^31 not yet added [ADU].
    exposures, scale : ndarray, shape (n,)
        Exposures in each stack; how many of them a pixel is the sum of.
    level, gain, thermal : ndarray, shape (n,)
        Bias level [ADU], gain [ADU/electron] and thermal charge over that of `dark` of each image.
    x0, y0 : ndarray of int, shape (n,)
        Where each image's index [0, 0] lies in the term images.
    structure, dark, flat : ndarray, shape (my, mx)
        Bias structure [ADU], thermal charge of one exposure [electron], relative response.
    boundary, coefficients : ndarray, shape (m,) and (m, 4)
        Linearity curve [electron].
    offsets : ndarray, shape (n, 2, 8)
        Motion within each stack, see `spread.offsets_of`.
    core : ndarray, shape (n, cy, cx)
        Variance of pixels over the exposures of each stack, where it is known; NaN elsewhere
        [ADU^2].
    corner : tuple of int
        Where `core` begins in the images, x and y.
    out : ndarray, shape (n, ny, nx)
        Receives the calibrated images [electron per stack]; NaN where the raw value is 0.
    """
    ny, nx = words.shape[1:]
    signal, variance = np.empty((ny, nx)), np.empty((ny, nx))
    for i in range(words.shape[0]):
        mean_exposure(words[i], scale[i], level[i], structure, x0[i], y0[i], gain[i], signal)
        stack_variances(signal, offsets[i], core[i], corner, gain[i], variance)
        for y in range(ny):
            for x in range(nx):
                charge = linearised(signal[y, x], boundary, coefficients)
                charge += 0.5 * bend(signal[y, x], boundary, coefficients) * variance[y, x]
                charge -= thermal[i] * dark[y + y0[i], x + x0[i]]
                out[i, y, x] = exposures[i] * charge / flat[y + y0[i], x + x0[i]]


def _terms(bias: Bias, dark: Dark, flat: Flat, linearity: Linearity) -> tuple[FloatArray, ...]:
    return (
        term_image(bias.product, "TERM_BIAS_STRUCTURE"),
        term_image(dark.product, "TERM_DARK"),
        term_image(flat.product, "TERM_FLAT"),
        *read_linearity(linearity),
    )


def _write(
    raw: Exposures,
    declared: Structure,
    keywords: Mapping[str, Value],
    past: tuple[str, ...],
    per_image: Mapping[str, FloatArray],
    offsets: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    terms: tuple[FloatArray, ...],
    motion: Motion,
    others: list[NewHdu],
) -> None:
    ny, nx = raw.shape
    structure, dark, flat, boundary, coefficients = terms
    cube = NewHdu(
        declared,
        keywords,
        shape=(raw.count, ny, nx) if len(declared.axes) == 3 else (ny, nx),
        history=past,
    )
    with FitsWriter(new_file(declared.extname)) as writer:
        writer.begin_cube(cube)
        for a, b in blocks(raw.count, ny * nx * 8):
            out = np.empty((b - a, ny, nx))
            block = {name: values[a:b] for name, values in per_image.items()}
            words = raw.words(a, b)
            offset, core = motion.block(a, b, words)
            calibrate_images(
                words,
                block["exposures"],
                block["scale"],
                block["level"],
                block["gain"],
                block["thermal"],
                offsets[0][a:b],
                offsets[1][a:b],
                structure,
                dark,
                flat,
                boundary,
                coefficients,
                offset,
                core,
                motion.corner,
                out,
            )
            total = to_big_endian(out.view(np.uint64))
            writer.write_block(out.data.cast("B"), int(total))
        writer.end_cube()
        for hdu in others:
            writer.write(hdu)


@step("calibrate", version="4", payload=Calibrated, leaves=["SCI_CAL_SubArray"])
def calibrate_subarray(
    raw: Product,
    unstacked: Product | None,
    events: Events,
    bias: Bias,
    gain: Gain,
    linearity: Linearity,
    spread: Spread,
    dark: Dark,
    flat: Flat,
) -> Leaves:
    """Write the calibrated images of the sub-array."""
    with open_exposures(raw) as exposures, maybe_exposures(unstacked) as single:
        level, ron = term_column(bias.product, "TERM_BIAS", "LEVEL", "RON")
        (gains,) = term_column(gain.product, "TERM_GAIN", "GAIN")
        (thermal,) = term_column(dark.product, "TERM_DARK_SCALE", "SCALE")
        n = exposures.count
        steps: list[Leaf] = [events, bias, gain, linearity, spread, dark, flat]
        used = {k: v for leaf in steps for k, v in leaf.used.items()}
        declared = with_keywords(soc_structure("SCI_CAL_SubArray"), used)
        keywords = {
            **visit_keywords(exposures, declared),
            **step_keywords(steps),
            **used,
            "BUNIT": "electrons",
        }
        metadata = image_metadata(exposures, "SCI_CAL_ImageMetadata", {"BIAS": level, "RON": ron})
        zero = np.zeros(n, np.int64)
        per_image = {
            "exposures": np.full(n, float(exposures.nexp)),
            "scale": np.full(n, float(exposures.coadded)),
            "level": level,
            "gain": gains,
            "thermal": thermal,
        }
        _write(
            exposures,
            declared,
            keywords,
            history(steps),
            per_image,
            (zero, zero),
            _terms(bias, dark, flat, linearity),
            Motion(spread, exposures, single),
            [metadata],
        )
    return Leaves(written={"SCI_CAL_SubArray": "SCI_CAL_SubArray"})


@step("calibrate_full_array", version="4", payload=Calibrated, leaves=["SCI_CAL_FullArray"])
def calibrate_full_array(
    raw: Product, bias: Bias, gain: Gain, linearity: Linearity, dark: Dark, flat: Flat
) -> Leaves:
    """Write the calibrated image of the whole CCD."""
    with open_exposures(raw) as exposures:
        level, ron = term_column(bias.product, "TERM_BIAS", "LEVEL", "RON")
        (gains,) = term_column(gain.product, "TERM_GAIN", "GAIN")
        (thermal,) = term_column(dark.product, "TERM_DARK_SCALE", "SCALE")
        steps: list[Leaf] = [bias, gain, linearity, dark, flat]
        used = {k: v for leaf in steps for k, v in leaf.used.items()}
        declared = with_keywords(soc_structure("SCI_CAL_FullArray"), used)
        keywords = {
            **visit_keywords(exposures, declared),
            **step_keywords(steps),
            **used,
            "BUNIT": "electrons",
        }
        metadata = image_metadata(exposures, "SCI_CAL_ImageMetadata", {"BIAS": level, "RON": ron})
        one, zero = np.ones(1), np.zeros(1, np.int64)
        per_image = {
            "exposures": one,
            "scale": one,
            "level": level,
            "gain": gains,
            "thermal": thermal,
        }
        margins = _calibrated_margins(exposures, level, gains)
        terms, motion = _terms(bias, dark, flat, linearity), Motion(None, exposures, None)
        _write(
            exposures,
            declared,
            keywords,
            history(steps),
            per_image,
            (zero, zero),
            terms,
            motion,
            [metadata, *margins],
        )
    return Leaves(written={"SCI_CAL_FullArray": "SCI_CAL_FullArray"})


@step("calibrate_imagettes", version="4", payload=Calibrated, leaves=["SCI_CAL_Imagette"])
def calibrate_imagettes(
    raw: Product,
    subarray: Product,
    bias: Bias,
    gain: Gain,
    linearity: Linearity,
    spread: Spread,
    dark: Dark,
    flat: Flat,
) -> Leaves:
    """Write the calibrated imagettes, with the terms of the sub-array at the times of the
    imagettes.
    """
    with open_exposures(subarray) as stack, open_exposures(raw) as exposures:
        time, level = term_column(bias.product, "TERM_BIAS", "MJD_TIME", "LEVEL")
        (gains,) = term_column(gain.product, "TERM_GAIN", "GAIN")
        (thermal,) = term_column(dark.product, "TERM_DARK_SCALE", "SCALE")
        corners = imagette_corners(exposures, stack)
        meta = exposures.metadata
        stacked = meta.column("NEXP").astype(np.float64)
        if (stacked < 1).any():
            raise meta.refuse("column NEXP holds 0")
        steps: list[Leaf] = [bias, gain, linearity, spread, dark, flat]
        used = {k: v for leaf in steps for k, v in leaf.used.items()}
        declared = with_keywords(soc_structure("SCI_CAL_Imagette"), used)
        keywords = {
            **visit_keywords(exposures, declared),
            **step_keywords(steps),
            **used,
            "BUNIT": "electrons",
        }
        per_image = {
            "exposures": stacked,
            "scale": stacked,
            "level": np.interp(exposures.mjd, time, level),
            "gain": np.interp(exposures.mjd, time, gains),
            "thermal": np.interp(exposures.mjd, time, thermal),
        }
        metadata = image_metadata(exposures, "SCI_CAL_ImagetteMetadata", {})
        motion = Motion(spread, exposures, None, "TERM_SPREAD_IMAGETTES")
        terms = _terms(bias, dark, flat, linearity)
        _write(
            exposures,
            declared,
            keywords,
            history(steps),
            per_image,
            corners,
            terms,
            motion,
            [metadata],
        )
    return Leaves(written={"SCI_CAL_Imagette": "SCI_CAL_Imagette"})


def _calibrated_margins(raw: Exposures, level: FloatArray, gain: FloatArray) -> list[NewHdu]:
    """Return the margins of the full array above the bias level, in electrons."""
    hdus = []
    for hdu in raw.file.hdus[2:]:
        name = hdu.extname.replace("SCI_RAW_", "SCI_CAL_")
        if hdu.declared is not None and hdu.declared.image:
            declared = soc_structure(name)
            pixels = (hdu.image() - level[:, None, None]) / gain[:, None, None]
            keywords = {**visit_keywords(raw, declared, hdu), "BUNIT": "electrons"}
            hdus.append(NewHdu(declared, keywords, pixels=pixels))
    return hdus
