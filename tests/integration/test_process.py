"""Real programs that behave in every bad way, on both event loops: the answer is right, in time, and nothing is left.

Each test's docstring names the defect that it would catch; each was seen to fail with that defect put in.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.process.errors import ProcessError, ProcessTimeoutError
from service.process.job import Job, Limits, ProcessResult
from service.process.runner import ProcessRunner
from service.process.workspace import Workspace
from tests.support.cli_fixtures import RunOn, Traces

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="what is left is looked up in /proc")

HANG = "import time; time.sleep(60)"
GRANDCHILD = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}]{more})\n"
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.chdir("/")
        for fd in (0, 1, 2):
            os.close(fd)
        time.sleep({seconds})
    os._exit(0)
os.wait()
print("started", flush=True)
"""


def python(code: str) -> list[str]:
    """A program of a few lines; without site-packages, because starting time is test time."""
    return [sys.executable, "-S", "-E", "-c", code]


def job(traces: Traces, directory: str, argv: Sequence[str], timeout_seconds: float, *, stdin: bytes = b"") -> Job:
    """One run in a directory of its own."""
    workspace = Workspace(root=traces.directory / directory)
    return Job(
        name=argv[0],
        argv=argv,
        stdin=stdin,
        env=traces.environ,
        workspace=workspace,
        timeout_seconds=timeout_seconds,
    )


async def run(
    traces: Traces,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_seconds: float = 20.0,
    stdout: int = 1 << 20,
    stderr: int = 1 << 16,
) -> ProcessResult:
    """Runs one program to its end, the cleaning up included."""
    limits = Limits(grace_seconds=0.2, drain_seconds=0.3, max_stdout_bytes=stdout, max_stderr_bytes=stderr)
    runner = ProcessRunner(limits=limits)
    try:
        return await runner.run(job(traces, "run", argv, timeout_seconds, stdin=stdin))
    finally:
        await runner.settle()


def test_output_and_status_come_back(run_on: RunOn[Any], traces: Traces) -> None:
    """What goes in on stdin reaches the program and both outputs come back; catches crossed pipes."""
    code = "import sys; data = sys.stdin.buffer.read(); print(len(data)); print('oops', file=sys.stderr)"
    result = run_on(run(traces, python(code), stdin=b"x" * 3_000_000))
    assert (result.exit_code, result.signal, result.stdout, result.stderr) == (0, None, b"3000000\n", b"oops\n")
    traces.check_nothing_left()


def test_works_in_an_empty_directory_of_its_own(run_on: RunOn[Any], traces: Traces) -> None:
    """The working directory is new, empty and private; catches running in the service's own directory."""
    code = "import os; print(os.listdir('.'), oct(os.stat('..').st_mode & 0o777), os.getcwd())"
    result = run_on(run(traces, python(code)))
    assert result.stdout.decode().split() == ["[]", "0o700", str(traces.directory / "run" / "work")]
    traces.check_nothing_left()


