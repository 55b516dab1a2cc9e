"""How each step does its work, in a sentence for the report. A step that is not named here is told
by its docstring.
"""

from __future__ import annotations

METHODS = {
    "events": "SAA and occultation from the visit constraints, or from orbit and SAA map; "
    "angles to Sun, Moon and Earth and "
    "the housekeeping against their limits, where limits are given.",
    "housekeeping": "Voltages and temperatures of every image held against the limits that are "
    "given.",
    "bias": "Level from the margins of every image, clipped and smoothed over time; structure "
    "from the reference bias frame; "
    "read-out noise from the scatter of the margins.",
    "gain": "Polynomial of bias voltages and CCD temperature of every image.",
    "linearity": "Cubic pieces, or a look-up table, from measured to collected charge of one "
    "exposure.",
    "spread": "Motion of the star from exposure to exposure by the attitude, and by imagettes "
    "of single exposures.",
    "dark": "Reference dark frames that bracket the visit, interpolated in time, times "
    "exposure and the read-out time of every "
    "pixel.",
    "flat": "Flat fields for stars of some temperatures, interpolated to that of the target.",
    "flat_field": "The flat field of the whole CCD with its error, as a product of its own.",
    "calibrate": "Bias, gain, linearity, dark and flat undone in one pass over the raw images.",
    "calibrate_imagettes": "The terms of the sub-array at the times of the imagettes, in one pass.",
    "calibrate_full_array": "The same steps with the margins and housekeeping of the full array.",
    "pointing": "Mean roll and direction from the attitude over each exposure, and the motion "
    "within it.",
    "look": "Centre of light in two windows, ring level and flux of every image, without the "
    "neighbours that the catalogue "
    "has; median of a sample of images.",
    "calibration_stages": "Flux in one circle of 25 pixels after each operation of the "
    "calibration; for this report only.",
    "prior": "What references say of the star's image and of bad pixels, and the catalogue of "
    "its neighbours, as far as this "
    "visit needs it.",
    "background_1": "First round: clipped mean of a ring around the target in every image, "
    "without its neighbours.",
    "psf_1": "First round: super-resolved PSF from a sample of images that the jitter moved "
    "and blurred, by alternating least "
    "squares; the reference PSF where there are too few images.",
    "defects_1": "First round, on the sample only: what stands still, jumps between two levels "
    "or shows no light beside the "
    "model of the scene.",
    "background": "Second round: a plane in windows of the ring that are free of stars and "
    "defects, clipped; the slope is kept "
    "where it says more than chance would.",
    "psf": "Second round, from images freed of field stars, hot pixels, cosmic rays and "
    "background, with the change of the PSF "
    "with the telescope's temperature.",
    "stars_1": "Field stars of the catalogue, placed by the target and the roll, with fluxes "
    "from their magnitudes.",
    "stars": "Fluxes of field stars that stand out, measured together in a sample of images.",
    "position": "Fit of the PSF, moved and blurred as in that image, to the target; from the "
    "centre of light where it fails.",
    "smearing": "Light of all stars in a column times the time of one row shift, which the top "
    "margin tells.",
    "defects": "Second round, residuals to the model of target and field in all images: what "
    "stands still is a hot pixel, what "
    "jumps between two levels a telegraphic one, what shows no light a dead one, and what a "
    "single image has above its noise a "
    "cosmic ray.",
    "correction_stages": "Flux in the same circle after each correction; for this report only.",
    "correct": "Smearing, steady excess, telegraphic states, cosmic rays and background taken "
    "out in one pass over the "
    "calibrated images; dead pixels as the model has them.",
    "corrections": "Background of every pixel, flags of pixels and tracks of cosmic rays, as "
    "products of their own.",
    "correct_imagettes": "The terms of the sub-array at the times of the imagettes, taken out "
    "of every imagette.",
    "correct_full_array": "Background, field stars and defects of the one image of the whole CCD.",
    "plate": "Stars of the full array matched with the catalogue: offset of the roll, and scale.",
    "imagette_photometry": "The target in every imagette, within a circle and by PSF.",
    "imagette_light_curves": "One row an imagette, within a circle and by PSF.",
    "apertures": "Sums within circles that follow the target, pixels on the border by their "
    "exact share.",
    "psf_fit": "Linear fit of the PSF to every image, with the level under the star.",
    "contamination": "Model of the field stars, turned as in that image, summed within the "
    "apertures, over the target's light.",
    "quality": "Errors term by term; flags of all steps joined; noise of the unflagged points.",
    "light_curves": "One file for each aperture, for OPTIMAL and for PSF.",
    "report": "This document.",
    "viewer": "The page beside this document, on which the light curves can be zoomed.",
}
