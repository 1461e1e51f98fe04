"""Sequences of augmented images: the long episodes that memory networks learn from."""

from __future__ import annotations

import math
from copy import copy
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor
from torch.nn import functional

import autometa as am


class AugmentedShot(am.TaskSampler):
    """Sequences of another sampler's images, each class rotated and each image slightly moved.

    The episodes of memory-augmented networks (Santoro et al. 2016, section 4.1 and the supplement): ten presentations
    of every class in random order. Classes are turned by a random multiple of 90 degrees; every image is also turned by
    a small angle and shifted. The support set is the sequence in its order; queries are further images of its classes.
    A turned class is another class, so ``TaskBatch.classes`` counts every class four times.

    Parameters
    ----------
    tasks : str or ClassEpisodes, default="tasks/glyphs"
        Where images and their splits come from, such as ``am.make_tasks("omniglot", rotations=False)``. Its own numbers
        of classes and images are not used.
    n_way : int, default=5
        Classes of a sequence.
    n_shot : int, default=10
        Presentations of a class: a sequence has ``n_way * n_shot``.
    n_query : int, default=10
        Query images per class.
    most_shots : int, optional
        Draw classes at random, each at least once and at most so often, in sequences of the same length. Every class
        needs ``most_shots + n_query`` images. None: all classes come equally often.
    rotations : bool, default=True
        Whether classes are turned. Images must be square.
    angle : float, default=11.25
        Largest angle in degrees by which an image is turned either way; the paper's π/16.
    shift : float, default=10/105
        Largest shift along either axis, as a share of the image; the paper's 10 of 105 pixels.
    size : int, optional
        Width and height of the images handed out, each pixel a mean; no larger than the images are. 20 in the paper.

    Notes
    -----
    What lies beyond an image's edge is 0, the paper of drawings.

    References
    ----------
    A. Santoro, S. Bartunov, M. Botvinick, D. Wierstra, T. Lillicrap: Meta-Learning with Memory-Augmented Neural
    Networks. ICML 2016.
    """

    _prepared: tuple[dict[str, Any], am.ClassEpisodes]

    def __init__(
        self,
        *,
        tasks: str | am.ClassEpisodes = "tasks/glyphs",
        n_way: int = 5,
        n_shot: int = 10,
        n_query: int = 10,
        most_shots: int | None = None,
        rotations: bool = True,
        angle: float = 11.25,
        shift: float = 10 / 105,
        size: int | None = None,
    ) -> None:
        self.tasks = tasks
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.most_shots = most_shots
        self.rotations = rotations
        self.angle = angle
        self.shift = shift
        self.size = size

    @property
    def info(self) -> am.TaskInfo:
        """Shapes and sizes of the sequences; ``n_shot`` is the most that a class can come up.

        Raises
        ------
        InvalidParameter, Incompatible
            A parameter is not usable, or not with the images of ``tasks``.
        """
        base = self._ready().info
        channels, height, width = base.input_shape
        assert base.n_base_classes is not None
        return am.TaskInfo(
            problem="classification",
            input_shape=(channels, self.size or height, self.size or width),
            n_outputs=self.n_way,
            n_shot=min(base.n_shot, self.n_way * (self.n_shot - 1) + 1),
            n_query=self.n_query,
            n_base_classes=base.n_base_classes * (4 if self.rotations else 1),
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        """Draw sequences, see :meth:`autometa.TaskSampler.sample`."""
        am.check_draw(n_tasks, split, seed)
        drawn = self._ready().sample(n_tasks, split=split, seed=seed)  # type: ignore[arg-type]
        device = drawn.support.y.device
        assert drawn.classes is not None

        def uniform(*shape: int, label: str) -> np.ndarray[Any, np.dtype[np.float64]]:
            return am.draw_uniform((n_tasks, *shape), seed, split, "sequence", label)

        # The first image of every class always comes.
        length = self.n_way * self.n_shot
        keys = uniform(self.n_way, drawn.support.y.shape[1] // self.n_way, label="images")
        keys[:, :, 0] -= 1
        chosen = np.argsort(keys.reshape(n_tasks, -1), axis=1)[:, :length]
        chosen = np.take_along_axis(chosen, np.argsort(uniform(length, label="order"), axis=1), axis=1)
        rows = torch.from_numpy(chosen).to(device)
        each = torch.arange(n_tasks, device=device).unsqueeze(1)

        turns = torch.zeros(n_tasks, self.n_way, dtype=torch.int64, device=device)
        if self.rotations:
            turns += torch.from_numpy((4 * uniform(self.n_way, label="turns")).astype(np.int64)).to(device)

        def augmented(part: str, x: Tensor, y: Tensor) -> am.Examples:
            shaken = (2 * uniform(y.shape[1], 3, label=part) - 1) * (math.radians(self.angle), self.shift, self.shift)
            x = turned(x.flatten(0, 1), turns.gather(1, y).flatten()) if self.rotations else x.flatten(0, 1)
            if self.angle or self.shift:
                x = moved(x, torch.from_numpy(shaken).to(device, x.dtype).flatten(0, 1))
            if self.size is not None and (self.size, self.size) != tuple(x.shape[2:]):
                x = functional.adaptive_avg_pool2d(x, self.size)
            return am.Examples(x.view(*y.shape, *x.shape[1:]), y, n_classes=self.n_way)

        return am.TaskBatch(
            support=augmented("support", drawn.support.x[each, rows], drawn.support.y[each, rows]),
            query=augmented("query", drawn.query.x, drawn.query.y),
            classes=4 * drawn.classes + turns if self.rotations else drawn.classes,
        )

    def to(self, device: torch.device | str) -> Self:
        """Return the same sampler with the images on ``device``."""
        there = copy(self)
        there._prepared = (self.get_params(), self._ready().to(device))
        return there

    @property
    def pixel_bits(self) -> int:
        """As the sampler of the images says."""
        return self._ready().pixel_bits

    def describe(self) -> dict[str, Any]:
        """What the sampler of the images says of them."""
        return {"images of": type(self._ready()).__name__, **self._ready().describe()}

    def content(self) -> dict[str, str]:
        """What the sampler of the images says, where it is given by name; an object says it for itself."""
        of_images = am.make_tasks(self.tasks).content() if isinstance(self.tasks, str) else {}
        return {"tasks": " ".join(of_images[name] for name in sorted(of_images))} if of_images else {}

    def _ready(self) -> am.ClassEpisodes:
        """The sampler of the images, asked for as many as a sequence may need."""
        parameters = self.get_params()
        prepared: tuple[dict[str, Any], am.ClassEpisodes] | None = vars(self).get("_prepared")
        if prepared is not None and all(prepared[0].get(name, prepared) is value for name, value in parameters.items()):
            return prepared[1]
        self._check()
        given = am.make_tasks(self.tasks)
        if not isinstance(given, am.ClassEpisodes):
            raise am.Incompatible(
                f"tasks={self.tasks!r} of task sampler 'augmented_shot' draws no images of classes; give an "
                "am.ClassEpisodes, such as 'glyphs' or 'omniglot'."
            )
        most = self.n_shot if self.most_shots is None else self.most_shots
        same = {name: None for name in ("train_n_way", "train_n_shot") if name in given.get_params(deep=False)}
        base = clone(given).set_params(n_way=self.n_way, n_shot=most, n_query=self.n_query, **same)
        height, width = base.info.input_shape[1:]
        if self.rotations and height != width:
            raise am.Incompatible(
                f"rotations=True of task sampler 'augmented_shot' needs square images, and those of {given!r} are "
                f"{height} x {width}; use rotations=False."
            )
        if self.size is not None and self.size > min(height, width):
            raise am.InvalidParameter(
                f"size={self.size!r} of task sampler 'augmented_shot' is more than the images have "
                f"({height} x {width}); use size <= {min(height, width)}."
            )
        self._prepared = (parameters, base)
        return self._prepared[1]

    def _check(self) -> None:
        whose = "task sampler 'augmented_shot'"
        am.check_int("n_way", self.n_way, least=2, of=whose)
        am.check_int("n_shot", self.n_shot, of=whose)
        am.check_int("n_query", self.n_query, of=whose)
        am.check_int("most_shots", self.most_shots, least=self.n_shot, also=(None,), of=whose)
        am.check_int("size", self.size, also=(None,), of=whose)
        am.check_real("angle", self.angle, least=0, most=180, of=whose)
        am.check_real("shift", self.shift, least=0, most=1, of=whose)
        am.check_bool("rotations", self.rotations, of=whose)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_prepared", None)
        return state


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Square images [n, channels, size, size] turned counter-clockwise by 90 degrees, ``turns`` [n] times each."""
    size = images.shape[-1]
    places = torch.arange(size * size, device=images.device).view(size, size)
    places = torch.stack([places.rot90(k) for k in range(4)]).flatten(1)[turns]
    return images.flatten(2).gather(2, places.unsqueeze(1).expand(-1, images.shape[1], -1)).view_as(images)


def moved(images: Tensor, amounts: Tensor) -> Tensor:
    """Images [n, channels, height, width] turned around their centre and shifted, between their pixels linearly.

    Parameters
    ----------
    images : Tensor
    amounts : Tensor of shape [n, 3]
        Angle counter-clockwise in radians, and shifts to the right and down as shares of width and height.
    """
    height, width = images.shape[2:]
    axes = [torch.arange(n, dtype=images.dtype, device=images.device) - (n - 1) / 2 for n in (height, width)]
    y, x = torch.meshgrid(*axes, indexing="ij")
    angle, right, down = amounts[:, :, None, None].unbind(1)
    x, y = x - right * width, y - down * height
    # A place of the result shows what lay there before turning: the inverse turn, y pointing down.
    grid = torch.stack(
        [(angle.cos() * x - angle.sin() * y) * (2 / width), (angle.sin() * x + angle.cos() * y) * (2 / height)], dim=-1
    )
    shown = functional.grid_sample(images, grid, mode="bilinear", align_corners=False)
    # Rounding may leave the range of the pixels.
    lowest, highest = (bound(dim=(1, 2, 3), keepdim=True) for bound in (images.amin, images.amax))
    return shown.clamp(lowest.clamp(max=0), highest.clamp(min=0))
