"""The programs that can classify: each module here is one, called as the program is, and its `PRESET` says how.

A new program is one new file. `command` stands for any other program, which the settings name.
"""

import pkgutil
from importlib import import_module

from service.classifiers.preset import Preset

ANY_COMMAND = "command"


def program_names() -> list[str]:
    """The programs that have a preset, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != ANY_COMMAND)


def preset_of(name: str) -> Preset:
    """How the program of that name, or `ANY_COMMAND`, is asked; ModuleNotFoundError where there is none."""
    preset: Preset = import_module(f"{__name__}.{name}").PRESET
    return preset
