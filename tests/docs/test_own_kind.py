"""The page 'Your own kind in ten minutes' keeps its promises: few commands, and nothing is touched but the new project."""

from .pages import ROOT, blocks_of, commands

PAGE = ROOT / "docs" / "tutorial-own-kind.md"
RUN = [block for block in blocks_of(PAGE) if "no-run" not in block.words]


def test_a_custom_object_is_ready_after_at_most_ten_commands_and_all_of_the_page_takes_no_more() -> None:
    given = [
        (command, output) for block in RUN if block.language == "console" for command, output in commands(block.text)
    ]
    ready = next(index for index, (_, output) in enumerate(given) if "Glossary                   coffee" in output)
    assert ready < 10
    assert len(given) <= 10
    assert "True    Ready" in given[ready][1]


def test_nothing_is_edited_outside_of_the_new_project() -> None:
    entered = next(index for index, block in enumerate(RUN) if "$ cd shelf\n" in block.text)
    edited = [(index, block.option("file")) for index, block in enumerate(RUN) if block.option("file")]
    assert edited
    assert all(index > entered and not name.startswith(("/", "..")) for index, name in edited)


def test_every_file_that_is_edited_was_made_by_the_commands_before() -> None:
    made = "".join(block.text for block in RUN if block.language == "console")
    assert [block.option("file") for block in RUN if block.option("file") and block.option("file") not in made] == []
