"""Short codes for the candidates, in a question and in its answer: `c1` for the first of the catalog, and so on.

A model writes a code with two tokens where an agent type and a model take ten to twenty; each token is time, and each
is a chance to misspell. The codes follow from the catalog's order alone, so that the fixed part of the prompt stays so.
"""

import re
from collections.abc import Sequence

from service.contract.catalog import Candidate

_CODE = re.compile(r"\s*c?(\d{1,6})\b", re.IGNORECASE)
_MENTIONED = re.compile(r"\bc(\d{1,6})\b")


def code_of(position: int) -> str:
    """The code of the candidate at that position of the catalog, counted from 0."""
    return f"c{position + 1}"


def candidate_of(code: str | float, catalog: Sequence[Candidate]) -> Candidate | None:
    """Whom a code means; None where it means nobody. `c3`, `C3`, `3` and `c3 | codex` are all understood."""
    if isinstance(code, str):
        found = _CODE.match(code)
        number = int(found[1]) if found else 0
    else:
        number = int(code) if float(code).is_integer() else 0
    return catalog[number - 1] if 1 <= number <= len(catalog) else None


def in_names(text: str, catalog: Sequence[Candidate]) -> str:
    """`text` for a person, who knows no codes: each one of the catalog's is replaced by the candidate's name."""

    def name(found: re.Match[str]) -> str:
        return str(candidate_of(found[0], catalog) or found[0])

    return _MENTIONED.sub(name, text)
