"""Folders that call themselves models: what does not belong together is refused in a sentence, and no code in them runs."""

import json
import pickle
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import check_mistake, write_own
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, set_seed

from emo_nb.core import ModelError
from emo_nb.model import find_encoder, load_model, new_classifier, tokenizer_of
from emo_nb.predict import EmotionClassifier

FAMILIES = ("bert", "distilbert", "roberta")  # the first is computed as a LeanBert
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIZES_OF = {"distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}}
LABELS = {0: "no", 1: "yes", 2: "so"}
TEXTS = ["hello there " * 60, "x", ""]


def small(folder, family, kind=AutoModelForSequenceClassification, **settings):
    "A model of this family with small random weights, and the bundled encoder's tokeniser."
    tokenizer = tokenizer_of(find_encoder("minilm"))
    labels = {"id2label": LABELS, "label2id": {label: i for i, label in LABELS.items()}}
    settings = {"vocab_size": len(tokenizer), "pad_token_id": 0, **labels, **SIZES_OF.get(family, SIZES), **settings}
    set_seed(1)
    kind.from_config(AutoConfig.for_model(family, **settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    "A sound model of each family."
    return {family: small(tmp_path_factory.mktemp("sound") / family, family) for family in FAMILIES}


# What is done to a sound folder


def settings(folder, **changed):
    "Change the settings of a model."
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))


def several(folder, **changed):
    "The same, of a model that may give several labels."
    settings(folder, problem_type="multi_label_classification", **changed)


def weights(folder, ending, change=None):
    "Change the first of the weights whose name ends so, or drop them."
    file = folder / "model.safetensors"
    found = load_file(file)
    name = next(name for name in sorted(found) if name.endswith(ending))
    tensor = found.pop(name)
    if change:
        found[name] = change(tensor.clone())
    save_file(found, file, metadata={"format": "pt"})


def spoil(number):
    "Put this number into the first place of a tensor."

    def change(tensor):
        tensor.view(-1)[0] = number
        return tensor

    return change


def extra(folder):
    file = folder / "model.safetensors"
    save_file({**load_file(file), "more.weight": torch.ones(3)}, file, metadata={"format": "pt"})


def raw(folder, change):
    "Change a file of weights as bytes."
    file = folder / "model.safetensors"
    file.write_bytes(change(file.read_bytes()))


class Opens:
    "A pickle of it makes a file when it is opened."

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def pickled(folder):
    "A pickle in the place of the weights."
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Opens(folder / "ran")))


