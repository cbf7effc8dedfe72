"""The experiment's folder: made once, read back, and kept small."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainable.errors import UsageError, UserError
from tuning.storage import (
    EXPERIMENT,
    code_facts,
    create_experiment,
    cut_half_line,
    experiment_id,
    find_experiment,
    note_resumption,
    prepare_output,
    prune_weights,
    read_experiment,
    read_lines,
    read_records,
    weights_to_keep,
)


def test_an_experiment_is_read_back_as_it_was_planned(make_plan, tmp_path):
    plan = make_plan(output=tmp_path)
    create_experiment(plan, {"dataset": "abc"} | code_facts())
    assert read_experiment(find_experiment("test", tmp_path)) == plan


def test_a_moved_experiment_is_found_by_its_path(make_plan, tmp_path):
    create_experiment(make_plan(output=tmp_path / "old"), {})
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "test").rename(tmp_path / "new" / "moved")
    plan = read_experiment(find_experiment(str(tmp_path / "new" / "moved"), tmp_path))
    assert plan.folder == tmp_path / "new" / "moved"


def test_a_taken_name_is_refused_and_says_how_to_go_on(make_plan, tmp_path):
    plan = make_plan(output=tmp_path)
    create_experiment(plan, {})
    with pytest.raises(UsageError, match="go on with it by --resume test, or give another name"):
        prepare_output(plan)
    with pytest.raises(UsageError, match="--resume test"):
        create_experiment(plan, {})


def test_a_folder_left_by_a_search_that_was_killed_before_it_wrote_anything_is_no_experiment(make_plan, tmp_path):
    plan = make_plan(output=tmp_path)
    plan.folder.mkdir()
    (plan.folder / ".experiment.json.123.tmp").write_text("{")
    create_experiment(plan, {})
    assert read_experiment(plan.folder) == plan


def test_a_file_of_the_experiments_name_is_refused(make_plan, tmp_path):
    plan = make_plan(output=tmp_path)
    plan.folder.write_text("")
    with pytest.raises(UsageError, match="give another name"):
        prepare_output(plan)


def test_an_output_that_is_a_file_is_refused(make_plan, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--output .*file"):
        create_experiment(make_plan(output=tmp_path / "file"), {})


def test_an_unknown_experiment_lists_the_known_ones(make_plan, tmp_path):
    with pytest.raises(UsageError, match=r"--resume nope: .*there is none yet"):
        find_experiment("nope", tmp_path)
    create_experiment(make_plan(output=tmp_path), {})
    with pytest.raises(UsageError, match="there are test"):
        find_experiment("nope", tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"plan": {}}', '{"plan": 3}'])
def test_a_broken_experiment_is_one_clear_error(tmp_path, text):
    (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(UserError, match=r"experiment\.json: can't be read"):
        read_experiment(tmp_path)


def test_changed_images_stop_a_resume_and_leave_the_experiment_as_it_was(make_plan, tmp_path):
    plan = make_plan(output=tmp_path)
    create_experiment(plan, {"dataset": "abc"})
    before = (plan.folder / EXPERIMENT).read_bytes()
    with pytest.raises(UserError, match="images in images have changed"):
        note_resumption(plan, {"dataset": "xyz"})
    assert (plan.folder / EXPERIMENT).read_bytes() == before


def test_a_resumption_notes_the_larger_plan_and_what_runs_it_now(make_plan, tmp_path):
    create_experiment(make_plan(output=tmp_path), facts("1.0", "aaa"))
    identity = experiment_id(tmp_path / "test")
    assert note_resumption(make_plan(output=tmp_path, trials=9), facts("1.0", "aaa")) == []
    assert note_resumption(make_plan(output=tmp_path, trials=12), facts("2.0", "bbb")) == [
        "code aaa -> bbb",
        "ray 1.0 -> 2.0",
    ]
    assert note_resumption(make_plan(output=tmp_path, trials=12), facts("2.0", "bbb")) == [], "told once"
    assert read_experiment(tmp_path / "test").trials == 12
    assert experiment_id(tmp_path / "test") == identity
    content = json.loads((tmp_path / "test" / EXPERIMENT).read_text())
    assert content["versions"] == {"ray": "1.0"}, "what it began with stays"
    assert [each["git_commit"] for each in content["resumed"]] == ["aaa", "bbb", "bbb"]


def facts(ray: str, commit: str) -> dict:
    return {"dataset": "abc", "versions": {"ray": ray}, "git_commit": commit, "command": ["run"]}


def test_each_experiment_has_an_id_of_its_own_and_an_older_one_its_folders_name(make_plan, tmp_path):
    for name in ("one", "two"):
        create_experiment(make_plan(output=tmp_path, name=name), {})
    assert experiment_id(tmp_path / "one") == experiment_id(tmp_path / "one") != experiment_id(tmp_path / "two")
    (tmp_path / "two" / EXPERIMENT).write_text("{}")
    assert experiment_id(tmp_path / "two") == "two"


@pytest.mark.parametrize(
    ("content", "left"), [("", ""), ("a", ""), ("a\n", "a\n"), ("a\nb", "a\n"), ("a\nb\n", "a\nb\n")]
)
def test_only_the_line_that_was_not_written_to_its_end_is_cut(tmp_path, content, left):
    path = tmp_path / "lines"
    path.write_text(content)
    cut_half_line(path)
    assert path.read_text() == left


def test_lines_that_are_no_objects_are_left_out_and_no_file_has_no_lines(tmp_path):
    path = tmp_path / "lines"
    assert list(read_lines(path)) == []
    cut_half_line(path)
    assert not path.exists()
    path.write_bytes(b'{"a": 1}\n[]\n3\n\xff\n\n{"b": 2}\n{"c":')
    assert list(read_lines(path)) == [{"a": 1}, {"b": 2}]


def test_records_come_in_the_order_of_time_without_a_torn_line(tmp_path):
    for name, stamps in (("0001-a", (1, 3)), ("0002-b", (2,))):
        (tmp_path / name).mkdir()
        lines = [json.dumps({"timestamp": stamp, "trial_id": name}) for stamp in stamps]
        (tmp_path / name / "result.json").write_text("\n".join(lines) + '\n{"timesta')
    assert [(r["timestamp"], r["trial_name"]) for r in read_records(tmp_path)] == [
        (1, "0001-a"),
        (2, "0002-b"),
        (3, "0001-a"),
    ]


scores = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.tuples(st.floats(0, 1), st.sampled_from(["resnet18", "swin_tiny", "vit_small"])),
    max_size=30,
)


@given(scores=scores, keep=st.integers(1, 12))
def test_the_best_keep_their_weights_and_so_does_one_of_each_architecture(scores, keep):
    kept = weights_to_keep(scores, keep)
    assert {arch for _, arch in scores.values()} == {scores[trial][1] for trial in kept}
    assert min(keep, len(scores)) <= len(kept) <= keep + 3
    best = sorted((score for score, _ in scores.values()), reverse=True)[:keep]
    assert sorted((scores[trial][0] for trial in kept), reverse=True)[: len(best)] == best


def test_pruning_deletes_weights_and_leaves_predictions(tmp_path):
    for name in ("model.safetensors", "state.pt", "predictions.npz"):
        (tmp_path / name).write_bytes(b"12345")
    assert prune_weights([tmp_path], ("model.safetensors", "best.safetensors", "state.pt")) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]
