"""The page Try it in a real browser: its numbers are Python's, and without the model it shows the saved sentences."""

import json
import shutil
import sys
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from test_site import Quiet, browser  # noqa: F401
from try_it import MODEL, SOURCE, TOLERANCE, Unavailable, add_packages, build, python_probabilities

from emo_nb.model import load_shipped

ROOT = Path(__file__).resolve().parent.parent
PAGE = "/emo_nb/use/43_try_it.html"
SAVED = json.loads((SOURCE / "sentences.json").read_text(encoding="utf-8"))
# Accents, typographic signs, an emoji, unknown words, Chinese beyond U+FFFF, a capital sigma at a word's end, many tokens
TYPED = (
    "I am SO happy for you — but I\u2019ll miss you… 😢",
    "Quelle déception, l'été est fini! 今天 \U00020b9f ΟΔΟΣ [SEP] zxqj" + "v" * 120,
    "What on earth is this? " * 80,
)


def render_page(folder: Path) -> Path:
    "The page alone, as the site's renderer makes it, in a site under a sub-path; the folder that a server serves."
    if sys.version_info < (3, 11):
        pytest.skip("smalldocs, which renders the page here, needs Python 3.11 or later")
    from smalldocs.config import load
    from smalldocs.site import Site

    (folder / "nbs/use").mkdir(parents=True)
    for name in ("styles.css", "favicon.svg", "use/43_try_it.ipynb"):
        shutil.copyfile(ROOT / "nbs" / name, folder / "nbs" / name)
    settings = {
        "project": {"type": "website", "output-dir": "../served/emo_nb"},
        "website": {"favicon": "favicon.svg"},
        "format": {"html": {"theme": "default", "css": "styles.css"}},
    }
    (folder / "nbs/_quarto.yml").write_text(json.dumps(settings))  # JSON is YAML too
    Site(load(folder / "nbs"), quiet=True).build()
    return folder / "served"


@pytest.fixture(scope="module")
def with_model(tmp_path_factory):
    "The page with its model, on a static server; skipped where npm cannot be had."
    folder = render_page(tmp_path_factory.mktemp("with_model"))
    said = build(folder / "emo_nb/use/demo")
    if "saved sentences only" in said:
        pytest.skip(said)
    yield from serve(folder)


@pytest.fixture
def without_npm(tmp_path, monkeypatch):
    "The page as it is built where there is no npm, on a static server."
    folder = render_page(tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert build(folder / "emo_nb/use/demo") == "Try it shows saved sentences only: npm is not installed"
    yield from serve(folder)


def serve(folder):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def page(browser):  # noqa: F811
    "An empty page that notes errors, and all requests, in `page.complaints` and `page.requests`."
    page = browser.new_page()
    page.complaints, page.requests = [], []
    page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.complaints.append(str(e)))
    page.on("request", lambda r: page.requests.append(r.url))
    yield page
    page.close()


def bars(page) -> list[tuple[str, float, bool]]:
    "Label, probability, and whether it counts, of each bar from top to bottom."
    read = "all => all.map(one => [one.dataset.label, Number(one.dataset.probability), one.className == 'counts'])"
    return [tuple(bar) for bar in page.locator("#try-bars li").evaluate_all(read)]


def in_order(page) -> np.ndarray:
    "The probabilities that the page shows, in the order of the labels."
    shown = {label: probability for label, probability, _ in bars(page)}
    return np.array([shown[label] for label in SAVED["labels"]])


