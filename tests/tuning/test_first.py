"""The first configurations: what --try means, and the published starts."""

import pytest

from search_spaces import Choice, Float, Int, Space, contains, for_pretrained, get_space, narrow, start_point
from trainable.errors import UsageError
from tuning.first import fine_tuning_starts, first_configurations, probes, published_configurations, read_configuration

ALL = get_space("all")


def test_names_that_are_not_given_get_the_start_where_they_apply():
    swin = read_configuration(ALL, "lr=3e-4, arch=swin_tiny,batch_size=128")
    assert swin == start_point(ALL) | {"lr": 3e-4, "arch": "swin_tiny", "batch_size": 128, "attn_drop_rate": 0.0}
    assert "attn_drop_rate" not in read_configuration(ALL, "lr=3e-4")
    contains(ALL, swin)


def test_values_have_the_type_of_their_dimension():
    dimensions = (
        Int(name="patch_size", low=1, high=9),
        Float(name="lr", low=0.0, high=2.0),
        Choice(name="clip_grad", values=(0.5, 1.0)),
    )
    space = Space(name="typed", dimensions=dimensions, fixed={"arch": "vit_small"})
    values = read_configuration(space, "patch_size=4,lr=1,clip_grad=1,arch=vit_small")
    assert {name: (value, type(value)) for name, value in values.items()} == {
        "patch_size": (4, int),
        "lr": (1.0, float),
        "clip_grad": (1.0, float),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr=1", r"--try lrr=1: space all has no 'lrr'; did you mean 'lr'\?"),
        ("lr=5", r"lr = 5 is outside the space; it takes 0\.0001 \.\. 0\.01"),
        ("lr=nan", r"lr = nan is outside the space"),
        ("lr=fast", r"lr = fast is outside the space"),
        ("batch_size=48", r"batch_size = 48 is outside the space; it takes 32, 64, 128, 256"),
        ("arch=resnet18,attn_drop_rate=0.1", r"attn_drop_rate does not apply here, it needs arch in vit_small"),
        ("lr=1e-3,lr=1e-3", r"lr is given twice"),
        ("lr", r"'lr' is not NAME=VALUE"),
        ("lr=", r"'lr=' is not NAME=VALUE"),
        ("", r"'' is not NAME=VALUE"),
        ("lr=1e-3,", r"'' is not NAME=VALUE"),
    ],
)
def test_what_cannot_be_tried_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        read_configuration(ALL, text)


def test_a_fixed_value_may_be_repeated_but_not_changed():
    space = narrow(ALL, ["batch_size=64", "arch=resnet18"])
    assert "batch_size" not in read_configuration(space, "batch_size=64,lr=1e-3")
    with pytest.raises(UsageError, match="batch_size is fixed to 64; leave it out"):
        read_configuration(space, "batch_size=32")


def test_each_architecture_starts_as_its_family_recommends():
    configurations = published_configurations(ALL)
    for configuration in configurations:
        contains(ALL, configuration)
    assert configurations[0] == start_point(ALL)
    rates = {configuration["arch"]: configuration["lr"] for configuration in configurations}
    assert list(rates)[:3] == ["resnet18", "vit_small", "swin_tiny"]
    assert len(rates) == len(configurations) == 8
    assert (rates["resnet152"], rates["swin_tiny"]) == (2e-3, 3e-4)


def test_published_starts_are_cut_to_the_narrowed_ranges():
    space = narrow(ALL, ["arch=swin_tiny,resnet18", "lr=1e-4:2e-4", "batch_size=32,128"])
    configurations = published_configurations(space)
    for configuration in configurations:
        contains(space, configuration)
    assert [(each["arch"], each["lr"], each["batch_size"]) for each in configurations] == [
        ("swin_tiny", 2e-4, 32),
        ("resnet18", 2e-4, 32),
    ]


def test_each_architectures_fine_tuning_has_its_start():
    space = for_pretrained(ALL)
    starts = fine_tuning_starts(space)
    for each in starts:
        contains(space, each)
    assert [each["arch"] for each in starts] == list(ALL.dimensions[0].values)
    assert {each["freeze"] for each in starts} == {"none"}


def test_probes_are_in_the_space_the_cheapest_first_and_only_where_the_space_has_them():
    space = for_pretrained(ALL)
    own = probes(space)
    for each in own:
        contains(space, each)
    assert [each["arch"] for each in own][:2] == ["resnet18", "resnet34"]
    assert len(own) == 8
    assert probes(narrow(space, ["arch=swin_tiny"])) == [{"freeze": "all"}]
    assert probes(ALL) == probes(for_pretrained(ALL, with_probes=False)) == []
    assert probes(narrow(space, ["freeze=none,early"])) == []


def test_a_space_of_the_users_own_keeps_the_starts_that_it_states():
    dimensions = (
        Choice(name="arch", values=("convnext_atto", "swin_tiny")),
        Float(name="lr", low=1e-4, high=1e-1, start=0.05),
        Float(name="drop_rate", low=0.0, high=0.8),
    )
    configurations = published_configurations(Space(name="mine", dimensions=dimensions))
    assert configurations == [
        {"arch": "convnext_atto", "lr": 0.05, "drop_rate": 0.4},
        {"arch": "swin_tiny", "lr": 0.05, "drop_rate": 0.0},
    ]


def test_what_is_to_be_tried_comes_first_and_published_ones_take_at_most_half():
    first = first_configurations(ALL, ["lr=3e-4", "lr=4e-4", "lr=3e-4", "lr=2e-3"], trials=8)
    assert [each["lr"] for each in first[:3]] == [3e-4, 4e-4, 2e-3]
    assert len(first) == 3 + 4 - 1  # the space's start is one of those to be tried
    assert len(first_configurations(ALL, [], trials=20)) == 8
    assert first_configurations(ALL, [], trials=1) == [start_point(ALL)]
    assert len(first_configurations(ALL, ["lr=3e-4"], trials=1)) == 1


def test_more_to_try_than_trials_is_refused():
    with pytest.raises(UsageError, match="--try: 2 configurations, but --trials 1"):
        first_configurations(ALL, ["lr=3e-4", "lr=4e-4"], trials=1)


def test_a_space_without_dimensions_has_no_first_configurations():
    space = Space(name="point", fixed={"arch": "resnet18"})
    assert first_configurations(space, [], trials=3) == []
