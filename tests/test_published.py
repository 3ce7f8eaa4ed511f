"""Published splits on constructed manifests; facts against the rule they come from; fold files written by the test."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import examples, utterance

from mser.config import read_yaml
from mser.errors import ConfigError, ProtocolError
from mser.manifest import Utterance
from mser.protocol import PROTOCOLS, audit, make_folds, protocol_name, require_disjoint
from mser.published import SERAB_FILE, deal

EMOTIONS = ("anger", "fear", "joy", "sadness")


@st.composite
def mixed(draw: st.DrawFn) -> list[Utterance]:
    """Utterances of three speakers, five to forty of each of one to four emotions, in any order."""
    counts = draw(st.lists(st.integers(5, 40), min_size=1, max_size=4))
    emotions = np.repeat(EMOTIONS[: len(counts)], counts)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return [
        utterance(str(number), f"s{rng.integers(3)}", str(emotion))
        for number, emotion in enumerate(rng.permutation(emotions))
    ]


@examples
@given(mixed())
def test_random_split_tests_each_utterance_once_in_the_named_shares(rows: list[Utterance]) -> None:
    folds = make_folds(rows, "random-70-10-20")
    assert [fold.name for fold in folds] == [f"fifth-{number}" for number in range(5)]
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(rows)))
    totals = Counter(row.emotion for row in rows)
    for fold in folds:
        (split,) = fold.splits
        assert sorted([*split.train, *split.dev]) == sorted(fold.train)
        assert sorted([*fold.train, *fold.test]) == list(range(len(rows)))
        for part, share in ((split.train, 0.7), (split.dev, 0.1), (fold.test, 0.2)):
            assert abs(len(part) - share * len(rows)) <= 2
        for emotion, count in Counter(rows[number].emotion for number in fold.test).items():
            assert abs(count - 0.2 * totals[emotion]) <= 2
        assert {rows[number].emotion for number in fold.test} == set(totals)


@examples
@given(st.lists(st.sampled_from(EMOTIONS), max_size=60), st.integers(1, 12))
def test_dealt_parts_are_equal_of_all_and_of_each_emotion(emotions: list[str], parts: int) -> None:
    part = deal(np.array(emotions, dtype=str), parts)
    for chosen in (np.ones(len(emotions), bool), *(np.array(emotions, dtype=str) == name for name in EMOTIONS)):
        counts = np.bincount(part[chosen], minlength=parts)
        assert counts.max() - counts.min() <= 1


def test_random_split_leaks_and_says_so_without_an_error() -> None:
    rows = [utterance(f"{speaker}{number}", speaker, "anger") for speaker in "abc" for number in range(10)]
    report = audit("toy", rows, make_folds(rows, "random-70-10-20"), "random-70-10-20")
    assert (report.leaky, report.speaker_overlap, report.tested) == (True, 30, 30)
    assert report.protocol == "random-70-10-20"
    assert report.messages[0].startswith("LEAKY")
    require_disjoint(report)


def test_random_split_needs_five_utterances_of_each_emotion() -> None:
    rows = [utterance(str(number), "a", "joy" if number < 4 else "anger") for number in range(12)]
    with pytest.raises(ProtocolError, match=r"5 utterances or more of each[\s\S]*joy: 4") as error:
        make_folds(rows, "random-70-10-20")
    assert error.value.field == "emotion"


def test_unknown_protocols_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="speakers, random-70-10-20, serab, emobox"):
        make_folds([], "random")


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "speakers"])
def test_published_protocols_are_called_by_their_names(name: str) -> None:
    assert protocol_name([], name) == name


# SERAB


@pytest.mark.parametrize("corpus", sorted(read_yaml(SERAB_FILE)))
def test_speakers_of_serab_follow_from_the_rule_of_its_scripts(corpus: str) -> None:
    parts = read_yaml(SERAB_FILE)[corpus]
    names = sorted(name for part in parts.values() for name in part)
    count = len(names)
    np.random.RandomState(0).shuffle(names)
    cuts = [int(0.6 * count), int(0.8 * count)]
    assert [sorted(parts[name]) for name in ("train", "validation", "test")] == [
        sorted(names[: cuts[0]]),
        sorted(names[cuts[0] : cuts[1]]),
        sorted(names[cuts[1] :]),
    ]


def test_serab_of_emodb_has_the_speakers_that_others_report() -> None:
    # Singh & Gupta 2023 (arXiv 2308.08713) name 03 and 12 as the test speakers.
    assert read_yaml(SERAB_FILE)["emodb"]["test"] == ["03", "12"]


def savee() -> list[Utterance]:
    return [
        utterance(f"{speaker}/{letter}{number:02d}", speaker, emotion, "savee")
        for speaker in ("DC", "JE", "JK", "KL")
        for letter, emotion in (("a", "anger"), ("f", "fear"))
        for number in range(6)
    ]


def speakers(rows: list[Utterance], numbers: np.ndarray) -> set[str]:
    return {rows[number].speaker for number in numbers}


def test_serab_parts_speakers_and_uses_validation_for_choices() -> None:
    rows = savee()
    (fold,) = make_folds(rows, "serab")
    assert fold.name == "serab"
    assert (speakers(rows, fold.train), speakers(rows, fold.test)) == ({"JE", "JK", "KL"}, {"DC"})
    (split,) = fold.splits
    assert (speakers(rows, split.train), speakers(rows, split.dev)) == ({"JK", "KL"}, {"JE"})
    report = audit("savee", rows, [fold], "serab")
    assert (report.leaky, report.tested, report.utterances) == (False, 12, 48)
    assert any(message.startswith("12 of 48 utterances are tested") for message in report.messages)


def test_serab_of_two_corpora_is_one_fold_of_both() -> None:
    rows = [*savee(), *(utterance(f"a-{s}", s, corpus="emovo") for s in ("f1", "f2", "f3", "m1", "m2", "m3"))]
    (fold,) = make_folds(rows, "serab")
    assert speakers(rows, fold.test) == {"DC", "f1", "m2"}
    assert speakers(rows, fold.splits[0].dev) == {"JE", "m1"}


@pytest.mark.parametrize(
    ("rows", "field", "match"),
    [
        ([utterance("a", "SM1", corpus="urdu")], "corpus", r"one of cafe, emodb[\s\S]*urdu"),
        ([*savee(), utterance("x", "XY", corpus="savee")], "speaker", r"DC, JE, JK, KL[\s\S]*XY"),
        ([row for row in savee() if row.speaker != "JE"], "speaker", r"validation: JE[\s\S]*DC, JK, KL"),
    ],
)
def test_serab_names_what_it_does_not_fit(rows: list[Utterance], field: str, match: str) -> None:
    with pytest.raises(ProtocolError, match=match) as error:
        make_folds(rows, "serab")
    assert error.value.field == field
    assert error.value.hint


# EmoBox


def write_fold(root: Path, corpus: str, number: int, **parts: list[str]) -> None:
    """Fold files as EmoBox has them: one object a line, the audio path as ``wav``."""
    for part, names in parts.items():
        path = root / corpus / f"fold_{number}" / f"{corpus}_{part}_fold_{number}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"key": "any", "dataset": corpus, "wav": f"downloads/{corpus}/{name}.wav"}) for name in names
        ]
        path.write_text("\n".join(lines) + "\n")


def emobox_names(rows: list[Utterance]) -> list[str]:
    return [row.path.removesuffix(".wav").replace("/", "_") for row in rows]


def test_emobox_folds_are_found_by_name_though_folders_and_signs_differ(tmp_path: Path) -> None:
    rows = savee()
    names = np.array(emobox_names(rows))
    of = np.array([row.speaker for row in rows])
    for number, speaker in enumerate(("JE", "KL"), start=1):
        write_fold(tmp_path, "savee", number, train=[*names[of != speaker]], test=[*names[of == speaker]])
    (tmp_path / "savee/fold_1/savee_test_fold1.jsonl").write_text("an older file of the project\n")
    folds = make_folds(rows, "emobox", tmp_path)
    assert [fold.name for fold in folds] == ["fold-1", "fold-2"]
    assert [speakers(rows, fold.test) for fold in folds] == [{"JE"}, {"KL"}]
    for fold in folds:
        assert sorted([*fold.train, *fold.test]) == list(range(len(rows)))
        assert len(fold.splits) == 3
        assert all(not speakers(rows, one.train) & speakers(rows, one.dev) for one in fold.splits)
    assert not audit("savee", rows, folds, "emobox").leaky
    # A copy of the whole project has its folds in the folder data.
    (tmp_path / "project").mkdir()
    (tmp_path / "savee").rename(tmp_path / "project/moved")
    (tmp_path / "project/data").mkdir()
    (tmp_path / "project/moved").rename(tmp_path / "project/data/savee")
    again = make_folds(rows, "emobox", tmp_path / "project")
    assert [fold.test.tolist() for fold in again] == [fold.test.tolist() for fold in folds]


def test_ten_folds_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    rows = [utterance(f"u{number}", f"s{number % 3}") for number in range(12)]
    names = emobox_names(rows)
    for number in range(1, 12):
        write_fold(tmp_path, "toy", number, train=[*names[: number - 1], *names[number:]], test=[names[number - 1]])
    folds = make_folds(rows, "emobox", tmp_path)
    assert [fold.test.tolist() for fold in folds] == [[number] for number in range(11)]


def test_emobox_folds_that_share_speakers_are_leaky_and_no_error(tmp_path: Path) -> None:
    rows = [utterance(f"{speaker}/{speaker}_{number}", speaker) for speaker in "ab" for number in range(6)]
    names = emobox_names(rows)
    write_fold(tmp_path, "toy", 1, train=[names[0], *names[2:9]], test=[names[1], *names[9:]])
    folds = make_folds([*rows, utterance("unlisted", "c")], "emobox", tmp_path)
    report = audit("toy", rows, folds, "emobox")
    assert (report.leaky, report.speaker_overlap, report.tested) == (True, 4, 4)
    assert report.messages[0].startswith("LEAKY: the speakers of 4 test utterances")
    require_disjoint(report)


def test_a_single_training_speaker_is_parted_at_random(tmp_path: Path) -> None:
    rows = [utterance(f"{speaker}{number}", speaker) for speaker in "ab" for number in range(9)]
    names = emobox_names(rows)
    write_fold(tmp_path, "toy", 1, train=names[:9], test=names[9:])
    (fold,) = make_folds(rows, "emobox", tmp_path)
    assert sorted(np.concatenate([split.dev for split in fold.splits])) == list(range(9))
    assert [len(split.train) for split in fold.splits] == [6, 6, 6]


def test_published_validation_is_dev_and_part_of_training(tmp_path: Path) -> None:
    rows = [utterance(f"u{number}", f"s{number % 3}") for number in range(9)]
    names = emobox_names(rows)
    write_fold(tmp_path, "toy", 1, train=names[:4], valid=names[4:6], test=names[6:])
    (fold,) = make_folds(rows, "emobox", tmp_path)
    assert (fold.train.tolist(), fold.test.tolist()) == ([0, 1, 2, 3, 4, 5], [6, 7, 8])
    assert [(split.train.tolist(), split.dev.tolist()) for split in fold.splits] == [([0, 1, 2, 3], [4, 5])]


def test_corpora_with_unlike_numbers_of_folds_are_not_joined(tmp_path: Path) -> None:
    rows = [utterance(f"{corpus}{number}", f"s{number}", corpus=corpus) for corpus in ("a", "b") for number in range(4)]
    for corpus, count in (("a", 1), ("b", 2)):
        names = [f"{corpus}{number}" for number in range(4)]
        for number in range(count):
            write_fold(tmp_path, corpus, number + 1, train=names[:3], test=names[3:])
    with pytest.raises(ProtocolError, match="a: 1, b: 2"):
        make_folds(rows, "emobox", tmp_path)
    write_fold(tmp_path, "a", 2, train=["a0", "a1"], test=["a2"])
    first, second = make_folds(rows, "emobox", tmp_path)
    assert (first.test.tolist(), second.test.tolist()) == ([3, 7], [2, 7])
    assert 3 not in second.train


@pytest.mark.parametrize("folder", [None, Path("nowhere")])
def test_a_missing_folder_of_emobox_is_named(folder: Path | None, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="are not there") as error:
        make_folds(savee(), "emobox", folder and tmp_path / folder)
    assert error.value.field == "published"
    assert "github.com/emo-box/EmoBox" in str(error.value)


def test_a_corpus_without_folds_is_named(tmp_path: Path) -> None:
    (tmp_path / "emodb").mkdir()
    with pytest.raises(ProtocolError, match="no folds of savee there") as error:
        make_folds(savee(), "emobox", tmp_path)
    assert error.value.file == tmp_path / "savee"


@pytest.mark.parametrize(
    ("strangers", "match"),
    [
        (["XX_a01"], "1 of the 49 recordings .*[\\s\\S]*first downloads/savee/XX_a01.wav"),
        ([f"XX_a{number}" for number in range(5)], "5 of the 53 recordings"),
    ],
)
def test_names_that_are_no_utterance_are_counted(strangers: list[str], match: str, tmp_path: Path) -> None:
    names = emobox_names(savee())
    write_fold(tmp_path, "savee", 1, train=[*names[12:], *strangers], test=names[:12])
    with pytest.raises(ProtocolError, match=match):
        make_folds(savee(), "emobox", tmp_path)


def test_names_that_fit_no_utterance_at_all_are_counted(tmp_path: Path) -> None:
    write_fold(tmp_path, "savee", 1, train=["a", "b", "c"], test=["d", "e"])
    with pytest.raises(ProtocolError, match="5 of the 5 recordings") as error:
        make_folds(savee(), "emobox", tmp_path)
    assert error.value.expected == "names such as DC/a00.wav"


@pytest.mark.parametrize("test", [["DC_a00", "DC_a01", "DC_a01"], ["DC_a00", "JE_a00"]])
def test_an_utterance_listed_twice_is_refused(test: list[str], tmp_path: Path) -> None:
    names = [name for name in emobox_names(savee()) if not name.startswith("DC")]
    write_fold(tmp_path, "savee", 1, train=names, test=test)
    with pytest.raises(ProtocolError, match="lists an utterance twice"):
        make_folds(savee(), "emobox", tmp_path)


def test_names_of_an_incomplete_copy_do_not_fit_other_recordings(tmp_path: Path) -> None:
    # With one speaker left, a00 sets an utterance apart, and would be found at the end of every speaker's name.
    names = emobox_names(savee())
    write_fold(tmp_path, "savee", 1, train=names[12:], test=names[:12])
    with pytest.raises(ProtocolError, match="twice") as error:
        make_folds([row for row in savee() if row.speaker == "DC"], "emobox", tmp_path)
    assert "incomplete" in (error.value.hint or "")


@pytest.mark.parametrize("text", ["{", "[]", '{"key": "a"}', '"a"', '{"wav": 3}', "", None])
def test_a_damaged_fold_file_is_named(text: str | None, tmp_path: Path) -> None:
    write_fold(tmp_path, "savee", 1, train=["DC_a00"], test=["DC_a01"])
    damaged = tmp_path / "savee/fold_1/savee_test_fold_1.jsonl"
    damaged.unlink()
    if text is not None:
        damaged.write_text(text)
    with pytest.raises(ProtocolError, match="A fold file of EmoBox") as error:
        make_folds(savee(), "emobox", tmp_path)
    assert error.value.file == damaged
