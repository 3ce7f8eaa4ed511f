"""Multilingual speech emotion recognition on cached hidden states.

Dimension letters, used in every shape of this project:

    N  utterances            B  utterances in a batch     T  frames
    L  layers                D  features of a layer       S  statistics (mean, std) over frames
    K  experts (upstreams)   H  features of an embedding  E  emotions
    G  languages
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mser.inspect.corpus import open_store
    from mser.predict.recognizer import Recognizer

__all__ = ["Recognizer", "__version__", "open_store"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Late: they need torch, which takes seconds to import, and the recogniser the speech models' libraries.
    if name == "open_store":
        from mser.inspect.corpus import open_store

        return open_store
    if name == "Recognizer":
        from mser.predict.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module 'mser' has no attribute {name!r}")
