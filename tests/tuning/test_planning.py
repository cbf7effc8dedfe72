"""What a search's options become in its plan."""

from types import SimpleNamespace

from search_spaces import for_pretrained, get_space, is_probe, narrow
from tuning.data import find_source
from tuning.planning import chosen_first

ARCHS = ("tf_efficientnet_lite0.in1k", "tf_efficientnet_lite1.in1k")


def test_probes_come_first_the_cheapest_first_and_then_the_users_own(colour_folder):
    space = for_pretrained(narrow(get_space("photos"), [f"arch={','.join(ARCHS)}"]))
    asked, source = SimpleNamespace(tries=["lr=2e-4"], time_budget=None), find_source(colour_folder, 32)
    first, starts = chosen_first(asked, space, None, source, True, engine_decides=True)
    assert [each["arch"] for each in first[:2]] == list(ARCHS)
    assert [is_probe(each) for each in first] == [True, True, False]
    assert {each["arch"] for each in starts} == set(ARCHS)
    first, starts = chosen_first(asked, space, 2, source, True, engine_decides=False)
    assert [is_probe(each) for each in first] == [True, False, False, False]
    assert not starts


def test_fine_tuning_without_probes_still_starts_as_fine_tuning_does(colour_folder):
    space = for_pretrained(narrow(get_space("photos"), [f"arch={ARCHS[0]}"]), with_probes=False)
    asked = SimpleNamespace(tries=None, time_budget=None)
    first, _ = chosen_first(asked, space, 4, find_source(colour_folder, 32), True, engine_decides=False)
    assert [config["lr"] for config in first] == [1e-4]
