"""One ONNX model of a trained head: made by torch's exporter, proved against torch, and only then written."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mser import __version__
from mser.checkpoint import read_facts
from mser.config import written_whole
from mser.errors import ConfigError, RunError
from mser.experts import averaging
from mser.export.network import HeadNetwork, parts_of
from mser.loader import Batch
from mser.predict.head import TrainedHead

#: What torch's exporter writes by itself, without converting: onnxruntime takes it since 1.14.
OPSET = 18
#: Largest difference from torch that is taken for rounding; outputs are of size 1, embeddings are scaled to it.
TOLERANCE = 1e-4
OUTPUTS = ("probabilities", "gate", "embedding")
#: Of inputs or outputs; axes that vary have names.
Shapes = dict[str, list[str | int]]


@dataclass(frozen=True)
class Exported:
    """What an export gave.

    Attributes:
        differences: output -> largest difference from torch: absolute, of the embedding over its largest value where
            that is above 1.
        utterances: that were compared. size: bytes.
        inputs, outputs: name -> shape; axes that vary have names.
    """

    path: Path
    differences: dict[str, float]
    utterances: int
    inputs: Shapes
    outputs: Shapes
    size: int


def require_onnx() -> None:
    """Raises ConfigError where the libraries of the extra are missing."""
    lacking = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if lacking:
        raise ConfigError(
            "ONNX needs libraries that are not installed.",
            field=", ".join(lacking),
            hint='run `pip install "mser[onnx]"`',
        )


def export_head(head: TrainedHead, path: Path, batches: Iterable[Batch], tolerance: float = TOLERANCE) -> Exported:
    """Writes the head of a language as ONNX, unless it says something else than torch does.

    Inputs are ``states_<upstream>`` (B, T, L, D) float32 and ``lengths_<upstream>`` (B,) int64, as :class:`Batch` has
    them, for each upstream that the structure uses; outputs are ``probabilities`` (B, E) with the temperature applied,
    ``gate`` (B, K) and ``embedding`` (B, H).

    Args:
        batches: on the CPU, to compare on; at least one.

    Raises:
        ConfigError: the libraries are missing.
        RunError: the model cannot be exported, or differs by more than ``tolerance``. Nothing is written then.
    """
    require_onnx()
    facts = read_facts(head.path)
    head.model.to("cpu").eval()
    network = HeadNetwork(head).eval()
    content, inputs, outputs = _onnx_bytes(network, head, metadata(head, network, facts))
    differences, utterances = compare(content, head, network.names, batches)
    wrong = {name: value for name, value in differences.items() if not value <= tolerance}
    if wrong or not utterances:
        raise RunError(
            "The ONNX model differs from torch; it is not written.",
            file=path,
            field=", ".join(wrong) or "utterances",
            expected=f"at most {tolerance:g} on {utterances or 'some'} utterances",
            found=", ".join(f"{value:.3g}" for value in wrong.values()),
            hint=f"the head is {parts_of(head)}; please report it",
        )
    with written_whole(path) as partial:
        partial.write_bytes(content)
    return Exported(path, differences, utterances, inputs, outputs, len(content))


def metadata(head: TrainedHead, network: HeadNetwork, facts: dict[str, Any]) -> dict[str, str]:
    """What the file says of itself; values that are no plain text are JSON."""
    shapes = {shape.name: shape for shape in head.model.experts}
    upstreams = []
    for name in network.names:
        made = head.stores[head.keys[name]]
        frames = averaging(made.frame_rate, head.frame_rate) if head.features == "frames" else None
        known = {key: made.upstream.get(key) for key in ("frame_rate", "sample_rate", "revision", "weights_sha256")}
        upstreams.append(
            {
                "name": name,
                "layers": shapes[name].layers,
                "dim": shapes[name].dim,
                "layer_numbers": made.layer_numbers,
                "frames_averaged": frames,
                "random_weights": bool(made.upstream.get("random_weights")),
                **known,
            }
        )
    return {
        "mser_version": __version__,
        "language": head.language,
        "emotions": json.dumps(head.emotions),
        "experts": json.dumps(list(shapes)),
        "upstreams": json.dumps(upstreams),
        "features": head.features,
        "frame_rate": repr(head.frame_rate),
        "temperature": repr(head.temperature),
        "calibrated": json.dumps(head.calibrated),
        "structure": parts_of(head),
        "method": str(facts.get("method", "")),
        "data": str(facts.get("data", {}).get(head.language, "")),
    }


def _onnx_bytes(network: HeadNetwork, head: TrainedHead, said: dict[str, str]) -> tuple[bytes, Shapes, Shapes]:
    """The model as ONNX, and the shapes of its inputs and outputs."""
    import onnx

    states, lengths = example(head, network.names)
    batch = torch.export.Dim("batch")
    axes: list[dict[int, Any]] = [{0: batch} for _ in network.names]
    if head.features == "frames":
        axes = [{0: batch, 1: torch.export.Dim(f"frames_{number}")} for number in range(len(network.names))]
    names = [f"{kind}_{name}" for kind in ("states", "lengths") for name in network.names]
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network,
                (states, lengths),
                input_names=names,
                output_names=list(OUTPUTS),
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=(tuple(axes), tuple({0: batch} for _ in network.names)),
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, NotImplementedError) as error:
        raise RunError(
            "Torch cannot export this head.",
            file=head.path,
            field="structure",
            found=f"{parts_of(head)}: {_reason(error)}",
            hint="train another structure, such as METHODS=fixed",
        ) from error
    if program is None:
        raise TypeError("the exporter returned no program")
    program.model.metadata_props.clear()
    program.model.metadata_props.update(said)
    proto = program.model_proto
    # The exporter notes where in which file of this machine each node comes from.
    for part in (proto.graph.node, proto.graph.value_info, proto.graph.initializer, [proto.graph]):
        for one in part:
            del one.metadata_props[:]
    onnx.checker.check_model(proto)
    inputs, outputs = _shapes(proto.graph.input), _shapes(proto.graph.output)
    _require_free_axes(head, names, axes, inputs)
    return proto.SerializeToString(), inputs, outputs


def _reason(error: BaseException) -> str:
    """The first line of what made the exporter fail, without colours."""
    said = str(error.__cause__ or error).strip().splitlines()
    return re.sub(r"\x1b\[[0-9;]*m", "", said[0]) if said else type(error).__name__


def _shapes(values: Iterable[Any]) -> Shapes:
    return {one.name: [axis.dim_param or axis.dim_value for axis in one.type.tensor_type.shape.dim] for one in values}


def _require_free_axes(head: TrainedHead, names: list[str], axes: list[dict[int, Any]], inputs: Shapes) -> None:
    """Raises RunError where an axis that should vary has one length, or where an input was lost."""
    wanted = dict(zip(names, [*axes, *({0: None} for _ in axes)], strict=True))
    fixed = [
        f"axis {axis} of {name}"
        for name, free in wanted.items()
        for axis in free
        if name not in inputs or isinstance(inputs[name][axis], int)
    ]
    if fixed or set(inputs) != set(names):
        raise RunError(
            "Torch exported this head for one shape only.",
            file=head.path,
            field="; ".join(fixed) or "inputs",
            found=f"{parts_of(head)}; inputs {inputs}",
            hint="train another structure, such as METHODS=fixed",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of its own workings, such as that there is no torchvision."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def example(head: TrainedHead, names: tuple[str, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """States and lengths of three utterances; all sizes that vary are different and above 1, which torch would fix."""
    shapes = {shape.name: shape for shape in head.model.experts}
    frames = [5 + number if head.features == "frames" else 1 for number in range(len(names))]
    states = tuple(
        torch.zeros(3, most, shapes[name].layers, shapes[name].dim) for name, most in zip(names, frames, strict=True)
    )
    return states, tuple(torch.tensor([most, 1, (most + 1) // 2]) for most in frames)


def compare(
    content: bytes, head: TrainedHead, names: tuple[str, ...], batches: Iterable[Batch]
) -> tuple[dict[str, float], int]:
    """Largest difference between onnxruntime and torch for each output, and the number of utterances.

    Differences are absolute, of the embedding over its largest value where that is above 1. NaN counts as infinite.
    """
    own = list(head.keys)
    session = session_of(content)
    largest, scale, utterances = dict.fromkeys(OUTPUTS, 0.0), 1.0, 0
    for batch in batches:
        said = dict(zip(OUTPUTS, session.run(list(OUTPUTS), feed(batch, own, names)), strict=True))
        with torch.inference_mode():
            output = head.model(head.language, batch)
        expected = {
            "probabilities": (output.logits / head.temperature).softmax(1),
            "gate": output.gate,
            "embedding": output.embedding,
        }
        for name, values in expected.items():
            if said[name].shape != tuple(values.shape):
                raise ValueError(f"{name} is {said[name].shape}, expected {tuple(values.shape)}")
            difference = float(np.abs(said[name] - values.numpy()).max())
            largest[name] = max(largest[name], difference if np.isfinite(difference) else float("inf"))
        scale = max(scale, float(output.embedding.abs().max()))
        utterances += len(output.logits)
    largest["embedding"] /= scale
    return largest, utterances


def session_of(content: bytes, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def feed(batch: Batch, own: list[str], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """A batch as the ONNX model takes it.

    Args:
        own: upstreams of the batch, in its order. names: those of the model's inputs.
    """
    places = {name: own.index(name) for name in names}
    states = {f"states_{name}": batch.states[place].numpy() for name, place in places.items()}
    return states | {f"lengths_{name}": batch.lengths[place].numpy() for name, place in places.items()}
