"""Inputs that are nearly right: valid files with random edits, random values under the right names, random bytes."""

import json
import random
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from optuna.trial import TrialState

from search_spaces import HYPERPARAMETERS, Choice, Dimension, Int, Space, get_space, sample
from trainable.config import DEFAULT_RATES, TrialConfig
from tuning.study import JOURNAL, StudyLog, journal_storage

Bytes = st.SearchStrategy[bytes]

WNIDS = ("n01443537", "n01629819", "n02124075")
WORDS = "".join(f"{wnid}\tthe {number}th, of its kind\n" for number, wnid in enumerate(WNIDS)).encode()
ANNOTATIONS = "".join(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n" for number, wnid in enumerate(WNIDS)).encode()
TOML = b"""name = "mine"
description = "two models"

[fixed]
batch_size = 64

[[dimensions]]
kind = "choice"
name = "arch"
values = ["convnext_tiny", "resnet18"]

[[dimensions]]
kind = "float"
name = "lr"
low = 1e-4
high = 1e-2
log = true
start = 1e-3

[[dimensions]]
kind = "int"
name = "warmup_epochs"
low = 1
high = 20

[[dimensions]]
kind = "float"
name = "drop_path_rate"
low = 0
high = 0.3
when = {arch = ["convnext_tiny"]}
"""
SPACE = Space(name="all", dimensions=(*get_space("all").dimensions, Int(name="warmup_epochs", low=1, high=20)))
"""What `--set` and `--try` are given: all kinds of dimensions."""
PARAMS = json.dumps(
    TrialConfig(data=Path("images"), drop_rate=0.1).model_dump(mode="json") | {"cache_dir": "cache"}, indent=1
).encode()

NUMBERS = ("0", "-1", "1e400", "-1e400", "1e308", "nan", "inf", "0x10", "1_0", "٣", "digits", "hexadecimals")
LONG = {"digits": "9" * 5000, "hexadecimals": "0x" + "f" * 5000, "nested": "[" * 100_000}
"""What stands for inputs that are too long to be listed."""
TOKENS = (
    *(number.encode() for number in NUMBERS),
    *(b"\t", b"\n", b"\r", b"\x00", b"\xff", b"\xe2\x80\xa8", b"\x1b[2J", b" ", b'"', b"'", b"\\", b",", b":", b"="),
    *(b"{", b"}", b"[", b"]", b"[[", b"#", b"null", b"true", b"false", b"../../etc/passwd", b"/etc/passwd", b"nested"),
)


def long(token: str) -> str:
    """The token, or what it stands for."""
    return LONG.get(token, token)


names = st.sampled_from([*HYPERPARAMETERS, "epochs", "name", ""]) | st.text(max_size=6)
PLAIN = ("1", "2", "8", "64", "0.1", "0.5", "0.001", "1e-3")
plain_numbers = st.sampled_from(PLAIN) | st.floats(1e-4, 0.4).map(repr) | st.integers(1, 64).map(str)
numbers = plain_numbers | st.sampled_from(NUMBERS).map(long) | st.floats().map(repr) | st.integers().map(str)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([10**400, 2**63]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def files_like(original: bytes) -> Bytes:
    """Edits of a file that is right, and bytes that are nothing."""
    return edited(original) | st.binary(max_size=200)


def edited(original: bytes) -> Bytes:
    """The file after up to three edits: bytes replaced, put in, taken out, lines repeated, the rest cut off."""
    kinds = st.sampled_from(("replace", "insert", "delete", "repeat", "cut"))
    what = st.sampled_from(TOKENS).map(
        lambda token: LONG.get(token.decode("latin1"), "").encode() or token
    ) | st.binary(max_size=6)
    edits = st.lists(st.tuples(kinds, st.integers(0, len(original)), st.integers(1, 12), what), min_size=1, max_size=3)
    return edits.map(lambda each: _after(original, each))


def _after(content: bytes, edits: Sequence[tuple[str, int, int, bytes]]) -> bytes:
    for kind, place, length, what in edits:
        before, there, behind = content[:place], content[place : place + length], content[place + length :]
        if kind == "replace":
            content = before + what + behind
        elif kind == "insert":
            content = before + what + there + behind
        elif kind == "delete":
            content = before + behind
        elif kind == "repeat":
            start = content.rfind(b"\n", 0, place) + 1
            content = content[:place] + b"\n" + content[start:]
        else:
            content = before
    return content


def toml_files() -> Bytes:
    """Space files: edited ones, and ones with random values for the right fields."""
    return files_like(TOML) | tables_of(usual_tables()) | tables_of(usual_tables() | odd_tables())


def tables_of(one: st.SearchStrategy[dict[str, str]]) -> Bytes:
    """Space files with up to four such dimensions, of different names."""
    texts = st.lists(one, max_size=4, unique_by=lambda table: table.get("name")).map(
        lambda tables: "".join(f"[[dimensions]]\n{_toml_lines(table)}\n" for table in tables)
    )
    begins = st.sampled_from(['fixed = {arch = "resnet18"}\n', ""])
    return st.tuples(begins, texts).map(lambda parts: "".join(parts).encode("utf-8", "replace"))


def usual_tables() -> st.SearchStrategy[dict[str, str]]:
    """A dimension of numbers or choices, right but for some values."""
    kinds = st.sampled_from(['"float"', '"int"'])
    known = st.sampled_from([name for name in HYPERPARAMETERS if name != "arch"]).map(json.dumps)
    whens = st.sampled_from(['{arch = ["resnet18"]}', "{lr = [0.5]}", "{arch = []}"])
    floats = st.tuples(st.just('"float"'), known, st.floats(-1, 0.1).map(repr), st.floats(0.1, 1e9).map(repr))
    ints = st.tuples(st.just('"int"'), known, st.integers(-9, 9).map(str), st.integers(10, 99).map(str))
    odd_ends = st.tuples(kinds, known, numbers, numbers)
    ranges = (floats | ints | odd_ends).map(
        lambda parts: dict(zip(("kind", "name", "low", "high"), parts, strict=True))
    )
    lists = st.lists(toml_scalars(), min_size=1, max_size=4, unique=True).map(lambda items: f"[{', '.join(items)}]")
    choices = st.tuples(known, lists).map(lambda parts: {"kind": '"choice"', "name": parts[0], "values": parts[1]})
    odd = st.fixed_dictionaries({}, optional={"log": st.just("true"), "start": numbers, "when": whens})
    return st.tuples(ranges | choices, st.just({}) | odd).map(lambda parts: parts[0] | parts[1])


def odd_tables() -> st.SearchStrategy[dict[str, str]]:
    """Any values for the names of fields."""
    fields = ["kind", "name", "low", "high", "log", "start", "values", "when"]
    return st.dictionaries(st.sampled_from(fields), toml_values(), max_size=8)


def toml_scalars() -> st.SearchStrategy[str]:
    """Numbers, texts and booleans as TOML writes them, mostly."""
    return (
        numbers
        | st.text(max_size=6).map(lambda text: json.dumps(text, ensure_ascii=False))
        | st.sampled_from(["true", "false", "2026-11-24", '"resnet18"'])
    )


def toml_values() -> st.SearchStrategy[str]:
    """Scalars, and lists of them."""
    return toml_scalars() | st.lists(toml_scalars(), max_size=3).map(lambda items: f"[{', '.join(items)}]")


def _toml_lines(pairs: dict[str, str]) -> str:
    return "\n".join(f"{name} = {value}" for name, value in pairs.items())


def settings() -> st.SearchStrategy[list[str]]:
    """Up to three texts as `--set` takes them."""
    pieces = st.lists(numbers | st.sampled_from([":", ",", "=", " ", "::"]) | st.text(max_size=3), max_size=6)
    ends = st.tuples(st.floats(1e-5, 0.1), st.floats(0.1, 10)).map(lambda pair: list(map(repr, pair)))
    tails = st.sampled_from(["", ":log", ":linear", ":"])
    ranges = st.tuples(ends | st.lists(numbers, min_size=2, max_size=2), tails).map(
        lambda parts: f"{parts[0][0]}:{parts[0][1]}{parts[1]}"
    )
    lists = st.lists(numbers, min_size=1, max_size=4).map(",".join)
    searched = st.sampled_from([dimension.name for dimension in SPACE.dimensions])
    one = st.tuples(searched | names, ranges | lists | pieces.map("".join)).map("=".join) | st.text(max_size=20)
    return st.lists(right_pairs() | one, min_size=1, max_size=3)


def tries() -> st.SearchStrategy[str]:
    """A text as `--try` takes it."""
    pair = st.tuples(names, numbers | st.text(max_size=4)).map("=".join)
    mixed = st.lists(right_pairs() | right_pairs() | pair, min_size=1, max_size=3)
    return mixed.map(",".join) | st.lists(right_pairs(), min_size=1, max_size=3).map(",".join) | st.text(max_size=20)


def right_pairs() -> st.SearchStrategy[str]:
    """A dimension of `SPACE` with a value of its own."""
    return st.one_of(*(_right_values(each).map(f"{each.name}={{}}".format) for each in SPACE.dimensions))


def _right_values(dimension: Dimension) -> st.SearchStrategy[Any]:
    if isinstance(dimension, Choice):
        return st.sampled_from(dimension.values)
    if isinstance(dimension, Int):
        return st.integers(dimension.low, dimension.high)
    return st.floats(dimension.low, dimension.high)


def params_files() -> Bytes:
    """Configurations: edited ones, ones with random values, and other JSON."""
    fields = st.sampled_from([*TrialConfig.model_fields, "config", "x"])
    rates = st.dictionaries(
        st.sampled_from(["lr", *DEFAULT_RATES, "mix_prob", "ema_decay"]), st.floats(0, 1), max_size=3
    )
    changes = st.tuples(rates, st.just({}) | st.dictionaries(fields, values, max_size=3))
    written = changes.map(lambda both: json.dumps(json.loads(PARAMS) | both[0] | both[1]).encode())
    return files_like(PARAMS) | written | values.map(lambda value: json.dumps(value).encode())


def journals() -> Bytes:
    """Journals: bytes edited, lines dropped, doubled and swapped, and fields of lines changed."""
    lines = journal_lines()
    index = st.integers(0, len(lines) - 1)
    kinds = st.sampled_from(("drop", "double", "swap", "change", "change"))
    keys = st.sampled_from(sorted({key for line in lines for key in json.loads(line)}))
    what = values | st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, "test"])
    edits = st.lists(st.tuples(kinds, index, index, keys, what), min_size=1, max_size=4)
    return edits.map(_changed_journal) | files_like(b"".join(lines))


