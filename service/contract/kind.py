"""A kind of work, as the catalog names it."""

from typing import Annotated

import msgspec
from msgspec import Meta

KindId = Annotated[str, Meta(min_length=1, max_length=100)]
"""What a caller, a classifier and an outcome name a kind by."""


class Kind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What kind of work a task may be. `description` and `examples` are what a text is compared with."""

    id: KindId
    description: Annotated[str, Meta(max_length=1000)] = ""
    examples: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=2000)], ...], Meta(max_length=100)] = ()
