"""How often is a learner called different from itself, and how often is a true difference found?

    python examples/benchmarks/false_alarms/false_alarms.py
    python examples/benchmarks/false_alarms/false_alarms.py --search race --ensemble

Five learners are meta-trained twelve times on each of three task distributions, each run from another seed, and judged
on the same test tasks. Then the runs of one learner are split at random into two sides, which are compared as if they
were two learners: every difference is a false alarm. For a true difference, one side's scores are moved by four times
the spread of the run means. Scores go to ``runs/false_alarms.csv``, and are not taken again if they are there.

With ``--search`` whole comparisons are made again and again, of entrants that are the same learner. Their only
hyperparameter is a number that decides their luck, so that whatever a search finds on the meta-valid tasks is worth
nothing on the meta-test tasks, and every difference is a false alarm: of two entrants, or of two halves of the runs of
one, the ensemble too.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import warnings
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import autometa as am

HERE = Path(__file__).parent
TASKS = {
    "digits": am.make_tasks("digits", n_way=3, n_shot=1, n_query=5),
    "glyphs": am.make_tasks("glyphs", size=8, n_way=3, n_shot=1, n_query=5),
    # Squared errors of few examples: a few tasks have most of the error.
    "sinusoid": am.make_tasks("sinusoid", n_shot=5, n_query=10),
}
SMALL_MAML = am.make_learner("maml", backbone=am.make_backbone("conv4", n_filters=8, norm="group"), first_order=True)
LEARNERS = {
    "digits": ("prototypical", "ridge", "maml", "in_context", "fine_tune"),
    "glyphs": ("prototypical", "ridge", "maml", "in_context", "fine_tune"),
    "sinusoid": ("ridge", "maml", "in_context", "fine_tune", "multitask"),
}
RUNS, STEPS, TASKS_PER_STEP, TEST_TASKS, SPLITS = 12, 30, 8, 300, 200
ALARMS_AT_MOST, POWER_AT_LEAST = 15, 0.8


class Luck(am.Learner):
    """Another learner whose luck is a hyperparameter: where its parameters begin, and how much each task counts.

    Parameters
    ----------
    inner : Learner
    luck : int
        It is mixed with the seed of the run, so that of another run, with another seed, it says nothing.
    """

    default_meta_optimizer: ClassVar[str | None] = "gradient"
    provides: ClassVar[frozenset[str]] = frozenset({"gradient"})

    def __init__(self, inner: am.Learner, luck: int = 0) -> None:
        self.inner = inner
        self.luck = luck

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Begin where the seed of the run and luck say."""
        seed = am.derive_seed(int(torch.randint(2**31, ())), self.luck)
        torch.manual_seed(seed)
        module = self.inner.build(info)
        module.register_buffer("seed", torch.tensor(seed % 2**31))
        return module

    def adapt(self, module: nn.Module, support: am.Examples) -> Any:
        """As the other does."""
        return self.inner.adapt(module, support)

    def predict(self, module: nn.Module, adapted: Any, x: Tensor) -> Tensor:
        """As the other does."""
        return self.inner.predict(module, adapted, x)

    def meta_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Weigh tasks at random, as a Bayesian bootstrap does, for entrants of the same seed draw the same ones."""
        generator = torch.Generator().manual_seed(am.derive_seed(int(module.get_buffer("seed")), round(1e6 * progress)))
        weights = -torch.rand(len(batch), generator=generator).clamp(min=1e-6).log()
        return self.inner.meta_loss(module, batch, progress) * weights


def luck_of(inner: am.Learner, entrant: int) -> Luck:
    """An entrant: a class of its own, whose search space is its luck."""

    class Entrant(Luck):
        def __init__(self, inner: am.Learner = inner, luck: int = 1000 * entrant) -> None:
            super().__init__(inner, luck)

        @classmethod
        def suggest(cls, trial: Any, info: am.TaskInfo) -> Self:
            """Draw luck."""
            return cls(luck=trial.suggest_int("luck", 0, 10**6))

    return Entrant()


class Fixed(type(am.make_meta_optimizer("gradient"))):  # type: ignore[misc]
    """The meta-optimizer without a search space: another learning rate would make another learner."""

    @classmethod
    def suggest(cls, trial: Any, info: am.TaskInfo) -> Self:
        """Draw nothing."""
        return cls()


ENTRANTS, HALF = 3, 3
EQUALS = {
    "ridge, sinusoid": ("sinusoid", "ridge"),
    "prototypical, digits": ("digits", "prototypical"),
}


def alarms_among_equals(what: str, repetition: int, search: str, ensemble: bool, steps: int) -> pd.DataFrame:
    """Compare entrants that are equal once; return one row per test: ``kind`` and ``alarm``."""
    tasks, learner = EQUALS[what]
    inner = am.make_learner(learner, backbone="mlp")
    comparison = am.compare(
        {tasks: TASKS[tasks]},
        {f"entrant {k}": (luck_of(inner, k), Fixed()) for k in range(ENTRANTS)},
        baselines=False,
        n_trials=4,
        n_seeds=2 * HALF,
        max_steps=steps,
        tasks_per_step=TASKS_PER_STEP,
        n_test_tasks=100,
        n_valid_tasks=20,
        random_state=repetition,
        search=search,  # type: ignore[arg-type]
        verbose=0,
        **({"ensemble": True} if ensemble else {}),
    )
    pairs = comparison.significance
    of_entrants = pairs[(pairs["learner_a"] != "ensemble") & (pairs["learner_b"] != "ensemble")]
    first = of_entrants[(of_entrants["learner_a"] == "entrant 0") | (of_entrants["learner_b"] == "entrant 0")]
    best = comparison.leaderboard.loc[comparison.leaderboard["learner"] != "ensemble", "learner"].iloc[0]
    rows = [("pairs of entrants", bool((of_entrants["verdict"] == "different").any()))]
    # All are the best, and any one that is chosen before may be left out in 5%.
    rows.append(("the first is left out", best != "entrant 0" and bool((first["p_beside_best"] < 0.05).any())))
    for name, of in comparison.scores.groupby("learner"):
        scores = matrix(of)
        alarm = verdict(scores[:, :HALF], scores[:, HALF:])["verdict"] == "different"
        kind = "halves of the ensemble" if name == "ensemble" else "halves of an entrant"
        rows.append((kind, bool(alarm)))
    return pd.DataFrame([(what, repetition, *row) for row in rows], columns=["what", "repetition", "kind", "alarm"])


def search_among_equals(search: str, ensemble: bool, repetitions: int, steps: int, path: Path) -> None:
    """Repeat comparisons of equals, keep what each said in a file, and print the table."""
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["what", "repetition", "kind", "alarm"])
    for repetition in range(repetitions):
        for what in EQUALS:
            if not ((table["what"] == what) & (table["repetition"] == repetition)).any():
                more = alarms_among_equals(what, repetition, search, ensemble, steps)
                table = more if table.empty else pd.concat([table, more], ignore_index=True)
                path.parent.mkdir(parents=True, exist_ok=True)
                table.to_csv(path, index=False)
    print(f"search={search}, ensemble={ensemble}: {ENTRANTS} equal entrants, {2 * HALF} runs each of {steps} steps")
    print("| what | test | alarms | of |")
    print("|---|---|---|---|")
    for (what, kind), of in table.groupby(["what", "kind"], sort=False):
        print(f"| {what} | {kind} | {int(of['alarm'].sum())} | {len(of)} |")


def runs_of(learner: str, tasks: str) -> NDArray[np.float64]:
    """Scores of all runs of a learner, [test tasks, runs]."""
    comparison = am.compare(
        {tasks: TASKS[tasks]},
        {learner: SMALL_MAML if learner == "maml" and tasks != "sinusoid" else learner},
        baselines=False,
        n_trials=1,
        n_seeds=RUNS,
        max_steps=STEPS,
        tasks_per_step=TASKS_PER_STEP,
        n_test_tasks=TEST_TASKS,
        n_valid_tasks=10,
        verbose=0,
    )
    return matrix(comparison.scores)


def matrix(scores: pd.DataFrame) -> NDArray[np.float64]:
    """Scores of one learner, [test tasks, runs]."""
    return scores.pivot_table(index="task", columns="seed", values="score").to_numpy()


def taken(path: Path, only: list[str] | None) -> pd.DataFrame:
    """Scores of all learners; those that the file has already are not taken again."""
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["tasks", "learner", "seed", "task", "score"])
    there = set(zip(table["tasks"], table["learner"], strict=True))
    for tasks, learners in LEARNERS.items():
        for learner in learners:
            if (tasks, learner) in there or (only is not None and learner not in only):
                continue
            scores = runs_of(learner, tasks)
            rows = [(tasks, learner, run, task, round(score, 6)) for (task, run), score in np.ndenumerate(scores)]
            more = pd.DataFrame(rows, columns=table.columns)
            table = more if table.empty else pd.concat([table, more], ignore_index=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(path, index=False)
            print(
                f"{learner} on {tasks}: {scores.mean():.4f}, runs spread by {scores.mean(0).std(ddof=1):.4f}",
                flush=True,
            )
    return table


def verdict(a: NDArray[np.float64], b: NDArray[np.float64]) -> pd.Series:
    """The row of `am.significance` for two sides."""
    rows = [
        ("tasks", side, run, task, score)
        for side, scores in (("a", a), ("b", b))
        for (task, run), score in np.ndenumerate(scores)
    ]
    table = pd.DataFrame(rows, columns=["tasks", "learner", "seed", "task", "score"])
    return am.significance(table, higher_is_better=True).iloc[0]


def counts(scores: NDArray[np.float64], runs: int, gap: float, seed: int) -> tuple[int, int]:
    """Splits in which the two sides are called different: the learners, and the trained models over tasks."""
    rng = np.random.default_rng(seed)
    learners = models = 0
    for _ in range(SPLITS):
        order = rng.permutation(scores.shape[1])
        row = verdict(scores[:, order[:runs]], scores[:, order[runs : 2 * runs]] + gap)
        learners += row["verdict"] == "different"
        models += row["p_models"] < 0.05
    return learners, models


def main() -> None:
    """Take the runs, split them and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=Path, default=Path("runs/false_alarms.csv"))
    parser.add_argument("--learners", nargs="+", help="these alone; the table is then not written")
    parser.add_argument("--search", help="compare equal entrants with this search, such as separate or race")
    parser.add_argument("--ensemble", action="store_true", help="with --search: let an ensemble take part")
    parser.add_argument("--repetitions", type=int, default=200, help="with --search: comparisons of each kind")
    parser.add_argument("--steps", type=int, default=STEPS, help="with --search: outer steps of a run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    if arguments.search is not None:
        name = f"false_alarms_{arguments.search}{'_ensemble' * arguments.ensemble}_{arguments.steps}.csv"
        path = arguments.scores.with_name(name)
        search_among_equals(arguments.search, arguments.ensemble, arguments.repetitions, arguments.steps, path)
        return
    table = taken(arguments.scores, arguments.learners)
    rows, worst, weakest = [], 0, 1.0
    for (tasks, learner), of in table.groupby(["tasks", "learner"], sort=False):
        scores = matrix(of)
        spread = scores.mean(0).std(ddof=1)
        by_tasks = scores.mean(1).std(ddof=1) / np.sqrt(len(scores))
        three, five = (counts(scores, runs, 0.0, seed=runs) for runs in (3, 5))
        power = counts(scores, 3, 4 * spread, seed=3)[0] / SPLITS
        worst, weakest = max(worst, three[0], five[0]), min(weakest, power)
        rows.append(
            f"| {learner}, {tasks} | {scores.mean():.4g} | {spread:.2g} | {by_tasks:.2g} | {three[0]} | {five[0]} | "
            f"{five[1]} | {power:.0%} |"
        )
        print(rows[-1], flush=True)
    text = [
        "# False alarms",
        "",
        f"Written by `python examples/benchmarks/false_alarms/false_alarms.py`, {datetime.date.today()}, "
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread.",
        "",
        f"{RUNS} runs of {STEPS} steps of each learner, judged on the same {TEST_TASKS} test tasks. {SPLITS} times the "
        "runs of one learner are split into two sides and compared as if they were two learners; 5% of alarms are "
        f"{SPLITS // 20}. Power: how often a difference of four spreads of the run means is found with three runs.",
        "",
        "| learner, tasks | mean score | spread of runs | standard error over tasks | alarms of 200, 3 runs | 5 runs | "
        "Wilcoxon over tasks alone, 5 runs | power |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        f"Most alarms of the test of learners: {worst} of {SPLITS} (asked: at most {ALARMS_AT_MOST}). Smallest power: "
        f"{weakest:.0%} (asked: at least {POWER_AT_LEAST:.0%}). The splits are of the same {RUNS} runs and so not "
        "independent: counts spread more about 5% than those of as many pairs of new runs would.",
    ]
    if arguments.learners is None:
        (HERE / "false_alarms.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
