"""Cells and tasks of the benchmark: who is in which part, what is told and what is not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ROOT
from toy_tasks import cross_tasks, languages_of, toy_languages, within_tasks
from toys import make_workspace

from mser.config import Workspace
from mser.errors import ProtocolError
from mser.manifest import Manifest
from mser.mapping import EMOTIONS, load_mapping
from train.benchmark.cells import Pair, halves, pairs, shared_labels, tasks_of
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT, Language, Part


def speakers(part: Part) -> set[str]:
    return set(part.speakers.tolist())


def emotions_of(root: Path, part: Part) -> list[str]:
    """Of a part's utterances by the manifest of the workspace at ``root``."""
    rows = Manifest.read(Workspace(root), f"toy_{part.language.name}").utterances
    return [rows[row].emotion for row in part.rows]


def relabelled(root: Path, language: str, names: dict[str, str], speakers: int = 4) -> dict[str, Language]:
    """Toy languages de and it, of which one says other names of emotions; those mapped to nothing are left out."""
    workspace = make_workspace(root, ("de", "it"), speakers=speakers)
    corpus = f"toy_{language}"
    manifest = Manifest.read(workspace, corpus)
    rows = tuple(
        replace(row, emotion=names.get(row.emotion, row.emotion))
        for row in manifest.utterances
        if names.get(row.emotion, row.emotion)
    )
    replace(manifest, utterances=rows).write(workspace, [], [])
    return languages_of(workspace, ("de", "it"))


def test_the_pairs_are_every_language_and_every_ordered_pair() -> None:
    names = ("de", "it", "en", "ur")
    found = pairs(names, (WITHIN, ZERO_SHOT, FEW_SHOT), (EMOTIONS, "valence"))
    assert len([pair for pair in found if pair.within]) == 4
    across = {(pair.source, pair.target) for pair in found if not pair.within}
    assert across == {(one, other) for one in names for other in names if one != other}
    assert len([pair for pair in found if pair.labels == "valence"]) == 12
    assert pairs(names, (FEW_SHOT,), (EMOTIONS, "valence")) == [pair for pair in found if pair.labels == EMOTIONS][4:]
    assert len(pairs(names, (WITHIN, FEW_SHOT), ("valence",))) == 4 + 12


def test_within_a_language_no_speaker_is_on_two_sides(tmp_path: Path) -> None:
    asked = within_tasks(toy_languages(tmp_path, ("de",)), seeds=(0, 1))
    assert len(asked) == 4 * 2
    for one in asked:
        task = one.task
        assert not speakers(task.source) & speakers(task.test)
        assert len(task.shots) == len(task.adapt) == 0
        assert len(task.test.labels) == 0
        assert len(one.truth) == len(task.test)
        for train, dev in task.splits:
            assert not speakers(task.source.at(train)) & speakers(task.source.at(dev))
            assert sorted([*train, *dev]) == list(range(len(task.source)))


def test_across_languages_each_half_is_tested_once_and_never_heard_before(tmp_path: Path) -> None:
    languages = toy_languages(tmp_path)
    asked = cross_tasks(languages, shots=(1, 2), seeds=(0, 1))
    for seed in (0, 1):
        for k in (0, 1, 2):
            own = [one.task for one in asked if (one.task.seed, one.task.k) == (seed, k)]
            tested = np.concatenate([task.test.rows for task in own])
            assert sorted(tested.tolist()) == list(range(len(languages["it"])))
            for task in own:
                assert task.protocol == (FEW_SHOT if k else ZERO_SHOT)
                assert not speakers(task.test) & (speakers(task.adapt) | speakers(task.shots))
                assert set(task.shots.rows) <= set(task.adapt.rows)
                assert len(task.adapt.labels) == len(task.test.labels) == 0
                assert np.bincount(task.shots.labels, minlength=3).tolist() == [k] * 3


def test_shots_of_a_smaller_k_are_among_those_of_a_larger_one_and_the_seed_draws_them(tmp_path: Path) -> None:
    asked = cross_tasks(toy_languages(tmp_path), shots=(1, 3), seeds=(0, 1))
    drawn = {(one.task.name, one.task.k, one.task.seed): set(one.task.shots.rows) for one in asked}
    for name in ("half-0", "half-1"):
        assert drawn[name, 1, 0] < drawn[name, 3, 0]
    assert any(drawn[name, 3, 0] != drawn[name, 3, 1] for name in ("half-0", "half-1"))


def test_the_truth_is_that_of_the_manifest_in_the_tasks_emotions(tmp_path: Path) -> None:
    languages = relabelled(tmp_path, "it", {"joy": "surprise"})
    for one in cross_tasks(languages):
        assert one.task.emotions == ("anger", "fear")
        said = emotions_of(tmp_path, one.task.test)
        assert said == [one.task.emotions[label] for label in one.truth]
        learnt = emotions_of(tmp_path, one.task.source)
        assert learnt == [one.task.emotions[label] for label in one.task.source.labels]
        # Whom to adapt to is not chosen by labels.
        assert set(emotions_of(tmp_path, one.task.adapt)) == {"anger", "fear", "surprise"}


