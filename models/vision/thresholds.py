"""When boxes become tracks, and how long these live; light enough for settings to import."""

from __future__ import annotations

import msgspec

GAP_S = 10.0  # after so long without a frame nobody knows what is what


class Tracking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores are the detector's.

    Raises:
        ValueError: the scores are not in that order between 0 and 1, or `lost_s` is not within `GAP_S`.
    """

    low_score: float = 0.1  # boxes from here on may go on with a track
    high_score: float = 0.3  # these come first
    new_score: float = 0.4  # from here on they may begin one
    lost_s: float = 2.0  # a track that has not been seen for longer ends

    def __post_init__(self) -> None:
        if not 0 <= self.low_score <= self.high_score <= self.new_score <= 1:
            raise ValueError(
                f"expected 0 <= low_score <= high_score <= new_score <= 1, got {self.low_score:g}, "
                f"{self.high_score:g} and {self.new_score:g}"
            )
        if not 0 <= self.lost_s <= GAP_S:
            raise ValueError(f"expected lost_s between 0 and {GAP_S:g}, got {self.lost_s:g}")
