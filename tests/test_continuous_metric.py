"""The metric losses against loops over pairs, the autoencoder, and the system on toy languages."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from toy_tasks import cross_tasks, toy_languages, within_tasks

from mser.config import DATA_FOLDER
from mser.errors import ConfigError, ProtocolError
from mser.labels import load_labels
from train.systems import SYSTEMS
from train.systems.continuous_metric import (
    Autoencoder,
    ContinuousMetric,
    distance_loss,
    positions_of,
    require_apart,
    slope_loss,
)
from train.systems.descent import Steps
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT, Language, Part, Task

SHORT = Steps(epochs=40, batch_size=8, rate=3e-3)


def small(**options: object) -> ContinuousMetric:
    return ContinuousMetric(**{"hidden": (16,), "code": 8, "noise": 0.3, "steps": SHORT, **options})  # type: ignore[arg-type]


def of_emotions(language: Language, emotions: list[str]) -> Part:
    """The first utterances of a language, said to be of these emotions."""
    other = Language(language.data, language.workspace)
    named = zip(language.data.utterances, emotions, strict=False)
    rows = [dataclasses.replace(row, emotion=name) for row, name in named]
    other.data = dataclasses.replace(other.data, utterances=tuple(rows))
    return Part(other, np.arange(len(emotions)))


def happy(language: Language) -> Language:
    """The language with happiness, which the table places, for joy."""
    names = ["happiness" if row.emotion == "joy" else row.emotion for row in language.data.utterances]
    return of_emotions(language, names).language


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    return toy_languages(tmp_path_factory.mktemp("toy"))


def naive_slope(codes: np.ndarray, positions: np.ndarray) -> float:
    """A line through the origin fitted to the differences of all pairs."""
    across, along = [], []
    for i in range(len(codes)):
        for j in range(i + 1, len(codes)):
            across.append(sum(codes[i] - codes[j]) / codes.shape[1])
            along.append(positions[i] - positions[j])
    slope = np.linalg.lstsq(np.array(along)[:, None], np.array(across), rcond=None)[0][0]
    rest = [(n - slope * x) ** 2 for n, x in zip(across, along, strict=True)]
    return float(abs(slope - 1) + np.mean(rest))


def naive_distance(codes: np.ndarray, positions: np.ndarray, kappa: float) -> float:
    """The mean over pairs, one after the other."""
    found = []
    for i in range(len(codes)):
        for j in range(i):
            apart = np.sqrt(((codes[i] - codes[j]) ** 2).sum())
            found.append((apart - kappa * np.sqrt(((positions[i] - positions[j]) ** 2).sum())) ** 2)
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(3))
def test_the_slope_loss_is_that_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes, positions = rng.normal(1, 2, (9, 4)), rng.choice([-0.5, 0.1, 0.8], 9)
    found = slope_loss(torch.from_numpy(codes), torch.from_numpy(positions))
    assert float(found) == pytest.approx(naive_slope(codes, positions))


@pytest.mark.parametrize("kappa", [0.5, 3.0])
def test_the_distance_loss_is_that_of_all_pairs(kappa: float) -> None:
    rng = np.random.default_rng(1)
    codes, positions = rng.normal(size=(7, 5)), rng.normal(size=(7, 2))
    found = distance_loss(torch.from_numpy(codes), torch.from_numpy(positions), kappa)
    assert float(found) == pytest.approx(naive_distance(codes, positions, kappa))


def test_codes_that_follow_the_positions_cost_nothing() -> None:
    positions = torch.tensor([[0.0, 0.5], [1.0, -0.5], [-0.3, 0.1]], dtype=torch.float64)
    assert float(distance_loss(3 * positions + 7, positions, 3.0)) == pytest.approx(0, abs=1e-20)
    codes = positions[:, :1] + torch.tensor([[2.0, -2.0]])
    assert float(slope_loss(codes, positions[:, 0])) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("positions", [torch.zeros(0), torch.tensor([0.2]), torch.full((4,), 0.3)])
def test_a_batch_without_two_places_has_no_metric(positions: Tensor) -> None:
    codes = torch.randn(len(positions), 3, requires_grad=True)
    loss = slope_loss(codes, positions)
    loss.backward()
    assert float(loss.detach()) == 0
    assert codes.grad is not None
    assert not codes.grad.any()


def test_equal_codes_have_a_finite_gradient() -> None:
    codes = torch.ones(3, 2, requires_grad=True)
    distance_loss(codes, torch.tensor([[0.0], [1.0], [2.0]]), 1.0).backward()
    assert codes.grad is not None
    assert codes.grad.isfinite().all()
    assert float(distance_loss(codes[:1], torch.zeros(1, 1), 1.0).detach()) == 0


def test_utterances_without_a_place_take_no_part_in_the_metric() -> None:
    torch.manual_seed(0)
    codes, positions = torch.randn(5, 4), torch.randn(5, 2)
    holes = torch.cat([positions, torch.full((2, 2), torch.nan)])
    for metric in ("slope", "distance"):
        system = ContinuousMetric(metric=metric)
        whole = system.metric_loss(codes, positions)
        torch.testing.assert_close(system.metric_loss(torch.cat([codes, torch.randn(2, 4)]), holes), whole)
    halves = slope_loss(codes[:, :2], positions[:, 0]) + slope_loss(codes[:, 2:], positions[:, 1])
    torch.testing.assert_close(ContinuousMetric().metric_loss(codes, positions), halves)


def test_noise_is_added_in_training_only() -> None:
    torch.manual_seed(0)
    model, rows = Autoencoder(6, (5, 4), 3, noise=1.0), torch.randn(4, 6)
    assert not torch.equal(model(rows)[0], model(rows)[0])
    model.eval()
    reconstruction, codes = model(rows)
    assert reconstruction.shape == rows.shape
    torch.testing.assert_close(model.decode(codes), reconstruction)
    torch.testing.assert_close(model(rows)[1], codes)
    torch.testing.assert_close(model.encode(rows), codes)


def task_of(languages: dict[str, Language], emotions: tuple[str, ...], **meanings: tuple[str, ...]) -> Task:
    """A task that tells these labels apart."""
    return dataclasses.replace(cross_tasks(languages)[0].task, emotions=emotions, meanings=meanings)


def test_places_of_emotions_are_those_of_the_table_to_the_last_bit(languages: dict[str, Language]) -> None:
    table = load_labels()
    placed = tuple(name for name, label in table.items() if label.valence is not None)
    task = task_of(languages, placed)
    written = np.array([(table[name].arousal, table[name].valence) for name in placed], dtype=np.float32)
    np.testing.assert_array_equal(positions_of(task, "both").numpy(), written)
    np.testing.assert_array_equal(positions_of(task, "valence").numpy()[:, 0], written[:, 1])
    unknown = next(name for name in table if name not in placed)
    assert positions_of(task_of(languages, (unknown, "nothing of the table")), "both").isnan().all()


def test_a_label_lies_at_the_mean_of_what_counts_as_it(languages: dict[str, Language]) -> None:
    entries = yaml.safe_load((DATA_FOLDER / "labels.yaml").read_text(encoding="utf-8"))
    counts = yaml.safe_load((DATA_FOLDER / "mappings" / "valence.yaml").read_text(encoding="utf-8"))["labels"]
    placed = {name: happy(language) for name, language in languages.items()}
    for one in cross_tasks(placed, labels="valence"):
        found = positions_of(one.task, "both").numpy()
        for row, label in zip(found, ("negative", "positive"), strict=True):
            own = [entries[name] for name, counted in counts.items() if counted == label]
            wanted = [np.mean([each[axis] for each in own]) for axis in ("arousal", "valence")]
            np.testing.assert_allclose(row, wanted, rtol=1e-6)
    mixed = task_of(languages, ("well",), well=("happiness", "amusement"))  # amusement has no place
    np.testing.assert_array_equal(positions_of(mixed, "both"), positions_of(task_of(languages, ("happiness",)), "both"))


def test_finer_emotions_than_the_labels_do_not_matter(languages: dict[str, Language]) -> None:
    counts = {"anger": "anger", "fear": "fear", "happiness": "happiness"}
    finer = {"anger": "frustration", "fear": "fear", "happiness": "excitement"}  # that count as them in coarse
    placed = {name: happy(language) for name, language in languages.items()}
    said = []
    for names in (counts, finer):
        source = of_emotions(placed["de"], [names[row.emotion] for row in placed["de"].data.utterances]).language
        one = cross_tasks({"de": source, "it": placed["it"]}, shots=(), labels="coarse")[0]
        assert one.task.emotions == ("anger", "fear", "happiness")
        said.append(small().answer(one.task).probabilities)
    np.testing.assert_array_equal(*said)


def test_fewer_than_two_places_are_an_error(languages: dict[str, Language]) -> None:
    task = task_of(languages, ("anger", "nothing of the table"))
    with pytest.raises(ProtocolError) as caught:
        require_apart(task, positions_of(task, "both")[torch.tensor([0, 0, 1])])
    assert caught.value.field == "emotion"
    assert "nothing of the table" in str(caught.value)


@pytest.mark.parametrize("name", ["continuous-metric", "continuous-metric-distance"])
def test_it_learns(name: str, languages: dict[str, Language]) -> None:
    entry = SYSTEMS[name].system
    assert isinstance(entry, ContinuousMetric)
    assert entry.adapts
    system = small(metric=entry.metric)
    asked = within_tasks(languages)[:2] + cross_tasks(languages, shots=(2,))
    for protocol in (WITHIN, ZERO_SHOT, FEW_SHOT):
        chosen = [one for one in asked if one.task.protocol == protocol]
        right = [system.answer(one.task).probabilities.argmax(1) == one.truth for one in chosen]
        assert np.concatenate(right).mean() > 0.6, protocol


def test_it_learns_the_sign_of_valence(languages: dict[str, Language]) -> None:
    placed = {name: happy(language) for name, language in languages.items()}
    asked = cross_tasks(placed, shots=(), labels="valence")
    assert asked[0].task.emotions == ("negative", "positive")
    right = [small().answer(one.task).probabilities.argmax(1) == one.truth for one in asked]
    assert np.concatenate(right).mean() > 0.7


def test_all_k_of_a_target_share_an_autoencoder(languages: dict[str, Language]) -> None:
    asked = cross_tasks(languages, shots=(1, 2))
    first = asked[0].task
    system = small()
    losses = [system.answer(one.task).facts["losses"] for one in asked]
    assert len([key for key in first.shared if isinstance(key, tuple) and system in key]) == 2
    assert losses[0] is losses[1] is losses[2]
    assert losses[3] is losses[5]


def test_the_seed_decides_and_labels_of_the_target_do_not(languages: dict[str, Language]) -> None:
    system = small()
    task, other = (cross_tasks(languages, seeds=(seed,))[0].task for seed in (0, 1))
    silent = of_emotions(languages["it"], ["nobody knows"] * len(languages["it"])).language
    parts = {name: dataclasses.replace(getattr(task, name), language=silent) for name in ("adapt", "test", "shots")}
    again = dataclasses.replace(task, shared={}, **parts)  # type: ignore[arg-type]
    said = system.answer(task).probabilities
    np.testing.assert_array_equal(said, system.answer(again).probabilities)
    assert not np.array_equal(said, system.answer(other).probabilities)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metric", "cosine"), ("dimension", "dominance"), ("features", "best"), ("normalise", "target"),
        ("weight", -1.0), ("kappa", 0.0), ("hidden", ()), ("hidden", (8, 0)), ("code", 1), ("noise", -0.1),
        ("penalty", 0.0), ("shots_share", 2.0),
    ],
)  # fmt: skip
def test_options_that_cannot_be(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        ContinuousMetric(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
