"""How the machine's CPUs and GPUs are shared among replicas."""

import math

from analysis.serving.settings import Replicas
from trainable.errors import UsageError


def fit(replicas: Replicas, gpus: int, cpus: float) -> Replicas:
    """The replicas with their share of GPUs and CPUs; UsageError where the machine has less than they ask for."""
    share = replicas.gpus
    if share < 0:
        share = equal_share(replicas.number, gpus)
    places = 0 if not share else gpus // int(share) if share >= 1 else gpus * math.floor(1 / share)
    if share and places < replicas.number:
        raise UsageError(
            f"--gpus-per-replica {share:g}: {gpus} GPUs have room for {places} replicas, not for {replicas.number}; "
            "give a smaller share, or fewer --replicas"
        )
    threads = replicas.cpus or (cpus / replicas.number if not share else min(1.0, cpus / replicas.number))
    if threads * replicas.number > cpus:
        raise UsageError(
            f"--cpus-per-replica {threads:g}: {replicas.number} replicas need {threads * replicas.number:g} CPUs, "
            f"but {cpus:g} are here; give fewer"
        )
    return replicas._replace(gpus=share, cpus=math.floor(threads * 1e4) / 1e4)


def equal_share(count: int, gpus: int) -> float:
    """The largest share of a GPU that so many replicas can have each, in Ray's steps of 1/10,000; 0 without a GPU."""
    if not gpus:
        return 0.0
    on_each = math.ceil(count / gpus)
    return 1.0 if on_each == 1 else math.floor(1e4 / on_each) / 1e4
