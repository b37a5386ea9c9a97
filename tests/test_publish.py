"""What is published: the folder, its card and scores as the hub reads them; and models of the hub, also foreign ones."""

import json
import os
import shutil

import numpy as np
import pytest
import yaml
from helpers import change_json, python, refusal
from huggingface_hub import ModelCard, parse_eval_result_entries
from test_classifier import LABELS, OTHER_LABELS, OTHER_TEXTS, QUICK, TEXTS
from test_foreign_models import small

from emo_nb import ConfigError, EmotionClassifier, ModelError
from emo_nb.predict import TrainedClassifier
from emo_nb.report import model_card

DATASET = "google-research-datasets/go_emotions"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    "A classifier, and the folder that would be uploaded."
    folder = tmp_path_factory.mktemp("published") / "model"
    classifier = EmotionClassifier(**QUICK).fit(TEXTS[:80], LABELS[:80])
    classifier.save_pretrained(folder, classifier.evaluate(OTHER_TEXTS, OTHER_LABELS), dataset=DATASET)
    return classifier, folder


def test_what_cannot_be_written_is_said_and_a_file_in_the_way_is_kept(published, tmp_path):
    classifier, _ = published
    (tmp_path / "file").write_text("kept")
    with refusal(ConfigError, "file is a file"):
        classifier.save_pretrained(tmp_path / "file")
    with refusal(ConfigError, "cannot be written"):
        classifier.save_pretrained(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_second_calibration_is_added_to_the_first_in_what_is_noted(tmp_path):
    trained = TrainedClassifier.from_pretrained("goemotions28")
    texts, before = OTHER_TEXTS[:40], trained.logits(OTHER_TEXTS[:40])
    raw = before * trained.config.emo_nb_temperature
    truth = np.zeros((40, 28), int)
    truth[np.arange(40), before.argmax(axis=1)] = 1
    trained.calibrate(texts, truth)
    np.testing.assert_allclose(trained.logits(texts) * trained.config.emo_nb_temperature, raw, rtol=1e-3, atol=1e-3)


def test_the_card_and_the_scores_are_what_the_hub_reads(published):
    classifier, folder = published
    accuracy = classifier.score(OTHER_TEXTS, OTHER_LABELS)
    card = ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "text-classification" and card.data.license == "other"
    assert [result.dataset_type for result in card.data.eval_results] == [DATASET]
    assert "lora" in card.text and "72 train" in card.text
    (file,) = (folder / ".eval_results").iterdir()
    entries = parse_eval_result_entries(yaml.safe_load(file.read_text()))
    assert {entry.dataset_id for entry in entries} == {DATASET}
    assert accuracy == pytest.approx({entry.task_id: entry.value for entry in entries}["accuracy"], abs=1e-4)


def test_a_run_leaves_its_scores_in_the_same_form(tiny):
    files = list((tiny.folder / "model" / ".eval_results").iterdir())
    entries = [entry for file in files for entry in parse_eval_result_entries(yaml.safe_load(file.read_text()))]
    scores = {entry.dataset_id: entry.value for entry in entries if entry.task_id == "macro_f1"}
    assert scores[DATASET] == tiny.metrics["goemotions"]["macro_f1"]
    assert tiny.config["split_used"] == "group" and all("split: group" in entry.notes for entry in entries)


def test_a_table_that_is_called_like_a_corpus_is_not_taken_for_it(tiny):
    record = tiny.config | {"task": "custom", "files": {"goemotions/goemotions.csv": "0"}}
    card = model_card(record, {"goemotions": tiny.metrics["goemotions"]}, "")
    assert "license: other" in card and DATASET not in card and "strangers" not in card


def test_an_upload_that_cannot_be_made_is_one_sentence(published):
    with refusal(ModelError, "nobody/nothing", "cannot be uploaded", "hf auth login"):
        published[0].push_to_hub("nobody/nothing")


def test_a_hub_that_does_not_answer_is_one_sentence(published):
    code = (
        "import sys; from emo_nb import EmotionClassifier, ModelError\n"
        "try: EmotionClassifier.from_pretrained(sys.argv[1]).push_to_hub('a/b', token='hf_x')\n"
        "except ModelError as error: print(error)"
    )
    env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    said = python(code, published[1], env=env, timeout=200)
    assert said.startswith("a/b cannot be uploaded") and "did not answer" in said and len(said.splitlines()) == 1


def put_into_hub_cache(home, name, folder):
    "A model as huggingface_hub leaves it in its cache."
    model = home / "hub" / f"models--{name.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, model / "snapshots" / ("0" * 40))


ASK = """
import json, sys
from emo_nb import EmotionClassifier
classifier = EmotionClassifier.from_pretrained(sys.argv[1])
print(json.dumps([classifier.labels, classifier.trained.multi_label, classifier.predict_proba(["x", "so it goes"]).tolist()]))
"""


@pytest.mark.parametrize("problem_type", [None, "single_label_classification", "multi_label_classification"])
def test_a_classifier_of_the_hub_that_emo_nb_did_not_make_is_loaded_by_its_id(problem_type, tmp_path, monkeypatch):
    folder = small(tmp_path / "theirs", "roberta")
    change_json(folder / "config.json", problem_type=problem_type)
    put_into_hub_cache(tmp_path / "home", "someone/feelings", folder)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    labels, multi_label, proba = json.loads(python(ASK, "someone/feelings").splitlines()[-1])
    here = EmotionClassifier.from_pretrained(folder)
    assert labels == here.labels and multi_label == (problem_type == "multi_label_classification")
    np.testing.assert_allclose(proba, here.predict_proba(["x", "so it goes"]), atol=1e-5)
    assert multi_label or np.allclose(np.sum(proba, axis=1), 1)


@pytest.mark.parametrize("name", ["someone/elses", "goemotions29", "runs/mine", "a/b/c"])
def test_a_name_that_stands_for_no_model_is_refused_in_a_sentence(name, here):
    (here / "runs").mkdir()
    with refusal(ModelError, name, "goemotions28"):
        EmotionClassifier.from_pretrained(name)


def test_a_hub_model_that_needs_code_is_refused(tmp_path, monkeypatch):
    folder = small(tmp_path / "code", "bert")
    change_json(folder / "config.json", auto_map={"AutoModel": "code.py"})
    put_into_hub_cache(tmp_path / "home", "someone/code", folder)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    code = ASK.replace("classifier = ", "from emo_nb import ModelError\ntry: ", 1).split("print")[0]
    assert "never run" in python(code + "except ModelError as error: print(error)", "someone/code")
