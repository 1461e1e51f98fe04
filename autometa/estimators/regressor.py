"""Few-shot regression as a scikit-learn estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from autometa.engine.quantiles import quantiles_of
from autometa.errors import Incompatible, InvalidData, InvalidParameter
from autometa.estimators.asking import Read
from autometa.estimators.base import FewShotEstimator
from autometa.estimators.inputs import has_no_rows, real_targets_of
from autometa.estimators.state import Affine, Fitted, MetaTrained
from autometa.estimators.table_sampler import take_target


class FewShotRegressor(RegressorMixin, FewShotEstimator):
    """Few-shot regressor: learns from many tasks how to predict numbers in a new one from a few rows.

    :meth:`meta_fit` meta-trains on a task distribution; after it, :meth:`fit` adapts to the support set of one new
    task and :meth:`predict` answers for its queries, with the same code that trained. Without :meth:`meta_fit`
    the estimator is a plain regressor for tables of any kind of column. With ``task``, one :meth:`fit` learns a table
    and every entity in it.

    Parameters
    ----------
    learner : str or Learner, default="auto"
        How one task is learned: a name ('autometa plugins' lists all) or an object; "auto" is
        "kernel_experts" without meta-training, "mixed_effects" for the tasks of a table, and "ridge" for all
        others and where those two are not installed.
    meta_optimizer : str or MetaOptimizer, default="auto"
        How meta-training improves the learner's start; "auto" is the learner's own default.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        Network from inputs to features, for learners that have one and do not choose their own. "auto" is "conv4"
        for images and "mlp" otherwise, and "identity" without meta-training. A network of your own is copied with its
        weights, where every training begins; a class or a function is called anew, without arguments.
    max_steps : int, default=1000
        Outer steps of meta-training, at least 0.
    tasks_per_step : int, default=16
        Tasks drawn for each outer step.
    device : str or torch.device, default="auto"
        "auto" takes the accelerator torch finds, else the CPU; the CPU without meta-training.
    precision : {"auto", "32", "64"}, default="auto"
        Bits of a number; "auto" is 32 after meta-training and 64 without.
    random_state : int, RandomState or None, default=None
        Decides the initial network, the tasks drawn and whatever is random in a learner.
    verbose : int, default=0
        Above 0, :meth:`meta_fit` shows a progress bar.
    n_devices : int, default=1
        GPUs, or processes on the CPU, that share the tasks of every step of :meth:`meta_fit`, which must be a
        multiple of it. Above 1 needs the extra ``parallel``. What is learned is the same to rounding, but for batch
        norm, which sees the examples of one device's tasks at a time, and for a learner's own random numbers.

    Attributes
    ----------
    learner_, meta_optimizer_, module_, task_info_
        What was used: learner, meta-optimizer, network and the description of the tasks.
    history_ : pandas.DataFrame
        One row per outer step: ``step``, ``seconds``, ``loss``. After :meth:`meta_fit`.
    n_features_in_ : int
        Number of features, of images the number of their pixels.
    feature_names_in_ : ndarray of str
        Names of the features, where all of them are strings.

    Examples
    --------
    >>> import autometa as am
    >>> tasks = am.make_tasks("sinusoid")
    >>> regressor = am.FewShotRegressor("ridge", max_steps=50, device="cpu", random_state=0).meta_fit(tasks)
    >>> new = tasks.sample(1, split="test", seed=0)  # a sine wave never seen
    >>> regressor = regressor.fit(new.support.x[0].numpy(), new.support.y[0, :, 0].numpy())
    >>> regressor.predict(new.query.x[0].numpy()).shape
    (10,)
    """

    problem: ClassVar[str] = "regression"

    def fit(self, X: Any, y: Any, *, task: Any = None, order: Any = None) -> Self:
        """Adapt to the support set of one task; with ``task``, learn a whole table and every entity in it.

        After :meth:`meta_fit` on a table a support set may be of any size, also of no row, whose answer is the
        population's. So answers :meth:`predict` directly after :meth:`meta_fit`.

        Parameters
        ----------
        X : array-like or DataFrame of shape [n, n_features]
            The raw columns of a table: numbers, categories, dates, missing values; :class:`TableEncoder` tells what
            columns may hold. After :meth:`meta_fit` in the form of the tasks.
            Images may come as [n, channels, height, width], [n, height, width, channels], [n, height, width]
            if they have one channel, or flattened; as array, tensor, DataFrame, or a list of arrays or of images of
            Pillow. Of images, uint8 is divided by 255 and all else taken as it is: other integers in 0 .. 255 are
            outside of the range [0, 1] that most image tasks have, which is an error.
        y : array-like of shape [n] or [n, n_targets], or column name
            Targets in their own units: numbers of any type, Decimals and nullable ones included.
        task : array-like of shape [n] or column name, optional
            The entity (school, patient, machine) of each row. Then this is :meth:`meta_fit` on the rows and one state
            for each entity, from all its rows; :meth:`predict` takes ``task`` too.
        order : array-like of shape [n] or column name, optional
            With ``task``: numbers or dates, by whose earliest rows :meth:`meta_fit` learns to predict the later ones.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            The data cannot be learned from, has another number of features than in meta-training, or a parameter
            changed that was meta-trained otherwise.
        """
        if task is not None or order is not None:
            return self._fit_entities(X, y, task, order)
        X, y = take_target(X, y)
        if self._has_population() and has_no_rows(X):
            return self._fit_without_rows(X, y)
        meta: MetaTrained | None = getattr(self, "_meta", None)
        rows, encoder = self._support_rows(X)
        y = self._real_y(X, y, meta)
        targets = Affine.standardising(y) if meta is None else _scale_of(meta)
        self._hold(self._adapt(rows[None], targets.encode(y)[None], y.shape[1], encoder=encoder, targets=targets))
        return self

    def _encoded_y(self, X: Any, y: Any) -> NDArray[Any]:
        return _scale_of(self._meta).encode(self._real_y(X, y, self._meta))

    def _target_scale(self) -> Affine:
        return _scale_of(self._meta)

    def predict(
        self, X: Any, return_std: bool = False, *, task: Any = None
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predict the targets of queries.

        Rows are taken in chunks that bound the memory. With transductive batch norm they influence one another and
        are all seen together.

        Parameters
        ----------
        X : array-like of shape [n, n_features]
        return_std : bool, default=False
            Return the standard deviation of each new observation as well, as learners with a predictive distribution
            tell it, such as "mixed_effects", "kernel_experts" and "tnp".
        task : array-like of shape [n] or column name, optional
            The entity of each row, after ``fit(X, y, task=...)``. Rows of an entity that was not fitted, or of none,
            are answered as the population.

        Returns
        -------
        mean : ndarray of shape [n], or [n, n_targets] if several were fitted
            In the units of ``y``.
        std : ndarray of the shape of ``mean``
            Only with ``return_std``. After :meth:`meta_fit` times the factor that makes 90% intervals of held-out tasks
            right, see there.

        Raises
        ------
        Incompatible
            ``return_std`` asks for what the learner does not tell.
        """
        if not return_std:
            return self._targets_of(self._outputs(X, task))
        mean, std = self._told(X, task, "return_std=True", _distribution_of)
        return self._targets_of(mean), self._targets_of(self._deviation_scale() * std, is_deviation=True)

    def predict_quantiles(self, X: Any, q: Any, *, task: Any = None) -> NDArray[np.float64]:
        """Predict quantiles of new observations.

        They are the learner's own where it knows its whole distribution, as "pfn" does, and else those of a Gaussian of
        the mean and standard deviation. After :meth:`meta_fit` the distances from the median are multiplied by the
        factor of the standard deviations, see there; the median stays.

        Parameters
        ----------
        X : array-like of shape [n, n_features]
        q : float or array-like of shape [n_quantiles]
            Each between 0 and 1, such as ``[0.05, 0.5, 0.95]``, whose outer two enclose 90% of the observations.
        task : array-like of shape [n] or column name, optional
            See :meth:`predict`.

        Returns
        -------
        ndarray of shape [n, n_quantiles], or [n, n_targets, n_quantiles] if several targets were fitted
            In the units of ``y``.

        Raises
        ------
        InvalidParameter
            A quantile is not between 0 and 1.
        Incompatible
            The learner tells no standard deviation.

        Examples
        --------
        >>> import numpy as np, autometa as am
        >>> X = np.arange(20.0).reshape(-1, 1)
        >>> regressor = am.FewShotRegressor().fit(X, 3 * X[:, 0])
        >>> regressor.predict_quantiles(X, [0.05, 0.5, 0.95]).shape
        (20, 3)
        """
        levels = _levels(q)
        median, *quantiles = self._told(X, task, "predict_quantiles", _Quantiles((0.5, *levels)))
        scale = self._deviation_scale()
        stretched = [self._targets_of(median + scale * (quantile - median)) for quantile in quantiles]
        return np.stack(stretched, axis=-1)

    def _told(self, X: Any, task: Any, asked: str, read: Read) -> tuple[NDArray[np.float64], ...]:
        """Return what a learner with a distribution tells of it, in the units that it learned in."""
        check_is_fitted(self)
        learner = self.learner_
        if "distribution" not in learner.provides:
            raise Incompatible(
                f"{asked}: {learner} predicts numbers without a standard deviation; learners with a "
                "predictive distribution, such as 'tnp', tell one."
            )
        return self._answers(X, task, read)

    def _deviation_scale(self) -> float:
        meta: MetaTrained | None = getattr(self, "_meta", None)
        return 1.0 if meta is None else meta.deviation_scale

    def _targets_of(self, outputs: NDArray[np.float64], *, is_deviation: bool = False) -> NDArray[np.float64]:
        """Convert outputs [n, n_targets] to the user's units; one column becomes [n]."""
        fitted: Fitted | None = getattr(self, "_fitted", None)
        targets = self._target_scale() if fitted is None else fitted.targets
        assert targets is not None
        outputs = outputs * targets.scale if is_deviation else targets.decode(outputs)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, task: Any = None) -> float:
        """Return the coefficient of determination, R².

        Parameters
        ----------
        X : array-like of shape [n, n_features]
        y : array-like of shape [n] or [n, n_targets], or column name
        sample_weight : array-like of shape [n], optional
        task : array-like of shape [n] or column name, optional
            See :meth:`predict`.

        Returns
        -------
        float
        """
        X, y = take_target(X, y)
        return float(r2_score(y, self.predict(X, task=task), sample_weight=sample_weight))

    def _real_y(self, X: Any, y: Any, meta: MetaTrained | None) -> NDArray[np.float64]:
        """Return the targets as numbers [n, n_targets]."""
        real = real_targets_of(self, X, y)
        if meta is not None and real.shape[1] != meta.info.n_outputs:
            raise InvalidData(
                f"y has {real.shape[1]} targets per row; this estimator was meta-trained on {meta.info.n_outputs}."
            )
        return real

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = self._means_nothing_yet()
        return tags


