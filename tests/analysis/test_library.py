"""The library: candidates at their temperatures, ranked, and extended without a difference to one made at once."""

from pathlib import Path

import numpy as np

from analysis.candidates import Candidate
from analysis.library import make_library
from trainable.config import TrialConfig

LABELS = np.arange(40) % 4
CONFIG = TrialConfig(data=Path("x"), arch="test_resnet")


def candidate(index: int) -> Candidate:
    logits = np.random.default_rng(index).normal(0, 1, (40, 4))
    logits[np.arange(40), LABELS] += index / 2
    return Candidate(str(index), CONFIG, 32, None, logits.astype(np.float16))


def test_candidates_are_ranked_best_first() -> None:
    library = make_library([candidate(index) for index in range(5)], LABELS)
    right = (library.probabilities.argmax(axis=2) == LABELS).mean(axis=1)
    assert right.tolist() == sorted(right, reverse=True)
    assert library.candidates[0].trial == "4"


def test_extending_gives_the_library_that_all_would_have_given() -> None:
    together = make_library([candidate(index) for index in range(5)], LABELS)
    extended = make_library([candidate(index) for index in (1, 3)], LABELS).extended([candidate(i) for i in (0, 2, 4)])
    assert [each.trial for each in extended.candidates] == [each.trial for each in together.candidates]
    np.testing.assert_array_equal(extended.temperatures, together.temperatures)
    np.testing.assert_array_equal(extended.probabilities, together.probabilities)
    assert together.extended([]) is together
