"""The small real model turned into a decision model: llama.cpp then serves it at `/v1/systemone` as well as by chat.

llama.cpp takes a GGUF file for a decision model whose header names a type (`<architecture>.decision.type`) and has a
template for questions (`tokenizer.chat_template.systemone`). Both entries are put in right after the file's own header.
Type `openjev` needs nothing but the language model's own head. It proves the protocol, never judgement.
"""

import argparse
import struct
from pathlib import Path

_HEADER = struct.Struct("<4sIQQ")
"""Magic number, version, number of tensors, number of metadata entries (GGUF specification, version 3)."""

_STRING = 8
"""The type number of a string value."""

_ALIGNMENT = 64
"""Tensor data stays where it is relative to the file's alignment (32 by default) while a multiple of 64 is added."""

TEMPLATE = (
    "<|im_start|>system\n{{ instructions }}\n"
    "{% for option in options %}{{ option.key }}: {{ option.description }}\n{% endfor %}<|im_end|>\n"
    "<|im_start|>user\n{{ state }}<|im_end|>\n<|im_start|>assistant\n"
)


def make_decision_model(plain: Path, to: Path) -> Path:
    """Copies the GGUF file `plain` to `to` with the two entries added; gives `to`. ValueError where it is no GGUF."""
    content = plain.read_bytes()
    magic, version, tensors, entries = _HEADER.unpack_from(content)
    if magic != b"GGUF":
        raise ValueError(f"expected a GGUF file: {plain}")
    kind = _entry("llama.decision.type", "openjev")
    bare = len(kind) + len(_entry("tokenizer.chat_template.systemone", TEMPLATE + "{##}"))
    padding = " " * (-bare % _ALIGNMENT)
    template = _entry("tokenizer.chat_template.systemone", f"{TEMPLATE}{{#{padding}#}}")
    with to.open("wb") as file:
        file.write(_HEADER.pack(magic, version, tensors, entries + 2))
        file.write(kind + template)
        file.write(content[_HEADER.size :])
    return to


def _entry(key: str, value: str) -> bytes:
    return _text(key) + struct.pack("<I", _STRING) + _text(value)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(description="Makes a decision model of a GGUF file.")
    _parser.add_argument("plain", type=Path)
    _parser.add_argument("to", type=Path)
    _given = _parser.parse_args()
    print(make_decision_model(_given.plain, _given.to))
