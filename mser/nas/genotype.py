"""The search space, and the genotype: the structure of one language's network, the only hand-over to training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mser.errors import ConfigError, GenotypeError
from mser.gating import GATES
from mser.heads import ACTIVATIONS, POOLINGS
from mser.nas.operations import OPERATIONS

SCHEMA_VERSION = 1
#: What to do about a genotype that cannot be used: a search that is done is not done again.
MADE_AGAIN = "delete the file it was read from, and run `make search` again"
#: The gates that weigh experts: only these can be mixed, and can lose an expert.
SEARCHED_GATES = ("constant", "conditioned")


@dataclass(frozen=True)
class SearchSpace:
    """What a search may choose from.

    Depth, width and activation of the head are choices of their own, not one choice of a list of heads: three short
    lists make 19 heads, which a supernet holds in one network of the largest size (:mod:`mser.nas.mixed`).

    Attributes:
        operations: for each expert on its own; ``zero`` leaves an expert out. poolings: of every expert.
        gates: over the experts. depths: hidden layers of the head. widths, activations: of the hidden layers.

    Raises:
        ConfigError: a choice that no network knows, given twice, or no choice at all.
    """

    operations: tuple[str, ...]
    poolings: tuple[str, ...]
    gates: tuple[str, ...] = SEARCHED_GATES
    depths: tuple[int, ...] = (0, 1, 2)
    widths: tuple[int, ...] = (64, 128, 256)
    activations: tuple[str, ...] = tuple(ACTIVATIONS)

    def __post_init__(self) -> None:
        known = {"operations": OPERATIONS, "poolings": tuple(POOLINGS), "gates": SEARCHED_GATES}
        known["activations"] = tuple(ACTIVATIONS)
        least = {"depths": 0, "widths": 1}
        for field, choices in asdict(self).items():
            wrong = [one for one in choices if (one < least[field] if field in least else one not in known[field])]
            if wrong or not choices or len(set(choices)) < len(choices) or choices == ("zero",):
                raise ConfigError(
                    "The search space has choices that no network can have.",
                    field=field,
                    expected=known.get(field, f"different whole numbers from {least.get(field)}"),
                    found=choices,
                )

    def edges(self, experts: int) -> dict[str, tuple[str, ...]]:
        """Every choice that is made for a language with K ``experts``, and its candidates."""
        return {
            **{operation_edge(number): self.operations for number in range(experts)},
            "pooling": self.poolings,
            "gate": self.gates,
            "depth": tuple(map(str, self.depths)),
            "width": tuple(map(str, self.widths)),
            "activation": self.activations,
        }

    def genotype(self, experts: Sequence[str], chosen: Mapping[str, str]) -> Genotype:
        """The structure with one candidate chosen for each of the :meth:`edges`."""
        operations = {name: chosen[operation_edge(number)] for number, name in enumerate(experts)}
        depth = int(chosen["depth"])
        # A head without hidden layers has neither width nor activation: equal structures must be equal by value.
        width, activation = (int(chosen["width"]), chosen["activation"]) if depth else (0, "relu")
        return Genotype(operations, chosen["pooling"], chosen["gate"], depth, width, activation)

    def require(self, genotype: Genotype, file: object = None) -> None:
        """Raises GenotypeError, naming the field and ``file``, where a structure has a choice of another space."""
        made: list[tuple[str, Sequence[object], object]] = [
            ("operations", self.operations, name) for name in genotype.operations.values()
        ]
        made += [("pooling", self.poolings, genotype.pooling), ("gate", self.gates, genotype.gate)]
        made.append(("depth", self.depths, genotype.depth))
        if genotype.depth:
            made += [("width", self.widths, genotype.width), ("activation", self.activations, genotype.activation)]
        _require_known(made, file)


def operation_edge(number: int) -> str:
    """The name of the choice of an expert's operation."""
    return f"operation_{number}"


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

    Raises:
        GenotypeError: a value of another search space, or no expert that is not left out.
    """

    operations: Mapping[str, str]
    pooling: str
    gate: str
    depth: int
    width: int
    activation: str = "relu"

    def __post_init__(self) -> None:
        if not isinstance(self.operations, Mapping) or not self.operations:
            raise GenotypeError(
                "The genotype has no expert.", field="operations", expected="one or more", found=self.operations
            )
        made: list[tuple[str, Sequence[object], object]] = [
            ("operations", OPERATIONS, name) for name in self.operations.values()
        ]
        made += [("pooling", tuple(POOLINGS), self.pooling), ("gate", GATES, self.gate)]
        made += [("activation", tuple(ACTIVATIONS), self.activation)]
        _require_known(made)
        if all(name == "zero" for name in self.operations.values()):
            raise GenotypeError(
                "The genotype leaves every expert out.", field="operations", found=dict(self.operations)
            )
        whole = all(isinstance(size, int) and not isinstance(size, bool) for size in (self.depth, self.width))
        if not whole or self.depth < 0 or (self.depth > 0 and self.width < 1):
            raise GenotypeError(
                "The genotype's head has no size.", field="depth, width", found=(self.depth, self.width)
            )

    @property
    def experts(self) -> tuple[str, ...]:
        return tuple(self.operations)

    def simplest(self) -> Genotype:
        """The same function with the fewest parts: a gate over a single expert has nothing to weigh.

        >>> alone = Genotype({"a": "skip", "b": "zero"}, "mean", "conditioned", 0, 0)
        >>> alone.simplest().gate
        'constant'
        """
        kept = sum(name != "zero" for name in self.operations.values())
        return replace(self, gate="constant") if kept == 1 and self.gate == "conditioned" else self

    def to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "operations": dict(self.operations)}

    @classmethod
    def from_dict(cls, content: object, file: object = None) -> Genotype:
        """Reads what :meth:`to_dict` wrote.

        Args:
            file: that it was read from, for messages.

        Raises:
            GenotypeError: no object, another schema version, missing or unknown fields, or values of another search
                space.
        """
        fields = {"operations", "pooling", "gate", "depth", "width", "activation"}
        version = content.get("schema_version") if isinstance(content, Mapping) else None
        if not isinstance(content, Mapping) or version != SCHEMA_VERSION or set(content) != {"schema_version", *fields}:
            raise GenotypeError(
                "The genotype is of another schema.",
                file=file,
                field="schema_version",
                expected=f"an object of version {SCHEMA_VERSION} with {sorted(fields)}",
                found=content,
                hint=MADE_AGAIN,
            )
        try:
            return cls(**{name: content[name] for name in fields})
        except GenotypeError as error:
            raise GenotypeError(
                error.what,
                file=file,
                field=error.field,
                expected=error.expected,
                found=error.found,
                hint=MADE_AGAIN,
            ) from error

    def __hash__(self) -> int:
        head = (self.depth, self.width, self.activation)
        return hash((tuple(sorted(self.operations.items())), self.pooling, self.gate, *head))

    def __str__(self) -> str:
        operations = ", ".join(f"{expert}: {name}" for expert, name in self.operations.items())
        head = "linear" if self.depth == 0 else f"{self.depth} x {self.width} {self.activation}"
        return f"{operations}; pooling {self.pooling}; gate {self.gate}; head {head}"


def _require_known(made: Sequence[tuple[str, Sequence[object], object]], file: object = None) -> None:
    """Raises GenotypeError where a choice is none that there is; of each: field, what there is, what was found."""
    for field, known, found in made:
        if found not in known:
            raise GenotypeError(
                "The genotype is of another search space.",
                file=file,
                field=field,
                expected=tuple(known),
                found=found,
                hint=MADE_AGAIN if file else None,
            )


def fixed_genotype(experts: tuple[str, ...], space: SearchSpace) -> Genotype:
    """The fixed head, a control of every search: no temporal operation, mean and deviation, one hidden layer."""
    pooling = "mean_std" if "mean_std" in space.poolings else "mean"
    return Genotype(dict.fromkeys(experts, "skip"), pooling, "constant", 1, 128)


def random_genotype(experts: tuple[str, ...], space: SearchSpace, rng: np.random.Generator) -> Genotype:
    """A genotype with each choice drawn uniformly (draws that leave every expert out are repeated)."""
    edges = space.edges(len(experts))
    while True:
        chosen = {edge: str(rng.choice(candidates)) for edge, candidates in edges.items()}
        if any(chosen[operation_edge(number)] != "zero" for number in range(len(experts))):
            return space.genotype(experts, chosen)
