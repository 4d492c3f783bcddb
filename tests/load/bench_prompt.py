"""Tokens are time: forms of the question and the reply, with a real llama.cpp server.

    python -m tests.load.bench_prompt [--short] [--rounds N]

`codes`: a short code for each candidate, in the list and the reply, as shipped. `names`: agent type and model in full.
`no reason`: as shipped with `local_model.reason` off. `early stop`: as shipped, streamed, and left as soon as all but
the reason is there; `drained` reads on to the end instead, but answers at the same moment. One slot, warm prefix, the
forms in turn. The shape is enforced by a JSON schema, or with `--json-object` only asked for: a small model's choices
mean nothing, and without it not even their shape is right.
"""

import json
import os
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx

from service.classifiers.prompt import Prompts
from service.classifiers.verdict import VerdictError, read_verdict
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.task import Task
from tests.load.support import Report, arguments, parsed
from tests.support.llama_server import LlamaServer, missing

FORMS = ("codes", "names", "no reason", "early stop", "drained")
MAX_TOKENS = 128
TASKS = (
    "Fix the typo 'recieve' in the README.",
    "The login page answers 500 when the user name has a plus sign. Find the cause, fix it and add a test.",
    "Migrate the monolith's billing module to a service of its own, with its data, without downtime.",
    "Add a --json flag to the export command and document it.",
    "Why does the nightly build take twice as long since last week?",
    "Rewrite the scheduler so that two workers can never take the same job; there is a race condition under load.",
)
_IN_NAMES = {
    "code | agent_type": "agent_type",
    "Name it by its code.": "Copy agent_type and model exactly.",
    '"code": "…"': '"agent_type": "…", "model": "…"',
    "Which code?": "Which agent_type and model?",
}
_CHOSEN = re.compile(r'"confidence"\s*:\s*[0-9.]+\s*[,}]')
"""All that a decision needs stands before the reason."""


@dataclass(slots=True)
class Found:
    """Of one form: seconds until the choice was there, tokens, and how many replies could be used."""

    seconds: list[float] = field(default_factory=list[float])
    busy: list[float] = field(default_factory=list[float])
    prompt: list[float] = field(default_factory=list[float])
    evaluated: list[float] = field(default_factory=list[float])
    reply: list[float] = field(default_factory=list[float])
    usable: list[float] = field(default_factory=list[float])


