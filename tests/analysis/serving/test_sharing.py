"""How the machine is shared among replicas, without starting Ray."""

from typing import Any

import pytest

from analysis.serving.settings import Replicas
from analysis.serving.sharing import equal_share, fit
from trainable.errors import UsageError

ASKED = Replicas(number=1, gpus=-1.0, cpus=0.0, max_batch=8, batch_wait_s=0.0)


@pytest.mark.parametrize(
    ("number", "gpus", "share"), [(1, 0, 0.0), (1, 1, 1.0), (2, 4, 1.0), (2, 1, 0.5), (3, 2, 0.5), (3, 1, 0.3333)]
)
def test_by_default_all_gpus_are_shared(number: int, gpus: int, share: float) -> None:
    assert equal_share(number, gpus) == share
    fitted = fit(ASKED._replace(number=number), gpus, cpus=8)
    assert fitted.gpus == share


def test_by_default_all_cpus_are_shared_and_one_is_enough_beside_a_gpu() -> None:
    assert fit(ASKED._replace(number=2), gpus=0, cpus=8).cpus == 4
    assert fit(ASKED._replace(number=3), gpus=0, cpus=2).cpus == 0.6666
    assert fit(ASKED, gpus=1, cpus=8).cpus == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"number": 3, "gpus": 0.5}, "1 GPUs have room for 2 replicas, not for 3; give a smaller share, or fewer"),
        ({"gpus": 2.0}, "--gpus-per-replica 2: 1 GPUs have room for 0 replicas, not for 1"),
        ({"number": 2, "gpus": 0.0, "cpus": 3.0}, "--cpus-per-replica 3: 2 replicas need 6 CPUs, but 4 are here"),
    ],
)
def test_more_than_the_machine_has_is_refused(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        fit(ASKED._replace(**changes), gpus=1, cpus=4)
