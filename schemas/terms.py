"""Our own products: the terms, one small file per step with its estimates and the values it used.

Terms carry no date, no version of the software and no path: computed again from the same input they
have the same bytes.
"""

from __future__ import annotations

from dataclasses import replace

from schemas.light_curves import (
    CALIBRATION_STAGES,
    CORRECTION_STAGES,
    CURVES,
    LIGHT_CURVES,
    RADII,
)
from schemas.products import PER_RADIUS, Column, Keyword, Structure
from schemas.used import USED

_VERSION = {"EXT_VER": Keyword("EXT_VER", "string", "", "version of this declaration", "1")}


def _table(extname: str, meaning: str, *columns: Column, used: tuple[str, ...] = ()) -> Structure:
    return Structure(
        extname, meaning, "1", "TERM", {**_VERSION, **{name: USED[name] for name in used}}, columns
    )


_WINDOW = {
    "X_WINOFF": Keyword("X_WINOFF", "integer", "pixel", "x offset of this image on the CCD"),
    "Y_WINOFF": Keyword("Y_WINOFF", "integer", "pixel", "y offset of this image on the CCD"),
}


def _image(extname: str, meaning: str, unit: str, used: tuple[str, ...] = ()) -> Structure:
    bunit = {"BUNIT": Keyword("BUNIT", "string", "", "unit of the pixels", unit)}
    keywords = {**_VERSION, **bunit, **_WINDOW, **{n: USED[n] for n in used}}
    return Structure(extname, meaning, "1", "TERM", keywords, (), "double", (0, 0))


_PSF_USED = (
    "PSF_TEMP",
    "PSF_TSTD",
    "PSF_LAG",
    "PSF_LAGE",
    "PSF_N",
    "PSF_ITER",
    "PSF_DX",
    "PSF_DY",
    "PSF_LIT",
    "PSF_EXC",
)

_DEFECTS_USED = (
    "CR_PIX",
    "CR_RATE",
    "CR_IN",
    "CR_OUT",
    "HOT_PIX",
    "HOT_IN",
    "HOT_OUT",
    "TELE_PIX",
    "TELE_IN",
    "TELE_OUT",
    "DEAD_PIX",
    "DEAD_IN",
    "DEAD_OUT",
    "MAP_PIX",
    "CR_ADD",
)

# columns that several terms share
_MJD = Column("MJD_TIME", "mjd", "day", "middle of the image, TT")

_BJD = Column("BJD_TIME", "bjd", "day", "middle of the image, TDB at the barycentre")

_EVENT = Column("EVENT", "int32", "", "conditions, one decimal digit each")

_QUALITY = Column("QUALITY", "int32", "", "flags: why the image may be bad")

_POINT_FLAGS = (
    _EVENT,
    Column("STATUS", "int32", "", "1 where EVENT is not 0"),
    Column("QUALITY", "int32", "", "flags: why the point may be bad"),
)

_PLACE = (
    Column("X", "double", "pixel", "x on the CCD, pixel i spans i to i+1"),
    Column("Y", "double", "pixel", "y on the CCD, pixel i spans i to i+1"),
)

_PLACE_ERR = (
    Column("X_ERR", "double", "pixel", "error of x"),
    Column("Y_ERR", "double", "pixel", "error of y"),
)

# In light curves too: by its definition BJD_TIME is for a telescope at the geocentre.
LIGHT_TIME = Column(
    "SAT_LIGHT_TIME",
    "double",
    "s",
    "light time to the geocentre, to add to BJD_TIME; NaN: no orbit",
)

_SATELLITE = (
    LIGHT_TIME,
    Column("SAT_LIGHT_RATE", "double", "", "change of SAT_LIGHT_TIME with time during the image"),
)


def _within_radii(name: str, unit: str, meaning: str) -> Column:
    """Declare a column with a value within each radius of the visit."""
    return Column(name, "double", unit, meaning, PER_RADIUS, per=RADII)


