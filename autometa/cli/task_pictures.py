"""Drawn tasks as characters on a terminal: images as half blocks or shades, functions as dots, rows as a table."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style
from rich.table import Table
from rich.text import Text
from torch import Tensor

from autometa.contracts.environments import Environments
from autometa.contracts.examples import TaskBatch
from autometa.sampling.views import examples_of, light_of, view_of

TALLEST = 28
"""Pixels of an image's longer side; larger ones are shrunk."""
PLOT = (56, 12)
"""Characters of a plot, across and down."""
SHADES = " .:-=+*#%@"
"""From dark to light."""
ROWS = 8
"""Rows of a table."""


def draw_task(console: Console, batch: TaskBatch | Environments, index: int) -> None:
    """Draw one task of a batch in the way that suits its inputs."""
    if isinstance(batch, Environments):
        _draw_world(console, batch, index)
        return
    support, query = examples_of(batch.support, index), examples_of(batch.query, index)
    view = view_of(batch)
    if view == "images":
        _draw_images(console, "support", *support)
        _draw_images(console, "query", *query)
    elif view == "function":
        _draw_function(console, support, query)
    else:
        _draw_rows(console, *support)


def _draw_world(console: Console, environments: Environments, index: int) -> None:
    """Show a world's picture if it has one, its hidden parameters and the returns that are known of it."""
    picture = environments.picture(index)
    if picture is not None:
        console.print(Text(picture))
    hidden = environments.hidden[index].tolist()
    if hidden and picture is None:
        console.print(f"hidden: {', '.join(f'{value:.3g}' for value in hidden)}", markup=False)
    for name, values in environments.reference.items():
        console.print(f"return of an episode, {name}: {float(values[index]):.3f}", markup=False)


def _draw_images(console: Console, part: str, x: Tensor, y: Tensor) -> None:
    """One line of pictures, as many as the terminal has room for."""
    width = max(1, round(x.shape[3] * min(1.0, TALLEST / max(x.shape[2:]))))
    n_shown = max(1, min(len(x), (console.width + 1) // (width + 1)))
    classes = f", classes {y[:n_shown].tolist()}" if not y.is_floating_point() else ""
    console.print(f"{part}: {n_shown} of {len(x)}{classes}", markup=False)
    light = light_of(x, TALLEST)[:n_shown]
    # A dark column between images, and a dark row where the height is odd.
    strip = torch.nn.functional.pad(light, (0, 1, 0, light.shape[2] % 2)).permute(2, 0, 3, 1).flatten(1, 2).numpy()
    console.print(_half_blocks(strip) if console.color_system else _shades(strip))


def _shades(pixels: NDArray[np.uint8]) -> Text:
    """Pixels [height, width, 3] where there are no colours, two rows to a line."""
    light = pixels.mean(axis=2).reshape(len(pixels) // 2, 2, -1).mean(axis=1)
    steps = (light / 256 * len(SHADES)).astype(int)
    return Text("\n".join("".join(SHADES[step] for step in line) for line in steps))


def _half_blocks(pixels: NDArray[np.uint8]) -> Segments:
    """Pixels [height, width, 3] in colour, two rows to a line."""
    segments = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True):
            colors = (f"rgb({','.join(map(str, color))})" for color in (top, bottom))
            segments.append(Segment("▀", Style(color=next(colors), bgcolor=next(colors))))
        segments.append(Segment.line())
    return Segments(segments)


def _draw_function(console: Console, support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor]) -> None:
    """Support as crosses over query as dots."""
    width, height = PLOT
    xs = torch.cat([support[0], query[0]]).flatten()
    ys = (
        torch.cat([support[1], query[1]]).flatten(1)[:, 0]
        if support[1].dim() > 1
        else torch.cat([support[1], query[1]])
    )
    lines = [[" "] * width for _ in range(height)]
    marks = ["x"] * len(support[0]) + ["·"] * len(query[0])
    # Crosses come last, so that no dot hides one.
    for mark, column, row in reversed(list(zip(marks, _scaled(xs, width), _scaled(-ys, height), strict=True))):
        lines[row][column] = mark
    x_range, y_range = (f"from {float(v.min()):.3g} to {float(v.max()):.3g}" for v in (xs, ys))
    console.print(f"x {x_range}, y {y_range}; x: support, ·: query", markup=False)
    for line in lines:
        console.print("  |" + "".join(line), markup=False)


def _scaled(values: Tensor, n: int) -> list[int]:
    """Places 0 .. n - 1 of the values between the smallest and the largest."""
    spread = (values.max() - values.min()).clamp(min=1e-12)
    return [int(place) for place in ((values - values.min()) / spread * (n - 1)).round()]


def _draw_rows(console: Console, x: Tensor, y: Tensor) -> None:
    table = Table(box=None, pad_edge=False)
    flat = x.flatten(1)
    n_columns = min(flat.shape[1], 8)
    for column in range(n_columns):
        table.add_column(f"x{column}", justify="right")
    table.add_column("y", justify="right")
    for row, target in list(zip(flat.tolist(), y.tolist(), strict=True))[:ROWS]:
        shown = target if isinstance(target, int) else f"{np.ravel(target)[0]:.3g}"
        table.add_row(*(f"{value:.3g}" for value in row[:n_columns]), str(shown))
    console.print(table)
    console.print(f"{min(ROWS, len(x))} of {len(x)} support rows, {n_columns} of {flat.shape[1]} inputs", markup=False)
