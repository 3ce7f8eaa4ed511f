"""Label mappings: what each unified emotion counts as where corpora of different label sets meet, as data.

A mapping is one YAML file (``data_manifest/mappings/``, or a path): ``title``, and under ``labels`` every label of
``labels.yaml`` with what it counts as, or null where it is left out on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mser.config import DATA_FOLDER, fingerprint, read_yaml_lines
from mser.errors import ConfigError
from mser.labels import load_labels

FOLDER = DATA_FOLDER / "mappings"
#: The mapping that changes nothing.
EMOTIONS = "emotions"


@dataclass(frozen=True)
class LabelMapping:
    """What emotions count as.

    Attributes:
        labels: emotion -> what it counts as; None: left out on purpose. Empty for the mapping that changes nothing.
    """

    name: str
    title: str
    labels: Mapping[str, str | None]
    path: Path | None = None

    def __getitem__(self, emotion: str) -> str | None:
        """What an emotion counts as.

        Raises:
            ConfigError: the mapping does not say; nothing is left out in silence.
        """
        if not self.labels:
            return emotion
        if emotion not in self.labels:
            raise ConfigError(
                f"The mapping {self.name!r} does not say what an emotion counts as.",
                file=self.path,
                field=f"labels.{emotion}",
                expected="a label, or null to leave it out",
                found=f"no entry for {emotion}",
                hint="add it to the mapping",
            )
        return self.labels[emotion]

    def parts(self, emotions: Iterable[str]) -> dict[str, list[str]]:
        """Each label that some of ``emotions`` count as, sorted, with those emotions."""
        found: dict[str, list[str]] = {}
        for emotion in sorted(emotions):
            if (label := self[emotion]) is not None:
                found.setdefault(label, []).append(emotion)
        return dict(sorted(found.items()))

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the labels."""
        return fingerprint(dict(self.labels))


def mapping_names() -> list[str]:
    """The mappings that mser ships."""
    return [EMOTIONS, *sorted(path.stem for path in FOLDER.glob("*.yaml"))]


def is_path(name: str) -> bool:
    """Whether a mapping is named by its file.

    >>> is_path("coarse"), is_path("own.yaml")
    (False, True)
    """
    return name.endswith((".yaml", ".yml"))


def load_mapping(name: str, field: str = "MAPPING") -> LabelMapping:
    """A shipped mapping by name, or one of the user's own by path.

    Args:
        field: the setting that named it, for the message.

    Raises:
        ConfigError: there is no such mapping, it is no mapping, it lacks a label, or it is another one of a shipped
            mapping's name; names file and line.
    """
    if name == EMOTIONS:
        return LabelMapping(name, "every emotion for itself", {})
    shipped = mapping_names()
    path = Path(name) if is_path(name) else FOLDER / f"{name}.yaml"
    # A name is no path: "../corpora/emodb" would lead to a file that is no mapping.
    if not path.is_file() if is_path(name) else name not in shipped:
        raise ConfigError(
            "There is no such mapping of labels.",
            file=path if is_path(name) else None,
            field=field,
            expected=f"one of {' '.join(shipped)}, or a YAML file",
            found=name or "none",
        )
    stat = path.stat()
    found = _read(path, (stat.st_mtime_ns, stat.st_size))
    # Folders, tables and reports tell mappings apart by name.
    if is_path(name) and found.name in shipped and found.labels != load_mapping(found.name).labels:
        raise ConfigError(
            f"Another mapping of labels is called {found.name}: mser ships it.",
            file=path,
            field=field,
            expected=f"a file of another name than {' '.join(shipped)}",
            found=path.name,
            hint=f"rename the file, to own-{path.name} for instance, or give {field}={found.name} for the shipped one",
        )
    return found


@lru_cache
def _read(path: Path, stamp: tuple[int, int]) -> LabelMapping:
    """The mapping of a file; ``stamp``, its time and size, stands for its content."""
    content, lines = read_yaml_lines(path)
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict) or not isinstance(content.get("title"), str) or set(content) > {"title", "labels"}:
        raise ConfigError(
            "A mapping of labels cannot be used.",
            file=path,
            expected="title, a text; labels, a mapping; and nothing else",
            found=_keys(content),
        )
    for emotion, label in labels.items():
        if emotion not in load_labels() or not (label is None or (isinstance(label, str) and label)):
            # YAML reads a bare `no` as false: such a key has its line under the word that was written.
            line = lines.get(("labels", str(emotion)), lines[("labels",)])
            raise ConfigError(
                "A mapping of labels cannot be used.",
                file=f"{path}:{line}",
                field=f"labels.{emotion}",
                expected="an emotion of labels.yaml, and a label in quotes or null",
                found=f"{emotion}: {label}",
            )
    absent = sorted(set(load_labels()) - set(labels))
    if absent:
        raise ConfigError(
            "A mapping of labels leaves open what some count as.",
            file=f"{path}:{lines[('labels',)]}",
            field="labels",
            expected="every emotion of labels.yaml; null for those that are left out",
            found=f"no entry for {', '.join(absent)}",
        )
    return LabelMapping(path.stem, content["title"], labels, path)


def _keys(content: object) -> str:
    """What a file holds, in short: its keys, each with the type of its value.

    >>> _keys({"title": 3, "labels": {}})
    'title (int), labels (dict)'
    >>> _keys(["anger"])
    'list'
    """
    if not isinstance(content, dict):
        return "nothing" if content is None else type(content).__name__
    return ", ".join(f"{key} ({type(value).__name__})" for key, value in content.items()) or "nothing"
