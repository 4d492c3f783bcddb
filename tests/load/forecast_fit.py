"""Fits and measures what the forecast's constants rest on.

    python -m tests.load.forecast_fit effort [--litellm PYTHON]   weights of effort.py, and how well they tell
    python -m tests.load.forecast_fit minutes                     what minutes are worth in the forecast
    python -m tests.load.forecast_fit difficulty                  sigma, calibration after failures, cost slope

Needs the recorded tasks (see tests/support/recorded_tasks.py). `--litellm` names a Python that has LiteLLM installed,
whose rule scorer is then run on the same texts.
"""

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.contract.catalog import Candidate
from service.contract.task import Attempt
from service.forecast import effort
from service.forecast.ability import learn
from service.forecast.difficulty import COST_SLOPE, GRID, POPULATION, SIGMA, chances, log_normal, weights
from service.forecast.evidence import MINUTES_NEUTRAL
from service.forecast.forecaster import Forecaster
from service.forecast.learned import Learned
from tests.support.recorded_tasks import Array, Recorded, area, concordance, data_directory, folds, read_lines

ANCHORS = Path(__file__).parents[1] / "data" / "effort_anchors.jsonl"
"""Task statements with minutes by our own judgement: they span what issues of one project do not."""

RIDGE = 10.0
ISSUE_SHARE = 0.1
"""One issue counts as a tenth of an anchor: there are four times as many, all of one kind, within a factor of 15."""

TIERS = {"SIMPLE": 0, "MEDIUM": 1, "COMPLEX": 2, "REASONING": 3}

LITELLM = """
import json, sys
from unittest.mock import MagicMock
from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter
router = ComplexityRouter(model_name="x", litellm_router_instance=MagicMock())
json.dump([router.classify(text)[1] for text in json.load(sys.stdin)], sys.stdout)
"""


def counted(texts: list[str]) -> Array:
    """The features of each text, a row each."""
    return np.array([list(effort.features("", text).values()) for text in texts])


def ridge(x: Array, y: Array, share: Array) -> Array:
    """Intercept and weights by weighted ridge regression; the intercept is not shrunk."""
    design = np.column_stack([np.ones(len(x)), x])
    penalty = RIDGE * np.eye(design.shape[1])
    penalty[0, 0] = 0.0
    solution = np.linalg.solve(design.T @ (design * share[:, None]) + penalty, design.T @ (y * share))
    return solution.astype(np.float64)


def litellm_scores(python: str | None, texts: list[str]) -> Array | None:
    """LiteLLM's own complexity score of each text, or None where no Python was named."""
    if python is None:
        return None
    done = subprocess.run([python, "-c", LITELLM], input=json.dumps(texts), capture_output=True, text=True, check=True)
    return np.array(json.loads(done.stdout.splitlines()[-1]), dtype=np.float64)


def fit_effort(directory: Path, python: str | None) -> None:
    """Prints the weights for effort.py and the areas under the curve."""
    recorded = Recorded.load(directory)
    anchors = read_lines(ANCHORS)
    prompts = read_lines(directory / "litellm_complexity_eval.jsonl")
    issues = [task["instructions"] for task in recorded.tasks]
    x = np.vstack([counted(issues), counted([row["instructions"] for row in anchors])])
    y = np.log(np.concatenate([recorded.human_minutes(), [row["minutes"] for row in anchors]]))
    share = np.concatenate([np.full(len(issues), ISSUE_SHARE), np.ones(len(anchors))])
    held_out = np.zeros(len(y))
    for train, test in folds(len(y), 10, seed=0):
        beta = ridge(x[train], y[train], share[train])
        held_out[test] = beta[0] + x[test] @ beta[1:]
    beta = ridge(x, y, share)
    names = list(effort.features("", "x"))
    print(f"INTERCEPT = {beta[0]:.2f}")
    print("WEIGHTS =", json.dumps(dict(zip(names, np.round(beta[1:], 2).tolist(), strict=True))))
    error = held_out - y
    n = len(issues)
    print(
        f"held-out spread of ln(minutes): anchors {error[n:].std():.2f} (of {y[n:].std():.2f}), "
        f"issues {error[:n].std():.2f} (of {y[:n].std():.2f})"
    )
    tier = np.array([TIERS[row["expected_tier"]] for row in prompts], dtype=np.float64)
    texts = [row["prompt"] for row in prompts]
    scores = {"effort": (held_out[:n], beta[0] + counted(texts) @ beta[1:])}
    theirs = litellm_scores(python, issues + texts)
    if theirs is not None:
        scores["litellm"] = (theirs[:n], theirs[n:])
    scores["length"] = (np.array([len(text) for text in issues], float), np.array([len(text) for text in texts], float))
    print("scorer    issues >15min  issues >1h  issues order  solved?  prompts not SIMPLE  prompts order")
    easy = recorded.solved.mean(axis=1)
    for name, (on_issues, on_prompts) in scores.items():
        print(
            f"{name:9} {area(on_issues, y[:n] > np.log(15)):13.3f} {area(on_issues, y[:n] > np.log(60)):11.3f} "
            f"{concordance(on_issues, y[:n]):13.3f} {concordance(-on_issues, easy):8.3f} "
            f"{area(on_prompts, tier > 0):19.3f} {concordance(on_prompts, tier):14.3f}"
        )
    print(f"people    {'':39}{concordance(-y[:n], easy):8.3f}")


