"""Texts on a Ray cluster of two nodes: the answers of `predict_file`, whatever is killed, and what is refused."""

import gzip
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import check_mistake, refusal

from emo_nb import ConfigError, DataError, TextError
from emo_nb.predict import TrainedClassifier
from emo_nb.scale.files import predict_file

ray = pytest.importorskip("ray", reason="Ray has no package for this Python")
from ray.cluster_utils import Cluster  # noqa: E402

from emo_nb.scale.ray_data import predict_dataset, predict_on_ray  # noqa: E402

PARTS_OF_40 = "import emo_nb.scale.ray_data as r; r.PART_ROWS = 40; from emo_nb.cli import main; main()"


@pytest.fixture(scope="module")
def nodes():
    "Two nodes of one core each, on this machine."
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def texts(here):
    "Two CSV files of 200 and 100 texts, each with an id."
    texts = [f"row {i}, and {'hooray' if i % 3 else 'oh no'}, {i % 7}" for i in range(300)]
    table = pd.DataFrame({"id": range(300), "text": texts})
    Path("texts").mkdir()
    table.head(200).to_csv("texts/a.csv", index=False)
    table.tail(100).to_csv("texts/b.csv", index=False)
    return table


def command(model, *args):
    "The command line in a process of its own, in parts of forty texts."
    return [sys.executable, "-c", PARTS_OF_40, "predict", "--engine", "ray", "--model", str(model), *map(str, args)]


def same(folder, file):
    "Whether the parts of a folder hold the rows of a file, in their order."
    parts, whole = pd.read_parquet(folder), pd.read_parquet(file)
    numbers = whole.select_dtypes("number").columns
    assert list(parts.columns) == list(whole.columns)
    assert parts.drop(columns=numbers).equals(whole.drop(columns=numbers))
    return np.allclose(parts[numbers], whole[numbers], atol=1e-5)


def parts_of(folder):
    return {file.name: file.stat().st_mtime_ns for file in Path(folder).glob("[0-9]*")}


def start(args, folder, parts=1):
    "A command at work, once so many parts are there."
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and len(parts_of(folder)) < parts:
        time.sleep(0.01)
    return process


@pytest.mark.cluster
def test_whatever_is_killed_nothing_is_lost_and_the_answers_are_those_of_one_process(tiny, here, texts, nodes):
    classifier = TrainedClassifier.from_pretrained(tiny.folder)
    predict_file(classifier, "texts", "whole.parquet", show_progress_bar=False)
    args = command(tiny.folder, "--file", "texts", "--out", "parts", "--address", nodes.address)
    with start(args, "parts.part") as process:
        process.kill()
    before = parts_of("parts.part")
    assert 1 <= len(before) < 8
    assert not Path("parts").exists()
    node = nodes.add_node(num_cpus=1)
    with start(args, "parts.part", len(before) + 1) as process:
        assert before.items() <= parts_of("parts.part").items(), "what was done was done again"
        nodes.remove_node(node, allow_graceful=False)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "300 rows written" in err
    assert same("parts", "whole.parquet")
    assert not list(Path().glob("*.part"))


@pytest.mark.cluster
def test_a_node_that_dies_half_way_through_a_hundred_thousand_texts_loses_none(tiny, here, nodes):
    texts = [f"row {i}, and {'hooray' if i % 3 else 'oh no'}, {i % 7}" for i in range(100_000)]
    pd.DataFrame({"id": range(100_000), "text": texts}).to_parquet("texts.parquet")
    classifier = TrainedClassifier.from_pretrained(tiny.folder)
    predict_file(classifier, "texts.parquet", "whole.parquet", show_progress_bar=False)
    node = nodes.add_node(num_cpus=1)
    args = [sys.executable, "-m", "emo_nb", "predict", "--engine", "ray", "--model", str(tiny.folder)]
    args += ["--file", "texts.parquet", "--out", "parts", "--address", nodes.address]
    with start(args, "parts.part", 5) as process:
        nodes.remove_node(node, allow_graceful=False)
        assert len(parts_of("parts.part")) < 10
        _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert "100,000 rows written" in err
    assert same("parts", "whole.parquet")


