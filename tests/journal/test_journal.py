"""The journal: written events are read back, whatever happens to the file."""

import ast
import contextlib
import importlib.util
import json
import logging
import math
import os
import random
import struct
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import rankzero
from rankzero.errors import RunNotFoundError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import (
    Alert,
    Artifact,
    Checkpoint,
    Console,
    Lost,
    Metrics,
    Params,
    Rewind,
    Start,
    Tags,
    Text,
    decode,
    encode,
)
from rankzero.journal.append import Journal, cut_torn_tail
from rankzero.journal.tail import Tail, last_step, read_events, read_start
from rankzero.rundir.layout import JOURNAL

INFO = RunInfo("r1", "amber-otter-1", "digits", "/runs/r1")
ROWS = [Metrics(100.0 + step, step, {"loss": 1 / (step + 1), "ü": math.nan}) for step in range(5)]

in_one_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


@pytest.fixture
def open_tail(path):
    with contextlib.ExitStack() as stack:

        def opened(*position):
            return stack.enter_context(contextlib.closing(Tail(path, *position)))

        yield opened


def write(path, events):
    path.write_bytes(b"".join(map(encode, events)))
    return path


def read(path):
    return [event for _, event in read_events(path)]


def steps(path):
    return [event.step for event in read(path) if isinstance(event, Metrics)]


def bits(numbers):
    """What cannot be equal by accident: types, and floats bit by bit."""
    return {
        key: (type(value), struct.pack("d", value) if isinstance(value, float) and value == value else str(value))
        for key, value in numbers.items()
    }


# Round trip

keys = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates, newlines, NUL, all of it
values = st.integers() | st.floats() | st.sampled_from([5e-324, -0.0, 2.0**53 + 1, 1e16, 2**64, -(2**63), 10**4000])


@in_one_directory
@given(st.lists(st.tuples(st.integers(-(2**63), 2**64), st.dictionaries(keys, values)), max_size=5))
def test_metrics_come_back_to_the_last_bit(path, rows):
    path.unlink(missing_ok=True)
    journal = Journal(path)
    for step, numbers in rows:
        journal.append(encode(Metrics(time.time(), step, numbers)))
    found = read(path)
    assert [row.step for row in found] == [step for step, _ in rows]
    for row, (_, numbers) in zip(found, rows, strict=True):
        escaped = {key.encode("utf-8", "backslashreplace").decode(): value for key, value in numbers.items()}
        assert bits(row.numbers()) == bits(escaped)


@settings(deadline=None)
@given(st.floats(-2.5e11, 2.5e11))
def test_times_come_back_to_the_last_bit(moment):
    assert struct.pack("d", decode(encode(Tags(moment, []))).time) == struct.pack("d", moment)