def test_sees_only_the_environment_it_is_given(
    run_on: RunOn[Any], traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of the service itself does not reach the program; catches an inherited environment."""
    monkeypatch.setenv("POINTSMAN_SERVER__TOKEN", "secret")
    result = run_on(run(traces, python("import os; print(sorted(os.environ))")))
    assert set(eval(result.stdout)) - {"LC_CTYPE"} == {"PATH", "TRACE", "PROCESS_RUN_ID"}


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        pytest.param("absent", "not-found", id="missing"),
        pytest.param("no-interpreter", "not-found", id="no interpreter"),
        pytest.param("not-executable", "not-executable", id="not executable"),
        pytest.param(".", "not-executable", id="a directory"),
        pytest.param("no-program", "not-executable", id="no program"),
        pytest.param("a\0b", "cannot-start", id="NUL in its name"),
    ],
)
def test_what_cannot_be_started(run_on: RunOn[Any], traces: Traces, tmp_path: Path, program: str, problem: str) -> None:
    """A program that cannot be started is an error with its name; catches an OSError that leaks out, a leaked pipe."""
    for name, text, mode in (
        ("no-interpreter", "#!/absent/interpreter\n", 0o755),
        ("not-executable", "#!/bin/sh\n", 0o644),
        ("no-program", "neither script nor binary\n", 0o755),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    with pytest.raises(ProcessError) as caught:
        run_on(run(traces, [f"{tmp_path}/{program}"]))
    assert caught.value.problem == problem
    traces.check_nothing_left()


def test_a_workspace_that_exists_is_not_used(run_on: RunOn[Any], traces: Traces) -> None:
    """A directory that somebody made first is refused; catches running in a directory of an attacker's."""
    (traces.directory / "run").mkdir()
    with pytest.raises(ProcessError, match="no working directory"):
        run_on(run(traces, python("print(1)")))


@pytest.mark.parametrize(
    ("code", "exit_code", "signal"),
    [
        pytest.param("print('{}'); raise SystemExit(3)", 3, None, id="exits 3 with JSON"),
        pytest.param("raise SystemExit(4)", 4, None, id="exits 4 without"),
        pytest.param("import os; os.kill(os.getpid(), 9)", None, 9, id="killed"),
        pytest.param("import os; os.abort()", None, 6, id="aborted"),
    ],
)
def test_how_it_ended(run_on: RunOn[Any], traces: Traces, code: str, exit_code: int, signal: int) -> None:
    """Exit status and signal are told apart; catches a status that is lost or taken for success."""
    result = run_on(run(traces, python(code)))
    assert (result.exit_code, result.signal) == (exit_code, signal)
    traces.check_nothing_left()


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(HANG, id="hangs"),
        pytest.param(GRANDCHILD.format(code=HANG, more="") + HANG, id="with a grandchild"),
        pytest.param(
            GRANDCHILD.format(code=HANG, more=", start_new_session=True") + HANG, id="one that left the group"
        ),
        pytest.param(IGNORES_SIGTERM + HANG, id="ignores SIGTERM"),
        pytest.param(GRANDCHILD.format(code=IGNORES_SIGTERM + HANG, more="") + HANG, id="grandchild ignores SIGTERM"),
        pytest.param("import os; os.close(1); os.close(2)\n" + HANG, id="closes its outputs"),
        pytest.param(DAEMON.format(seconds=60) + HANG, id="with a daemon"),
    ],
)
def test_a_hanging_program_is_ended_at_its_time(run_on: RunOn[Any], traces: Traces, code: str) -> None:
    """The timeout is told at once and all processes end; catches a wait without a limit, killing only the child."""
    started = time.monotonic()
    with pytest.raises(ProcessTimeoutError, match=r"did not end within 0\.6 s"):
        run_on(run(traces, python(code), timeout_seconds=0.6))
    assert time.monotonic() - started < 10
    traces.check_nothing_left()


def test_a_child_that_hides_ends_with_its_program(run_on: RunOn[Any], traces: Traces, tmp_path: Path) -> None:
    """One with a session of its own and no environment is known by its parents, its own child too; catches looking for
    the group and for the mark in the environment only."""
    pids = tmp_path / "pids"
    inner = f"import os, time; open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', {inner!r}])\n{inner}"
    code = GRANDCHILD.format(code=outer, more=", start_new_session=True, env={}") + HANG
    with pytest.raises(ProcessTimeoutError):
        run_on(run(traces, python(code), timeout_seconds=1.5))
    started = [int(line) for line in pids.read_text().splitlines()]
    assert len(started) == 2
    until = time.monotonic() + 5.0
    while (left := [pid for pid in started if _runs(pid)]) and time.monotonic() < until:
        time.sleep(0.01)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
    traces.check_nothing_left()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import os\nwhile True: os.write(1, b'x' * 65536)", id="endless stdout"),
        pytest.param("import os\nwhile True: os.write(2, b'x' * 65536)", id="endless stderr"),
        pytest.param("print('x' * 10_000_000); print('{}')", id="10 MB then JSON"),
    ],
)
def test_output_is_bounded_while_it_is_read(run_on: RunOn[Any], traces: Traces, code: str) -> None:
    """Too much output ends the run at the limit; catches memory that grows with it, and a deadlock on a full pipe."""
    with pytest.raises(ProcessError) as caught:
        run_on(run(traces, python(code), stdout=1_000_000, stderr=10_000))
    assert caught.value.problem == "output-too-large"
    traces.check_nothing_left()


