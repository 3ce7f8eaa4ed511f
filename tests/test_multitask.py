"""Emotion with auxiliaries on one trunk: scales, masked losses, what is left out, what is learnt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_tasks import UPSTREAMS, cross_tasks, languages_of, toy_languages, within_tasks
from toys import make_workspace

from mser.config import Workspace
from mser.errors import ConfigError
from mser.manifest import Manifest, Utterance
from train.benchmark.cells import Asked
from train.systems import SYSTEMS
from train.systems.descent import Steps
from train.systems.intensities import unified_intensity
from train.systems.multitask import (
    GENDER,
    INTENSITY,
    PHONES,
    Multitask,
    MultitaskModel,
    Units,
    auxiliary_loss,
    masked_mean_loss,
    unit_shares,
)
from train.systems.task import Answer, Language, Task

SMALL = Multitask(hidden=16, steps=Steps(epochs=20, rate=1e-2), tuning=Steps(epochs=5, rate=1e-3))
CONTROL = replace(SMALL, gender_weight=0.0, intensity_weight=0.0)
NAMES = ("de", "it")


def changed(workspace: Workspace, name: str, change: Callable[[int, Utterance], Utterance]) -> None:
    """Rewrites the rows of a toy language, by their number."""
    manifest = Manifest.read(workspace, f"toy_{name}")
    rows = tuple(change(number, row) for number, row in enumerate(manifest.utterances))
    replace(manifest, utterances=rows).write(workspace, [], [])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    """Languages of women alone, without intensities."""
    return toy_languages(tmp_path_factory.mktemp("plain"), NAMES)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Language]:
    """Languages of both genders, some unknown; the first has intensities, each on a scale of its own."""
    workspace = make_workspace(tmp_path_factory.mktemp("rich"), NAMES)
    genders, levels = ("female", "male", ""), ("weak", "strong", "2", "")
    changed(workspace, "de", lambda number, row: replace(row, gender=genders[number % 3], intensity=levels[number % 4]))
    changed(workspace, "it", lambda number, row: replace(row, gender=("male", "other")[number % 2]))
    return languages_of(workspace, NAMES)


def known(asked: list[Asked]) -> list[Asked]:
    """The same tasks, with layers that need no probing; that takes most of the time of a toy."""
    for one in asked:
        one.task.shared.setdefault("layer scores", {name: [1.0, 0.0] for name in UPSTREAMS})
    return asked


def within(languages: dict[str, Language], seed: int = 0) -> Task:
    return known(within_tasks(languages, seeds=(seed,)))[0].task


def cross(languages: dict[str, Language], shots: Sequence[int] = (1,)) -> list[Asked]:
    return known(cross_tasks(languages, shots))


def uar(system: Multitask, task: Task, truth: np.ndarray) -> float:
    said = system.answer(task).probabilities.argmax(1)
    return float(np.mean([(said[truth == emotion] == emotion).mean() for emotion in np.unique(truth)]))


@pytest.mark.parametrize(
    ("level", "corpus", "expected"),
    [
        ("weak", "", 0.0),
        ("Normal", "", 0.5),
        (" strong ", "toy", 1.0),
        ("low", "", 0.0),
        ("medium", "", 0.5),
        ("high", "", 1.0),
        ("1", "", 0.0),
        ("2", "", 1 / 3),
        ("3", "", 2 / 3),
        ("4", "", 1.0),
        ("01", "ravdess", 0.5),
        ("02", "ravdess", 1.0),
        ("HI", "cremad", 1.0),
        ("Faible", "cafe", 0.0),
        ("1", "baved", 0.5),
    ],
)
def test_levels_of_corpora_come_onto_one_scale(level: str, corpus: str, expected: float) -> None:
    assert unified_intensity(level, corpus) == pytest.approx(expected)


def test_a_level_may_say_that_none_is_known() -> None:
    assert math.isnan(unified_intensity(""))
    assert math.isnan(unified_intensity("unspecified"))
    assert math.isnan(unified_intensity("XX", "cremad"))


@pytest.mark.parametrize(("level", "corpus"), [("5", ""), ("01", ""), ("XX", "toy"), ("fierce", "cremad")])
def test_a_level_on_no_known_scale_is_named(level: str, corpus: str) -> None:
    with pytest.raises(ConfigError, match=level) as caught:
        unified_intensity(level, corpus)
    assert caught.value.field == INTENSITY


def test_losses_are_means_over_the_utterances_whose_label_is_known() -> None:
    rng = np.random.default_rng(0)
    logits, nan = rng.normal(size=(6, 3)), float("nan")
    genders = np.array([0, nan, 2, 1, nan, 0])
    levels = np.array([0.0, 0.5, nan, 1.0, nan, 0.25])
    shares = rng.dirichlet(np.ones(3), size=6)
    found: dict[str, list[float]] = {GENDER: [], INTENSITY: [], PHONES: []}
    for row in range(6):
        logs = [value - math.log(sum(math.exp(other) for other in logits[row])) for value in logits[row]]
        if not math.isnan(genders[row]):
            found[GENDER].append(-logs[int(genders[row])])
        if not math.isnan(levels[row]):
            found[INTENSITY].append((1 / (1 + math.exp(-logits[row, 0])) - levels[row]) ** 2)
        found[PHONES].append(-sum(share * log for share, log in zip(shares[row], logs, strict=True)))
    for name, labels in ((GENDER, genders), (INTENSITY, levels), (PHONES, shares)):
        own = logits[:, :1] if name == INTENSITY else logits
        said = auxiliary_loss(name, torch.from_numpy(own), torch.from_numpy(labels))
        assert float(said) == pytest.approx(sum(found[name]) / len(found[name]))


@pytest.mark.parametrize("name", [GENDER, INTENSITY])
def test_unknown_labels_move_nothing(name: str) -> None:
    logits = torch.randn(4, 2, requires_grad=True)
    auxiliary_loss(name, logits, torch.tensor([1.0, float("nan"), float("nan"), 0.0])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[1:3].any()
    assert logits.grad[[0, 3]].any()
    nobody = auxiliary_loss(name, logits, torch.full((4,), float("nan")))
    assert float(nobody.detach()) == 0
    assert float(masked_mean_loss(torch.tensor([1.0, 7.0, 3.0]), torch.tensor([True, False, True]))) == 2


def test_shares_of_units_are_counted() -> None:
    assert unit_shares([np.array([0, 2, 2, 2]), np.array([1])], 3).tolist() == [[0.25, 0, 0.75], [0, 1, 0]]


def test_a_trunk_begins_alike_with_and_without_auxiliaries() -> None:
    models = []
    for auxiliaries in ({}, {GENDER: 2}):
        torch.manual_seed(3)
        models.append(MultitaskModel(5, 3, auxiliaries, 8, 0.0))
    x = torch.randn(4, 5)
    torch.testing.assert_close(models[0](x), models[1](x), rtol=0, atol=0)
    emotions, others = models[1].everything(x)
    torch.testing.assert_close(emotions, models[1](x), rtol=0, atol=0)
    assert others[GENDER].shape == (4, 2)


@pytest.mark.parametrize("system", [SMALL, CONTROL, replace(SMALL, phones=3)], ids=["multitask", "control", "phones"])
def test_emotions_are_learnt_in_every_protocol(rich: dict[str, Language], system: Multitask) -> None:
    for asked in [*known(within_tasks(rich)[:2]), *cross(rich, (2,))]:
        assert uar(system, asked.task, asked.truth) > 0.6


def test_what_the_source_has_is_used_and_the_rest_named(plain: dict[str, Language], rich: dict[str, Language]) -> None:
    facts = [SMALL.answer(within(languages)).facts for languages in (plain, rich)]
    assert facts[0]["auxiliaries"] == []
    assert facts[0]["left_out"] == {GENDER: "toy_de: female alone", INTENSITY: "toy_de: no label"}
    assert facts[1]["auxiliaries"] == [GENDER, INTENSITY]
    assert facts[1]["left_out"] == {}
    assert replace(CONTROL, phones=3).answer(within(plain)).facts["auxiliaries"] == [PHONES]


def test_without_auxiliaries_it_is_the_control(plain: dict[str, Language], rich: dict[str, Language]) -> None:
    def said(system: Multitask, languages: dict[str, Language]) -> Answer:
        return system.answer(cross(languages)[1].task)

    np.testing.assert_array_equal(said(SMALL, plain).probabilities, said(CONTROL, plain).probabilities)
    assert not np.array_equal(said(SMALL, rich).probabilities, said(CONTROL, rich).probabilities)
    assert said(SMALL, rich).parameters > said(CONTROL, rich).parameters


def test_a_required_auxiliary_must_be_there(plain: dict[str, Language], rich: dict[str, Language]) -> None:
    system = replace(SMALL, require=(INTENSITY,))
    assert system.answer(within(rich)).facts["auxiliaries"] == [GENDER, INTENSITY]
    with pytest.raises(ConfigError, match="no intensity to tell apart") as caught:
        system.answer(within(plain))
    assert caught.value.field == "require"
    assert "toy_de" in str(caught.value)


def test_a_corpus_with_an_unknown_level_is_refused_unless_intensity_is_not_used(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    changed(workspace, "de", lambda number, row: replace(row, intensity="fierce"))
    task = within(languages_of(workspace, ("de",)))
    with pytest.raises(ConfigError, match="'fierce' in toy_de"):
        SMALL.answer(task)
    assert replace(SMALL, intensity_weight=0.0).answer(task).facts["left_out"] == {GENDER: "toy_de: female alone"}


def test_seeds_decide(rich: dict[str, Language]) -> None:
    system = replace(SMALL, phones=3)
    tasks = [within(rich, seed) for seed in (0, 0, 1)]
    said = [system.answer(task).probabilities for task in tasks]
    np.testing.assert_array_equal(said[0], said[1])
    assert not np.array_equal(said[0], said[2])


def test_tasks_that_share_a_source_do_not_change_each_other(rich: dict[str, Language]) -> None:
    together = [SMALL.answer(asked.task).probabilities for asked in cross(rich, (1, 2))]
    for asked, said in zip(reversed(cross(rich, (1, 2))), reversed(together), strict=True):
        np.testing.assert_array_equal(SMALL.answer(asked.task).probabilities, said)


def test_more_units_than_frames_are_refused(plain: dict[str, Language]) -> None:
    source = within(plain).source
    with pytest.raises(ConfigError, match="too few frames") as caught:
        Units(source, UPSTREAMS[0], 5.0, 1, 1000, 0)
    assert caught.value.field == PHONES


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gender_weight", -1.0),
        ("intensity_weight", -0.1),
        ("phones_weight", -2.0),
        ("phones", -1),
        ("phone_rate", 0.0),
        ("hidden", 0),
        ("dropout", 1.0),
        ("require", ("age",)),
        ("require", (PHONES,)),
    ],
)
def test_options_that_cannot_be_are_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(Multitask(), **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_the_benchmark_knows_it_with_its_control() -> None:
    asked, control = SYSTEMS["multitask"], SYSTEMS["multitask-control"].system
    assert asked.control == "multitask-control"
    assert isinstance(asked.system, Multitask)
    assert isinstance(control, Multitask)
    assert control.asked == ()
    assert asked.system.asked == (GENDER, INTENSITY)
