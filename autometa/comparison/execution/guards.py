"""Guards against leaks: what a trained learner answers when it is told nothing, and what test tasks share with others.

They look at a few of the very meta-test tasks that the leaderboard is of, after the first final run of a learner. What
they measured is kept; `autometa.comparison.results.guards` says what follows from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autometa.comparison.execution.fingerprints import Fingerprints, fingerprints_of
from autometa.comparison.execution.patient_storage import lost_in
from autometa.comparison.plan.domains import Domain
from autometa.comparison.plan.settings import Settings
from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.forward import Adapted, forward
from autometa.contracts.learner import Learner
from autometa.contracts.plugin_code import one_line, plugin_code
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import Split, TaskSampler
from autometa.engine.few_threads import enough_threads
from autometa.engine.folding import is_transductive
from autometa.engine.pulse import step_finished
from autometa.engine.random_state import seeded
from autometa.training import MetaTraining

PERMUTED, ORDER, OTHERS, COPIES = "permuted labels", "order of queries", "other queries", "copies of test examples"
TEST_TASKS = 20
"""Meta-test tasks looked at, the first ones that are judged; no more than are drawn at once."""
OTHER_TASKS: dict[Split, int] = {"train": 60, "valid": 20}
"""Tasks of the other parts that are drawn to look for the examples of the test tasks in."""
MOST_BYTES = 2**25
"""Of examples of one part that are looked at; fewer tasks are drawn where they are large."""

_KNOWN: WeakKeyDictionary[TaskSampler, dict[tuple[str, str, Settings], dict[str, Any]]] = WeakKeyDictionary()

ACTS = "it acts in worlds: there are no labels and no queries"


def guard(training: MetaTraining, domain: Domain) -> dict[str, Any]:
    """Look for leaks of one trained learner on one task distribution.

    Parameters
    ----------
    training : MetaTraining
        With the θ that is judged.
    domain : Domain
        What it was trained on, and is judged on.

    Returns
    -------
    dict
        What was measured, by the name of the guard: see :func:`permuted_labels`, :func:`query_changes`,
        :func:`copies`; or why it was ``left_out``, or the ``error`` that it raised.
    """
    learner, module = training.learner, training.module
    if not isinstance(learner, Learner):
        return {name: {"left_out": ACTS} for name in (PERMUTED, ORDER, OTHERS, COPIES)}
    batch = first_test_tasks(domain)
    found: dict[str, Any] = {COPIES: _copies_once(domain, domain, batch)}
    there = batch.to(training.device, training.dtype)
    was_training = module.training
    module.eval()
    with torch.no_grad(), enough_threads(module, *there.inputs):
        found[PERMUTED] = _tried(lambda: permuted_labels(learner, module, there, domain))
        changes = _tried(lambda: query_changes(learner, module, there, domain))
    module.train(was_training)
    return found | (changes if ORDER in changes else {ORDER: changes, OTHERS: changes})


def copies_elsewhere(domain: Domain, other: Domain) -> dict[str, Any]:
    """Look for examples of the test tasks of another distribution among those that were trained and tuned on."""
    if domain.info.problem_record.acts:
        return {"left_out": ACTS}
    return _copies_once(domain, other, None)


def _copies_once(domain: Domain, other: Domain, batch: TaskBatch | None) -> dict[str, Any]:
    """Look for copies, once for all learners of a process: they depend on none of them."""

    def look() -> dict[str, Any]:
        return _tried(lambda: copies(domain, other, first_test_tasks(other) if batch is None else batch))

    try:
        known = _KNOWN.setdefault(domain.sampler, {})
    except TypeError:  # a sampler with a comparison of its own has no place in a dict
        return look()
    key = (domain.label, other.label, domain.settings)
    if key not in known:
        known[key] = look()
    return known[key]


def first_test_tasks(domain: Domain) -> TaskBatch:
    """Draw the first of the meta-test tasks that learners are judged on."""
    n_tasks = min(TEST_TASKS, domain.settings.n_test_tasks)
    drawn: TaskBatch = domain.sampler.sample(n_tasks, split="test", seed=derive_seed(domain.seed("test"), "test", 0))
    return drawn


def _tried(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Look; where that fails the reason is kept, and the rest of the run still counts."""
    try:
        with plugin_code():
            return look()
    except Exception as error:
        if lost_in(error) is not None:
            raise
        return {"error": one_line(error)}


def permuted_labels(learner: Learner, module: nn.Module, batch: TaskBatch, domain: Domain) -> dict[str, Any]:
    """Judge with the labels of every support set dealt out anew, so that they tell nothing.

    Labels are shuffled among the examples, and then stand for other classes of the task: which class is frequent tells
    nothing either. The answers then agree with the truth as often as two independent labellings do, which is worked out
    from how often each label is given and is right (Cohen 1960's expected agreement), 1 / ways where queries are
    balanced.

    Returns
    -------
    dict
        ``score`` and ``chance`` (means over tasks), the ``standard_error`` of their difference, ``n_tasks``.
    """
    info = domain.info
    if info.labels_are_shared:
        what = "classes mean" if info.problem_record.has_classes else "targets mean"
        return {
            "left_out": f"{what} the same in every task: what is known of them without labelled examples is no leak"
        }
    support = batch.support.with_parts(y=dealt_out(batch.support, domain.seed("guards")))
    outputs = _answers(learner, module, support, batch.query.x)
    agreed, expected = agreement(outputs.argmax(dim=2), batch.query)
    difference = agreed - expected
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else float("nan")
    return {
        "score": float(agreed.mean()),
        "chance": float(expected.mean()),
        "standard_error": spread / len(difference) ** 0.5,
        "n_tasks": len(difference),
    }


