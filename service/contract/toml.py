"""Files in TOML: read, with an error that names the file and what is wrong."""

import tomllib
from pathlib import Path
from typing import Any

from service.contract.errors import ConfigurationError


def read_toml(file: Path) -> dict[str, Any]:
    """Also with a byte-order mark. Raises ConfigurationError."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", source=str(file)) from None
    except UnicodeError:
        raise ConfigurationError("cannot be read: it is not UTF-8", source=str(file)) from None
    return parse_toml(text, source=str(file))


def parse_toml(text: str, *, source: str) -> dict[str, Any]:
    """`source` is what errors call it. Raises ConfigurationError."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"not TOML: {error}", source=source) from None
