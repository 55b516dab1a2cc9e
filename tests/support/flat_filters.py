"""Flat fields for light of single wavelengths, too large for the default reference library."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reference_data.build import FLAT_ERROR, image, table, write
from tasks.simulation import flat, layout


def flat_filters(folder: Path, step: float = 20.0, noisy: bool = True) -> list[Path]:
    """Write flat fields at regular wavelengths and their errors.

    At the default step the file has 300 MB.

    Parameters
    ----------
    folder : Path
        Folder of the file.
    step : float
        Distance between the wavelengths [nm].
    noisy : bool
        Whether the planes have the errors that the file states.

    Returns
    -------
    list of Path
        The file.
    """
    rng = np.random.default_rng(8)
    wavelength = np.arange(flat.WAVELENGTH[0], flat.WAVELENGTH[-1] + step / 2, step)
    shape = layout.SIZE, layout.SIZE
    planes = np.empty((2 * wavelength.size, *shape), np.float32)
    for i, centre in enumerate(wavelength):
        error = FLAT_ERROR * rng.standard_normal(shape, np.float32) if noisy else 0.0
        planes[i] = flat.monochromatic(float(centre)) * (1 + error)
    planes[wavelength.size :] = FLAT_ERROR if noisy else 0.0
    data = {
        "DATA_TYPE": ["FLAT FIELD"] * wavelength.size + ["FLAT FIELD ERROR"] * wavelength.size,
        "FILTER": [f"{w:.0f}" for w in wavelength] * 2,
        "BANDWIDTH": step,
        "STATUS": 0,
    }
    words = {"DATANAME": "PointSource", "FF_RF": "N/A"}
    parts = [
        image("REF_APP_FlatFieldFilter", planes, TEMP=273.15 + layout.CCD_TEMPERATURE, **words),
        table("REF_APP_FlatFieldFilterMetadata", data, 2 * wavelength.size, DATANAME="PointSource"),
    ]
    return write(folder, parts, "PointSource")
