"""A device that runs out of memory, without a GPU: a model that refuses more images at once than it is allowed."""

from collections.abc import Callable

import pytest
import torch
from torch import nn


def refuse(message: str) -> None:
    raise torch.OutOfMemoryError(f"out of memory: the test says so, in the {message} pass")


def limit_images(model: nn.Module, images: int, during: str = "forward") -> list[int]:
    """From now on more than `images` at once run out of memory; returns the list of batches that get tried."""
    tried: list[int] = []

    def before(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        tried.append(len(inputs[0]))
        if during == "forward" and len(inputs[0]) > images:
            refuse(during)

    def after(_: nn.Module, inputs: tuple[torch.Tensor], outputs: torch.Tensor) -> None:
        if during == "backward" and outputs.requires_grad and len(outputs) > images:
            outputs.register_hook(lambda _: refuse(during))

    model.register_forward_pre_hook(before)
    model.register_forward_hook(after)
    return tried


@pytest.fixture(scope="session")
def limit_memory() -> Callable[..., list[int]]:
    """The function `limit_images` above."""
    return limit_images
