"""A few-shot task and the answers to its queries as HTML: pictures, a curve, or rows."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from autometa.comparison.report.canvas import Style
from autometa.comparison.report.figures import function_figure
from autometa.comparison.report.markup import escape, table
from autometa.comparison.report.raw_rows import column_names, raw_rows
from autometa.comparison.results.hardest import HardestTasks, HardTask
from autometa.comparison.results.record import Record
from autometa.contracts.examples import TaskBatch
from autometa.sampling.views import examples_of, light_of, view_of

TALLEST = 32
"""Pixels of an image's longer side; larger ones are shrunk."""
MOST_GIVEN, MOST_WRONG = 10, 8
"""Support images, and queries answered wrongly, that are shown of a task."""
MOST_ROWS = 5
"""Support rows, and query rows, that are shown of a task."""


def draw_answers(record: Record, hardest: HardestTasks, task: HardTask, batch: TaskBatch, look: Style) -> str:
    """Draw a task, the first of a batch, with the answers kept."""
    support, query = examples_of(batch.support, 0), examples_of(batch.query, 0)
    names = record.facts.get(hardest.domain.label, {}).get("classes") if batch.support.is_classification else None
    answers = np.asarray(task.answers)
    view = view_of(batch)
    if view == "images":
        return _images(support, query, answers.astype(np.int64), names)
    if view == "function":
        said = "Targets of the support and the query, and the answers"
        drawn = function_figure(_points(*support), _points(*query), answers.astype(np.float64), look, said)
        key = "Crosses: support; dots: the right answers; line: what it answered."
        return f'<figure class="curve"><figcaption>{key}</figcaption>{drawn}</figure>'
    return _rows(support, query, answers, hardest, names)


def _points(x: Tensor, y: Tensor) -> NDArray[np.float64]:
    """Inputs of one number and the first target, [n, 2]."""
    return np.stack([x.double().flatten().numpy(), y.double().reshape(len(y), -1)[:, 0].numpy()], axis=1)


def _images(
    support: tuple[Tensor, Tensor],
    query: tuple[Tensor, Tensor],
    answers: NDArray[np.int64],
    names: Sequence[str] | None,
) -> str:
    """Support images by class, then queries answered wrongly."""
    (given, labels), (asked, right) = support, query
    light = light_of(torch.cat([given, asked]), TALLEST)
    rank = torch.stack([(labels[:place] == labels[place]).sum() for place in range(len(labels))])
    order = np.lexsort((labels.numpy(), rank.numpy()))[:MOST_GIVEN]  # the first of every class, then the second
    order = order[np.lexsort((order, labels.numpy()[order]))]
    shown = "".join(_picture(light[i], class_name(int(labels[i]), names)) for i in order)
    wrong = np.flatnonzero(answers != right.numpy()[: len(answers)])
    missed = "".join(
        _picture(
            light[len(given) + i],
            f"{class_name(int(right[i]), names)}, said {class_name(int(answers[i]), names)}",
        )
        for i in wrong[:MOST_WRONG]
    )
    told = f"{len(wrong)} of {len(answers)} queries answered wrongly"
    told += f", the first {MOST_WRONG}" if len(wrong) > MOST_WRONG else ""
    some = f", {len(order)} of {len(given)} shown" if len(order) < len(given) else ""
    return (
        f'<figure class="pictures"><figcaption>Support{some}</figcaption><div>{shown}</div></figure>'
        f'<figure class="pictures"><figcaption>{told}</figcaption><div>{missed}</div></figure>'
    )


def class_name(number: int, names: Sequence[str] | None) -> str:
    """What a class is called: by its name, else by a letter, or by its number where letters run out."""
    if names is not None and number < len(names):
        return str(names[number])
    return chr(ord("A") + number) if number < 26 else f"class {number}"


def _picture(light: Tensor, label: str) -> str:
    """One image [3, height, width] with its label."""
    pixels = light.permute(1, 2, 0).numpy()
    is_grey = bool((pixels == pixels[:, :, :1]).all())
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if is_grey else pixels).save(buffer, format="PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    said = escape(label)
    return f'<span><img src="data:image/png;base64,{data}" alt="{said}">{said}</span>'


def _rows(
    support: tuple[Tensor, Tensor],
    query: tuple[Tensor, Tensor],
    answers: NDArray[Any],
    hardest: HardestTasks,
    names: Sequence[str] | None,
) -> str:
    """The first support rows, then the queries with the worst answers."""
    encoder = hardest.domain.sampler.encoder
    (given, labels), (asked, right) = support, query
    is_classes = not right.is_floating_point()
    targets = right.reshape(len(right), -1)[: len(answers), 0].double().numpy()
    missed = (answers != targets).astype(np.float64) if is_classes else np.abs(answers - targets)
    worst = np.argsort(-missed, kind="stable")[:MOST_ROWS]
    kept = range(min(MOST_ROWS, len(given)))

    def told(value: float) -> str:
        if is_classes:
            return escape(class_name(int(value), names))
        return f"{value * encoder.target_scale_ + encoder.target_mean_ if encoder is not None else value:.4g}"

    body = [
        ["support", *map(escape, row), told(float(labels.reshape(len(labels), -1)[place, 0])), ""]
        for place, row in zip(kept, raw_rows(given[: len(kept)], encoder), strict=True)
    ]
    body += [
        ["query", *map(escape, row), told(float(targets[place])), f"<b>{told(float(answers[place]))}</b>"]
        for place, row in zip(worst, raw_rows(asked[torch.from_numpy(worst)], encoder), strict=True)
    ]
    columns = [("", ""), *((name, "n") for name in column_names(given, encoder)), ("target", "n"), ("answer", "n")]
    caption = (
        f"{len(kept)} of {len(given)} support rows, and the {len(worst)} of {len(answers)} queries with the worst "
        "answers."
    )
    return table(columns, body, caption=caption)
