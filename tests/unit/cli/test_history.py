"""`kastra history`: the journal of a Run, record by record."""

import json

import pytest

from .conftest import Kastra


def test_every_record_is_a_row_with_its_number_time_type_and_step(kitchen: Kastra) -> None:
    lines = kitchen("history", "run/first", "-n", "kitchen").lines
    assert lines[0].split() == ["SEQ", "TIME", "TYPE", "STEP", "DATA"]
    assert lines[1].split()[0] == "1"
    assert "RunStarted" in lines[1]
    assert "RunCompleted" in lines[-1]
    assert [line.split()[0] for line in lines[1:]] == [str(n) for n in range(1, len(lines))]


def test_a_name_alone_is_that_of_a_run(kitchen: Kastra) -> None:
    assert kitchen("history", "first", "-n", "kitchen").lines == kitchen("history", "run/first", "-n", "kitchen").lines


def test_json_is_each_record_whole_on_a_line(kitchen: Kastra) -> None:
    records = [json.loads(line) for line in kitchen("history", "first", "-n", "kitchen", "-o", "json").lines]
    assert records[0]["body"]["input"] == {"ingredients": ["egg"]}
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))


def test_it_can_be_read_in_parts_and_of_one_step(kitchen: Kastra) -> None:
    def numbers(*options: object) -> list[int]:
        return [
            json.loads(line)["seq"]
            for line in kitchen("history", "first", "-n", "kitchen", "-o", "json", *options).lines
        ]

    whole = numbers()
    assert numbers("--since", 2, "--limit", 2) == [3, 4]
    assert numbers("--since", whole[-1]) == []
    of_step = numbers("--step", "suggest")
    assert of_step == whole[1:-1]
    assert numbers("--step", "sugg") == []
    assert 0 < len(numbers("--step", "suggest/turn[0]")) < len(of_step)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("agent/cook",), "a Agent has no journal; Runs have: kastra history run/NAME"),
        (("run/none",), 'runs.mastra.ai "none" not found'),
        (("first", "--limit", "0"), "--limit"),
    ],
)
def test_what_has_no_journal_is_named(kitchen: Kastra, arguments: tuple[str, ...], says: str) -> None:
    result = kitchen("history", *arguments, "-n", "kitchen")
    assert result.code != 0
    assert says in result.stderr
