"""Pretraining with self-distillation (Tian et al. 2020)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

import autometa as am
from autometa_plugins.transfer.logistic import fit_logistic
from autometa_plugins.transfer.pretraining import n_pretrained_outputs, with_base_labels

if TYPE_CHECKING:
    from optuna import Trial


class Distill(am.Learner):
    """Pretraining with self-distillation, and logistic regression on the features.

    Tian et al. 2020, section 3.2 and 3.3: a network is trained on all base classes; then, ``generations`` times, a
    network of the same kind learns both the labels and its predecessor's predictions. Each network gets an equal part
    of meta-training. A new task gets a logistic regression on features of length 1, fitted to its optimum.

    A generation starts from its predecessor's weights, as the learning rate has already fallen: with new weights,
    short runs on ``glyphs`` lost six points of accuracy.

    Parameters
    ----------
    generations : int, default=1
        Times a network teaches the next; 0 is pretraining alone. The paper has 1 and 2.
    share : float, default=0.5
        Weight of the teacher's predictions, between 0 and 1; the labels have the rest.
    temperature : float, default=4.0
        Divides the logits of teacher and student before they are compared.
    C : float, default=1.0
        Inverse strength of the logistic regression's penalty.
    backbone : str, Backbone, nn.Module or callable, default="auto"

    References
    ----------
    Y. Tian, Y. Wang, D. Krishnan, J. Tenenbaum, P. Isola: Rethinking Few-Shot Image Classification: a Good Embedding
    Is All You Need? ECCV 2020.
    """

    default_meta_optimizer: ClassVar[str | None] = "transfer/pooled"
    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"C"})

    def __init__(
        self,
        *,
        generations: int = 1,
        share: float = 0.5,
        temperature: float = 4.0,
        C: float = 1.0,
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.generations = generations
        self.share = share
        self.temperature = temperature
        self.C = C
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the network, and its teacher in buffers.

        Raises
        ------
        Incompatible
            Targets are real numbers.
        """
        if not info.problem_record.has_classes:
            raise am.Incompatible(
                f"learner 'distill' needs classes; problem={info.problem!r} has none. Try 'fine_tune'."
            )
        self._check()
        network = Classifier(am.build_backbone(self.backbone, info.input_shape), n_pretrained_outputs(info))
        return Generations(network, teaches=self.generations > 0)

    def pooled_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Cross-entropy with the labels; from the second generation on also the divergence from the teacher.

        When a generation is over, its network becomes the teacher of the next.
        """
        assert isinstance(module, Generations)
        generation = min(int(progress * (self.generations + 1)), self.generations)
        module.begin(generation)
        examples = with_base_labels(batch, module.network.head.out_features)
        logits = module.network(examples.x)
        loss = am.task_losses(self, logits, examples).mean()
        if module.teacher is None or not generation:
            return loss
        with torch.no_grad():
            said = (module.teacher(examples.x) / self.temperature).log_softmax(dim=-1)
        heard = (logits / self.temperature).log_softmax(dim=-1)
        apart = functional.kl_div(heard, said, log_target=True, reduction="none").sum(dim=-1)[examples.mask].mean()
        # Squared, as the divergence's gradient shrinks with the temperature's square.
        return (1 - self.share) * loss + self.share * self.temperature**2 * apart

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's regression: ``weight`` [tasks, n_way, n_features], ``bias`` [tasks, n_way]."""
        self._check()
        assert isinstance(module, Generations)
        return fit_logistic(self._features(module, support.x), support, C=self.C)

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Logits of the regression, [tasks, n, n_way]."""
        assert isinstance(module, Generations)
        return am.apply_head(adapted, self._features(module, x))

    @staticmethod
    def _features(module: Generations, x: Tensor) -> Tensor:
        features: Tensor = am.apply_per_task(module.network.backbone, x)
        return functional.normalize(features, dim=-1)

    def _check(self) -> None:
        am.check_int("generations", self.generations, least=0, of="learner 'distill'")
        am.check_real("share", self.share, least=0, most=1, of="learner 'distill'")
        for name in ("temperature", "C"):
            am.check_real(name, getattr(self, name), above=0, of="learner 'distill'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of generations and the penalty."""
        return cls(
            generations=trial.suggest_int("generations", 0, 2),
            C=trial.suggest_float("C", 1e-2, 1e3, log=True),
        )


class Classifier(nn.Module):
    """A backbone and a linear head on it.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    n_outputs : int
    """

    def __init__(self, backbone: nn.Module, n_outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(int(backbone.n_features), n_outputs)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map [tasks, n, *features] to [tasks, n, n_outputs]."""
        return am.apply_head(self.head, am.apply_per_task(self.backbone, x))


class Generations(nn.Module):
    """The network that learns, its teacher, and how many generations there were.

    Parameters
    ----------
    network : Classifier
    teaches : bool
        Whether there will be a teacher.
    """

    generation: Tensor

    def __init__(self, network: Classifier, *, teaches: bool) -> None:
        super().__init__()
        self.network = network
        self.teacher = without_parameters(network) if teaches else None
        self.register_buffer("generation", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def begin(self, generation: int) -> None:
        """Make the network the teacher if this generation has not begun yet."""
        if self.teacher is not None and generation and generation > int(self.generation):
            self.teacher.load_state_dict(self.network.state_dict())
            self.generation.fill_(generation)

    def train(self, mode: bool = True) -> Self:
        """Switch the network; the teacher stays in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self


def without_parameters(network: nn.Module) -> nn.Module:
    """The same network, copied, with buffers for parameters: nothing in it is trained, all of it is saved."""
    twin = copy.deepcopy(network)
    for part in twin.modules():
        for name, value in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, value.detach().clone())
    return twin.eval()
