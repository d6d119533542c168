"""What does the process tell its operators? Metrics, structured logs, and no secret in either.

`Metrics` keeps counters, gauges and histograms as plain numbers; the Prometheus library is imported only when someone
asks for the exposition (`render`), so that the command line never pays for it. `redact` removes secrets: the values of
telling keys, the shapes of well-known credentials, and every value that was handed to `register_secret` when it was
resolved. Formatters apply it to all they write; `without_secrets` does so for results of calls. Never sends anything anywhere.

Source: Prometheus' exposition format; Kubernetes' structured logging. Read next: `kastra.config`.
"""

import logging
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Of what `Metrics.render` returns."""
SECONDS: Final = (
    0.0001,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""Default bounds of histograms of durations."""
REDACTED: Final = "[redacted]"

Labels = tuple[str, ...]


class Counter:
    """A number per combination of labels that only rises."""

    def __init__(self, name: str, help_: str, labels: Sequence[str]) -> None:
        self.name, self.help, self.labels = name, help_, tuple(labels)
        self._values: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Add `by` to the number of these label values."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0.0) + by

    def value(self, *labels: str) -> float:
        """The number so far."""
        return self._values.get(labels, 0.0)

    def samples(self) -> list[tuple[Labels, float]]:
        """All combinations seen."""
        with self._lock:
            return list(self._values.items())


class Gauge:
    """A number per combination of labels that goes up and down; set, or asked for at each exposition."""

    def __init__(self, name: str, help_: str, labels: Sequence[str]) -> None:
        self.name, self.help, self.labels = name, help_, tuple(labels)
        self._values: dict[Labels, float | Callable[[], float]] = {}
        self._lock = threading.Lock()

    def set(self, value: float, *labels: str) -> None:
        """The number of these label values is now `value`."""
        with self._lock:
            self._values[labels] = value

    def follow(self, function: Callable[[], float], *labels: str) -> None:
        """Call `function` at each exposition for the number of these label values."""
        with self._lock:
            self._values[labels] = function

    def remove(self, *labels: str) -> None:
        """Forget these label values."""
        with self._lock:
            self._values.pop(labels, None)

    def value(self, *labels: str) -> float:
        """The number now; 0.0 when it was never set."""
        known = self._values.get(labels, 0.0)
        return known() if callable(known) else known

    def samples(self) -> list[tuple[Labels, float]]:
        """All combinations set or followed."""
        with self._lock:
            known = list(self._values.items())
        return [(labels, value() if callable(value) else value) for labels, value in known]


class Histogram:
    """How often values fell below each of the bounds, per combination of labels."""

    def __init__(self, name: str, help_: str, labels: Sequence[str], bounds: Sequence[float] = SECONDS) -> None:
        self.name, self.help, self.labels, self.bounds = name, help_, tuple(labels), tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def observe(self, value: float, *labels: str) -> None:
        """Count one value."""
        with self._lock:
            counts = self._counts.get(labels)
            if counts is None:
                counts = self._counts[labels] = [0] * (len(self.bounds) + 1)
            counts[bisect_left(self.bounds, value)] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def count(self, *labels: str) -> int:
        """Values seen so far."""
        return sum(self._counts.get(labels, ()))

    def samples(self) -> list[tuple[Labels, list[int], float]]:
        """Per combination: counts between the bounds (the last one is above all), and the sum."""
        with self._lock:
            return [(labels, list(counts), self._sums[labels]) for labels, counts in self._counts.items()]


