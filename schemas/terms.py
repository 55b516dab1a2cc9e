"""Our own products: one term a step, the small file in which it leaves what it estimated; and the
values it used.

Terms carry no date, no version of the software and no path: made again from the same input they
have the same bytes.
"""

from __future__ import annotations

from dataclasses import replace

from schemas.light_curves import CALIBRATION_STAGES, CORRECTION_STAGES, RADII
from schemas.products import Column, Keyword, Structure
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


_PSF_USED = ("PSF_TEMP", "PSF_TSTD", "PSF_LAG", "PSF_LAGE", "PSF_N", "PSF_ITER", "PSF_EXC")

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
)

# columns of several terms
_MJD = Column("MJD_TIME", "mjd", "day", "middle of the image, TT")

_BJD = Column("BJD_TIME", "bjd", "day", "middle of the image, TDB at the barycentre")

_EVENT = Column("EVENT", "int32", "", "decimal digits of conditions")

_QUALITY = Column("QUALITY", "int32", "", "bits, why the image may be bad")

_POINT_FLAGS = (
    _EVENT,
    Column("STATUS", "int32", "", "1 where EVENT is not 0"),
    Column("QUALITY", "int32", "", "bits, why the point may be bad"),
)

_PLACE = (
    Column("X", "double", "pixel", "x on the CCD, pixel i spans i to i+1"),
    Column("Y", "double", "pixel", "y on the CCD, pixel i spans i to i+1"),
)

_PLACE_ERR = (
    Column("X_ERR", "double", "pixel", "error of x"),
    Column("Y_ERR", "double", "pixel", "error of y"),
)

# In light curves too: the definition of BJD_TIME has the telescope at the geocentre.
LIGHT_TIME = Column(
    "SAT_LIGHT_TIME", "double", "s", "add it to BJD_TIME for the satellite's place; NaN: no orbit"
)

_SATELLITE = (
    LIGHT_TIME,
    Column("SAT_LIGHT_RATE", "double", "", "change of SAT_LIGHT_TIME with time during the image"),
)

