"""Build the documentation site into _docs, write README.md from the index notebook, check every link.

python tools/site.py                  all three; exit 1 where a link or an image is broken
python tools/site.py --check-readme   only say whether README.md is what the index notebook gives
python tools/site.py --check-links    only check the site that stands in _docs
"""

from __future__ import annotations

import argparse
import html
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser, SectionProxy
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
NBS, DOCS, README = ROOT / "nbs", ROOT / "_docs", ROOT / "README.md"
INDEX = NBS / "index.ipynb"


def settings() -> SectionProxy:
    "What settings.ini says."
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def site_url() -> str:
    "Where the site is published, as settings.ini says."
    return settings()["doc_host"] + settings()["doc_baseurl"]


# ---- the site


def site_yml() -> str:
    "The site's title and addresses from settings.ini; nbdev would look for them in pyproject.toml."
    cfg = settings()
    site = {
        "title": cfg["title"],
        "site-url": site_url(),
        "description": cfg["description"],
        "repo-branch": cfg["branch"],
        "repo-url": cfg["git_url"],
    }
    return json.dumps({"project": {"output-dir": DOCS.name}, "website": site}, indent=2) + "\n"  # JSON is YAML too


def stage() -> Path:
    "Let nbdev copy nbs/ to a folder of its own and add the API reference and the links between names there."
    from nbdev.serve import proc_nbs  # imported here: the checks below run without nbdev

    print("Staging the notebooks with nbdev ...", flush=True)
    (NBS / "nbdev.yml").write_text(site_yml(), encoding="utf-8")
    # One process, so that torch is imported once. All notebooks each time: a page shows code of other notebooks too.
    try:
        staged = Path(proc_nbs(n_workers=0, force=True))
    except Exception as error:
        hint = "nbdev runs exported cells and cells with an import, no others: keep imports alone in their cell"
        sys.exit(f"{error}\n\n{error.__cause__!r}\n{hint}")
    adapt(staged)
    return staged


