import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import search_spaces
from search_spaces import (
    HYPERPARAMETERS,
    Choice,
    Int,
    Space,
    SpaceError,
    contains,
    for_pretrained,
    get_space,
    is_probe,
    names,
    narrow,
    on_a_cpu,
    probe_of,
    sample,
)

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
TOML = """
name = "mine"
description = "two models that are not built in"

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
kind = "float"
name = "drop_path_rate"
low = 0
high = 0.3
when = {arch = ["convnext_tiny"]}
"""
PYTHON = "from search_spaces import Float, Space\n"


def by_name(space):
    return {dimension.name: dimension for dimension in space.dimensions}


@pytest.fixture
def write(tmp_path):
    def _write(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return _write


def test_importing_it_loads_neither_torch_nor_ray_nor_optuna_nor_numpy():
    code = "import sys, search_spaces; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(search_spaces.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    packages = {module.partition(".")[0] for module in done.stdout.split()}
    assert not packages & {"torch", "ray", "optuna", "numpy", "timm", "trainable", "tuning", "analysis"}


def test_every_public_name_exists():
    assert all(hasattr(search_spaces, name) for name in search_spaces.__all__)


@pytest.mark.parametrize(
    ("name", "architectures"),
    [
        ("resnet", RESNETS),
        ("vit", ("vit_small", "deit_small")),
        ("deit", ("deit_small",)),
        ("swin", ("swin_tiny",)),
        ("all", (*RESNETS, "vit_small", "deit_small", "swin_tiny")),
    ],
)
def test_each_space_has_its_architectures(name, architectures):
    assert by_name(get_space(name))["arch"].values == architectures


def test_the_names_are_the_four_families_their_union_and_photos():
    assert names() == ["resnet", "vit", "deit", "swin", "all", "photos"]
    assert [get_space(name).name for name in names()] == names()


@pytest.mark.parametrize("name", names())
def test_dimensions_are_known_and_come_in_the_agreed_order(name):
    found = list(by_name(get_space(name)))
    assert found == [known for known in HYPERPARAMETERS if known in found]
    assert len(found) == (8 if name in ("resnet", "photos") else 9)


@pytest.mark.parametrize("name", names())
def test_dropout_on_attention_is_conditional_only_in_the_union(name):
    dimension = by_name(get_space(name)).get("attn_drop_rate")
    if name in ("resnet", "photos"):
        assert dimension is None
    else:
        assert dimension.when == ({"arch": ("vit_small", "deit_small", "swin_tiny")} if name == "all" else None)


def test_the_union_takes_the_widest_learning_rates():
    lr = by_name(get_space("all"))["lr"]
    assert (lr.low, lr.high, lr.log, lr.start) == (1e-4, 1e-2, True, 2e-3)


@pytest.mark.parametrize("name", names())
def test_fine_tuning_has_its_own_dimensions_and_probes_have_none_of_them(name):
    space = for_pretrained(get_space(name))
    dimensions = by_name(space)
    assert dimensions["arch"] == by_name(get_space(name))["arch"]
    assert list(dimensions) == [known for known in HYPERPARAMETERS if known in dimensions]
    for arch in dimensions["arch"].values:
        contains(space, probe_of(arch))
    rng = random.Random(0)
    drawn = [sample(space, rng) for _ in range(200)]
    assert {len(each) for each in drawn if is_probe(each)} == {2}
    assert min(len(each) for each in drawn if not is_probe(each)) > 8


def test_fine_tuning_without_probes_has_no_condition_on_what_is_frozen():
    space = for_pretrained(get_space("resnet"), with_probes=False)
    assert not any(each.when for each in space.dimensions)
    assert by_name(space)["freeze"].values == ("none", "early", "most")


def test_what_a_cpu_fine_tunes_is_the_small_end_of_photos():
    archs = by_name(get_space("photos"))["arch"].values
    small = [arch for arch in archs if on_a_cpu(arch)]
    assert 5 <= len(small) <= 12 < len(archs) <= 32
    assert small == list(archs[: len(small)])  # the cheapest first


def test_a_toml_file_is_a_space(write):
    space = get_space(write("mine.toml", TOML))
    assert (space.name, space.fixed) == ("mine", {"batch_size": 64})
    assert by_name(space)["arch"] == Choice(name="arch", values=("convnext_tiny", "resnet18"))
    assert by_name(space)["drop_path_rate"].when == {"arch": ("convnext_tiny",)}
    search_spaces.contains(space, search_spaces.sample(space, random.Random(0)))


def test_a_toml_file_without_a_name_takes_that_of_the_file(write):
    assert get_space(write("own.toml", TOML.replace('name = "mine"', "", 1))).name == "own"


def test_a_python_file_is_a_space(write):
    path = write("mine.py", PYTHON + "SPACE = Space(name='p', dimensions=(), fixed={'arch': 'vgg11', 'lr': 0.1})")
    assert get_space(path).fixed == {"arch": "vgg11", "lr": 0.1}


def test_a_path_may_begin_with_the_home_folder(write, monkeypatch):
    monkeypatch.setenv("HOME", str(Path(write("mine.toml", TOML)).parent))
    assert get_space("~/mine.toml").name == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "swn",
            "unknown space 'swn'; did you mean 'swin'[?] Known: resnet, vit, deit, swin, all, photos; or give",
        ),
        ("spaces/mine.yaml", "unknown space 'spaces/mine.yaml'; .* a .toml or .py file"),
        ("nowhere/mine.toml", "nowhere/mine.toml: no such file; .* or one of resnet, vit"),
    ],
)
def test_an_unknown_space_lists_the_known_ones(name, message):
    with pytest.raises(SpaceError, match=message):
        get_space(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", r"bad\.toml: Invalid value \(at (line 1, column 8|end of document)\)"),
        ("a = 1\nb = [", r"bad\.toml: .*(line 2|end of document)"),
        ("a = 1\nb ! 2", r"bad\.toml: .*line 2, column 3"),
        ("nmae = 'x'\ndimensions = []", r"bad\.toml: space 'bad' has no field 'nmae'; did you mean 'name'"),
        ("name = 'x'", r"bad\.toml: no architecture \(None\)"),
        ("[[dimensions]]\nname = 'arch'\nkind = 'choice'", r"bad\.toml: dimension 'arch' lacks the field 'values'"),
        (TOML.replace("high = 1e-2", "high = 1e-5"), r"bad\.toml: dimension 'lr': low 0\.0001 is above high 1e-05"),
        (TOML.replace('"lr"', '"lrr"'), r"bad\.toml: unknown hyper-parameter 'lrr'; did you mean 'lr'[?] Known: arch,"),
        (TOML.replace("batch_size", "batchsize"), "unknown hyper-parameter 'batchsize'; did you mean 'batch_size'"),
        ("dimensions = []", r"bad\.toml: no architecture \(None\); give an unconditional choice 'arch'"),
        ("dimensions = []\nfixed = {arch = 18}", r"bad\.toml: no architecture \(18\)"),
    ],
)
def test_a_wrong_toml_file_is_one_line_with_its_place(write, text, message):
    with pytest.raises(SpaceError, match=message) as caught:
        get_space(write("bad.toml", text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = (", r"bad\.py:2: SyntaxError: '\(' was never closed"),
        ("def f():\n    return 1 / 0\n\nf()", r"bad\.py:2: ZeroDivisionError: division by zero"),
        (
            PYTHON + "\nSPACE = Float(name='lr', low=1, high=0)",
            r"bad\.py:3: SpaceError: dimension 'lr': low 1\.0 is above",
        ),
        ("import no_such_module_at_all", r"bad\.py:1: ModuleNotFoundError"),
        ("raise SystemExit(3)", r"bad\.py:1: SystemExit: 3"),
        ("raise ValueError('a\\nb')", r"bad\.py:1: ValueError: a b"),
        ("SPACES = 1", r"bad\.py: defines no SPACE; it must be a search_spaces\.Space"),
        ("SPACE = {}", r"bad\.py: defines SPACE as a dict"),
    ],
)
def test_a_wrong_python_file_is_one_line_with_its_line_number(write, text, message):
    with pytest.raises(SpaceError, match=message) as caught:
        get_space(write("bad.py", text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpaceError, match=r"bad\.toml: 'utf-8' codec can't decode"):
        get_space(str(path))


INT = """fixed = {{arch = "resnet18"}}
[[dimensions]]
kind = "int"
name = "batch_size"
low = 1
high = {high}
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (INT.format(high="1" + "0" * 400), r"bad\.toml: .*high = 1000.*less than 9223372036854775808"),
        (INT.format(high="9" * 5000), r"bad\.toml: Exceeds the limit"),
        (INT.format(high="0x" + "f" * 5000), r"bad\.toml: "),
        ("fixed = {arch = 'resnet18', batch_size = " + "9" * 30 + "}", r"bad\.toml: .*must be below 2\^63"),
        ("a = " + "[" * 100_000, r"bad\.toml: .*recursion"),
    ],
)
def test_a_toml_file_that_python_cannot_hold_is_one_line(write, text, message):
    with pytest.raises(SpaceError, match=message) as caught:
        get_space(write("bad.toml", text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["~no-such-user/mine.toml", "a" * 5000 + ".toml", "a\0b.toml"])
def test_a_path_that_can_be_no_file_is_no_such_file(path):
    with pytest.raises(SpaceError, match=r"no such file; a space is a \.toml or \.py file"):
        get_space(path)


def test_a_toml_file_is_never_run(write, tmp_path):
    with pytest.raises(SpaceError, match=r"bad\.toml: "):
        get_space(write("bad.toml", f"import os\nos.mkdir({str(tmp_path / 'made')!r})\n"))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("value", ["1:" + "9" * 400, "9" * 400, "1:" + "9" * 30, "9" * 5000])
def test_a_setting_that_no_float_can_hold_is_refused(value):
    space = Space(name="x", dimensions=(Int(name="batch_size", low=1, high=20),), fixed={"arch": "resnet18"})
    with pytest.raises(SpaceError, match="batch_size"):
        narrow(space, [f"batch_size={value}"])