def fit_minutes(directory: Path) -> None:
    """Prints the weight of minutes, by people and from text, and what it is worth on tasks not learned from."""
    recorded = Recorded.load(directory)
    catalog = recorded.catalog(directory)
    text = np.array([effort.estimate_minutes("", task["instructions"]).minutes for task in recorded.tasks])
    for name, minutes in (("people", recorded.human_minutes()), ("text", text)):
        off = np.log(minutes) - np.log(minutes).mean()
        centred = MINUTES_NEUTRAL * np.exp(off)
        parts = [part for seed in range(4) for part in folds(len(off), 5, seed)]
        free = [learn(catalog, recorded.outcomes(train, centred), minutes_prior=(0.0, 3.0)) for train, _ in parts]
        weight = np.array([learned.minutes_weight for learned in free])
        none = held_out(recorded, off, [(learn(catalog, recorded.outcomes(train)), test) for train, test in parts], 0.0)
        gain = held_out(recorded, off, [(a, test) for a, (_, test) in zip(free, parts, strict=True)], None) - none
        print(f"{name}: fitted {weight.mean():+.2f} ({weight.min():+.2f} to {weight.max():+.2f}), gain {gain / 4:+.2f}")
        for fixed in (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5):
            prior = (fixed, 1e-6)
            given = [
                (learn(catalog, recorded.outcomes(train, centred), minutes_prior=prior), test) for train, test in parts
            ]
            print(f"  fixed at {fixed}: {(held_out(recorded, off, given, fixed) - none) / 4:+.2f}")


def held_out(
    recorded: Recorded, off: Array, parts: list[tuple[Learned, npt.NDArray[np.intp]]], weight: float | None
) -> float:
    """Log-likelihood of the tasks not learned from, with the weight of minutes given or (None) as learned."""
    total = 0.0
    for learned, test in parts:
        theta = np.array([known.theta for known in learned.abilities.values()])
        by = learned.minutes_weight if weight is None else weight
        total += joint(recorded, test, theta, learned.tasks + sum(learned.labels.values()) + by * off[test])
    return total


def joint(recorded: Recorded, tasks: npt.NDArray[np.intp], theta: Array, mean: Array) -> float:
    """Log-likelihood of everything recorded about these tasks, each with its mean difficulty."""
    solve = chances(theta)
    solved = recorded.solved[tasks]
    log_like = solved @ np.log(solve) + ~solved @ np.log1p(-solve)
    prior = np.array([weights(log_normal(one)) for one in mean])
    return float(np.log((np.exp(log_like) * prior).sum(axis=1)).sum())


def fit_difficulty(directory: Path) -> None:
    """Prints the marginal likelihood by sigma, calibration after failures, and cost after failures."""
    recorded = Recorded.load(directory)
    for sigma in (1.5, 2.0, 2.5, 2.75, 3.0, 3.25, 3.5, 4.0):
        print(f"sigma {sigma:.2f}: log marginal likelihood {marginal(recorded.solved, sigma):9.2f}")
    rng = np.random.default_rng(0)
    catalog = recorded.catalog(directory)
    said: list[list[tuple[float, bool, float]]] = [[] for _ in range(7)]
    for train, test in folds(len(recorded.tasks), 5, seed=0):
        forecaster = Forecaster(catalog, learn(catalog, recorded.outcomes(train)))
        for t in test.repeat(10):
            attempts: list[Attempt] = []
            for step, candidate in enumerate(shuffled(rng, catalog.candidates)[:7]):
                m = recorded.models.index(candidate.model)
                forecast = forecaster.forecast(
                    [candidate],
                    labels=recorded.tasks[t]["labels"],
                    minutes=None,
                    minutes_source="text",
                    attempts=attempts,
                )
                solved = bool(recorded.solved[t, m])
                said[step].append((forecast.p_solve[0], solved, recorded.cost_usd[t, m] / forecast.cost_usd[0]))
                if solved:
                    break
                attempts.append(Attempt(agent_type="any", model=candidate.model, result="failed"))
    print(f"after k failures in random order, 5-fold, sigma {SIGMA}, cost slope {COST_SLOPE}:")
    for step, rows in enumerate(said):
        p, solved, cost = np.array(rows, dtype=np.float64).T
        print(
            f"  {step}: said {p.mean():.3f}, was {solved.mean():.3f}; cost / forecast {cost.mean():.2f}  (n={len(p)})"
        )
    print(f"mean of the population's difficulty {POPULATION @ GRID:.1e}")


def shuffled(rng: np.random.Generator, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates in random order."""
    order = rng.random(len(candidates))
    return [candidate for _, candidate in sorted(zip(order, candidates, strict=True), key=lambda pair: pair[0])]


def marginal(solved: npt.NDArray[np.bool_], sigma: float) -> float:
    """The highest marginal likelihood with free abilities, by the EM of Bock and Aitkin 1981 itself."""
    prior = np.exp(-0.5 * (GRID / sigma) ** 2)
    prior /= prior.sum()
    theta = np.zeros(solved.shape[1])
    best = -np.inf
    for _ in range(300):
        solve = chances(theta)
        posterior = np.exp(solved @ np.log(solve) + ~solved @ np.log1p(-solve)) * prior
        mass = posterior.sum(axis=1)
        best = float(np.log(mass).sum())
        posterior /= mass[:, None]
        tasks = posterior.sum(axis=0)
        theta = theta + (solved.T @ posterior - tasks * solve).sum(axis=1) / (tasks * solve * (1 - solve)).sum(axis=1)
    return best


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["effort", "minutes", "difficulty"])
    parser.add_argument("--litellm", metavar="PYTHON", help="a Python that has LiteLLM installed")
    options = parser.parse_args()
    directory = data_directory()
    if directory is None:
        parser.error("the recorded tasks are not here; name their directory with POINTSMAN_DATA")
    if options.what == "effort":
        fit_effort(directory, options.litellm)
    elif options.what == "minutes":
        fit_minutes(directory)
    else:
        fit_difficulty(directory)


if __name__ == "__main__":
    main()
