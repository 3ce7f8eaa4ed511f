"""Scores of an adaptation by hand, and languages that fit a run badly: labels, experts, speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score
from toy_adapt import (
    QUICK,
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

from mser.checkpoint import load_model
from mser.config import Workspace, write_json
from mser.errors import ProtocolError
from mser.manifest import Utterance
from mser.model import MultiGateModel
from train.adapt.held_out import Kept
from train.adapt.scores import overtaken, summary
from train.adapt.study import Adaptation, half_of
from train.adapt.use import model_for_use
from train.adapt.ways import Adapter
from train.data import Features, load_languages


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Languages de, it, en of four speakers each, and a run that knows de and it."""
    return new_language(tmp_path / "work")


def test_a_language_that_lacks_an_expert_answers_by_the_others(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, ("de", "it", "en"))
    save_run(workspace, {"de": UPSTREAMS, "it": ("quiet",)})
    asked = adaptation(workspace, shots=(1,))
    halves = done(asked)
    start, target = asked.open()
    model, _ = load_model(start.path)
    assert isinstance(model, MultiGateModel)
    adapter = Adapter(start, target, QUICK, torch.device("cpu"), "auto")
    (quiet,) = load_languages(workspace, ["en"], ["quiet"], Features())
    for half in halves:
        said = plain(model, "it", quiet, half["utterance_ids"])
        row = {one.utterance_id: number for number, one in enumerate(target.data.utterances)}
        rows = np.array([row[name] for name in half["utterance_ids"]])
        np.testing.assert_allclose(adapter.of_networks(start.model, ["it"], rows)[1], said, rtol=1e-5)
        assert len(half["answers"]) == 5 + 4 + 2


def test_a_network_alone_may_lack_what_run_and_language_share(workspace: Workspace) -> None:
    relabel(workspace, "toy_it", renamed(fear="disgust"))
    relabel(workspace, "toy_en", renamed(fear="disgust", joy="fear"))
    save_run(workspace)  # de: anger fear joy; it: anger disgust joy; en: anger disgust fear
    found = numbers(adaptation(workspace, shots=(1,)))
    assert (found["shared"], found["run_alone"]) == (["anger", "disgust", "fear"], ["joy"])
    assert all(one["closed"] for one in found["points"])
    (near,) = (one for one in found["points"] if one["way"] == "nearest")
    # At least one emotion of three is unknown to either network, so its recall is 0.
    assert near["closed"]["emotions"] == 3
    assert near["closed"]["mean"] <= 67


def made_up(asked: Adaptation, way: str, emotions: Sequence[str], said: np.ndarray) -> None:
    """Writes an answer of one way as if it had been asked: probabilities (N, E) of the whole language."""
    start, target = asked.open()
    for _, draw, number in asked.blocks(target):
        rows = half_of(target, draw, number).test
        answer = {"way": way, "k": 0, "emotions": list(emotions), "probabilities": said[rows].tolist(), "shots": []}
        write_json(asked.path(draw, number), {
            "key": asked.key(start, target), "draw": draw, "half": number, "asked": {}, "near": {"de": 1.0, "it": 2.0},
            "utterance_ids": [target.data.utterances[row].utterance_id for row in rows], "adapt": 12,
            "answers": [answer],
        })  # fmt: skip


