"""Studies on small made-up workspaces: what a result holds, what resumes to the same bits, and what a test sees."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toys import make_workspace, noise_like

from mser.checkpoint import load_model
from mser.config import read_json
from mser.errors import ConfigError, RunError
from mser.loader import Loader
from mser.model import ModelSettings
from mser.nas.settings import SearchSettings
from mser.store import Provenance, ShardEntry, Store, write_shard
from train import heads, methods, run, settings, study
from train.data import Features
from train.final import final_method, final_models
from train.fit import FitSettings, Replica, fit, predict
from train.keeper import Fitted
from train.methods import Method
from train.objective import LossSettings
from train.run import open_run, probe_block, probe_blocks, require_searches, restored, timings
from train.search import folds_to_search, probes_path, read_strategy, search_block, strategy_path
from train.settings import Inputs, StudySettings
from train.study import Study, late_block, result_path, study_block

SETTINGS = StudySettings(
    features=Features("frames"),
    model=ModelSettings(hidden=8, frame_mask=0.3),
    search=SearchSettings(epochs=1, least_steps=1, batch_size=8),
    fit=FitSettings(epochs=2, least_steps=1, batch_size=8, loss=LossSettings(mixup=0.3)),
    candidates=2,
    fold_block=3,
)
UPSTREAMS = ("loud", "quiet")
FOLDS = {"de": 4, "it": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of two languages of four speakers; nobody writes into it."""
    return make_workspace(tmp_path_factory.mktemp("made"), ("de", "it")).root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "work"))


def study_of(root: Path, *names: str, seeds: tuple[int, ...] = (0, 1), languages: tuple[str, ...] = ("de",)) -> Study:
    inputs = Inputs(root, UPSTREAMS, SETTINGS)
    return Study(inputs, root / "runs" / "toy", languages, names, seeds)


def run_all(wanted: Study) -> None:
    for block in wanted.blocks(FOLDS):
        study_block(*block)


def contents(folder: Path) -> dict[str, Any]:
    """Everything a run has written, but how long it took."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            found[name] = {key: value for key, value in read_json(path).items() if key != "seconds"}
        elif path.suffix == ".safetensors":
            found[name] = path.read_bytes()
    return found


def test_blocks_cover_every_method_language_and_fold_once_and_the_costly_come_first() -> None:
    names = ("logistic", "fixed", "searched", "multi-domain")
    wanted = Study(Inputs(Path("none"), (), SETTINGS), Path("none"), ("de", "it"), names, (0, 1))
    blocks = wanted.blocks({"de": 4, "it": 7})
    covered = Counter(
        (name, language, number)
        for _, name, languages, numbers in blocks
        for language in languages
        for number in numbers
        if number < {"de": 4, "it": 7}[language]
    )
    every = {(name, one, number) for name in names for one, count in (("de", 4), ("it", 7)) for number in range(count)}
    assert set(covered) == every
    assert set(covered.values()) == {1}
    assert all(len(numbers) <= 3 for _, name, _, numbers in blocks if name != "logistic")
    assert all(languages == ("de", "it") for _, name, languages, _ in blocks if name == "multi-domain")
    order = [name for _, name, _, _ in blocks]
    assert order[0] == "multi-domain"
    assert order[-1] == "logistic"


def test_a_result_holds_a_prediction_of_every_test_utterance_and_the_model_that_made_it(root: Path) -> None:
    wanted = study_of(root, "fixed")
    run_all(wanted)
    data = wanted.inputs.load("de")
    assert len(contents(wanted.folder)) == 4 * 2 + 4  # a result for each fold and seed, a model for each fold
    loader = Loader(data.experts, data.labels)
    for fold in data.folds:
        results = [read_json(result_path(wanted, "fixed", "de", fold.name, seed)) for seed in (0, 1)]
        assert results[0]["probabilities"] != results[1]["probabilities"]
        for one in results:
            assert one["utterance_ids"] == [data.utterances[row].utterance_id for row in fold.test]
            assert one["truth"] == data.labels[fold.test].tolist()
            assert {data.utterances[row].speaker for row in fold.test} == {one["fold"]}
            np.testing.assert_allclose(np.sum(one["probabilities"], axis=1), 1, atol=1e-5)
            assert (one["best_epoch"], one["diverged"], len(one["losses"])) == (1, None, 2)
        path = result_path(wanted, "fixed", "de", fold.name, 0).with_suffix(".safetensors")
        model, facts = load_model(path)
        assert (facts["fold"], facts["seed"], facts["data"]) == (fold.name, 0, {"de": data.fingerprint})
        said, gates = predict(model, "de", loader, fold.test)
        np.testing.assert_allclose(results[0]["probabilities"], said, atol=1e-6)
        np.testing.assert_allclose(results[0]["gates"], gates, atol=1e-6)


def test_the_logistic_regression_is_that_of_the_layer_chosen_on_dev_speakers(root: Path) -> None:
    wanted = study_of(root, "logistic")
    run_all(wanted)
    results = contents(wanted.folder)
    assert len(results) == 4  # one seed: it makes no difference
    assert all(one["chosen"]["upstream"] == "loud" for one in results.values())
    right = [np.argmax(one["probabilities"], axis=1) == np.array(one["truth"]) for one in results.values()]
    assert np.mean(right) > 0.8


NAMES = ("logistic", "fixed", "fixed-multi")


@pytest.fixture(scope="module")
def expected(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed study of ``NAMES`` writes."""
    root = Path(shutil.copytree(made, tmp_path_factory.mktemp("undisturbed") / "work"))
    wanted = study_of(root, *NAMES, languages=("de", "it"))
    run_all(wanted)
    return contents(wanted.folder)


