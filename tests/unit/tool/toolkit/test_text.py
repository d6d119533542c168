"""The tools of texts and encodings."""

from typing import Any

import pytest

from tests.support.toolbox import Toolbox, listed

PROSE = "First paragraph. It has two sentences.\n\nSecond paragraph, which is longer than the first one. And ends."


async def test_a_text_is_split_where_it_reads_well_and_nothing_is_lost(box: Toolbox) -> None:
    found = await box.call("text.split", {"text": PROSE, "size": 50})
    assert found["parts"][0] == "First paragraph. It has two sentences.\n\n"
    assert "".join(found["parts"]) == PROSE
    overlapping = (await box.call("text.split", {"text": "x" * 100, "size": 40, "overlap": 10}))["parts"]
    assert [len(part) for part in overlapping] == [40, 40, 40]
    assert (await box.call("text.split", {"text": "a;b;;c", "separator": ";"}))["parts"] == ["a", "b", "", "c"]
    many = await box.call("text.split", {"text": "x" * 5_000, "size": 1})
    assert (many["count"], many["truncated"]) == (1_000, "the first 1,000")


async def test_a_text_is_counted(box: Toolbox) -> None:
    found = await box.call("text.count", {"text": "Don't stop. Don't!\n你好", "top": 1})
    assert found == {
        "characters": 21,
        "bytes": 25,
        "words": 4,
        "lines": 2,
        "sentences": 2,
        "tokens": 7,
        "frequent": [{"word": "don't", "count": 2}],
    }


async def test_matches_come_with_places_and_groups(box: Toolbox) -> None:
    found = await box.call("text.find", {"text": "a=1, B=22", "pattern": r"(\w)=(\d+)"})
    assert found["matches"][1] == {"text": "B=22", "start": 5, "end": 9, "groups": ["B", "22"]}
    assert (await box.call("text.find", {"text": "aaa", "pattern": "a", "limit": 2}))["truncated"] == "the first 2"
    places = await box.call("text.find", {"text": "é你x", "pattern": "x"})
    assert places["matches"][0]["start"] == 2, "places are characters, not bytes"


@pytest.mark.parametrize(
    ("arguments", "made", "count"),
    [
        ({"pattern": "a.c", "replacement": "x"}, "x abc", 1),
        ({"pattern": "a.c", "replacement": "x", "regex": True}, "x x", 2),
        ({"pattern": "A.C", "replacement": r"\1", "ignore_case": True}, r"\1 abc", 1),
        ({"pattern": "a(.)c", "replacement": r"[\1\\]", "regex": True}, "[.\\] [b\\]", 2),
    ],
)
async def test_occurrences_are_replaced(arguments: dict[str, Any], made: str, count: int, box: Toolbox) -> None:
    assert await box.call("text.replace", {"text": "a.c abc", **arguments}) == {"text": made, "replaced": count}


async def test_a_group_that_is_not_there_is_named(box: Toolbox) -> None:
    refused = await box.refused("text.replace", {"text": "x", "pattern": "x", "replacement": r"\2", "regex": True})
    assert "no group 2" in refused.message


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("emails", ["jo.do+x@mail.example.org"]),
        ("urls", ["https://example.org/a?b=1"]),
        ("dates", ["2026-03-01", "2026-03-02T10:00:00Z"]),
        ("numbers", ["+1,234.5"]),
        ("hashtags", ["#news"]),
        ("ips", ["10.0.0.1"]),
    ],
)
async def test_what_a_text_holds_is_pulled_out(what: str, found: list[str], box: Toolbox) -> None:
    text = {
        "emails": "write jo.do+x@mail.example.org, or jo.do+x@mail.example.org!",
        "urls": "see (https://example.org/a?b=1). And again https://example.org/a?b=1",
        "dates": "on 2026-03-01 and 2026-03-02T10:00:00Z",
        "numbers": "about +1,234.5",
        "hashtags": "#news for you",
        "ips": "at 10.0.0.1",
    }[what]
    assert (await box.call("text.extract", {"text": text, "what": what}))["found"] == found


async def test_values_are_filled_into_a_text(box: Toolbox) -> None:
    text = "Dear ${{ values.name }}, ${{ values.items.size() }} items: ${{ values.items }}"
    assert (
        await box.call("text.template", {"text": text, "values": {"name": "Jo", "items": [1, 2]}})
        == "Dear Jo, 2 items: [1,2]"
    )
    assert (await box.refused("text.template", {"text": "${{ other }}", "values": {}})).type == "expression"