def test_output_at_the_limit_is_whole(run_on: RunOn[Any], traces: Traces) -> None:
    """Exactly the limit is allowed; catches an error that is off by one."""
    code = "import sys; sys.stdout.write('x' * 100_000); sys.stderr.write('a' * 5_000 + 'b' * 9_000)"
    result = run_on(run(traces, python(code), stdout=100_000, stderr=9_000))
    assert (len(result.stdout), result.stderr) == (100_000, b"b" * 9_000)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import os; os.close(0); print('done')", id="closes stdin"),
        pytest.param("print('done')", id="never reads"),
        pytest.param("import os; os.read(0, 10); print('done')", id="reads a little"),
    ],
)
def test_a_program_need_not_read_its_input(run_on: RunOn[Any], traces: Traces, code: str) -> None:
    """What is not read is no fault; catches a BrokenPipeError that leaks out, and a writer that waits for ever."""
    result = run_on(run(traces, python(code), stdin=b"x" * 5_000_000))
    assert (result.exit_code, result.stdout) == (0, b"done\n")
    traces.check_nothing_left()


def test_bytes_are_not_interpreted(run_on: RunOn[Any], traces: Traces) -> None:
    """Invalid UTF-8 and NUL come back as they are; catches decoding in this layer."""
    result = run_on(run(traces, python(r"import os; os.write(1, b'\xff\x00\xfe')")))
    assert result.stdout == b"\xff\x00\xfe"


def test_what_a_child_writes_after_the_exit_is_read(run_on: RunOn[Any], traces: Traces) -> None:
    """A child may finish the answer shortly after the program; catches reading that stops at the exit."""
    late = "import time; time.sleep(0.1); print('late')"
    code = GRANDCHILD.format(code=late, more="") + "print('early', flush=True)"
    result = run_on(run(traces, python(code)))
    assert (result.exit_code, result.stdout) == (0, b"early\nlate\n")
    traces.check_nothing_left()


@pytest.mark.parametrize("more", ["", ", start_new_session=True"], ids=["in the group", "in a session of its own"])
def test_a_child_that_holds_the_pipes_does_not_hold_us(run_on: RunOn[Any], traces: Traces, more: str) -> None:
    """After the exit the pipes are read for a moment only; catches waiting for the end of a file that never comes."""
    code = GRANDCHILD.format(code=HANG, more=more) + "print('{}')"
    started = time.monotonic()
    result = run_on(run(traces, python(code)))
    assert (result.exit_code, result.stdout) == (0, b"{}\n")
    assert time.monotonic() - started < 10
    traces.check_nothing_left()


def test_a_daemon_does_not_outlive_the_run(run_on: RunOn[Any], traces: Traces) -> None:
    """A child that left session, group and parent is found all the same; catches ending the group only."""
    result = run_on(run(traces, python(DAEMON.format(seconds=60))))
    assert result.stdout == b"started\n"
    traces.check_nothing_left()


def test_closing_outputs_is_not_the_end(run_on: RunOn[Any], traces: Traces) -> None:
    """The exit counts, not the end of the output; catches a program that is ended while it still works."""
    code = "import os, time; os.write(1, b'{}'); os.close(1); os.close(2); time.sleep(0.3); os._exit(5)"
    assert run_on(run(traces, python(code))).exit_code == 5


def test_a_cancelled_caller_leaves_at_once_and_leaves_nothing(run_on: RunOn[Any], traces: Traces) -> None:
    """Cancelling ends the program behind the caller's back; catches a child that lives on, a caller that is held."""

    async def scenario() -> None:
        runner = ProcessRunner(limits=Limits(grace_seconds=0.2))
        code = IGNORES_SIGTERM + "print(1, flush=True)\n" + HANG
        task = asyncio.create_task(_start(runner, traces, 1, python(code)))
        await _until(lambda: len(traces.processes()) == 1)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert runner.running == 1  # its slot is not free before it is gone
        async with asyncio.timeout(15):  # half of the time that the run itself has
            await runner.settle()
        assert runner.running == 0

    run_on(scenario())
    traces.check_nothing_left()


