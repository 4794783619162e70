"""The reconciler: looks at each hour once, when it is settled, and says whether it agrees.

One hour at a time and bounded by the time that a request may take, so it never burdens the
database for long; an hour that takes longer is counted and left to `nodemeter reconcile`.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Final

from aggregator.billing.database import Database
from aggregator.billing.reconcile import CHECKS, Finding, reconcile, settled_hour
from aggregator.errors import DatabaseError
from aggregator.metrics import Metrics
from aggregator.model import Period
from aggregator.store.pool import Pool

_LOGGER: Final = logging.getLogger(__name__)
_HOUR: Final = timedelta(hours=1)
_INTERVAL_SECONDS: Final = 60


class Reconciler:
    """Looks at hours, for ever."""

    def __init__(self, pool: Pool, usage_days: int, metrics: Metrics) -> None:
        """Do nothing until `run`."""
        self._database = Database(pool)
        self._usage_days = usage_days
        self._metrics = metrics
        self._seen: datetime | None = None
        for check in CHECKS:
            metrics.reconciliation_mismatches.labels(check=check).set(0)

    async def run(self) -> None:
        """Look at each hour that is settled, until cancelled."""
        while True:
            try:
                await self.once()
            except DatabaseError as error:
                self._metrics.reconciliation_errors.inc()
                fields = {"action": "reconcile", "error": str(error)}
                _LOGGER.warning("an hour could not be reconciled", extra=fields)
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def once(self) -> None:
        """Look at the newest settled hour, unless it was looked at."""
        async with self._database.reading() as connection:
            end = await settled_hour(connection)
        if end == self._seen:
            return
        self._seen = end
        period = Period(start=end - _HOUR, end=end)
        found = await reconcile(self._database, period, usage_days=self._usage_days)
        for finding in found.findings:
            self._tell(finding)
        self._metrics.reconciled_until.set(end.timestamp())

    def _tell(self, finding: Finding) -> None:
        self._metrics.reconciliation_mismatches.labels(check=finding.check).set(finding.failed)
        if finding.failed:
            fields = {
                "action": "reconcile",
                "check": finding.check,
                "hour": finding.period.start.isoformat(),
                "checked": finding.checked,
                "failed": finding.failed,
            }
            _LOGGER.error("what was measured and what was billed differ", extra=fields)
