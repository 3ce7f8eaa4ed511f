"""Where things are: the workspace a run writes, and the data files the project ships; and what settings may be."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from mser.errors import ConfigError, DiskError

#: Corpus definitions, labels and the upstream registry lie beside the package,
#: in a checkout as in an installation.
DATA_FOLDER = Path(__file__).resolve().parent.parent / "data_manifest"


@dataclass(frozen=True)
class Workspace:
    """The folder that holds everything mser writes.

    Attributes:
        root: the folder (variable ``MSER_HOME``, default ``work``).
    """

    root: Path

    @property
    def manifests(self) -> Path:
        return self.root / "manifests"

    @property
    def searches(self) -> Path:
        return self.root / "searches"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def benchmarks(self) -> Path:
        return self.root / "benchmarks"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def store(self, corpus: str, upstream: str) -> Path:
        """Folder of the states of one corpus by one upstream (a name, hub id or folder)."""
        return self.cache / corpus / store_name(upstream)


def store_name(upstream: str) -> str:
    """Folder name of an upstream's stores: a registry name, a hub id's or a folder's last part, with its adapter.

    >>> store_name("facebook/wav2vec2-base"), store_name("./weights/whisper-base-encoder/")
    ('facebook--wav2vec2-base', 'whisper-base-encoder')
    >>> store_name("facebook/mms-1b-all+deu"), store_name("./mms+deu")
    ('facebook--mms-1b-all+deu', 'mms+deu')
    """
    model, adapter = split_adapter(upstream)
    if is_local_folder(upstream):
        name = re.sub(r"[^\w.-]", "-", Path(os.path.abspath(model)).name)
    else:
        name = model.strip("/").replace("/", "--")
    return name if adapter is None else f"{name}+{adapter}"


def is_local_folder(upstream: str) -> bool:
    """Whether the name can only be a folder (and its adapter): it exists, or is written as a path.

    >>> is_local_folder("./weights"), is_local_folder("./mms+deu"), is_local_folder("facebook/wav2vec2-base")
    (True, True, False)
    """
    model, _ = split_adapter(upstream)
    return upstream.startswith((".", "/", "~")) or (os.sep in upstream and Path(model).is_dir())


def split_adapter(upstream: str) -> tuple[str, str | None]:
    """A model's name and the language adapter behind its plus sign; a folder that has the plus in its name wins.

    >>> split_adapter("facebook/mms-1b-all+deu"), split_adapter("facebook/mms-1b-all")
    (('facebook/mms-1b-all', 'deu'), ('facebook/mms-1b-all', None))
    """
    model, _, adapter = upstream.rpartition("+")
    if not model or not re.fullmatch(r"[\w-]+", adapter) or Path(upstream).expanduser().is_dir():
        return upstream, None
    return model, adapter


def is_name(name: object) -> bool:
    """Whether a file or folder can be kept under a name: one part of a path, and not hidden.

    >>> is_name("first-try"), is_name("../etc"), is_name(".."), is_name("")
    (True, False, False, False)
    """
    return (
        isinstance(name, str)
        and re.fullmatch(r"[^/\\\x00-\x1f\x7f]{1,200}", name) is not None
        and not name.startswith(".")
    )


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: the file is missing or is no YAML.
    """
    with _reading_yaml(path):
        return yaml.safe_load(path.read_text(encoding="utf-8"))


