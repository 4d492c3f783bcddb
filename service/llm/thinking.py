"""Keeps `<think>…</think>` apart from an answer as it streams: servers without a parser for it leave it in the text."""

_BEGIN, _END = "<think>", "</think>"


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
