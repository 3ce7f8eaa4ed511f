"""A language's part of a model in a form that torch's ONNX exporter takes."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mser.averaged import AveragedModel, mean_of
from mser.errors import RunError
from mser.loader import Batch
from mser.model import MultiGateModel
from mser.nas.operations import BidirectionalGRU
from mser.predict.head import TrainedHead


class ExportedGRU(nn.Module):
    """:class:`mser.nas.operations.BidirectionalGRU` as ONNX's own GRU, which takes lengths.

    The exporter cannot take packed frames, and would unroll the unit for one number of frames. Out of an export this
    module returns zeros: torch only gives ONNX's operators a shape.

    Torch's n = tanh(W x + b + r (U h + c)) is ``linear_before_reset`` in ONNX, whose weights are stacked as update,
    reset and new gate where torch has reset, update and new.
    """

    weight: Tensor
    recurrence: Tensor
    bias: Tensor

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.size = gru.hidden_size
        ends = ("", "_reverse")
        values = {name: value.detach() for name, value in gru.named_parameters()}
        biases = [[_updated_first(values[f"bias_{one}_l0{end}"]) for one in ("ih", "hh")] for end in ends]
        # Each with the two directions in front: (2, 3 H, inputs), (2, 3 H, H), (2, 6 H).
        self.register_buffer("weight", torch.stack([_updated_first(values[f"weight_ih_l0{end}"]) for end in ends]))
        self.register_buffer("recurrence", torch.stack([_updated_first(values[f"weight_hh_l0{end}"]) for end in ends]))
        self.register_buffer("bias", torch.stack([torch.cat(pair) for pair in biases]))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, inputs), lengths (B,) -> (B, T, 2 H)."""
        by_frame = torch.onnx.ops.symbolic(
            "GRU",
            (x.transpose(0, 1), self.weight, self.recurrence, self.bias, lengths.int()),
            {"hidden_size": self.size, "direction": "bidirectional", "linear_before_reset": 1},
            dtype=x.dtype,
            shape=(x.shape[1], 2, x.shape[0], self.size),
        )
        return by_frame.permute(2, 0, 1, 3).flatten(2)


def _updated_first(stacked: Tensor) -> Tensor:
    """Reset, update, new, as torch stacks them -> update, reset, new."""
    reset, update, new = stacked.chunk(3)
    return torch.cat([update, reset, new])


def networks_of(head: TrainedHead) -> tuple[MultiGateModel, list[str]]:
    """The model with the networks of a head's language, and what they are called there: one, or those of a mean.

    Raises:
        RunError: it is the authors' network, which has no genotype.
    """
    model, language = head.model, head.language
    if isinstance(model, AveragedModel):
        return model.members, model.names[language]
    if isinstance(model, MultiGateModel):
        return model, [language]
    raise RunError(
        "The authors' network cannot be exported.",
        file=head.path,
        field="kind",
        expected=f"{MultiGateModel.kind} or {AveragedModel.kind}: networks with a genotype",
        found=model.kind,
        hint="give a run's model for use, or train one with METHODS=fixed",
    )


class HeadNetwork(nn.Module):
    """What is exported: a language's network, or the mean of several, and the calibration's temperature.

    Attributes:
        names: of the upstreams whose states it takes, in order: those that its structures do not leave out.
    """

    def __init__(self, head: TrainedHead) -> None:
        super().__init__()
        model, names = networks_of(head)
        networks: list[Any] = [copy.deepcopy(model.network(name)) for name in names]
        used = list(dict.fromkeys(place for network in networks for place in network.places))
        for network in networks:
            for branch in network.branches:
                if isinstance(branch.operation, BidirectionalGRU):
                    branch.operation = ExportedGRU(branch.operation.gru)
            # The inputs are those that are used, in this order.
            network.places = tuple(used.index(place) for place in network.places)
        own = list(head.keys)
        self.names = tuple(own[place] for place in used)
        self.networks, self.projections, self.shared = nn.ModuleList(networks), model.projections, model.shared
        self.temperature = head.temperature

    def forward(self, states: tuple[Tensor, ...], lengths: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """States of each of ``names`` (B, T, L, D), frames of each (B,) -> probabilities, gate and embedding.

        Returns:
            Probabilities (B, E), gate (B, K) over all experts of the model, embedding (B, H); of a mean the
            embeddings of its networks side by side.
        """
        rows = lengths[0]
        batch = Batch(states, lengths, rows, rows)
        outputs = [network(batch, self.projections, self.shared) for network in self.networks]
        output = outputs[0] if len(outputs) == 1 else mean_of(outputs)
        return (output.logits / self.temperature).softmax(1), output.gate, output.embedding


def parts_of(head: TrainedHead) -> str:
    """The structure of a language's network, or of those of a mean, in words, for messages."""
    model, names = networks_of(head)
    each = " | ".join(str(model.domains[name].genotype) for name in names)
    several = f"mean of {len(names)} networks: " if len(names) > 1 else ""
    return f"{several}{each}{'; shared head' if model.settings.shared_head else ''}"
