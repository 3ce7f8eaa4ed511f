"""The page of an adaptation: what it says, and that it loads nothing."""

from __future__ import annotations

import csv
import json
import re
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from train.adapt.page import (
    calibration_tables,
    denominator,
    for_use,
    long_form,
    make_page,
    near,
    notes,
    overtaking,
    score_tables,
    write_page,
)
from train.adapt.ways import WAYS

ODD = "<b>&\"'"


def scores(mean: float, emotions: int = 2, utterances: int = 30, draws: int = 3) -> dict[str, Any]:
    return {
        "mean": mean, "deviation": 1.25, "low": mean - 5, "high": mean + 5, "draws": draws, "utterances": utterances,
        "emotions": emotions,
    }  # fmt: skip


def point(way: str, k: str, closed: float, every: float) -> dict[str, Any]:
    return {
        "way": way, "k": k, "closed": scores(closed), "open": scores(closed - 1), "all": scores(every, 3, 48),
    }  # fmt: skip


def calibrated(way: str, ece: float) -> dict[str, Any]:
    return {
        "way": way, "draws": 3, "utterances": 48, "temperature": 1.5, "ece_before": ece, "ece_after": 3.21,
        "nll_before": 0.9876, "nll_after": 0.7654,
    }  # fmt: skip


def content(**changes: Any) -> dict[str, Any]:
    """An adaptation to a language of three emotions, two of which the run knows."""
    points = [point("averaged", "0", 60, 40), point("nearest", "0", 59.96, 39)]
    points += [point(way, k, mean, mean - 10) for way, own in
               {"shots": (70, 80), "scratch": (50, 81), "scratch-logistic": (40, 60)}.items()
               for k, mean in zip(("1", "all"), own, strict=True)]  # fmt: skip
    found = {
        "language": "en", "corpora": ["toy_en"], "run": "runs/base/model.safetensors", "method": "fixed-multi",
        "known_languages": ["de", "it"], "upstreams": ["loud", "quiet"],
        "mapping": {"name": "coarse", "title": "few"}, "speakers": 4, "utterances": 48,
        "emotions": {"anger": 16, "fear": 14, "joy": 18}, "shared": ["anger", "fear"], "shared_utterances": 30,
        "unknown": ["joy"], "left_out": {"boredom": 7}, "run_alone": ["calm"], "draws": 3, "steps": ["0", "1", "all"],
        "distances": {"it": 0.5, "de": 0.25}, "audit": ["A sentence of the audit."],
        "chance": {"closed": 50.0, "all": 100 / 3}, "fewest_shots": {"10": 4}, "points": points,
        "overtakes": {
            "scratch": {"closed": ["10", "all"], "all": ["all"]}, "scratch-logistic": {"closed": [], "all": []},
        },
        "calibration": [calibrated("shots", 12.34), calibrated("shots-gentle", 9.87)],
        "kept": {"way": "shots-gentle", "temperature": 1.5}, "seconds": 3.0,
    }  # fmt: skip
    return {**found, **changes}


def unscored(**changes: Any) -> dict[str, Any]:
    """The same where nothing is shared, or too little: only ``all`` can be told."""
    points = [{**one, "closed": None, "open": None} for one in content()["points"]]
    return content(points=points, shared=[], shared_utterances=0, unknown=["anger", "fear", "joy"], **changes)


def test_the_page_has_the_denominators_and_what_to_know_first() -> None:
    page = make_page(content())
    for text in (
        "E = 2, N = 30 of 48", "E = 3, N = 48", "does not know joy (18 utterances)", "also knows calm",
        "leaves out boredom (7)", "only 4 labelled clips", "A sentence of the audit.", "4 speakers, 48 utterances",
        "3 draws of two halves", "mapping coarse: few", "English, new to a run of de it",
    ):  # fmt: skip
        assert text in page, text
    for way in WAYS:
        assert f"<code>{way.name}</code>" in page
    assert denominator(content(), "all") == "E = 3, N = 48"


def test_everything_a_file_may_say_is_escaped() -> None:
    page = make_page(
        content(
            language=ODD, known_languages=[ODD], method=ODD, upstreams=[ODD], mapping={"name": ODD, "title": ODD},
            unknown=[ODD], emotions={ODD: 1}, left_out={ODD: 1}, run_alone=[ODD], distances={ODD: 0.5}, audit=[ODD],
            run=f"runs/{ODD}/model.safetensors",
        )
    )  # fmt: skip
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page


def test_the_page_loads_nothing_and_is_the_same_for_the_same_content(tmp_path: Path) -> None:
    page = make_page(content())
    assert page == make_page(json.loads(json.dumps(content())))
    assert "default-src 'none'" in page
    assert not re.findall(r"<(?:script|link|img|iframe)|@import|url\((?!#)", page)
    assert not re.findall(r"""(?:src|href)="(?!#)""", page)
    first, second = (write_page(content(), tmp_path / name) for name in "ab")
    names = ["adapt.csv", "adapt.html", "adapt.json", "adapt.svg"]
    assert sorted(one.name for one in first.parent.iterdir()) == names
    for name in names:
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()


