"""The report: the page is whole and says what the numbers say; the long form agrees with the JSON."""

from __future__ import annotations

import copy
import csv
import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from html_page import Page

from mser.errors import RunError
from mser.nas.genotype import Genotype
from train.report import genotype_picture, terminal_table, write_report
from train.report.gates import DRAWN
from train.report.page import LINKS
from train.report.structure import choice_counts, most_frequent
from train.report.study import METRICS, Study, number, probability
from train.report.tables import LONG_COLUMNS
from train.report.verdict import (
    BEATS,
    LOSES,
    TIES,
    against_bar,
    chance_sentence,
    compare,
    least_attainable,
    outcome,
    ranks,
    tallies,
    verdict,
)

SVG_ADDRESSES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
#: UAR of each method in the example; searched and random tie, logistic loses clearly, Italian has fewer.
UARS = {"logistic": 71.23, "fixed": 88.17, "random": 90.31, "searched": 91.45, "multi-domain": 92.08}
#: Difference from logistic, p over speakers and over utterances of each method but logistic.
TESTS = {"fixed": (16.94, 0.125, 0.0312), "random": (19.08, 0.049, 0.00004), "searched": (20.22, 0.0117, 0.0004),
         "multi-domain": (20.85, 0.0117, 0.0002)}  # fmt: skip
GENOTYPES = (
    Genotype({"acoustic": "linear", "wav2vec2-base": "conv3"}, "attention", "conditioned", 1, 128),
    Genotype({"acoustic": "zero", "wav2vec2-base": "bigru"}, "mean_std", "constant", 0, 0),
)


def summary(mean: float, half: float = 2.5) -> dict[str, float]:
    return {"mean": mean, "deviation": 0.37, "low": mean - half, "high": mean + half}


def make_result(language: str, method: str, uar: float) -> dict[str, Any]:
    per_seed = [{"seed": seed, "uar": uar + seed, "wa": uar + 0.5, "macro_f1": uar - 0.5} for seed in (0, 1)]
    per_fold = [
        {
            "fold": fold,
            "seed": seed,
            "uar": uar - 3 + seed,
            "wa": uar,
            "macro_f1": uar - 4,
            "utterances": 21,
            "emotions": 3,
        }
        for fold in ("a", "b", "c")
        for seed in (0, 1)
    ]
    return {
        "language": language, "method": method, "seeds": [0, 1], "utterances": 63, "emotions": 3, "uar": summary(uar),
        "wa": summary(uar + 0.51), "macro_f1": summary(uar - 0.49), "fold_uar": {"mean": uar - 2.5, "deviation": 4.44},
        "per_seed": per_seed, "per_fold": per_fold, "seconds": 12.34,
        "confusion": [[39, 2, 1], [0, 42, 0], [17, 5, 20]],
    }  # fmt: skip


def make_search(language: str, fold: str, genotype: Genotype, strategy: str = "beta") -> dict[str, Any]:
    curves = [
        {"epoch": epoch, "weight_loss": 2 - epoch / 4, "alpha_loss": 1.9 - epoch / 5, "entropy": 1 - epoch / 4,
         "parameter_free": 0.3}
        for epoch in range(3)
    ]  # fmt: skip
    candidates = [{"text": str(found), "dev_uar": 80.25 + place} for place, found in enumerate(GENOTYPES)]
    return {
        "language": language, "fold": fold, "strategy": strategy, "genotype": genotype.to_dict(),
        "text": str(genotype), "dev_uar": 90.75,
        "random": {"dev_uar": 81.25, "text": str(GENOTYPES[1]), "candidates": candidates}, "fixed": {"dev_uar": 79.55},
        "curves": curves, "seconds": {"search": 10.0, "random": 11.0},
    }  # fmt: skip


def make_language(language: str) -> dict[str, Any]:
    audit = {
        "corpus": f"corpus-{language}", "protocol": "leave-one-speaker-out", "utterances": 63, "speakers": 3,
        "speaker_overlap": 0, "duplicates": 2, "sentence_overlap": 0.875, "single_emotion_speakers": 1,
        "single_emotion_texts": 4, "texts": 17, "leaky": False, "tested": 63,
        "messages": ["Nothing leaks.", "Mind & see."],
    }  # fmt: skip
    return {
        "language": language, "corpora": [f"corpus-{language}"], "emotions": ["anger", "fear", "neutral"],
        "utterances": 63, "tested": 63, "speakers": 3, "minutes": 24.81, "protocol": "leave-one-speaker-out",
        "chance": 33.33, "audit": audit, "folds": [{"name": name, "train": 42, "test": 21} for name in "abc"],
    }  # fmt: skip


