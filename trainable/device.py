"""Which device and which arithmetic a training uses; each choice comes with its reason."""

from typing import NamedTuple

import torch

from trainable.config import Precision
from trainable.errors import UsageError

EVAL_BATCH = 256
"""Images a batch in evaluation, where no gradients are kept."""
CPU_EVAL_PIXELS = 8 * 224**2
"""Of a batch on a CPU: larger activations are fetched from the kernel anew for each layer, page by page, which halves
the speed (docs/log.md)."""


class Arithmetic(NamedTuple):
    """Type of the forward pass under autocast (None: fp32), whether gradients are scaled, and why."""

    dtype: torch.dtype | None
    scale_gradients: bool
    reason: str


def choose_device(requested: str = "auto") -> torch.device:
    """`auto` takes the first GPU that the process may see, else the CPU; asking for an absent GPU is an error."""
    if requested == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(requested)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError
    except RuntimeError:
        raise UsageError(f"--device {requested}: unknown; give auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {requested}: no CUDA device is visible here; give --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {requested}: only {torch.cuda.device_count()} CUDA devices are visible here")
    return device


def images_at_once(image_size: int, device: torch.device) -> int:
    """How many images of so many pixels a side are best evaluated together."""
    if device.type != "cpu":
        return EVAL_BATCH
    return max(1, min(EVAL_BATCH, CPU_EVAL_PIXELS // image_size**2))


def choose_arithmetic(precision: Precision, device: torch.device) -> Arithmetic:
    """Resolve `auto`: bf16 where the hardware multiplies it natively, fp16 on older GPUs, fp32 on other CPUs."""
    if precision == "fp32":
        return Arithmetic(None, False, "fp32 as asked")
    if precision == "bf16":
        return Arithmetic(torch.bfloat16, False, "bf16 as asked")
    if precision == "fp16":
        return Arithmetic(torch.float16, device.type == "cuda", "fp16 as asked")
    if device.type == "cuda":  # run on an H100; the choice of fp16 not yet on a GPU without bf16
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Arithmetic(torch.bfloat16, False, "bf16: the GPU has it")
        return Arithmetic(torch.float16, True, "fp16 with scaled gradients: the GPU has no bf16")
    if cpu_has_bf16():
        return Arithmetic(torch.bfloat16, False, "bf16: the CPU has AMX or AVX512-BF16")
    return Arithmetic(None, False, "fp32: the CPU would emulate bf16, up to 70 times slower")


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively (AMX or AVX512-BF16)."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
