import pytest
import torch

from trainable import device as device_module
from trainable.device import EVAL_BATCH, choose_arithmetic, choose_device, cpu_has_bf16, images_at_once
from trainable.errors import UsageError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Lets the test say how many GPUs torch sees, and whether they have bf16."""

    def pretend(count: int, bf16: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)

    return pretend


def test_auto_takes_the_gpu_where_there_is_one(gpus) -> None:
    gpus(1)
    assert choose_device() == GPU
    gpus(0)
    assert choose_device("auto") == CPU


def test_a_device_asked_for_by_name_is_taken(gpus) -> None:
    gpus(2)
    assert choose_device("cpu") == CPU
    assert choose_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_where_there_is_none_is_an_error(gpus, name: str) -> None:
    gpus(0)
    with pytest.raises(UsageError, match=f"--device {name}: no CUDA device is visible here; give --device cpu"):
        choose_device(name)


def test_a_gpu_beyond_the_last_is_an_error(gpus) -> None:
    gpus(2)
    with pytest.raises(UsageError, match=r"--device cuda:2: .*2 CUDA devices"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta", "mps"])
def test_an_unknown_device_is_an_error(name: str) -> None:
    with pytest.raises(UsageError, match=f"--device {name}: unknown; give auto, cpu, cuda or cuda:N"):
        choose_device(name)


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize(("asked", "dtype"), [("fp32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_the_arithmetic_asked_for_is_taken_and_said(device: torch.device, asked, dtype) -> None:
    arithmetic = choose_arithmetic(asked, device)
    assert (arithmetic.dtype, arithmetic.reason) == (dtype, f"{asked} as asked")


def test_gradients_are_scaled_only_for_fp16_on_a_gpu(gpus) -> None:
    gpus(1, bf16=False)
    assert choose_arithmetic("fp16", GPU).scale_gradients
    assert choose_arithmetic("auto", GPU).scale_gradients
    assert not choose_arithmetic("fp16", CPU).scale_gradients
    assert not choose_arithmetic("bf16", GPU).scale_gradients


@pytest.mark.parametrize(
    ("has_bf16", "dtype", "reason"),
    [(True, torch.bfloat16, "AMX or AVX512-BF16"), (False, None, "the CPU would emulate bf16")],
)
def test_auto_on_a_cpu_takes_bf16_only_where_it_is_native(monkeypatch, has_bf16: bool, dtype, reason: str) -> None:
    monkeypatch.setattr(device_module, "cpu_has_bf16", lambda: has_bf16)
    arithmetic = choose_arithmetic("auto", CPU)
    assert (arithmetic.dtype, arithmetic.scale_gradients) == (dtype, False)
    assert reason in arithmetic.reason


@pytest.mark.parametrize(
    ("has_bf16", "dtype", "reason"),
    [(True, torch.bfloat16, "the GPU has it"), (False, torch.float16, "the GPU has no bf16")],
)
def test_auto_on_a_gpu_takes_bf16_or_else_fp16(gpus, has_bf16: bool, dtype, reason: str) -> None:
    gpus(1, bf16=has_bf16)
    arithmetic = choose_arithmetic("auto", GPU)
    assert arithmetic.dtype == dtype
    assert reason in arithmetic.reason


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        ({}, False),
        ({"avx512_f": True, "amx_bf16": False}, False),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True}, True),
    ],
)
def test_amx_and_avx512_bf16_count_as_native(monkeypatch, capabilities: dict, native: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert cpu_has_bf16() is native


def test_this_machine_can_be_asked() -> None:
    assert cpu_has_bf16() in (True, False)


def test_a_cpu_evaluates_fewer_large_images_at_once_and_a_gpu_as_many_as_ever():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [images_at_once(side, cpu) for side in (32, 128, 224, 1024)] == [256, 24, 8, 1]
    assert images_at_once(224, gpu) == EVAL_BATCH
