import json
import random
import re
import tomllib

import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from search_spaces import (
    Choice,
    Float,
    Int,
    Space,
    SpaceError,
    cardinality,
    contains,
    describe,
    get_space,
    names,
    narrow,
    sample,
    start_point,
    suggest,
)

patient = settings(deadline=None, max_examples=60)
ALL = get_space("all")
ATTENTION = ("vit_small", "deit_small", "swin_tiny")
KNOWN = "arch, lr, weight_decay, drop_rate, attn_drop_rate, drop_path_rate, label_smoothing, mix_prob, batch_size"


@st.composite
def ranges(draw, name, when):
    log = draw(st.booleans())
    kind, number = draw(
        st.sampled_from([(Float, st.floats(1e-9 if log else -1e6, 1e6)), (Int, st.integers(1 if log else -99, 99))])
    )
    low, high = sorted((draw(number), draw(number)))
    start = draw(st.none() | (st.floats(low, high) if kind is Float else st.integers(low, high)))
    return kind(name=name, low=low, high=high, log=log, start=start, when=when)


@st.composite
def choices(draw, name, when):
    pool = draw(st.sampled_from([st.text(max_size=5), st.integers(1, 512), st.floats(0.1, 9.0), st.booleans()]))
    values = draw(st.lists(pool, min_size=1, max_size=4, unique=True))
    return Choice(name=name, values=values, start=draw(st.none() | st.sampled_from(values)), when=when)


@st.composite
def spaces(draw):
    """Up to six dimensions, some of which depend on an earlier choice or on a fixed value."""
    dimensions, parents = [], {"size": ("small",)}
    for name in "abcdef"[: draw(st.integers(0, 6))]:
        parent = draw(st.none() | st.sampled_from(sorted(parents)))
        when = {parent: draw(st.lists(st.sampled_from(parents[parent]), min_size=1, unique=True))} if parent else None
        dimensions.append(draw(choices(name, when) | ranges(name, when)))
        if isinstance(dimensions[-1], Choice):
            parents[name] = dimensions[-1].values
    return Space(name="random", dimensions=dimensions, fixed={"size": "small"}, description=draw(st.text(max_size=9)))


def to_toml(space):
    """The standard library reads TOML but doesn't write it; JSON's scalars and lists are TOML's as well."""

    def text(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(key)} = {text(item)}" for key, item in value.items()) + "}"
        if isinstance(value, list):
            return f"[{', '.join(map(text, value))}]"
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

    data = space.model_dump(mode="json", exclude_none=True)
    return "\n".join(f"{key} = {text(value)}" for key, value in data.items())


@patient
@given(spaces(), st.integers())
def test_every_sample_lies_in_its_space(space, seed):
    contains(space, sample(space, random.Random(seed)))


@patient
@given(spaces())
def test_the_start_point_lies_in_the_space_and_leaves_the_fixed_values_out(space):
    point = start_point(space)
    contains(space, point)
    assert not point.keys() & space.fixed.keys()


@patient
@given(spaces())
def test_a_space_survives_json_and_toml(space):
    assert Space.model_validate_json(space.model_dump_json()) == space
    assert Space.model_validate(tomllib.loads(to_toml(space))) == space


@patient
@given(spaces(), st.integers())
def test_optuna_suggests_points_that_lie_in_the_space(space, seed):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed % 2**32))
    contains(space, suggest(space, study.ask()))


@patient
@given(spaces(), st.integers())
def test_the_number_of_configurations_is_what_sampling_finds(space, seed):
    size = cardinality(space)
    assume(size is not None and size <= 8)
    rng = random.Random(seed)
    assert len({json.dumps(sample(space, rng)) for _ in range(1000)}) == size


