"""Settings from a file and the environment, and errors that name the place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contract.errors import ConfigurationError
from service.contract.settings import DecisionSettings, Settings, load_settings

SECRET = "hunter2-do-not-show"  # the value that must not appear anywhere


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Where the test's settings file goes."""
    return tmp_path / "pointsman.toml"


def load(config: Path, text: str, **environ: str) -> Settings:
    """The settings of a file with this text and this environment."""
    config.write_bytes(text.encode())
    return load_settings(str(config), environ)


def refused(config: Path, text: str, **environ: str) -> str:
    """What it is refused with."""
    with pytest.raises(ConfigurationError) as caught:
        load(config, text, **environ)
    return str(caught.value)


def test_nothing_at_all_is_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file and without variables every default holds: no endpoint, no token, the CLI left open."""
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, {})
    assert settings == Settings()
    assert (settings.local_model.endpoint, settings.server.token, settings.cli.preset) == ("", "", None)


def test_the_environment_wins_over_the_file(config: Path) -> None:
    """A variable replaces the file's value of the same key and leaves its neighbours alone."""
    settings = load(
        config,
        "[local_model]\nendpoint = 'http://file/v1'\nmodel = 'm'\n[server]\nport = 1\nhost = 'h'\n",
        POINTSMAN_LOCAL_MODEL__ENDPOINT="http://env/v1",
        POINTSMAN_SERVER__PORT="2",
    )
    assert settings.local_model.endpoint == "http://env/v1"
    assert settings.local_model.model == "m"
    assert (settings.server.port, settings.server.host) == (2, "h")