def test_the_same_study_twice_gives_the_same_bits(root: Path, expected: dict[str, Any]) -> None:
    wanted = study_of(root, *NAMES, languages=("de", "it"))
    run_all(wanted)
    assert contents(wanted.folder) == expected


def test_a_study_that_was_killed_anywhere_resumes_to_the_same_bits(
    root: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = study_of(root, *NAMES, languages=("de", "it"))
    write_json, written = study.write_json, []

    def killed(path: Path, value: Any) -> None:
        if len(written) in (3, 4, 11):
            written.append(None)
            raise KeyboardInterrupt
        write_json(path, value)
        written.append(path)

    monkeypatch.setattr(study, "write_json", killed)
    kills = 0
    while True:
        try:
            run_all(wanted)
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills == 3
    assert contents(wanted.folder) == expected


LOST = ("fixed/de/s1-seed1.json", "fixed-multi/it/s3-seed0.json", "logistic/it/s0-seed0.json")


def test_lost_results_are_computed_again_to_the_same_bits(root: Path, expected: dict[str, Any]) -> None:
    wanted = study_of(root, *NAMES, languages=("de", "it"))
    run_all(wanted)
    for name in LOST:
        (wanted.folder / name).unlink()
    run_all(wanted)
    assert contents(wanted.folder) == expected


def test_blocks_that_are_done_are_not_trained_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = study_of(root, "logistic", "fixed")
    run_all(wanted)

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr(heads, "fit", refused)
    monkeypatch.setattr(study, "single_layer", refused)
    run_all(wanted)


def spoil(root: Path, speaker: str) -> None:
    """Gives a speaker's utterances of the German store other states."""
    for upstream in UPSTREAMS:
        folder = root / "cache" / "toy_de" / upstream
        store = Store(folder)
        keys = list(store)
        states = [torch.from_numpy(store.frames(key).copy()) for key in keys]
        hashes = [store.audio_sha256(key) for key in keys]
        for path in folder.glob("shard-*.h5"):
            path.unlink()
        others = [5 * x for x in noise_like(states, seed=77)]
        entries = [
            ShardEntry(key, sha256, other if f"/{speaker}u" in key else x)
            for key, sha256, x, other in zip(keys, hashes, states, others, strict=True)
        ]
        write_shard(folder, Provenance.read(folder), entries)


@pytest.mark.parametrize("structure", ["fixed", "random", "searched"])
def test_the_model_of_a_fold_does_not_depend_on_the_states_of_its_test_speaker(
    made: Path, tmp_path: Path, structure: str
) -> None:
    found, genotypes = [], []
    for name in ("as-it-was", "spoilt"):
        root = Path(shutil.copytree(made, tmp_path / name))
        if name == "spoilt":
            spoil(root, "s1")
        wanted = study_of(root, structure, seeds=(0,))
        strategy = methods.METHODS[structure].structure
        if strategy != "fixed":
            for number in range(4):
                search_block(wanted.inputs, "de", number, (strategy,))
        # Folds of one program share its last bits with those whose structures are alike: searched ones go alone.
        for numbers in [(0, 1, 2)] if structure == "fixed" else [(1,), (2,)]:
            study_block(wanted, structure, ("de",), numbers)
        paths = {fold: result_path(wanted, structure, "de", fold, 0) for fold in ("s1", "s2")}
        found.append({fold: load_file(path.with_suffix(".safetensors")) for fold, path in paths.items()})
        genotypes.append(read_json(paths["s1"])["genotype"])
    assert genotypes[0] == genotypes[1]
    assert same(found[0]["s1"], found[1]["s1"])
    # Where the speaker is a training speaker, it does.
    assert not same(found[0]["s2"], found[1]["s2"])


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def add_method(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Method], None]:
    return lambda name, method: monkeypatch.setitem(methods.METHODS, name, method)


