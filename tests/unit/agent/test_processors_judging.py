"""Models that judge: languages are detected and translated, questions of one's own decide; a verdict is journaled like any call."""

from typing import Any

import pytest

from kastra.agent.services import AgentServices
from kastra.engine.step import StepError

from .recording import Journal, Recording, scripted
from .test_guards import agent, run, use

GERMAN = "Wie wird das Wetter morgen?"
SPEAKS = [
    {
        "when": 'messages[1].content.contains("Wetter")',
        "object": {"language": "de", "name": "German", "confidence": 0.98, "translation": "Weather tomorrow?"},
    },
    {"when": 'messages[1].content.contains("???")', "object": {"language": "fr", "confidence": 0.2}},
    {"object": {"language": "en-GB", "name": "English", "confidence": 0.9, "translation": None}},
]


def detector(**config: Any) -> dict[str, Any]:
    return use("language-detector", model=scripted(*SPEAKS), **config)


async def test_a_text_in_another_language_is_translated_before_the_model_reads_it(services: AgentServices) -> None:
    made = agent(processors={"input": [detector(strategy="translate")]})
    step = Recording()
    assert await run(services, made, GERMAN, step) == "Weather tomorrow?"
    [note] = step.journal.decisions["turn[0]/guard"]["found"]
    assert note["found"] == {"language de": 1}
    assert await run(services, made, "How will it be tomorrow?") == "How will it be tomorrow?"


async def test_a_recovered_run_reads_the_translation_that_was_made(services: AgentServices) -> None:
    made = agent(processors={"input": [detector(strategy="translate")]})
    key = "turn[0]/guard[input]/language-detector[0]"
    before = Recording()
    await run(services, made, GERMAN, before)
    value = {**before.journal.values[key]}
    value["object"] = {**value["object"], "translation": "As it was put then."}
    recovered = Recording(Journal(values={key: value}))
    assert await run(services, made, GERMAN, recovered) == "As it was put then."
    assert recovered.journal.performed == ["turn[0]"]


@pytest.mark.parametrize(
    ("strategy", "text", "noted"),
    [
        ("detect", "Hello, how are you?", {"language en-GB": 1}),
        ("detect", GERMAN, {"language de": 1}),
        ("warn", GERMAN, {"language de": 1}),
        ("warn", "Hello, how are you?", None),
        ("warn", "Is this French???", None),
        ("detect", "short", None),
    ],
)
async def test_a_language_is_noted_where_it_is_known_well_enough(
    services: AgentServices, strategy: str, text: str, noted: Any
) -> None:
    step = Recording()
    assert await run(services, agent(processors={"input": [detector(strategy=strategy)]}), text, step) == text
    decision = step.journal.decisions.get("turn[0]/guard")
    assert (None if decision is None else decision["found"][0]["found"]) == noted


async def test_other_languages_can_be_refused(services: AgentServices) -> None:
    with pytest.raises(StepError, match="language-detector found language de in the input"):
        await run(services, agent(guardrails=[detector()]), GERMAN)
    assert await run(services, agent(guardrails=[detector(targetLanguages=["German"])]), GERMAN) == GERMAN


@pytest.mark.parametrize(
    "answer",
    [{"language": "de"}, {"language": "<b>", "confidence": 1}, {"confidence": 1}, {"language": "de", "confidence": 1}],
)
async def test_an_answer_that_is_no_verdict_lets_nothing_through(services: AgentServices, answer: Any) -> None:
    judge = use("language-detector", model=scripted({"object": answer}), strategy="translate")
    with pytest.raises(StepError, match="gave no verdict") as failed:
        await run(services, agent(processors={"input": [judge]}), GERMAN)
    assert failed.value.type == "output"


TOPIC = {"topic": {"type": "choice", "criteria": {"billing": "Invoices", "other": "Anything else"}}}
RUDE = {"rude": {"type": "boolean", "criteria": {"true": "It is rude"}}}
QUALITY = {"quality": {"type": "score", "criteria": ["Off-topic", "Partial", "Complete"]}}


def classifier(answers: Any, questions: Any = None, **config: Any) -> dict[str, Any]:
    return use("classifier", model=scripted({"object": answers}), questions=questions or TOPIC, **config)


BILLING = {"blockUnless": {"question": "topic", "oneOf": ["billing"]}, "reason": "Only billing is handled here"}


