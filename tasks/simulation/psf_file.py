"""A user's PSF: a square image with the star at its centre, one sample per pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import map_coordinates

from schemas.arrays import FloatArray
from tasks.simulation.drawing import FINE, Table, from_samples

LEAST = 20  # size of the image [pixel]


def read(path: Path) -> Table:
    """Return the table of the PSF in the first image HDU of a FITS file, normalised to sum one.

    Of a cube the first plane is used. The star is at the centre of the image: at n / 2, where pixel
    i spans [i, i+1). Between the samples it is interpolated with cubic splines.

    Raises
    ------
    ValueError
        If the file is not a FITS file, or its image not a PSF: not square, smaller than 20 pixels,
        not finite, or without light at its centre.
    """
    image = _read_image(path)
    size = image.shape[0]
    reach = size // 2 - 1
    node = (np.arange(2 * FINE * (reach + 3)) - FINE * (reach + 3)) / FINE + size / 2 - 0.5
    grid = np.meshgrid(node, node, indexing="ij")
    fine = map_coordinates(image / image.sum(), grid, order=3, mode="constant", cval=0.0)
    return from_samples(fine / fine.sum() * FINE**2, reach)


def _read_image(path: Path) -> FloatArray:
    try:
        with fits.open(path, memmap=False) as hdus:
            images = [hdu.data for hdu in hdus if hdu.is_image and hdu.data is not None]
    except OSError as error:
        raise ValueError(f"{path}: is not a FITS file ({error})") from None
    if not images:
        raise ValueError(f"{path}: has no image, expected one of a PSF")
    image = np.asarray(images[0], float)
    image = image.reshape(-1, *image.shape[-2:])[0] if image.ndim > 2 else image
    if image.ndim != 2 or image.shape[0] != image.shape[1] or image.shape[0] < LEAST:
        raise ValueError(
            f"{path}: the image has shape {image.shape}, expected a square of at least {LEAST} "
            f"pixels"
        )
    if bad := np.count_nonzero(~np.isfinite(image)):
        raise ValueError(f"{path}: {bad} of {image.size} values of the PSF are not finite")
    quarter = image.shape[0] // 4
    middle = image[quarter:-quarter, quarter:-quarter].sum()
    if image.sum() <= 0 or middle < 0.3 * image.sum():
        raise ValueError(
            f"{path}: there is no star at the centre of the image, which has {middle:.3g} of a "
            f"total of {image.sum():.3g}"
        )
    return image
