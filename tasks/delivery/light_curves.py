"""Light curves as defined by the SOC: one SCI_COR_Lightcurve file per aperture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from schemas.arrays import AnyArray, FloatArray
from schemas.light_curves import (
    DEFAULT_RADIUS,
    FIXED,
    IMAGETTE,
    IMAGETTE_PSF,
    OPTIMAL,
    PSF,
    RADII,
    Way,
    circles,
)
from schemas.payloads import (
    Background,
    Corrected,
    ImagettePhotometry,
    Leaf,
    LightCurves,
    Photometry,
    Pointing,
    Position,
    Product,
    Status,
)
from schemas.products import Column, Keyword, Structure, soc_structure
from schemas.settings import DetrendSettings
from schemas.terms import LIGHT_TIME, TERMS
from schemas.used import USED, with_keywords
from tasks.delivery import detrended as companion
from tasks.engine.step import Leaves, history, step
from tasks.files.reader import Value
from tasks.files.writer import NewHdu
from tasks.visit.headers import Source, step_keywords, visit_keywords
from tasks.visit.images import Images, open_images, open_imagettes
from tasks.visit.terms import columns_by_radius, read_apertures, term_column

Columns = dict[str, AnyArray]

_HEADER_METRICS = ("ROBMEAN", "MEDIAN", "ROBSTD", "MAD", "P2PSTD", "CDPP2_5", "CDPP6_5", "VALIDPTS")
OWN_METRICS = ("N_GOOD", "ROB_PPM", "P2P_PPM", "CDPP_30M", "CDPP_3H", "CDPP_6H", "FORM_PPM")
# Columns that software written for other missions looks for; they follow the SOC's columns. TIME
# counts from the epoch that lightkurve's reader assumes.
_DAY_ZERO = 2454833
FOR_CLIENTS = (
    Column("TIME", "double", "d", "BJD_TIME minus BJDREFI: TDB at the barycentre"),
    Column("BJD_TDB", "double", "d", "BJD_TIME with a unit of the FITS standard"),
    Column("FLUX_ERR", "double", "electrons", "FLUXERR"),
    Column("QUALITY", "int32", "", "bit flags of bad points; 0 is good"),
)
LOSS = Column(
    "LOSS", "double", "", "light lost by blur and breathing; FLUX / (1 - LOSS) has it back"
)
# all columns that follow the SOC's
OWN_COLUMNS = (*FOR_CLIENTS, LIGHT_TIME, LOSS, *companion.COLUMNS)
_DAYS = {
    k.name: k
    for k in (
        Keyword("BJDREFI", "integer", "day", "BJD at which TIME is 0", _DAY_ZERO),
        Keyword("BJDREFF", "real", "day", "fraction of the day at which TIME is 0", 0.0),
        Keyword("JDREF", "real", "day", "BJDREFI for readers of FITS times", float(_DAY_ZERO)),
    )
}


_OWN = Structure(
    "SCI_COR_Lightcurve",
    keywords={**{name: USED[name] for name in OWN_METRICS}, **_DAYS, **companion.KEYWORDS},
    columns=OWN_COLUMNS,
)


def light_curve_structure(used: dict[str, Value]) -> Structure:
    """Return the SOC's structure with our own columns and the keywords of the used values."""
    declared = with_keywords(soc_structure("SCI_COR_Lightcurve"), [*used, *OWN_METRICS])
    return replace(
        declared,
        columns=(*declared.columns, *OWN_COLUMNS),
        keywords={**declared.keywords, **_DAYS, **companion.KEYWORDS},
    )