def test_a_method_that_trains_what_another_has_trained_takes_over_its_results(
    root: Path, add_method: Callable[[str, Method], None]
) -> None:
    add_method("again", Method("again", "d.", structure="fixed"))
    together, alone = study_of(root, "fixed", "again"), study_of(root, "again")
    alone = replace(alone, folder=root / "runs" / "alone")
    run_all(alone)
    run_all(together)
    assert not list((together.folder / "again").rglob("*.json"))
    for block in together.late_blocks():
        late_block(*block)
    for fold in ("s0", "s1", "s2", "s3"):
        for seed in (0, 1):
            taken = read_json(result_path(together, "again", "de", fold, seed))
            trained = read_json(result_path(alone, "again", "de", fold, seed))
            assert (taken["method"], taken["same_as"]) == ("again", "fixed")
            assert taken["probabilities"] == trained["probabilities"]


def test_the_best_preset_is_the_mean_of_its_parts_by_their_dev_uar(root: Path) -> None:
    names = ("shared-logistic", "multi-domain", "best")
    wanted = study_of(root, *names, languages=("de", "it"))
    for language in wanted.languages:
        for number in range(5):
            search_block(wanted.inputs, language, number, ("beta",))
    run_all(wanted)
    for block in wanted.late_blocks():
        late_block(*block)
    data = wanted.inputs.load("it")
    for fold in ("s0", "s3"):
        shared = read_json(result_path(wanted, "shared-logistic", "it", fold, 0))
        heads_dev = read_strategy(wanted.inputs, data, fold, "beta")["dev_uar"]
        lead = (shared["chosen"]["dev_uar_of_splits"][0] - heads_dev) / SETTINGS.expert_scale
        weight = 1 / (1 + np.exp(-lead))
        for seed in (0, 1):
            heads_said = read_json(result_path(wanted, "multi-domain", "it", fold, seed))["probabilities"]
            expected = weight * np.array(shared["probabilities"]) + (1 - weight) * np.array(heads_said)
            found = read_json(result_path(wanted, "best", "it", fold, seed))
            np.testing.assert_allclose(found["probabilities"], expected, atol=2e-6)


def test_the_faithful_preset_trains_one_network_of_all_languages(root: Path) -> None:
    wanted = study_of(root, "faithful", seeds=(0,), languages=("de", "it"))
    for block in wanted.blocks(FOLDS)[:1]:
        study_block(*block)
    for language in ("de", "it"):
        path = result_path(wanted, "faithful", language, "s0", 0)
        result = read_json(path)
        np.testing.assert_allclose(np.sum(result["probabilities"], axis=1), 1, atol=1e-5)
        model, _ = load_model(path.with_suffix(".safetensors"))
        data = wanted.inputs.load(language)
        said, _ = predict(model, language, Loader(data.experts, data.labels), data.folds[0].test)
        np.testing.assert_allclose(result["probabilities"], said, atol=1e-5)
        assert tuple(model.domains) == ("de", "it")


