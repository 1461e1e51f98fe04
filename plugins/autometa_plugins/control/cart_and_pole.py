"""The pole on a cart of Barto, Sutton & Anderson (1983), with the constants of each task."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TIME_STEP = 0.02
"""Seconds between two actions."""
EDGE = 2.4
"""Metres from the middle of the track to its ends."""
LARGEST_ANGLE = math.radians(12)
"""Of a pole that stands, in radians from upright."""


def started(noise: Tensor) -> Tensor:
    """Start near rest in the middle: noise [tasks, 4], uniform in (0, 1), becomes positions and speeds within 0.05."""
    return 0.1 * (noise - 0.5)


def pushed(
    body: Tensor, force: Tensor, *, gravity: Tensor, length: Tensor, cart: Tensor | float, pole: Tensor | float
) -> Tensor:
    """Move for one time step by Euler's rule, in the order of Gymnasium's ``CartPole-v1``.

    Parameters
    ----------
    body : Tensor of shape [tasks, 4]
        Position (m) and speed (m/s) of the cart, angle (rad) and angular speed (rad/s) of the pole.
    force : Tensor of shape [tasks]
        On the cart, in newtons; positive to the right.
    gravity : Tensor of shape [tasks]
        In m/s².
    length : Tensor of shape [tasks]
        Half the length of the pole, in metres.
    cart, pole : float or Tensor of shape [tasks]
        Masses in kilograms.

    Returns
    -------
    Tensor of shape [tasks, 4]
    """
    _, speed, angle, spin = body.unbind(1)
    cos, sin, mass = angle.cos(), angle.sin(), cart + pole
    drive = (force + pole * length * spin.square() * sin) / mass
    turn = (gravity * sin - cos * drive) / (length * (4.0 / 3.0 - pole * cos.square() / mass))
    pull = drive - pole * length * turn * cos / mass
    return body + TIME_STEP * torch.stack([speed, pull, spin, turn], 1)


def has_fallen(body: Tensor) -> Tensor:
    """Tell, [tasks], whether the cart has left the track or the pole leans too far."""
    return (body[:, 0].abs() > EDGE) | (body[:, 2].abs() > LARGEST_ANGLE)
