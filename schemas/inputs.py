"""Inputs of the pipeline: the HDUs, keywords and columns used of each kind of file.

Everything named here is *needed*: if it is missing or of the wrong type, the file is damaged.
Differences from the definition elsewhere in the file are only noted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.products import Structure, soc_structure
from schemas.ranges import (
    ANY_16,
    ANY_32,
    CCD,
    COUNT,
    DECLINATION,
    EXPOSURE,
    PIXEL,
    RIGHT_ASCENSION,
    STACK,
    VSS,
    Allowed,
    column_ranges,
)
from schemas.terms import COMPANIONS, MAY_BE_EMPTY, TERMS


@dataclass(frozen=True, slots=True)
class Use:
    """The part of one HDU that is used.

    A table of which `columns` are used must have rows unless it `may_be_empty`.
    """

    structure: Structure
    keywords: Mapping[str, Allowed | None] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    optional: bool = False
    shape_matters: bool = True
    may_be_empty: bool = False
    ranges: Mapping[str, Allowed] = field(default_factory=dict)  # of columns, used or not


@dataclass(frozen=True, slots=True)
class Input:
    """One kind of file.

    `first` are the EXTNAMEs that HDU 1 may have; `fallback` describes the reduction without the
    file, and is None if there is none.
    """

    kind: str
    first: tuple[str, ...]
    hdus: Mapping[str, Use]
    meaning: str
    fallback: str | None = None

    @property
    def mandatory(self) -> bool:
        """Whether the visit cannot be reduced without this file."""
        return self.fallback is None


def _use(
    extname: str,
    *columns: str,
    optional: bool = False,
    shape: bool = True,
    **keywords: Allowed | None,
) -> Use:
    return _declare(extname, keywords, columns, optional, shape)


def _declare(
    extname: str,
    keywords: Mapping[str, Allowed | None],
    columns: tuple[str, ...] = (),
    optional: bool = False,
    shape_matters: bool = True,
) -> Use:
    """Return the use of an HDU that comes from outside, with the ranges of its columns."""
    return Use(
        soc_structure(extname),
        keywords,
        columns,
        optional,
        shape_matters,
        ranges=column_ranges(extname),
    )


def _margins(level: str) -> dict[str, Use]:
    sides = (
        "BlankLeft",
        "BlankRight",
        "DarkLeft",
        "DarkRight",
        "DarkTop",
        "OverscanLeft",
        "OverscanRight",
        "OverscanTop",
    )
    return {
        f"SCI_{level}_{side}": _use(
            f"SCI_{level}_{side}",
            optional=True,
            STACKING=None,
            MRG_PROC=None,
            MRG_DTY1=None,
            MRG_DTY2=None,
            MRG_DTY3=None,
            MRG_DTY4=None,
            NEXP=COUNT,
        )
        for side in sides
    }


_VALIDITY: dict[str, Allowed | None] = {
    "V_STRT_U": None,
    "V_STOP_U": None,
    "ARCH_REV": Allowed(0, 99),
    "PROC_NUM": Allowed(0, 99),
}
_VISIT: dict[str, Allowed | None] = {
    "PROGTYPE": Allowed(0, 99),
    "PROG_ID": Allowed(0, 9999),
    "REQ_ID": Allowed(0, 9999),
    "VISITCTR": Allowed(0, 99),
    "OBSID": ANY_32,
    "TARGNAME": None,
}
_EXPOSURE: dict[str, Allowed | None] = {"NEXP": COUNT, "EXPTIME": EXPOSURE, "TEXPTIME": STACK}
_READOUT: dict[str, Allowed | None] = {
    "STACKING": Allowed(choices=("coadd", "none", "mean")),
    "NLIN_COR": None,
    "RO_SCRPT": ANY_16,
    "RO_HW": Allowed(choices=("main", "redundant")),
    "RO_FREQU": Allowed(choices=(100_000, 230_000)),
}
_WINDOW: dict[str, Allowed | None] = {
    "X_WINOFF": PIXEL,
    "Y_WINOFF": PIXEL,
    "SHAPE": Allowed(choices=("rectangular", "circular")),
}
_TARGET: dict[str, Allowed | None] = {"RA_TARG": RIGHT_ASCENSION, "DEC_TARG": DECLINATION}
HOUSEKEEPING = (
    "HK_VOLT_FEE_VOD",
    "HK_VOLT_FEE_VRD",
    "HK_VOLT_FEE_VOG",
    "HK_VOLT_FEE_VSS",
    "HK_TEMP_FEE_CCD",
)
_IMAGE_COLUMNS = (
    "UTC_TIME",
    "MJD_TIME",
    "LOS_TO_SUN_ANGLE",
    "LOS_TO_MOON_ANGLE",
    "LOS_TO_EARTH_ANGLE",
    "LATITUDE",
    "LONGITUDE",
    "CE_COUNTER",
    "CE_INTEGRITY",
    *HOUSEKEEPING,
)

RAW_SUBARRAY = Input(
    "raw sub-array",
    ("SCI_RAW_SubArray",),
    {
        "SCI_RAW_SubArray": _declare(
            "SCI_RAW_SubArray",
            {**_VALIDITY, **_VISIT, **_EXPOSURE, **_READOUT, **_WINDOW, **_TARGET},
        ),
        "SCI_RAW_ImageMetadata": _use("SCI_RAW_ImageMetadata", *_IMAGE_COLUMNS),
        **_margins("RAW"),
    },
    "the stacked images of the visit with margins and housekeeping",
)
RAW_FULL_ARRAY = Input(
    "raw full array",
    ("SCI_RAW_FullArray",),
    {
        "SCI_RAW_FullArray": _declare(
            "SCI_RAW_FullArray",
            {
                **_VALIDITY,
                **_VISIT,
                **_EXPOSURE,
                "RO_HW": _READOUT["RO_HW"],
                "RO_FREQU": _READOUT["RO_FREQU"],
                "NLIN_COR": None,
            },
        ),
        "SCI_RAW_ImageMetadata": _use("SCI_RAW_ImageMetadata", *_IMAGE_COLUMNS),
        **_margins("RAW"),
    },
    "one image of the whole CCD at the start of the visit",
    fallback="no full array is calibrated",
)
RAW_IMAGETTE = Input(
    "raw imagettes",
    ("SCI_RAW_Imagette",),
    {
        "SCI_RAW_Imagette": _declare(
            "SCI_RAW_Imagette",
            {**_VALIDITY, **_VISIT, "NEXP": COUNT, "EXPTIME": EXPOSURE},
        ),
        "SCI_RAW_ImagetteMetadata": _use(
            "SCI_RAW_ImagetteMetadata",
            "UTC_TIME",
            "MJD_TIME",
            "CE_COUNTER",
            "NEXP",
            "X_OFF_FULL_ARRAY",
            "Y_OFF_FULL_ARRAY",
        ),
    },
    "small un-stacked images of the target",
    fallback="no imagettes are calibrated",
)
ATTITUDE = Input(
    "attitude",
    ("SCI_RAW_Attitude",),
    {
        "SCI_RAW_Attitude": _use(
            "SCI_RAW_Attitude",
            "MJD_TIME",
            "SC_RA",
            "SC_DEC",
            "SC_ROLL_ANGLE",
            V_STRT_U=None,
            V_STOP_U=None,
        )
    },
    "pointing and roll of the satellite, one row a second",
)
VISITS = Input(
    "planned visit",
    ("MPS_PRE_Visits",),
    {
        "MPS_PRE_Visits": _use(
            "MPS_PRE_Visits", "TARGET_LOCATION_X", "TARGET_LOCATION_Y", "STRAY_LIGHT_THRESHOLD"
        ),
        "MPS_PRE_VisitConstraints": _use(
            "MPS_PRE_VisitConstraints",
            "MJD_TIME",
            "STRAY_LIGHT",
            "EARTH_OCCULTATION",
            "SAA_FLAG",
            optional=True,
        ),
    },
    "the visit as planned: intended position of the target, SAA and occultations",
    fallback="the target is assumed at the centre of the window",
)
CONSTRAINTS = Input(
    "visit constraints",
    ("AUX_RES_VisitConstraints",),
    {
        "AUX_RES_VisitConstraints": _use(
            "AUX_RES_VisitConstraints", "MJD_TIME", "EARTH_OCCULTATION", "SAA_FLAG"
        )
    },
    "SAA and occultation as they happened",
    fallback="the planned constraints, or orbit and SAA map, are used",
)
ORBIT = Input(
    "orbit",
    ("AUX_RES_Orbit",),
    {"AUX_RES_Orbit": _use("AUX_RES_Orbit", "EPOCH", "X", "Y", "Z", "X_DOT", "Y_DOT", "Z_DOT")},
    "the orbit of the satellite",
    fallback="occultations come from visit constraints only, and the satellite's light time is "
    "unknown",
)
STAR_CATALOGUE = Input(
    "star catalogue",
    ("EXT_PRE_StarCatalogue",),
    {
        "EXT_PRE_StarCatalogue": _use(
            "EXT_PRE_StarCatalogue", "TARGET", "RA", "DEC", "MAG_GAIA", "T_EFF"
        )
    },
    "the stars of the field",
    fallback="no field stars are modelled",
)
VISIT_INPUTS = (
    RAW_SUBARRAY,
    RAW_FULL_ARRAY,
    RAW_IMAGETTE,
    ATTITUDE,
    VISITS,
    CONSTRAINTS,
    ORBIT,
    STAR_CATALOGUE,
)

_FRAME = _VALIDITY
BIAS_FRAME = Input(
    "bias frame",
    ("REF_APP_BiasFrame",),
    {
        "REF_APP_BiasFrame": _declare("REF_APP_BiasFrame", _FRAME),
        "REF_APP_BiasFrameMetadata": _use(
            "REF_APP_BiasFrameMetadata", "DATA_TYPE", "RO_FREQU", "RO_HW"
        ),
        "REF_APP_BiasOffset": _use(
            "REF_APP_BiasOffset", "RO_FREQU", "RO_HW", "BIAS_OFFSET", "BIAS_OFFSET_ERR", "RON"
        ),
    },
    "two-dimensional structure of the bias and its nominal level, by read-out frequency",
)
GAIN_CORRECTION = Input(
    "gain correction",
    ("REF_APP_GainCorrection",),
    {
        "REF_APP_GainCorrection": _declare(
            "REF_APP_GainCorrection",
            {
                **_FRAME,
                # 0.511 ADU per electron on ground, 0.514 in flight; its inverse, half and twice
                # of it are outside
                "GAIN_NOM": Allowed(0.3, 0.9, above=True),
                # nominal voltages of the CCD: VSS, and the others above it
                "VSS_OFF": Allowed(VSS.low, VSS.high),
                "VOD_OFF": Allowed(17, 27),  # 22
                "VRD_OFF": Allowed(4, 14),  # 9
                "VOG_OFF": Allowed(-10, -1),  # -5.75
                # -40 deg C, which is subtracted; +40 would be for another convention
                "TEMP_OFF": Allowed(CCD.low, CCD.high),
                "RO_HW": _READOUT["RO_HW"],
            },
            ("FACTOR", "EXP_VSS", "EXP_VOD", "EXP_VRD", "EXP_VOG", "EXP_TEMP"),
        )
    },
    "gain in ADU per electron as a polynomial of voltages and temperature",
)
_SPLINE = ("BOUNDARY", "COEF_0", "COEF_1", "COEF_2", "COEF_3")
_LUT = ("NON_LINEAR", "CORRECTED")
_SPLINES = {
    f"REF_APP_CCDLinearisation{f}": _declare(
        f"REF_APP_CCDLinearisation{f}", {}, _SPLINE, optional=True
    )
    for f in (100, 230)
}
_LUTS = {
    f"REF_APP_CCDLinearisationLUT{f}": _declare(
        f"REF_APP_CCDLinearisationLUT{f}", {}, _LUT, optional=True
    )
    for f in (100, 230)
}
LINEARISATION = Input(
    "linearisation",
    (*_LUTS, *_SPLINES),
    {**_LUTS, **_SPLINES},
    "corrected signal of one exposure as a function of the measured one, by read-out frequency",
)
DARK_FRAME = Input(
    "dark frame",
    ("REF_APP_DarkFrame",),
    {
        "REF_APP_DarkFrame": _declare("REF_APP_DarkFrame", _FRAME),
        "REF_APP_DarkFrameLeft": _use("REF_APP_DarkFrameLeft", optional=True, shape=False),
        "REF_APP_DarkFrameRight": _use("REF_APP_DarkFrameRight", optional=True, shape=False),
    },
    "dark current of every pixel and its error",
)
FLAT_FIELD = Input(
    "flat field",
    ("REF_APP_FlatFieldTeff",),
    {
        "REF_APP_FlatFieldTeff": _declare("REF_APP_FlatFieldTeff", _FRAME),
        "REF_APP_FlatFieldTeffMetadata": _use(
            "REF_APP_FlatFieldTeffMetadata", "DATA_TYPE", "T_EFF"
        ),
    },
    "flat fields for stars of several effective temperatures",
)
FLAT_FILTERS = Input(
    "flat fields by wavelength",
    ("REF_APP_FlatFieldFilter",),
    {
        "REF_APP_FlatFieldFilter": _declare("REF_APP_FlatFieldFilter", _FRAME, shape_matters=False),
        "REF_APP_FlatFieldFilterMetadata": _use(
            "REF_APP_FlatFieldFilterMetadata", "DATA_TYPE", "FILTER"
        ),
    },
    "flat fields for light of several wavelengths",
    fallback="needed only if the flat field is built from wavelengths (flat.source)",
)
SPECTRA = Input(
    "spectra of stars",
    ("REF_APP_SEDTeff",),
    {"REF_APP_SEDTeff": _declare("REF_APP_SEDTeff", _FRAME, ("WAVELENGTH", "FLUX", "TEMPERATUR"))},
    "spectra of stars of several effective temperatures",
    fallback="needed only if the flat field is built from wavelengths (flat.source)",
)
THROUGHPUT = Input(
    "throughput",
    ("REF_APP_Throughput",),
    {"REF_APP_Throughput": _declare("REF_APP_Throughput", _FRAME, ("WAVELENGTH", "THROUGHPUT"))},
    "transmission of the optics as a function of wavelength",
    fallback="needed only if the flat field is built from wavelengths (flat.source)",
)
QUANTUM_EFFICIENCY = Input(
    "quantum efficiency",
    ("REF_APP_QE",),
    {"REF_APP_QE": _declare("REF_APP_QE", _FRAME, ("WAVELENGTH", "QE"))},
    "electrons per photon at the CCD as a function of wavelength",
    fallback="needed only if the flat field is built from wavelengths (flat.source)",
)
BY_WAVELENGTH = (FLAT_FILTERS, SPECTRA, THROUGHPUT, QUANTUM_EFFICIENCY)
BAD_PIXEL_MAP = Input(
    "bad pixel map",
    ("REF_APP_BadPixelMap",),
    {"REF_APP_BadPixelMap": _declare("REF_APP_BadPixelMap", _FRAME)},
    "hot, dead, saturated and telegraphic pixels of the CCD",
    fallback="no pixel is flagged beforehand",
)
SAA_MAP = Input(
    "SAA map",
    ("EXT_APP_SAAMap",),
    {"EXT_APP_SAAMap": _declare("EXT_APP_SAAMap", _FRAME, ("LATITUDE", "LONGITUDE", "SAA_FLAG"))},
    "region of the South Atlantic Anomaly",
    fallback="SAA flags come from visit constraints only",
)
PIXEL_SCALE = Input(
    "pixel scale",
    ("REF_APP_PixelScale",),
    {"REF_APP_PixelScale": _declare("REF_APP_PixelScale", _FRAME, ("PIXEL_SCALE",))},
    "angle on the sky per pixel",
    fallback="1.01 arcsec per pixel",
)
READ_OUT = Input(
    "read-out timing",
    ("REF_APP_ReadOut",),
    {
        "REF_APP_ReadOut": _declare(
            "REF_APP_ReadOut",
            _FRAME,
            ("RO_SCRPT", "RO_HW", "RO_FREQU", "ROW_READ_OUT", "ROW_READ_OUT_OFFSET"),
        )
    },
    "duration of each part of a read-out script",
    fallback="nominal clock times of the CCD",
)
VISIT_LIMITS = Input(
    "angle limits",
    ("REF_APP_VisitConstraints",),
    {
        "REF_APP_VisitConstraints": _declare(
            "REF_APP_VisitConstraints",
            _FRAME,
            ("MIN_LOS_TO_SUN_ANGLE", "MIN_LOS_TO_MOON_ANGLE", "MIN_LOS_TO_EARTH_ANGLE"),
        )
    },
    "soft and hard limits of the angles to Sun, Moon and Earth limb",
    fallback="the Sun, Moon and Earth-limb digits of EVENT stay 0",
)
HOUSEKEEPING_LIMITS = Input(
    "housekeeping limits",
    ("REF_APP_Limits",),
    {
        "REF_APP_Limits": _declare(
            "REF_APP_Limits",
            _FRAME,
            ("PARAM_NAME", "ACTIVE", "UPPER_LIMIT", "LOWER_LIMIT"),
        )
    },
    "allowed range of housekeeping values",
    fallback="the temperature digit of EVENT stays 0",
)
WHITE_PSF = Input(
    "white PSF",
    ("REF_APP_WhitePSF",),
    {"REF_APP_WhitePSF": _declare("REF_APP_WhitePSF", _FRAME)},
    "image of a point source in white light",
    fallback="with few images the PSF has no fine detail",
)
FLUX_CONVERSION = Input(
    "flux conversion",
    ("REF_APP_FluxConversion",),
    {
        "REF_APP_FluxConversion": _declare(
            "REF_APP_FluxConversion", _FRAME, ("T_EFF", "CHEOPSMAG_MINUS_GMAG")
        )
    },
    "magnitude in the CHEOPS band minus Gaia G by effective temperature",
    fallback="Gaia G magnitudes are used unchanged",
)
REFERENCES = (
    BIAS_FRAME,
    GAIN_CORRECTION,
    LINEARISATION,
    DARK_FRAME,
    FLAT_FIELD,
    BAD_PIXEL_MAP,
    SAA_MAP,
    PIXEL_SCALE,
    READ_OUT,
    VISIT_LIMITS,
    HOUSEKEEPING_LIMITS,
    WHITE_PSF,
    FLUX_CONVERSION,
    *BY_WAVELENGTH,
)


LEVEL1 = {
    "SCI_CAL_SubArray": "SCI_CAL_ImageMetadata",
    "SCI_CAL_Imagette": "SCI_CAL_ImagetteMetadata",
    "SCI_CAL_FullArray": "SCI_CAL_ImageMetadata",
    "SCI_COR_SubArray": "SCI_COR_ImageMetadata",
    "SCI_COR_Imagette": "SCI_COR_ImagetteMetadata",
    "SCI_COR_FullArray": "SCI_COR_ImageMetadata",
}


def level1_input(extname: str) -> Input:
    """Return the declaration of a calibrated or corrected product as an input."""
    metadata = LEVEL1[extname]
    keywords = {
        "NEXP": COUNT,
        "EXPTIME": EXPOSURE,
        **({} if "FullArray" in extname or "Imagette" in extname else _WINDOW),
    }
    columns: tuple[str, ...] = ("MJD_TIME",)
    if "Imagette" in extname:
        columns = (*columns, "NEXP", "X_OFF_FULL_ARRAY", "Y_OFF_FULL_ARRAY")
    return Input(
        extname,
        (extname,),
        {
            extname: _declare(extname, keywords),
            metadata: _declare(metadata, {}, columns),
        },
        soc_structure(extname).meaning,
    )


def term_input(extname: str) -> Input:
    """Return the declaration of a term as an input: all of it is needed."""
    uses = {}
    for name in (extname, *COMPANIONS.get(extname, ())):
        term = TERMS[name]
        columns = tuple(c.name for c in term.columns)
        uses[name] = Use(
            term, dict.fromkeys(term.keywords), columns, may_be_empty=name in MAY_BE_EMPTY
        )
    return Input(extname, (extname,), uses, TERMS[extname].meaning)
