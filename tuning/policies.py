"""From a plan to the engine that decides: the same one in Ray and in a replay on a virtual clock."""

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial

from tuning.engine import Decision, Engine, Policy
from tuning.freeze_thaw import FreezeThaw
from tuning.halving import Halving
from tuning.plan import SearchPlan
from tuning.sampler import RungSampler
from tuning.step_cost import StepCost
from tuning.warm_start import Earlier, promising, whole_configurations


def make_engine(
    plan: SearchPlan,
    earlier: Sequence[Earlier] = (),
    note: Callable[[Decision], None] = lambda decision: None,
    left: Callable[[], float] = lambda: math.inf,
) -> Engine:
    """The engine that the plan asks for, knowing what earlier experiments found; decisions go to `note`.

    `left` tells the seconds until the last step has to be done.
    """
    policy: Policy
    whole = partial(whole_configurations, plan.space)
    # What was best on other images is tried here first; a trial that compares needs no second training.
    first = plan.first + promising(whole(trial for trial in earlier if not trial.compares), plan.trials)
    cost = StepCost(plan.work, plan.length, measured=plan.time_budget_s is not None)
    if plan.scheduler == "freeze-thaw":
        policy = FreezeThaw(plan.space, plan.rungs, plan.seed, earlier=earlier, cost=cost)
    else:
        sampler = RungSampler(plan.space, plan.sampler, plan.seed)
        sampler.remember(whole(trial for trial in earlier if trial.compares), plan.rungs)
        policy = Halving(sampler, plan.rungs, plan.reduction_factor, cost)
    return Engine(
        policy,
        plan.rungs,
        trials=plan.trials or sys.maxsize,
        steps=plan.step_limit or math.inf,
        first=first,
        starts=plan.starts,
        first_in_full=plan.first_in_full,
        left=left,
        note=note,
    )
