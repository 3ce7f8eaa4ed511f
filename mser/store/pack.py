"""From a model's states to what is stored of them, on the device that computed them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mser.errors import StoreError
from mser.store.provenance import Provenance

#: Integers of int8 lie in -LARGEST..LARGEST, so that zero stays zero and signs are alike.
LARGEST_INTEGER = 127


@dataclass(frozen=True)
class Packed:
    """One piece of an utterance as it is stored.

    Attributes:
        count: T, frames of the piece.
        frames: (L, T, D) in the store's dtype; None where frames are not kept.
        scale: (L, D) float32 with int8, else None.
        pooled: (L, S, D) float32: mean and deviation over the piece's frames; None where they are not kept.
        largest: (L,) float32: largest absolute value before the cast; NaN where the layer holds one.
    """

    count: int
    frames: Tensor | None
    scale: Tensor | None
    pooled: Tensor | None
    largest: Tensor

    def cpu(self) -> Packed:
        """The same on the CPU; through pinned memory where it comes from a CUDA device."""
        parts = (self.frames, self.scale, self.pooled, self.largest)
        if not self.largest.is_cuda:
            return self
        pinned = [None if part is None else torch.empty_like(part, device="cpu", pin_memory=True) for part in parts]
        for target, part in zip(pinned, parts, strict=True):
            if target is not None and part is not None:
                target.copy_(part, non_blocking=True)
        frames, scale, pooled, largest = pinned
        assert largest is not None
        return Packed(self.count, frames, scale, pooled, largest)


def pool(states: Tensor) -> Tensor:
    """Mean and (population) standard deviation over frames: (L, T, D) -> (L, S, D) float32."""
    if states.is_cuda:
        mean = states.mean(dim=1)
        return torch.stack([mean, (states - mean[:, None]).square_().mean(dim=1).sqrt_()], dim=1)
    # Layer by layer the second pass finds the states in the processor's cache: six times as fast as std_mean.
    pooled = states.new_empty(states.shape[0], 2, states.shape[2])
    centred = torch.empty_like(states[0])
    for layer, (mean, deviation) in zip(states, pooled, strict=True):
        torch.mean(layer, dim=0, out=mean)
        torch.sub(layer, mean, out=centred)
        torch.mean(centred.square_(), dim=0, out=deviation).sqrt_()
    return pooled


def merge(counts: list[int], pooled: list[Tensor]) -> Tensor:
    """Mean and deviation over all frames of several pieces, each (L, S, D), in float64: (L, S, D) float32."""
    if len(pooled) == 1:
        return pooled[0]
    weights = torch.tensor(counts, dtype=torch.float64)[:, None, None] / sum(counts)
    moments = torch.stack(pooled).double()
    mean = (weights * moments[:, :, 0]).sum(0)
    variance = (weights * (moments[:, :, 1].square() + (moments[:, :, 0] - mean).square())).sum(0)
    return torch.stack([mean, variance.sqrt()], dim=1).float()


def pack(states: Tensor, provenance: Provenance) -> Packed:
    """What the store keeps of states of all the upstream's layers, (upstream's L, T, D) float32.

    Raises:
        StoreError: they have another number of layers or dims than the upstream promised.
    """
    whole = (int(provenance.upstream["layers"]), provenance.dim)
    if states.ndim != 3 or (states.shape[0], states.shape[2]) != whole or not states.shape[1]:
        raise StoreError(
            "States have another shape than the store's.",
            expected=f"({whole[0]}, frames, {whole[1]}), at least one frame",
            found=tuple(states.shape),
        )
    if provenance.layers != whole[0]:
        states = states[list(provenance.layer_numbers)]
    frames, scale = None, None
    if "frames" in provenance.keep:
        frames, scale = _cast(states, provenance.dtype)
    pooled = pool(states) if "pooled" in provenance.keep else None
    flat = states.flatten(1)
    return Packed(states.shape[1], frames, scale, pooled, torch.maximum(flat.amax(1), -flat.amin(1)))


def _cast(states: Tensor, dtype: str) -> tuple[Tensor, Tensor | None]:
    """States in a dtype; for int8 with the scale (L, D): the largest absolute value of a feature becomes 127."""
    if dtype != "int8":
        return states.to(getattr(torch, dtype)), None
    scale = states.abs().amax(dim=1) / LARGEST_INTEGER
    steps = torch.where(scale > 0, scale, 1.0)[:, None]
    # States that are not finite are refused by ``largest``; here they only must not raise.
    # Clamped: where a scale is too small to be exact, the largest state would wrap around.
    integers = (states / steps).round().clamp(-LARGEST_INTEGER, LARGEST_INTEGER)
    return integers.nan_to_num(0).to(torch.int8), scale


def unpack(frames: Tensor, scale: Tensor) -> Tensor:
    """States (L, T, D) float32 of integers (L, T, D) and their scale (L, D)."""
    return frames.float() * scale[:, None]
