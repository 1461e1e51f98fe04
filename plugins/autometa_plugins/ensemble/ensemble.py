"""Learners that answer together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

import autometa as am


class Ensemble(am.Learner):
    """Several learners that answer together: the weighted mean of what they answer alone.

    For classes it is the mean of the members' probabilities, each over the classes that the support set has; for real
    targets the mean of their predictions. Where all members predict a distribution, the ensemble's is the mixture of
    theirs. A comparison chooses members and weights by the meta-valid tasks (``ensemble=True``).

    Nothing is trained here: θ of a member is what its ``build`` returns, or what it was given by whoever trained it.

    Parameters
    ----------
    members : sequence of str or Learner
        At least one. The ensemble's module is a list of theirs, in this order.
    weights : sequence of float, optional
        A positive number for each member; only their shares count. None: all are equal.

    References
    ----------
    Caruana, Niculescu-Mizil, Crew & Ksikes 2004, Ensemble selection from libraries of models.
    """

    default_meta_optimizer: ClassVar[str | None] = None

    def __init__(self, members: Sequence[str | am.Learner] = (), weights: Sequence[float] | None = None) -> None:
        self.members = members
        self.weights = weights

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """``"distribution"`` if every member does."""
        return frozenset({"distribution"}).intersection(*(member.provides for member in self._members()))

    @property
    def predicts_unseen_classes(self) -> bool:  # type: ignore[override]
        """True if any member may predict a class that the support set lacks."""
        return any(member.predicts_unseen_classes for member in self._members())

    @property
    def needs_support(self) -> bool:  # type: ignore[override]
        """True if any member cannot answer without a labelled example."""
        return any(member.needs_support for member in self._members())

    @property
    def needs_meta_training(self) -> frozenset[str]:
        """Problems on which any member is useless before meta-training."""
        return frozenset().union(*(member.needs_meta_training for member in self._members()))

    def encode_rows(self, X: Any) -> Any:
        """Turn raw rows into numbers as the members do, who all see the same.

        Raises
        ------
        Incompatible
            They encode rows differently.
        """
        encoded = [rows for member in self._members() if (rows := member.encode_rows(X)) is not X]
        if any(not np.array_equal(rows, encoded[0]) for rows in encoded[1:]):
            raise am.Incompatible("the members of learner 'ensemble' encode raw rows differently; encode them alike.")
        return encoded[0] if encoded else X

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the members' modules as a list.

        Raises
        ------
        InvalidParameter
            There are no members, one is no learner, or the weights are not a positive number for each.
        """
        self._shares()
        return nn.ModuleList([member.build(info) for member in self._members()])

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Any]:
        """Let every member adapt: ``states``, and for classes ``present`` [tasks, n_classes], those in the support."""
        states = [member.adapt(part, support) for member, part in self._each(module)]
        present = am.present_classes(support)
        return {"states": states} if present is None else {"states": states, "present": present}

    def predict(self, module: nn.Module, adapted: dict[str, Any], x: Tensor) -> Tensor:
        """Logarithms of the mean probabilities, or mean predictions, [tasks, n, n_outputs]."""
        present = adapted.get("present")
        outputs = torch.stack(
            [
                am.predict_outputs(member, part, state, present, x)
                for (member, part), state in zip(self._each(module), adapted["states"], strict=True)
            ]
        )
        shares = self._shares().to(outputs)[:, None, None, None]
        if present is None:
            return (shares * outputs).sum(dim=0)
        return (outputs.log_softmax(dim=-1) + shares.log()).logsumexp(dim=0)

    def predict_distribution(self, module: nn.Module, adapted: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the mixture of the members' distributions, each [tasks, n, n_outputs]."""
        told = [
            member.predict_distribution(part, state, x)
            for (member, part), state in zip(self._each(module), adapted["states"], strict=True)
        ]
        means, deviations = (torch.stack(moments) for moments in zip(*told, strict=True))
        shares = self._shares().to(means)[:, None, None, None]
        mean = (shares * means).sum(dim=0)
        return mean, (shares * (deviations.square() + (means - mean).square())).sum(dim=0).sqrt()

    def _each(self, module: nn.Module) -> list[tuple[am.Learner, nn.Module]]:
        assert isinstance(module, nn.ModuleList)
        return list(zip(self._members(), module, strict=True))

    def _members(self) -> list[am.Learner]:
        members: Any = self.members
        if isinstance(members, str) or not isinstance(members, Sequence) or len(members) == 0:
            raise am.InvalidParameter(
                f"members={members!r:.80} of learner 'ensemble' must be a list of one learner or more, such as "
                "['maml', 'ridge']."
            )
        made = [am.make_learner(member) for member in members]
        for member in made:
            if not isinstance(member, am.Learner):
                raise am.InvalidParameter(f"members of learner 'ensemble' must adapt and predict; {member!r:.80} acts.")
        return made

    def _shares(self) -> Float[Tensor, " member"]:
        """Weights of the members that sum to 1, in double precision."""
        given: Any = self.weights
        if given is None:
            given = [1.0] * len(self.members)
        if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != len(self.members):
            raise am.InvalidParameter(
                f"weights={given!r:.80} of learner 'ensemble' must be None or a list of {len(self.members)} positive "
                "numbers, one for each member."
            )
        for weight in given:
            am.check_real("weights", weight, above=0, of="learner 'ensemble'")
        weights = torch.tensor([float(weight) for weight in given], dtype=torch.float64)
        return weights / weights.sum()
