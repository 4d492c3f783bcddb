"""(h) One decision in-process against LiteLLM's rule-based complexity scorers, on the same texts.

    python -m tests.load.bench_rules PYTHON [--short] [--rounds N]

PYTHON is an interpreter of an environment that has `litellm` (it is none of this project's dependencies). The rules
only name one of four tiers; a decision here also checks limits, forecasts every candidate and plans what comes after a
failure. Each side is a process of its own and counts its processor time; the rounds alternate.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.load.servers import ROOT
from tests.load.support import TEXT, Report, alternating, arguments, parsed

OURS = """
import asyncio, json, sys, time
begun = time.perf_counter()
from service.core import Core
from service.contract.decoding import convert_tree
from service.contract.settings import Settings
from service.contract.task import Task
imported = time.perf_counter() - begun
texts, repeat = json.load(sys.stdin)

async def main():
    settings = convert_tree({"store": {"url": "sqlite://"}, "cli": {"preset": ""}}, Settings)
    core = Core(settings, environ={})
    tasks = [Task(instructions=text) for text in texts]
    spent = []
    for _ in range(repeat):
        begun = time.thread_time()
        for task in tasks:
            await core.pipeline.decide(task)
        spent.append((time.thread_time() - begun) / len(tasks) * 1e6)
    return spent

print(json.dumps({"imported": imported, "spent": asyncio.run(main())}))
"""

THEIRS = """
import json, sys, time
begun = time.perf_counter()
from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter
imported = time.perf_counter() - begun
from unittest.mock import MagicMock
texts, repeat = json.load(sys.stdin)
router = ComplexityRouter(
    model_name="x", litellm_router_instance=MagicMock(), complexity_router_config={"classifier_type": "KIND"}
)
spent = []
for _ in range(repeat):
    begun = time.thread_time()
    for text in texts:
        router._classify_locally(text, None)
    spent.append((time.thread_time() - begun) / len(texts) * 1e6)
print(json.dumps({"imported": imported, "spent": spent}))
"""
SCRIPTS = {
    "pointsman": OURS,
    "heuristic": THEIRS.replace("KIND", "heuristic"),
    "heuristic_v2": THEIRS.replace("KIND", "heuristic_v2"),
}


class _Found(msgspec.Struct):
    imported: float
    spent: list[float]


LENGTHS = (60, 300, 1200, 6000)
REPEAT = 5


def main() -> None:
    """The command."""
    parser = arguments(__doc__ or "", rounds=7)
    parser.add_argument("python", help="an interpreter that has litellm")
    given = parsed(parser)
    report = Report("rules", given)
    spent: dict[tuple[str, int], list[float]] = {}
    imported: dict[str, list[float]] = {}
    lengths = LENGTHS[:3] if given.short else LENGTHS
    for _, kind in alternating(given.rounds, tuple(SCRIPTS)):
        for length in lengths:
            found = _run(given.python if kind != "pointsman" else sys.executable, SCRIPTS[kind], length)
            spent.setdefault((kind, length), []).append(min(found.spent))
            imported.setdefault(kind, []).append(found.imported)
    report.say("microseconds of processor time for one text, by its length in characters")
    for kind in SCRIPTS:
        columns = [report.figure(f"{kind}, {length} characters, µs", spent[kind, length]) for length in lengths]
        told = "".join(f"{length:6}: {column!s:26}" for length, column in zip(lengths, columns, strict=True))
        report.say(f"  {kind:13} {told} import {report.figure(f'{kind}, import, s', imported[kind])} s")
    for kind in ("heuristic", "heuristic_v2"):
        for length in lengths:
            pairs = zip(spent["pointsman", length], spent[kind, length], strict=True)
            report.ratio(f"pointsman/{kind}, {length} characters", [a / b for a, b in pairs])
        pairs = zip(imported["pointsman"], imported[kind], strict=True)
        report.ratio(f"pointsman/{kind}, import", [a / b for a, b in pairs])
    report.end()


def _run(python: str, script: str, length: int) -> _Found:
    texts = [f"{number}: {(TEXT * (length // len(TEXT) + 1))[:length]}" for number in range(100)]
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [python, "-c", script],
            input=json.dumps([texts, REPEAT]),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT if python == sys.executable else home,
            # without network: the other package asks for a price list when it is imported
            env={"PATH": os.environ["PATH"], "HOME": home, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        )
    if done.returncode:
        raise SystemExit(f"{Path(python).name} failed: {done.stderr[-1000:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=_Found)


if __name__ == "__main__":
    main()