@pytest.mark.cluster
def test_a_dataset_keeps_its_columns_and_their_order(tiny, here, texts, nodes):
    ray.init(nodes.address, logging_level="ERROR", log_to_driver=False, ignore_reinit_error=True)
    classifier = TrainedClassifier.from_pretrained(tiny.folder)
    data = ray.data.from_pandas(texts.rename(columns={"text": "note"}).assign(label="own"))
    found = predict_dataset(data, classifier, "note", top_k=2).to_pandas()
    expected = classifier.for_bulk().predict_frame(texts.text, top_k=2)
    assert list(found.columns) == ["id", "input_label", *expected.columns]
    assert list(found.id) == list(texts.id)
    assert list(found.labels) == list(expected.labels)
    assert np.allclose(found[classifier.labels], expected[classifier.labels], atol=1e-5)
    of_files = predict_dataset("texts", str(tiny.folder), keep=["id"]).to_pandas().astype({"id": int}).sort_values("id")
    assert list(of_files.text) == list(texts.text)
    assert list(of_files.file) == [str(Path("texts/a.csv"))] * 200 + [str(Path("texts/b.csv"))] * 100
    assert np.allclose(of_files[classifier.labels], expected[classifier.labels], atol=1e-5)
    with refusal(DataError, "text", "note"):
        predict_dataset(data, classifier)
    with refusal(ConfigError, "64 cores", "1"):
        predict_dataset(data, classifier, "note", cores=64)


@pytest.mark.cluster
def test_a_machine_that_does_not_fit_is_named_before_any_work(tiny, here, texts, nodes):
    ray.init(nodes.address, logging_level="ERROR", log_to_driver=False, ignore_reinit_error=True)
    info = here / "older" / "emo_nb-0.0.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: emo_nb\nVersion: 0.0.9\n")
    node = nodes.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(info.parent)})
    try:
        with refusal(ConfigError, "emo_nb 0.0.9", "install the same"):
            predict_on_ray(tiny.folder, "texts", "out", show_progress_bar=False)
    finally:
        nodes.remove_node(node)
    assert not Path("out").exists() and not parts_of("out.part")


def living():
    return [node for node in ray.nodes() if node["Alive"]]


@contextmanager
def machine(nodes, *before, python_command=sys.executable):
    "A machine of the cluster that is not like the first: its node is begun by a command that changes something before."
    n_before, args = len(living()), [python_command, "-m", "ray.scripts.scripts", "start", "--address", nodes.address]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*before, *map(str, args), "--num-cpus", "1", "--block"], **streams) as process:
        try:
            while len(living()) == n_before:
                assert process.poll() is None
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
    while len(living()) > n_before:
        time.sleep(0.1)


@pytest.mark.cluster
def test_a_machine_without_emo_nb_is_named_before_any_work(tiny, here, texts, nodes):
    ray.init(nodes.address, logging_level="ERROR", log_to_driver=False, ignore_reinit_error=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "without"], check=True)
    (packages,) = Path("without").glob("lib/python*/site-packages")
    for place in Path(np.__file__).parent.parent.iterdir():
        if "emo_nb" not in place.name:
            (packages / place.name).symlink_to(place)
    with (
        machine(nodes, python_command=here / "without/bin/python"),
        refusal(ConfigError, "has no emo_nb", "install the same"),
    ):
        predict_on_ray(tiny.folder, here / "texts", "out", show_progress_bar=False)
    assert not Path("out").exists() and not parts_of("out.part")


@pytest.mark.cluster
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process other files")
def test_a_machine_that_does_not_see_the_files_is_named_before_any_work(tiny, here, texts, nodes):
    ray.init(nodes.address, logging_level="ERROR", log_to_driver=False, ignore_reinit_error=True)
    hide = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(here / "texts"))
    with machine(nodes, *hide), refusal(ConfigError, "does not see", "a.csv", "all machines share"):
        predict_on_ray(tiny.folder, here / "texts", "out", show_progress_bar=False)
    assert not Path("out").exists() and not parts_of("out.part")


