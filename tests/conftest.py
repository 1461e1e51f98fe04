"""What all tests share: checked shapes, one thread, a fresh host and fake installed distributions."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import TextIO

import pytest

# scipy reads it when it is imported, and scikit-learn's checks of array API dispatch are skipped without it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# Libraries read it when they are loaded, here and in the processes that tests start. One thread a test: as many tests
# run at once as there are cores, and threads that wait for a core take twice the time.
os.environ.setdefault("AUTOMETA_TEST_THREADS", "1")
os.environ["OMP_NUM_THREADS"] = os.environ["AUTOMETA_TEST_THREADS"]
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["AUTOMETA_TEST_THREADS"]
os.environ["MKL_NUM_THREADS"] = os.environ["AUTOMETA_TEST_THREADS"]

import torch
from threadpoolctl import threadpool_limits

import shape_checks

# Shapes and types in signatures are checked while tests run; users pay nothing for them.
shape_checks.install(["autometa.contracts", "autometa.engine", "autometa.training", "autometa_plugins"])

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # where a shell started the tests in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a GPU, convolutions as exact as the CPU's: what is compared is the code, not the tensor cores' rounding.
torch.backends.cudnn.allow_tf32 = False
THREADS = int(os.environ["AUTOMETA_TEST_THREADS"])
threadpool_limits(THREADS)  # numpy is loaded already
torch.set_num_threads(THREADS)

# What a test writes need not outlast a power cut, and a comparison waits for the disk a tenth of its time.
os.fsync = lambda file: None

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def shapes_checked() -> None:
    """Check the first calls of every test."""
    shape_checks.calls.clear()


@pytest.fixture(scope="module", autouse=True)
def pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Draw pictures of reports in modules marked with ``pictures`` alone: they take half the time of a comparison."""
    if request.node.get_closest_marker("pictures"):
        yield
        return
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    def undrawn(canvas: FigureCanvasSVG, file: TextIO, **options: object) -> None:
        width, height = 72 * canvas.figure.get_size_inches()
        file.write(f'<svg viewBox="0 0 {width} {height}"></svg>')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasSVG, "print_svg", undrawn)
        yield


@pytest.fixture(autouse=True)
def reports(request: pytest.FixtureRequest) -> Iterator[None]:
    """Write one line for a report that a test makes, unless it is marked with ``reports`` or ``pictures``.

    A whole one takes a quarter of the time of a comparison. Fixtures of a module write whole ones.
    """
    if any(map(request.node.get_closest_marker, ("reports", "pictures"))):
        yield
        return
    from autometa.comparison.report import page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "render", lambda record: "<title>reports are not written here</title>\n")
        yield


@pytest.fixture
def fresh_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Load plugins anew in this test, and forget them after it."""
    from autometa.host import get_host

    monkeypatch.setenv("AUTOMETA_DISABLED_PLUGINS", "")
    get_host.cache_clear()
    yield
    get_host.cache_clear()


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_host: None) -> Iterator[Install]:
    """Put distributions on the path, as installed ones are: ``install("acme", "acme_plugin", code, requires=[...])``.

    The plugin's module is ``acme_plugin``, its distribution ``acme`` 1.0, and its entry point has the module's
    name unless ``plugin`` says another. ``install.metadata["acme"]`` is the folder of its metadata.
    """
    modules = []
    folders: dict[str, Path] = {}

    def install(distribution: str, module: str, code: str, *, plugin: str = "", requires: tuple[str, ...] = ()) -> None:
        folder = tmp_path / "site" / distribution
        metadata = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (folder / f"{module}.py").write_text(dedent(code))
        needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n{needs}")
        (metadata / "entry_points.txt").write_text(f"[autometa]\n{plugin or module} = {module}\n")
        modules.append(module)
        folders[distribution] = metadata
        monkeypatch.syspath_prepend(folder)

    install.metadata = folders
    yield install
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def live_tensors() -> Iterator[Callable[[], int]]:
    """Counts the tensors that were made in this test and are still alive."""
    gc.collect()
    gc.freeze()  # what is older is not looked at, which would take seconds

    def count() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    yield count
    gc.unfreeze()


@pytest.fixture(scope="session")
def decoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of decoded images by data set, in pytest's cache: only the first run of all waits for them."""
    kept: pytest.Cache | None = getattr(request.config, "cache", None)  # off with -p no:cacheprovider
    return tmp_path_factory.mktemp if kept is None else kept.mkdir


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of real data sets that are no part of the repository."""
    places = [os.environ.get("AUTOMETA_DATA"), str(REPOSITORY.parent / "shared" / "data")]
    for place in places:
        if place and Path(place).is_dir():
            return Path(place)
    pytest.skip("real data are not here: set AUTOMETA_DATA to their folder")
