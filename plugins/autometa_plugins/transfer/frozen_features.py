"""Linear models on features that somebody else learned."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from sklearn.base import clone
from torch import Tensor, nn
from torch.nn import functional

import autometa as am
from autometa_plugins.transfer.frozen import Frozen
from autometa_plugins.transfer.logistic import fit_logistic

if TYPE_CHECKING:
    from optuna import Trial


class FrozenFeatures(am.Learner):
    """A pretrained network of your own, never trained here, and a linear model on its features for every task.

    Logistic regression for classes and ridge regression for real targets, both at the optimum that scikit-learn's
    ``LogisticRegression`` and ``Ridge`` seek: the "linear probe" of pretrained models (Kornblith et al. 2019, section
    4.1). There is nothing to meta-train. Without backbone and encoder these are linear models of the inputs.

    Parameters
    ----------
    backbone : nn.Module, str or Backbone, default="auto"
        From examples to features: a pretrained network (torchvision, timm, your own), which stays as it is; see
        backbone "frozen". "auto": the inputs themselves.
    encoder : callable or str, optional
        Turns the raw rows given to an estimator's ``fit`` and ``predict`` (a list of texts, a DataFrame, an array) into
        numbers [n, n_features], such as a sentence encoder's ``encode``. An import path ``"package.module:function"``
        can be saved with the estimator, and loaded by ``am.load(file, trusted=["package.module:function"])``. Tasks of
        a sampler are numbers already and are not encoded.
    C : float, default=1.0
        Inverse strength of the logistic regression's penalty.
    alpha : float, default=1.0
        Strength of the ridge regression's penalty.
    normalize : bool, default=False
        Scale the features of every example to length 1.

    References
    ----------
    S. Kornblith, J. Shlens, Q. Le: Do Better ImageNet Models Transfer Better? CVPR 2019.

    Examples
    --------
    >>> import numpy as np, autometa as am
    >>> def encode(texts):
    ...     return np.array([[len(text), text.count("!")] for text in texts])
    >>> learner = am.make_learner("frozen_features", encoder=encode)
    >>> texts, labels = ["Oh!", "Ah!!", "Well.", "Hm."], ["loud", "loud", "calm", "calm"]
    >>> classifier = am.FewShotClassifier(learner).fit(texts, labels)
    >>> classifier.predict(["Hey!!"]).tolist()
    ['loud']
    """

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"C", "alpha", "normalize"})
    names_code: ClassVar[frozenset[str]] = frozenset({"encoder"})

    def __init__(
        self,
        *,
        backbone: nn.Module | str | am.Backbone = "auto",
        encoder: Callable[[Any], Any] | str | None = None,
        C: float = 1.0,
        alpha: float = 1.0,
        normalize: bool = False,
    ) -> None:
        self.backbone = backbone
        self.encoder = encoder
        self.C = C
        self.alpha = alpha
        self.normalize = normalize

    def __sklearn_clone__(self) -> Self:
        # Networks and encoders are shared: nothing changes them, and they may be large.
        parameters = self.get_params(deep=False)
        if isinstance(self.backbone, am.Backbone):
            parameters["backbone"] = clone(self.backbone)
        return type(self)(**parameters)

    def encode_rows(self, X: Any) -> Any:
        """Raw rows as the numbers that ``encoder`` makes of them."""
        if self.encoder is None:
            return X
        return self._encoder()(X)

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the network, which is not to be trained."""
        self._check()
        backbone = Frozen() if isinstance(self.backbone, str) and self.backbone == "auto" else self.backbone
        chosen = Frozen(backbone) if isinstance(backbone, nn.Module) else backbone
        network: nn.Module = am.build_backbone(chosen, info.input_shape)
        return network.requires_grad_(False)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's model: ``weight`` [tasks, n_outputs, n_features] and ``bias`` [tasks, n_outputs]."""
        self._check()
        features = self._features(module, support.x)
        if support.is_classification:
            return fit_logistic(features, support, C=self.C)
        # Apple's devices have no double precision.
        exact = features.dtype if features.device.type == "mps" else torch.float64
        weight, bias = am.solve_ridge(
            features.to(exact),
            support.targets().to(exact),
            support.mask.to(exact),
            torch.tensor(self.alpha, dtype=exact, device=features.device),
        )
        return {"weight": weight.mT.to(features.dtype), "bias": bias.squeeze(1).to(features.dtype)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Logits or means, [tasks, n, n_outputs]."""
        return am.apply_head(adapted, self._features(module, x))

    @torch.no_grad()
    def _features(self, module: nn.Module, x: Tensor) -> Tensor:
        features: Tensor = am.apply_per_task(module, x)
        return functional.normalize(features, dim=-1) if self.normalize else features

    def _encoder(self) -> Callable[[Any], Any]:
        found: Any = self.encoder
        if isinstance(found, str):
            try:
                found = pkgutil.resolve_name(found)
            except (ImportError, AttributeError, ValueError) as error:
                raise am.InvalidParameter(
                    f"encoder={self.encoder!r} of learner 'frozen_features' cannot be imported: "
                    f"{type(error).__name__}: {error}. It must read 'package.module:function'."
                ) from error
        if not callable(found):
            raise am.InvalidParameter(
                f"encoder={self.encoder!r} of learner 'frozen_features' must be a callable from raw rows to numbers "
                "[n, n_features], or its import path 'package.module:function'."
            )
        return found  # type: ignore[no-any-return]

    def _check(self) -> None:
        for name in ("C", "alpha"):
            am.check_real(name, getattr(self, name), above=0, of="learner 'frozen_features'")
        am.check_bool("normalize", self.normalize, of="learner 'frozen_features'")
        if not isinstance(self.backbone, (str, am.Backbone, nn.Module)):
            raise am.InvalidParameter(
                f"backbone={self.backbone!r} of learner 'frozen_features' must be a torch.nn.Module, a backbone or its "
                "name; a function of raw rows belongs to encoder=..."
            )

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the penalty, and whether features have length 1."""
        normalize = trial.suggest_categorical("normalize", [False, True])
        if info.problem_record.has_classes:
            return cls(normalize=normalize, C=trial.suggest_float("C", 1e-3, 1e3, log=True))
        return cls(normalize=normalize, alpha=trial.suggest_float("alpha", 1e-3, 1e3, log=True))