def test_closed_open_and_all_by_hand(workspace: Workspace) -> None:
    relabel(workspace, "toy_en", renamed(joy="sadness"))  # the run knows anger, fear and joy
    asked = adaptation(workspace, shots=())
    knows, said = ("anger", "fear", "joy"), np.random.default_rng(0).dirichlet(np.ones(3), 24)
    made_up(asked, "averaged", knows, said)
    found = summary(asked, *asked.open(), 0.0)
    (point,) = found["points"]
    truth = np.array([row.emotion for row in asked.open()[1].data.utterances])
    first = np.array(knows)[said.argmax(1)]
    shared = np.isin(truth, knows)
    closed = np.array(knows)[said[:, :2].argmax(1)]
    of_two = {"labels": ["anger", "fear"], "average": "macro", "zero_division": 0}
    assert point["closed"]["mean"] == pytest.approx(100 * recall_score(truth[shared], closed[shared], **of_two))
    assert point["open"]["mean"] == pytest.approx(100 * recall_score(truth[shared], first[shared], **of_two))
    of_three = {**of_two, "labels": ["anger", "fear", "sadness"]}
    assert point["all"]["mean"] == pytest.approx(100 * recall_score(truth, first, **of_three))
    assert (point["closed"]["utterances"], point["closed"]["emotions"]) == (16, 2)
    assert (point["all"]["utterances"], point["all"]["emotions"], point["all"]["draws"]) == (24, 3, 1)
    assert (found["shared"], found["unknown"], found["run_alone"]) == (["anger", "fear"], ["sadness"], ["joy"])
    assert found["chance"] == {"closed": 50, "all": pytest.approx(100 / 3)}
    assert (found["shared_utterances"], found["utterances"], found["speakers"]) == (16, 24, 4)


def test_a_closed_answer_is_one_among_small_probabilities(workspace: Workspace) -> None:
    relabel(workspace, "toy_de", renamed(joy="boredom"))
    relabel(workspace, "toy_it", renamed(joy="boredom"))

    def sure(model: MultiGateModel) -> None:
        for network in model.networks.values():
            network.head.classifier.bias.data[1] = 30.0  # type: ignore[union-attr,index]

    save_run(workspace, change=sure)
    asked = adaptation(workspace, shots=())
    halves = done(asked)
    start, target = asked.open()
    adapter = Adapter(start, target, QUICK, torch.device("cpu"), "auto")
    for number, half in enumerate(halves):
        rows = half_of(target, 0, number).test
        emotions, exact = adapter.of_networks(start.model, [min(half["near"], key=half["near"].get)], rows)
        assert emotions == ("anger", "boredom", "fear")
        kept = np.array(of_way(half, "nearest")["probabilities"])
        assert exact[:, [0, 2]].max() < 1e-5
        np.testing.assert_array_equal(kept[:, [0, 2]].argmax(1), exact[:, [0, 2]].argmax(1))
        np.testing.assert_allclose(kept, exact, rtol=1e-4)


def points(**means: Sequence[float | None]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (way.replace("_", "-"), k): {"all": None if mean is None else {"mean": mean}}
        for way, own in means.items() for k, mean in zip(("1", "5", "all"), own, strict=False)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scratch", "wanted"),
    [((50, 70, 90), ["5", "all"]), ((60, 70, 90), ["1", "5", "all"]), ((50, 60, 90), ["all"]),
     ((90, 90, 70), ["1", "5"]), ((60, 50, 70), ["1"]), ((50, 70), ["5"]), ((50, 69, None), [])],
)  # fmt: skip
def test_scratch_overtakes_where_it_is_at_least_as_good_as_the_best_way_from_the_run(
    scratch: Sequence[float | None], wanted: list[str]
) -> None:
    there = points(shots=(60, 65, 80), shots_gentle=(55, 70, 75), scratch=scratch)
    assert overtaken(there, "scratch", ["0", "1", "5", "all"], "all") == wanted
    assert overtaken(there, "scratch-logistic", ["0", "1", "5", "all"], "all") == []


def test_a_mapping_merges_labels_and_leaves_out_what_counts_as_nothing(workspace: Workspace) -> None:
    for corpus in ("toy_de", "toy_it"):
        relabel(workspace, corpus, renamed(joy="calm"))
    relabel(workspace, "toy_en", lambda row: {"s0u2": "boredom", "s1u2": "calm"}.get(row.utterance_id.split("/")[1],
            {"joy": "neutral"}.get(row.emotion, row.emotion)))  # fmt: skip
    save_run(workspace)
    asked = adaptation(workspace, mapping="coarse", shots=())
    found = numbers(asked)
    assert found["left_out"] == {"boredom": 1}
    assert (found["utterances"], found["shared"]) == (23, ["anger", "fear", "neutral"])
    assert found["emotions"] == {"anger": 8, "fear": 8, "neutral": 7}
    tested = {name for half in done(asked) for name in half["utterance_ids"]}
    assert "toy_en/s0u2" not in tested
    assert len(tested) == 23


