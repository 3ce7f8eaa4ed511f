"""Extraction into a store against a plain loop over a Hugging Face model, on the same recordings in one run.

    python -m bench.extract --upstream wav2vec2-base-random
    python -m bench.extract --upstream FOLDER --corpora FOLDER --corpus emodb --utterances 40
    python -m bench.extract --upstream FOLDER --memory             peak memory of few, many, and one long recording

The plain loop is what one writes first: soundfile.read, resample, feature extractor, model(output_hidden_states=True)
one utterance at a time with torch's own threads, stacked to float16, one npy file an utterance, no fsync. Whisper's
states are cut to the utterance's own frames there too. Ours is extract.states.extract() into a store: it also hashes
each recording and each state, pools, refuses what is not finite, and syncs.

Each runs in a process of its own, in turn; loading libraries and model, and one utterance to warm up, are not counted.
Ratios are taken round by round: the median, and the middle half in brackets. By core seconds they tell what the work
costs, however busy the machine is, but not whether the cores are kept at it. `difference` is the largest of our
states from the plain loop's, of the utterance's largest value. Peak memory is the process's largest resident set,
with the libraries and the model in it; `loaded` is what it held before the first utterance.

`wav2vec2-base-random` is a model of wav2vec2-base's configuration that was never trained; `wav2vec2-base-random:3`
has 3 blocks instead of 12. On CUDA the share of time in which the GPU computes is taken from a profile of another run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio.functional
import transformers

from bench import recordings
from bench.common import facts, in_turn, ratio, scratch, table
from extract.choose import choose_policy, sample_waveforms
from extract.states import extract
from mser.config import Workspace
from mser.manifest import Manifest
from mser.store import Store
from mser.upstream import load_upstream

RANDOM = "wav2vec2-base-random"
SAMPLE_RATE = 16_000


def random_model(folder: Path, name: str) -> Path:
    """Makes wav2vec2-base with random weights, of 12 blocks or those behind the colon; returns its folder."""
    blocks = int(name.partition(":")[2] or 12)
    made = folder / name.replace(":", "-")
    if not made.is_dir():
        torch.manual_seed(0)
        config = transformers.Wav2Vec2Config(num_hidden_layers=blocks)
        transformers.Wav2Vec2Model(config).save_pretrained(made)
        transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(made)
    return made


def child(job: dict[str, Any]) -> dict[str, Any]:
    """Runs one contestant in this process; seconds, memory, and what it tells of itself."""
    manifest = Manifest.read(Workspace(Path(job["workspace"])), job["corpus"])
    contestant: Callable[[dict[str, Any], Manifest], tuple[Callable[[], None], dict[str, Any]]]
    contestant = plain_loop if job["contestant"] == "plain" else ours
    run, told = contestant(job, manifest)
    device = torch.device(job["device"])
    profile: AbstractContextManager[Any] = nullcontext()
    if job["profile"]:
        profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
    loaded, began, cpu = resident_bytes("VmRSS"), time.perf_counter(), time.process_time()
    with profile as found:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent, cpu = time.perf_counter() - began, time.process_time() - cpu
    if found is not None:
        told["busy"] = busy_seconds(found) / spent
    if device.type == "cuda":
        told["device_peak"] = torch.cuda.max_memory_allocated(device)
    return {**told, "seconds": spent, "cpu": cpu, "loaded": loaded, "peak": resident_bytes("VmHWM")}


def plain_loop(job: dict[str, Any], manifest: Manifest) -> tuple[Callable[[], None], dict[str, Any]]:
    """One utterance at a time, an npy file each."""
    device, out = torch.device(job["device"]), Path(job["out"])
    source = Path(job["corpora"]) / manifest.corpus
    recipe = transformers.AutoFeatureExtractor.from_pretrained(job["upstream"])
    model = transformers.AutoModel.from_pretrained(job["upstream"], dtype=torch.float32).eval()
    whisper = model.config.model_type == "whisper"
    model = (model.get_encoder() if whisper else model).to(device)

    def states(samples: np.ndarray, rate: int) -> np.ndarray:
        waveform = torchaudio.functional.resample(torch.from_numpy(samples.mean(axis=1)), rate, SAMPLE_RATE)
        inputs = recipe(waveform.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt").to(device)
        with torch.inference_mode():
            hidden = model(next(iter(inputs.values())), output_hidden_states=True).hidden_states
        frames = -(-len(waveform) // 320) if whisper else hidden[0].shape[1]
        return torch.stack(hidden)[:, 0, :frames].half().cpu().numpy()

    def run() -> None:
        for row in manifest.utterances:
            samples, rate = soundfile.read(source / row.path, dtype="float32", always_2d=True)
            np.save(out / f"{row.utterance_id.replace('/', '-')}.npy", states(samples, rate))

    states(recordings.buzz(2.0, 0)[:, None], SAMPLE_RATE)
    return run, {"policy": "solo"}


def ours(job: dict[str, Any], manifest: Manifest) -> tuple[Callable[[], None], dict[str, Any]]:
    """Into a store."""
    store, source = Path(job["out"]) / "store", Path(job["corpora"]) / manifest.corpus
    upstream = load_upstream(job["upstream"], torch.device(job["device"]))
    began = time.perf_counter()
    choice = choose_policy(
        upstream, job["upstream"], store, job["batching"], lambda: sample_waveforms(manifest, source, upstream)
    )
    upstream.use(choice.policy)
    told = {"policy": choice.policy, "choosing": time.perf_counter() - began}
    upstream.states([torch.from_numpy(recordings.buzz(2.0, 0))])

    def run() -> None:
        extract(manifest, source, upstream, store)

    return run, told


def resident_bytes(field: str) -> int:
    """Of this process: ``VmRSS`` now, ``VmHWM`` at most."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def busy_seconds(profile: Any) -> float:
    """Seconds in which at least one kernel or copy ran, whatever the stream."""
    spans = sorted(
        (event.start_ns(), event.start_ns() + event.duration_ns())
        for event in profile.profiler.kineto_results.events()
        if event.device_type() == torch.autograd.DeviceType.CUDA
    )
    busy, until = 0, 0
    for start, end in spans:
        busy += max(0, end - max(start, until))
        until = max(until, end)
    return busy / 1e9


