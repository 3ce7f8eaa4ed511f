"""The leaderboard: its page is whole and says what the content says; the long form agrees with the JSON."""

from __future__ import annotations

import copy
import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from html_page import Page
from scipy.stats import rankdata

from mser.errors import RunError
from train.benchmark import board as words
from train.benchmark.board import Board, Setting, outcome
from train.benchmark.few_shot import highlighted
from train.benchmark.page import links as section_links
from train.benchmark.page import terminal_tables, write_leaderboard
from train.benchmark.text_tables import LONG_COLUMNS
from train.report.pictures import COLOURS
from train.report.study import probability
from train.systems import task

SVG_ADDRESSES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
FILES = ["few-shot.svg", "leaderboard.csv", "leaderboard.html", "leaderboard.json"]
#: name -> title, control, whether it adapts.
SYSTEMS = {
    "majority": ("majority class", "", False), "logistic": ("logistic regression", "", False),
    "logistic-each": ("logistic regression, each language standardised", "logistic", True),
    "logistic-shots": ("logistic regression on shots", "", False), "svm": ("linear SVM", "", False),
    "compare-svm": ("openSMILE ComParE + linear SVM", "svm", False), "mlp": ("MLP on experts", "", False),
    "layer-probe": ("layer probe", "", False), "adversarial": ("domain-adversarial training", "source-only", True),
    "source-only": ("encoder and head alone", "", False), "conformer": ("conformer", "", False),
    "pseudo-soft": ("transformer with soft pseudo-labels", "transformer", True),
}  # fmt: skip
PROTOCOLS = ["within", "zero-shot", "few-shot"]
UTTERANCES = {"de": 535, "it": 588, "en": 1440, "ur": 400}
SPEAKERS = {"de": 10, "it": 6, "en": 24, "ur": 38}
EMOTIONS = {
    "de": ["anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"],
    "it": ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"],
    "en": ["anger", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"],
    "ur": ["anger", "happiness", "neutral", "sadness"],
}
REASON = "The loss is not finite. epoch: 3; found: nan."


def takes_part(system: str, protocol: str) -> bool:
    if system == "logistic-shots":
        return protocol == "few-shot"
    return protocol != "within" or not SYSTEMS[system][2]


def summary(mean: float, spread: float, width: float = 3.2) -> dict[str, float]:
    return {"mean": mean, "deviation": spread, "low": mean - width, "high": mean + width * 0.9}


def make_test(difference: float, least_p: float, draw: np.random.Generator) -> dict[str, float]:
    p = float(np.clip(np.exp(-abs(difference) * draw.uniform(0.2, 0.9)), least_p, 1))
    return {"difference": difference, "p_speakers": p, "p_utterances": p / 9, "least_p": least_p}


def make_result(system: str, cell: dict[str, Any], uar: float, draw: np.random.Generator) -> dict[str, Any]:
    seeds = [0] if system == "majority" else [0, 1, 2]
    spread = 0.0 if len(seeds) == 1 else float(draw.uniform(0.2, 2.5))
    per_seed = [
        {"seed": seed, "uar": uar + (seed - 1) * spread, "wa": uar + 1.25, "macro_f1": uar - 1.75} for seed in seeds
    ]
    where = cell["source"] if cell["source"] == cell["target"] else f"{cell['source']}-{cell['target']}"
    chosen = {"uar": uar + 2.4, "choice": "whisper:3"} if system in ("layer-probe", "svm") else None
    return {
        "system": system, "seeds": seeds, "uar": summary(uar, spread), "wa": summary(uar + 1.25, spread),
        "macro_f1": summary(uar - 1.75, spread), "per_seed": per_seed, "parameters": 1000 * len(system) + 7,
        "seconds": 1.5 * len(system), "test_chosen": chosen, "against_bar": None, "against_control": None,
        "folder": f"../../benchmarks/example/{system}/{cell['labels']}/{where}",
    }  # fmt: skip


def make_cell(protocol: str, labels: str, source: str, target: str, k: int) -> dict[str, Any]:
    emotions = [name for name in EMOTIONS[target] if name in EMOTIONS[source]]
    emotions = emotions if labels == "emotions" else ["negative", "positive"]
    tested = UTTERANCES[target] * len(emotions) // len(EMOTIONS[target]) if labels == "emotions" else UTTERANCES[target]
    cell = {
        "protocol": protocol, "labels": labels, "source": source, "target": target, "k": k, "emotions": emotions,
        "tested": tested, "utterances": UTTERANCES[target], "speakers": SPEAKERS[target],
        "chance": 100 / len(emotions), "results": [], "failed": [], "missing": [],
    }  # fmt: skip
    fill(cell, np.random.default_rng([ord(letter) for letter in f"{protocol}{labels}{source}{target}{k}"]))
    return cell


def fill(cell: dict[str, Any], draw: np.random.Generator) -> None:
    """Puts results in; adversarial fails in it>ur, pseudo-soft is missing with five shots of en."""
    start = cell["chance"] + (45 if cell["source"] == cell["target"] else 12 + 1.4 * cell["k"])
    skill = dict(zip(SYSTEMS, np.linspace(0, 14, len(SYSTEMS)), strict=True))
    for system in SYSTEMS:
        if not takes_part(system, cell["protocol"]):
            continue
        if system == "adversarial" and (cell["source"], cell["target"]) == ("it", "ur"):
            cell["failed"].append({
                "system": system, "reason": REASON, "tasks": "3 of 10", "folder": "../../benchmarks/example/x",
            })  # fmt: skip
        elif system == "pseudo-soft" and cell["source"] == "en" and cell["k"] == 5:
            cell["missing"].append(system)
        else:
            uar = cell["chance"] if system == "majority" else start + float(skill[system] + draw.normal(0, 3))
            cell["results"].append(make_result(system, cell, min(uar, 97.0), draw))
    results = {result["system"]: result for result in cell["results"]}
    for result, rank in zip(results.values(), rankdata([-one["uar"]["mean"] for one in results.values()]), strict=True):
        result["rank"] = float(rank)
        least = 2.0 ** (1 - min(cell["speakers"], 13))
        for field, other in (("against_bar", "logistic"), ("against_control", SYSTEMS[result["system"]][1])):
            if other in results and other != result["system"]:
                difference = result["uar"]["mean"] - results[other]["uar"]["mean"]
                result[field] = {"control": other, **make_test(difference, least, draw)}


def make_cells() -> Iterator[dict[str, Any]]:
    pairs = list(permutations(UTTERANCES, 2))
    for language in UTTERANCES:
        yield make_cell("within", "emotions", language, language, 0)
    for labels in ("emotions", "valence"):
        for protocol, k in (("zero-shot", 0), ("few-shot", 1), ("few-shot", 5), ("few-shot", 10)):
            if labels == "emotions" or k == 0:
                yield from (make_cell(protocol, labels, source, target, k) for source, target in pairs)


def settings_of(cells: list[dict[str, Any]]) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for cell in cells:
        found.setdefault((cell["protocol"], cell["labels"], cell["k"]), []).append(cell)
    return found


def summarised(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for (protocol, labels, k), own in settings_of(cells).items():
        for system in SYSTEMS:
            if takes_part(system, protocol):
                results = [one for cell in own for one in cell["results"] if one["system"] == system]
                yield {
                    "protocol": protocol, "labels": labels, "k": k, "system": system,
                    "uar": float(np.mean([one["uar"]["mean"] for one in results])),
                    "rank": float(np.mean([one["rank"] for one in results])), "cells": len(results), "of": len(own),
                    "failed": sum(one["system"] == system for cell in own for one in cell["failed"]),
                    "seconds": sum(one["seconds"] for one in results),
                    "parameters": max(one["parameters"] for one in results),
                }  # fmt: skip


def make_ideas(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for (protocol, labels, k), own in settings_of(cells).items():
        for system in SYSTEMS:
            tests = [one["against_control"] for cell in own for one in cell["results"] if one["system"] == system]
            if tests := [test for test in tests if test]:
                differences = [test["difference"] for test in tests if test["p_speakers"] <= 0.05]
                yield {
                    "protocol": protocol, "labels": labels, "k": k, "system": system, "control": SYSTEMS[system][1],
                    "difference": float(np.mean([test["difference"] for test in tests])), "cells": len(tests),
                    "better": sum(one > 0 for one in differences), "worse": sum(one < 0 for one in differences),
                }  # fmt: skip


def make_language(language: str) -> dict[str, Any]:
    audit = {
        "corpus": f"corpus-{language}", "protocol": "leave-one-speaker-out", "leaky": False,
        "messages": [f"No speaker of {language} crosses a fold."], "utterances": UTTERANCES[language],
        "speakers": SPEAKERS[language], "speaker_overlap": 0, "duplicates": 0, "sentence_overlap": 0.5,
    }  # fmt: skip
    return {
        "language": language, "corpora": [f"corpus-{language}"], "utterances": UTTERANCES[language],
        "speakers": SPEAKERS[language], "emotions": EMOTIONS[language], "audit": audit,
    }  # fmt: skip


def make_labels() -> list[dict[str, Any]]:
    every = sorted(set().union(*EMOTIONS.values()))
    signs = {"negative": ["anger", "boredom", "sadness"], "positive": ["happiness", "neutral"]}
    own = {"name": "emotions", "title": "every emotion for itself", "parts": {name: [name] for name in every}}
    return [
        {**own, "left_out": {}},
        {"name": "valence", "title": "sign of valence", "parts": signs, "left_out": {"calm": {"en": 192}}},
    ]


def make_system(name: str) -> dict[str, Any]:
    title, control, adapts = SYSTEMS[name]
    return {
        "name": name, "title": title, "description": f"What {name} is.", "control": control, "version": 1,
        "source": "Someone & Another 2023, arXiv 2301.00001" if name == "layer-probe" else "", "adapts": adapts,
        "options": {"rates": [0.1, 0.25], "head": {"hidden": 64}} if name != "majority" else {},
        "protocols": [protocol for protocol in PROTOCOLS if takes_part(name, protocol)],
    }  # fmt: skip


def make_content() -> dict[str, Any]:
    """Twelve systems on four languages; one failed in a pair, one is missing in others."""
    cells = list(make_cells())
    return {
        "schema_version": 1, "benchmark": "example", "mser_version": "0.1.0", "upstreams": ["acoustic", "wavlm-base"],
        "seeds": [0, 1, 2], "shots": [1, 5, 10], "device": "cpu", "bar": "logistic",
        "languages": [make_language(language) for language in UTTERANCES], "labels": make_labels(),
        "systems": [make_system(name) for name in SYSTEMS], "cells": cells, "summary": list(summarised(cells)),
        "ideas": list(make_ideas(cells)), "notes": ["Some numbers are missing."], "wall_seconds": 4321.0,
    }  # fmt: skip


def read(content: dict[str, Any], folder: Path) -> Page:
    page = Page(write_leaderboard(content, folder).read_text(encoding="utf-8"))
    assert page.open == []
    return page


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def small(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the cells of de, de>it and it>ur only: quicker to write."""
    kept = [("de", "de"), ("de", "it"), ("it", "ur")]
    cells = [cell for cell in content["cells"] if (cell["source"], cell["target"]) in kept]
    return {**content, "cells": cells, "summary": list(summarised(cells)), "ideas": list(make_ideas(cells))}


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return make_content()


@pytest.fixture
def content(whole: dict[str, Any]) -> dict[str, Any]:
    return small(copy.deepcopy(whole))


@pytest.fixture(scope="module")
def folder(whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the leaderboard of the example."""
    return write_leaderboard(whole, tmp_path_factory.mktemp("leaderboard")).parent


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "leaderboard.html").read_text(encoding="utf-8"))


def test_words_are_those_of_the_tasks() -> None:
    assert (words.WITHIN, words.ZERO_SHOT, words.FEW_SHOT) == (task.WITHIN, task.ZERO_SHOT, task.FEW_SHOT)


def test_page_is_whole_and_loads_nothing(page: Page, folder: Path, whole: dict[str, Any]) -> None:
    assert page.open == []
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))
    links = [value for value in page.values("href") + page.values("xlink:href") if value.startswith("#")]
    assert {link[1:] for link in links} <= set(identifiers)
    assert {f"#{name}" for name in section_links(Board(whole))} <= set(links)
    elsewhere = {value for value in page.values("href") if not value.startswith("#")}
    runs = {one["folder"] for cell in whole["cells"] for part in ("results", "failed") for one in cell[part]}
    assert elsewhere == {"leaderboard.csv", "leaderboard.json"} | runs
    assert all(link.startswith("../../benchmarks/") for link in runs)
    assert page.values("src") == []
    assert not {tag for tag, _, _ in page.attributes} & {"script", "link", "iframe", "img", "object", "embed"}
    source = (folder / "leaderboard.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"'\s<>)]*", source)) <= SVG_ADDRESSES
    assert not re.search(r"@import|url\((?!#)", source)
    assert "default-src 'none'" in "".join(page.values("content"))
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_the_means_over_k_are_a_picture_that_stands_alone(folder: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    root = ElementTree.parse(folder / "few-shot.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["aria-label"].startswith("mean over pairs: UAR over k = 0, 1, 5, 10: logistic ")
    no_shots = {name: [one for one in whole[name] if not one["k"]] for name in ("cells", "summary", "ideas")}
    write_leaderboard({**whole, **no_shots}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES[1:]


def test_sections_come_in_order_and_every_picture_has_a_text(page: Page, whole: dict[str, Any]) -> None:
    assert [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")] == [
        "notes",
        *section_links(Board(whole)),
    ]
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == 1 + 12  # the mean, and every pair
    assert labels[0].startswith("mean over pairs: UAR over k = 0, 1, 5, 10: logistic ")
    assert labels[1].startswith("de → it: UAR over k = 0, 1, 5, 10: logistic ")
    assert labels[1].endswith("chance 16.7")


def test_every_number_is_on_the_page_and_leads_to_its_run(page: Page, whole: dict[str, Any]) -> None:
    expected, links = set(), set()
    for cell in whole["cells"]:
        for result in cell["results"]:
            uar, seeds = result["uar"], result["seeds"]
            shown = f"{uar['mean']:.1f}" + (f" ± {uar['deviation']:.1f}" if len(seeds) > 1 else "")
            links.add((result["folder"], shown))
            expected.add(f"[{uar['low']:.1f}, {uar['high']:.1f}]")
            if not cell["k"]:
                expected |= {f"{result[metric]['mean']:.1f}" for metric in ("wa", "macro_f1")}
                test = result["against_bar"]
                if test:
                    expected |= {
                        f"{test['difference']:+.1f}",
                        f"p {probability(test['p_speakers'])} / {probability(test['p_utterances'])}",
                    }
    for entry in whole["summary"]:
        expected |= {f"{entry['uar']:.1f}", "11 of 12 pairs", "9 of 12 pairs"}
    for entry in whole["ideas"]:
        expected |= {f"{entry['difference']:+.1f}"}
        expected |= {f"{entry['better']} better, {entry['worse']} worse of {entry['cells']}"}
    expected |= {"N 504 of 588", "N 400", "11,007", "1 h 12 min", "wavlm-base", "What mlp is.", "head.hidden 64"}
    expected |= {"rates 0.1, 0.25", "Source: Someone & Another 2023, arXiv 2301.00001", "Some numbers are missing."}
    expected |= {"corpus-ur", "No speaker of ur crosses a fold.", "anger, happiness, neutral, sadness", "whisper:3"}
    assert {said for said in expected if said not in page.text} == set()
    assert links - set(page.links) == set()


def test_failed_and_missing_are_shown(page: Page, whole: dict[str, Any]) -> None:
    failed = sum(len(cell["failed"]) for cell in whole["cells"])
    assert failed == 5
    # In the table of each protocol, label set and k, and in two folded ones of both zero-shot tables.
    assert page.links.count(("#failures", "failed")) == failed + 2 * 2
    assert page.text.count(REASON) == failed
    assert page.links.count(("../../benchmarks/example/x", "3 of 10 tasks")) == failed
    assert page.values("title").count("not computed yet") == sum(len(cell["missing"]) for cell in whole["cells"]) == 3


def test_marks_tell_new_speakers_from_these_speakers() -> None:
    base = {"difference": 3.0, "p_speakers": 0.2, "p_utterances": 0.2, "least_p": 0.01}
    assert outcome({**base, "p_speakers": 0.05}) == ("beats", "speakers")
    assert outcome({**base, "p_speakers": 0.05, "difference": -1.0}) == ("loses to", "speakers")
    assert outcome({**base, "p_utterances": 0.01}) == ("beats", "utterances")
    assert outcome({**base, "p_utterances": 0.01, "difference": -1.0}) == ("loses to", "utterances")
    for tie in (base, None, {**base, "difference": 0.0, "p_speakers": 0.01}, {**base, "p_speakers": None}):
        assert outcome(tie) == ("ties with", "")


def test_marks_stand_beside_their_numbers(content: dict[str, Any], tmp_path: Path) -> None:
    cell = content["cells"][0]
    assert (cell["protocol"], cell["source"]) == ("within", "de")
    tests = {"svm": (0.01, 0.01, "▲"), "mlp": (0.3, 0.01, "△"), "conformer": (0.3, 0.3, "")}
    for result in cell["results"]:
        if result["system"] in tests:
            speakers, utterances, _ = tests[result["system"]]
            result["against_bar"] |= {"difference": 4.56, "p_speakers": speakers, "p_utterances": utterances}
    page = read(content, tmp_path)
    for result in cell["results"]:
        if result["system"] in tests:
            shown = f"{result['uar']['mean']:.1f} ± {result['uar']['deviation']:.1f}"
            sign = tests[result["system"]][2]
            assert f"{shown} {f'{sign} ' if sign else ''}[{result['uar']['low']:.1f}," in page.text
    said = "beats logistic regression over utterances: +4.6 points, p = .3 over speakers, p = .01 over utterances"
    assert said in page.values("aria-label")


def test_where_no_difference_can_be_shown_is_said(page: Page, whole: dict[str, Any]) -> None:
    # Six speakers: p is 1/32 at least, and Holm multiplies it by the seven systems that were compared.
    tests = [one for one in whole["cells"][1]["results"] if one["against_bar"]]
    assert (whole["cells"][1]["source"], len(tests)) == ("it", 7)
    assert f"it (6 speakers: {probability(7 / 32)})" in page.text
    assert "en (24 speakers" not in page.text


def test_leaky_languages_are_marked(content: dict[str, Any], tmp_path: Path) -> None:
    leak: dict[str, Any] = {
        "leaky": True,
        "protocol": "random-70-10-20",
        "messages": ["LEAKY: 2 test recordings are in training."],
    }
    assert "LEAKY" not in read(content, tmp_path).text
    content["languages"][0]["audit"] |= leak
    text = read(content, tmp_path).text
    for said in ("LEAKY (de: random-70-10-20)", "system mean LEAKY mean rank LEAKY de LEAKY N 535", *leak["messages"]):
        assert said in text
    assert "de LEAKY → it" not in text  # its folds are not used across languages
    assert {(row["protocol"], row["leaky"]) for row in rows_of(tmp_path)} == {
        ("within", "yes"), ("zero-shot", "no"), ("few-shot", "no"),
    }  # fmt: skip
    assert terminal_tables(content)[0][1] == ["system", "de LEAKY"]


def test_adapting_and_chosen_on_test_are_marked(page: Page, whole: dict[str, Any], folder: Path) -> None:
    adapting = {"logistic regression, each language standardised", "domain-adversarial training",
                "transformer with soft pseudo-labels"}  # fmt: skip
    source = (folder / "leaderboard.html").read_text(encoding="utf-8")
    found = re.findall(r'>([^<>]+)(?:</a>)? <span class="badge adapts"', source)
    assert set(found) == adapting
    cell = whole["cells"][0]
    result = next(one for one in cell["results"] if one["system"] == "layer-probe")
    dev, test = f"{result['uar']['mean']:.1f}", f"{result['test_chosen']['uar']:.1f}"
    assert f"layer probe within de {dev} {test} chosen on test +2.4 whisper:3" in page.text


def test_systems_that_take_no_part_have_no_row(content: dict[str, Any], tmp_path: Path) -> None:
    board = Board(content)
    assert "logistic-shots" not in board.asked(board.settings[Setting("within")])
    assert "logistic-shots" in board.asked(board.settings[Setting("few-shot", k=5)])
    assert "Not for this protocol: logistic regression on shots." in read(content, tmp_path).text


def test_incomplete_means_are_neither_bold_nor_in_colour(whole: dict[str, Any]) -> None:
    board = Board(whole)
    shown = highlighted(board, "emotions")
    assert shown[0] == "logistic"
    assert len(shown) == 1 + len(COLOURS)
    assert "adversarial" not in shown  # it failed in a pair
    last = Setting("few-shot", k=10)
    ranks = {name: board.mean(last, name, "rank") for name in SYSTEMS if name not in ("logistic", "adversarial")}
    assert shown[1:] == sorted(ranks, key=lambda name: ranks[name] or 0)[: len(COLOURS)]
    assert board.mean(last, "adversarial") is None
    assert board.mean(last, "adversarial", whole=False) is not None
    means = [board.mean(last, name) for name in SYSTEMS]
    assert board.best_mean(last, "uar") == max(mean for mean in means if mean is not None)


def test_json_is_what_was_given_and_csv_agrees(folder: Path, whole: dict[str, Any]) -> None:
    assert json.loads((folder / "leaderboard.json").read_text(encoding="utf-8")) == whole
    rows = rows_of(folder)
    assert list(rows[0]) == LONG_COLUMNS
    names = [name for name in LONG_COLUMNS if name not in ("value", "denominator", "counted", "leaky", "adapts")]
    found = {tuple(row[name] for name in names): row for row in rows}
    assert len(found) == len(rows)

    def take(*key: object) -> dict[str, str]:
        return found.pop(tuple(map(str, key)))

    for cell in whole["cells"]:
        start = [cell[name] for name in LONG_COLUMNS[:5]]
        tested = take(*start, "", "cell", "", "", "utterances", "tested")
        assert (int(tested["value"]), int(tested["denominator"])) == (cell["tested"], cell["utterances"])
        assert float(take(*start, "chance", "cell", "", "", "uar", "mean")["value"]) == cell["chance"]
        sizes = {"uar": len(cell["emotions"]), "wa": cell["tested"], "macro_f1": len(cell["emotions"])}
        for result in cell["results"]:
            own = [*start, result["system"]]
            for metric, size in sizes.items():
                for statistic, value in result[metric].items():
                    row = take(*own, "cell", "", "", metric, statistic)
                    assert (float(row["value"]), int(row["denominator"])) == (value, size)
                for entry in result["per_seed"]:
                    row = take(*own, "seed", "", entry["seed"], metric, "value")
                    assert (float(row["value"]), int(row["denominator"])) == (entry[metric], size)
            row = take(*own, "cell", "", "", "rank", "value")
            assert (float(row["value"]), int(row["denominator"])) == (result["rank"], len(cell["results"]))
            for metric in ("parameters", "seconds"):
                assert float(take(*own, "cell", "", "", metric, "value")["value"]) == result[metric]
            for level, other in (("bar", "logistic"), ("control", SYSTEMS[result["system"]][1])):
                test = result[f"against_{level}"]
                for name in ("difference", "p_speakers", "p_utterances", "least_p") if test else ():
                    assert float(take(*own, level, other, "", "uar", name)["value"]) == test[name]
            if chosen := result["test_chosen"]:
                assert float(take(*own, "chosen on test", "", "", "uar", "whisper:3")["value"]) == chosen["uar"]
        for name in [one["system"] for one in cell["failed"]]:
            assert take(*start, name, "absent", "", "", "uar", "failed")["value"] == ""
        for name in cell["missing"]:
            assert take(*start, name, "absent", "", "", "uar", "missing")["value"] == ""
    assert {key[6] for key in found} == {"mean"}
    summed = [row for row in found.values() if row["metric"] == "uar" and row["statistic"] == "mean"]
    assert [(float(row["value"]), int(row["denominator"])) for row in summed] == [
        (entry["uar"], entry["cells"]) for entry in whole["summary"]
    ]
    assert {row["adapts"] for row in rows if row["system"] == "pseudo-soft"} == {"yes"}


def test_hostile_names_stay_text(content: dict[str, Any], tmp_path: Path) -> None:
    hostile = '<script>alert("x")</script>&$\\frac{1}$ id="x" url(#x)'
    content = json.loads(json.dumps(content).replace(json.dumps(REASON), json.dumps(hostile)))
    content = json.loads(json.dumps(content).replace('"mlp"', json.dumps(hostile)).replace('"it"', json.dumps(hostile)))
    for name in ("title", "description", "source"):
        content["systems"][0][name] = hostile
    content["systems"][1]["options"] = {hostile: hostile}
    content["benchmark"] = content["notes"][0] = content["upstreams"][0] = content["device"] = hostile
    content["languages"][0]["audit"]["messages"][0] = content["languages"][0]["corpora"][0] = hostile
    content["cells"][0]["results"][0]["folder"] = "javascript:alert(1)?#"
    content["cells"][0]["emotions"][0] = hostile
    page = read(content, tmp_path)
    assert "script" not in {tag for tag, _, _ in page.attributes}
    assert "<script" not in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert page.text.count("alert(") > 20
    assert "javascript%3Aalert%281%29%3F%23" in page.values("href")
    assert not [value for value in page.values("href") if ":" in value]
    assert len(page.values("id")) == len(set(page.values("id")))
    assert "x" not in page.values("id")


def test_empty_and_odd_parts(content: dict[str, Any], tmp_path: Path) -> None:
    first = content["cells"][0]
    first |= {"tested": 0, "speakers": 0, "chance": None, "emotions": [], "results": []}
    first["failed"] = [{"system": "mlp", "reason": "A single speaker.", "tasks": "all", "folder": ""}]
    content["summary"] = [entry | {"uar": None, "rank": None, "cells": 0} for entry in content["summary"]]
    text = read(content, tmp_path).text
    assert "all tasks A single speaker." in text
    for part in ("cells", "summary", "ideas", "notes", "systems", "languages"):
        content[part] = []
    content["wall_seconds"] = None
    text = read(content, tmp_path).text
    for said in ("Not run.", "Nothing failed.", "Nothing was computed.", "wall time –", "No system was run together"):
        assert said in text
    assert terminal_tables(content) == []


def test_another_schema_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="schema_version"):
        write_leaderboard({**content, "schema_version": 2}, tmp_path)
    with pytest.raises(RunError, match="schema_version"):
        terminal_tables({**content, "schema_version": 2})
    assert not list(tmp_path.iterdir())


def test_same_content_same_bytes_without_a_model(content: dict[str, Any], tmp_path: Path) -> None:
    given = copy.deepcopy(content)
    first = write_leaderboard(content, tmp_path / "first").parent
    assert content == given
    (tmp_path / "given.json").write_text(json.dumps(content), encoding="utf-8")
    program = (
        "import json, sys, pathlib\n"
        "from train.benchmark.page import write_leaderboard\n"
        "given = pathlib.Path(sys.argv[1])\n"
        "write_leaderboard(json.loads(given.read_text(encoding='utf-8')), given.parent / 'second')\n"
        "found = {'matplotlib.pyplot', 'click', 'torch', 'mser.audio', 'mser.upstream'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "given.json")], check=True, cwd=Path(__file__).parent.parent
    )
    for name in FILES:
        assert (first / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_terminal_tables(whole: dict[str, Any]) -> None:
    tables = terminal_tables(whole)
    assert [title.split(":")[0] for title, _, _ in tables] == [
        "Within a language", "Across languages, zero-shot", "Across languages, few-shot",
        "Across languages, zero-shot, labels",
    ]  # fmt: skip
    for _, columns, rows in tables:
        assert all(len(row) == len(columns) for row in rows)
        assert all(isinstance(cell, str) for row in rows for cell in row)
    (_, columns, rows), (_, across, zero), (_, shots, few), _ = tables
    assert columns == ["system", "de", "it", "en", "ur"]
    uar = next(one["uar"] for one in whole["cells"][0]["results"] if one["system"] == "mlp")
    by_name = {row[0]: row for row in rows}
    assert by_name["mlp"][1] == f"{uar['mean']:.1f} ± {uar['deviation']:.1f}"
    assert by_name["majority"][1] == by_name["chance"][1] == "14.3"
    assert across == ["system", *(f"{one}>{two}" for one, two in permutations(UTTERANCES, 2)), "mean", "mean rank"]
    adversarial = {row[0]: row for row in zero}["adversarial (adapts)"]
    assert adversarial[across.index("it>ur")] == "failed"
    assert adversarial[-2].endswith("(11 of 12)")
    assert shots == ["system", "k=0", "k=1", "k=5", "k=10"]
    mean = next(one["uar"] for one in whole["summary"] if one["k"] == 5 and one["system"] == "conformer")
    assert {row[0]: row for row in few}["conformer"][3] == f"{mean:.1f}"
    assert {row[0]: row for row in few}["logistic-shots"][1] == "–"
