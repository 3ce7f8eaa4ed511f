"""A run folder as training leaves it, made in a moment: random weights on acoustic upstreams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mser.checkpoint import save_model
from mser.model import Domain, MultiGateModel, Prior
from mser.model import ExpertShape as Shape
from mser.nas.genotype import POOLED_SPACE, fixed_genotype
from mser.store import Provenance
from mser.upstream import load_upstream

RATE = 16_000
EMOTIONS = ("anger", "joy", "sadness")


def tones(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A recording of a wavering tone and noise: (samples,) float32."""
    times = np.arange(round(seconds * rate)) / rate
    tone = 0.2 * np.sin(2 * np.pi * 150 * (1 + 0.2 * np.sin(times)) * times)
    return (tone + 0.02 * np.random.default_rng(seed).normal(size=len(times))).astype(np.float32)


def write_tones(path: Path, seconds: float, rate: int = RATE) -> Path:
    soundfile.write(path, tones(seconds, rate), rate)
    return path


def save_toy_run(
    folder: Path,
    languages: Sequence[str] = ("de", "it"),
    upstreams: Sequence[str] = ("prosody", "mfcc"),
    temperature: float | None = 2.0,
    seed: int = 0,
) -> Path:
    """A run with one model file a language, of random weights; returns its folder."""
    torch.manual_seed(seed)
    provenances = {}
    for name in upstreams:
        info = asdict(load_upstream(name, torch.device("cpu")).info)
        provenances[name] = Provenance("toy", info, window=30.0, overlap=4.0)
    shapes = [Shape(name, one.upstream["layers"], one.upstream["dim"] * 2) for name, one in provenances.items()]
    standard = {
        one.name: (torch.full((one.layers, one.dim), 1.0), torch.full((one.layers, one.dim), 0.01)) for one in shapes
    }
    prior = replace(Prior.uniform(shapes), standard=standard)
    genotype = fixed_genotype(tuple(upstreams), POOLED_SPACE)
    for language in languages:
        model = MultiGateModel([Domain(language, EMOTIONS, genotype, prior)], shapes)
        facts = {
            "method": "fixed",
            "features": {"kind": "pooled", "frame_rate": 5.0},
            "stores": {language: {name: asdict(one) for name, one in provenances.items()}},
            "temperature": {} if temperature is None else {language: temperature},
        }
        save_model(folder / f"model-{language}.safetensors", model, facts)
    return folder


def save_two_runs(home: Path) -> Path:
    """A workspace without stores: a run of two languages, and one of a single language that was not calibrated."""
    save_toy_run(home / "runs" / "two")
    save_toy_run(home / "runs" / "raw", languages=("ur",), temperature=None, seed=1)
    return home


def alone_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a folder the current one, and takes away the variables that commands on runs read."""
    for name in ("RUN", "UPSTREAMS", "DEVICE", "MSER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder
