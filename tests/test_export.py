"""Heads as ONNX: what onnxruntime says of a batch is what torch says, for every part of the search space."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toys import make_workspace, random_states

from mser import __version__
from mser.averaged import BETWEEN, AveragedModel
from mser.checkpoint import save_model
from mser.cli import main
from mser.config import Workspace, read_json
from mser.errors import ConfigError, DiskError, RunError
from mser.experts import Expert
from mser.faithful import FaithfulModel
from mser.heads import ACTIVATIONS, POOLINGS
from mser.loader import Loader
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import GATES, Genotype
from mser.nas.operations import OPERATIONS
from mser.predict.head import TrainedHead, load_heads
from mser.store import Provenance, Store

pytest.importorskip("onnxscript", reason="an optional extra: pip install 'mser[onnx]'")
onnx = pytest.importorskip("onnx", reason="an optional extra: pip install 'mser[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="an optional extra: pip install 'mser[onnx]'")

from mser.export import onnx_model  # noqa: E402
from mser.export.network import networks_of  # noqa: E402
from mser.export.onnx_model import export_head, session_of  # noqa: E402
from mser.export.states import cut, made_up, sample, standards  # noqa: E402

EMOTIONS = ("anger", "joy", "sadness")
LAYERS, DIM = 2, 6
SETTINGS = ModelSettings(hidden=8, dropout=0.4, temperature=1.5)
#: Between them every operation, pooling and activation of the search space; each upstream makes an export dearer.
FRAMES = {
    "mean": Genotype({"e0": "bigru", "e1": "zero"}, "mean", "constant", 0, 0),
    "mean and deviation": Genotype({"e0": "conv5"}, "mean_std", "conditioned", 1, 5, "gelu"),
    "max": Genotype({"e0": "attention"}, "max", "constant", 2, 7, "tanh"),
    "attention": Genotype({"e0": "dilated3"}, "attention", "constant", 1, 5),
    "last": Genotype({"e0": "conv3", "e1": "skip"}, "last", "none", 1, 5),
}
#: The rest: every gate has something to weigh.
POOLED = {
    "de": Genotype({"e0": "linear", "e1": "skip"}, "mean", "conditioned", 1, 5),
    "it": Genotype({"e1": "skip"}, "mean", "constant", 1, 5),
}


def provenance(name: str) -> Provenance:
    upstream = {"name": name, "layers": LAYERS, "dim": DIM, "frame_rate": 10.0, "revision": "1", "random_weights": True}
    return Provenance("toy", upstream, dtype="float32")


def saved(
    path: Path,
    genotypes: Mapping[str, Genotype],
    features: str = "frames",
    settings: ModelSettings = SETTINGS,
    emotions: Mapping[str, Sequence[str]] | None = None,
    **facts: Any,
) -> dict[str, TrainedHead]:
    """A model of random weights on disk, and its heads: nothing in it has the value that it starts with.

    Args:
        genotypes: by language, or by the names of the networks whose mean is the language's answer (``de/it``).
    """
    torch.manual_seed(0)
    names = list(dict.fromkeys(name for genotype in genotypes.values() for name in genotype.experts))
    width = DIM if features == "frames" else 2 * DIM
    shapes = [ExpertShape(name, LAYERS, width) for name in names]
    domains = []
    for language, genotype in genotypes.items():
        held = [shape for shape in shapes if shape.name in genotype.experts]
        standard = {one.name: (torch.randn(LAYERS, width), torch.rand(LAYERS, width) + 0.5) for one in held}
        prior = Prior({one.name: torch.randn(LAYERS) for one in held}, torch.randn(len(held)), standard)
        told = tuple((emotions or {}).get(language, EMOTIONS))
        domains.append(Domain(language, told, genotype, prior, genotype.experts))
    kind = AveragedModel if any(BETWEEN in name for name in genotypes) else MultiGateModel
    model = kind(domains, shapes, settings)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.3 * torch.randn_like(value))
    stores: dict[str, dict[str, Any]] = {}
    for one, genotype in genotypes.items():
        own = stores.setdefault(one.partition(BETWEEN)[0], {})
        own |= {name: asdict(provenance(name)) for name in genotype.experts}
    known = {"features": {"kind": features, "frame_rate": 5.0}, "stores": stores, "temperature": {"de": 1.7}}
    save_model(path, model, {**known, "normalise": "none", "method": "fixed", "data": {"de": "1234"}, **facts})
    return load_heads(path)


def loader_of(head: TrainedHead, frames: Sequence[int]) -> Loader:
    """Noise; each upstream has other lengths."""
    shapes = {shape.name: shape for shape in head.model.experts}
    experts = []
    for number, name in enumerate(head.keys):
        counts = frames if head.features == "pooled" else [count + number for count in frames]
        states = random_states(counts, shapes[name].layers, shapes[name].dim, seed=number)
        experts.append(Expert.of_states(name, states))
    return Loader(experts, torch.zeros(len(frames), dtype=torch.int64))


def said_by_onnx(path: Path, batch: Any, names: Sequence[str]) -> list[np.ndarray]:
    """Outputs of the file, fed as its documentation says."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}
    fed = {}
    for place, name in enumerate(names):
        fed[f"states_{name}"] = batch.states[place].numpy()
        fed[f"lengths_{name}"] = batch.lengths[place].numpy()
    return session.run(None, {name: values for name, values in fed.items() if name in wanted})


