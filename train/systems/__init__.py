"""The systems of the benchmark, by name. A new one is one module here and one line in :data:`SYSTEMS`."""

from __future__ import annotations

from train.systems.adversarial import Adversarial
from train.systems.base import Entry, System
from train.systems.baselines import Linear, Majority, Perceptron
from train.systems.continuous_metric import ContinuousMetric
from train.systems.cross_attention import CrossAttentionFusion
from train.systems.dense_probe import DenseProbe
from train.systems.dual_sequence_lstm import LayerPair, SpectrogramPair
from train.systems.gated_transfer import GatedTransfer
from train.systems.layer_anchor import LayerAnchor
from train.systems.layer_probe import LayerProbe
from train.systems.multitask import Multitask
from train.systems.ours import Gated
from train.systems.pseudo_label import PseudoLabel
from train.systems.task import Answer, Part, Task
from train.systems.transformer import Transformer

__all__ = ["SYSTEMS", "Answer", "Entry", "Part", "System", "Task"]

_ENTRIES = (
    Entry("majority", "majority class", "Says the most frequent emotion of what it learnt from.", Majority()),
    Entry("logistic", "logistic regression", "One layer, chosen on dev speakers. The bar.", Linear()),
    Entry(
        "logistic-each",
        "logistic regression, each language standardised",
        "The bar, with the target standardised by its own unlabelled speakers.",
        Linear(normalise="each"),
        control="logistic",
    ),
    Entry("logistic-shots", "logistic regression on shots", "The shots alone: no source.", Linear(learn="target")),
    Entry("svm", "linear SVM", "The bar's layer, by a support vector machine.", Linear(kind="svm", penalty=0.01)),
    Entry(
        "compare-svm",
        "openSMILE ComParE + linear SVM",
        "6373 functionals of the ComParE 2016 set, as challenges of the field have had it for their baseline.",
        Linear(kind="svm", features="compare", penalty=1e-4),
        "Schuller et al. 2016",
    ),
    Entry("mlp", "MLP on concatenated experts", "Best layer of each expert, one hidden layer.", Perceptron()),
    Entry("gated", "gated head (ours)", "All experts and layers, mixed; fixed structure.", Gated()),
    Entry(
        "gated-searched",
        "gated head, searched structure (ours)",
        "The gated head with the structure that beta-decay found for the source.",
        Gated(structure="beta"),
        control="gated",
    ),
    Entry(
        "gated-each",
        "gated head, each language standardised (ours)",
        "The gated head, with the target standardised by its own unlabelled speakers.",
        Gated(normalise="each"),
        control="gated",
    ),
    Entry(
        "gated-flat",
        "gated head, flat start (ours)",
        "As gated-each, on means over frames, with mixtures that start nearly flat and a linear head.",
        GatedTransfer(),
        control="gated-each",
    ),
    Entry(
        "gated-self-trained",
        "gated head, flat start, self-trained (ours)",
        "As gated-flat; then it learns in three rounds from the unlabelled utterances that it is surest of.",
        GatedTransfer(rounds=3),
        control="gated-flat",
    ),
    Entry(
        "layer-probe",
        "linear probe of one layer",
        "A probe of every layer of every upstream; the one that dev speakers prefer answers.",
        LayerProbe(),
        "Singh and Gupta 2023, arXiv 2308.08713",
    ),
    Entry(
        "layer-probe-dense",
        "dense probe of one layer",
        "Two 1x1 convolutions on the frames of the layer that dev speakers prefer.",
        DenseProbe(),
        "Singh and Gupta 2023, arXiv 2308.08713",
    ),
    Entry(
        "layer-probe-all",
        "dense probe of all layers",
        "As layer-probe-dense, on a sum of all layers with weights of any size.",
        DenseProbe(combine="all"),
        "Singh and Gupta 2023, arXiv 2308.08713",
        control="layer-probe-dense",
    ),
    Entry(
        "layer-probe-mix",
        "dense probe of mixed layers",
        "As layer-probe-dense, on a softmax mix of all layers.",
        DenseProbe(combine="mix"),
        "Singh and Gupta 2023, arXiv 2308.08713",
        control="layer-probe-dense",
    ),
    Entry(
        "cross-attention",
        "cross-attention of three streams",
        "Frames of the best pretrained upstream, MFCC and prosody, each asking the other two.",
        CrossAttentionFusion(),
        "Zhao et al. 2025, arXiv 2501.10408",
    ),
    Entry(
        "source-only",
        "adversarial, without adversary",
        "The control of adversarial: the same encoder and head, not adapted.",
        Adversarial(adversary="none"),
        "Latif et al. 2019, arXiv 1907.06083",
    ),
    Entry(
        "adversarial",
        "adversarial, gradient reversal",
        "The encoder is trained against a head that tells the languages apart, by reversed gradients.",
        Adversarial(),
        "Latif et al. 2019, arXiv 1907.06083",
        control="source-only",
    ),
    Entry(
        "adversarial-gan",
        "adversarial, alternating steps",
        "As adversarial, but discriminator and encoder take steps in turn, as in the paper.",
        Adversarial(adversary="gan"),
        "Latif et al. 2019, arXiv 1907.06083",
        control="source-only",
    ),
    Entry(
        "source-only-each",
        "without adversary, each language standardised",
        "The control of adversarial-each: as source-only, on languages each standardised by itself.",
        Adversarial(adversary="none", normalise="each"),
        "Latif et al. 2019, arXiv 1907.06083",
    ),
    Entry(
        "adversarial-each",
        "adversarial, each language standardised",
        "As adversarial, on languages each standardised by itself.",
        Adversarial(normalise="each"),
        "Latif et al. 2019, arXiv 1907.06083",
        control="source-only-each",
    ),
    Entry(
        "dual-sequence-lstm",
        "dual-sequence LSTM on spectrograms",
        "An LSTM cell that reads two log-mel spectrograms in step, beside an LSTM on MFCC. No speech model.",
        SpectrogramPair(),
        "Wang et al. 2019, arXiv 1910.08874",
    ),
    Entry(
        "dual-sequence-lstm-layers",
        "dual-sequence LSTM on layers",
        "The cell of dual-sequence-lstm, on the frames of the two layers that dev speakers prefer.",
        LayerPair(),
        "Wang et al. 2019, arXiv 1910.08874",
    ),
    Entry(
        "continuous-metric",
        "continuous metric learning",
        "A denoising autoencoder whose code rises with arousal and valence, then logistic regression on codes.",
        ContinuousMetric(),
        "Das et al. 2022, arXiv 2203.14867",
    ),
    Entry(
        "continuous-metric-distance",
        "continuous metric learning, distances",
        "As continuous-metric, but codes lie as far apart as their emotions in the valence-arousal plane.",
        ContinuousMetric(metric="distance"),
        "Das et al. 2022, arXiv 2203.14867",
    ),
    Entry(
        "multitask-control",
        "multitask's trunk, emotion alone",
        "The same trunk without auxiliaries: what they are worth is the difference.",
        Multitask(gender_weight=0.0, intensity_weight=0.0, phones_weight=0.0),
    ),
    Entry(
        "multitask",
        "multitask: emotion, gender, intensity",
        "One trunk on the best layers; gender and intensity, where the manifest has them, help to train it.",
        Multitask(),
        "Kang et al. 2022, arXiv 2206.13101",
        control="multitask-control",
    ),
    Entry(
        "transformer",
        "transformer on frames",
        "One layer's frames, chosen on dev speakers; the target is standardised by its own unlabelled speakers. "
        "The control of pseudo-labels.",
        Transformer(),
    ),
    Entry(
        "pseudo-label",
        "transformer, hard pseudo-labels",
        "Learns from the emotions that it is sure of in unlabelled speech of the target, in rounds.",
        PseudoLabel(),
        "Agarla et al. 2022, arXiv 2207.06767",
        control="transformer",
    ),
    Entry(
        "pseudo-label-soft",
        "transformer, soft pseudo-labels",
        "Learns from its distributions over emotions in unlabelled speech of the target, where it is sure enough.",
        PseudoLabel(labels="soft"),
        "Agarla et al. 2022, arXiv 2207.06767",
        control="transformer",
    ),
    Entry(
        "layer-anchor-none",
        "layer anchoring, without anchors",
        "The control of layer-anchor: the same mix of layers, with each language standardised by itself.",
        LayerAnchor(weight=0.0),
        "Upadhyay et al. 2024, arXiv 2407.04966",
    ),
    Entry(
        "layer-anchor",
        "layer anchoring, one layer",
        "The covariances of both languages are drawn together at the layer where they are most alike.",
        LayerAnchor(),
        "Upadhyay et al. 2024, arXiv 2407.04966",
        control="layer-anchor-none",
    ),
    Entry(
        "layer-anchor-groups",
        "layer anchoring, a group of layers",
        "As layer-anchor, at the third of the layers where the languages are most alike.",
        LayerAnchor(groups=3),
        "Upadhyay et al. 2024, arXiv 2407.04966",
        control="layer-anchor-none",
    ),
)
SYSTEMS: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
