"""Few-shot classification as a scikit-learn estimator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from torch import Tensor

from autometa.contracts.row_encoder import RowEncoder
from autometa.errors import InvalidData
from autometa.estimators.base import FewShotEstimator
from autometa.estimators.inputs import has_no_rows, labels_of
from autometa.estimators.state import MetaTrained
from autometa.estimators.table_sampler import take_target
from autometa.tables.text import is_number


class FewShotClassifier(ClassifierMixin, FewShotEstimator):
    """Few-shot classifier: learns from many tasks how to tell new classes apart from a few rows of each.

    :meth:`meta_fit` meta-trains on a task distribution; after it, :meth:`fit` adapts to the support set of one new
    task and :meth:`predict` answers for its queries, with the same code that trained. A task may have any number
    of classes and rows. Without :meth:`meta_fit` the estimator is a plain classifier for tables of any kind of column.
    With ``task``, one :meth:`fit` learns a table and every entity in it.

    What :meth:`meta_fit` learned survives :func:`sklearn.base.clone`, what :meth:`fit` learned does not: a
    meta-trained estimator can be cross-validated, searched over and put into pipelines like any other. Parameters
    that the learner lists as ``adaptation_parameters`` may change after :meth:`meta_fit` and count at the next
    :meth:`fit`.

    Some of scikit-learn's tools number the labels before they hand them on: ``BaggingClassifier``,
    ``VotingClassifier``, ``StackingClassifier``, ``OneVsRestClassifier`` and ``cross_val_predict`` of probabilities.
    After :meth:`meta_fit` on a table, :meth:`fit` takes such numbers as places among the sorted labels of
    meta-training, unless one of them is itself the text of a label ("1"). A learner that predicts classes a support
    set lacks (``predicts_unseen_classes``, such as "sklearn_pooled") answers for all labels of meta-training, whatever
    it was fitted on, and works in these tools only if each fit sees all labels.

    Parameters
    ----------
    learner : str or Learner, default="auto"
        How one task is learned: a name ('autometa plugins' lists all) or an object; "auto" is
        "kernel_experts" without meta-training, "mixed_effects" for the tasks of a table, and "prototypical" for all
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
    classes_ : ndarray of shape [n_classes]
        Labels in the order of the columns of :meth:`predict_proba`: those of the support set. After meta-training on a
        table all of its labels, if :meth:`fit` was given ``task`` or no row, was not called yet, or the learner
        predicts classes that a support set lacks.
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
    >>> tasks = am.make_tasks("digits", n_way=3, n_shot=5)
    >>> classifier = am.FewShotClassifier("prototypical", max_steps=5, device="cpu", random_state=0).meta_fit(tasks)
    >>> new = tasks.sample(1, split="test", seed=0)  # digits never seen
    >>> classifier = classifier.fit(new.support.x[0].numpy(), new.support.y[0].numpy())
    >>> classifier.predict_proba(new.query.x[0].numpy()).shape
    (45, 3)
    """

    problem: ClassVar[str] = "classification"

    def fit(self, X: Any, y: Any, *, task: Any = None, order: Any = None) -> Self:
        """Adapt to the support set of one task; with ``task``, learn a whole table and every entity in it.

        Where labels mean the same in every task (a table), a support set may be of any size: of one class, of one row,
        or of none, whose answer is the population's. So answers :meth:`predict` directly after :meth:`meta_fit`.

        Parameters
        ----------
        X : array-like or DataFrame of shape [n, n_features]
            The raw columns of a table: numbers, categories, dates, missing values; :class:`TableEncoder` tells what
            columns may hold. After :meth:`meta_fit` in the form of the tasks.
            Images may come as [n, channels, height, width], [n, height, width, channels], [n, height, width]
            if they have one channel, or flattened; as array, tensor, DataFrame, or a list of arrays or of images of
            Pillow. Of images, uint8 is divided by 255 and all else taken as it is: other integers in 0 .. 255 are
            outside of the range [0, 1] that most image tasks have, which is an error.
        y : array-like of shape [n] or column name
            Labels, of at least two classes where they mean something else in every task: strings, whole numbers,
            booleans, or dates without a time zone, which come back as datetime64. Anything else is refused, here as in
            :meth:`meta_fit`.
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
            self._fit_without_rows(X, y)
            self.classes_ = self._encoder().classes_
            return self
        meta: MetaTrained | None = getattr(self, "_meta", None)
        rows, encoder = self._support_rows(X)
        y = labels_of(self, X, y)
        if meta is not None and meta.info.shared_classes and meta.encoder is not None:
            return self._fit_shared(rows, y, meta.encoder)
        classes, coded = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise InvalidData(_ONE_CLASS.format(classes.tolist()[0]))
        fitted = self._adapt(rows[None], coded[None], len(classes), encoder=encoder, targets=None)
        self.classes_ = classes
        self._hold(fitted)
        return self

    def _fit_shared(self, rows: NDArray[Any], y: NDArray[Any], encoder: RowEncoder) -> Self:
        """Fit labels that mean the same as in meta-training."""
        learner = self._learner_now()
        recoded = _are_positions(y, encoder.classes_)
        all_seen = len(np.unique(y)) == len(encoder.classes_)
        may_be_others = learner.predicts_unseen_classes and not all_seen
        if recoded and (may_be_others or encoder.classes_.dtype.kind in "iuf"):
            raise InvalidData(
                f"y holds numbers in place of the classes {encoder.classes_.tolist()}. If one of scikit-learn's tools "
                "numbered them, it works after meta_fit on labels 0, 1, ...; where labels are text, also if each fit "
                "sees all of them, or with a learner that answers for the classes at hand alone, which "
                f"{type(learner).__name__} does{' not' if learner.predicts_unseen_classes else ''}."
            )
        coded = y.astype(np.int64) if recoded else encoder.encode_target(y)
        classes = np.arange(len(encoder.classes_)) if recoded else encoder.classes_
        seen = np.unique(coded)
        fitted = self._adapt(rows[None], coded[None], len(classes), targets=None)
        columns = None if learner.predicts_unseen_classes else seen
        self.classes_ = classes if columns is None else classes[columns]
        self._hold(replace(fitted, columns=columns))
        return self

    def _become(self, meta: MetaTrained) -> None:
        super()._become(meta)
        if self._answers_without_rows():
            self.classes_ = self._encoder().classes_

    def _encoder(self) -> RowEncoder:
        assert self._meta.encoder is not None
        return self._meta.encoder

    def _encoded_y(self, X: Any, y: Any) -> NDArray[Any]:
        return self._encoder().encode_target(labels_of(self, X, y))

    def _prior(self, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        if not self._has_population():
            return None
        shares = getattr(self._encoder(), "class_shares_", np.ones(self._meta.info.n_outputs))
        return torch.tensor(np.log(np.maximum(shares, np.finfo(np.float32).tiny)), device=device, dtype=dtype)

    def predict_proba(self, X: Any, *, task: Any = None) -> NDArray[np.float64]:
        """Return the probabilities of the classes, the softmax of the learner's logits.

        Without any row of a task, a learner that knows classes from the support set alone tells their shares in
        meta-training.

        Rows are taken in chunks that bound the memory. With transductive batch norm they influence one another and
        are all seen together.

        Parameters
        ----------
        X : array-like of shape [n, n_features]
        task : array-like of shape [n] or column name, optional
            See :meth:`predict`.

        Returns
        -------
        ndarray of shape [n, n_classes]
            In the order of ``classes_``.
        """
        return softmax(self._outputs(X, task), axis=1)  # type: ignore[no-any-return]

    def predict(self, X: Any, *, task: Any = None) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape [n, n_features]
        task : array-like of shape [n] or column name, optional
            The entity of each row, after ``fit(X, y, task=...)``. Rows of an entity that was not fitted, or of none,
            are answered as the population.

        Returns
        -------
        ndarray of shape [n]
        """
        best = self._outputs(X, task).argmax(axis=1)
        return self.classes_[best]  # type: ignore[no-any-return]

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, task: Any = None) -> float:
        """Return the mean accuracy.

        Parameters
        ----------
        X : array-like of shape [n, n_features]
        y : array-like of shape [n] or column name
            True labels, read as :meth:`fit` reads them.
        sample_weight : array-like of shape [n], optional
        task : array-like of shape [n] or column name, optional
            See :meth:`predict`.

        Returns
        -------
        float
        """
        X, y = take_target(X, y)
        return float(accuracy_score(labels_of(self, X, y), self.predict(X, task=task), sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = self._means_nothing_yet()
        return tags


def _are_positions(y: NDArray[Any], classes: NDArray[Any]) -> bool:
    """Tell whether labels are places in the sorted classes, as scikit-learn's ensembles number those they are given.

    They are whole numbers from 0, at least one of which is no class itself. Where the classes are numbers too, they may
    as well be a mistake. Where the text of a class reads as one of the numbers ("1" and 1), the class may be meant:
    then they are no places.
    """
    if y.dtype.kind not in "iu" or not len(y) or y.min() < 0 or y.max() >= len(classes):
        return False
    given, known = set(y.tolist()), classes.tolist()
    written = {float(label) for label in known if isinstance(label, str) and is_number(label)}
    return not given <= set(known) and given.isdisjoint(written)


_ONE_CLASS = "y holds one class only, {!r}; a classifier needs rows of at least 2 classes."