TERMS = {
    s.extname: s
    for s in (
        _table(
            "TERM_EVENTS",
            "conditions of every image",
            _MJD,
            _BJD,
            _EVENT,
            _QUALITY,
            Column("EARTH_LIMB", "double", "deg", "angle of the target above the Earth's limb"),
            *_SATELLITE,
            used=("N_SAA", "N_OCCULT", "N_BADIMG", "N_LOSTPX", "N_SATUR"),
        ),
        _image(
            "TERM_EVENTS_SATURATED", "number of measured images in which a pixel is saturated", ""
        ),
        _table(
            "TERM_HOUSEKEEPING",
            "voltages and temperatures during the visit, and their limits; NaN: no limit",
            Column("NAME", "string", "", "column of the metadata", 32),
            Column("UNIT", "string", "", "unit of its values and limits", 16),
            Column("LEAST", "double", "", "smallest value"),
            Column("MEDIAN", "double", "", "median"),
            Column("LARGEST", "double", "", "largest value"),
            Column("LOWER", "double", "", "lower limits, soft and hard", 2),
            Column("UPPER", "double", "", "upper limits, soft and hard", 2),
            Column(
                "BEYOND", "int32", "", "images beyond a soft limit only, and beyond a hard one", 2
            ),
            Column("MISSING", "int32", "", "images without a value"),
        ),
        _table(
            "TERM_BIAS",
            "bias level and read-out noise of every image",
            _MJD,
            Column("LEVEL", "double", "ADU", "bias level of one exposure"),
            Column("LEVEL_ERR", "double", "ADU", "its error"),
            Column("RON", "double", "ADU", "read-out noise of one exposure"),
            _QUALITY,
            used=("BIAS_LVL", "BIAS_STD", "BIAS_SRC", "RON_ADU", "RON_SRC"),
        ),
        _image("TERM_BIAS_STRUCTURE", "bias of every pixel minus the level", "ADU"),
        _table(
            "TERM_GAIN",
            "gain of every image",
            _MJD,
            Column("GAIN", "double", "ADU/electron", "gain, without the noise of the housekeeping"),
            Column(
                "GAIN_ERR",
                "double",
                "ADU/electron",
                "its error: remaining noise of the housekeeping",
            ),
            _QUALITY,
            used=("GAIN_AVG", "GAIN_STD", "GAIN_ERR", "GAIN_SRC"),
        ),
        _table(
            "TERM_LINEARITY",
            "corrected signal as piecewise cubic of the measured one",
            Column("BOUNDARY", "double", "electron", "measured signal where the piece begins"),
            Column("COEF_0", "double", "electron", "corrected signal there"),
            Column("COEF_1", "double", "", "linear coefficient"),
            Column("COEF_2", "double", "1/electron", "quadratic coefficient"),
            Column("COEF_3", "double", "1/electron**2", "cubic coefficient"),
            used=("LIN_MAX", "LIN_DONE"),
        ),
        *(
            _table(
                name,
                f"motion from exposure to exposure within {stack}",
                _MJD,
                Column(
                    "OFFSET_X",
                    "double",
                    "pixel",
                    "offset of each exposure from the mean; 8 that represent more",
                    8,
                ),
                Column("OFFSET_Y", "double", "pixel", "offset along y", 8),
                Column(
                    "FIRST",
                    "int32",
                    "",
                    "row of the imagette of the first exposure, from 0; -1: none",
                ),
                used=used,
            )
            for name, stack, used in (
                ("TERM_SPREAD", "a stack", ("SPR_PIX", "SPR_IMG")),
                ("TERM_SPREAD_IMAGETTES", "a stacked imagette", ()),
            )
        ),
        _image(
            "TERM_DARK",
            "thermal charge of one exposure, read-out included",
            "electron",
            ("DARK_AVG", "DARK_RDT", "DARK_AGE", "DARK_SCL", "DARK_SRC", "DARK_SCE", "DARK_TVR"),
        ),
        _image("TERM_DARK_ERROR", "error of the thermal charge", "electron"),
        _table(
            "TERM_DARK_SCALE",
            "thermal charge of every image relative to TERM_DARK",
            _MJD,
            Column("SCALE", "double", "", "1 at the median temperature of the visit"),
        ),
        _image(
            "TERM_FLAT",
            "relative response of the pixels to the target's light",
            "",
            ("FLAT_T", "FLAT_STD"),
        ),
        _image("TERM_FLAT_ERROR", "error of the response", ""),
        _table(
            "TERM_FLAT_WEIGHTS",
            "planes of the reference that the response combines",
            Column("OF", "string", "", "quantity in NODE: T_EFF or WAVELENGTH", 16),
            Column(
                "NODE",
                "double",
                "",
                "effective temperature [K] or wavelength [nm] of a plane of the reference",
            ),
            Column("WEIGHT", "double", "", "its share"),
        ),
        _table(
            "TERM_POINTING",
            "pointing of the satellite during every image",
            _MJD,
            Column("ROLL_ANGLE", "double", "deg", "mean roll angle"),
            Column("SC_RA", "double", "deg", "mean right ascension of the line of sight"),
            Column("SC_DEC", "double", "deg", "mean declination of the line of sight"),
            Column("BLUR", "double", "pixel", "motion during the image, rms of one axis"),
            _QUALITY,
            used=(
                "ROLL_0",
                "ROLL_RNG",
                "JIT_STD",
                "BLUR_AVG",
                "LOC_X",
                "LOC_Y",
                "PIX_SCAL",
                "REPETIT",
            ),
        ),
        _table(
            "TERM_TRACK",
            "position of the target by the attitude, up to a constant",
            Column("MJD_TIME", "mjd", "day", "time of the attitude sample, TT"),
            Column("X", "double", "pixel", "x on the CCD"),
            Column("Y", "double", "pixel", "y on the CCD"),
            Column("ROLL_ANGLE", "double", "deg", "roll angle"),
        ),
        _image(
            "TERM_PRIOR", "codes of the reference map of bad pixels in the window, 0 is good", ""
        ),
        _image(
            "TERM_PRIOR_PSF",
            "reference image of a star in white light; 0 without a reference",
            "",
        ),
        _table(
            "TERM_PRIOR_STARS",
            "stars of the catalogue whose light can matter",
            Column("XI", "double", "arcsec", "standard coordinate about the target, East"),
            Column("ETA", "double", "arcsec", "standard coordinate about the target, North"),
            Column("MAG", "double", "mag", "Gaia G"),
            Column("T_EFF", "double", "K", "effective temperature, 0 where it is not known"),
            Column("SHARE", "double", "", "flux relative to the target's in the band of CHEOPS"),
            Column("TARGET", "bool", "", "whether this is the target"),
            used=("STAR_EPO", "STAR_BND"),
        ),
        _table(
            "TERM_STARS",
            "stars of the field",
            Column("XI", "double", "arcsec", "standard coordinate to the East of the target"),
            Column("ETA", "double", "arcsec", "standard coordinate to the North of the target"),
            Column("MAG", "double", "mag", "Gaia G magnitude"),
            Column("T_EFF", "double", "K", "effective temperature, 0 where it is not known"),
            Column("FLUX", "double", "electron", "flux in a stack"),
            Column("FLUXERR", "double", "electron", "its error"),
            Column("TARGET", "bool", "", "whether this is the target"),
            used=(
                "N_STARS",
                "STAR_SCL",
                "STAR_ROL",
                "STAR_EPO",
                "STAR_BND",
                "STAR_FIT",
                "STAR_AMP",
                "STAR_AMS",
                "STAR_COR",
            ),
        ),
        _table(
            "TERM_PLATE",
            "stars found on the full array, brightest first",
            *_PLACE,
            Column("ERROR", "double", "pixel", "error of the position"),
            Column("FLUX", "double", "electron", "light within the window"),
            Column("MAG", "double", "mag", "Gaia G of the star of the catalogue, if matched"),
            Column("DX", "double", "pixel", "x minus that of the plate solution"),
            Column("DY", "double", "pixel", "y minus that of the plate solution"),
            used=(
                "PLT_FND",
                "PLT_MAT",
                "PLT_OK",
                "PLT_RMS",
                "PLT_ROLL",
                "PLT_SCAL",
                "PLT_X",
                "PLT_Y",
            ),
        ),
        _table(
            "TERM_CONTAMINATION",
            "light of field stars within the apertures",
            _MJD,
            _within_radii("RATIO", "", "relative to the target's light, within each radius"),
            _within_radii("ERROR", "", "its error"),
            used=("CONTA_25",),
        ),
        _image(
            "TERM_SMEARING",
            "smeared light of every image (rows) and column",
            "electron",
            ("SMEAR_T", "SMEAR_TE", "SMEAR_SC", "SMEAR_MX"),
        ),
        _table(
            "TERM_SMEARING_IMAGES",
            "smeared light of every image",
            _MJD,
            Column("TOTAL", "double", "electron", "sum over the columns of the window of one row"),
        ),
        _image(
            "TERM_PSF", "PSF on a grid of half a pixel, centre in the middle, sum 1", "", _PSF_USED
        ),
        _image(
            "TERM_PSF_CHANGE",
            "change of the PSF when the telescope is warmer by PSF_TSTD, same grid, sum 0",
            "",
        ),
        _image("TERM_PSF_SCALE", "scatter of each pixel about the PSF in units of its noise", ""),
        _table(
            "TERM_DEFECTS",
            "pixels that deviate from the scene in single images",
            Column("IMAGE_INDEX", "uint32", "", "image, counted from 0"),
            Column("X", "uint16", "pixel", "column in the window"),
            Column("Y", "uint16", "pixel", "row in the window"),
            Column("AMOUNT", "double", "electron", "excess charge of the pixel"),
            Column(
                "KIND",
                "uint8",
                "",
                "1 cosmic ray, 2 telegraphic pixel in its high state, 3 dead or flickering pixel, "
                "4 possible cosmic ray, subtracted in part, 5 cosmic ray measured in an imagette",
            ),
            used=_DEFECTS_USED,
        ),
        _table(
            "TERM_IMAGETTE_HITS",
            "pixels of imagettes hit by cosmic rays",
            Column("IMAGETTE", "int32", "", "imagette, counted from 0"),
            Column("STACK", "int32", "", "stack that holds it, counted from 0"),
            Column("X", "uint16", "pixel", "column in the window of the sub-array"),
            Column("Y", "uint16", "pixel", "row in the window of the sub-array"),
            Column("AMOUNT", "double", "electron", "excess charge to subtract from the stack"),
            Column("ERROR", "double", "electron", "noise of the pixel in the imagette"),
            Column("SHARE", "double", "", "share of the excess that is subtracted"),
            used=("IMH_PIX", "IMH_N"),
        ),
        _image("TERM_DEFECTS_STATIC", "steady excess in every image", "electron"),
        _table(
            "TERM_DEFECTS_IMAGES",
            "hits in every image",
            _MJD,
            Column(
                "INSIDE", "int32", "", "pixels hit by cosmic rays within 25 pixels of the target"
            ),
            Column("ALL", "int32", "", "pixels hit by cosmic rays in the window"),
            Column(
                "REPLACED",
                "double",
                "",
                "share of the area within 25 pixels replaced by the model",
            ),
            Column(
                "DOUBT", "double", "electron**2", "variance within 25 pixels due to doubtful states"
            ),
        ),
        _image("TERM_DEFECTS_FLAGS", "flags of the pixels of the window, see PixelFlag", ""),
        _table(
            "TERM_TELEGRAPHIC",
            "pixels that jump between two levels",
            Column("X", "uint16", "pixel", "column in the window"),
            Column("Y", "uint16", "pixel", "row in the window"),
            Column("LOW", "double", "electron", "level of the low state above the scene"),
            Column("GAP", "double", "electron", "from the low to the high level"),
            Column("SIGMA", "double", "electron", "noise within a state"),
            Column("HIGH_SHARE", "double", "", "share of images in the high state"),
            Column("FLIPS", "int32", "", "changes of state"),
        ),
        _table(
            "TERM_PSF_FIT",
            "PSF flux of the target in every image",
            _MJD,
            Column("FLUX", "double", "electron", "flux"),
            Column("FLUXERR", "double", "electron", "its error"),
            Column("LEVEL", "double", "electron", "residual background per pixel under the star"),
            Column("CHI2", "double", "", "reduced chi square"),
            _within_radii("SHARE", "", "share of the light within each radius"),
        ),
        _table(
            "TERM_LOOK",
            "first look at every calibrated image",
            _MJD,
            Column("CENTROID_X", "double", "pixel", "first position of the target on the CCD"),
            Column("CENTROID_Y", "double", "pixel", "first position of the target on the CCD"),
            Column("RING", "double", "electron", "median of the ring around the target"),
            Column("FLUX", "double", "electron", "flux within 25 pixels above the ring"),
            Column("SAMPLED", "bool", "", "whether the image is one of the sample"),
            _QUALITY,
        ),
        _image("TERM_LOOK_STATIC", "median over the sample of image minus ring", "electron"),
        _image("TERM_LOOK_LIMIT", "a pixel is saturated from here on; 0: it never is", "electron"),
        _table(
            "TERM_CAL_STAGES",
            "electrons in one circle around the target after each step of the calibration",
            _MJD,
            *(
                Column(name, "double", "electron", meaning)
                for name, meaning in CALIBRATION_STAGES.items()
            ),
        ),
        _image(
            "TERM_RAW_IMAGE",
            "first raw stack that the first look sampled",
            "ADU",
        ),
        _table(
            "TERM_COR_STAGES",
            "electrons in one circle around the target after each correction",
            _MJD,
            *(
                Column(name, "double", "electron", meaning)
                for name, meaning in CORRECTION_STAGES.items()
            ),
        ),
        _table(
            "TERM_BACKGROUND",
            "sky and stray light of every image",
            _MJD,
            Column("LEVEL", "double", "electron", "background per pixel of the stack"),
            Column("LEVEL_ERR", "double", "electron", "its error"),
            Column("SLOPE_X", "double", "electron/pixel", "its change along x"),
            Column("SLOPE_Y", "double", "electron/pixel", "its change along y"),
            Column("PIXELS", "int32", "", "pixels used"),
            _QUALITY,
            used=(
                "RING_IN",
                "RING_OUT",
                "BKG_X",
                "BKG_Y",
                "BKG_AVG",
                "BKG_ERR",
                "BKG_GRAD",
                "BKG_WIN",
                "BKG_STAR",
            ),
        ),
        _image(
            "TERM_BACKGROUND_SKY",
            "mean field without known stars, by distance (rows) and position angle",
            "electron",
        ),
        _image(
            "TERM_BACKGROUND_WINDOWS", "1 where the field is used for the background, else 0", ""
        ),
        _table(
            "TERM_POSITION",
            "position of the target in every image",
            _MJD,
            *_PLACE,
            *_PLACE_ERR,
            Column("FLUX", "double", "electron", "light of the fitted PSF; NaN without a fit"),
            Column("LEVEL", "double", "electron", "fitted level of a pixel; NaN without a fit"),
            Column("VALIDITY", "uint8", "", "0 measured, 1 interpolated"),
            _QUALITY,
            used=("POS_X", "POS_Y", "POS_STDX", "POS_STDY", "POS_RAD"),
        ),
        _table(
            "TERM_APERTURES",
            "sums within circles around the target",
            _MJD,
            _within_radii("FLUX", "electron", "sum within each radius"),
            _within_radii("AREA", "pixel", "area of good pixels within each radius"),
            _within_radii("DARK", "electron", "thermal charge within each radius"),
            _within_radii("SMEARING", "electron", "smeared light within each radius"),
            _within_radii("HOT", "electron", "steady excess subtracted within each radius"),
            Column(
                "FIXED", "double", "electron", "sum within 25 pixels of the target's usual position"
            ),
            Column("FIXED_AREA", "double", "pixel", "area of good pixels there"),
            Column("X", "double", "pixel", "centre on the CCD, pixel i spans i to i+1"),
            Column("Y", "double", "pixel", "centre on the CCD, pixel i spans i to i+1"),
        ),
        _table(
            "TERM_APERTURES_RADII",
            "radii of the apertures of the visit, in rising order",
            Column("RADIUS", "double", "pixel", "radius", per=RADII),
        ),
        _table(
            "TERM_IMAGETTE_POSITION",
            "position of the target in every imagette",
            _MJD,
            Column("STACK", "int32", "", "stack that holds it or is nearest, counted from 0"),
            *_PLACE,
            *_PLACE_ERR,
            Column("FLUX", "double", "electron", "PSF flux, cosmic rays included"),
            Column("CHI2", "double", "", "reduced chi square of the fit, hit pixels excluded"),
            Column("HITS", "int32", "", "pixels hit by cosmic rays"),
            Column("VALIDITY", "uint8", "", "0 measured, 1 from the attitude"),
            Column("QUALITY", "int32", "", "flags: why the imagette may be bad"),
            used=("CR_IMAG",),
        ),
        _table(
            "TERM_IMAGETTES",
            "flux of the target in every imagette",
            _MJD,
            Column("BJD_TIME", "bjd", "day", "middle of the imagette, TDB at the barycentre"),
            LIGHT_TIME,
            *_PLACE,
            *_PLACE_ERR,
            Column("RADIUS", "double", "pixel", "radius of the circle"),
            Column("SUM", "double", "electron", "sum within the circle"),
            Column("SUM_ERR", "double", "electron", "its error"),
            Column("SHARE", "double", "", "share of the PSF within the circle"),
            Column(
                "MASKED", "double", "", "share of the circle without pixels, filled by the model"
            ),
            Column("TOTAL", "double", "electron", "PSF flux"),
            Column("TOTAL_ERR", "double", "electron", "its error"),
            Column("CHI2", "double", "", "reduced chi square of the fit"),
            Column("FLUX", "double", "electron", "SUM corrected for losses"),
            Column("FLUXERR", "double", "electron", "its error"),
            Column("PSF_FLUX", "double", "electron", "TOTAL on the scale of FLUX"),
            Column("PSF_ERR", "double", "electron", "its error"),
            Column("LEVEL", "double", "electron", "background per pixel"),
            Column("DARK", "double", "electron", "thermal charge within the circle"),
            Column("SMEARING", "double", "electron", "smeared light within the circle"),
            Column(
                "CONTA", "double", "", "field stars' light in the circle relative to the target's"
            ),
            Column("CONTA_ERR", "double", "", "its error"),
            Column("ROLL_ANGLE", "double", "deg", "mean roll angle"),
            *_POINT_FLAGS,
            used=("IMAG_RAD", "IMAG_N"),
        ),
        _table(
            "TERM_QUALITY",
            "errors and flags of every point",
            _MJD,
            _BJD,
            *_POINT_FLAGS,
            *_SATELLITE,
            _within_radii("FLUXERR", "electron", "error of the flux within each radius"),
            Column(
                "OPT_FLUX",
                "double",
                "electron",
                "flux of the candidate with the least noise",
            ),
            Column("OPT_ERR", "double", "electron", "its error"),
            Column("FIXED_ERR", "double", "electron", "error of the flux in the fixed circle"),
            Column("PSF_FLUX", "double", "electron", "PSF flux on the scale of R25"),
            Column("PSF_ERR", "double", "electron", "its error"),
            _within_radii("LOSS", "", "light lost from each circle by blur and breathing"),
            used=(
                *("RON_E", "AP_OPT", "OPT_WAY"),
                *("LOST_SAA", "LOST_OCC", "LOST_STR", "N_GAP", "DRP_PPM"),
            ),
        ),
        _table(
            "TERM_ERRORS",
            "variance of the flux within each radius, term by term; FLUXERR is the root of the sum",
            _MJD,
            _within_radii("STAR", "electron**2", "photon noise of the target and of nearby stars"),
            _within_radii("SKY", "electron**2", "photon noise of sky and stray light"),
            _within_radii("DARK", "electron**2", "shot noise of the dark current"),
            _within_radii("HOT", "electron**2", "shot noise of hot pixels beyond the dark frame"),
            _within_radii("SMEARED", "electron**2", "photon noise of smeared light"),
            _within_radii("READ_OUT", "electron**2", "read-out noise"),
            _within_radii("BACKGROUND", "electron**2", "error of the background level"),
            _within_radii("SMEARING", "electron**2", "error of the smeared light about its median"),
            _within_radii("GAIN", "electron**2", "error of the gain"),
            _within_radii(
                "DARK_MAP", "electron**2", "error of the dark current under the star's motion"
            ),
            _within_radii("FLAT", "electron**2", "error of the flat field under the star's motion"),
            _within_radii("STATES", "electron**2", "doubtful states of telegraphic pixels"),
            _within_radii(
                "DRP", "electron**2", "FLUXERR**2 of the operational pipeline, for comparison"
            ),
        ),
        _table(
            "TERM_CANDIDATES",
            "noise of the light curves from which OPTIMAL is chosen",
            Column("WAY", "string", "", "how the target is measured", 24),
            Column("RADIUS", "double", "pixel", "radius of the circle"),
            Column("NOISE", "double", "ppm", "noise of a point, NaN with too few points"),
        ),
        _table(
            "TERM_METRICS",
            "quality of every light curve",
            Column("DATANAME", "string", "", "light curve", 16, per=CURVES),
            Column(
                "RADIUS",
                "double",
                "pixel",
                "radius of the aperture",
                per=tuple(LIGHT_CURVES.values()),
            ),
            Column("ROBMEAN", "double", "electron/s", "robust mean flux"),
            Column("MEDIAN", "double", "electron/s", "median flux"),
            Column("ROBSTD", "double", "ppm", "robust scatter, as in the SOC's header"),
            Column("MAD", "double", "ppm", "robust point-to-point scatter, as in the SOC's header"),
            Column("P2PSTD", "double", "ppm", "point-to-point scatter, as in the SOC's header"),
            Column("CDPP2_5", "double", "ppm", "CDPP in 3 h, as in the SOC's header"),
            Column("CDPP6_5", "double", "ppm", "CDPP in 6 h, as in the SOC's header"),
            Column("VALIDPTS", "double", "percentage", "share of good points"),
            Column("N_GOOD", "int32", "", "good points"),
            Column("ROB_PPM", "double", "ppm", "robust scatter of the good points"),
            Column("P2P_PPM", "double", "ppm", "point-to-point scatter of the good points"),
            Column("CDPP_30M", "double", "ppm", "CDPP in 30 min of the good points"),
            Column("CDPP_3H", "double", "ppm", "CDPP in 3 h of the good points"),
            Column("CDPP_6H", "double", "ppm", "CDPP in 6 h of the good points"),
            Column("FORM_PPM", "double", "ppm", "median formal error"),
        ),
    )
}

