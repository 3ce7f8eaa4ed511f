"""Which way of batching is exact and fastest: found by measurement on each checkpoint, never taken from its family."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mser.errors import UpstreamError
from mser.upstream.base import CUDA_BATCH_SECONDS, Prepared, Upstream

#: Largest difference of a batched state from the state alone, of the layer's largest value, that counts as exact in
#: float32: some ten roundings. float16, as stores keep states, rounds by 5e-4.
EXACT = 1e-5


@dataclass(frozen=True)
class Measurement:
    """A policy beside running alone.

    Attributes:
        policy: one of ``POLICIES``.
        differences: for each layer max |batched - alone| / max |alone|, the largest over the utterances.
        seconds: that all utterances took under the policy.
        seconds_alone: that the same utterances took one by one.
    """

    policy: str
    differences: tuple[float, ...]
    seconds: float
    seconds_alone: float

    @property
    def difference(self) -> float:
        """Of the layer that differs most."""
        return max(self.differences)


def measure(upstream: Upstream, waveforms: Sequence[Tensor]) -> list[Measurement]:
    """Runs waveforms under every possible policy and alone.

    Differences are of batches in the order given, so that short and long ones meet: give several lengths, mixed. For
    equal lengths all waveforms are cut to the shortest. Seconds are of the batches that the policy itself makes on
    CUDA, and of the same batches as the differences on a CPU, where a policy makes none. The upstream goes back to
    its own policy.

    Args:
        waveforms: each (num_samples,), two or more, of a few seconds.
    """
    own = upstream.info.policy
    whole = [upstream.prepare(waveform) for waveform in waveforms]
    shortest = min(len(waveform) for waveform in waveforms)
    cut = [upstream.prepare(waveform[:shortest]) for waveform in waveforms]
    found = []
    try:
        for policy in upstream.possible:
            upstream.use(policy)
            given = cut if policy == "equal lengths" and "masked" in upstream.possible else whole
            mixed = _mixed(upstream, given)
            alone, seconds_alone = _run(upstream, [[one] for one in given])
            together, seconds = _run(upstream, mixed)
            if upstream.device.type == "cuda":
                batches = upstream.batches([one.num_samples for one in whole])
                _, seconds = _run(upstream, [[whole[index] for index in batch] for batch in batches])
                _, seconds_alone = _run(upstream, [[one] for one in whole])
            pairs = [relative_difference(*pair) for pair in zip(together, alone, strict=True)]
            differences = tuple(max(layer) for layer in zip(*pairs, strict=True))
            found.append(Measurement(policy, differences, seconds, seconds_alone))
    finally:
        upstream.use(own)
    return found


def choose(measurements: Sequence[Measurement], device: torch.device, allowed: float = EXACT) -> str:
    """The policy to use: the fastest that is exact; on a CPU alone, where batches only add padding to compute.

    Args:
        measurements: of ``measure``.
        allowed: difference that counts as exact. For float16 and bfloat16 give what they themselves differ from
            float32 (the largest of ``compare_compute``): a batch rounds as often as an utterance alone, elsewhere.
    """
    by_policy = {one.policy: one for one in measurements}
    if device.type != "cuda":
        return "solo" if "solo" in by_policy else measurements[0].policy
    exact = [one for one in measurements if one.difference <= allowed or one.policy == "solo"]
    # Only Whisper has no "solo"; its windows are equally long whatever was measured.
    return min(exact or measurements, key=lambda one: one.seconds / one.seconds_alone).policy


def compare_compute(half: Upstream, full: Upstream, waveforms: Sequence[Tensor]) -> tuple[float, ...]:
    """How far the states of a model in half precision lie from those in float32, each utterance alone.

    Returns:
        For each layer max |half - full| / max |full|, the largest over the utterances.

    Raises:
        UpstreamError: a layer overflows in half precision (large WavLM models do in float16).
    """
    differences = []
    for waveform in waveforms:
        (states,), (right,) = half.run([half.prepare(waveform)]), full.run([full.prepare(waveform)])
        for layer, state in enumerate(states):
            if not state.isfinite().all():
                raise UpstreamError(
                    f"{half.info.name} overflows in {half.info.compute}.",
                    field=f"layer {layer}",
                    expected="finite states",
                    found=f"{int((~state.isfinite()).sum())} of {state.numel()} are infinite or not a number; "
                    f"the largest in float32 is {float(right[layer].abs().max()):.4g}",
                    hint="compute in bfloat16 or float32",
                )
        differences.append(relative_difference(states.to(right.device), right))
    return tuple(max(layer) for layer in zip(*differences, strict=True))


def relative_difference(states: Tensor, right: Tensor) -> list[float]:
    """For each layer of states (L, T, D) max |states - right| / max |right|; infinite where one is not a number."""
    difference = (states - right).abs().amax(dim=(1, 2)) / right.abs().amax(dim=(1, 2)).clamp(min=1e-30)
    return difference.nan_to_num(nan=torch.inf).tolist()


def _mixed(upstream: Upstream, given: Sequence[Prepared]) -> list[list[Prepared]]:
    """Batches in the order given, as large as CUDA would have them."""
    if upstream.info.policy == "solo":
        return [[one] for one in given]
    room = int(CUDA_BATCH_SECONDS * upstream.info.sample_rate)
    batches: list[list[Prepared]] = [[]]
    for one in given:
        longest = max(other.num_samples for other in [*batches[-1], one])
        if batches[-1] and longest * (len(batches[-1]) + 1) > room:
            batches.append([])
        batches[-1].append(one)
    return batches


def _run(upstream: Upstream, batches: Sequence[Sequence[Prepared]]) -> tuple[list[Tensor], float]:
    """States in the order of the batches, and the seconds they took; on CUDA a first batch warms up before."""
    wait: Callable[[], None] = torch.cuda.synchronize if upstream.device.type == "cuda" else lambda: None
    if upstream.device.type == "cuda":
        upstream.run(batches[0])
    wait()
    start = time.perf_counter()
    states = [state for batch in batches for state in upstream.run(batch)]
    wait()
    return states, time.perf_counter() - start