@pytest.mark.cluster
def test_a_cut_file_ends_the_work_and_the_parts_before_it_are_kept(tiny, here, texts, nodes, monkeypatch):
    monkeypatch.setattr("emo_nb.scale.ray_data.PART_ROWS", 40)
    ray.init(nodes.address, logging_level="ERROR", log_to_driver=False, ignore_reinit_error=True)
    packed = gzip.compress(
        "".join(f"{text}\n" for text in np.random.default_rng(0).bytes(200_000).hex(" ", 20).split()).encode()
    )
    Path("texts/c.txt.gz").write_bytes(packed[: len(packed) // 2])
    with refusal((DataError, TextError), "c.txt.gz", "cut short or damaged"):
        predict_on_ray(tiny.folder, "texts", "out", keep="none", show_progress_bar=False)
    assert parts_of("out.part")


@pytest.mark.cluster
def test_a_row_without_a_text_ends_the_work_and_finished_parts_are_kept(tiny, here, texts, nodes, monkeypatch):
    ray.init(nodes.address, logging_level="ERROR", log_to_driver=False, ignore_reinit_error=True)
    texts.head(60).assign(text=[*texts.text[:59], None]).to_parquet("gap.parquet")
    classifier = TrainedClassifier.from_pretrained(tiny.folder)
    with refusal(TextError, "gap.parquet", "row 60"):
        predict_on_ray(classifier, "gap.parquet", "out", show_progress_bar=False)
    assert (here / "out.part").is_dir()
    texts.head(60).to_parquet("gap.parquet")
    with refusal(ConfigError, "out.part", "another file"):
        predict_on_ray(classifier, "gap.parquet", "out", show_progress_bar=False)
    assert predict_on_ray(classifier, "gap.parquet", "out", force=True, show_progress_bar=False) == 60
    with refusal(ConfigError, "out", "already exists"):
        predict_on_ray(classifier, "gap.parquet", "out", show_progress_bar=False)


@pytest.mark.cluster
def test_a_cluster_without_a_core_for_a_worker_is_named(tiny, here, texts):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        with refusal(ConfigError, "no machine of the cluster has a core"):
            predict_on_ray(tiny.folder, "texts", "out", address=cluster.address, show_progress_bar=False)
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.parametrize(
    "options, culprits",
    [
        (["--file", "texts", "--out", "parts", "--engine", "ray", "--address", "127.0.0.1:9"], ["127.0.0.1:9"]),
        (["--file", "texts", "--out", "parts", "--engine", "ray", "--address", "auto"], ["auto", "ray start --head"]),
        (["--file", "texts", "--out", "parts", "--address", "auto"], ["--engine ray"]),
        (["--file", "texts", "--engine", "ray"], ["--out"]),
        (["one text", "--out", "parts", "--engine", "ray"], ["--file"]),
        (["--file", "texts", "--out", "parts", "--engine", "ray", "--format", "csv"], ["csv"]),
        (["--file", "texts", "--out", "texts", "--engine", "ray"], ["texts", "already exists"]),
        (["--file", "*.nothing", "--out", "parts", "--engine", "ray"], ["*.nothing"]),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(emo, tiny, here, texts, options, culprits):
    ray.shutdown()  # where a test before this one has connected this process
    code, _, err = emo("predict", "--model", tiny.folder, *options)
    check_mistake(code, err, culprits)
    assert not Path("parts").exists()


def test_an_address_where_something_else_listens_is_refused_at_once(emo, tiny, here, texts):
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{other.server_port}"
        options = ("--file", "texts", "--out", "parts", "--engine", "ray", "--address", address)
        code, _, err = emo("predict", "--model", tiny.folder, *options)
        other.shutdown()
    check_mistake(code, err, [address, "no Ray cluster"])
