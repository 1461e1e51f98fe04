"""What every backbone must do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.base import clone
from torch import Tensor, nn

from autometa.contracts.backbone import Backbone
from autometa.engine.random_state import seeded
from autometa.errors import AutometaError
from autometa.testing.expectations import expect, expect_close, same_state, untouched_random_state
from autometa.testing.search_checks import check_search_space as check_space

SHAPES = ((6,), (1, 28, 28), (3, 32, 32), (5, 4))
"""Input shapes tried; a backbone must take at least one and refuse the others with an error of ours."""


@dataclass(frozen=True)
class BackboneCase:
    """A backbone and an input shape that it takes."""

    backbone: Backbone
    shape: tuple[int, ...]

    @classmethod
    def of(cls, backbone: Backbone, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> BackboneCase:
        """Find the first shape that is taken.

        Raises
        ------
        AssertionError
            None is.
        """
        refusals = []
        for shape in shapes:
            try:
                clone(backbone).build(shape)
            except AutometaError as error:
                refusals.append(f"{shape}: {error}")
            else:
                return cls(backbone, shape)
        raise AssertionError("the backbone refuses every input shape tried:\n" + "\n".join(refusals))

    def module(self) -> nn.Module:
        """The network in double precision and evaluation mode, built from a fixed seed."""
        with seeded(0):
            module: nn.Module = clone(self.backbone).build(self.shape).double().eval()
        return module

    def x(self, n: int = 5) -> Tensor:
        """Inputs [n, *shape]."""
        return torch.rand(n, *self.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def check_shapes(case: BackboneCase) -> None:
    """[batch, *input_shape] becomes [batch, n_features], finite, of the inputs' type."""
    module = case.module()
    n_features = getattr(module, "n_features", None)
    expect(
        isinstance(n_features, int), f"build() returned a module whose n_features is {n_features!r}, not an integer."
    )
    for n in (1, 5):
        features = module(case.x(n))
        expect(
            features.shape == (n, n_features),
            f"inputs {(n, *case.shape)} became {tuple(features.shape)}, not [batch, n_features] = {(n, n_features)}.",
        )
        expect(
            features.isfinite().all() and features.dtype == torch.float64,
            "features must be finite, of the inputs' type.",
        )


def check_build_is_seeded(case: BackboneCase) -> None:
    """The same torch seed builds the same network."""
    with untouched_random_state("build()"):
        a, b = case.module().state_dict(), case.module().state_dict()
    expect(same_state(a, b), "build() gives another network for the same torch seed.")


def check_gradient_flows(case: BackboneCase) -> None:
    """Every parameter and the inputs get a finite gradient."""
    module, x = case.module().train(), case.x(8).requires_grad_()
    features = module(x)
    weights = torch.rand(features.shape, dtype=features.dtype, generator=torch.Generator().manual_seed(2))
    (features * weights).sum().backward()
    expect(x.grad is not None and x.grad.isfinite().all(), "no finite gradient reaches the inputs.")
    for name, parameter in module.named_parameters():
        expect(
            parameter.grad is not None and parameter.grad.isfinite().all(),
            f"no finite gradient reaches parameter {name!r}.",
        )


def check_examples_are_independent(case: BackboneCase) -> None:
    """In evaluation mode the features of an example do not depend on the examples beside it."""
    module, x = case.module(), case.x()
    with torch.no_grad():
        expect_close(module(x[:1]), module(x)[:1], "features depend on the other examples of the batch")


def check_state_dict_round_trip(case: BackboneCase) -> None:
    """A network of another seed computes the same after loading the state."""
    module, x = case.module(), case.x()
    with seeded(77):
        other = clone(case.backbone).build(case.shape).double().eval()
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        expect_close(other(x), module(x), "a network with the same state_dict computes otherwise")


def check_refuses_by_name(case: BackboneCase) -> None:
    """An input shape that it cannot take is refused with an error of autometa's, not somewhere in torch."""
    for shape in SHAPES:
        try:
            module = clone(case.backbone).build(shape)
        except AutometaError:
            continue
        module.eval()(torch.zeros(2, *shape))


def check_search_space(case: BackboneCase) -> None:
    """Names are constructor parameters, defaults lie inside, and whatever is drawn can be built."""
    for suggested in check_space(case.backbone, case.shape):
        features = BackboneCase(suggested, case.shape).module()(case.x())
        expect(features.isfinite().all(), f"what suggest() drew, {suggested!r}, gives features that are not finite.")


BACKBONE_CHECKS = (
    check_shapes,
    check_build_is_seeded,
    check_gradient_flows,
    check_examples_are_independent,
    check_state_dict_round_trip,
    check_refuses_by_name,
    check_search_space,
)