class Bench:
    """The server, and each form's question to it."""

    def __init__(self, llama: LlamaServer, client: httpx.Client, *, enforce: bool) -> None:
        self._enforce = enforce
        self._llama = llama
        self._client = client
        self._catalog = load_catalog(DEFAULT_CATALOG)
        self._prompts = {reason: Prompts(None, self._catalog, with_reason=reason) for reason in (True, False)}

    def ask(self, form: str, task: str, found: Found) -> None:
        """One decision by that form."""
        messages = self._messages(form, task)
        before = self._tokens()
        begun = time.perf_counter()
        text, seconds = self._reply(form, messages)
        self._wait_until_free()
        found.busy.append(time.perf_counter() - begun)
        found.seconds.append(seconds)
        found.usable.append(float(self._usable(form, text)))
        after = self._tokens()
        found.evaluated.append(after[0] - before[0])
        found.reply.append(after[1] - before[1])
        found.prompt.append(self._length(messages))

    def warm_up(self, form: str) -> None:
        """Leaves the form's fixed part in the server's cache."""
        self._chat({"messages": self._messages(form, "Say yes."), "max_tokens": 1})

    def _messages(self, form: str, task: str) -> list[dict[str, str]]:
        prompts = self._prompts[form != "no reason"]
        question = prompts.question(
            Task(instructions=task),
            self._catalog.candidates,
            value_usd=3.0,
            max_task_tokens=1500,
            random_bytes=os.urandom,
        )
        system, user = question.system, question.user
        if form == "names":
            system = re.sub(r"\nc\d+ \| ", "\n", system)
            for codes, names in _IN_NAMES.items():
                system, user = system.replace(codes, names), user.replace(codes, names)
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]

    def _reply(self, form: str, messages: list[dict[str, str]]) -> tuple[str, float]:
        body: dict[str, Any] = {"messages": messages, "max_tokens": MAX_TOKENS}
        begun = time.perf_counter()
        if form not in {"early stop", "drained"}:
            answer = self._chat({**body, "response_format": self._format(form)})
            return answer["choices"][0]["message"]["content"], time.perf_counter() - begun
        text, seconds = "", 0.0
        body |= {"stream": True, "response_format": self._format(form), **_fixed(self._llama)}
        with self._client.stream("POST", f"{self._llama.endpoint}/chat/completions", json=body) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                if not seconds and _CHOSEN.search(text):
                    seconds = time.perf_counter() - begun
                    if form == "early stop":
                        break
        return text, seconds or time.perf_counter() - begun

    def _format(self, form: str) -> dict[str, Any]:
        if not self._enforce:
            return {"type": "json_object"}
        candidates = self._catalog.candidates
        choice = {"code": self._prompts[True].codes(candidates)}
        if form == "names":
            agents, models = sorted({c.agent_type for c in candidates}), sorted({c.model for c in candidates})
            choice = {"agent_type": agents, "model": models}
        properties: dict[str, Any] = {name: {"type": "string", "enum": known} for name, known in choice.items()}
        properties |= {"minutes": {"type": "integer"}, "confidence": {"type": "number"}}
        if form != "no reason":
            properties["reason"] = {"type": "string", "maxLength": 120}
        schema = {"type": "object", "properties": properties, "required": list(properties)}
        return {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}

    def _usable(self, form: str, text: str) -> bool:
        if form in {"early stop", "drained"} and (found := _CHOSEN.search(text)) is not None:
            text = text[: found.end() - 1] + "}"
        try:
            read_verdict(text, self._catalog.candidates, self._catalog.candidates)
        except VerdictError:
            return False
        return True

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        response = self._client.post(f"{self._llama.endpoint}/chat/completions", json={**body, **_fixed(self._llama)})
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    def _length(self, messages: list[dict[str, str]]) -> float:
        """Tokens of the whole prompt."""
        return float(self._chat({"messages": messages, "max_tokens": 1})["usage"]["prompt_tokens"])

    def _wait_until_free(self) -> None:
        """Until the one slot works no longer: a reply that was left may still be written."""
        while self._metrics()["llamacpp:requests_processing"]:
            time.sleep(0.02)

    def _tokens(self) -> tuple[float, float]:
        counts = self._metrics()
        return counts["llamacpp:prompt_tokens_total"], counts["llamacpp:tokens_predicted_total"]

    def _metrics(self) -> dict[str, float]:
        lines = self._client.get(f"{self._llama.base_url}/metrics").text.splitlines()
        return {
            name: float(value)
            for name, value in (line.split(" ")[:2] for line in lines if line and not line.startswith("#"))
        }


def _client() -> httpx.Client:
    """A fresh connection each time: this server may drop one right after a streamed reply."""
    return httpx.Client(timeout=300.0, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def _fixed(llama: LlamaServer) -> dict[str, Any]:
    return {"model": llama.model, "temperature": 0}


def main() -> None:
    """The command."""
    parser = arguments(__doc__ or "", rounds=3, short_rounds=1)
    parser.add_argument("--json-object", action="store_true", help="ask for JSON without enforcing its shape")
    given = parsed(parser)
    if (why := missing()) is not None:
        raise SystemExit(why)
    report = Report("prompt", given)
    found = {form: Found() for form in FORMS}
    with ExitStack() as stack:
        llama = stack.enter_context(LlamaServer(slots=1))
        bench = Bench(llama, stack.enter_context(_client()), enforce=not given.json_object)
        for _ in range(given.rounds):
            for task in TASKS[: 3 if given.short else None]:
                for form in FORMS:
                    bench.warm_up(form)
                    bench.ask(form, task, found[form])
    report.say("a decision, median (lowest to highest)")
    for form, of_form in found.items():
        report.say(f"  {form}: {sum(of_form.usable):.0f} of {len(of_form.usable)} replies usable")
        for name, values in (
            ("prompt tokens", of_form.prompt),
            ("of them evaluated", of_form.evaluated),
            ("reply tokens generated", of_form.reply),
            ("seconds until the choice is there", of_form.seconds),
            ("seconds until the server is free", of_form.busy),
        ):
            report.say(f"    {name:36} {report.figure(f'{form}, {name}', values)}")
        report.figure(f"{form}, usable", sum(of_form.usable) / len(of_form.usable))
    for form in FORMS[1:]:
        for name in ("prompt", "reply", "seconds"):
            pairs = zip(getattr(found[form], name), getattr(found["codes"], name), strict=True)
            report.ratio(f"{form}/codes, {name}", [a / max(b, 1e-9) for a, b in pairs])
    report.end()


if __name__ == "__main__":
    main()
