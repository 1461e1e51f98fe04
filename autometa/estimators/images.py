"""Images as a user holds them, in any container and either layout, as the inputs that were meta-trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskInfo, TaskSampler
from autometa.errors import InvalidData, warn_user
from autometa.sampling.pixels import PixelReader

N_LOOKS = 4
"""Batches of meta-train tasks whose range is measured."""

_COLORS = {1: "gray", 3: "rgb"}
"""How images of Pillow are read, by the number of channels."""


def are_images(info: TaskInfo) -> bool:
    """True if the examples of the tasks are images [channels, height, width]."""
    return len(info.input_shape) == 3 and info.feature_kinds is None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRange:
    """What was met in the images of meta-training.

    Parameters
    ----------
    low, high : float
        Smallest and largest value.
    bits : int
        Bits that grey images of 16 bits use, see :class:`autometa.PixelReader`.
    """

    low: float
    high: float
    bits: int = 16

    @property
    def is_unit(self) -> bool:
        """True if all values lie in [0, 1]."""
        return self.low >= -1e-6 and self.high <= 1 + 1e-6

    def __str__(self) -> str:
        return "[0, 1]" if self.is_unit else f"[{self.low:g}, {self.high:g}]"


def range_met(sampler: TaskSampler, n_tasks: int, seed: int) -> InputRange | None:
    """Measure the smallest and largest value in the images of meta-train tasks; None for anything but images.

    Parameters
    ----------
    sampler : TaskSampler
    n_tasks : int
        Tasks of a batch.
    seed : int
        Decides which tasks.
    """
    if not are_images(sampler.info) or sampler.encoder is not None or sampler.info.problem_record.acts:
        return None
    ends = []
    for look in range(N_LOOKS):
        batch = sampler.sample(n_tasks, split="train", seed=derive_seed(seed, "range", look))
        for examples in (batch.support, batch.query):
            if isinstance(examples.x, Tensor) and examples.mask.any():
                ends.append(torch.stack(torch.aminmax(examples.x if examples.is_full else examples.x[examples.mask])))
    if not ends:
        return None
    values = torch.stack(ends).cpu().double()
    if not values.isfinite().all():
        return None
    return InputRange(low=values[:, 0].min().item(), high=values[:, 1].max().item(), bits=sampler.pixel_bits)


def image_rows(X: Any, input_shape: tuple[int, ...], bits: int = 16) -> tuple[Any, bool, bool]:
    """Return images as rows of numbers [n, features], whether they were uint8, and whether they were read from 16 bits.

    Parameters
    ----------
    X : array, Tensor, DataFrame, or a list of arrays, Tensors, images of Pillow or further lists
        Images [n, *input_shape], [n, height, width, channels], [n, height, width] if they have one channel, or
        flattened [n, n_features]. uint8 is divided by 255; all else stays as it is.
    input_shape : (channels, height, width)
    bits : int, default=16
        Bits that grey images of Pillow with 16 bits use.

    Raises
    ------
    InvalidData
        One image only, images of several shapes or of another than those of meta-training, or no images.
    """
    if hasattr(X, "toarray"):
        return X, False, False  # sparse, which scikit-learn refuses by name
    if isinstance(X, Image.Image):
        raise InvalidData(f"X is one image {X.size}; give a list of images, such as [X].")
    reader = PixelReader(_COLORS.get(input_shape[0], "rgb"), bits=bits)
    pixels = _pixels(X, input_shape[0], reader)
    reader.warn_if_dark("X", "give arrays of floats, divided by the largest value of that depth")
    is_bytes = pixels.dtype == np.uint8
    rows = _flat(pixels, input_shape)
    rows = rows / 255.0 if is_bytes else rows
    if hasattr(X, "columns") and hasattr(X, "dtypes") and rows.ndim == 2 and rows.shape[1] == len(X.columns):
        return pd.DataFrame(rows, columns=list(X.columns)), is_bytes, bool(reader.peaks)
    return rows, is_bytes, bool(reader.peaks)


def check_range(rows: NDArray[Any], is_bytes: bool, met: InputRange | None, name: str, was_deep: bool = False) -> None:
    """Refuse images of another range than was met in meta-training.

    Images met in [0, 1] stand for that whole interval, and a tenth beyond it is allowed, such as what resizing adds.
    Of any other range half its width is allowed on either side. Where it reaches to 10 or farther, images that reach
    to no more than 1, or to a hundredth of it, are taken for images of another scale; black ones are not.

    Parameters
    ----------
    rows : array of shape [n, n_features]
    is_bytes : bool
        Whether they were given as uint8 and divided by 255.
    met : InputRange or None
        None: not known, as in old files; everything is allowed.
    name : str
        The estimator, for the message.
    was_deep : bool, default=False
        Whether they were read from images of 16 bits, of which dark ones are told by their own values.

    Raises
    ------
    InvalidData
        Names both ranges.

    Warns
    -----
    UserWarning
        Images of uint8 do not exceed a sixteenth of white, such as 0 and 1 or 0 to 16, and are divided by 255 all the
        same.
    """
    if met is None or rows.size == 0:
        return
    low, high, slack = met.low, met.high, max(met.high - met.low, 1.0) / 2
    if met.is_unit:
        low, high, slack = 0.0, 1.0, 0.1
    if is_bytes and (low < -0.5 or high > 1.5):
        raise InvalidData(
            f"X is of type uint8 and is read as values in [0, 1], but {name} was meta-trained on images in {met}; give "
            "floats in that range."
        )
    least, most = float(rows.min()), float(rows.max())
    if least < low - slack or most > high + slack or _is_faint(max(-least, most), max(-low, high)):
        raise InvalidData(
            f"X lies in [{least:g}, {most:g}], but {name} was meta-trained on images in {met}; "
            f"{_advice(least, most, met)}."
        )
    peak, top = round(most * 255), round(met.high * 255)
    if is_bytes and not was_deep and met.is_unit and (peak == 1 < top or (0 < peak <= 16 and top > 127)):
        holds, scaled = ("0 and 1 only", "") if peak == 1 else (f"no value above {peak}", f" / {peak}")
        warn_user(
            f"X is of type uint8 and holds {holds}; as white is 255, its images are nearly black. If {peak} means "
            f"white, give X.astype(float){scaled}."
        )


def _is_faint(reach: float, wanted: float) -> bool:
    """True if images reach so much less far than those of meta-training that they must be of another scale."""
    return wanted >= 10 and 0 < reach <= max(1.0, wanted / 100)


def _advice(least: float, most: float, met: InputRange) -> str:
    if not met.is_unit or least < 0 or most > 65535:
        return "scale X to that range as the images of meta-training were"
    if most > 255:
        return "divide X by the largest value of its depth, 65535 for 16 bits"
    return "scale X to that range; pixels of 0 to 255 may come as uint8, X.astype(numpy.uint8), or be divided by 255"


def _pixels(X: Any, n_channels: int, reader: PixelReader) -> NDArray[Any]:
    """Turn any container into one array; uint8 stays uint8."""
    if isinstance(X, Image.Image):
        return _picture(X, n_channels, reader)
    if isinstance(X, (str, bytes, os.PathLike)):
        raise InvalidData(f"X holds {X!r}, which is no image; open it, such as with PIL.Image.open.")
    if isinstance(X, Tensor):
        X = X.detach().cpu()
        return np.asarray((X.float() if X.dtype == torch.bfloat16 else X).numpy())
    if isinstance(X, (list, tuple)):
        return _stacked(X, n_channels, reader)
    if isinstance(X, pd.DataFrame) and {str(kind).lower().split("[")[0] for kind in X.dtypes} == {"uint8"}:
        return np.asarray(X.to_numpy(dtype=np.uint8))
    array = np.asarray(X.to_numpy() if hasattr(X, "to_numpy") else X)
    if array.dtype != object:
        return array
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    return _stacked(array.tolist(), n_channels, reader) if array.ndim else array


def _stacked(items: Sequence[Any], n_channels: int, reader: PixelReader) -> NDArray[Any]:
    """Stack images, or rows of an image, of one shape."""
    if not items or not (hasattr(items[0], "__len__") or isinstance(items[0], (Tensor, Image.Image, os.PathLike))):
        return np.asarray(items)
    arrays = []
    for i, item in enumerate(items):
        try:
            arrays.append(_pixels(item, n_channels, reader))
        except InvalidData as error:
            if not isinstance(item, Image.Image):
                raise
            raise InvalidData(f"image {i} of X cannot be used: {error}.") from error
    first = arrays[0].shape
    other = next((i for i, array in enumerate(arrays) if array.shape != first), None)
    if other is not None:
        raise InvalidData(f"images must have one shape: X[0] has {first} and X[{other}] has {arrays[other].shape}.")
    if {array.dtype == np.uint8 for array in arrays} == {True, False}:
        arrays = [array / 255.0 if array.dtype == np.uint8 else array for array in arrays]
    return np.stack(arrays)


def _picture(image: Image.Image, n_channels: int, reader: PixelReader) -> NDArray[np.uint8]:
    """Return an image of Pillow as [channels, height, width]."""
    if n_channels not in _COLORS:
        raise InvalidData(f"the images of meta-training have {n_channels} channels; give arrays")
    pixels = np.asarray(reader.read(image), dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _flat(pixels: NDArray[Any], input_shape: tuple[int, ...]) -> NDArray[Any]:
    """Flatten images of any layout to rows; what has one axis, or two but another width, is left to other checks."""
    channels, height, width = input_shape
    last = (height, width, channels)
    shape = pixels.shape
    alone = {input_shape, last} | ({(height, width)} if channels == 1 else set())
    if shape[1:] == input_shape or (channels == 1 and shape[1:] == (height, width)):
        return pixels.reshape(len(pixels), -1)
    if shape[1:] == last:
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)
    if shape in alone and shape[1:] != (channels * height * width,):
        raise InvalidData(f"X has the shape {shape} of one image; give several, or X[None] for one.")
    if len(shape) <= 2:
        return pixels
    layouts = [input_shape, last, (height, width), (channels * height * width,)]
    takes = " or ".join(str(("n", *s)).replace("'", "") for s in layouts if channels == 1 or len(s) != 2)
    raise InvalidData(f"X has the shape {shape}; this estimator was meta-trained on {takes}.")
