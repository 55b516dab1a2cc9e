"""The real full frame of KELT-20 against the flux of the operational pipeline.

It is calibrated with the real gain and linearity.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from schemas.inputs import HOUSEKEEPING
from schemas.payloads import Product
from tasks.calibration.bias import BiasReference, margin_levels
from tasks.calibration.gain import gain_of, read_gain_formula
from tasks.calibration.linearity import read_curve
from tasks.files.disk import sha256
from tasks.numerics.robust import ring_statistics
from tasks.photometry.apertures import aperture_sums
from tasks.scene.position import centre_of_light
from tasks.visit.linearity_curve import linearise
from tasks.visit.raw import open_exposures
from tests.conftest import raw_file


def product(path: Path, extname: str) -> Product:
    return Product(path=str(path), sha256=sha256(path), extname=extname)


def kelt20_flux(shared: Path) -> tuple[dict[str, float], float]:
    """Return electrons per second in R25 after each step, and the gain [electron/ADU]."""
    instrument = shared / "real" / "instrument"
    formula = read_gain_formula(
        product(raw_file(instrument, "GainCorrection"), "REF_APP_GainCorrection")
    )
    curve = product(raw_file(instrument, "CCDLinearisation"), "REF_APP_CCDLinearisation100")
    linearity, _ = read_curve(curve, 230_000)
    frame = raw_file(shared / "real" / "flight", "SCI_RAW_FullArray")
    with open_exposures(product(frame, "SCI_RAW_FullArray")) as raw:
        nothing = BiasReference(565.8, 0.0, 7.2, np.zeros((1024, 1024)), {})
        level, *_ = margin_levels(raw, nothing, 4.0)
        vod, vrd, vog, vss, temperature = (
            raw.metadata.column(n).astype(float) for n in HOUSEKEEPING
        )
        gain = gain_of(vod, vrd, vog, vss, temperature, formula)[0]
        adu = raw.image.image()
        seconds = raw.exposure_time
    linear = linearise(((adu - level[0]) / gain).ravel(), *linearity).reshape(1, 1024, 1024)
    y, x = np.unravel_index(int(np.argmax(linear[0])), (1024, 1024))
    place, ring = np.empty((1, 5)), np.empty((1, 4))
    centre = np.array([float(x)]), np.array([float(y)])
    ring_statistics(linear, *centre, 45.0, 97.0, 3.0, ring)
    star = linear - ring[0, 1]
    centre_of_light(star, *centre, 25.0, 50, np.array([50.0]), place)
    images = {
        "raw": adu / gain,
        "bias": (adu - level[0]) / gain,
        "linear": linear[0],
        "ring": star[0],
    }
    fluxes = {}
    for step, image in images.items():
        sums, _ = aperture_sums(np.ascontiguousarray(image[None]), place[:, 0], place[:, 1], [25.0])
        fluxes[step] = float(sums[0, 0]) / seconds
    return fluxes, 1.0 / gain


def test_real_housekeeping_gives_the_gain_of_flight_products(shared: Path) -> None:
    # 1.946 electron/ADU follows from the RON of real light curves; its last digit is rounded
    assert abs(kelt20_flux(shared)[1] - 1.946) < 0.0006


def test_the_flux_of_kelt_20_is_that_of_the_operational_pipeline(shared: Path) -> None:
    # Median of the operational light curve of the visit [electron/s]. No dark frame, flat field and
    # bias structure of that year are public: the 0.3 % allow for the flat field at the star's
    # position and temperature (0.2 % are measured).
    fluxes, _ = kelt20_flux(shared)
    over = {step: flux / 1.6278e6 - 1 for step, flux in fluxes.items()}
    assert abs(over["ring"]) < 0.003
    # every step reduces the excess
    assert over["raw"] > 0.12
    assert over["raw"] - over["bias"] > 0.10
    assert 0.003 < over["bias"] - over["linear"] < 0.005
    assert 0.01 < over["linear"] - over["ring"] < 0.02
