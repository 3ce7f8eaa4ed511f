"""The temporal operations an expert can be given: (B, T, H), lengths (B,) -> (B, T, H).

B utterances of at most T frames, H hidden features. All but the recurrent one run under ``torch.func.vmap`` with
stacked parameters, so that many networks are one program.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mser.heads import frame_mask, silenced


class Operation(nn.Module):
    """A temporal operation; what it returns behind an utterance's end is not defined.

    Attributes:
        batchable: whether it runs under ``torch.func.vmap``.
    """

    batchable: ClassVar[bool] = True

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        raise NotImplementedError


class Zero(Operation):
    """Leaves the expert out."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Skip(Operation):
    """Hands the frames on unchanged."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return x


class Linear(Operation):
    """A linear map and ReLU of each frame."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return functional.relu(self.linear(x))


class Convolution(Operation):
    """A convolution over time and ReLU; frames behind the end count as zero, as before the start."""

    def __init__(self, dim: int, kernel: int, dilation: int = 1) -> None:
        super().__init__(dim)
        self.convolution = nn.Conv1d(dim, dim, kernel, padding=dilation * (kernel // 2), dilation=dilation)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = silenced(x, lengths)
        return functional.relu(self.convolution(x.transpose(1, 2)).transpose(1, 2))


class BidirectionalGRU(Operation):
    """A gated recurrent unit in each direction, half the features each.

    Torch's fused unit on packed frames is many times as fast as a loop over frames. It takes one network's parameters
    at a time, and lengths on the host.
    """

    batchable = False

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.gru = nn.GRU(dim, dim // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.shape[1])
        return output


class SelfAttention(Operation):
    """Multi-head self-attention over the utterance's frames, added to them (Vaswani et al. 2017, section 3.2.2).

    Written out: torch's fused kernel has no rule for ``vmap`` on a CPU and would run network by network.
    """

    HEADS = 4

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.project = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = silenced(x, lengths)
        query, key, value = (self._by_head(part) for part in self.project(x).chunk(3, dim=2))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        behind = frame_mask(lengths, x.shape[1])[:, None].transpose(2, 3) == 0
        attended = scores.masked_fill(behind, float("-inf")).softmax(3) @ value
        return x + self.out(attended.transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, heads, T, H / heads)."""
        return x.unflatten(2, (self.HEADS, -1)).transpose(1, 2)


OPERATIONS = ("zero", "skip", "linear", "conv3", "conv5", "dilated3", "bigru", "attention")
#: Operations without parameters: a search that ends in these alone has collapsed.
PARAMETER_FREE = ("zero", "skip")


def make_operation(name: str, dim: int) -> Operation:
    """An operation by the name that genotypes use, on H = ``dim`` features."""
    if name in ("conv3", "conv5"):
        return Convolution(dim, int(name[-1]))
    if name == "dilated3":
        return Convolution(dim, 3, dilation=2)
    kinds: dict[str, type[Operation]] = {
        "zero": Zero,
        "skip": Skip,
        "linear": Linear,
        "bigru": BidirectionalGRU,
        "attention": SelfAttention,
    }
    return kinds[name](dim)
