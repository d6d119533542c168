"""Formats accept what their standards do; an unknown format accepts everything."""

import pytest

from kastra.schema.formats import PatternError, compile_pattern, integer_range, text_format

CASES = {
    "date-time": (["2024-02-29T12:00:00Z", "2024-01-01t00:00:60.5+23:59"], ["2023-02-29T12:00:00Z", "2024-01-01 00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00", "2024-01-01T00:00:00+24:00"]),
    "date": (["2024-02-29"], ["2024-02-30", "24-01-01", "2024-1-1", "٢٠٢٤-01-01"]),
    "duration": (["1h30m", "PT1H", "0"], ["1 hour", "", "5"]),
    "email": (["a@b.example", "a+b@c.de"], ["a", "@b", "a@", "a@b..c", "a b@c.de", "a@-b.de"]),
    "hostname": (["a.example", "A-1.b", "localhost."], ["", "-a", "a_b", "a." * 200, "a" * 64]),
    "ipv4": (["127.0.0.1"], ["127.1", "256.0.0.1", "::1", "010.0.0.1"]),
    "ipv6": (["::1", "fe80::1"], ["127.0.0.1", ":::"]),
    "cidr": (["10.0.0.0/8", "10.1.2.3/8", "fd00::/8"], ["10.0.0.0", "10.0.0.0/33"]),
    "mac": (["00:1B:44:11:3a:b7", "00-1b-44-11-3a-b7"], ["00:1b:44:11:3a", "00:1b-44:11:3a:b7"]),
    "uri": (["https://a/b?c", "urn:x:y", "mailto:a@b"], ["a/b", "//a", "http://a b", "https://a:port/"]),
    "uuid": (["123e4567-e89b-12d3-a456-426614174000"], ["123e4567-e89b-12d3-a456"]),
    "uuid4": (["123e4567-e89b-42d3-a456-426614174000"], ["123e4567-e89b-12d3-a456-426614174000"]),
    "byte": (["", "YQ==", "YWJj"], ["YQ", "a b=", "*"]),
    "hexcolor": (["#fff", "00ff00"], ["#ff", "red"]),
    "quantity": (["500m", "1Gi"], ["lots"]),
    "k8s-short-name": (["a-b"], ["a.b", "A"]),
    "k8s-long-name": (["a.b-c"], ["a_b"]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, (good, _) in CASES.items() for text in good])
def test_what_a_format_allows(name: str, text: str) -> None:
    check = text_format(name)
    assert check is not None
    assert check(text)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, (_, bad) in CASES.items() for text in bad])
def test_what_a_format_refuses(name: str, text: str) -> None:
    check = text_format(name)
    assert check is not None
    assert not check(text)


def test_formats_nobody_knows_are_ignored() -> None:
    assert text_format("creditcard-ish") is None
    assert integer_range("int128") is None


@pytest.mark.parametrize("pattern", ["(?=a)", r"(a)\1", "(?<!x)y", "a{2000}", "[", "*a", "(?P<n"])
def test_what_is_not_re2_is_refused_with_the_reason(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)


def test_patterns_search_anywhere_as_in_go() -> None:
    assert compile_pattern("b+")("abbc")
    assert not compile_pattern("^b+$")("abbc")
