"""What is written appears complete or not at all, also where the place is a link, a device, or oddly named."""

import pytest
from helpers import check_sentence

from emo_nb.core import ConfigError
from emo_nb.io.files import atomic_dir, atomic_file, check_output_file, partial_dir


def write(folder, text, force=False):
    "A folder as a run writes it."
    with atomic_dir(folder, "mark", force) as temporary:
        (temporary / "mark").write_text(text)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_folder_stays_one_and_its_folder_is_replaced(tmp_path, there):
    (tmp_path / "big").mkdir()
    if there:
        write(tmp_path / "big/run", "old")
    (tmp_path / "run").symlink_to("big/run")
    for text in ("new", "newer"):
        with partial_dir(tmp_path / "run", {}):
            write(tmp_path / "run", text, force=True)
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "big/run/mark").read_text() == "newer"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["big", "mark", "run", "run"]


def test_a_link_to_a_file_stays_one(tmp_path):
    (tmp_path / "a.csv").symlink_to("b.csv")
    with atomic_file(tmp_path / "a.csv") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a.csv").is_symlink() and (tmp_path / "b.csv").read_text() == "x"


@pytest.mark.parametrize("name", ["a[1]", "*", "?", "run"])
def test_what_a_kill_left_beside_a_folder_comes_back_and_nothing_else_is_touched(tmp_path, name):
    others = [tmp_path / ".x.deadbeef", tmp_path / ".a1.0123abcd"]
    for folder in (*others, tmp_path / f".{name}.0123abcd.old", tmp_path / f".{name}.4567abcd"):
        folder.mkdir()
    with partial_dir(tmp_path / name, {}):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / name])


@pytest.mark.parametrize(
    ("name", "kept", "replaced"), [("new", "", ""), ("old", "--force", ""), ("folder", "--out", "--out")]
)
def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(tmp_path, name, kept, replaced):
    (tmp_path / "old").touch()
    (tmp_path / "folder").mkdir()
    for force, remedy in ((False, kept), (True, replaced)):
        if not remedy:
            check_output_file(tmp_path / name, force)
            continue
        with pytest.raises(ConfigError) as error:
            check_output_file(tmp_path / name, force)
        check_sentence(error.value, tmp_path / name, remedy)
