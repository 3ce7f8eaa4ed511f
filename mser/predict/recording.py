"""A recording on its way to the upstreams: one channel, at the rate that each of them wants."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mser.audio import MIN_RATE, MIN_SECONDS, read_waveform, scan_pcm, to_waveform
from mser.errors import AudioError


class Recording:
    """A file, or samples in memory; decoded and resampled once for each rate that is asked for.

    Attributes:
        name: for messages and tables. seconds: its length. sample_rate: its own, in Hz.
    """

    def __init__(self, name: str, seconds: float, sample_rate: int, source: Path | np.ndarray) -> None:
        self.name, self.seconds, self.sample_rate = name, seconds, sample_rate
        self._source = source
        self._resampled: dict[int, Tensor] = {}

    @classmethod
    def of_file(cls, path: Path, name: str = "", longest: float = math.inf) -> Recording:
        """A recording on the disk, decoded as the extraction does.

        Args:
            longest: seconds; no more of it is decoded.

        Raises:
            AudioError: it cannot be decoded as a whole, is silent, too short, too long, or of a rate that cannot be
                used.
        """
        info = scan_pcm(path, longest)
        return cls(name or str(path), info.num_samples / info.sample_rate, info.sample_rate, path)

    @classmethod
    def of_samples(cls, waveform: Tensor | np.ndarray, sample_rate: int, name: str = "waveform") -> Recording:
        """Samples in [-1, 1], (samples,) or (samples, channels).

        Raises:
            AudioError: there are too few samples, all of them are zero, some are not finite, or the rate is too low.
        """
        samples = np.asarray(waveform, dtype=np.float32)
        if samples.ndim == 1:
            samples = samples[:, None]
        trouble = _trouble(samples, sample_rate)
        if trouble:
            raise AudioError(f"{name} {trouble}")
        return cls(name, len(samples) / sample_rate, sample_rate, samples)

    def at(self, rate: int) -> Tensor:
        """One channel at a rate: (samples,) float32.

        Args:
            rate: Hz.
        """
        if rate not in self._resampled:
            if isinstance(self._source, Path):
                self._resampled[rate] = read_waveform(self._source, rate)[0]
            else:
                self._resampled[rate] = to_waveform(self._source, self.sample_rate, rate)
        return self._resampled[rate]

    def in_memory(self) -> Recording:
        """The same, to the bit at any rate, without its file."""
        mono = self.at(self.sample_rate).numpy()[:, None]
        return Recording(self.name, self.seconds, self.sample_rate, mono)


def _trouble(samples: np.ndarray, sample_rate: int) -> str:
    """Why samples (frames, channels) cannot be used; empty where they can."""
    if samples.ndim != 2 or samples.shape[1] == 0:
        return f"has the shape {samples.shape}: (samples,) or (samples, channels) is needed"
    if sample_rate < MIN_RATE:
        return f"has a sample rate of {sample_rate} Hz: at least {MIN_RATE} Hz are needed"
    if len(samples) < MIN_SECONDS * sample_rate:
        return f"is too short: {len(samples) / sample_rate:.3g} s, and at least {MIN_SECONDS} s are needed"
    if not np.isfinite(samples).all():
        return "holds samples that are NaN or infinite"
    if not torch.from_numpy(samples.mean(1)).any():
        return "is silent: every sample is zero"
    return ""
