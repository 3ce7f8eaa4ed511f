"""The systems of the benchmark, by name. A new one is one module here and one line in :data:`SYSTEMS`."""

from __future__ import annotations

from train.systems.base import Entry, System
from train.systems.baselines import Linear, Majority, Perceptron
from train.systems.task import Answer, Part, Task

__all__ = ["SYSTEMS", "Answer", "Entry", "Part", "System", "Task"]

_ENTRIES = (
    Entry("majority", "majority class", "Says the most frequent emotion of what it learnt from.", Majority()),
    Entry("logistic", "logistic regression", "One layer, chosen on dev speakers. The bar.", Linear()),
    Entry(
        "logistic-each",
        "logistic regression, each language standardised",
        "The bar, with the target standardised by its own unlabelled speakers.",
        Linear(normalise="each"),
    ),
    Entry("logistic-shots", "logistic regression on shots", "The shots alone: no source.", Linear(learn="target")),
    Entry("svm", "linear SVM", "The bar's layer, with a squared hinge loss.", Linear(kind="svm", penalty=0.01)),
    Entry(
        "compare-svm",
        "openSMILE ComParE + linear SVM",
        "6373 functionals of the ComParE 2016 set, as challenges of the field have had it for their baseline.",
        Linear(kind="svm", features="compare", penalty=1e-4),
        "Schuller et al. 2016",
    ),
    Entry("mlp", "MLP on concatenated experts", "Best layer of each expert, one hidden layer.", Perceptron()),
)
SYSTEMS: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