def make_test(language: str, method: str) -> dict[str, Any]:
    difference, p_speakers, p_utterances = TESTS[method]
    return {
        "language": language, "method": method, "against": "logistic", "difference": difference,
        "p_speakers": p_speakers, "p_utterances": p_utterances, "least_p": 0.002,
    }  # fmt: skip


def make_leaky(content: dict[str, Any], protocol: str = "random-70-10-20") -> None:
    """Makes the German numbers leaky."""
    content["languages"][0]["protocol"] = content["languages"][0]["audit"]["protocol"] = protocol
    content["languages"][0]["audit"] |= {"leaky": True, "messages": ["LEAKY: 2 test recordings are in training."]}


def make_gate(method: str) -> dict[str, Any]:
    layers = {
        "acoustic": {"mean": [1.0], "deviation": [0.0]},
        "wav2vec2-base": {"mean": [0.125, 0.25, 0.625], "deviation": [0.011, 0.012, 0.013]},
    }
    shares = {"experts": list(layers), "mean": [0.213, 0.787], "deviation": [0.014, 0.015]}
    return {"language": "de", "method": method, **shares, "layers": layers}


def make_results() -> dict[str, Any]:
    """Two languages; Italian lacks the fixed head and everything that was searched."""
    folds = zip("abc", (GENOTYPES[0], GENOTYPES[1], GENOTYPES[1]), strict=True)
    made = [make_result("de", method, uar) for method, uar in UARS.items()]
    made += [make_result("it", method, uar - 20) for method, uar in UARS.items() if method in ("logistic", "random")]
    return {
        "schema_version": 2, "run": "example", "created": "2026-11-21T12:00:00+00:00", "mser_version": "0.1.0",
        "notes": ["The corpora are synthetic."], "settings": {"search": {"epochs": 30, "rates": [0.1, 0.2]}, "seed": 7},
        "upstreams": [{"name": "acoustic", "layers": 1, "dim": 125, "random_weights": False},
                      {"name": "wav2vec2-base", "layers": 3, "dim": 768, "random_weights": True}],
        "languages": [make_language("de"), make_language("it")],
        "methods": [{"name": name, "title": f"the {name}", "description": f"What {name} is.",
                     "transductive": False} for name in UARS],
        "results": made, "comparisons": [make_test("de", method) for method in TESTS] + [make_test("it", "random")],
        "pairs": [
            {"language": "de", "method": "searched", "against": "random", "difference": 13.57, "p_speakers": 0.046,
             "p_utterances": 0.0071, "least_p": 0.002}
        ],
        "gates": [make_gate("searched"), make_gate("multi-domain")],
        "searches": [make_search("de", fold, genotype) for fold, genotype in folds],
        "layer_choices": [{"language": "de", "fold": fold, "upstream": "wav2vec2-base", "layer": 2, "dev_uar": 87.65}
                          for fold in "abc"],
        "timings": [{"stage": "search", "language": "de", "seconds": 120.0},
                    {"stage": "fit", "language": "it", "seconds": 7.5}],
    }  # fmt: skip