def require_same(path: Path, head: TrainedHead, frames: Sequence[int]) -> None:
    """What the file says of a batch, and of each utterance alone, is what torch's model says."""
    loader = loader_of(head, frames)
    for rows in (np.arange(len(frames)), *np.arange(len(frames))[:, None]):
        batch = loader.gather(rows)
        probabilities, gate, embedding = said_by_onnx(path, batch, list(head.keys))
        with torch.inference_mode():
            output = head.model(head.language, batch)
        np.testing.assert_allclose(probabilities, (output.logits / 1.7).softmax(1), atol=2e-6)
        np.testing.assert_allclose(gate, output.gate, atol=2e-6)
        np.testing.assert_allclose(embedding, output.embedding, rtol=1e-4, atol=2e-5)


def test_the_structures_of_this_test_hold_every_choice_of_the_search_space() -> None:
    every = [*FRAMES.values(), *POOLED.values()]
    assert {name for one in every for name in one.operations.values()} == set(OPERATIONS)
    assert {one.pooling for one in every} == set(POOLINGS)
    assert {one.gate for one in every} == set(GATES)
    assert {one.activation for one in every} == set(ACTIVATIONS)
    assert {one.depth for one in every} == {0, 1, 2}


@pytest.mark.parametrize("name", FRAMES)
def test_a_head_on_frames_says_what_torch_says(name: str, tmp_path: Path) -> None:
    head = saved(tmp_path / "model-de.safetensors", {"de": FRAMES[name]})["de"]
    done = export_head(head, tmp_path / "head.onnx", made_up(head, "").batches())
    assert max(done.differences.values()) < 1e-5
    used = [one for one, operation in FRAMES[name].operations.items() if operation != "zero"]
    assert list(done.inputs) == [*(f"states_{one}" for one in used), *(f"lengths_{one}" for one in used)]
    require_same(done.path, head, [3, 1, 9, 2, 9])


def test_pooled_heads_of_several_languages_with_one_shared_head_and_a_missing_upstream(tmp_path: Path) -> None:
    emotions = {"de": ("anger", "joy"), "it": ("fear", "joy", "sadness")}
    settings = replace(SETTINGS, shared_head=True)
    heads = saved(
        tmp_path / "model.safetensors", POOLED, "pooled", settings, emotions, temperature={"de": 1.7, "it": 1.7}
    )
    for language, head in heads.items():
        done = export_head(head, tmp_path / f"{language}.onnx", made_up(head, "").batches())
        assert [shape[1] for name, shape in done.inputs.items() if name.startswith("states")] == [1] * len(head.keys)
        require_same(done.path, head, [1] * 5)
    session = session_of((tmp_path / "it.onnx").read_bytes())
    assert [one.name for one in session.get_inputs()] == ["states_e1", "lengths_e1"]
    assert [one.shape for one in session.get_outputs()] == [["batch", 3], ["batch", 2], ["batch", 5]]
    # The other language's parameters are not in it.
    assert (tmp_path / "it.onnx").stat().st_size < 4 * sum(value.numel() for value in heads["it"].model.parameters())


