"""The length of a resampled recording, and resampling between rates that have no small common measure."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

#: torchaudio's resampler: zero crossings on each side, and the share of the band that is kept.
ZERO_CROSSINGS, ROLLOFF = 6, 0.99
#: Weights computed at a time: 8 MiB as float64.
BLOCK_WEIGHTS = 2**20


def resampled_length(num_samples: int, sample_rate: int, target_rate: int) -> int:
    """Samples that :func:`mser.audio.to_waveform` returns: ceil(num_samples * target_rate / sample_rate).

    torchaudio takes the quotient in float32, so it may lose the last sample of a long recording; so does this.
    """
    if sample_rate == target_rate:
        return num_samples
    common = math.gcd(sample_rate, target_rate)
    quotient = target_rate // common * num_samples / (sample_rate // common)
    return math.ceil(float(np.float32(quotient)))


def resample_without_table(mono: Tensor, sample_rate: int, target_rate: int) -> Tensor:
    """torchaudio's resampling with each weight computed where it is needed, for rates with no small common measure.

    Output sample m lies at t = m * sample_rate / target_rate of the input. With c the band that is kept in cycles a
    sample, it is the sum over inputs i within the window, |2 c (i - t)| < Z, of
    x[i] * 2 c * sinc(2 c (i - t)) * cos(pi c (i - t) / Z) ** 2, where Z is ``ZERO_CROSSINGS``.
    """
    length = resampled_length(len(mono), sample_rate, target_rate)
    band = min(sample_rate, target_rate) * ROLLOFF / sample_rate
    reach = math.ceil(ZERO_CROSSINGS / band)
    taps = torch.arange(-reach, reach + 2)
    padded = torch.nn.functional.pad(mono, (reach, reach + 2))
    parts = []
    for outputs in torch.arange(length).split(max(1, BLOCK_WEIGHTS // len(taps))):
        # Whole numbers: as a float, the place of a late sample would lose its fraction.
        whole = outputs * sample_rate // target_rate
        fraction = (outputs * sample_rate % target_rate).double() / target_rate
        distance = ((taps - fraction[:, None]) * band).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
        weights = band * torch.sinc(distance) * torch.cos(distance * torch.pi / ZERO_CROSSINGS / 2) ** 2
        parts.append((padded[whole[:, None] + taps + reach] * weights).sum(dim=1).float())
    return torch.cat(parts)
