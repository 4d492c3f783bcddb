"""The templates, and how values are written in them: escaped, without what a reader would not see."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.template.config import TemplateConfig
from markupsafe import Markup

from service.api.page import pictures
from service.base.text import visible
from service.contract.task import name_of

FOLDER = Path(__file__).parent / "templates"

LONGEST = 20_000
"""Characters of one text that a page shows; the JSON document beside it has all of it."""

UNKNOWN = "not known"


def template_config() -> TemplateConfig[JinjaTemplateEngine]:
    """What the framework is given: every template is read and checked once, at its first use."""
    return TemplateConfig(instance=JinjaTemplateEngine(engine_instance=environment()))


def environment() -> Environment:
    """Escapes everything; a name that is missing is an error and not an empty place."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(
        percent=percent, usd=usd, count=count, when=when, minutes=minutes, named=named, words=words, ms=milliseconds
    )
    known: dict[str, Any] = made.globals
    known.update(pictures=pictures, unknown=UNKNOWN)
    return made


def shown(value: Any) -> Any:  # noqa: ANN401 - whatever a template names
    """Text from outside loses what changes how its neighbours show, and what is too long of it."""
    if value is None:
        return UNKNOWN
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if len(value) > LONGEST:
        value = f"{value[:LONGEST]}\n… {len(value) - LONGEST:,} more characters"
    return visible(value)


def percent(share: float | None, digits: int = 0) -> str:
    """Of 1."""
    return UNKNOWN if share is None else f"{share:.{digits}%}"


def usd(dollars: float | None, digits: int = 3) -> str:
    """Dollars, with as many digits as a small sum needs."""
    return UNKNOWN if dollars is None else f"${dollars:,.{digits}f}"


def count(number: int | None) -> str:
    """With a comma at the thousands."""
    return UNKNOWN if number is None else f"{number:,}"


def when(moment: datetime | str | None) -> str:
    """To the second, in UTC, as it sorts."""
    if moment is None:
        return UNKNOWN
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def minutes(number: float | None) -> str:
    """As people say it."""
    if number is None:
        return UNKNOWN
    if number < 1:
        return f"{number * 60:.0f} s"
    if number < 120:
        return f"{number:.0f} min"
    return f"{number / 60:.3g} h" if number < 2880 else f"{number / 1440:.3g} days"


def milliseconds(number: float | None) -> str:
    """To a tenth."""
    return UNKNOWN if number is None else f"{number:,.1f} ms"


def named(one: Any) -> str:  # noqa: ANN401 - a mapping or a struct with agent_type, model and perhaps effort
    """A candidate as `agent/model@effort`."""
    mapping = isinstance(one, dict)
    agent_type, model, effort = (one.get(name) if mapping else getattr(one, name, None) for name in _NAMES)
    return name_of(str(agent_type), str(model), effort)


_NAMES = ("agent_type", "model", "effort")


def words(identifier: str | None) -> str:
    """`only_candidate` as people read it."""
    return UNKNOWN if identifier is None else identifier.replace("_", " ")
