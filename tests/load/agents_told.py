"""How often the agent that a task was written for comes first by its description, among published sub-agents.

    python -m tests.load.agents_told [--data DIR]

No task texts are published with the sub-agents. So (1) forty agents of one catalogue were drawn by lot and a task was
written for each from its name alone, before any description was read (tests/data/agent_tasks.jsonl); and (2) agents
that two catalogues share, by different authors, are looked for in the one by the description in the other, names left
out and copies passed over. Beside chance: a draw by lot. Figures are told for the whole catalogue and for ten agents of
it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.classifiers.kind_words import words_of
from service.classifiers.likeness import Likeness
from service.contract.catalog import Candidate
from tests.support.recorded_tasks import data_directory, read_lines

TASKS = Path(__file__).parents[1] / "data" / "agent_tasks.jsonl"
FEW = 10
DRAWS = 20
COPIED = 0.5
"""Share of words that two descriptions have in common from which they count as copies."""

Row = dict[str, Any]


def main() -> None:
    """Prints top 1 and top 3."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_directory())
    rows = read_lines(parser.parse_args().data / "subagent_catalog.jsonl")
    by_repo: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_repo.setdefault(row["repo"], {}).setdefault(row["agent"], row)
    agents = by_repo["VoltAgent/awesome-claude-code-subagents"]
    tasks = read_lines(TASKS)
    report("tasks written for agents drawn by lot", agents, [(task["agent"], task["instructions"]) for task in tasks])
    others = [
        (name, _without(name, row["description"]))
        for found in by_repo.values()
        if found is not agents
        for name, row in found.items()
        if name in agents and _shared(row["description"], agents[name]["description"]) < COPIED
    ]
    report("descriptions of the same agents by other authors", agents, others)


def report(title: str, agents: dict[str, Row], asked: Sequence[tuple[str, str]]) -> None:
    """Over all agents, and over ten of them, the right one and nine drawn by lot."""
    names = sorted(agents)
    scores = [_scores(names, agents, text) for _, text in asked]
    right = [names.index(name) for name, _ in asked]
    draw = np.random.default_rng(0)
    whole = [_rank(score, at) for score, at in zip(scores, right, strict=True)]
    few: list[float] = []
    for score, at in zip(scores, right, strict=True):
        rest = np.delete(np.arange(len(names)), at)
        few += [_rank(score[[at, *draw.choice(rest, FEW - 1, replace=False)]], 0) for _ in range(DRAWS)]
    for ranks, number in ((whole, len(names)), (few, FEW)):
        top = [float(np.mean(np.array(ranks) < k)) for k in (1, 3)]
        print(
            f"{title}, {len(asked)} of them, {number} agents: "
            f"top 1 {top[0]:.0%} (chance {1 / number:.1%}), top 3 {top[1]:.0%} (chance {3 / number:.1%})"
        )


def _scores(names: Sequence[str], agents: dict[str, Row], text: str) -> np.ndarray:
    likeness = Likeness(
        [Candidate(agent_type=name, model="m", agent_description=agents[name]["description"][:1000]) for name in names]
    )
    found = likeness.scores(words_of("", text))
    return np.array([found[place] for place in range(len(names))])


def _rank(score: np.ndarray, at: int) -> float:
    """How many score higher; equal ones count half."""
    return float((score > score[at]).sum() + ((score == score[at]).sum() - 1) / 2)


def _without(name: str, text: str) -> str:
    for part in name.split("-"):
        text = text.lower().replace(part, " ")
    return text


def _shared(one: str, other: str) -> float:
    a, b = set(words_of("", one)), set(words_of("", other))
    return len(a & b) / max(min(len(a), len(b)), 1)


if __name__ == "__main__":
    main()
