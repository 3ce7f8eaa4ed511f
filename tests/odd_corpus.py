"""A corpus of odd recordings: its definition, the containers they come in, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from extract.manifest import Scan
from mser.audio import read_pcm, read_waveform, scan_pcm
from mser.corpora import CorpusDefinition
from mser.errors import AudioError

RATE = 16_000
CORPUS = CorpusDefinition(
    name="odd", title="t", language="de", licence="l", citation="c", get="g",
    emotions={"ang": "anger", "neu": "neutral"}, folders=("speaker", "emotion"),
)  # fmt: skip
# suffix, format, subtype, byte order of what libsndfile writes
CONTAINERS = [
    ("wav", "WAV", "PCM_16", "FILE"),
    ("wav", "WAV", "PCM_24", "FILE"),
    ("wav", "WAV", "FLOAT", "FILE"),
    ("wav", "WAV", "PCM_16", "BIG"),
    ("wav", "WAV", "ULAW", "FILE"),
    ("wav", "WAV", "IMA_ADPCM", "FILE"),
    ("wav", "WAV", "GSM610", "FILE"),
    ("wav", "WAVEX", "PCM_16", "FILE"),
    ("rf64", "RF64", "PCM_16", "FILE"),
    ("w64", "W64", "PCM_16", "FILE"),
    ("aiff", "AIFF", "PCM_16", "FILE"),
    ("aifc", "AIFF", "FLOAT", "FILE"),
    ("au", "AU", "PCM_16", "FILE"),
    ("caf", "CAF", "PCM_16", "FILE"),
    ("sph", "NIST", "PCM_16", "FILE"),
    ("voc", "VOC", "PCM_16", "FILE"),
    ("flac", "FLAC", "PCM_16", "FILE"),
    ("flac", "FLAC", "PCM_24", "FILE"),
    ("mp3", "MP3", "MPEG_LAYER_III", "FILE"),
    ("ogg", "OGG", "VORBIS", "FILE"),
    ("opus", "OGG", "OPUS", "FILE"),
]


def noise(frames: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, channels))


def put(path: Path, samples: np.ndarray | None = None, rate: int = RATE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(RATE // 2) if samples is None else samples, rate, **options)
    return path


def reasons(found: Scan) -> dict[str, str]:
    return {item.path: item.reason for item in found.rejected}


def refusal(path: Path) -> str:
    """The reason for which all three ways of reading refuse a recording."""
    said = set()
    for read in (read_pcm, scan_pcm, lambda path: read_waveform(path, RATE)):
        with pytest.raises(AudioError) as error:
            read(path)
        assert error.value.file == path
        said.add(error.value.what)
    assert len(said) == 1
    return said.pop()


def healthy(folder: Path) -> Path:
    """The folder of the corpus ``odd`` with one healthy recording, ``s1/ang/good.wav``."""
    put(folder / "odd" / "s1" / "ang" / "good.wav", noise(RATE, seed=99))
    return folder / "odd"
