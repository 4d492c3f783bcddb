"""Where what lasts is kept when the settings name no place."""

import tempfile
from collections.abc import Mapping
from pathlib import Path


def state_folder(environ: Mapping[str, str]) -> Path | None:
    """This user's folder (XDG base directories), or None where there is no home."""
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if state:
        return Path(state, "pointsman")
    return Path(home, ".local", "state", "pointsman") if home else None


def scratch_folder(environ: Mapping[str, str]) -> Path:
    """The same, or where there is no home one that may not outlast the machine's next start."""
    return state_folder(environ) or Path(tempfile.gettempdir(), "pointsman")
