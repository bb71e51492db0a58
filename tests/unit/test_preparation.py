"""What a new interpreter is told of the main module."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest

from warmpool import preparation


@pytest.mark.parametrize(
    ("told", "there", "kept"),
    [
        ({"init_main_from_path": "/a/main.py"}, True, True),
        ({"init_main_from_path": "/a/<stdin>"}, False, False),
        # By its name, or not at all; and nothing is there for one that may not search its folder.
        ({"init_main_from_name": "pkg.main"}, False, True),
        ({}, False, True),
    ],
    ids=["a file", "standard input", "a module", "nothing"],
)
def test_the_main_module_is_imported_from_a_file_that_is_there(monkeypatch, told, there, kept):
    monkeypatch.setattr(preparation.spawn, "get_preparation_data", lambda name: dict(told))
    monkeypatch.setattr(preparation.os.path, "exists", lambda path: there)
    monkeypatch.setattr(
        preparation.servers, "dump", lambda popen, data, process: pickle.dumps(set(data))
    )
    endpoints = SimpleNamespace(early=None)
    names = pickle.loads(preparation.dump(None, SimpleNamespace(name="p"), endpoints))
    assert names == {"warmpool"} | (set(told) if kept else set())
