"""What learners share that are pretrained on all base classes: whose classes count, and which labels say so."""

from __future__ import annotations

import autometa as am


def has_own_classes(info: am.TaskInfo) -> bool:
    """Tell whether every task draws classes of its own, so that a new one needs a new head."""
    return info.problem_record.has_classes and not info.shared_classes


def n_pretrained_outputs(info: am.TaskInfo) -> int:
    """Rows of the pretraining head: base classes, or outputs where they mean the same in every task."""
    return (info.n_base_classes or info.n_outputs) if has_own_classes(info) else info.n_outputs


def with_base_labels(batch: am.TaskBatch, n_classes: int) -> am.Examples:
    """Support and query as one, labels being those of the ``n_classes`` base classes where tasks draw their own."""
    examples = batch.support.join(batch.query)
    if batch.classes is None:
        return examples
    return examples.with_parts(y=batch.classes.gather(1, examples.y), n_classes=n_classes)
