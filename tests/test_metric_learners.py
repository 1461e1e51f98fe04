"""Metric learners held against their definitions, and what they all have in common."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from autometa_plugins.metric.matching import log_attention_of_classes
from torch import Tensor, nn

import autometa as am
from autometa.contracts.forward import forward
from learning import assert_better, untrained_and_trained
from tiers import first_by_default
from toy_tasks import Haystack

DOUBLE = torch.float64
N_WAY = 3
INFO = am.TaskInfo(problem="classification", input_shape=(5,), n_outputs=N_WAY, n_shot=4, n_query=4, n_base_classes=9)
LEARNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "prototypical": ("prototypical", {}),
    "simple_shot": ("simple_shot", {}),
    "matching": ("matching", {}),
    "matching, full context": ("matching", {"full_context": True, "processing_steps": 2}),
    "relation": ("relation", {}),
    "siamese": ("siamese", {}),
    "feat": ("feat", {}),
}
"""Every learner, and every variant of one that has code of its own, by a name for the test."""


@pytest.fixture(params=LEARNERS)
def learner(request: pytest.FixtureRequest) -> am.Learner:
    name, parameters = LEARNERS[request.param]
    return am.make_learner(name, **parameters)


def build(learner: am.Learner, info: am.TaskInfo = INFO) -> nn.Module:
    """Build θ and move every number of it a little: a constant start would hide mistakes."""
    torch.manual_seed(0)
    module = learner.build(info).to(DOUBLE).eval()
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and "log_" not in name and "running_var" not in name:
            tensor.add_(0.1 * torch.randn_like(tensor))
    return module


def batch_of(n_tasks: int = 4, n_way: int = N_WAY, n_shot: int = 4, n_query: int = 2, seed: int = 0) -> am.TaskBatch:
    """Gaussian clouds, in an order of their own in every task."""
    generator = torch.Generator().manual_seed(seed)
    n = n_way * (n_shot + n_query)
    y = torch.arange(n_way).repeat(n_tasks, n_shot + n_query)
    centres = 2 * torch.randn(n_tasks, n_way, 5, dtype=DOUBLE, generator=generator)
    x = centres.gather(1, y.unsqueeze(-1).expand(-1, -1, 5)) + torch.randn(
        n_tasks, n, 5, dtype=DOUBLE, generator=generator
    )
    classes = torch.rand(n_tasks, 9, generator=generator).argsort(dim=1)[:, :n_way]
    every = am.Examples(x, y)
    shots = n_way * n_shot
    return am.TaskBatch(support=every.select(slice(shots)), query=every.select(slice(shots, None)), classes=classes)


def outputs_of(learner: am.Learner, module: nn.Module, support: am.Examples, x: Tensor) -> Tensor:
    with torch.no_grad():
        return forward(learner, module, support, x)


# All of them


def test_renaming_the_classes_renames_the_outputs(learner: am.Learner) -> None:
    module, batch, new_name = build(learner), batch_of(), torch.tensor([2, 0, 1])
    renamed = am.Examples(batch.support.x, new_name[batch.support.y])
    torch.testing.assert_close(
        outputs_of(learner, module, batch.support, batch.query.x),
        outputs_of(learner, module, renamed, batch.query.x)[..., new_name],
    )


def test_the_order_of_the_support_does_not_matter(learner: am.Learner) -> None:
    module, batch = build(learner), batch_of()
    order = torch.randperm(batch.support.y.shape[1], generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        outputs_of(learner, module, batch.support, batch.query.x),
        outputs_of(learner, module, batch.support.select(order), batch.query.x),
    )


def test_tasks_of_other_lengths_and_fewer_classes_are_learned_as_they_are_alone(learner: am.Learner) -> None:
    module, batch = build(learner), batch_of(n_tasks=3)
    n = batch.support.y.shape[1]
    # In the second task class 2 has no examples left, the third has the first five examples only.
    mask = torch.stack([torch.ones(n, dtype=torch.bool), batch.support.y[1] != 2, torch.arange(n) < 5])
    padded = am.Examples(batch.support.x * mask.unsqueeze(-1), batch.support.y * mask, mask, N_WAY)
    together = outputs_of(learner, module, padded, batch.query.x)
    for task in range(3):
        alone = am.Examples(
            batch.support.x[task : task + 1, mask[task]], batch.support.y[task : task + 1, mask[task]], n_classes=N_WAY
        )
        expected = outputs_of(learner, module, alone, batch.query.x[task : task + 1])
        torch.testing.assert_close(together[task : task + 1], expected)
    assert (together[1].argmax(-1) < 2).all()


def test_a_class_without_examples_gives_no_gradient_that_is_not_finite(learner: am.Learner) -> None:
    module, batch = build(learner), batch_of()
    support = am.Examples(batch.support.x, batch.support.y.clamp(max=1), n_classes=N_WAY)
    query = am.Examples(batch.query.x, batch.query.y.clamp(max=1), n_classes=N_WAY)
    without = am.TaskBatch(support=support, query=query, classes=batch.classes)
    losses = learner.meta_loss(module, without, 0.5)
    losses.sum().backward()
    assert losses.isfinite().all()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


class MetaLoss(nn.Module):
    """The meta-training loss as a function of θ."""

    def __init__(self, learner: am.Learner, theta: nn.Module) -> None:
        super().__init__()
        self.learner, self.theta = learner, theta

    def forward(self, batch: am.TaskBatch) -> Tensor:
        return self.learner.meta_loss(self.theta, batch, 0.5)


@pytest.mark.parametrize("variant", sorted(set(LEARNERS) - {"prototypical", "simple_shot"}))
def test_the_meta_gradient_equals_finite_differences(variant: str) -> None:
    name, parameters = LEARNERS[variant]
    learner = am.make_learner(name, backbone="identity", **parameters)
    whole, batch = MetaLoss(learner, build(learner)), batch_of(n_tasks=2)
    names = [name for name, _ in whole.named_parameters()]

    def loss(*values: Tensor) -> Tensor:
        return torch.func.functional_call(whole, dict(zip(names, values, strict=True)), (batch,))

    assert torch.autograd.gradcheck(loss, tuple(whole.parameters()), fast_mode=True)


def test_any_number_of_classes_may_follow_meta_training(learner: am.Learner) -> None:
    module = build(learner)
    batch = batch_of(n_way=7, n_shot=1)
    logits = outputs_of(learner, module, batch.support, batch.query.x)
    assert logits.shape == (4, 14, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize("learner", first_by_default(1, LEARNERS), indirect=True)
def test_meta_training_learns_what_tells_new_classes_apart(learner: am.Learner) -> None:
    tasks = Haystack()
    learner = learner.set_params(backbone="mlp")
    meta_optimizer = am.make_meta_optimizer(learner.default_meta_optimizer, lr=5e-3)
    before, after = untrained_and_trained(learner, meta_optimizer, tasks, n_steps=200)
    assert_better(after, before + 0.15, tasks.info)


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("simple_shot", "transform", "zl2n"),
        ("simple_shot", "temperature", 0.0),
        ("matching", "scale", 0.0),
        ("matching", "processing_steps", 0),
        ("relation", "hidden_size", 0),
        ("relation", "pooling", "max"),
        ("siamese", "same_share", 1.0),
        ("feat", "temperature", 0.0),
        ("feat", "balance", -0.1),
        ("feat", "dropout", 1.0),
    ],
)
def test_an_impossible_value_is_named(name: str, parameter: str, value: Any) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{parameter}={value!r} of learner '{name}' must"):
        am.make_learner(name, **{parameter: value}).build(INFO)


@pytest.mark.parametrize("name", sorted({name for name, _ in LEARNERS.values()}))
def test_real_targets_are_refused(name: str) -> None:
    info = am.TaskInfo(problem="regression", input_shape=(5,), n_outputs=1, n_shot=4, n_query=4)
    with pytest.raises(am.Incompatible, match=f"learner '{name}' needs classes"):
        am.make_learner(name).build(info)


# SimpleShot


@pytest.mark.parametrize("transform", ["none", "l2", "cl2n"])
def test_simple_shot_takes_distances_to_the_means_of_transformed_features(transform: str) -> None:
    learner = am.make_learner("simple_shot", backbone="identity", transform=transform, temperature=1.0)
    module, batch = build(learner), batch_of()

    def transformed(x: Tensor) -> Tensor:
        x = x - module.mean if transform == "cl2n" else x
        return x if transform == "none" else x / x.norm(dim=-1, keepdim=True)

    logits = outputs_of(learner, module, batch.support, batch.query.x)
    for task in range(len(batch)):
        for way in range(N_WAY):
            centroid = transformed(batch.support.x[task][batch.support.y[task] == way]).mean(0)
            expected = -(transformed(batch.query.x[task]) - centroid).square().sum(-1)
            torch.testing.assert_close(logits[task, :, way], expected)


def test_the_mean_of_base_features_is_followed_in_training_only() -> None:
    learner = am.make_learner("simple_shot", backbone="identity")
    torch.manual_seed(0)
    module, batches = learner.build(INFO).to(DOUBLE), [batch_of(seed=seed) for seed in range(5)]
    assert not module.mean.any()
    for batch in batches:
        learner.pooled_loss(module, batch, 0.5)
    seen = torch.cat([batch.support.join(batch.query).x for batch in batches])
    torch.testing.assert_close(module.mean, seen.flatten(0, 1).mean(0))
    learner.pooled_loss(module.eval(), batch_of(seed=9), 0.5)
    torch.testing.assert_close(module.mean, seen.flatten(0, 1).mean(0))


def test_padded_places_do_not_count_in_the_mean_of_base_features() -> None:
    learner = am.make_learner("simple_shot", backbone="identity")
    module, batch = learner.build(INFO).to(DOUBLE), batch_of()
    mask = torch.arange(batch.support.y.shape[1]) < torch.tensor([[3], [12], [7], [1]])
    support = am.Examples(batch.support.x * mask.unsqueeze(-1), batch.support.y * mask, mask, N_WAY)
    learner.pooled_loss(module, am.TaskBatch(support=support, query=batch.query, classes=batch.classes), 0.5)
    counted = torch.cat([batch.support.x[mask], batch.query.x.flatten(0, 1)])
    torch.testing.assert_close(module.mean, counted.mean(0))


def test_simple_shot_is_pretrained_on_the_global_names_of_the_classes() -> None:
    learner = am.make_learner("simple_shot", backbone="identity")
    module, batch = build(learner), batch_of()
    examples = batch.support.join(batch.query)
    assert batch.classes is not None
    y = batch.classes.gather(1, examples.y)
    expected = nn.functional.cross_entropy(module.head(examples.x).flatten(0, 1), y.flatten())
    torch.testing.assert_close(learner.pooled_loss(module, batch, 0.5), expected)


# Matching networks


@pytest.mark.parametrize("scale", [1.0, 10.0, 1000.0])
def test_matching_gives_a_class_the_attention_of_its_examples(scale: float) -> None:
    learner = am.make_learner("matching", backbone="identity", scale=scale, learn_scale=False)
    module, batch = build(learner), batch_of()
    logits = outputs_of(learner, module, batch.support, batch.query.x)
    assert list(module.parameters()) == []
    for task in range(len(batch)):
        cosines = nn.functional.cosine_similarity(
            batch.query.x[task].unsqueeze(1), batch.support.x[task].unsqueeze(0), dim=-1
        )
        log_attention = (scale * cosines).log_softmax(dim=-1)
        for way in range(N_WAY):
            expected = log_attention[:, batch.support.y[task] == way].logsumexp(dim=-1)
            torch.testing.assert_close(logits[task, :, way], expected)
    torch.testing.assert_close(logits.softmax(-1), logits.exp())


def test_attention_of_classes_has_the_gradient_of_finite_differences() -> None:
    members = nn.functional.one_hot(torch.tensor([[0, 2, 0, 1], [1, 1, 2, 0]]), 3).to(DOUBLE)
    members[1, 3] = 0
    similarities = torch.randn(2, 3, 4, dtype=DOUBLE, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda s: log_attention_of_classes(s, members)[..., 1:], similarities)


def test_a_learned_scale_starts_where_asked_and_is_trained() -> None:
    learner, batch = am.make_learner("matching", backbone="identity", scale=3.0), batch_of()
    fixed = am.make_learner("matching", backbone="identity", scale=3.0, learn_scale=False)
    module = learner.build(INFO).to(DOUBLE)
    torch.testing.assert_close(
        outputs_of(learner, module, batch.support, batch.query.x),
        outputs_of(fixed, fixed.build(INFO), batch.support, batch.query.x),
    )
    learner.meta_loss(module, batch, 0.5).sum().backward()
    assert module.log_scale.grad != 0


def test_full_context_reads_the_support_as_a_bidirectional_lstm_reads_it_sorted() -> None:
    learner = am.make_learner("matching", backbone="identity", full_context=True)
    module, batch = build(learner), batch_of(n_tasks=2)
    context, x = module.context, batch.support.x
    joined = nn.LSTM(5, 5, batch_first=True, bidirectional=True).to(DOUBLE)
    for name, parameter in context.forwards.named_parameters():
        getattr(joined, name).data.copy_(parameter)
        getattr(joined, f"{name}_reverse").data.copy_(getattr(context.backwards, name))
    with torch.no_grad():
        read = context.of_support(x, batch.support.mask)
        for task in range(2):
            order = x[task].mean(-1).argsort()
            states = joined(x[task : task + 1, order])[0][0]
            expected = x[task, order] + states[:, :5] + states[:, 5:]
            torch.testing.assert_close(read[task, order], expected)


def test_full_context_lets_every_support_example_change_what_a_query_is() -> None:
    learner = am.make_learner("matching", backbone="identity", full_context=True)
    module, batch = build(learner), batch_of(n_tasks=1)
    support = batch.support.x.clone().requires_grad_()
    context = module.context
    embedded = context.of_support(support, batch.support.mask)
    queries = context.of_queries(batch.query.x, embedded, batch.support.mask, 3)
    queries[0, 0].square().sum().backward()
    assert (support.grad.abs().sum(-1) > 1e-9).all()


# Relation networks

IMAGES = am.TaskInfo(problem="classification", input_shape=(1, 8, 8), n_outputs=2, n_shot=2, n_query=2)


@pytest.mark.parametrize("pooling", ["mean", "sum"])
def test_relation_compares_every_query_with_the_pooled_features_of_every_class(pooling: str) -> None:
    learner, batch = am.make_learner("relation", pooling=pooling, backbone="identity"), batch_of()
    module = build(learner)
    logits = outputs_of(learner, module, batch.support, batch.query.x)
    with torch.no_grad():
        for task in range(len(batch)):
            for way in range(N_WAY):
                pooled = getattr(batch.support.x[task][batch.support.y[task] == way], pooling)(0)
                for query, x in enumerate(batch.query.x[task]):
                    expected = module.relation(torch.cat([pooled, x]).unsqueeze(0)).squeeze()
                    torch.testing.assert_close(logits[task, query, way], expected)


def test_repeating_every_support_example_changes_nothing_for_relation() -> None:
    learner, batch = am.make_learner("relation", backbone="identity"), batch_of()
    module = build(learner)
    once = outputs_of(learner, module, batch.support, batch.query.x)
    twice = outputs_of(learner, module, batch.support.join(batch.support), batch.query.x)
    torch.testing.assert_close(twice, once)


def test_relation_of_images_joins_maps_along_their_channels() -> None:
    learner = am.make_learner("relation", pooling="sum")
    module = build(learner, IMAGES)
    assert module.feature_shape == (64, 2, 2)
    x, y = torch.rand(2, 4, 1, 8, 8, dtype=DOUBLE), torch.tensor([[0, 1, 1, 0], [1, 0, 0, 1]])
    logits = outputs_of(learner, module, am.Examples(x, y), x)
    with torch.no_grad():
        maps = module.backbone.blocks(x[1])
        joined = torch.cat([maps[1] + maps[2], maps[3]])
        torch.testing.assert_close(logits[1, 3, 0], module.relation(joined.unsqueeze(0)).squeeze())


def test_relation_uses_maps_of_any_backbone_that_has_them_and_vectors_otherwise() -> None:
    pooled = am.make_learner("relation", backbone=am.make_backbone("conv4", n_filters=8))
    assert build(pooled, IMAGES).feature_shape == (8, 1, 1)
    assert build(am.make_learner("relation", backbone="mlp"), IMAGES).feature_shape == (64,)


def test_the_loss_of_relation_is_the_squared_error_of_scores_over_classes_that_are_there() -> None:
    learner = am.make_learner("relation")
    logits = torch.tensor([[[0.0, 2.0, -1.0], [3.0, 0.0, 0.0]], [[1.0, 2.0, 0.0], [-1.0, 0.5, 4.0]]], dtype=DOUBLE)
    logits[1, :, 2] = torch.finfo(DOUBLE).min
    y = torch.tensor([[1, 0], [0, am.IGNORED_CLASS]])
    scores = logits.sigmoid()
    first = (scores[0] - torch.tensor([[0, 1, 0], [1, 0, 0]])).square().mean()
    second = (scores[1, 0, :2] - torch.tensor([1, 0])).square().mean()
    torch.testing.assert_close(learner.loss(logits, y), torch.stack([first, second]))


# Siamese networks


def pair_log_odds(module: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    return module.bias + (module.weight * (a - b).abs()).sum()


def test_siamese_takes_the_mean_log_odds_of_the_examples_of_a_class() -> None:
    learner, batch = am.make_learner("siamese", backbone="identity"), batch_of(n_tasks=2)
    module = build(learner)
    module.weight.data[1] = 0.7  # both signs
    logits = outputs_of(learner, module, batch.support, batch.query.x)
    for task in range(2):
        for way in range(N_WAY):
            members = batch.support.x[task][batch.support.y[task] == way]
            for query, x in enumerate(batch.query.x[task]):
                expected = torch.stack([pair_log_odds(module, x, other) for other in members]).mean()
                torch.testing.assert_close(logits[task, query, way], expected.detach())


def test_an_untrained_siamese_takes_the_class_of_least_mean_city_block_distance() -> None:
    learner, batch = am.make_learner("siamese", backbone="identity"), batch_of()
    logits = outputs_of(learner, learner.build(INFO).to(DOUBLE), batch.support, batch.query.x)
    distances = torch.cdist(batch.query.x, batch.support.x, p=1)
    members = batch.support.one_hot()
    nearest = (distances @ members / members.sum(dim=1, keepdim=True)).argmin(-1)
    assert torch.equal(logits.argmax(-1), nearest)


def test_siamese_is_trained_on_balanced_pairs_and_padded_places_form_none() -> None:
    learner, batch = am.make_learner("siamese", backbone="identity", same_share=0.3), batch_of(n_tasks=2)
    module = build(learner)
    module.weight.data[1] = 0.7
    mask = torch.arange(12) < torch.tensor([[12], [7]])
    support = am.Examples(batch.support.x * mask.unsqueeze(-1), batch.support.y * mask, mask, N_WAY)
    losses = learner.meta_loss(module, am.TaskBatch(support=support, query=batch.query), 0.5)
    for task, n in enumerate((12, 7)):
        by_kind: dict[bool, list[Tensor]] = {True: [], False: []}
        for x, y in zip(batch.query.x[task], batch.query.y[task], strict=True):
            for other, label in zip(support.x[task, :n], support.y[task, :n], strict=True):
                target = torch.tensor(float(y == label), dtype=DOUBLE)
                log_odds = pair_log_odds(module, x, other)
                by_kind[bool(y == label)].append(nn.functional.binary_cross_entropy_with_logits(log_odds, target))
        expected = 0.3 * torch.stack(by_kind[True]).mean() + 0.7 * torch.stack(by_kind[False]).mean()
        torch.testing.assert_close(losses[task], expected)


# FEAT


def test_feat_is_a_prototypical_network_as_long_as_attention_adds_nothing() -> None:
    feat = am.make_learner("feat", backbone="mlp", temperature=2.0)
    prototypical = am.make_learner("prototypical", backbone="mlp", temperature=2.0)
    module, batch = build(feat), batch_of()
    assert not torch.allclose(
        outputs_of(feat, module, batch.support, batch.query.x),
        outputs_of(prototypical, module.backbone, batch.support, batch.query.x),
    )
    nn.init.zeros_(module.out.weight)
    nn.init.zeros_(module.out.bias)
    torch.testing.assert_close(
        outputs_of(feat, module, batch.support, batch.query.x),
        outputs_of(prototypical, module.backbone, batch.support, batch.query.x),
    )


def test_feat_starts_as_a_prototypical_network() -> None:
    torch.manual_seed(0)
    module = am.make_learner("feat").build(INFO).eval()
    features = torch.randn(2, 3, module.backbone.n_features)
    assert torch.equal(module.attend(features, torch.ones(2, 3, 3, dtype=torch.bool)), features)


def test_prototypes_attend_to_the_classes_that_are_there_as_torchs_attention_does() -> None:
    module, batch = build(am.make_learner("feat", backbone="identity")), batch_of(n_tasks=1)
    prototypes = torch.stack([batch.support.x[0][batch.support.y[0] == way].mean(0) for way in range(N_WAY)])[None]
    reference = nn.MultiheadAttention(5, 1, bias=False, batch_first=True).to(DOUBLE)
    reference.in_proj_weight.data.copy_(module.query_key_value.weight)
    reference.out_proj.weight.data.copy_(module.out.weight)
    normed = module.norm(prototypes)
    seen, _ = reference(normed, normed, normed)
    adapted = am.make_learner("feat", backbone="identity").adapt(module, batch.support)["prototypes"]
    torch.testing.assert_close(adapted, prototypes + seen + module.out.bias)


def test_the_contrastive_term_draws_examples_to_the_centre_of_their_own_class() -> None:
    plain, with_term = (am.make_learner("feat", backbone="identity", balance=b) for b in (0.0, 2.0))
    module, batch = build(plain), batch_of(n_tasks=2)
    terms = (with_term.meta_loss(module, batch, 0.5) - plain.meta_loss(module, batch, 0.5)) / 2
    torch.testing.assert_close(plain.meta_loss(module, batch, 0.5), am.query_losses(plain, module, batch))
    examples = batch.support.join(batch.query)
    for task in range(2):
        centres = []
        for way in range(N_WAY):
            members = examples.x[task][examples.y[task] == way].unsqueeze(0)
            everyone = torch.ones(1, members.shape[1], members.shape[1], dtype=torch.bool)
            centres.append(module.attend(members, everyone).mean(dim=1)[0])
        logits = -(examples.x[task].unsqueeze(1) - torch.stack(centres)).square().sum(-1)
        torch.testing.assert_close(terms[task], nn.functional.cross_entropy(logits, examples.y[task]))


# Conv4 with maps


@pytest.mark.parametrize(
    ("n_pools", "feature_shape"), [(4, (8, 1, 1)), (2, (8, 7, 7)), (1, (8, 14, 14)), (0, (8, 28, 28))]
)
def test_conv4_tells_the_shape_of_its_map(n_pools: int, feature_shape: tuple[int, int, int]) -> None:
    module = am.make_backbone("conv4", n_filters=8, n_pools=n_pools).build((1, 28, 28)).eval()
    assert module.feature_shape == feature_shape
    features = module(torch.randn(2, 1, 28, 28))
    assert features.shape == (2, module.n_features)
    assert features.unflatten(1, module.feature_shape).shape == (2, *feature_shape)


@pytest.mark.parametrize("n_pools", [-1, 5, 2.0, True])
def test_an_impossible_number_of_pools_is_named(n_pools: Any) -> None:
    with pytest.raises(am.InvalidParameter, match=f"n_pools={n_pools} of backbone 'conv4' must"):
        am.make_backbone("conv4", n_pools=n_pools).build((1, 28, 28))
