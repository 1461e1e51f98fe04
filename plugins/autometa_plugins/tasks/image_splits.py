"""Which split every class folder belongs to: what folders say is kept, the rest is drawn."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

import autometa as am
from autometa_plugins.tasks.image_files import ImageFile

_SPELLINGS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "devel", "development"), "valid"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_PAIRED = {
    **dict.fromkeys(("background", "base"), "train"),
    **dict.fromkeys(("evaluation", "eval", "novel"), "test"),
}
"""Words that name a split only beside the other: alone they may well name a class."""

_FILLERS = {"meta", "set", "data", "dataset", "split", "folder", "image", "images", "img", "imgs"}
"""Words beside a spelling that change nothing."""


def split_named(folder: str) -> str | None:
    """Return the split that a folder is named after (``Train``, ``val``, ``dev_set``, ``meta-test``), or None."""
    return _SPELLINGS.get(_word(folder))


def _word(folder: str) -> str:
    """Return the only word of a folder's name that is no filler, or nothing."""
    words = [word for word in re.findall("[a-z]+", folder.lower()) if word not in _FILLERS]
    return words[0].removeprefix("meta").removesuffix("set") if len(words) == 1 else ""


def _splits_named(folders: Iterable[str]) -> dict[str, str]:
    """Return the splits that folders lying beside each other are named after (``base`` and ``novel``, too)."""
    words = {folder: _word(folder) for folder in sorted(folders)}
    named = {folder: _SPELLINGS[word] for folder, word in words.items() if word in _SPELLINGS}
    sure = set(named.values())
    paired = {folder: _PAIRED[word] for folder, word in words.items() if word in _PAIRED and _PAIRED[word] not in sure}
    return named | paired if {"train", "test"} <= sure | set(paired.values()) else named


def assign_splits(
    files: Sequence[ImageFile], root: str, held_out: Mapping[str, float], split_seed: int
) -> tuple[list[ImageFile], list[str], dict[str, str], dict[str, str]]:
    """Tell classes and splits by the folders.

    Parameters
    ----------
    files : sequence of ImageFile
    root : str
        Where they lie, for messages.
    held_out : mapping of {"valid", "test"} to float
        Parts of the meta-train classes to draw for a split that no folder is named after.
    split_seed : int
        Decides which.

    Returns
    -------
    files : list of ImageFile
        Those that belong to a split.
    class_of : list of str
        Class of each.
    split_of : dict
        Split of every class.
    drawn : dict
        Of every split that no folder is named after, how its classes were chosen, for messages.

    Raises
    ------
    InvalidData
        The folders name splits in a way that cannot be meant, or there are too few classes.
    """
    given = _given_folders(files, root)
    if not given:
        _check_no_split_below(files, root)
        _warn_of_unnamed_splits(files, root)
    kept = [file for file in files if file.parts[0] in given] if given else list(files)
    class_of = ["/".join(_class_parts(file, given)) for file in kept]
    split_of: dict[str, str] = {}
    for file, name in zip(kept, class_of, strict=True):
        split = given.get(file.parts[0], "train")
        if not name:
            place = f"split {split!r}" if given else f"root={root!r}"
            raise am.InvalidData(f"image {file.location!r} lies in no class folder; {place} needs them.")
        if split_of.setdefault(name, split) != split:
            raise am.InvalidData(f"class {name!r} stands in both {split_of[name]!r} and {split!r}; keep one.")
    missing = {split: part for split, part in held_out.items() if split not in given.values()}
    n_train = sum(split == "train" for split in split_of.values())
    origin = f"the {n_train} classes of {next(top for top in given if given[top] == 'train')!r}" if given else "all"
    drawn = {split: f"drawn from {origin} by {split}_fraction={part!r}" for split, part in missing.items()}
    return kept, class_of, split_of | _drawn(split_of, missing, root, split_seed), drawn


