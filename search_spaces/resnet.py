"""ResNets (He et al. 2016), from 18 to 152 layers: they bear higher learning rates than attention models."""

from search_spaces.recipe import from_scratch
from search_spaces.space import Float

SPACE = from_scratch(
    name="resnet",
    architectures=("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    lr=Float(name="lr", low=3e-4, high=1e-2, log=True, start=2e-3),
    attention=False,
    description="ResNets of 18 to 152 layers",
)