@patient
@given(st.data(), st.sampled_from(names()), st.integers())
def test_samples_of_a_narrowed_space_lie_in_it_and_in_the_whole_space(data, name, seed):
    space = get_space(name)
    assignments = []
    for dimension in data.draw(st.lists(st.sampled_from(space.dimensions), unique_by=lambda d: d.name)):
        if isinstance(dimension, Choice):
            values = data.draw(st.lists(st.sampled_from(dimension.values), min_size=1, unique=True))
            assignments.append(f"{dimension.name}={','.join(map(str, values))}")
        else:
            ends = st.floats(dimension.low, dimension.high)
            low, high = sorted((data.draw(ends), data.draw(ends)))
            assignments.append(f"{dimension.name}={low}:{high}")
    try:
        narrowed = narrow(space, assignments)
    except SpaceError as error:
        assume("'attn_drop_rate' needs" not in str(error))
        raise
    values = sample(narrowed, random.Random(seed))
    contains(narrowed, values)
    contains(space, values)
    contains(narrowed, start_point(narrowed))


def test_no_resnet_ever_gets_a_dropout_on_attention():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rng = random.Random(0)
    points = [sample(ALL, rng) for _ in range(1000)] + [suggest(ALL, study.ask()) for _ in range(100)]
    assert {point["arch"] for point in points} == set(ALL.dimensions[0].values)
    for point in points:
        assert ("attn_drop_rate" in point) == (point["arch"] in ATTENTION)


def test_log_samples_spread_evenly_over_the_orders_of_magnitude():
    space = Space(name="x", dimensions=(Float(name="lr", low=1e-4, high=1.0, log=True),))
    rng = random.Random(0)
    below = sum(sample(space, rng)["lr"] < 1e-2 for _ in range(2000))
    assert 900 < below < 1100


def test_both_ends_of_a_whole_number_range_are_drawn_as_often_as_its_middle():
    space = Space(name="x", dimensions=(Int(name="n", low=1, high=3),))
    rng = random.Random(0)
    drawn = [sample(space, rng)["n"] for _ in range(3000)]
    assert all(900 < drawn.count(value) < 1100 for value in (1, 2, 3))


def test_a_trial_gets_the_fixed_values_too():
    space = Space(name="x", dimensions=(Choice(name="n", values=(1,)),), fixed={"arch": "resnet18"})
    assert suggest(space, optuna.create_study().ask()) == {"arch": "resnet18", "n": 1}


def test_without_a_start_the_middle_is_taken_and_the_geometric_one_on_a_log_scale():
    space = Space(
        name="x",
        dimensions=(
            Float(name="a", low=0.0, high=1.0),
            Float(name="b", low=1e-4, high=1e-2, log=True),
            Int(name="c", low=1, high=100, log=True),
            Choice(name="d", values=("first", "second")),
        ),
    )
    assert start_point(space) == {"a": 0.5, "b": pytest.approx(1e-3), "c": 10, "d": "first"}


def test_a_condition_on_a_dimension_that_is_itself_absent_is_false():
    space = Space(
        name="x",
        dimensions=(
            Choice(name="a", values=(1, 2)),
            Choice(name="b", values=(1, 2), when={"a": [1]}),
            Choice(name="c", values=(1, 2, 3), when={"b": [1, 2]}),
        ),
    )
    assert cardinality(space) == 2 * 3 + 1
    assert start_point(space) == {"a": 1, "b": 1, "c": 1}
    assert start_point(narrow(space, ["a=2"])) == {}


def test_configurations_are_counted_unless_a_range_is_real():
    assert cardinality(ALL) is None
    n = Int(name="n", low=1, high=10)
    point = Float(name="p", low=0.5, high=0.5)
    extra = Choice(name="c", values=("x", "y"), when={"n": [3, 4]})
    assert cardinality(Space(name="x", dimensions=(n, point, extra))) == 8 + 2 * 2
    assert cardinality(Space(name="x", dimensions=())) == 1


