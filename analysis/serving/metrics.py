"""What the server counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The figures of one server, from its start."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.requests = Counter(
            "ensemble_requests", "Answers by path and HTTP status code.", ["path", "code"], registry=registry
        )
        self.images = Counter("ensemble_images", "Images that were asked about.", ["outcome"], registry=registry)
        self.batches = Histogram(
            "ensemble_batch_size", "Images that went through the models at once.",
            buckets=BATCH_SIZES, registry=registry,
        )  # fmt: skip
        self.latency = Histogram(
            "ensemble_request_seconds", "From a request's first byte to its answer, POST /predict alone.",
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.in_progress = Gauge("ensemble_requests_in_progress", "Of POST /predict, now.", registry=registry)
        for outcome in ("predicted", "refused"):
            self.images.labels(outcome)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
