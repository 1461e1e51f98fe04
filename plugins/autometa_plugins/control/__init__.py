"""Bundled plugin: worlds to act in, and actors that find out which one they are in."""

from __future__ import annotations

from collections.abc import Iterator

import autometa as am

_CONTROL = frozenset({"control"})


@am.hookimpl
def autometa_task_samplers() -> Iterator[am.TaskSamplerSpec]:
    """Offer the distributions of worlds."""
    yield am.TaskSamplerSpec(
        name="bandit",
        factory="autometa_plugins.control.bandit:Bandit",
        problems=_CONTROL,
        summary="Arms that pay by distributions of their own; one episode of pulls, in which to find the best.",
        reference="Duan et al. 2016, section 3.1",
    )
    yield am.TaskSamplerSpec(
        name="gridnavi",
        factory="autometa_plugins.control.gridnavi:GridNavi",
        problems=_CONTROL,
        summary="A hidden goal on a grid: find it in one episode, go straight to it in the next.",
        reference="Zintgraf et al. 2020, VariBAD, section 5.1",
    )
    yield am.TaskSamplerSpec(
        name="dark_room",
        factory="autometa_plugins.control.dark_room:DarkRoom",
        problems=_CONTROL,
        summary="A goal in the dark that pays only who stands on it: search it once, then go straight to it.",
        reference="Laskin et al. 2022, Algorithm distillation; Lee et al. 2023, DPT",
    )
    yield am.TaskSamplerSpec(
        name="maze",
        factory="autometa_plugins.control.maze:Maze",
        problems=_CONTROL,
        summary="A maze seen from within, new in every task: find the goal, then take the shortest way.",
        reference="Duan et al. 2016, section 3.3, for the rewards",
    )
    yield am.TaskSamplerSpec(
        name="navigation_2d",
        factory="autometa_plugins.control.navigation_2d:Navigation2D",
        problems=_CONTROL,
        summary="A goal in the plane that is not seen, with dense or sparse rewards.",
        reference="Finn et al. 2017, MAML, section 5.3; Rakelly et al. 2019, PEARL, section 6.3, for the sparse one",
    )
    yield am.TaskSamplerSpec(
        name="mdp",
        factory="autometa_plugins.control.mdp:MDP",
        problems=_CONTROL,
        summary="A few states and actions: find out where actions lead and what they pay.",
        reference="Duan et al. 2016, section 3.2",
    )
    yield am.TaskSamplerSpec(
        name="cartpole_flip",
        factory="autometa_plugins.control.cartpole_flip:CartPoleFlip",
        problems=_CONTROL,
        summary="A pole to balance on a cart whose sides may be swapped: push, watch, remember.",
        reference="Barto, Sutton & Anderson 1983, for the cart; sides and constants are drawn",
    )
    yield am.TaskSamplerSpec(
        name="cartpole",
        factory="autometa_plugins.control.cartpole:CartPole",
        problems=_CONTROL,
        summary="A pole to balance on a cart; gravity, lengths, masses and force are the task's own.",
        reference="Barto, Sutton & Anderson 1983; Gymnasium's CartPole-v1",
    )
    yield am.TaskSamplerSpec(
        name="pendulum",
        factory="autometa_plugins.control.pendulum:Pendulum",
        problems=_CONTROL,
        summary="A pendulum to swing up; gravity, mass, length and torque are the task's own.",
        reference="Gymnasium's Pendulum-v1",
    )
    yield am.TaskSamplerSpec(
        name="acrobot",
        factory="autometa_plugins.control.acrobot:Acrobot",
        problems=_CONTROL,
        summary="Two links to swing up by the joint between them; masses, lengths and torque are the task's own.",
        reference="Sutton 1996; Gymnasium's Acrobot-v1",
    )
    yield am.TaskSamplerSpec(
        name="gymnasium",
        factory="autometa_plugins.control.gymnasium_tasks:GymnasiumTasks",
        problems=_CONTROL,
        summary="Any registered environment of Gymnasium, with parameters or attributes of the task's own.",
        reference="Towers et al. 2024, Gymnasium",
        needs=("env",),
    )
    yield am.TaskSamplerSpec(
        name="half_cheetah",
        factory="autometa_plugins.control.half_cheetah:HalfCheetah",
        problems=_CONTROL,
        summary="MuJoCo's half-cheetah, which is to run to one side, or at a speed, of the task's own.",
        reference="Finn et al. 2017, MAML, section 5.3; Rakelly et al. 2019, PEARL, section 6.1",
        needs=("task",),
    )


