"""What the scheduler told of quota pools: which are used up for now, and what an attempt takes from the others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from service.base.clock import written
from service.base.text import one_line
from service.contract.catalog import Candidate, Catalog, Pool
from service.contract.decision import Failure
from service.contract.quota import PoolState
from service.forecast.windows import Reading, tightest, used_up_until

_PRICE_DIGITS = 4
"""A price that differs by less changes no plan, and one plan serves many tasks."""


@dataclass(frozen=True, slots=True)
class PoolNow:
    """One pool at a moment: the share of its list price that an attempt takes, until when it is used up (None: it is
    not), and the window that says so (None where nothing is known)."""

    price: float = 1.0
    until: datetime | None = None
    binding: Reading | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """The pools of which something was told, by name; `noted` are names that no agent draws on."""

    pools: Mapping[str, PoolNow] = field(default_factory=dict[str, PoolNow])
    noted: tuple[Failure, ...] = ()

    def of(self, candidate: Candidate) -> PoolNow:
        """The pool that a candidate draws on; list price where nothing is known of it."""
        return self.pools.get(candidate.quota_pool or "", _UNTOLD)

    def prices(self, candidates: tuple[Candidate, ...]) -> tuple[float, ...] | None:
        """For each the share of its list price; None where all cost their list price."""
        if not self.pools:
            return None
        prices = tuple(self.of(candidate).price for candidate in candidates)
        return None if all(price == 1.0 for price in prices) else prices

    def explain(self) -> dict[str, Any]:
        """The binding window of each pool, its pace and the price, ready for JSON."""
        return {name: _explained(pool) for name, pool in self.pools.items()}


_UNTOLD = PoolNow()


def quota_of(told: Mapping[str, PoolState], catalog: Catalog, now: datetime) -> Quota:
    """What was told of the catalog's pools, read at a moment."""
    if not told:
        return Quota()
    known = {candidate.quota_pool for candidate in catalog.candidates if candidate.quota_pool is not None}
    noted = tuple(_unknown(name, known) for name in told if name not in known)
    pools = {name: _read(catalog.pools.get(name) or Pool(id=name), told[name], now) for name in told if name in known}
    return Quota(pools, noted)


def _read(pool: Pool, told: PoolState, now: datetime) -> PoolNow:
    reserve = pool.reserve if told.reserve is None else told.reserve
    until = used_up_until(told.windows, reserve=reserve, now=now)
    binding = tightest(told.windows, reserve=reserve, now=now)
    if pool.billing != "plan" or binding is None:
        return PoolNow(until=until, binding=binding)
    return PoolNow(round(binding.chance, _PRICE_DIGITS), until, binding)


def _unknown(name: str, known: set[str]) -> Failure:
    there = ", ".join(sorted(known)) or "none"
    detail = (
        f"no agent of the catalog draws on a pool {name!r} (pools: {there}); what was told of it counts for nothing"
    )
    return Failure(source="request", problem="unknown-pool", detail=one_line(detail, 500))


def _explained(pool: PoolNow) -> dict[str, Any]:
    if pool.binding is None:
        return {"price": pool.price, "window": None}
    reading = pool.binding
    return {
        "price": pool.price,
        "window": {
            "minutes": reading.window.minutes,
            "used": reading.window.used,
            "resets_at": written(reading.window.resets_at),
        },
        "left": round(reading.left, 4),
        "remaining": round(reading.remaining, 4),
        "pace": round(reading.pace, 4),
        "used_up_chance": round(reading.chance, 4),
    }
