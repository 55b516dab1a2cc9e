"""A light curve as an `astropy.timeseries.TimeSeries`: times, units, and masks from the flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from schemas.arrays import AnyArray, BoolArray
from schemas.errors import UsageError

if TYPE_CHECKING:
    from astropy.timeseries import TimeSeries

Flagged = Literal["mask", "drop", "keep"]

FLAGGED = ("mask", "drop", "keep")

# columns of the series: the column of the file, and a unit that astropy knows
COLUMNS: Mapping[str, tuple[str, str]] = {
    "flux": ("FLUX", "electron"),
    "flux_err": ("FLUXERR", "electron"),
    "flux_detrended": ("FLUX_DETRENDED", "electron"),
    "quality": ("QUALITY", ""),
    "event": ("EVENT", ""),
    "status": ("STATUS", ""),
    "background": ("BACKGROUND", "electron"),
    "dark": ("DARK", "electron"),
    "smearing_lc": ("SMEARING_LC", "electron"),
    "smearing_lc_err": ("SMEARING_LC_ERR", ""),
    "conta_lc": ("CONTA_LC", ""),
    "conta_lc_err": ("CONTA_LC_ERR", ""),
    "loss": ("LOSS", ""),
    "roll_angle": ("ROLL_ANGLE", "deg"),
    "centroid_x": ("CENTROID_X", "pix"),
    "centroid_y": ("CENTROID_Y", "pix"),
    "location_x": ("LOCATION_X", "pix"),
    "location_y": ("LOCATION_Y", "pix"),
    "sat_light_time": ("SAT_LIGHT_TIME", "s"),
    "mjd_time": ("MJD_TIME", "d"),
    "taken_temperature": ("TAKEN_TEMPERATURE", "electron"),
    "taken_roll": ("TAKEN_ROLL", "electron"),
    "taken_background": ("TAKEN_BACKGROUND", "electron"),
    "taken_place": ("TAKEN_PLACE", "electron"),
    "taken_smearing": ("TAKEN_SMEARING", "electron"),
    "taken_contamination": ("TAKEN_CONTAMINATION", "electron"),
}


def is_good(columns: Mapping[str, AnyArray]) -> BoolArray:
    """Return which points are good: no event, no flag, and a finite flux."""
    flux, error = columns["FLUX"], columns["FLUXERR"]
    good: BoolArray = (columns["EVENT"] == 0) & np.isfinite(flux) & np.isfinite(error)
    return good & (columns["QUALITY"] == 0) if "QUALITY" in columns else good


def time_series(
    columns: Mapping[str, AnyArray], meta: Mapping[str, Any], flagged: str = "mask"
) -> TimeSeries:
    """Return the columns of a light curve as a time series.

    Parameters
    ----------
    columns : mapping
        Columns of the file, by name.
    meta : mapping
        Becomes `meta` of the series.
    flagged : str
        What becomes of points that are not good: ``mask`` their flux, ``drop`` or ``keep`` them.

    Raises
    ------
    UsageError
        If `flagged` is something else.
    """
    from astropy import units
    from astropy.time import Time
    from astropy.timeseries import TimeSeries
    from astropy.utils.masked import Masked

    if flagged not in FLAGGED:
        raise UsageError(f"flagged={flagged!r}: expected one of {', '.join(FLAGGED)}")
    good = is_good(columns)
    kept = good if flagged == "drop" else np.ones(len(good), bool)
    time = Time(columns["BJD_TIME"][kept], format="jd", scale="tdb")
    series = TimeSeries(time=time, meta=dict(meta))
    for name, (source, unit) in COLUMNS.items():
        if source in columns:
            # files are big-endian, which pandas rejects
            values = columns[source][kept]
            values = values.astype(values.dtype.newbyteorder("="))
            if flagged == "mask" and name.startswith("flux"):
                values = Masked(values, mask=~good)
            series[name] = values * units.Unit(unit) if unit else values
    return series