@am.hookimpl
def autometa_learners() -> Iterator[am.LearnerSpec]:
    """Offer the actors."""
    yield am.LearnerSpec(
        name="rl2",
        factory="autometa_plugins.control.rl2:RL2",
        problems=_CONTROL,
        summary="A network that reads what it did and what came of it: its memory is all that it learns.",
        reference="Duan et al. 2016, RL²; Wang et al. 2016, Learning to reinforcement learn",
        family="model",
    )
    yield am.LearnerSpec(
        name="varibad",
        factory="autometa_plugins.control.varibad:VariBAD",
        problems=_CONTROL,
        summary="A network that reads what happened believes something of the world; the policy acts by it.",
        reference="Zintgraf et al. 2020, VariBAD",
        family="model",
    )
    yield am.LearnerSpec(
        name="neuromodulated",
        factory="autometa_plugins.control.neuromodulated:Neuromodulated",
        problems=_CONTROL,
        summary="A network whose connections learn while it acts, as strongly as it computes itself.",
        reference="Miconi et al. 2019, Backpropamine, section 3.1; Miconi et al. 2018, Differentiable plasticity",
        family="model",
    )
    yield am.LearnerSpec(
        name="imitated",
        factory="autometa_plugins.control.imitated:Imitated",
        problems=_CONTROL,
        summary="A network that learned to do what a solver of the tasks would do, by what it saw.",
        reference="Lee et al. 2023, Supervised pretraining can learn in-context reinforcement learning",
        family="model",
    )
    yield am.LearnerSpec(
        name="es_policy",
        factory="autometa_plugins.control.es_policy:ESPolicy",
        problems=_CONTROL,
        summary="A small policy that tries neighbours of its weights, an episode each, and goes on with the best.",
        reference="Song et al. 2020, ES-MAML: Simple Hessian-free meta learning",
        family="optimization",
    )
    yield am.LearnerSpec(
        name="maml_policy",
        factory="autometa_plugins.control.maml_policy:MAMLPolicy",
        problems=_CONTROL,
        summary="A policy that a few steps along its own policy gradient fit to a world.",
        reference="Finn et al. 2017, MAML, section 5.3; Rothfuss et al. 2019, ProMP",
        family="optimization",
    )
    yield am.LearnerSpec(
        name="gittins",
        factory="autometa_plugins.control.gittins:Gittins",
        problems=_CONTROL,
        summary="The best known rule for bandits: the largest finite-horizon Gittins index.",
        reference="Gittins 1979, Bandit processes and dynamic allocation indices",
        family="baseline",
    )
    yield am.LearnerSpec(
        name="thompson",
        factory="autometa_plugins.control.thompson:Thompson",
        problems=_CONTROL,
        summary="Thompson sampling in bandits: every arm as often as it is the best by what is known.",
        reference="Thompson 1933",
        family="baseline",
    )
    yield am.LearnerSpec(
        name="ucb",
        factory="autometa_plugins.control.ucb:UCB",
        problems=_CONTROL,
        summary="Upper confidence bounds in bandits.",
        reference="Auer et al. 2002, Finite-time analysis of the multiarmed bandit problem",
        family="baseline",
    )
    yield am.LearnerSpec(
        name="psrl",
        factory="autometa_plugins.control.psrl:PSRL",
        problems=_CONTROL,
        summary="Posterior sampling in processes of a few states: draw one for an episode, and plan in it.",
        reference="Osband et al. 2013, (More) efficient reinforcement learning via posterior sampling",
        family="baseline",
    )
    yield am.LearnerSpec(
        name="beb",
        factory="autometa_plugins.control.beb:BEB",
        problems=_CONTROL,
        summary="Plan in the mean of what is believed of a process, with a bonus for what was little tried.",
        reference="Kolter & Ng 2009, Near-Bayesian exploration in polynomial time",
        family="baseline",
    )
    yield am.LearnerSpec(
        name="multitask_policy",
        factory="autometa_plugins.control.multitask_policy:MultitaskPolicy",
        problems=_CONTROL,
        summary="One policy for all worlds, which learns nothing of a new one.",
        reference="Schulman et al. 2017, Proximal policy optimization",
        family="baseline",
    )
    yield am.LearnerSpec(
        name="fine_tuned_policy",
        factory="autometa_plugins.control.fine_tuned_policy:FineTunedPolicy",
        problems=_CONTROL,
        summary="One policy for all worlds, trained further in the new one.",
        reference="Finn et al. 2017, MAML, section 5.3 (pretrained)",
        family="baseline",
    )
    yield am.LearnerSpec(
        name="scratch",
        factory="autometa_plugins.control.scratch:Scratch",
        problems=_CONTROL,
        summary="PPO in the new world alone, from an untrained network.",
        reference="Schulman et al. 2017, Proximal policy optimization",
        family="baseline",
    )
    yield am.LearnerSpec(
        name="random",
        factory="autometa_plugins.control.random_actor:RandomActor",
        problems=_CONTROL,
        summary="Every action with the same probability: what any actor must beat.",
        family="baseline",
    )


@am.hookimpl
def autometa_meta_optimizers() -> Iterator[am.MetaOptimizerSpec]:
    """Offer what improves a policy: by what it got, or by what it should have done."""
    yield am.MetaOptimizerSpec(
        name="imitation",
        factory="autometa_plugins.control.imitation:Imitation",
        problems=_CONTROL,
        summary="Learn from an adviser what should have been done in the learner's own trials.",
        reference="Ross et al. 2011, DAgger",
    )
    yield am.MetaOptimizerSpec(
        name="policy_gradient",
        factory="autometa_plugins.control.policy_gradient:PolicyGradient",
        problems=_CONTROL,
        summary="Proximal policy optimization over whole trials.",
        reference="Schulman et al. 2017, Proximal policy optimization; Schulman et al. 2016 for the advantages",
    )
    yield am.MetaOptimizerSpec(
        name="promp",
        factory="autometa_plugins.control.promp:ProMP",
        problems=_CONTROL,
        summary="Proximal policy optimization of what adaptation starts from, differentiated through it.",
        reference="Rothfuss et al. 2019, ProMP: Proximal meta-policy search",
    )