_K = len(RADII)

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
            used=("N_SAA", "N_OCCULT", "N_BADIMG"),
        ),
        _table(
            "TERM_HOUSEKEEPING",
            "voltages and temperatures during the visit, and their limits; NaN: none",
            Column("NAME", "string", "", "column of the metadata", 32),
            Column("UNIT", "string", "", "unit of its values and limits", 16),
            Column("LEAST", "double", "", "least value"),
            Column("MEDIAN", "double", "", "median"),
            Column("LARGEST", "double", "", "largest value"),
            Column("LOWER", "double", "", "lower limits, soft and hard", 2),
            Column("UPPER", "double", "", "upper limits, soft and hard", 2),
            Column(
                "BEYOND", "int32", "", "images beyond a soft limit only, and beyond a hard one", 2
            ),
            Column("MISSING", "int32", "", "images without a number"),
        ),
        _table(
            "TERM_BIAS",
            "bias level and read-out noise of every image",
            _MJD,
            Column("LEVEL", "double", "ADU", "bias level of one exposure"),
            Column("LEVEL_ERR", "double", "ADU", "its error"),
            Column("RON", "double", "ADU", "read-out noise of one exposure"),
            _QUALITY,
            used=("BIAS_LVL", "BIAS_STD", "BIAS_SRC", "RON_ADU"),
        ),
        _image("TERM_BIAS_STRUCTURE", "bias of every pixel minus the level", "ADU"),
        _table(
            "TERM_GAIN",
            "gain of every image",
            _MJD,
            Column("GAIN", "double", "ADU/electron", "gain, without the noise of the housekeeping"),
            Column(
                "GAIN_ERR", "double", "ADU/electron", "what noise of the housekeeping is left in it"
            ),
            _QUALITY,
            used=("GAIN_AVG", "GAIN_STD", "GAIN_ERR"),
        ),
        _table(
            "TERM_LINEARITY",
            "corrected signal as a cubic in the measured one, piece by piece",
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
                f"motion from exposure to exposure within {what}",
                _MJD,
                Column(
                    "OFFSET_X",
                    "double",
                    "pixel",
                    "offsets from the mean place: of the exposures, or 8 for more",
                    8,
                ),
                Column("OFFSET_Y", "double", "pixel", "the same along y", 8),
                Column(
                    "FIRST",
                    "int32",
                    "",
                    "row of the imagette that is the first exposure, from 0; -1 for none",
                ),
                used=used,
            )
            for name, what, used in (
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
            "thermal charge of every image over TERM_DARK",
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
            "what the response was put together from",
            Column("OF", "string", "", "what NODE is: T_EFF or WAVELENGTH", 16),
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
            "where the satellite looked during every image",
            _MJD,
            Column("ROLL_ANGLE", "double", "deg", "mean roll angle"),
            Column("SC_RA", "double", "deg", "mean right ascension of the line of sight"),
            Column("SC_DEC", "double", "deg", "mean declination of the line of sight"),
            Column("BLUR", "double", "pixel", "motion inside the image, rms of one axis"),
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
            "the target's place as the attitude has it, up to a constant",
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
            "image of a star in white light, as the reference has it; 0 where there is none",
            "",
        ),
        _table(
            "TERM_PRIOR_STARS",
            "stars of the catalogue that can matter",
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
            Column("TARGET", "bool", "", "whether it is the target"),
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
            Column("ERROR", "double", "pixel", "error of the place"),
            Column("FLUX", "double", "electron", "light within 14 pixels"),
            Column("MAG", "double", "mag", "Gaia G of the star of the catalogue, if matched"),
            Column("DX", "double", "pixel", "x minus where the solution puts the star"),
            Column("DY", "double", "pixel", "y minus where the solution puts the star"),
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
            Column("RATIO", "double", "", "of the target's light, within each radius", _K),
            Column("ERROR", "double", "", "its error", _K),
            used=("CONTA_25",),
        ),
        _image(
            "TERM_SMEARING",
            "smeared light of every image (rows) and column",
            "electron",
            ("SMEAR_T", "SMEAR_TE", "SMEAR_MX"),
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
            "pixels of single images that hold more or less than the scene",
            Column("IMAGE_INDEX", "uint32", "", "image, counted from 0"),
            Column("X", "uint16", "pixel", "column in the window"),
            Column("Y", "uint16", "pixel", "row in the window"),
            Column("AMOUNT", "double", "electron", "what the pixel holds too much"),
            Column(
                "KIND",
                "uint8",
                "",
                "1 cosmic ray, 2 telegraphic pixel in its high state, 3 dead or flickering pixel",
            ),
            used=_DEFECTS_USED,
        ),
        _image("TERM_DEFECTS_STATIC", "what every image holds too much", "electron"),
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
                "share of the area within 25 pixels that is taken from the model",
            ),
            Column(
                "DOUBT", "double", "electron**2", "variance within 25 pixels by doubtful states"
            ),
        ),
        _image("TERM_DEFECTS_FLAGS", "bits of pixels of the window, see PixelFlag", ""),
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
            "flux of the target by PSF in every image",
            _MJD,
            Column("FLUX", "double", "electron", "flux"),
            Column("FLUXERR", "double", "electron", "its error"),
            Column("LEVEL", "double", "electron", "background of a pixel left under the star"),
            Column("CHI2", "double", "", "reduced chi square"),
            Column("SHARE", "double", "", "share of the light within each radius", _K),
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
            "a raw stack as it was read out: the first that the first look sampled",
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
            Column("LEVEL", "double", "electron", "background of a pixel in the stack"),
            Column("LEVEL_ERR", "double", "electron", "its error"),
            Column("SLOPE_X", "double", "electron/pixel", "its change along x"),
            Column("SLOPE_Y", "double", "electron/pixel", "its change along y"),
            Column("PIXELS", "int32", "", "pixels that entered"),
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
            Column("VALIDITY", "uint8", "", "0 measured, 1 interpolated"),
            _QUALITY,
            used=("POS_X", "POS_Y", "POS_STDX", "POS_STDY", "POS_RAD"),
        ),
        _table(
            "TERM_APERTURES",
            "sums within circles around the target",
            _MJD,
            Column("FLUX", "double", "electron", "sum within each radius", _K),
            Column("AREA", "double", "pixel", "area of good pixels within each radius", _K),
            Column("DARK", "double", "electron", "thermal charge within each radius", _K),
            Column("SMEARING", "double", "electron", "smeared light within each radius", _K),
            Column(
                "HOT",
                "double",
                "electron",
                "steady excess that was taken away within each radius",
                _K,
            ),
            Column(
                "FIXED", "double", "electron", "sum within 25 pixels of the target's usual place"
            ),
            Column("FIXED_AREA", "double", "pixel", "area of good pixels there"),
            Column("X", "double", "pixel", "centre on the CCD, pixel i spans i to i+1"),
            Column("Y", "double", "pixel", "centre on the CCD, pixel i spans i to i+1"),
        ),
        _table(
            "TERM_APERTURES_RADII",
            "radii of the apertures",
            Column("RADIUS", "double", "pixel", "radius"),
        ),
        _table(
            "TERM_IMAGETTE_POSITION",
            "position of the target in every imagette",
            _MJD,
            Column("STACK", "int32", "", "stack that holds it or is nearest, counted from 0"),
            *_PLACE,
            *_PLACE_ERR,
            Column("FLUX", "double", "electron", "flux by PSF, cosmic rays in"),
            Column("CHI2", "double", "", "reduced chi square of the fit, without hits"),
            Column("HITS", "int32", "", "pixels hit by cosmic rays"),
            Column("VALIDITY", "uint8", "", "0 measured, 1 by the attitude"),
            Column("QUALITY", "int32", "", "bits, why the imagette may be bad"),
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
            Column("MASKED", "double", "", "share of the circle without pixels, model instead"),
            Column("TOTAL", "double", "electron", "flux by PSF"),
            Column("TOTAL_ERR", "double", "electron", "its error"),
            Column("CHI2", "double", "", "reduced chi square of the fit"),
            Column("FLUX", "double", "electron", "SUM with its losses made up for"),
            Column("FLUXERR", "double", "electron", "its error"),
            Column("PSF_FLUX", "double", "electron", "TOTAL on the scale of FLUX"),
            Column("PSF_ERR", "double", "electron", "its error"),
            Column("LEVEL", "double", "electron", "background of a pixel"),
            Column("DARK", "double", "electron", "thermal charge within the circle"),
            Column("SMEARING", "double", "electron", "smeared light within the circle"),
            Column("CONTA", "double", "", "field stars' light in the circle, of the target's"),
            Column("CONTA_ERR", "double", "", "its error"),
            Column("ROLL_ANGLE", "double", "deg", "mean roll angle"),
            *_POINT_FLAGS,
            used=("IMAG_RAD",),
        ),
        _table(
            "TERM_QUALITY",
            "errors and flags of every point",
            _MJD,
            _BJD,
            *_POINT_FLAGS,
            *_SATELLITE,
            Column("FLUXERR", "double", "electron", "error of the flux within each radius", _K),
            Column(
                "OPT_FLUX",
                "double",
                "electron",
                "flux in the best aperture, its losses made up for",
            ),
            Column("OPT_ERR", "double", "electron", "its error"),
            Column("FIXED_ERR", "double", "electron", "error of the flux in the circle that stays"),
            Column("PSF_FLUX", "double", "electron", "flux by PSF, on the scale of R25"),
            Column("PSF_ERR", "double", "electron", "its error"),
            used=("RON_E", "AP_OPT", "LOST_SAA", "LOST_OCC", "LOST_STR", "N_GAP", "DRP_PPM"),
        ),
        _table(
            "TERM_ERRORS",
            "variance of the flux within each radius, term by term; FLUXERR is the root of the sum",
            _MJD,
            Column(
                "STAR",
                "double",
                "electron**2",
                "photon noise of the target and of stars near it",
                _K,
            ),
            Column("SKY", "double", "electron**2", "photon noise of sky and stray light", _K),
            Column("DARK", "double", "electron**2", "shot noise of the dark current", _K),
            Column(
                "HOT", "double", "electron**2", "shot noise of hot pixels beyond the dark frame", _K
            ),
            Column("SMEARED", "double", "electron**2", "photon noise of smeared light", _K),
            Column("READ_OUT", "double", "electron**2", "read-out noise", _K),
            Column("BACKGROUND", "double", "electron**2", "error of the background level", _K),
            Column(
                "SMEARING",
                "double",
                "electron**2",
                "error of the smeared light about its median",
                _K,
            ),
            Column("GAIN", "double", "electron**2", "error of the gain", _K),
            Column(
                "DARK_MAP",
                "double",
                "electron**2",
                "error of the dark current under the star's motion",
                _K,
            ),
            Column(
                "FLAT",
                "double",
                "electron**2",
                "error of the flat field under the star's motion",
                _K,
            ),
            Column("STATES", "double", "electron**2", "doubtful states of telegraphic pixels", _K),
            Column(
                "DRP",
                "double",
                "electron**2",
                "FLUXERR**2 as the operational pipeline has it, for comparison",
                _K,
            ),
        ),
        _table(
            "TERM_METRICS",
            "quality of every light curve",
            Column("DATANAME", "string", "", "light curve", 16),
            Column("RADIUS", "double", "pixel", "radius of the aperture"),
            Column("ROBMEAN", "double", "electron/s", "robust mean flux"),
            Column("MEDIAN", "double", "electron/s", "median flux"),
            Column("ROBSTD", "double", "ppm", "robust scatter, as the SOC's header has it"),
            Column("MAD", "double", "ppm", "robust point-to-point scatter, as in the header"),
            Column("P2PSTD", "double", "ppm", "point-to-point scatter, as in the header"),
            Column("CDPP2_5", "double", "ppm", "CDPP in 3 h, as in the header"),
            Column("CDPP6_5", "double", "ppm", "CDPP in 6 h, as in the header"),
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

# What is estimated in two rounds: the first leaves a term of its own, declared as the second's.
FIRST_ROUND = {
    "TERM_STARS": "TERM_STARS_1",
    "TERM_BACKGROUND": "TERM_BACKGROUND_1",
    "TERM_PSF": "TERM_PSF_1",
    "TERM_DEFECTS": "TERM_DEFECTS_1",
}

TERMS.update({first: replace(TERMS[final], extname=first) for final, first in FIRST_ROUND.items()})

# Lists: no pixel may be hit, and no catalogue given.
MAY_BE_EMPTY = (
    "TERM_SPREAD_IMAGETTES",
    "TERM_FLAT_WEIGHTS",
    "TERM_DEFECTS",
    "TERM_DEFECTS_1",
    "TERM_STARS",
    "TERM_STARS_1",
    "TERM_PRIOR_STARS",
    "TERM_TELEGRAPHIC",
    "TERM_PLATE",
    "PIP_REP_DetectedCosmics",
)

# Tables with times that are not those of the images, and images that are not of the window.
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
    "TERM_BIAS": ("TERM_BIAS_STRUCTURE",),
    "TERM_SPREAD": ("TERM_SPREAD_IMAGETTES",),
    "TERM_DARK": ("TERM_DARK_ERROR", "TERM_DARK_SCALE"),
    "TERM_FLAT": ("TERM_FLAT_ERROR",),
    "TERM_LOOK": ("TERM_LOOK_STATIC",),
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
    "TERM_QUALITY": ("TERM_METRICS", "TERM_ERRORS"),
    "TERM_IMAGETTES": ("TERM_METRICS",),
}