# Terms that are estimated in two rounds; that of the first round has the same columns.
FIRST_ROUND = {
    "TERM_STARS": "TERM_STARS_1",
    "TERM_BACKGROUND": "TERM_BACKGROUND_1",
    "TERM_PSF": "TERM_PSF_1",
    "TERM_DEFECTS": "TERM_DEFECTS_1",
}

TERMS.update({first: replace(TERMS[final], extname=first) for final, first in FIRST_ROUND.items()})

# Lists: perhaps no pixel is hit, or there is no catalogue.
MAY_BE_EMPTY = (
    "TERM_SPREAD_IMAGETTES",
    "TERM_FLAT_WEIGHTS",
    "TERM_DEFECTS",
    "TERM_DEFECTS_1",
    "TERM_IMAGETTE_HITS",
    "TERM_STARS",
    "TERM_STARS_1",
    "TERM_PRIOR_STARS",
    "TERM_TELEGRAPHIC",
    "TERM_PLATE",
    "PIP_REP_DetectedCosmics",
)

# Tables whose times are not those of the images, and images that do not cover the window.
NOT_OF_IMAGES = ("TERM_SPREAD_IMAGETTES", "TERM_TRACK", "TERM_IMAGETTE_POSITION", "TERM_IMAGETTES")

NOT_OF_WINDOW = (
    "TERM_PRIOR_PSF",
    "TERM_PSF",
    "TERM_PSF_1",
    "TERM_PSF_CHANGE",
    "TERM_PSF_SCALE",
    "TERM_SMEARING",
    "TERM_BACKGROUND_SKY",
    "TERM_BACKGROUND_WINDOWS",
)

