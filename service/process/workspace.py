"""A directory of a run's own, made before it and removed after it."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """`root` must not exist yet; its parent must. Readable by this user only.

    `files` maps names below `root` to their content; the directories for them are made.
    """

    root: Path
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def temp(self) -> Path:
        """For TMPDIR: what a program forgets there goes with the run."""
        return self.root / "tmp"

    @property
    def home(self) -> Path:
        """For a HOME that nobody else sees."""
        return self.root / "home"

    def make(self) -> None:
        """Makes it, or raises OSError; FileExistsError where somebody was there first."""
        self.root.mkdir(mode=0o700)
        for directory in (self.work, self.temp, self.home):
            directory.mkdir()
        for name, content in self.files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def remove(self) -> None:
        """Removes it, as far as it can be removed."""
        shutil.rmtree(self.root, ignore_errors=True)
