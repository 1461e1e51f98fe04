"""What every meta-optimizer must do with a learner that suits it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any
from unittest import SkipTest

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.tasks import TaskSampler
from autometa.errors import AutometaError, Incompatible
from autometa.host import components, make, make_meta_optimizer
from autometa.testing.expectations import clearly_positive, copied, expect, same_state
from autometa.testing.search_checks import check_search_space as check_space
from autometa.testing.toys import TOYS
from autometa.training import MetaTraining, check_compatible, evaluate

LOOKS = (20, 80)
"""Steps of a meta-training after which it is judged; it ends with the first clear success."""
N_JUDGED = 200
N_TRIALS = 20
N_OTHERS = 4


@dataclass(frozen=True)
class MetaOptimizerCase:
    """A meta-optimizer, a learner that suits it and tasks to meta-train on."""

    meta_optimizer: MetaOptimizer
    learner: BaseLearner
    tasks: TaskSampler
    others: tuple[BaseLearner, ...] = ()
    """Further learners that suit it."""

    def training(self, n_steps: int, seed: int = 0) -> MetaTraining:
        """Return a run that has not started."""
        return MetaTraining(
            clone(self.learner), clone(self.meta_optimizer), self.tasks, n_steps=n_steps, tasks_per_step=8, seed=seed
        )

    def short(self) -> MetaOptimizerCase:
        """Return the case with few trials a step, where their number is open: enough to compare runs, not to learn."""
        if self.meta_optimizer.get_params().get("trials") != "auto":
            return self
        return replace(self, meta_optimizer=clone(self.meta_optimizer).set_params(trials=N_TRIALS))

    def run(self, n_steps: int, seed: int = 0) -> MetaTraining:
        """Return a run that has ended."""
        training = self.training(n_steps, seed)
        training.run_to()
        return training


def case_for(
    meta_optimizer: MetaOptimizer, problem: str, tasks: TaskSampler | None, learner: BaseLearner | None
) -> MetaOptimizerCase:
    """Find a learner and tasks for it: a learner whose default it is, else any that provides what it requires.

    Raises
    ------
    AssertionError
        No installed learner suits it.
    """
    claiming = [c.full_name for c in components("learner") if problem in c.spec.problems and not c.spec.needs]
    learners = [make("learner", name) for name in claiming] if learner is None else [learner]
    suitable = [one for one in learners if meta_optimizer.requires <= one.provides]
    # Among learners that suit equally well those of the same package come first, which were made for it.
    suitable.sort(key=lambda one: (_distance(meta_optimizer, one), _package(one) != _package(meta_optimizer)))
    for toy in (tasks,) if tasks is not None else TOYS[problem]:
        found = list(itertools.islice((one for one in suitable if _takes(meta_optimizer, one, toy)), N_OTHERS))
        if found:
            return MetaOptimizerCase(meta_optimizer, found[0], toy, tuple(found[1:]))
    raise AssertionError(
        f"no learner that provides {sorted(meta_optimizer.requires)} was found for {problem}; give one as learner=."
    )


def _package(component: object) -> str:
    return type(component).__module__.rpartition(".")[0]


def _distance(meta_optimizer: MetaOptimizer, learner: BaseLearner) -> int:
    """Return 0 for the learner's default, 1 if it requires the same, 3 if nothing is meta-trained, else 2."""
    if learner.default_meta_optimizer is None:
        return 3
    default = make_meta_optimizer(learner.default_meta_optimizer)
    if type(default) is type(meta_optimizer):
        return 0
    return 1 if default.requires == meta_optimizer.requires else 2


def _takes(meta_optimizer: MetaOptimizer, learner: BaseLearner, tasks: TaskSampler) -> bool:
    """Return whether the learner takes the tasks and the meta-optimizer takes the learner; it may be too large."""
    try:
        module = learner.build(tasks.info)
    except AutometaError:
        return False
    try:
        clone(meta_optimizer).start(learner, module, tasks.info)
    except Incompatible:
        return False
    return True


def check_improves(case: MetaOptimizerCase) -> None:
    """A short meta-training clearly improves the loss or score on held-out tasks, for at least one learner.

    What has improved on the way must not be clearly worse than at the start in the end.
    """
    told = []
    for learner in (case.learner, *case.others):
        training = replace(case, learner=learner).training(LOOKS[-1])
        before = after = _judged(training)
        improved = [False] * len(before)
        for n_steps in LOOKS:
            training.run_to(n_steps / LOOKS[-1])
            after = _judged(training)
            improved = [was or _is_clear(gain) for was, gain in zip(improved, before - after, strict=True)]
            if training.progress == 1.0:
                break
        worse = [_is_clear(loss) for loss in after - before]
        if any(was and not now for was, now in zip(improved, worse, strict=True)):
            return
        told.append(f"with {learner} the loss is {after[0].mean():.4f}, and before it was {before[0].mean():.4f}")
    raise AssertionError(
        f"after {LOOKS[-1]} steps neither loss nor score on held-out tasks is clearly better: {'; '.join(told)}."
    )


