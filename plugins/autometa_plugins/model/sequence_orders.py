"""A support set as sequences: in which orders it is read, and what stands for a class in each."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import autometa as am

_SPREAD = 1e4
"""Factor of projections before their fraction is taken, so that similar examples do not end up side by side."""


def random_orders(mask: Tensor) -> Tensor:
    """Draw one order for each task from torch's current random state, [tasks, 1, n]; padded places last."""
    keys = torch.rand(mask.shape, device=mask.device)
    return keys.masked_fill(~mask, 2.0).argsort(dim=1).unsqueeze(1)


def given_orders(mask: Tensor) -> Tensor:
    """Return the order in which examples are given, [tasks, 1, n]; padded places last."""
    return (~mask).to(torch.int8).argsort(dim=1, stable=True).unsqueeze(1)


def content_orders(support: am.Examples, n_orders: int) -> Tensor:
    """Orders [tasks, n_orders, n] that depend on what the examples are and not on how they are arranged.

    Examples are sorted by a hash, another one for each order: the fraction of a large multiple of a fixed
    pseudo-random projection of input and target. Padded places come last.
    """
    # Double precision, which not every accelerator has: equal examples alone may have equal hashes.
    place = "cpu" if support.y.device.type == "mps" else support.y.device
    x, targets = (part.detach().flatten(2).to(place, torch.float64) for part in (support.x, support.targets()))
    hashed = x @ _directions("input", n_orders, x.shape[-1]).to(place)
    hashed = hashed + targets @ _directions("target", n_orders, targets.shape[-1]).to(place)
    keys = (_SPREAD * hashed).remainder(1.0).masked_fill(~support.mask.to(place).unsqueeze(-1), 2.0)
    return keys.transpose(1, 2).argsort(dim=2).to(support.y.device)


def _directions(what: str, n_orders: int, width: int) -> Tensor:
    """Fixed normal numbers [width, n_orders]; a row does not depend on the width, nor a column on the orders."""
    return torch.from_numpy(
        np.stack([_numbers(what, order).standard_normal(width) for order in range(n_orders)], axis=1)
    )


def _numbers(what: str, order: int) -> np.random.Generator:
    return np.random.default_rng(am.derive_seed(0, "sequence", what, order))


def random_codes(n_tasks: int, n_classes: int, n_labels: int, device: torch.device) -> Tensor:
    """Draw what stands for each class from torch's current random state, [tasks, 1, n_classes, n_labels].

    Distinct one-hot codes as far as there are slots; classes beyond them get random unit codes.
    """
    slots = torch.eye(n_labels, device=device)[torch.rand(n_tasks, n_labels, device=device).argsort(dim=1)]
    more = torch.randn(n_tasks, max(0, n_classes - n_labels), n_labels, device=device)
    codes = torch.cat([slots, torch.nn.functional.normalize(more, dim=-1)], dim=1)
    return codes[:, None, :n_classes]


def fixed_codes(n_orders: int, n_classes: int, n_labels: int, *, shuffled: bool) -> Tensor:
    """Return the codes of adaptation, [1, n_orders, n_classes, n_labels], as :func:`random_codes` but fixed.

    The code of a class does not depend on how many there are. ``shuffled`` False: a class's slot is its number in
    every order.
    """
    codes = [_fixed_codes(order, n_classes, n_labels, shuffled) for order in range(n_orders)]
    return torch.from_numpy(np.stack(codes)).unsqueeze(0)


def _fixed_codes(order: int, n_classes: int, n_labels: int, shuffled: bool) -> NDArray[np.float64]:
    numbers = _numbers("codes", order)
    slots = np.eye(n_labels)[numbers.permutation(n_labels) if shuffled else slice(None)]
    more = numbers.standard_normal((max(0, n_classes - n_labels), n_labels))
    units = more / np.linalg.norm(more, axis=1, keepdims=True)
    return np.concatenate([slots, units])[:n_classes]