def pickled_by_index(folder):
    pickled(folder)
    index = {"metadata": {}, "weight_map": {"classifier.weight": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def parted(folder):
    "The weights in several files."
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="1MB")
    assert len(list(folder.glob("*.safetensors"))) > 1


def parted_without_one(folder):
    parted(folder)
    max(folder.glob("*.safetensors")).unlink()


def with_code(folder, **settings_):
    "Code beside the settings, which name it."
    code = f"open({str(folder / 'ran')!r}, 'w')\nclass Settings: pass\nclass Model: pass\n"
    (folder / "model.py").write_text(code)
    names = {"AutoConfig": "model.Settings", "AutoModelForSequenceClassification": "model.Model"}
    settings(folder, auto_map=names, **settings_)


def tokenizer_with_code(folder, name):
    "A tokeniser of this class, with code beside it."
    (folder / "words.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Words: pass\n")
    file = folder / "tokenizer_config.json"
    found = {**json.loads(file.read_text()), "auto_map": {"AutoTokenizer": ["words.Words", None]}}
    file.write_text(json.dumps({**found, "tokenizer_class": name}))


def one_token_more(folder):
    tokenizer = tokenizer_of(folder)
    tokenizer.add_tokens(["sesquipedalian"])
    tokenizer.save_pretrained(folder)


def no_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


def adapter(folder):
    "The whole model and an adapter in one folder, which transformers would put upon it."
    said = {"peft_type": "LORA", "base_model_name_or_path": "no-such/encoder", "target_modules": ["query"]}
    (folder / "adapter_config.json").write_text(json.dumps(said))


def written(name, said):
    return lambda folder: (folder / name).write_bytes(said)


HARMS = {
    "weights missing": (
        lambda f: weights(f, "classifier.weight" if lean_like(f) else "out_proj.weight"),
        "are missing",
    ),
    "bias missing": (lambda f: weights(f, ".bias"), "bias are missing"),
    "weights too many": (extra, "more.weight are none"),
    "weights of other shape": (
        lambda f: weights(f, "word_embeddings.weight", lambda t: t[:30_000].clone()),
        r"\(30000, 32\)",
    ),
    "NaN": (lambda f: weights(f, "word_embeddings.weight", spoil(float("nan"))), "hold NaN or infinity"),
    "infinity": (lambda f: weights(f, ".bias", spoil(float("inf"))), "hold NaN or infinity"),
    "whole numbers": (lambda f: weights(f, ".bias", lambda t: t.to(torch.int8)), "are no fractions"),
    "cut in half": (lambda f: raw(f, lambda b: b[: len(b) // 2]), "no whole safetensors file"),
    "one byte short": (lambda f: raw(f, lambda b: b[:-1]), "no whole safetensors file"),
    "empty": (lambda f: raw(f, lambda b: b""), "no whole safetensors file"),
    "huge header": (lambda f: raw(f, lambda b: struct.pack("<Q", 2**62) + b[8:]), "no whole safetensors file"),
    "large header": (lambda f: raw(f, lambda b: struct.pack("<Q", 90_000_000) + b[8:]), "no whole safetensors file"),
    "pickle by another name": (lambda f: raw(f, lambda b: pickle.dumps(Opens(f / "ran"))), "no whole safetensors file"),
    "pickle": (pickled, "pytorch_model.bin can run code"),
    "pickle by an index": (pickled_by_index, "pytorch_model.bin, which is no safetensors file"),
    "part missing": (parted_without_one, "is missing, a part"),
    "code": (with_code, "code of its own"),
    "code of an unknown model": (lambda f: with_code(f, model_type="oracle"), "code of its own"),
    "one label more": (
        lambda f: settings(f, id2label={i: f"l{i}" for i in range(4)}, label2id={f"l{i}": i for i in range(4)}),
        "should be",
    ),
    "one label less": (lambda f: settings(f, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1}), "should be"),
    "another number of labels": (lambda f: settings(f, num_labels=2), "should be|contradict"),
    "no number of labels": (lambda f: settings(f, num_labels="many"), "config.json"),
    "labels twice": (lambda f: settings(f, id2label={0: "no", 1: "yes", 2: "yes"}), "two labels are called 'yes'"),
    "labels with a gap": (lambda f: settings(f, id2label={0: "no", 1: "yes", 5: "so"}), "id2label"),
    "labels as a list": (lambda f: settings(f, id2label=["no", "yes", "so"]), "config.json"),
    "labels in another order": (lambda f: settings(f, label2id={"no": 2, "yes": 1, "so": 0}), "contradict"),
    "label without a name": (lambda f: settings(f, id2label={0: "no", 1: " ", 2: "so"}), "is no name"),
    "label named as a column": (
        lambda f: settings(f, id2label={0: "text", 1: "b", 2: "c"}, label2id={}),
        "like a column",
    ),
    "regression": (lambda f: settings(f, problem_type="regression"), "no classification"),
    "padding beyond the vocabulary": (lambda f: settings(f, pad_token_id=10**6), "outside the vocabulary|cannot be"),
    "padding below 0": (lambda f: settings(f, pad_token_id=-5), "outside the vocabulary"),
    "thresholds as a list": (lambda f: several(f, emo_nb_thresholds=[0.1]), "emo_nb_thresholds"),
    "threshold as a word": (lambda f: several(f, emo_nb_thresholds={"no": "low"}), "emo_nb_thresholds"),
    "threshold above 1": (lambda f: several(f, emo_nb_thresholds={"no": 7}), "emo_nb_thresholds"),
    "threshold NaN": (lambda f: several(f, emo_nb_thresholds={"no": float("nan")}), "emo_nb_thresholds"),
    "threshold of no label": (lambda f: several(f, emo_nb_thresholds={"joy": 0.2}), "emo_nb_thresholds names 'joy'"),
    "temperature as a word": (lambda f: settings(f, emo_nb_temperature="hot"), "emo_nb_temperature"),
    "temperature 0": (lambda f: settings(f, emo_nb_temperature=0), "emo_nb_temperature"),
    "one layer more": (lambda f: settings(f, num_hidden_layers=3, n_layers=3), "are missing"),
    "one layer less": (lambda f: settings(f, num_hidden_layers=1, n_layers=1), "are none"),
    "no layers": (lambda f: settings(f, num_hidden_layers=0, n_layers=0), "are none"),
    "five heads": (lambda f: settings(f, num_attention_heads=5, n_heads=5), "cannot be opened"),
    "fewer places": (lambda f: settings(f, max_position_embeddings=16), r"\(16, 32\)"),
    "a vocabulary of ten billion": (lambda f: settings(f, vocab_size=10**10), "should be|asks for"),
    "another family": (lambda f: settings(f, model_type="electra"), "are missing|asks for"),
    "no family": (lambda f: settings(f, model_type="../../oracle"), "no model that transformers knows"),
    "settings no JSON": (written("config.json", b"hello"), "config.json cannot be read as JSON"),
    "settings no text": (written("config.json", b"\xff\xfe\x00"), "config.json cannot be read as JSON"),
    "settings without end": (written("config.json", b"[" * 100_000), "config.json cannot be read as JSON"),
    "settings a list": (written("config.json", b"[1]"), "config.json holds no JSON object"),
    "settings empty": (written("config.json", b"{}"), "no model that transformers knows"),
    "no settings": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "an adapter": (adapter, "holds an adapter"),
    "one token more": (one_token_more, "up to 30522"),
    "no tokeniser": (no_tokenizer, "has no tokeniser"),
    "tokeniser empty": (written("tokenizer.json", b"{}"), "no tokeniser"),
    "tokeniser no JSON": (written("tokenizer_config.json", b"[]"), "no tokeniser"),
}


def lean_like(folder):
    "Is its last layer called the classifier?"
    return "roberta" not in json.loads((folder / "config.json").read_text())["model_type"]


def check_refused(harm, words, folder, opened, capfd, what):
    "Harm a folder, and see that it is refused in a sentence with these words, that nothing else is said and no code run."
    harm(folder)
    capfd.readouterr()
    try:
        opened(folder)
    except ModelError as error:
        said = str(error)
    else:
        pytest.fail(f"{what}: not refused")
    assert re.search(words, said), f"{what}: {said}"
    assert str(folder) in said, what
    assert len(said.splitlines()) == 1, what
    assert not any(capfd.readouterr()), f"{what}: something else was said"
    assert not (folder / "ran").exists(), f"{what}: code was run"
    shutil.rmtree(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_does_not_belong_together_is_refused_in_one_sentence_that_names_the_place(
    sound, family, tmp_path, capfd, tried
):
    for number, (what, (harm, words)) in enumerate(HARMS.items()):
        folder = shutil.copytree(sound[family], tmp_path / str(number))
        check_refused(harm, words, folder, EmotionClassifier.load, capfd, what)
    tried("damaged or foreign models refused", len(HARMS))


# What is sound, however it lies there


def as_links(folder):
    real = folder.rename(folder.with_name("real"))
    folder.mkdir()
    for file in real.iterdir():
        (folder / file.name).symlink_to(file)


def beside_a_pickle(folder):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Opens(folder / "ran")))


def with_places(folder):
    "As older versions of transformers saved models: the numbers of places among the weights."
    file, base = folder / "model.safetensors", json.loads((folder / "config.json").read_text())["model_type"]
    places = {f"{base}.embeddings.position_ids": torch.arange(512)[None]}
    save_file({**load_file(file), **places}, file, metadata={"format": "pt"})


def with_old_names(folder):
    "Norms called as in TensorFlow, which files from BERT's first years still have."
    file = folder / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    named = {re.sub("|".join(old), lambda hit: old[hit[0]], name): each for name, each in load_file(file).items()}
    save_file(named, file, metadata={"format": "pt"})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "change",
    [
        as_links,
        parted,
        beside_a_pickle,
        with_places,
        with_old_names,
        lambda f: weights(f, "classifier.bias" if lean_like(f) else "out_proj.bias", lambda t: t.double()),
        lambda f: tokenizer_with_code(f, "BertTokenizer"),
        lambda f: tokenizer_with_code(f, "Words"),
        lambda f: settings(f, label2id={"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}),
    ],
    ids=[
        "links",
        "parts",
        "beside a pickle",
        "with places",
        "with old names",
        "float64",
        "code of a tokeniser",
        "code of a tokeniser of its own",
        "standard names",
    ],
)
def test_a_sound_model_gives_the_same_answers_however_it_lies_there(sound, family, change, tmp_path):
    folder = shutil.copytree(sound[family], tmp_path / "model")
    expected = EmotionClassifier.load(folder, dtype="float32").predict_proba(TEXTS)
    change(folder)
    np.testing.assert_allclose(
        EmotionClassifier.load(folder, dtype="float32").predict_proba(TEXTS), expected, atol=1e-6
    )
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_cut_at_the_places_that_a_model_has(family, tmp_path):
    folder = small(tmp_path / "model", family, max_position_embeddings=40)
    classifier = EmotionClassifier.load(folder)
    assert classifier.max_length == (39 if family == "roberta" else 40)
    assert np.isfinite(classifier.predict_proba(["so it goes " * 100, "so"])).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_whose_answer_is_no_number_says_so_and_gives_none(sound, family, tmp_path):
    folder = shutil.copytree(sound[family], tmp_path / "model")
    weights(folder, "embeddings.LayerNorm.weight", lambda t: t * 1e38)  # finite, and too large to be multiplied
    classifier = EmotionClassifier.load(folder, dtype="float32")
    with pytest.raises(ModelError, match="answer to text 0 is no number"):
        classifier.predict(TEXTS)


# As an encoder to train


def as_encoder(folder):
    "What a run does with an encoder before it trains."
    encoder = find_encoder(str(folder))
    return tokenizer_of(encoder, max_length=64), new_classifier(encoder, ["no", "yes"])


AS_ENCODER = [
    "cut in half", "NaN", "whole numbers", "huge header", "pickle", "pickle by an index", "part missing", "code",
    "code of an unknown model", "one layer more", "one layer less", "weights of other shape",
    "fewer places", "another family", "settings a list", "settings no JSON", "an adapter", "one token more",
    "no tokeniser",
]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_that_does_not_belong_together_is_refused_in_one_sentence(family, tmp_path, capfd, tried):
    sound = small(tmp_path / "sound", family, AutoModelForMaskedLM)
    tokenizer, model = as_encoder(sound)  # a head for masked words is left out, ours is new
    assert model.config.num_labels == 2
    assert tokenizer.model_max_length == 64
    for number, what in enumerate(AS_ENCODER):
        folder = shutil.copytree(sound, tmp_path / str(number))
        check_refused(*HARMS[what], folder, as_encoder, capfd, what)
    tried("damaged or foreign encoders refused", len(AS_ENCODER))


# Through the command


@pytest.mark.parametrize("what", ["pickle", "code", "NaN", "thresholds as a list", "settings a list", "one token more"])
def test_the_command_refuses_a_foreign_model_in_one_line(emo, sound, tmp_path, what):
    folder = shutil.copytree(sound["bert"], tmp_path / "model")
    HARMS[what][0](folder)
    code, out, err = emo("predict", "--model", folder, "so it goes")
    check_mistake(code, err, [str(folder)])
    assert not out


@pytest.mark.parametrize("what", ["pickle", "code", "one token more"])
def test_the_command_refuses_a_foreign_encoder_in_one_line(emo, sound, here, what):
    folder = shutil.copytree(sound["bert"], here / "encoder")
    HARMS[what][0](folder)
    own = write_own(here / "own.csv", ("calm", "upset"))
    columns = ("--data", own, "--text-col", "text", "--label-col", "label")
    code, _, err = emo("run", *columns, "--profile", "tiny", "--encoder", folder, "--out", here / "run")
    check_mistake(code, err, [str(folder)])
    assert not (here / "run").exists()


def test_an_adapter_by_itself_is_no_model_and_that_is_said(tiny):
    with pytest.raises(ModelError, match="holds an adapter"):
        load_model(Path(tiny.folder) / "adapter")


@pytest.mark.parametrize("said", ["[1]", "{}", "null", "hello"])
def test_a_run_whose_settings_are_none_is_refused_when_it_is_scored_again(emo, tiny, here, said):
    folder = shutil.copytree(tiny.folder, here / "run")
    (folder / "config.json").write_text(said)
    code, out, err = emo("evaluate", folder)
    check_mistake(code, err, [str(folder), "is damaged"])
    assert not out
