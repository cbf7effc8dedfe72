"""What population-based training changes, and in which ranges."""

import random

from search_spaces import contains, get_space, narrow, start_point
from tuning.plan import mutable_dimensions
from tuning.population import mutate

SWIN = narrow(get_space("swin"), ["drop_path_rate=0.1"])
NAMES = ["lr", "weight_decay", "drop_rate", "attn_drop_rate", "label_smoothing", "mix_prob"]


def test_only_numbers_that_may_change_during_a_training_are_mutable():
    assert [dimension.name for dimension in mutable_dimensions(SWIN)] == NAMES
    assert "attn_drop_rate" not in [dimension.name for dimension in mutable_dimensions(get_space("all"))]


def test_a_mutation_stays_in_the_space_and_leaves_architecture_and_batch_size():
    rng = random.Random(0)
    config = SWIN.fixed | start_point(SWIN) | {"epochs": 4}
    for _ in range(100):
        mutated = mutate(mutable_dimensions(SWIN), config, rng)
        contains(SWIN, {name: value for name, value in mutated.items() if name != "epochs"})
        assert {name for name in mutated if mutated[name] != config[name]} <= {*NAMES}
        config = mutated
    assert config["lr"] != start_point(SWIN)["lr"]


def test_one_seed_gives_one_sequence_of_mutations():
    config = SWIN.fixed | start_point(SWIN)
    one, two = (mutate(mutable_dimensions(SWIN), config, random.Random(3)) for _ in range(2))
    assert one == two
