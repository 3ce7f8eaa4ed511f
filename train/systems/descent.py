"""What systems that train by gradient share: the loop, balanced cross-entropy, frames of a part as batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mser.errors import RunError
from mser.losses import balanced_weights
from train.systems.task import Part, Task


@dataclass(frozen=True)
class Steps:
    """How long and how fast a training descends.

    Attributes:
        epochs: over the utterances; more where that makes fewer than ``least_steps`` steps.
        rate, decay: of Adam; AdamW where ``decay`` is not 0.
        clip: largest norm of a gradient; 0: none.
    """

    epochs: int = 30
    batch_size: int = 32
    rate: float = 1e-3
    decay: float = 0.0
    least_steps: int = 0
    clip: float = 0.0

    def epochs_for(self, count: int) -> int:
        """Epochs over ``count`` utterances."""
        return max(self.epochs, math.ceil(self.least_steps / max(1, math.ceil(count / self.batch_size))))


def descend(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[np.ndarray, float], Tensor],
    count: int,
    steps: Steps,
    seed: int,
    after_epoch: Callable[[int], None] | None = None,
) -> list[float]:
    """Trains; each epoch sees every one of ``count`` utterances once, in an order that the seed decides.

    Args:
        loss: () of a batch: positions (B,) int64 below ``count``, and the share of the training that is done, 0 to 1.
        after_epoch: called with the number of each epoch that is done.

    Returns:
        The mean loss of each epoch.

    Raises:
        RunError: a loss is not finite.
    """
    held = list(parameters)
    kind = torch.optim.AdamW if steps.decay else torch.optim.Adam
    optimizer = kind(held, lr=steps.rate, weight_decay=steps.decay, fused=True)
    rng = np.random.default_rng([seed, count])
    epochs, curve = steps.epochs_for(count), []
    batches = max(1, math.ceil(count / steps.batch_size))
    for epoch in range(epochs):
        total = 0.0
        for number, positions in enumerate(np.array_split(rng.permutation(count), batches)):
            optimizer.zero_grad(set_to_none=True)
            value = loss(positions, (epoch * batches + number) / (epochs * batches))
            value.backward()
            if steps.clip:
                nn.utils.clip_grad_norm_(held, steps.clip)
            optimizer.step()
            total += float(value.detach())
        curve.append(total / batches)
        if not math.isfinite(total):
            raise RunError(
                "The loss is not finite.",
                field="loss",
                expected="a number",
                found=f"{total} in epoch {epoch + 1} of {epochs}, seed {seed}",
                hint="give the system a smaller rate",
            )
        if after_epoch:
            after_epoch(epoch)
    return curve


def class_weights(labels: np.ndarray, emotions: int) -> Tensor:
    """(E,) float32, so that each emotion that occurs weighs the same (mean 1 over the utterances).

    All systems weigh so, whatever their papers did: they are compared by UAR.
    """
    return balanced_weights(torch.from_numpy(labels), emotions)


def parameters_of(*models: nn.Module) -> int:
    """Trained parameters."""
    return sum(value.numel() for model in models for value in model.parameters() if value.requires_grad)


def probabilities(model: Callable[[Tensor], Tensor], inputs: Tensor, block: int = 256) -> np.ndarray:
    """(n, E) float64 softmax of a model's logits on inputs (n, ...)."""
    with torch.inference_mode():
        said = [model(part).double().softmax(1).cpu() for part in inputs.split(block)]
    return torch.cat(said).numpy()


class Sequences:
    """Frames of a part's utterances for training: standardised, gathered and padded by position.

    Args:
        part: n utterances. upstream, rate, layers: as of :meth:`train.systems.task.Language.frames`.
        standard: shift and scale, each (L, D) of the layers that are kept; by the part's own frames if not given.
    """

    def __init__(
        self,
        part: Part,
        upstream: str,
        rate: float,
        layers: tuple[int, ...] | None = None,
        standard: tuple[Tensor, Tensor] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        expert = part.language.frames(upstream, rate, layers)
        self.standard = standard or expert.standard(part.rows)
        shift, scale = self.standard
        self.device = torch.device(device)
        #: (T_i, L, D) of each utterance.
        self.frames: list[Tensor] = [
            ((expert[int(row)] - shift[:, None]) * scale[:, None]).transpose(0, 1).to(self.device) for row in part.rows
        ]
        self.lengths = torch.tensor([len(own) for own in self.frames], device=self.device)

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, positions: np.ndarray | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Frames (B, T, L, D), zero behind each utterance's end, and lengths (B,)."""
        chosen = [self.frames[int(position)] for position in positions]
        return pad_sequence(chosen, batch_first=True), self.lengths[torch.as_tensor(np.asarray(positions))]

    def batches(self, size: int = 128) -> Iterable[tuple[Tensor, Tensor]]:
        """All utterances in their order."""
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))))


def mask_of(lengths: Tensor, frames: int) -> Tensor:
    """(B, T) bool, true within each utterance."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def masked_mean(values: Tensor, lengths: Tensor) -> Tensor:
    """Mean over the frames of each utterance: values (B, T, D), lengths (B,) -> (B, D)."""
    mask = mask_of(lengths, values.shape[1]).to(values.dtype)
    return (values * mask[..., None]).sum(1) / lengths[:, None].clamp(min=1)


def labels_of(part: Part, task: Task) -> Tensor:
    """(n,) int64 on the task's device."""
    return torch.from_numpy(part.labels).to(task.device)
