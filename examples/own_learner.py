"""A learner in one file, judged against bundled ones: the nearest support example decides."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import autometa as am


class Nearest(am.Learner):
    """The class of the nearest support example, in the feature space of a meta-trained backbone.

    Parameters
    ----------
    backbone : str or Backbone, default="auto"
        Network from inputs to features.
    """

    def __init__(self, backbone: str | am.Backbone = "auto") -> None:
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        return am.build_backbone(self.backbone, info.input_shape)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        return {"features": am.apply_per_task(module, support.x), "classes": support.one_hot()}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        squares = torch.cdist(am.apply_per_task(module, x), adapted["features"]).square()
        weights = (-squares).softmax(dim=-1)  # soft, so that meta-training has a gradient
        return (weights @ adapted["classes"]).clamp(min=1e-6).log()


def compare() -> Any:
    return am.compare(
        {"letters": am.make_tasks("glyphs", size=8, n_way=3, n_shot=1, n_query=5)},
        {"nearest": Nearest(), "prototypical": "prototypical"},
        n_trials=2, max_steps=60, n_test_tasks=100, n_valid_tasks=50, n_seeds=2, device="cpu", verbose=0,
    )  # fmt: skip


def main() -> None:
    comparison = compare()
    print(comparison.leaderboard[["learner", "score", "ci_low", "ci_high"]].round(3).to_string(index=False))
    print("chance 0.333; 'sklearn' has learned nothing from other tasks")


if __name__ == "__main__":
    main()
