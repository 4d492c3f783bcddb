"""What must not be shown, and how it is taken out of a text: in this one place."""

import re
from collections.abc import Iterable, Mapping

from service.base.text import one_line

MASK = "***"

LEAST_CHARS = 6
"""A shorter value is no secret, and masking it would only garble the text."""

_NAME = re.compile(r"KEY|TOKEN(?!S)|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^/\s@:]{1,200}:[^/\s@]{1,200}(?=@)")


def secrets_in(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values of the variables that are secret by their names, the longest first."""
    found = {value for name, value in environ.items() if _NAME.search(name) and len(value) >= LEAST_CHARS}
    return tuple(sorted(found, key=len, reverse=True))


def masked(text: str, secrets: Iterable[str]) -> str:
    """`text` with `***` for each of `secrets`, also where its slashes are escaped as JSON allows, and for the user and
    password of a URL."""
    for secret in secrets:
        text = text.replace(secret, MASK).replace(secret.replace("/", "\\/"), MASK)
    return _PASSWORD_IN_URL.sub(MASK, text)


def masked_line(text: str, limit: int, secrets: Iterable[str] = ()) -> str:
    """`text` as one line of at most `limit` characters, fit for a person.

    Masked before anything is cut, so that no part of a secret is left at the end, and again when invisible characters
    inside of one are gone.
    """
    secrets = tuple(secrets)
    line = masked(one_line(masked(text, secrets), limit * 8), secrets)
    return line if len(line) <= limit else line[: limit - 1] + "…"
