"""Files of a run or a search that were written half: they count as missing, are named, and come back the same."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import make_workspace

from mser.checkpoint import load_model
from mser.config import read_json, write_json
from mser.errors import GenotypeError, RunError
from mser.model import ModelSettings
from mser.nas.genotype import Genotype
from mser.nas.settings import SearchSettings
from train.evaluate import evaluate
from train.final import final_models, models_for_use
from train.fit import FitSettings
from train.run import require_searches
from train.search import fold_probes, folds_to_search, probes_path, search_block, strategy_path, structure_of
from train.settings import Inputs, StudySettings
from train.study import Study, late_block, study_block

SETTINGS = StudySettings(
    model=ModelSettings(hidden=8),
    search=SearchSettings(epochs=1, least_steps=1, batch_size=8),
    fit=FitSettings(epochs=1, least_steps=1, batch_size=8),
)
METHODS = ("logistic", "random", "shared-logistic", "multi-domain", "best")
STRATEGIES = ("random", "beta")

Spoil = Callable[[Path], None]


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def hollow(path: Path) -> None:
    path.write_text("{}", encoding="utf-8")


def study_in(root: Path) -> Study:
    return Study(Inputs(root, ("loud", "quiet"), SETTINGS), root / "runs" / "toy", ("de",), METHODS, (0, 1))


def search_all(study: Study) -> None:
    data = study.inputs.load("de")
    for number in range(len(folds_to_search(data))):
        search_block(study.inputs, "de", number, STRATEGIES)


def train_all(study: Study) -> None:
    for block in study.blocks({"de": 4}):
        study_block(*block)
    for block in study.late_blocks():
        late_block(*block)
    final_models(study)


def contents(folder: Path) -> dict[str, Any]:
    """Everything that lies there, but how long it took."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.*")):
        name = str(path.relative_to(folder))
        found[name] = path.read_bytes() if path.suffix == ".safetensors" else {**read_json(path), "seconds": 0}
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a finished run; nobody writes into it."""
    root = make_workspace(tmp_path_factory.mktemp("whole")).root
    study = study_in(root)
    search_all(study)
    train_all(study)
    return root


@pytest.fixture
def study(whole: Path, tmp_path: Path) -> Study:
    return study_in(Path(shutil.copytree(whole, tmp_path / "work")))


@pytest.mark.parametrize("spoil", [emptied, halved, zeroed, hollow])
@pytest.mark.parametrize(
    "name",
    [
        "logistic/de/s1-seed0.json",
        "random/de/s2-seed1.json",
        "random/de/s3-seed0.safetensors",
        "best/de/s0-seed1.json",
        "model.safetensors",
    ],
)
def test_a_damaged_file_of_a_run_is_named_and_made_again(study: Study, whole: Path, name: str, spoil: Spoil) -> None:
    path = study.folder / name
    spoil(path)
    with pytest.warns(UserWarning, match=rf"{name} cannot be used, and counts as missing"):
        train_all(study)
    assert contents(study.folder) == contents(whole / "runs" / "toy")


def test_a_damaged_part_of_a_mean_comes_back_before_the_mean_is_taken(study: Study, whole: Path) -> None:
    for name in ("shared-logistic/de/s0-seed0.json", "best/de/s0-seed0.json"):
        emptied(study.folder / name)
    with pytest.warns(UserWarning, match="cannot be used"):
        train_all(study)
    assert contents(study.folder) == contents(whole / "runs" / "toy")


def test_what_is_whole_is_neither_warned_of_nor_made_again(study: Study) -> None:
    kept = {path: path.stat().st_mtime_ns for path in study.inputs.root.rglob("*.*")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search_all(study)
        train_all(study)
    assert {path: path.stat().st_mtime_ns for path in study.inputs.root.rglob("*.*")} == kept


def test_a_damaged_result_ends_a_report_with_what_to_run(study: Study) -> None:
    path = study.folder / "random" / "de" / "s2-seed1.json"
    halved(path)
    datas = study.inputs.load_all(["de"])
    with pytest.warns(UserWarning, match="s2-seed1"), pytest.raises(RunError, match="make train"):
        evaluate(study, datas, [])
    with pytest.warns(UserWarning, match="s2-seed1"):
        train_all(study)
    evaluate(study, datas, [])


@pytest.mark.parametrize("spoil", [emptied, halved, hollow])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_damaged_search_is_refused_with_what_to_run_which_makes_it_again(
    study: Study, whole: Path, strategy: str, spoil: Spoil
) -> None:
    data = study.inputs.load("de")
    path = strategy_path(study.inputs, data, "s1", strategy)
    spoil(path)
    with pytest.warns(UserWarning, match=rf"{strategy}\.json cannot be used"), pytest.raises(RunError, match="search"):
        require_searches(study, [data])
    with pytest.warns(UserWarning, match=rf"{strategy}\.json cannot be used"):
        search_all(study)
    assert contents(study.inputs.root / "searches") == contents(whole / "searches")
    require_searches(study, [data])


def test_damaged_probes_are_made_again_where_they_are_needed(study: Study, whole: Path) -> None:
    data = study.inputs.load("de")
    path = probes_path(study.inputs, data, "s1", "none")
    expected = read_json(path)["probes"]
    halved(path)
    with pytest.warns(UserWarning, match=r"probes\.json cannot be used"):
        found = fold_probes(study.inputs, data, data.folds[1])
    assert found == expected
    assert list(found) == sorted(found)
    assert contents(study.inputs.root / "searches") == contents(whole / "searches")


def test_probes_are_in_the_same_order_when_they_are_made_as_when_they_are_read(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "work").root
    inputs = Inputs(root, ("quiet", "loud"), SETTINGS)
    data = inputs.load("de")
    made = fold_probes(inputs, data, data.folds[0])
    assert list(made) == list(fold_probes(inputs, data, data.folds[0])) == ["loud", "quiet"]


def test_a_model_that_does_not_say_what_it_was_made_of_is_trained_again(study: Study) -> None:
    ((path, _),) = models_for_use(study).items()
    before = path.read_bytes()
    assert before.count(rb"\"stores\"") == 1
    path.write_bytes(before.replace(rb"\"stores\"", rb"\"storks\""))
    final_models(study)
    assert path.read_bytes() == before
    assert list(load_model(path)[0].domains) == ["de"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("operations", {"loud": "conv3", "quiet": "skip"}), ("pooling", "max"), ("gate", "none"), ("width", 100)],
)
def test_a_structure_of_another_search_space_is_not_trained(study: Study, field: str, value: object) -> None:
    data = study.inputs.load("de")
    path = strategy_path(study.inputs, data, "s1", "beta")
    genotype = Genotype({"loud": "skip", "quiet": "linear"}, "mean", "constant", 1, 64).to_dict()
    write_json(path, {**read_json(path), "genotype": {**genotype, field: value}})
    with pytest.raises(GenotypeError, match=rf"file: +{path}\n  field: +{field}\n"):
        structure_of(study.inputs, data, "s1", "beta")
    write_json(path, {**read_json(path), "genotype": genotype})
    assert structure_of(study.inputs, data, "s1", "beta") == Genotype.from_dict(genotype)


def test_a_structure_that_is_a_list_is_refused_by_its_file(study: Study) -> None:
    data = study.inputs.load("de")
    path = strategy_path(study.inputs, data, "s1", "beta")
    write_json(path, {**read_json(path), "genotype": ["skip"]})
    with pytest.raises(GenotypeError, match=str(path)):
        structure_of(study.inputs, data, "s1", "beta")
