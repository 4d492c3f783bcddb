"""A folder as Kubernetes mounts a ConfigMap, with the files of a configuration in it."""

import os
import shutil
from pathlib import Path

from service.classifiers.prompt import PROMPT_FILES, SHIPPED
from service.contract.catalog_file import DEFAULT_CATALOG

CONFIG = """
[store]
url = "sqlite://"
[cli]
preset = ""
[catalog]
path = "{0}/catalog.toml"
[prompts]
path = "{0}/prompts"
"""


class Mounted:
    """A folder as Kubernetes mounts a ConfigMap: files are links through `..data`, which is swapped as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._version = 0
        first = self._next()
        shutil.copy(DEFAULT_CATALOG, first / "catalog.toml")
        shipped = next(path for path in SHIPPED if path.is_dir())
        (first / "prompts").mkdir()
        for name in PROMPT_FILES:
            shutil.copy(shipped / name, first / "prompts" / name)
        self.first_config = CONFIG.format(folder)
        (first / "pointsman.toml").write_text(self.first_config)
        self._swap(first)
        for name in ("catalog.toml", "prompts", "pointsman.toml"):
            (folder / name).symlink_to(Path("..data", name))

    def change(self, **texts: str) -> None:
        """A new version in which these files (`catalog_toml` for catalog.toml) have another text."""
        current = (self.folder / "..data").resolve()
        fresh = self._next()
        shutil.copytree(current, fresh, dirs_exist_ok=True)
        for name, text in texts.items():
            (fresh / name.replace("__", "/").replace("_", ".")).write_text(text)
        self._swap(fresh)

    def _next(self) -> Path:
        self._version += 1
        made = self.folder / f"..version_{self._version}"
        made.mkdir()
        return made

    def _swap(self, to: Path) -> None:
        link = self.folder / "..data_tmp"
        link.symlink_to(to.name)
        os.replace(link, self.folder / "..data")  # noqa: PTH105 - the one atomic step
