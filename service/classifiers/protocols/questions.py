"""What is asked about one task where the answer is probabilities: which candidate, which kind of work, how long."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from service.base.text import one_line, without_special_tokens
from service.classifiers.classifier import Brief
from service.contract.catalog import Candidate
from service.contract.kind import Kind

T = TypeVar("T")

MAX_OPTIONS = 20
"""Above some 20 options their order alone flips an answer in seven."""

MAX_WORDS = 11
"""Of what stands beside an option: with whole lines of the catalog a CPU takes twice as long."""


class Level(NamedTuple):
    """How long a task may take: as the model is told, and the minutes that it stands for."""

    says: str
    minutes: float


LEVELS = (
    Level("under 5 minutes: a typo, a rename", 3.0),
    Level("about 15 minutes: a small fix", 15.0),
    Level("about an hour: a usual issue", 60.0),
    Level("half a day: several files, hard to find", 240.0),
    Level("two days: a feature or a redesign", 960.0),
    Level("weeks: a whole system", 5_000.0),
)

ROUND_MINUTES: tuple[float, ...] = (
    *(2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 360.0, 480.0),
    *(720.0, 960.0, 1500.0, 2400.0, 5000.0),
)
"""What people say. Tasks of equal minutes share a forecast and its plans, which are a millisecond of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """The candidates and kinds in the order in which they are listed, and in words what each is.

    `instructions` are those of each question, by its name; `turn` says how far the catalog was turned for it (0 to 1).
    """

    candidates: tuple[Candidate, ...]
    candidate_codes: tuple[str, ...]
    candidate_says: tuple[str, ...]
    kinds: tuple[str, ...]
    kind_says: tuple[str, ...]
    instructions: dict[str, str]
    eligible: int
    turn: float

    @property
    def note(self) -> str:
        """What an explanation says of the candidates that were left out; empty where none was."""
        asked = len(self.candidates)
        return f"asked about the forecast's best {asked} of {self.eligible}" if asked < self.eligible else ""


def questions_about(brief: Brief, *, turns: int = MAX_OPTIONS) -> Questions:
    """The questions for a task. Its options are turned to one of at most `turns` orders, the same for the same text."""
    asked = brief.shortlist or tuple(brief.eligible)
    orders = max(1, min(turns, len(brief.catalog.candidates)))
    turn = zlib.crc32(brief.task.instructions.encode("utf-8", "surrogatepass")) % orders / orders
    wanted = [candidate.key for candidate in asked[:MAX_OPTIONS]]
    # Not the whole catalog is turned: two neighbours of many would nearly always stand in the same order.
    candidates = turned([candidate for candidate in brief.catalog.candidates if candidate.key in wanted], turn)
    kinds = turned(brief.catalog.kinds[:MAX_OPTIONS], turn) if len(brief.catalog.kinds) > 1 else ()
    return Questions(
        candidates=candidates,
        candidate_codes=tuple(brief.prompts.codes(candidates)),
        candidate_says=tuple([candidate_in_words(candidate) for candidate in candidates]),
        kinds=tuple([kind.id for kind in kinds]),
        kind_says=tuple([kind_in_words(kind) for kind in kinds]),
        instructions=brief.prompts.instructions(brief.value_usd),
        eligible=len(brief.eligible),
        turn=turn,
    )


def turned(options: Sequence[T], turn: float) -> tuple[T, ...]:
    """The options in the same circle, begun after so much of it (0 to 1)."""
    start = int(turn * len(options) + 1e-9)
    return (*options[start:], *options[:start])


def candidate_in_words(candidate: Candidate) -> str:
    """Under twelve words: name, what it solves and costs, and as much as fits of what it is good at."""
    solves = "" if candidate.solve_rate is None else f"solves {candidate.solve_rate:.0%}, "
    cost = "" if candidate.cost_usd is None else f"${candidate.cost_usd:.2f} "
    strengths = candidate.description or candidate.agent_description
    effort = f" {candidate.effort}" if candidate.effort else ""
    return _words(f"{candidate.agent_type}/{candidate.model}{effort}: {solves}{cost}{strengths}")


def kind_in_words(kind: Kind) -> str:
    """Under twelve words of what its description says."""
    return _words(kind.description or kind.id)


def _words(text: str) -> str:
    return " ".join(without_special_tokens(one_line(text, 300)).split()[:MAX_WORDS])