@pytest.fixture
def results() -> dict[str, Any]:
    return make_results()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of the example."""
    return write_report(make_results(), tmp_path_factory.mktemp("report")).parent


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def read(results: dict[str, Any], folder: Path) -> Page:
    page = Page(write_report(results, folder).read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_page_is_whole_and_loads_nothing(page: Page, folder: Path) -> None:
    assert page.open == []
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))
    links = [value for value in page.values("href") + page.values("xlink:href") if value.startswith("#")]
    assert {link[1:] for link in links} <= set(identifiers)
    assert {f"#{name}" for name in LINKS} <= set(links)
    elsewhere = [value for value in page.values("href") if not value.startswith("#")]
    assert sorted(elsewhere) == ["results.csv", "results.json"]
    assert page.values("src") == []
    tags = {tag for tag, _, _ in page.attributes}
    assert not tags & {"script", "link", "iframe", "img", "object", "embed"}
    source = (folder / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"'\s<>)]*", source)) <= SVG_ADDRESSES
    assert not re.search(r"@import|url\((?!#)", source)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "results.csv", "results.json"]


def test_sections_come_in_order_and_every_picture_has_a_text(page: Page) -> None:
    sections = [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")]
    assert sections == ["notes", *LINKS]
    assert sum(value == "img" for value in page.values("role")) == sum(
        (tag, name) == ("svg", "viewbox") for tag, name, _ in page.attributes
    )
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert all(len(label) > 20 for label in labels)
    # de: intervals, gates, the layers of the one expert with several, structure, dev UAR and 2 curves; it: intervals
    assert len(labels) == 8


def test_every_number_is_on_the_page(results: dict[str, Any], page: Page) -> None:
    expected = set()
    for result in results["results"]:
        for metric in METRICS:
            found = result[metric]
            expected |= {
                f"{found['mean']:.1f} ± {found['deviation']:.1f}",
                f"[{found['low']:.1f}, {found['high']:.1f}]",
            }
            expected |= {f"{entry[metric]:.1f}" for entry in result["per_seed"]}
        expected |= {f"{result['fold_uar']['mean']:.1f} ± 4.4", "12.3 s"}
        expected |= {f"{UARS['searched'] - 2.5:.1f} ± 0.5"}  # fold: uar - 3 and uar - 2 of two seeds
        expected |= {str(count) for row in result["confusion"] for count in row}
    for test in results["comparisons"]:
        expected |= {f"{test['difference']:+.1f}", probability(test["p_speakers"]), probability(test["p_utterances"])}
    expected |= {"+13.6", ".046", ".007"}
    expected |= {"24.8", "87.5 %", "1 of 3", "4 of 17", "33.3", "90.8", "81.2", "79.5", "87.7", "2 min 0 s", "7.5 s"}
    expected |= {"0.213 ± 0.014", "0.787 ± 0.015 0.125 ± 0.011 0.250 ± 0.012 0.625 ± 0.013", "1.000 ± 0.000"}
    expected |= {"search.epochs", "0.1, 0.2", "768", "The corpora are synthetic.", "Nothing leaks."}
    assert {words for words in expected if words not in page.text} == set()


def test_json_is_what_was_given_and_csv_agrees(folder: Path) -> None:
    given = make_results()
    assert json.loads((folder / "results.json").read_text(encoding="utf-8")) == given
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == LONG_COLUMNS
    found = {tuple(row[name] for name in LONG_COLUMNS[:7]): row for row in rows}
    assert len(found) == len(rows)
    for result in given["results"]:
        start = (result["language"], result["method"])
        for metric, denominator in (("uar", "3"), ("wa", "63"), ("macro_f1", "3")):
            for statistic, value in result[metric].items():
                row = found.pop((*start, "aggregate", "", "", metric, statistic))
                assert (float(row["value"]), row["denominator"]) == (value, denominator)
            for entry in result["per_seed"]:
                assert (
                    float(found.pop((*start, "seed", str(entry["seed"]), "", metric, "value"))["value"])
                    == entry[metric]
                )
            for entry in result["per_fold"]:
                row = found.pop((*start, "fold", str(entry["seed"]), entry["fold"], metric, "value"))
                assert (float(row["value"]), row["denominator"]) == (entry[metric], "21" if metric == "wa" else "3")
        for statistic, value in result["fold_uar"].items():
            row = found.pop((*start, "folds", "", "", "uar", statistic))
            assert (float(row["value"]), row["denominator"], row["counted"]) == (value, "3", "folds")
        assert float(found.pop((*start, "aggregate", "", "", "seconds", "value"))["value"]) == 12.34
    for test in given["comparisons"]:
        begin = (test["language"], test["method"], "comparison", "", "", "uar")
        values = {name: test[name] for name in ("p_speakers", "p_utterances", "least_p")}
        for statistic, value in {"less logistic": test["difference"], **values}.items():
            assert float(found.pop((*begin, statistic))["value"]) == value
    assert [(key[1], float(row["value"])) for key, row in found.items()] == [("chance", 33.33)] * 2
    assert {(row["leaky"], row["transductive"]) for row in rows} == {("no", "no"), ("no", "")}


def test_hostile_names_stay_text(results: dict[str, Any], tmp_path: Path) -> None:
    hostile = '<script>alert("x")</script>&$\\frac{1}$ id="x" url(#x)'
    results = json.loads(json.dumps(results).replace("wav2vec2-base", json.dumps(hostile)[1:-1]))
    results["run"] = results["notes"][0] = results["languages"][0]["audit"]["messages"][0] = hostile
    results["languages"][0]["emotions"][0] = results["languages"][0]["corpora"][0] = hostile
    results["settings"][hostile] = results["methods"][0]["title"] = hostile
    for part in ("results", "gates", "methods"):
        for entry in results[part]:
            for field in ("method", "name"):
                if entry.get(field) == "searched":
                    entry[field] = hostile
    for part in ("languages", "results", "gates", "searches", "layer_choices", "timings"):
        for entry in results[part]:
            entry["language"] = {"de": hostile}.get(entry["language"], entry["language"])
    page = read(results, tmp_path)
    assert "script" not in {*page.open, *(tag for tag, _, _ in page.attributes)}
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.text.count(hostile) > 20
    assert len(page.values("id")) == len(set(page.values("id")))
    assert "x" not in page.values("id")


def test_absent_results_and_empty_lists(results: dict[str, Any], tmp_path: Path) -> None:
    for part in ("gates", "searches", "layer_choices", "timings", "notes"):
        results[part] = []
    results["results"] = [entry for entry in results["results"] if entry["language"] == "de"]
    results["results"][0]["uar"] = {"mean": 50.0, "deviation": float("nan"), "low": None, "high": None}
    results["results"][0]["confusion"] = []
    results["languages"][1]["audit"]["sentence_overlap"] = None
    text = read(results, tmp_path).text
    expected = ("no results", "No gates were kept.", "Nothing was searched.", "No layers were chosen.", "not known")
    assert [words for words in expected if words not in text] == []
    results["results"], results["languages"] = [], []
    assert "Scores" in read(results, tmp_path).text
    assert terminal_table(results)[1] == []


def test_another_schema_is_refused(results: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="schema_version"):
        write_report({**results, "schema_version": 1}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_same_results_same_bytes(results: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    given = copy.deepcopy(results)
    write_report(results, tmp_path)
    assert results == given
    for name in ("report.html", "results.json", "results.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_terminal_table_marks_best_and_ties(results: dict[str, Any]) -> None:
    columns, rows = terminal_table(results)
    assert all(len(row) == len(columns) for row in rows)
    assert all(isinstance(cell, str) for row in rows for cell in row)
    marks = {(row[0], row[1]): row[3] for row in rows}
    assert marks["de", "multi-domain"] == "best"
    assert marks["de", "searched"] == marks["de", "random"] == "tie"
    assert marks["de", "fixed"] == marks["de", "logistic"] == "lower"
    assert ("it", "searched") not in marks
    tests = {(row[0], row[1]): row[4] for row in rows}
    assert tests["de", "logistic"] == "the bar"
    assert tests["de", "fixed"] == "tie +16.9 p=.125/.031"  # however large: p over speakers decides
    assert tests["de", "random"] == "beats +19.1 p=.049/<.001"
    assert tests["de", "chance"] == ""
    assert rows[4][:3] == ["de", "multi-domain", "92.1 ± 0.4 [89.6, 94.6]"]
    assert rows[5][:3] == ["de", "chance", "33.3"]


def with_tests(study: Study, least_p: float = 0.002, **tests: tuple[float, float, float]) -> Study:
    """The study with a paired test of each method against logistic: difference, p over speakers, over utterances."""
    names = ("difference", "p_speakers", "p_utterances")
    comparisons = [
        {"language": "de", "method": name, "against": "logistic", "least_p": least_p}
        | dict(zip(names, test, strict=True))
        for name, test in tests.items()
    ]
    return Study({**study.content, "comparisons": comparisons})


def compared(**scores: tuple[float, float, float]) -> Study:
    """A study of one language with mean, low and high of each method."""
    results = [
        {"language": "de", "method": name, "uar": {"mean": mean, "deviation": 0.0, "low": low, "high": high}}
        for name, (mean, low, high) in scores.items()
    ]
    return Study({"schema_version": 2, "languages": [{"language": "de", "chance": 25.0}], "results": results})


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((90, 88, 92), (80, 78, 82), BEATS),
        ((80, 78, 82), (90, 88, 92), LOSES),
        ((90, 88, 92), (87, 85, 89), BEATS),  # the intervals overlap, and neither holds the other's mean
        ((90, 88, 92), (85, 80, 90), TIES),  # the wide one holds the mean of the narrow one, at its end
        ((90, 80, 99), (85, 84, 86), TIES),
        ((90, 91, 92), (90, 91, 92), TIES),  # a bootstrap interval need not hold its own mean
    ],
)
def test_compare(first: tuple[float, ...], second: tuple[float, ...], expected: str) -> None:
    keys = ("mean", "low", "high")
    pair = [dict(zip(keys, values, strict=True)) for values in (first, second)]
    assert compare(*pair) == expected
    assert compare(*reversed(pair)) == {BEATS: LOSES, LOSES: BEATS, TIES: TIES}[expected]


def test_verdict_says_wins_ties_and_losses() -> None:
    study = compared(searched=(80, 78, 82), random=(81, 79, 83), fixed=(90, 88, 92), logistic=(70, 68, 72))
    assert verdict(study, "de") == (
        "The searched structure (UAR 80.0 [78.0, 82.0]) ties with random search (81.0 [79.0, 83.0]), loses to the "
        "fixed head (90.0 [88.0, 92.0]) and beats logistic regression (70.0 [68.0, 72.0])."
    )
    assert tallies(study) == [
        "Against random search: better in 0, tied in 1, worse in 0 of 1 language.",
        "Against the fixed head: better in 0, tied in 0, worse in 1 of 1 language.",
        "Against logistic regression: better in 1, tied in 0, worse in 0 of 1 language.",
    ]
    assert ranks(study, "de") == {"searched": "lower", "random": "lower", "fixed": "best", "logistic": "lower"}


def test_verdict_names_what_is_absent() -> None:
    lone = verdict(compared(searched=(80, 78, 82), fixed=(70, 68, 72)), "de")
    assert lone.endswith("There is no result of random search and logistic regression to compare with.")
    assert "beats the fixed head" in lone
    assert verdict(compared(fixed=(70, 68, 72)), "de").startswith("There is no result of a searched structure")
    assert tallies(compared(fixed=(70, 68, 72))) == []
    assert ranks(compared(), "de") == {}


def test_against_the_bar_the_paired_test_decides_and_elsewhere_the_intervals() -> None:
    study = compared(searched=(80, 60, 99), fixed=(90, 88, 92), logistic=(79, 78, 80))
    assert outcome(study, "de", "searched", "logistic") == TIES
    study = with_tests(study, searched=(1.0, 0.04, 0.001), fixed=(11.0, 0.05, 0.001))
    assert outcome(study, "de", "searched", "logistic") == BEATS
    assert outcome(study, "de", "logistic", "searched") == LOSES
    assert outcome(study, "de", "fixed", "logistic") == TIES  # p is not below 0.05, though the intervals are apart
    assert outcome(study, "de", "searched", "fixed") == TIES  # no test: the wide interval holds the other's mean
    assert "beats logistic regression (79.0 [78.0, 80.0]; +1.0 points, p = .04 over speakers)" in verdict(study, "de")
    assert ranks(study, "de") == {"searched": "tie", "fixed": "best", "logistic": "tie"}
    assert tallies(study)[-1].startswith("Against logistic regression: better in 1, tied in 0")
    worse = with_tests(compared(searched=(70, 60, 80), logistic=(79, 60, 80)), searched=(-9.0, 0.01, 0.001))
    assert ranks(worse, "de") == {"searched": "lower", "logistic": "best"}
    assert against_bar(worse, "de") == "Against logistic, over speakers: worse: searched (-9.0, p = .01)."


@pytest.mark.parametrize(("speakers", "methods", "shown"), [(4, 1, False), (6, 1, True), (6, 2, False), (10, 4, True)])
def test_few_speakers_can_show_nothing_and_the_correction_counts(speakers: int, methods: int, shown: bool) -> None:
    names = [f"m{number}" for number in range(methods)]
    study = compared(**dict.fromkeys([*names, "logistic"], (80.0, 70.0, 90.0)))
    least = 2.0 ** (1 - speakers)
    tests = dict.fromkeys(names, (4.2, min(1.0, methods * least), 0.0004))
    said = against_bar(with_tests(study, least_p=least, **tests), "de")
    assert least_attainable(with_tests(study, least_p=least, **tests), "de") == min(1.0, methods * least)
    assert said.startswith("Against logistic, over speakers: better: m0 (+4.2, p = ") == shown
    if not shown:
        assert f"With {speakers} tested speakers" in said
        assert "no number of utterances could show" in said
        assert "so all tie with it" in said
        assert "better: m0 (+4.2, p < .001)" in said


def test_transductive_methods_are_marked_and_not_ranked(results: dict[str, Any], tmp_path: Path) -> None:
    results["methods"][4]["transductive"] = True  # multi-domain, of the highest UAR
    study = Study(results)
    assert ranks(study, "de")["multi-domain"] == "apart"
    assert ranks(study, "de")["searched"] == "best"
    assert "the multi-domain (transductive, +20.9, p = .012)" in against_bar(study, "de")
    assert ["de", "multi-domain (transductive)"] in [row[:2] for row in terminal_table(results)[1]]
    page = read(results, tmp_path)
    words = [word for word in page.words if word]
    # tables of methods, scores, gates, folds and seeds (two); the confusion's caption
    marked = [words[place + 1] for place, word in enumerate(words) if word == "the multi-domain"]
    assert len(marked) == 7
    assert set(marked) == {"transductive"}
    assert "multi-domain (transductive) 92.1" in "".join(page.values("aria-label"))
    assert "test speaker's unlabelled utterances together" in page.text
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["transductive"] for row in rows if row["method"] == "multi-domain"} == {"yes"}


@pytest.mark.parametrize("protocol", ["random-70-10-20", "emobox"])
def test_leaky_numbers_are_marked_wherever_they_stand(results: dict[str, Any], tmp_path: Path, protocol: str) -> None:
    make_leaky(results, protocol)
    page = read(results, tmp_path)
    words = [word for word in page.words if word]
    timings = len(words) - 1 - words[::-1].index("Timings")  # seconds do not leak
    places = [place for place, word in enumerate(words[:timings]) if word == "de"]
    assert len(places) > 10
    assert {words[place + 1] for place in places} == {"LEAKY"}
    assert not [word for word in words[:timings] if word.startswith("de:")]
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    scores = [label for label in labels if "structure:" not in label]
    assert [label.startswith("LEAKY: de") for label in scores] == [" it:" not in f" {label}" for label in scores]
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    svgs = re.findall(r'<svg role="img" aria-label="LEAKY.*?</svg>', source, re.DOTALL)
    assert len(svgs) == 6
    assert all(">LEAKY</text>" in svg for svg in svgs)
    assert protocol in page.text
    assert f"LEAKY (de: {protocol})" in page.text
    assert {row[0] for row in terminal_table(results)[1]} == {"de LEAKY", "it"}
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()))
    assert {(row["language"], row["leaky"]) for row in rows} == {("de", "yes"), ("it", "no")}
    assert "(LEAKY: de)" in tallies(Study(results))[0]


def test_tested_utterances_are_counted(results: dict[str, Any], tmp_path: Path) -> None:
    results["languages"][0] |= {"tested": 21, "protocol": "serab"}
    assert "N = 21 tested of 63 utterances of 3 speakers · E = 3 emotions · serab" in read(results, tmp_path).text


def test_each_strategy_has_its_row_pictures_and_structures(results: dict[str, Any], tmp_path: Path) -> None:
    for fold, dev_uar in zip("abc", (81.25, 95.0, 70.0), strict=True):
        results["searches"].append({**make_search("de", fold, GENOTYPES[0], "gdas"), "dev_uar": dev_uar})
        lone = make_search("it", fold, GENOTYPES[1], "darts")
        lone |= {"random": {"dev_uar": None, "text": None, "candidates": []}, "fixed": {"dev_uar": None}}
        results["searches"].append({**lone, "seconds": {"search": 10.0, "random": None}})
    found = Study(results).searches_by_strategy(results["languages"][0])
    assert {strategy: len(searches) for strategy, searches in found.items()} == {"beta": 3, "gdas": 3}
    page = read(results, tmp_path)
    # dev UAR, that of random search, better, equal, worse, both times, last entropy and share of parameter-free
    assert "the searched (beta) 90.8 81.2 3 0 0 30.0 s 33.0 s 0.50 0.30" in " ".join(page.text.split())
    assert "gdas 82.1 81.2 1 1 1 30.0 s 33.0 s 0.50 0.30" in " ".join(page.text.split())
    assert "darts 90.8 – – – – 30.0 s – 0.50 0.30" in " ".join(page.text.split())
    assert "fixed head, nothing searched 79.5" in " ".join(page.text.split())
    labels = page.values("aria-label")
    for strategy in ("the searched (beta)", "gdas"):
        assert f"de, {strategy}: losses over the epochs of the search, mean of 3 folds" in labels
    assert sum(label.startswith("de, the searched (beta): structure:") for label in labels) == 1
    assert sum(label.startswith("de, gdas: structure:") for label in labels) == 1


def test_a_conditioned_gate_that_is_a_constant_is_told(results: dict[str, Any], tmp_path: Path) -> None:
    assert "Every gate is a constant" not in read(results, tmp_path).text
    for gate, deviation in zip(results["gates"], (0.0004, 0.0), strict=True):
        gate["deviation"] = [deviation, deviation]
    text = read(results, tmp_path).text
    assert "nearly: the deviation is 0.0004 at most" in text
    assert "The gate of the multi-domain is a constant." in text
    results["gates"] = results["gates"][1:]
    assert "Every gate is a constant" in read(results, tmp_path).text


def test_many_methods_stay_readable(results: dict[str, Any], tmp_path: Path) -> None:
    names = [f"method-{number}" for number in range(15)]
    for name in names:
        results["methods"].append({"name": name, "title": name, "description": "", "transductive": False})
        results["results"].append(make_result("de", name, 80.0))
        results["gates"].append(make_gate(name))
    page = read(results, tmp_path)
    gates = next(label for label in page.values("aria-label") if "gate weights" in label)
    assert gates.count("wav2vec2-base") == DRAWN
    assert "searched" in gates
    assert "Drawn are 6 of 17 methods" in page.text
    assert {name for name in names if name not in page.text} == set()


def test_what_is_not_above_chance_is_named() -> None:
    study = compared(searched=(80, 78, 82), random=(30, 24, 36))
    assert chance_sentence(study, study.languages[0]) == "Not shown to be above chance (25.0 %): random."
    study = compared(searched=(80, 78, 82))
    assert chance_sentence(study, study.languages[0]) == ""


def test_genotype_picture_draws_every_choice() -> None:
    source = genotype_picture(GENOTYPES[0].to_dict(), "de")
    page = Page(source)
    assert page.open == []
    for word in ("acoustic", "wav2vec2-base", "linear", "conv3", "attention", "conditioned", "1 x 128 relu", "gate"):
        assert word in page.text
    assert "stroke-dasharray" not in source
    assert "stroke-dasharray" in genotype_picture(GENOTYPES[1].to_dict(), "de")
    left = [float(value) for tag, name, value in page.attributes if (tag, name) == ("rect", "x")]
    width = [float(value) for tag, name, value in page.attributes if (tag, name) == ("rect", "width")]
    columns = sorted(set(zip(left, width, strict=True)))
    assert len(columns) == 6
    assert all(first[0] + first[1] < second[0] for first, second in pairwise(columns))


def test_structures_are_counted_over_test_folds(results: dict[str, Any]) -> None:
    results["searches"].append(make_search("de", "everyone", GENOTYPES[0]))
    study = Study(results)
    searches = study.nested_searches(study.languages[0])
    assert [search["fold"] for search in searches] == ["a", "b", "c"]
    assert most_frequent(searches) == (GENOTYPES[1].to_dict(), 2)
    assert choice_counts(searches)["operation of acoustic"] == [("zero", 2), ("linear", 1)]
    assert choice_counts(searches)["head"] == [("linear", 2), ("1 x 128 relu", 1)]


def test_report_changes_no_state_of_matplotlib_and_needs_no_model(
    results: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "given.json").write_text(json.dumps(results), encoding="utf-8")
    program = (
        "import json, sys, pathlib, matplotlib\n"
        "state = lambda: {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != 'backend'}\n"
        "before = state()\n"
        "from train.report import write_report\n"
        "given = pathlib.Path(sys.argv[1])\n"
        "write_report(json.loads(given.read_text(encoding='utf-8')), given.parent / 'out')\n"
        "assert state() == before\n"
        "found = {'matplotlib.pyplot', 'click', 'torch', 'mser.audio', 'mser.upstream'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "given.json")], check=True, cwd=Path(__file__).parent.parent
    )
    assert (tmp_path / "out" / "report.html").read_bytes() == (folder / "report.html").read_bytes()


def test_numbers_that_are_missing_are_dashes() -> None:
    assert [number(value) for value in (None, float("nan"), "text", True)] == ["–"] * 4