EVENTS = [
    Start(1.0, INFO, {"csv": {"plugin": "csv", "options": {"save_dir": None}}}, "node1", 42, True),
    Params(1.0, {"a": {"b": [1, None, "two\nlines"]}}, {"loss": 0.5}),
    Text(1.0, "notes", ["text"], [["\u2028", None, 1.5]], 3),
    Artifact(1.0, "media/ab/abc.txt", "a.txt", "dataset", ["v1"], {"rows": 3}),
    Checkpoint(1.0, "checkpoints/1/a.pt", "/tmp/a.pt", 0.5, 3, ["best"]),
    Console(1.0, "\x1b[31mone\x1b[0m\n\ntwo", "stderr"),
    Alert(1.0, "loss", "it is NaN", "ERROR"),
    Rewind(1.0, 40),
    Lost(1.0, 3, 0.5, "No space left on device"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_field_comes_back(event):
    assert decode(encode(event)) == event


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_score_of_a_checkpoint_that_diverged(score):
    found = decode(encode(Checkpoint(1.0, "checkpoints/1/a.pt", score=score))).score
    assert struct.pack("d", found) == struct.pack("d", score)


def test_lone_surrogates_lose_no_event():
    event = decode(encode(Artifact(1.0, "p", "na\udcffme", aliases=["\ud800"])))
    assert (event.name, event.aliases) == ("na\\udcffme", ["\\ud800"])


def test_an_unreadable_event_is_rejected_when_it_is_encoded():
    with pytest.raises(ValueError, match="Expected `str`"):
        encode(Tags(1.0, [1]))


def test_an_event_is_one_line_of_plain_json(path):
    write(path, [Metrics(1.5, 3, {"two\nlines": 1, "x": math.nan})])
    (line,) = path.read_bytes().splitlines()
    assert json.loads(line) == {"type": "metrics", "time": 1.5, "step": 3, "values": {"two\nlines": 1, "x": "NaN"}}


# Writing


def test_an_event_is_one_write(path, monkeypatch):
    journal = Journal(path)
    written = []
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(data) or real_write(fd, data))
    for row in ROWS:
        journal.append(encode(row))
    assert written == [encode(row) for row in ROWS]
    assert path.read_bytes() == b"".join(written)


def test_each_event_is_in_the_file_when_append_returns(path):
    journal = Journal(path)
    for number, row in enumerate(ROWS, 1):
        journal.append(encode(row))
        assert len(read(path)) == number


WRITERS, LINES = 4, 1500


def test_forked_children_never_mix_their_lines(path):
    journal = Journal(path)
    children = []
    for writer in range(WRITERS):
        child = os.fork()
        if not child:
            padding = "x" * (writer * 3000)  # lines shorter and longer than a page
            for step in range(LINES):
                journal.append(encode(Params(0.0, {"writer": writer, "step": step, "padding": padding})))
            os._exit(0)
        children.append(child)
    for step in range(LINES):
        journal.append(encode(Params(0.0, {"writer": WRITERS, "step": step, "padding": ""})))
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * WRITERS
    found = [event.values for event in read(path)]
    assert len(path.read_bytes().splitlines()) == len(found) == (WRITERS + 1) * LINES
    for writer in range(WRITERS + 1):
        assert [each["step"] for each in found if each["writer"] == writer] == list(range(LINES))


# Torn tail


def test_torn_tail_is_ignored_and_cut_at_every_byte(path):
    whole = b"".join(map(encode, ROWS))
    before_last = len(whole) - len(encode(ROWS[-1]))
    for end in range(before_last, len(whole)):
        path.write_bytes(whole[:end])
        assert steps(path) == [0, 1, 2, 3]
        assert last_step(path) == 3
        cut_torn_tail(path)
        assert path.read_bytes() == whole[:before_last]
    path.write_bytes(whole)
    cut_torn_tail(path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"torn", b"torn" * 1_000_000, b"{}\n" + b"x" * 3_000_000])
def test_torn_tail_of_any_length_is_cut(path, content):
    path.write_bytes(content)
    cut_torn_tail(path)
    assert path.read_bytes() == (b"{}\n" if b"\n" in content else b"")


def test_torn_tail_is_read_once_it_is_complete(path, open_tail):
    line = encode(ROWS[0])
    path.write_bytes(line[:10])
    tail = open_tail()
    assert tail.read() == []
    path.write_bytes(line)
    assert [each.decode() for each in tail.read()] == [decode(line)]


@pytest.mark.parametrize("cut", range(1, len(encode(ROWS[0]))))
def test_a_line_behind_a_fragment_is_not_lost(path, cut):
    """A writer died in its line at any byte, and another one wrote on."""
    path.write_bytes(encode(ROWS[0])[:cut] + encode(ROWS[1]) + encode(ROWS[2]))
    assert steps(path)[-2:] == [1, 2]


@pytest.mark.parametrize("cut", range(1, len(encode(ROWS[0]))))
def test_opening_a_torn_journal_begins_a_new_line(path, cut):
    path.write_bytes(encode(ROWS[0]) + encode(ROWS[1])[:cut])
    journal = Journal(path)
    journal.append(encode(ROWS[2]))
    journal.append(encode(ROWS[3]))
    found = steps(path)
    assert found[0] == 0
    assert found[-2:] == [2, 3]
    assert path.read_bytes().count(b"\n") == 4


