"""k8s/Dockerfile as it stands; what its steps do is proved in tests/integration/test_image.py."""

import fnmatch
import re

from tests.support.image import DOCKERFILE, ROOT, read_stages

STAGES = read_stages()


def test_nothing_needs_a_shell() -> None:
    """Commands are in exec form, when building and when running."""
    commands = [step for stage in STAGES.values() for step in stage if step.name in {"RUN", "CMD", "ENTRYPOINT"}]
    assert len(commands) >= 8
    assert all(step.text.startswith("[") and step.words for step in commands)


def test_whatever_is_downloaded_is_locked_by_hash() -> None:
    """pip reaches an index only with --require-hashes and --no-deps, npm only by its lock, without install scripts."""
    steps = [step.words for stage in STAGES.values() for step in stage if step.name == "RUN"]
    pip = [words for words in steps if {"install", "wheel"} & set(words) and "npm" not in words]
    assert len(pip) == 4
    for words in pip:
        assert "--no-deps" in words
        assert ("--require-hashes" in words) != ("--no-index" in words)
    (npm,) = [words for words in steps if "npm" in words]
    assert {"ci", "--ignore-scripts"} <= set(npm)
    lock = (ROOT / "k8s/cli/package-lock.json").read_text()
    assert lock.count('"integrity"') >= 1
    assert "resolved" not in lock, "a lock names no registry, so that each takes its own"


def test_base_images_are_named_with_a_version_and_without_a_host() -> None:
    """No tag that moves between versions of Python or Node, and whichever registry the builder uses."""
    images = {step.text.partition(" ")[0] for stage in STAGES.values() for step in stage if step.name == "FROM"}
    outside = images - STAGES.keys()
    assert outside == {"python:3.12-slim", "node:22-slim"}


def test_no_build_tool_reaches_the_image() -> None:
    """Of the build stage only the service's own folder is copied."""
    copied = [step.text for step in STAGES["service"] if step.name == "COPY"]
    assert copied == ["--from=build /opt/pointsman /opt/pointsman"]
    assert not [step for step in STAGES["service"] if step.name == "RUN"]


def test_a_build_without_a_target_makes_the_service() -> None:
    """The CLI is asked for by name only."""
    (last,) = STAGES[""]
    assert last.text == "service"


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    """Each source of a COPY exists and is let in by .dockerignore, and all that is let in is copied."""
    lines = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in lines
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    sources = [
        source
        for stage in STAGES.values()
        for step in stage
        if step.name == "COPY" and not re.search(r"--from=", step.text)
        for source in step.words[:-1]
    ]
    assert all((ROOT / source).exists() for source in sources)
    found = {
        name for source in sources for name in allowed if fnmatch.fnmatch(source, name) or source.startswith(f"{name}/")
    }
    assert found == allowed
    assert all(any(source == name or source.startswith(f"{name}/") for name in allowed) for source in sources)
