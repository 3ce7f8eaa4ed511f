"""Intensities of emotions on one scale: what corpora mean by the levels that they write."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mser.errors import ConfigError

#: A level that a corpus writes where it does not know one.
UNKNOWN = float("nan")
#: Intensities from 0 to 1 by level, in lower case: words, and the numbers of a scale of four.
LEVELS: Mapping[str, float] = MappingProxyType(
    {
        "": UNKNOWN, "unspecified": UNKNOWN, "unknown": UNKNOWN,
        "weak": 0.0, "low": 0.0, "normal": 0.5, "medium": 0.5, "moderate": 0.5, "strong": 1.0, "high": 1.0,
        "1": 0.0, "2": 1 / 3, "3": 2 / 3, "4": 1.0,
    }
)  # fmt: skip
#: What a corpus means otherwise, by the name of its definition; its words and numbers stand before :data:`LEVELS`.
CORPUS_LEVELS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "ravdess": {"01": 0.5, "02": 1.0},  # normal and strong
        "cremad": {"lo": 0.0, "md": 0.5, "hi": 1.0, "xx": UNKNOWN},
        "cafe": {"faible": 0.0, "fort": 1.0, "forte": 1.0},
        "baved": {"0": 0.0, "1": 0.5, "2": 1.0},  # low, normal and high
    }
)


def unified_intensity(level: str, corpus: str = "") -> float:
    """The intensity, 0 (weak) to 1 (strong), that a corpus means by a level; NaN where it means that none is known.

    >>> unified_intensity("Strong"), unified_intensity("2", "baved"), unified_intensity("unspecified")
    (1.0, 1.0, nan)

    Raises:
        ConfigError: the level is not known.
    """
    known = {**LEVELS, **CORPUS_LEVELS.get(corpus, {})}
    if level.strip().lower() not in known:
        raise ConfigError(
            f"The intensity {level!r} is on no known scale.",
            field="intensity",
            expected=", ".join(name for name in known if name),
            found=f"{level!r} in {corpus or 'a corpus'}",
            hint="give the auxiliary intensity the weight 0, or state what the level means in CORPUS_LEVELS",
        )
    return known[level.strip().lower()]
