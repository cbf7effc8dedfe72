import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainable.config import DEFAULT_RATES, TrialConfig, load_config, make_config
from trainable.errors import UsageError, UserError

SHARES = st.floats(0, 0.99)
CONFIGS = st.builds(
    TrialConfig,
    data=st.sampled_from([Path("images"), Path("/data/tiny imagenet"), Path("/daten/würfel"), "s3://bucket/a.zip"]),
    arch=st.sampled_from(["swin_tiny", "resnet18"]),
    image_size=st.none() | st.integers(8, 1024),
    pretrained=st.booleans() | st.sampled_from([Path("/weights/vit.safetensors"), "s3://bucket/vit.safetensors"]),
    epochs=st.integers(1, 1000),
    batch_size=st.integers(1, 4096),
    lr=st.floats(1e-8, 10),
    layer_decay=st.none() | st.floats(0.1, 1),
    clip_grad=st.none() | st.floats(0.1, 10),
    drop_rate=st.none() | SHARES,
    attn_drop_rate=st.none() | SHARES,
    label_smoothing=SHARES,
    mix_prob=st.floats(0, 1),
    augment=st.sampled_from(["none", "light", "full"]),
    flip=st.booleans(),
    ema_decay=st.none() | st.floats(0.1, 0.9999),
    seed=st.integers(0, 2**31 - 1),
    cache_dir=st.none() | st.just(Path("/scratch")),
)


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A file as Ray writes it: the flat configuration."""
    file = tmp_path / "params.json"
    file.write_text(json.dumps({"data": "/images", "arch": "resnet18", "lr": 0.01, "epochs": 7}))
    return file


@given(config=CONFIGS)
def test_a_configuration_survives_the_way_through_json(config: TrialConfig) -> None:
    assert make_config(json.loads(json.dumps(config.model_dump(mode="json"))), "params.json") == config


def test_a_trials_params_json_is_read(params: Path) -> None:
    config = load_config(params)
    assert (config.data, config.arch, config.lr, config.epochs) == (Path("/images"), "resnet18", 0.01, 7)
    assert config.batch_size == TrialConfig(data="x").batch_size


@pytest.mark.parametrize("address", ["s3://bucket/images", "s3://bucket//odd//images.zip", "file:///images/", "gs://b"])
def test_an_address_of_images_stays_as_it_is(address: str) -> None:
    config = make_config({"data": address}, "options")
    assert config.data == address
    assert json.loads(config.model_dump_json())["data"] == address


def test_a_trials_record_is_read_as_well(params: Path) -> None:
    config = load_config(params)
    record = params.with_name("trial.json")
    record.write_text(json.dumps({"config": config.model_dump(mode="json"), "epochs": [], "seed": 0}))
    assert load_config(record) == config


def test_overrides_win_except_where_they_are_none(params: Path) -> None:
    config = load_config(params, lr=0.5, epochs=None, flip=False)
    assert (config.lr, config.epochs, config.flip) == (0.5, 7, False)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrialConfig(data="x").lr = 1.0


def test_an_unknown_field_is_named_with_its_file(params: Path) -> None:
    params.write_text(json.dumps({"data": "/images", "learning_rate": 0.1}))
    with pytest.raises(UserError, match=r"params\.json: learning_rate = 0\.1: Extra inputs are not permitted"):
        load_config(params)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(UserError, match="options: data = None: Field required"):
        make_config({}, "options")


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("epochs", 0, "greater than 0"),
        ("epochs", "many", "valid"),
        ("steps", 0, "greater than or equal to 1"),
        ("select_share", 1.0, "less than 1"),
        ("batch_size", 0, "greater than or equal to 1"),
        ("image_size", 7, "greater than or equal to 8"),
        ("image_size", 1025, "less than or equal to 1024"),
        ("patch_size", 0, "greater than or equal to 1"),
        ("lr", 0, "greater than 0"),
        ("lr", -1e-3, "greater than 0"),
        ("lr", float("inf"), "finite"),
        ("lr", float("nan"), "finite"),
        ("lr", "fast", "valid number"),
        ("weight_decay", -0.1, "greater than or equal to 0"),
        ("weight_decay", float("inf"), "finite"),
        ("warmup_epochs", -1, "greater than or equal to 0"),
        ("layer_decay", 0, "greater than 0"),
        ("layer_decay", 1.1, "less than or equal to 1"),
        ("clip_grad", 0, "greater than 0"),
        ("drop_rate", 1, "less than 1"),
        ("drop_rate", -0.1, "greater than or equal to 0"),
        ("attn_drop_rate", 1, "less than 1"),
        ("drop_path_rate", 1, "less than 1"),
        ("label_smoothing", 1, "less than 1"),
        ("mix_prob", 1.1, "less than or equal to 1"),
        ("ema_decay", 1, "less than 1"),
        ("augment", "strong", "'none', 'light' or 'full'"),
        ("precision", "int8", "'auto', 'fp32', 'bf16' or 'fp16'"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**31, "less than 2147483648"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_rule_in_one_line(field: str, value: object, rule: str) -> None:
    with pytest.raises(UsageError, match=rf"^options: {field} = {value!r}: .*{rule}") as error:
        make_config({"data": "x", field: value}, "options", UsageError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{'data': 1}", "epochs: 3", "{"])
def test_a_file_that_is_not_json_is_named(params: Path, text: str) -> None:
    params.write_text(text)
    with pytest.raises(UserError, match=r"params\.json: not JSON \(.*\); give the params\.json of a trial"):
        load_config(params)


def test_a_binary_file_is_not_json_either(params: Path) -> None:
    params.write_bytes(b"\x80\xff\x00")
    with pytest.raises(UserError, match=r"params\.json: not JSON \(.*\); give the params\.json of a trial"):
        load_config(params)


@pytest.mark.parametrize("content", [[1, 2], "text", 3, None, {"config": [1]}, {"config": None}])
def test_json_without_a_configuration_is_an_error(params: Path, content: object) -> None:
    params.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"params\.json: holds no configuration; give the params\.json of a trial"):
        load_config(params)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.json: No such file or directory; give the params\.json of a trial"):
        load_config(tmp_path / "no.json")


def test_a_folder_instead_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Is a directory; give the params\.json of a trial"):
        load_config(tmp_path)


def test_every_field_explains_itself_and_default_rates_are_fields() -> None:
    assert [name for name, field in TrialConfig.model_fields.items() if not field.description] == []
    assert set(DEFAULT_RATES) <= set(TrialConfig.model_fields)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"data":' * 100_000, '{"lr": ' + "9" * 5000 + "}"])
def test_json_that_python_cannot_hold_is_not_json(params: Path, text: str) -> None:
    params.write_text(text)
    with pytest.raises(UserError, match=r"params\.json: not JSON \(.*\); give the params\.json of a trial"):
        load_config(params)


def test_a_value_that_is_far_too_long_is_shortened_in_the_message() -> None:
    with pytest.raises(UserError, match=r"^options: arch = \['aaa") as error:
        make_config({"data": "x", "arch": ["a" * 10_000]}, "options")
    assert len(str(error.value)) < 200
