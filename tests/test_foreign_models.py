"""Model folders from anywhere: what does not belong together is refused in a sentence, and no code in them runs."""

import json
import pickle
import re
import shutil
import struct

import numpy as np
import pytest
import torch
from helpers import change_json, check_mistake, write_own
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, set_seed

from emo_nb import EmotionClassifier, ModelError
from emo_nb.model import find_encoder, load_model, load_tokenizer, new_classifier

FAMILIES = ("bert", "distilbert", "roberta")  # on a CPU, the first is computed by FastBert
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIZES_OF = {"distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}}
LABELS = {0: "no", 1: "yes", 2: "so"}
TEXTS = ["hello there " * 60, "x", ""]
CODE = "open({!r}, 'w')\nclass Own: pass\n"


def small(folder, family, kind=AutoModelForSequenceClassification, **settings):
    "A model of this family with small random weights, and the bundled encoder's tokenizer."
    tokenizer = load_tokenizer(find_encoder("minilm"))
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
    change_json(folder / "config.json", **changed)


def with_thresholds(thresholds):
    problem = "multi_label_classification"
    return lambda folder: settings(folder, problem_type=problem, emo_nb_thresholds=thresholds)


def with_labels(*names, **changed):
    "A model whose config names its labels so."
    by_name = {name: i for i, name in enumerate(names)}
    return lambda folder: settings(folder, **{"id2label": dict(enumerate(names)), "label2id": by_name, **changed})


def weights(folder, ending, change=None):
    "Change the first of the weights whose name ends so, or drop them."
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if name.endswith(ending))
    tensor = tensors.pop(name)
    if change:
        tensors[name] = change(tensor.clone())
    save_file(tensors, file, metadata={"format": "pt"})


def output_weights(folder):
    "What the weights of the last layer are called."
    is_roberta = json.loads((folder / "config.json").read_text())["model_type"] == "roberta"
    return "out_proj.weight" if is_roberta else "classifier.weight"


def extra(folder):
    file = folder / "model.safetensors"
    save_file({**load_file(file), "more.weight": torch.ones(3)}, file, metadata={"format": "pt"})


def raw(change):
    "Change the file of weights as bytes."

    def harm(folder):
        file = folder / "model.safetensors"
        file.write_bytes(change(file.read_bytes()))

    return harm


class Opens:
    "A pickle of it makes a file when it is opened."

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def beside_a_pickle(folder):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Opens(folder / "ran")))


def pickled(folder):
    beside_a_pickle(folder)
    (folder / "model.safetensors").unlink()


def pickled_by_index(folder):
    pickled(folder)
    index = {"metadata": {}, "weight_map": {"classifier.weight": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def sharded(folder):
    "The weights in several files."
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="1MB")
    assert len(list(folder.glob("*.safetensors"))) > 1


def without_a_shard(folder):
    sharded(folder)
    max(folder.glob("*.safetensors")).unlink()


def with_code(folder, **changed):
    "Code beside the config, which names it."
    (folder / "own.py").write_text(CODE.format(str(folder / "ran")))
    names = dict.fromkeys(("AutoConfig", "AutoModelForSequenceClassification"), "own.Own")
    settings(folder, auto_map=names, **changed)


def tokenizer_with_code(folder):
    "A tokenizer of a class of its own, with the code beside it."
    (folder / "own.py").write_text(CODE.format(str(folder / "ran")))
    change_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="Own")


def one_token_more(folder):
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["sesquipedalian"])
    tokenizer.save_pretrained(folder)


def no_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


def adapter(folder):
    "The whole model and an adapter in one folder, which transformers would put upon it."
    said = {"peft_type": "LORA", "base_model_name_or_path": "no-such/encoder", "target_modules": ["query"]}
    (folder / "adapter_config.json").write_text(json.dumps(said))


def written(name, content):
    return lambda folder: (folder / name).write_bytes(content)


