"""Keys of steps: SHA-256 of name, version, declared structure of the products, and content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pydantic import BaseModel

from schemas.payloads import Payload, Product


def canonical(value: object) -> str:
    """Return `value` as JSON with sorted keys and no space, so that equal content is equal text.

    NaN is a ValueError.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def content(value: object) -> object:
    """Return an argument of a step as plain values.

    A product is its EXTNAME and digest, never its path; other payloads choose their fields. An
    argument without content is a TypeError.
    """
    if isinstance(value, Product):
        return {"extname": value.extname, "sha256": value.sha256}
    if isinstance(value, BaseModel):
        names = value.keyed_fields() if isinstance(value, Payload) else type(value).model_fields
        fields = {name: content(getattr(value, name)) for name in names}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: content(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [content(v) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} cannot be part of a key")


def make_key(
    step: str, version: str, declared: Mapping[str, str], arguments: Mapping[str, object]
) -> str:
    """Return the key of a step for these arguments: 64 hexadecimal digits.

    `declared` holds the digests of the structures that the step writes, by EXTNAME.
    """
    return sha256_of(
        {
            "step": step,
            "version": version,
            "declared": dict(declared),
            "arguments": {k: content(v) for k, v in arguments.items()},
        }
    )


def sha256_of(value: object) -> str:
    """Return the digest of a value in canonical JSON."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()