def _class_parts(file: ImageFile, given: Mapping[str, str]) -> tuple[str, ...]:
    """Folders of a file below its split; a folder in an archive that only repeats the split is left out."""
    parts = file.parts[:-1]
    if not given:
        return parts
    repeats = len(parts) > 2 and (_SPELLINGS | _PAIRED).get(_word(parts[1])) == given[parts[0]]
    return parts[1 + repeats :]


def _given_folders(files: Sequence[ImageFile], root: str) -> dict[str, str]:
    """Split of every folder directly below the root that is named after one and holds class folders."""
    tops = Counter(file.parts[0] for file in files)
    if not _splits_named({file.parts[0] for file in files if len(file.parts) > 2}):
        return {}
    given = _splits_named(tops)
    beside = ", ".join(f"{top!r} ({count})" for top, count in sorted(tops.items()) if top not in given)
    for split in am.SPLITS:
        same = [top for top in given if given[top] == split]
        if len(same) > 1:
            raise am.InvalidData(f"root={root!r} has {same[0]!r} and {same[1]!r}, which both mean {split!r}; keep one.")
    if "train" not in given.values():
        others = f"; beside it lie images: {beside}" if beside else ""
        raise am.InvalidData(
            f"root={root!r} has a folder {next(iter(given))!r} but none for meta-training{others}; name their folder "
            "'train'."
        )
    if beside:
        splits = ", ".join(map(repr, given))
        am.warn_user(f"root={root!r} has the splits {splits}; left out are the images beside them: {beside}.")
    return given


def _check_no_split_below(files: Sequence[ImageFile], root: str) -> None:
    """Refuse folders named after splits where they are not looked for: test classes would be trained on."""
    below: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for file in files:
        for depth, part in enumerate(file.parts[:-1]):
            below[file.parts[:depth]].add(part)
    for above, folders in below.items():
        named = {split: folder for folder, split in _splits_named(folders).items()}
        if "train" in named and len(named) > 1:
            place = "/".join((root.rstrip("/"), *above))
            raise am.InvalidData(
                f"{place!r} holds {', '.join(map(repr, named.values()))}, but splits are read only directly below "
                "root, with class folders in each: root/train/CLASS/IMAGE. Move them, or give their folder as root."
            )


_MOST_UNNAMED = 4
"""Folders of class folders that could be splits."""


def _warn_of_unnamed_splits(files: Sequence[ImageFile], root: str) -> None:
    """Tell that a few folders of class folders are pooled: one of them may be held out for the judgement."""
    tops = sorted({file.parts[0] for file in files})
    if 2 <= len(tops) <= _MOST_UNNAMED and all(len(file.parts) > 2 for file in files):
        am.warn_user(
            f"root={root!r} holds {len(tops)} folders of class folders, {', '.join(map(repr, tops))}, and none is "
            "named after a split: their classes are pooled and the held-out ones drawn from all of them. If some are "
            "held out, name the folders 'train', 'valid' and 'test'."
        )


def _drawn(split_of: Mapping[str, str], missing: Mapping[str, float], root: str, split_seed: int) -> dict[str, str]:
    """Splits of the meta-train classes, some of them drawn for the splits that are missing."""
    names = sorted(name for name, split in split_of.items() if split == "train")
    # A task has at least two classes; fewer are held out only where there are not enough.
    for least in (2, 1):
        sizes = {split: max(least, round(part * len(names))) for split, part in missing.items()}
        n_train = len(names) - sum(sizes.values())
        if n_train >= least:
            break
    if n_train < 1:
        wanted = " and ".join(f"{size} for meta-{split}" for split, size in sizes.items())
        raise am.InvalidData(f"root={root!r} has {len(names)} class folders, too few to hold out {wanted}.")
    order = np.random.default_rng(am.derive_seed(split_seed, "classes")).permutation(len(names))
    parts = np.split(order, np.cumsum([n_train, *sizes.values()])[:-1])
    return {names[i]: split for split, part in zip(("train", *sizes), parts, strict=True) for i in part}
