"""Use an archive as people do with pycheops; run by its own Python, outside of the pipeline's
environment.

usage: use_pycheops.py ARCHIVE FOLDER, with an empty folder for configuration and cache. The last
line reports the result.
"""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path


def configured(folder: Path) -> Path:
    """Write the configuration without which pycheops asks on standard input; return its cache."""
    cache = folder / "cache"
    cache.mkdir(parents=True)
    os.environ.update(
        HOME=str(folder),
        XDG_CONFIG_HOME=str(folder),
        MPLBACKEND="Agg",
        MPLCONFIGDIR=str(folder / "mpl"),
    )
    sections = {
        "DEFAULT": {"data_cache_path": cache, "pdf_cmd": "test -s {}"},
        "psf_file": {"psf_file": "CHEOPS_IT_PSFwhite_CH_TU2018-01-01.txt", "x0": 99.5, "y0": 99.5},
    }
    for name in ("SWEET-Cat", "TEPCat"):
        sections[name] = {"update_interval": 10**9, "download_url": "none"}
    lines = [
        f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in values.items())
        for name, values in sections.items()
    ]
    (folder / "pycheops.cfg").write_text("\n".join(lines))
    return cache


def main(archive: Path, folder: Path) -> dict[str, object]:
    """Open the archive, and every product that pycheops reads."""
    cache = configured(folder)
    shutil.copy(archive, cache)
    import numpy as np
    from pycheops import Dataset

    warnings.simplefilter("ignore")
    data = Dataset(archive.name.removesuffix(".tgz"), verbose=False, view_report_on_download=False)
    seen: dict[str, object] = {
        "target": data.target,
        "obsid": int(data.obsid),
        "version": data.pipe_ver,
    }
    flux = {}
    for aperture in data.list_apertures():
        time, kept, _ = data.get_lightcurve(aperture, decontaminate=False, verbose=False)
        _, clean, error = data.get_lightcurve(aperture, decontaminate=True, verbose=False)
        conta = data.lc["contam"]
        assert np.isfinite(clean).all(), f"{aperture}: flux"
        assert np.isfinite(error).all(), f"{aperture}: error"
        expected = kept / (1 + conta)
        shift = float(np.abs(clean / np.median(clean) - expected / np.median(expected)).max())
        flux[aperture] = [len(time), float(np.std(clean)), shift]
    seen["apertures"] = flux
    time, _, _ = data.get_lightcurve("DEFAULT", decontaminate=True, verbose=False)
    middle = float(np.median(time))
    # shallow and short: what is proved is that a fit runs in every aperture, not the planet
    data.lmfit_transit(
        T_0=(middle - 0.001, middle + 0.001), P=100, D=(0, 0.01), W=1e-4, b=0.1, c=(0.9, 1.1)
    )
    table = data.aperture_scan(verbose=False)
    seen["scan"] = {str(row["aperture"]): float(row["rms"]) for row in table}
    seen["delta_t"] = float(np.ptp(data.lc["deltaT"])) if "deltaT" in data.lc else None
    seen["metadata"] = len(data.metadata)
    seen["subarrays"] = list(np.shape(data.get_subarrays(verbose=False)))
    seen["imagettes"] = list(np.shape(data.get_imagettes(verbose=False)))
    data.diagnostic_plot(fname=str(folder / "diagnostic.png"))
    seen["plot"] = (folder / "diagnostic.png").stat().st_size
    data.view_report()
    report = cache / f"{data.file_key}_DataReduction.pdf"
    seen["report"] = report.read_bytes()[:5].decode()
    return seen


if __name__ == "__main__":
    result = main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write("\n" + json.dumps(result) + "\n")
