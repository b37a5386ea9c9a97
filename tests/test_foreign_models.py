"""Model folders from anywhere: what does not belong together is refused in a sentence, and no code in them runs."""

import pickle
import re
import shutil
import struct

import numpy as np
import pytest
import torch
from helpers import change_json, check_mistake, write_own
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, pipeline, set_seed

from emo_nb import ModelError
from emo_nb.model import find_encoder, load_tokenizer, new_classifier
from emo_nb.predict import TrainedClassifier

FAMILIES = ("bert", "distilbert", "roberta")  # on a CPU, the first is computed by FastBert
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIZES_OF = {"distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}}
LABELS = ("no", "yes", "so")
TEXTS = ["hello there " * 60, "x", ""]


def names(labels):
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}


def small(folder, family, kind=AutoModelForSequenceClassification, **config):
    "A model of this family with small random weights, and the bundled encoder's tokenizer."
    tokenizer = load_tokenizer(find_encoder("minilm"))
    config = {"vocab_size": len(tokenizer), "pad_token_id": 0, **SIZES_OF.get(family, SIZES), **names(LABELS), **config}
    set_seed(1)
    kind.from_config(AutoConfig.for_model(family, **config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    "A sound model of each family."
    return {family: small(tmp_path_factory.mktemp("sound") / family, family) for family in FAMILIES}


# What is done to a sound folder


def config(**changed):
    return lambda folder: change_json(folder / "config.json", **changed)


def thresholds(value):
    return config(problem_type="multi_label_classification", emo_nb_thresholds=value)


def written(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def raw(change):
    "Change the file of weights as bytes."
    return lambda folder: written("model.safetensors", change((folder / "model.safetensors").read_bytes()))(folder)


def tensors(change):
    "Change the weights, a dict by name."

    def harm(folder):
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return harm


def tensor(ending, change):
    "Change the weights whose names end so."
    return tensors(lambda weights: {name: change(t) if name.endswith(ending) else t for name, t in weights.items()})


def without_head(folder):
    tensors(lambda weights: {name: t for name, t in weights.items() if "classifier" not in name})(folder)


def without(pattern):
    "Remove the last of the files that match."
    return lambda folder: max(folder.glob(pattern)).unlink()


def each(*harms):
    return lambda folder: [harm(folder) for harm in harms]


class Opens:
    "A pickle of it makes a file when it is opened."

    def __init__(self, folder):
        self.mark = str(folder / "ran")

    def __reduce__(self):
        return open, (self.mark, "w")


def beside_a_pickle(folder):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Opens(folder)))


def sharded(folder):
    "The weights in several files."
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="1MB")
    assert len(list(folder.glob("*.safetensors"))) > 1


def with_code(file, **changed):
    "Code beside a JSON file, which names it."

    def harm(folder):
        (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Own: pass\n")
        change_json(folder / file, **changed)

    return harm


def one_token_more(folder):
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["sesquipedalian"])
    tokenizer.save_pretrained(folder)


def as_links(folder):
    real = folder.rename(folder.with_name("real"))
    folder.mkdir()
    for file in real.iterdir():
        (folder / file.name).symlink_to(file)


