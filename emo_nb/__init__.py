"""Emotion in text, from two public corpora to a small model you can use."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emo_nb.core import (
        ConfigError,
        DataError,
        EmoNbError,
        ModelError,
        SourceError,
        TextError,
        UnreachableError,
    )
    from emo_nb.predict import EmotionClassifier

__version__ = "0.1.0"
__all__ = [
    "EmotionClassifier",
    "EmoNbError",
    "ConfigError",
    "DataError",
    "ModelError",
    "SourceError",
    "TextError",
    "UnreachableError",
]


def __getattr__(name: str) -> object:
    "Load what is asked for, when it is asked for: `import emo_nb` itself costs almost nothing."
    if name == "EmotionClassifier":
        from emo_nb.predict import EmotionClassifier

        return EmotionClassifier
    if name in __all__:
        import emo_nb.core

        return getattr(emo_nb.core, name)
    raise AttributeError(f"module 'emo_nb' has no attribute {name!r}")
