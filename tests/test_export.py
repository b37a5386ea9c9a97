"""Exports to ONNX: the same probabilities as the model's, in a folder that runs without torch, or a refusal in a sentence."""

import hashlib
import json
import pickle
import shutil
import sys

import numpy as np
import pytest
from helpers import python, refusal
from test_foreign_models import small

from emo_nb import ConfigError, EmotionClassifier, ModelError
from emo_nb.engine import onnx_export
from emo_nb.engine.onnx_engine import JsonTokenizer
from emo_nb.engine.onnx_export import INPUTS, TOLERANCE, export_onnx, sample_texts
from emo_nb.predict import TrainedClassifier, tokenize_texts, tokenize_windows

onnxruntime = pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")

TEXTS = ["", "x", "Thank you so much!", "café, naïve 🙂 — what's that?", "I hate waiting. " * 20, "so long " * 400]
WITHOUT_TORCH = """
import runpy, sys
sys.modules.update(dict.fromkeys(("torch", "transformers", "emo_nb", "scipy", "pandas")))  # importing them fails
runpy.run_path(sys.argv[1])
"""


@pytest.fixture(scope="module")
def classifiers(tiny, feelings):
    "A classifier with one label a text, and one with several."
    return {name: TrainedClassifier.from_pretrained(run.folder) for name, run in (("one", tiny), ("several", feelings))}


@pytest.fixture(scope="module")
def exports(classifiers, tmp_path_factory):
    "The folder and the report of an export of each; that with several labels is in 8 bits."
    root = tmp_path_factory.mktemp("onnx")
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "N_CALIBRATION", 16)
        for name, classifier in classifiers.items():
            truth = np.eye(len(classifier.labels), dtype=int)[: len(TEXTS)]
            options = {"int8": name == "several", "texts": TEXTS[: len(truth)], "truth": truth}
            made[name] = root / name, export_onnx(classifier, root / name, **options)
    return made


def predict(folder, texts: list[str]) -> np.ndarray:
    "Probabilities of one batch, (n_texts, n_labels), by the files of the folder alone."
    batch = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(texts)
    inputs = (np.array([text.ids for text in batch]), np.array([text.attention_mask for text in batch]))
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], dict(zip(INPUTS, inputs, strict=True)))[0]


def test_texts_of_any_length_alone_and_together_get_the_same_probabilities(classifiers, exports):
    folder, report = exports["one"]
    expected = classifiers["one"].predict_proba(TEXTS)
    assert np.abs(predict(folder, TEXTS) - expected).max() < TOLERANCE
    for text, row in zip(TEXTS, expected, strict=True):
        assert np.abs(predict(folder, [text]) - row).max() < TOLERANCE, text[:20]
    assert report.format.tolist() == ["float32"]
    assert report.largest_change[0] < TOLERANCE and report.same_label[0] == 1


def test_integers_change_little_and_the_report_says_how_much(classifiers, exports):
    folder, report = exports["several"]
    assert report.format.tolist() == ["float32", "int8"]
    change = np.abs(predict(folder, TEXTS[2:3]) - classifiers["several"].predict_proba(TEXTS[2:3])).max()
    assert 0 < change <= report.largest_change[1] + TOLERANCE < 0.1
    assert report.size_mb[1] < 0.4 * report.size_mb[0]
    assert {"same_label", "same_labels", "macro_f1", "model_macro_f1"} <= set(report)


def test_the_example_runs_where_torch_cannot_be_imported(classifiers, exports):
    for name, (folder, _) in exports.items():
        printed = python(WITHOUT_TORCH, str(folder / "example.py")).splitlines()
        assert [line.split()[0] for line in printed] == [
            classifiers[name].predict_frame(text).label[0] for text in ("Thank you so much!", "I hate waiting")
        ]


def test_the_settings_say_what_a_program_needs(classifiers, exports):
    for name, (folder, report) in exports.items():
        settings, classifier = json.loads((folder / "emo_nb.json").read_text()), classifiers[name]
        assert settings["labels"] == classifier.labels
        assert settings["multi_label"] == classifier.multi_label
        assert settings["thresholds"] == (classifier.thresholds.tolist() if classifier.multi_label else None)
        assert settings["max_length"] == classifier.max_length
        assert settings["sha256"] == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
        assert settings["agreement"]["largest_change"] == report.largest_change.iloc[-1]
        truncation = json.loads((folder / "tokenizer.json").read_text())["truncation"]
        assert truncation["max_length"] == classifier.max_length


