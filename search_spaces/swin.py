"""Swin (Liu et al. 2021): attention in shifted windows, on feature maps that shrink."""

from search_spaces.recipe import from_scratch
from search_spaces.space import Float

SPACE = from_scratch(
    name="swin",
    architectures=("swin_tiny",),
    lr=Float(name="lr", low=1e-4, high=3e-3, log=True, start=3e-4),
    attention=True,
    description="The tiny Swin transformer",
)
