"""The method of each step, in a sentence for the report.

A step that is missing here is described by the first line of its docstring.
"""

from __future__ import annotations

METHODS = {
    "events": "SAA passages and occultations from the visit constraints, or from orbit and SAA "
    "map; angles to Sun, Moon and Earth, and the housekeeping, compared with their limits where "
    "these are available.",
    "housekeeping": "Voltages and temperatures of every image, compared with their limits where "
    "these are available.",
    "bias": "Level from the margins of every image, clipped and smoothed over time; structure "
    "from the reference bias frame; read-out noise from the scatter of the margins.",
    "gain": "Polynomial in the bias voltages and the CCD temperature of every image.",
    "linearity": "Piecewise cubic, or a look-up table, from the measured to the collected charge "
    "of one exposure.",
    "spread": "Motion of the star between exposures, from the attitude and imagettes of single "
    "exposures.",
    "dark": "Reference dark frames that bracket the visit, interpolated in time and multiplied by "
    "the exposure time plus the read-out time of each pixel.",
    "flat": "Flat fields for several stellar temperatures, interpolated to that of the target.",
    "flat_field": "The flat field of the whole CCD with its error, as a separate product.",
    "calibrate": "Bias, gain, non-linearity, dark current and flat field corrected in one pass "
    "over the raw images.",
    "calibrate_imagettes": "The terms of the sub-array at the times of the imagettes, applied in "
    "one pass.",
    "calibrate_full_array": "The same steps, with the margins and the housekeeping of the full "
    "array.",
    "pointing": "Mean roll angle and direction from the attitude during each exposure, and the "
    "motion within it.",
    "look": "Centre of light in two windows, ring level and flux of every image, excluding the "
    "neighbours in the catalogue; median of a sample of images.",
    "calibration_stages": "Flux within 25 pixels of the star after each calibration operation; "
    "for this report only.",
    "prior": "Reference PSF, reference map of bad pixels and catalogue of neighbours, as far as "
    "needed.",
    "background_1": "First round: clipped mean of a ring around the target in every image, "
    "excluding its neighbours.",
    "psf_1": "First round: super-resolved PSF from a sample of images shifted and blurred by "
    "jitter, by alternating least squares; the reference PSF where there are too few images.",
    "defects_1": "First round, on the sample only: pixels that, compared with the model of the "
    "scene, have a steady excess, jump between two levels or show no light.",
    "background": "Second round: a plane fitted to windows of the ring that are free of stars and "
    "defects, with clipping; the slope is kept where it is significant.",
    "psf": "Second round: from images cleaned of field stars, hot pixels, cosmic rays and "
    "background, with the change of the PSF with telescope temperature.",
    "stars_1": "Field stars of the catalogue, placed by target and roll angle, with fluxes from "
    "magnitudes.",
    "stars": "Fluxes of the field stars that stand out, fitted together in a sample of images.",
    "position": "Fit of the PSF, shifted and blurred as in each image, to the target; else the "
    "centre of light.",
    "smearing": "Light of all stars in a column times the time of one row shift, measured in the "
    "top margin.",
    "defects": "Second round, from the residuals to the model of target and field in all images: "
    "a pixel with a steady excess is hot, one that jumps between two levels telegraphic, one "
    "without light dead; an excess above the noise in a single image is a cosmic ray.",
    "imagette_hits": "Residuals of every imagette to the model of target and field: excess in a "
    "single one is a cosmic ray, which its stack may hide.",
    "correction_stages": "Flux in the same circle after each correction; for this report only.",
    "correct": "Smearing, steady excess, telegraphic states, cosmic rays and background removed "
    "in one pass over the calibrated images; dead pixels filled from the model.",
    "corrections": "Background of every pixel, pixel flags and cosmic-ray tracks, as separate "
    "products.",
    "correct_imagettes": "The terms of the sub-array at the times of the imagettes, removed from "
    "every imagette.",
    "correct_full_array": "Background, field stars and defects of the single image of the whole "
    "CCD.",
    "plate": "Stars of the full array matched with the catalogue: roll offset and plate scale.",
    "imagette_photometry": "Flux of the target in every imagette, within a circle and by PSF.",
    "imagette_light_curves": "One row per imagette, with the flux within a circle and by PSF.",
    "apertures": "Sums in circles that follow the target; pixels on the border are weighted by "
    "their exact overlap.",
    "psf_fit": "Linear fit of the PSF, and of the level under the star, to every image.",
    "contamination": "Model of the field stars, rotated as in each image and summed in the "
    "apertures, relative to the target.",
    "quality": "Errors term by term; flags of all steps combined; noise of the unflagged points.",
    "light_curves": "One file for each aperture, for OPTIMAL and for PSF, each with a detrended "
    "companion.",
    "report": "This document.",
    "viewer": "The interactive page that accompanies this document.",
}
