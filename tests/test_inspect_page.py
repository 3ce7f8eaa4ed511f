"""The page: whole, by itself, and saying what is damaged or missing; and one utterance, and a trained embedding."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toys import make_workspace, random_states, utterance

from mser.checkpoint import save_model
from mser.cli import main
from mser.config import Workspace, write_json
from mser.errors import ConfigError, DiskError, ManifestError, RunError, StoreError
from mser.experts import pooled_expert
from mser.inspect.clouds import best_layer, layer_cloud
from mser.inspect.embeddings import embed
from mser.inspect.languages import read_language
from mser.inspect.listing import open_stores
from mser.inspect.page import make_page, write_page
from mser.inspect.probes import probe_emotion
from mser.inspect.survey import survey
from mser.inspect.utterance import draw_norms, find, line, states_of
from mser.inspect.wanted import SECTIONS, Wanted
from mser.loader import Loader
from mser.manifest import Manifest, Rejected, read_manifests
from mser.model import Domain, ExpertShape, ModelSettings, MultiGateModel, Prior
from mser.nas.genotype import Genotype
from mser.store import Provenance, ShardEntry, Store, open_or_create, write_shard

ROOT = Path(__file__).resolve().parent.parent
#: UMAP would be compiled first.
QUICK = Wanted(methods=("pca", "tsne"))


class Page(HTMLParser):
    """Tags with their attributes, ids, links, and the text that is neither style nor script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("home"), languages=("de", "it"))


@pytest.fixture(scope="module")
def results(workspace: Workspace) -> dict[str, Any]:
    return survey(workspace, (), QUICK)


def test_the_page_has_every_section_and_loads_nothing(results: dict[str, Any], tmp_path: Path) -> None:
    path = write_page(results, tmp_path / "reports")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    ids = {attributes.get("id") for _, attributes in page.tags}
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [f"#{name}" for name in SECTIONS]
    assert set(SECTIONS) <= ids
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed")
        assert "src" not in attributes
    assert "default-src 'none'" in text
    assert text.count("plotly.js v") == 1
    assert text.count('class="plotly-graph-div"') >= 2 + 2 + 2 + 2
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) == json.loads(json.dumps(results))


def test_the_numbers_of_the_page_are_those_of_the_stores(workspace: Workspace, results: dict[str, Any]) -> None:
    assert [one["health"] for one in results["stores"]] == ["complete"] * 4
    assert {(one["language"], one["upstream"]) for one in results["probes"]} == {
        (language, upstream) for language in ("de", "it") for upstream in ("loud", "quiet")
    }
    for one in results["probes"]:
        store = Store(workspace.store(f"toy_{one['language']}", one["upstream"]))
        (manifest,) = read_manifests(workspace, [one["language"]])
        means = store.pooled([row.utterance_id for row in manifest.utterances])[:, :, 0]
        probe, tested = probe_emotion(means, manifest.utterances)
        emotion = next(each for each in one["targets"] if each["target"] == "emotion")
        assert emotion["uar"] == probe.uar
        assert tested is not None
        assert one["tested"]["uar"] == pytest.approx(tested.uar)
    text = Page(make_page(results)).text
    for one in results["probes"]:
        assert f"{one['tested']['uar']:.1f}" in text
    assert "all speakers are female" in text
    assert "leave-one-speaker-out" in text.lower()


def test_what_is_mapped_is_the_best_layer_on_dev_speakers(workspace: Workspace, results: dict[str, Any]) -> None:
    (cloud,) = results["map"]
    uars: dict[tuple[str, int], list[float]] = {}
    for one in results["probes"]:
        emotion = next(each for each in one["targets"] if each["target"] == "emotion")
        for number, uar in zip(one["layers"], emotion["uar"], strict=True):
            uars.setdefault((one["upstream"], number), []).append(uar)
    upstream, number = max(uars, key=lambda key: np.mean(uars[key]))
    assert cloud["title"] == f"{upstream}, layer {number}"
    assert len(cloud["labels"]["emotion"]) == 48
    assert [one["method"] for one in cloud["maps"]] == ["pca", "tsne"]
    assert all(len(one["points"]) == 48 for one in cloud["maps"])
    asked = survey(workspace, ["de"], Wanted(("map",), upstreams=("quiet",), layer=1, methods=("pca",)))
    assert asked["map"][0]["title"] == "quiet, layer 1"
    assert "probes" not in asked
    with pytest.raises(ConfigError, match="one upstream"):
        survey(workspace, ["de"], Wanted(("map",), layer=1))


