"""Folds and their audit on constructed manifests."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import examples, utterance

from mser.errors import ProtocolError
from mser.manifest import Utterance
from mser.protocol import Fold, audit, everyone, make_folds, protocol_name, require_disjoint

EMOTIONS = ("anger", "fear", "joy", "sadness")

# Some of the small manifests drawn have an emotion once or twice.
pytestmark = pytest.mark.filterwarnings("error:The least populated class:UserWarning")


@st.composite
def languages(draw: st.DrawFn) -> list[Utterance]:
    """Three to sixteen speakers of one or two corpora, six to nine utterances each, in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    corpora = draw(st.sampled_from([["one"], ["one", "two"]]))
    rows = []
    for number in range(draw(st.integers(3, 16))):
        # Speakers of both corpora have the same names: 01, 02 and so on.
        corpus, speaker = corpora[number % len(corpora)], f"{number // len(corpora):02d}"
        for count in range(rng.integers(6, 10)):
            rows.append(utterance(f"{speaker}-{count}", speaker, str(rng.choice(EMOTIONS)), corpus))
    return [rows[number] for number in rng.permutation(len(rows))]


def speakers(rows: list[Utterance], numbers: np.ndarray) -> set[str]:
    return {rows[number].speaker_id for number in numbers}


@examples
@given(languages())
def test_no_speaker_is_on_both_sides_of_any_split(rows: list[Utterance]) -> None:
    for fold in [*make_folds(rows), everyone(rows)]:
        assert not speakers(rows, fold.train) & speakers(rows, fold.test)
        assert len(fold.splits) >= 2
        for split in fold.splits:
            assert not speakers(rows, split.train) & speakers(rows, split.dev)
            assert sorted([*split.train, *split.dev]) == sorted(fold.train)
            assert len(split.train)
            assert len(split.dev)
        # Each training speaker is a dev speaker once.
        assert sorted(np.concatenate([split.dev for split in fold.splits])) == sorted(fold.train)


@examples
@given(languages())
def test_every_row_is_tested_once_and_trained_on_otherwise(rows: list[Utterance]) -> None:
    folds = make_folds(rows)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(rows)))
    for fold in folds:
        assert sorted([*fold.train, *fold.test]) == list(range(len(rows)))


@examples
@given(languages())
def test_folds_have_names_of_their_own_that_can_name_files(rows: list[Utterance]) -> None:
    names = [fold.name for fold in make_folds(rows)]
    assert len(set(names)) == len(names)
    assert not any("/" in name for name in names)


def test_no_fold_has_the_name_of_the_one_that_tests_nobody() -> None:
    rows = [utterance(f"{name}{n}", name, ("anger", "joy")[n % 2]) for name in ("a", "b", "everyone") for n in range(4)]
    assert [fold.name for fold in make_folds(rows)] == ["toy-a", "toy-b", "toy-everyone"]


def corpus_of(count: int) -> list[Utterance]:
    """``count`` speakers who each say two texts in every emotion."""
    return [
        utterance(f"{speaker}-{emotion}-{text}", f"{speaker:02d}", emotion, text=text)
        for speaker, emotion, text in product(range(count), EMOTIONS, ("t1", "t2"))
    ]


def test_up_to_twelve_speakers_are_left_out_one_by_one() -> None:
    rows = corpus_of(12)
    folds = make_folds(rows)
    assert [fold.name for fold in folds] == [f"{number:02d}" for number in range(12)]
    assert all(speakers(rows, fold.test) == {f"toy/{fold.name}"} for fold in folds)
    assert protocol_name(rows) == "leave-one-speaker-out"


def test_more_speakers_are_grouped_in_five() -> None:
    rows = corpus_of(13)
    folds = make_folds(rows)
    assert [fold.name for fold in folds] == [f"group-{number}" for number in range(5)]
    assert [len(speakers(rows, fold.test)) in (2, 3) for fold in folds] == [True] * 5
    assert protocol_name(rows) == "5 folds of grouped speakers"


def test_grouped_folds_have_every_emotion_even_if_each_speaker_has_one() -> None:
    rows = [
        utterance(f"{speaker}-{count}", f"{speaker:02d}", EMOTIONS[speaker % 4])
        for speaker in range(20)
        for count in range(5)
    ]
    for fold in make_folds(rows):
        for part in (fold.train, fold.test, *(split.dev for split in fold.splits)):
            assert {rows[number].emotion for number in part} == set(EMOTIONS)