@contextmanager
def _reading_yaml(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError("A file could not be read.", file=path, found=error.strerror) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("A file is not valid YAML.", file=path, found=error) from error


def read_yaml_lines(path: Path) -> tuple[Any, dict[tuple[str, ...], int]]:
    """The content of a YAML file, and the line of each key: path of keys (positions of lists among them) -> line.

    Raises:
        ConfigError: the file is missing or is no YAML, or a mapping has a key twice.
    """
    lines: dict[tuple[str, ...], int] = {}

    def walk(node: yaml.Node, keys: tuple[str, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            parts = [(str(key.value), key.start_mark.line, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            parts = [(str(number), one.start_mark.line, one) for number, one in enumerate(node.value)]
        else:
            return
        for name, line, value in parts:
            if (*keys, name) in lines:
                raise ConfigError(
                    "A key is there twice; YAML keeps the last alone.",
                    file=f"{path}:{line + 1}",
                    field=".".join((*keys, name)),
                    found=f"also in line {lines[(*keys, name)]}",
                )
            lines[(*keys, name)] = line + 1
            walk(value, (*keys, name))

    with _reading_yaml(path):
        # libyaml, where it is there, is ten times as fast, and there are many definitions.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        root = yaml.compose(path.read_text(encoding="utf-8"), loader)
        if root is None:
            return None, lines
        walk(root, ())
        return SafeConstructor().construct_document(root), lines


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ConfigError: the file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("A file could not be read.", file=path, found=error.strerror) from error
    except ValueError as error:
        raise ConfigError("A file is not valid JSON.", file=path, found=error) from error


def read_if_whole(path: Path, fields: Iterable[str] = ()) -> dict[str, Any] | None:
    """The JSON object of a file that is computed again where it is lost; None where it is missing or damaged.

    A damaged file counts as missing, with a warning that names it: a power cut may leave one behind.

    Args:
        fields: that the object must have.

    Raises:
        ConfigError: the file is there and cannot be read, for want of permission or the like.
    """
    try:
        content = read_json(path)
    except ConfigError as error:
        if isinstance(error.__cause__, OSError):
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        warn_of_damage(path, error.found)
        return None
    lacking = [name for name in fields if name not in content] if isinstance(content, dict) else None
    if lacking is None or lacking:
        warn_of_damage(path, f"without {', '.join(lacking)}" if lacking else "no JSON object")
        return None
    return dict(content)


def warn_of_damage(path: Path, fault: object) -> None:
    """Says that a file cannot be used, and is treated as if it were not there."""
    warnings.warn(f"{path} cannot be used, and counts as missing ({fault}).", stacklevel=3)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A partial name to write a file under; it is fsynced and renamed at the end, or removed where that fails.

    Without the fsync the new name could be on the disk before the content, and a power cut between the two would leave
    half a file under it.

    Raises:
        DiskError: the file, or a folder above it, cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        # A folder above it may be what stands in the way.
        other = f": {error.filename}" if error.filename and Path(error.filename) != partial else ""
        raise DiskError(
            "A file cannot be written.",
            file=path,
            found=f"{error.strerror or error}{other}",
            hint="make room, or give another place that can be written to; then run the same command again",
        ) from error
    finally:
        # On a disk that is read-only, or where a file stands for a folder, there is nothing to remove.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all; raises DiskError where it cannot be written."""
    with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all; raises DiskError where it cannot be written."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def fingerprint(value: Any) -> str:
    """Hash of a JSON-like value, 16 hex digits, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


#: Whether a number can be the value of a setting, and how a message says what would be right.
Rule = tuple[Callable[[float], bool], str]
FROM_ZERO: Rule = (lambda value: 0 <= value < math.inf, "a finite number from 0")
ABOVE_ZERO: Rule = (lambda value: 0 < value < math.inf, "a finite number above 0")


def whole(least: int) -> Rule:
    """Whole numbers from ``least``."""
    return (lambda value: isinstance(value, int) and value >= least, f"a whole number from {least}")


def share(most: float = 1.0, below: bool = False) -> Rule:
    """Numbers from 0 to ``most``, or to just below it."""
    return (
        lambda value: 0 <= value <= most and not (below and value == most),
        f"a number from 0 to {'below ' if below else ''}{most:g}",
    )


def require_numbers(settings: object, what: str, rules: Mapping[str, Rule]) -> None:
    """Raises ConfigError where an attribute of the settings breaks its rule, or is no number.

    Args:
        what: the message's first sentence.
    """
    for name, (holds, expected) in rules.items():
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
            raise ConfigError(what, field=name, expected=expected, found=value)
