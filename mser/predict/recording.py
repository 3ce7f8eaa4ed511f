"""A recording on its way to the upstreams: one channel, at the rate that each of them wants."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mser.audio import MIN_RATE, MIN_SECONDS, read_waveform, scan_pcm, to_waveform
from mser.errors import AudioError, ConfigError


class Recording:
    """A file, or samples in memory; decoded and resampled once for each rate that is asked for.

    Attributes:
        name: for messages and tables. seconds: its length. sample_rate: its own, in Hz.
        start: seconds at which it begins in the recording that it is a part of; 0 where it is a whole one.
    """

    def __init__(
        self, name: str, seconds: float, sample_rate: int, source: Path | np.ndarray, start: float = 0.0
    ) -> None:
        self.name, self.seconds, self.sample_rate, self.start = name, seconds, sample_rate, start
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
    def of_part(
        cls, path: Path, start: float | None = None, end: float | None = None, longest: float = math.inf
    ) -> Recording:
        """A part of a recording on the disk; memory holds one channel of it, and nothing of the rest.

        Args:
            start, end: seconds; the recording's own where not given. longest: seconds that the part may have.

        Raises:
            AudioError: as :meth:`of_file`, or the part is silent or too long. ConfigError: the recording has no such
                part, or it is too short.
        """
        info = scan_pcm(path)
        seconds = info.num_samples / info.sample_rate
        start, end = 0.0 if start is None else start, seconds if end is None else end
        # The last decimals of 12 - 11.9 are not those of 0.1.
        if not (start >= 0 and end - start > MIN_SECONDS - 1e-9 and end <= seconds):
            raise ConfigError(
                "The recording has no such part.",
                file=path,
                field="start, end",
                expected=f"{MIN_SECONDS} s or more, between 0 and {math.floor(1000 * seconds) / 1000:.3f} s",
                found=f"{start:g}, {end:g}",
                hint="give --start and --end in seconds of this recording",
            )
        require_length(str(path), end - start, longest)
        mono, _ = read_waveform(path, info.sample_rate, start, end)
        found = cls.of_samples(mono, info.sample_rate, str(path))
        found.start = start
        return found

    @classmethod
    def of_samples(cls, waveform: Tensor | np.ndarray, sample_rate: int, name: str = "waveform") -> Recording:
        """Floating-point samples in [-1, 1], (samples,) or (samples, channels).

        Raises:
            AudioError: they are integers, there are too few samples, all of them are zero, some are not finite, or the
                rate is too low.
        """
        samples = np.asarray(waveform)
        if samples.dtype.kind != "f":
            raise _no_floats(name, samples.dtype)
        samples = samples.astype(np.float32, copy=False)
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
        return Recording(self.name, self.seconds, self.sample_rate, mono, self.start)


def require_length(name: str, seconds: float, longest: float) -> None:
    """Raises AudioError where a recording, or a part of it, is longer than what was asked for can be done with."""
    if seconds > longest:
        raise AudioError(
            f"{name} is too long.",
            field="length",
            expected=f"at most {longest:g} s",
            found=f"{seconds:.1f} s",
            hint="choose a part of it with --start and --end (Recording.of_part)",
        )


def _no_floats(name: str, dtype: np.dtype) -> AudioError:
    """The error of samples that are no floating-point numbers: taken as they are, speech would be a roar."""
    hint = "divide them by the largest value of the format they were recorded in: 32768 for 16 bits"
    if dtype.kind == "i" and dtype.itemsize <= 2:
        hint = f"divide them by {-int(np.iinfo(dtype).min)}"
    elif dtype.kind == "u":
        middle = int(np.iinfo(dtype).max) // 2 + 1
        hint = f"subtract {middle}, then divide by {middle}"
    return AudioError(
        f"{name} holds no floating-point samples.",
        field="waveform",
        expected="floating-point samples in [-1, 1]",
        found=dtype,
        hint=hint,
    )


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