def every_way() -> dict[str, Any]:
    """Points of all ways: a picture with a long description."""
    return content(points=[point(way.name, k, 50, 40) for way in WAYS for k in ("0", "1", "all")])


@pytest.mark.parametrize("made", [content, unscored, every_way])
def test_the_picture_is_a_file_that_can_be_parsed_alone(tmp_path: Path, made: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_page(made(), tmp_path)
    tree = ElementTree.parse(tmp_path / "adapt.svg")
    assert tree.getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert "averaged k = 0" in tree.getroot().attrib["aria-label"]


def test_csv_and_json_hold_every_number(tmp_path: Path) -> None:
    write_page(content(), tmp_path)
    assert json.loads((tmp_path / "adapt.json").read_text(encoding="utf-8")) == content()
    found = list(csv.DictReader(long_form(content()).splitlines()))
    assert len(found) == 3 * len(content()["points"])
    (row,) = (one for one in found if (one["way"], one["k"], one["score"]) == ("shots", "all", "closed"))
    assert (row["uar"], row["low"], row["high"]) == ("80", "75", "85")
    assert (row["emotions"], row["utterances"], row["draws"]) == ("2", "30", "3")


def test_the_probabilities_and_the_way_of_the_model_for_use_are_shown() -> None:
    ((title, columns, rows),) = calibration_tables(content())
    assert "k = all, N = 48" in title
    assert dict(zip(columns, rows[1], strict=True)) == {
        "way": "shots-gentle", "ECE": "9.9", "ECE with temperature": "3.2", "NLL": "0.988",
        "NLL with temperature": "0.765", "temperature of all draws": "1.50",
    }  # fmt: skip
    assert rows[0][0] == "shots"
    assert title in make_page(content())
    assert calibration_tables(content(calibration=[])) == []


@pytest.mark.parametrize(
    ("temperature", "said"), [(1.5, "get the temperature 1.50"), (1, "stay as they are"), (None, "not calibrated")]
)
def test_how_the_model_for_use_is_made_is_said(temperature: float | None, said: str) -> None:
    found = content(kept={"way": "shots-gentle", "temperature": temperature})
    assert for_use(found).startswith("Model for use: shots-gentle on all clips;")
    assert said in for_use(found)
    assert for_use(found) in make_page(found)


def test_what_self_trained_is_told_is_said_where_it_matters() -> None:
    points = [*content()["points"], point("self-trained", "0", 60, 60)]
    assert any("only its closed score" in note for note in notes(content(points=points)))
    assert not any("self-trained" in note for note in notes(content()))
    assert not any("self-trained" in note for note in notes(content(points=points, unknown=[], run_alone=[])))


def test_tables_mark_the_best_of_a_column_as_it_is_printed() -> None:
    tables = score_tables(content())
    assert [title.partition(",")[0] for title, _, _ in tables] == ["closed", "open", "all"]
    rows = {row[0]: row[1:] for row in tables[0][2]}
    assert rows["averaged"] == ["60.0 ± 1.2 [55.0, 65.0] *", "–", "–"]
    assert rows["nearest"][0].endswith("*")  # 59.96 is printed as 60.0
    assert [cell.endswith("*") for cell in rows["shots"]] == [False, True, False]
    assert [cell.endswith("*") for cell in rows["scratch"]] == [False, False, True]
    assert "self-trained" not in rows
    single = content(points=[{**point("averaged", "0", 60, 40), "closed": scores(60, draws=1)}])
    assert "±" not in score_tables(single)[0][2][0][1]


def test_the_nearest_language_comes_first() -> None:
    assert near(content()) == [["de", "0.25"], ["it", "0.50"]]


def test_where_scratch_overtakes_is_said_only_of_what_was_compared() -> None:
    said = overtaking(content())
    assert len(said) == 4
    assert "scratch is at least as good as the best of shots and shots-gentle (closed) at k = 10, all." in said[0]
    assert "(all) at no k up to all." in said[3]
    assert all("(all)" in line for line in overtaking(unscored()))
    assert overtaking(content(points=[point("averaged", "0", 60, 40)])) == []


def test_a_page_without_shared_emotions_shows_what_can_be_told() -> None:
    page = make_page(unscored())
    assert "no emotion in common" in page
    assert [title.partition(",")[0] for title, _, _ in score_tables(unscored())] == ["all"]
    assert page.count("<svg") == 1
    one = unscored()
    one |= {"shared": ["anger"], "shared_utterances": 16, "unknown": ["fear", "joy"]}
    assert any("only anger in common" in line for line in notes(one))
    assert make_page(one).count("<svg") == 1


def test_a_single_speaker_is_said() -> None:
    alone = content(speakers=1, draws=1, points=[point("averaged", "0", 60, 40)], audit=[], fewest_shots={})
    assert any("single speaker" in line for line in notes(alone))
    assert "single speaker" in make_page(alone)
