"""Recordings that say where each of their samples lies, an upstream that repeats it, and other helps of extraction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from mser.audio import pcm_sha256
from mser.manifest import Manifest, Utterance
from mser.upstream import Prepared, Upstream, UpstreamInfo

RATE = 16_000
#: Sample ``n`` of a recording made by ``ramp`` has the value ``(n + 1) / SCALE``, exactly.
SCALE = 2**22


class Ruler(Upstream):
    """States that tell where they come from: the first and last sample of a frame, and those of the whole input.

    Args:
        step, kernel: samples from a frame to the next, and of a frame.
        padded: frames are centred on their first sample, the input padded with zeros, as the acoustic upstreams do.
    """

    def __init__(self, step: int = 160, kernel: int = 400, padded: bool = False, longest: int | None = None) -> None:
        self.info = UpstreamInfo("ruler", "ruler", "ruler", "1", f"{step} {kernel}", 2, 4, RATE / step, RATE)
        self.frame_samples, self.kernel, self.padded, self.longest = step, kernel, padded, longest

    def num_frames(self, num_samples: int) -> int:
        if self.padded:
            return 1 + num_samples // self.frame_samples if num_samples >= self.kernel else 0
        return max(0, (num_samples - self.kernel) // self.frame_samples + 1)

    def prepare(self, waveform: Tensor) -> Prepared:
        self.require_fit(len(waveform))
        return Prepared(len(waveform), (waveform * SCALE).round())

    def run(self, batch: Sequence[Prepared]) -> list[Tensor]:
        found = []
        for one in batch:
            first = torch.arange(self.num_frames(one.num_samples)) * self.frame_samples
            last = (first + (0 if self.padded else self.kernel - 1)).clamp(max=one.num_samples - 1)
            first = first.clamp(max=one.num_samples - 1)
            ends = one.features[[0, -1]].expand(len(first), 2)
            states = torch.cat([torch.stack([one.features[first], one.features[last]], dim=1), ends], dim=1)
            found.append(torch.stack([states, -states]))
        return found


def ramp(num_samples: int) -> np.ndarray:
    return ((np.arange(num_samples) + 1) / SCALE).astype(np.float32)


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    """Noise whose every 10 ms have the mean 0, so that a window of whole hops has no other mean than the whole."""
    values = np.random.default_rng(seed).normal(0, 0.1, (-(-num_samples // 160), 160))
    return (values - values.mean(1, keepdims=True)).reshape(-1)[:num_samples].astype(np.float32)


def recorded(folder: Path, waveforms: Sequence[np.ndarray], corpus: str = "toy") -> Manifest:
    """Writes recordings into ``folder / corpus`` and gives their manifest."""
    (folder / corpus).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, waveform in enumerate(waveforms):
        name = f"u{number:03}"
        soundfile.write(folder / corpus / f"{name}.wav", waveform, RATE, subtype="FLOAT")
        sha256 = pcm_sha256(waveform[:, None], RATE)
        facts = (f"{name}.wav", f"s{number % 2}", "female", "anger", "anger", "", "")
        rows.append(Utterance(f"{corpus}/{name}", corpus, "de", *facts, len(waveform), RATE, sha256))
    return Manifest(corpus, "de", tuple(rows), "0" * 16)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("shard-*.h5")}


def leftovers(folder: Path) -> list[str]:
    """Files of a store's folder that are neither shards nor its description."""
    return sorted(
        path.name for path in folder.iterdir() if path.name != "store.json" and not path.name.startswith("shard-")
    )
