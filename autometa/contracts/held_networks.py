"""Networks that components hold in their parameters: copied with them, pickled with them, or refused by name."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from autometa.errors import InvalidParameter

_COMPUTES_WEIGHTS = (WeightNorm, SpectralNorm)


class HoldsNetworks(BaseEstimator):
    """What has parameters, some of which may be networks."""

    def __sklearn_clone__(self) -> Self:
        for name, value in self.get_params(deep=False).items():
            if isinstance(value, nn.Module):
                check_weights(value, f"{name}={type(value).__name__}")
        return super().__sklearn_clone__()  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        for value in vars(self).values():
            if isinstance(value, nn.Module):
                let_pickle(value)
        return super().__getstate__()  # type: ignore[no-any-return]


def check_weights(network: nn.Module, whose: str) -> None:
    """Refuse weights that are computed but kept as attributes, which torch cannot copy.

    Raises
    ------
    InvalidParameter
    """
    for place, layer in network.named_modules():
        kept = {name: value for name, value in vars(layer).items() if isinstance(value, Tensor)}
        computed = [name for name, value in kept.items() if value.grad_fn is not None]
        computed += [hook.name for hook in layer._forward_pre_hooks.values() if isinstance(hook, _COMPUTES_WEIGHTS)]
        if computed:
            raise InvalidParameter(
                f"{whose} cannot be copied: {computed[0]!r} of its layer {place!r} is computed from other weights and "
                "kept as an attribute. Where torch.nn.utils.weight_norm or spectral_norm does so, use those of "
                "torch.nn.utils.parametrizations."
            )


def let_pickle(network: nn.Module) -> None:
    """Let pickle take layers whose weights torch's parametrizations compute, which torch leaves to state_dict."""
    for layer in network.modules():
        if parametrize.is_parametrized(layer):
            type(layer).__reduce_ex__ = _reduced  # type: ignore[method-assign,assignment]  # a class of this layer alone


def _reduced(layer: nn.Module, protocol: int) -> tuple[Any, ...]:
    plain: Any = parametrize.type_before_parametrizations(layer)
    state = dict(plain.__getstate__(layer))
    hooks = state["_load_state_dict_pre_hooks"]
    # That of torch's own, which reads weights of the older weight_norm, is a function that pickle cannot find.
    kept = {key: hook for key, hook in hooks.items() if hook.hook.__module__ != parametrizations.__name__}
    return _bare, (plain,), state | {"_load_state_dict_pre_hooks": type(hooks)(kept)}, None, None, _restore


def _bare(plain: type[nn.Module]) -> nn.Module:
    return plain.__new__(plain)


def _restore(layer: Any, state: dict[str, Any]) -> None:
    """Give a layer what it had, and the class by which its weights are computed."""
    layer.__setstate__(state)
    parametrize._inject_new_class(layer)
    for name in layer.parametrizations:
        parametrize._inject_property(layer, name)
