"""What decisions are made from: catalog, prompts, forecast and the settings of decisions; and how it is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service import __version__
from service.classifiers.prompt import PROMPT_FILES, Prompts, prompt_folder
from service.classifiers.reading import Reader
from service.contract.catalog import Catalog
from service.contract.catalog_file import DEFAULT_CATALOG, load_catalog
from service.contract.decision import Versions
from service.contract.errors import ConfigurationError
from service.contract.settings import DecisionSettings, Settings
from service.contract.verifier import PERFECT, Verifier
from service.forecast.forecaster import Forecaster
from service.forecast.leaning import Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """Replaced as a whole, so that no request sees half of an old and half of a new one."""

    catalog: Catalog
    prompts: Prompts
    forecaster: Forecaster
    reader: Reader
    decision: DecisionSettings = field(default_factory=DecisionSettings)
    verifier: Verifier = PERFECT
    worlds: tuple[Forecaster, ...] = ()
    """Forecasters that might be as right as that one; only where choices are to be drawn."""
    versions: Versions = field(init=False)
    """Short hashes that change when a file does."""

    def __post_init__(self) -> None:
        """Versions are told with each decision."""
        versions = Versions(catalog=self.catalog.version, prompt=self.prompts.version, service=__version__)
        object.__setattr__(self, "versions", versions)


@dataclass(slots=True)
class InUse:
    """The knowledge that decisions are made from now: read by the pipeline, replaced by the learner."""

    knowledge: Knowledge
    weights: Mapping[str, Weight] = field(default_factory=dict[str, Weight])
    """What outcomes taught of how much each form of classifier deserves to be followed."""


def read_knowledge(settings: Settings) -> Knowledge:
    """Catalog and prompts from their files. Raises ConfigurationError that names the place."""
    file, local = _catalog_file(settings), settings.local_model
    model = local.model if local.endpoint and not local.only_decides else None
    try:
        catalog = load_catalog(file).with_local_agent(model, local=local.local)
    except ConfigurationError as error:
        raise ConfigurationError(error.expected, path=error.path, source=error.source or str(file)) from None
    return knowledge_of(catalog, settings)


def knowledge_of(catalog: Catalog, settings: Settings) -> Knowledge:
    """With this catalog, and prompts made for it. Raises ConfigurationError where a prompt is missing or wrong."""
    return Knowledge(
        catalog=catalog,
        prompts=Prompts(prompt_folder(settings.prompts.path), catalog, with_reason=settings.local_model.reason),
        forecaster=Forecaster(catalog),
        reader=Reader.of(catalog),
        decision=settings.decision,
        verifier=settings.verifier.verifier,
    )


def knowledge_files(settings: Settings) -> list[Path]:
    """The files that `read_knowledge` reads."""
    folder = prompt_folder(settings.prompts.path)
    return [_catalog_file(settings), *(folder / name for name in PROMPT_FILES)]


def _catalog_file(settings: Settings) -> Path:
    return Path(settings.catalog.path) if settings.catalog.path else DEFAULT_CATALOG
