"""Metrics come out in Prometheus' format, logs as one JSON object a line, and secrets in neither."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.telemetry import (
    REDACTED,
    JSONFormatter,
    Metrics,
    TextFormatter,
    configure_logging,
    is_sensitive_key,
    redact,
    redact_text,
    register_secret,
)


def line(formatter: logging.Formatter, message: str, *args: Any, **extra: Any) -> str:
    record = logging.getLogger("kastra.test").makeRecord("kastra.test", logging.INFO, "f", 1, message, args, None)
    record.__dict__.update(extra)
    return formatter.format(record)


def test_counters_gauges_and_histograms_are_rendered_for_prometheus() -> None:
    metrics = Metrics()
    metrics.counter("kastra_x_total", "Xs.", ("kind",)).inc("Agent", by=2)
    metrics.gauge("kastra_y", "Ys.").set(1.5)
    metrics.gauge("kastra_z", "Zs.", ("name",)).follow(lambda: 7, "q")
    histogram = metrics.histogram("kastra_t_seconds", "Durations.", bounds=(0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 30.0):
        histogram.observe(value)
    text = metrics.render().decode()
    for expected in (
        "# HELP kastra_x_total Xs.",
        'kastra_x_total{kind="Agent"} 2.0',
        "kastra_y 1.5",
        'kastra_z{name="q"} 7.0',
        'kastra_t_seconds_bucket{le="0.1"} 2.0',
        'kastra_t_seconds_bucket{le="1.0"} 3.0',
        'kastra_t_seconds_bucket{le="+Inf"} 4.0',
        "kastra_t_seconds_count 4.0",
    ):
        assert expected in text


def test_asking_twice_for_a_metric_gives_the_same_one() -> None:
    metrics = Metrics()
    assert metrics.counter("a_total", "A.") is metrics.counter("a_total", "A.")
    with pytest.raises(AssertionError, match="a_total is another type"):
        metrics.gauge("a_total", "A.")
    assert metrics.catalogue() == [("a_total", "counter", "A.", ())]


def test_the_prometheus_library_is_loaded_only_for_a_scrape() -> None:
    code = "import sys, kastra.telemetry; assert 'prometheus_client' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "key",
    ["apiKey", "api_key", "X-Auth-Token", "password", "client-secret", "Authorization", "Set-Cookie", "dbPassword"],
)
def test_keys_that_name_a_secret_are_known(key: str) -> None:
    assert is_sensitive_key(key)


@pytest.mark.parametrize("key", ["maxTokens", "inputTokens", "secretRef", "secretHash", "tokenThreshold", "name"])
def test_keys_that_only_sound_like_it_are_not(key: str) -> None:
    assert not is_sensitive_key(key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abcdefgh12345678", f"Authorization: Bearer {REDACTED}"),
        ("to postgres://me:hunter2@db/x", f"to postgres://{REDACTED}@db/x"),
        ("key sk-proj-abcdefghijklmnop1234 refused", f"key {REDACTED} refused"),
        ("the basic idea", "the basic idea"),
        ("https://example.com/a:b@c", "https://example.com/a:b@c"),
    ],
)
def test_what_looks_like_a_credential_is_removed_from_text(text: str, expected: str) -> None:
    assert redact_text(text) == expected


def test_data_is_redacted_by_key_by_shape_and_by_registered_value() -> None:
    register_secret("open-sesame-now")
    data = {
        "apiKey": "x",
        "nested": [{"token": 7}, "say open-sesame-now", None],
        "token": None,
        "auth": {"password": {"value": "open"}, "scheme": "basic"},
        "tokens": ["kept"],
        "credentials": ["gone"],
    }
    assert redact(data) == {
        "apiKey": REDACTED,
        "nested": [{"token": REDACTED}, f"say {REDACTED}", None],
        "token": None,
        "auth": {"password": {"value": REDACTED}, "scheme": "basic"},
        "tokens": ["kept"],
        "credentials": REDACTED,
    }


def test_a_value_too_short_to_be_a_secret_is_not_taken_out_of_ordinary_text() -> None:
    register_secret("the")
    assert redact_text("the end") == "the end"


@given(secret=st.text(max_size=40).map("S3cr3t:".__add__), before=st.text(max_size=20), after=st.text(max_size=20))
def test_no_registered_secret_passes(secret: str, before: str, after: str) -> None:
    register_secret(secret)
    assert secret not in redact_text(before + secret + after).replace(REDACTED, "")


def test_a_log_line_is_one_json_object_with_its_extras_and_without_secrets() -> None:
    register_secret("swordfish-2026")
    found = json.loads(line(JSONFormatter(), "got %s", "swordfish-2026", controller="agent", apiKey="abc", odd={1, 2}))
    assert found["message"] == f"got {REDACTED}"
    assert (found["level"], found["logger"], found["controller"], found["apiKey"]) == (
        "info",
        "kastra.test",
        "agent",
        REDACTED,
    )
    assert found["time"].endswith("+00:00")


def test_a_traceback_is_part_of_the_line_and_redacted() -> None:
    register_secret("tell-nobody-this")
    try:
        raise ValueError("tell-nobody-this")
    except ValueError:
        record = logging.getLogger("x").makeRecord("x", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    for formatter in (JSONFormatter(), TextFormatter()):
        text = formatter.format(record)
        assert "ValueError" in text
        assert "tell-nobody-this" not in text


def test_the_text_form_is_for_people() -> None:
    text = line(TextFormatter(), "reconcile failed", controller="agent")
    assert text.endswith("I kastra.test: reconcile failed controller=agent")


def test_an_unknown_log_level_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'loud': choose debug, info, warning or error"):
        configure_logging("loud")
