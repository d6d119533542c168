"""An agent's model is told of its skills, and reads those that it needs; what was read is journaled and not read again."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from kastra.agent.services import AgentServices
from kastra.engine.step import StepError

from .recording import Crash, Journal, Recording
from .test_guards import agent, run, use

TOLD = {"reply": "${{ messages[0].content }}"}
TOOLS = {"reply": "${{ tools }}"}
SEARCH = {"input": [use("skill-search", search={"topK": 2})]}


def write(project: Path, name: str, description: str, body: str, **files: str) -> None:
    folder = project / "skills" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SKILL.md").write_text(f"---\nname: {name}\ndescription: {description}\n---\n{body}\n")
    for file, text in files.items():
        (folder / file).write_text(text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(
        tmp_path, "refunds", "How customers get their money back.", "Ask for the invoice first.", forms="Form 7\nForm 8"
    )
    write(tmp_path, "greeting", "How to greet.", "Say moin.")
    return tmp_path


@pytest.fixture
async def able(services: AgentServices, project: Path) -> AsyncIterator[AgentServices]:
    async def config_maps(namespace: str, name: str) -> Mapping[str, str]:
        if name != "tone":
            raise LookupError(f"ConfigMap {namespace}/{name} does not exist")
        return {"SKILL.md": "---\nname: tone\ndescription: How to sound.\n---\nBe brief."}

    yield replace(services, folder=project, config_maps=config_maps)


def skilled(*rules: Any, skills: Any = ({"file": "skills"},), **spec: Any) -> Any:
    return agent(*rules, skills=list(skills), **spec)


def calls(*asked: tuple[str, dict[str, Any]], reply: str = "${{ results }}") -> list[dict[str, Any]]:
    return [
        {"when": "turn == 0", "call": [{"tool": tool, "arguments": arguments} for tool, arguments in asked]},
        {"reply": reply},
    ]


async def test_the_model_is_told_names_and_descriptions_and_no_instructions(able: AgentServices) -> None:
    step = Recording()
    said = await run(able, skilled(TOLD, skills=[{"file": "skills"}, {"configMap": {"name": "tone"}}]), "hi", step)
    assert said.startswith("Be kind to everybody you meet today.\n\nSkills are instructions")
    assert said.endswith(
        "\n- greeting: How to greet.\n- refunds: How customers get their money back.\n- tone: How to sound."
    )
    assert step.journal.performed == ["skills", "turn[0]"]
    assert await run(able, skilled(TOOLS), "hi") == '["skill","skill_read"]'


async def test_it_reads_a_skill_and_its_files_by_tools(able: AgentServices) -> None:
    step = Recording()
    rules = calls(
        ("skill", {"name": "refunds"}),
        ("skill_read", {"skillName": "refunds", "path": "forms", "startLine": 2}),
        ("skill", {"name": "tone"}),
    )
    both = [{"file": "skills"}, {"configMap": {"name": "tone"}}]
    found = orjson.loads(await run(able, skilled(*rules, skills=both), "money back", step))
    assert found == [
        "Ask for the invoice first.\n\nFiles of the skill refunds, for skill_read:\n- forms",
        "forms (lines 2-2 of 2)\nForm 8",
        "Be brief.",
    ]
    options = step.journal.options["turn[0]/tool[0]"]
    assert (options.kind, options.describe) == ("tool", {"tool": "skill", "arguments": {"name": "refunds"}})


async def test_what_cannot_be_read_is_told_to_the_model(able: AgentServices) -> None:
    rules = calls(
        ("skill", {"name": "refund"}),
        ("skill_read", {"skillName": "refunds", "path": "../greeting/SKILL.md"}),
        ("skill_read", {"skillName": "refunds"}),
        ("skill", {"name": ["refunds"]}),
    )
    found = [one["error"] for one in orjson.loads(await run(able, skilled(*rules), "x"))]
    assert [one["type"] for one in found] == ["not_found", "validation", "validation", "validation"]
    assert "there is no skill 'refund'; there are: greeting, refunds" in found[0]["title"]
    assert "'..' is not allowed" in found[1]["title"]
    assert "arguments of skill_read" in found[2]["title"]


async def test_a_changed_file_is_used_by_the_next_call(able: AgentServices, project: Path) -> None:
    made = skilled(*calls(("skill", {"name": "greeting"})))
    assert orjson.loads(await run(able, made, "x")) == ["Say moin."]
    write(project, "greeting", "How to greet.", "Say servus.")
    assert orjson.loads(await run(able, made, "x")) == ["Say servus."]
    write(project, "new", "Something new.", "New.")
    assert "- new: Something new." in await run(able, skilled(TOLD), "x")


@pytest.mark.parametrize("lost", [1, 2, 3], ids=["after-the-list", "after-the-turn", "after-the-skill"])
async def test_a_run_that_is_taken_up_again_goes_on_with_what_it_read(
    able: AgentServices, project: Path, lost: int
) -> None:
    made = skilled(*calls(("skill", {"name": "greeting"}), reply="${{ messages[0].content }} ${{ results }}"))
    step = Recording(Journal(lose_after=lost))
    with pytest.raises(Crash):
        await run(able, made, "x", step)
    write(project, "greeting", "Changed.", "Changed.")
    again = Recording(step.journal.survivor())
    said = await run(able, made, "x", again)
    assert "- greeting: How to greet." in said
    assert ("Say moin." in said) == (lost == 3), "what was read before is not read anew"
    assert [key for key in again.journal.performed if key in step.journal.performed] == []


async def test_a_skill_that_cannot_be_read_ends_the_answer_before_a_model_is_asked(
    able: AgentServices, project: Path
) -> None:
    (project / "skills/greeting/SKILL.md").write_text("---\nname: hello\ndescription: x\n---\nx")
    step = Recording()
    with pytest.raises(StepError, match=r"skills/greeting/SKILL.md:2:7: name: must be that of the folder") as failed:
        await run(able, skilled(TOLD), "x", step)
    assert (failed.value.type, failed.value.retryable) == ("validation", False)
    assert step.journal.performed == ["skills"]
    with pytest.raises(StepError, match="ConfigMap default/gone does not exist"):
        await run(able, skilled(TOLD, skills=[{"configMap": {"name": "gone"}}]), "x")


async def test_a_skill_that_breaks_between_the_list_and_the_reading_fails_the_call_of_the_tool(
    able: AgentServices, project: Path
) -> None:
    made = skilled(*calls(("skill", {"name": "greeting"})))
    step = Recording(Journal(lose_after=2))
    with pytest.raises(Crash):
        await run(able, made, "x", step)
    (project / "skills/greeting/SKILL.md").write_text("half")
    [found] = orjson.loads(await run(able, made, "x", Recording(step.journal.survivor())))
    assert "SKILL.md:1:1: there is no front matter" in found["error"]["title"]


async def test_skills_and_conversation_are_kept_apart_for_processors(able: AgentServices) -> None:
    scrub = {"output": [use("system-prompt-scrubber")]}
    rule = {"reply": "I know how customers get their money back."}
    assert await run(able, skilled(rule, processors=scrub), "x") == rule["reply"]
    filtered = {"guardrails": [use("regex-filter", rules=["invoice"], phase="input")]}
    with pytest.raises(StepError, match="regex-filter found"):
        await run(able, skilled(*calls(("skill", {"name": "refunds"})), **filtered), "x")


async def test_a_run_that_was_begun_when_skills_were_names_without_effect_goes_on(able: AgentServices) -> None:
    step = Recording()
    assert (
        await run(able, skilled(TOLD, skills=[{"name": "refunds"}]), "x", step)
        == "Be kind to everybody you meet today."
    )
    assert step.journal.performed == ["turn[0]"]


async def test_people_can_be_asked_before_a_skill_is_read(able: AgentServices) -> None:
    made = skilled(*calls(("skill", {"name": "greeting"})), approval={"tools": ["skill"]})
    with pytest.raises(StepError) as refused:
        await run(able, made, "x")
    assert refused.value.type == "authorization"


async def test_a_tool_of_the_agent_may_not_hide_one_for_skills(able: AgentServices) -> None:
    with pytest.raises(StepError, match=r"spec.skills adds a tool skill_read, and there is one already"):
        await run(able, skilled(tools=[("skill_read", "def skill_read() -> str:\n    return 'x'")]), "x")


# --- skill-search -------------------------------------------------------------------------------------------------


async def test_with_skill_search_nothing_is_listed_and_skills_are_found_by_words(able: AgentServices) -> None:
    said = await run(able, skilled(TOLD, processors=SEARCH), "x")
    assert "call search_skills" in said
    assert "refunds" not in said
    assert await run(able, skilled(TOOLS, processors=SEARCH), "x") == '["search_skills","load_skill","skill_read"]'
    rules = [
        {"when": "turn == 0", "call": {"tool": "search_skills", "arguments": {"query": "invoices of a customer"}}},
        {"when": "turn == 1", "call": {"tool": "load_skill", "arguments": {"skillName": "refunds"}}},
        {"reply": "${{ results }}"},
    ]
    step = Recording()
    found, loaded = orjson.loads(await run(able, skilled(*rules, processors=SEARCH), "x", step))
    assert found == {"skills": [{"name": "refunds", "description": "How customers get their money back."}]}
    assert loaded.startswith("Ask for the invoice first.")
    assert step.journal.values["skills"] == {"count": 2}


async def test_a_search_gives_the_best_few_and_finding_nothing_is_no_error(able: AgentServices, project: Path) -> None:
    for number in range(120):
        write(project, f"how-{number}", "How to do something.", "Do.")
    rules = calls(
        ("search_skills", {"query": "how"}), ("search_skills", {"query": "zzz"}), ("load_skill", {"skillName": "x"})
    )
    few, none, unknown = orjson.loads(await run(able, skilled(*rules, processors=SEARCH), "x"))
    assert len(few["skills"]) == 2
    assert none == {"skills": []}
    assert "there is no skill 'x'" in unknown["error"]["title"]
    with pytest.raises(StepError, match="more than 100 skills; use the processor skill-search"):
        await run(able, skilled(TOLD), "x")


async def test_tools_that_are_hidden_leave_the_tools_for_skills_in_sight(able: AgentServices) -> None:
    both = {"input": [*SEARCH["input"], use("tool-search")]}
    made = skilled(TOOLS, tools=[("weather", "def weather() -> str:\n    return 'x'")], processors=both)
    assert orjson.loads(await run(able, made, "x")) == [
        "search_tools", "load_tool", "search_skills", "load_skill", "skill_read",
    ]  # fmt: skip
