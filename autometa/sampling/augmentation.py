"""Images changed at random for meta-training: moved, turned, mirrored, or with a rectangle wiped out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from autometa.sampling.random_draws import draw_uniform

ERASED = (0.02, 0.33)
"""Smallest and largest share of an image that a rectangle covers (Zhong et al. 2020, section 4)."""
ASPECTS = (0.3, 1 / 0.3)
"""Smallest and largest height of a rectangle over its width, both as shares of the image's."""
_N_NUMBERS = 9
"""Random numbers of an image."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How images are changed; each of its own, all on the device where they lie.

    Parameters
    ----------
    shift : float
        Largest move along either axis, as a share of the image.
    rotation : float
        Largest turn either way, in degrees.
    flip : bool
        Whether one half of the images are mirrored, left for right.
    erasing : float
        Share of the images that lose a rectangle, which then has the image's mean (random erasing, Zhong et al. 2020).
    """

    shift: float = 0.0
    rotation: float = 0.0
    flip: bool = False
    erasing: float = 0.0

    @property
    def changes_nothing(self) -> bool:
        """True if images stay as they are."""
        return not (self.shift or self.rotation or self.flip or self.erasing)

    def change(self, images: Tensor, most: int, seed: int, *labels: int | str) -> Tensor:
        """Change the images of tasks, as many of each task as there are.

        Parameters
        ----------
        images : Tensor of shape [tasks, n, channels, height, width]
        most : int
            The largest n that could be: what happens to an image must not depend on the tasks beside its own.
        seed, *labels
            As for :func:`draw_uniform`.

        Returns
        -------
        Tensor
            Of the shape of ``images``. A place beyond an edge shows the edge.
        """
        n_tasks, n = images.shape[:2]
        drawn = draw_uniform((n_tasks, most, _N_NUMBERS), seed, *labels, "augmentation")[:, :n]
        numbers = torch.from_numpy(drawn.reshape(-1, _N_NUMBERS)).to(images.device, images.dtype)
        flat = images.flatten(0, 1)
        if self.shift or self.rotation or self.flip:
            flat = self._moved(flat, numbers[:, :4])
        if self.erasing:
            flat = self._erased(flat, numbers[:, 4:])
        return flat.view_as(images)

    def _moved(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Turn, mirror and shift images [n, channels, height, width], between their pixels linearly."""
        height, width = images.shape[2:]
        angle, right, down = (
            (2 * numbers[:, :3] - 1)
            .mul(numbers.new_tensor([math.radians(self.rotation), self.shift * width, self.shift * height]))[
                :, :, None, None
            ]
            .unbind(1)
        )
        mirror = 1 - 2 * ((numbers[:, 3] < 0.5) & self.flip).to(images.dtype)[:, None, None]
        axes = [torch.arange(n, dtype=images.dtype, device=images.device) - (n - 1) / 2 for n in (height, width)]
        y, x = torch.meshgrid(*axes, indexing="ij")
        x, y = x - right, y - down
        x, y = mirror * (angle.cos() * x - angle.sin() * y), angle.sin() * x + angle.cos() * y
        # Places beyond the middle of the outermost pixels are moved there: the edge goes on.
        places = [(2 / n * place).clamp(1 / n - 1, 1 - 1 / n) for place, n in ((x, width), (y, height))]
        shown: Tensor = functional.grid_sample(images, torch.stack(places, dim=-1), align_corners=False)
        lowest, highest = (bound(dim=(1, 2, 3), keepdim=True) for bound in (images.amin, images.amax))
        return shown.clamp(lowest, highest)  # rounding may leave the range of the pixels

    def _erased(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Give a rectangle of some images [n, channels, height, width] the mean of the image."""
        share = ERASED[0] + (ERASED[1] - ERASED[0]) * numbers[:, 1]
        low, high = map(math.log, ASPECTS)
        aspect = (low + (high - low) * numbers[:, 2]).exp()
        sides = torch.stack([(share * aspect).sqrt(), (share / aspect).sqrt()], dim=1).clamp(max=1)
        first = numbers[:, 3:] * (1 - sides)
        inside = (numbers[:, 0] < self.erasing)[:, None, None]
        for axis, n in enumerate(images.shape[2:]):
            middle = (torch.arange(n, dtype=images.dtype, device=images.device) + 0.5) / n
            along = (middle >= first[:, axis, None]) & (middle < (first + sides)[:, axis, None])
            inside = inside & (along[:, :, None] if axis == 0 else along[:, None, :])
        return torch.where(inside[:, None], images.mean((2, 3), keepdim=True), images)
