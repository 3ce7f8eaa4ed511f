"""Who may import whom: read off the syntax trees, and for train also off what is loaded at run time."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from mser.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mser", "extract", "train")


def sources(root: Path = ROOT) -> list[Path]:
    """Every module of the project, relative to its root."""
    return sorted(path.relative_to(root) for package in PACKAGES for path in (root / package).rglob("*.py"))


@cache
def imports(path: Path, root: Path = ROOT) -> set[str]:
    """Every dotted name a module imports anywhere in it; ``from a import b`` gives ``a`` and ``a.b``."""
    package = path.parent.parts
    found: set[str] = set()
    for node in ast.walk(ast.parse((root / path).read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def hits(names: Iterable[str], banned: Iterable[str]) -> set[str]:
    """The names that are one of the banned modules, or lie below it."""
    return {name for name in names for module in banned if name == module or name.startswith(module + ".")}


def below(*places: str) -> Callable[[Path], bool]:
    """Whether a module is one of the files, or lies in one of the folders."""
    return lambda path: any(path == Path(place) or path.is_relative_to(place) for place in places)


# Modules of the library that see states and never audio, most of which train.
TRAINING = (
    "augment", "checkpoint", "experts", "faithful", "gating", "heads", "loader", "losses", "model", "nas", "noise",
    "placement", "prefetch", "probe", "shared_probe", "significance", "sources",
)  # fmt: skip
# (files, modules they never import)
FORBIDDEN = {
    "the library knows no stage": (below("mser"), ["extract", "train"]),
    "stage one does not know stage two": (below("extract"), ["train"]),
    "stage two does not know stage one": (below("train"), ["extract"]),
    "stage two sees no audio": (below("train"), ["mser.audio", "mser.upstream", "mser.predict", "mser.serve"]),
    "stage one trains nothing": (below("extract"), [f"mser.{name}" for name in (*TRAINING, "predict", "serve")]),
    "the page is for people alone": (
        lambda path: below("mser")(path) and not below("mser/serve", "mser/cli.py")(path),
        ["mser.serve"],
    ),
    "states, not audio, are read by all that trains": (
        below("mser/store", "mser/nas", "mser/export", *(f"mser/{name}.py" for name in TRAINING)),
        ["mser.audio", "mser.upstream"],
    ),
    "nothing is sent anywhere but by the command for it": (
        lambda path: not below("mser/hub", "mser/cli.py")(path),
        ["mser.hub"],
    ),
    "an inspection reads states and labels, and nothing from elsewhere": (
        below("mser/inspect"),
        ["mser.audio", "mser.upstream", "socket", "ssl", "http", "urllib", "urllib3", "requests", "aiohttp"],
    ),
    "nothing is pickled": (
        below(*PACKAGES),
        ["pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch.load", "torch.save"],
    ),
}
# dependency -> the files that may import it
OWNERS = {
    "h5py": below("mser/store"),
    "transformers": below("mser/upstream"),
    "huggingface_hub": below("mser/upstream", "mser/hub"),
    "onnx": below("mser/export"),
    "onnxruntime": below("mser/export"),
    "soundfile": below("mser/audio.py"),
    "opensmile": below("mser/upstream/opensmile.py"),
    "distributed": below("extract/cluster.py", "train/workers.py"),
    "torch.utils.tensorboard": below("train/events.py"),
    "xxhash": below("mser/store/layout.py"),
    "plotly": below("mser/inspect/pictures.py"),
    "umap": below("mser/inspect/maps.py"),
    "pyarrow": below("mser/inspect/export.py"),
    "zarr": below("mser/inspect/export.py"),
    "threadpoolctl": below("mser/inspect/survey.py"),
    "torchaudio": below("mser/audio.py", "mser/upstream"),
    "gradio": below("mser/serve/page.py"),
    "fastapi": below("mser/serve/page.py"),
    "uvicorn": below("mser/serve/server.py"),
    "iso639": below("mser/languages.py"),
    "httpx": below("extract/download/web.py"),
    "py7zr": below("extract/download/unpack.py"),
    "rarfile": below("extract/download/unpack.py"),
    "click": lambda path: path.name == "cli.py" or path in (Path("mser/terminal.py"), Path("train/options.py")),
}


def broken(files: Callable[[Path], bool], banned: list[str], root: Path = ROOT) -> list[str]:
    """The offences against a rule; fails where it has no file to look at."""
    checked = [path for path in sources(root) if files(path)]
    assert checked, "the rule looks at no file"
    return [f"{path} imports {name}" for path in checked for name in sorted(hits(imports(path, root), banned))]


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_forbidden_imports(rule: str) -> None:
    files, banned = FORBIDDEN[rule]
    assert broken(files, banned) == []
    # A module that was renamed would make its rule empty.
    for name in (name for name in banned if name.split(".")[0] in PACKAGES):
        place = ROOT / name.replace(".", "/")
        assert place.with_suffix(".py").is_file() or place.is_dir(), name


@pytest.mark.parametrize("dependency", OWNERS)
def test_a_dependency_is_imported_by_its_owner_alone(dependency: str) -> None:
    owner = OWNERS[dependency]
    assert broken(lambda path: not owner(path), [dependency]) == []
    assert broken(owner, [dependency]), f"no owner imports {dependency}"


def test_nothing_is_unpickled_or_run_from_text() -> None:
    banned = {
        ("torch", "load"), ("torch", "save"), ("yaml", "load"), ("yaml", "unsafe_load"),
        ("importlib", "import_module"),
    }  # fmt: skip
    offences, calls = [], 0
    for path in sources():
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            calls += 1
            call, named = node.func, {item.arg for item in node.keywords}
            if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name):
                offences += [f"{path}:{node.lineno} {call.attr}"] if (call.value.id, call.attr) in banned else []
            if isinstance(call, ast.Name) and call.id in {"eval", "exec", "__import__"}:
                offences.append(f"{path}:{node.lineno} {call.id}")
            if "allow_pickle" in named:
                offences.append(f"{path}:{node.lineno} allow_pickle")
    assert calls > 500
    assert offences == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import mser.audio", ["mser.audio"]),
        ("def late():\n    from mser import audio as a", ["mser.audio"]),
        ("from mser.upstream import load_upstream", ["mser.upstream", "mser.upstream.load_upstream"]),
        ("from ..mser.audio import read_pcm", ["mser.audio", "mser.audio.read_pcm"]),
        ("import mser.audiobook", []),
    ],
)
def test_an_offence_is_found_wherever_it_is_written(tmp_path: Path, text: str, found: list[str]) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "new.py").write_text(text, encoding="utf-8")
    offences = broken(below("train"), ["mser.audio", "mser.upstream"], tmp_path)
    assert [offence.split()[-1] for offence in offences] == found
    with pytest.raises(AssertionError, match="no file"):
        broken(below("extract"), ["train"], tmp_path)


def test_relative_imports_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "mser" / "nas").mkdir(parents=True)
    (tmp_path / "mser" / "nas" / "new.py").write_text("from .. import audio\nfrom . import darts\n", encoding="utf-8")
    assert imports(Path("mser/nas/new.py"), tmp_path) == {"mser", "mser.audio", "mser.nas", "mser.nas.darts"}


def loaded_by(*modules: str) -> set[str]:
    """Every module that is loaded once these are imported, in an interpreter of its own."""
    program = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_stage_two_loads_neither_audio_nor_speech_models() -> None:
    assert (ROOT / "train" / "cli.py").is_file()
    modules = [path for path in sources() if path.parts[0] == "train" and not path.stem.startswith("__")]
    loaded = loaded_by(*(".".join(path.with_suffix("").parts) for path in modules))
    assert "train.cli" in loaded
    # A cluster's library takes a second to import, and few studies need it.
    late = ["transformers", "soundfile", "torchaudio", "extract", "mser.audio", "mser.upstream", "distributed"]
    late += ["tensorboard", "torch.utils.tensorboard", "huggingface_hub", "onnx"]
    assert hits(loaded, late) == set()


def test_the_commands_of_the_library_start_without_what_only_some_of_them_need() -> None:
    modules = sorted({module for module, _, _ in COMMANDS.values()})
    loaded = loaded_by("mser.cli", *modules)
    assert {"mser.predict.cli", "mser.export.cli", "mser.hub.cli"} <= loaded
    late = ["transformers", "torchaudio", "huggingface_hub", "onnx", "onnxruntime", "tensorboard", "train", "extract"]
    assert hits(loaded, late) == set()


def test_help_tells_of_every_command_without_importing_one() -> None:
    said = CliRunner().invoke(main, ["--help"]).output
    assert all(f"  {name} " in said for name in COMMANDS)
    alone = "from mser.cli import main; main(['--help'], standalone_mode=False); import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True, cwd=ROOT, check=True)
    assert set(run.stdout.split()) & {module for module, _, _ in COMMANDS.values()} == set()


def test_the_library_and_its_command_line_load_nothing_heavy() -> None:
    loaded = loaded_by("mser", "mser.cli")
    assert hits(loaded, ["torch", "numpy", "sklearn", "dask", "h5py", "matplotlib", "plotly"]) == set()


def test_the_catalogue_of_corpora_loads_neither_audio_nor_what_trains() -> None:
    # It is asked before anything is there, and answers at once and offline.
    loaded = loaded_by("mser.corpora.cli")
    late = ["torch", "numpy", "soundfile", "torchaudio", "transformers", "sklearn", "h5py", "httpx", "extract", "train"]
    assert hits(loaded, late) == set()


def test_an_inspection_loads_neither_audio_nor_speech_models() -> None:
    modules = [path for path in sources() if path.is_relative_to("mser/inspect") and not path.stem.startswith("__")]
    loaded = loaded_by(*(".".join(path.with_suffix("").parts) for path in modules))
    assert "mser.inspect.survey" in loaded
    late = ["transformers", "soundfile", "torchaudio", "mser.audio", "mser.upstream", "distributed", "umap", "zarr"]
    assert hits(loaded, late) == set()
    # A listing is there at once: scikit-learn and plotly take seconds.
    assert hits(loaded_by("mser.inspect.cli"), ["sklearn", "plotly", "extract", "train"]) == set()


def test_stage_one_starts_without_transformers() -> None:
    # It takes seconds to import, and the acoustic upstreams do not need it.
    loaded = loaded_by("extract.cli")
    assert "mser.upstream" in loaded
    assert (
        hits(loaded, ["transformers", "train", "sklearn", "matplotlib", "distributed", "opensmile", "pandas"]) == set()
    )