def _changed_journal(edits: Sequence[tuple[str, int, int, str, Any]]) -> bytes:
    lines = list(journal_lines())
    for kind, place, other, key, value in edits:
        place, other = place % len(lines), other % len(lines)
        if kind == "drop" and len(lines) > 1:
            del lines[place]
        elif kind == "double":
            lines.insert(other, lines[place])
        elif kind == "swap":
            lines[place], lines[other] = lines[other], lines[place]
        else:
            lines[place] = json.dumps(json.loads(lines[place]) | {key: value}).encode() + b"\n"
    return b"".join(lines)


@cache
def journal_lines() -> tuple[bytes, ...]:
    """The lines of a real journal: one trial that ended, one that was pruned, one that runs."""
    space, rng = get_space("resnet"), random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        log = StudyLog("test", space, journal_storage(Path(folder)))
        for key in ("a", "b", "c"):
            log.start(key, sample(space, rng))
            log.report(key, 1, 0.5)
        log.end("a", TrialState.COMPLETE, 0.5)
        log.end("b", TrialState.PRUNED)
        lines = (Path(folder) / JOURNAL).read_text().splitlines()
    return tuple(_without_time_and_process(line) for line in lines)


def _without_time_and_process(line: str) -> bytes:
    """The same in each run, so that a crash can be repeated."""
    fields = json.loads(line) | {"worker_id": "worker"}
    times = {name: "2026-11-24T21:00:00.000000+00:00" for name in fields if name.startswith("datetime")}
    return json.dumps(fields | times, separators=(",", ":")).encode() + b"\n"