def in_process(job: dict[str, Any], contestant: str, profile: bool = False) -> dict[str, Any]:
    """Runs a contestant in a process of its own, into an empty folder."""
    out = Path(job["out"])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    text = json.dumps({**job, "contestant": contestant, "profile": profile})
    command = [sys.executable, "-m", "bench.extract", "--child", text]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    told = json.loads(done.stdout.decode().splitlines()[-1])
    print(f"{Path(job['upstream']).name}, {contestant}: {told['seconds']:.1f} s", file=sys.stderr)
    return told


def difference(job: dict[str, Any], manifest: Manifest, ours_at: Path) -> float:
    """Largest difference of the store's states from the npy files', of each utterance's largest value."""
    store, found = Store(ours_at), 0.0
    for row in manifest.utterances:
        one = np.load(Path(job["out"]) / f"{row.utterance_id.replace('/', '-')}.npy").astype(np.float32)
        other = store.frames(row.utterance_id).astype(np.float32)
        if one.shape != other.shape:
            return float("inf")
        found = max(found, float(np.abs(one - other).max() / np.abs(one).max()))
    return found


def compared(job: dict[str, Any], manifest: Manifest, rounds: int) -> list[list[str]]:
    """Lines of the table for one upstream."""
    told: dict[str, list[dict[str, Any]]] = {"plain": [], "ours": []}
    turns = {name: lambda name=name: told[name].append(in_process(job, name)) for name in told}
    in_turn(turns, rounds)
    kept = Path(job["out"]).with_name("kept")
    in_process(job, "ours")
    Path(job["out"]).rename(kept)
    in_process(job, "plain")
    unlike = difference(job, manifest, kept / "store")
    shutil.rmtree(kept)
    base = [one["seconds"] for one in told["plain"]]
    rows = []
    for name, title in (("plain", "plain loop"), ("ours", "mser extract")):
        times = [one["seconds"] for one in told[name]]
        middle = statistics.median(times)
        rows.append(
            [
                f"{Path(job['upstream']).name}, {title}",
                told[name][0]["policy"],
                f"{middle:.1f}",
                f"{recordings.seconds_of(manifest) / middle:.2f}",
                ratio(base, times)[1],
                ratio([one["cpu"] for one in told["plain"]], [one["cpu"] for one in told[name]])[1],
                f"{max(one['peak'] for one in told[name]) / 2**20:.0f}",
                f"{unlike:.0e}" if name == "ours" else "",
            ]
        )
    if job["device"].startswith("cuda"):
        for row, name in zip(rows, told, strict=True):
            row += [f"{in_process(job, name, profile=True)['busy']:.0%}", f"{told[name][0]['device_peak'] / 2**20:.0f}"]
    return rows


