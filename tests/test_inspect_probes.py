"""What layers tell, how alike they are, and maps: against plain formulas, scikit-learn and what was planted."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler
from toys import examples, utterance

from mser.errors import ConfigError
from mser.inspect import similarity
from mser.inspect.maps import make_map
from mser.inspect.probes import _PARTED, _CannotAskError, probe_confound, probe_emotion, rounds
from mser.inspect.similarity import linear_cka
from mser.inspect.wanted import TARGETS
from mser.manifest import Utterance
from mser.probe import choose_layer
from mser.protocol import make_folds

EMOTIONS = ("anger", "fear", "joy")


def rows_of(speakers: int = 6, texts: int = 6, genders: str = "fm") -> list[Utterance]:
    """Each speaker says each text in one emotion; emotions, speakers and texts are not tied to each other."""
    return [
        replace(
            utterance(f"s{speaker}t{text}", f"s{speaker}", EMOTIONS[(speaker + text) % 3], text=f"t{text}"),
            gender=genders[speaker % len(genders)],
        )
        for speaker in range(speakers)
        for text in range(texts)
    ]


def means_of(utterances: Sequence[Utterance], planted: Sequence[str], seed: int = 0) -> np.ndarray:
    """Noise (N, L, 24), a layer for each name: the values of that column stand out by a feature of their own."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(len(utterances), len(planted), 24)).astype(np.float32)
    for layer, name in enumerate(planted):
        values = np.array([getattr(row, name) for row in utterances])
        for place, value in enumerate(sorted(set(values))):
            means[values == value, layer, place] += 20
    return means


def test_each_probe_finds_the_layer_that_it_was_planted_in() -> None:
    utterances = rows_of()
    planted = ("emotion", "speaker", "gender", "text_id")
    means = means_of(utterances, planted)
    calls: list[None] = []
    for target, layer in zip(TARGETS, range(4), strict=True):
        probe = (
            probe_emotion(means, utterances, lambda: calls.append(None))[0]
            if target == "emotion"
            else probe_confound(target, means, utterances, lambda: calls.append(None))
        )
        assert probe.uar is not None
        assert probe.uar[layer] > 90
        others = [uar for number, uar in enumerate(probe.uar) if number != layer]
        if target != "gender":  # which who knows the speaker of few does not tell of others
            assert max(others) < 70
        assert probe.chance == pytest.approx(100 / probe.classes)
        assert probe.utterances == len(utterances)
    assert len(calls) == rounds(utterances, TARGETS)


def test_emotions_are_probed_as_stage_two_probes_them() -> None:
    utterances = rows_of()
    means = means_of(utterances, ("speaker", "emotion", "text_id")) + 8 * np.random.default_rng(1).normal(
        size=(len(utterances), 3, 24)
    ).astype(np.float32)
    emotions = np.array([row.emotion for row in utterances])
    probe, tested = probe_emotion(means, utterances)
    assert probe.uar is not None
    assert tested is not None
    folds = make_folds(utterances)
    choices = [choose_layer(means, emotions, fold) for fold in folds]
    np.testing.assert_allclose(probe.uar, np.mean([choice.dev_uar for choice in choices], axis=0))
    said = np.empty_like(emotions)
    for fold, choice in zip(folds, choices, strict=True):
        scaler = StandardScaler().fit(means[fold.train, choice.layer])
        fitted = LogisticRegression(max_iter=5000).fit(
            scaler.transform(means[fold.train, choice.layer]), emotions[fold.train]
        )
        said[fold.test] = fitted.predict(scaler.transform(means[fold.test, choice.layer]))
    assert tested.uar == pytest.approx(100 * balanced_accuracy_score(emotions, said), abs=2)
    assert sum(tested.chosen.values()) == tested.folds == len(folds)
    assert tested.utterances == len(utterances)


@pytest.mark.parametrize("target", ["speaker", "gender", "sentence"])
def test_confounds_are_parted_by_what_would_give_them_away(target: str) -> None:
    utterances = rows_of(speakers=7, texts=5)
    parting = _PARTED[target](utterances)
    rows, labels, parts = parting.rows, parting.labels, parting.parts
    assert sorted(rows) == list(range(len(utterances)))
    apart = {
        "speaker": lambda row: row.text_id,
        "gender": lambda row: row.speaker_id,
        "sentence": lambda row: row.speaker_id,
    }[target]
    for part in range(parts.max() + 1):
        train = {apart(utterances[row]) for row in rows[parts != part]}
        test = {apart(utterances[row]) for row in rows[parts == part]}
        assert test
        assert not train & test
        assert set(labels[parts == part]) <= set(labels[parts != part])