async def test_texts_are_compared(box: Toolbox) -> None:
    found = await box.call("text.diff", {"before": "a\nb\nc", "after": "a\nx\nc"})
    assert (found["added"], found["removed"]) == (1, 1)
    assert "-b\n+x" in found["diff"]
    alike = await box.call("text.similarity", {"a": "kitten", "b": "sitting"})
    assert alike["editDistance"] == 3
    assert 0 < alike["similarity"] < 1
    assert (await box.call("text.similarity", {"a": "Ünïted  Nations", "b": "ünïted nations"}))["similarity"] == 1


async def test_a_text_becomes_a_slug(box: Toolbox) -> None:
    assert await box.call("text.slugify", {"text": "  Crème brûlée: it's 100% nice! "}) == "creme-brulee-its-100-nice"
    assert await box.call("text.slugify", {"text": "A long title", "separator": "_", "length": 7}) == "a_long"


@pytest.mark.parametrize(
    ("keep", "start", "end"), [("start", "word0", "…"), ("end", "…", "word999"), ("both", "word0", "word999")]
)
async def test_a_text_is_shortened_to_tokens(keep: str, start: str, end: str, box: Toolbox) -> None:
    text = " ".join(f"word{number}" for number in range(1_000))
    found = await box.call("text.truncate", {"text": text, "tokens_at_most": 50, "keep": keep})
    assert found["truncated"]
    assert found["tokens"] <= 52
    assert found["text"].startswith(start)
    assert found["text"].endswith(end)
    whole = await box.call("text.truncate", {"text": "short", "tokens_at_most": 50})
    assert whole == {"text": "short", "tokens": 2, "truncated": False}


@pytest.mark.parametrize("encoding", ["base64", "base64url", "hex", "url", "html"])
async def test_what_is_encoded_is_decoded(encoding: str, box: Toolbox) -> None:
    text = "a <b> & 'ü' ? 你好 /+="
    made = await box.call("encoding.encode", {"text": text, "encoding": encoding})
    assert made != text
    assert await box.call("encoding.decode", {"text": made, "encoding": encoding}) == text


@pytest.mark.parametrize(("text", "encoding"), [("%%%", "base64"), ("zz", "hex"), ("_w", "base64url"), ("%ff", "url")])
async def test_what_is_no_encoding_of_a_text_is_refused(text: str, encoding: str, box: Toolbox) -> None:
    assert (await box.refused("encoding.decode", {"text": text, "encoding": encoding})).type == "validation"


async def test_hashes_and_identifiers_are_made(box: Toolbox) -> None:
    assert (await box.call("encoding.hash", {"text": "abc"}))["hash"].startswith("ba7816bf")
    named = await box.call("encoding.uuid", {"name": "x"})
    assert named == await box.call("encoding.uuid", {"name": "x"})
    fresh = await box.call("encoding.uuid")
    assert len(fresh) == 36
    assert fresh == await box.call("encoding.uuid"), "the same call, made again after a crash, gets the same one"


async def test_urls_are_taken_apart_and_queries_made(box: Toolbox) -> None:
    assert await box.call("encoding.parse_url", {"url": "https://h.example:81/a/b?x=1&x=2&y=#f"}) == {
        "scheme": "https",
        "host": "h.example",
        "port": 81,
        "path": "/a/b",
        "query": {"x": ["1", "2"], "y": [""]},
        "fragment": "f",
    }
    assert "url" in (await box.refused("encoding.parse_url", {"url": "http://h:99999999/"})).message
    assert (
        await box.call("encoding.build_query", {"parameters": {"a": ["1", "ä b"], "c": True}})
        == "a=1&a=%C3%A4+b&c=true"
    )


async def test_every_group_of_pure_tools_takes_a_long_text_or_says_how_much_it_takes(box: Toolbox) -> None:
    long = "x" * 2_000_001
    for name in ("text.count", "text.split", "encoding.hash", "json.parse", "yaml.parse"):
        assert "at most 2,000,000" in (await box.refused(name, {"text": long})).message, name
    assert listed([await box.call("text.count", {"text": long[:-1]})], "characters") == [2_000_000]
