"""Vision transformers of the small size: ViT (Dosovitskiy et al. 2021) and its distilled sibling DeiT."""

from search_spaces.recipe import from_scratch
from search_spaces.space import Float

SPACE = from_scratch(
    name="vit",
    architectures=("vit_small", "deit_small"),
    lr=Float(name="lr", low=1e-4, high=3e-3, log=True, start=1e-3),
    attention=True,
    description="Small vision transformers, plain and distilled",
)
