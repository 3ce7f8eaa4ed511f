"""The benchmark as a user runs it, on small made-up languages: answers, failures, resuming, the leaderboard."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from commands import ROOT
from sklearn.metrics import recall_score
from toys import make_workspace

from mser.config import Workspace, read_json, write_json
from mser.errors import ConfigError, RunError
from mser.labels import load_labels
from mser.manifest import Manifest
from train.benchmark.cells import Pair
from train.benchmark.folder import restored
from train.benchmark.run import key_of, selected
from train.benchmark.summaries import ideas, summary
from train.cli import main
from train.systems import SYSTEMS, Answer, Entry, System, Task
from train.systems.continuous_metric import ContinuousMetric
from train.systems.task import ZERO_SHOT

QUICK = ("--methods", "majority logistic logistic-each", "--seeds", "0 1", "--shots", "1")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("UPSTREAMS", "SEEDS", "METHODS", "RUN", "SET", "PROTOCOLS", "LABELS", "SHOTS", "WORKERS", "DEVICE"):
        monkeypatch.delenv(name, raising=False)
    return make_workspace(tmp_path / "work", ("de", "it")).root


def invoke(root: Path, *more: str, command: str = "benchmark") -> Result:
    words = [command, "--home", str(root)]
    words += ["--workers", "1", "--device", "cpu", "--labels", "emotions"] if command == "benchmark" else []
    return CliRunner().invoke(main, [*words, *more], env={"COLUMNS": "200"})


def board(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(root / "reports" / "benchmark" / "leaderboard.json")
    return found


def answers(root: Path) -> dict[Path, float]:
    folder = root / "benchmarks" / "benchmark"
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.glob("*/emotions/*/*.json")}


def without_times(content: dict[str, Any]) -> dict[str, Any]:
    """The leaderboard less what a clock says."""
    parts = [*content["summary"], *(result for cell in content["cells"] for result in cell["results"])]
    for part in parts:
        part["seconds"] = 0
    return {**content, "wall_seconds": 0}


@dataclass(frozen=True)
class Odd(System):
    """Fails in a way of choice across languages; within a language it says the first emotion."""

    way: str = "error"
    seeded: ClassVar[bool] = False

    @property
    def extra(self) -> tuple[str, ...]:
        return ("compare",) if self.way == "store" else ()

    def answers(self, tasks: Sequence[Task]) -> Iterator[Answer]:
        yield from super().answers(tasks)
        if tasks[0].protocol == ZERO_SHOT and self.way == "more":
            yield self.answer(tasks[-1])

    def answer(self, task: Task) -> Answer:
        said = np.eye(len(task.emotions))[np.zeros(len(task.test), dtype=int)]
        if task.protocol == ZERO_SHOT and self.way == "loss":
            raise RunError("The loss is not finite.", field="loss", found="nan")
        if task.protocol == ZERO_SHOT and self.way == "bug":
            raise ZeroDivisionError("float division by zero")
        if task.protocol == ZERO_SHOT and self.way == "nan":
            said[0] = np.nan
        return Answer(said, alternatives={"same": said, "last": said[:, ::-1]})


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def add(way: str) -> str:
        monkeypatch.setitem(SYSTEMS, "odd", Entry("odd", "odd", "For tests.", Odd(way), control="majority"))
        return "odd"

    return add


def test_the_numbers_are_those_of_the_answers_by_an_independent_metric(root: Path) -> None:
    done = invoke(root, *QUICK)
    assert done.exit_code == 0, done.output
    content = board(root)
    places = [(cell["protocol"], cell["source"], cell["target"], cell["k"]) for cell in content["cells"]]
    across = [("zero-shot", 0), ("few-shot", 1)]
    expected = [("within", "de", "de", 0), ("within", "it", "it", 0)]
    expected += [(name, *pair, k) for name, k in across for pair in (("de", "it"), ("it", "de"))]
    assert places == expected
    for cell in content["cells"]:
        adapting = set() if cell["protocol"] == "within" else {"logistic-each"}
        assert {one["system"] for one in cell["results"]} == {"majority", "logistic"} | adapting
        for one in cell["results"]:
            folder = (root / "reports" / "benchmark" / one["folder"]).resolve()
            scores = []
            for seed in one["seeds"]:
                paths = sorted(folder.glob(f"{cell['protocol']}-k{cell['k']}-*-seed{seed}.json"))
                found = [read_json(path) for path in paths]
                truth = np.concatenate([each["truth"] for each in found])
                said = np.concatenate([np.array(each["probabilities"]).argmax(1) for each in found])
                assert len(truth) == cell["tested"] == 24
                scores.append(100 * recall_score(truth, said, average="macro"))
            assert one["uar"]["mean"] == pytest.approx(np.mean(scores))
            assert one["uar"]["low"] <= one["uar"]["mean"] <= one["uar"]["high"]
        # Seeds only where they make a difference.
        expected_seeds = [0, 1] if cell["protocol"] == "few-shot" else [0]
        assert all(one["seeds"] == expected_seeds for one in cell["results"])
    assert "Zero-shot" in done.output or "zero-shot" in done.output


def test_a_second_run_asks_nothing_again_and_a_lost_or_damaged_answer_is_asked_alone(root: Path) -> None:
    assert invoke(root, *QUICK).exit_code == 0
    before, content = answers(root), without_times(board(root))
    assert invoke(root, *QUICK).exit_code == 0
    assert answers(root) == before
    lost, damaged = sorted(before)[3], sorted(before)[7]
    (root / "benchmarks" / "benchmark" / lost).unlink()
    (root / "benchmarks" / "benchmark" / damaged).write_text("{", encoding="utf-8")
    with pytest.warns(UserWarning, match="cannot be used"):
        assert invoke(root, *QUICK).exit_code == 0
    after = answers(root)
    assert {path for path, made in after.items() if made != before[path]} == {lost, damaged}
    assert without_times(board(root)) == content


def test_a_leaderboard_that_is_not_finished_says_which_seeds_and_numbers_are_there(root: Path) -> None:
    assert invoke(root, *QUICK).exit_code == 0
    folder = root / "benchmarks" / "benchmark" / "logistic-each" / "emotions" / "de-it"
    (folder / "few-shot-k1-half-0-seed1.json").unlink()
    for path in folder.glob("zero-shot-*.json"):
        path.unlink()
    assert invoke(root, command="leaderboard").exit_code == 0
    cells = {(one["protocol"], one["source"]): one for one in board(root)["cells"]}
    short = next(one for one in cells["few-shot", "de"]["results"] if one["system"] == "logistic-each")
    assert short["seeds"] == [0]
    assert cells["zero-shot", "de"]["missing"] == ["logistic-each"]
    assert any("Fewer than 2 seeds so far, of: logistic-each" in note for note in board(root)["notes"])
    assert any("1 numbers are not computed yet" in note for note in board(root)["notes"])


def test_more_systems_and_seeds_are_added_to_what_is_there(root: Path) -> None:
    assert invoke(root, *QUICK).exit_code == 0
    before = answers(root)
    more = ("--methods", "majority logistic logistic-each svm", "--seeds", "0 1 2", "--shots", "1 2")
    assert invoke(root, *more).exit_code == 0
    after = answers(root)
    assert all(after[path] == made for path, made in before.items())
    assert {one["system"] for one in board(root)["summary"]} == {"majority", "logistic", "logistic-each", "svm"}


def test_what_was_asked_before_stays_in_the_table_beside_what_is_asked_now(root: Path) -> None:
    assert invoke(root, *QUICK).exit_code == 0
    before, content = answers(root), board(root)
    path = root / "benchmarks" / "benchmark" / "benchmark.json"
    written = {name: value for name, value in read_json(path).items() if name != "mappings"}  # as earlier versions did
    write_json(path, written)
    part = ("--methods", "svm", "--seeds", "2", "--shots", "2", "--protocols", "few-shot")
    assert invoke(root, *part, "--upstreams", "loud quiet").exit_code == 0
    after, joined = answers(root), board(root)
    assert {path: made for path, made in after.items() if path in before} == before
    new = {f"svm/emotions/{pair}/few-shot-k2-half-{half}-seed2.json" for pair in ("de-it", "it-de") for half in (0, 1)}
    assert {path.as_posix() for path in after.keys() - before.keys()} == new
    assert [one["name"] for one in joined["systems"]] == ["majority", "logistic", "logistic-each", "svm"]
    assert (joined["seeds"], joined["shots"]) == ([0, 1, 2], [1, 2])
    for cell, earlier in zip(joined["cells"], content["cells"], strict=False):
        assert (cell["results"], cell["missing"]) == (earlier["results"], ["svm"])
    for cell in joined["cells"][len(content["cells"]) :]:
        assert (cell["k"], [(one["system"], one["seeds"]) for one in cell["results"]]) == (2, [("svm", [2])])
        assert cell["missing"] == ["majority", "logistic", "logistic-each"]
    numbers = sum(len(cell["missing"]) for cell in joined["cells"])
    assert f"{numbers} numbers are not computed yet; `make benchmark` goes on." in joined["notes"]
    assert invoke(root, command="leaderboard").exit_code == 0
    assert without_times(board(root)) == without_times(joined)


def test_a_system_that_draws_nothing_is_asked_under_the_first_seed_of_the_folder(root: Path) -> None:
    words = ("--methods", "logistic", "--protocols", "within")
    assert invoke(root, *words, "--seeds", "3").exit_code == 0
    before = answers(root)
    assert invoke(root, *words, "--seeds", "0 1").exit_code == 0
    assert answers(root) == before
    assert all([one["seeds"] for one in cell["results"]] == [[3]] for cell in board(root)["cells"])


def test_values_of_protocols_that_are_not_asked_are_not_added(root: Path) -> None:
    words = ("--methods", "majority", "--seeds", "0")
    assert invoke(root, *words, "--shots", "1").exit_code == 0
    content = board(root)
    # By default these would be 1, 5 and 10, and a further label set.
    assert invoke(root, *words, "--protocols", "within", "--labels", "emotions coarse").exit_code == 0
    assert without_times(board(root)) == without_times(content)


def test_languages_of_an_earlier_run_stay_and_pairs_that_nobody_asked_are_missing(root: Path) -> None:
    assert invoke(root, "--methods", "majority", "--language", "de", "--protocols", "within").exit_code == 0
    assert invoke(root, "--methods", "majority", "--language", "it").exit_code == 0
    cells = {(cell["protocol"], cell["source"], cell["k"]): cell for cell in board(root)["cells"]}
    across = [cells.pop(place) for place in list(cells) if place[0] != "within"]
    assert [one["system"] for cell in cells.values() for one in cell["results"]] == ["majority", "majority"]
    assert len(across) == 2 + 2 * 3
    assert all((cell["results"], cell["missing"]) == ([], ["majority"]) for cell in across)
    manifest = Manifest.read(Workspace(root), "toy_de")  # of a language that is in the table, though not asked now
    replace(manifest, utterances=manifest.utterances[:-1]).write(Workspace(root), [], [])
    done = invoke(root, "--methods", "majority", "--language", "it")
    assert done.exit_code == 1
    assert "data of de" in done.output


def test_another_first_label_set_needs_another_folder(root: Path) -> None:
    words = ("--methods", "majority", "--protocols", "within")
    assert invoke(root, *words).exit_code == 0
    content = board(root)
    done = invoke(root, *words, "--labels", "coarse emotions")
    assert done.exit_code == 1
    assert "emotions, and any others behind it" in done.output
    assert "give another RUN" in done.output
    assert board(root) == content


def test_what_changes_answers_on_mapped_labels_alone_leaves_the_answers_on_emotions(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke(root, "--methods", "majority", "--protocols", "within").exit_code == 0
    benchmark = restored(Workspace(root), root / "benchmarks" / "benchmark")
    pairs, names = [Pair(labels, "de", "it") for labels in ("emotions", "coarse")], ("logistic", "continuous-metric")

    def keys() -> list[str]:
        return [key_of(benchmark, name, pair) for name in names for pair in pairs]

    before = keys()
    monkeypatch.setattr(ContinuousMetric, "version_mapped", 1)
    assert [one == other for one, other in zip(before, keys(), strict=True)] == [True, True, True, False]
    monkeypatch.setattr(ContinuousMetric, "version", 2)
    assert [one == other for one, other in zip(before, keys(), strict=True)] == [True, True, False, False]


def test_a_folder_with_a_system_that_is_gone_is_not_gone_on_with(root: Path, odd: Any) -> None:
    words = ("--protocols", "within", "--methods")
    assert invoke(root, *words, odd("none")).exit_code == 0
    del SYSTEMS["odd"]
    for done in (invoke(root, *words, "majority"), invoke(root, command="leaderboard")):
        assert done.exit_code == 1
        assert "a system that is not there" in done.output
        assert "odd" in done.output


@pytest.mark.parametrize(
    ("way", "reason"),
    [("loss", "The loss is not finite"), ("bug", "ZeroDivisionError: float division"), ("nan", "no probabilities")],
)
def test_a_system_that_fails_is_marked_with_its_reason_and_the_rest_completes(
    root: Path, odd: Any, way: str, reason: str
) -> None:
    done = invoke(root, "--methods", f"logistic {odd(way)}", "--seeds", "0", "--shots", "1")
    assert done.exit_code == 1
    assert reason in done.output
    assert "make benchmark" in done.output
    for cell in board(root)["cells"]:
        failing = cell["protocol"] == "zero-shot"
        assert {one["system"] for one in cell["results"]} == {"logistic", "majority"} | (
            {"odd"} if not failing else set()
        )
        assert [one["system"] for one in cell["failed"]] == (["odd"] if failing else [])
        assert all(reason in one["reason"] and one["tasks"] == "2 of 2" for one in cell["failed"])


def test_a_system_that_says_more_than_it_was_asked_fails_and_the_rest_completes(root: Path, odd: Any) -> None:
    words = ("--methods", f"logistic {odd('more')}", "--seeds", "0", "--protocols", "within zero-shot")
    done = invoke(root, *words)
    assert done.exit_code == 1
    assert "zip() argument 2 is longer" in done.output
    for cell in board(root)["cells"]:
        failing = ["odd"] if cell["protocol"] == "zero-shot" else []
        assert [one["system"] for one in cell["failed"]] == failing
        assert {one["system"] for one in cell["results"]} == {"majority", "logistic", "odd"} - set(failing)


def test_a_system_whose_states_are_not_there_fails_and_is_asked_again_once_they_are(root: Path, odd: Any) -> None:
    words = ("--methods", f"logistic {odd('store')}", "--seeds", "0", "--shots", "1")
    done = invoke(root, *words)
    assert done.exit_code == 1
    assert "'compare' was not extracted for toy_de" in done.output
    content = board(root)
    assert all([one["system"] for one in cell["failed"]] == ["odd"] for cell in content["cells"])
    assert all("make extract LANG=" in one["reason"] for cell in content["cells"] for one in cell["failed"])
    for language in ("de", "it"):
        shutil.copytree(root / "cache" / f"toy_{language}" / "loud", root / "cache" / f"toy_{language}" / "compare")
    done = invoke(root, *words)  # with the folder's own upstreams, though another is cached by now
    assert done.exit_code == 0, done.output
    assert board(root)["upstreams"] == ["loud", "quiet"]
    assert not any(cell["failed"] for cell in board(root)["cells"])


def test_a_target_that_has_no_shots_to_give_is_asked_without_them(root: Path) -> None:
    workspace = Workspace(root)
    manifest = Manifest.read(workspace, "toy_it")
    one = manifest.utterances[0].speaker_id  # joy is spoken by a single speaker, so one half has none of it
    rows = tuple(row for row in manifest.utterances if row.emotion != "joy" or row.speaker_id == one)
    replace(manifest, utterances=rows).write(workspace, [], [])
    done = invoke(root, "--methods", "logistic", "--seeds", "0", "--shots", "1")
    assert done.exit_code == 1
    assert "no labelled utterance of joy" in done.output
    found = {
        (cell["protocol"], cell["target"]): cell for cell in board(root)["cells"] if cell["source"] != cell["target"]
    }
    assert len(found) == 4
    for place, cell in found.items():
        asked = place != ("few-shot", "it")
        assert [len(cell["results"]), len(cell["failed"])] == [asked, not asked]
    assert "no labelled utterance of joy" in found["few-shot", "it"]["failed"][0]["reason"]
    assert found["zero-shot", "it"]["tested"] == len(rows)


def test_a_pair_that_cannot_be_asked_is_marked_for_all_systems(root: Path) -> None:
    workspace = Workspace(root)
    manifest = Manifest.read(workspace, "toy_it")
    names = {"joy": "surprise", "fear": "sadness"}
    rows = tuple(replace(row, emotion=names.get(row.emotion, row.emotion)) for row in manifest.utterances)
    replace(manifest, utterances=rows).write(workspace, [], [])
    done = invoke(root, *QUICK)
    assert done.exit_code == 1
    assert "no two labels to tell apart in de and it" in done.output
    for cell in board(root)["cells"]:
        within = cell["protocol"] == "within"
        assert len(cell["results"]) == (2 if within else 0)
        assert len(cell["failed"]) == (0 if within else 3)


def test_alternatives_give_the_number_that_choosing_on_the_test_would_have(root: Path, odd: Any) -> None:
    assert invoke(root, "--methods", f"logistic {odd('none')}", "--seeds", "0", "--protocols", "within").exit_code == 0
    (first, _) = board(root)["cells"]
    own = next(one for one in first["results"] if one["system"] == "odd")
    # All choices score chance here: the first by name of equals.
    assert own["test_chosen"] == {"uar": pytest.approx(100 / 3), "choice": "last"}
    assert own["against_control"]["control"] == "majority"


def test_options_are_set_by_name_and_other_options_need_another_folder(root: Path) -> None:
    words = ("--methods", "logistic mlp", "--seeds", "0", "--protocols", "within", "--set", "mlp.hidden=8")
    assert invoke(root, *words, "mlp.steps.epochs=2").exit_code == 2  # one value: several words
    done = invoke(root, *words[:-1], "mlp.hidden=8 mlp.steps.epochs=2")
    assert done.exit_code == 0, done.output
    options = next(one["options"] for one in board(root)["systems"] if one["name"] == "mlp")
    assert (options["hidden"], options["steps"]["epochs"]) == (8, 2)
    done = invoke(root, *words[:-2])
    assert done.exit_code == 1
    assert "other data, labels, upstreams or options" in done.output
    assert re.search(r"field: +changes\n +expected: +mlp.hidden=8 mlp.steps.epochs=2\n +found: +none\n", done.output)
    assert "another RUN" in done.output


def test_emotions_count_as_a_mapping_of_the_users_own_has_it(root: Path) -> None:
    for language in ("de", "it"):  # of the unified labels: a mapping names no others
        manifest = Manifest.read(Workspace(root), f"toy_{language}")
        known = {"anger": "anger", "fear": "boredom" if language == "it" else "fear", "joy": "happiness"}
        rows = tuple(replace(row, emotion=known[row.emotion]) for row in manifest.utterances)
        replace(manifest, utterances=rows).write(Workspace(root), [], [])
    counts = {**dict.fromkeys(load_labels()), "anger": "ill", "happiness": "well", "boredom": "well"}
    own = root.parent / "own.yaml"
    own.write_text(yaml.safe_dump({"title": "ill or well", "labels": counts}), encoding="utf-8")
    words = ("--methods", "logistic", "--seeds", "0", "--shots", "1", "--labels", f"{own} valence")
    done = invoke(root, *words)
    assert done.exit_code == 0, done.output
    assert "Across languages, few-shot, labels: own" in " ".join(done.output.split())
    content = board(root)
    assert [(one["name"], one["left_out"]) for one in content["labels"]] == [
        ("own", {"fear": {"de": 8}}),
        ("valence", {}),
    ]
    assert content["labels"][0]["parts"] == {"ill": ["anger"], "well": ["boredom", "happiness"]}
    asked = [(cell["labels"], cell["protocol"]) for cell in content["cells"]]
    own_cells = [("own", "within")] * 2 + [("own", "zero-shot")] * 2 + [("own", "few-shot")] * 2
    assert asked == own_cells + [("valence", "zero-shot")] * 2
    emotions = {row.utterance_id: row.emotion for language in ("de", "it")
                for row in Manifest.read(Workspace(root), f"toy_{language}").utterances}  # fmt: skip
    for cell in content["cells"][:6]:
        assert (cell["tested"], cell["utterances"]) == ({"de": 16, "it": 24}[cell["target"]], 24)
        said, truth = [], []
        for path in (root / "reports" / "benchmark" / cell["results"][0]["folder"]).resolve().glob("*.json"):
            one = read_json(path)
            if (one["protocol"], one["k"]) == (cell["protocol"], cell["k"]):
                said += [one["emotions"][np.argmax(row)] for row in one["probabilities"]]
                truth += [counts[emotions[name]] for name in one["utterance_ids"]]
        uar = 100 * recall_score(truth, said, average="macro")
        assert cell["results"][0]["uar"]["mean"] == pytest.approx(uar)
    # Moved, asked alone, and of its name still: the other label set stays in the table.
    own = own.rename(root / "own.yaml")
    words = (*words[:-1], str(own))
    done = invoke(root, *words)
    assert done.exit_code == 0, done.output
    assert without_times(board(root)) == without_times(content)
    own.write_text(yaml.safe_dump({"title": "ill or well", "labels": {**counts, "fear": "ill"}}), encoding="utf-8")
    done = invoke(root, *words)
    assert done.exit_code == 1
    assert "labels of own" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--methods", "nosuch"), "nosuch"),
        (("--protocols", "sideways"), "within zero-shot few-shot"),
        (("--labels", "dominance"), "emotions arousal coarse valence"),
        (("--labels", "emotions emotions.yaml"), "emotions.yaml"),
        (("--labels", ""), "one or more, each once"),
        (("--set", "mlp.nosuch=1"), "hidden dropout"),
        (("--set", "nosuch=1"), "mlp.hidden=64"),
        (("--shots", "0"), "1 5 10"),
        (("--seeds", "-1"), "whole numbers"),
        (("--run", "../../../etc"), "it is no path"),
        (("--run", "a/b"), "such as first-try"),
        (("--run", ".."), "MSER_HOME"),
        (("--run", ""), "it is no path"),
        (("--language", "de", "--protocols", "zero-shot few-shot"), "Two languages are needed for zero-shot, few-shot"),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_runs(root: Path, words: tuple[str, ...], said: str) -> None:
    done = invoke(root, *words)
    assert done.exit_code in (1, 2)
    assert said in done.output
    assert not (root / "benchmarks").exists()
    assert not (root / "reports").exists()


def test_the_leaderboard_is_written_again_from_the_answers(root: Path) -> None:
    assert invoke(root, *QUICK).exit_code == 0
    content = without_times(board(root))
    shutil.rmtree(root / "reports")
    done = invoke(root, command="leaderboard")
    assert done.exit_code == 0, done.output
    assert without_times(board(root)) == content
    done = invoke(root, "nosuch", command="leaderboard")
    assert done.exit_code == 1
    assert "one of: benchmark" in done.output


def test_a_leaderboard_of_a_folder_that_lies_elsewhere_leads_to_its_answers(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke(root, "--methods", "majority", "--protocols", "within").exit_code == 0
    content = without_times(board(root))
    (tmp_path / "here" / "benchmark").mkdir(parents=True)  # no benchmark's
    monkeypatch.chdir(tmp_path / "here")
    assert invoke(root, command="leaderboard").exit_code == 0
    assert without_times(board(root)) == content
    shutil.move(root / "benchmarks" / "benchmark", tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved" / "majority")
    done = invoke(root, "..", command="leaderboard")
    assert done.exit_code == 0, done.output
    moved = read_json(root / "reports" / "moved" / "leaderboard.json")
    folder = moved["cells"][0]["results"][0]["folder"]
    assert (root / "reports" / "moved" / folder).resolve() == tmp_path / "moved" / "majority" / "emotions" / "de"


def test_a_killed_benchmark_goes_on_to_the_same_table(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "undisturbed"
    shutil.copytree(root, other)
    words = ["--methods", "logistic mlp", "--seeds", "0 1", "--shots", "1", "--set", "mlp.steps.epochs=3"]
    words += ["--workers", "2", "--labels", "emotions"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DEVICE": "cpu"}
    command = [sys.executable, "-m", "train", "benchmark", "--home", str(root), *words]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(answers(root)) < 12 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < len(answers(root)) < 64
    for folder in (root, other):
        done = CliRunner().invoke(main, ["benchmark", "--home", str(folder), *words[:-4], "--workers", "1",
                                         "--labels", "emotions", "--device", "cpu"])  # fmt: skip
        assert done.exit_code == 0, done.output
    assert without_times(board(root)) == without_times(board(other))


def test_ranks_and_ideas_are_means_over_cells() -> None:
    def cell(first: float, second: float, p: float) -> dict[str, Any]:
        test = {"control": "plain", "difference": first - second, "p_speakers_alone": p}
        results = [
            {"system": "fancy", "uar": {"mean": first}, "rank": 1.0, "seconds": 2.0, "parameters": 5,
             "against_control": test},
            {"system": "plain", "uar": {"mean": second}, "rank": 2.0, "seconds": 1.0, "parameters": 3,
             "against_control": None},
        ]  # fmt: skip
        place = {"protocol": "zero-shot", "labels": "emotions", "k": 0}
        return {**place, "results": results, "failed": [], "missing": []}

    cells = [cell(60, 50, 0.01), cell(40, 44, 0.03), cell(50, 50, 0.9)]
    fancy, plain = summary(cells, ["fancy", "plain"])
    assert (fancy["uar"], fancy["rank"], fancy["cells"], fancy["seconds"]) == (50.0, 1.0, 3, 6.0)
    assert plain["uar"] == 48.0
    (idea,) = ideas(cells, ["fancy", "plain"])
    # Holm over three cells: .01 * 3 is decided, .03 * 2 is not.
    assert (idea["difference"], idea["better"], idea["worse"], idea["cells"]) == (2.0, 1, 0, 3)


def test_systems_come_with_their_controls_in_the_order_of_the_table() -> None:
    assert selected(("logistic-each",)) == ("logistic", "logistic-each")
    assert selected(("all",)) == tuple(SYSTEMS)
    with pytest.raises(ConfigError, match="Unknown systems"):
        selected(("nosuch",))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_names_its_control_and_explains_itself(name: str) -> None:
    entry = SYSTEMS[name]
    assert entry.name == name
    assert entry.title
    assert entry.description.endswith(".")
    assert not entry.control or entry.control in SYSTEMS
    assert type(entry.system).__doc__


def test_the_documentation_has_every_system() -> None:
    text = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    assert [name for name, entry in SYSTEMS.items() if f"| `{name}`" not in text or entry.description not in text] == []
