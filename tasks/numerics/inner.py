"""Kernels that are only called by kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def inner_njit(**options: Any) -> Callable[[F], F]:
    """Compile a kernel without entries from Python and C, which saves a tenth of a second each.

    Called from Python, it would end the process.
    """
    compiler: Any = njit  # its stubs do not know these options
    made = compiler(**options, no_cpython_wrapper=True, no_cfunc_wrapper=True)

    def decorate(kernel: F) -> F:
        compiled: F = made(kernel)
        return compiled

    return decorate