OUTPUT = ("classifier.weight", "out_proj.weight")
OWN_CODE = {"auto_map": dict.fromkeys(("AutoConfig", "AutoModelForSequenceClassification"), "own.Own")}
ADAPTER = b'{"peft_type": "LORA", "base_model_name_or_path": "no-such/encoder", "target_modules": ["query"]}'
INDEX = b'{"metadata": {}, "weight_map": {"classifier.weight": "pytorch_model.bin"}}'
INCOMPLETE = "not a complete safetensors file"
PICKLED = each(beside_a_pickle, without("model.safetensors"))
HARMS = {
    "weights missing": (
        tensors(lambda weights: {n: t for n, t in weights.items() if not n.endswith(OUTPUT)}),
        "are missing",
    ),
    "weights too many": (tensors(lambda weights: {**weights, "more.weight": torch.ones(3)}), "no weights more.weight"),
    "other shape": (tensor("word_embeddings.weight", lambda t: t[:30_000].clone()), r"\(30000, 32\)"),
    "NaN": (tensor("word_embeddings.weight", lambda t: t * torch.nan), "hold NaN or infinity"),
    "infinity in bfloat16": (tensor(OUTPUT, lambda t: t.bfloat16() * torch.inf), "hold NaN or infinity"),
    "float8": (tensor(OUTPUT, lambda t: t.to(torch.float8_e4m3fn)), "float8_e4m3fn"),
    "whole numbers": (tensor(".bias", lambda t: t.to(torch.int8)), "are not fractions"),
    "cut in half": (raw(lambda b: b[: len(b) // 2]), INCOMPLETE),
    "one byte short": (raw(lambda b: b[:-1]), INCOMPLETE),
    "huge header": (raw(lambda b: struct.pack("<Q", 2**62) + b[8:]), INCOMPLETE),
    "pickle by another name": (lambda folder: raw(lambda _: pickle.dumps(Opens(folder)))(folder), INCOMPLETE),
    "pickle": (PICKLED, "pytorch_model.bin can run code"),
    "pickle by an index": (
        each(PICKLED, written("model.safetensors.index.json", INDEX)),
        "pytorch_model.bin, which is not a safetensors file",
    ),
    "shard missing": (each(sharded, without("*.safetensors")), "is missing, a part"),
    "code": (with_code("config.json", **OWN_CODE), "code of its own"),
    "code of an unknown model": (with_code("config.json", model_type="oracle", **OWN_CODE), "code of its own"),
    "one label more": (config(**names("abcd")), "should have"),
    "no number of labels": (config(num_labels="many"), "config.json"),
    "labels twice": (config(**names(("no", "yes", "yes"))), "two labels are called 'yes'"),
    "labels with a gap": (config(id2label={0: "no", 1: "yes", 5: "so"}), "id2label"),
    "labels in another order": (config(label2id={"no": 2, "yes": 1, "so": 0}), "contradict"),
    "label without a name": (config(**names(("no", " ", "so"))), "is not a name"),
    "label named as a column": (config(**names(("text", "b", "c"))), "the name of a column"),
    "regression": (config(problem_type="regression"), "not a classification"),
    "padding below 0": (config(pad_token_id=-5), "outside the vocabulary"),
    "threshold NaN": (thresholds({"no": float("nan")}), "emo_nb_thresholds must map"),
    "thresholds as a list": (thresholds([0.1]), "emo_nb_thresholds must map"),
    "threshold of no label": (thresholds({"joy": 0.2}), "emo_nb_thresholds names 'joy'"),
    "temperature 0": (config(emo_nb_temperature=0), "emo_nb_temperature"),
    "one layer more": (config(num_hidden_layers=3, n_layers=3), "are missing"),
    "one layer less": (config(num_hidden_layers=1, n_layers=1), "asks for no weights"),
    "five heads": (config(num_attention_heads=5, n_heads=5), "cannot be opened"),
    "a vocabulary of ten billion": (config(vocab_size=10**10), "should have|asks for"),
    "another family": (config(model_type="electra"), "are missing|asks for"),
    "an encoder": (each(config(architectures=None), without_head), "encoder without a classification head; train one"),
    "no family": (config(model_type="../../oracle"), "no model that transformers knows"),
    "config not JSON": (written("config.json", b"\xff\xfe\x00"), "config.json cannot be read as JSON"),
    "config a list": (written("config.json", b"[1]"), "config.json does not hold a JSON object"),
    "no config": (without("config.json"), "no config.json"),
    "an adapter": (written("adapter_config.json", ADAPTER), "holds an adapter"),
    "one token more": (one_token_more, "up to 30522"),
    "no tokenizer": (each(without("tokenizer*"), without("tokenizer*")), "has no tokenizer"),
    "tokenizer empty": (written("tokenizer.json", b"{}"), "no tokenizer"),
}


def check_refused(what, folder, load, capfd):
    "Harm a folder, and see that it is refused in one sentence, that nothing else is said and no code run."
    harm, words = HARMS[what]
    harm(folder)
    capfd.readouterr()
    with pytest.raises(ModelError, match=words) as error:
        load(folder)
        pytest.fail(f"{what}: not refused")
    assert str(folder) in str(error.value), what
    assert len(str(error.value).splitlines()) == 1, what
    assert not any(capfd.readouterr()), f"{what}: something else was said"
    assert not (folder / "ran").exists(), f"{what}: code was run"
    shutil.rmtree(folder)


def as_encoder(folder):
    "What a run does with an encoder before it trains."
    encoder = find_encoder(str(folder))
    return load_tokenizer(encoder, max_length=64), new_classifier(encoder, ["no", "yes"])


ENCODER_HARMS = (
    *("cut in half", "NaN", "whole numbers", "pickle", "pickle by an index", "shard missing", "code", "one layer more"),
    *("one layer less", "other shape", "another family", "config a list", "an adapter", "one token more"),
    "no tokenizer",
)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_damaged_or_foreign_model_or_encoder_is_refused_by_name(sound, family, tmp_path, capfd, tried):
    encoder = small(tmp_path / "encoder", family, AutoModelForMaskedLM)
    tokenizer, model = as_encoder(encoder)  # the head for masked words is left out, ours is new
    assert (model.config.num_labels, tokenizer.model_max_length) == (2, 64)
    kinds = [(TrainedClassifier.from_pretrained, sound[family], HARMS), (as_encoder, encoder, ENCODER_HARMS)]
    cases = [(load, folder, what) for load, folder, harms in kinds for what in harms]
    for number, (load, folder, what) in enumerate(cases):
        check_refused(what, shutil.copytree(folder, tmp_path / str(number)), load, capfd)
    tried("damaged or foreign models and encoders refused", len(cases))


@pytest.mark.parametrize("what", ["pickle", "code", "NaN", "config a list", "one token more"])
def test_the_command_refuses_a_foreign_model_or_encoder_in_one_line(emo, sound, here, what):
    folder, own = shutil.copytree(sound["bert"], here / "model"), write_own(here / "own.csv", ("calm", "upset"))
    HARMS[what][0](folder)
    train = ("--data", own, "--text-col", "text", "--label-col", "label", "--preset", "tiny", "--out", here / "run")
    for args in (("predict", "--model", folder, "so it goes"), ("run", *train, "--encoder", folder)):
        code, _, err = emo(*args)
        check_mistake(code, err, [str(folder)])
    assert not (here / "run").exists()


# What is sound, whatever way it is stored


@pytest.mark.parametrize("problem_type", [None, "multi_label_classification"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_one_output_is_a_sigmoid_as_in_the_pipeline(family, problem_type, tmp_path, emo):
    folder = small(tmp_path / family, family, **names(["irony"]), problem_type=problem_type)
    tensor(("classifier.bias", "out_proj.bias"), lambda t: t + 0.8)(folder)
    classifier, texts = TrainedClassifier.from_pretrained(folder, dtype="float32"), ["x", "so it goes"]
    piped = [answer["score"] for answer in pipeline("text-classification", model=str(folder), device="cpu")(texts)]
    table = classifier.predict_frame(texts)
    np.testing.assert_allclose(table.irony, piped, atol=1e-6)
    assert list(table.labels) == ["irony"] * 2 and list(classifier.thresholds) == [0.5]
    code, out, err = emo("predict", "--model", folder, *texts)
    assert code == 0 and [line.split()[-2:] for line in out.splitlines()] == [["irony", f"{p:.2f}"] for p in piped], err
    classifier.calibrate(["x", "so it goes"] * 20, np.array([[0], [1]] * 20))
    classifier.save_pretrained(tmp_path / "again")
    again = TrainedClassifier.from_pretrained(tmp_path / "again", dtype="float32")
    np.testing.assert_allclose(again.predict_frame(texts).irony, classifier.predict_frame(texts).irony, atol=1e-6)
    assert list(again.thresholds) == list(classifier.thresholds) != [0.5]


def with_tensorflow_names(weights):
    "As files from BERT's first years have them."
    norms = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    return {re.sub("|".join(norms), lambda match: norms[match[0]], name): each for name, each in weights.items()}


def with_position_ids(weights):
    "As older versions of transformers saved models: with a buffer among the weights."
    base = next(name for name in weights if ".embeddings." in name).split(".")[0]
    return {**weights, f"{base}.embeddings.position_ids": torch.arange(512)[None]}


SOUND = {
    "links": as_links,
    "shards": sharded,
    "beside a pickle": beside_a_pickle,
    "old names": tensors(with_tensorflow_names),
    "position ids": tensors(with_position_ids),
    "from several GPUs": tensors(lambda weights: {f"module.{name}": each for name, each in weights.items()}),
    "float64": tensor(OUTPUT, lambda t: t.double()),
    "code of a tokenizer": with_code(
        "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="Own"
    ),
    "standard names": config(label2id={f"LABEL_{i}": i for i in range(3)}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sound_model_gives_the_same_probabilities_however_it_is_stored(sound, family, tmp_path):
    expected = TrainedClassifier.from_pretrained(sound[family], dtype="float32").predict_proba(TEXTS)
    for name, change in SOUND.items():
        folder = shutil.copytree(sound[family], tmp_path / name / "model")
        change(folder)
        proba = TrainedClassifier.from_pretrained(folder, dtype="float32").predict_proba(TEXTS)
        np.testing.assert_allclose(proba, expected, atol=1e-6, err_msg=name)
        assert not (folder / "ran").exists(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_truncated_at_the_models_positions_and_nan_is_no_probability(sound, family, tmp_path):
    classifier = TrainedClassifier.from_pretrained(small(tmp_path / "short", family, max_position_embeddings=40))
    assert classifier.max_length == (39 if family == "roberta" else 40)
    assert np.isfinite(classifier.predict_proba(["so it goes " * 100, "so"])).all()
    folder = shutil.copytree(sound[family], tmp_path / "model")
    tensor("embeddings.LayerNorm.weight", lambda t: t * 1e38)(folder)  # finite, and too large to be multiplied
    with pytest.raises(ModelError, match="returned NaN or infinity: its weights"):
        TrainedClassifier.from_pretrained(folder, dtype="float32").predict_frame(TEXTS)
