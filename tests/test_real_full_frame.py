"""The real full frame of KELT-20, calibrated with the real gain and linearity, against the operational pipeline's flux."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from schemas.inputs import HOUSEKEEPING
from schemas.payloads import Product
from tasks.amplifier import linearise
from tasks.calibration.bias import BiasReference, margin_levels
from tasks.calibration.gain import gain_of, read_gain_formula
from tasks.calibration.linearity import read_curve
from tasks.disk import sha256
from tasks.exposures import open_exposures
from tasks.photometry.apertures import aperture_sums
from tasks.robust import ring_statistics
from tasks.scene.position import centre_of_light

from .conftest import raw_file


def product(path: Path, extname: str) -> Product:
    return Product(path=str(path), sha256=sha256(path), extname=extname)


def kelt20_flux(shared: Path) -> tuple[float, float]:
    """Return electrons per second within R25, and the gain [electron/ADU]."""
    instrument = shared / "real" / "instrument"
    formula = read_gain_formula(product(raw_file(instrument, "GainCorrection"), "REF_APP_GainCorrection"))
    curve = product(raw_file(instrument, "CCDLinearisation"), "REF_APP_CCDLinearisation100")
    boundary, coefficients, _ = read_curve(curve, 230_000)
    frame = raw_file(shared / "real" / "flight", "SCI_RAW_FullArray")
    with open_exposures(product(frame, "SCI_RAW_FullArray")) as raw:
        nothing = BiasReference(0.0, 0.0, 0.0, np.zeros((1024, 1024)), {})
        level, *_ = margin_levels(raw, nothing, 4.0)
        vod, vrd, vog, vss, temperature = (raw.metadata.column(n).astype(float) for n in HOUSEKEEPING)
        gain = gain_of(vod, vrd, vog, vss, temperature, formula)[0]
        adu = raw.image.image()
        seconds = raw.exposure_time
    image = linearise(((adu - level[0]) / gain).ravel(), boundary, coefficients).reshape(1, 1024, 1024)
    y, x = np.unravel_index(int(np.argmax(image[0])), (1024, 1024))
    place, ring = np.empty((1, 5)), np.empty((1, 4))
    centre = np.array([float(x)]), np.array([float(y)])
    ring_statistics(image, *centre, 45.0, 97.0, 3.0, ring)
    image -= ring[0, 1]
    centre_of_light(image, *centre, 25.0, 50, np.array([50.0]), place)
    sums, _ = aperture_sums(image, place[:, 0], place[:, 1], [25.0])
    return float(sums[0, 0]) / seconds, 1.0 / gain


def test_real_housekeeping_gives_the_gain_that_flight_products_show(shared: Path) -> None:
    # 1.946 electron/ADU follows from the RON of real light curves; its last digit is rounded
    assert abs(kelt20_flux(shared)[1] - 1.946) < 0.0006


def test_the_flux_of_kelt_20_is_that_of_the_operational_pipeline(shared: Path) -> None:
    # median of the operational light curve of the visit [electron/s]; no dark, flat and bias structure of that year are public,
    # which leaves 1 %
    assert abs(kelt20_flux(shared)[0] / 1.6278e6 - 1) < 0.01
