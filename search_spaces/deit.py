"""DeiT (Touvron et al. 2021): the small distilled vision transformer, with its distillation head."""

from search_spaces.recipe import from_scratch
from search_spaces.space import Float

SPACE = from_scratch(
    name="deit",
    architectures=("deit_small",),
    lr=Float(name="lr", low=1e-4, high=3e-3, log=True, start=1e-3),
    attention=True,
    description="The small distilled vision transformer",
)
