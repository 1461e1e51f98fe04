"""Scikit-learn's handwritten digits as few-shot tasks."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits

import autometa as am


class Digits(am.ClassEpisodes):
    """1,797 handwritten digits of 8 x 8 pixels (Alpaydin & Kaynak 1998; shipped with scikit-learn).

    Meta-train on the digits 0, 1, 2, 3, meta-valid on 4, 5, 6, meta-test on 7, 8, 9. With ten classes no part
    can be large: four base classes make this a quick check, not a benchmark.

    Parameters
    ----------
    n_way : int or (int, int), default=3
        Classes of a task; 2 or 3, or (2, 3) for either.
    n_shot : int, (int, int) or "varied", default=1
        Support images per class; a pair for any number between the two, "varied" for Meta-Dataset's rule, see
        :class:`autometa.ClassEpisodes`.
    n_query : int, default=15
        Query images per class.
    train_n_way, train_n_shot, train_shift, train_rotation, train_flip, train_erasing
        Of meta-training alone; see :class:`autometa.ClassEpisodes`.
    """

    def __init__(
        self,
        *,
        n_way: int | tuple[int, int] | str = 3,
        n_shot: int | tuple[int, int] | str = 1,
        n_query: int = 15,
        train_n_way: int | tuple[int, int] | str | None = None,
        train_n_shot: int | tuple[int, int] | str | None = None,
        train_shift: float = 0.0,
        train_rotation: float = 0.0,
        train_flip: bool = False,
        train_erasing: float = 0.0,
    ) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.train_n_way = train_n_way
        self.train_n_shot = train_n_shot
        self.train_shift = train_shift
        self.train_rotation = train_rotation
        self.train_flip = train_flip
        self.train_erasing = train_erasing

    def load(self) -> am.ClassImages:
        """Images [1797, 1, 8, 8], ink 1 on paper 0."""
        bunch = load_digits()
        return am.ClassImages(
            images=torch.from_numpy(bunch.images / 16.0).to(torch.float32).unsqueeze(1),
            labels=torch.from_numpy(bunch.target).to(torch.int64),
            splits={"train": range(4), "valid": range(4, 7), "test": range(7, 10)},
            names=[str(digit) for digit in range(10)],
        )

    def describe(self) -> dict[str, Any]:
        """Which digits each split holds."""
        return {**super().describe(), "digits": {"train": "0 1 2 3", "valid": "4 5 6", "test": "7 8 9"}}
