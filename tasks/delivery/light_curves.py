"""Light curves as the SOC defines them: one SCI_COR_Lightcurve file for each aperture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.light_curves import (
    DEFAULT_RADIUS,
    FIXED,
    IMAGETTE_PSF,
    LIGHT_CURVES,
    OPTIMAL,
    PSF,
    RADII,
)
from schemas.payloads import (
    Apertures,
    Background,
    Contamination,
    Corrected,
    ImagettePhotometry,
    Leaf,
    LightCurves,
    Pointing,
    Position,
    PsfFit,
    QualityTerm,
    Status,
)
from schemas.products import Column, Keyword, Structure, soc_structure
from schemas.terms import LIGHT_TIME, TERMS
from schemas.used import with_keywords
from tasks.engine.step import Leaves, history, step
from tasks.files.reader import Value
from tasks.files.writer import NewHdu
from tasks.visit.headers import step_keywords, visit_keywords
from tasks.visit.images import Images, open_images, open_imagettes
from tasks.visit.terms import term_column

_HEADER_METRICS = ("ROBMEAN", "MEDIAN", "ROBSTD", "MAD", "P2PSTD", "CDPP2_5", "CDPP6_5", "VALIDPTS")
_OWN_METRICS = ("N_GOOD", "ROB_PPM", "P2P_PPM", "CDPP_30M", "CDPP_3H", "CDPP_6H", "FORM_PPM")
# What clients of other missions look for, behind the SOC's columns. TIME counts from the day that
# lightkurve's reader assumes.
_DAY_ZERO = 2454833
FOR_CLIENTS = (
    Column("TIME", "double", "d", "BJD_TIME minus BJDREFI: TDB at the barycentre"),
    Column("BJD_TDB", "double", "d", "BJD_TIME with a unit that FITS knows"),
    Column("FLUX_ERR", "double", "electrons", "FLUXERR"),
    Column("QUALITY", "int32", "", "bits, why the point may be bad; 0 is good"),
)
OWN_COLUMNS = (*FOR_CLIENTS, LIGHT_TIME)  # all that stand behind the SOC's
_DAYS = {
    k.name: k
    for k in (
        Keyword("BJDREFI", "integer", "day", "BJD at which TIME is 0", _DAY_ZERO),
        Keyword("BJDREFF", "real", "day", "its fraction", 0.0),
    )
}


def light_curve_structure(used: dict[str, Value]) -> Structure:
    """Return the SOC's light curve with our own columns and the keywords of the used values."""
    declared = with_keywords(soc_structure("SCI_COR_Lightcurve"), [*used, *_OWN_METRICS])
    return replace(
        declared, columns=(*declared.columns, *OWN_COLUMNS), keywords={**declared.keywords, **_DAYS}
    )