def test_speakers_of_whom_nothing_counts_are_never_a_half(workspace: Workspace) -> None:
    def say(row: Utterance) -> str:
        return row.emotion.replace("joy", "sadness") if row.speaker in ("s0", "s1") else "boredom"

    relabel(workspace, "toy_en", say)
    for corpus in ("toy_de", "toy_it"):
        relabel(workspace, corpus, renamed(joy="sadness"))
    save_run(workspace)
    asked = adaptation(workspace, mapping="coarse", draws=3, shots=())
    for half in done(asked):
        assert speakers_of(half["utterance_ids"]) in ({"toy_en/s0"}, {"toy_en/s1"})
        assert len(half["utterance_ids"]) == 6
        assert half["adapt"] == 18
    found = numbers(asked)
    assert (found["speakers"], found["utterances"]) == (2, 12)
    relabel(workspace, "toy_en", lambda row: row.emotion if row.speaker == "s0" else "boredom")
    alone = numbers(asked)
    assert (alone["speakers"], alone["draws"], [one["way"] for one in alone["points"]]) == (1, 1, ["averaged"])


def test_an_emotion_with_few_clips_or_none_of_the_other_speakers(workspace: Workspace) -> None:
    first = ("s0u0", "s1u0")
    relabel(workspace, "toy_en", lambda row: "surprise" if row.utterance_id.endswith(first) else row.emotion)
    for corpus in ("toy_de", "toy_it"):
        relabel(workspace, corpus, lambda row: "surprise" if row.utterance_id.endswith("u0") else row.emotion)
    save_run(workspace)
    asked = adaptation(workspace, draws=2, shots=(1, 3))
    halves, found = done(asked), numbers(asked)
    rare = {"toy_en/s0u0", "toy_en/s1u0"}
    there = [len(rare & set(of_way(half, "shots", 3)["shots"])) for half in halves]
    assert there == [len(rare - set(half["utterance_ids"])) for half in halves]
    assert found["fewest_shots"]["3"] == min(there)
    assert all(one["all"] for one in found["points"] if one["way"] != "self-trained")
    # What was answered beside what is asked now is not told of.
    assert set(numbers(replace(asked, shots=(3,)))["fewest_shots"]) == {"3"}


def test_run_and_language_without_a_shared_emotion(workspace: Workspace) -> None:
    relabel(workspace, "toy_en", renamed(anger="calm", fear="boredom", joy="sadness"))
    found = numbers(adaptation(workspace, shots=(None,)))
    assert found["shared"] == []
    for one in found["points"]:
        assert one["closed"] is one["open"] is None
        if one["way"] in ZERO:
            assert one["all"]["mean"] == 0
    assert "self-trained" not in {one["way"] for one in found["points"]}
    assert {one["way"] for one in found["points"]} == {*ZERO, *SHOT_WAYS}


def test_a_mapping_under_which_nothing_is_left_is_refused(workspace: Workspace) -> None:
    for corpus in ("toy_de", "toy_it"):
        relabel(workspace, corpus, renamed(anger="low", fear="medium", joy="high"))
    save_run(workspace)
    relabel(workspace, "toy_en", renamed(joy="sadness"))
    with pytest.raises(ProtocolError, match="leaves out every emotion of the run"):
        adaptation(workspace, mapping="coarse").open()
    relabel(workspace, "toy_en", renamed(fear="anger", sadness="boredom"))
    with pytest.raises(ProtocolError, match="Fewer than two emotions of en") as caught:
        adaptation(workspace, mapping="coarse").open()
    assert "anger" in str(caught.value)


def test_a_single_speaker_is_only_asked_about_zero_shot(workspace: Workspace) -> None:
    relabel(workspace, "toy_en", lambda row: row.emotion if row.speaker == "s2" else None)
    asked = adaptation(workspace, draws=3)
    (half,) = done(asked)
    assert [one["way"] for one in half["answers"]] == ["averaged"]
    assert len(half["utterance_ids"]) == 6
    found = numbers(asked)
    assert (found["speakers"], found["draws"], found["audit"]) == (1, 1, [])
    assert model_for_use(asked, workspace.runs / "base-to-en", Kept()).is_file()
