"""The built site: no broken link or image, and in a real browser it fits the window, shows its figures and finds names."""

import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "_docs"
MAC = "/Applications/{0}.app/Contents/MacOS/{0}"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
BROWSERS += (MAC.format("Google Chrome"), MAC.format("Chromium"))
PAGES = ("index", "feasibility/study", "prototype/predict", "use/command_line", "results/small_run", "reference/api")


def site_tool(*args):
    done = subprocess.run([sys.executable, "tools/site.py", *args], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def docs():
    "The folder of the built site; built now where it is missing."
    if not (DOCS / "index.html").is_file():
        if not shutil.which("quarto") and sys.version_info < (3, 11):
            pytest.skip("the site needs Quarto, or Python 3.11 or later for smalldocs")
        site_tool()
    return DOCS


def test_every_chapter_is_there_and_no_link_or_image_is_broken(docs):
    site_tool("--check-links")
    assert not [page for page in PAGES if not (docs / f"{page}.html").is_file()]


def test_a_broken_link_is_found(tmp_path):
    spec = spec_from_file_location("site_tool", ROOT / "tools/site.py")
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    (tmp_path / "index.html").write_text('<h2 id="a">A</h2><a href="#a">x</a><a href="#b">x</a><img src="no.png">')
    assert [line.split()[1] for line in tool.broken_links(tmp_path)] == ["#b", "no.png"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")  # playwright runs once at a time, and another file uses this fixture too
def browser():
    "A Chromium or Chrome of this machine, driven by playwright; no browser is downloaded."
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("there is no Chromium or Chrome on this machine")
    with sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
        with playwright.chromium.launch(executable_path=path, args=quiet) as chromium:
            yield chromium


@pytest.fixture
def page(browser, docs):
    "An empty page that notes errors, and requests that leave the site, in `page.complaints`."
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(docs))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        page, complaints = browser.new_page(base_url=address), []
        page.complaints = complaints
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("request", lambda r: None if r.url.startswith((address, "data:")) else complaints.append(r.url))
        yield page
        page.close()
        server.shutdown()


@pytest.mark.browser
def test_every_page_fits_wide_and_narrow_windows_and_shows_its_figures(page, docs):
    for path in sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.html")):
        page.goto(f"/{path}", wait_until="networkidle")
        for width in (1200, 400):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (path, width)
        page.wait_for_function("[...document.images].every(image => image.complete)")
        lost = page.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)")
        assert (path, lost, page.complaints) == (path, [], [])


@pytest.mark.browser
def test_search_finds_a_class(page):
    page.set_viewport_size({"width": 1200, "height": 900})
    page.goto("/index.html", wait_until="networkidle")
    page.keyboard.press("/")  # the shortcut to the search box, Quarto's and smalldocs'
    page.keyboard.type("EmotionClassifier")
    page.locator("a[class*=search-result][href*='reference/api.html']").first.click()
    page.wait_for_url("**/reference/api.html*")
    assert "EmotionClassifier" in page.locator("main").inner_text()
    assert page.complaints == []
