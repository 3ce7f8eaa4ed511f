"""How exact each way of batching is, family by family: one table.

    python -m bench.families                                        real widths, random weights
    python -m bench.families --upstream FOLDER --corpora FOLDER     a real model on real clips
    python -m bench.families --device cuda                          and half precision, and speed

Differences are of the worst layer and utterance, of the layer's largest value, against the utterance alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch
import transformers
from torch import Tensor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mser.audio import SUFFIXES, to_waveform
from mser.errors import UpstreamError
from mser.upstream import POLICIES, Upstream, choose, compare_compute, load_upstream, measure
from mser.upstream.batching import EXACT
from mser.upstream.loading import SAMPLE_RATE
from mser.upstream.registry import Source
from mser.upstream.wav2vec2 import Wav2Vec2Upstream
from mser.upstream.wav2vec2_bert import Wav2Vec2BertUpstream
from mser.upstream.whisper import WhisperUpstream

SECONDS = (3.1, 1.0, 4.0, 1.7, 2.33)  # of the clips where there are no real ones
WIDE = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096, "num_hidden_layers": 4}
LARGE = {**WIDE, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WIDER = {**LARGE, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 2}
#: (model as published, blocks of it here, class in transformers, settings)
CONFIGURATIONS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("wav2vec2-base", "12 of 12", "Wav2Vec2", {}),
    ("XLS-R 300m", "4 of 24", "Wav2Vec2", LARGE),
    ("MMS 1b with adapters", "2 of 48", "Wav2Vec2", {**WIDER, "adapter_attn_dim": 16}),
    ("hubert-base", "12 of 12", "Hubert", {}),
    ("hubert-large", "4 of 24", "Hubert", LARGE),
    ("distilhubert", "2 of 2", "Hubert", {"num_hidden_layers": 2, "feat_proj_layer_norm": False}),
    ("mHuBERT-147 (batch norm)", "12 of 12", "Hubert", {"conv_pos_batch_norm": True}),
    ("wavlm-base", "12 of 12", "WavLM", {}),
    ("wavlm-large", "4 of 24", "WavLM", LARGE),
    ("data2vec-audio-base", "12 of 12", "Data2VecAudio", {}),
    ("data2vec-audio-large", "4 of 24", "Data2VecAudio", WIDE),
    ("unispeech-large", "4 of 24", "UniSpeech", LARGE),
    ("unispeech-sat-base", "12 of 12", "UniSpeechSat", {}),
    ("unispeech-sat-large", "4 of 24", "UniSpeechSat", LARGE),
    ("sew-small", "12 of 12", "SEW", {"num_conv_pos_embeddings": 31}),
    ("w2v-bert-2.0", "4 of 24", "Wav2Vec2Bert", {"num_hidden_layers": 4}),
    (
        "whisper-base",
        "6 of 6",
        "Whisper",
        {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048},
    ),
]


def random_upstream(name: str, kind: str, settings: dict[str, Any], device: torch.device, compute: str) -> Upstream:
    """A model of real widths whose weights were never trained; the same at every call."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**settings)
    source = Source(f"{name} (random weights)", name, "seed 0", True)
    if kind == "Whisper":
        model: Any = WhisperEncoder(config).eval().requires_grad_(False)
        return WhisperUpstream(model, source, device, compute, transformers.WhisperFeatureExtractor())
    model = getattr(transformers, f"{kind}Model")(config).eval().requires_grad_(False)
    if kind == "Wav2Vec2Bert":
        return Wav2Vec2BertUpstream(model, source, device, compute, transformers.SeamlessM4TFeatureExtractor())
    return Wav2Vec2Upstream(model, source, device, compute, transformers.Wav2Vec2FeatureExtractor(do_normalize=True))


def synthetic_clips(seconds: Sequence[float]) -> list[Tensor]:
    """A buzz of changing pitch in noise, in syllables: something that differs along time, as speech does."""
    clips = []
    for seed, length in enumerate(seconds):
        generator = torch.Generator().manual_seed(seed)
        t = torch.arange(round(length * SAMPLE_RATE)) / SAMPLE_RATE
        phase = torch.cumsum(2 * torch.pi * (130 + 40 * torch.sin(3 * t + seed)) / SAMPLE_RATE, dim=0)
        voice = torch.stack([torch.sin(k * phase) / k for k in range(1, 25)]).sum(0)
        clips.append(0.1 * voice * torch.sin(9 * t) ** 2 + 0.005 * torch.randn(len(t), generator=generator))
    return clips


