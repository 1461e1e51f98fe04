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
        name="meta_lstm",
        factory="autometa_plugins.model.meta_lstm:MetaLSTM",
        family="model",
        problems=frozenset({"classification", "regression"}),
        summary="An LSTM whose cell state is the parameters of the network that it trains.",
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
