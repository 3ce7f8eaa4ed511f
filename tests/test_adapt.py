"""A new language onto a trained run: what every way says, from what, and what is not asked again."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_adapt import (
    EMOTIONS,
    SHOT_WAYS,
    UPSTREAMS,
    ZERO,
    adaptation,
    done,
    new_language,
    numbers,
    of_way,
    plain,
    relabel,
    renamed,
    save_run,
    speakers_of,
)
from toys import make_workspace

from mser.checkpoint import load_model, save_model
from mser.config import Workspace, read_json, write_json
from mser.errors import StoreError
from mser.gating import ConstantGate
from mser.labels import load_labels
from mser.loader import Loader
from mser.manifest import Manifest
from mser.model import MultiGateModel
from mser.predict.head import load_heads
from train.adapt.held_out import Kept
from train.adapt.scores import summary
from train.adapt.study import adapt_block
from train.adapt.use import model_for_use
from train.adapt.ways import KEPT, ON_SHOTS, WAYS
from train.data import Features, load_languages

#: Labelled clips an emotion.
SHOTS = (1, 2, None)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Languages de, it, en of four speakers each, and a run that knows de and it."""
    return new_language(tmp_path / "work")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[dict[str, Any]]]:
    """The halves of one draw; nothing is written to the workspace any more."""
    found = new_language(tmp_path_factory.mktemp("first"))
    return found, done(adaptation(found, shots=SHOTS))


def test_every_way_answers_every_utterance_once(first: tuple[Workspace, list[dict[str, Any]]]) -> None:
    workspace, halves = first
    every = {row.utterance_id for row in Manifest.read(workspace, "toy_en").utterances}
    assert sorted(name for half in halves for name in half["utterance_ids"]) == sorted(every)
    asked = [(one.name, k) for one in WAYS for k in ((1, 2, "all") if one.needs == "shots" else (0,))]
    for half in halves:
        assert sorted(((one["way"], one["k"]) for one in half["answers"]), key=str) == sorted(asked, key=str)
        for one in half["answers"]:
            said = np.array(one["probabilities"])
            assert said.shape == (len(half["utterance_ids"]), len(one["emotions"]))
            np.testing.assert_allclose(said.sum(1), 1, atol=1e-4)
        assert set(half["near"]) == {"de", "it"}


def test_zero_shot_is_a_plain_forward_of_the_runs_networks(workspace: Workspace) -> None:
    halves = done(adaptation(workspace, shots=()))
    (data,) = load_languages(workspace, ["en"], UPSTREAMS, Features())
    for half in halves:
        model, _ = load_model(workspace.runs / "base" / "model.safetensors")
        assert isinstance(model, MultiGateModel)
        near = min(half["near"], key=half["near"].get)
        ids, adapt = half["utterance_ids"], [one.utterance_id not in half["utterance_ids"] for one in data.utterances]
        said = plain(model, near, data, ids)
        np.testing.assert_allclose(of_way(half, "nearest")["probabilities"], said, rtol=1e-4)
        for number, expert in enumerate(data.experts):  # one frame an utterance: plain means and deviations
            frames = expert.moments[adapt, :, 0].double()
            for language in ("de", "it"):
                mix: Any = model.network(language).mixes[number]  # type: ignore[index]
                mix.shift.copy_(frames.mean(0))
                mix.scale.copy_(1 / frames.std(0, correction=0))
        said = plain(model, near, data, ids)
        np.testing.assert_allclose(of_way(half, "nearest-unlabelled")["probabilities"], said, rtol=1e-3, atol=1e-5)
        gates: list[Any] = [model.network(language).gate for language in ("de", "it")]
        mean = torch.stack([gate.logits.softmax(0) for gate in gates]).mean(0).detach()
        for gate in gates:
            assert isinstance(gate, ConstantGate)
            gate.logits.data.copy_(mean.log())
        said = np.mean([plain(model, language, data, ids) for language in ("de", "it")], axis=0)
        np.testing.assert_allclose(of_way(half, "averaged-unlabelled")["probabilities"], said, rtol=1e-3, atol=1e-5)


def test_labelled_clips_are_only_of_speakers_that_are_not_tested(first: tuple[Workspace, list[dict[str, Any]]]) -> None:
    workspace, halves = first
    emotion = {row.utterance_id: row.emotion for row in Manifest.read(workspace, "toy_en").utterances}
    for half in halves:
        tested, shots = speakers_of(half["utterance_ids"]), {}
        assert len(tested) == 2
        for one in half["answers"]:
            assert not speakers_of(one["shots"]) & tested
            assert bool(one["shots"]) == (one["k"] != 0)
            shots[one["k"]] = one["shots"]
        assert [sorted(emotion[name] for name in shots[k]) for k in (1, 2)] == [sorted(EMOTIONS * k) for k in (1, 2)]
        assert set(shots[1]) < set(shots[2]) < set(shots["all"])
        assert len(shots["all"]) == 12


