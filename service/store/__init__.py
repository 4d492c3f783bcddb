"""What is kept: decisions, outcomes and executions, in SQLite or PostgreSQL.

Importing this package imports SQLAlchemy (a quarter of a second): what must start fast imports it late or not at all.
"""

from service.store.decisions import StoredDecision
from service.store.outcomes import OutcomeChanges, Recording
from service.store.store import Store, StoreLimits, StoreStatus

__all__ = ["OutcomeChanges", "Recording", "Store", "StoreLimits", "StoreStatus", "StoredDecision"]
