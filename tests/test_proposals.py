"""Proposed definitions counted beside the shipped ones: what counts as right."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pytest

from bench.proposals import compare, differences, documented, laid_out
from mser.corpora import load_definitions
from mser.corpora.outcome import Outcome, Read


def outcome(rows: Iterable[tuple[str, str, str]]) -> Outcome:
    """Of path, speaker and emotion of each file."""
    return Outcome([Read(PurePosixPath(path), {"speaker": speaker}, emotion) for path, speaker, emotion in rows])


SHIPPED = [("1", "a", "joy"), ("2", "a", "fear"), ("3", "b", "joy"), ("4", "b", "fear")]


@pytest.mark.parametrize(
    ("proposed", "expected"),
    [
        (SHIPPED, {}),
        ([(path, {"a": "x", "b": "y"}[who], emotion) for path, who, emotion in SHIPPED], {}),
        (SHIPPED[:3], {"not read": 1}),
        ([*SHIPPED, ("5", "b", "joy")], {"read besides": 1}),
        ([*SHIPPED[:3], ("4", "b", "joy")], {"of another emotion": 1}),
        ([*SHIPPED[:3], ("4", "c", "fear")], {"of other speakers (3 for 2)": 2}),
        ([(path, "a", emotion) for path, _, emotion in SHIPPED], {"of other speakers (1 for 2)": 4}),
        (
            [("1", "a", "joy"), ("2", "b", "fear"), ("3", "a", "joy"), ("4", "b", "fear")],
            {"of other speakers (2 for 2)": 4},
        ),
    ],
)
def test_readings_differ_by_files(proposed: list[tuple[str, str, str]], expected: dict[str, int]) -> None:
    assert differences(outcome(SHIPPED), outcome(proposed)) == expected


def test_a_documented_list_is_laid_out_proposed_for_and_compared(tmp_path: Path) -> None:
    definition = load_definitions()["emodb"]
    lists, _ = documented(Path(__file__).parent)
    folder = laid_out(tmp_path / "corpus", lists["emodb"], {"notes.txt": "nothing"}, definition)
    found = compare(definition, folder)
    assert (found.name, found.verdict, found.files, found.said) == ("emodb", "right", len(lists["emodb"]), "")
    for path in folder.rglob("*.wav"):  # without the letter of the emotion
        path.rename(path.with_name(f"{path.stem[:5]}1.wav"))
    refused = compare(definition, folder)
    assert (refused.verdict, refused.questions) == ("refused", 0)
