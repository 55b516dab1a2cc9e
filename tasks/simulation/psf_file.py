"""A PSF that the user gives: a square image with the star in its middle, one sample a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import map_coordinates

from tasks.simulation.drawing import FINE, Table, from_samples

LEAST = 20  # pixels of a side


def read(path: Path) -> Table:
    """Return the table of a PSF image in the first image HDU of a FITS file, made to have sum one.

    Of a cube the first plane is taken. The star stands in the middle of the image: at n / 2 when
    pixel i spans [i, i+1). Between the samples it is interpolated with cubic splines.

    Raises
    ------
    ValueError
        If the file is no FITS file, or its image no PSF: not square, smaller than 20 pixels, not
        finite, without light in the middle.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            images = [hdu.data for hdu in hdus if hdu.is_image and hdu.data is not None]
    except OSError as error:
        raise ValueError(f"{path}: not a FITS file ({error})") from None
    if not images:
        raise ValueError(f"{path}: holds no image, so no PSF")
    image = np.asarray(images[0], float)
    image = image.reshape(-1, *image.shape[-2:])[0] if image.ndim > 2 else image
    if image.ndim != 2 or image.shape[0] != image.shape[1] or image.shape[0] < LEAST:
        raise ValueError(
            f"{path}: a PSF is a square image of at least {LEAST} pixels, this one has shape "
            f"{image.shape}"
        )
    if not np.isfinite(image).all():
        raise ValueError(
            f"{path}: the PSF has {np.count_nonzero(~np.isfinite(image))} values that are not "
            f"finite"
        )
    size = image.shape[0]
    middle = image[size // 4 : -(size // 4), size // 4 : -(size // 4)].sum()
    if image.sum() <= 0 or middle < 0.3 * image.sum():
        raise ValueError(
            f"{path}: holds no star in its middle: {middle:.3g} of {image.sum():.3g} lie there"
        )
    reach = size // 2 - 1
    node = (np.arange(2 * FINE * (reach + 3)) - FINE * (reach + 3)) / FINE + size / 2 - 0.5
    grid = np.meshgrid(node, node, indexing="ij")
    fine = map_coordinates(image / image.sum(), grid, order=3, mode="constant", cval=0.0)
    return from_samples(fine / fine.sum() * FINE**2, reach)
