"""How finished work is checked, and how often that errs."""

from typing import Annotated

import msgspec
from msgspec import Meta

FalseRate = Annotated[float, Meta(ge=0, le=0.5)]
HarmUsd = Annotated[float, Meta(ge=0, le=1e9)]


class Verifier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whatever tells the scheduler that an attempt solved its task: tests, a review, a person.

    `false_accept` is the chance that wrong work passes, `false_reject` that right work does not; `harm_usd` is what
    accepted wrong work costs in US dollars. All 0: a perfect check.
    """

    false_accept: FalseRate = 0.0
    false_reject: FalseRate = 0.0
    harm_usd: HarmUsd = 0.0

    @property
    def perfect(self) -> bool:
        """Whether it never errs; then harm never comes."""
        return not self.false_accept and not self.false_reject

    @property
    def tells(self) -> float:
        """How much likelier right work is to be accepted than wrong work: 1 for a perfect check, 0 for none."""
        return 1.0 - self.false_accept - self.false_reject


PERFECT = Verifier()
"""Accepts right work and nothing else."""