def memory(job: dict[str, Any], manifest: Manifest, what: str, contestant: str = "ours") -> list[str]:
    """A line of the table of peak memory."""
    told = in_process(job, contestant)
    heard, title = recordings.seconds_of(manifest), {"ours": "mser extract", "plain": "plain loop"}[contestant]
    return [
        f"{Path(job['upstream']).name}, {title}, {what}",
        f"{heard / 60:.1f}",
        f"{told['loaded'] / 2**20:.0f}",
        f"{told['peak'] / 2**20:.0f}",
        f"{(told['peak'] - told['loaded']) / 2**20:.0f}",
        f"{told['seconds']:.0f}",
    ]


def speed_table(options: argparse.Namespace, folder: Path) -> str:
    """Ours against the plain loop, for each upstream."""
    if options.corpora:
        manifest = recordings.some_of(recordings.real(options.corpora, options.corpus), options.utterances)
        corpora = options.corpora
    else:
        corpora = folder / "corpora"
        manifest = recordings.synthetic(corpora, recordings.lengths_between(options.utterances, 1.0, 6.0))
    rows = []
    for name in options.upstream:
        rows += compared(job_of(options, folder, name, corpora, manifest), manifest, options.rounds)
    title = (
        f"{len(manifest.utterances)} recordings of {manifest.corpus}, {recordings.seconds_of(manifest):.0f} s of audio"
    )
    header = [
        "upstream",
        "policy",
        "seconds",
        "audio s/s",
        "speed of the plain loop",
        "by core seconds",
        "peak MiB",
        "difference",
    ]
    if options.device.startswith("cuda"):
        header += ["GPU computes", "GPU MiB"]
    return table(title, header, rows)


def memory_table(options: argparse.Namespace, folder: Path) -> str:
    """Peak memory of few and many short recordings and of one long one."""
    rows = []
    for name in options.upstream:
        for count in options.counts:
            corpora = folder / f"{count}"
            manifest = recordings.synthetic(corpora, recordings.lengths_between(count, 0.5, 1.5))
            job = job_of(options, folder, name, corpora, manifest)
            rows.append(memory(job, manifest, f"{count} recordings"))
        corpora = folder / "long"
        if options.corpora:
            few = recordings.some_of(recordings.real(options.corpora, options.corpus), 20)
            source = options.corpora / options.corpus
        else:
            few, source = manifest, folder / str(options.counts[-1]) / manifest.corpus
        manifest = recordings.tiled(corpora, options.minutes, source, few)
        job = job_of(options, folder, name, corpora, manifest)
        rows.append(memory(job, manifest, f"one of {options.minutes:g} minutes"))
    header = ["upstream", "minutes of audio", "loaded MiB", "peak MiB", "peak - loaded", "seconds"]
    return table("Peak memory of an extraction", header, rows)


def job_of(options: argparse.Namespace, folder: Path, name: str, corpora: Path, manifest: Manifest) -> dict[str, Any]:
    """What a child process is told."""
    upstream = random_model(folder, name) if name.partition(":")[0] == RANDOM else name
    workspace = Workspace(folder / "work")
    manifest.write(workspace, (), ())
    return {
        "upstream": str(upstream),
        "corpora": str(corpora),
        "corpus": manifest.corpus,
        "workspace": str(workspace.root),
        "out": str(folder / "out"),
        "device": options.device,
        "batching": options.batching,
    }


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", action="append", help=f"folder of a saved model, or {RANDOM}; repeatable")
    parser.add_argument("--corpora", type=Path, help="folder with a folder for each corpus; else recordings are made")
    parser.add_argument("--corpus", default="emodb", help="of the project's definitions (emodb)")
    parser.add_argument("--utterances", type=int, default=40, help="spread over the corpus (40)")
    parser.add_argument("--rounds", type=int, default=3, help="of both contestants (3)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batching", default="auto", help="auto, or a policy")
    parser.add_argument("--memory", action="store_true", help="instead: peak memory")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 500], help="of short recordings (10 500)")
    parser.add_argument("--minutes", type=float, default=30, help="of the long recording (30)")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(json.loads(options.child))))
        return
    options.upstream = options.upstream or [RANDOM]
    print(facts(options.device))
    if any(name.partition(":")[0] == RANDOM for name in options.upstream):
        print(f"{RANDOM}: RANDOM WEIGHTS, never trained; the size of wav2vec2-base, or the blocks behind the colon")
    with scratch(options.folder) as folder:
        print("\n" + (memory_table if options.memory else speed_table)(options, folder), flush=True)


if __name__ == "__main__":
    main()
