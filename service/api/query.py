"""What stands in a path's query, and how a listing is paged."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from service.base.ids import is_uuid
from service.base.text import one_line
from service.contract.decoding import convert_tree
from service.contract.errors import InvalidInputError

MAX_PARAMETERS = 20
"""Of a query; the most that any path takes is four."""

MAX_PAGE = 500


def query_of(scope: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The query's names and values, in order. The framework's own parser would keep the last thousand queries, each
    with what it was parsed into, which is thirty times its size."""
    text = scope["query_string"].decode("latin-1")
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise InvalidInputError(f"expected at most {MAX_PARAMETERS} parameters", path="query") from None


def one_of_each(scope: Mapping[str, Any], known: frozenset[str]) -> dict[str, str]:
    """The query's values by name. Raises InvalidInputError for a name that is not known, or that stands there twice."""
    query: dict[str, str] = {}
    for name, value in query_of(scope):
        if name not in known:
            raise InvalidInputError(f"expected one of {', '.join(sorted(known))}", path=f"query {one_line(name, 80)}")
        if name in query:
            raise InvalidInputError("expected it once", path=f"query {name}")
        query[name] = value
    return query


def page_of(scope: Mapping[str, Any], *, of: str, filters: tuple[str, ...]) -> dict[str, Any]:
    """`limit` (50 unless said), `before` (an id, `of` which kind, or None) and the filters, by their names."""
    given = one_of_each(scope, frozenset({"limit", "before", *filters}))
    before = given.get("before")
    if before is not None and not is_uuid(before):
        raise InvalidInputError(f"expected {of}", path="query before")
    return {name: given.get(name) for name in ("before", *filters)} | {"limit": _limit(given.get("limit", "50"))}


def _limit(text: str) -> int:
    try:
        limit = convert_tree(text[:20], int, strict=False)
    except InvalidInputError:
        limit = 0
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInputError(f"expected an integer from 1 to {MAX_PAGE}", path="query limit")
    return limit
