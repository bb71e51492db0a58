"""What README promises is held by tests that exist, and the table of faults is whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.faults import table
from tests.faults.table import Note, Table, render, rows
from tests.helpers.faults import FAULTS, End

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[`(test_\w+)`\]\((tests/[\w/]+\.py)\)")


def guarantees() -> list[str]:
    """The paragraphs of README's section, one for each guarantee."""
    section = (ROOT / "README.md").read_text().partition("## What it guarantees\n")[2]
    section = section.partition("\n##")[0]
    return [part for part in re.split(r"\n\n|\n(?=\d\. )", section) if part.strip()]


def test_each_guarantee_names_tests_that_hold_it():
    found = guarantees()
    assert len(found) >= 6
    for guarantee in found:
        assert LINK.search(guarantee), f"no test is named that holds this:\n{guarantee}"


def test_the_tests_that_are_named_exist():
    links = [link for guarantee in guarantees() for link in LINK.findall(guarantee)]
    assert len(links) >= 20
    for name, file in links:
        tree = ast.parse((ROOT / file).read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        names |= {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert name in names, f"{name} is not in {file}"
    # Whatever looks like a link to a test, and is written otherwise, would not be looked at.
    assert sum(guarantee.count("](tests/") for guarantee in guarantees()) == len(links)


# ------------------------------------------------------------------------------- faults


def test_the_table_has_a_row_for_each_fault_at_each_stage_where_it_is_committed():
    """Those of the table are asserted by the fault tests; here, that none of theirs is missing."""
    said = rows()
    expected = set()
    for fault in FAULTS.values():
        stages = {"starting", "initializing", "in the task", "leaving"}
        if fault.end in (End.DIES, End.BREAKS):
            stages |= {"unpickling arguments", "pickling the result"}
            if fault.name != "closes_its_descriptors":
                stages.add("idle")
        expected |= {(table.in_words(fault.name), stage) for stage in stages}
    assert expected <= set(said)
    assert {fault for fault, _ in said} == {table.in_words(name) for name in FAULTS}
    assert {stage for _, stage in said} <= set(table.STAGES)


def test_what_is_not_as_the_table_says_fails_and_so_does_what_is_not_in_it():
    checking = Table(None)
    checking.note("dies_of_sigkill", "in the task", "`WorkerDied`, SIGKILL", 1.0)
    with pytest.raises(AssertionError, match="the table says '`WorkerDied`, SIGKILL'"):
        checking.note("dies_of_sigkill", "in the task", "its result")
    with pytest.raises(AssertionError, match="the table says None"):
        checking.note("dies_of_boredom", "in the task", "its result")


def test_notes_become_rows_and_are_read_as_what_they_were(tmp_path):
    notes = [
        Note("raises", "in the task", "`Oops`", 0.001),
        Note("raises", "in the task", "`Oops`", 0.003),
        Note("raises", "idle", "nothing", None),
        Note("exits_with_0", "idle", "nothing", None),
        Note("hangs_asleep", "in the task", "`TaskTimeout`", 0.01, "its `timeout`"),
    ]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write(notes, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| raises | in the task | `Oops` | 2 (3) |" in text
    assert "| raises, exits with 0 | idle | nothing | nobody waits |" in text
    assert "| hangs asleep | in the task | `TaskTimeout` | 10 (10) after its `timeout` |" in text
    assert rows(page) == {(table.in_words(note.fault), note.stage): note.gets for note in notes}
    with pytest.raises(ValueError, match="another time"):
        render([*notes, Note("raises", "idle", "its result", None)])


def test_notes_are_saved_where_the_option_says(tmp_path):
    recording = Table(tmp_path / "notes.json")
    recording.note("raises", "in the task", "whatever", 0.5)
    recording.save()
    assert '"gets": "whatever"' in (tmp_path / "notes.json").read_text()