def light_curve_hdu(
    declared: Structure,
    keywords: dict[str, Value],
    columns: dict[str, npt.NDArray[Any]],
    past: tuple[str, ...],
) -> NewHdu:
    """Return a light curve with its columns for clients, a primary header by which they know it,
    and what steps made it.

    lightkurve.read opens a file only if it takes it for one of the kinds that it knows. Of these
    EVEREST is the one that is told by a comment, so that TELESCOP stays true; it then reads TIME,
    FLUX, FLUX_ERR and QUALITY.
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
    version="6",
    payload=LightCurves,
    leaves=["SCI_COR_Lightcurve-DEFAULT"],
)
def write_light_curves(
    corrected: Corrected,
    upstream: tuple[Leaf, ...],
    pointing: Pointing,
    background: Background,
    position: Position,
    apertures: Apertures,
    psf_fit: PsfFit,
    contamination: Contamination,
    quality: QualityTerm,
) -> Leaves:
    """Write the light curves of all apertures."""
    event, status, flags, bjd, light_time, error = term_column(
        quality.product,
        "TERM_QUALITY",
        "EVENT",
        "STATUS",
        "QUALITY",
        "BJD_TIME",
        LIGHT_TIME.name,
        "FLUXERR",
    )
    best, best_error, fixed_error, psf, psf_error = term_column(
        quality.product, "TERM_QUALITY", "OPT_FLUX", "OPT_ERR", "FIXED_ERR", "PSF_FLUX", "PSF_ERR"
    )
    (fixed,) = term_column(apertures.product, "TERM_APERTURES", "FIXED")
    flux, areas, dark, smeared = term_column(
        apertures.product, "TERM_APERTURES", "FLUX", "AREA", "DARK", "SMEARING"
    )
    ratio, ratio_error = term_column(contamination.product, "TERM_CONTAMINATION", "RATIO", "ERROR")
    (level,) = term_column(background.product, "TERM_BACKGROUND", "LEVEL")
    (roll,) = term_column(pointing.product, "TERM_POINTING", "ROLL_ANGLE")
    x, y = term_column(position.product, "TERM_POSITION", "X", "Y")
    names = [c.name for c in quality_metrics_columns()]
    metrics = dict(zip(names, term_column(quality.product, "TERM_METRICS", *names), strict=True))
    steps = [*upstream, apertures, psf_fit, contamination, quality]
    used: dict[str, Value] = {k: v for leaf in steps for k, v in leaf.used.items()}
    declared = light_curve_structure(used)
    states = {
        **step_keywords(steps),
        "LC_CFG": str(Status.COMPLETED),
        "METH_CFG": str(Status.COMPLETED),
    }
    with open_images(corrected.products["SCI_COR_SubArray"]) as images:
        shared = {**visit_keywords(images, declared), **states, **used, **target_angles(images)}
        n = images.count
        meta = images.metadata
        common: dict[str, npt.NDArray[Any]] = {
            "UTC_TIME": meta.column("UTC_TIME"),
            "MJD_TIME": images.mjd,
            "BJD_TIME": bjd,
            "STATUS": status,
            "EVENT": event,
            "ROLL_ANGLE": roll,
            "LOCATION_X": np.full(n, used["LOC_X"]),
            "LOCATION_Y": np.full(n, used["LOC_Y"]),
            "CENTROID_X": x,
            "CENTROID_Y": y,
            "QUALITY": flags,
            LIGHT_TIME.name: light_time,
        }
        curves = {
            name: (flux[:, RADII.index(r)], error[:, RADII.index(r)], r, "Moving")
            for name, r in LIGHT_CURVES.items()
        }
        curves[OPTIMAL] = best, best_error, float(used["AP_OPT"]), "Moving"
        curves[FIXED] = fixed, fixed_error, DEFAULT_RADIUS, "Fixed"
        if np.isfinite(psf).any():
            curves[PSF] = psf, psf_error, DEFAULT_RADIUS, "PSF"
        tau = float(used["SMEAR_T"])
        share = float(used["SMEAR_TE"]) / tau if tau > 0 else 0.0
        files = {}
        for row, name in enumerate(metrics["DATANAME"]):
            if name not in curves:
                continue
            values, errors, radius, kind = curves[name]
            k = RADII.index(radius)
            columns = {
                **common,
                "FLUX": values,
                "FLUXERR": errors,
                "DARK": dark[:, k],
                "BACKGROUND": areas[:, k] * level,
                "SMEARING_LC": smeared[:, k],
                "SMEARING_LC_ERR": np.full(n, share),
                "CONTA_LC": ratio[:, k],
                "CONTA_LC_ERR": ratio_error[:, k],
            }
            own = metric_keywords({m: v[row] for m, v in metrics.items() if m != "DATANAME"})
            keywords = {**shared, **own, "DATANAME": str(name), "AP_RADI": radius, "AP_TYPE": kind}
            files[f"SCI_COR_Lightcurve-{name}"] = [
                light_curve_hdu(declared, keywords, columns, history(steps))
            ]
    return Leaves(files)


@step(
    "imagette_light_curves",
    version="4",
    payload=LightCurves,
    leaves=["SCI_COR_Lightcurve-IMAGETTE"],
)
def write_imagette_light_curves(
    corrected: Corrected,
    subarray: Corrected,
    upstream: tuple[Leaf, ...],
    photometry: ImagettePhotometry,
) -> Leaves:
    """Write the light curves of imagettes, one row an imagette: within a circle, and by PSF."""
    term = photometry.product
    declared_columns = [c.name for c in TERMS["TERM_IMAGETTES"].columns]
    values = dict(
        zip(declared_columns, term_column(term, "TERM_IMAGETTES", *declared_columns), strict=True)
    )
    names = [c.name for c in quality_metrics_columns()]
    metrics = dict(zip(names, term_column(term, "TERM_METRICS", *names), strict=True))
    steps = [*upstream, photometry]
    used: dict[str, Value] = {k: v for leaf in steps for k, v in leaf.used.items()}
    declared = light_curve_structure(used)
    states = {
        **step_keywords(steps),
        **dict.fromkeys(("APERTURE", "LC_QUAL", "LC_CFG", "METH_CFG"), str(Status.COMPLETED)),
    }
    tau = float(used["SMEAR_T"])
    share = float(used["SMEAR_TE"]) / tau if tau > 0 else 0.0
    with open_images(subarray.products["SCI_COR_SubArray"]) as images:
        angles = target_angles(images)
    with open_imagettes(corrected.products["SCI_COR_Imagette"]) as imagettes:
        n, shared = (
            imagettes.count,
            {**visit_keywords(imagettes, declared), **states, **used, **angles},
        )
        common: dict[str, npt.NDArray[Any]] = {
            "UTC_TIME": imagettes.metadata.column("UTC_TIME"),
            "LOCATION_X": np.full(n, used["LOC_X"]),
            "LOCATION_Y": np.full(n, used["LOC_Y"]),
            "CENTROID_X": values["X"],
            "CENTROID_Y": values["Y"],
            "BACKGROUND": np.pi * values["RADIUS"] ** 2 * values["LEVEL"],
            "SMEARING_LC": values["SMEARING"],
            "SMEARING_LC_ERR": np.full(n, share),
            "CONTA_LC": values["CONTA"],
            "CONTA_LC_ERR": values["CONTA_ERR"],
            **{
                c: values[c]
                for c in (
                    "MJD_TIME",
                    "BJD_TIME",
                    "STATUS",
                    "EVENT",
                    "QUALITY",
                    "ROLL_ANGLE",
                    "DARK",
                )
            },
            LIGHT_TIME.name: values[LIGHT_TIME.name],
        }
    files = {}
    for row, name in enumerate(metrics["DATANAME"]):
        flux, error, kind = (
            ("PSF_FLUX", "PSF_ERR", "PSF")
            if name == IMAGETTE_PSF
            else ("FLUX", "FLUXERR", "Moving")
        )
        columns = {**common, "FLUX": values[flux], "FLUXERR": values[error]}
        own = metric_keywords({m: v[row] for m, v in metrics.items() if m != "DATANAME"})
        keywords = {
            **shared,
            **own,
            "DATANAME": str(name),
            "AP_RADI": float(used["IMAG_RAD"]),
            "AP_TYPE": kind,
        }
        files[f"SCI_COR_Lightcurve-{name}"] = [
            light_curve_hdu(declared, keywords, columns, history(steps))
        ]
    return Leaves(files)


def quality_metrics_columns() -> tuple[Column, ...]:
    """Return the columns of the table of metrics."""
    return TERMS["TERM_METRICS"].columns


def metric_keywords(values: dict[str, float]) -> dict[str, Value]:
    """Return metrics as keywords; FITS has no NaN in headers, so what could not be computed is left
    at 0.
    """
    keywords: dict[str, Value] = {}
    for name in (*_HEADER_METRICS, *_OWN_METRICS):
        value = float(values[name])
        number = value if np.isfinite(value) else 0.0
        keywords[name] = int(number) if name in ("ROBMEAN", "MEDIAN", "N_GOOD") else number
    return keywords


def target_angles(images: Images) -> dict[str, Value]:
    """Return the angles between target and Sun, Moon and Earth's limb at the beginning and end of
    the visit [deg].
    """
    angles: dict[str, Value] = {}
    for body, column in (("SUN", "SUN"), ("MOON", "MOON"), ("EART", "EARTH")):
        values = images.metadata.column(f"LOS_TO_{column}_ANGLE").astype(np.float64)
        for which, index in (("B", 0), ("E", -1)):
            value = float(values[index])
            angles[f"{which}_{body}_A"] = value if np.isfinite(value) else 0.0
    return angles
