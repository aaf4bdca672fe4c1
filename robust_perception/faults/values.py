"""Values as a sensor can give them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def counts(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Brightness as an 8-bit camera gives it: rounded, and no more than black and white."""
    brightness: npt.NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return brightness
