"""What it is worth that a plan knows how often its verifier errs: recorded tasks, errors simulated.

    python -m tests.load.verifier_replay [--file openhands_dev.jsonl] [--seeds N] [--value-usd V]

Needs the recorded tasks, see tests/support/recorded_tasks.py. Every task goes through the real pipeline with what was
learned from the tasks of the other folds, no classifier configured, once with plans that know nothing of the errors and
once with plans that are told of them. Both meet the same errors. A task is worth its value if it ends with accepted
right work, minus the harm if with accepted wrong work, minus what its attempts cost; the gain is the difference of the
means. Outcomes and costs: SWE-bench Verified, bash-only leaderboard, or the OpenHands index.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from service.commands.outcomes import record
from service.contract.catalog import Catalog
from service.contract.settings import CliSettings, DecisionSettings, Settings, StoreSettings
from service.core import Core
from service.evaluation.recorded import RecordedTask, catalog_of_tasks, history_of, read_tasks
from service.evaluation.replay import Played, Verifier, play
from service.logs.lines import configure_logging
from tests.support.recorded_tasks import Array, Recorded, data_directory, folds

FOLDS = 5
FALSE_ACCEPT = (0.1, 0.2)
HARM = (0.5, 1.0)
"""Of the value."""


def worth(one: Played, value_usd: float, harm_usd: float) -> float:
    """What came of a task, in dollars."""
    return value_usd * one.solved - harm_usd * one.wrong - one.cost_usd


async def compare(core: Core, test: Sequence[RecordedTask], value_usd: float, seeds: int) -> dict[str, list[float]]:
    """For each case the gain on each task, the errors of all seeds one after the other."""
    gains: dict[str, list[float]] = {}
    for seed in range(seeds):
        for rate in FALSE_ACCEPT:
            blind = Verifier(false_accept=rate, seed=seed)
            before = [await _play(core, task, value_usd, blind) for task in test]
            for share in HARM:
                harm = share * value_usd
                after = [await _play(core, task, value_usd, replace(blind, harm_usd=harm)) for task in test]
                gains.setdefault(f"false accept {rate:.0%}, harm {share:g} of the value", []).extend(
                    worth(b, value_usd, harm) - worth(a, value_usd, harm) for a, b in zip(before, after, strict=True)
                )
    return gains


async def _play(core: Core, task: RecordedTask, value_usd: float, verifier: Verifier) -> Played:
    return await play(core.pipeline, task, value_usd=value_usd, max_attempts=None, verifier=verifier)


async def cross_validated(
    catalog: Catalog, tasks: Sequence[RecordedTask], value_usd: float, seeds: int
) -> dict[str, Array]:
    """The gains over all folds."""
    settings = Settings(
        store=StoreSettings(url="sqlite://"), cli=CliSettings(preset=""), decision=DecisionSettings(cache_seconds=0.0)
    )
    gains: dict[str, list[float]] = {}
    for training, test in folds(len(tasks), FOLDS, seed=0):
        core = Core(settings, environ={})
        try:
            core.use_catalog(catalog)
            await core.store.start()
            learned = [tasks[int(t)] for t in training]
            await record(core, history_of(learned, catalog))
            await core.learner.catch_up()
            for case, found in (await compare(core, [tasks[int(t)] for t in test], value_usd, seeds)).items():
                gains.setdefault(case, []).extend(found)
        finally:
            await core.aclose()
    return {case: np.array(found, dtype=np.float64) for case, found in gains.items()}


def catalog_of(directory: Path, file: str, tasks: list[RecordedTask]) -> Catalog:
    """With published rates for SWE-bench; of the tasks themselves otherwise."""
    return Recorded.load(directory).catalog(directory) if file.startswith("swebench") else catalog_of_tasks(tasks)


async def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", default="swebench_dev.jsonl")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--value-usd", type=float, default=15.0)
    options = parser.parse_args()
    directory = data_directory()
    if directory is None:
        sys.exit("the recorded tasks are not here; name their directory with POINTSMAN_DATA")
    configure_logging("error")
    tasks = read_tasks(directory / options.file)
    gains = await cross_validated(catalog_of(directory, options.file, tasks), tasks, options.value_usd, options.seeds)
    print(f"{options.file}, {len(tasks)} tasks, value ${options.value_usd:g}, {options.seeds} draws of the errors")
    for case, found in gains.items():
        error = found.std() / np.sqrt(len(tasks))
        print(f"  {case}: gain ${found.mean():+.2f} a task (standard error {error:.2f})")


if __name__ == "__main__":
    asyncio.run(main())
