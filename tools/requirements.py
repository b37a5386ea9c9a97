"""Print what settings.ini requires, for tools that read requirements and not setup.py.

`python tools/requirements.py [EXTRA ...]` prints the package's requirements, then those of the extras. With --oldest,
each lower bound becomes the version itself: constraints under which pip installs the oldest that users may have.
"""

import argparse
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("offline", "onnx", "doubt", "remote", "ray", "dev", "lint", "bench", "peers", "docs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help=", ".join(EXTRAS))
    parser.add_argument("--oldest", action="store_true", help="the lower bounds as exact versions")
    given = parser.parse_args()
    if wrong := sorted(set(given.extras) - set(EXTRAS)):
        parser.error(f"there is no extra {', '.join(wrong)}; there is: {', '.join(EXTRAS)}")
    settings = ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    for key in ("requirements", *(f"{extra}_requirements" for extra in given.extras)):
        for line in filter(None, map(str.strip, settings["DEFAULT"][key].splitlines())):
            print(line.replace(">=", "==", 1) if given.oldest else line)


if __name__ == "__main__":
    main()