def test_cancelling_at_any_moment_leaves_nothing(run_on: RunOn[Any], traces: Traces) -> None:
    """Thirty cancellations spread over start and run; catches a child lost in the middle of its start."""

    async def scenario() -> None:
        runner = ProcessRunner(max_concurrency=4, max_waiting=100)
        tasks = [asyncio.create_task(_start(runner, traces, n, python(HANG))) for n in range(30)]
        for n, task in enumerate(tasks):
            await asyncio.sleep(0.001 * (n % 5))
            task.cancel()
        assert {type(end) for end in await asyncio.gather(*tasks, return_exceptions=True)} == {asyncio.CancelledError}
        await runner.settle()
        assert (runner.running, runner.waiting) == (0, 0)
        assert (await _start(runner, traces, 99, python("print(1)"))).stdout == b"1\n"  # and no slot was lost
        await runner.settle()

    run_on(scenario())
    traces.check_nothing_left()


def test_ten_at_once_with_a_limit_of_two(run_on: RunOn[Any], traces: Traces) -> None:
    """Never more than two run, all ten are answered; catches a limit that does not hold or a slot that is lost."""

    async def scenario() -> None:
        runner = ProcessRunner(max_concurrency=2)
        tasks = [
            asyncio.create_task(_start(runner, traces, n, python("import time; time.sleep(0.1); print(1)")))
            for n in range(10)
        ]
        most = 0
        while not all(task.done() for task in tasks):
            most = max(most, len(traces.processes()))
            await asyncio.sleep(0.01)
        assert [task.result().stdout for task in tasks] == [b"1\n"] * 10
        assert most == 2
        await runner.settle()

    run_on(scenario())
    traces.check_nothing_left()


def test_the_queue_is_bounded_and_waiting_counts_as_time(run_on: RunOn[Any], traces: Traces) -> None:
    """Who finds the queue full is told so at once, who waits too long is told that it waited; catches an unbounded
    queue, and a wait without an end."""

    async def scenario() -> None:
        runner = ProcessRunner(max_concurrency=1, max_waiting=1)
        first = asyncio.create_task(_start(runner, traces, 1, python(HANG)))
        await _until(lambda: runner.running == 1)
        second = asyncio.create_task(_start(runner, traces, 2, python("print(2)"), timeout_seconds=0.3))
        await _until(lambda: runner.waiting == 1)
        with pytest.raises(ProcessError, match="1 run already and 1 wait"):
            await _start(runner, traces, 3, python("print(3)"))
        with pytest.raises(ProcessTimeoutError, match=r"waited 0\.3 s in vain for one of 1 slots") as caught:
            await second
        assert (caught.value.problem, caught.value.run_seconds) == ("queue-timeout", 0.0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await runner.settle()

    run_on(scenario())
    traces.check_nothing_left()


def test_the_wait_for_a_slot_is_part_of_the_time(run_on: RunOn[Any], traces: Traces) -> None:
    """Who waits 1.5 s of its 2.5 s has 1 s left to run, and is told so; catches time that starts anew with the slot."""

    async def scenario() -> None:
        runner = ProcessRunner(max_concurrency=1, limits=Limits(grace_seconds=0.2))
        first = asyncio.create_task(_start(runner, traces, 1, python("import time; time.sleep(1.5)")))
        await _until(lambda: runner.running == 1)
        started = time.monotonic()
        with pytest.raises(ProcessTimeoutError, match=r"within 2\.5 s, .* s of which it waited for a slot") as caught:
            await _start(runner, traces, 2, python(HANG), timeout_seconds=2.5)
        assert time.monotonic() - started < 3.5
        assert (caught.value.problem, 0 < caught.value.run_seconds < 1.2) == ("timeout", True)
        await first
        await runner.settle()

    run_on(scenario())
    traces.check_nothing_left()


def test_shutdown_in_the_middle_leaves_nothing(run_on: RunOn[Any], traces: Traces) -> None:
    """Closing ends what runs and refuses what waits; catches a shutdown that waits for a program or forgets one."""

    async def scenario() -> None:
        runner = ProcessRunner(max_concurrency=2, limits=Limits(grace_seconds=0.2))
        code = GRANDCHILD.format(code=IGNORES_SIGTERM + HANG, more=", start_new_session=True") + HANG
        tasks = [asyncio.create_task(_start(runner, traces, n, python(code), timeout_seconds=60)) for n in range(5)]
        await _until(lambda: len(traces.processes()) == 4)
        await runner.aclose()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [end.problem for end in ends if isinstance(end, ProcessError)] == ["stopped"] * 5
        with pytest.raises(ProcessError, match="shutting down"):
            await _start(runner, traces, 9, python("print(1)"))

    run_on(scenario())
    traces.check_nothing_left()


def test_a_run_does_not_hold_the_loop(run_on: RunOn[Any], traces: Traces) -> None:
    """Other coroutines go on while programs start, flood and end; catches blocking calls on the loop."""

    async def scenario() -> float:
        runner = ProcessRunner(max_concurrency=2)
        # Each lasts for longer than the limit below, so that a loop which is held by one is seen to be.
        code = "import os, time\nfor _ in range(100): os.write(2, b'x' * 65536)\ntime.sleep(1.5); print(1)"
        tasks = [asyncio.create_task(_start(runner, traces, n, python(code))) for n in range(2)]
        longest = 0.0
        while not all(task.done() for task in tasks):
            before = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - before)
        await asyncio.gather(*tasks)
        await runner.settle()
        return longest

    assert run_on(scenario()) < 1.0  # a guard against seconds, on a machine that may be busy; measured: 0.02


