"""What makes a padded batch exact: every operation that looks across frames is kept to each utterance's own.

Three kinds of them meet the padding. Attention has the model's own mask. The group norm of the first convolution takes
its moments over time, and the convolutions inside the encoder (positional ones above all) reach beyond the last frame:
alone they would find zeros there. The convolutions before the encoder pad nothing, so a frame of an utterance is
made of its own samples.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers.masking_utils import create_bidirectional_mask

#: Kernel and stride of each convolution before the encoder.
Convolutions = Sequence[tuple[int, int]]


class Padding(threading.local):
    """The padded batch that a thread runs.

    Attributes:
        samples: length of each of its waveforms; None while nothing is padded.
        convolutions_alone: the convolutions before the encoder run one utterance at a time.
    """

    samples: Sequence[int] | None = None
    convolutions_alone: bool = False

    @contextmanager
    def of(self, samples: Sequence[int], convolutions_alone: bool) -> Iterator[None]:
        """Within it, the thread runs a padded batch of waveforms of these lengths."""
        self.samples, self.convolutions_alone = samples, convolutions_alone
        try:
            yield
        finally:
            self.samples, self.convolutions_alone = None, False


def frames_after(num_samples: int, convolutions: Convolutions) -> int:
    """Frames that convolutions without padding leave of ``num_samples`` samples."""
    for kernel, stride in convolutions:
        num_samples = max(0, (num_samples - kernel) // stride + 1)
    return num_samples


def own_frames(lengths: Sequence[int], longest: int, device: torch.device) -> Tensor:
    """Mask (B, longest), true where a frame is the utterance's own."""
    # Without waiting: a device that is still busy with the layers before would be drained at every mask.
    own = torch.tensor(lengths).to(device, non_blocking=True)
    return torch.arange(longest, device=device) < own[:, None]


def keep_own_frames(model: Any, convolutions: Convolutions, padding: Padding) -> None:
    """Keeps the model's operations to own frames while ``padding`` says that a batch is padded; else as they were."""
    extractor = model.feature_extractor
    extractor.forward = partial(_extract, extractor.forward, padding)
    for number, layer in enumerate(extractor.conv_layers, start=1):
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            norm.forward = partial(_group_norm, norm, convolutions[:number], padding)  # type: ignore[method-assign]
    for module in model.encoder.modules():
        if isinstance(module, nn.Conv1d):
            module.register_forward_pre_hook(partial(_zero_padding, convolutions, padding))


def attend_to_whole_frames(model: Any, convolutions: Convolutions, squeeze: int, padding: Padding) -> None:
    """Masks the blocks of SEW: ``squeeze`` frames make one of theirs, and what is left over makes none.

    The model's own mask takes in a frame that is half padding.
    """

    def attend(block: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if padding.samples is not None:
            states = arguments[0]
            lengths = [frames_after(number, convolutions) // squeeze for number in padding.samples]
            own = own_frames(lengths, states.shape[1], states.device)
            mask = create_bidirectional_mask(config=model.config, inputs_embeds=states, attention_mask=own)
            named = {**named, "attention_mask": mask}
        return arguments, named

    for block in model.encoder.layers:
        block.register_forward_pre_hook(attend, with_kwargs=True)


def _extract(plain: Any, padding: Padding, waveforms: Tensor) -> Tensor:
    """Features (B, C, T) of waveforms (B, num_samples)."""
    if padding.samples is None or not padding.convolutions_alone:
        return plain(waveforms)
    alone = [plain(waveform[None, :own])[0].T for waveform, own in zip(waveforms, padding.samples, strict=True)]
    return pad_sequence(alone, batch_first=True).transpose(1, 2)


def _group_norm(norm: nn.GroupNorm, convolutions: Convolutions, padding: Padding, features: Tensor) -> Tensor:
    """Features (B, C, T), normalised over each utterance's own frames; 0 behind them."""
    if padding.samples is None or padding.convolutions_alone:
        return nn.GroupNorm.forward(norm, features)
    found = torch.zeros_like(features)
    for index, number in enumerate(padding.samples):
        frames = frames_after(number, convolutions)
        found[index, :, :frames] = nn.GroupNorm.forward(norm, features[index : index + 1, :, :frames])[0]
    return found


def _zero_padding(convolutions: Convolutions, padding: Padding, module: nn.Module, arguments: tuple[Any, ...]) -> Any:
    """Sets the input (B, C, T) of a convolution to 0 behind own frames."""
    if padding.samples is None:
        return None
    features = arguments[0]
    lengths = [frames_after(number, convolutions) for number in padding.samples]
    own = own_frames(lengths, features.shape[2], features.device)
    return (features.masked_fill(~own[:, None], 0), *arguments[1:])
