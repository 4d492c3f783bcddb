"""Started in namespaces of its own by `tests.support.image`: lays out a root, locks it, and becomes the program.

Arguments: a plan as JSON, then the command. Uses the standard library only.
"""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
CAPABILITIES = range(64)
SHELLS = ("bin/sh", "bin/bash", "bin/dash", "usr/bin/sh", "usr/bin/bash", "usr/bin/dash", "bin/busybox")
C_LIBRARIES = ("lib", "lib64", "usr/lib", "usr/lib64")


def main(plan: dict[str, Any], command: list[str]) -> None:
    """Never returns."""
    root = Path(plan["root"])
    _mount("-t", "tmpfs", "tmpfs", root)
    for path in [*C_LIBRARIES, *plan["libraries"]]:
        _borrow(root, Path("/", path))
    for path, source in plan["read_only"].items():
        _bind(Path(source), _at(root, path), read_only=True)
    for path, source in plan["writable"].items():
        _bind(Path(source), _at(root, path), read_only=False)
    for name in SHELLS:
        if (root / name).exists():
            _bind(Path(os.devnull), root / name, read_only=True)
    for device in ("null", "zero", "urandom", "random"):
        _bind(Path("/dev", device), _at(root, f"/dev/{device}"), read_only=False)
    (root / "proc").mkdir()
    _mount("-t", "proc", "-o", "ro,nosuid,nodev,noexec", "proc", root / "proc")
    _mount("-o", "remount,ro", root)
    os.chroot(root)
    os.chdir("/tmp")
    _drop(plan["user"])
    os.execv(command[0], command)


def _drop(user: int) -> None:
    """The bounding set first, which takes a capability to change; the rest goes with root."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for capability in CAPABILITIES:
        prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # beyond the kernel's last one it fails, which is no harm
    os.setgroups([user])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")


def _borrow(root: Path, path: Path) -> None:
    """Puts a folder or program of this machine where it lies; a link stays a link."""
    target = root / path.relative_to("/")
    if target.exists() or target.is_symlink() or not path.exists():
        return
    if path.is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.readlink())
        _borrow(root, path.parent / path.readlink())
    else:
        _bind(path, _at(root, str(path)), read_only=True)


def _at(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _bind(source: Path, target: Path, *, read_only: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    _mount("--bind", source, target)
    _mount("-o", f"remount,bind,nosuid{',ro' if read_only else ''}", target)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
