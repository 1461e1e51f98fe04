"""What the report shows of actors in a few held-out worlds: the first and the last episode side by side."""

from __future__ import annotations

from collections.abc import Iterable

from autometa.comparison.report.across import leaderboard_on, learner_cell
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.figures import steps_figure
from autometa.comparison.report.markup import escape, score_text
from autometa.comparison.results.record import Record
from autometa.comparison.results.shown import ShownEpisode, ShownTrials

_SAID = (
    "The first and the last episode of a trial, in the same held-out worlds for every learner, after the first of its "
    "meta-trainings."
)


def shown_section(record: Record, tasks: str, looks: dict[str, Style]) -> str:
    """What the winner did in a few worlds, and folded away what the others did; empty where nothing acts."""
    shown = record.shown.get(tasks, {})
    board = leaderboard_on(record.frames.leaderboard, tasks)
    own = board[board["trained_on"] == tasks]
    names = [name for name in own["learner"] if name in shown]
    if not names:
        return ""
    metric = str(own["metric"].iloc[0])
    has_pictures = any(episode.picture for world in shown[names[0]].worlds for episode in world)
    key = f" {escape(shown[names[0]].key)}" * has_pictures
    parts = [f'<h3>{escape(tasks)}: what they did</h3><p class="note">{_SAID}{key}</p>']
    for place, name in enumerate(names):
        worlds = _worlds(shown[name], name, metric)
        if place == 0:
            parts.append(f"<p>{learner_cell(name, looks)}</p>{worlds}")
        else:
            parts.append(f"<details><summary>{learner_cell(name, looks)}</summary>{worlds}</details>")
    return "".join(parts)


def _worlds(trials: ShownTrials, name: str, metric: str) -> str:
    """Episodes in rows, one row for each world."""
    return "".join(
        world_row(world, f"World {number}", name, metric) for number, world in enumerate(trials.worlds, start=1)
    )


def world_row(episodes: Iterable[ShownEpisode], world: str, name: str, metric: str) -> str:
    """Episodes in one world side by side."""
    drawn = "".join(_episode(episode, world, name, metric) for episode in episodes)
    return f'<div class="shown">{drawn}</div>'


def _episode(episode: ShownEpisode, world: str, name: str, metric: str) -> str:
    title = f"{world}, episode {episode.number}"
    caption = f"<b>{title}</b>: return {score_text(episode.total, metric)}"
    said = f"{title} of {name}, return {score_text(episode.total, metric)}"
    if episode.picture is None:
        drawn = steps_figure(episode, said)
    else:
        drawn = (
            f'<pre class="world" role="img" aria-label="{escape(said)}" tabindex="0">{escape(episode.picture)}</pre>'
        )
    return f"<figure><figcaption>{caption}</figcaption>{drawn}</figure>"
