"""Lake's one-shot test: twenty fixed tasks of twenty characters each."""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Hashable
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

import autometa as am
from autometa_plugins.tasks.image_cache import default_cache
from autometa_plugins.tasks.image_files import decode_all, list_images, stamp
from autometa_plugins.tasks.omniglot import Omniglot
from autometa_plugins.tasks.omniglot_files import fetch, find_root, shrink

N_RUNS, N_WAY = 20, 20


class LakeRuns(am.TaskSampler):
    """Omniglot's original one-shot classification test (Lake et al. 2015), which people and programs have taken.

    Meta-test holds 20 fixed tasks, the runs of ``all_runs.zip``: 20 characters of one alphabet, one drawing of each to
    learn from and one by another drawer to classify. People make 4.5% errors (Lake et al. 2015). It is
    harder than random classes of ``omniglot``, for the characters of an alphabet resemble each other, and the
    20 x 20 answers leave a standard error of one or two points.

    Meta-train and meta-valid draw like tasks from the 30 background alphabets, five of which are meta-valid's;
    alphabets of fewer than 20 characters are left out.

    Parameters
    ----------
    root : path, optional
        Folder with ``images_background.zip``, ``images_evaluation.zip`` and ``all_runs.zip``, or what they hold
        unpacked in folders of these names. Without it, as for ``omniglot``.
    n_query : int, default=5
        Query images per class of meta-train and meta-valid tasks, at most 19; a run has one.
    rotations : bool, default=True
        Whether background alphabets turned by 90, 180 and 270 degrees are further alphabets to train on.
    split_seed : int, default=0
        Decides which alphabets are meta-valid's.
    download : bool, default=False
        Whether to fetch what is missing from the official addresses.
    cache : path, optional
        Where decoded images are kept; default is ``autometa`` in the user's cache folder.

    Notes
    -----
    ``sample(20, split="test", seed=...)`` gives each run exactly once, whatever the seed, which only decides their
    order; asked for more tasks, it goes round again. So an evaluation on 20 meta-test tasks is the official one:
    ``n_test_tasks=20`` in a comparison. ``TaskBatch.ids`` of meta-test tasks are the numbers of the runs, from 0.
    """

    names_files: ClassVar[frozenset[str]] = frozenset({"root"})

    _prepared: tuple[dict[str, Any], Omniglot, am.TaskBatch]

    def __init__(
        self,
        *,
        root: str | Path | None = None,
        n_query: int = 5,
        rotations: bool = True,
        split_seed: int = 0,
        download: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        self.root = root
        self.n_query = n_query
        self.rotations = rotations
        self.split_seed = split_seed
        self.download = download
        self.cache = cache

    @property
    def info(self) -> am.TaskInfo:
        """20-way 1-shot classification; ``n_query`` as in meta-training.

        Raises
        ------
        MissingData
            Images or runs are not there.
        """
        return self._ready()[0].info

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        """Draw background tasks, or hand out the runs in random order, see the notes of the class."""
        am.check_draw(n_tasks, split, seed)
        background, runs = self._ready()
        if split != "test":
            return background.sample(n_tasks, split=split, seed=seed)  # type: ignore[arg-type]
        order = np.argsort(am.draw_uniform((-(-n_tasks // N_RUNS), N_RUNS), seed, split, "runs"), axis=-1)
        return runs[torch.from_numpy(order.ravel()[:n_tasks]).to(runs.query.y.device)]

    def to(self, device: torch.device | str) -> Self:
        """Return the same sampler with images and runs on ``device``."""
        background, runs = self._ready()
        there = copy(self)
        there._prepared = (self._prepared[0], background.to(device), runs.to(device))
        return there

    def describe(self) -> dict[str, Any]:
        """Numbers of runs and of background alphabets."""
        background, _ = self._ready()
        names = {split: background.class_names(split) for split in ("train", "valid")}
        alphabets = {split: sorted({name.split("/")[0] for name in listed}) for split, listed in names.items()}
        return {"runs": N_RUNS, "meta-train alphabets": alphabets["train"], "meta-valid alphabets": alphabets["valid"]}

    def content(self) -> dict[str, str]:
        """Digest of the drawings and of the runs."""
        background, _ = self._ready()
        root = find_root(self.root, self._cache(), self.download)
        runs = [path for path in (root / "all_runs.zip", root / "all_runs") if path.exists()][:1]
        return {"root": " ".join([background.content()["root"], *map(am.content_of, runs)])}

    def _cache(self) -> Path:
        am.check_path("cache", self.cache, also=(None,), of="task sampler 'lake_runs'")
        return default_cache() if self.cache is None else Path(self.cache).expanduser()

    def _ready(self) -> tuple[Omniglot, am.TaskBatch]:
        parameters = {name: value for name, value in vars(self).items() if name[0] != "_"}
        prepared = vars(self).get("_prepared")
        if prepared is not None and prepared[0] == parameters:
            return prepared[1], prepared[2]
        for name in ("rotations", "download"):
            am.check_bool(name, getattr(self, name), of="task sampler 'lake_runs'")
        cache = self._cache()
        root = find_root(self.root, cache, self.download)
        background = Omniglot(
            n_way=N_WAY, n_query=self.n_query, split="alphabet", within_alphabet=True, **self._passed_on()
        )
        n_classes = sum(len(background.class_names(split)) for split in ("train", "valid"))
        self._prepared = (parameters, background, _runs(root, self.download, n_classes))
        return background, self._prepared[2]

    def _passed_on(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("root", "rotations", "split_seed", "download", "cache")}

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_prepared", None)
        return state


def _runs(root: Path, download: bool, first_class: int) -> am.TaskBatch:
    """All runs in their official order; class ``c`` of run ``r`` has the number ``first_class + 20 r + c``."""
    place = next((path for path in (root / "all_runs.zip", root / "all_runs") if path.exists()), None)
    if place is None and download:
        fetch(root)
        place = root / "all_runs.zip"
    if place is None:
        raise am.MissingData(
            f"all_runs.zip is not in {str(root)!r}; get it from github.com/brendenlake/omniglot, folder "
            "python/one-shot-classification, or let download=True fetch it."
        )
    x, y = _decoded(place, stamp(place))
    classes = first_class + torch.arange(N_RUNS * N_WAY).view(N_RUNS, N_WAY)
    labels = torch.arange(N_WAY).repeat(N_RUNS, 1)
    return am.TaskBatch(
        support=am.Examples(x[:, :N_WAY], labels, n_classes=N_WAY),
        query=am.Examples(x[:, N_WAY:], y, n_classes=N_WAY),
        classes=classes,
        ids=torch.arange(N_RUNS),
    )


@functools.lru_cache(maxsize=2)
def _decoded(place: Path, stamped: Hashable) -> tuple[Tensor, Tensor]:
    """Images [20, 40, 1, 28, 28] of every run, training items first, and classes [20, 20] of the test items."""
    files = {file.parts[-3:]: file for file in list_images(place)}
    keys, answers = [], []
    for run in (f"run{number:02}" for number in range(1, N_RUNS + 1)):
        pairs = dict(line.split() for line in _text(place, f"{run}/class_labels.txt").splitlines() if line.strip())
        learned, asked = sorted(set(pairs.values())), sorted(pairs)
        if len(learned) != N_WAY or len(asked) != N_WAY:
            raise am.InvalidData(
                f"class_labels.txt of {run} in {str(place)!r} pairs {len(asked)} test items with {len(learned)} "
                f"training items; {N_WAY} of each are wanted."
            )
        keys += [tuple(name.split("/")) for name in (*learned, *asked)]
        answers.append([learned.index(pairs[name]) for name in asked])
    missing = ["/".join(key) for key in keys if key not in files]
    if missing:
        raise am.InvalidData(f"{str(place)!r} lacks {missing[0]!r} and {len(missing) - 1} more images.")
    images = decode_all([files[key] for key in keys], shrink)
    return images.view(N_RUNS, 2 * N_WAY, *images.shape[1:]).to(torch.float32).div_(255), torch.tensor(answers)


def _text(place: Path, name: str) -> str:
    """A text file of the runs, wherever they lie; a folder around all runs does not count."""
    try:
        if place.is_dir():
            return next(path for path in (place / name, place / place.stem / name) if path.is_file()).read_text()
        with zipfile.ZipFile(place) as archive:
            return archive.read(next(n for n in archive.namelist() if f"/{n}".endswith(f"/{name}"))).decode()
    except StopIteration:
        raise am.InvalidData(f"{str(place)!r} lacks {name!r}.") from None
