"""Recorded benchmark tasks, read where they lie: beside the checkout, or where POINTSMAN_DATA says."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.contract.catalog import Candidate, Catalog
from service.forecast.history import OutcomeRow

Array = npt.NDArray[np.float64]

HUMAN_MINUTES = {"<15 min fix": 8.0, "15 min - 1 hour": 30.0, "1-4 hours": 120.0, ">4 hours": 480.0}
"""The geometric middle of each class of the human difficulty labels."""

PUBLISHED_AS = {
    "gpt-5-nano": "GPT-5 nano (2025-08-07) (medium reasoning)",
    "gpt-5-mini": "GPT-5 mini (2025-08-07) (medium reasoning)",
    "gpt-5": "GPT-5 (2025-08-07) (medium reasoning)",
    "gpt-5.1-codex": "GPT-5.1-codex (medium reasoning)",
    "deepseek-v3.2-reasoner": "DeepSeek V3.2 Reasoner",
    "minimax-m2": "Minimax M2",
    "glm-4.6": "GLM-4.6 (T=1)",
    "gemini-3-pro": "Gemini 3 Pro Preview (2025-11-18)",
    "claude-sonnet-4": "Claude 4 Sonnet (20250514)",
    "claude-sonnet-4-5": "Claude 4.5 Sonnet (20250929)",
    "claude-opus-4-5": "Claude 4.5 Opus medium (20251101)",
    "qwen3-coder-480b": "Qwen3-Coder 480B/A35B Instruct",
}
"""Under which name the leaderboard publishes each model of the recorded tasks."""


def data_directory() -> Path | None:
    """Where the recorded tasks are, or None where they are not on this machine."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    place = Path(os.environ.get("POINTSMAN_DATA") or beside)
    return place if (place / "swebench_dev.jsonl").is_file() else None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Tasks × models: what was solved, and at which cost in US dollars."""

    tasks: list[dict[str, Any]]
    models: tuple[str, ...]
    solved: npt.NDArray[np.bool_]
    cost_usd: Array

    @classmethod
    def load(cls, directory: Path) -> "Recorded":
        """Reads swebench_dev.jsonl."""
        tasks = read_lines(directory / "swebench_dev.jsonl")
        models = tuple(tasks[0]["outcomes"])
        return cls(
            tasks=tasks,
            models=models,
            solved=np.array([[task["outcomes"][model]["solved"] for model in models] for task in tasks]),
            cost_usd=np.array([[task["outcomes"][model]["cost_usd"] for model in models] for task in tasks]),
        )

    def human_minutes(self) -> Array:
        """Minutes by the people who labelled the tasks."""
        return np.array([HUMAN_MINUTES[task["difficulty"]] for task in self.tasks])

    def outcomes(self, tasks: Iterable[int], minutes: Sequence[float] | Array | None = None) -> list[OutcomeRow]:
        """Every model's outcome on these tasks, as learning reads them."""
        return [
            OutcomeRow(
                agent_type="any",
                model=model,
                solved=bool(self.solved[t, m]),
                cost_usd=float(self.cost_usd[t, m]),
                labels=self.tasks[t]["labels"],
                task=self.tasks[t]["id"],
                minutes=None if minutes is None else float(minutes[t]),
            )
            for t in tasks
            for m, model in enumerate(self.models)
        ]

    def catalog(self, directory: Path | None, *, without: Sequence[str] = ()) -> Catalog:
        """The models with their published rates and costs, or with nothing known where no directory is given."""
        published: dict[str, dict[str, Any]] = {}
        if directory is not None:
            rows = json.loads((directory / "published_rates.json").read_text(encoding="utf-8"))["rows"]
            published = {row["model"]: row for row in rows}
        return Catalog(
            Candidate(
                agent_type="any",
                model=model,
                solve_rate=published[PUBLISHED_AS[model]]["resolved"] if published else None,
                cost_usd=published[PUBLISHED_AS[model]]["cost_usd_per_task"] if published else None,
            )
            for model in self.models
            if model not in without
        )


def folds(tasks: int, parts: int, seed: int) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """(learned from, tested on) for each part of a shuffled k-fold cross-validation."""
    order = np.random.default_rng(seed).permutation(tasks)
    return [(np.delete(order, np.s_[part::parts]), order[part::parts]) for part in range(parts)]


def area(score: Array, positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half."""
    above, below = score[positive][:, None], score[~positive][None, :]
    return float(((above > below) + 0.5 * (above == below)).mean())


def concordance(score: Array, rank: Array) -> float:
    """The same over every pair of different ranks: 0.5 is chance, 1 is the right order."""
    i, j = np.triu_indices(len(rank), 1)
    differ = rank[i] != rank[j]
    return float((np.sign(score[i] - score[j]) * np.sign(rank[i] - rank[j]))[differ].mean() / 2 + 0.5)
