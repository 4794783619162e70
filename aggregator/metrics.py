"""What the aggregator says about itself, for Prometheus; base units in every name.

One instance per process is handed to whoever counts; nothing here is global, so tests
do not share counts.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_COMMIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The registry and every metric of the aggregator, by name."""

    def __init__(self) -> None:
        """Register all, so that each shows its zero from the first scrape."""
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="nodemeter_aggregator", registry=self.registry)
        self.connections = self._gauge("connections", "Agents connected now.")
        self.hellos = self._counter("hellos_total", "Connections welcomed.")
        self.batches = self._counter("batches_total", "Batches made durable.")
        self.records = self._counter("records_total", "Usage records made durable.")
        self.acks = self._counter("acks_total", "Acknowledgements sent.")
        self.replays = self._counter("replays_total", "Batches that were durable already.")
        self.conflicts = self._counter(
            "conflicts_total", "Batches whose sequence is durable with another digest."
        )
        self.fenced = self._counter("fenced_total", "Batches of connections since replaced.")
        self.takeovers = self._counter(
            "takeovers_total", "Runs (and accounts of nodes) that went on in another stream."
        )
        self.fresh_spools = self._counter(
            "fresh_spools_total", "New streams of nodes that had one before."
        )
        self.stale_spools = self._counter(
            "stale_spools_total", "Spools that came back behind what is durable of them."
        )
        self.gaps = self._counter("gap_sequences_total", "Sequences declared lost by agents.")
        self.rejects = Counter(
            "nodemeter_aggregator_rejects_total",
            "Messages refused, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.quarantined = Counter(
            "nodemeter_aggregator_quarantined_records_total",
            "Records (or definitions without records) set aside, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.ingest_errors = self._counter(
            "ingest_errors_total", "Transactions of ingest that the database failed."
        )
        self.queued_bytes = self._gauge(
            "ingest_queued_bytes", "Messages received and not yet durable."
        )
        self.commit_seconds = Histogram(
            "nodemeter_aggregator_commit_seconds",
            "Time of one transaction of ingest.",
            buckets=_COMMIT_BUCKETS,
            registry=self.registry,
        )
        self.rated_records = self._counter("rated_records_total", "Usage records rated.")
        self.rater_errors = self._counter("rater_errors_total", "Rounds of the rater that failed.")
        self.rater_seconds = Histogram(
            "nodemeter_aggregator_rater_seconds",
            "Time of one round of the rater.",
            buckets=_COMMIT_BUCKETS,
            registry=self.registry,
        )
        self.rerated_lines = self._counter(
            "rerated_lines_total", "Lines that re-rating appended to the adjustments."
        )
        self.rater_lag_seconds = self._gauge(
            "rater_lag_seconds", "Age of the oldest usage that could be rated and is not."
        )
        self.unpriced_charges = Counter(
            "nodemeter_aggregator_unpriced_charges_total",
            "Hours of a meter rated without a ratio, by usage type.",
            ["type"],
            registry=self.registry,
        )
        self.unpriced_items = self._gauge(
            "unpriced_items", "Bill items of which a part has no ratio."
        )
        self.maintenance_errors = self._counter(
            "maintenance_errors_total", "Runs of maintenance that failed."
        )
        self.reconciliation_mismatches = Gauge(
            "nodemeter_aggregator_reconciliation_mismatches",
            "What does not agree in the last settled hour, by check.",
            ["check"],
            registry=self.registry,
        )
        self.reconciliation_errors = self._counter(
            "reconciliation_errors_total", "Hours that could not be reconciled in time."
        )
        self.reconciled_until = self._gauge(
            "reconciled_until_timestamp_seconds", "End of the last hour that was reconciled."
        )
        self.dropped_chunks = self._counter(
            "dropped_chunks_total", "Chunks of raw usage dropped by retention."
        )

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(f"nodemeter_aggregator_{name}", words, registry=self.registry)

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(f"nodemeter_aggregator_{name}", words, registry=self.registry)