def test_opening_a_complete_journal_adds_nothing(path):
    write(path, ROWS[:1])
    Journal(path).append(encode(ROWS[1]))
    assert path.read_bytes() == encode(ROWS[0]) + encode(ROWS[1])


# Damaged middle

MIDDLE = {
    "flipped bytes": lambda line: bytes(255 - byte if 5 < i < 12 else byte for i, byte in enumerate(line)),
    "zeros": lambda line: b"\0" * len(line),
    "a block of NULs and the rest of a line": lambda line: b"\0" * 4096 + line[20:],
    "invalid UTF-8": lambda line: line.replace(b"loss", b"lo\xff\xfe"),
    "first half": lambda line: line[: len(line) // 2],
    "second half": lambda line: line[len(line) // 2 :],
    "unknown type": lambda line: line.replace(b"metrics", b"telepathy"),
    "no type": lambda line: b'{"time":1.0}',
    "wrong type of a field": lambda line: line.replace(b'"step":2', b'"step":"two"'),
    "a string that is no number": lambda line: line.replace(b"NaN", b"many"),
    "missing field": lambda line: line.replace(b'"time"', b'"when"'),
    "number out of range": lambda line: line.replace(b'"time":1', b'"time":1e999'),
    "no object": lambda line: b"[1, 2]",
    "deeply nested": lambda line: b'{"type":"params","time":1,"values":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "text": lambda line: b"Segmentation fault (core dumped)",
    "very long": lambda line: b"x" * 3_000_000,
    "newlines": lambda line: b"\n\n\n",
}


@pytest.mark.parametrize("damage", MIDDLE.values(), ids=MIDDLE)
def test_damaged_line_is_skipped_with_a_warning(path, caplog, damage):
    lines = [encode(row).removesuffix(b"\n") for row in ROWS]
    lines[2] = damage(lines[2])
    path.write_bytes(b"\n".join(lines) + b"\n")
    with caplog.at_level(logging.WARNING, "rankzero.journal"):
        assert steps(path) == [0, 1, 3, 4]
    if lines[2].strip():
        assert "line 3 of the journal is damaged and skipped" in caplog.text
    assert last_step(path) == 4


def test_lines_are_numbered_with_the_damaged_ones(path):
    path.write_bytes(encode(ROWS[0]) + b"?\n\n" + encode(ROWS[1]))
    assert [(line.number, event.step) for line, event in read_events(path)] == [(0, 0), (3, 1)]


def test_unknown_fields_are_left_to_newer_readers(path):
    path.write_bytes(encode(ROWS[0]).replace(b'"step"', b'"mood":"good","step"'))
    assert read(path) == ROWS[:1] or steps(path) == [0]


def test_nested_mappings_that_look_like_events_are_none(path):
    """What a user logged must never be taken for an event, nor with the end of its line damaged."""
    line = encode(Params(1.0, {"inner": {"type": "finish", "time": 1.0, "status": "failed"}, "last": 1}))
    path.write_bytes(line[:-3] + b"\n" + line.replace(b'"params"', b'"parrot"') + encode(ROWS[0]))
    assert [type(event) for event in read(path)] == [Metrics]


# Tail


@in_one_directory
@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"")), max_size=20), st.data())
def test_any_chunking_reads_the_same(path, texts, data):
    content = b"".join(text + b"\n" for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    path.write_bytes(b"")
    lines = []
    with contextlib.closing(Tail(path)) as tail, open(path, "ab", buffering=0) as file:
        for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
            file.write(content[start:end])
            while found := tail.read(data.draw(st.integers(1, 64))):
                lines += found
    assert [line.data for line in lines] == texts
    assert [line.number for line in lines] == list(range(len(texts)))
    assert [line.end for line in lines] == [len(b"".join(t + b"\n" for t in texts[: i + 1])) for i in range(len(texts))]


@pytest.mark.parametrize("first", range(6))
def test_reading_continues_from_a_position(path, open_tail, first):
    write(path, ROWS)
    lines = open_tail().read()
    offset = lines[first - 1].end if first else 0
    assert open_tail(offset, first).read() == lines[first:]


@pytest.mark.parametrize("line", [0, 1, 7, 999, 1000, 2000])
def test_seek_line(path, open_tail, line):
    write(path, [Metrics(0.0, step, {"padding": step}) for step in range(1000)])
    tail = open_tail()
    tail.read()
    tail.seek_line(line)
    assert tail.line == min(line, 1000)
    assert tail.offset == sum(len(text) for text in path.read_bytes().splitlines(keepends=True)[:line])
    assert [each.decode().step for each in tail.read()] == list(range(line, 1000))


@pytest.mark.parametrize("line", [1, 2, 3])
def test_seek_line_past_a_line_longer_than_a_chunk(path, open_tail, line):
    write(path, [Tags(0.0, ["x" * 3_000_000]), *ROWS[:3]])
    tail = open_tail()
    tail.seek_line(line)
    assert [each.decode().step for each in tail.read()] == list(range(line - 1, 3))


def test_line_longer_than_a_chunk(path):
    write(path, [ROWS[0], Params(0.0, {"text": "x" * 5_000_000}), ROWS[1]])
    assert len(read(path)) == 3
    assert last_step(path) == 1


def test_no_journal(path):
    with pytest.raises(RunNotFoundError, match=str(path)):
        Tail(path)


# Where a run stands


def test_last_step_looks_past_other_events_and_long_ones(path):
    write(path, [*ROWS, Metrics(0.0, None, {"a": 1}), Tags(0.0, ["x" * 3_000_000]), Tags(0.0, [])])
    assert last_step(path) == 4


def test_last_step_behind_a_fragment(path):
    path.write_bytes(encode(ROWS[0]) + b'{"type":"metr' + encode(ROWS[3]))
    assert last_step(path) == 3


def test_the_last_step_of_a_run_that_was_rewound(path):
    assert last_step(write(path, [*ROWS, Rewind(0.0, 1), Tags(0.0, [])])) == 1


@pytest.mark.parametrize("events", [[], [Tags(0.0, [])], [Metrics(0.0, None, {"a": 1})]])
def test_no_last_step(path, events):
    assert last_step(write(path, events)) == -1


def test_read_start_finds_the_first(path):
    write(path, [ROWS[0], EVENTS[0], Start(2.0, INFO)])
    assert read_start(path) == EVENTS[0]
    assert read_start(write(path, [])) is None


def test_run_with_a_damaged_start_is_known_by_its_directory(path):
    start = read_start(write(path, ROWS))
    assert (start.run.id, start.run.project, start.run.dir) == (
        path.parent.name,
        path.parent.parent.name,
        str(path.parent),
    )


# A journal is data

BOMB = b"cos\nsystem\n(S'touch exploded'\ntR."


def test_reading_a_malicious_journal_executes_nothing(tmp_path):
    """What a pickle, a YAML loader or eval would run is a text like any other."""
    path = tmp_path / "journal.jsonl"
    texts = [BOMB.decode(), "!!python/object/apply:os.system ['touch exploded']", "__import__('os').mknod('exploded')"]
    bombs = [encode(Params(1.0, {text: text}, {})) for text in texts]
    start = encode(Start(1.0, INFO, {"x": {"plugin": "os:system", "class": "os:system", "options": {"a": texts[2]}}}))
    path.write_bytes(start + BOMB + b"\n" + b"\n".join(text.encode() for text in texts) + b"\n" + b"".join(bombs))
    script = f"import rankzero; print(list(rankzero.read_run({str(path)!r}).params))"
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    assert result.stdout.strip() == str(texts)
    assert not (tmp_path / "exploded").exists()


EXECUTES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def imports(name):
    """Yield the modules that a module of rankzero imports anywhere in its text."""
    source = importlib.util.find_spec(name).loader.get_source(name)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_nothing_that_reads_a_run_imports_what_executes():
    seen, todo = set(), ["rankzero.journal.append", "rankzero.events.structs", "rankzero.reader.run_data"]
    while todo:
        name = todo.pop()
        seen.add(name)
        for imported in imports(name):
            assert imported.partition(".")[0] not in EXECUTES, f"{name} imports {imported}"
            is_module = imported.startswith("rankzero.") and importlib.util.find_spec(imported.rpartition(".")[0])
            if is_module and imported not in seen and _is_module(imported):
                todo.append(imported)
    assert {"rankzero.values", "rankzero.media.store", "rankzero.rundir.writer_lock"} <= seen


def _is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a name in a module
        return False


# Fuzz

fragments = st.binary(max_size=40) | st.sampled_from(
    [b"\n", b"{", b"}", b'"', b'{"type":"metrics","time":1', b',"values":{"a":"NaN"}}', b"\xff", b"\0", encode(ROWS[0])]
)


@in_one_directory
@given(st.lists(fragments, max_size=12).map(b"".join))
@example(b'{"type":"metrics","time":1,"values":{"a":"x"}}\n')
@example(b'{"type":"checkpoint","time":1,"path":"a","score":"high"}\n')
def test_no_bytes_make_reading_raise(path, content):
    path.write_bytes(content)
    for event in read(path):
        if isinstance(event, Metrics):
            event.numbers()
            event.row(0)
    last_step(path)
    read_start(path)
    cut_torn_tail(path)
    assert path.read_bytes() == content[: content.rfind(b"\n") + 1]


def test_random_damage_loses_only_the_damaged_lines(path):
    """A bad byte in one line leaves every other line as it was."""
    rows = [Metrics(0.0, step, {"loss": step / 3}) for step in range(200)]
    content = b"".join(map(encode, rows))
    chance = random.Random(1)
    for _ in range(100):
        position = chance.randrange(len(content))
        damaged = bytearray(content)
        damaged[position] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(damaged))
        found = read(path)
        hit = content.count(b"\n", 0, position)
        neighbours = {hit, hit + 1} if content[position] == 10 else {hit}
        assert [row for row in rows if row.step not in neighbours] == [
            row for row in found if row in rows and row.step not in neighbours
        ]
        assert len(found) <= len(rows) + 1


