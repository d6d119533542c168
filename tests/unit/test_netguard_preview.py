"""What is certain to be refused is known before any name is resolved; nothing else is claimed."""

import pytest

from kastra.netguard import Policy
from kastra.netguard.preview import refusal


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://169.254.169.254/latest", "link-local"),
        ("http://10.0.0.1/", "private"),
        ("http://localhost/", "loopback"),
        ("http://api.localhost:8080/", "loopback"),
        ("http://[::1]/", "loopback"),
        ("file:///etc/passwd", "http"),
        ("http://user:pass@example.com/", "user information"),
    ],
)
def test_addresses_and_urls_that_are_never_called_are_refused(url: str, words: str) -> None:
    assert words in (refusal(url, Policy()) or "")


def test_a_name_is_not_judged_before_it_is_resolved() -> None:
    assert refusal("https://intranet.example.com/", Policy()) is None


def test_a_manifest_may_open_private_addresses_but_not_those_that_serve_credentials() -> None:
    assert refusal("http://10.0.0.1/", Policy(), allow_private=True) is None
    assert refusal("http://169.254.169.254/", Policy(), allow_private=True) is not None


def test_lists_of_names_are_applied() -> None:
    assert "denied" in (refusal("https://x.example.com/", Policy(deny_hosts=("*.example.com",))) or "")
    assert "allows only" in (refusal("https://x.org/", Policy(allow_hosts=("*.example.com",))) or "")
    assert refusal("http://localhost/", Policy(allow_private_hosts=("localhost",))) is None