def light_curve_hdu(
    declared: Structure,
    keywords: dict[str, Value],
    columns: Columns,
    past: tuple[str, ...],
) -> NewHdu:
    """Return the HDU of a light curve, with columns and a primary header for other software.

    `past` becomes the HISTORY of the HDU.

    ``lightkurve.read`` only opens products that it recognises. EVEREST light curves are the one
    kind that it recognises by a comment, so that TELESCOP can stay true; it then reads TIME, FLUX,
    FLUX_ERR and QUALITY.
    """
    bjd = columns["BJD_TIME"]
    for_clients = {"TIME": bjd - _DAY_ZERO, "BJD_TDB": bjd, "FLUX_ERR": columns["FLUXERR"]}
    primary: tuple[tuple[str, Value, str], ...] = (
        ("TELESCOP", "CHEOPS", "space telescope"),
        ("INSTRUME", "CHEOPS", "instrument on board"),
        ("OBJECT", keywords["TARGNAME"], "target name from the proposal"),
        ("RA_OBJ", keywords["RA_TARG"], "target right ascension, deg"),
        ("DEC_OBJ", keywords["DEC_TARG"], "target declination, deg"),
        ("COMMENT", "TIME, FLUX, FLUX_ERR, QUALITY are laid out as in EVEREST files.", ""),
    )
    return NewHdu(
        declared, keywords, columns={**columns, **for_clients}, primary=primary, history=past
    )


@step(
    "light_curves",
    "LC_CFG",
    version="12",
    payload=LightCurves,
    leaves=["SCI_COR_Lightcurve-DEFAULT"],
    writes=[_OWN],
)
def write_light_curves(
    corrected: Corrected,
    upstream: tuple[Leaf, ...],
    pointing: Pointing,
    background: Background,
    position: Position,
    photometry: Photometry,
    settings: DetrendSettings,
) -> Leaves:
    """Write the light curves of all apertures, each with a detrended companion."""
    steps = [*upstream, *photometry.leaves()]
    with open_images(corrected.products["SCI_COR_SubArray"]) as images:
        shared = shared_by_curves(images, steps, target_angles(images), ("LC_CFG", "METH_CFG"))
        columns = {**shared.columns, **stack_columns(images, pointing, position, photometry)}
        known = Known(companion.read_temperature(images), settings.transits)
    (level,) = term_column(background.product, "TERM_BACKGROUND", "LEVEL")
    curves = read_stack_curves(photometry, level)
    metrics = read_curve_metrics(photometry.quality.product)
    return curve_files(replace(shared, columns=columns), curves, metrics, known)


@step(
    "imagette_light_curves",
    version="10",
    payload=LightCurves,
    leaves=["SCI_COR_Lightcurve-IMAGETTE"],
    writes=[_OWN],
)
def write_imagette_light_curves(
    corrected: Corrected,
    subarray: Corrected,
    upstream: tuple[Leaf, ...],
    photometry: ImagettePhotometry,
    settings: DetrendSettings,
) -> Leaves:
    """Write the light curves of the imagettes, one by aperture and one by PSF photometry."""
    with open_images(subarray.products["SCI_COR_SubArray"]) as images:
        angles, mjd = target_angles(images), images.mjd
        temperature = companion.read_temperature(images)
    with open_imagettes(corrected.products["SCI_COR_Imagette"]) as imagettes:
        completed = ("APERTURE", "LC_QUAL", "LC_CFG", "METH_CFG")
        shared = shared_by_curves(imagettes, [*upstream, photometry], angles, completed)
    names = [c.name for c in TERMS["TERM_IMAGETTES"].columns]
    term = dict(zip(names, term_column(photometry.product, "TERM_IMAGETTES", *names), strict=True))
    columns = {**shared.columns, **imagette_columns(term)}
    return curve_files(
        replace(shared, columns=columns),
        imagette_curves(term, float(photometry.used["IMAG_RAD"])),
        read_curve_metrics(photometry.product),
        Known(companion.at_times(mjd, temperature, term["MJD_TIME"]), settings.transits),
    )


class Curve(NamedTuple):
    """A light curve: flux and error [electron], aperture, and columns specific to the aperture."""

    flux: FloatArray
    error: FloatArray
    radius: float  # [pixel]
    kind: str  # value of AP_TYPE
    columns: Columns

    def with_columns(self, columns: Columns) -> Curve:
        """Return the light curve with some columns replaced."""
        return self._replace(columns={**self.columns, **columns})


class Known(NamedTuple):
    """What is known for the trends of all light curves."""

    temperature: FloatArray  # of the telescope, shape (n,) [deg C]
    transits: tuple[tuple[float, float], ...]  # middle (BJD_TIME) [day] and duration [h]


@dataclass(frozen=True)
class SharedByCurves:
    """Structure, keywords, columns and history common to the light curves of a set of images."""

    declared: Structure
    keywords: dict[str, Value]
    columns: Columns
    history: tuple[str, ...]


