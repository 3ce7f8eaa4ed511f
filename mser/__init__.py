"""Multilingual speech emotion recognition on cached hidden states.

Dimension letters, used in every shape of this project:

    N  utterances            B  utterances in a batch     T  frames
    L  layers                D  features of a layer       S  statistics (mean, std) over frames
    K  experts (upstreams)   H  features of an embedding  E  emotions
    G  languages
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """What is imported only when it is asked for: ``mser.Recognizer``."""
    if name == "Recognizer":
        from mser.predict.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module 'mser' has no attribute {name!r}")
