"""Everything here is read from settings.ini, the single source of the project's metadata."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(ROOT / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]


def lines(key: str) -> list[str]:
    "The non-empty lines of a multi-line setting."
    return [line.strip() for line in cfg.get(key, "").splitlines() if line.strip()]


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    url=cfg["git_url"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    keywords=cfg["keywords"],
    license=cfg["license"],
    license_files=["LICENSE"],
    classifiers=[
        f"Development Status :: {cfg['status']}",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        *[f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)],
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["emo_nb", "emo_nb.*"]),
    package_data={"emo_nb": ["py.typed", "model_card.md", "sample/*", "sample/*/*", "shipped/*/*"]},
    python_requires=f">={cfg['min_python']}",
    install_requires=lines("requirements"),
    extras_require={extra: lines(f"{extra}_requirements") for extra in ("offline", "doubt", "onnx", "remote", "ray", "dev", "lint", "bench", "peers", "docs")},
    entry_points={
        "console_scripts": lines("console_scripts"),
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
)