def test_what_a_system_reads_of_an_utterance_does_not_tell_its_emotion(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, ("de", "it"))
    for language in ("de", "it"):  # as corpora may be: folders, names of files and texts say the emotion
        manifest = Manifest.read(workspace, f"toy_{language}")
        fields = ("utterance_id", "path", "source_label", "text_id", "intensity")
        told = [dict.fromkeys(fields, f"{row.emotion} {number}") for number, row in enumerate(manifest.utterances)]
        rows = tuple(replace(row, **said) for row, said in zip(manifest.utterances, told, strict=True))
        replace(manifest, utterances=rows).write(workspace, [], [])
    languages = languages_of(workspace, ("de", "it"))
    asked = [*within_tasks(languages), *cross_tasks(languages)]
    parts = [(part, labelled) for one in asked for part, labelled in (
        (one.task.source, True), (one.task.shots, True), (one.task.adapt, False), (one.task.test, False),
    )]  # fmt: skip
    for part, labelled in parts:
        assert len(part.utterances) == len(part)
        for row, whole in zip(part.utterances, [part.language.data.utterances[row] for row in part.rows], strict=True):
            told = {name: value for name, value in asdict(row).items() if whole.emotion in str(value)}
            assert told == ({"intensity": whole.intensity} if labelled else {})
            assert (row.speaker_id, row.gender, row.seconds) == (whole.speaker_id, whole.gender, whole.seconds)


def test_no_system_reads_what_the_benchmark_knows_of_a_language() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "train" / "systems").glob("*.py")}
    reading = {name: len(found) for name, text in texts.items() if (found := re.findall(r"language\.data\b", text))}
    # A part reads its own rows; the gated head asks a search of the source for its structure.
    assert reading == {"task.py": 1, "ours.py": 1}


def test_a_task_tells_what_counts_as_its_labels(tmp_path: Path) -> None:
    counts = {"anger": "anger", "fear": "fear", "joy": "excitement"}
    languages = relabelled(tmp_path / "own", "it", counts)
    source = relabelled(tmp_path / "other", "de", counts)["de"]
    (one, *_) = cross_tasks({"de": source, "it": languages["it"]}, labels="coarse")
    assert one.task.emotions == ("anger", "fear", "happiness")
    assert one.task.meanings["happiness"] == ["amusement", "excitement", "happiness"]
    assert cross_tasks(languages)[0].task.meanings == {}


def test_a_part_gives_states_and_statistics_of_its_own_rows(tmp_path: Path) -> None:
    (one, *_) = within_tasks(toy_languages(tmp_path, ("de",)))
    part = one.task.source
    pooled = part.pooled("loud")
    assert pooled.shape == (len(part), 2, 2, 4)
    frames = part.language.frames("loud", 5.0)
    joined = torch.cat([frames[int(row)] for row in part.rows], dim=1).double()
    for shift, scale in (part.standard("loud"), part.standard("loud", 5.0)):
        assert torch.allclose(shift.double(), joined.mean(1), atol=1e-5)
        assert torch.allclose(1 / scale.double(), joined.std(1, correction=0), atol=1e-4)
    assert torch.allclose(pooled[3, :, 0], frames[int(part.rows[3])].mean(1), atol=1e-6)


def test_languages_that_share_fewer_than_two_emotions_cannot_be_asked(tmp_path: Path) -> None:
    languages = relabelled(tmp_path, "it", {"joy": "surprise", "fear": "sadness"})
    with pytest.raises(ProtocolError, match="no two labels to tell apart in de and it") as error:
        shared_labels(languages["de"], languages["it"], load_mapping(EMOTIONS))
    assert "anger, sadness, surprise" in str(error.value)


def test_a_target_of_one_speaker_cannot_be_adapted_to(tmp_path: Path) -> None:
    languages = relabelled(tmp_path, "it", {}, speakers=1)
    with pytest.raises(ProtocolError, match="single speaker") as error:
        halves(languages["it"])
    assert "toy_it/s0" in str(error.value)


def test_a_target_without_a_labelled_clip_of_an_emotion_gives_no_shots(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, ("de", "it"))
    manifest = Manifest.read(workspace, "toy_it")
    one_half = {row.speaker_id for row in manifest.utterances[: len(manifest.utterances) // 4]}
    rows = tuple(row for row in manifest.utterances if row.emotion != "joy" or row.speaker_id in one_half)
    replace(manifest, utterances=rows).write(workspace, [], [])
    languages = languages_of(workspace, ("de", "it"))
    with pytest.raises(ProtocolError, match="no labelled utterance of joy"):
        cross_tasks(languages)
    pair = Pair(EMOTIONS, "de", "it")
    assert len(tasks_of(pair, languages, [ZERO_SHOT], [], [0], torch.device("cpu"))) == 2


def test_the_example_of_the_documentation_is_a_system(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    example, registration = (block.partition("```")[0] for block in text.split("```python\n")[1:])
    assert len(example.splitlines()) <= 42
    (tmp_path / "nearest_mean.py").write_text(example, encoding="utf-8")
    program = (
        "from nearest_mean import NearestMean\nfrom train.systems import Entry\n"
        f"entry, = ({registration.strip()})\n"
        "from toy_tasks import cross_tasks, toy_languages, within_tasks\nfrom pathlib import Path\n"
        "languages = toy_languages(Path('work'))\n"
        "for one in [*within_tasks(languages), *cross_tasks(languages)]:\n"
        "    answer = entry.system.answer(one.task)\n"
        "    print(entry.name, one.task.protocol, (answer.probabilities.argmax(1) == one.truth).mean())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rights = [float(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(rights) == 4 + 4
    assert min(rights) > 0.8
