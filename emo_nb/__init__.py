"""Emotion in text, from two public corpora to a small model you can use."""

__version__ = "0.1.0"
__all__ = ["EmotionClassifier", "EmoNbError"]


def __getattr__(name: str) -> object:
    "Load what is asked for, when it is asked for: `import emo_nb` itself costs almost nothing."
    if name == "EmotionClassifier":
        from emo_nb.predict import EmotionClassifier

        return EmotionClassifier
    if name == "EmoNbError":
        from emo_nb.core import EmoNbError

        return EmoNbError
    raise AttributeError(f"module 'emo_nb' has no attribute {name!r}")
