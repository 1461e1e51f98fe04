"""Which networks a learner may choose from: not only how to train one, but whether to learn features at all."""

from __future__ import annotations

from sklearn.base import clone

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.tasks import TaskInfo
from autometa.engine.random_state import fresh_module

_OF_IMAGES = ("auto", "identity", "mlp")
_OF_ROWS = ("auto", "identity")


def backbones_of(learner: BaseLearner, info: TaskInfo) -> tuple[str, ...]:
    """Return the backbones to search, "auto" first; none where there is no choice, or the user made it.

    "identity" leaves inputs as they are, which is best where there are too few classes or tasks to learn features from.
    Those that the learner cannot be built with are left out.
    """
    given = learner.get_params(deep=False).get("backbone")
    if not isinstance(given, str) or given != "auto" or info.problem_record.acts or info.input_shape == (1,):
        return ()
    known = _OF_IMAGES if len(info.input_shape) == 3 else _OF_ROWS
    found = tuple(name for name in known if name == "auto" or _can_be_built(learner, name, info))
    return found if len(found) > 1 else ()


def _can_be_built(learner: BaseLearner, backbone: str, info: TaskInfo) -> bool:
    try:
        fresh_module(clone(learner).set_params(backbone=backbone), info, seed=0)
    except Exception:  # a plugin may raise anything; with "auto" it was built before this
        return False
    return True
