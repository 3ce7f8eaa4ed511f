"""Fixtures of several test modules: tones, small corpora and their definitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from extract import plan
from mser.config import Workspace

# The tests run beside other work; a tensor of theirs is too small to gain from threads.
torch.set_num_threads(1)

#: That the commands of stage one read.
VARIABLES = (
    "MSER_HOME", "MSER_CORPORA", "MSER_DEFINITIONS", "UPSTREAMS", "DEVICE", "DTYPE", "LAYERS", "FRAMES", "POOLED",
    "WINDOW", "OVERLAP", "COMPUTE", "BATCHING", "SCHEDULER", "WORKERS", "WAIT", "RECOMPUTE", "REPLACE_CHANGED",
)  # fmt: skip

WriteTone = Callable[..., Path]

TINY_DEFINITION = """\
name: tiny
title: A corpus made by the tests
language: de
licence: none
citation: none
get: make it
pattern: '(?P<speaker>(?P<gender>[fm])\\d)/(?P<text_id>t\\d)_(?P<emotion>ang|neu|odd)'
emotions: {ang: anger, neu: neutral, odd: null}
genders: {f: female, m: male}
expected: {utterances: 8, speakers: 2, emotions: {anger: 4, neutral: 4}}
"""


def tone(frequency: float, seconds: float, rate: int, channels: int = 1, level: float = 0.25) -> np.ndarray:
    """A sine (frames, channels) float64; each further channel is half as loud."""
    sine = level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    return np.stack([sine / 2**channel for channel in range(channels)], axis=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests come first, so that no process is left with them alone at the end."""
    items.sort(key=lambda item: not item.path.stem.startswith("test_pipeline"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are no part of a test's name: those of an archive hold the time of day, and the processes must agree."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of some 60 frames, and none of the variables that stage one takes from the user's environment."""
    monkeypatch.setattr(plan, "SHARD_FRAMES", 60)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write_tone() -> WriteTone:
    """Writes a tone with soundfile: ``write_tone(path, frequency, seconds, rate, subtype)``."""

    def write(
        path: Path, frequency: float = 440.0, seconds: float = 0.2, rate: int = 16_000, subtype: str = "PCM_16"
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(frequency, seconds, rate), rate, subtype=subtype)
        return path

    return write


@pytest.fixture
def corpora(tmp_path: Path, write_tone: WriteTone) -> Path:
    """Folder with one corpus, ``tiny``: two speakers, four anger and four neutral recordings of 0.2 to 0.55 s."""
    folder = tmp_path / "corpora"
    for number, name in enumerate(f"{speaker}/t{text}_{emotion}" for speaker in ("f1", "m2") for text in (1, 2)
                                  for emotion in ("ang", "neu")):  # fmt: skip
        write_tone(folder / "tiny" / f"{name}.wav", 200.0 + 50 * number, 0.2 + 0.05 * number)
    return folder


@pytest.fixture
def definitions(tmp_path: Path) -> Path:
    """Folder with the definition of the corpus ``tiny``."""
    folder = tmp_path / "definitions"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY_DEFINITION, encoding="utf-8")
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work")