def test_a_loop_that_was_closed_early_leaves_nothing(traces: Traces) -> None:
    """Where nobody closed the runner, the thread still ends its program; catches a thread that dies with its loop."""

    async def scenario() -> None:
        runner = ProcessRunner()
        task = asyncio.create_task(_start(runner, traces, 1, python(HANG)))
        await _until(lambda: len(traces.processes()) == 1)
        task.cancel()  # and the loop is closed before anything is cleaned up
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    _wait_for(lambda: not list(traces.directory.iterdir()))
    traces.check_nothing_left()


AS_PROCESS_ONE = """
import asyncio, os, sys, tempfile, time
from pathlib import Path
from service.process.job import Job
from service.process.runner import ProcessRunner
from service.process.workspace import Workspace

async def main():
    assert os.getpid() == 1
    with tempfile.TemporaryDirectory() as directory:
        runner = ProcessRunner()
        for n in range(3):
            argv = [sys.executable, "-S", "-c", sys.argv[1]]
            workspace = Workspace(root=Path(directory) / str(n))
            result = await runner.run(Job(name="x", argv=argv, stdin=b"", env=dict(os.environ), workspace=workspace,
                                          timeout_seconds=20))
            assert result.exit_code == 0, result
        await runner.settle()
    zombies = [p.read_text() for p in Path("/proc").glob("[0-9]*/stat") if p.parent.name != "1"]
    print("left:", zombies)

asyncio.run(main())
"""


@pytest.mark.parametrize("seconds", ["60", "0"], ids=["daemons that live", "daemons that died"])
def test_as_process_one_it_reaps_orphans(seconds: str) -> None:
    """In a container whose process 1 the service is, no zombie stays; catches killing without reaping."""
    unshare = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("process namespaces (unshare) are not allowed here")
    wait = "\nimport time; time.sleep(0.2)" if seconds == "0" else ""
    done = subprocess.run(
        [*unshare, sys.executable, "-c", AS_PROCESS_ONE, DAEMON.format(seconds=seconds) + wait],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (done.stdout, done.returncode) == ("left: []\n", 0), done.stderr


async def _start(
    runner: ProcessRunner, traces: Traces, number: int, argv: Sequence[str], *, timeout_seconds: float = 30.0
) -> ProcessResult:
    return await runner.run(job(traces, str(number), argv, timeout_seconds))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for is another process
            await asyncio.sleep(0.01)


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
