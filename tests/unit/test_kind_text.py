"""Kinds of work are told from a text by the weights of its words."""

import json
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.classifiers.kind_text import KindText, WordCounts
from service.classifiers.kind_words import READ, words_of
from service.classifiers.reading import Reader
from service.classifiers.size_text import HUGE_MINUTES, TINY, TINY_MINUTES, estimate_size
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.kind import Kind
from service.contract.task import Task
from service.forecast.forecaster import Forecaster

KINDS = load_catalog(DEFAULT_CATALOG).kinds
SHIPPED = KindText(KINDS)


def told(text: str, name: str = "", model: KindText = SHIPPED) -> tuple[str, float]:
    """The likeliest kind and how likely it is."""
    said = model.probabilities(name, text)
    best = max(range(len(said)), key=said.__getitem__)
    return model.kinds[best], said[best]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param("Write unit tests for the tax module", "testing", id="testing"),
        pytest.param("Do not write tests, fix the crash when the list is empty", "issue", id="names-another-kind"),
        pytest.param("Fix the crash on login; tests are not needed", "issue", id="not-needed"),
        pytest.param("N'écris pas de tests, corrige le plantage", "issue", id="french-negation"),
        pytest.param("Не пиши тесты, исправь падение при входе", "issue", id="russian-negation"),
        pytest.param("The button is hidden behind the footer on mobile", "frontend", id="frontend"),
        pytest.param("Which of the two databases is cheaper? Compare them.", "research", id="research"),
        pytest.param("Build a new chat server from scratch", "greenfield", id="greenfield"),
        pytest.param("为支付模块编写单元测试", "testing", id="chinese"),
        pytest.param("ボタンの色を変えてください", "frontend", id="japanese"),
        pytest.param("Сравни три базы данных", "research", id="russian"),
        pytest.param("แก้ไขข้อผิดพลาดเมื่อใช้งานไม่ได้", "issue", id="thai"),
    ],
)
def test_plain_texts_are_told(text: str, kind: str) -> None:
    """A text that says what it wants is taken for that, in any script, also where it names what it does not want."""
    assert told(text)[0] == kind


@pytest.mark.parametrize("text", [".", "", "12345 !!", "Do not write tests", "\ud800", "zzzz qqqq"], ids=ascii)
def test_a_text_that_says_nothing_leaves_it_open(text: str) -> None:
    """Without a word that is known every kind is as likely as another."""
    assert SHIPPED.probabilities("", text) == pytest.approx([0.2] * 5)


def test_a_title_alone_is_enough() -> None:
    """An empty text with a title is read by its title."""
    assert told(".", name="Add unit tests for the mailer")[0] == "testing"


@given(st.text(max_size=300), st.text(max_size=50))
def test_probabilities_are_probabilities(text: str, name: str) -> None:
    """Whatever the text, they sum to one and none is 0 or 1."""
    said = SHIPPED.probabilities(name, text)
    assert sum(said) == pytest.approx(1.0)
    assert all(0.0 < one < 1.0 for one in said)


def test_one_kind_is_that_kind_and_none_is_none() -> None:
    """A catalog with one kind leaves nothing to tell."""
    assert KindText([Kind(id="only")]).probabilities("", "anything") == (1.0,)
    assert KindText([]).probabilities("", "anything") == ()


def test_fifty_kinds_of_ones_own_are_told_by_description_and_examples() -> None:
    """Kinds that the package knows nothing of need a description or an example."""
    fields = [
        f"{a}{b}" for a in ("wool", "iron", "clay", "silk", "salt") for b in ("boat", "lamp", "drum", "cart", "ring")
    ]
    kinds = [
        Kind(id=f"{verb}-{field}", description=f"{verb} the {field}") for field in fields for verb in ("mend", "sell")
    ]
    model = KindText(kinds)
    assert told("Please mend the silkdrum of my aunt", model=model)[0] == "mend-silkdrum"
    assert told("We must sell the old ironcart", model=model)[0] == "sell-ironcart"


def test_it_learns_from_tasks_whose_kind_was_told() -> None:
    """Words that stood in neither description nor example tell a kind once tasks with them were told to be of it."""
    text = "Reconcile the Q3 ledger with the bank statement"
    counts = WordCounts()
    before = KindText(KINDS, counts).probabilities("", text)
    for month in ("May", "June", "July", "August"):
        counts.add("research", "", f"Reconcile the {month} ledger with the bank statement")
    after = KindText(KINDS, counts).probabilities("", text)
    at = [kind.id for kind in KINDS].index("research")
    assert after[at] > 0.9
    assert after[at] > before[at] + 0.2


