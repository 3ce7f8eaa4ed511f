"""Recordings for the benchmarks: some of a real corpus, or synthetic ones that differ along time as speech does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from extract.manifest import scan
from mser.audio import read_waveform
from mser.corpora import CorpusDefinition, load_definitions
from mser.manifest import Manifest

SAMPLE_RATE = 16_000
#: Of the corpora that the benchmarks make themselves.
DEFINITION = CorpusDefinition(
    name="bench",
    title="Recordings made by a benchmark",
    language="de",
    licence="none",
    citation="none",
    get="it is made by the benchmark",
    emotions={"neutral": "neutral"},
    pattern=r"(?P<speaker>s\d)_(?P<text_id>\d+)_(?P<emotion>neutral)",
)


def buzz(seconds: float, seed: int) -> np.ndarray:
    """A voice-like tone of changing pitch in noise, in syllables: (samples,) float32."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = np.cumsum(2 * np.pi * (130 + 40 * np.sin(3 * t + seed)) / SAMPLE_RATE)
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    noise = 0.005 * np.random.default_rng(seed).standard_normal(len(t))
    return (0.1 * voice * np.sin(9 * t) ** 2 + noise).astype(np.float32)


def synthetic(corpora: Path, lengths: Sequence[float]) -> Manifest:
    """Makes a corpus of buzzes of these lengths in seconds below ``corpora``, and lists it."""
    for number, seconds in enumerate(lengths):
        write(corpora, number, buzz(seconds, number))
    return scan(DEFINITION, corpora).manifest


def lengths_between(count: int, shortest: float, longest: float) -> list[float]:
    return np.random.default_rng(0).uniform(shortest, longest, count).tolist()


def tiled(corpora: Path, minutes: float, source: Path, manifest: Manifest) -> Manifest:
    """Makes a corpus of one recording: those of ``manifest`` (in the folder ``source``), joined and repeated."""
    wanted, parts, length = round(minutes * 60 * SAMPLE_RATE), [], 0
    while length < wanted:
        for row in manifest.utterances:
            parts.append(read_waveform(source / row.path, SAMPLE_RATE)[0].numpy())
            length += len(parts[-1])
            if length >= wanted:
                break
    write(corpora, 0, np.concatenate(parts)[:wanted])
    return scan(DEFINITION, corpora).manifest


def write(corpora: Path, number: int, samples: np.ndarray) -> None:
    folder = corpora / DEFINITION.name
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"s{number % 4}_{number:05}_neutral.wav", samples, SAMPLE_RATE, subtype="PCM_16")


def real(corpora: Path, corpus: str) -> Manifest:
    """The manifest of a corpus of the project's definitions."""
    return scan(load_definitions()[corpus], corpora).manifest


def some_of(manifest: Manifest, count: int) -> Manifest:
    """``count`` utterances, spread evenly over the manifest."""
    places = np.unique(np.linspace(0, len(manifest.utterances) - 1, min(count, len(manifest.utterances))).astype(int))
    return replace(manifest, utterances=tuple(manifest.utterances[place] for place in places))


def seconds_of(manifest: Manifest) -> float:
    return sum(row.seconds for row in manifest.utterances)
