"""What is kept: decisions, outcomes and executions, in SQLite or PostgreSQL.

Importing this package imports SQLAlchemy (a quarter of a second): what must start fast imports it late or not at all.
"""

from service.store.records import (
    OutcomeChanges,
    Recording,
    StoredDecision,
    StoreStatus,
)
from service.store.store import Store

__all__ = [
    "OutcomeChanges",
    "Recording",
    "Store",
    "StoreStatus",
    "StoredDecision",
]
