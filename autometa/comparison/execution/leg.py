"""A part of a trial's meta-training: a race lets a trial pause after the first part, and perhaps go on later."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autometa.comparison.execution.kept_best import KeptBest
from autometa.errors import InvalidFile, InvalidParameter, StorageError
from autometa.files import container
from autometa.files.atomic import write_whole
from autometa.files.codec import TREE, Tensors
from autometa.schema import Schema, finite, positive, whole
from autometa.training import MetaTraining

KIND = "paused trial"
_WRITTEN: Schema = {
    "rows": [{"step": positive, "seconds": finite, "loss": finite}],
    "kept": {"looks": [finite], "scores": [finite], "step": whole(), "behind": whole()},
    "state": TREE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """What one slot of a study does of a trial."""

    until: float = 1.0
    """Share of meta-training at which it ends."""
    begun_in: int | None = None
    """Slot of the leg that it goes on from; None: it begins."""
    folder: Path | None = None
    """Where paused runs lie; None: a run that goes on is run again from its start."""

    def resume(self, training: MetaTraining, kept: KeptBest) -> None:
        """Take up a paused run; without its file, or with a damaged one, the run begins anew, and ends alike."""
        state = self._read()
        if state is not None:
            training.load_state_dict(state["training"])
            kept.load_state_dict(state["kept"])

    def _read(self) -> dict[str, Any] | None:
        if self.begun_in is None or self.folder is None or not (path := self._path(self.begun_in)).exists():
            return None
        try:
            document, tensors = container.unpack(container.read(path), path)
            container.check_document(document, _WRITTEN, path)
            state = Tensors(tensors).decode(document["state"])
        except (OSError, InvalidFile):
            return None
        return {
            "training": state["training"] | {"rows": document["rows"]},
            "kept": state["kept"] | document["kept"],
        }

    def forget(self) -> None:
        """Delete the run that this leg went on from."""
        if self.begun_in is not None and self.folder is not None:
            with suppress(OSError):  # it is deleted with its folder
                self._path(self.begun_in).unlink(missing_ok=True)

    def pause(self, slot: int, training: MetaTraining, kept: KeptBest) -> None:
        """Keep a run that may go on."""
        if self.folder is None:
            return
        tensors = Tensors()
        running, best = training.state_dict(), kept.state_dict()
        rows, state = running.pop("rows"), best.pop("state")
        try:
            code = tensors.encode({"training": running, "kept": {"state": state}}, "the state of a trial")
        except InvalidParameter:
            return  # a plugin's own object: the run will begin anew
        document = {"estimator": KIND, "rows": rows, "kept": best, "state": code}
        with suppress(StorageError):  # without the file the run begins anew, and ends alike
            write_whole(self._path(slot), container.pack(document, tensors.by_name), make_folders=True)

    def _path(self, slot: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{slot}.paused"
