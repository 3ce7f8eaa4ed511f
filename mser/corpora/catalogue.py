"""All definitions there are: those that mser ships, and the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from mser.config import DATA_FOLDER, read_yaml
from mser.corpora.definition import CorpusDefinition
from mser.errors import ConfigError, MserError
from mser.languages import CODE, fault_of, name_of

#: The definitions that mser ships.
SHIPPED = DATA_FOLDER / "corpora"


def load_definitions(extra: Path | None = None) -> dict[str, CorpusDefinition]:
    """Every corpus definition by name, the user's own folder last so that it can replace one.

    Args:
        extra: the user's own folder of definitions (``MSER_DEFINITIONS``).

    Raises:
        ConfigError: a definition cannot be used, two of one folder have one name, or ``extra`` is no folder.
    """
    known: dict[str, CorpusDefinition] = {}
    for file in definition_files(extra):
        add(known, CorpusDefinition.from_yaml(file))
    return known


def add(known: dict[str, CorpusDefinition], one: CorpusDefinition) -> None:
    """Adds a definition, in the place of one of that name in another folder.

    Raises:
        ConfigError: there is one of that name in the same folder; which of the two is meant cannot be told.
    """
    if one.name in known:
        file, twin = one.source.path, known[one.name].source.path
        if file is not None and twin is not None and twin.parent == file.parent:
            raise ConfigError(
                f"Two definitions are named {one.name}.",
                file=file,
                field="name",
                found=f"also {twin}",
                hint="give one of them another name, or remove it",
            )
    known[one.name] = one


def definition_files(extra: Path | None = None) -> list[Path]:
    """The files of :func:`load_definitions`, in that order.

    Raises:
        ConfigError: ``extra`` is no folder.
    """
    if extra is not None and not extra.is_dir():
        raise ConfigError("The folder of own corpus definitions does not exist.", file=extra, field="MSER_DEFINITIONS")
    folders = [SHIPPED, *([extra] if extra else [])]
    return [path for folder in folders for path in sorted(folder.glob("*.y*ml")) if is_definition(path)]


def named_in(folder: Path, name: str) -> Path | None:
    """The file in a folder whose definition has a name; None where none has. What cannot be read has no name."""
    for path in sorted(folder.glob("*.y*ml")):
        with suppress(MserError):
            content = read_yaml(path) if is_definition(path) else None
            if isinstance(content, dict) and content.get("name") == name:
                return path
    return None


def is_definition(path: Path) -> bool:
    """Whether a file's name is one that definitions are read from."""
    # macOS leaves hidden files beside others.
    return path.suffix in (".yaml", ".yml") and not path.name.startswith(".")


def corpora_of(languages: Iterable[str], definitions: Mapping[str, CorpusDefinition]) -> list[CorpusDefinition]:
    """The definitions of the given languages, in that order.

    Raises:
        ConfigError: a language has no definition, or is none.
    """
    known = sorted({definition.language for definition in definitions.values()})
    chosen = []
    for language in languages:
        of_language = [item for item in definitions.values() if item.language == language]
        if not of_language:
            fault = fault_of(language)
            raise ConfigError(
                f"No corpus of language {language!r} is defined.",
                field="LANG",
                expected=CODE if fault else f"one or several of: {' '.join(known)}",
                found=f"{language}: {fault}" if fault else f"{language} ({name_of(language)})",
                hint="choose one of these, or add a definition: `mser corpora new FOLDER` proposes one",
            )
        chosen += of_language
    return chosen
