"""How much GPU memory a configuration needs, measured by two real training steps."""

from typing import TYPE_CHECKING, Any

from trainable.config import TrialConfig
from trainable.data.dataset import open_images_of

if TYPE_CHECKING:
    import torch

STEPS = 2
"""The first step allocates the optimiser's state; the second one shows the peak."""


def measure_peak_bytes(configurations: list[dict[str, Any]]) -> tuple[int, int]:
    """Peak bytes over `configurations`, and the GPU's total.

    One that doesn't fit at all counts as the whole GPU.
    """
    import torch  # here, not above: the process that runs the search never needs it

    device = torch.device("cuda")
    _, total_bytes = torch.cuda.mem_get_info(device)
    try:
        return max(_peak_bytes(TrialConfig.model_validate(values), device) for values in configurations), total_bytes
    except torch.cuda.OutOfMemoryError:
        return total_bytes, total_bytes


def _peak_bytes(config: TrialConfig, device: "torch.device") -> int:
    import numpy as np
    import torch

    from trainable.training import Training

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    dataset = open_images_of(config, progress=False)
    rows = np.resize(dataset.splits.train, STEPS * config.batch_size)
    training = Training(config.model_copy(update={"epochs": 1}), dataset, rows, dataset.splits.select[:1], device)
    training.updates = training.total_updates  # behind the last one: augmentation and mixing have full strength there
    training.run_step()
    if training.micro_batch < config.batch_size:  # what it went on with, micro-batches, has a lower peak
        return torch.cuda.mem_get_info(device)[1]
    return torch.cuda.max_memory_reserved(device)
