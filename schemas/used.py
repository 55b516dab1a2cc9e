"""Values that steps used, as keywords of headers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from schemas.products import Keyword, Structure

# In the headers of terms, calibrated and corrected images, and light curves.
USED = {
    k.name: k
    for k in (
        Keyword("SYN_REF", "boolean", "", "T: synthetic references of another instrument"),
        Keyword("N_SAA", "integer", "", "images in the SAA"),
        Keyword("N_OCCULT", "integer", "", "images behind the Earth"),
        Keyword("N_BADIMG", "integer", "", "unusable images"),
        Keyword("N_LOSTPX", "integer", "", "other images with lost or impossible pixels"),
        Keyword("N_SATUR", "integer", "", "other images in which the star is saturated"),
        Keyword("BIAS_LVL", "real", "ADU", "mean bias level of one exposure"),
        Keyword("BIAS_STD", "real", "ADU", "scatter of the bias level over the visit"),
        Keyword("BIAS_SRC", "string", "", "margin that gave the bias level"),
        Keyword("RON_ADU", "real", "ADU", "read-out noise of one exposure"),
        Keyword("RON_SRC", "string", "", "source of the read-out noise: margins or reference"),
        Keyword("RON_E", "real", "electron", "read-out noise of one exposure"),
        Keyword("GAIN_AVG", "real", "ADU/electron", "mean gain"),
        Keyword("GAIN_STD", "real", "ppm", "scatter of the gain over the visit"),
        Keyword("GAIN_ERR", "real", "ppm", "remaining noise of the housekeeping in the gain"),
        Keyword("GAIN_SRC", "string", "", "source of the gain: housekeeping or nominal"),
        Keyword("LIN_MAX", "real", "electron", "largest signal the linearity curve covers"),
        Keyword("LIN_DONE", "boolean", "", "linearity was corrected on board"),
        Keyword("SPR_PIX", "real", "pixel", "median rms motion from exposure to exposure"),
        Keyword("SPR_IMG", "real", "", "share of stacks with an imagette of each exposure"),
        Keyword("DARK_AVG", "real", "electron/s", "mean dark current in the window"),
        Keyword("DARK_RDT", "real", "s", "mean read-out time in the window"),
        Keyword("DARK_AGE", "real", "day", "age of the nearest dark frame"),
        Keyword("DARK_SCL", "real", "", "factor by which the dark frames were scaled"),
        Keyword("DARK_SRC", "string", "", "source of the factor, or why it is 1"),
        Keyword("DARK_SCE", "real", "", "error of the factor from the dark columns"),
        Keyword("DARK_TVR", "real", "", "range of the factor, from the CCD temperature"),
        Keyword("FLAT_T", "real", "K", "Teff of the flat field"),
        Keyword("FLAT_STD", "real", "", "pixel scatter of the flat field"),
        Keyword("ROLL_0", "real", "deg", "roll angle of the first image"),
        Keyword("ROLL_RNG", "real", "deg", "range of roll angles"),
        Keyword("REPETIT", "real", "s", "time between exposures of a stack; 0: unknown"),
        Keyword("JIT_STD", "real", "pixel", "scatter of the pointing, image to image"),
        Keyword("BLUR_AVG", "real", "pixel", "motion during an image, rms of one axis"),
        Keyword("LOC_X", "real", "pixel", "intended x of the target"),
        Keyword("LOC_Y", "real", "pixel", "intended y of the target"),
        Keyword("PIX_SCAL", "real", "arcsec", "angle of a pixel"),
        Keyword("RING_IN", "real", "pixel", "inner radius of the background ring"),
        Keyword("RING_OUT", "real", "pixel", "outer radius of the background ring"),
        Keyword("BKG_AVG", "real", "electron", "median background per pixel and stack"),
        Keyword("BKG_ERR", "real", "electron", "its median error"),
        Keyword("BKG_X", "real", "pixel", "x on the CCD to which the level refers"),
        Keyword("BKG_Y", "real", "pixel", "y on the CCD to which the level refers"),
        Keyword("BKG_GRAD", "real", "electron/pixel", "median slope of the background"),
        Keyword("BKG_WIN", "real", "", "share of the ring that is used"),
        Keyword("BKG_STAR", "real", "electron", "light of field stars that counts as background"),
        Keyword("PSF_TEMP", "real", "degC", "median telescope temperature of the PSF"),
        Keyword("PSF_TSTD", "real", "degC", "its scatter; 0: no change of the PSF"),
        Keyword("PSF_LAG", "real", "s", "delay of the attitude"),
        Keyword("PSF_LAGE", "real", "s", "error of the delay"),
        Keyword("PSF_N", "integer", "", "images used for the PSF"),
        Keyword("PSF_ITER", "integer", "", "rounds of PSF and stars"),
        Keyword("PSF_DX", "real", "pixel", "place of the star minus that of the first look"),
        Keyword("PSF_DY", "real", "pixel", "place of the star minus that of the first look"),
        Keyword("PSF_LIT", "real", "", "light of the star over that of the first look"),
        Keyword("PSF_EXC", "real", "", "scatter about the PSF in units of noise"),
        Keyword("SMEAR_T", "real", "s", "time of one row shift"),
        Keyword("SMEAR_TE", "real", "s", "its error"),
        Keyword("SMEAR_SC", "real", "", "share of the stars' light that is scattered"),
        Keyword("SMEAR_MX", "real", "electron", "largest smeared charge of a pixel"),
        Keyword("N_STARS", "integer", "", "field stars in the model"),
        Keyword("STAR_SCL", "real", "arcsec", "pixel scale of the model"),
        Keyword("STAR_ROL", "real", "deg", "roll offset of the model"),
        Keyword("STAR_FIT", "integer", "", "field stars with a measured flux"),
        Keyword("STAR_AMP", "real", "", "median of measured over expected flux of field stars"),
        Keyword("STAR_AMS", "real", "", "scatter of these ratios"),
        Keyword("STAR_COR", "real", "", "PSF share within 15 pixels that FLUX assumes"),
        Keyword("STAR_EPO", "real", "year", "from the catalogue's epoch to the visit"),
        Keyword("STAR_BND", "boolean", "", "magnitudes were converted to the CHEOPS band"),
        Keyword("PLT_FND", "integer", "", "stars found on the full array"),
        Keyword("PLT_MAT", "integer", "", "of these, in the catalogue"),
        Keyword("PLT_OK", "boolean", "", "enough stars matched for a plate solution"),
        Keyword("PLT_RMS", "real", "pixel", "rms distance of matched stars, one axis"),
        Keyword("PLT_ROLL", "real", "deg", "roll of the full array minus the attitude's"),
        Keyword("PLT_SCAL", "real", "arcsec", "angle of a pixel of the full array"),
        Keyword("PLT_X", "real", "pixel", "x of the target on the full array, 0 if not seen"),
        Keyword("PLT_Y", "real", "pixel", "y of the target on the full array, 0 if not seen"),
        Keyword("FA_SKY", "real", "electron", "median background of the full array"),
        Keyword("FA_SLOPE", "real", "electron", "its range over the full array"),
        Keyword("FA_BAD", "integer", "", "hot or hit pixels set to NaN"),
        Keyword("CONTA_25", "real", "", "median contamination within 25 pixels"),
        Keyword("CR_PIX", "integer", "", "pixels hit by cosmic rays"),
        Keyword("CR_RATE", "real", "1/s", "pixels hit in the window per second"),
        Keyword("CR_IN", "real", "ppm/pixel/s", "cosmic-ray hits within 25 pixels"),
        Keyword("CR_OUT", "real", "ppm/pixel/s", "cosmic-ray hits further out"),
        Keyword("CR_ADD", "integer", "", "hit pixels that only imagettes show"),
        Keyword("IMH_PIX", "integer", "", "pixels hit in imagettes"),
        Keyword("IMH_N", "integer", "", "imagettes searched for cosmic rays"),
        Keyword("HOT_PIX", "integer", "", "pixels with a steady excess"),
        Keyword("HOT_IN", "integer", "", "of these within 25 pixels"),
        Keyword("HOT_OUT", "integer", "", "of these further out"),
        Keyword("TELE_PIX", "integer", "", "telegraphic pixels"),
        Keyword("TELE_IN", "integer", "", "of these within 25 pixels"),
        Keyword("TELE_OUT", "integer", "", "of these further out"),
        Keyword("DEAD_PIX", "integer", "", "dead pixels"),
        Keyword("DEAD_IN", "integer", "", "of these within 25 pixels"),
        Keyword("DEAD_OUT", "integer", "", "of these further out"),
        Keyword("MAP_PIX", "integer", "", "bad pixels of the reference map in the window"),
        Keyword("POS_X", "real", "pixel", "median x of the target on the CCD"),
        Keyword("POS_Y", "real", "pixel", "median y of the target on the CCD"),
        Keyword("POS_STDX", "real", "pixel", "scatter of x"),
        Keyword("POS_STDY", "real", "pixel", "scatter of y"),
        Keyword("POS_RAD", "real", "pixel", "radius of the centroid window"),
        Keyword("AP_OPT", "real", "pixel", "radius of the light curve OPTIMAL"),
        Keyword("OPT_WAY", "string", "", "how OPTIMAL is measured"),
        Keyword("LOST_SAA", "real", "ratio", "images in the SAA, of all"),
        Keyword("LOST_OCC", "real", "ratio", "images behind the Earth, of all"),
        Keyword("LOST_STR", "real", "ratio", "images with too much stray light, of all"),
        Keyword("N_GAP", "integer", "", "missing images, by the counter"),
        Keyword("DRP_PPM", "real", "ppm", "median error by the operational formula, R25"),
        Keyword("CR_IMAG", "integer", "", "pixels of imagettes hit by cosmic rays"),
        Keyword("IMAG_RAD", "real", "pixel", "radius of the circle in imagettes"),
        Keyword("IMAG_N", "integer", "", "imagettes in which the star was measured"),
        Keyword("N_GOOD", "integer", "", "points with EVENT and QUALITY 0"),
        Keyword("ROB_PPM", "real", "ppm", "robust scatter of the good points"),
        Keyword("P2P_PPM", "real", "ppm", "point-to-point scatter of the good points"),
        Keyword("CDPP_30M", "real", "ppm", "CDPP in 30 min, good points"),
        Keyword("CDPP_3H", "real", "ppm", "CDPP in 3 h, good points"),
        Keyword("CDPP_6H", "real", "ppm", "CDPP in 6 h, good points"),
        Keyword("FORM_PPM", "real", "ppm", "median formal error"),
    )
}

# In the header of PIP_CAL_FlatField: the planes that the flat field combines, with their weights.
FLAT_OF = Keyword("FLAT_OF", "string", "", "quantity in FLATNOn: T_EFF [K] or WAVELENGTH [nm]")


def flat_nodes(count: int) -> list[tuple[Keyword, Keyword]]:
    """Return the keywords of position and weight of the planes of a flat field, at most 99."""
    return [
        (
            Keyword(f"FLATNO{n}", "real", "", f"position of plane {n}"),
            Keyword(f"FLATWT{n}", "real", "", f"weight of plane {n}"),
        )
        for n in range(1, count + 1)
    ]


def with_keywords(structure: Structure, names: Iterable[str]) -> Structure:
    """Return `structure` with some used values as further keywords, in the order of `USED`."""
    added = set(names) - set(structure.keywords)
    if unknown := sorted(added - set(USED)):
        raise KeyError(f"{unknown[0]} is not declared as a used value")
    extra = {name: keyword for name, keyword in USED.items() if name in added}
    return replace(structure, keywords={**structure.keywords, **extra})