def test_early_stopping_holds_dev_speakers_back_from_training(
    root: Path, add_method: Callable[[str, Method], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_method("stopping", Method("stopping", "d.", fit={"patience": 1}))
    seen: list[Replica] = []

    def watched(replicas: list[Replica], *rest: Any, **named: Any) -> list[Fitted]:
        seen.extend(replicas)
        return fit(replicas, *rest, **named)

    monkeypatch.setattr(heads, "fit", watched)
    wanted = study_of(root, "stopping", seeds=(0,))
    run_all(wanted)
    folds = wanted.inputs.load("de").folds
    assert len(seen) == 4
    for replica, fold in zip(seen, folds, strict=True):
        parts = [set(replica.rows["de"].tolist()), set(replica.dev["de"].tolist()), set(fold.test.tolist())]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 24


def test_speaker_normalisation_is_probed_and_trained_on_its_own_states(
    root: Path, add_method: Callable[[str, Method], None]
) -> None:
    add_method("normal", Method("normal", "d.", normalise="speaker"))
    wanted = study_of(root, "normal", "fixed", seeds=(0,))
    run_all(wanted)
    results = [read_json(result_path(wanted, name, "de", "s0", 0)) for name in ("normal", "fixed")]
    assert results[0]["probabilities"] != results[1]["probabilities"]
    names = {path.name for path in (root / "searches").rglob("probes*.json")}
    assert names == {"probes.json", "probes-speaker.json"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("logistic",), []),
        (("logistic", "fixed"), ["model-de.safetensors", "model-it.safetensors"]),
        (("fixed", "fixed-multi"), ["model.safetensors"]),
    ],
)
def test_models_for_use_are_trained_on_every_speaker_and_know_their_languages(
    root: Path, names: tuple[str, ...], expected: list[str]
) -> None:
    wanted = study_of(root, *names, languages=("de", "it"))
    paths = final_models(wanted)
    assert [path.name for path in paths] == expected
    languages = [language for path in paths for language in load_model(path)[0].domains]
    assert languages == (["de", "it"] if expected else [])
    kept = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in final_models(wanted)] == kept


def test_models_for_use_of_an_earlier_method_do_not_stay_beside_those_of_the_present_one(root: Path) -> None:
    first = final_models(study_of(root, "fixed", languages=("de", "it")))
    exported = first[0].with_name("head-de.onnx")
    exported.write_bytes(b"of the first model")
    final_models(study_of(root, "fixed", languages=("de", "it")))
    assert exported.is_file()
    (second,) = final_models(study_of(root, "fixed", "fixed-multi", languages=("de", "it")))
    assert sorted(path.name for path in second.parent.iterdir()) == ["model.safetensors"]
    assert final_models(study_of(root, "fixed", languages=("de", "it"))) == first
    assert not second.exists()


def test_a_transductive_method_is_never_the_model_for_use(add_method: Callable[[str, Method], None]) -> None:
    add_method("normal", Method("normal", "d.", normalise="speaker"))
    assert final_method(study_of(Path("none"), "normal")) is None
    assert final_method(study_of(Path("none"), "fixed", "normal")) == "fixed"


def test_a_search_writes_a_file_for_each_strategy_beside_the_probes_and_does_nothing_twice(root: Path) -> None:
    inputs = Inputs(root, UPSTREAMS, SETTINGS)
    data = inputs.load("de")
    search_block(inputs, "de", 1, ("beta", "random", "fixed"))
    folder = inputs.search_folder(data) / data.folds[1].name
    assert {path.name for path in folder.iterdir()} == {"beta.json", "random.json", "fixed.json", "probes.json"}
    found = {name: read_strategy(inputs, data, data.folds[1].name, name) for name in ("beta", "random", "fixed")}
    assert len(found["random"]["candidates"]) == 2
    assert found["random"]["dev_uar"] == max(one["dev_uar"] for one in found["random"]["candidates"])
    assert len(found["beta"]["curves"]) == 1
    assert all(0 <= one["dev_uar"] <= 100 for one in found.values())
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    search_block(inputs, "de", 1, ("beta", "random", "fixed"))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == kept


@pytest.mark.parametrize("strategy", ["beta", "random"])
def test_a_search_that_is_done_again_finds_the_same_alone_or_beside_others(root: Path, strategy: str) -> None:
    inputs = Inputs(root, UPSTREAMS, SETTINGS)
    data = inputs.load("de")
    path = strategy_path(inputs, data, data.folds[0].name, strategy)
    found = []
    for wanted in ((strategy,), ("fixed", strategy)):
        search_block(inputs, "de", 0, wanted)
        found.append({key: value for key, value in read_json(path).items() if key != "seconds"})
        path.unlink()
    assert found[0] == found[1]


def test_a_method_whose_structure_was_not_searched_is_refused_with_the_command(root: Path) -> None:
    wanted = study_of(root, "searched")
    datas = wanted.inputs.load_all(["de"])
    with pytest.raises(RunError, match='make search LANG=de STRATEGIES="beta"'):
        require_searches(wanted, datas)
    for number in range(len(folds_to_search(datas[0]))):
        search_block(wanted.inputs, "de", number, ("beta",))
    require_searches(wanted, datas)
    require_searches(study_of(root, "fixed", "logistic"), datas)