def _levels(q: Any) -> NDArray[np.float64]:
    """Return quantiles as numbers [n_quantiles]."""
    try:
        levels = np.atleast_1d(np.asarray(q, dtype=np.float64))
    except (TypeError, ValueError):
        levels = np.array([np.nan])
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels < 1)).all():
        raise InvalidParameter(f"q={q!r} must be numbers between 0 and 1, such as [0.05, 0.5, 0.95].")
    return levels


def _distribution_of(fitted: Fitted, x: Tensor) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = fitted.learner.predict_distribution(fitted.module, fitted.adapted, x)
    return parts


@dataclass(frozen=True, slots=True)
class _Quantiles:
    """Ask an adapted learner for quantiles."""

    levels: tuple[float, ...]

    def __call__(self, fitted: Fitted, x: Tensor) -> tuple[Tensor, ...]:
        return quantiles_of(fitted.learner, fitted.module, fitted.adapted, x, self.levels).unbind(0)


def _scale_of(meta: MetaTrained) -> Affine:
    """Return the scale between the user's targets and those the learner was meta-trained on."""
    if meta.encoder is not None:
        return Affine(np.array([meta.encoder.target_mean_]), np.array([meta.encoder.target_scale_]))
    return Affine(np.zeros(1), np.array([meta.info.target_scale]))
