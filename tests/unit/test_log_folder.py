"""The folder of logs and the file that is written: whole lines, one writer, and what is rotated out."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.base.ids import uuid7
from service.contract.settings import ExecutionSettings
from service.executions.log_file import LogError, LogFile, is_written
from service.executions.log_folder import LogFolder
from service.executions.stream_json import result_of
from tests.support.service_process import ROOT
from tests.support.stream_reader import read_transcript


def written(folder: LogFolder, *, age_days: float = 0.0) -> str:
    """An execution's log of one line, of this age."""
    execution_id = uuid7()
    log = folder.open(execution_id)
    log.write(b"{}\n")
    log.close()
    then = time.time() - age_days * 86_400
    os.utime(folder.path(execution_id), (then, then))
    return execution_id


def there(folder: LogFolder) -> set[str]:
    """The executions that still have a log."""
    return {path.parent.name for path in folder.folder.glob("*/stdout.log")}


def test_a_line_is_visible_when_it_is_written(tmp_path: Path) -> None:
    """Nothing waits in a buffer."""
    log = LogFile(tmp_path / "a" / "stdout.log")
    log.write(b"one\n")
    assert (tmp_path / "a" / "stdout.log").read_bytes() == b"one\n"
    log.close()
    log.close()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["stdout.log"]


def test_a_line_that_a_crash_cut_off_does_not_swallow_the_next(tmp_path: Path) -> None:
    """What is appended to half a line starts on a line of its own."""
    path = tmp_path / "stdout.log"
    path.write_bytes(b'{"type":"str')
    log = LogFile(path)
    log.write(b"{}\n")
    log.close()
    assert path.read_bytes() == b'{"type":"str\n{}\n'


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    """A log that is being written is known as such, and cannot be opened for writing a second time."""
    path = tmp_path / "stdout.log"
    log = LogFile(path)
    assert is_written(path)
    with pytest.raises(LogError):
        LogFile(path)
    log.close()
    assert not is_written(path)
    assert not is_written(tmp_path / "none")


def test_a_folder_below_a_file_says_what_is_wrong(tmp_path: Path) -> None:
    """A log directory that cannot be is an error in words, and claiming it does not fail."""
    (tmp_path / "file").write_text("")
    folder = LogFolder(tmp_path / "file" / "logs")
    folder.claim()
    folder.rotate(ExecutionSettings())
    with pytest.raises(LogError, match="Not a directory"):
        folder.open(uuid7())
    assert folder.reader(uuid7()) is None
    folder.release()


def test_a_full_disk_leaves_whole_lines() -> None:
    """Where a line does not fit, none of it is written; LogError says why. Fails if a torn line is left behind."""
    program = """
import resource, sys, tempfile
from pathlib import Path
from service.executions.log_file import LogError, LogFile
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
path = Path(tempfile.mkdtemp()) / "stdout.log"
log = LogFile(path)
try:
    while True:
        log.write(b"x" * 768 + b"y\\n")
except LogError as error:
    print(error)
log.close()
print(path.stat().st_size, path.read_bytes()[-2:])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert done.stdout.splitlines() == ["the log cannot be written: File too large", "9240 b'y\\n'"]


def test_an_owner_is_found_again(tmp_path: Path) -> None:
    """Whoever has the folder next goes by the same name; one that finds it taken goes by another."""
    first, second, third = LogFolder(tmp_path), LogFolder(tmp_path), LogFolder(tmp_path)
    first.claim()
    second.claim()
    assert first.owner != second.owner
    first.release()
    third.claim()
    assert third.owner == first.owner
    third.release()
    second.release()


def test_another_folder_has_another_owner(tmp_path: Path) -> None:
    """Two replicas with folders of their own never share a name, whatever their hosts are called."""
    one, two = LogFolder(tmp_path / "a"), LogFolder(tmp_path / "b")
    one.claim()
    two.claim()
    assert one.owner != two.owner
    one.release()
    two.release()


async def test_a_log_left_open_gets_its_result(tmp_path: Path) -> None:
    """Once, and a reader of the format takes it; a log that has a result already is only read."""
    folder, execution_id = LogFolder(tmp_path), uuid7()
    assert await folder.finish(execution_id, "m", "process-died") is None
    end = await folder.finish(execution_id, "m", "other")
    assert end is not None
    assert end["exit_reason"] == "process-died"
    seen = read_transcript(folder.path(execution_id).read_bytes().splitlines())
    assert (seen.session_id, seen.result["is_error"]) == (execution_id, True)


async def test_a_log_that_is_written_is_left_alone(tmp_path: Path) -> None:
    """Another process's run, taken for dead by mistake, does not get a result in the middle."""
    folder, execution_id = LogFolder(tmp_path), uuid7()
    log = folder.open(execution_id)
    log.write(b"{}\n")
    assert await folder.finish(execution_id, "m", "process-died") is None
    assert folder.path(execution_id).read_bytes() == b"{}\n"
    log.close()
    assert await folder.finish(execution_id, "m", "process-died") is None
    assert result_of(folder.path(execution_id)) is not None


def test_the_oldest_logs_go_first(tmp_path: Path) -> None:
    """Beyond `keep` the oldest are removed; what is no execution's is not touched."""
    folder = LogFolder(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "stdout.log").write_text("mine")
    ids = [written(folder) for _ in range(5)]
    folder.rotate(ExecutionSettings(keep=2))
    assert there(folder) == {*ids[3:], "notes"}


def test_old_logs_go(tmp_path: Path) -> None:
    """What was not written for `keep_days` is removed, however few there are."""
    folder = LogFolder(tmp_path)
    _, young = written(folder, age_days=2.1), written(folder, age_days=1.9)
    folder.rotate(ExecutionSettings(keep_days=2))
    assert there(folder) == {young}


def test_a_log_that_is_written_is_never_rotated_out(tmp_path: Path) -> None:
    """Not by its number and not by its age, whichever process writes it."""
    folder, execution_id = LogFolder(tmp_path), uuid7()
    log = folder.open(execution_id)
    os.utime(folder.path(execution_id), (0, 0))
    written(folder)
    written(folder)
    folder.rotate(ExecutionSettings(keep=1, keep_days=1))
    assert execution_id in there(folder)
    log.close()
    folder.rotate(ExecutionSettings(keep=1, keep_days=1))
    assert execution_id not in there(folder)
