"""Earlier experiments as knowledge: which trials count, and what is refused."""

import json

import pytest

from search_spaces import Choice, Float, Space, contains, narrow
from trainable import metrics
from trainable.errors import UsageError, UserError
from trainable.experiment_lock import hold_experiment
from tuning.policies import make_engine
from tuning.storage import EXPERIMENT, create_experiment
from tuning.warm_start import describe_earlier, find_earlier, promising, read_earlier, whole_configurations

SPACE = Space(
    name="small",
    dimensions=(
        Choice(name="arch", values=("resnet18", "swin_tiny")),
        Float(name="lr", low=1e-4, high=1e-2, log=True),
        Float(name="attn_drop_rate", low=0.0, high=0.3, when={"arch": ("swin_tiny",)}),
    ),
)
CONFIGS = [
    {"arch": "resnet18", "lr": 1e-3, "epochs": 4},
    {"arch": "swin_tiny", "lr": 2e-3, "attn_drop_rate": 0.1, "epochs": 4},
    {"arch": "swin_tiny", "lr": 5e-3, "attn_drop_rate": 0.2, "epochs": 4},
]


@pytest.fixture
def make_experiment(make_plan, tmp_path):
    """An experiment with one trial for each configuration, better from one to the next."""

    def make(name="old", dataset="same images", configs=CONFIGS, **changes):
        plan = make_plan(**{"space": SPACE, "output": tmp_path, "name": name} | changes)
        create_experiment(plan, {"dataset": dataset})
        for number, config in enumerate(configs):
            folder = plan.folder / f"{number:04}-{config['arch']}"
            folder.mkdir()
            records = [
                {metrics.EPOCH: epoch, metrics.SCORE: 0.1 * number + 0.01 * epoch, "config": config, "timestamp": epoch}
                for epoch in (1, 2, 3)
            ]
            (folder / "result.json").write_text("".join(json.dumps(record) + "\n" for record in records))
        return plan.folder

    return make


def test_trials_on_the_same_images_compare(make_experiment, make_plan):
    old = make_experiment()
    plan = make_plan(space=SPACE, warm_start=[old])
    earlier = read_earlier(plan, "same images")
    assert [trial.name for trial in earlier] == ["old/0000-resnet18", "old/0001-swin_tiny", "old/0002-swin_tiny"]
    assert all(trial.compares for trial in earlier)
    assert earlier[1].config == {"arch": "swin_tiny", "lr": 2e-3, "attn_drop_rate": 0.1}
    assert earlier[1].curve == pytest.approx({1: 0.11, 2: 0.12, 3: 0.13})
    assert describe_earlier(earlier) == "3 earlier trials"


@pytest.mark.parametrize(
    ("dataset", "changes"),
    [("other images", {}), ("same images", {"epochs": 8}), ("same images", {"trial": {"image_size": 64}})],
)
def test_other_images_lengths_or_sizes_are_only_a_prior(make_experiment, make_plan, dataset, changes):
    plan = make_plan(**{"space": SPACE, "warm_start": [make_experiment()]} | changes)
    earlier = read_earlier(plan, dataset)
    assert len(earlier) == 3
    assert not any(trial.compares for trial in earlier)
    assert "only a prior" in describe_earlier(earlier)


def test_trials_outside_the_space_are_left_out(make_experiment, make_plan):
    plan = make_plan(space=narrow(SPACE, ["lr=1e-4:2e-3", "arch=swin_tiny"]), warm_start=[make_experiment()])
    assert [trial.name for trial in read_earlier(plan, "same images")] == ["old/0001-swin_tiny"]


def test_a_dimension_that_the_earlier_space_lacked_is_left_open(make_experiment, make_plan):
    wider = Space(name="wider", dimensions=(*SPACE.dimensions, Float(name="drop_rate", low=0.0, high=0.5)))
    earlier = read_earlier(make_plan(space=wider, warm_start=[make_experiment()]), "same images")
    assert len(earlier) == 3
    assert whole_configurations(wider, earlier) == []
    assert whole_configurations(SPACE, earlier) == earlier
    assert promising(earlier) == [trial.config for trial in reversed(earlier)]
    assert promising(earlier, trials=8) == [earlier[2].config, earlier[1].config]


@pytest.mark.parametrize("scheduler", ["freeze-thaw", "asha"])
@pytest.mark.parametrize("dataset", ["same images", "other images"])
def test_both_searches_start_from_what_is_known(make_experiment, make_plan, scheduler, dataset):
    plan = make_plan(space=SPACE, warm_start=[make_experiment()], scheduler=scheduler)
    engine = make_engine(plan, read_earlier(plan, dataset))
    configs = [engine.start(key) for key in "abcdef"]
    for config in configs:
        contains(SPACE, config)
    if dataset == "other images":
        assert configs[0] == {name: CONFIGS[2][name] for name in ("arch", "lr", "attn_drop_rate")}


def test_an_experiment_that_runs_is_refused(make_experiment, tmp_path):
    lock = hold_experiment(make_experiment())
    with pytest.raises(UsageError, match=r"--warm-start old: still runs; wait until it has ended"):
        find_earlier(["old"], tmp_path, SPACE)
    with pytest.raises(UserError, match=r"old: a search runs in .*old; wait"):
        hold_experiment(tmp_path / "old")
    lock.release()
    assert find_earlier(["old"], tmp_path, SPACE) == [(tmp_path / "old").resolve()]


def test_an_experiment_that_is_not_there_broken_or_foreign_is_refused(make_experiment, tmp_path):
    folder = make_experiment()
    with pytest.raises(UsageError, match=r"--warm-start never: no experiment of that name .* there are old"):
        find_earlier(["never"], tmp_path, SPACE)
    other = Space(name="other", dimensions=(Float(name="momentum", low=0.0, high=0.9),))
    with pytest.raises(UsageError, match=r"--warm-start old: its space small shares no dimension with other"):
        find_earlier(["old"], tmp_path, other)
    (folder / EXPERIMENT).write_text("{")
    with pytest.raises(UserError, match=r"experiment.json: can't be read"):
        find_earlier(["old"], tmp_path, SPACE)
