"""What the server counts, as text for Prometheus. No label ever holds what was asked or found.

Tested in tests/surfaces/server/test_rest.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)  # seconds


class Metrics:
    """Counters since the start of the process."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, Counter[float]] = {}
        self._totals: dict[str, float] = {}
        self._spent: Counter[str] = Counter()

    def count(self, route: str, outcome: str, seconds: float) -> None:
        """One request of `route` ended as `outcome` ("ok", "cancelled", an error's name) after so many seconds."""
        self._requests[route, outcome] += 1
        buckets = self._seconds.setdefault(route, Counter())
        for bound in BUCKETS:
            buckets[bound] += seconds <= bound
        self._totals[route] = self._totals.get(route, 0.0) + seconds

    def spend(self, *, calls: int, input_tokens: int, output_tokens: int) -> None:
        """What an answer cost the model."""
        self._spent.update(calls=calls, input_tokens=input_tokens, output_tokens=output_tokens)

    def expose(self, **gauges: int) -> str:
        """Everything counted, and the given gauges, in Prometheus' text format."""
        return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges: dict[str, int]) -> Iterator[str]:
        for name, value in gauges.items():
            yield f"# TYPE branchwise_{name} gauge"
            yield f"branchwise_{name} {value}"
        yield "# TYPE branchwise_requests_total counter"
        for (route, outcome), count in sorted(self._requests.items()):
            yield f'branchwise_requests_total{{route="{route}",outcome="{outcome}"}} {count}'
        yield "# TYPE branchwise_request_seconds histogram"
        for route, buckets in sorted(self._seconds.items()):
            total = sum(count for (name, _), count in self._requests.items() if name == route)
            for bound in BUCKETS:
                yield f'branchwise_request_seconds_bucket{{route="{route}",le="{bound}"}} {buckets[bound]}'
            yield f'branchwise_request_seconds_bucket{{route="{route}",le="+Inf"}} {total}'
            yield f'branchwise_request_seconds_sum{{route="{route}"}} {self._totals[route]:.6f}'
            yield f'branchwise_request_seconds_count{{route="{route}"}} {total}'
        for name, spent in sorted(self._spent.items()):
            yield f"# TYPE branchwise_model_{name}_total counter"
            yield f"branchwise_model_{name}_total {spent}"
