"""The genotype: the structure of one language's network, and the only hand-over from search to training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mser.errors import GenotypeError
from mser.heads import ACTIVATIONS, POOLINGS
from mser.nas.operations import OPERATIONS

SCHEMA_VERSION = 1
GATES = ("constant", "conditioned")
#: (depth, width) of the heads that can be chosen.
HEADS = ((0, 0), (1, 128), (2, 128))


@dataclass(frozen=True)
class SearchSpace:
    """What a search may choose from; gates and heads are always all of ``GATES`` and ``HEADS``."""

    operations: tuple[str, ...]
    poolings: tuple[str, ...]


#: On frames every choice is open; pooled statistics are one frame, so what works across frames falls away.
FRAMES_SPACE = SearchSpace(OPERATIONS, tuple(POOLINGS))
POOLED_SPACE = SearchSpace(("zero", "skip", "linear"), ("mean",))


@dataclass(frozen=True)
class Genotype:
    """The structure of one language's network; equal by value.

    Attributes:
        operations: temporal operation of each expert, by upstream name.
        pooling: over time, of every expert.
        gate: over the experts.
        depth, width, activation: of the head; width 0 with depth 0.
    """

    operations: Mapping[str, str]
    pooling: str
    gate: str
    depth: int
    width: int
    activation: str = "relu"

    def __post_init__(self) -> None:
        choices: list[tuple[str, tuple[str, ...], str]] = [
            ("operations", OPERATIONS, name) for name in self.operations.values()
        ]
        choices += [("pooling", tuple(POOLINGS), self.pooling), ("gate", GATES, self.gate)]
        choices += [("activation", tuple(ACTIVATIONS), self.activation)]
        for field, known, found in choices:
            if found not in known:
                raise GenotypeError(
                    "The genotype is of another search space.", field=field, expected=known, found=found
                )
        if not self.operations:
            raise GenotypeError("The genotype has no expert.", field="operations", expected="one or more")
        if all(name == "zero" for name in self.operations.values()):
            raise GenotypeError(
                "The genotype leaves every expert out.", field="operations", found=dict(self.operations)
            )
        if self.depth < 0 or (self.depth > 0 and self.width < 1):
            raise GenotypeError(
                "The genotype's head has no size.", field="depth, width", found=(self.depth, self.width)
            )

    @property
    def experts(self) -> tuple[str, ...]:
        return tuple(self.operations)

    def to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "operations": dict(self.operations)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Genotype:
        """Reads what :meth:`to_dict` wrote.

        Raises:
            GenotypeError: another schema version, missing or unknown fields, or values of another search space.
        """
        fields = {"operations", "pooling", "gate", "depth", "width", "activation"}
        if content.get("schema_version") != SCHEMA_VERSION or set(content) != {"schema_version", *fields}:
            raise GenotypeError(
                "The genotype is of another schema.",
                field="schema_version",
                expected=f"{SCHEMA_VERSION} with {sorted(fields)}",
                found=dict(content),
                hint="run `make search` again",
            )
        return cls(**{name: content[name] for name in fields})

    def __hash__(self) -> int:
        return hash((tuple(sorted(self.operations.items())), self.pooling, self.gate, self.depth, self.width))

    def __str__(self) -> str:
        operations = ", ".join(f"{expert}: {name}" for expert, name in self.operations.items())
        head = "linear" if self.depth == 0 else f"{self.depth} x {self.width} {self.activation}"
        return f"{operations}; pooling {self.pooling}; gate {self.gate}; head {head}"


def fixed_genotype(experts: tuple[str, ...], space: SearchSpace) -> Genotype:
    """The fixed head, a control of every search: no temporal operation, mean and deviation, one hidden layer."""
    pooling = "mean_std" if "mean_std" in space.poolings else "mean"
    return Genotype(dict.fromkeys(experts, "skip"), pooling, "constant", 1, 128)


def random_genotype(experts: tuple[str, ...], space: SearchSpace, rng: np.random.Generator) -> Genotype:
    """A genotype drawn uniformly from the search space (draws that leave every expert out are repeated)."""
    while True:
        operations = {expert: str(rng.choice(space.operations)) for expert in experts}
        if any(name != "zero" for name in operations.values()):
            break
    depth, width = HEADS[rng.integers(len(HEADS))]
    return Genotype(operations, str(rng.choice(space.poolings)), str(rng.choice(GATES)), depth, width)