def keep_layers(workspace: Workspace, corpus: str, layers: tuple[int, ...]) -> None:
    """Makes the store of ``quiet`` anew, of random states, with these of three layers."""
    folder = workspace.store(corpus, "quiet")
    shutil.rmtree(folder)
    info = {"name": "quiet", "layers": 3, "dim": 4, "frame_rate": 5.0, "revision": "1"}
    provenance = Provenance(corpus, info, dtype="float32", layer_numbers=layers)
    open_or_create(folder, provenance)
    rows = Manifest.read(workspace, corpus).utterances
    states = random_states([3] * len(rows), 3)
    entries = [ShardEntry(row.utterance_id, row.sha256, x) for row, x in zip(rows, states, strict=True)]
    write_shard(folder, provenance, entries)


@pytest.mark.parametrize("kept", [{"de": (0, 1, 2), "it": (0, 1)}, {"de": (0, 1), "it": (0, 1, 2)}])
def test_a_layer_that_one_language_keeps_can_be_mapped(
    workspace: Workspace, tmp_path: Path, kept: dict[str, tuple[int, ...]]
) -> None:
    shutil.copytree(workspace.root, tmp_path / "home")
    copy = Workspace(tmp_path / "home")
    for language, layers in kept.items():
        keep_layers(copy, f"toy_{language}", layers)

    def languages_of(layer: int) -> tuple[set[str], str]:
        wanted = Wanted(("map",), upstreams=("quiet",), layer=layer, methods=("pca",))
        (cloud,) = survey(copy, (), wanted)["map"]
        return set(cloud["labels"]["language"]), cloud["note"]

    (owner,) = (language for language, layers in kept.items() if 2 in layers)
    (other,) = set(kept) - {owner}
    found, note = languages_of(2)
    assert found == {owner}
    assert f"Without {other}" in note
    # One model made both, whatever else of it is kept.
    assert languages_of(1)[0] == {"de", "it"}
    with pytest.raises(ConfigError, match=r"of quiet: 0, 1, 2"):
        languages_of(3)