def dealt_out(support: Examples, seed: int) -> Tensor:
    """Shuffle the labels of each support set among its examples, and let each stand for another class, [tasks, n]."""
    y, mask = support.y.cpu(), support.mask.cpu()
    generator = torch.Generator().manual_seed(seed)
    dealt = y.clone()
    for task in range(len(y)):
        rows = mask[task].nonzero().squeeze(1)
        labels = y[task, rows][torch.randperm(len(rows), generator=generator)]
        classes = torch.from_numpy(np.unique(labels.numpy()))
        stands_for = torch.zeros(support.n_classes, dtype=torch.long)
        stands_for[classes] = classes[torch.randperm(len(classes), generator=generator)]
        dealt[task, rows] = stands_for[labels]
    return dealt.to(support.y.device)


def agreement(answers: Tensor, query: Examples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how often answers are right, and how often independent ones of the same frequencies would be, [tasks]."""
    there = query.mask.double()
    n = there.sum(dim=1)
    right = ((answers == query.y).double() * there).sum(dim=1) / n
    ways = max(query.n_classes, int(answers.max()) + 1)

    def shares(labels: Tensor) -> Tensor:
        held = torch.nn.functional.one_hot(labels.clamp(min=0), ways).double() * there.unsqueeze(2)
        return held.sum(dim=1) / n.unsqueeze(1)

    expected = (shares(answers) * shares(query.y)).sum(dim=1)
    return right.cpu().numpy(), expected.cpu().numpy()


def query_changes(learner: Learner, module: nn.Module, batch: TaskBatch, domain: Domain) -> dict[str, Any]:
    """Ask in another order, and ask the first half alone; measure by how much answers change.

    Returns
    -------
    dict
        By the names of both guards: ``change``, the largest one of a probability, or of a real target in standard
        deviations of the answers; ``transductive``, whether the network normalises by the queries.
    """
    x, mask = batch.query.x, batch.query.mask
    n = x.shape[1]
    if n < 2:
        return {"left_out": "tasks have one query"}
    adapted = _fresh(lambda: learner.adapt(module, batch.support), x)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(domain.seed("guards", "order"))).to(x.device)
    has_classes = domain.info.problem_record.has_classes

    def ask(rows: Tensor) -> Tensor:
        outputs = _answers(learner, module, batch.support, x[:, rows], adapted).double()
        return outputs.softmax(dim=2) if has_classes else outputs

    plain = ask(torch.arange(n, device=x.device))
    unit = 1.0 if has_classes else float(plain[mask].std()) or 1.0
    half = torch.arange(n // 2, device=x.device)

    def change(answers: Tensor, rows: Tensor) -> dict[str, Any]:
        apart = (answers - plain[:, rows]).abs().amax(dim=2)[mask[:, rows]]
        largest = float(apart.nan_to_num(0.0, posinf=0.0).max()) if apart.numel() else 0.0
        return {"change": largest / unit, "transductive": is_transductive(module)}

    return {ORDER: change(ask(order), order), OTHERS: change(ask(half), half)}


def _answers(
    learner: Learner, module: nn.Module, support: Examples, x: Tensor, adapted: Any = Adapted.NOT_YET
) -> Tensor:
    """Outputs for queries; the learner's own randomness is the same each time."""
    outputs: Tensor = _fresh(lambda: forward(learner, module, support, x, adapted=adapted), x)
    return outputs


def _fresh(call: Callable[[], Any], x: Tensor) -> Any:
    with seeded(0, x.device):
        found = call()
    step_finished()
    return found


def copies(domain: Domain, judged_on: Domain, batch: TaskBatch) -> dict[str, Any]:
    """Count the test examples that are in a train or valid task too, to the last bit.

    Rows of a table count with their target: few columns with few values may well agree. How often examples agree by
    chance is seen among the train tasks: of their examples, the share that another class, entity or task has too.

    Returns
    -------
    dict
        ``copies`` (distinct test examples found elsewhere), by part ``in_train`` and ``in_valid``; ``n`` (distinct test
        examples), ``natural`` and ``n_train`` (train examples that another owner has too, and all).
    """
    if judged_on.sampler.tasks_recur:
        return {"left_out": "there are so few tasks that parts may share them, by the sampler's own account"}
    test = fingerprints_of(batch, judged_on.info)
    size = max(1, test.n_bytes // max(1, len(batch)))
    parts = {part: _drawn(domain, part, n_tasks, size) for part, n_tasks in OTHER_TASKS.items()}
    inside = {part: test.found_in(found) for part, found in parts.items()}
    train = parts["train"]
    return {
        "copies": len(inside["train"] | inside["valid"]),
        "in_train": len(inside["train"]),
        "in_valid": len(inside["valid"]),
        "n": len(test.owners),
        "natural": train.n_shared,
        "n_train": len(train.owners),
    }


def _drawn(domain: Domain, part: Split, n_tasks: int, bytes_of_task: int) -> Fingerprints:
    n_tasks = max(1, min(n_tasks, MOST_BYTES // bytes_of_task))
    drawn: TaskBatch = domain.sampler.sample(n_tasks, split=part, seed=domain.seed("guards", part))
    step_finished()
    return fingerprints_of(drawn, domain.info)