@pytest.mark.parametrize("features", ["frames", "pooled"])
def test_the_mean_of_networks_that_an_adaptation_leaves_says_what_torch_says(features: str, tmp_path: Path) -> None:
    # Experts in other orders, one that a network lacks, one that a network leaves out.
    structures = (FRAMES["last"], FRAMES["mean"], POOLED["it"]) if features == "frames" else tuple(POOLED.values())
    networks = {"de/it": Genotype({"e1": "skip", "e0": "zero"}, "mean", "constant", 1, 5)}
    networks |= {f"de/{number}": one for number, one in enumerate(structures)}
    head = saved(tmp_path / "model.safetensors", networks, features)["de"]
    assert isinstance(head.model, AveragedModel)
    assert set(standards(head)) == {"e0", "e1"}
    done = export_head(head, tmp_path / "head.onnx", made_up(head, "").batches())
    assert max(done.differences.values()) < 1e-5
    assert list(done.inputs)[:2] == ["states_e1", "states_e0"]
    widths = [one.width if one.depth else SETTINGS.hidden for one in networks.values()]
    assert done.outputs["embedding"] == ["batch", sum(widths)]
    require_same(done.path, head, [3, 1, 9, 2, 9] if features == "frames" else [1] * 5)
    said = session_of(done.path.read_bytes()).get_modelmeta().custom_metadata_map
    assert said["structure"].startswith(f"mean of {len(networks)} networks: ")
    assert said["structure"].count("; pooling ") == len(networks)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> TrainedHead:
    path = tmp_path_factory.mktemp("run") / "model-de.safetensors"
    return saved(path, {"de": Genotype({"e0": "skip", "e1": "zero"}, "mean", "constant", 1, 5)}, "pooled")["de"]


@pytest.fixture(scope="module")
def exported(head: TrainedHead) -> Path:
    folder = head.path.parent / "exported"
    export_head(head, folder / "head.onnx", made_up(head, "").batches())
    assert [path.name for path in folder.iterdir()] == ["head.onnx"]
    with pytest.raises(DiskError, match="cannot be written"):  # a file stands where the folder should be
        export_head(head, folder / "head.onnx" / "head.onnx", made_up(head, "").batches())
    return folder / "head.onnx"


def test_the_file_says_what_it_is(exported: Path) -> None:
    said = session_of(exported.read_bytes()).get_modelmeta().custom_metadata_map
    assert (said["language"], said["features"], said["frame_rate"]) == ("de", "pooled", "5.0")
    assert (float(said["temperature"]), said["calibrated"]) == (1.7, "true")
    assert json.loads(said["emotions"]) == list(EMOTIONS)
    assert json.loads(said["experts"]) == ["e0", "e1"]
    (upstream,) = json.loads(said["upstreams"])
    assert {name: upstream[name] for name in ("name", "layers", "dim")} == {"name": "e0", "layers": 2, "dim": 12}
    assert (upstream["random_weights"], upstream["layer_numbers"]) == (True, [0, 1])
    assert (said["method"], said["data"], said["mser_version"]) == ("fixed", "1234", __version__)
    # Nor does it say where the code lies that made it.
    assert str(Path(onnx_model.__file__).parents[2]).encode() not in exported.read_bytes()


