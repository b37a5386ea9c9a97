"""The story's notebooks with the Python and the versions that a hosted notebook has preinstalled.

    python tools/hosted.py colab|kaggle      `make test-colab`, `make test-kaggle`
    python tools/hosted.py wheels            `make wheels`: what a Kaggle notebook without internet is given

hosted/colab.txt and hosted/kaggle.txt name the versions. They are installed first, in an environment of their own; then
emo_nb is, from its wheel, as the first cell of each notebook does it; nothing that was there may change its version.
Then each notebook of the story runs whole, in a fresh kernel, with the variables that the place sets. For Kaggle, the
first cell itself and the notebooks run in a namespace that has no network and that sees the folder of wheels where Kaggle
attaches it, which needs root.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from experiments import ROOT, write_result

from emo_nb.report import utc_now

PLACES = {
    "colab": {"COLAB_RELEASE_TAG": "release-colab-external", "COLAB_GPU": "", "MPLBACKEND": "inline"},
    "kaggle": {"KAGGLE_KERNEL_RUN_TYPE": "Interactive", "KAGGLE_URL_BASE": "https://www.kaggle.com"},
}
WHEELS = ROOT / "wheels"
# Kaggle has these, or they have no use without a network
PREINSTALLED = ("accelerate", "matplotlib", "numpy", "pandas", "peft", "pyarrow", "scikit-learn", "scipy", "torch")
SHOWN = ("torch", "transformers", "peft", "accelerate", "numpy", "pandas", "scikit-learn", "pyarrow", "fastcore")
OF_THESE = (
    "sentence-transformers",
    "certifi",
    "charset-normalizer",
    "idna",
    "urllib3",
)  # what some of the rest ask for
STORY = ("feasibility", "prototype")
NOTEBOOK = ("ipykernel", "nbclient", "nbformat", "pip", "wheel")  # which such places have as well
OFFLINE = """
mkdir -p /kaggle/input/emo-nb-wheels && mount --bind "$1" /kaggle/input/emo-nb-wheels && ip link set lo up && shift && exec "$@"
"""
RUN_FIRST_CELL = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"][:1]
NotebookClient(notebook).execute()
"""
RUN_STORY = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pages import run_page
for page in map(Path, sys.argv[2:]):
    start = time.perf_counter()
    run_page(page)
    print(json.dumps({"page": f"{page.parent.name}/{page.stem}", "seconds": time.perf_counter() - start}), flush=True)
