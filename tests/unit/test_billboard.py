"""The folder in which pools are published."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from warmpool import billboard


def temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"warmpool-{os.geteuid()}"


def test_a_login_has_a_place_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert billboard.places() == [tmp_path / "warmpool", temporary()]


@pytest.mark.parametrize("what", ["missing", "relative", "a file", "of another user", "nonsense"])
def test_another_place_is_not_taken_for_it(tmp_path, monkeypatch, what):
    # "of another user" is what root finds after su.
    path = {"relative": ".", "nonsense": "a\x01b"}.get(what, str(tmp_path / "runtime"))
    if what == "a file":
        (tmp_path / "runtime").touch()
    elif what == "of another user":
        (tmp_path / "runtime").mkdir()
        monkeypatch.setattr("warmpool.billboard.os.geteuid", lambda: os.getuid() + 1)
    monkeypatch.setenv("XDG_RUNTIME_DIR", path)
    assert billboard.places() == [temporary()]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "warmpool"


def test_it_is_made_for_its_owner_alone(place):
    with pytest.raises(FileNotFoundError), billboard.opened(place):
        pass
    with billboard.opened(place, make=True), billboard.opened(place, make=True):
        assert place.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ["readable by others", "a link", "a file", "of another user"])
def test_one_that_is_not_this_users_alone_is_refused(place, tmp_path, monkeypatch, what):
    if what == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    elif what == "a file":
        place.touch()
    else:
        place.mkdir(mode=0o700)
        if what == "readable by others":
            place.chmod(0o750)
        else:
            monkeypatch.setattr("warmpool.billboard.os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="0700"), billboard.opened(place, make=True):
        pass


def test_a_file_is_its_owners_alone_and_replaced_in_one_step(place):
    with billboard.opened(place, make=True) as folder:
        billboard.write(folder, "1.json", "one")
        with (place / "1.json").open() as before:
            billboard.write(folder, "1.json", "two")
            assert before.read() == "one"
        assert billboard.read(folder, "1.json") == "two"
        assert (place / "1.json").stat().st_mode & 0o777 == 0o600
        billboard.remove(folder, "1.json")
        billboard.remove(folder, "1.json")
    assert not list(place.iterdir())


def test_what_cannot_be_written_leaves_what_was_there(place, monkeypatch):
    def fail(*_, **__):
        raise OSError("no room")

    with billboard.opened(place, make=True) as folder:
        billboard.write(folder, "1.json", "one")
        monkeypatch.setattr("warmpool.billboard.os.replace", fail)
        with pytest.raises(OSError, match="no room"):
            billboard.write(folder, "1.json", "two")
        assert billboard.read(folder, "1.json") == "one"
    assert [path.name for path in place.iterdir()] == ["1.json"]


def test_what_is_too_long_is_not_read(place, monkeypatch):
    monkeypatch.setattr("warmpool.billboard.LONGEST", 10)
    with billboard.opened(place, make=True) as folder:
        billboard.write(folder, "short", "x" * 10)
        billboard.write(folder, "long", "x" * 11)
        assert billboard.read(folder, "short") == "x" * 10
        assert billboard.read(folder, "long") is None


def test_what_is_no_file_is_not_read(place):
    with billboard.opened(place, make=True) as folder:
        os.mkfifo(place / "pipe")
        (place / "folder").mkdir()
        (place / "link").symlink_to("/etc/passwd")
        (place / "bytes").write_bytes(b"\xff")
        for name in ("pipe", "folder", "link", "bytes", "missing"):
            assert billboard.read(folder, name) is None
