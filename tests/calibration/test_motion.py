"""Places of imagettes in the sub-array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.errors import BadInputError
from tasks.calibration.motion import imagette_corners


class Opened:
    """Opened images of a size, at places on the CCD."""

    def __init__(self, shape: tuple[int, int], x: list[int], y: list[int]) -> None:
        self.shape, self.x_offset, self.y_offset = shape, x[0], y[0]
        self.columns = {"X_OFF_FULL_ARRAY": np.array(x), "Y_OFF_FULL_ARRAY": np.array(y)}
        self.metadata = self.image = self

    def column(self, name: str) -> Any:
        return self.columns[name]

    def refuse(self, reason: str) -> BadInputError:
        return BadInputError(reason)


STACKS: Any = Opened((200, 200), [412], [400])


def test_imagettes_outside_of_the_sub_array_are_marked_and_moved_to_its_edge() -> None:
    x, y = [494, 412, 577, 578, 411, 494, 65535], [482, 400, 565, 482, 482, -1, 482]
    small: Any = Opened((35, 35), x, y)
    corners = imagette_corners(small, STACKS)
    assert corners.outside.tolist() == [False, False, False, True, True, True, True]
    assert corners.x.tolist() == [82, 0, 165, 165, 0, 82, 165]
    assert corners.y.tolist() == [82, 0, 165, 82, 82, 0, 82]


def test_imagettes_larger_than_the_sub_array_are_refused() -> None:
    large: Any = Opened((35, 201), [412], [400])
    with pytest.raises(BadInputError, match="imagettes of 201 x 35 pixels, larger than"):
        imagette_corners(large, STACKS)
