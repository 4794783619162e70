"""What the HTTP side counts about itself."""

from prometheus_client import CollectorRegistry, Counter, Histogram


class HttpMetrics:
    """Requests by route, as documented: clients cannot invent label values."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register with the aggregator's other metrics."""
        self.requests = Counter(
            "nodemeter_aggregator_http_requests_total",
            "HTTP requests answered.",
            ["method", "path", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "nodemeter_aggregator_http_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["path"],
            registry=registry,
        )
