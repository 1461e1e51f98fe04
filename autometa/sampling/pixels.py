"""Images of any mode and depth as 8-bit grey or colour: one rule, wherever an image comes in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from autometa.checks import check_choice, check_int
from autometa.errors import InvalidData, warn_user

MAX_PIXELS = 50_000_000
"""Most pixels of an image unless another number is given."""
MODES = {"rgb": "RGB", "gray": "L"}
"""Pillow's mode of every ``color``."""

_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
"""Tags of TIFF."""


class PixelReader:
    """Reads images of any mode as 8-bit grey or colour, black 0 and white 255, turned as their EXIF data say.

    - Whole numbers beyond 8 bits (Pillow's modes ``I;16`` and ``I``) are divided by the largest value of their depth:
      65535, or less where a TIFF file tells a depth of 9 to 15 bits.
    - Floats (mode ``F``) must lie in [0, 1].
    - Transparent parts are laid on white.
    - All other modes are converted as Pillow does; of colours with 16 bits it reads the upper 8.

    Parameters
    ----------
    color : {"rgb", "gray"}
    bits : int, default=16
        Bits that grey images of 16 bits use, 8 to 16: 12 where a camera stored 12-bit values in 16-bit files.
    max_pixels : int, default=50_000_000
        Most pixels of an image; one whose header tells more is not decoded, for a file of a few kilobytes may take
        gigabytes. Pillow has a limit of its own, ``PIL.Image.MAX_IMAGE_PIXELS``.

    Attributes
    ----------
    peaks : list of int
        Largest value of each image read that has 16 bits and does not tell how many of them it uses.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> import autometa as am
    >>> deep = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    >>> np.asarray(am.PixelReader("gray").read(deep)).tolist()
    [[0, 128, 255]]
    """

    def __init__(self, color: str, *, bits: int = 16, max_pixels: int = MAX_PIXELS) -> None:
        check_choice("color", color, MODES)
        check_int("bits", bits, least=8, most=16)
        self.color = color
        check_int("max_pixels", max_pixels)
        self.bits = bits
        self.max_pixels = max_pixels
        self.peaks: list[int] = []

    def read(self, image: Image.Image) -> Image.Image:
        """Return the image in Pillow's mode ``"RGB"`` or ``"L"``. Several threads may read at once.

        Raises
        ------
        InvalidData
            More pixels than ``max_pixels``; a value outside of the depth, or of [0, 1] for floats.
        """
        if image.width * image.height > self.max_pixels:
            raise InvalidData(
                f"it has {image.width} × {image.height} pixels, more than max_pixels={self.max_pixels}; make it "
                "smaller, or give a larger max_pixels"
            )
        bits = _told_bits(image)
        is_turned = _tag(image, _PHOTOMETRIC) == 0  # a TIFF file where 0 is white, which Pillow turns for 8 bits only
        image = ImageOps.exif_transpose(image)
        if image.mode == "I" or image.mode.startswith("I;"):
            values = np.asarray(image).astype(np.int64)
            if bits is None:
                self.peaks.append(int(values.max(initial=0)))
            transparent = image.info.get("transparency")
            hidden = values == transparent if isinstance(transparent, int) else None
            image = _grey(_from_integers(values, bits or self.bits), hidden, is_turned=is_turned)
        elif image.mode == "F":
            image = _grey(_from_floats(np.asarray(image, dtype=np.float64)), is_turned=is_turned)
        else:
            image = _opaque(image)
        mode = MODES[self.color]
        return image if image.mode == mode else image.convert(mode)

    def warn_if_dark(self, whose: str, advice: str) -> None:
        """Warn if no image of 16 bits comes near to what ``bits`` allow: perhaps they use fewer bits.

        Parameters
        ----------
        whose : str
            The images, for the message.
        advice : str
            What to do if so.
        """
        brightest, most = max(self.peaks, default=0), 2**self.bits - 1
        if 0 < brightest <= most >> 4:
            warn_user(
                f"the largest value in the 16-bit images of {whose} is {brightest}, and white is {most}: they are "
                f"nearly black. If they use {max(8, brightest.bit_length())} of their bits, {advice}."
            )


def _told_bits(image: Image.Image) -> int | None:
    """Return the depth that an opened file tells itself; None where it only tells bytes."""
    if image.format in ("PPM", "JPEG2000"):
        return 16  # to which Pillow scales them
    depth = _tag(image, _BITS_PER_SAMPLE)
    return depth if depth is not None and 8 < depth < 16 else None


def _tag(image: Image.Image, number: int) -> int | None:
    """Value of a tag of a TIFF file, the first where there are several."""
    tags: Any = getattr(image, "tag_v2", {})
    value = tags.get(number)
    first: int | None = value[0] if isinstance(value, tuple) else value
    return first


def _from_integers(values: NDArray[np.int64], bits: int) -> NDArray[np.float64]:
    """Light in [0, 1]."""
    low, high, most = int(values.min(initial=0)), int(values.max(initial=0)), 2**bits - 1
    if low < 0 or high > most:
        raise InvalidData(
            f"its values lie in [{low}, {high}], and those of {bits} bits in [0, {most}]; convert it to 8 or 16 bits, "
            "or to floats in [0, 1]"
        )
    return np.asarray(values / most)


def _from_floats(light: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(light).all():
        raise InvalidData("its values are floats and not all finite")
    low, high = float(light.min(initial=0)), float(light.max(initial=0))
    if low < 0 or high > 1:
        raise InvalidData(
            f"its values are floats in [{low:g}, {high:g}], and floats must lie in [0, 1]; scale them, or convert it "
            "to 8 or 16 bits"
        )
    return light


def _grey(
    light: NDArray[np.float64], hidden: NDArray[np.bool_] | None = None, *, is_turned: bool = False
) -> Image.Image:
    """Return light in [0, 1] as an image; ``hidden`` parts are white."""
    if is_turned:
        light = 1 - light
    if hidden is not None:
        light = np.where(hidden, 1.0, light)
    return Image.fromarray(np.round(light * 255).astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    """Lay transparent parts on white; the result can be converted to grey and to colours."""
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    if image.mode == "LAB":  # which Pillow turns into colours only
        image = image.convert("RGB")
    if not image.has_transparency_data:
        return image
    opaque = Image.new("RGBA", image.size, "white")
    opaque.alpha_composite(image.convert("RGBA"))
    return opaque
