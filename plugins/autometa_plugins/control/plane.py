"""A piece of the plane in characters."""

from __future__ import annotations

from collections.abc import Mapping

_WIDTH, _HEIGHT = 41, 17


def draw_plane(points: Mapping[tuple[float, float], str], reach: tuple[float, float, float, float]) -> str:
    """Draw marks of one character at points of the plane, in a frame; of several in one place the last stays.

    Parameters
    ----------
    points : mapping of (x, y) to str
    reach : (float, float, float, float)
        Smallest and largest x, smallest and largest y that must be seen. What lies further away widens the picture.
    """
    xs, ys = ([*ends, *(point[axis] for point in points)] for axis, ends in ((0, reach[:2]), (1, reach[2:])))
    rows = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for (x, y), mark in points.items():
        column = round((x - min(xs)) / (max(xs) - min(xs)) * (_WIDTH - 1))
        row = round((max(ys) - y) / (max(ys) - min(ys)) * (_HEIGHT - 1))
        rows[row][column] = mark
    border = "+" + "-" * _WIDTH + "+"
    sides = f"x {min(xs):.2f} to {max(xs):.2f}, y {min(ys):.2f} to {max(ys):.2f}"
    return "\n".join([border, *(f"|{''.join(row)}|" for row in rows), border, sides])
