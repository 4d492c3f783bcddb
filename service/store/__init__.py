"""What is kept: decisions, outcomes and executions, in SQLite or PostgreSQL.

Importing this package imports SQLAlchemy (a quarter of a second): what must start fast imports it late or not at all.
"""

from service.store.records import (
    Execution,
    ExecutionState,
    OutcomeChanges,
    Recording,
    StoredDecision,
    StoreStatus,
)
from service.store.store import Store

__all__ = [
    "Execution",
    "ExecutionState",
    "OutcomeChanges",
    "Recording",
    "Store",
    "StoreStatus",
    "StoredDecision",
]
