"""(g) What a classification by a program costs beyond the program: against the bare subprocess.

    python -m tests.load.bench_cli [--short] [--rounds N]

The program reads its stdin to the end and prints a verdict. Through the classifier: prompt, cleaned environment, own
process group and workspace, bounded output, validation. Bare: `asyncio.create_subprocess_exec` with the same stdin.
"""

import asyncio
import os
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import msgspec

from service.classifiers.classifier import Brief
from service.classifiers.program import CliClassifier
from service.classifiers.prompt import Prompts
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.settings import CliSettings
from service.contract.task import Task
from tests.load.support import Report, alternating, arguments, parsed, task_body

KINDS = ("bare", "classifier")


async def measure(rounds: int, each: int, folder: Path) -> dict[str, list[float]]:
    """Milliseconds of one question, by kind; the median of each round."""
    catalog = load_catalog(DEFAULT_CATALOG)
    prompts = Prompts(None, catalog)
    first = catalog.candidates[0]
    verdict = {
        "agent_type": first.agent_type,
        "model": first.model,
        "minutes": 30,
        "confidence": 0.7,
        "reason": "Fits.",
    }
    (folder / "verdict.json").write_bytes(msgspec.json.encode(verdict))
    command = ["/bin/sh", "-c", f"cat >/dev/null; cat {folder}/verdict.json"]
    classifier = CliClassifier.configured(CliSettings(command=command), dict(os.environ))
    assert classifier is not None
    brief = Brief(
        task=msgspec.json.decode(task_body(1), type=Task),
        eligible=catalog.candidates,
        catalog=catalog,
        prompts=prompts,
        value_usd=3.0,
    )
    question = prompts.question(
        brief.task, brief.eligible, value_usd=3.0, max_task_tokens=1500, random_bytes=os.urandom
    )
    stdin = f"{question.system}\n\n{question.user}".encode()
    taken: dict[str, list[float]] = {}
    for _, kind in alternating(rounds, KINDS):
        for _ in range(each):
            begun = time.perf_counter()
            if kind == "bare":
                process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
                await process.communicate(stdin)
            else:
                await classifier.classify(brief, timeout_seconds=20.0)
            taken.setdefault(kind, []).append((time.perf_counter() - begun) * 1000)
    await classifier.aclose()
    return taken


def main() -> None:
    """The command."""
    given = parsed(arguments(__doc__ or "", rounds=15, short_rounds=5))
    report = Report("cli", given)
    with tempfile.TemporaryDirectory() as folder:
        taken = asyncio.run(measure(given.rounds, 10, Path(folder)))
    report.say("milliseconds for one question to a program, median (lowest to highest)")
    for kind in KINDS:
        report.say(f"  {kind:12} {report.figure(f'{kind}, ms', taken[kind])}")
    added = [a - b for a, b in zip(taken["classifier"], taken["bare"], strict=True)]
    report.say(f"  {'added':12} {report.figure('added, ms', added)}")
    report.ratio("classifier/bare", [a / b for a, b in zip(taken["classifier"], taken["bare"], strict=True)])
    report.end()


if __name__ == "__main__":
    main()
