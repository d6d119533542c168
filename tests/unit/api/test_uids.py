"""Identifiers are random UUIDs, and no two are the same."""

import os
import uuid

import pytest

from kastra.api.uids import new_uid


def test_it_is_a_random_uuid() -> None:
    for _ in range(1000):
        text = new_uid()
        read = uuid.UUID(text)
        assert (str(read), read.version, read.variant) == (text, 4, uuid.RFC_4122)


def test_no_two_are_the_same() -> None:
    assert len({new_uid() for _ in range(10_000)}) == 10_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_makes_others() -> None:
    new_uid()  # so that some are left over
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, new_uid().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 36).decode() not in {new_uid() for _ in range(1000)}
    os.close(reading)
    os.close(writing)