def test_folds_follow_from_the_rows_alone() -> None:
    rows = corpus_of(14)
    first = [fold.test.tolist() for fold in make_folds(rows)]
    np.random.seed(7)
    assert [fold.test.tolist() for fold in make_folds(rows)] == first


def test_everyone_trains_on_all_and_tests_on_none() -> None:
    fold = everyone(corpus_of(4))
    assert (fold.name, len(fold.train), len(fold.test)) == ("everyone", 32, 0)


@pytest.mark.parametrize("count", [3, 8, 25])
def test_everyone_of_a_single_speaker_is_parted_at_random_by_emotion(count: int) -> None:
    rows = [utterance(str(number), "anna", EMOTIONS[number % 2]) for number in range(count)]
    splits = everyone(rows).splits
    assert len(splits) == 3
    assert sorted(np.concatenate([split.dev for split in splits])) == list(range(count))
    for split in splits:
        assert sorted([*split.train, *split.dev]) == list(range(count))
        assert len(split.train)
        assert abs(len(split.dev) - count / 3) < 1


@pytest.mark.parametrize("count", [1, 2])
def test_a_single_speaker_of_too_few_utterances_is_named_with_the_fold(count: int) -> None:
    with pytest.raises(ProtocolError, match=f"Fold everyone has too few (.|\n)*{count} of toy/anna") as error:
        everyone([utterance(str(number), "anna") for number in range(count)])
    assert error.value.hint


def test_too_few_utterances_of_every_emotion_are_refused_with_fold_emotions_and_speakers() -> None:
    rows = [utterance(name, name, EMOTIONS[place % 2]) for place, name in enumerate(["a", "b", "c", "d"])]
    with pytest.raises(ProtocolError, match=r"of fold a(.|\n)*anger: 1, fear: 2, of speakers toy/b, toy/c, toy/d"):
        make_folds(rows)
    many = [utterance(f"{number}", f"{number}", f"emotion {number % 5}") for number in range(15)]
    with pytest.raises(ProtocolError, match="for 5 test folds") as error:
        make_folds(many)
    assert error.value.hint


def test_folds_whose_training_has_one_emotion_are_told_in_a_sentence() -> None:
    emotions = {"a": "anger", "b": "joy", "c": "joy", "d": "joy"}
    rows = [utterance(f"{name}{n}", name, emotion) for name, emotion in emotions.items() for n in range(3)]
    folds = make_folds(rows)
    (message,) = [text for text in audit("toy", rows, folds).messages if "a single emotion (" in text]
    assert message.startswith("In 4 of 4 folds")
    assert "(a: joy; b: joy; c: joy; d: joy)" in message
    assert not [text for text in audit("toy", corpus_of(4), make_folds(corpus_of(4))).messages if "emotion (" in text]


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_speakers_are_refused(count: int) -> None:
    with pytest.raises(ProtocolError, match="3 or more") as error:
        make_folds(corpus_of(count))
    assert error.value.hint


def fold_of(train: list[int], test: list[int]) -> Fold:
    return Fold("made by hand", np.array(train), np.array(test), ())


def test_audit_of_made_folds_finds_no_overlap() -> None:
    rows = corpus_of(4)
    report = audit("toy", rows, make_folds(rows))
    assert (report.corpus, report.utterances, report.speakers, report.texts) == ("toy", 32, 4, 2)
    assert (report.speaker_overlap, report.duplicates) == (0, 0)
    require_disjoint(report)


def test_audit_counts_test_utterances_of_training_speakers() -> None:
    rows = [
        utterance(f"{speaker}{number}", speaker, "anger") for speaker, number in product(["anna", "bert"], range(3))
    ]
    report = audit("toy", rows, [fold_of([0, 3], [1, 2, 4])])
    assert report.speaker_overlap == 3
    assert any(message.startswith("LEAKY: the speakers of 3 test utterances") for message in report.messages)
    with pytest.raises(ProtocolError, match="LEAKY"):
        require_disjoint(report)


def test_audit_tells_speakers_of_one_name_in_two_corpora_apart() -> None:
    rows = [utterance("a", "01", corpus="one"), utterance("a", "01", corpus="two")]
    assert audit("both", rows, [fold_of([0], [1])]).speaker_overlap == 0


def test_audit_finds_recordings_that_are_in_training_under_another_name() -> None:
    rows = [utterance("a", "anna", sha256="1" * 64), utterance("b", "bert", sha256="1" * 64), utterance("c", "carl")]
    report = audit("toy", rows, [fold_of([0], [1, 2])])
    assert (report.speaker_overlap, report.duplicates) == (0, 1)
    with pytest.raises(ProtocolError, match="1 test recordings are in training, sample for sample"):
        require_disjoint(report)