def test_the_file_is_found_in_the_environment_and_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The named file, else POINTSMAN_CONFIG, else ./pointsman.toml; a named one that is missing is an error."""
    monkeypatch.chdir(tmp_path)
    Path("pointsman.toml").write_text("[server]\nport = 1")
    Path("other.toml").write_text("[server]\nport = 2")
    assert load_settings(None, {}).server.port == 1
    assert load_settings(None, {"POINTSMAN_CONFIG": "other.toml"}).server.port == 2
    assert load_settings("pointsman.toml", {"POINTSMAN_CONFIG": "other.toml"}).server.port == 1
    with pytest.raises(ConfigurationError, match=r"missing\.toml: cannot be read"):
        load_settings("missing.toml", {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("[local_modl]\n", ["local_modl", "unknown section", "`local_model`"], id="misspelt-section"),
        pytest.param("[local_model]\nendpont = ''", ["local_model.endpont", "`endpoint`"], id="misspelt-key"),
        pytest.param("port = 1", ["port", "unknown section"], id="key-outside-a-section"),
        pytest.param("server = 1", ["server", "expected a table"], id="no-table"),
        pytest.param("[server]\nport = '80'", ["server.port", "expected `int`, got `str`"], id="number-as-string"),
        pytest.param("[server]\nport = 70000", ["server.port", "65535"], id="out-of-range"),
        pytest.param("[decision]\nobjective = 'best'", ["decision.objective", "best"], id="not-one-of"),
        pytest.param("[cli]\ncommand = 'claude -p'", ["cli.command", "array"], id="command-as-string"),
        pytest.param("[cli]\ncommand = ['a', 1]", ["cli.command[1]", "str"], id="number-in-a-command"),
        pytest.param("[local_model]\ntimeout_seconds = nan", ["local_model.timeout_seconds"], id="not-a-number"),
        pytest.param("[local_model]\ntimeout_seconds = inf", ["local_model.timeout_seconds"], id="infinite"),
        pytest.param("[server]\nport = 1\nport = 2", ["not TOML", "overwrite"], id="duplicate-key"),
        pytest.param("[server]\n[server]", ["not TOML", "line 2"], id="duplicate-section"),
        pytest.param("[server", ["not TOML"], id="cut"),
        pytest.param("[local_model]\nendpoint = 'http://x/v1'", ["local_model.model", "needed"], id="endpoint-alone"),
    ],
)
def test_a_mistake_in_the_file_names_file_and_key(config: Path, text: str, words: list[str]) -> None:
    """The message has the file, the key, and what was expected; an unknown name also the nearest known one."""
    message = refused(config, text)
    for word in [str(config), *words]:
        assert word in message


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        pytest.param("POINTSMAN_SERVER__PROT", "1", ["`port`"], id="misspelt-key"),
        pytest.param("POINTSMAN_SERVR__PORT", "1", ["`server`"], id="misspelt-section"),
        pytest.param("POINTSMAN_SERVER__PORT", "http", ["int"], id="wrong-type"),
        pytest.param("POINTSMAN_SERVER__PORT", "", ["int"], id="empty-number"),
        pytest.param("POINTSMAN_LOCAL_MODEL__REASON", "yes", ["bool"], id="yes"),
        pytest.param("POINTSMAN_LOCAL_MODEL__TIMEOUT_SECONDS", "nan", ["float"], id="not-a-number"),
        pytest.param("POINTSMAN_CLI__COMMAND", "claude -p", ["JSON"], id="command-without-json"),
        pytest.param("POINTSMAN_CLI__COMMAND", "[" * 100_000, ["JSON"], id="deep-json"),
        pytest.param("POINTSMAN_CLI__COMMAND", '["a", 1]', ["str"], id="number-in-a-command"),
        pytest.param("POINTSMAN_LOCAL_MODEL__EXTRA_BODY", "[]", ["object"], id="list-for-an-object"),
        pytest.param("POINTSMAN_SERVER__TOKEN", "\udcff", ["UTF-8"], id="not-utf-8"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    config: Path, variable: str, value: str, words: list[str]
) -> None:
    """The message has the variable and what was expected."""
    message = refused(config, "", **{variable: value})
    for word in [variable, *words]:
        assert word in message


def test_values_of_every_type_come_from_the_environment(config: Path) -> None:
    """Text becomes what the key needs: number, switch, JSON list and object; empty is an empty list or object."""
    settings = load(
        config,
        "[cli]\ncommand = ['from', 'file']\n",
        POINTSMAN_LOCAL_MODEL__DEFAULT_TEMPERATURE="0.2",
        POINTSMAN_LOCAL_MODEL__REASON="false",
        POINTSMAN_LOCAL_MODEL__EXTRA_BODY='{"chat_template_kwargs": {"enable_thinking": false}}',
        POINTSMAN_CLI__COMMAND="",
        POINTSMAN_CLI__PRESET="",
        POINTSMAN_CLI__ENVIRONMENT='["A", "B"]',
    )
    assert settings.local_model.default_temperature == 0.2
    assert settings.local_model.reason is False
    assert settings.local_model.extra_body == {"chat_template_kwargs": {"enable_thinking": False}}
    assert (settings.cli.command, settings.cli.preset, settings.cli.environment) == ([], "", ["A", "B"])


def test_variables_of_the_cluster_are_no_settings(config: Path) -> None:
    """Kubernetes sets POINTSMAN_PORT and the like for a service of that name: they are none of ours."""
    settings = load(
        config,
        "",
        POINTSMAN_PORT="tcp://10.0.0.1:80",
        POINTSMAN_PORT_80_TCP_ADDR="10.0.0.1",
        POINTSMAN_SERVICE_HOST="10.0.0.1",
        POINTSMAN_SERVICE_PORT_HTTP="80",
    )
    assert settings == Settings()


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        pytest.param("POINTSMAN_SERVER_TOKEN", "`POINTSMAN_SERVER__TOKEN`", id="one-underscore"),
        pytest.param("POINTSMAN_TOKEN", "`POINTSMAN_SERVER__TOKEN`", id="no-section"),
        pytest.param("POINTSMAN_CONFIGURATION", "`POINTSMAN_CONFIG`", id="the-file"),
        pytest.param("POINTSMAN_STORE_URL", "`POINTSMAN_STORE__URL`", id="the-store"),
        pytest.param("POINTSMAN_", "`POINTSMAN_", id="nothing-behind-it"),
        pytest.param("POINTSMAN_PORTS", "`POINTSMAN_", id="almost-the-clusters"),
    ],
)
def test_a_variable_that_fits_no_key_names_the_nearest(config: Path, variable: str, nearest: str) -> None:
    """A token under a misspelt name would leave the service open, so it is an error; its value is not shown."""
    message = refused(config, "", **{variable: SECRET})
    assert message.startswith(f"{variable}: ")
    assert nearest in message
    assert SECRET not in message


def test_secrets_are_stripped_of_white_space(config: Path) -> None:
    """A secret that was made of a file ends in a newline; neither that nor a space before it belongs to it."""
    settings = load(
        config,
        "[local_model]\napi_key = ' key '\n[store]\nurl = ' sqlite:////x '\n",
        POINTSMAN_SERVER__TOKEN="sesame\r\n",
    )
    assert (settings.server.token, settings.local_model.api_key, settings.store.url) == (
        "sesame",
        "key",
        "sqlite:////x",
    )


@pytest.mark.parametrize("key", ["server.token", "local_model.api_key", "store.url"])
def test_a_secret_of_white_space_alone_is_refused(config: Path, key: str) -> None:
    """It was meant to be something, and to take it for none would leave the service open; empty is none."""
    variable = f"POINTSMAN_{key.upper().replace('.', '__')}"
    message = refused(config, "", **{variable: " \n"})
    assert variable in message
    assert key in message
    assert load(config, "", **{variable: ""}) == Settings()


def test_a_byte_order_mark_is_no_mistake(config: Path) -> None:
    """A file as some editors save it is read."""
    assert load(config, "\ufeff[server]\nport = 3").server.port == 3


def test_not_utf8_is_named(config: Path) -> None:
    """A file in another encoding is an error that says so."""
    config.write_bytes(b"[server]\nhost = '\xff'")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load_settings(str(config), {})


@pytest.mark.parametrize(
    "text",
    [
        f"[server]\ntoken = '{SECRET}'",
        f"[local_model]\napi_key = '{SECRET}'",
        f"[local_model]\nendpoint = 'https://user:{SECRET}@host/v1'\nmodel = 'm'",
        f"[store]\nurl = 'postgresql://u:{SECRET}@host/db'",
    ],
    ids=["token", "api-key", "endpoint", "store"],
)
def test_a_secret_is_never_in_the_repr(config: Path, text: str) -> None:
    """What a log or a traceback shows of the settings has no secret in it."""
    settings = load(config, text)
    assert SECRET not in f"{settings!r} {settings}"
    assert "max_in_flight=256" in repr(settings)


@pytest.mark.parametrize(
    "text",
    [
        f"[server]\ntoken = ['{SECRET}']",
        f"[server]\ntoken = '{SECRET}",
        f"[server]\ntoken = '{SECRET}'\ntoken = 'x'",
        f"[local_model]\napi_key = {{a = '{SECRET}'}}",
        f"[local_model]\ntimeout_seconds = '{SECRET}'",
    ],
    ids=["list", "unclosed", "twice", "table", "elsewhere"],
)
def test_a_secret_is_never_in_an_error(config: Path, text: str) -> None:
    """An error names the place and the type, not the value."""
    assert SECRET not in refused(config, text)


def test_a_secret_is_never_in_an_error_of_the_environment(config: Path) -> None:
    """Neither is the value of a variable."""
    assert SECRET not in refused(config, "", POINTSMAN_SERVER__PORT=SECRET)


@given(
    st.dictionaries(
        st.sampled_from(
            ["POINTSMAN_SERVER__PORT", "POINTSMAN_CLI__COMMAND", "POINTSMAN_X__Y", "POINTSMAN_STORE__URL", "A"]
        ),
        st.text(max_size=20),
    )
)
def test_no_environment_is_a_defect(environ: dict[str, str]) -> None:
    """Any environment gives settings or a ConfigurationError."""
    source = "none"
    try:
        load_settings(None, environ)
    except ConfigurationError as error:
        source = error.source
    assert source


def test_an_objective_has_its_value() -> None:
    """Economy is worth less than balanced, balanced less than quality; none is the configured one."""
    decision = Settings(decision=DecisionSettings(objective="quality")).decision
    assert decision.value_usd("economy") < decision.value_usd("balanced") < decision.value_usd("quality")
    assert decision.value_usd(None) == decision.value_usd("quality")
