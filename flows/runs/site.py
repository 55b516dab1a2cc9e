"""The site's settings: the file that DRP_SETTINGS names, below those of a request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import ConfigurationError
from schemas.payloads import Payload, Scalar
from schemas.requests import make_settings
from schemas.settings import PipelineSettings
from tasks.files.toml import read_toml

VARIABLE = "DRP_SETTINGS"


class SettingInForce(Payload):
    """A setting: its value, where the value comes from, and the default."""

    setting: str
    value: Scalar | tuple[float, ...] | None
    source: str  # --set, a file, or default
    default: Scalar | tuple[float, ...] | None
    meaning: str

    @property
    def changed(self) -> bool:
        """Whether the value was chosen by someone."""
        return self.source != "default"


def site_settings() -> dict[str, Any]:
    """Return the settings of the site's file, nested; empty without one.

    Raises
    ------
    ConfigurationError
        If DRP_SETTINGS names a file that cannot be used, or one with an invalid setting.
    """
    if not (name := os.environ.get(VARIABLE)):
        return {}
    path = Path(name)
    try:
        settings = read_toml(path)
        make_settings(settings)
    except ConfigurationError as error:
        raise ConfigurationError(f"{VARIABLE}, {path}: {error}") from error
    return settings


def merge_settings(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings, those of `base` overridden by `changes`."""
    both = {k for k in base if isinstance(base[k], dict) and isinstance(changes.get(k), dict)}
    return {**base, **changes, **{k: {**base[k], **changes[k]} for k in both}}


def settings_in_force(
    of_file: Mapping[str, Any], assigned: Mapping[str, Any], file: Path | None
) -> list[SettingInForce]:
    """Return all settings with their sources.

    Parameters
    ----------
    of_file, assigned : mapping
        Nested settings of the file of `--settings` and of `--set`.
    file : Path or None
        That file.

    Raises
    ------
    ConfigurationError
        If a name is unknown, or a value invalid.
    """
    site = site_settings()
    layers = (("--set", assigned), (str(file), of_file), (os.environ.get(VARIABLE, ""), site))
    merged = merge_settings(merge_settings(site, of_file), assigned)
    values, defaults = make_settings(merged).model_dump(), PipelineSettings().model_dump()
    return [
        SettingInForce(
            setting=f"{section}.{name}",
            value=values[section][name],
            source=next((s for s, layer in layers if name in layer.get(section, {})), "default"),
            default=defaults[section][name],
            meaning=field.description or "",
        )
        for section, group in PipelineSettings.model_fields.items()
        for name, field in type(group.default).model_fields.items()
    ]