def test_hostile_texts_cannot_make_it_grow() -> None:
    """No more words are kept than the limit, whatever is told."""
    counts = WordCounts(limit=50)
    for i in range(100):
        counts.add(
            "issue", "", " ".join(f"{chr(97 + i % 26)}{chr(97 + j % 26)}{chr(97 + j // 26)}x" for j in range(200))
        )
    assert len(counts.words) == 50


def test_only_the_beginning_is_read() -> None:
    """Time is bounded: what stands beyond READ characters changes nothing."""
    text = "Fix the crash. " + "x " * READ
    assert words_of("", text) == words_of("", text + "write unit tests " * 10_000)


def test_its_weights_can_be_read() -> None:
    """An explanation names the words that said most, with a weight for each kind."""
    shown = SHIPPED.weights(words_of("", "Raise the test coverage of billing"))
    assert shown["coverage"]["testing"] > max(w for kind, w in shown["coverage"].items() if kind != "testing")


def test_texts_written_apart_are_told() -> None:
    """With nothing but seed words, descriptions and examples, four fifths of the texts that were written to measure it;
    where it says 0.9, nine of ten."""
    data = Path(__file__).parents[1] / "data"
    counts = WordCounts()
    for line in (data / "kind_seeds.jsonl").read_text().splitlines():
        seed = json.loads(line)
        counts.add(seed["kind"], "", seed["instructions"])
    model = KindText(KINDS, shipped=counts.words)
    rows = [json.loads(line) for line in (data / "kind_texts.jsonl").read_text().splitlines()]
    answers = [(*told(row["instructions"], row["name"], model), row["kind"]) for row in rows]
    sure = [kind == truth for kind, chance, truth in answers if chance >= 0.9]
    assert sum(kind == truth for kind, _, truth in answers) >= 0.8 * len(answers)
    assert sum(sure) >= 0.9 * len(sure) > 90


def test_sizes_at_the_ends_are_told() -> None:
    """Of forty tiny and forty huge texts most are taken for minutes and for weeks."""
    data = Path(__file__).parents[1] / "data" / "size_texts.jsonl"
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    minutes = {
        size: [estimate_size(r["name"], r["instructions"]).minutes for r in rows if r["size"] == size]
        for size in ("tiny", "huge")
    }
    assert sum(m < 8 for m in minutes["tiny"]) >= 30
    assert sum(m > 1000 for m in minutes["huge"]) >= 30
    assert all(TINY_MINUTES <= m <= HUGE_MINUTES for m in (*minutes["tiny"], *minutes["huge"]))


def test_tiny_is_likely_and_huge_is_dear() -> None:
    """With the shipped catalog and nothing else told, one strong model is forecast at 0.9 or more for forty tiny texts
    and at 0.4 or less for forty huge ones (medians), which are expected to cost five times a normal task or more."""
    catalog = load_catalog(DEFAULT_CATALOG)
    forecaster, reader = Forecaster(catalog), Reader.of(catalog)
    strong = catalog.by_key["claude", "claude-opus-4-8"]

    def forecast(name: str, instructions: str) -> tuple[float, float]:
        reading = reader.read(Task(name=name, instructions=instructions))
        told = forecaster.forecast(
            [strong],
            labels={},
            minutes=reading.size.minutes,
            minutes_source="text",
            attempts=[],
            kinds={kind: share * (1 - reading.size.features[TINY]) for kind, share in reading.kinds.items()},
        )
        return told.p_solve[0], told.cost_usd[0]

    data = Path(__file__).parents[1] / "data" / "size_texts.jsonl"
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    said = {
        size: [forecast(r["name"], r["instructions"]) for r in rows if r["size"] == size] for size in ("tiny", "huge")
    }
    normal = forecast("", "The export fails with a KeyError when a customer has no address")
    assert median(p for p, _ in said["tiny"]) >= 0.9
    assert median(p for p, _ in said["huge"]) <= 0.4
    assert median(cost for _, cost in said["huge"]) >= 5 * normal[1]