async def test_a_question_of_ones_own_decides_with_a_reason_of_ones_own(services: AgentServices) -> None:
    refused = agent(processors={"input": [classifier({"topic": {"choice": "other"}}, **BILLING)]})
    step = Recording()
    with pytest.raises(StepError, match="Only billing is handled here"):
        await run(services, refused, "a poem, please", step)
    [note] = step.journal.decisions["turn[0]/guard"]["found"]
    assert (note["found"], note["answers"]) == ({"topic: other": 1}, {"topic": "other"})
    taken = agent(guardrails=[classifier({"topic": {"choice": "billing"}}, phase="input", **BILLING)])
    assert await run(services, taken, "my invoice?") == "my invoice?"


@pytest.mark.parametrize(
    ("questions", "answers", "condition", "blocked"),
    [
        (RUDE, {"rude": {"probability": 0.9}}, {"blockIf": {"question": "rude", "probability": 0.8}}, True),
        (RUDE, {"rude": {"probability": 0.7}}, {"blockIf": {"question": "rude", "probability": 0.8}}, False),
        (QUALITY, {"quality": {"score": 0}}, {"blockIf": {"question": "quality", "scoreBelow": 1}}, True),
        (QUALITY, {"quality": {"score": 2}}, {"blockIf": {"question": "quality", "scoreBelow": 1}}, False),
        (QUALITY, {"quality": {"score": 1}}, {"blockUnless": {"question": "quality", "scoreAtLeast": 2}}, True),
    ],
)
async def test_probabilities_choices_and_scores_are_held_against_limits(
    services: AgentServices, questions: Any, answers: Any, condition: Any, blocked: bool
) -> None:
    made = agent(processors={"input": [classifier(answers, questions, **condition)]})
    if blocked:
        with pytest.raises(StepError, match="classifier found"):
            await run(services, made, "hello there")
    else:
        assert await run(services, made, "hello there") == "hello there"


async def test_what_is_filtered_is_taken_out_on_either_side(services: AgentServices) -> None:
    filtered = classifier({"topic": {"choice": "other"}}, action="filter", **BILLING)
    assert await run(services, agent(processors={"input": [filtered]}), "a poem") == "[REMOVED]"
    assert await run(services, agent({"reply": "a poem"}, processors={"output": [filtered]}), "x") == "[REMOVED]"


@pytest.mark.parametrize(("strategy", "passes"), [("warn", True), ("strict", False)])
async def test_a_judge_that_cannot_be_asked_lets_a_text_through_only_where_that_is_said(
    services: AgentServices, strategy: str, passes: bool
) -> None:
    broken = scripted({"error": {"kind": "unavailable", "message": "down"}})
    judge = use("classifier", model=broken, questions=TOPIC, errorStrategy=strategy, **BILLING)
    step = Recording()
    made = agent(processors={"input": [judge]})
    if passes:
        assert await run(services, made, "hello", step) == "hello"
        assert step.journal.decisions["turn[0]/guard"]["found"][0]["problem"]["title"] == "scripted model: down"
    else:
        with pytest.raises(StepError, match="down"):
            await run(services, made, "hello", step)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"questions": TOPIC}, "config.model: is required"),
        ({"model": "x/y"}, "config.questions: must be questions by name"),
        ({"model": "x/y", "questions": TOPIC}, "config: needs blockIf or blockUnless"),
        ({"model": "x/y", "questions": {"q": {"type": "guess"}}}, "config.questions.q.type: must be one of boolean"),
        (
            {"model": "x/y", "questions": TOPIC, "blockIf": {"question": "topic", "oneOf": ["weather"]}},
            "config.blockIf.oneOf: must be a list of billing, other",
        ),
        (
            {"model": "x/y", "questions": TOPIC, "blockIf": {"question": "topic", "probability": 1}},
            "config.blockIf.probability: there is no such setting",
        ),
        (
            {"model": "x/y", "questions": TOPIC, **BILLING, "strategy": "warn"},
            "config.strategy: classifier has no such",
        ),
    ],
)
async def test_a_classifier_that_makes_no_sense_is_refused(services: AgentServices, config: Any, message: str) -> None:
    with pytest.raises(StepError) as refused:
        await run(services, agent(processors={"input": [use("classifier", **config)]}), "x")
    assert message in refused.value.message