def _is_clear(gain: NDArray[np.float64]) -> bool:
    return clearly_positive(torch.from_numpy(gain))


def _judged(training: MetaTraining) -> NDArray[np.float64]:
    """Return the losses of held-out tasks, and their squared errors or negative accuracies: smaller is better."""
    found = evaluate(training.learner, training.module, training.sampler, split="valid", n_tasks=N_JUDGED, seed=0)
    sign = -1 if training.sampler.info.higher_is_better else 1
    return np.stack([found.losses, sign * found.scores])


def check_reports_loss(case: MetaOptimizerCase) -> None:
    """``step`` returns scalars, ``"loss"`` among them, that hold no graph."""
    training = case.short().training(1)
    meta_optimizer = training.meta_optimizer
    assert meta_optimizer is not None
    metrics = meta_optimizer.step(meta_optimizer.draw(case.tasks, 4, seed=0))
    expect(isinstance(metrics, dict) and "loss" in metrics, f"step() returned {metrics!r}; it must hold 'loss'.")
    for name, value in metrics.items():
        expect(
            isinstance(value, Tensor) and value.dim() == 0,
            f"step() reported {name}={value!r}, which is no scalar tensor.",
        )
        expect(not value.requires_grad, f"step() reported {name} with its graph; detach it.")


def check_seeded(case: MetaOptimizerCase) -> None:
    """The same seed gives the same θ, another seed another θ."""
    case = case.short()
    a, b, other = (case.run(3, seed).module.state_dict() for seed in (1, 1, 2))
    expect(same_state(a, b), "two runs with one seed end in different θ.")
    expect(not same_state(a, other), "runs with different seeds end in the same θ.")


def check_resumes(case: MetaOptimizerCase) -> None:
    """A run that was stored and continued ends as one that was not."""
    case = case.short()
    straight = case.run(8)
    first = case.training(8)
    first.run_to(0.5)
    state = copied(first.state_dict())
    _check_plain(state["meta_optimizer"], "state_dict()")
    again = case.training(8)
    again.load_state_dict(state)
    again.run_to()
    expect(
        same_state(straight.module.state_dict(), again.module.state_dict()),
        "continued from its state_dict, a run ends in another θ; keep all running state in state_dict().",
    )


def _check_plain(value: Any, where: str) -> None:
    """Tensors, numbers, strings, None, and lists, tuples and dicts of them."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    else:
        plain = value is None or isinstance(value, Tensor | bool | int | float | str)
        expect(plain, f"{where} is a {type(value).__name__}; a checkpoint can hold tensors, numbers and texts only.")


def check_start_forgets(case: MetaOptimizerCase) -> None:
    """One object started a second time does what a new one does."""
    meta_optimizer = clone(case.short().meta_optimizer)
    ends = []
    for _ in range(2):
        training = MetaTraining(clone(case.learner), meta_optimizer, case.tasks, n_steps=3, tasks_per_step=4, seed=0)
        training.run_to()
        ends.append(training.module.state_dict())
    expect(same_state(*ends), "started a second time, it remembers the first run.")


def check_refuses_incompatible(case: MetaOptimizerCase) -> None:
    """A learner that lacks what is required is refused before any work."""
    if not case.meta_optimizer.requires:
        raise SkipTest("it requires nothing of a learner")
    lacking = type("Lacking", (type(case.learner),), {"provides": frozenset()})()
    try:
        check_compatible(lacking, case.meta_optimizer)
    except Incompatible as error:
        missing = [need for need in case.meta_optimizer.requires if need not in str(error)]
        expect(not missing, f"the error does not name what is missing, {missing}: {error}")
    else:
        raise AssertionError("a learner that provides nothing was not refused.")


def check_search_space(case: MetaOptimizerCase) -> None:
    """Names are constructor parameters, defaults lie inside, and whatever is drawn takes a step."""
    for suggested in check_space(case.meta_optimizer, case.tasks.info):
        MetaOptimizerCase(suggested, case.learner, case.tasks).short().run(1)


def check_devices_agree(case: MetaOptimizerCase) -> None:
    """An accelerator, where there is one, ends in the θ that the CPU ends in."""
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        raise SkipTest("there is no accelerator here")
    here = case.run(2).module.state_dict()
    training = MetaTraining(
        clone(case.learner), clone(case.meta_optimizer), case.tasks, n_steps=2, tasks_per_step=8, seed=0, device=device
    )
    # Random states differ between devices, so both start from what was drawn on the CPU.
    training.module.load_state_dict(case.training(2).module.state_dict())
    training.run_to()
    for name, value in training.module.state_dict().items():
        close = torch.allclose(value.cpu().double(), here[name].double(), rtol=1e-2, atol=1e-3)
        expect(close, f"after two steps on {device}, {name!r} differs from the CPU's.")


META_OPTIMIZER_CHECKS = (
    check_improves,
    check_reports_loss,
    check_seeded,
    check_resumes,
    check_start_forgets,
    check_refuses_incompatible,
    check_search_space,
    check_devices_agree,
)
