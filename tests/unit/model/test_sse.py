"""The event stream's bytes, cut anywhere, give the same events."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastra.model.sse import MAX_EVENT, EventReader, EventTooLarge


def read(*chunks: bytes) -> list[bytes]:
    reader = EventReader()
    found = [data for chunk in chunks for data in reader.feed(chunk)]
    return found + reader.rest()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        pytest.param(b"data: a\n\ndata: b\n\n", [b"a", b"b"], id="two-events"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"], id="carriage-returns-and-newlines"),
        pytest.param(b"data: a\r\rdata: b\r\r", [b"a", b"b"], id="carriage-returns"),
        pytest.param(b"data:a\n\n", [b"a"], id="no-blank-after-the-colon"),
        pytest.param(b"data:  a\n\n", [b" a"], id="only-one-blank-is-dropped"),
        pytest.param(b"data: a\ndata: b\n\n", [b"a\nb"], id="lines-of-one-event-are-joined"),
        pytest.param(b"event: x\nid: 7\ndata: a\nretry: 5\n\n", [b"a"], id="other-fields-are-skipped"),
        pytest.param(b": OPENROUTER PROCESSING\n\ndata: a\n\n", [b"a"], id="comments-are-skipped"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [b"a"], id="byte-order-mark"),
        pytest.param(b"data: a\n\ndata: [DONE]", [b"a", b"[DONE]"], id="last-blank-line-left-out"),
        pytest.param(b"data\n\n", [b""], id="a-field-without-a-value"),
        pytest.param(b"\n\n\n\ndata: a\n\n\n\n", [b"a"], id="many-blank-lines"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_events_are_found_wherever_the_stream_is_cut(stream: bytes, events: list[bytes]) -> None:
    assert read(stream) == events
    assert read(*(stream[i : i + 1] for i in range(len(stream)))) == events
    for at in range(len(stream) + 1):
        assert read(stream[:at], stream[at:]) == events, at


@given(st.lists(st.text(alphabet="ab é\U0001f600", max_size=8), max_size=6), st.data())
def test_any_texts_come_out_as_they_went_in_however_they_are_cut(texts: list[str], data: st.DataObject) -> None:
    stream = b"".join(b"data: " + text.encode() + b"\n\n" for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    edges = [0, *cuts, len(stream)]
    assert read(*(stream[a:b] for a, b in itertools.pairwise(edges))) == [text.encode() for text in texts]


def test_an_event_that_never_ends_is_refused() -> None:
    reader = EventReader()
    with pytest.raises(EventTooLarge):
        for _ in range(MAX_EVENT // 65536 + 2):
            reader.feed(b"x" * 65536)
