"""Decoding and resampling of recordings: the only module that reads audio."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional
from torch import Tensor

from mser.errors import AudioError

#: Suffixes of the containers libsndfile reads.
SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in [
        "wav",
        "wave",
        "flac",
        "ogg",
        "oga",
        "opus",
        "mp3",
        "aif",
        "aiff",
        "aifc",
        "au",
        "snd",
        "caf",
        "w64",
        "rf64",
        "sph",
        "nist",
        "voc",
    ]
)


def read_pcm(path: Path) -> tuple[np.ndarray, int]:
    """Decodes a recording.

    Returns:
        Samples (frames, channels) float32, full scale 1, and the sample rate in Hz.

    Raises:
        AudioError: it cannot be opened or decoded, is empty, silent, or has non-finite samples.
    """
    try:
        samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"cannot be decoded: {error}", file=path) from error
    if not len(samples):
        raise AudioError("holds no samples", file=path)
    if not np.isfinite(samples).all():
        raise AudioError("holds samples that are NaN or infinite", file=path)
    if not samples.any():
        raise AudioError("is silent: every sample is zero", file=path)
    return samples, int(sample_rate)


def pcm_sha256(samples: np.ndarray, sample_rate: int) -> str:
    """Hash of the decoded recording, the same for lossless copies in other containers.

    Args:
        samples: (frames, channels) float32.
    """
    head = f"{sample_rate} {samples.shape[1]} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(samples).tobytes()).hexdigest()


def to_waveform(samples: np.ndarray, sample_rate: int, target_rate: int) -> Tensor:
    """Mixes the channels (mean) and resamples (windowed sinc, ``torchaudio``).

    Args:
        samples: (frames, channels) float32.
        sample_rate, target_rate: Hz.

    Returns:
        (resampled_length(frames, sample_rate, target_rate),) float32.
    """
    mono = torch.from_numpy(np.ascontiguousarray(samples.mean(axis=1)))
    return torchaudio.functional.resample(mono, sample_rate, target_rate)


def resampled_length(num_samples: int, sample_rate: int, target_rate: int) -> int:
    """Samples that :func:`to_waveform` returns: ceil(num_samples * target_rate / sample_rate).

    torchaudio takes the quotient in float32, so it may lose the last sample of a long recording; so does this.
    """
    if sample_rate == target_rate:
        return num_samples
    common = math.gcd(sample_rate, target_rate)
    quotient = target_rate // common * num_samples / (sample_rate // common)
    return math.ceil(float(np.float32(quotient)))
