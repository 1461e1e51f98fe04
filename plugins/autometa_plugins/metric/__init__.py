"""Bundled plugin: learners that compare examples in a learned feature space."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterable[am.LearnerSpec]:
    """Offer the metric learners."""
    yield am.LearnerSpec(
        name="prototypical",
        factory="autometa_plugins.metric.prototypical:Prototypical",
        family="metric",
        problems=frozenset({"classification"}),
        summary="The nearest class mean in a learned feature space.",
        reference="Snell et al. 2017, Prototypical Networks for Few-shot Learning, eq. 1 and 2",
    )
    yield am.LearnerSpec(
        name="simple_shot",
        factory="autometa_plugins.metric.simple_shot:SimpleShot",
        family="metric",
        problems=frozenset({"classification"}),
        summary="The nearest centroid of pretrained features, centred and normalised.",
        reference="Wang et al. 2019, SimpleShot, section 2 (CL2N)",
    )
    yield am.LearnerSpec(
        name="matching",
        factory="autometa_plugins.metric.matching:Matching",
        family="metric",
        problems=frozenset({"classification"}),
        summary="Attention over the support set by scaled cosines, with full context embeddings on request.",
        reference="Vinyals et al. 2016, Matching Networks for One Shot Learning, eq. 1, appendix A.1 and A.2",
    )
    yield am.LearnerSpec(
        name="relation",
        factory="autometa_plugins.metric.relation:Relation",
        family="metric",
        problems=frozenset({"classification"}),
        summary="A learned comparison of a query's feature map with every class's.",
        reference="Sung et al. 2018, Learning to Compare, section 3",
    )
    yield am.LearnerSpec(
        name="siamese",
        factory="autometa_plugins.metric.siamese:Siamese",
        family="metric",
        problems=frozenset({"classification"}),
        summary="A weighted distance trained to tell pairs of one class from pairs of two.",
        reference="Koch et al. 2015, Siamese Neural Networks for One-shot Image Recognition, section 3",
    )
    yield am.LearnerSpec(
        name="feat",
        factory="autometa_plugins.metric.feat:Feat",
        family="metric",
        problems=frozenset({"classification"}),
        summary="Class means that attend to one another before queries are compared with them.",
        reference="Ye et al. 2020, Few-Shot Learning via Embedding Adaptation with Set-to-Set Functions",
    )
