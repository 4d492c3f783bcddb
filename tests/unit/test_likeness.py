"""Agents of the same figures are told apart by their descriptions."""

from service.classifiers.kind_words import words_of
from service.classifiers.likeness import Likeness
from service.contract.catalog import Candidate


def specialist(agent: str, description: str, rate: float | None = None) -> Candidate:
    """An agent of which nothing is known but what it says of itself."""
    return Candidate(agent_type=agent, model="m", agent_description=description, solve_rate=rate)


DATABASE = specialist("database-agent", "Database schema design, SQL queries, indexes and migrations.")
STYLE = specialist("css-agent", "Style sheets, layout and colours of web pages.")
DOCS = specialist("docs-agent", "Writes documentation, tutorials and API reference.")


def test_the_text_leans_to_the_agent_that_it_is_like() -> None:
    """The best match gets the most, and what one gains the others lose."""
    leaning = Likeness([DATABASE, STYLE, DOCS]).leanings(words_of("", "The query on orders is slow, add an index"))
    assert leaning[0] == max(leaning.values()) > 0
    assert abs(sum(leaning.values())) < 1e-9


def test_a_text_like_nobody_leans_nowhere() -> None:
    """Without a shared word nobody is preferred."""
    assert Likeness([DATABASE, STYLE, DOCS]).leanings(words_of("", "好")) == {}


def test_figures_that_differ_decide_alone() -> None:
    """Descriptions count only among agents whose figures are equal."""
    better = specialist("general", "Anything.", rate=0.8)
    assert not Likeness([DATABASE, better])
    assert set(Likeness([DATABASE, better, STYLE]).leanings(words_of("", "style of the pages"))) == {0, 2}


def test_models_of_one_agent_are_no_specialists() -> None:
    """Two models of one agent are alike in what they are for."""
    other = Candidate(agent_type="css-agent", model="n", agent_description=STYLE.agent_description)
    assert not Likeness([STYLE, other])
