"""Label mappings: what is shipped covers every label, and what is wrong in an own one is named with its line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from mser.config import DATA_FOLDER
from mser.errors import ConfigError
from mser.labels import load_labels
from mser.mapping import EMOTIONS, LabelMapping, load_mapping, mapping_names


def own(folder: Path, **changes: object) -> Path:
    """A mapping of every label to itself but for ``changes``; ``...`` takes one out."""
    labels = {**{name: name for name in load_labels()}, **changes}
    lines = [f"  {name}: {yaml.safe_dump(label).splitlines()[0]}" for name, label in labels.items() if label is not ...]
    path = folder / "own.yaml"
    path.write_text("\n".join(["title: mine", "labels:", *lines, ""]), encoding="utf-8")
    return path


def line_of(path: Path, start: str) -> int:
    (number,) = (n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if line.startswith(start))
    return number


def test_the_shipped_mappings_say_of_every_label_what_it_counts_as() -> None:
    names = mapping_names()
    assert names[0] == EMOTIONS
    assert {"coarse", "arousal", "valence"} <= set(names)
    every = set(yaml.safe_load((DATA_FOLDER / "labels.yaml").read_text(encoding="utf-8")))
    for name in names[1:]:
        found = load_mapping(name)
        assert found.name == name
        assert found.title
        assert set(found.labels) == every
        assert {found[emotion] for emotion in every} - {None}


def test_the_data_folder_s_readme_names_every_shipped_mapping() -> None:
    (row,) = [
        line
        for line in (DATA_FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `mappings/")
    ]
    assert re.findall(r"`(\w+)`", row) == mapping_names()[1:]


def test_the_sign_of_arousal_is_that_of_the_labels() -> None:
    found = load_mapping("arousal")
    for name, label in load_labels().items():
        if label.arousal is not None and name != "neutral" and name not in ("low", "medium", "high"):
            assert found[name] == ("high" if label.arousal > 0 else "low"), name


def test_the_sign_of_valence_is_that_of_the_labels_and_of_the_paper() -> None:
    found = load_mapping("valence")
    for name, label in load_labels().items():
        assert found[name] == (None if label.valence is None else "positive" if label.valence >= 0 else "negative"), (
            name
        )
    # Latif et al. 2019 have neutral among the positive ones.
    assert found.parts(["happiness", "neutral", "surprise", "sadness", "boredom"]) == {
        "negative": ["boredom", "sadness"], "positive": ["happiness", "neutral", "surprise"],
    }  # fmt: skip


def test_coarse_labels_count_as_themselves() -> None:
    found = load_mapping("coarse")
    assert all(found[label] == label for label in set(found.labels.values()) - {None})


def test_a_mapping_that_changes_nothing_takes_any_emotion() -> None:
    found = load_mapping(EMOTIONS)
    assert found["anything"] == "anything"
    assert found.parts(["joy", "anger"]) == {"anger": ["anger"], "joy": ["joy"]}


def test_parts_are_sorted_and_leave_out_what_counts_as_nothing() -> None:
    found = LabelMapping("own", "own", {"a": "x", "b": None, "c": "x", "d": "b"})
    assert found.parts(["d", "c", "b", "a"]) == {"b": ["d"], "x": ["a", "c"]}
    assert list(found.parts(["a", "d"])) == ["b", "x"]
    assert found.parts(["b"]) == {}


def test_an_emotion_that_a_mapping_does_not_name_is_no_silent_loss() -> None:
    with pytest.raises(ConfigError, match="does not say") as caught:
        load_mapping("coarse").parts(["anger", "joyousness"])
    assert "labels.joyousness" in str(caught.value)
    assert "coarse.yaml" in str(caught.value)


def test_an_own_mapping_is_read_from_its_file(tmp_path: Path) -> None:
    path = own(tmp_path, calm="neutral", boredom=None)
    found = load_mapping(str(path))
    assert (found.name, found.title, found.path) == ("own", "mine", path)
    assert found["calm"] == "neutral"
    assert found["boredom"] is None
    again = load_mapping(str(own(tmp_path, calm="neutral", boredom=None)))
    assert again.fingerprint == found.fingerprint
    assert load_mapping(str(own(tmp_path, calm="neutral"))).fingerprint != found.fingerprint


# What leads from the folder of mappings to a file, and yet is no mapping's name.
NO_NAMES = ["../mappings/coarse", "../corpora/emodb", "./coarse", str(DATA_FOLDER / "mappings" / "coarse")]


@pytest.mark.parametrize("name", ["fine", "lost/own.yaml", "coarse.yml", "", *NO_NAMES])
def test_no_such_mapping_is_told_what_there_is(name: str) -> None:
    with pytest.raises(ConfigError, match="no such mapping") as caught:
        load_mapping(name)
    assert "emotions arousal coarse" in str(caught.value)
    assert f"found:    {name}" in str(caught.value)


@pytest.mark.parametrize("name", ["coarse", "emotions"])
def test_an_own_mapping_of_a_shipped_name_is_refused(name: str, tmp_path: Path) -> None:
    path = own(tmp_path, calm="neutral").rename(tmp_path / f"{name}.yaml")
    with pytest.raises(ConfigError, match=f"is called {name}") as caught:
        load_mapping(str(path), "LABELS")
    assert f"LABELS={name}" in str(caught.value)
    assert "rename the file" in str(caught.value)
    assert load_mapping(str(path.rename(tmp_path / f"my-{name}.yaml"))).name == f"my-{name}"


def test_a_copy_of_a_shipped_mapping_is_that_mapping(tmp_path: Path) -> None:
    shipped = DATA_FOLDER / "mappings" / "coarse.yaml"
    copy = Path(shutil.copy(shipped, tmp_path))
    for path in (shipped, copy):
        assert load_mapping(str(path)).labels == load_mapping("coarse").labels
    copy.write_text(copy.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    assert load_mapping(str(copy)).name == "coarse"


@pytest.mark.parametrize("label", ["yes", "3", '""', "[a]"])
def test_what_is_no_label_is_named_with_its_line(tmp_path: Path, label: str) -> None:
    path = own(tmp_path)
    text = path.read_text(encoding="utf-8").replace("  anger: anger\n", f"  anger: {label}\n")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        load_mapping(str(path))
    assert f"own.yaml:{line_of(path, '  anger')}" in str(caught.value)
    assert "labels.anger" in str(caught.value)


@pytest.mark.parametrize("key", ["joyousness", "no", "~", "3"])
def test_an_unknown_label_is_named_with_its_line(tmp_path: Path, key: str) -> None:
    path = own(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + f"  {key}: anger\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        load_mapping(str(path))
    where = line_of(path, f"  {key}") if key in ("joyousness", "3") else line_of(path, "labels")
    assert f"own.yaml:{where}" in str(caught.value)


def test_a_label_that_is_missing_is_named(tmp_path: Path) -> None:
    path = own(tmp_path, sadness=..., fear=...)
    with pytest.raises(ConfigError, match="leaves open") as caught:
        load_mapping(str(path))
    assert "no entry for fear, sadness" in str(caught.value)
    assert f"own.yaml:{line_of(path, 'labels')}" in str(caught.value)


def test_a_label_that_is_there_twice_is_named_with_its_line(tmp_path: Path) -> None:
    path = own(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + "  anger: fear\n", encoding="utf-8")
    last = len(path.read_text(encoding="utf-8").splitlines())
    with pytest.raises(ConfigError, match="twice") as caught:
        load_mapping(str(path))
    assert f"own.yaml:{last}" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "- anger", "title: mine", "title: mine\nlabels: anger", "labels: {}", "title: 3\nlabels: {}",
             "title: mine\nlabels: {}\nmore: 1", "title: [mine"],
)  # fmt: skip
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_mapping(str(path))
    assert "own.yaml" in str(caught.value)


def test_a_file_of_another_kind_is_told_by_its_keys_alone(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    shutil.copy(DATA_FOLDER / "corpora" / "emodb.yaml", path)
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        load_mapping(str(path))
    found = str(caught.value.found)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [part.split()[0] for part in found.split(", ")] == list(content)
    assert content["licence"] not in found
