"""TensorBoard's events, read back by TensorBoard: they are what the result files hold."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import balanced_accuracy_score
from toys import make_workspace

from mser.config import read_json, write_json
from mser.errors import ConfigError
from mser.model import ModelSettings
from mser.nas.settings import SearchSettings
from train import events
from train.cli import main
from train.events import Log, require_tensorboard, run_log, search_log
from train.fit import FitSettings
from train.run import open_run
from train.search import folds_to_search, search_block
from train.settings import Inputs, StudySettings
from train.study import Study, result_path, study_block

accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="an optional extra: pip install 'mser[tensorboard]'",
)

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = StudySettings(
    model=ModelSettings(hidden=8),
    search=SearchSettings(epochs=3, least_steps=1, batch_size=8),
    fit=FitSettings(epochs=5, least_steps=1, batch_size=8, patience=2),
)


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps and values of one folder of events."""
    found = accumulator.EventAccumulator(str(folder), size_guidance={accumulator.SCALARS: 0}).Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def same(found: list[tuple[int, float]], expected: list[float], steps: list[int] | None = None) -> None:
    assert [step for step, _ in found] == (list(range(len(expected))) if steps is None else steps)
    np.testing.assert_allclose([value for _, value in found], expected, rtol=1e-6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A run of two methods on one language, and searches of its first fold."""
    root = make_workspace(tmp_path_factory.mktemp("made")).root
    inputs = Inputs(root, ("loud", "quiet"), SETTINGS)
    study = open_run(inputs, [inputs.load("de")], ("logistic", "fixed"), (0, 1), "toy")
    for block in study.blocks({"de": 4}):
        study_block(*block)
    search_block(inputs, "de", 0, ("beta", "random", "fixed"))
    return study


@pytest.fixture
def study(made: Study, tmp_path: Path) -> Study:
    """A copy that may be written into."""
    root = Path(shutil.copytree(made.inputs.root, tmp_path / "work"))
    return Study(
        Inputs(root, made.inputs.upstreams, SETTINGS), root / "runs" / "toy", ("de",), made.methods, made.seeds
    )


def test_the_events_of_a_training_are_its_losses_and_scores(study: Study) -> None:
    log = run_log(study.folder)
    log.update()
    for seed in study.seeds:
        content = read_json(result_path(study, "fixed", "de", "s1", seed))
        found = read(log.target / "fixed" / "de" / f"s1-seed{seed}")
        assert set(found) == {"train/loss", "dev/uar", "test/uar"}
        same(found["train/loss"], content["losses"])
        same(found["dev/uar"], content["dev_uar_of_epochs"])
        assert len(content["dev_uar_of_epochs"]) == len(content["losses"]) == min(5, content["best_epoch"] + 3)
        assert int(np.argmax(content["dev_uar_of_epochs"])) == content["best_epoch"]
        uar = 100 * balanced_accuracy_score(content["truth"], np.argmax(content["probabilities"], axis=1))
        same(found["test/uar"], [uar], [len(content["losses"]) - 1])
    content = read_json(result_path(study, "logistic", "de", "s1", 0))
    found = read(log.target / "logistic" / "de" / "s1-seed0")
    same(found["dev/uar"], [content["chosen"]["dev_uar"]])
    assert len(list(log.target.glob("*/*/*"))) == 4 * 2 + 4


def test_the_events_of_a_search_are_its_curves(study: Study) -> None:
    data = study.inputs.load("de")
    folder = study.inputs.search_folder(data)
    log = search_log(folder)
    log.update()
    name = folds_to_search(data)[0].name
    content = read_json(folder / name / "beta.json")
    found = read(log.target / name / "beta")
    assert len(content["curves"]) == 3
    for curve in ("weight_loss", "alpha_loss", "entropy", "parameter_free"):
        same(found[f"search/{curve}"], [point[curve] for point in content["curves"]])
    same(found["search/dev_uar"], [content["dev_uar"]], [2])
    content = read_json(folder / name / "random.json")
    found = read(log.target / name / "random")
    same(found["search/dev_uar_of_candidate"], [one["dev_uar"] for one in content["candidates"]])
    assert sorted(path.name for path in (log.target / name).iterdir()) == ["beta", "fixed", "random"]


def files_of(log: Log) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in log.target.rglob("events*")}


def test_results_are_written_once_and_again_when_they_are_newer(study: Study) -> None:
    log = run_log(study.folder)
    first = result_path(study, "fixed", "de", "s1", 0)
    lost = read_json(first)
    first.unlink()
    told: list[tuple[int, int]] = []
    advance = log.following(lambda done, total: told.append((done, total)))
    advance(0, 2)
    before = files_of(log)
    assert len(before) == 11
    write_json(first, lost)
    advance(1, 2)
    assert len(files_of(log)) == 12
    assert before.items() <= files_of(log).items()
    run_log(study.folder).update()  # a later run of the command
    assert len(files_of(log)) == 12
    assert before.items() <= files_of(log).items()
    write_json(first, {**lost, "losses": [3.0, 2.0]})
    advance(2, 2)
    assert read(log.target / "fixed" / "de" / "s1-seed0")["train/loss"] == [(0, 3.0), (1, 2.0)]
    assert len(files_of(log)) == 12
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert not list(study.folder.glob(".*"))


def test_the_scores_over_all_folds_have_a_step_a_seed(tmp_path: Path) -> None:
    log = run_log(tmp_path)
    per_seed = [{"seed": seed, "uar": 50.0 + seed, "wa": 60.0, "macro_f1": 40.0} for seed in (3, 7)]
    results = {"results": [{"method": "fixed", "language": "de", "per_seed": per_seed}]}
    for _ in range(2):
        log.results(results)
        found = read(log.target / "all-folds" / "fixed" / "de")
        assert found["all_folds/uar"] == [(3, 53.0), (7, 57.0)]
        assert set(found) == {"all_folds/uar", "all_folds/wa", "all_folds/macro_f1"}


def test_a_folder_that_cannot_be_written_to_ends_the_log_and_not_the_study(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(events, "_write_events", full)
    log = run_log(study.folder)
    log.update()
    assert capsys.readouterr().err.count("No space left") == 1
    assert files_of(log) == {}


def test_without_the_library_the_option_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"mser\[tensorboard\]"):
        require_tensorboard()


def test_the_search_command_writes_curves_when_it_is_asked(tmp_path: Path) -> None:
    root = make_workspace(tmp_path, upstreams=("loud",)).root
    options = ["--home", str(root), "--strategies", "beta", "--epochs", "1", "--search-epochs", "1", "--workers", "1"]
    done = CliRunner().invoke(main, ["search", *options, "--tensorboard"])
    assert done.exit_code == 0, done.output
    (folder,) = (root / "searches").iterdir()
    assert str(folder / "tensorboard") in done.output
    assert len(list(folder.glob("tensorboard/*/beta/events*"))) == 5  # four folds and everyone


PROGRAM = """
import sys
from train.cli import main

def fit():
    main(["fit", "--methods", "fixed", "--seeds", "0", "--epochs", "1", "--workers", "1"], standalone_mode=False)

if __name__ == "__main__":
    fit()
    print("imported:", "tensorboard" in sys.modules)
"""


def test_nothing_is_written_or_imported_unless_it_is_asked_for(tmp_path: Path) -> None:
    root = make_workspace(tmp_path).root
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MSER_")}
    clean |= {"MSER_HOME": str(root), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for asked in ("", "1"):
        own = {**clean, "TENSORBOARD": asked}
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=own, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"imported: {bool(asked)}" in done.stdout
        (run,) = (root / "runs").iterdir()
        assert (run / "tensorboard").is_dir() == bool(asked)
        assert ("tensorboard --logdir" in done.stderr) == bool(asked)
        assert (run / "README.md").is_file()
    assert len(list(run.glob("tensorboard/fixed/de/*/events*"))) == 4
    assert len(list(run.glob("tensorboard/all-folds/fixed/de/events*"))) == 1