def test_a_folder_that_exists_is_kept_unless_it_may_be_replaced(classifiers, exports, tmp_path):
    folder, _ = exports["one"]
    before = (folder / "model.onnx").stat().st_mtime_ns
    with refusal(ConfigError, folder, "exists"):
        export_onnx(classifiers["one"], folder, texts=TEXTS)
    assert (folder / "model.onnx").stat().st_mtime_ns == before
    (tmp_path / "notes.txt").write_text("mine")
    with refusal(ConfigError, tmp_path, "not made by emo_nb"):
        export_onnx(classifiers["one"], tmp_path, texts=TEXTS, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("family", ["distilbert", "roberta", "modernbert"])
def test_other_architectures_are_exported(tmp_path, family):
    more = {"global_attn_every_n_layers": 1, **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id"), 1)}
    model = small(tmp_path / "model", family, **(more if family == "modernbert" else {}))
    report = export_onnx(TrainedClassifier.from_pretrained(model), tmp_path / "onnx", texts=TEXTS)
    assert report.largest_change[0] < TOLERANCE


def test_an_architecture_that_torch_cannot_export_is_refused(tmp_path, capfd):
    model = TrainedClassifier.from_pretrained(small(tmp_path / "model", "fnet"))
    with refusal(ModelError, "FNetForSequenceClassification", "fft"):
        export_onnx(model, tmp_path / "onnx", texts=TEXTS)
    assert not (tmp_path / "onnx").exists()
    assert capfd.readouterr().out == ""


def test_a_graph_that_differs_from_the_model_is_refused(classifiers, tmp_path, monkeypatch):
    exact = onnx_export.trace

    def wrong(checkpoint):
        graph = exact(checkpoint)
        bias = next(each for each in graph.graph.initializer if each.name.endswith("classifier.bias"))
        values = np.frombuffer(bias.raw_data, np.float32) + np.linspace(0, 0.01, bias.dims[0], dtype=np.float32)
        bias.raw_data = values.tobytes()
        return graph

    monkeypatch.setattr(onnx_export, "trace", wrong)
    with refusal(ModelError, "differs from the model"):
        export_onnx(classifiers["one"], tmp_path / "onnx", texts=TEXTS)
    assert not (tmp_path / "onnx").exists()


def test_a_missing_package_is_named_with_the_command_that_installs_it(classifiers, exports, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with refusal(ConfigError, "onnx", "pip install 'emo_nb[onnx]'"):
        export_onnx(classifiers["one"], tmp_path / "onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with refusal(ConfigError, "onnxruntime opens", "pip install 'emo_nb[onnx]'"):
        TrainedClassifier.from_pretrained(exports["one"][0])


def test_the_texts_to_compare_on_have_several_lengths():
    calibration, texts = sample_texts()
    assert len(texts) == 1000 and not set(calibration) & set(texts)
    words = [len(text.split()) for text in texts]
    assert min(words) == 0 and max(words) > 500


OPENED = """
import sys
sys.modules.update(dict.fromkeys(("torch", "transformers")))  # importing them fails
from emo_nb import EmotionClassifier, predict_file
classifier = EmotionClassifier.from_pretrained(sys.argv[1])
print(*classifier.predict(["Thank you so much!", "I hate waiting"]).tolist(), sep=";")
print(classifier.predict_frame("so long " * 400, tokens_left_out=True).tokens_left_out[0] > 100)
open("in.txt", "w").write("one\\ntwo\\n")
print(predict_file(classifier, "in.txt", "out.jsonl", show_progress_bar=False))
"""

COLD = """
import sys
sys.modules.update(dict.fromkeys(("torch", "transformers", "pandas", "scipy", "sklearn")))  # importing them fails
from emo_nb.predict import TrainedClassifier
print(TrainedClassifier.from_pretrained(sys.argv[1]).predict_proba(["Thank you!", "I hate waiting"]).shape)
"""


def test_the_first_answer_of_an_exported_folder_waits_for_no_tables(exports):
    assert python(COLD, exports["one"][0]) == "(2, 10)\n"


SHORT_OF_MEMORY = """
import logging, resource, sys
from pathlib import Path
import numpy as np
from emo_nb.predict import TrainedClassifier
classifier = TrainedClassifier.from_pretrained(sys.argv[1])
classifier.predict_proba("one text")
used = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line)
resource.setrlimit(resource.RLIMIT_DATA, (int(used) * 1024 + int(sys.argv[2]) * 2**20,) * 2)
held = []
try:
    while sys.argv[2] == "0":  # memory that was freed before could still be had
        held.append(bytearray(100_000))
except MemoryError:
    del held[::2]  # enough for a tokenizer, too little in one piece for a layer
logging.basicConfig(stream=sys.stdout, format="%(message)s")
try:
    print(classifier.predict_proba(["so long " * 300] * 6).shape)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited as Linux does it")
def test_where_memory_runs_out_an_exported_model_halves_its_batches_or_says_so(exports):
    assert python(SHORT_OF_MEMORY, exports["one"][0], 64).splitlines()[-1] == "(6, 10)"
    assert "ModelError memory does not suffice" in python(SHORT_OF_MEMORY, exports["one"][0], 0).splitlines()[-1]


@pytest.mark.parametrize("name", ["one", "several"])
def test_an_exported_folder_is_a_classifier_like_the_one_it_was_made_from(classifiers, exports, name, here):
    folder, original = exports[name][0], classifiers[name]
    opened = TrainedClassifier.from_pretrained(folder)
    most = TOLERANCE if name == "one" else 0.1  # in 8 bits
    assert np.abs(opened.predict_proba(TEXTS) - original.predict_proba(TEXTS)).max() < most
    assert (opened.labels, opened.multi_label) == (original.labels, original.multi_label)
    assert opened.thresholds is None or np.allclose(opened.thresholds, original.thresholds)
    again = pickle.loads(pickle.dumps(opened))
    np.testing.assert_allclose(again.predict_proba(TEXTS[:3]), opened.predict_proba(TEXTS[:3]), atol=TOLERANCE)
    windows = TrainedClassifier.from_pretrained(folder, long_texts="windows").predict_proba(TEXTS)
    expected = TrainedClassifier(original.checkpoint, original.tokenizer, long_texts="windows").predict_proba(TEXTS)
    assert np.abs(windows - expected).max() < most
    said = python(OPENED, folder).splitlines()
    assert said[1:] == ["True", "2"] and len(said[0].split(";")) == 2


def test_an_export_is_not_exported_again_and_an_empty_text_has_a_token_whatever_its_tokenizer(exports, tmp_path):
    with refusal(ModelError, "can only predict"):
        EmotionClassifier.from_pretrained(exports["one"][0]).export_onnx(tmp_path / "again")
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel({"so": 0, "it": 1, "goes": 2}, unk_token="so"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    plain.save(str(tmp_path / "tokenizer.json"))
    tokenizer = JsonTokenizer(tmp_path, 16, pad_token_id=2)
    assert tokenize_texts(["", "it goes"], tokenizer, 16) == [[2], [1, 2]]
    assert tokenize_windows(["", "it goes"], tokenizer, 16)[0] == [[2], [1, 2]]


def test_an_export_answers_with_the_labels_and_the_windows_of_the_model(classifiers, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "N_CALIBRATION", 16)
    original = classifiers["one"]
    monkeypatch.setattr(original.config, "emo_nb_classes", list(range(len(original.labels))), raising=False)
    monkeypatch.setattr(original.config, "emo_nb_window_pooling", "max", raising=False)
    export_onnx(original, tmp_path / "export", texts=TEXTS)
    opened = EmotionClassifier.from_pretrained(tmp_path / "export", long_texts="windows")
    whole = EmotionClassifier.from_trained(
        TrainedClassifier(original.checkpoint, original.tokenizer, long_texts="windows")
    )
    assert opened.classes_.tolist() == list(range(len(original.labels)))
    assert opened.predict(TEXTS).tolist() == whole.predict(TEXTS).tolist()
    assert np.abs(opened.predict_proba(TEXTS) - whole.predict_proba(TEXTS)).max() < TOLERANCE


def test_an_export_whose_files_do_not_belong_together_is_refused(exports, here):
    folder = here / "copy"
    shutil.copytree(exports["one"][0], folder)
    with refusal(ConfigError, "exported model", "leave device and dtype out"):
        TrainedClassifier.from_pretrained(folder, dtype="bfloat16")
    with refusal(ModelError, "exported model", "can only predict"):
        TrainedClassifier.from_pretrained(folder).save_pretrained(here / "other")
    settings = json.loads((folder / "emo_nb.json").read_text())
    for name, content, said in (
        ("emo_nb.json", json.dumps(settings | {"labels": None}), "wrong one"),
        ("emo_nb.json", json.dumps(settings | {"max_length": -1}), "max_length is -1"),
        (
            "emo_nb.json",
            json.dumps(settings | {"labels": settings["labels"][:5]}),
            "10 outputs and emo_nb.json 5 labels",
        ),
        ("emo_nb.json", "{", "cannot be read as JSON"),
        ("tokenizer.json", "{}", "not the file that emo_nb.json describes"),
        ("model.onnx", "no graph", "not the file that emo_nb.json describes"),
    ):
        before = (folder / name).read_bytes()
        (folder / name).write_text(content)
        with refusal(ModelError, name, said):
            TrainedClassifier.from_pretrained(folder).predict_proba("one text")
        (folder / name).write_bytes(before)
    (folder / "model.onnx").unlink()
    with refusal(ModelError, "model.onnx cannot be read"):
        TrainedClassifier.from_pretrained(folder)
