"""The dual-sequence cell against a naive loop and PyTorch's LSTM, the convolutions against single utterances."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from toy_tasks import UPSTREAMS, cross_tasks, languages_of, within_tasks
from toys import make_workspace

from mser.errors import ConfigError
from train.benchmark.cells import Asked
from train.systems.descent import Steps
from train.systems.dual_sequence_cell import DualSequenceCell
from train.systems.dual_sequence_lstm import (
    Convolutions,
    DualSequence,
    DualSequenceNetwork,
    LayerPair,
    Projection,
    SpectrogramPair,
    aligned,
)
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT, Language

LENGTHS = [4, 7, 1]
SHORT = Steps(epochs=20, batch_size=12, rate=1e-2, clip=1.0)
SYSTEMS: dict[str, DualSequence] = {
    "spectrograms": SpectrogramPair(hidden=8, channels=(4, 8), dropout=0.1, steps=SHORT),
    "layers": LayerPair(hidden=8, projected=6, dropout=0.1, steps=SHORT),
}


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    # Emotions stand out in the first.
    names = ("mfcc", *UPSTREAMS, "logmel-256", "logmel-512")
    return languages_of(make_workspace(tmp_path_factory.mktemp("toys"), ("de", "it"), names), ("de", "it"))


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    names = (*UPSTREAMS, "mfcc")
    return languages_of(make_workspace(tmp_path_factory.mktemp("loud"), ("de", "it"), names), ("de", "it"))


def naive(cell: DualSequenceCell, x: Tensor, y: Tensor, lengths: Sequence[int]) -> Tensor:
    """The cell sample by sample, step by step, gate by gate."""
    size = cell.hidden
    of_x = dict(zip(("C_T", "f", "i_T", "i_F", "o"), cell.from_x.split(size), strict=True))
    of_y = dict(zip(("C_F", "f", "i_T", "i_F", "o"), cell.from_y.split(size), strict=True))
    names = ("C_T", "C_F", "f", "i_T", "i_F", "o")
    of_h = dict(zip(names, cell.recurrent.split(size, 1), strict=True))
    bias = dict(zip(names, cell.bias.split(size), strict=True))
    rows = []
    for sample, length in enumerate(lengths):
        h, c = x.new_zeros(size), x.new_zeros(size)
        states = []
        for step in range(length):
            sums = {name: h @ of_h[name] + bias[name] for name in names}
            sums = {name: own + of_x[name] @ x[sample, step] if name in of_x else own for name, own in sums.items()}
            sums = {name: own + of_y[name] @ y[sample, step] if name in of_y else own for name, own in sums.items()}
            gate = {name: 1 / (1 + torch.exp(-sums[name])) for name in ("f", "i_T", "i_F", "o")}
            c = gate["f"] * c + gate["i_T"] * torch.tanh(sums["C_T"]) + gate["i_F"] * torch.tanh(sums["C_F"])
            h = gate["o"] * torch.tanh(c)
            states.append(h)
        states += [torch.zeros_like(h)] * (x.shape[1] - length)
        rows.append(torch.stack(states))
    return torch.stack(rows)


def cell_and_inputs() -> tuple[DualSequenceCell, Tensor, Tensor]:
    torch.manual_seed(0)
    cell = DualSequenceCell(3, 2, 4).double()
    x, y = torch.randn(3, 7, 3).double(), torch.randn(3, 7, 2).double()
    return cell, x.requires_grad_(), y.requires_grad_()


def test_the_cell_and_its_gradients_are_those_of_the_naive_loop() -> None:
    cell, x, y = cell_and_inputs()
    found, expected = cell(x, y, torch.tensor(LENGTHS)), naive(cell, x, y, LENGTHS)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    leaves = [x, y, *cell.parameters()]
    gradients = torch.autograd.grad((found * weights).sum(), leaves)
    references = torch.autograd.grad((expected * weights).sum(), leaves)
    torch.testing.assert_close(gradients, references)


def test_the_gradient_is_that_of_finite_differences() -> None:
    cell, x, y = cell_and_inputs()
    lengths = torch.tensor(LENGTHS)
    assert torch.autograd.gradcheck(lambda *leaves: cell(*leaves[:2], lengths), (x, y, *cell.parameters()))


def test_a_silent_second_sequence_leaves_an_lstm() -> None:
    torch.manual_seed(0)
    cell, lstm = DualSequenceCell(3, 2, 4), nn.LSTM(3, 4, batch_first=True)
    with torch.no_grad():
        cell.from_y.zero_()
        cell.recurrent[:, 4:8] = 0
        cell.bias[4:8] = 0
        # PyTorch's order is i, f, g, o; the cell's is C_T, C_F, f, i_T, i_F, o.
        i, f, g, o = lstm.weight_ih_l0.split(4)
        cell.from_x.copy_(torch.cat([g, f, i, torch.zeros_like(i), o]))
        i, f, g, o = lstm.weight_hh_l0.split(4)
        cell.recurrent[:, :4], cell.recurrent[:, 8:] = g.t(), torch.cat([f, i, torch.zeros_like(i), o]).t()
        i, f, g, o = (lstm.bias_ih_l0 + lstm.bias_hh_l0).split(4)
        cell.bias[:4], cell.bias[8:] = g, torch.cat([f, i, torch.zeros_like(i), o])
    x = torch.randn(2, 6, 3)
    torch.testing.assert_close(cell(x, torch.randn(2, 6, 2), torch.tensor([6, 6])), lstm(x)[0])


def test_sequences_are_aligned_by_their_share_of_the_utterance() -> None:
    y = torch.arange(6.0).repeat(3, 1)[..., None]
    lengths, onto = torch.tensor([6, 4, 3]), torch.tensor([6, 5, 6])
    found = aligned(y, lengths, onto, 6)[..., 0]
    assert found[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert found[1, :5].tolist() == [0, 1, 2, 2, 3]
    assert found[2].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("bands", [8, 9, 3])
def test_convolutions_read_each_utterance_as_if_alone(bands: int) -> None:
    torch.manual_seed(0)
    network = Convolutions(bands, (2, 3)).double()
    lengths = torch.tensor([1, 2, 3, 4, 5, 6, 7, 8, 13])
    frames = torch.randn(9, 15, bands).double()
    frames *= (torch.arange(15) < lengths[:, None])[..., None]
    found, after = network(frames, lengths)
    assert found.shape == (9, 4, network.dim)
    for row, length in enumerate(lengths.tolist()):
        image = frames[row, :length][None, None]
        for layer, pool in zip(network.layers, Convolutions.POOLS, strict=True):
            image = functional.max_pool2d(layer(image).relu(), pool, ceil_mode=True)
        expected = image[0].transpose(0, 1).flatten(1)
        assert after[row] == len(expected)
        torch.testing.assert_close(found[row, : len(expected)], expected)
        assert not found[row, len(expected) :].any()


def test_padding_and_company_do_not_matter_to_the_network() -> None:
    torch.manual_seed(0)
    network = DualSequenceNetwork([Convolutions(5, (2, 3)), Convolutions(8, (2, 3))], 4, 3, 0.5, 3).eval()
    batch = []
    for dim in (5, 8, 3):
        frames = torch.randn(3, 9, dim)
        frames *= (torch.arange(9) < torch.tensor(LENGTHS)[:, None])[..., None]
        batch.append((frames, torch.tensor(LENGTHS)))
    joined = network(batch)
    for row, length in enumerate(LENGTHS):
        alone = [(frames[row : row + 1, :length], lengths[row : row + 1]) for frames, lengths in batch]
        torch.testing.assert_close(network(alone), joined[row : row + 1])


def test_the_logits_of_both_branches_are_added() -> None:
    torch.manual_seed(0)
    network = DualSequenceNetwork([Projection(3, 2, 0.0), Projection(3, 2, 0.0)], 4, 3, 0.0, 3)
    assert network.lstm is not None
    assert network.mfcc_head is not None
    frames, lengths = torch.randn(2, 5, 3), torch.tensor([5, 5])
    states = network.cell(network.fronts[0](frames, lengths)[0], network.fronts[1](frames, lengths)[0], lengths)
    expected = network.head(states.mean(1)) + network.mfcc_head(network.lstm(frames)[0].mean(1))
    torch.testing.assert_close(network([(frames, lengths)] * 3), expected)


def accuracy(system: DualSequence, asked: list[Asked]) -> float:
    said = [system.answer(one.task).probabilities.argmax(1) == one.truth for one in asked]
    return float(np.concatenate(said).mean())


@pytest.mark.parametrize("protocol", [WITHIN, ZERO_SHOT, FEW_SHOT])
@pytest.mark.parametrize("name", SYSTEMS)
def test_it_learns_in_every_protocol(
    languages: dict[str, Language], loud: dict[str, Language], name: str, protocol: str
) -> None:
    there = languages if name == "spectrograms" else loud
    asked = within_tasks(there)[:1] if protocol == WITHIN else cross_tasks(there, shots=(2,))
    assert accuracy(SYSTEMS[name], [one for one in asked if one.task.protocol == protocol]) > 0.7


def test_spectrograms_alone_are_learnt() -> None:
    torch.manual_seed(0)
    network = DualSequenceNetwork([Convolutions(8, (4, 8)), Convolutions(16, (4, 8))], 8, 0, 0.0, 2)
    labels = torch.arange(32) % 2
    lengths = torch.full((32,), 12)
    batch = [(torch.randn(32, 12, bands), lengths) for bands in (8, 16)]
    # Rising and falling energy: only along time can they be told apart.
    slope = torch.linspace(-2, 2, 12)[None, :, None] * (1 - 2 * labels)[:, None, None]
    batch = [(frames + slope, lengths) for frames, lengths in batch]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        functional.cross_entropy(network(batch), labels).backward()
        optimizer.step()
    assert (network(batch).argmax(1) == labels).float().mean() > 0.9


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_seed_decides(languages: dict[str, Language], name: str) -> None:
    task = within_tasks(languages)[0].task
    short = dataclasses.replace(SYSTEMS[name], steps=Steps(epochs=2))
    first, again, other = (
        short.answer(dataclasses.replace(task, seed=seed, shared={})).probabilities for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_two_layers_are_those_that_dev_speakers_like_most(loud: dict[str, Language]) -> None:
    task = within_tasks(loud)[0].task
    scores = {"loud": [50.0, 60.0], "quiet": [70.0, 40.0]}
    x, y = LayerPair().pair(dataclasses.replace(task, shared={"layer scores": scores}))
    assert [(x.upstream, x.layer), (y.upstream, y.layer)] == [("quiet", 0), ("loud", 1)]
    with pytest.raises(ConfigError, match="UPSTREAMS"):
        LayerPair().pair(dataclasses.replace(task, shared={"layer scores": {"loud": [50.0]}}))


def test_without_the_mfcc_branch_mfcc_is_not_read(languages: dict[str, Language]) -> None:
    alone = dataclasses.replace(SYSTEMS["spectrograms"], mfcc_rate=0.0)
    assert alone.extra == ("logmel-256", "logmel-512")
    assert SYSTEMS["spectrograms"].extra == ("logmel-256", "logmel-512", "mfcc")
    assert LayerPair().extra == ()
    answer = dataclasses.replace(alone, steps=Steps(epochs=1)).answer(within_tasks(languages)[0].task)
    assert answer.facts["streams"] == ["logmel-256 0", "logmel-512 0"]


@pytest.mark.parametrize(
    ("kind", "options", "field"),
    [
        (SpectrogramPair, {"rate": 0.0}, "rate"),
        (SpectrogramPair, {"hidden": 0}, "hidden"),
        (SpectrogramPair, {"mfcc_rate": -1.0}, "mfcc_rate"),
        (SpectrogramPair, {"dropout": 1.0}, "dropout"),
        (SpectrogramPair, {"channels": (4,)}, "channels"),
        (SpectrogramPair, {"normalise": "none"}, "normalise"),
        (LayerPair, {"projected": 0}, "projected"),
    ],
)
def test_what_cannot_be_built_is_named(kind: type[DualSequence], options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**options)
    assert caught.value.field == field
