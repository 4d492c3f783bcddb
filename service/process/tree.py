"""A started program and everything that it started in turn: how all of it is found, ended and reaped.

The program leads a process group of its own, and whoever stays in the group is ended with it. A process may leave the
group (`setsid`, a daemon), and then its parents tell nothing either, because an orphan gets a new one. But it keeps the
environment that it was started with, and one variable in there names the run: on Linux /proc shows it. Whoever throws
that away too is still known by its parents, where the program is running when it is ended. Only a daemon that left
group, environment and parents behind before that is not found.

Orphans go to process 1 of their container. Where that is this very process, nobody else reaps them: then each zombie
child in another session, which is no program that was started here, is such an orphan and reaped. The service makes
itself no subreaper, so that everywhere else orphans stay the business of init.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

MARK = "PROCESS_RUN_ID"
"""The environment variable that names the run."""

PAUSE_SECONDS = 0.005
GIVE_UP_SECONDS = 5.0
"""A process that SIGKILL does not end within this time hangs in the kernel or is not ours to kill."""

_PROC = Path("/proc")

_starting = threading.Lock()
"""Held while a program starts and while zombies are reaped, so that none is reaped before it is known."""
_leaders: set[int] = set()


class Exit(NamedTuple):
    """How a program ended; both None where somebody else took its status."""

    code: int | None
    signal: int | None


class ProcessTree:
    """A program in a session and process group of its own, with pipes for its three streams, unbuffered."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, mark: str) -> None:
        """Starts it, or raises OSError, or ValueError for a NUL in an argument."""
        self._mark = f"{MARK}={mark}".encode()
        self._offspring: frozenset[tuple[int, int]] = frozenset()
        with _starting:
            self.popen = subprocess.Popen(  # noqa: S603 - running the operator's program is what this is for; no shell
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**env, MARK: mark},
                cwd=cwd,
                bufsize=0,
                start_new_session=True,
            )
            _leaders.add(self.popen.pid)

    def exited(self) -> Exit | None:
        """How the program ended, or None while it runs.

        It is not reaped yet: its process id, which is the group's too, cannot go to a stranger before `end`.
        """
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return None if (code := self.popen.poll()) is None else _exit(code)
        try:
            status = os.waitid(os.P_PID, self.popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return Exit(None, None)
        if status is None:
            return None
        return _exit(status.si_status if status.si_code == os.CLD_EXITED else -status.si_status)

    def end(self, *, grace_seconds: float) -> bool:
        """Ends all of it: SIGTERM and the grace where the program still runs, then SIGKILL; reaps what is ours.

        False where something could not be ended.
        """
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()  # who still writes gets SIGPIPE, who still reads gets the end of the file
        if self.exited() is None:
            self._offspring = self._descendants()
            self._signal_group(signal.SIGTERM)
            until = time.monotonic() + grace_seconds
            while self.exited() is None and time.monotonic() < until:
                time.sleep(PAUSE_SECONDS)
        self._signal_group(signal.SIGKILL)
        until = time.monotonic() + GIVE_UP_SECONDS
        while (left := self._sweep()) and time.monotonic() < until:
            time.sleep(PAUSE_SECONDS)
        try:
            self.popen.wait(timeout=max(until - time.monotonic(), PAUSE_SECONDS))
        except subprocess.TimeoutExpired:
            return False
        finally:
            with _starting:
                _leaders.discard(self.popen.pid)
        return not left

    def _signal_group(self, number: signal.Signals) -> None:
        if self.popen.returncode is not None:  # reaped already: the group's id may be a stranger's
            return
        try:
            os.killpg(self.popen.pid, number)
        except (ProcessLookupError, PermissionError):  # nobody is left, or nobody whom we may signal
            return

    def _sweep(self) -> bool:
        """One look at every process: kills what belongs to the run, reaps orphans; whether anything was alive."""
        alive = False
        me, session = os.getpid(), os.getsid(0)
        for found in _processes():
            if found.pid == self.popen.pid:
                continue
            if found.state in "ZX":
                if me == found.parent == 1 and found.session != session:
                    _reap_orphan(found.pid)
            elif found.pid != me and self._is_ours(found):
                alive = _kill(found.pid) or alive
        return alive

    def _descendants(self) -> frozenset[tuple[int, int]]:
        """Everything that the running program started and whose parents live, by process id and start."""
        children: dict[int, list[_Found]] = {}
        for found in _processes():
            children.setdefault(found.parent, []).append(found)
        known: set[tuple[int, int]] = set()
        parents = [self.popen.pid]
        while parents:
            for child in children.pop(parents.pop(), ()):
                known.add((child.pid, child.started))
                parents.append(child.pid)
        return frozenset(known)

    def _is_ours(self, found: "_Found") -> bool:
        return (
            found.group == self.popen.pid or (found.pid, found.started) in self._offspring or self._is_marked(found.pid)
        )

    def _is_marked(self, pid: int) -> bool:
        try:
            return self._mark in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:  # it is gone, or another user's
            return False


class _Found(NamedTuple):
    pid: int
    state: str
    parent: int
    group: int
    session: int
    started: int
    """In clock ticks since the machine started: together with the id, nobody else has it."""


def _processes() -> Iterator[_Found]:
    """Every process of this user, or none where there is no /proc."""
    user = os.geteuid()
    try:
        entries = os.scandir(_PROC)
    except OSError:
        return
    with entries:
        for entry in entries:
            if not entry.name.isdigit():
                continue
            try:
                if entry.stat().st_uid != user:
                    continue
                stat = (_PROC / entry.name / "stat").read_bytes()
            except OSError:
                continue  # it ended meanwhile
            # proc(5): the name in brackets may hold anything, also brackets and spaces.
            fields = stat[stat.rindex(b")") + 2 :].split(maxsplit=20)
            parent, group, session = map(int, fields[1:4])
            yield _Found(int(entry.name), fields[0].decode(), parent, group, session, int(fields[19]))


def _reap_orphan(pid: int) -> None:
    with _starting:
        if pid in _leaders:
            return
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _exit(code: int) -> Exit:
    return Exit(code, None) if code >= 0 else Exit(None, -code)
