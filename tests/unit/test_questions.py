"""The questions that are answered in one token: options in few words, since each is evaluated anew for every task."""

import pytest

from service.classifiers.protocols.questions import LEVELS, candidate_in_words, kind_in_words
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.kind import Kind
from tests.support.builders import candidate

CATALOG = load_catalog(DEFAULT_CATALOG)
OPTIONS = [
    *(pytest.param(candidate_in_words(one), id=str(one)) for one in CATALOG.candidates),
    *(pytest.param(kind_in_words(one), id=one.id) for one in CATALOG.kinds),
    *(pytest.param(level.says, id=f"{level.minutes:g} minutes") for level in LEVELS),
    pytest.param(candidate_in_words(candidate("a", "m", description="word " * 500)), id="a long description"),
    pytest.param(kind_in_words(Kind(id="k", description="word " * 500)), id="a long kind"),
]


@pytest.mark.parametrize("says", OPTIONS)
def test_an_option_is_said_in_under_twelve_words(says: str) -> None:
    """Whatever a catalog says of it."""
    assert 0 < len(says.split()) < 12