# HDUs that follow the first one in the file of a term.
COMPANIONS = {
    "TERM_EVENTS": ("TERM_EVENTS_SATURATED",),
    "TERM_BIAS": ("TERM_BIAS_STRUCTURE",),
    "TERM_SPREAD": ("TERM_SPREAD_IMAGETTES",),
    "TERM_DARK": ("TERM_DARK_ERROR", "TERM_DARK_SCALE"),
    "TERM_FLAT": ("TERM_FLAT_ERROR",),
    "TERM_LOOK": ("TERM_LOOK_STATIC", "TERM_LOOK_LIMIT"),
    "TERM_CAL_STAGES": ("TERM_RAW_IMAGE",),
    "TERM_POINTING": ("TERM_TRACK",),
    "TERM_PRIOR": ("TERM_PRIOR_PSF", "TERM_PRIOR_STARS"),
    "TERM_SMEARING": ("TERM_SMEARING_IMAGES",),
    "TERM_PSF": ("TERM_PSF_CHANGE", "TERM_PSF_SCALE"),
    "TERM_PSF_1": ("TERM_PSF_CHANGE", "TERM_PSF_SCALE"),
    "TERM_BACKGROUND": ("TERM_BACKGROUND_SKY", "TERM_BACKGROUND_WINDOWS"),
    "TERM_BACKGROUND_1": ("TERM_BACKGROUND_SKY", "TERM_BACKGROUND_WINDOWS"),
    "TERM_DEFECTS": (
        "TERM_DEFECTS_STATIC",
        "TERM_DEFECTS_FLAGS",
        "TERM_TELEGRAPHIC",
        "TERM_DEFECTS_IMAGES",
    ),
    "TERM_DEFECTS_1": (
        "TERM_DEFECTS_STATIC",
        "TERM_DEFECTS_FLAGS",
        "TERM_TELEGRAPHIC",
        "TERM_DEFECTS_IMAGES",
    ),
    "TERM_APERTURES": ("TERM_APERTURES_RADII",),
    "TERM_QUALITY": ("TERM_METRICS", "TERM_CANDIDATES", "TERM_ERRORS"),
    "TERM_IMAGETTES": ("TERM_METRICS",),
}

# HDUs that a step may write after those.
OPTIONAL_COMPANIONS = {"TERM_FLAT": ("TERM_FLAT_WEIGHTS",)}