def adapt(staged: Path) -> None:
    """Turn nbdev's links, which begin at the site's root, into relative ones, those to the source into whole ones.

    A method without an entry of its own in the reference is found at its class. Names defined on the page itself stand
    without `__main__`. A table's cells of words are marked for styles.css.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in staged.rglob("*.ipynb")}
    entries = {name.lower() for text in texts.values() for name in re.findall(r"### (\w+\.\w+)", text)}
    link = re.compile(r"(?<=]\()/([\w/-]+\.html)(?:#(\w+)(\.\w+)?)?")
    for path, text in texts.items():
        up = "../" * (len(path.relative_to(staged).parts) - 1)

        def local(m: re.Match[str], up: str = up) -> str:
            page, name, method = m.groups(default="")
            if not name or name.startswith("_"):  # a private name has no entry of its own
                return up + page
            return f"{up}{page}#{name}" + (method if name + method in entries else "")

        text = text.replace("](/blob/", f"]({settings()['git_url']}/blob/")
        text = re.sub(r"\b__main__\.(?=[A-Z])", "", text)
        text = text.replace("#| varies: true\\n", "")  # of tools/pages.py; renderers drop it but in cells of a shell
        text = re.sub(r"<td>(?!NaN)(?=[^<]*[A-Za-z]{2})", "<td class=words>", link.sub(local, text))
        path.write_text(text, encoding="utf-8")


def can_render() -> bool:
    "Is there Quarto, or a Python for which there is smalldocs?"
    return bool(shutil.which("quarto")) or sys.version_info >= (3, 11)


def render(staged: Path) -> None:
    "Render the staged folder and put the pages where they belong."
    if shutil.which("quarto"):
        print("Rendering with Quarto ...", flush=True)
        subprocess.run(["quarto", "render", "--no-cache"], cwd=staged, check=True)
    else:
        print("Rendering with smalldocs (Quarto is not installed) ...", flush=True)
        render_with_smalldocs(staged)
    shutil.rmtree(DOCS, ignore_errors=True)
    shutil.move(staged / DOCS.name, DOCS)
    print(add_demo(DOCS / "use/demo"), flush=True)


def add_demo(folder: Path) -> str:
    "Add what the page Try it loads; what there is of it is said."
    from try_it import build  # imported here: the checks below run without numpy

    print("Making the model for the page Try it ...", flush=True)
    return build(folder)


def render_with_smalldocs(staged: Path) -> None:
    "Render with smalldocs, plus two things that Quarto does and it does not."
    from latex2mathml.converter import convert
    from smalldocs.config import load
    from smalldocs.site import Page, Site

    def in_mathml(maths: re.Match[str], display: str) -> str:
        return maths[1] + convert(html.unescape(maths[2]), display=display)

    class QuartoLike(Site):
        def read(self, src: Any) -> Page:
            "Name a page as nbdev asks: feasibility/01_taxonomy.ipynb becomes feasibility/taxonomy.html."
            page = super().read(src)
            page.out = page.out.with_name(page.front.get("output-file", page.out.name))
            return page

        def render_page(self, page: Page) -> None:
            "Write maths as MathML, which browsers show by themselves, in place of a script from elsewhere."
            super().render_page(page)
            if page.env.pop("math", False):
                for opening, closing, display in ((r"\\\(", r"\\\)", "inline"), (r"\\\[", r"\\\]", "block")):
                    written = re.compile(rf'(<span class="math \w+">){opening}(.+?){closing}', re.DOTALL)
                    page.html = written.sub(partial(in_mathml, display=display), page.html)

    site = QuartoLike(load(staged), quiet=True)
    site.build()
    for warning in site.warnings:
        if not re.search("broken link|output-file|html-math-method", warning):  # checked below; done above
            print("  smalldocs:", warning)


# ---- README.md

# A link or an image in Markdown or HTML that is relative: neither https:, nor #section, nor /root
RELATIVE = re.compile(r'(\]\(|\b(?:src|href)=")(?![a-z]+:|[#/])([^)"\s]+)')


def readme() -> str:
    "The index notebook as Markdown, with its links and images relative to the project's root."
    parts = [f"<!-- Made from nbs/{INDEX.name} by tools/site.py: edit the notebook. -->"]
    for cell in json.loads(INDEX.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(RELATIVE.sub(lambda m: m[1] + posixpath.normpath(f"{NBS.name}/{m[2]}"), source))
        elif cell["cell_type"] == "code":
            parts += code_cell(source, cell["outputs"])
    return "\n\n".join(part for part in parts if part) + "\n"


def code_cell(source: str, outputs: list[dict[str, Any]]) -> list[str]:
    "A cell's code and outputs in Markdown, as far as its directives show them."
    directives = {line[2:].strip() for line in source.splitlines() if line.startswith("#|")}
    if any(re.match(r"(hide|export|exporti|default_exp)\b|include: false", d) for d in directives):
        return []
    code = "\n".join(line for line in source.splitlines() if not line.startswith("#|")).strip()
    shown = [f"```python\n{code}\n```"] if code and "echo: false" not in directives else []
    return shown + ([] if "output: false" in directives else [output(o) for o in outputs])


def output(out: dict[str, Any]) -> str:
    "One output in Markdown: text as it is, a table without its style sheet, which GitHub would print as text."
    data = {"text/plain": out["text"]} if out["output_type"] == "stream" else out.get("data", {})
    texts = {kind: "".join(value).strip() for kind, value in data.items() if isinstance(value, (str, list))}
    if "text/markdown" in texts:
        return texts["text/markdown"]
    if "text/html" in texts:
        return re.sub(r"<style.*?</style>\s*", "", texts["text/html"], flags=re.DOTALL)
    if any(kind.startswith("image/") for kind in texts):
        sys.exit(f"{INDEX.name}: GitHub shows no figure of a cell's output; save it as a file and link that")
    return f"```\n{texts['text/plain']}\n```" if texts.get("text/plain") else ""


def stale_readme() -> list[str]:
    "One complaint where README.md is not what the index notebook gives."
    same = README.is_file() and README.read_text(encoding="utf-8") == readme()
    return [] if same else [f"README.md is not what nbs/{INDEX.name} gives: run `make docs` and commit it"]


# ---- what is broken


class Refs(HTMLParser):
    "What a page points at, and the ids that can be pointed at."

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.refs: list[str] = []
        self.ids: set[str | None] = {"", "top"}
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids |= {value for name, value in attrs if name == "id"}
        self.refs += [value for name, value in attrs if name in ("href", "src") and value]


def broken_links(site: Path = DOCS) -> list[str]:
    "Every link, image, script and style sheet of the site that points at nothing on it; pages that nothing points at."
    pages = {path: Refs(path) for path in sorted(site.rglob("*.html"))}
    home, broken = site_url() + "/", []
    linked = {site / "index.html"}
    for path, page in pages.items():
        for ref in dict.fromkeys(page.refs):
            base, local = (site, ref.removeprefix(home)) if ref.startswith(home) else (path.parent, ref)
            url = urlsplit(local)
            if url.scheme or url.netloc:
                continue
            target = Path(os.path.normpath(base / unquote(url.path))) if url.path else path
            target = target / "index.html" if target.is_dir() else target
            linked |= {target} - {path}
            if not target.is_file() or (target in pages and unquote(url.fragment) not in pages[target].ids):
                broken.append(f"{path.relative_to(site)}: {ref} points at nothing")
    broken += [
        f"{path.relative_to(site)}: nothing links here; add it to _quarto.yml" for path in pages if path not in linked
    ]
    print(f"Checked the links and images of {len(pages)} pages")
    return broken if pages else [f"{site} holds no page: run `make docs`"]


def broken_readme_links() -> list[str]:
    "The relative links and images of README.md that point at no file of the project."
    refs = [m[2].partition("#")[0] for m in RELATIVE.finditer(README.read_text(encoding="utf-8"))]
    return [f"README.md: {ref} points at nothing" for ref in refs if not (ROOT / unquote(ref)).exists()]


def lost_text() -> list[str]:
    "Notebooks with text below the title in the same cell: nbdev makes the page's head of that cell, drops the rest."
    lost = []
    for path in sorted(NBS.rglob("[!.]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        title = next(("".join(c["source"]) for c in cells if c["cell_type"] == "markdown"), "")
        if any(line.strip() and not re.match(r"#|>|- [\w-]+:", line) for line in title.splitlines()):
            lost.append(f"{path.relative_to(ROOT)}: the site drops the text below the title; give it a cell of its own")
    return lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check-readme", action="store_true", help="only compare README.md with the index notebook")
    parser.add_argument("--where-possible", action="store_true", help="go on where no renderer can run, saying so")
    parser.add_argument("--check-links", action="store_true", help="only check the site in _docs")
    args = parser.parse_args()
    os.chdir(ROOT)  # nbdev looks for pyproject.toml from here
    if args.check_readme:
        problems = stale_readme()
    elif args.check_links:
        problems = broken_links()
    elif not can_render():
        print("The site is not built: it needs Quarto, or Python 3.11 or later for smalldocs.")
        return 0 if args.where_possible else 1
    else:
        render(stage())
        README.write_text(readme(), encoding="utf-8", newline="\n")
        problems = [*lost_text(), *broken_links(), *broken_readme_links()]
        print(f"The site is in {DOCS.name}/, its landing page {DOCS.name}/index.html")
    print("\n".join(problems) if problems else "Nothing is broken")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
