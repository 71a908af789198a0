import os
import stat

import pytest

from kws_model.new_folder import new_folder


def test_the_folder_appears_when_the_block_ends(tmp_path):
    with new_folder(tmp_path / "deep" / "new") as folder:
        (folder / "a").write_text("a")
        assert not (tmp_path / "deep" / "new").exists()
    assert (tmp_path / "deep" / "new" / "a").read_text() == "a"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]


def test_it_has_the_permissions_of_any_new_folder(tmp_path):
    (tmp_path / "usual").mkdir()
    with new_folder(tmp_path / "new"):
        pass
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("usual", "new")]
    assert modes[0] == modes[1]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "new").mkdir()
    with new_folder(tmp_path / "new") as folder:
        (folder / "a").touch()
    assert (tmp_path / "new" / "a").exists()


def test_a_failure_leaves_what_was_there(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "old").touch()
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "new", overwrite=True) as folder:
        (folder / "a").touch()
        raise KeyboardInterrupt
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "new",
        "new/old",
    ]


def test_overwriting_leaves_only_the_new(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "old").touch()
    with new_folder(tmp_path / "new", overwrite=True) as folder:
        (folder / "a").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "a"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gs://bucket/corpus", "must be a folder of this machine, not gs://bucket/corpus"),
        ("file", "must be a folder, and file is a file"),
        (".", "is the home folder, or the one this runs in, or above it"),
        ("..", "is the home folder, or the one this runs in, or above it"),
        ("~", "is the home folder, or the one this runs in, or above it"),
    ],
)
def test_what_it_may_never_replace(tmp_path, monkeypatch, path, message, overwrite):
    (tmp_path / "here").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here" / "file").touch()
    with pytest.raises(ValueError, match=message), new_folder(path, overwrite=overwrite):
        raise AssertionError("not reached")
    assert len(list(tmp_path.rglob("*"))) == 3
