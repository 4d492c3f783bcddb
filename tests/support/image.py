"""k8s/Dockerfile read, as its tests need it."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "k8s" / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line, joined where it was continued: `RUN`, and what stands after it."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments: of an exec form, or of a plain line without its flags."""
        if self.text.startswith("["):
            words: list[str] = json.loads(self.text)
            return words
        return [word for word in shlex.split(self.text) if not word.startswith("--")]


def read_stages(file: Path = DOCKERFILE) -> dict[str, list[Instruction]]:
    """Stages by name (the last one may have none: ""), each with its FROM first."""
    stages: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, text = line.strip().partition(" ")
        if name == "FROM":
            current = stages.setdefault(text.partition(" AS ")[2], [])
        current.append(Instruction(name, " ".join(text.split())))
    return stages
