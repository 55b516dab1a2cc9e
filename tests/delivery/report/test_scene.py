"""The model of the scene in one image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.payloads import CalibratedVisit, CorrectedVisit
from tasks.delivery.report.scene import scene_of
from tasks.engine.run import STEPS as REGISTERED
from tasks.visit.images import open_images
from tasks.visit.terms import term_column
from tests.support.runs import Bench


def test_the_model_of_the_scene_leaves_noise_and_knows_the_targets_light(reduced: Bench) -> None:
    (folder,) = reduced.published()
    leaf: dict[str, Any] = {}
    for entry in json.loads((folder / "manifest.json").read_text())["steps"]:
        for product in entry["payload"]["products"].values():
            (place,) = reduced.work.glob(
                f"products/*/{entry['step']}-{entry['key'][:8]}*/{Path(product['path']).name}"
            )
            product["path"] = str(place)
        leaf[entry["step"]] = REGISTERED[entry["step"]].payload.model_validate(entry["payload"])
    calibrated = CalibratedVisit.model_construct(bias=leaf["bias"], gain=leaf["gain"])
    names = ("prior", "psf", "pointing", "position", "stars", "look")
    names += ("background", "smearing", "defects")
    corrected = CorrectedVisit.model_construct(**{name: leaf[name] for name in names})
    with open_images(leaf["correct"].products["SCI_COR_SubArray"]) as images:
        scene = scene_of(calibrated, corrected, images, 2)
        assert scene is not None
        target, field_stars, pull = scene
        image = images.take(2)
    (flux,) = term_column(leaf["psf_fit"].product, "TERM_PSF_FIT", "FLUX")
    # the same fit of the same image; the wings beyond the stamp are some per mille
    assert target.sum() == pytest.approx(flux[2], rel=0.01)
    y, x = np.indices(image.shape)
    near = np.hypot(x - 99.5, y - 99.5) < 25
    # some 2000 pixels of unit variance, more where the PSF of twelve images is not known better
    # than that
    assert 0.7 < 1.4826 * np.median(np.abs(pull[near])) < 2.0
    assert abs((image - target - field_stars)[near].sum()) < 0.005 * image[near].sum()
    blind = corrected.model_copy(
        update={"psf": leaf["psf"].model_copy(update={"used": {"PSF_N": 2}})}
    )
    with open_images(leaf["correct"].products["SCI_COR_SubArray"]) as images:
        assert scene_of(calibrated, blind, images, 2) is None
