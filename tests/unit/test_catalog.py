"""The catalog is read from TOML, and its mistakes are named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contract.catalog import LOCAL_SOLVE_RATE, Catalog, without_local
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog, parse_catalog
from service.contract.errors import ConfigurationError
from service.contract.kind import Figures
from tests.support.builders import candidate

ONE = '[[agent]]\ntype = "a"\n[[agent.model]]\nid = "m"\n'


TESTING = '\n[[kind]]\nid = "testing"\n'


def test_the_shipped_catalog_has_what_it_promises() -> None:
    """Claude, gemini and codex agents, each model with a solve rate, a cost, a context, inputs, and figures for each of
    five kinds; each kind with a description and eight examples or more."""
    catalog = load_catalog(DEFAULT_CATALOG)
    assert catalog.kind_ids == ("issue", "testing", "frontend", "greenfield", "research")
    assert all(kind.description and len(kind.examples) >= 8 for kind in catalog.kinds)
    assert all(set(c.kinds) == set(catalog.kind_ids) for c in catalog.candidates)
    assert all(one.solve_rate and one.cost_usd for c in catalog.candidates for one in c.kinds.values())
    assert set(catalog.agent_types) == {"claude", "gemini", "codex"}
    assert all(c.solve_rate and c.cost_usd and c.context_tokens and c.inputs for c in catalog.candidates)
    assert len(catalog.by_key) == len(catalog.candidates)


def test_one_model_with_no_figures_is_a_catalog() -> None:
    """What is not known of a model is None and not a made-up number."""
    (only,) = parse_catalog(ONE, source="x").candidates
    assert only.key == ("a", "m")
    assert (only.solve_rate, only.cost_usd, only.context_tokens, only.inputs) == (None, None, None, ("text",))


def test_kinds_pools_and_efforts_are_read() -> None:
    """A model may stand there once for each effort; figures of a kind that are not told are those of the model."""
    text = (
        '[[agent]]\ntype = "a"\nquota_pool = "p"\n[[agent.model]]\nid = "m"\nminutes = 9\n'
        "kinds.testing = { solve_rate = 0.8, minutes = 4 }\n"
        '[[agent.model]]\nid = "m"\neffort = "high"\n[[kind]]\nid = "testing"\nexamples = ["write a test"]\n'
        '[[pool]]\nid = "p"\nbilling = "plan"\nreserve = 0.1\n'
    )
    catalog = parse_catalog(text, source="x")
    low, high = catalog.candidates
    assert (low.effort, low.minutes, high.effort) == (None, 9.0, "high")
    assert low.kinds["testing"] == Figures(solve_rate=0.8, cost_usd=None, minutes=4.0)
    assert (catalog.kind_ids, catalog.kinds[0].examples) == (("testing",), ("write a test",))
    assert (catalog.pools["p"].billing, catalog.pools["p"].reserve) == ("plan", 0.1)
    assert catalog.with_local_agent("l").kinds == catalog.kinds


def test_the_version_changes_with_a_kind() -> None:
    """An example more is another catalog."""
    text = ONE + TESTING
    more = f'{text}examples = ["write a test"]\n'
    assert parse_catalog(text, source="x").version != parse_catalog(more, source="x").version


def test_fifty_models_keep_the_order_of_the_file() -> None:
    """Candidates stand in the order in which the file has them."""
    text = "".join(
        f'[[agent]]\ntype = "a{a}"\n' + "".join(f'[[agent.model]]\nid = "m{m}"\n' for m in range(10)) for a in range(5)
    )
    catalog = parse_catalog(text, source="x")
    assert [c.key for c in catalog.candidates] == [(f"a{a}", f"m{m}") for a in range(5) for m in range(10)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", ["agent", "missing"], id="empty"),
        pytest.param("agent = []", ["$.agent", "length >= 1"], id="no-agent"),
        pytest.param('[[agent]]\ntype = "a"\nmodel = []', ["$.agent[0].model", "length >= 1"], id="no-model"),
        pytest.param('[agent]\ntype = "a"', ["$.agent", "array"], id="table-for-a-list"),
        pytest.param(ONE + ONE, ["$.agent[1].type", "twice"], id="agent-twice"),
        pytest.param(ONE + '[[agent.model]]\nid = "m"', ["$.agent[0].model[1].id", "twice"], id="model-twice"),
        pytest.param(
            ONE + "kinds.testing = { solve_rate = 0.5 }",
            ["$.agent[0].model[0].kinds.testing", "no [[kind]]"],
            id="no-kinds",
        ),
        pytest.param(
            ONE + "kinds.testin = {}" + TESTING,
            ["$.agent[0].model[0].kinds.testin", "did you mean 'testing'"],
            id="unknown-kind",
        ),
        pytest.param(
            ONE + "kinds.testing = { solve_rate = 2 }" + TESTING,
            ["$.agent[0].model[0].kinds.testing.solve_rate"],
            id="rate-of-a-kind",
        ),
        pytest.param(
            ONE + "kinds.testing = { rate = 0.2 }" + TESTING,
            ["$.agent[0].model[0].kinds.testing.rate", "unknown field"],
            id="field-of-a-kind",
        ),
        pytest.param(ONE + TESTING + TESTING, ["$.kind[1].id", "twice"], id="kind-twice"),
        pytest.param(ONE + '[[kind]]\nid = "a|b"', ["$.kind[0].id", "|"], id="bar-in-a-kind"),
        pytest.param(ONE + "[[kind]]\nexamples = []", ["$.kind[0]", "id"], id="kind-without-id"),
        pytest.param(ONE + TESTING + 'examples = [""]', ["$.kind[0].examples[0]"], id="empty-example"),
        pytest.param(ONE + '[[pool]]\nid = "p"', ["$.pool[0].id", "no agent has quota_pool"], id="pool-of-nobody"),
        pytest.param(ONE + '[[pool]]\nid = "p"\nbilling = "free"', ["$.pool[0].billing"], id="billing"),
        pytest.param(ONE + '[[pool]]\nid = "p"\nreserve = 1', ["$.pool[0].reserve"], id="reserve-of-all"),
        pytest.param(
            ONE + 'effort = "high"\n[[agent.model]]\nid = "m"\neffort = "high"',
            ["$.agent[0].model[1].id", "with effort 'high' stands twice"],
            id="effort-twice",
        ),
        pytest.param(ONE + "minutes = 0", ["$.agent[0].model[0].minutes"], id="no-minutes"),
        pytest.param(ONE + "solve_rat = 0.5", ["$.agent[0].model[0].solve_rat", "unknown field"], id="misspelt"),
        pytest.param(ONE + "solve_rate = 74", ["$.agent[0].model[0].solve_rate"], id="percent"),
        pytest.param(ONE + "solve_rate = nan", ["$.agent[0].model[0].solve_rate"], id="not-a-number"),
        pytest.param(ONE + "cost_usd = -1", ["$.agent[0].model[0].cost_usd"], id="negative-cost"),
        pytest.param(ONE + "cost_usd = inf", ["$.agent[0].model[0].cost_usd"], id="infinite-cost"),
        pytest.param(ONE + 'cost_usd = "1"', ["$.agent[0].model[0].cost_usd", "got `str`"], id="cost-as-text"),
        pytest.param(ONE + 'inputs = ["video"]', ["$.agent[0].model[0].inputs[0]"], id="unknown-input"),
        pytest.param(ONE + "inputs = []", ["$.agent[0].model[0].inputs"], id="no-input"),
        pytest.param(ONE.replace('"m"', '"m|n"'), ["$.agent[0].model[0].id", "|"], id="bar-in-an-id"),
        pytest.param(ONE.replace('"m"', '"m\\n"'), ["$.agent[0].model[0].id", "control"], id="line-break-in-an-id"),
        pytest.param(ONE.replace('"a"', '" a"'), ["$.agent[0].type", "spaces"], id="space-before-a-type"),
        pytest.param("[[agent]", ["not TOML", "line 1"], id="cut"),
    ],
)
def test_a_mistake_names_file_and_place(text: str, words: list[str]) -> None:
    """The message has the file, the path or line, and what was expected."""
    with pytest.raises(ConfigurationError) as caught:
        parse_catalog(text, source="my.toml")
    for word in ["my.toml", *words]:
        assert word in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file and one that is not UTF-8 are errors with the file's name; a byte-order mark is none."""
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read: No such file"):
        load_catalog(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load_catalog(tmp_path / "bad.toml")
    (tmp_path / "mark.toml").write_bytes(b"\xef\xbb\xbf" + ONE.encode())
    assert load_catalog(tmp_path / "mark.toml").agent_types == ("a",)


def test_the_version_changes_with_every_figure() -> None:
    """Two catalogs have one version where they say the same, and another where anything differs."""
    versions = {
        parse_catalog(text, source="x").version
        for text in (ONE, ONE + "cost_usd = 1.0", ONE + "cost_usd = 2.0", ONE + 'description = "d"', ONE)
    }
    assert len(versions) == 4


def test_the_local_agent_is_on_offer_only_with_an_endpoint() -> None:
    """With a model there is one `local` candidate for it, and again without one there is none."""
    catalog = Catalog([candidate("a", "m")])
    with_it = catalog.with_local_agent("qwen")
    assert [c.key for c in with_it.candidates] == [("a", "m"), ("local", "qwen")]
    local = with_it.candidates[-1]
    assert (local.local, local.registered, local.cost_usd, local.solve_rate) == (True, True, 0.0, LOCAL_SOLVE_RATE)
    assert with_it.with_local_agent(None).candidates == catalog.candidates
    assert with_it.with_local_agent("other").candidates[-1].key == ("local", "other")
    assert not catalog.with_local_agent("qwen", local=False).candidates[-1].local


def test_an_agent_of_the_catalogs_own_by_that_name_is_kept() -> None:
    """As it is written, where no endpoint is set; where one is, the name is taken, whatever the model."""
    own = Catalog([candidate("a", "m"), candidate("local", "qwen", local=True)])
    assert own.with_local_agent(None).candidates == own.candidates
    assert without_local(own.candidates) == own.candidates
    for model in ("qwen", "other"):
        with pytest.raises(ConfigurationError, match="another name") as caught:
            own.with_local_agent(model)
        assert caught.value.path == "$.agent[1].type"


@given(st.text())
def test_no_text_is_a_defect(text: str) -> None:
    """Any text is a catalog or a ConfigurationError."""
    words = ""
    try:
        assert parse_catalog(text, source="x").candidates
    except ConfigurationError as error:
        words = str(error)
    assert not words or words.startswith("x: ")
