"""The prompts: files an operator can edit, checked when they are loaded, rendered with the fixed part first."""

import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from string import Template

from service.base.text import clip_middle, visible, without_special_tokens
from service.classifiers.codes import code_of
from service.contract.catalog import Candidate, Catalog
from service.contract.errors import ConfigurationError
from service.contract.task import Key, Task

SHIPPED = (Path(__file__).parents[1] / "prompts", Path(__file__).parents[2] / "prompts")
"""Where the prompts lie: inside an installed package, or beside it in a source tree."""

CHARACTERS_PER_TOKEN = 4
"""English prose and code, with the tokenizers in use: 3.5 to 4.5 characters a token."""

_FIELDS = {
    "classify.system.txt": frozenset({"catalog", "reply"}),
    "classify.user.txt": frozenset({"value", "eligible", "boundary", "task", "clipped"}),
    "classify.repair.txt": frozenset({"problem", "eligible", "reply"}),
    "classify.questions.txt": frozenset({"value"}),
    "classify.labels.system.txt": frozenset({"questions"}),
    "classify.labels.user.txt": frozenset({"value", "eligible", "boundary", "task", "clipped", "form"}),
}
_OPTIONAL = frozenset({"classify.questions.txt", "classify.labels.system.txt", "classify.labels.user.txt"})
"""Those that ship are taken where a folder of an operator's own has none."""

QUESTIONS = ("candidate", "worth", "kind", "minutes")
"""What a decision model may be asked, and told of what a solved task is worth."""
RUN_PROMPT = "run.system.txt"
_REPLY = '{"code": "…", "minutes": 30, "confidence": 0.7'
_REPLY_OF_KINDS = '{"code": "…", "kind": "…", "minutes": 30, "confidence": 0.7'
_KIND_LENGTH = 60
"""Characters of a kind's description: a model knows what testing is, the rest tells kinds of like names apart."""
FAR = 0.15
FAR_KINDS = 3
"""Rates of a candidate that its line names: in kinds where it is so far from the middle one, and at most so many."""

_LEAK_LENGTH = 32
"""Letters and digits: some forty characters of prose."""


PROMPT_FILES = (*_FIELDS, RUN_PROMPT)
"""The files of a prompt folder."""


def prompt_folder(path: str) -> Path:
    """The folder that the settings name, else the one that ships."""
    return Path(path) if path else next((shipped for shipped in SHIPPED if shipped.is_dir()), SHIPPED[-1])


@dataclass(frozen=True, slots=True)
class Question:
    """What one task is asked with: the fixed part, the part that changes, and whether the task was clipped."""

    system: str
    user: str
    clipped: bool


class Prompts:
    """The prompt files of one folder, for one catalog; `version` changes when a file does."""

    def __init__(self, folder: Path | None, catalog: Catalog, *, with_reason: bool = True) -> None:
        """Raises ConfigurationError that names the file, where one is missing or asks for what is not there."""
        folder = folder or prompt_folder("")
        files = {name: _read(_file(folder, name)) for name in _FIELDS}
        self.version = hashlib.sha256("\0".join([*files.values(), str(with_reason)]).encode()).hexdigest()[:12]
        texts = {name: _without_comments(text) for name, text in files.items()}
        self.run_system = _without_comments(_read(folder / RUN_PROMPT))
        """What the local model is told when it works on a task itself; it has no part in any decision."""
        self._user = _template(folder, "classify.user.txt", texts)
        self.labels_system = _template(folder, "classify.labels.system.txt", texts)
        self.labels_user = _template(folder, "classify.labels.user.txt", texts)
        self._asked = _template(folder, "classify.questions.txt", texts)
        _questions(self._asked.template, source=str(_file(folder, "classify.questions.txt")))
        self._repair = _template(folder, "classify.repair.txt", texts)
        self._reply = (_REPLY_OF_KINDS if catalog.kinds else _REPLY) + (
            ', "reason": "one short sentence"}' if with_reason else "}"
        )
        self._codes = {candidate.key: code_of(n) for n, candidate in enumerate(catalog.candidates)}
        far = far_off(catalog)
        lines = [f"{self._codes[one.key]} | {_line(one, far[one.key])}" for one in catalog.candidates]
        self.system = _template(folder, "classify.system.txt", texts).substitute(
            catalog="\n".join([*lines, *_kind_lines(catalog)]), reply=self._reply
        )
        self._shingles = frozenset(piece for text in texts.values() for piece in _pieces(text))

    def question(
        self,
        task: Task,
        eligible: Sequence[Candidate],
        *,
        value_usd: float,
        max_task_tokens: int,
        random_bytes: Callable[[int], bytes],
    ) -> Question:
        """Renders the question; the task is fenced by a random boundary, clipped in the middle where it is long."""
        fenced = fence(task, max_task_tokens=max_task_tokens, random_bytes=random_bytes)
        user = self._user.substitute(value=f"{value_usd:g}", eligible=self._eligible(eligible), **fenced.fields)
        return Question(self.system, user, fenced.left_out > 0)

    def instructions(self, value_usd: float) -> dict[str, str]:
        """The instructions of each of `QUESTIONS`, for a task that is worth so much solved."""
        return _questions(self._asked.substitute(value=f"{value_usd:g}"), source="")

    def repair(self, problem: str, eligible: Sequence[Candidate]) -> str:
        return self._repair.substitute(problem=problem, eligible=self._eligible(eligible), reply=self._reply)

    def leaks(self, text: str) -> bool:
        """Whether `text` quotes 32 letters or more of the prompt files themselves (the catalog is public)."""
        return not self._shingles.isdisjoint(_pieces(text))

    def codes(self, candidates: Sequence[Candidate]) -> list[str]:
        """What an answer may name them by."""
        return [self._codes[candidate.key] for candidate in candidates]

    def _eligible(self, eligible: Sequence[Candidate]) -> str:
        if len(eligible) == len(self._codes):
            return "all of the list."
        return "only " + ", ".join(self.codes(eligible))