def test_a_space_cannot_be_changed_after_its_checks():
    with pytest.raises(ValueError, match="frozen"):
        ALL.name = "other"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Float(name="lr", low=1, high=0), "dimension 'lr': low 1.0 is above high 0.0; swap them"),
        (
            lambda: Float(name="lr", low=0, high=1, log=True),
            "dimension 'lr': low 0.0 has no logarithm; give a low above 0",
        ),
        (lambda: Int(name="n", low=0, high=9, log=True), "dimension 'n': low 0 has no logarithm"),
        (
            lambda: Float(name="lr", low=0, high=1, start=2),
            "dimension 'lr': start 2.0 is outside 0.0..1.0; move it inside",
        ),
        (lambda: Choice(name="arch", values=()), "dimension 'arch' has no values; list at least one"),
        (lambda: Choice(name="arch", values=("a", "b", "a")), "dimension 'arch' lists 'a' twice"),
        (lambda: Choice(name="n", values=(1, 1.0)), "dimension 'n' lists 1.0 twice"),
        (lambda: Choice(name="arch", values=("swin",), start="swn"), "start 'swn' is not among .* did you mean 'swin'"),
        (
            lambda: Choice.model_validate({"name": "n", "values": (1, None)}),
            "dimension 'n', values.1 = None: must be a string",
        ),
        (
            lambda: Float.model_validate({"name": "lr", "low": 0, "hihg": 1}),
            "dimension 'lr' has no field 'hihg'; did you mean 'high'",
        ),
        (lambda: Float.model_validate({"name": "lr", "low": 0}), "dimension 'lr' lacks the field 'high'"),
        (
            lambda: Float.model_validate({"name": "lr", "low": "x", "high": 1}),
            "dimension 'lr', low = 'x': Input should be a valid number",
        ),
        (lambda: Float(name="lr", low=0, high=float("inf")), "dimension 'lr', high = inf: Input should be a finite"),
        (
            lambda: Int.model_validate({"name": "n", "low": 0, "high": 1.5}),
            "dimension 'n', high = 1.5: Input should be a valid integer",
        ),
        (lambda: Space.model_validate_json("{"), "space, input = .*line 1 column 1"),
    ],
)
def test_a_broken_rule_is_one_line_with_name_value_and_mend(build, message):
    with pytest.raises(SpaceError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


LR = {"kind": "float", "name": "lr", "low": 0.1, "high": 1.0}
ARCH = {"kind": "choice", "name": "arch", "values": ["vit_small", "swin_tiny"]}


@pytest.mark.parametrize(
    ("dimensions", "fixed", "message"),
    [
        ([LR, LR], {}, "dimension 'lr' is there twice; keep one of them"),
        ([LR], {"lr": 0.5}, "dimension 'lr' is also fixed to 0.5; keep one of the two"),
        ([{**LR, "when": {"arhc": ["x"]}}], {"arch": "x"}, "'arhc' looks at no fixed .* did you mean 'arch'"),
        ([{**LR, "when": {"arch": ["swin_tiny"]}}, ARCH], {}, "'arch' looks at no fixed value or earlier dimension"),
        ([{**LR, "when": {"lr": [0.5]}}], {}, "condition on 'lr' looks at no fixed value or earlier"),
        ([ARCH, {**LR, "when": {"arch": ["swin_tny"]}}], {}, "lists 'swin_tny', .* did you mean 'swin_tiny'"),
        ([ARCH, {**LR, "when": {"arch": []}}], {}, "condition on 'arch' lists no values"),
        ([{**LR, "when": {"arch": ["a"]}}], {"arch": "b"}, "needs 'a', but it is fixed to 'b'; remove the dimension"),
        ([LR, {**ARCH, "when": {"lr": [7]}}], {}, r"lists 7, which 'lr' can't take; its range is 0\.1\.\.1\.0"),
        ([{"kind": "flaot", "name": "lr"}], {}, "needs kind = choice, float or int"),
        ([{"name": "lr"}], {}, "needs kind = choice, float or int"),
        ([{**LR, "low": 2.0}], {}, "dimension 'lr': low 2.0 is above high 1.0"),
        ([3], {}, "space 'x', dimensions.0 = 3"),
    ],
)
def test_dimensions_that_do_not_fit_together_are_one_line(dimensions, fixed, message):
    with pytest.raises(SpaceError, match=message) as caught:
        Space.model_validate({"name": "x", "dimensions": dimensions, "fixed": fixed})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 5.0}, r"lr = 5\.0 is outside the space; it takes 0\.0003 \.\. 0\.01"),
        ({"lr": "1e-3"}, "lr = '1e-3' is outside"),
        ({"mix_prob": True}, "mix_prob = True is outside"),
        ({"lrr": 5.0}, r"space 'resnet' has no 'lrr' \(= 5\.0\); did you mean 'lr'"),
        ({"arch": "swin_tiny"}, "arch = 'swin_tiny' is outside the space; it takes resnet18, resnet34"),
    ],
)
def test_a_value_outside_the_space_is_named(changes, message):
    with pytest.raises(SpaceError, match=message):
        contains(get_space("resnet"), {**start_point(get_space("resnet")), **changes})


