"""Emotion in text, from two public corpora to a small model you can use."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .classifier import EmotionClassifier, SoftTargets
    from .config import Config, TrainConfig
    from .core import ConfigError, DataError, EmoNbError, ModelError, SourceError, TextError, UnreachableError
    from .corpora import load_corpus, read_table
    from .explore import explore_corpus
    from .scale.files import predict_file
    from .report import Run, open_run
    from .run import run_experiment
    from .study.doubt import doubtful
    from .study.evaluation import evaluate_run
    from .taxonomy import TASKS, Task

__version__ = "0.1.0"

_MODULES = {
    "classifier": ("EmotionClassifier", "SoftTargets"),
    "scale.files": ("predict_file",),
    "config": ("Config", "TrainConfig"),
    "run": ("run_experiment",),
    "study.evaluation": ("evaluate_run",),
    "study.doubt": ("doubtful",),
    "report": ("Run", "open_run"),
    "corpora": ("load_corpus", "read_table"),
    "explore": ("explore_corpus",),
    "taxonomy": ("Task", "TASKS"),
    "core": ("EmoNbError", "ConfigError", "DataError", "ModelError", "SourceError", "TextError", "UnreachableError"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [
    "EmotionClassifier",
    "SoftTargets",
    "predict_file",
    "doubtful",
    "Config",
    "TrainConfig",
    "run_experiment",
    "evaluate_run",
    "Run",
    "open_run",
    "load_corpus",
    "read_table",
    "explore_corpus",
    "Task",
    "TASKS",
    "EmoNbError",
    "ConfigError",
    "DataError",
    "ModelError",
    "SourceError",
    "TextError",
    "UnreachableError",
]


def __getattr__(name: str) -> object:
    "Import a public name when it is first asked for: `import emo_nb` itself loads almost nothing."
    if name in _MODULE_OF:
        return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
