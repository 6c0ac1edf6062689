"""Pictures to JPEG, as cameras write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def encode_jpeg(pixels: NDArray[np.uint8], quality: int = 85) -> bytes:
    """Encode uint8 [h, w, 3], blue, green, red, with half the colour resolution.

    Raises:
        ValueError: `quality` is not from 1 to 100.
    """
    import numpy as np
    import simplejpeg

    if not 1 <= quality <= 100:
        raise ValueError(f"encoding a JPEG: expected `quality` from 1 to 100, got {quality}")

    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "BGR", "420")
    return encoded
