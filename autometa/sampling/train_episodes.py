"""What meta-training may draw otherwise than meta-valid and meta-test: more classes, other shots, changed images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from autometa.checks import check_bool, check_real
from autometa.contracts.examples import Examples
from autometa.host.catalog import name_of
from autometa.sampling.augmentation import Augmentation
from autometa.sampling.episode_sizes import check_size

if TYPE_CHECKING:
    from optuna import Trial

SMALLEST = 5
"""Width and height below which images are not changed in a search: they are features, or too coarse to move."""
_SHIFTS, _ROTATIONS, _ERASING = (0.0, 0.1), (0.0, 10.0, 30.0), (0.0, 0.25)
_MORE_WAYS, _MORE_SHOTS = (2, 4), (2, 5)


class TrainEpisodes:
    """Parameters of a sampler that change the tasks of meta-training alone; see :class:`autometa.ClassEpisodes`."""

    train_n_way: int | tuple[int, int] | str | None = None
    train_n_shot: int | tuple[int, int] | str | None = None
    train_shift: float = 0.0
    train_rotation: float = 0.0
    train_flip: bool = False
    train_erasing: float = 0.0

    def _check_training(self) -> None:
        if self.train_n_way is not None:
            check_size("train_n_way", self.train_n_way, least=2)
        if self.train_n_shot is not None:
            check_size("train_n_shot", self.train_n_shot, least=1)
        check_real("train_shift", self.train_shift, least=0, most=1)
        check_real("train_rotation", self.train_rotation, least=0, most=180)
        if not isinstance(self.train_flip, bool):  # looking for the name takes longer than drawing tasks
            check_bool("train_flip", self.train_flip, of=f"task sampler {(name_of(self) or type(self).__name__)!r}")
        check_real("train_erasing", self.train_erasing, least=0, most=1)

    def _changed(self, examples: Examples, most: int, seed: int, part: str) -> Examples:
        """Change the images of a part of meta-training's tasks, of which there can be ``most`` in a task."""
        augmentation = Augmentation(
            shift=self.train_shift, rotation=self.train_rotation, flip=self.train_flip, erasing=self.train_erasing
        )
        if augmentation.changes_nothing:
            return examples
        assert isinstance(examples.x, Tensor)
        x = augmentation.change(examples.x, most, seed, "train", part)
        return examples.with_parts(x=x * examples.mask[..., None, None, None])


TRAINING = tuple(TrainEpisodes.__annotations__)
"""Names of the parameters."""


def suggest_training(
    sampler: TrainEpisodes, trial: Trial, *, n_way: Any, n_shot: Any, most_ways: int, most_shots: int, side: int
) -> dict[str, Any]:
    """Draw those of the parameters that the sampler takes; what the user set to something else stays.

    Parameters
    ----------
    sampler : TrainEpisodes
    trial : optuna.Trial
    n_way, n_shot : int, (int, int) or "varied"
        Of the tasks that learners are compared by.
    most_ways, most_shots : int
        The largest numbers for which the classes and images of meta-training suffice.
    side : int
        The smaller of width and height.
    """
    choices: dict[str, Sequence[Any]] = {
        "train_n_way": [None, *_more(n_way, _MORE_WAYS, most_ways)],
        "train_n_shot": [None, *_more(n_shot, _MORE_SHOTS, most_shots)],
    }
    if side >= SMALLEST:
        choices |= {
            "train_shift": _SHIFTS,
            "train_rotation": _ROTATIONS,
            "train_flip": (False, True),
            "train_erasing": _ERASING,
        }
    taken = sampler.get_params(deep=False)  # type: ignore[attr-defined]
    return {
        name: trial.suggest_categorical(name, values)
        for name, values in choices.items()
        if len(values) > 1 and name in taken and taken[name] in values
    }


def _more(number: Any, factors: Sequence[int], most: int) -> list[int]:
    """Return larger numbers to try, up to ``most``; none where numbers vary already."""
    if isinstance(number, bool) or not isinstance(number, int):
        return []
    wanted = [factor * number for factor in factors if factor * number <= most]
    return wanted or [most] * (most > number)
