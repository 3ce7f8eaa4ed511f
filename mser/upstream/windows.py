"""Long recordings in windows that overlap, so that memory is bounded and no model sees more than it takes.

A window begins at a multiple of the upstream's frame step, so that its frames lie on the grid of the whole recording.
Two neighbours share ``overlap`` seconds; the first half of these frames is kept from the earlier window, the second
from the later one: every kept frame but those at the ends of the recording has heard at least half the overlap on
either side. The states are those of the windows, not of the whole recording; which recordings are concerned is seen
from the store's ``window``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mser.errors import ConfigError
from mser.upstream.base import Upstream

#: Seconds. Whisper takes no more than 30; emotional utterances are nearly always shorter.
WINDOW_SECONDS, OVERLAP_SECONDS = 30.0, 4.0


@dataclass(frozen=True)
class Piece:
    """A part of a recording that is run at once, and which of its frames are kept.

    Attributes:
        start, end: samples at the upstream's rate.
        skip: frames at its beginning that the window before has given.
        frames: frames kept.
    """

    start: int
    end: int
    skip: int
    frames: int

    @property
    def num_samples(self) -> int:
        return self.end - self.start


def pieces_of(num_samples: int, upstream: Upstream, window: float, overlap: float) -> tuple[Piece, ...]:
    """The windows of a recording; one where it fits whole, none where it is too short for a frame, or too long.

    Args:
        num_samples: at the upstream's rate.
        window, overlap: seconds; a window of 0 means whole, however long.
    """
    total, step = upstream.num_frames(num_samples), upstream.frame_samples
    rate = upstream.info.sample_rate
    size = int(window * rate) // step * step if step else 0
    if upstream.longest is not None:
        size = min(size, upstream.longest // step * step) if size else 0
    if total < 1 or (not size and upstream.longest is not None and num_samples > upstream.longest):
        return ()
    if not size or num_samples <= size:
        return (Piece(0, num_samples, 0, total),)
    # Frames that begin in a window and end behind it are left to the next one.
    beyond_end = max(0, size // step - upstream.num_frames(size))
    shared = max(min(int(overlap * rate), size // 2) // step, beyond_end) * step
    last = -(-(num_samples - size) // step) * step
    starts = [*range(0, last, size - shared), last]
    ends = [*(start + size for start in starts[:-1]), num_samples]
    middles = [(after + end) // 2 // step for after, end in zip(starts[1:], ends[:-1], strict=True)]
    cuts = [0, *(min(middle, end // step - beyond_end) for middle, end in zip(middles, ends, strict=False)), total]
    return tuple(
        Piece(start, end, first - start // step, beyond - first)
        for start, end, first, beyond in zip(starts, ends, cuts[:-1], cuts[1:], strict=True)
    )


def require_windows(window: float, overlap: float) -> None:
    """Raises ConfigError unless a window is at least a second and ``0 <= overlap <= window / 2``, or it is 0."""
    if window != 0 and not (1 <= window < math.inf and 0 <= overlap <= window / 2):
        raise ConfigError(
            "Windows must be at least a second long, and share at most half.",
            field="WINDOW, OVERLAP",
            expected="seconds: WINDOW of 1 or more (0: never cut), OVERLAP from 0 to half of it",
            found=f"{window:g}, {overlap:g}",
        )
