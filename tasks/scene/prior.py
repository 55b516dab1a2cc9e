"""Prior knowledge of a visit: the reference PSF, the map of bad pixels, and the star catalogue.

These come from files that are not published. Their relevant parts are kept as a term, so that later
steps can be rerun without the files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import maximum_filter, median_filter

from schemas.arrays import AnyArray, FloatArray, IntArray
from schemas.flags import BAD_PIXEL_CODES
from schemas.inputs import BAD_PIXEL_MAP, WHITE_PSF, term_input
from schemas.payloads import Prior, Product, Reference
from schemas.terms import TERMS
from tasks.engine.step import Leaves, step
from tasks.files.disk import require
from tasks.files.reader import open_declared
from tasks.files.writer import NewHdu
from tasks.scene.catalogue import Catalogue, known_magnitude, read_catalogue
from tasks.visit.raw import Exposures, open_exposures

COLUMNS = ("XI", "ETA", "MAG", "T_EFF", "SHARE", "TARGET")
_NO_WHITE_PSF = (
    "there is no reference PSF (REF_APP_WhitePSF): neighbours are not subtracted before the visit "
    "has a PSF of its own, few images do not give one, and the far wings of field stars are not "
    "known"
)
OUTLYING = 10.0  # times the brightest pixel around it
UNKNOWN = 9999.0  # year; the catalogue does not give its epoch
# of the window, which are replaced by the model or searched for jumps. The map in flight has no
# dead pixels, and telegraphic ones in 2 % of the worst window; a tenth of all pixels are hot, which
# changes nothing.
MOST_MARKED = {-2: (0.01, "dead"), 3: (0.1, "telegraphic")}


@step("prior", version="9", payload=Prior, leaves=["TERM_PRIOR"])
def read_prior(
    raw: Product,
    white: Reference | None,
    bad: Reference | None,
    catalogue: Product | None,
    conversion: Reference | None,
) -> Leaves:
    """Extract the window from the references, and the relevant stars from the catalogue."""
    warnings = [] if white is not None else [_NO_WHITE_PSF]
    with open_exposures(raw) as exposures:
        mjd = float(exposures.mjd[0])
        magnitude = known_magnitude(exposures.image.header.get("MAG_G"))
        offsets = {"X_WINOFF": exposures.x_offset, "Y_WINOFF": exposures.y_offset}
        codes = plausible_codes(cut_codes(bad, exposures), warnings)
    hdus = [
        NewHdu(TERMS["TERM_PRIOR"], offsets, pixels=codes),
        NewHdu(
            TERMS["TERM_PRIOR_PSF"], offsets, pixels=without_outliers(white_plane(white), warnings)
        ),
        star_table(read_catalogue(catalogue, conversion, mjd, magnitude, warnings)),
    ]
    return Leaves({"TERM_PRIOR": hdus}, warnings=warnings)


def cut_codes(bad: Reference | None, exposures: Exposures) -> FloatArray:
    """Return the codes of the bad pixel map in the window, shape (ny, nx); 0 without a map."""
    if bad is None:
        return np.zeros(exposures.shape)
    with open_declared(require(bad.product.path), BAD_PIXEL_MAP) as file:
        return file["REF_APP_BadPixelMap"].image()[exposures.window].astype(np.float64)


def plausible_codes(codes: FloatArray, warnings: list[str]) -> FloatArray:
    """Return the codes of a bad pixel map with 0 in place of those that cannot be right.

    These are unknown codes, and a kind of pixels that are far too many: the star would be replaced
    by its own model. Each causes a warning.
    """
    kept = known_codes(codes)
    if (unknown := kept != codes).any():
        y, x = (int(i[0]) for i in np.nonzero(unknown))
        warnings.append(
            f"bad pixel map: {unknown.sum()} of {codes.size} pixels of the window have an unknown "
            f"code (the first, {codes[y, x]:g}, at x = {x}, y = {y}): they count as good"
        )
    for code, (share, kind) in MOST_MARKED.items():
        marked = kept == code
        if marked.mean() > share:
            warnings.append(
                f"bad pixel map: {marked.sum()} of {codes.size} pixels of the window are {kind}, "
                f"more than {share:.0%}: they count as good"
            )
            kept = np.where(marked, 0.0, kept)
    return kept


def known_codes(codes: FloatArray) -> FloatArray:
    """Return the codes of a bad pixel map, 0 in place of unknown ones."""
    return np.where(np.isin(codes, BAD_PIXEL_CODES), codes, 0.0)


def white_plane(white: Reference | None) -> FloatArray:
    """Return the reference PSF; a single dark pixel without a reference."""
    if white is None:
        return np.zeros((1, 1))
    with open_declared(require(white.product.path), WHITE_PSF) as file:
        plane: FloatArray = file["REF_APP_WhitePSF"].finite_image(0, 1)[0]
        return plane


def without_outliers(plane: FloatArray, warnings: list[str]) -> FloatArray:
    """Return a PSF without pixels that are far from those around them, with a warning.

    They are replaced by the median of the pixels around them. The lobes of the defocused PSF are
    some pixels wide: no pixel is ten times as bright as the brightest one beside it.
    """
    if not plane.any():
        return plane
    around = np.ones((3, 3), dtype=np.bool_)
    around[1, 1] = False
    brightest = maximum_filter(np.abs(plane), footprint=around, mode="nearest")
    usual = float(np.median(np.abs(plane[plane != 0])))
    outliers = np.abs(plane) > OUTLYING * np.maximum(brightest, usual)
    if not outliers.any():
        return plane
    warnings.append(
        f"reference PSF: {outliers.sum()} of {plane.size} pixels are more than {OUTLYING:g} times "
        f"as bright as those around them: replaced by their median"
    )
    return np.where(outliers, median_filter(plane, footprint=around, mode="nearest"), plane)


def star_table(catalogue: Catalogue | None) -> NewHdu:
    """Return TERM_PRIOR_STARS, empty without a catalogue."""
    columns: dict[str, AnyArray] = {name: np.zeros(0) for name in COLUMNS}
    words = {"STAR_EPO": UNKNOWN, "STAR_BND": catalogue is not None and catalogue.band}
    if catalogue is not None:
        c = catalogue
        columns = dict(zip(COLUMNS, (c.xi, c.eta, c.mag, c.teff, c.share, c.target), strict=True))
        words["STAR_EPO"] = c.years if np.isfinite(c.years) else UNKNOWN
    return NewHdu(TERMS["TERM_PRIOR_STARS"], words, columns=columns)


def read_catalogue_stars(prior: Prior) -> Catalogue | None:
    """Return the stars of the catalogue, or None without a catalogue."""
    with open_declared(Path(require(prior.product.path)), term_input("TERM_PRIOR")) as file:
        hdu = file["TERM_PRIOR_STARS"]
        target = hdu.column("TARGET").astype(bool)
        if not target.any():
            return None
        xi, eta, mag, teff, share = (hdu.column(name).astype(np.float64) for name in COLUMNS[:-1])
        years = hdu.number("STAR_EPO")
        band = bool(hdu.header["STAR_BND"])
        return Catalogue(
            xi, eta, mag, teff, share, target, years if years != UNKNOWN else float("nan"), band
        )


def read_bad_pixels(prior: Prior) -> IntArray:
    """Return the codes of the bad pixel map in the window, shape (ny, nx).

    0 is a good pixel, or one of which nothing is known.
    """
    with open_declared(Path(require(prior.product.path)), term_input("TERM_PRIOR")) as file:
        return known_codes(file["TERM_PRIOR"].finite_image()).astype(np.int64)


def read_reference_psf(prior: Prior) -> FloatArray | None:
    """Return the reference PSF, sampled by whole pixels, or None without one."""
    with open_declared(Path(require(prior.product.path)), term_input("TERM_PRIOR")) as file:
        plane: FloatArray = file["TERM_PRIOR_PSF"].finite_image()
    return plane if plane.sum() > 0 else None
