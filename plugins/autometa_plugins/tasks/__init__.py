"""Bundled plugin: task distributions, from synthetic ones that need no data to the user's own tables and images."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_task_samplers() -> Iterable[am.TaskSamplerSpec]:
    """Functions, drawn letters, small digits, Omniglot, folders of images and tables."""
    yield am.TaskSamplerSpec(
        name="sinusoid",
        factory="autometa_plugins.tasks.sinusoid:Sinusoid",
        summary="Sine waves of random amplitude and phase.",
        problems=frozenset({"regression"}),
        reference="Finn et al. 2017, section 5.1",
    )
    yield am.TaskSamplerSpec(
        name="harmonics",
        factory="autometa_plugins.tasks.harmonics:Harmonics",
        summary="Sums of a sine wave and its overtone, each seen through a window of its own.",
        problems=frozenset({"regression"}),
        reference="Lacoste et al. 2018, Uncertainty in Multitask Transfer Learning",
    )
    yield am.TaskSamplerSpec(
        name="linear",
        factory="autometa_plugins.tasks.linear:Linear",
        summary="Linear functions from a Gaussian prior; the best possible score is known.",
        problems=frozenset({"regression"}),
    )
    yield am.TaskSamplerSpec(
        name="gaussian_process",
        factory="autometa_plugins.tasks.gaussian_process:GaussianProcess",
        summary="Functions from Gaussian processes, sizes varied; the best possible likelihood is known.",
        problems=frozenset({"regression"}),
        reference="Lee et al. 2020, Bootstrapping Neural Processes, section 5.1",
    )
    yield am.TaskSamplerSpec(
        name="glyphs",
        factory="autometa_plugins.tasks.glyphs:Glyphs",
        summary="Deformed letters of scripts never seen in meta-training.",
        problems=frozenset({"classification"}),
    )
    yield am.TaskSamplerSpec(
        name="digits",
        factory="autometa_plugins.tasks.digits:Digits",
        summary="scikit-learn's handwritten digits, 8 x 8, digits held out.",
        problems=frozenset({"classification"}),
    )
    yield am.TaskSamplerSpec(
        name="augmented_shot",
        factory="autometa_plugins.tasks.augmented_shot:AugmentedShot",
        retired={"tasks": "glyphs"},
        summary="Long sequences of another sampler's images, each class rotated and each image slightly moved.",
        problems=frozenset({"classification"}),
        reference="Santoro et al. 2016, Meta-Learning with Memory-Augmented Neural Networks, section 4.1",
    )
    yield am.TaskSamplerSpec(
        name="table",
        factory="autometa_plugins.tasks.table:Table",
        summary="Your own table; a column names the task of each row.",
        problems=frozenset({"classification", "regression"}),
        needs=("data", "task", "target"),
    )
    yield am.TaskSamplerSpec(
        name="omniglot",
        factory="autometa_plugins.tasks.omniglot:Omniglot",
        summary="Handwritten characters of fifty alphabets.",
        problems=frozenset({"classification"}),
        reference="Lake et al. 2015; splits of Vinyals et al. 2016, section 4.1",
        needs=("root",),
    )
    yield am.TaskSamplerSpec(
        name="lake_runs",
        factory="autometa_plugins.tasks.lake_runs:LakeRuns",
        summary="Omniglot's own one-shot test: twenty fixed tasks within one alphabet each.",
        problems=frozenset({"classification"}),
        reference="Lake et al. 2015, Human-level concept learning through probabilistic program induction",
        needs=("root",),
    )
    yield am.TaskSamplerSpec(
        name="cifar_fs",
        factory="autometa_plugins.tasks.cifar_fs:CifarFS",
        summary="CIFAR-100 for few-shot learning: small colour photographs of 100 classes.",
        problems=frozenset({"classification"}),
        reference="Bertinetto et al. 2019, section 4.1",
        needs=("root",),
    )
    yield am.TaskSamplerSpec(
        name="images",
        factory="autometa_plugins.tasks.images:Images",
        summary="Your own images; one folder for each class.",
        problems=frozenset({"classification"}),
        needs=("root",),
    )
