"""The model card: hubs can read it, its numbers are those of the results, and it keeps nothing back."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from toys import make_workspace

from mser.corpora import CorpusDefinition
from mser.errors import ConfigError
from mser.model import ModelSettings
from train.calibrate import calibration_block, calibration_blocks
from train.card import UNKNOWN, facts, licence_of, registry_entry, write_card
from train.evaluate import evaluate
from train.final import final_models
from train.fit import FitSettings
from train.report.card import make_card
from train.report.markdown import table
from train.run import open_run
from train.settings import Inputs, StudySettings
from train.study import Study, study_block

SETTINGS = StudySettings(model=ModelSettings(hidden=8), fit=FitSettings(epochs=2, least_steps=1, batch_size=8))
FOLDS = {"de": 4, "it": 4}


def definition(name: str, language: str, licence: str = "research | only", speech: str | None = "acted") -> Any:
    emotions = {"anger": "anger", "fear": "fear"}
    return CorpusDefinition(
        name, f"The corpus {name}", language, licence, "A. Author. On toys. 2020.", "a shop", emotions,
        pattern="(?P<speaker>.)(?P<emotion>.)", speech=speech,
    )  # fmt: skip


DEFINITIONS = {"toy_de": definition("toy_de", "de"), "toy_it": definition("toy_it", "it", speech=None)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, dict[str, Any], dict[str, Any]]:
    """A finished run of two languages, its results, and what the card tells beyond them."""
    root = make_workspace(tmp_path_factory.mktemp("made"), ("de", "it")).root
    inputs = Inputs(root, ("loud", "quiet"), SETTINGS)
    datas = inputs.load_all(("de", "it"))
    study = open_run(inputs, datas, ("logistic", "fixed"), (0, 1), "toy")
    for block in study.blocks(FOLDS):
        study_block(*block)
    for block in calibration_blocks(study, "fixed", FOLDS):
        calibration_block(*block)
    final_models(study)
    results = evaluate(study, datas, [])
    return study, results, facts(study, datas, DEFINITIONS)


@pytest.fixture
def results(made: tuple[Study, dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return copy.deepcopy(made[1])


@pytest.fixture
def known(made: tuple[Study, dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    return copy.deepcopy(made[2])


def front(card: str) -> dict[str, Any]:
    return dict(yaml.safe_load(card.split("---\n")[1]))


def rows_of(card: str, section: str) -> list[list[str]]:
    """The cells of the tables of a section, headers and rules left out."""
    body = card.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line[2:-2] for line in body.splitlines() if line.startswith("|")]
    cells = [re.split(r" ?(?<!\\)\| ?", line) for line in lines]
    headers = {place - 1 for place, row in enumerate(cells) if "---" in row}
    return [row for place, row in enumerate(cells) if "---" not in row and place not in headers]


def test_the_card_lies_in_the_run_and_hubs_can_read_it(made: Any) -> None:
    study, results, known = made
    path = write_card(study, study.inputs.load_all(("de", "it")), results, DEFINITIONS)
    assert path == study.folder / "README.md"
    text = path.read_text(encoding="utf-8")
    assert text == make_card(results, known)
    data = ModelCard(text).data
    assert (data.language, data.license, data.library_name) == (["de", "it"], "other", "mser")
    assert "speech-emotion-recognition" in data.tags
    found = {(one.dataset_type, one.metric_type): one.metric_value for one in data.eval_results}
    for one in results["results"]:
        if one["method"] == "fixed":
            for kind, name in {"recall": "uar", "accuracy": "wa", "f1": "macro_f1"}.items():
                assert found[f"toy_{one['language']}", kind] == pytest.approx(one[name]["mean"], abs=0.006)
    assert len(found) == 6
    assert str(study.inputs.root.parent) not in text


def test_every_method_stands_with_its_numbers_and_what_it_was_compared_with(made: Any) -> None:
    _, results, known = made
    card = make_card(results, known)
    rows = {(row[0], row[1].split(" ")[0]): row for row in rows_of(card, "Results") if len(row) == 9}
    for one in results["results"]:
        row = rows[one["language"], one["method"]]
        numbers = [float(value) for value in re.findall(r"[\d.]+", row[2])]
        assert numbers == [round(one["uar"][key], 1) for key in ("mean", "deviation", "low", "high")]
        assert (row[6], row[7], row[8]) == ("24", "3", str(len(one["seeds"])))
    for one in results["comparisons"]:
        assert rows[one["language"], one["method"]][3].startswith(f"{one['difference']:+.1f}, p ")
    assert "(**for use**)" in rows["de", "fixed"][1]
    assert "for use" not in rows["de", "logistic"][1]
    assert rows["de", "chance"][2] == "33.3"
    recalls = [row for row in rows_of(card, "Results") if len(row) == 3]
    (first,) = [one for one in results["results"] if (one["language"], one["method"]) == ("de", "fixed")]
    for place, (emotion, counts) in enumerate(zip(("anger", "fear", "joy"), first["confusion"], strict=True)):
        assert recalls[place][:2] == [emotion, f"{100 * counts[place] / sum(counts):.1f}"]


def test_models_data_calibration_and_fingerprints_are_those_of_the_run(made: Any) -> None:
    study, results, known = made
    card = make_card(results, known)
    (de, it) = [row for row in rows_of(card, "Data") if row[0].startswith("The corpus")]
    assert de[1:4] == ["de", "24", "4 (4 female)"]
    assert (de[5], it[5], de[7]) == ("acted", "not known", "research \\| only")
    assert de[6] == "8 anger, 8 fear, 8 joy"
    assert "A. Author. On toys. 2020." in card
    for one in results["calibration"]:
        row = next(row for row in rows_of(card, "Calibration") if row[0] == one["language"])
        assert row[3:5] == [f"{one['ece_before']:.1f}", f"{one['ece_after']:.1f}"]
    versions = " ".join(" ".join(row) for row in rows_of(card, "Versions and fingerprints"))
    for model in known["models"]:
        assert model["sha256"] in versions
    for data in study.inputs.load_all(("de", "it")):
        assert all(fingerprint in versions for fingerprint in data.manifests.values())
        for stores in data.stores.values():
            assert all(store.provenance.fingerprint in versions for store in stores.values())
    models = {row[1]: row for row in rows_of(card, "What it is") if row[0].startswith("`model")}
    assert set(models) == {"de", "it"}
    assert models["de"][2] == "anger, fear, joy"


def test_limits_are_read_off_the_data(results: dict[str, Any], known: dict[str, Any]) -> None:
    limits = make_card(results, known).split("## Limits\n")[1].split("\n## ")[0]
    assert "The emotions of `toy_de` are acted" in limits
    assert "`toy_it` are of a kind that its definition does not tell" in limits
    assert "4 speakers in all" in limits
    assert "16 kHz and are 1.0 to 1.0 s long" in limits
    assert "neutral speech is none of them" in limits
    assert "consent" in limits
    assert "the speakers are 8 female" in limits


def test_leaky_synthetic_and_random_numbers_are_marked_and_are_not_ranked(
    results: dict[str, Any], known: dict[str, Any]
) -> None:
    results["languages"][0]["audit"] |= {"leaky": True, "messages": ["LEAKY: 2 test recordings are in training."]}
    results["methods"][1]["transductive"] = True
    results["notes"] = ["These corpora are synthetic."]
    card = make_card(results, known)
    assert card.index("LEAKY") < card.index("## What it is")
    assert card.index("These corpora are synthetic.") < card.index("## What it is")
    assert {row[0] for row in rows_of(card, "Results") if len(row) == 9} == {"de LEAKY", "de", "it"}
    assert any("(transductive)" in row[1] for row in rows_of(card, "Results"))
    assert [one["dataset"]["type"] for one in front(card)["model-index"][0]["results"]] == ["toy_it"]
    known["corpora"][1]["speech"] = "synthetic"
    card = make_card(results, known)
    assert "model-index" not in front(card)
    assert "synthetic-data" in front(card)["tags"]
    known["upstreams"][0]["random_weights"] = True
    card = make_card(results, known)
    assert "random-weights" in front(card)["tags"]
    assert "(random weights)" in card


def test_one_licence_of_everything_is_the_licence_and_several_are_other(
    results: dict[str, Any], known: dict[str, Any]
) -> None:
    for part in ("corpora", "upstreams"):
        for one in known[part]:
            one["licence"] = "CC-BY-4.0"
    assert front(make_card(results, known))["license"] == "cc-by-4.0"
    known["upstreams"][0]["licence"] = "Apache-2.0"
    assert front(make_card(results, known))["license"] == "other"
    known["upstreams"][0]["family"] = "acoustic"
    assert front(make_card(results, known))["license"] == "cc-by-4.0"


def test_a_run_without_a_model_for_use_says_so(results: dict[str, Any], known: dict[str, Any]) -> None:
    card = make_card(results, {**known, "models": [], "method": None})
    assert "no model for use" in card
    assert "mser predict" not in card
    assert "model-index" not in front(card)


def test_corpora_without_a_definition_are_told_as_unknown(made: Any) -> None:
    study, results, _ = made
    card = make_card(results, facts(study, study.inputs.load_all(("de", "it")), {}))
    assert "its definition is not at hand" in card


REGISTERED = {"whisper-base": {"id": "openai/whisper-base", "licence": "Apache-2.0"},
              "mms": {"id": "facebook/mms-1b-all", "licence": "CC-BY-NC-4.0"}}  # fmt: skip


@pytest.mark.parametrize(
    ("upstream", "licence"),
    [
        ({"source": "whisper-base", "revision": "e37978b"}, "Apache-2.0"),
        ({"source": "openai--whisper-base", "revision": "e37978b"}, "Apache-2.0"),
        ({"source": "facebook--mms-1b-all+deu", "revision": "1"}, "CC-BY-NC-4.0"),
        ({"source": "whisper-base", "revision": "folder", "family": "whisper"}, UNKNOWN),
        ({"source": "somebody--model", "revision": "1", "family": "hubert"}, UNKNOWN),
        ({"source": "acoustic", "revision": "1", "family": "acoustic"}, "part of mser, Apache-2.0"),
        ({"source": "x", "revision": "1", "random_weights": True}, "none needed: random weights"),
    ],
)
def test_licences_of_upstreams_are_those_of_the_registry_and_else_unknown(
    upstream: Mapping[str, Any], licence: str
) -> None:
    assert licence_of(upstream, registry_entry(upstream, REGISTERED)) == licence


def test_a_table_holds_one_line_a_row_whatever_is_in_it() -> None:
    assert table(["a", "b"], [["x\ny", "1 | 2"]]).splitlines() == ["| a | b |", "| --- | --- |", "| x y | 1 \\| 2 |"]


def test_speech_of_a_definition_is_one_of_the_known_kinds() -> None:
    with pytest.raises(ConfigError, match="speech"):
        definition("toy", "de", speech="loud")