def test_speakers_of_a_corpus_without_texts_are_probed_over_utterances() -> None:
    utterances = [replace(row, text_id="") for row in rows_of()]
    single = replace(utterances[0], utterance_id="toy/alone", speaker="alone")
    probe = probe_confound("speaker", means_of([*utterances, single], ["speaker"]), [*utterances, single])
    assert "no sentences are known" in probe.split
    assert "left out: 1 with the single utterance of a speaker" in probe.split
    assert (probe.utterances, probe.classes) == (len(utterances), 6)


def test_a_speaker_whose_utterances_all_say_one_text_is_left_out_and_counted() -> None:
    mono = [replace(row, text_id="t0") if row.speaker == "s0" else row for row in rows_of()]
    probe = probe_confound("speaker", means_of(mono, ["speaker"]), mono)
    assert probe.uar is not None
    assert probe.uar[0] > 90  # the whole speaker in one fold was never trained on
    assert (probe.classes, probe.speakers, probe.utterances) == (5, 5, 30)
    assert probe.chance == pytest.approx(20)
    assert "left out: 6 of 1 speakers, each of which falls into a single fold" in probe.split
    every = [replace(row, text_id=row.speaker) for row in rows_of()]
    probe = probe_confound("speaker", means_of(every, ["speaker"]), every)
    assert probe.uar is None
    assert "6 of 6 speakers would be tested without training" in probe.trouble


@examples
@given(data=st.data(), target=st.sampled_from(["speaker", "gender", "sentence"]))
def test_nothing_is_tested_that_was_not_trained_on(data: st.DataObject, target: str) -> None:
    drawn = data.draw(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from("fm")), min_size=1, max_size=30)
    )
    utterances = [
        replace(utterance(f"u{n}", f"s{speaker}", text=f"t{text}" if text else ""), gender=gender)
        for n, (speaker, text, gender) in enumerate(drawn)
    ]
    try:
        parting = _PARTED[target](utterances)
    except _CannotAskError:
        return
    assert len(set(parting.labels)) > 1
    for part in range(parting.parts.max() + 1):
        test = parting.labels[parting.parts == part]
        assert len(test)
        assert set(test) <= set(parting.labels[parting.parts != part])
    said = [int(word) for word in re.findall(r"(?:left out:|,) (\d+) (?:whose|with|of)", parting.split)]
    assert sum(said) == len(utterances) - len(parting.rows)


def test_some_known_sentences_are_not_said_to_be_none() -> None:
    utterances = rows_of()
    missing = [replace(utterances[0], text_id=""), *utterances[1:]]
    probe = probe_confound("speaker", means_of(missing, ["speaker"]), missing)
    assert probe.split.startswith("folds by sentence")
    assert "left out: 1 whose sentence is not known" in probe.split
    assert probe.utterances == 35
    # Of a language whose second, larger corpus has none.
    others = [replace(row, corpus="bare", utterance_id=f"bare/{row.utterance_id}", text_id="") for row in rows_of(9)]
    probe = probe_confound("speaker", means_of([*utterances, *others], ["speaker"]), [*utterances, *others])
    assert "the sentences of only 36 of 90 utterances are known" in probe.split
    assert (probe.classes, probe.utterances) == (15, 90)
    same = [replace(row, text_id="t0") for row in utterances]
    assert "all say one sentence" in probe_confound("speaker", means_of(same, ["speaker"]), same).split
    probe = probe_confound("sentence", means_of(missing, ["text_id"]), missing)
    assert "left out: 1 whose sentence is not known" in probe.split
    genders = [replace(utterances[0], gender=""), *utterances[1:]]
    probe = probe_confound("gender", means_of(genders, ["gender"]), genders)
    assert "left out: 1 whose speaker's gender is not known" in probe.split


@pytest.mark.parametrize(
    ("target", "utterances", "said"),
    [
        ("emotion", rows_of(speakers=2), "too few speakers"),
        ("emotion", [replace(row, emotion="joy") for row in rows_of()], "all utterances carry one emotion, joy"),
        ("emotion", [replace(row, emotion=row.speaker) for row in rows_of(3)], "a single emotion to train on"),
        ("speaker", [replace(row, speaker="anna") for row in rows_of()], "fewer than two speakers"),
        ("gender", [replace(row, gender="") for row in rows_of()], "does not give genders"),
        ("gender", rows_of(genders="f"), "all speakers are f"),
        ("gender", rows_of(speakers=3), "a single speaker is m"),
        ("sentence", [replace(row, text_id="") for row in rows_of()], "does not give sentences"),
        ("sentence", rows_of(speakers=1), "a single speaker"),
        ("sentence", [replace(row, text_id=row.utterance_id) for row in rows_of()], "fewer than two sentences"),
    ],
)
def test_what_cannot_be_asked_says_why(target: str, utterances: list[Utterance], said: str) -> None:
    means = means_of(utterances, ["emotion"])
    if target == "emotion":
        probe, tested = probe_emotion(means, utterances)
        assert tested is None
    else:
        probe = probe_confound(target, means, utterances)
    assert probe.uar is None
    assert said in probe.trouble