def test_no_file_of_a_run_gets_a_descriptor_of_stdio(tmp_path):
    code = f"""if True:
        import os
        os.closerange(0, 3)
        import rankzero
        run = rankzero.start("csv", dir={str(tmp_path)!r}, run_id="r", delivery="off")
        run.log_metrics({{"a": 1.0}}, 1)
        for descriptor in range(3):
            try:
                os.write(descriptor, b"what a C library prints")
            except OSError:
                pass
        run.finish()
        os._exit(0)  # Python itself would fail to flush what was printed
    """
    subprocess.run([sys.executable, "-c", code], check=True)
    found = [type(event).__name__ for _, event in read_events(tmp_path / "default/r" / JOURNAL)]
    assert found == ["Start", "Metrics", "Finish"]
    assert all(b"C library" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(("umask", "group"), [(0o022, False), (0o002, True)])
def test_the_group_can_resume_a_run_if_the_umask_allows_writing(tmp_path, umask, group):
    before = os.umask(umask)
    try:
        run = rankzero.start("csv", dir=tmp_path, delivery="off")
        run.finish()
    finally:
        os.umask(before)
    journal, lock = ((run.dir / name).stat().st_mode for name in (JOURNAL, "writer.lock"))
    assert bool(journal & 0o020) == group
    assert lock & 0o077 == (0o060 if group else 0)