"""


def version_of(place: str) -> str:
    "The version of Python that a place has."
    return (ROOT / "hosted" / f"{place}.txt").read_text().splitlines()[0].removeprefix("# Python ")


def python_of(place: str) -> str:
    "The command of the Python that a place has, which must be on the PATH."
    version = version_of(place)
    command = shutil.which(f"python{version}")
    if command is None or subprocess.run([command, "--version"], capture_output=True).returncode:  # a shim of pyenv
        raise SystemExit(f"{place} has Python {version}, which is not on the PATH; install it, for example with pyenv")
    return command


def build_wheel(folder: Path) -> Path:
    "The wheel of this checkout."
    folder.mkdir(exist_ok=True)
    for old in folder.glob("emo_nb-*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    return next(folder.glob("emo_nb-*.whl"))


def requirements(*extras: str) -> list[str]:
    "What settings.ini requires."
    tool = [sys.executable, str(ROOT / "tools" / "requirements.py"), *extras]
    return subprocess.run(tool, check=True, capture_output=True, text=True).stdout.split()


def fill_wheels() -> str:
    "emo_nb, the bundled encoder, and the requirements that are not preinstalled, with what few of these require; a sentence."
    build_wheel(WHEELS)
    wanted = [one for one in requirements("offline") if not one.startswith(PREINSTALLED)]
    pins = ROOT / "constraints.txt"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--no-deps"]
    kaggle = ["--python-version", version_of("kaggle"), "--only-binary", ":all:"]
    wanted += OF_THESE
    subprocess.run([*pip, *kaggle, "-c", str(pins), "-d", str(WHEELS), *wanted], check=True)
    return f"{len(list(WHEELS.iterdir()))} wheels in wheels/; attach the folder to a notebook as the data set emo-nb-wheels"


def installed(python: Path) -> dict[str, str]:
    "The version of every package of an environment."
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True)
    return {package["name"]: package["version"] for package in json.loads(listed.stdout)}


def run_story(place: str) -> None:
    "Install as a place has it, then as a notebook's first cell does; run the notebooks. `SystemExit` where one fails."
    started = utc_now()
    folder = ROOT / f".venv-{place}"
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if not python.exists():
        subprocess.run([python_of(place), "-m", "venv", str(folder)], check=True)
    pins = ["-c", str(ROOT / "hosted" / f"{place}.txt")]
    names = [one for one in requirements() if one.startswith((*PREINSTALLED, "transformers"))]
    subprocess.run([*pip, *pins, *NOTEBOOK, "fastcore", *names], check=True)
    kept = folder / "preinstalled.json"
    if kept.exists() and (more := set(installed(python)) - set(json.loads(kept.read_text()))):
        subprocess.run([*pip[:3], "uninstall", "-q", "-y", *more], check=True)  # of an earlier run
    before = installed(python)
    kept.write_text(json.dumps(before))
    printed: list[str] = []
    if place == "kaggle":  # without internet
        tell(fill_wheels(), printed)
        command = [*offline(), str(python), "-c", RUN_FIRST_CELL, str(ROOT / "nbs" / "prototype" / "11_run.ipynb")]
        subprocess.run(command, env=os.environ | PLACES[place], cwd=folder, check=True)  # where emo_nb is not beside it
    else:
        subprocess.run([*pip, f"emo_nb[offline] @ {build_wheel(WHEELS).as_uri()}"], check=True)
    if "emo_nb" not in (after := installed(python)):
        raise SystemExit(f"the first cell of a notebook does not install emo_nb on {place}")
    if changed := [f"{name} {before[name]} -> {after.get(name)}" for name in before if before[name] != after.get(name)]:
        raise SystemExit(f"installing emo_nb changes what {place} has: {', '.join(changed)}")
    added = {name: version for name, version in after.items() if name not in before}
    tell(f"{place}: {len(added)} packages added to {len(before)}, none of which changed", printed)
    record = {"python": version_of(place), "before": {name: before[name] for name in SHOWN}, "added": added}
    run_pages(place, python, printed)
    write_result(f"hosted_{place}", record | {"printed": printed}, started, f"make test-{place}")


def tell(line: str, printed: list[str]) -> None:
    "Print a line that the page about hosted notebooks will show."
    print(line, flush=True)
    printed.append(line)


def offline() -> list[str]:
    "What a command begins with that has no network, and finds the wheels where Kaggle attaches them."
    return ["unshare", "--net", "--mount", "sh", "-c", OFFLINE, "sh", str(WHEELS)]


def run_pages(place: str, python: Path, printed: list[str]) -> None:
    "Run the story's notebooks, each in a fresh kernel of an environment; `SystemExit` where one fails."
    pages = [str(page) for stage in STORY for page in sorted((ROOT / "nbs" / stage).glob("*.ipynb"))]
    command = [*(offline() if place == "kaggle" else ()), str(python), "-c", RUN_STORY, str(ROOT / "tools"), *pages]
    n_run = 0
    with subprocess.Popen(command, env=os.environ | PLACES[place], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            done = json.loads(line)
            tell(f"{done['page']}: {done['seconds']:.0f} s", printed)
            n_run += 1
    if process.returncode:
        raise SystemExit(f"{pages[n_run]} fails with the versions that {place} has")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*PLACES, "wheels"))
    what = parser.parse_args().what
    print(fill_wheels()) if what == "wheels" else run_story(what)


if __name__ == "__main__":
    main()
