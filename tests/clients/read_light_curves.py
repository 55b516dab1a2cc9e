"""Read a light curve as people do with lightkurve; run by its own Python, outside of the pipeline's
environment.

usage: read_light_curves.py FILE. The last line is what was seen, as JSON.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")

import lightkurve  # noqa: E402
import numpy as np  # noqa: E402
from astropy import units  # noqa: E402
from astropy.timeseries import TimeSeries  # noqa: E402


def main(path: str) -> dict[str, object]:
    """Open the file unaided, then compute with it; only that needs names for units that FITS does
    not know.
    """
    curve = lightkurve.read(path, quality_bitmask="none")
    seen: dict[str, object] = {
        "rows": len(curve),
        "rows_by_default": len(lightkurve.read(path)),
        "label": curve.label,
        "mission": curve.meta["MISSION"],
        "bjd": float(curve.time[0].jd),
        "flux": [float(v) for v in curve.flux.value],
        "flux_err": [float(v) for v in curve.flux_err.value],
        "quality": [int(v) for v in curve.quality],
    }
    series = TimeSeries.read(
        path, format="fits", time_column="BJD_TDB", time_format="jd", time_scale="tdb"
    )
    seen["series_bjd"] = float(series.time[0].jd)
    units.set_enabled_aliases(
        {"electrons": units.electron, "day": units.day, "ratio": units.dimensionless_unscaled}
    )
    curve = lightkurve.read(path).normalize()
    seen["unit"] = str(curve.flux_err.unit)
    seen["median"] = float(np.median(curve.flux.value))
    seen["error_ppm"] = 1e6 * float(np.median(curve.flux_err.value))
    seen["flattened"] = len(curve.flatten(window_length=5, polyorder=1))
    curve.remove_column("utc_time")  # bin cannot average text
    seen["binned"] = len(curve.bin(bins=3))
    return seen


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(sys.argv[1])) + "\n")