def test_a_layer_of_another_model_is_not_mapped_with_the_others(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(workspace.root, tmp_path / "home")
    copy = Workspace(tmp_path / "home")
    folder = copy.store("toy_it", "loud")
    store = Store(folder)
    states = {key: torch.from_numpy(np.array(store.frames(key))) for key in store}
    hashes = {key: store.audio_sha256(key) for key in store}
    shutil.rmtree(folder)
    other = replace(store.provenance, upstream={**store.provenance.upstream, "revision": "2"})
    open_or_create(folder, other)
    write_shard(folder, other, [ShardEntry(key, hashes[key], x) for key, x in states.items()])
    manifests = read_manifests(copy, None)
    opened = list(open_stores(copy, manifests))
    languages = [read_language(name, manifests, opened) for name in ("de", "it")]
    probes = {
        one.language: {"loud": probe_emotion(one.cached["loud"].means, one.of(one.cached["loud"]))[0]}
        for one in languages
    }
    layer = best_layer(languages, probes)
    assert layer is not None
    cloud = layer_cloud(languages, layer)
    assert {row.language for row in cloud.utterances} == {"de"}
    assert "Without it" in cloud.note


def test_a_damaged_shard_is_named_and_the_rest_is_shown(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(workspace.root, tmp_path / "home")
    copy = Workspace(tmp_path / "home")
    manifest = Manifest.read(copy, "toy_de")
    manifest.write(copy, [Rejected("a.wav", "no audio"), Rejected("b<i>.wav", "no audio")], [])
    (copy.manifests / "toy_it.rejected.csv").unlink()
    folder = copy.store("toy_de", "loud")
    store = Store(folder)
    rows = [row for row in manifest.utterances if row.speaker == "s0"]
    # A second shard that will be the damaged one.
    states = [torch.from_numpy(np.array(store.frames(row.utterance_id))) for row in rows]
    (old,) = folder.glob("*.h5")
    others = [row for row in manifest.utterances if row not in rows]
    kept = [torch.from_numpy(np.array(store.frames(row.utterance_id))) for row in others]
    del store
    old.unlink()
    for part, values in ((rows, states), (others, kept)):
        entries = [ShardEntry(row.utterance_id, row.sha256, x) for row, x in zip(part, values, strict=True)]
        write_shard(folder, Store(folder).provenance, entries)
    broken = next(path for path in folder.glob("*.h5") if path.stat().st_size == min(map(size_of, folder.glob("*.h5"))))
    broken.write_bytes(broken.read_bytes()[:-2000])
    (copy.store("toy_it", "quiet") / "store.json").write_text("[", encoding="utf-8")
    results = survey(copy, (), QUICK)
    text = Page(make_page(results)).text
    assert broken.name in text
    assert "1 of 2 shards cannot be read" in text
    assert "unusable" in text
    by_store = {(one["language"], one["upstream"]): one for one in results["probes"]}
    assert set(by_store) == {("de", "loud"), ("de", "quiet"), ("it", "loud")}
    assert by_store["de", "loud"]["tested"]["utterances"] == 18
    assert by_store["de", "quiet"]["tested"]["utterances"] == 24
    assert [one["utterances"] for one in results["similarity"]] == [18, 24]
    assert "2 files" not in text
    assert "3 files" in text
    assert "b<i>.wav" in text
    assert "toy_it.rejected.csv cannot be read" in text


def size_of(path: Path) -> int:
    return path.stat().st_size


def test_stores_of_every_kind_are_shown(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    rows = tuple(utterance(f"u{n}", f"s{n % 3}", ("joy", "fear")[n // 3 % 2], text=f"t{n % 2}") for n in range(12))
    Manifest("toy", "de", rows, "0" * 16).write(workspace, [], [])
    states = random_states([4] * 12, layers=3)
    for name, options in {
        "frames": {"keep": ("frames",)},
        "pooled": {"keep": ("pooled",)},
        "some": {"layer_numbers": (0, 2)},
        "small": {"dtype": "int8"},
    }.items():
        info = {"name": name, "layers": 3, "dim": 4, "frame_rate": 5.0, "revision": "1"}
        provenance = Provenance("toy", info, **{"dtype": "float32", **options})  # type: ignore[arg-type]
        folder = workspace.store("toy", name)
        open_or_create(folder, provenance)
        entries = [ShardEntry(row.utterance_id, row.sha256, x) for row, x in zip(rows, states, strict=True)]
        write_shard(folder, provenance, entries)
    results = survey(workspace, ["de"], QUICK)
    uars = {one["upstream"]: {each["target"]: each["uar"] for each in one["targets"]} for one in results["probes"]}
    assert uars["frames"]["emotion"] == uars["pooled"]["emotion"]
    assert len(uars["some"]["emotion"]) == 2
    over = {one["upstream"]: (one["over"], one["count"]) for one in results["statistics"]}
    assert over == {"frames": ("frames", 48), "pooled": ("utterance means", 12), "some": ("frames", 48),
                    "small": ("frames", 48)}  # fmt: skip
    make_page(results)


def test_a_corpus_of_one_speaker_and_one_of_nothing_are_shown(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, languages=("de",), speakers=1)
    Manifest("bare", "fr", (replace(utterance("a", corpus="bare"), language="fr"),), "0" * 16).write(workspace, [], [])
    results = survey(workspace, (), QUICK)
    text = Page(make_page(results)).text
    assert "too few speakers" in text.lower()
    assert "No folds can be made" in text
    assert "No store of this language can be used" in text
    assert results["map"][0]["note"].startswith("Means over frames; the middle layer")
    assert "lowered from 30" in text


def test_text_of_a_manifest_is_never_markup_or_program(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, languages=("de",), upstreams=("loud",))
    manifest = Manifest.read(workspace, "toy_de")
    evil = "</script><script>alert(1)</script><b>x"
    rows = tuple(replace(row, speaker=row.speaker + evil.replace("/", ""), text_id=evil) for row in manifest.utterances)
    Manifest("toy_de", "de", rows, "0" * 16).write(workspace, [], [])
    text = make_page(survey(workspace, ["de"], Wanted(methods=("pca",))))
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert "<b>x" not in text


def trained(workspace: Workspace, languages: tuple[str, ...], name: str = "run") -> MultiGateModel:
    """Writes a run folder with one untrained model for use of these languages."""
    shapes = [ExpertShape(upstream, 1 * 2, 8) for upstream in ("loud", "quiet")]
    genotype = Genotype({shape.name: "linear" for shape in shapes}, "mean", "conditioned", 1, 32)
    domains = [Domain(language, ("anger", "fear", "joy"), genotype, Prior.uniform(shapes)) for language in languages]
    torch.manual_seed(0)
    model = MultiGateModel(domains, shapes, ModelSettings(hidden=16)).eval()
    folder = workspace.runs / name
    save_model(folder / "model.safetensors", model, {"method": "multi-domain"})
    manifests = {one.language: one for one in read_manifests(workspace, languages)}
    write_json(
        folder / "config.json",
        {
            "languages": languages,
            "settings": {"features": {"kind": "pooled", "frame_rate": 5.0}},
            "manifests": {name: {one.corpus: one.fingerprint} for name, one in manifests.items()},
            "stores": {
                name: {
                    shape.name: {one.corpus: Store(workspace.store(one.corpus, shape.name)).provenance.fingerprint}
                    for shape in shapes
                }
                for name, one in manifests.items()
            },
        },
    )
    return model


def test_a_run_is_mapped_by_its_embedding_before_the_classifier(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(workspace.root, tmp_path / "home")
    copy = Workspace(tmp_path / "home")
    model = trained(copy, ("de", "it"))
    manifests = read_manifests(copy, ["de", "it"])
    found = embed(copy, "run", manifests)
    for one, manifest in zip(found, manifests, strict=True):
        experts = [
            pooled_expert({manifest.corpus: Store(copy.store(manifest.corpus, name))}, manifest.utterances)
            for name in ("loud", "quiet")
        ]
        batch = Loader(experts, torch.zeros(24, dtype=torch.int64)).gather(np.arange(24))
        with torch.inference_mode():
            output = model(manifest.language, batch)
            classified = model.network(manifest.language).head.classifier(torch.from_numpy(one.values))
        np.testing.assert_allclose(one.values, output.embedding.numpy(), atol=1e-5)
        np.testing.assert_allclose(classified.numpy(), output.logits.numpy(), atol=1e-5)
    results = survey(copy, (), Wanted(("map",), run="run", methods=("pca",)))
    (cloud,) = results["map"]
    assert set(cloud["labels"]["language"]) == {"de", "it"}
    assert "trained on all of these" in cloud["note"]
    with pytest.raises(RunError, match=r"one of: run"):
        embed(copy, "walk", manifests)
    (copy.runs / "run" / "config.json").write_text(
        (copy.runs / "run" / "config.json").read_text(encoding="utf-8").replace(manifests[0].fingerprint, "0" * 16),
        encoding="utf-8",
    )
    with pytest.raises(RunError, match="other manifests"):
        embed(copy, "run", manifests)
    (copy.runs / "run" / "model.safetensors").unlink()
    with pytest.raises(RunError, match="no model for use of de"):
        embed(copy, "run", manifests)


def test_what_keeps_a_run_from_being_mapped_stands_where_its_map_would(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(workspace.root, tmp_path / "home")
    copy = Workspace(tmp_path / "home")
    trained(copy, ("de",))  # it never saw Italian
    wanted = Wanted(run="run", methods=("pca",))
    results = survey(copy, (), wanted)
    layer, missing, mapped = results["map"]
    assert layer["title"].startswith("loud, layer")
    assert missing["title"] == "embedding before the classifier of run run: it"
    assert "no model for use of it" in missing["trouble"]
    assert set(mapped["labels"]["language"]) == {"de"}
    assert [one["points"] is not None for one in mapped["maps"]] == [True]
    assert "The run has no model for use of it." in Page(make_page(results)).text
    assert results["probes"]
    shutil.rmtree(copy.store("toy_de", "quiet"))
    done = CliRunner().invoke(main, ["inspect", "page", "--run", "run", "--methods", "pca", "--home", str(copy.root)])
    assert done.exit_code == 0, done.output
    assert "of run run: de: There is no store." in done.output
    text = Page((copy.reports / "inspect-de-it" / "inspect.html").read_text(encoding="utf-8")).text
    assert "There is no store." in text
    # Where it is all that is asked for, it is an error; and so is a run that is not there.
    with pytest.raises(StoreError, match="There is no store"):
        survey(copy, ["de"], Wanted(("map",), run="run", methods=("pca",)))
    with pytest.raises(RunError, match="no such run"):
        survey(copy, (), replace(wanted, run="walk"))


def test_an_utterance_is_shown_with_its_labels_and_states(workspace: Workspace, tmp_path: Path) -> None:
    manifests = read_manifests(workspace, ["de"])
    row = manifests[0].utterances[3]
    found, absent = states_of(row, list(open_stores(workspace, manifests)))
    assert absent == []
    store = Store(workspace.store("toy_de", "loud"))
    frames = np.array(store.frames(row.utterance_id)).astype(float)
    assert found[0].shape == frames.shape
    np.testing.assert_allclose(found[0].norms, np.linalg.norm(frames, axis=2), rtol=1e-6)
    right = [[layer.mean(), layer.std(), layer.min(), layer.max()] for layer in frames]
    np.testing.assert_allclose(found[0].table, right, rtol=1e-6, atol=1e-9)
    for suffix, begins in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        path = draw_norms(row, found, tmp_path / f"norms{suffix}")
        assert path is not None
        assert path.read_bytes().startswith(begins)
    with pytest.raises(ConfigError, match=r"\.png \.svg \.pdf"):
        draw_norms(row, found, tmp_path / "norms.gif")
    with pytest.raises(DiskError, match="cannot be written"):  # a file stands where the folder should be
        draw_norms(row, found, tmp_path / "norms.png" / "norms.png")
    assert line(np.ones(100)) == "▁" * 40
    assert line(np.array([1.0, np.inf, 2.0])) == line(np.array([np.nan] * 3)) == "not finite"
    with pytest.raises(ManifestError, match=r"one such as toy_de/s0u3"):
        find(manifests, "toy_de/s0u33")
    with pytest.raises(ManifestError, match=r"toy_de/s2u1"):
        find(manifests, "somewhere/else/entirely/s2u1.wav")
    done = CliRunner().invoke(main, ["inspect", "show", row.utterance_id, "--home", str(workspace.root)])
    assert done.exit_code == 0, done.output
    for value in (row.sha256[:20], "happiness" if row.emotion == "happiness" else row.emotion, "loud: 2 x"):
        assert value in done.output
    assert (workspace.reports / "inspect-utterances" / "toy_de-s0u3.png").is_file()


def test_the_command_alone_lists_and_writes_the_page(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    done = CliRunner().invoke(main, ["inspect", "--home", str(workspace.root), "--language", "it de"])
    assert done.exit_code == 0, done.output
    page = workspace.reports / "inspect-it-de" / "inspect.html"
    assert "complete" in done.output
    assert str(page) in done.output.replace("\n", "")
    text = page.read_text(encoding="utf-8")
    assert "pip install &quot;mser[umap]&quot;" in text
    for command in ("similarity", "probe", "map"):
        options = ["--methods", "pca"] if command == "map" else []
        done = CliRunner().invoke(main, ["inspect", command, "--home", str(workspace.root), *options])
        assert done.exit_code == 0, done.output
        assert (workspace.reports / "inspect-de-it" / f"{command}.html").is_file()


def test_an_inspection_needs_no_audio_no_speech_models_and_no_network(workspace: Workspace, tmp_path: Path) -> None:
    program = f"""
import socket, sys
for name in ("transformers", "torchaudio", "soundfile", "huggingface_hub", "umap", "zarr", "opensmile"):
    sys.modules[name] = None
def refuse(*arguments, **options):
    raise AssertionError("a connection was tried")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from mser.cli import main
main(["inspect", "--home", {str(workspace.root)!r}, "--language", "de"], standalone_mode=False)
main(["inspect", "export", "--upstream", "loud", "--home", {str(workspace.root)!r}, "--out",
      {str(tmp_path / "out.npz")!r}], standalone_mode=False)
late = [name for name in sys.modules if name.startswith(("mser.audio", "mser.upstream", "distributed"))]
assert not late, late
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "inspect.html" in done.stdout + done.stderr


def test_rejected_files_are_those_of_the_list(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, languages=("de",), upstreams=("loud",))
    manifest = Manifest.read(workspace, "toy_de")
    manifest.write(workspace, [Rejected(f"{number}.wav", "too short") for number in range(300)], [])
    with (workspace.manifests / "toy_de.rejected.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 300
    results = survey(workspace, ["de"], Wanted(("rejected", "audit")))
    assert len(results["rejected"]) == 300
    text = Page(make_page(results)).text
    assert "300 files, the first 200" in text
    assert "199.wav" in text
    assert "200.wav" not in text
    assert "similarity" not in results
