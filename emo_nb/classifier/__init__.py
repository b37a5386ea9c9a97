"""`EmotionClassifier`: fit on texts and labels in memory, predict, evaluate and save, by scikit-learn's rules.

    clf = EmotionClassifier().fit(texts, labels)
    clf.predict(texts)

It is a scikit-learn classifier whose samples are texts. What trains it is what trains a run (`emo_nb.train`), and what
predicts is the `TrainedClassifier` that it holds once it is fitted or loaded. `SoftTargets` are what a larger classifier
says of texts, for a smaller one to learn from.
"""

from .estimator import EmotionClassifier, Evaluation, NotFittedError
from .examples import Examples, read_examples
from .soft_targets import SoftTargets

__all__ = ["EmotionClassifier", "Evaluation", "Examples", "NotFittedError", "SoftTargets", "read_examples"]