def shared_by_curves(
    images: Source, steps: Sequence[Leaf], angles: dict[str, Value], completed: Iterable[str]
) -> SharedByCurves:
    """Return the parts common to all light curves of `images`.

    `completed` lists the step keywords that this step sets to completed.
    """
    used: dict[str, Value] = {k: v for leaf in steps for k, v in leaf.used.items()}
    declared = light_curve_structure(used)
    states = {**step_keywords(steps), **dict.fromkeys(completed, str(Status.COMPLETED))}
    tau = float(used["SMEAR_T"])
    smearing_error = float(used["SMEAR_TE"]) / tau if tau > 0 else 0.0
    return SharedByCurves(
        declared,
        {**visit_keywords(images, declared), **states, **used, **angles},
        {
            "UTC_TIME": images.metadata.column("UTC_TIME"),
            "LOCATION_X": np.full(images.count, used["LOC_X"]),
            "LOCATION_Y": np.full(images.count, used["LOC_Y"]),
            "SMEARING_LC_ERR": np.full(images.count, smearing_error),
        },
        history(steps),
    )


def stack_columns(
    images: Images, pointing: Pointing, position: Position, photometry: Photometry
) -> Columns:
    """Return the columns common to all light curves of the stacked images."""
    quality = photometry.quality.product
    (roll,) = term_column(pointing.product, "TERM_POINTING", "ROLL_ANGLE")
    x, y = term_column(position.product, "TERM_POSITION", "X", "Y")
    names = ("BJD_TIME", "STATUS", "EVENT", "QUALITY", LIGHT_TIME.name)
    return {
        "MJD_TIME": images.mjd,
        "ROLL_ANGLE": roll,
        "CENTROID_X": x,
        "CENTROID_Y": y,
        **dict(zip(names, term_column(quality, "TERM_QUALITY", *names), strict=True)),
    }


def read_stack_curves(photometry: Photometry, level: FloatArray) -> dict[str, Curve]:
    """Return the light curves of the stacked images; `level` is the background [electron/pixel]."""
    sums, quality = read_apertures(photometry.apertures), photometry.quality.product
    flux, radii = sums.flux, sums.radii
    ratio, ratio_error = columns_by_radius(
        photometry.contamination.product, "TERM_CONTAMINATION", radii, "RATIO", "ERROR"
    )
    error, loss = columns_by_radius(quality, "TERM_QUALITY", radii, "FLUXERR", "LOSS")
    best, best_error, fixed_error, psf, psf_error = term_column(
        quality, "TERM_QUALITY", *("OPT_FLUX", "OPT_ERR", "FIXED_ERR", "PSF_FLUX", "PSF_ERR")
    )

    def curve(values: FloatArray, errors: FloatArray, radius: float, kind: str) -> Curve:
        k = radii.index(radius)
        within = {
            "DARK": sums.dark[:, k],
            "BACKGROUND": sums.area[:, k] * level,
            "SMEARING_LC": sums.smearing[:, k],
            "CONTA_LC": ratio[:, k],
            "CONTA_LC_ERR": ratio_error[:, k],
            LOSS.name: loss[:, k],
        }
        return Curve(values, errors, radius, kind, within)

    curves = {
        name: curve(flux[:, radii.index(r)], error[:, radii.index(r)], r, "Moving")
        for name, r in circles(radii).items()
    }
    none = np.zeros(len(psf))
    used = photometry.quality.used
    optimal = curve(best, best_error, float(used["AP_OPT"]), "Moving")
    if used["OPT_WAY"] == Way.CORRECTED:
        optimal = optimal.with_columns({LOSS.name: none})
    curves[OPTIMAL] = optimal
    # the share within a circle that does not follow the target is not modelled
    fixed_circle = curve(sums.fixed, fixed_error, DEFAULT_RADIUS, "Fixed")
    curves[FIXED] = fixed_circle.with_columns({LOSS.name: np.full(len(psf), np.nan)})
    if np.isfinite(psf).any():
        # free of field stars; what a blended one may have left is the error in the smallest circle
        # of every visit
        left = ratio_error[:, radii.index(RADII[0])]
        free = {"CONTA_LC": none, "CONTA_LC_ERR": left, LOSS.name: none}
        curves[PSF] = curve(psf, psf_error, DEFAULT_RADIUS, "PSF").with_columns(free)
        if used["OPT_WAY"] == Way.PSF:
            curves[OPTIMAL] = curves[PSF]
    return curves


