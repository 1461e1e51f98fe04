"""A scikit-learn estimator for every task, and no meta-training."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

import autometa as am
from autometa_plugins.baselines.estimators import array, estimator_maker, fit_and_ask

if TYPE_CHECKING:
    from optuna import Trial


class SupportOnly(am.Learner):
    """Any scikit-learn estimator fitted on the support set alone, without help from other tasks.

    The adapted state is the support set; :meth:`predict` fits a fresh clone per task on the flattened inputs. Fits are
    deterministic: where an estimator's ``random_state`` is None, 0 is used.

    Parameters
    ----------
    estimator : str or scikit-learn estimator, default="auto"
        "auto": logistic regression, or ridge regression with its penalty chosen by leaving one row out. By name:
        "knn", "svm", "random_forest", "hist_gradient_boosting", "gaussian_process", "ridge", and for classes
        "logistic_regression", "naive_bayes".
    """

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"estimator"})

    def __init__(self, estimator: str | BaseEstimator = "auto") -> None:
        self.estimator = estimator

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return a module without parameters.

        Raises
        ------
        InvalidParameter
            The estimator is unknown or solves another problem.
        """
        has_classes = info.problem_record.has_classes
        estimator_maker(self.estimator, has_classes, "sklearn")
        return _Nothing(has_classes)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return the support set itself: ``x``, ``targets`` [tasks, n, n_outputs] (classes one-hot) and ``mask``."""
        assert isinstance(support.x, Tensor)
        return {"x": support.x, "targets": support.targets(), "mask": support.mask}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Fit and ask one estimator per task; log-probabilities or means, [tasks, n, n_outputs]."""
        assert isinstance(module, _Nothing)
        make = estimator_maker(self.estimator, module.has_classes, "sklearn")
        outputs = [
            fit_and_ask(make, module.has_classes, array(rows[mask]), array(targets[mask]), array(asked))
            for rows, targets, mask, asked in zip(adapted["x"], adapted["targets"], adapted["mask"], x, strict=True)
        ]
        return torch.as_tensor(np.stack(outputs), dtype=x.dtype, device=x.device)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> SupportOnly:
        """Search the kind of estimator; forests, which take their time on every task, for tables only."""
        names = ["auto", "knn", "svm", "gaussian_process"]
        if info.feature_kinds is not None:
            names.append("random_forest")
        return cls(estimator=trial.suggest_categorical("estimator", names))


class _Nothing(nn.Module):
    def __init__(self, has_classes: bool) -> None:
        super().__init__()
        self.has_classes = has_classes
