"""An environment of Gymnasium that tells its rewards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autometa.errors import InvalidParameter, MissingData


def watched(env: Any, tell: Callable[[Any], None]) -> Any:
    """Return a wrapper of Gymnasium around an environment, or a vector of them, that calls ``tell`` with its rewards.

    Raises
    ------
    MissingData
        Gymnasium is not installed.
    InvalidParameter
        The environment is none of Gymnasium's.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise MissingData("watch() needs the package gymnasium; install autometa with the extra 'control'.") from error
    if not isinstance(env, gymnasium.Env | gymnasium.vector.VectorEnv):
        raise InvalidParameter(
            f"env={type(env).__name__} must be an environment of Gymnasium; in worlds of a sampler, fit and score "
            "tell rewards by themselves."
        )
    is_vector = isinstance(env, gymnasium.vector.VectorEnv)
    base: Any = gymnasium.vector.VectorWrapper if is_vector else gymnasium.Wrapper

    class Watched(base):
        """Tells the reward of every step."""

        def step(self, action: Any) -> Any:
            result = self.env.step(action)
            tell(result[1])
            return result

    return Watched(env)