@dataclass(frozen=True, slots=True)
class Fenced:
    """A task's text, between two lines that hold `boundary`; `left_out` characters of it are clipped."""

    boundary: str
    text: str
    left_out: int

    @property
    def fields(self) -> dict[str, str]:
        """What it fills in in a prompt."""
        clipped = f" Of it {self.left_out} characters are left out, where it says so." if self.left_out else ""
        return {"boundary": self.boundary, "task": self.text, "clipped": clipped}


def fence(task: Task, *, max_task_tokens: int, random_bytes: Callable[[int], bytes]) -> Fenced:
    """The task's text fit for a prompt: clipped in the middle where it is long, nothing hidden, no special tokens."""
    # The boundary stands there three times, and random digits are a token each or two: four bytes are as many as are
    # needed where whoever guesses them still gains nothing, because a task's text never keeps them.
    boundary = f"TASK-{random_bytes(4).hex()}"
    title = f"Title: {task.name}\n" if task.name else ""
    labels = "".join(f"Label {key}: {value}\n" for key, value in sorted(task.labels.items()))
    facts, facts_left_out = clip_middle(f"{title}{labels}", max_task_tokens * CHARACTERS_PER_TOKEN // 4)
    text, text_left_out = clip_middle(task.instructions, max_task_tokens * CHARACTERS_PER_TOKEN)
    # what takes the boundary's place must not be able to form it anew with what stands beside it
    shown = without_special_tokens(visible(facts + text)).replace(boundary, "[…]")
    return Fenced(boundary, shown, facts_left_out + text_left_out)


def _file(folder: Path, name: str) -> Path:
    """That of the folder, or for those that need not be there the one that ships."""
    file = folder / name
    return prompt_folder("") / name if name in _OPTIONAL and not file.exists() else file


def _questions(text: str, *, source: str) -> dict[str, str]:
    found = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    if found.keys() != set(QUESTIONS):
        expected = ", ".join(f"`{name}: …`" for name in QUESTIONS)
        raise ConfigurationError(f"expected one line for each question: {expected}", source=source)
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError(f"the prompt cannot be read: {cause}", source=str(file)) from None


def _without_comments(text: str) -> str:
    """A prompt without its opening comment lines."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[start:]).strip()


def _template(folder: Path, name: str, texts: dict[str, str]) -> Template:
    template = Template(texts[name])
    source = str(_file(folder, name))
    if not template.is_valid():
        raise ConfigurationError("a `$` is neither a field nor written `$$`", source=source)
    named, known = frozenset(template.get_identifiers()), _FIELDS[name]
    if named != known:
        unknown, missing = sorted(named - known), sorted(known - named)
        what = f"unknown field ${unknown[0]}" if unknown else f"the field ${missing[0]} is missing"
        raise ConfigurationError(f"{what}; expected {', '.join(f'${field}' for field in sorted(known))}", source=source)
    return template


def far_off(catalog: Catalog) -> dict[Key, str]:
    """For each candidate the kinds in which its rate is far from the middle one of all, at most FAR_KINDS, as text.

    All rates by kind would be 145 tokens more with the shipped catalog, these are 43: whoever knows what is usual needs
    to know who is not (tests/load/bench_prompt.py counts them).
    """
    found: dict[Key, list[tuple[float, str]]] = {candidate.key: [] for candidate in catalog.candidates}
    for kind in catalog.kind_ids:
        figures = {one.key: one.kinds[kind].solve_rate for one in catalog.candidates if kind in one.kinds}
        rates = {key: rate for key, rate in figures.items() if rate is not None}
        if rates:
            middle = median(rates.values())
            for key, rate in rates.items():
                if abs(rate - middle) >= FAR:
                    found[key].append((-abs(rate - middle), f"{kind} {100 * rate:.0f}"))
    return {key: ", ".join(text for _, text in sorted(those)[:FAR_KINDS]) for key, those in found.items()}


def _line(candidate: Candidate, far: str) -> str:
    solves = "?" if candidate.solve_rate is None else f"{candidate.solve_rate:.0%}"
    solves = f"{solves} ({far})" if far else solves
    cost = "?" if candidate.cost_usd is None else f"${candidate.cost_usd:.2f}"
    strengths = " ".join(part for part in (candidate.agent_description, candidate.description) if part)
    return f"{candidate.agent_type} | {candidate.key[1]} | {solves} | {cost} | {visible(strengths)}".replace("\n", " ")


def _kind_lines(catalog: Catalog) -> list[str]:
    """What `kind` may be; nothing where the catalog has no kinds."""
    if not catalog.kinds:
        return []
    lines = [f"{kind.id} | {visible(_first_words(kind.description))}".replace("\n", " ") for kind in catalog.kinds]
    return ["", "Kinds of work, one a line: kind | what it is", *lines]


def _first_words(text: str) -> str:
    """The first clause, or as many whole words of it as there is room for."""
    clause = text.split(";")[0].split(":")[0].split(".")[0]
    return clause if len(clause) <= _KIND_LENGTH else clause[:_KIND_LENGTH].rpartition(" ")[0]


def _pieces(text: str) -> Iterator[str]:
    """Every run of 32 letters and digits, whatever their case and width and whatever stands between them."""
    flat = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
    return (flat[i : i + _LEAK_LENGTH] for i in range(len(flat) - _LEAK_LENGTH + 1))
