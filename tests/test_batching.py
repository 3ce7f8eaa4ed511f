"""Batches against each utterance alone, under every policy and in every family; and how a policy is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_upstreams import CPU, VARIANTS, build, build_whisper, loaded, saved, wave, worst
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mser.errors import UpstreamError
from mser.upstream import POLICIES, Measurement, Upstream, choose, compare_compute, load_upstream, measure
from mser.upstream.base import Prepared
from mser.upstream.batching import EXACT
from mser.upstream.registry import Source
from mser.upstream.wav2vec2 import RANDOM_NAME, Wav2Vec2Upstream, random_wav2vec2

# WavLM; see mser/upstream/wav2vec2.py. pytest sets the filters of modules aside.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
#: Samples; odd and even numbers of frames, for SEW, and one frame only.
LENGTHS = (6_000, 1_041, 9_011, 3_333, 8_680, 720)


def waveforms(lengths: Sequence[int] = LENGTHS) -> list[Tensor]:
    return [wave(number, seed) for seed, number in enumerate(lengths)]


def together(upstream: Upstream, given: Sequence[Tensor]) -> list[Tensor]:
    return upstream.run([upstream.prepare(waveform) for waveform in given])


def each_alone(upstream: Upstream, given: Sequence[Tensor]) -> list[Tensor]:
    return [together(upstream, [waveform])[0] for waveform in given]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_padded_batch_gives_what_each_utterance_gives_alone(variant: str, tmp_path: Path) -> None:
    upstream, _ = loaded(variant, tmp_path)
    given, policies = waveforms(), [policy for policy in ("masked", "solo convolutions") if policy in upstream.possible]
    assert policies == (["masked"] if variant.startswith("wav2vec2-bert") else ["masked", "solo convolutions"])
    alone = each_alone(upstream, given)
    for policy in policies:
        upstream.use(policy)
        assert upstream.info.policy == policy
        for states, right in zip(together(upstream, given), alone, strict=True):
            assert worst(states, right) <= EXACT
            assert states.is_contiguous()
    # What a padded batch needs leaves a run alone as it was, bit for bit, under any policy.
    for policy in upstream.possible:
        upstream.use(policy)
        assert all(torch.equal(*pair) for pair in zip(each_alone(upstream, given), alone, strict=True))


@pytest.mark.parametrize("variant", ["wav2vec2, group norm", "hubert, batch norm", "data2vec-audio", "sew, layer norm"])
def test_equally_long_utterances_are_exact_together_without_a_mask(variant: str, tmp_path: Path) -> None:
    upstream, _ = loaded(variant, tmp_path)
    given = waveforms([5_000] * 4)
    for policy in upstream.possible:
        upstream.use(policy)
        for states, right in zip(together(upstream, given), each_alone(upstream, given), strict=True):
            assert worst(states, right) <= EXACT


@pytest.mark.parametrize(
    ("variant", "least"),
    [("wav2vec2, group norm", 1e-2), ("data2vec-audio", 1e-3), ("hubert, batch norm", 1e-3), ("sew, group norm", 1e-2)],
)
def test_the_models_own_mask_alone_is_not_exact(variant: str, least: float, tmp_path: Path) -> None:
    # The control of the tests above: without our care the same batch is far from exact.
    model = build(variant)
    upstream, _ = loaded(variant, tmp_path)
    given = waveforms()
    inputs = [upstream.prepare(waveform).features for waveform in given]
    mask = pad_sequence([torch.ones(len(one), dtype=torch.long) for one in inputs], batch_first=True)
    padded = pad_sequence(inputs, batch_first=True)
    with torch.no_grad():
        plain = torch.stack(model(padded, attention_mask=mask, output_hidden_states=True).hidden_states, dim=1)
    alone = each_alone(upstream, given)
    assert max(worst(plain[i, :, : one.shape[1]], one) for i, one in enumerate(alone)) > least


def test_several_lengths_at_once_are_refused_where_the_policy_does_not_pad(tmp_path: Path) -> None:
    for variant in ("wav2vec2, group norm", "wav2vec2-bert"):
        upstream, _ = loaded(variant, tmp_path / variant)
        for policy in ("equal lengths", "solo"):
            upstream.use(policy)
            with pytest.raises(UpstreamError, match=r"(?s)several lengths at once.*BATCHING"):
                together(upstream, waveforms())


def test_policies_that_are_not_possible_are_refused(tmp_path: Path) -> None:
    whisper = load_upstream(str(saved(build_whisper(), tmp_path)), CPU)
    assert whisper.possible == ("equal lengths",)
    for policy in ("masked", "solo"):
        with pytest.raises(UpstreamError, match=r"(?s)cannot be batched.*equal lengths"):
            whisper.use(policy)
    with pytest.raises(UpstreamError, match=r"cannot be batched"):
        load_upstream("logmel", CPU, policy="masked")
    assert load_upstream("logmel", CPU, policy="solo").info.policy == "solo"
    assert load_upstream(RANDOM_NAME, CPU).info.policy == "solo"
    assert load_upstream(RANDOM_NAME, CPU, policy="masked").info.policy == "masked"


def test_batches_are_sorted_and_hold_what_the_device_takes() -> None:
    upstream = random_wav2vec2(CPU)
    lengths = [16_000 * seconds for seconds in (1, 80, 3, 40, 39, 80, 2, 200)]
    for policy in POLICIES:
        upstream.use(policy)
        assert upstream.batches(lengths) == [[7], [1], [5], [3], [4], [2], [6], [0]]
    upstream.device = torch.device("cuda")
    found = {}
    for policy in POLICIES:
        upstream.use(policy)
        found[policy] = upstream.batches(lengths)
    assert found["masked"] == found["solo convolutions"] == [[7], [1, 5], [3, 4, 2, 6], [0]]
    assert found["equal lengths"] == [[7], [1, 5], [3], [4], [2], [6], [0]]
    assert found["solo"] == [[7], [1], [5], [3], [4], [2], [6], [0]]


def test_whisper_runs_windows_together_whatever_their_length(tmp_path: Path) -> None:
    upstream = load_upstream(str(saved(build_whisper(), tmp_path)), CPU)
    given = waveforms([5_000, 700, 9_000])
    for states, right in zip(together(upstream, given), each_alone(upstream, given), strict=True):
        assert worst(states, right) <= EXACT
    assert upstream.batches([5_000, 700, 9_000]) == [[0], [1], [2]]
    upstream.device = torch.device("cuda")
    assert [len(batch) for batch in upstream.batches([5_000, 700, 480_000] * 7)] == [16, 5]


def test_wav2vec2_bert_counts_frames_for_equal_lengths(tmp_path: Path) -> None:
    upstream, _ = loaded("wav2vec2-bert", tmp_path)
    upstream.device = torch.device("cuda")
    upstream.use("equal lengths")
    assert upstream.batches([4_000, 3_999, 4_160, 4_100]) == [[2, 3], [0, 1]]


def test_masked_batches_of_several_threads_do_not_meet(tmp_path: Path) -> None:
    upstream, _ = loaded("wav2vec2, group norm", tmp_path)
    upstream.use("masked")
    batches = [waveforms([6_000 + 320 * k, 900 + 100 * k, 3_000]) for k in range(6)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda given: together(upstream, given), batches))
    for given, states in zip(batches, found, strict=True):
        assert all(torch.equal(*pair) for pair in zip(states, together(upstream, given), strict=True))


def test_measuring_finds_the_exact_policies_and_leaves_the_upstream_as_it_was(tmp_path: Path) -> None:
    upstream, _ = loaded("hubert, group norm", tmp_path)
    found = measure(upstream, waveforms())
    assert [one.policy for one in found] == list(POLICIES)
    assert upstream.info.policy == "solo"
    for one in found:
        assert len(one.differences) == 3
        assert one.difference == max(one.differences) <= EXACT
        assert one.seconds > 0
        assert one.seconds_alone > 0
    assert found[-1].difference == 0
    # Broken care is found out: the group norm now takes its moments over the padding too.
    del upstream.encoder.feature_extractor.conv_layers[0].layer_norm.forward
    broken = {one.policy: one.difference for one in measure(upstream, waveforms())}
    assert broken["masked"] > 1e-2
    assert broken["solo convolutions"] <= EXACT


def test_the_choice_is_the_fastest_exact_policy_and_on_a_cpu_alone() -> None:
    found = [
        Measurement("masked", (0.0, 1e-3), 1.0, 10.0),
        Measurement("solo convolutions", (0.0, 1e-6), 2.0, 10.0),
        Measurement("equal lengths", (0.0, 1e-7), 9.0, 10.0),
        Measurement("solo", (0.0, 0.0), 10.0, 10.0),
    ]
    cuda = torch.device("cuda")
    assert choose(found, CPU) == "solo"
    assert choose(found, cuda) == "solo convolutions"
    assert choose(found, cuda, allowed=1e-2) == "masked"
    assert choose([replace(one, seconds=11.0) for one in found[:3]] + found[3:], cuda) == "solo"
    assert choose([replace(one, differences=(1.0,)) for one in found[:3]] + found[3:], cuda) == "solo"
    assert choose(found[2:3], CPU) == choose(found[2:3], cuda) == "equal lengths"
    assert choose([replace(one, differences=(float("inf"),)) for one in found[:1]] + found[3:], cuda) == "solo"


def test_half_precision_is_compared_layer_by_layer() -> None:
    full, given = random_wav2vec2(CPU), waveforms([3_000, 900])
    assert compare_compute(full, full, given) == (0.0,) * 4
    for compute, worst_allowed in [("float16", 1e-2), ("bfloat16", 5e-2)]:
        half = random_wav2vec2(CPU, compute)
        assert (half.info.compute, half.info.weights_sha256) == (compute, full.info.weights_sha256)
        assert half.states(given[:1])[0].dtype == torch.float32
        differences = compare_compute(half, full, given)
        assert all(1e-5 < one < worst_allowed for one in differences)
    fingerprints = {random_wav2vec2(CPU, compute).info.fingerprint for compute in ("float32", "float16", "bfloat16")}
    assert len(fingerprints) == 3


class Overflowing(Wav2Vec2Upstream):
    """Layer 2 is infinite in one place."""

    def run(self, batch: Sequence[Prepared]) -> list[Tensor]:
        states = super().run(batch)
        states[0][2, 0, 0] = torch.inf
        return states


def test_an_overflow_names_its_layer() -> None:
    full = random_wav2vec2(CPU)
    recipe: Any = full.feature_extractor
    half = Overflowing(build("wav2vec2, layer norm"), Source("tiny", "", None, True), CPU, "float16", recipe)
    other = Wav2Vec2Upstream(build("wav2vec2, layer norm"), Source("tiny", "", None, True), CPU, "float32", recipe)
    with pytest.raises(UpstreamError, match=r"(?s)overflows in float16.*layer 2.*1 of \d+"):
        compare_compute(half, other, waveforms([2_000]))


@pytest.mark.cuda
@pytest.mark.parametrize("variant", VARIANTS)
def test_on_cuda_batches_are_exact_and_half_precision_is_near(variant: str, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    cuda, folder = torch.device("cuda"), str(saved(build(variant), tmp_path))
    on_cpu, given = load_upstream(folder, CPU), waveforms()
    full = load_upstream(folder, cuda)
    for states, right in zip(full.states(given), on_cpu.states(given), strict=True):
        assert worst(states, right) <= 1e-4
    found = measure(full, given)
    assert all(one.difference <= EXACT for one in found)
    assert choose(found, cuda) in full.possible
    for compute in ("float16", "bfloat16"):
        half = load_upstream(folder, cuda, compute=compute)
        differences = compare_compute(half, full, given)
        assert max(differences) < 0.1
        assert choose(measure(half, given), cuda, max(differences)) in half.possible