def imagette_columns(term: Columns) -> Columns:
    """Return the columns common to both imagette light curves, from the table TERM_IMAGETTES."""
    same = ("MJD_TIME", "BJD_TIME", "STATUS", "EVENT", "QUALITY", "ROLL_ANGLE", "DARK")
    return {
        **{name: term[name] for name in (*same, LIGHT_TIME.name)},
        "CENTROID_X": term["X"],
        "CENTROID_Y": term["Y"],
        "BACKGROUND": np.pi * term["RADIUS"] ** 2 * term["LEVEL"],
        "SMEARING_LC": term["SMEARING"],
        "CONTA_LC": term["CONTA"],
        "CONTA_LC_ERR": term["CONTA_ERR"],
        LOSS.name: np.zeros(len(term["CONTA"])),  # both are corrected
    }


def imagette_curves(term: Columns, radius: float) -> dict[str, Curve]:
    """Return both imagette light curves, from the table TERM_IMAGETTES."""
    free = {"CONTA_LC": np.zeros(len(term["PSF_FLUX"]))}
    return {
        IMAGETTE: Curve(term["FLUX"], term["FLUXERR"], radius, "Moving", {}),
        IMAGETTE_PSF: Curve(term["PSF_FLUX"], term["PSF_ERR"], radius, "PSF", free),
    }


def curve_files(
    shared: SharedByCurves,
    curves: Mapping[str, Curve],
    metrics: Mapping[str, Mapping[str, float]],
    known: Known,
) -> Leaves:
    """Return one file per light curve that has metrics."""
    files = {}
    for name, values in metrics.items():
        if name not in curves:
            continue
        curve = curves[name]
        columns = {**shared.columns, **curve.columns, "FLUX": curve.flux, "FLUXERR": curve.error}
        without, terms = companion.detrended(columns, *known)
        columns |= without
        keywords: dict[str, Value] = {
            **shared.keywords,
            **metric_keywords(values),
            **terms,
            "DATANAME": name,
            "AP_RADI": curve.radius,
            "AP_TYPE": curve.kind,
        }
        files[f"SCI_COR_Lightcurve-{name}"] = [
            light_curve_hdu(shared.declared, keywords, columns, shared.history)
        ]
    return Leaves(files)


def read_curve_metrics(product: Product) -> dict[str, dict[str, float]]:
    """Return the metrics in the table TERM_METRICS of a product, by light curve."""
    names = [c.name for c in TERMS["TERM_METRICS"].columns]
    columns = dict(zip(names, term_column(product, "TERM_METRICS", *names), strict=True))
    curves = columns.pop("DATANAME")
    return {
        str(curve): {name: float(values[row]) for name, values in columns.items()}
        for row, curve in enumerate(curves)
    }


def metric_keywords(values: Mapping[str, float]) -> dict[str, Value]:
    """Return metrics as keywords; NaN becomes 0, because FITS headers cannot hold NaN."""
    keywords: dict[str, Value] = {}
    for name in (*_HEADER_METRICS, *OWN_METRICS):
        value = values[name]
        number = value if np.isfinite(value) else 0.0
        keywords[name] = int(number) if name in ("ROBMEAN", "MEDIAN", "N_GOOD") else number
    return keywords


def target_angles(images: Images) -> dict[str, Value]:
    """Return the keywords of the angles from the target to Sun, Moon and Earth's limb [deg].

    They hold at the start and at the end of the visit; an unknown angle is 0.
    """
    angles: dict[str, Value] = {}
    for body, column in (("SUN", "SUN"), ("MOON", "MOON"), ("EART", "EARTH")):
        values = images.metadata.column(f"LOS_TO_{column}_ANGLE").astype(np.float64)
        for which, index in (("B", 0), ("E", -1)):
            value = float(values[index])
            angles[f"{which}_{body}_A"] = value if np.isfinite(value) else 0.0
    return angles
