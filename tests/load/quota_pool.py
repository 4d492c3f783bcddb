"""A plan's windows as they run in a simulated week: what was used of them, and what was left for no good reason."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from service.contract.quota import Window

START = datetime(2026, 11, 2, tzinfo=UTC)
WEEK = 7 * 24 * 60
FIVE_HOURS = 300
FIVE_HOURS_SHARE = 0.12
"""A window of five hours holds so much of the week's: eight and a third of them use up a week, as plans have it."""


@dataclass
class Meter:
    """One window: list price used since it began, and that of the attempts that were held back meanwhile."""

    minutes: float
    quota_usd: float
    began: float = 0.0
    used_usd: float = 0.0
    held_back_usd: float = 0.0

    @property
    def left_usd(self) -> float:
        """What may still be used."""
        return max(0.0, self.quota_usd - self.used_usd)

    @property
    def lost_usd(self) -> float:
        """What is left and could have been used."""
        return min(self.left_usd, self.held_back_usd)

    def told(self) -> Window:
        """As a scheduler tells it."""
        resets_at = START + timedelta(minutes=self.began + self.minutes)
        return Window(minutes=self.minutes, used=min(1.0, self.used_usd / self.quota_usd), resets_at=resets_at)


@dataclass
class Pool:
    """A week's window with one of five hours within it; and the share of each that was lost."""

    short: Meter
    week: Meter
    losses: list[float] = field(default_factory=list[float])
    _ended: list[float] = field(default_factory=list[float])

    @classmethod
    def of(cls, week_usd: float) -> "Pool":
        """Both windows, by what a week holds."""
        return cls(Meter(FIVE_HOURS, FIVE_HOURS_SHARE * week_usd), Meter(WEEK, week_usd))

    @property
    def meters(self) -> tuple[Meter, Meter]:
        """Both windows."""
        return self.short, self.week

    def told(self) -> list[Window]:
        """Both as a scheduler tells them."""
        return [meter.told() for meter in self.meters]

    def advance(self, minute: float) -> None:
        """Ends the windows that are over by then."""
        while self.short.began + self.short.minutes <= minute:
            self._ended.append(self.short.lost_usd)
            self.week.held_back_usd += self.short.lost_usd  # what was held back of a window that was full is no loss
            self.short.began += self.short.minutes
            self.short.used_usd = self.short.held_back_usd = 0.0
        if minute >= WEEK:
            self.losses = [min(usd, self.week.lost_usd) / self.short.quota_usd for usd in self._ended]
            self.losses.append(self.week.lost_usd / self.week.quota_usd)

    def draw(self, usd: float) -> None:
        """An attempt under the plan."""
        for meter in self.meters:
            meter.used_usd += usd

    def hold_back(self, usd: float) -> None:
        """An attempt under the plan in whose place another was paid for."""
        self.short.held_back_usd += usd
