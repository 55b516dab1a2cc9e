"""Type variables of steps and recipes."""

from __future__ import annotations

from typing import ParamSpec, TypeVar

from pydantic import BaseModel

from schemas.payloads import Leaf

P = ParamSpec("P")  # parameters of a step or recipe

L = TypeVar("L", bound=Leaf)  # payload of a step

R = TypeVar("R", bound=BaseModel)  # result of a recipe
