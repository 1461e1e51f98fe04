"""Letters of the world's scripts, drawn anew by twenty imaginary hands: an image benchmark without a download."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.ft2font import FT2Font
from PIL import ImageFont
from torch import Tensor
from torch.nn import functional

import autometa as am

HELD_OUT = {
    "valid": ("Armenian", "Lao", "Old Italic", "Coptic"),
    "test": ("Georgian", "Hebrew", "Tifinagh", "Ogham", "NKo", "Lisu"),
}
_CANVAS, _FONT_SIZE, _LARGEST, _SIZE = 32, 22, 28, 28
_CHUNK = 4096


class Letter(NamedTuple):
    """One distinct shape."""

    character: str
    split: str
    script: str


class Glyphs(am.ClassEpisodes):
    """Few-shot tasks over some 2,900 letters, judged on scripts that meta-training never saw.

    The letters (Unicode category L) are those of DejaVu Sans, which matplotlib ships; letters that look the
    same (Latin A, Greek Alpha, Cyrillic A) count once. Meta-train holds Latin, Arabic, Canadian syllabics,
    Greek, Cyrillic and symbols made of them; meta-valid Armenian, Lao, Old Italic and Coptic; meta-test Georgian,
    Hebrew, Tifinagh, Ogham, NKo and Lisu. Each letter is drawn ``n_drawers`` times, every time under another
    seeded affine and elastic deformation (in the spirit of Simard et al. 2003), to 28 x 28 pixels, ink 1 on
    paper 0. The deformation is strong: comparing pixels (1-nearest neighbour) gets only about 35% of 5-way 1-shot
    queries right.

    Parameters
    ----------
    n_way : int, (int, int) or "varied", default=5
        Classes of a task; a pair for any number between the two, "varied" for Meta-Dataset's rule, see
        :class:`autometa.ClassEpisodes`.
    n_shot : int, (int, int) or "varied", default=1
        Support images per class; likewise.
    n_query : int, default=15
        Query images per class.
    n_drawers : int, default=20
        Drawings of every letter.
    size : int, default=28
        Width and height of an image, 8 to 28. Smaller ones are means over the pixels of the 28 x 28 drawing; a
        convolutional network takes a seventh of the time for 14 x 14.
    train_n_way, train_n_shot, train_shift, train_rotation, train_flip, train_erasing
        Of meta-training alone; see :class:`autometa.ClassEpisodes`.
    """

    def __init__(
        self,
        *,
        n_way: int | tuple[int, int] | str = 5,
        n_shot: int | tuple[int, int] | str = 1,
        n_query: int = 15,
        n_drawers: int = 20,
        size: int = 28,
        train_n_way: int | tuple[int, int] | str | None = None,
        train_n_shot: int | tuple[int, int] | str | None = None,
        train_shift: float = 0.0,
        train_rotation: float = 0.0,
        train_flip: bool = False,
        train_erasing: float = 0.0,
    ) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.n_drawers = n_drawers
        self.size = size
        self.train_n_way = train_n_way
        self.train_n_shot = train_n_shot
        self.train_shift = train_shift
        self.train_rotation = train_rotation
        self.train_flip = train_flip
        self.train_erasing = train_erasing

    def load(self) -> am.ClassImages:
        """Draw all letters, images [n_letters * n_drawers, 1, size, size], uint8."""
        am.check_int("n_drawers", self.n_drawers, least=2, of="task sampler 'glyphs'")
        am.check_int("size", self.size, least=8, most=_SIZE, of="task sampler 'glyphs'")
        letters, shapes = distinct_letters()
        return am.ClassImages(
            images=draw(shapes, self.n_drawers, np.random.default_rng(0), self.size),
            labels=torch.arange(len(letters)).repeat_interleave(self.n_drawers),
            splits={s: [i for i, letter in enumerate(letters) if letter.split == s] for s in am.SPLITS},
            names=[unicodedata.name(letter.character) for letter in letters],
        )

    def describe(self) -> dict[str, Any]:
        """Numbers of letters, and the scripts of every split."""
        letters, _ = distinct_letters()
        scripts = {split: sorted({x.script for x in letters if x.split == split}) for split in am.SPLITS}
        return {**super().describe(), "scripts": scripts}


def distinct_letters() -> tuple[list[Letter], Tensor]:
    """All letters of the font that look different, meta-train first, and their shapes [n, 1, 32, 32] in [0, 1]."""
    path = str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
    characters = [chr(code) for code in sorted(FT2Font(path).get_charmap())]
    letters = [Letter(c, *_script(c)) for c in characters if unicodedata.category(c).startswith("L")]
    letters.sort(key=lambda letter: am.SPLITS.index(letter.split))
    fonts = {size: ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC) for size in (_FONT_SIZE,)}
    seen: dict[bytes, Letter] = {}
    for letter in letters:
        size = _FONT_SIZE
        while max((mask := fonts[size].getmask(letter.character)).size) > _LARGEST:
            size -= 1
            if size not in fonts:
                fonts[size] = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
        if min(mask.size) > 0:
            seen.setdefault(_centred(mask).tobytes(), letter)
    shapes = np.stack([np.frombuffer(key, dtype=np.uint8).reshape(1, _CANVAS, _CANVAS) for key in seen])
    return list(seen.values()), torch.from_numpy(shapes).to(torch.float32).div_(255)


def draw(shapes: Tensor, n_drawers: int, generator: np.random.Generator, size: int) -> Tensor:
    """Deform every shape [n, 1, 32, 32] ``n_drawers`` times; uint8 [n * n_drawers, 1, size, size], shape by shape.

    Where an output pixel looks is linear in the deformation's coefficients: 3 for each row of an affine map
    and 16 for a 4 x 4 grid of displacements, interpolated smoothly.
    """
    basis = _deformation_basis()
    coefficients = _coefficients(len(shapes) * n_drawers, generator)
    source = torch.arange(len(shapes)).repeat_interleave(n_drawers)
    images = torch.empty(len(source), 1, size, size, dtype=torch.uint8)
    for start in range(0, len(source), _CHUNK):
        part = slice(start, start + _CHUNK)
        grid = (coefficients[part] @ basis).transpose(1, 2).reshape(-1, _SIZE, _SIZE, 2)
        drawn = functional.grid_sample(shapes[source[part]], grid, mode="bilinear", align_corners=False)
        drawn = functional.adaptive_avg_pool2d(drawn, size) if size < _SIZE else drawn
        images[part] = drawn.mul_(255).round_().to(torch.uint8)
    return images


def _script(character: str) -> tuple[str, str]:
    """Split and script of a letter, read off its Unicode name."""
    name = unicodedata.name(character)
    words = name.split()
    for split, scripts in HELD_OUT.items():
        for script in scripts:
            if script.upper() in name and (words[0] == script.upper().split()[0] or words[0] == "MODIFIER"):
                return split, script
    if name in ("ALEF SYMBOL", "BET SYMBOL", "GIMEL SYMBOL", "DALET SYMBOL"):
        return "test", "Hebrew"
    known = ("Latin", "Arabic", "Canadian", "Greek", "Cyrillic")
    return "train", next((script for script in known if words[0] == script.upper()), "symbols")


def _centred(mask: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    width, height = mask.size
    canvas = np.zeros((_CANVAS, _CANVAS), dtype=np.uint8)
    top, left = (_CANVAS - height) // 2, (_CANVAS - width) // 2
    canvas[top : top + height, left : left + width] = np.asarray(mask, dtype=np.uint8).reshape(height, width)
    return canvas


def _deformation_basis() -> Tensor:
    """What each of the 19 coefficients adds to the place every output pixel looks at, [19, 28 * 28]."""
    centre = (torch.arange(_SIZE) * 2 + 1) / _SIZE - 1
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    bumps = functional.interpolate(
        torch.eye(16).view(16, 1, 4, 4), size=(_SIZE, _SIZE), mode="bicubic", align_corners=True
    )
    return torch.cat([torch.stack([x, y, torch.ones_like(x)]).flatten(1), bumps.flatten(1)])


ROTATION, SCALE, SHEAR, SHIFT, ELASTIC = 0.2, 0.15, 0.15, 0.12, 0.08


def _coefficients(n: int, generator: np.random.Generator) -> Tensor:
    """Random deformations [n, 2, 19]: affine maps from angles, scales, shears and shifts, and 4 x 4 displacements."""
    angle, shear = generator.normal(0, ROTATION, n), generator.normal(0, SHEAR, n)
    scale = np.exp(generator.normal(0, SCALE, (n, 2)))
    shift = generator.normal(0, SHIFT, (n, 2))
    elastic = generator.normal(0, ELASTIC, (n, 2, 16))
    cos, sin = np.cos(angle), np.sin(angle)
    x_row = np.stack([cos * scale[:, 0], (cos * shear - sin) * scale[:, 1], shift[:, 0]], axis=-1)
    y_row = np.stack([sin * scale[:, 0], (sin * shear + cos) * scale[:, 1], shift[:, 1]], axis=-1)
    affine = np.stack([x_row, y_row], axis=1)
    return torch.from_numpy(np.concatenate([affine, elastic], axis=-1).astype(np.float32))