def real_clips(folder: Path, count: int) -> list[Tensor]:
    """Clips spread evenly over the sorted recordings of a folder, of up to 12 s."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    clips = []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        clips.append(to_waveform(samples, rate, SAMPLE_RATE)[: 12 * SAMPLE_RATE])
    return clips


def row(name: str, blocks: str, load: Callable[[str], Upstream], clips: Sequence[Tensor]) -> list[str]:
    """A line of the table; ``load`` gives the upstream computing in float32 or another kind of number."""
    upstream = load("float32")
    found = {one.policy: one for one in measure(upstream, clips)}
    chosen = choose(list(found.values()), upstream.device)
    cells = [name, blocks, f"{upstream.info.layers} x {upstream.info.dim}", upstream.info.attention]
    for policy in POLICIES[:-1]:
        one = found.get(policy)
        cells.append(f"{one.difference:.0e} {one.seconds / one.seconds_alone:.2f}" if one else "-")
    exact = [policy for policy, one in found.items() if one.difference <= EXACT]
    cells += [", ".join(exact), chosen]
    if upstream.device.type == "cuda":
        upstream.use(chosen)
        cells.append(f"{audio_rate(upstream, clips):.0f}")
        for compute in ("float16", "bfloat16"):
            half = load(compute)
            try:
                differences = compare_compute(half, upstream, clips[:8])
                half.use(choose(measure(half, clips), half.device, max(differences)))
                cells.append(f"{max(differences):.0e} {half.info.policy} {audio_rate(half, clips):.0f}")
            except UpstreamError as error:
                cells.append(f"overflows: {error.field}")
            del half
    return cells


def audio_rate(upstream: Upstream, clips: Sequence[Tensor]) -> float:
    """Seconds of audio a second, inputs prepared before, states left on the device."""
    prepared = [upstream.prepare(clip) for clip in clips]
    batches = upstream.batches([one.num_samples for one in prepared])
    torch.cuda.synchronize()
    start = time.perf_counter()
    for batch in batches:
        upstream.run([prepared[index] for index in batch])
    torch.cuda.synchronize()
    return sum(map(len, clips)) / SAMPLE_RATE / (time.perf_counter() - start)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", help="a pretrained model: registry name, hub id or folder")
    parser.add_argument("--corpora", type=Path, help="folder of recordings")
    parser.add_argument("--clips", type=int, default=6, help="recordings taken from it (6)")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    seconds = SECONDS if device.type == "cpu" else [1 + 11 * (7 * k % 64) / 64 for k in range(64)]
    clips = real_clips(options.corpora, options.clips) if options.corpora else synthetic_clips(seconds)
    header = ["model", "blocks", "layers x dim", "attention"]
    header += [f"{policy}: difference, time" for policy in POLICIES[:-1]]
    header += ["exact (1e-5)", f"chosen on {device.type}"]
    if device.type == "cuda":
        header += ["audio s/s", "float16: difference, policy, audio s/s", "bfloat16"]
    weights = "real weights" if options.upstream else "RANDOM weights (never trained), real widths"
    source = "real clips" if options.corpora else "synthetic clips"
    lengths = ", ".join(f"{len(clip) / SAMPLE_RATE:.2f}" for clip in clips[:12])
    print(f"{weights}; {source} of {lengths} s; torch {torch.__version__}, transformers {transformers.__version__}")
    print("time: of the batch, of the same utterances one by one\n")
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header), flush=True)
    if options.upstream:
        cells = row(options.upstream, "all", lambda kind: load_upstream(options.upstream, device, compute=kind), clips)
        print("| " + " | ".join(cells) + " |")
        return
    for name, blocks, kind, settings in CONFIGURATIONS:

        def load(compute: str, name: str = name, kind: str = kind, settings: dict[str, Any] = settings) -> Upstream:
            return random_upstream(name, kind, settings, device, compute)

        print("| " + " | ".join(row(name, blocks, load, clips)) + " |", flush=True)


if __name__ == "__main__":
    main()