INCOMPLETE = "not a complete safetensors file"
HARMS = {
    "weights missing": (lambda f: weights(f, output_weights(f)), "are missing"),
    "weights too many": (extra, "no weights more.weight"),
    "other shape": (lambda f: weights(f, "word_embeddings.weight", lambda t: t[:30_000].clone()), r"\(30000, 32\)"),
    "NaN": (lambda f: weights(f, "word_embeddings.weight", lambda t: t.fill_(torch.nan)), "hold NaN or infinity"),
    "infinity": (lambda f: weights(f, ".bias", lambda t: t.fill_(torch.inf)), "hold NaN or infinity"),
    "whole numbers": (lambda f: weights(f, ".bias", lambda t: t.to(torch.int8)), "are not fractions"),
    "cut in half": (raw(lambda b: b[: len(b) // 2]), INCOMPLETE),
    "one byte short": (raw(lambda b: b[:-1]), INCOMPLETE),
    "huge header": (raw(lambda b: struct.pack("<Q", 2**62) + b[8:]), INCOMPLETE),
    "pickle by another name": (lambda f: raw(lambda b: pickle.dumps(Opens(f / "ran")))(f), INCOMPLETE),
    "pickle": (pickled, "pytorch_model.bin can run code"),
    "pickle by an index": (pickled_by_index, "pytorch_model.bin, which is not a safetensors file"),
    "shard missing": (without_a_shard, "is missing, a part"),
    "code": (with_code, "code of its own"),
    "code of an unknown model": (lambda f: with_code(f, model_type="oracle"), "code of its own"),
    "one label more": (with_labels(*"abcd"), "should have"),
    "one label less": (with_labels(*"ab"), "should have"),
    "no number of labels": (lambda f: settings(f, num_labels="many"), "config.json"),
    "labels twice": (with_labels("no", "yes", "yes"), "two labels are called 'yes'"),
    "labels with a gap": (lambda f: settings(f, id2label={0: "no", 1: "yes", 5: "so"}), "id2label"),
    "labels in another order": (lambda f: settings(f, label2id={"no": 2, "yes": 1, "so": 0}), "contradict"),
    "label without a name": (with_labels("no", " ", "so"), "is not a name"),
    "label named as a column": (with_labels("text", "b", "c"), "the name of a column"),
    "regression": (lambda f: settings(f, problem_type="regression"), "not a classification"),
    "padding below 0": (lambda f: settings(f, pad_token_id=-5), "outside the vocabulary"),
    "thresholds as a list": (with_thresholds([0.1]), "emo_nb_thresholds must map"),
    "threshold NaN": (with_thresholds({"no": float("nan")}), "emo_nb_thresholds must map"),
    "threshold of no label": (with_thresholds({"joy": 0.2}), "emo_nb_thresholds names 'joy'"),
    "temperature 0": (lambda f: settings(f, emo_nb_temperature=0), "emo_nb_temperature"),
    "one layer more": (lambda f: settings(f, num_hidden_layers=3, n_layers=3), "are missing"),
    "one layer less": (lambda f: settings(f, num_hidden_layers=1, n_layers=1), "asks for no weights"),
    "five heads": (lambda f: settings(f, num_attention_heads=5, n_heads=5), "cannot be opened"),
    "fewer positions": (lambda f: settings(f, max_position_embeddings=16), r"\(16, 32\)"),
    "a vocabulary of ten billion": (lambda f: settings(f, vocab_size=10**10), "should have|asks for"),
    "another family": (lambda f: settings(f, model_type="electra"), "are missing|asks for"),
    "no family": (lambda f: settings(f, model_type="../../oracle"), "no model that transformers knows"),
    "config not JSON": (written("config.json", b"\xff\xfe\x00"), "config.json cannot be read as JSON"),
    "config endless": (written("config.json", b"[" * 100_000), "config.json cannot be read as JSON"),
    "config a list": (written("config.json", b"[1]"), "config.json does not hold a JSON object"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "an adapter": (adapter, "holds an adapter"),
    "one token more": (one_token_more, "up to 30522"),
    "no tokenizer": (no_tokenizer, "has no tokenizer"),
    "tokenizer empty": (written("tokenizer.json", b"{}"), "no tokenizer"),
    "tokenizer config a list": (written("tokenizer_config.json", b"[]"), "no tokenizer"),
}


def check_refused(what, folder, load, capfd):
    "Harm a folder, and see that it is refused in one sentence, that nothing else is said and no code run."
    harm, words = HARMS[what]
    harm(folder)
    capfd.readouterr()
    try:
        load(folder)
    except ModelError as error:
        message = str(error)
    else:
        pytest.fail(f"{what}: not refused")
    assert re.search(words, message), f"{what}: {message}"
    assert str(folder) in message, what
    assert len(message.splitlines()) == 1, what
    assert not any(capfd.readouterr()), f"{what}: something else was said"
    assert not (folder / "ran").exists(), f"{what}: code was run"
    shutil.rmtree(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_damaged_or_foreign_model_is_refused_in_one_sentence_that_names_the_place(
    sound, family, tmp_path, capfd, tried
):
    for number, what in enumerate(HARMS):
        folder = shutil.copytree(sound[family], tmp_path / str(number))
        check_refused(what, folder, EmotionClassifier.from_pretrained, capfd)
    tried("damaged or foreign models refused", len(HARMS))


# What is sound, whatever way it is stored


def as_links(folder):
    real = folder.rename(folder.with_name("real"))
    folder.mkdir()
    for file in real.iterdir():
        (folder / file.name).symlink_to(file)


def with_position_ids(folder):
    "As older versions of transformers saved models: with buffers among the weights."
    file, base = folder / "model.safetensors", json.loads((folder / "config.json").read_text())["model_type"]
    buffers = {f"{base}.embeddings.position_ids": torch.arange(512)[None]}
    save_file({**load_file(file), **buffers}, file, metadata={"format": "pt"})


def with_old_names(folder):
    "Layer norms named as in TensorFlow, which files from BERT's first years still have."
    file = folder / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {re.sub("|".join(old), lambda hit: old[hit[0]], name): each for name, each in load_file(file).items()}
    save_file(renamed, file, metadata={"format": "pt"})


SOUND = {
    "links": as_links,
    "shards": sharded,
    "beside a pickle": beside_a_pickle,
    "position ids": with_position_ids,
    "old names": with_old_names,
    "float64": lambda f: weights(f, output_weights(f).replace("weight", "bias"), lambda t: t.double()),
    "code of a tokenizer": tokenizer_with_code,
    "standard names": lambda f: settings(f, label2id={f"LABEL_{i}": i for i in range(3)}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sound_model_gives_the_same_probabilities_however_it_is_stored(sound, family, tmp_path):
    expected = EmotionClassifier.from_pretrained(sound[family], dtype="float32").predict_proba(TEXTS)
    for name, change in SOUND.items():
        folder = shutil.copytree(sound[family], tmp_path / name / "model")
        change(folder)
        proba = EmotionClassifier.from_pretrained(folder, dtype="float32").predict_proba(TEXTS)
        np.testing.assert_allclose(proba, expected, atol=1e-6, err_msg=name)
        assert not (folder / "ran").exists(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_truncated_at_the_number_of_positions_of_the_model(family, tmp_path):
    classifier = EmotionClassifier.from_pretrained(small(tmp_path / "model", family, max_position_embeddings=40))
    assert classifier.max_length == (39 if family == "roberta" else 40)
    assert np.isfinite(classifier.predict_proba(["so it goes " * 100, "so"])).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_returns_nan_gives_no_probabilities(sound, family, tmp_path):
    folder = shutil.copytree(sound[family], tmp_path / "model")
    weights(folder, "embeddings.LayerNorm.weight", lambda t: t * 1e38)  # finite, and too large to be multiplied
    with pytest.raises(ModelError, match="returned NaN or infinity for text 0"):
        EmotionClassifier.from_pretrained(folder, dtype="float32").predict(TEXTS)


# As an encoder to train


def as_encoder(folder):
    "What a run does with an encoder before it trains."
    encoder = find_encoder(str(folder))
    return load_tokenizer(encoder, max_length=64), new_classifier(encoder, ["no", "yes"])


AS_ENCODER = (
    *("cut in half", "NaN", "whole numbers", "pickle", "pickle by an index", "shard missing", "code", "one layer more"),
    *("one layer less", "other shape", "another family", "config a list", "an adapter", "one token more"),
    "no tokenizer",
)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_damaged_or_foreign_encoder_is_refused_in_one_sentence(family, tmp_path, capfd, tried):
    sound = small(tmp_path / "sound", family, AutoModelForMaskedLM)
    tokenizer, model = as_encoder(sound)  # the head for masked words is left out, ours is new
    assert (model.config.num_labels, tokenizer.model_max_length) == (2, 64)
    for number, what in enumerate(AS_ENCODER):
        check_refused(what, shutil.copytree(sound, tmp_path / str(number)), as_encoder, capfd)
    tried("damaged or foreign encoders refused", len(AS_ENCODER))


# Through the command


@pytest.mark.parametrize("what", ["pickle", "code", "NaN", "config a list", "one token more"])
def test_the_command_refuses_a_foreign_model_or_encoder_in_one_line(emo, sound, here, what):
    folder = shutil.copytree(sound["bert"], here / "model")
    HARMS[what][0](folder)
    code, out, err = emo("predict", "--model", folder, "so it goes")
    check_mistake(code, err, [str(folder)])
    assert not out
    own = write_own(here / "own.csv", ("calm", "upset"))
    columns = ("--data", own, "--text-col", "text", "--label-col", "label")
    code, _, err = emo("run", *columns, "--preset", "tiny", "--encoder", folder, "--out", here / "run")
    check_mistake(code, err, [str(folder)])
    assert not (here / "run").exists()


def test_an_adapter_by_itself_is_refused(tiny):
    with pytest.raises(ModelError, match="holds an adapter"):
        load_model(tiny.folder / "adapter")