def test_missing_superfluous_and_contradicting_values_are_named():
    point = start_point(ALL)
    with pytest.raises(SpaceError, match="attn_drop_rate does not apply here: it needs arch in vit_small"):
        contains(ALL, {**point, "attn_drop_rate": 0.1})
    with pytest.raises(SpaceError, match=r"attn_drop_rate is missing; it takes 0 \.\. 0\.3"):
        contains(ALL, {**point, "arch": "swin_tiny"})
    with pytest.raises(SpaceError, match="batch_size = 32, but space 'all' fixes it to 64"):
        contains(narrow(ALL, ["batch_size=64"]), {**point, "batch_size": 32})


def dimension(space, name):
    return next((d for d in space.dimensions if d.name == name), None)


@pytest.mark.parametrize(
    ("setting", "low", "high", "log", "start"),
    [
        ("lr=1e-3:5e-3", 1e-3, 5e-3, True, 2e-3),
        ("lr=1e-3:5e-3:linear", 1e-3, 5e-3, False, 2e-3),
        ("lr=1e-5:1e-3", 1e-5, 1e-3, True, 1e-3),
        ("lr = 5e-3 : 0.1", 5e-3, 0.1, True, 5e-3),
        ("drop_rate=0.1:0.9:log", 0.1, 0.9, True, 0.1),
    ],
)
def test_a_range_keeps_its_scale_and_takes_the_start_along(setting, low, high, log, start):
    found = dimension(narrow(ALL, [setting]), setting.split("=")[0].strip())
    assert (found.low, found.high, found.log, found.start) == (low, high, log, start)


def test_a_fixed_dimension_is_no_longer_asked_but_still_returned():
    space = narrow(ALL, ["arch=swin_tiny", "batch_size=48", "drop_rate=0.1", "weight_decay=0:0:linear"])
    assert space.fixed == {"arch": "swin_tiny", "batch_size": 48, "drop_rate": 0.1, "weight_decay": 0.0}
    assert dimension(space, "arch") is None
    assert sample(space, random.Random(0)).items() >= space.fixed.items()


def test_choices_of_whole_numbers_stay_whole_and_lose_a_start_that_is_gone():
    found = dimension(narrow(ALL, ["batch_size=96, 192"]), "batch_size")
    assert found.values == (96, 192)
    assert all(type(value) is int for value in found.values)
    assert found.start is None


def test_a_range_can_become_a_list_of_values():
    found = dimension(narrow(ALL, ["drop_rate=0.2,0.0"]), "drop_rate")
    assert isinstance(found, Choice)
    assert found.values == (0.2, 0.0)
    assert found.start == 0.0


def test_booleans_and_whole_numbers_are_read_as_such():
    space = Space(name="x", dimensions=(Choice(name="a", values=(True, False)), Int(name="n", low=1, high=9)))
    assert narrow(space, ["a=true", "n=4"]).fixed == {"a": True, "n": 4}


def test_a_condition_that_can_no_longer_be_true_drops_its_dimension():
    assert dimension(narrow(ALL, ["arch=resnet18,resnet50"]), "attn_drop_rate") is None
    assert dimension(narrow(ALL, ["arch=resnet18"]), "attn_drop_rate") is None


def test_a_condition_that_is_now_always_true_goes():
    assert dimension(narrow(ALL, ["arch=vit_small,swin_tiny"]), "attn_drop_rate").when is None
    assert dimension(narrow(ALL, ["arch=vit_small"]), "attn_drop_rate").when is None
    assert dimension(narrow(ALL, ["arch=vit_small,resnet18"]), "attn_drop_rate").when == {"arch": ("vit_small",)}


