"""The one interface of all systems of the benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT, Answer, Task


@dataclass(frozen=True)
class System(ABC):
    """A way to recognise emotions from cached states. The fields of a subclass are its options.

    Attributes:
        protocols: in which it takes part.
        adapts: whether it uses unlabelled utterances of the target (never those of the test).
        seeded: whether its training draws from the seed; where not, one seed is computed, but for ``few-shot``, whose
            shots are drawn by the seed.
        version: raised when the code answers otherwise with the same options, so that old results are not gone on with.
        version_mapped: the same, where it answers otherwise with labels of a mapping alone.
    """

    protocols: ClassVar[tuple[str, ...]] = (WITHIN, ZERO_SHOT, FEW_SHOT)
    adapts: ClassVar[bool] = False
    seeded: ClassVar[bool] = True
    version: ClassVar[int] = 1
    version_mapped: ClassVar[int] = 1

    @abstractmethod
    def answer(self, task: Task) -> Answer:
        """Learns from the task's source, shots and unlabelled utterances, and judges its test.

        Raises:
            MserError: it cannot; the benchmark marks the cell as failed, with the message, and goes on.
        """

    def answers(self, tasks: Sequence[Task]) -> Iterator[Answer]:
        """Answers in the tasks' order; for systems that gain by seeing several at once."""
        return (self.answer(task) for task in tasks)

    @property
    def extra(self) -> tuple[str, ...]:
        """Upstreams that it reads beside the experts of the study, by name."""
        return ()

    @property
    def options(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Entry:
    """A system as the benchmark knows it.

    Attributes:
        name: of its rows and folders. title, description: for readers; source: the paper, empty for our own.
        system: with the options that this entry stands for.
        control: name of the system that is the same without this one's idea, if there is one.
    """

    name: str
    title: str
    description: str
    system: System
    source: str = ""
    control: str = ""