def test_a_run_folder_gives_its_study_back_and_refuses_other_settings(root: Path) -> None:
    inputs = Inputs(root, UPSTREAMS, SETTINGS)
    datas = inputs.load_all(["de"])
    inputs = replace(inputs, missing=True)
    opened = open_run(inputs, datas, ("logistic", "fixed"), (0, 3), "mine")
    assert opened.folder == root / "runs" / "mine"
    assert restored(inputs.workspace, opened.folder) == opened
    other = replace(inputs, settings=replace(SETTINGS, candidates=3))
    with pytest.raises(RunError, match="other inputs or settings"):
        open_run(other, datas, ("logistic",), (0,), "mine")
    assert (
        open_run(other, datas, ("logistic",), (0,), "").folder != open_run(inputs, datas, ("fixed",), (0,), "").folder
    )
    (opened.folder / "config.json").write_text(json.dumps({"fingerprint": 1}), encoding="utf-8")
    with pytest.raises(RunError, match="cannot be read"):
        restored(inputs.workspace, opened.folder)


@pytest.mark.parametrize("content", ["", '{"data": {', "[]", "null"])
def test_a_run_that_does_not_say_what_it_was_made_from_is_refused(root: Path, content: str) -> None:
    inputs = Inputs(root, UPSTREAMS, SETTINGS)
    datas = inputs.load_all(["de"])
    folder = open_run(inputs, datas, ("logistic",), (0,), "mine").folder
    (folder / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=r"config\.json(.|\n)*delete the folder(.|\n)*another RUN"):
        open_run(inputs, datas, ("logistic",), (0,), "mine")
    with pytest.raises(RunError, match=r"config\.json(.|\n)*delete the folder(.|\n)*another RUN"):
        restored(inputs.workspace, folder)


def test_seeds_that_are_refused_leave_no_run_folder(root: Path) -> None:
    inputs = Inputs(root, UPSTREAMS, SETTINGS)
    with pytest.raises(ConfigError, match="SEEDS"):
        open_run(inputs, inputs.load_all(["de"]), ("logistic",), (-1,), "mine")
    assert not (root / "runs").exists()


def test_a_damaged_table_of_times_begins_anew(root: Path) -> None:
    wanted = study_of(root, "logistic")
    wanted.folder.mkdir(parents=True)
    (wanted.folder / "timings.json").write_text('[{"stage"', encoding="utf-8")
    with pytest.warns(UserWarning, match=r"timings\.json cannot be used"):
        assert len(timings(wanted, 2.0)) == 1
    assert len(timings(wanted, 3.0)) == 2


def test_damaged_probes_are_among_those_that_are_lacking(root: Path) -> None:
    wanted = study_of(root, "logistic", "fixed")
    datas = wanted.inputs.load_all(["de"])
    for block in (blocks := probe_blocks(wanted, datas)):
        probe_block(*block)
    assert probe_blocks(wanted, datas) == []
    probes_path(wanted.inputs, datas[0], datas[0].folds[1].name, "none").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"probes\.json cannot be used"):
        assert probe_blocks(wanted, datas) == [blocks[1]]


def test_probes_are_made_once_for_each_fold_that_lacks_them(root: Path) -> None:
    wanted = study_of(root, "logistic", "fixed")
    datas = wanted.inputs.load_all(["de"])
    blocks = probe_blocks(wanted, datas)
    assert len(blocks) == 5  # four test folds, and everyone
    for block in blocks[:2]:
        probe_block(*block)
    assert probe_blocks(wanted, datas) == blocks[2:]


def test_what_an_earlier_recipe_found_is_not_gone_on_with(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Inputs(root, UPSTREAMS, SETTINGS)
    data = inputs.load("de")
    before = inputs.search_folder(data)
    folder = open_run(inputs, [data], ("fixed",), (0,), "").folder
    open_run(inputs, [data], ("fixed",), (0,), "mine")
    monkeypatch.setattr(settings, "RECIPE", settings.RECIPE + 1)
    monkeypatch.setattr(run, "RECIPE", settings.RECIPE)
    assert inputs.search_folder(data) != before
    assert open_run(inputs, [data], ("fixed",), (0,), "").folder != folder
    with pytest.raises(RunError, match="another version"):
        open_run(inputs, [data], ("fixed",), (0,), "mine")