def test_a_dimension_that_applies_to_some_models_only_is_not_fixed_for_all():
    space = narrow(ALL, ["attn_drop_rate=0.1"])
    assert "attn_drop_rate" not in space.fixed
    rng = random.Random(0)
    for point in [sample(space, rng) for _ in range(200)]:
        assert point.get("attn_drop_rate") == (0.1 if point["arch"] in ATTENTION else None)
    assert narrow(ALL, ["attn_drop_rate=0.1", "arch=swin_tiny"]).fixed == {"arch": "swin_tiny", "attn_drop_rate": 0.1}


def test_settings_can_be_given_one_after_the_other():
    once = narrow(ALL, ["arch=resnet18,swin_tiny", "lr=1e-3:1e-2"])
    assert narrow(narrow(ALL, ["arch=resnet18,swin_tiny"]), ["lr=1e-3:1e-2"]) == once
    assert narrow(ALL, []) == ALL


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        (["lrr=0.1"], f"space 'all' has no dimension 'lrr'; did you mean 'lr'[?] Known: {KNOWN}"),
        (["clip_grad=1"], "space 'all' does not search 'clip_grad'"),
        (["lr"], "setting 'lr' is not name=value"),
        (["lr="], "setting 'lr=' is not name=value"),
        (["lr=0.1", "lr=0.2"], "setting 'lr=0.2': 'lr' was already set by 'lr=0.1'"),
        (["lr=1e-2:1e-4"], "setting 'lr=1e-2:1e-4': the range is upside down; write lr=1e-4:1e-2"),
        (["lr=a:1"], "'a' is not a number; e.g. lr=0.0001:0.01"),
        (["lr=1:"], "'' is not a number"),
        (["lr=nan"], "'nan' is not a number"),
        (["lr=1:inf"], "'inf' is not a number"),
        (["lr=0:1"], "0.0 has no logarithm; give a low above 0, or add :linear"),
        (["lr=-1:1"], "-1.0 has no logarithm"),
        (["lr=0"], "0.0 has no logarithm; give a value above 0"),
        (["drop_rate=0:1:log"], "0.0 has no logarithm"),
        (["lr=1:2:lin"], "a range is low:high, low:high:log or low:high:linear"),
        (["lr=1:2:log:x"], "a range is low:high"),
        (["arch=swin_tny"], "'swin_tny' is not a choice; did you mean 'swin_tiny'[?] Known: resnet18, resnet34"),
        (["arch=resnet18,"], "'' is not a choice"),
        (["arch=resnet18,resnet18"], "dimension 'arch' lists 'resnet18' twice"),
        (["batch_size=0"], "'0' is not a positive whole number"),
        (["batch_size=-32"], "'-32' is not a positive whole number"),
        (["batch_size=4.5"], "'4.5' is not a positive whole number"),
        (["batch_size=32:64"], "'batch_size' is a choice, not a range; list its values: batch_size=32,64,128,256"),
        (
            ["arch=resnet18", "attn_drop_rate=0.1"],
            "'attn_drop_rate' needs arch in vit_small, deit_small, swin_tiny, but here arch is resnet18; leave it out",
        ),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_mend(settings_, message):
    with pytest.raises(SpaceError, match=message) as caught:
        narrow(ALL, settings_)
    assert "\n" not in str(caught.value)


def test_a_setting_of_a_fixed_value_says_that_it_is_fixed():
    with pytest.raises(SpaceError, match="'batch_size' is fixed to 64 in space 'all'"):
        narrow(narrow(ALL, ["batch_size=64"]), ["batch_size=32"])


def test_a_space_is_described_as_a_table_of_text():
    rows = {row["name"]: row for row in describe(narrow(ALL, ["batch_size=64"]))}
    assert rows["batch_size"] == {
        "name": "batch_size",
        "kind": "fixed",
        "range": "64",
        "scale": "",
        "when": "",
        "start": "64",
    }
    assert rows["lr"] == {
        "name": "lr",
        "kind": "float",
        "range": "0.0001 .. 0.01",
        "scale": "log",
        "when": "",
        "start": "0.002",
    }
    assert rows["attn_drop_rate"]["when"] == "arch in vit_small, deit_small, swin_tiny"
    assert re.match("resnet18, .*, swin_tiny$", rows["arch"]["range"])
