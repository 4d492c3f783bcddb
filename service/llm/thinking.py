"""Keeps what a reasoning model thinks aloud in `<think>…</think>` apart from its answer: many servers leave it in."""

import re

_BEGIN, _END = "<think>", "</think>"
_ANY_BEGIN = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_ANY_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)


def without_thoughts(text: str) -> str:
    """What stands outside of thoughts in a whole reply; one that was never closed hides all that follows it."""
    if text.lstrip().startswith("{") or "<" not in text:  # a reason may well speak of such tags
        return text
    end = 0  # templates may put the opening tag into the prompt, so that only the closing one is in the reply
    for match in _ANY_END.finditer(text):
        end = match.end()
    start = _ANY_BEGIN.search(text, end)
    return text[end : start.start()] if start else text[end:]


class ThinkSplitter:
    """Takes the answer's text in pieces; what could still become a tag is held back until it is known."""

    def __init__(self) -> None:
        self._held: str = ""
        self._state = "start"

    def feed(self, text: str) -> tuple[str, str]:
        """What this piece adds to the answer, and to the reasoning. Only a text that begins with the tag has any."""
        if self._state == "answer":
            return text, ""
        self._held += text
        if self._state == "start":
            begun = self._held.lstrip()
            if not begun.startswith(_BEGIN):
                return ("", "") if _BEGIN.startswith(begun) else (self._answer(self._held), "")
            self._state, self._held = "thinking", begun.removeprefix(_BEGIN)
        if self._state == "gap":
            self._held = self._held.lstrip()
            return self._answer(self._held) if self._held else "", ""
        thought, end, rest = self._held.partition(_END)
        if end:
            # The blank lines after the tag are no part of the answer, but they may come in the next piece.
            self._state, self._held = "gap", rest.lstrip()
            return self._answer(self._held) if self._held else "", thought
        kept = next((n for n in range(len(_END) - 1, 0, -1) if thought.endswith(_END[:n])), 0)
        self._held = thought[len(thought) - kept :]
        return "", thought[: len(thought) - kept]

    def flush(self) -> tuple[str, str]:
        """What was still held back when the text ended."""
        held, self._held = self._held, ""
        return ("", held) if self._state == "thinking" else (held, "")

    def _answer(self, text: str) -> str:
        self._state, self._held = "answer", ""
        return text
