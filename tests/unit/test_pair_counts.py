"""Outcomes counted by pair, so that names which no catalog has are seen."""

from service.knowledge.pair_counts import LISTED, MOST, PairCounts

KNOWN = {("claude", "opus")}


def test_the_most_frequent_come_first_and_known_ones_not_at_all() -> None:
    """Only pairs that the catalog lacks are listed, with how many outcomes they have."""
    counts = PairCounts()
    for pair in (("claude", "opus"), ("claude", "opsu"), ("cluade", "opus"), ("cluade", "opus")):
        counts.take(pair, KNOWN)
    unknown = counts.unknown(KNOWN)
    assert unknown.outcomes == 3
    assert [(one.agent_type, one.model, one.outcomes) for one in unknown.pairs] == [
        ("cluade", "opus", 2),
        ("claude", "opsu", 1),
    ]


def test_what_is_withdrawn_is_taken_back() -> None:
    """The last outcome of a pair takes the pair from the list; one that was never given changes nothing."""
    counts = PairCounts()
    counts.take(("a", "m"), KNOWN)
    counts.take(("a", "m"), KNOWN, back=True)
    counts.take(("b", "m"), KNOWN, back=True)
    assert counts.unknown(KNOWN).outcomes == 0
    assert counts.unknown(KNOWN).pairs == []


def test_any_number_of_names_takes_bounded_memory() -> None:
    """The rarest are counted together, and what the catalog has, or what came often, is never among them."""
    counts = PairCounts()
    counts.take(("claude", "opus"), KNOWN)
    for _ in range(3):
        counts.take(("often", "m"), KNOWN)
    for number in range(5 * MOST):
        counts.take((f"agent {number}", "m"), KNOWN)
    assert len(counts.rows()) <= 2 * MOST
    assert ("claude", "opus") in {(row.agent_type, row.model) for row in counts.rows()}
    unknown = counts.unknown(KNOWN)
    assert (unknown.outcomes, len(unknown.pairs), unknown.pairs[0].agent_type) == (5 * MOST + 3, LISTED, "often")
    forgotten = set(range(5 * MOST)) - {int(row.agent_type[6:]) for row in counts.rows() if row.agent_type[:2] == "ag"}
    counts.take((f"agent {min(forgotten)}", "m"), KNOWN, back=True)
    assert counts.unknown(KNOWN).outcomes == 5 * MOST + 2


def test_they_can_be_kept() -> None:
    """What is written down and read again counts on."""
    counts = PairCounts()
    for pair in (("a", "m"), ("a", "m"), ("b", "m")):
        counts.take(pair, KNOWN)
    again = PairCounts(counts.rows(), others=7)
    again.take(("b", "m"), KNOWN)
    assert again.unknown(KNOWN).outcomes == 11
