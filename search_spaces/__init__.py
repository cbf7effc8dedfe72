"""What a search may vary, as plain data; needs neither torch nor Ray nor Optuna.

>>> import random, search_spaces
>>> space = search_spaces.narrow(search_spaces.get_space("all"), ["arch=resnet18,swin_tiny", "batch_size=64"])
>>> configuration = search_spaces.sample(space, random.Random(0))
>>> search_spaces.contains(space, configuration)
"""

from search_spaces.configurations import (
    Suggests,
    cardinality,
    condition_text,
    contains,
    describe,
    fill,
    range_text,
    sample,
    start_point,
    start_value,
    suggest,
    unconditional,
)
from search_spaces.encoding import columns, encode
from search_spaces.errors import SpaceError, did_you_mean
from search_spaces.geometry import usual_geometry, usual_patch, usual_window, with_geometry
from search_spaces.hyperparameters import HYPERPARAMETERS
from search_spaces.models import MODELS, on_a_cpu
from search_spaces.narrowing import narrow
from search_spaces.recipe import for_pretrained, is_probe, probe_of, with_batches_up_to
from search_spaces.registry import get_space, names
from search_spaces.space import Choice, Dimension, Float, Int, Space, admits

__all__ = [
    "HYPERPARAMETERS",
    "MODELS",
    "Choice",
    "Dimension",
    "Float",
    "Int",
    "Space",
    "SpaceError",
    "Suggests",
    "admits",
    "cardinality",
    "columns",
    "condition_text",
    "contains",
    "describe",
    "did_you_mean",
    "encode",
    "fill",
    "for_pretrained",
    "get_space",
    "is_probe",
    "names",
    "narrow",
    "on_a_cpu",
    "probe_of",
    "range_text",
    "sample",
    "start_point",
    "start_value",
    "suggest",
    "unconditional",
    "usual_geometry",
    "usual_patch",
    "usual_window",
    "with_batches_up_to",
    "with_geometry",
]