@pytest.mark.browser
def test_the_numbers_of_typed_sentences_are_pythons(page, with_model):
    page.goto(with_model + PAGE)
    megabytes = json.loads(page.request.get(f"{with_model}/emo_nb/use/demo/files.json").text())["bytes"] / 1e6
    assert megabytes < 35
    assert page.locator("#try-load").inner_text() == f"Load the model ({megabytes:.0f} MB)"
    assert not [url for url in page.requests if ".bin" in url or "onnxruntime" in url]  # before it is asked for
    page.click("#try-load")
    page.locator("#try-text").wait_for(timeout=60_000)
    loaded, tokenizer = len(page.requests), load_shipped(MODEL)[1]
    for text, expected in zip(TYPED, python_probabilities(TYPED), strict=True):
        page.fill("#try-text", text)
        page.wait_for_function("text => document.querySelector('#try-text').dataset.text == text", arg=text)
        ids = tokenizer(text, truncation=True)["input_ids"]
        assert page.locator("#try-text").get_attribute("data-tokens") == ",".join(map(str, ids))
        assert np.abs(in_order(page) - expected).max() < TOLERANCE, text
        counting = {SAVED["labels"][i] for i in np.flatnonzero(in_order(page) >= SAVED["thresholds"])}
        assert {label for label, _, counts in bars(page) if counts} == counting
    assert "first 256 tokens" in page.locator("#try-status").inner_text()
    assert len(page.requests) == loaded  # nothing is sent
    assert all(url.startswith((with_model, "data:", "blob:")) for url in page.requests)
    assert page.complaints == []


@pytest.mark.browser
def test_without_npm_the_page_shows_saved_sentences_and_moves_the_threshold(page, without_npm):
    page.goto(without_npm + PAGE)
    page.locator("#try-bars li").first.wait_for()
    assert "built without the model" in page.locator("#try-note").inner_text()
    assert page.locator("#try-load").is_hidden() and page.locator("#try-text").is_hidden()
    assert page.locator("#try-saved option").count() == 40
    number = next(i for i, each in enumerate(SAVED["sentences"]) if "miss you" in each["text"])
    page.select_option("#try-saved", str(number))
    probabilities = SAVED["sentences"][number]["probabilities"]
    assert in_order(page).tolist() == probabilities
    shown = [probability for _, probability, _ in bars(page)]
    assert shown == sorted(shown, reverse=True)
    for value in ("0.05", "0.5", "0.99"):
        page.fill("#try-threshold", value)
        assert sum(counts for *_, counts in bars(page)) == sum(each >= float(value) for each in probabilities)
    assert page.locator("#try-summary").inner_text() == "No label reaches its threshold."
    page.check("#try-own")
    assert [label for label, _, counts in bars(page) if counts] == ["sadness", "joy"]
    assert page.complaints == []


@pytest.mark.browser
def test_a_model_that_cannot_be_loaded_leaves_the_saved_sentences(page, without_npm):
    listing = {"bytes": 1_000_000, "files": {}, "max_length": 256}  # of files that the server does not have
    page.route("**/files.json", lambda route: route.fulfill(json=listing))
    page.goto(without_npm + PAGE)
    page.click("#try-load")
    page.locator("#try-status", has_text="could not be loaded").wait_for()
    assert page.locator("#try-load").is_enabled() and page.locator("#try-text").is_hidden()
    page.select_option("#try-saved", "1")
    assert page.locator("#try-chosen").inner_text() == SAVED["sentences"][1]["text"]
    assert in_order(page).tolist() == SAVED["sentences"][1]["probabilities"]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_wide_and_narrow_windows(page, without_npm, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(without_npm + PAGE)
    page.locator("#try-bars li").first.wait_for()
    for width in (1200, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), width


def test_the_saved_probabilities_are_pythons():
    expected = python_probabilities([each["text"] for each in SAVED["sentences"]])
    saved = np.array([each["probabilities"] for each in SAVED["sentences"]])
    assert np.abs(saved - expected).max() < 1e-3


def test_a_tarball_with_another_hash_is_refused(tmp_path, monkeypatch):
    packages = json.loads((SOURCE / "packages.json").read_text(encoding="utf-8"))
    name, package = next(item for item in packages.items() if "tokenizers" in item[0])
    changed = {name: package | {"integrity": "sha512-" + "A" * 86 + "=="}}
    (tmp_path / "packages.json").write_text(json.dumps(changed))
    monkeypatch.setattr("try_it.SOURCE", tmp_path)
    (tmp_path / "made").mkdir()
    try:
        with pytest.raises(SystemExit, match="is not the package whose SHA-512"):
            add_packages(tmp_path / "made")
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert not list((tmp_path / "made").iterdir())
