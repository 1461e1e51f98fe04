"""The estimator for control: explores a new environment, learns it, and acts."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from autometa.checks import check_int
from autometa.contracts.environments import Environments
from autometa.contracts.experience import Experience, Transition
from autometa.contracts.keys import draw_keys, uniform
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskInfo, TaskSampler
from autometa.engine.collecting import collect
from autometa.engine.device import pick_device, pick_dtype, place_of
from autometa.errors import Incompatible, InvalidData, InvalidParameter, warn_user
from autometa.estimators.adaptation_curve import adaptation_curve
from autometa.estimators.agent_steps import held_in, observations_in, restarted
from autometa.estimators.given_environments import GivenEnvironments
from autometa.estimators.given_experience import checked_experience
from autometa.estimators.meta_estimator import MetaEstimator
from autometa.estimators.state import Fitted, MetaTrained, map_tensors
from autometa.estimators.watched import watched
from autometa.host import make_tasks


class MetaAgent(MetaEstimator):
    """Meta-reinforcement learning: learns from many worlds how to explore, learn and master a new one.

    :meth:`meta_fit` meta-trains on a distribution of worlds; after it, :meth:`fit` explores one new environment for a
    few episodes, and :meth:`predict` acts in it. What an agent learned of an environment is its memory, which stays
    until the next :meth:`fit`.

    Parameters
    ----------
    learner : str or Actor, default="auto"
        The actor: a name ('autometa plugins' lists all) or an object; "auto" is "rl2".
    meta_optimizer : str or MetaOptimizer, default="auto"
        How meta-training improves it; "auto" is the actor's own default.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        Network from observations to features. "auto": conv4 for images; vectors are read as they are.
    max_steps : int, default=200
        Outer steps of meta-training, at least 0.
    tasks_per_step : int, default=16
        Least number of worlds of each outer step; "policy_gradient" draws more.
    device : str or torch.device, default="auto"
        "auto" takes the accelerator torch finds, else the CPU.
    precision : {"auto", "32", "64"}, default="auto"
        Bits of a number; "auto" is 32.
    random_state : int, RandomState or None, default=None
        Decides the initial network, the worlds drawn and the actions chosen.
    verbose : int, default=0
        Above 0, :meth:`meta_fit` shows a progress bar.
    n_devices : int, default=1
        Devices that share the worlds of every step, where the meta-optimizer can.

    Attributes
    ----------
    learner_, meta_optimizer_, module_, task_info_
        What was used: actor, meta-optimizer, network and the description of the worlds.
    history_ : pandas.DataFrame
        One row per outer step: ``step``, ``seconds``, ``loss``, ``environment_steps``, the return of every episode.
    returns_ : ndarray of shape [n_environments, episodes]
        Returns of the episodes in which :meth:`fit` explored.
    policy_, value_
        Networks from the features of the memory to actions, and to expected returns in the units of rewards.

    Examples
    --------
    >>> import autometa as am
    >>> tasks = am.make_tasks("bandit", arms=2, pulls=5)
    >>> agent = am.MetaAgent("rl2", max_steps=2, device="cpu", random_state=0).meta_fit(tasks)
    >>> agent.adaptation_curve(tasks, n_tasks=10).columns.tolist()
    ['task', 'episode', 'return', 'normalised']
    >>> agent.fit(tasks.sample(1, split="test", seed=0), episodes=1).returns_.shape
    (1, 1)
    """

    problem: ClassVar[str] = "control"

    def __init__(
        self,
        learner: Any = "auto",
        meta_optimizer: Any = "auto",
        backbone: Any = "auto",
        max_steps: int = 200,
        tasks_per_step: int = 16,
        device: str | torch.device = "auto",
        precision: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        n_devices: int = 1,
    ) -> None:
        super().__init__(
            learner=learner,
            meta_optimizer=meta_optimizer,
            backbone=backbone,
            max_steps=max_steps,
            tasks_per_step=tasks_per_step,
            device=device,
            precision=precision,
            random_state=random_state,
            verbose=verbose,
            n_devices=n_devices,
        )

    # ---------------------------------------------------------------- one environment

    def fit(self, env: Any = None, *, episodes: int = 2, transitions: Experience | None = None) -> Self:
        """Explore an environment for a few episodes, and remember it; what was known of another one is forgotten.

        Here and in :meth:`score`, an episode ends after as many steps as in meta-training (``task_info_.horizon``).

        Parameters
        ----------
        env : gymnasium.Env, gymnasium.vector.VectorEnv or Environments
            With Box or Discrete observations and actions of the shapes of meta-training. Of several environments each
            is learned by itself.
        episodes : int, default=2
            Episodes in each; 0 forgets all.
        transitions : Experience, optional
            Learn from what happened elsewhere instead of acting, for one environment or several. Learners that take
            policy gradients in them divide by the probabilities of the actions, and refuse transitions of which these
            are not known (``log_prob`` is NaN), such as demonstrations.

        Returns
        -------
        self

        Raises
        ------
        NotFittedError
            There was no :meth:`meta_fit`.
        InvalidParameter, Incompatible, InvalidData
            The environment is none, is of other shapes, or shows what is no number; or the learner needs to know the
            probabilities of transitions.
        """
        self._check_meta_trained()
        check_int("episodes", episodes, least=0)
        if (env is None) == (transitions is None):
            raise InvalidParameter("fit takes either env or transitions.")
        meta: MetaTrained = self._meta
        learner, device, dtype = self._learner_now(), pick_device(self.device), pick_dtype(self.precision)
        if transitions is not None:
            if not learner.learns_from_others:
                raise Incompatible(
                    f"{type(learner).__name__} learns from what it tried itself; explore with fit(env, episodes=...)."
                )
            transitions = checked_experience(transitions, meta.info, device, dtype)
        module = copy.deepcopy(meta.module).to(device=device, dtype=dtype)
        seed = self._seed()
        with torch.no_grad():
            if transitions is not None:
                seen = transitions.zero_padded()
                memory = learner.along(module, seen)[1]
                n_episodes = int(seen.episode[seen.mask].max()) + 1
            else:
                environments, n_episodes = self._environments(env, seed).to(device, dtype), int(episodes)
                memory = learner.start(module, len(environments))
                if n_episodes:
                    seen, memory = collect(
                        learner,
                        module,
                        environments,
                        n_episodes=n_episodes,
                        horizon=meta.info.horizon,
                        n_shot=n_episodes,
                    )
        self._hold(
            Fitted(
                learner=learner,
                module=module,
                info=meta.info,
                adapted=map_tensors(lambda t: t.detach().clone(memory_format=torch.contiguous_format), memory),
                present=None,
                columns=None,
                encoder=None,
                targets=None,
                seed=seed,
                device=device,
                dtype=dtype,
            )
        )
        n_tasks = len(environments) if transitions is None else len(transitions)
        self.returns_ = seen.returns(n_episodes).cpu().numpy() if n_episodes else np.zeros((n_tasks, 0))
        return self

    def predict(
        self,
        observation: Any,
        state: tuple[Any, ...] | None = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[Any, ...]]:
        """Choose actions, by the protocol of Stable-Baselines3's policies.

        That protocol tells no rewards: an episode of which nothing was told starts again from what :meth:`fit`
        remembered. :meth:`watch` tells them.

        Parameters
        ----------
        observation : array of shape [*observation] or [n, *observation]
            Of one environment, or of several.
        state : tuple, optional
            What the call before returned. None begins anew from what :meth:`fit` remembered; an agent that gets None in
            every call forgets each step, and warns.
        episode_start : array of shape [n], bool, optional
            Where an episode begins with this observation.
        deterministic : bool, default=False
            Choose the most probable action. :meth:`score` draws actions or not as the learner was judged.

        Returns
        -------
        actions : ndarray of shape [] or [n], or [..., n_outputs] for real actions
        state : tuple
            To be handed to the next call.
        """
        fitted = self._knowing()
        info = fitted.info
        n_starts = None if episode_start is None else np.size(episode_start)
        array, single = observations_in(observation, info.input_shape, n_starts)
        seen = torch.as_tensor(array, dtype=fitted.dtype, device=fitted.device)
        held = self._begun(len(seen), episode_start) if state is None else held_in(state, len(seen))
        starts = np.zeros(len(seen), bool) if episode_start is None else np.asarray(episode_start, bool).reshape(-1)
        if len(starts) != len(seen):
            raise InvalidData(f"episode_start has {len(starts)} values for {len(seen)} observations.")
        with torch.no_grad():
            memory = self._informed(fitted, held, seen, torch.as_tensor(starts, device=fitted.device))
            decision, memory = fitted.learner.act(fitted.module, memory, seen)
            policy = decision.policy
            key = draw_keys(len(seen), fitted.seed, "predict").to(fitted.device)
            noise = uniform(key, held["time"], "act", policy.n_noise).to(policy[0])
            action = policy.mode if deterministic else policy.draw(noise)
        after = {"memory": memory, "action": action, "seen": seen, "time": held["time"] + 1}
        if info.action_bounds is not None:
            low, high = torch.as_tensor(info.action_bounds).to(action)
            action = action.clamp(low, high)
        actions = action.cpu().numpy()
        return (actions[0] if single else actions), (after,)

    def watch(self, env: Any) -> Any:
        """Wrap an environment so that :meth:`predict` gets to know its rewards, which its protocol does not tell.

        For worlds in which there is nothing to learn but from the rewards of the episode itself, such as bandits. One
        environment is watched at a time: the one watched last.

        Parameters
        ----------
        env : gymnasium.Env or gymnasium.vector.VectorEnv

        Returns
        -------
        gymnasium.Wrapper or gymnasium.vector.VectorWrapper
        """
        self._told_rewards: Any = None

        def tell(reward: Any) -> None:
            self._told_rewards = np.asarray(reward, dtype=np.float64).reshape(-1)

        return watched(env, tell)

    def score(self, env: Any, *, episodes: int = 10) -> float:
        """Mean return of some more episodes; what is learned in them is forgotten again.

        Parameters
        ----------
        env : gymnasium.Env, gymnasium.vector.VectorEnv or Environments
            The one that was fitted, or a number of them, as many as were fitted.
        episodes : int, default=10

        Returns
        -------
        float
        """
        check_int("episodes", episodes)
        fitted = self._knowing()
        environments = self._environments(env, derive_seed(fitted.seed, "score")).to(fitted.device, fitted.dtype)
        environments = environments.with_key(draw_keys(len(environments), fitted.seed, "score").to(fitted.device))
        with torch.no_grad():
            seen, _ = collect(
                fitted.learner,
                fitted.module,
                environments,
                n_episodes=episodes,
                horizon=fitted.info.horizon,
                memory=self._memory_of(fitted, len(environments)),
                greedy=fitted.learner.greedy,
                n_shot=0,
            )
        return float(seen.returns(episodes).mean())

    # ---------------------------------------------------------------- many worlds

    def adaptation_curve(self, tasks: Any, *, n_tasks: int = 1000, seed: int = 0) -> pd.DataFrame:
        """Return of every episode of trials in held-out worlds; of a learner that adapts in rounds, after each round.

        Parameters
        ----------
        tasks : TaskSampler or str
            Of the shapes of meta-training.
        n_tasks : int, default=1000
        seed : int, default=0

        Returns
        -------
        pandas.DataFrame
            ``task``, ``episode`` (from 1, those to adapt in first), ``return``, and ``normalised``: what it is above a
            random actor's in this world, where 1 is as much as the best of who knows it is above on average; so its
            mean is 0 for acting at random and 1 for the best. NaN where these are not known. Of a learner that adapts
            in rounds, ``episode`` k holds the mean of the judged episodes after k rounds, 0 before any.
        """
        self._check_meta_trained()
        check_int("n_tasks", n_tasks)
        check_int("seed", seed, least=0)
        sampler, meta = make_tasks(tasks), self._meta
        self._check_shapes(sampler.info)
        return adaptation_curve(self._learner_now(), meta.module, sampler, n_tasks=n_tasks, seed=seed)

    @property
    def policy_(self) -> Any:
        """The network from features of the memory to what is decided."""
        return self._network("policy")

    @property
    def value_(self) -> Any:
        """The network from features of the memory to expected returns."""
        return self._network("value")

    def _network(self, name: str) -> Any:
        self._check_meta_trained()
        module = self.module_
        if module is None or not hasattr(module, name):
            raise AttributeError(f"{type(self).__name__} has no {name}_: {type(module).__name__} has no {name}.")
        return getattr(module, name)

    # ---------------------------------------------------------------- parts

    def _sampler(self, tasks: Any, y: Any, task: Any, **options: Any) -> TaskSampler:
        if y is not None or task is not None:
            raise Incompatible(
                "y and task are of a table, and MetaAgent learns in worlds; give meta_fit their sampler."
            )
        if isinstance(tasks, Environments | list | tuple) or hasattr(tasks, "step"):
            raise InvalidParameter(
                f"tasks={type(tasks).__name__} is no distribution of worlds; give a task sampler or its name. Those of "
                "an environment of Gymnasium are make_tasks('gymnasium', env='CartPole-v1', vary={'gravity': (5, 15)}, "
                "n_shot=1)."
            )
        return super()._sampler(tasks, y, task, **options)

    def _check_meta_trained(self) -> None:
        check_is_fitted(self, "_meta", msg="This %(name)s has met no worlds yet; call meta_fit first.")

    def _answers_without_rows(self) -> bool:
        return hasattr(self, "_meta")

    def _hold(self, fitted: Fitted) -> None:
        self._fitted = fitted
        self.learner_, self.module_, self.task_info_ = fitted.learner, fitted.module, fitted.info

    def _environments(self, env: Any, seed: int) -> Environments:
        if isinstance(env, str | TaskSampler | list | tuple | type):
            raise InvalidParameter(
                f"env={env!r:.80} is no environment. Give one of Gymnasium, as gymnasium.make() makes it, a vector of "
                "them, as gymnasium.make_vec() does, or worlds that a task sampler draws: tasks.sample(1, "
                "split='test', seed=0)."
            )
        if not isinstance(env, Environments):
            return GivenEnvironments(env, self._meta.info, seed)
        self._check_shapes(env.info)
        return env

    def _check_shapes(self, info: TaskInfo) -> None:
        """Refuse environments of other shapes than were met in meta-training."""
        for name in ("problem", "n_outputs", "action_bounds", "input_shape"):
            ours, theirs = getattr(self._meta.info, name), getattr(info, name)
            if ours != theirs:
                raise Incompatible(f"{name} of the environments is {theirs}, and the agent was meta-trained on {ours}.")

    def _knowing(self) -> Fitted:
        """Return what ``fit`` learned; an agent that has met no environment knows what all have in common."""
        self._check_meta_trained()
        if not hasattr(self, "_fitted"):
            meta = self._meta
            device, dtype = place_of(meta.module)
            learner = self._learner_now()
            return Fitted(
                learner=learner,
                module=meta.module,
                info=meta.info,
                adapted=learner.start(meta.module, 1),
                present=None,
                columns=None,
                encoder=None,
                targets=None,
                seed=self._seed(),
                device=device,
                dtype=dtype,
            )
        return self._fitted

    def _memory_of(self, fitted: Fitted, n_tasks: int) -> Any:
        """Return the memory of as many environments; one that was fitted serves any number of copies."""
        sizes: set[int] = set()
        map_tensors(lambda t: sizes.add(len(t)), fitted.adapted)
        if sizes and sizes != {1} and sizes != {n_tasks}:
            raise InvalidParameter(f"fit met {max(sizes)} environments, and there are {n_tasks} to act in.")
        return map_tensors(lambda t: t.expand(n_tasks, *t.shape[1:]) if len(t) == 1 else t, fitted.adapted)

    def _begun(self, n_tasks: int, episode_start: Any) -> dict[str, Any]:
        if episode_start is None and getattr(self, "_without_state", False):
            warn_user(
                "predict() got state=None twice in a row: the agent forgets what it saw in between. Hand in the state "
                "that the call before returned, or episode_start=True where an episode begins."
            )
        self._without_state = True
        self._told_rewards = None
        return {"memory": self._memory_of(self._knowing(), n_tasks), "time": 0}

    def _informed(self, fitted: Fitted, held: dict[str, Any], seen: Tensor, starts: Tensor) -> Any:
        """Return the memory that knows what came of the last action, as far as it was told."""
        memory = held["memory"]
        if "action" not in held:
            return memory
        self._without_state = False
        rewards, self._told_rewards = getattr(self, "_told_rewards", None), None
        told = torch.full_like(starts, rewards is not None)
        reward = torch.zeros(len(seen)) if rewards is None else torch.as_tensor(rewards)
        if len(reward) != len(seen):
            raise InvalidParameter(f"the environment watched pays {len(reward)} rewards for {len(seen)} observations.")
        transition = Transition(
            observation=held["seen"],
            action=held["action"],
            reward=reward.to(seen),
            terminated=starts,
            truncated=torch.zeros_like(starts),
            next_observation=seen,
            told=told,
        )
        after = fitted.learner.observe(fitted.module, memory, transition)
        if rewards is None and bool(starts.any()):  # an episode of which nothing was told has taught nothing
            return restarted(starts, self._memory_of(fitted, len(seen)), after)
        return after
