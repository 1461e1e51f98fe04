"""Bundled plugin: learners whose network reads the support set as part of its input."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterable[am.LearnerSpec]:
    """Offer the model-based learners."""
    yield am.LearnerSpec(
        name="in_context",
        factory="autometa_plugins.model.in_context:InContext",
        family="model",
        problems=frozenset({"classification", "regression"}),
        summary="A transformer that reads the support set and predicts: adaptation is one forward pass.",
        reference="Müller et al. 2022, Transformers Can Do Bayesian Inference, section 3; "
        "Vinyals et al. 2016, Matching Networks for One Shot Learning, eq. 1 (read-out of classes)",
    )
    yield am.LearnerSpec(
        name="cnp",
        factory="autometa_plugins.model.cnp:CNP",
        family="model",
        problems=frozenset({"regression"}),
        summary="Neural process: one mean over the encoded support; predicts mean and deviation.",
        reference="Garnelo et al. 2018, Conditional Neural Processes, section 2.1",
    )
    yield am.LearnerSpec(
        name="anp",
        factory="autometa_plugins.model.anp:ANP",
        family="model",
        problems=frozenset({"regression"}),
        summary="Neural process whose queries attend to the support; predicts mean and deviation.",
        reference="Kim et al. 2019, Attentive Neural Processes, section 3.1; without latent as in Lee et al. 2020",
    )
    yield am.LearnerSpec(
        name="tnp",
        factory="autometa_plugins.model.tnp:TNP",
        family="model",
        problems=frozenset({"regression"}),
        summary="Neural process as a transformer over the support; predicts mean and deviation.",
        reference="Nguyen and Grover 2022, Transformer Neural Processes, section 3.2 (TNP-D)",
    )
    yield am.LearnerSpec(
        name="lstm",
        factory="autometa_plugins.model.recurrent:LSTM",
        family="model",
        problems=frozenset({"classification", "regression"}),
        summary="An LSTM reads the support set, each label one step late; its state is what it learned.",
        reference="Hochreiter et al. 2001, Learning to Learn Using Gradient Descent; "
        "Santoro et al. 2016, Meta-Learning with Memory-Augmented Neural Networks, section 2 (protocol)",
    )
    yield am.LearnerSpec(
        name="gru",
        factory="autometa_plugins.model.recurrent:GRU",
        family="model",
        problems=frozenset({"classification", "regression"}),
        summary="A GRU reads the support set, each label one step late; its state is what it learned.",
        reference="Hochreiter et al. 2001, Learning to Learn Using Gradient Descent; "
        "Santoro et al. 2016, Meta-Learning with Memory-Augmented Neural Networks, section 2 (protocol)",
    )
    yield am.LearnerSpec(
        name="mann",
        factory="autometa_plugins.model.mann:MANN",
        family="model",
        problems=frozenset({"classification", "regression"}),
        summary="An LSTM writes what it reads to the least used slots of a memory and looks it up by content.",
        reference="Santoro et al. 2016, Meta-Learning with Memory-Augmented Neural Networks, section 3",
    )
    yield am.LearnerSpec(
        name="snail",
        factory="autometa_plugins.model.snail:SNAIL",
        family="model",
        problems=frozenset({"classification", "regression"}),
        summary="Causal convolutions and causal attention read the support set.",
        reference="Mishra et al. 2018, A Simple Neural Attentive Meta-Learner, section 3",
    )
    yield am.LearnerSpec(
        name="plastic",
        factory="autometa_plugins.model.plastic:Plastic",
        family="model",
        problems=frozenset({"classification", "regression"}),
        summary="A recurrent network whose fast Hebbian weights learn while it reads, by a strength it computes.",
        reference="Miconi et al. 2019, Backpropamine, section 3.1; "
        "Ba et al. 2016, Using Fast Weights to Attend to the Recent Past, section 3",
    )
    yield am.LearnerSpec(
        name="meta_lstm",
        factory="autometa_plugins.model.meta_lstm:MetaLSTM",
        family="model",
        problems=frozenset({"classification", "regression"}),
        summary="An LSTM that trains another network, whose parameters are its cell state.",
        reference="Ravi & Larochelle 2017, Optimization as a Model for Few-Shot Learning, section 3",
    )
    yield am.LearnerSpec(
        name="meta_networks",
        factory="autometa_plugins.model.meta_networks:MetaNetworks",
        family="model",
        problems=frozenset({"classification", "regression"}),
        summary="Fast weights beside slow ones, made from the gradients of the support set and kept in a memory.",
        reference="Munkhdalai & Yu 2017, Meta Networks, section 3 and algorithm 1",
    )
