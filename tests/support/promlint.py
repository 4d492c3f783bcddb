"""The naming rules of `promtool check metrics`, for where there is no promtool.

Source: the validations of promlint in prometheus/client_golang (help, counters, reserved suffixes and labels, units,
abbreviations, types in names, colons, camel case), told here in our own words.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_BASE_UNITS = frozenset(
    {"amperes", "bytes", "celsius", "grams", "joules", "kelvin", "meters", "metres", "seconds", "volts"}
)
_OTHER_UNITS = {
    **dict.fromkeys(("minutes", "hours", "days", "weeks"), "seconds"),
    **dict.fromkeys(("kelvins",), "kelvin"),
    **dict.fromkeys(("fahrenheit", "rankine"), "celsius"),
    **dict.fromkeys(("inches", "yards", "miles"), "meters"),
    **dict.fromkeys(("bits",), "bytes"),
    **dict.fromkeys(("calories",), "joules"),
    **dict.fromkeys(("pounds", "ounces"), "grams"),
}
_PREFIX = "pico|nano|micro|milli|centi|deci|deca|hecto|kilo|kibi|mega|mibi|giga|gibi|tera|tebi|peta|pebi"
_PREFIXED = re.compile(f"({_PREFIX})({'|'.join([*_BASE_UNITS, *_OTHER_UNITS])})")
_ABBREVIATED = frozenset({"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"})
_TYPES = frozenset({"counter", "gauge", "summary", "histogram"})
_CAMEL_CASE = re.compile("[a-z][A-Z]")
_ABOUT = re.compile(r"# (HELP|TYPE) (\S+) ?(.*)")
_SAMPLE = re.compile(r"([^{ ]+)(?:\{(.*)\})? \S+")
_LABEL = re.compile(r'([^=,]+)="(?:[^"\\]|\\.)*"')


@dataclass
class Family:
    """All that is said of one metric."""

    name: str
    help: str = ""
    type: str = "untyped"
    labels: set[str] = field(default_factory=set[str])


def families(exposition: str) -> dict[str, Family]:
    """The metrics in Prometheus's text form, by name."""
    found: dict[str, Family] = {}
    for line in exposition.splitlines():
        if about := _ABOUT.fullmatch(line):
            family = found.setdefault(about[2], Family(about[2]))
            setattr(family, about[1].lower(), about[3])
        elif sample := _SAMPLE.fullmatch(line):
            bare = re.sub("_(bucket|count|sum)$", "", sample[1])
            name = bare if sample[1] not in found and bare in found else sample[1]
            labels = {match[1] for match in _LABEL.finditer(sample[2] or "")}
            family = found.setdefault(name, Family(name))
            family.labels |= labels - ({"le"} if family.type == "histogram" else set())
        elif line:
            raise ValueError(f"not Prometheus's text form: {line!r}")
    return found


def promlint(exposition: str) -> list[str]:
    """What is wrong with the names in Prometheus's text form, `name: problem` each; empty where nothing is."""
    return [
        f"{family.name}: {problem}"
        for family in families(exposition).values()
        for problem in (*_about_its_type(family), *_about_its_name(family))
    ]


def _about_its_type(family: Family) -> Iterator[str]:
    if not family.help:
        yield "no help text"
    if (family.type == "counter") != family.name.endswith("_total"):
        yield "`_total` belongs at the end of counters, and of nothing else"
    if family.type not in ("histogram", "summary") and family.name.endswith(("_count", "_sum")):
        yield "`_count` and `_sum` are reserved for histograms and summaries"
    if family.type != "histogram" and family.name.endswith("_bucket"):
        yield "`_bucket` is reserved for histograms"
    if family.type != "summary" and "quantile" in family.labels:
        yield "the label `quantile` is reserved for summaries"
    if family.type != "histogram" and "le" in family.labels:
        yield "the label `le` is reserved for histograms"


def _about_its_name(family: Family) -> Iterator[str]:
    words = family.name.lower().split("_")
    if any(word in _OTHER_UNITS or _PREFIXED.fullmatch(word) for word in words):
        yield "not a base unit"
    if _ABBREVIATED.intersection(words[1:]):
        yield "an abbreviated unit"
    if _TYPES.intersection(words[1:]):
        yield "its type in its name"
    if ":" in family.name:
        yield "a colon"
    if any(_CAMEL_CASE.search(word) for word in (family.name, *family.labels)):
        yield "camelCase"
