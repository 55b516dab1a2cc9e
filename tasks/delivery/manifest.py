"""The manifest of a published folder: its files, the steps behind them, and their inputs."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from schemas import VERSION
from schemas.baseline import baseline
from schemas.manifest import MANIFEST_VERSION
from schemas.payloads import Inventory
from schemas.settings import PublicationSettings
from tasks.engine.keys import canonical, content
from tasks.engine.run import STEPS, StepReport
from tasks.engine.store import located
from tasks.files import disk

# packages whose version can change the numbers in a product
_PACKAGES = ("numpy", "scipy", "astropy", "numba", "pyerfa", "pydantic")


@dataclass(frozen=True)
class Content:
    """The result of a run, to be published; `reports` are those of its steps, in order."""

    inventory: Inventory
    reports: Sequence[StepReport]
    settings: Mapping[str, Any]
    warnings: Sequence[str]

    def identity(self) -> str:
        """Return a digest of everything that determines the bytes of the products."""
        names = {kind: Path(r.product.path).name for kind, r in self.inventory.references.items()}
        darks = [Path(r.product.path).name for r in self.inventory.dark_frames]
        leaves = [content(r.leaf) for r in self.reports]
        parts = [leaves, names, darks, self.publication.origin]
        return hashlib.sha256(canonical(parts).encode()).hexdigest()

    @property
    def publication(self) -> PublicationSettings:
        """The settings of the publication."""
        return PublicationSettings.model_validate(self.settings.get("publication", {}))

    def baseline(self) -> str:
        """Return the digest of software, references and settings."""
        chosen = [*self.inventory.references.values(), *self.inventory.dark_frames]
        return baseline(
            software(),
            {r.step: STEPS[r.step].version for r in self.reports},
            {f"{i} {r.kind}": r.product.sha256 for i, r in enumerate(chosen)},
            self.settings,
        )

    def reference_names(self) -> list[str]:
        """Return the reference file names for the keywords RF_FILn."""
        chosen = [*self.inventory.references.values(), *self.inventory.dark_frames]
        return sorted(Path(r.product.path).name for r in chosen)


@dataclass(frozen=True)
class Origin:
    """The step and product that a published file comes from; `key` is empty for pages."""

    step: str
    key: str
    product: str


def make_manifest(
    stage: Path, result: Content, files: Mapping[str, Origin], version: str, date: str
) -> dict[str, Any]:
    """Return the manifest of the files in `stage`; inputs are listed without their folders."""
    inventory = result.inventory
    return {
        "manifest": MANIFEST_VERSION,
        "visit": inventory.visit,
        "version": version,
        "identity": result.identity(),
        "published": date,
        "software": software(),
        "baseline": result.baseline(),
        "settings": dict(result.settings),
        "inventory": without_folders(inventory),
        "steps": [_step_entry(report) for report in result.reports],
        "files": [_file_entry(stage, name, origin) for name, origin in files.items()],
        "warnings": sorted(set(result.warnings)),
        "deviations": list(inventory.deviations),
        "notes": list(inventory.notes),
        "fallbacks": dict(inventory.fallbacks),
    }


def _step_entry(report: StepReport) -> dict[str, Any]:
    return {
        "step": report.step,
        "version": STEPS[report.step].version,
        "key": report.key,
        "outcome": report.outcome,
        "seconds": round(report.seconds, 3),
        "payload": located(report.leaf, lambda p: Path(p).name).model_dump(mode="json"),
    }


def _file_entry(stage: Path, name: str, origin: Origin) -> dict[str, Any]:
    path = stage / name
    return {
        "name": name,
        "sha256": disk.sha256(path),
        "bytes": disk.size(path),
        "step": origin.step,
        "key": origin.key,
        "product": origin.product,
    }


def software() -> dict[str, str]:
    """Return the versions of drp, Python, and the packages that can change the numbers."""
    packages = {name: metadata.version(name) for name in _PACKAGES}
    return {"drp": VERSION, "python": platform.python_version(), **packages}


def without_folders(inventory: Inventory) -> dict[str, Any]:
    """Return the inventory as JSON values, with every path reduced to its file name."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: Path(v).name if k == "path" and isinstance(v, str) else strip(v)
                for k, v in value.items()
            }
        return [strip(v) for v in value] if isinstance(value, list) else value

    return strip(inventory.model_dump(mode="json"))  # type: ignore[no-any-return]