@pytest.mark.parametrize(
    ("texts", "share"),
    [(["t1", "t2", "t1", "t3"], 0.5), (["t1", "t1", "t1", "t1"], 1.0), (["t1", "", "", "t1"], 1.0), ([""] * 4, None)],
)
def test_sentence_overlap_is_the_share_of_test_utterances_with_a_known_text(
    texts: list[str], share: float | None
) -> None:
    rows = [utterance(str(number), f"s{number}", text=text) for number, text in enumerate(texts)]
    report = audit("toy", rows, [fold_of([0, 1], [2, 3])])
    assert report.sentence_overlap == share
    assert any("No texts are known" in message for message in report.messages) == (share is None)


def test_texts_of_two_corpora_are_not_the_same_text() -> None:
    rows = [utterance("a", "01", "anger", "one", text="1"), utterance("a", "02", "joy", "two", text="1")]
    report = audit("both", rows, [fold_of([0], [1])])
    assert (report.sentence_overlap, report.texts, report.single_emotion_texts) == (0, 2, 2)


def test_audit_counts_speakers_and_texts_of_a_single_emotion() -> None:
    rows = [
        utterance("1", "anna", "anger", text="t1"),
        utterance("2", "anna", "anger", text="t2"),
        utterance("3", "bert", "anger", text="t1"),
        utterance("4", "bert", "joy", text="t3"),
        utterance("5", "carl", "joy", text="t1"),
    ]
    report = audit("toy", rows, [fold_of([0, 1, 2, 3], [4])])
    assert (report.single_emotion_speakers, report.speakers) == (2, 3)
    assert (report.single_emotion_texts, report.texts) == (2, 3)
    assert any(message.startswith("2 of 3 speakers carry a single emotion") for message in report.messages)
    assert any("2 of 3 texts are spoken in a single emotion, and 100 %" in message for message in report.messages)


def test_texts_in_several_emotions_are_reported_as_harmless() -> None:
    rows = corpus_of(3)
    messages = audit("toy", rows, make_folds(rows)).messages
    assert len(messages) == 1
    assert messages[0].startswith("100 % of the test utterances say a text that other speakers say")


def test_leaks_are_an_error_by_speakers_and_a_mark_for_published_protocols() -> None:
    rows = [utterance(str(number), "anna") for number in range(4)]
    folds = [fold_of([0, 1], [2, 3])]
    with pytest.raises(ProtocolError, match="LEAKY"):
        require_disjoint(audit("toy", rows, folds))
    report = audit("toy", rows, folds, "emobox")
    assert (report.protocol, report.leaky) == ("emobox", True)
    assert report.messages[0].startswith("LEAKY")
    require_disjoint(report)


def test_folds_by_speaker_are_not_leaky_and_test_everything() -> None:
    rows = corpus_of(4)
    report = audit("toy", rows, make_folds(rows, "speakers"))
    assert (report.leaky, report.tested, report.protocol) == (False, 32, "leave-one-speaker-out")


def test_recordings_in_training_under_another_name_make_folds_leaky() -> None:
    rows = [utterance("a", "anna", sha256="1" * 64), utterance("b", "bert", sha256="1" * 64)]
    assert audit("toy", rows, [fold_of([0], [1])], "serab").leaky


def test_emotions_that_only_the_test_has_are_counted_in_a_sentence() -> None:
    rows = [
        utterance("1", "anna", "anger"),
        utterance("2", "bert", "joy"),
        utterance("3", "bert", "anger"),
        utterance("4", "carl", "joy"),
        utterance("5", "carl", "fear"),
        utterance("6", "carl", "fear"),
    ]
    good, bad = fold_of([0, 1, 3, 4], [2]), Fold("carl", np.array([0, 1, 2]), np.array([3, 4, 5]), ())
    messages = audit("toy", rows, [good, bad]).messages
    assert any("In 1 of 2 folds" in text and "carl: 2 of fear" in text and "these 2 test" in text for text in messages)
    assert not any("no utterance of an emotion" in text for text in audit("toy", rows, [good]).messages)


def test_utterances_that_no_fold_tests_are_counted() -> None:
    rows = [utterance(str(number), f"s{number}") for number in range(6)]
    messages = audit("toy", rows, [fold_of([0, 1], [2]), fold_of([0, 1], [2, 3])]).messages
    assert any(message.startswith("2 of 6 utterances are tested") for message in messages)