def naive_cka(x: np.ndarray, y: np.ndarray) -> float:
    """By Gram matrices and their centring, as Kornblith et al. 2019 define HSIC."""
    count = len(x)
    centre = np.eye(count) - 1 / count
    k, m = (centre @ (z @ z.T) @ centre for z in (x.astype(float), y.astype(float)))
    return float((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


@pytest.mark.parametrize("count", [12, 200])
def test_similarity_is_that_of_the_definition_in_either_space(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    layers = [
        rng.normal(size=(count, dim)).astype(np.float32) * scale for dim, scale in ((5, 1), (9, 1e25), (30, 1e-6))
    ]
    layers[1][:, :5] += 1e25 * layers[0]
    right = [[naive_cka(x / np.abs(x).max(), y / np.abs(y).max()) for y in layers] for x in layers]
    np.testing.assert_allclose(linear_cka(layers), right, atol=1e-5)
    monkeypatch.setattr(similarity, "GRAM_VALUES", 100)
    centred = [similarity._centred(layer) for layer in layers]
    ways = similarity._by_features(centred), similarity._by_utterances(centred)
    np.testing.assert_allclose(*ways, rtol=1e-4)


@examples
@given(seed=st.integers(0, 99), dim=st.integers(1, 8), scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_turned_scaled_and_moved_layers_are_the_same(seed: int, dim: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(20, dim)), rng.normal(size=(20, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    found = linear_cka([x, scale * x @ turn + shift, y])
    assert found[0, 1] == pytest.approx(1, abs=1e-5)
    assert found[0, 2] == pytest.approx(found[1, 2], abs=1e-5)
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_a_layer_that_is_the_same_everywhere_has_no_similarity() -> None:
    found = linear_cka([np.ones((9, 2)), np.random.default_rng(0).normal(size=(9, 2))])
    assert np.isnan(found[0]).all()
    assert found[1, 1] == pytest.approx(1)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_lays_groups_apart_and_is_the_same_again(method: str) -> None:
    utterances = rows_of(speakers=3, texts=20)
    speakers = np.array([row.speaker for row in utterances])
    features = np.repeat(means_of(utterances, ["speaker"])[:, 0, :3], 4, axis=1)
    found = make_map(features, method)
    assert found.points is not None
    assert found.points.shape == (60, 2)
    distances = np.linalg.norm(found.points[:, None] - found.points, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (speakers[distances.argmin(1)] == speakers).mean() > 0.9
    np.testing.assert_array_equal(make_map(features, method).points, found.points)


def test_pca_is_the_projection_on_the_directions_of_largest_variance() -> None:
    features = np.random.default_rng(0).normal(size=(40, 6)) * np.arange(1, 7) + 5
    scaled = (features - features.mean(0)) / features.std(0)
    u, s, _ = np.linalg.svd(scaled, full_matrices=False)
    found = make_map(features, "pca")
    assert found.points is not None
    np.testing.assert_allclose(np.abs(found.points), np.abs(u[:, :2] * s[:2]), atol=1e-4)
    share = 100 * s[0] ** 2 / (s**2).sum()
    assert f"{share:.1f} %" in found.note


def test_maps_of_few_or_equal_utterances_adapt_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).normal(size=(8, 1))
    few = make_map(features, "tsne")
    assert few.points is not None
    assert "lowered from 30 since there are 8 utterances" in few.note
    pca = make_map(features, "pca")
    assert pca.points is not None
    assert pca.points.shape == (8, 2)
    assert "too few" in make_map(features[:4], "pca").trouble
    assert "same features" in make_map(np.ones((9, 3)), "tsne").trouble
    with pytest.raises(ConfigError, match="pca tsne umap"):
        make_map(features, "isomap")
    monkeypatch.setitem(sys.modules, "umap", None)
    assert 'pip install "mser[umap]"' in make_map(features, "umap").trouble


@pytest.mark.parametrize("count", [6, 40])
def test_umap_lays_out_any_number_of_utterances_and_leaves_torch_its_threads(count: int) -> None:
    pytest.importorskip("umap")
    before = torch.get_num_threads()
    found = make_map(np.random.default_rng(0).normal(size=(count, 5)), "umap")
    assert found.points is not None
    assert np.isfinite(found.points).all()
    assert ("since there are 6 utterances" in found.note) == (count == 6)
    assert torch.get_num_threads() == before
