"""Published weights for photos: two dozen models from what a laptop fine-tunes to what wants a GPU, cheapest first."""

from search_spaces.models import MODELS
from search_spaces.recipe import from_scratch
from search_spaces.space import Float

SPACE = from_scratch(
    name="photos",
    architectures=tuple(sorted(MODELS, key=lambda arch: MODELS[arch].gmacs)),
    lr=Float(name="lr", low=1e-4, high=3e-3, log=True, start=1e-3),
    attention=False,
    description="Published weights, fine-tuned: from EfficientNet-Lite to ConvNeXt V2, DINO and SigLIP 2",
)
