"""The classifiers' rows of emotions that no network of the run knows, learned before the rest is tuned.

They begin at zero, and a few steps of the whole network would leave them far behind the rows that are there. Alone they
are a convex problem, solved to its end: logistic regression on each network's embeddings, with the known rows fixed. An
emotion that some networks know is left to these: taught to the others so, it cost points with one clip an emotion.

n clips, E emotions, U of them unknown, H features of the embedding.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mser.averaged import AveragedModel
from mser.heads import Head
from mser.loader import Loader
from mser.transfer import network_of

#: Of the solver; a few dozen variables by H need fewer.
ITERATIONS = 100


def teach_new_rows(
    model: AveragedModel, language: str, loader: Loader, rows: np.ndarray, labels: np.ndarray, unknown: list[int]
) -> None:
    """Sets the classifiers' rows of unknown emotions, in every network of a language.

    Args:
        rows: (n,) clips to learn from. labels: (n,) indices into the language's emotions. unknown: (U,) such indices.
    """
    if not unknown:
        return
    truth, new = (torch.as_tensor(one, device=loader.device) for one in (labels, unknown))
    for name in model.names[language]:
        head = network_of(model.members, name).head
        assert isinstance(head, Head)
        with torch.no_grad():
            output = model.members(name, loader.gather(rows))
        weight, bias = solved(output.embedding, output.logits, truth, new)
        with torch.no_grad():
            head.classifier.weight[new] = weight
            head.classifier.bias[new] = bias


def solved(embedding: Tensor, logits: Tensor, truth: Tensor, unknown: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (U, H) and bias (U,) that minimise the summed cross-entropy and half the squared weight.

    As much is asked of the weight as of logistic regression with C = 1.

    Args:
        embedding: (n, H). logits: (n, E) by the known rows. truth: (n,). unknown: (U,) numbers of the rows.
    """
    size = (len(unknown), embedding.shape[1])
    weight = embedding.new_zeros(size).requires_grad_()
    bias = embedding.new_zeros(len(unknown)).requires_grad_()
    solver = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        filled = logits.index_copy(1, unknown, embedding @ weight.T + bias)
        # The bias is held a little too: without it an emotion that has no clip would drift to minus infinity.
        cost = torch.nn.functional.cross_entropy(filled, truth, reduction="sum")
        cost = cost + 0.5 * weight.square().sum() + 0.05 * bias.square().sum()
        cost.backward()
        return cost

    solver.step(loss)
    return weight.detach(), bias.detach()
