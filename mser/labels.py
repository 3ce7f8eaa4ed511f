"""The unified emotions and their positions in the valence-arousal plane."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mser.config import DATA_FOLDER, read_yaml


@dataclass(frozen=True)
class Label:
    """One unified emotion.

    Attributes:
        name: the label.
        valence: displeasure to pleasure, -1 to 1; None where the source has no position.
        arousal: sleepy to frantic, -1 to 1; None likewise.
    """

    name: str
    valence: float | None
    arousal: float | None


@lru_cache
def load_labels() -> dict[str, Label]:
    """Every unified emotion by name, from ``data_manifest/labels.yaml`` (which states its source)."""
    entries = read_yaml(DATA_FOLDER / "labels.yaml")
    return {name: Label(name, entry.get("valence"), entry.get("arousal")) for name, entry in entries.items()}