class Metrics:
    """The metrics of one process (or of one control plane in a test). Asking twice for a name gives the same metric."""

    def __init__(self) -> None:
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str, help_: str, labels: Sequence[str] = ()) -> Counter:
        """A counter; its name should end in `_total`."""
        metric = self._metrics.setdefault(name, Counter(name, help_, labels))
        assert isinstance(metric, Counter), f"{name} is another type of metric"
        return metric

    def gauge(self, name: str, help_: str, labels: Sequence[str] = ()) -> Gauge:
        """A gauge."""
        metric = self._metrics.setdefault(name, Gauge(name, help_, labels))
        assert isinstance(metric, Gauge), f"{name} is another type of metric"
        return metric

    def histogram(
        self, name: str, help_: str, labels: Sequence[str] = (), bounds: Sequence[float] = SECONDS
    ) -> Histogram:
        """A histogram; durations are in seconds and their names end in `_seconds`."""
        metric = self._metrics.setdefault(name, Histogram(name, help_, labels, bounds))
        assert isinstance(metric, Histogram), f"{name} is another type of metric"
        return metric

    def catalogue(self) -> list[tuple[str, str, str, tuple[str, ...]]]:
        """Name, type, help and labels of every metric, for the documentation."""
        return [(m.name, type(m).__name__.lower(), m.help, m.labels) for m in self._metrics.values()]

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> "Iterator[Metric]":
        """Prometheus' collector protocol."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for metric in tuple(self._metrics.values()):
            if isinstance(metric, Histogram):
                histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
                for labels, counts, total in metric.samples():
                    histogram.add_metric(labels, _cumulated(metric.bounds, counts), total)
                yield histogram
            else:
                family = CounterMetricFamily if isinstance(metric, Counter) else GaugeMetricFamily
                numbers = family(metric.name, metric.help, labels=metric.labels)
                for labels, value in metric.samples():
                    numbers.add_metric(labels, value)
                yield numbers


def _cumulated(bounds: Iterable[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    buckets, total = [], 0
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


_SENSITIVE_KEY_ENDS = (
    "password", "passwd", "passphrase", "secret", "token", "apikey", "authorization", "cookie", "credential",
    "credentials", "privatekey", "secretkey", "accesskey", "signingkey",
)  # fmt: skip
_SENSITIVE_TEXT = re.compile(
    r"(?P<keep>\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}"
    r"|(?P<scheme>[a-z][a-z0-9+.-]{1,15}://)[^\s/@:]*:[^\s/@]+@"
    r"|\b(?:sk|pk|rk|gsk|xox[abp]|gh[pousr])[-_][a-z0-9_-]{16,}",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 6
_secrets: tuple[str, ...] = ()
_secrets_lock = threading.Lock()


def register_secret(value: str) -> None:
    """From now on `value` is removed from everything that passes `redact`. Shorter ones than 6 characters are not kept,
    since removing them would mutilate ordinary text.
    """
    global _secrets
    if len(value) >= _SHORTEST_SECRET and value not in _secrets:
        with _secrets_lock:
            # Longest first: of two that begin alike, the rest of the longer one must not stay.
            _secrets = tuple(sorted({*_secrets, *_forms(value)}, key=len, reverse=True))


def _forms(secret: str) -> set[str]:
    """The ways in which a secret appears in texts of others: as it is, in JSON, in a URL, in a message of Python."""
    import json
    from urllib.parse import quote, quote_plus

    escaped = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    return {secret, *escaped, quote(secret), quote(secret, safe=""), quote_plus(secret)}


def redact_text(text: str) -> str:
    """`text` without registered secrets and without what looks like a credential."""
    return _SENSITIVE_TEXT.sub(
        lambda m: (m["keep"] or m["scheme"] or "") + REDACTED + ("@" if m["scheme"] else ""), without_secrets(text)
    )


def without_secrets(value: Any) -> Any:
    """JSON-like data without registered secrets. Unlike `redact` it leaves all else as it is: for data of users, which
    others may have put into it what they were sent.
    """
    if isinstance(value, str):
        for secret in _secrets:
            if secret in value:
                value = value.replace(secret, REDACTED)
        return value
    if isinstance(value, Mapping):
        return {without_secrets(key): without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value


def redact(value: Any, key: str = "") -> Any:
    """JSON-like data without secrets: as `redact_text` for strings, and `[redacted]` under keys such as `apiKey`."""
    if isinstance(value, Mapping):
        # What a telling key holds is secret however deep it is.
        above = key if key and is_sensitive_key(key) else ""
        return {str(k): redact(v, above or str(k)) for k, v in value.items()}
    if key and value is not None and is_sensitive_key(key):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


def is_sensitive_key(key: str) -> bool:
    """Whether a value under this key is a secret by its name: `api_key`, `X-Auth-Token`; not `maxTokens`, `secretRef`."""
    return key.lower().replace("-", "").replace("_", "").endswith(_SENSITIVE_KEY_ENDS)


_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, then what was passed as `extra`; redacted."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact_text(record.getMessage()),
        }
        for key, value in record.__dict__.items():
            if key not in _OWN_ATTRIBUTES:
                line[key] = redact(value, key)
        if record.exc_info:
            line["exception"] = redact_text(self.formatException(record.exc_info))
        return orjson.dumps(line, default=lambda value: redact_text(str(value))).decode()


class TextFormatter(logging.Formatter):
    """A line for people: time, level, message, `key=value` for each extra; redacted."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, followed by the traceback if there is one."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        extras = "".join(
            f" {key}={redact(value, key)}" for key, value in record.__dict__.items() if key not in _OWN_ATTRIBUTES
        )
        text = f"{moment} {record.levelname[0]} {record.name}: {redact_text(record.getMessage())}{extras}"
        if record.exc_info:
            text += "\n" + redact_text(self.formatException(record.exc_info))
        return text


def configure_logging(level: str = "info", *, json: bool = True) -> None:
    """Send the log of this process to stderr in one of the two forms, replacing what was configured.

    Raises:
        ValueError: `level` is none of debug, info, warning, error.
    """
    if level not in ("debug", "info", "warning", "error"):
        raise ValueError(f"log level {level!r}: choose debug, info, warning or error")
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter() if json else TextFormatter())
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