@pytest.mark.parametrize("damage", ["weights a little off", "not a number"])
def test_a_model_that_says_something_else_is_refused_and_leaves_no_file(
    damage: str, head: TrainedHead, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(exported)
    (bias,) = [one for one in model.graph.initializer if one.name.endswith("classifier.bias")]
    off = [0.01, 0, 0] if damage == "weights a little off" else [float("nan"), 0, 0]
    values = onnx.numpy_helper.to_array(bias) + np.array(off, dtype=np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    monkeypatch.setattr(onnx_model, "_onnx_bytes", lambda *arguments: (model.SerializeToString(), {}, {}))
    with pytest.raises(RunError, match="differs from torch") as caught:
        export_head(head, tmp_path / "head.onnx", made_up(head, "").batches())
    assert caught.value.field == "probabilities"
    with pytest.raises(RunError, match="some utterances"):  # compared on nothing
        export_head(head, tmp_path / "head.onnx", [])
    assert list(tmp_path.iterdir()) == []
    if damage == "weights a little off":
        done = export_head(head, tmp_path / "head.onnx", made_up(head, "").batches(), tolerance=1e-2)
        assert 1e-4 < done.differences["probabilities"] < 1e-2
        assert max(done.differences["gate"], done.differences["embedding"]) < 1e-5


class Impossible(torch.nn.Module):
    """Decides by values, which no graph can hold."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > 0 else -x


def test_a_head_that_torch_cannot_export_is_named(tmp_path: Path) -> None:
    head = saved(tmp_path / "model-de.safetensors", {"de": FRAMES["mean"]})["de"]
    network: Any = head.model.network("de")
    network.branches[0].operation = Impossible()
    with pytest.raises(RunError, match="cannot export") as caught:
        export_head(head, tmp_path / "head.onnx", made_up(head, "").batches())
    assert "e0: bigru, e1: zero; pooling mean; gate constant" in str(caught.value)
    assert not (tmp_path / "head.onnx").exists()


def test_the_authors_network_and_transductive_heads_are_refused(head: TrainedHead, tmp_path: Path) -> None:
    domain = Domain("de", EMOTIONS, FRAMES["attention"], Prior.uniform([ExpertShape("e0", LAYERS, DIM)]))
    other = replace(head, model=FaithfulModel([domain], [ExpertShape("e0", LAYERS, DIM)]))
    for refused in (lambda: export_head(other, tmp_path / "head.onnx", []), lambda: networks_of(other)):
        with pytest.raises(RunError, match="authors' network"):
            refused()
    genotype = {"de": Genotype({"e0": "skip"}, "mean", "constant", 0, 0)}
    with pytest.raises(RunError, match="transductive"):
        saved(tmp_path / "model.safetensors", genotype, "pooled", normalise="speaker")


def test_libraries_that_are_missing_are_named_with_the_command_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(ConfigError, match=r"mser\[onnx\]") as caught:
        onnx_model.require_onnx()
    assert caught.value.field == "onnxruntime"


def run_in(workspace: Workspace, features: str) -> Path:
    """A run's folder with a model for use on the workspace's states."""
    stores = {name: Store(workspace.store("toy_de", name)).provenance for name in ("loud", "quiet")}
    genotype = Genotype({"loud": "linear", "quiet": "skip"}, "mean", "constant", 0, 0)
    width = 4 if features == "frames" else 8
    shapes = [ExpertShape(name, 2, width) for name in stores]
    torch.manual_seed(0)
    model = MultiGateModel([Domain("de", EMOTIONS, genotype, Prior.uniform(shapes))], shapes, SETTINGS)
    facts = {
        "features": {"kind": features, "frame_rate": 2.0},
        "stores": {"de": {name: asdict(one) for name, one in stores.items()}},
    }
    folder = workspace.runs / "toy"
    save_model(folder / "model-de.safetensors", model, facts)
    return folder


@pytest.mark.parametrize("features", ["frames", "pooled"])
def test_heads_are_compared_on_the_states_that_they_were_trained_on(features: str, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    head = load_heads(run_in(workspace, features))["de"]
    found = sample(head, workspace)
    assert (found.real, found.utterances) == (True, 24)
    assert np.array_equal(np.sort(np.concatenate(found.rows)), np.arange(24))
    assert [len(rows) for rows in found.rows] == [1, 1, 1, 1, 20]
    assert sample(head, workspace, most=7).utterances == 7
    store = Store(workspace.store("toy_de", "quiet"))
    names = [f"toy_de/s{speaker}u{number}" for speaker in range(4) for number in range(6)]
    row = int(found.rows[-1][3])
    states = list(found.batches())[-1].states[1][3]
    if features == "pooled":
        np.testing.assert_array_equal(states[0].flatten(), store.pooled([names[row]])[0].reshape(-1))
    else:
        frames = store.frames(names[row])[:, :3].mean(1)  # 5 frames a second, at most 2 of which are wanted
        np.testing.assert_allclose(states[0], frames, atol=1e-6)


def test_states_are_made_up_where_those_of_the_run_are_not_at_hand(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "one")
    head = load_heads(run_in(workspace, "frames"))["de"]
    nowhere = sample(head, Workspace(tmp_path / "other"))
    assert not nowhere.real
    assert "manifest" in nowhere.reason
    store = workspace.store("toy_de", "loud")
    content = read_json(store / "store.json")
    made = Provenance.read(store)
    shutil.rmtree(store)
    replace(made, upstream={**content["upstream"], "revision": "2"}).write(store)
    other = sample(head, workspace)
    assert not other.real
    assert "not those that the head was trained on" in other.reason
    lengths = torch.cat([batch.lengths[0].clone() for batch in other.batches()])
    assert len(set(lengths.tolist())) > 10


def test_the_command_writes_a_file_and_says_on_what_it_was_compared(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    folder = run_in(workspace, "pooled")
    given = ["export-head", "--run", "toy", "--home", str(workspace.root)]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 0, done.output
    assert "24" in done.output
    assert "made-up" not in done.output
    assert "not calibrated" in done.output
    assert (folder / "head-de.onnx").is_file()
    done = CliRunner().invoke(main, [*given, "--language", "fr"])
    assert done.exit_code == 1
    assert "not trained on this language" in done.output


def test_utterances_come_alone_and_in_batches() -> None:
    for count in (1, 4, 5, 70):
        parts = cut(np.arange(count))
        assert np.concatenate(parts).tolist() == list(range(count))
        assert {len(part) for part in parts[:4]} == {1}
        assert max(len(part) for part in parts) <= 32
