"""Types of arrays, by what their elements are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

AnyArray = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
BytesArray = npt.NDArray[np.bytes_]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]
IntArray = npt.NDArray[np.int64]
UByteArray = npt.NDArray[np.uint8]
Complex64Array = npt.NDArray[np.complex64]
ComplexArray = npt.NDArray[np.complex128]
WordArray = npt.NDArray[np.uint32]