def test_no_label_of_a_tested_speaker_changes_an_answer(
    first: tuple[Workspace, list[dict[str, Any]]], tmp_path: Path
) -> None:
    workspace, (half, _) = first
    another = Workspace(tmp_path / "copy")
    shutil.copytree(workspace.root, another.root)
    tested = speakers_of(half["utterance_ids"])
    turned = dict(zip(EMOTIONS, (*EMOTIONS[1:], EMOTIONS[0]), strict=True))  # as many of each emotion as before
    relabel(another, "toy_en", lambda row: turned[row.emotion] if row.speaker_id in tested else row.emotion)
    asked = adaptation(another, shots=SHOTS)
    adapt_block(asked, 0, 0)
    other = read_json(asked.path(0, 0))
    assert other["key"] != half["key"]
    for name in ("utterance_ids", "answers", "near"):
        assert other[name] == half[name]


def test_finished_halves_are_not_asked_again_but_for_other_shots(workspace: Workspace) -> None:
    asked = adaptation(workspace, shots=(1,))
    done(asked)
    paths = [asked.path(0, number) for number in (0, 1)]
    times = [path.stat().st_mtime_ns for path in paths]
    done(asked)
    fewer = replace(asked, shots=())  # none of which is not there already
    assert {one["k"] for one in numbers(fewer)["points"]} == {"0"}
    assert [path.stat().st_mtime_ns for path in paths] == times


@pytest.mark.parametrize("later", [(2,), (1, None)])
def test_another_k_is_asked_alone_and_added(workspace: Workspace, later: tuple[int | None, ...]) -> None:
    asked = adaptation(workspace, shots=(1,))
    before = done(asked)
    # At all clips the ways of the model for use are asked beside k = 1; scratch is not.
    assert before[0]["asked"] == {"1": list(ON_SHOTS), "all": list(KEPT)}
    for half in before:  # what was answered is not computed again: a mark in it stays
        half["answers"][0]["probabilities"][0] = [1.0, 0.0, 0.0]
        write_json(asked.path(half["draw"], half["half"]), half)
    added = done(replace(asked, shots=later))
    at_once = done(replace(asked, shots=(1, *later), folder=asked.folder / "at-once"))
    for first, second, whole in zip(before, added, at_once, strict=True):
        count = len(first["answers"])
        assert second["answers"][:count] == first["answers"]
        for one in second["answers"][count:]:
            assert one == of_way(whole, one["way"], one["k"])
        marked = {(one["way"], one["k"]) for one in second["answers"]}
        assert marked == {(one["way"], one["k"]) for one in whole["answers"]}
        assert len(second["answers"]) == len(marked)


