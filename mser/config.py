"""Where things are: the workspace a run writes, and the data files the project ships."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mser.errors import ConfigError

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


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: the file is missing or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("A file could not be read.", file=path, found=error.strerror) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("A file is not valid YAML.", file=path, found=error) from error


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


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all: a partial name, fsync, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def fingerprint(value: Any) -> str:
    """Hash of a JSON-like value, 16 hex digits, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
