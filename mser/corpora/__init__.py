"""Corpora as data: what is known of each before any of its files is seen, and how its names become labels.

A definition is one YAML file (``data_manifest/corpora/``, or a folder named by ``MSER_DEFINITIONS``): adding a corpus
needs no code.
"""

from __future__ import annotations

from mser.corpora.catalogue import corpora_of, load_definitions
from mser.corpora.definition import CorpusDefinition
from mser.corpora.reader import LabelReader

__all__ = ["CorpusDefinition", "LabelReader", "corpora_of", "load_definitions"]
