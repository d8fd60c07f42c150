"""SQLite files are read without changes to their directories, also after their writers were killed."""

import sqlite3
import subprocess
import sys

import pytest

from rankzero.importers.sqlite_file import SqliteFile

LEAVE_UNFINISHED = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 5")
database.execute("BEGIN")
database.execute("UPDATE rows SET text = 'new' || text")
os._exit(9)
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rows.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE rows (text)")
    database.executemany("INSERT INTO rows VALUES (?)", [("old" + "x" * 500,)] * 2000)
    database.commit()
    database.close()
    return path


def texts(file):
    with file.open() as database:
        return database.execute("SELECT substr(text, 1, 3), count(*) FROM rows GROUP BY 1").fetchall()


def state(directory):
    return {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in directory.iterdir()}


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_finished_database_is_read_in_place(path, mode):
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA journal_mode = {mode}")
    database.close()
    before = state(path.parent)
    assert texts(SqliteFile(path)) == [("old", 2000)]
    assert state(path.parent) == before


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_the_changes_of_a_killed_writer_are_completed_in_a_copy(path, mode):
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA journal_mode = {mode}")
    if mode == "WAL":
        database.execute("INSERT INTO rows VALUES ('in the log')")
        database.commit()  # not closed: the log stays
    subprocess.run([sys.executable, "-c", LEAVE_UNFINISHED, path], check=False)
    before = state(path.parent)
    assert any(name.endswith(("-journal", "-wal")) and data for name, (data, _) in before.items())
    file = SqliteFile(path)
    assert texts(file) == ([("in ", 1)] if mode == "WAL" else []) + [("old", 2000)]
    assert state(path.parent) == before
    file.release()
    database.close()


def test_a_truncated_database_is_read_up_to_its_end(path):
    path.write_bytes(path.read_bytes()[:500_000])
    with SqliteFile(path).open() as database:
        rows = database.execute("SELECT text FROM rows")
        assert {next(rows)[0][:3] for _ in range(500)} == {"old"}
        with pytest.raises(sqlite3.DatabaseError):
            rows.fetchall()