def test_damaged_halves_and_those_of_another_making_are_asked_anew(workspace: Workspace) -> None:
    asked = adaptation(workspace, shots=())
    done(asked)
    paths = [asked.path(0, number) for number in (0, 1)]
    before, times = paths[0].read_bytes(), [path.stat().st_mtime_ns for path in paths]
    whole = json.loads(before)
    half_a_file, empty = before[: len(before) // 2].decode(), "{}"
    lacking = json.dumps({name: value for name, value in whole.items() if name != "adapt"})
    for damaged in (half_a_file, empty, lacking):
        paths[0].write_text(damaged, encoding="utf-8")
        with pytest.warns(UserWarning, match="counts as missing"):
            done(asked)
        assert paths[0].read_bytes() == before
    write_json(paths[0], {**whole, "key": "another"})
    done(asked)
    assert paths[0].read_bytes() == before
    assert paths[1].stat().st_mtime_ns == times[1]


def test_another_mapping_model_or_manifest_is_asked_anew_in_the_same_process(workspace: Workspace) -> None:
    asked = adaptation(workspace, shots=())
    keys = [done(asked)[0]["key"]]
    relabel(workspace, "toy_en", renamed(joy="happiness"))
    keys.append(done(asked)[0]["key"])
    own = workspace.root / "own.yaml"
    for counts in ("happiness", "anger"):
        labels = {**{name: name for name in load_labels()}, "surprise": counts}
        own.write_text(json.dumps({"title": "own", "labels": labels}), encoding="utf-8")
        relabel(workspace, "toy_de", renamed(joy="happiness"))
        relabel(workspace, "toy_it", renamed(joy="happiness"))
        save_run(workspace)
        keys.append(done(replace(asked, mapping=str(own)))[0]["key"])
    save_run(workspace, change=lambda model: model.projections[0].weight.data.mul_(2))
    keys.append(done(replace(asked, mapping=str(own)))[0]["key"])
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_depend_on_the_last_bits_of_a_sum_of_weights(workspace: Workspace) -> None:
    asked = adaptation(workspace)
    start, target = asked.open()
    moved = copy.deepcopy(start.model).double()
    with torch.no_grad():
        moved.projections[0].weight.mul_(1 + 1e-12)  # as another device, or another number of threads, would add them
    assert asked.key(replace(start, model=moved), target) == asked.key(start, target)


def test_two_corpora_of_a_language_are_one_language(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, ("de", "it", "en", "fr"), speakers=2)
    relabel(workspace, "toy_fr", renamed(), language="en")
    save_run(workspace)
    asked = adaptation(workspace, shots=(1,), draws=2)
    halves = done(asked)
    names = [name for half in halves[:2] for name in half["utterance_ids"]]
    assert len(set(names)) == len(names) == 24
    found = numbers(asked)
    assert (found["corpora"], found["speakers"]) == (["toy_en", "toy_fr"], 4)
    assert model_for_use(asked, workspace.runs / "base-to-en", Kept()).is_file()


def test_frames_are_adapted_to_as_pooled_statistics_are(workspace: Workspace) -> None:
    save_run(workspace, kind="frames")
    asked = adaptation(workspace, shots=(1,))
    (data,) = load_languages(workspace, ["en"], UPSTREAMS, Features("frames"))
    model, _ = load_model(workspace.runs / "base" / "model.safetensors")
    assert isinstance(model, MultiGateModel)
    for half in done(asked):
        near = min(half["near"], key=half["near"].get)
        said = plain(model, near, data, half["utterance_ids"])
        np.testing.assert_allclose(of_way(half, "nearest")["probabilities"], said, rtol=1e-4)
        assert {one["way"] for one in half["answers"]} >= {*ZERO, *SHOT_WAYS}


def test_states_of_another_making_are_refused(workspace: Workspace) -> None:
    path = workspace.runs / "base" / "model.safetensors"
    model, facts = load_model(path)
    for stores in facts["stores"].values():
        stores["quiet"]["upstream"]["revision"] = "2"
    save_model(path, model, facts)
    with pytest.raises(StoreError, match="states of quiet were made otherwise") as caught:
        adaptation(workspace).open()
    assert 'make extract LANG=en UPSTREAMS="quiet"' in str(caught.value)


def test_the_model_for_use_knows_the_language_and_answers(workspace: Workspace) -> None:
    asked = adaptation(workspace, shots=())
    path = model_for_use(asked, workspace.runs / "base-to-en", Kept())
    head = load_heads(path.parent)["en"]
    assert (head.emotions, list(head.keys), head.calibrated) == (EMOTIONS, list(UPSTREAMS), False)
    (data,) = load_languages(workspace, ["en"], UPSTREAMS, Features())
    batch = Loader(data.experts, data.labels).gather(np.arange(24))
    said = head.model("en", batch).logits.exp().detach().numpy()
    np.testing.assert_allclose(said.sum(1), 1, rtol=1e-5)
    source, _ = load_model(workspace.runs / "base" / "model.safetensors")
    members: Any = head.model
    old = source.state_dict()["projections.0.weight"]
    assert torch.equal(members.state_dict()["members.projections.0.weight"], old)  # the trunk is frozen
    first = path.read_bytes()
    assert model_for_use(asked, path.parent, Kept()).read_bytes() == first


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_answers_of_the_cpu(workspace: Workspace) -> None:
    asked = adaptation(workspace)
    on_cpu = done(asked)
    other = replace(asked, device="cuda", folder=asked.folder.with_name("cuda"))
    on_cuda = done(other)
    for one, also in zip(on_cpu, on_cuda, strict=True):
        assert (one["key"], one["utterance_ids"]) == (also["key"], also["utterance_ids"])
        for first, second in zip(one["answers"], also["answers"], strict=True):
            assert (first["way"], first["k"], first["shots"]) == (second["way"], second["k"], second["shots"])
            np.testing.assert_allclose(first["probabilities"], second["probabilities"], atol=1e-4)
    assert len(summary(other, *other.open(), 0.0)["points"]) == 5 + 2 * 4
