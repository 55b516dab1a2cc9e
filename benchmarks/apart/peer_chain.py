"""The bare chain of a peer: ccdproc and photutils on the sub-array of a visit.

It is run by `benchmarks/peer.py` with a Python that has these packages:
``python peer_chain.py SUBARRAY REFERENCES OUTPUT``. It imports nothing of the pipeline.

Bias, linearity, gain, dark, flat, ring, centroid, 30 exact apertures; it writes the calibrated cube
and a table of fluxes. Everything else that the pipeline does is missing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import astropy.units as u
import ccdproc
import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.stats import sigma_clipped_stats
from astropy.table import Table
from photutils.aperture import CircularAnnulus, CircularAperture, aperture_photometry
from photutils.centroids import centroid_com

RADII = np.arange(12.0, 42.0)

GAIN = 1.946  # electron/ADU

INNER, OUTER = 45.0, 97.0  # of the ring [pixel]


def read_reference(folder: Path, kind: str) -> fits.HDUList:
    """Open the first reference file of a kind."""
    return fits.open(sorted(folder.rglob(f"*{kind}*.fits"))[0])


def main(subarray: Path, references: Path, output: Path) -> None:
    with fits.open(subarray) as file:
        head, raw = file["SCI_RAW_SubArray"].header, file["SCI_RAW_SubArray"].data
        blank = np.concatenate(
            [file["SCI_RAW_BlankLeft"].data, file["SCI_RAW_BlankRight"].data], axis=2
        )
        count, ny, nx = raw.shape
        nexp, seconds = head["NEXP"], head["TEXPTIME"]
        window = (
            slice(head["Y_WINOFF"], head["Y_WINOFF"] + ny),
            slice(head["X_WINOFF"], head["X_WINOFF"] + nx),
        )
        with read_reference(references, "DarkFrame") as dark_file:
            dark = CCDData(dark_file["REF_APP_DarkFrame"].data[0][window], unit="electron")
        with read_reference(references, "FlatFieldTeff") as flat_file:
            flat = CCDData(
                flat_file["REF_APP_FlatFieldTeff"].data[4][window], unit=u.dimensionless_unscaled
            )
        with read_reference(references, "CCDLinearisationLUT100") as curve_file:
            curve = curve_file["REF_APP_CCDLinearisationLUT100"].data
            measured, corrected = np.array(curve["NON_LINEAR"]), np.array(curve["CORRECTED"])
        cube, rows = np.empty((count, ny, nx)), []
        for i in range(count):
            place = np.array([nx / 2, ny / 2])
            image = CCDData(raw[i].astype(float), unit="adu")
            bias = CCDData(np.full((ny, nx), float(np.mean(blank[i]))), unit="adu")
            image = ccdproc.subtract_bias(image, bias)
            image = ccdproc.gain_correct(image, GAIN * u.electron / u.adu)
            image.data = nexp * np.interp(image.data / nexp, measured, corrected)
            image = ccdproc.subtract_dark(
                image,
                dark,
                dark_exposure=1 * u.s,
                data_exposure=seconds * u.s,
                scale=True,
            )
            image = ccdproc.flat_correct(image, flat, norm_value=1.0)
            cube[i] = image.data
            ring = CircularAnnulus(place, INNER, OUTER).to_mask(method="center")
            _, sky, noise = sigma_clipped_stats(ring.get_values(cube[i]), sigma=3)
            clean = cube[i] - sky
            x, y = place.round().astype(int)
            box = clean[y - 25 : y + 26, x - 25 : x + 26]
            place = np.array([x - 25, y - 25]) + centroid_com(np.where(box > 5 * noise, box, 0.0))
            apertures = [CircularAperture(place, r) for r in RADII]
            fluxes = aperture_photometry(clean, apertures, method="exact")
            rows.append([sky, *place, *(fluxes[f"aperture_sum_{k}"][0] for k in range(len(RADII)))])
    fits.PrimaryHDU(cube.astype(np.float64)).writeto(output / "calibrated.fits", checksum=True)
    names = ["sky", "x", "y", *(f"R{r:g}" for r in RADII)]
    Table(np.array(rows), names=names).write(output / "fluxes.fits")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
