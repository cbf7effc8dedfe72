"""What decisions compare: one number of each record."""

import math
from collections.abc import Mapping
from typing import Any

from trainable import metrics

TIE = 1e-4
"""By how much at most the loss moves a score."""


def rank_score(record: Mapping[str, Any]) -> float:
    """What decisions compare: top-1, and where that ties the loss; NaN if the record has no score.

    The loss moves it by less than one image of 10,000 does.
    """
    loss = record.get(metrics.SELECT_LOSS, 0.0)
    tie = TIE if not math.isfinite(loss) else TIE * loss / (1 + loss)
    return record.get(metrics.SCORE, math.nan) - (tie if loss > 0 else 0.0)
