"""Dropout without a random state: each decision follows from seed, step, utterance and place alone.

A training that is stopped and resumed, that runs beside others as one program, or whose batches are cut or padded
otherwise drops the same values. The numbers are those of an integer hash, so they are the same on every device.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: An odd number near 2^32 / the golden ratio: neighbouring indices land far apart (Knuth, TAOCP 3, section 6.4).
GOLDEN = -0x61C88647
#: Odd multipliers, of a 32-bit mixing function of low bias (Wellons, hash prospector).
FIRST, SECOND = 0x7FEB352D, -0x7B935975
#: As a tensor, since a Python number would be converted anew in every operation.
SHIFT = torch.tensor(15, dtype=torch.int32)


class Noise(NamedTuple):
    """What the random decisions of one training step depend on.

    Attributes:
        keys: (B,) int32, one for each utterance of the batch. seed, step: () int32.
    """

    keys: Tensor
    seed: Tensor
    step: Tensor

    @classmethod
    def of(cls, seed: Tensor, step: Tensor, rows: Tensor) -> Noise:
        """Of a step: seed () and step () int32, rows (B,) int32: which utterances the batch holds."""
        return cls(mixed(mixed(mixed(seed * GOLDEN) ^ step) ^ rows), seed, step)


def mixed(x: Tensor) -> Tensor:
    """Scatters int32 numbers: numbers that differ in one bit differ in half of the bits of the results."""
    x = x * FIRST
    x = (x ^ (x >> SHIFT)) * SECOND
    return (x ^ (x >> SHIFT)) * FIRST


#: Place and device -> the longest that was asked for; shorter ones are its beginning. A batch of another length must
#: not hash anew, on the host, and wait for a copy to the device.
_offsets: dict[tuple[int, torch.device], Tensor] = {}


def offsets(place: int, count: int, device: torch.device) -> Tensor:
    """(``count``,) int32: a number for each value of a place, the same in every step."""
    held = _offsets.get((place, device))
    if held is None or len(held) < count:
        with torch.inference_mode(False):
            numbers = torch.arange(max(count, 2 * len(held) if held is not None else 0), dtype=torch.int32)
            held = mixed(mixed(numbers * GOLDEN) ^ ((place * 0x9E3779 + 1) & 0x7FFFFFFF)).to(device)
        _offsets[place, device] = held
    return held[:count]


def random_numbers(noise: Noise, place: int, count: int) -> Tensor:
    """(B, ``count``) int32, uniform over all of them; ``place`` keeps the decisions of one step apart."""
    x = (noise.keys[:, None] ^ offsets(place, count, noise.keys.device)) * SECOND
    return (x ^ (x >> SHIFT)) * FIRST


def uniform(noise: Noise, place: int, count: int) -> Tensor:
    """(B, ``count``) float32 in [0, 1]."""
    return random_numbers(noise, place, count).float() * 2.0**-32 + 0.5


class Dropout(nn.Module):
    """Zeroes values with probability p and scales the others by 1 / (1 - p) (Srivastava et al. 2014).

    Without noise it hands its input on. The place is given by :func:`number_places`.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"expected a probability from 0 to below 1, found {p}")
        self.p = p
        self.threshold = round(p * 2**32) - 2**31
        self.place: int = 0

    def forward(self, x: Tensor, noise: Noise | None) -> Tensor:
        """(B, ...) -> the same shape; a value's fate depends on its place in its row, not on padding behind it."""
        if noise is None or not self.p:
            return x
        kept = random_numbers(noise, self.place, math.prod(x.shape[1:])) >= self.threshold
        # One product forward and one backward: a choice beside a product takes three times as long.
        return x * (kept.view(x.shape) * (1 / (1 - self.p)))


def number_places(model: nn.Module) -> None:
    """Gives each module that makes noise a place of its own, in the order of the model's modules."""
    for place, module in enumerate(one for one in model.modules() if hasattr(one, "place")):
        setattr(module, "place", place)  # noqa: B010 - a module's type knows nothing of its places
