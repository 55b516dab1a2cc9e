"""One figure for every step, drawn from a visit that is simulated and reduced for the purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from docs.figures import calibration, correction, delivery, photometry, scene
from docs.figures.visit import ReducedVisit


@dataclass(frozen=True)
class StepFigure:
    """A figure: the function that draws it, its text alternative, and its caption."""

    draw: Callable[[ReducedVisit], Figure]
    alt: str
    caption: str


FIGURES: dict[str, StepFigure] = {
    "events": StepFigure(
        calibration.draw_events,
        "Angle above the Earth's limb over time, with flagged stacks marked",
        "Angle between the star and the Earth's limb over one orbit. Stacks taken in the SAA, with "
        "the star behind the Earth, or with stray light above the threshold are flagged.",
    ),
    "housekeeping": StepFigure(
        calibration.draw_housekeeping,
        "Range of each voltage and temperature about its median",
        "Range of each parameter about its median over one orbit, on a logarithmic scale.",
    ),
    "bias": StepFigure(
        calibration.draw_bias,
        "Bias level over time, and an image of the bias structure",
        "Left: estimated and true bias level of every stack. Right: the structure of the reference "
        "frame within the window.",
    ),
    "gain": StepFigure(
        calibration.draw_gain,
        "Estimated and true gain over time",
        "Gain estimated from noisy housekeeping, and the true gain. The offset comes from the "
        "errors of the reference's factors; it scales all points alike.",
    ),
    "linearity": StepFigure(
        calibration.draw_linearity,
        "Non-linearity correction as a function of signal",
        "Correction that the curve of the read-out mode adds to the signal of one exposure.",
    ),
    "spread": StepFigure(
        calibration.draw_spread,
        "Offsets of the exposures within stacks, and an image of the resulting scatter",
        "Left: offsets of the exposures of each stack. Right: scatter of each pixel over the "
        "exposures of the first stack.",
    ),
    "dark": StepFigure(
        calibration.draw_dark,
        "Image of the thermal charge, and estimate against truth",
        "Thermal charge of one exposure in the window. Pixels far from the line jump between two "
        "levels, which no dark frame can predict.",
    ),
    "flat": StepFigure(
        calibration.draw_flat,
        "Image of the response, and distribution of its errors",
        "Response to the target's light. If the reference states its errors correctly, the error "
        "of the estimate divided by its formal error has a scatter of about 1.",
    ),
    "flat_field": StepFigure(
        calibration.draw_flat_field,
        "Response of the whole CCD, and its error",
        "Flat field of the whole CCD and its error; the sub-array's window is outlined in red.",
    ),
    "calibrate": StepFigure(
        calibration.draw_calibrate,
        "A raw and a calibrated stack",
        "The same stack in ADU, bias included, and in electrons.",
    ),
    "calibrate_imagettes": StepFigure(
        calibration.draw_calibrate_imagettes,
        "Three calibrated imagettes",
        "The three exposures of the first stack.",
    ),
    "calibrate_full_array": StepFigure(
        calibration.draw_calibrate_full_array,
        "The whole CCD and its thermal charge",
        "The full array, with the sub-array's window outlined in red. Thermal charge grows with "
        "the time a row waits for its read-out.",
    ),
    "pointing": StepFigure(
        scene.draw_pointing,
        "Roll angle and motion within the stacks over time",
        "Roll angle, which decreases with time, and rms motion within each stack, both axes "
        "combined.",
    ),
    "prior": StepFigure(
        scene.draw_prior,
        "Reference PSF and bad-pixel map",
        "Everything that is known about the scene before any image is used.",
    ),
    "look": StepFigure(
        scene.draw_look,
        "Errors of the first positions, and the median of the sample",
        "First positions are accurate to a few hundredths of a pixel; the static map shows the "
        "star and hot pixels.",
    ),
    "calibration_stages": StepFigure(
        delivery.draw_calibration_stages,
        "Light curves after each calibration operation, and their scatter",
        "The flux in one circle after each operation, relative to its own median. The first curve "
        "still contains the bias, which raises that median. All curves contain the sky.",
    ),
    "background_1": StepFigure(
        correction.draw_background_1,
        "First-round background over time",
        "Clipped mean of the whole ring. The star's halo in the ring raises all stacks equally, "
        "which does not affect the shape of a light curve.",
    ),
    "psf_1": StepFigure(
        scene.draw_psf_1,
        "First-round PSF, and its difference from the second round",
        "The first PSF, and how the second round changes it: the first round mistakes hot pixels "
        "and field stars for light of the target.",
    ),
    "plate": StepFigure(
        scene.draw_plate,
        "Stars detected on the full array, and residuals of the matched ones",
        "Stars detected on the full array, and the distance of matched stars from the positions "
        "that the solution predicts.",
    ),
    "stars_1": StepFigure(
        scene.draw_stars_1,
        "Arcs of field stars about the target",
        "Paths of the brightest field stars during one roll of the satellite.",
    ),
    "smearing": StepFigure(
        correction.draw_smearing,
        "Smeared light by column",
        "Mean smeared light per pixel in each column, estimated and true. A contribution that sky "
        "and halo add to all columns alike is counted as background.",
    ),
    "stars": StepFigure(
        scene.draw_stars,
        "Fluxes of field stars relative to their true fluxes",
        "Fluxes expected from the catalogue's magnitudes and fluxes measured in the images, both "
        "relative to the true ones on the target's scale.",
    ),
    "defects_1": StepFigure(
        correction.draw_defects_1,
        "Steady excess and telegraphic pixels of the sample",
        "Left: steady excess in the sample. Right: gap between the two levels of telegraphic "
        "pixels against their noise.",
    ),
    "background": StepFigure(
        correction.draw_background,
        "Background residual, and the windows of the ring",
        "Left: second-round background minus truth, about its median, since the star's halo in "
        "the ring is constant. Right: the averaged field; masked cells are white.",
    ),
    "psf": StepFigure(
        scene.draw_psf,
        "The PSF and its change with temperature",
        "The PSF on its half-pixel grid, and its change when the telescope is warmer by the "
        "scatter of its temperature.",
    ),
    "position": StepFigure(
        scene.draw_position,
        "Position residuals, and positions on the CCD",
        "Positions of unflagged stacks: residuals from the truth over time, and tracks on the CCD.",
    ),
    "defects": StepFigure(
        correction.draw_defects,
        "Fraction of cosmic rays found as a function of charge, and flagged pixels",
        "Left: fraction of the pixels hit by cosmic rays that are found, in unflagged stacks and "
        "including those under the star. Right: flags of the pixels in the window.",
    ),
    "correction_stages": StepFigure(
        delivery.draw_correction_stages,
        "Light curves after each correction, and their scatter",
        "The flux in the same circle after each correction.",
    ),
    "imagette_hits": StepFigure(
        correction.draw_imagette_hits,
        "Cosmic rays found in imagettes, and their charge",
        "Hits in the imagettes of unflagged stacks: their places in the window of the sub-array, "
        "and the charge that is measured beside the true one.",
    ),
    "correct": StepFigure(
        correction.draw_correct,
        "A stack before and after the correction",
        "The unflagged stack with the most pixels hit by cosmic rays.",
    ),
    "corrections": StepFigure(
        correction.draw_corrections,
        "Background of a stack, and sizes of cosmic-ray tracks",
        "Two of the corrections: the background plane of one stack, and the number of pixels in "
        "cosmic-ray tracks.",
    ),
    "correct_imagettes": StepFigure(
        correction.draw_correct_imagettes,
        "An imagette before and after the correction",
        "The imagette with the most hits among those of unflagged stacks.",
    ),
    "correct_full_array": StepFigure(
        correction.draw_correct_full_array,
        "The full array before and after the correction",
        "Sky and smearing are subtracted; hot pixels and cosmic rays are set to NaN.",
    ),
    "apertures": StepFigure(
        photometry.draw_apertures,
        "Flux and scatter by radius",
        "Growth of the flux with radius, and scatter of the unflagged points.",
    ),
    "psf_fit": StepFigure(
        photometry.draw_psf_fit,
        "PSF flux over time, and fraction of light in circles",
        "Left: PSF flux relative to the true flux. Right: light that circles lose to motion and "
        "breathing.",
    ),
    "contamination": StepFigure(
        photometry.draw_contamination,
        "Contamination by roll angle",
        "Light of field stars within three radii.",
    ),
    "quality": StepFigure(
        photometry.draw_quality,
        "Terms of the error by radius",
        "Median error of a point, and the terms it consists of.",
    ),
    "light_curves": StepFigure(
        delivery.draw_light_curves,
        "Three light curves",
        "Unflagged points of three light curves over one orbit.",
    ),
    "imagette_photometry": StepFigure(
        photometry.draw_imagette_photometry,
        "Imagette fluxes against the fraction of light in the circle",
        "The flux in the circle follows the fraction of light predicted by the model; once "
        "corrected for the loss, it does not.",
    ),
    "imagette_light_curves": StepFigure(
        delivery.draw_imagette_light_curves,
        "Light curves of imagettes and stacks",
        "One point per imagette, and one per stack.",
    ),
    "viewer": StepFigure(
        delivery.draw_viewer,
        "Electrons that each step removed from one point",
        "The budget that the viewer shows for a selected point.",
    ),
    "report": StepFigure(
        delivery.draw_report,
        "Scatter relative to the formal error by radius, with the limits of the verdict",
        "One of the rules of the verdict: measured scatter compared with the formal error.",
    ),
}
