"""Settings: `pointsman.toml`, then the environment (`POINTSMAN_<SECTION>__<KEY>`), then what the command line says.

Each setting's docstring says what it is for; where a number is not obvious, why it is that number.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta

from service.contract.decoding import DECODE_ERRORS, convert_tree
from service.contract.errors import ConfigurationError, InvalidInputError
from service.contract.task import Objective, UsdPerHour
from service.contract.toml import read_toml
from service.contract.verifier import FalseRate, HarmUsd, Verifier

ENVIRONMENT_PREFIX = "POINTSMAN_"
CONFIG_VARIABLE = "POINTSMAN_CONFIG"
DEFAULT_CONFIG = "pointsman.toml"

Seconds = Annotated[float, Meta(gt=0, le=3600)]
SECRETS = frozenset({"token", "api_key", "url"})
"""Keys whose values are never shown; a database URL may hold a password."""
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^/\s@']+(?=@)")
_OF_THE_CLUSTER = re.compile(r"POINTSMAN_(?:SERVICE_.*|PORT|PORT_.*)", re.DOTALL)
"""What Kubernetes puts into the environment of every pod beside a Service of the name `pointsman`."""

ProtocolName = Literal["chat", "labels", "systemone", "decisions"]
"""How a model server is asked to classify."""

Count = Annotated[int, Meta(ge=1, le=100_000)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file. Its `repr` never shows a secret."""

    def __repr__(self) -> str:
        shown = (
            f"{name}={'…' if name in SECRETS and value else _PASSWORD_IN_URL.sub('…', repr(value))}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class ServerSettings(_Section, frozen=True, kw_only=True):
    """`[server]`"""

    host: str = "127.0.0.1"
    """Where to listen; `0.0.0.0` in a container."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """0 takes a free one; `serve` prints it."""
    token: str = ""
    """Bearer token that callers of `/v1/*` must send; none when empty."""
    page: bool = True
    """The page for people at `/`; where a token is set, it asks for that first."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**31)] = 8 * 2**20
    """A task of 200,000 characters is at most 2.4 MB of escaped JSON; a batch of 100 usual ones fits too."""
    max_in_flight: Count = 256
    """Decisions under way at once; beyond them 503 `overloaded`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_seconds: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    """After SIGTERM: how long requests are still taken while `/readyz` says no, so that load balancers turn away first.
    Each answer then closes its connection. Some seconds in a cluster, 0 at a desk."""
    shutdown_seconds: Seconds = 30.0
    """How long requests under way may take to end after SIGTERM; above the deadline, below the pod's grace period."""


class LocalModelSettings(_Section, frozen=True, kw_only=True):
    """`[local_model]`: an OpenAI-compatible server; an empty endpoint means none."""

    endpoint: str = ""
    """Up to `/v1`, for example `http://127.0.0.1:11434/v1`."""
    model: str = ""
    api_key: str = ""
    local: bool = True
    """Off: its server stands outside, so no task with `require.local_only` reaches it, to be read or to be done."""
    timeout_seconds: Seconds = 10.0
    default_temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    """Sent only when set."""
    max_tokens: Annotated[int, Meta(ge=16, le=32768)] = 256
    """For a classification's reply: a verdict is about 45 tokens; a model that rambles is cut here."""
    response_format: Literal["json_object", "json_schema", "none"] = "json_object"
    """`json_schema` lets servers that know it enforce the shape; `none` is for those that refuse both."""
    max_concurrency: Count = 4
    """Classifications at the server at once; a small local server answers few at a time and queues the rest."""
    max_task_tokens: Annotated[int, Meta(ge=64, le=1_000_000)] = 1500
    """A longer task is clipped, head and tail: choosing needs the gist, and prompt tokens are time."""
    reason: bool = True
    """Off: the reply has no reason, half the tokens (23 instead of 43: tests/load/bench_prompt.py)."""
    protocol: Literal["chat", "labels", "systemone", "decisions", "auto"] = "chat"
    """`chat`: one JSON object. `labels`: single letters, read from probabilities. `systemone`, `decisions`: decision
    models. `auto`: the fastest that the server speaks, looked for at the start and after a reload."""
    extra_body: dict[str, Any] = {}
    """What the server needs beyond the standard, such as `chat_template_kwargs = {enable_thinking = false}`."""

    @property
    def only_decides(self) -> bool:
        """Whether what is set is a decision model, which cannot work on a task."""
        return self.protocol in ("systemone", "decisions")

    @property
    def writes_text(self) -> bool:
        """Whether what is set works on tasks; with `auto` that is seen only once the server was asked."""
        return self.protocol in ("chat", "labels")


class CliSettings(_Section, frozen=True, kw_only=True):
    """`[cli]`: a program that classifies where no endpoint is set, or when that one failed."""

    preset: str | None = None
    """None: gemini where it is on PATH. Empty: no CLI. A name (`gemini`, `claude`, `codex`, `llm`): that program."""
    command: Annotated[list[str], Meta(max_length=100)] = []
    """Wins over the preset; the prompt comes on stdin, the answer is read from stdout."""
    local: bool = False
    """On: the program sends nothing outside, so tasks with `require.local_only` may be shown to it too. Agent CLIs ask
    hosted models."""
    model: str = ""
    """The program's own model; the preset's default where empty."""
    timeout_seconds: Seconds = 20.0
    """An agent CLI takes 2 to 3 s to start before it asks anything."""
    max_concurrency: Count = 2
    """Each is a process of 100 MB and more."""
    environment: Annotated[list[str], Meta(max_length=100)] = []
    """Names of further environment variables that the program may see."""


class DecisionSettings(_Section, frozen=True, kw_only=True):
    """`[decision]`"""

    deadline_ms: Annotated[int, Meta(ge=20, le=600_000)] = 25_000
    """For callers that name none."""
    objective: Objective = "balanced"
    first_choice: Literal["classifier", "forecast", "blend"] = "classifier"
    """Who names the first candidate of the plan; `forecast`: a verdict only informs the task's difficulty; `blend`: it
    is one more piece of evidence, with a weight that outcomes teach, and the plan chooses."""
    delay_usd_per_hour: UsdPerHour = 0.0
    """What an hour of waiting for a task's solution costs, where a request does not say. At 0 time costs nothing, and
    no task is ever told to wait."""
    cache_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    """Identical requests within it share one answer; 0 switches that off."""
    economy_value_usd: Annotated[float, Meta(gt=0, le=1e9)] = 1.5
    balanced_value_usd: Annotated[float, Meta(gt=0, le=1e9)] = 3.0
    quality_value_usd: Annotated[float, Meta(gt=0, le=1e9)] = 15.0
    """The three: on recorded tasks the rate of the best single model for a tenth of its cost, some 5 points more for a
    third, and some 9 points more for most of its cost (tests/README.md, tests/load/cost_quality.py)."""

    def value_usd(self, objective: Objective | None) -> float:
        """What a solved task is worth in US dollars under this objective, or under the configured one."""
        values = {
            "economy": self.economy_value_usd,
            "balanced": self.balanced_value_usd,
            "quality": self.quality_value_usd,
        }
        return values[objective or self.objective]


class VerifierSettings(_Section, frozen=True, kw_only=True):
    """`[verifier]`: how finished work is checked, where a request does not say."""

    false_accept: FalseRate = 0.0
    """Chance that wrong work passes: of a test suite that covers half of what it should, some 0.1 to 0.2."""
    false_reject: FalseRate = 0.0
    """Chance that right work does not pass: flaky tests, a reviewer who wants it otherwise."""
    harm_usd: HarmUsd = 0.0
    """What accepted wrong work costs in US dollars, until it is found and after."""

    @property
    def verifier(self) -> Verifier:
        """The three together."""
        return Verifier(false_accept=self.false_accept, false_reject=self.false_reject, harm_usd=self.harm_usd)


class StoreSettings(_Section, frozen=True, kw_only=True):
    """`[store]`"""

    url: str = ""
    """`sqlite:///PATH`, `sqlite://` (memory) or `postgresql://…`; empty: a file in the user's state directory."""
    keep_days: Annotated[float, Meta(gt=0, le=36_500)] = 90.0
    """Older decisions leave the log; outcomes and executions stay."""
    keep_decisions: Annotated[int, Meta(ge=1000)] = 1_000_000
    """Decisions kept at the most."""
    keep_instructions: bool = False
    """Whether the log keeps the task's text with the rest of the request; without it `replay` goes by what was read
    from the text then."""
    max_bytes: Annotated[int, Meta(ge=2**20)] = 900 * 2**20
    """Where all that is kept takes more, the oldest decisions leave the log. The volume of 2 GiB that the manifests
    claim holds it twice, as after a restore, with the write-ahead log, the reserve and the logs of executions."""


class LearningSettings(_Section, frozen=True, kw_only=True):
    """`[learning]`: what is made of outcomes."""

    half_life_outcomes: Annotated[float, Meta(ge=10, le=1e9)] = 250.0
    """An outcome counts half once so many newer ones of its candidate are on record. Less finds out sooner that a model
    changed, more learns finer differences: tests/load/forgetting.py."""
    explore_usd_per_day: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    """What may be lost a day, by the forecast's own reckoning, on trying what nobody tries; 0: nothing is tried so."""


class CatalogSettings(_Section, frozen=True, kw_only=True):
    """`[catalog]`"""

    path: str = ""
    """The catalog that ships with the package where empty."""


class PromptSettings(_Section, frozen=True, kw_only=True):
    """`[prompts]`"""

    path: str = ""
    """A folder with prompt files; those that ship with the package where empty."""


class ExecutionSettings(_Section, frozen=True, kw_only=True):
    """`[executions]`: tasks that run on the local model itself."""

    log_dir: str = ""
    """Where `<execution_id>/stdout.log` goes; a folder beside the store's file where empty."""
    max_concurrency: Count = 2
    max_queued: Annotated[int, Meta(ge=0, le=10_000)] = 20
    timeout_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 1800.0
    idle_seconds: Seconds = 120.0
    """A stream that has begun and then says nothing for so long has failed."""
    keep: Count = 200
    """Logs kept; the oldest go first."""
    keep_days: Annotated[float, Meta(gt=0, le=3650)] = 30.0
    """Older logs go too."""
    idempotency_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 600.0
    """The same `task_id` again within it is the same execution: a scheduler that lost an answer may ask again."""


class TracingSettings(_Section, frozen=True, kw_only=True):
    """`[tracing]`: spans for OpenTelemetry; needs the extra `pointsman[tracing]`."""

    endpoint: str = ""
    """A collector that takes OTLP over HTTP, such as `http://collector:4318`; none when empty. Headers and certificates
    for it come from the standard variables (`OTEL_EXPORTER_OTLP_HEADERS` …)."""
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Of the requests whose caller has not decided it in `traceparent`."""
    service_name: Annotated[str, Meta(min_length=1, max_length=100)] = "pointsman"


class Settings(_Section, frozen=True, kw_only=True):
    """All of it."""

    server: ServerSettings = ServerSettings()
    local_model: LocalModelSettings = LocalModelSettings()
    cli: CliSettings = CliSettings()
    decision: DecisionSettings = DecisionSettings()
    verifier: VerifierSettings = VerifierSettings()
    store: StoreSettings = StoreSettings()
    learning: LearningSettings = LearningSettings()
    catalog: CatalogSettings = CatalogSettings()
    prompts: PromptSettings = PromptSettings()
    executions: ExecutionSettings = ExecutionSettings()
    tracing: TracingSettings = TracingSettings()


_SECTIONS: dict[str, type[_Section]] = {
    field.name: cast("type[_Section]", field.type) for field in msgspec.structs.fields(Settings)
}


def config_file(path: str | None, environ: Mapping[str, str]) -> Path:
    """Where the settings stand, whether there is such a file or not."""
    return Path(path or environ.get(CONFIG_VARIABLE, "") or DEFAULT_CONFIG)


def load_settings(path: str | None, environ: Mapping[str, str]) -> Settings:
    """Reads the file at `path`, else at POINTSMAN_CONFIG, else `./pointsman.toml` where there is one.

    Raises ConfigurationError that names the file or the variable, the key, and what was expected.
    """
    named = path or environ.get(CONFIG_VARIABLE, "")
    file = config_file(path, environ)
    tree: dict[str, Any] = {}
    if named or file.is_file():
        tree = read_toml(file)
        _check_names(tree, str(file))
    from_file = _convert(tree, source=str(file))
    settings = _stripped(_with_environment(from_file, environ), source=str(file))
    if settings.local_model.endpoint and not settings.local_model.model:
        raise ConfigurationError(
            "an endpoint is set, so the model's name is needed too",
            path="local_model.model",
            source=f"{file} or {ENVIRONMENT_PREFIX}LOCAL_MODEL__MODEL",
        )
    return settings


def _check_names(tree: Mapping[str, Any], source: str) -> None:
    for name, section in tree.items():
        if name not in _SECTIONS:
            raise ConfigurationError(f"unknown section{_nearest(name, _SECTIONS)}", path=name, source=source)
        if not isinstance(section, dict):
            raise ConfigurationError("expected a table", path=name, source=source)
        known = _keys(name)
        for key in cast("dict[str, Any]", section):
            if key not in known:
                raise ConfigurationError(f"unknown key{_nearest(key, known)}", path=f"{name}.{key}", source=source)


def _convert(tree: Mapping[str, Any], *, source: str) -> Settings:
    try:
        return convert_tree(tree, Settings)
    except InvalidInputError as error:
        raise ConfigurationError(error.expected, path=error.path.removeprefix("$."), source=source) from None


def _with_environment(settings: Settings, environ: Mapping[str, str]) -> Settings:
    sections: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        section, underscores, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if not underscores:
            if _OF_THE_CLUSTER.fullmatch(variable):
                continue
            raise ConfigurationError(f"fits no setting{_nearest(variable, _variables())}", source=variable)
        if section not in _SECTIONS:
            raise ConfigurationError(f"unknown section{_nearest(section, _SECTIONS)}", source=variable)
        known = _keys(section)
        if key not in known:
            raise ConfigurationError(f"unknown key{_nearest(key, known)}", source=variable)
        value = _from_text(text, known[key], variable)
        current = sections.get(section, getattr(settings, section))
        sections[section] = msgspec.structs.replace(current, **{key: value})
    return msgspec.structs.replace(settings, **sections)


def _variables() -> dict[str, None]:
    """Every variable that is read."""
    names = [f"{section}__{key}" for section in _SECTIONS for key in _keys(section)]
    return dict.fromkeys([CONFIG_VARIABLE, *(f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in names)])


def _stripped(settings: Settings, *, source: str) -> Settings:
    """Secrets without the white space around them: a file that holds one often ends in a newline.

    White space alone is refused: it would leave a service open that was meant to be closed.
    """
    sections: dict[str, Any] = {}
    for name in _SECTIONS:
        section = getattr(settings, name)
        secrets = {key: getattr(section, key) for key in SECRETS if hasattr(section, key)}
        for key, value in secrets.items():
            if value and not value.strip():
                where = f"{source} or {ENVIRONMENT_PREFIX}{name.upper()}__{key.upper()}"
                raise ConfigurationError("expected more than white space", path=f"{name}.{key}", source=where)
        sections[name] = msgspec.structs.replace(section, **{key: value.strip() for key, value in secrets.items()})
    return msgspec.structs.replace(settings, **sections)


def _from_text(text: str, kind: Any, variable: str) -> object:  # noqa: ANN401 - the type of whichever key it is
    value: object = text
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise ConfigurationError("not UTF-8", source=variable)
    structure = {"array": "[]", "object": "{}"}.get(msgspec.json.schema(kind).get("type", ""))
    if structure is not None:
        try:
            value = msgspec.json.decode(text or structure)
        except DECODE_ERRORS:
            raise ConfigurationError('expected JSON, such as ["program", "--flag"]', source=variable) from None
    try:
        return convert_tree(value, kind, strict=False)
    except InvalidInputError as error:
        raise ConfigurationError(error.expected, path=error.path, source=variable) from None


def _keys(section: str) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(_SECTIONS[section])}


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.0)
    return f"; the nearest known one is `{near[0]}`" if near else ""
