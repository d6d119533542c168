"""Whatever is written in the settings of a processor, what is wrong with it is said with its place."""

from typing import Any

import pytest

from kastra.agent.processors.catalogue import declare

MODEL = {"provider": "scripted"}
QUESTIONS = {"rude": {"type": "boolean", "criteria": {"true": "It insults somebody"}}}
CHOICES = [{"model": MODEL, "criteria": "short"}, {"model": MODEL, "criteria": "long", "name": True}]


@pytest.mark.parametrize(
    ("id_", "config", "place"),
    [
        ("pii-detector", {"types": [["email"]]}, "types"),
        ("pii-detector", {"types": [{}]}, "types"),
        ("regex-filter", {"presets": [[]]}, "presets[0]"),
        ("regex-filter", {"presets": [{}]}, "presets[0]"),
        ("classifier", {"model": MODEL, "questions": QUESTIONS, "blockIf": {"question": []}}, "blockIf.question"),
        ("classifier", {"model": MODEL, "questions": QUESTIONS, "blockIf": {"question": {}}}, "blockIf.question"),
        (
            "classifier",
            {"model": MODEL, "questions": QUESTIONS, "blockUnless": {"question": "rude", "probability": 5}},
            "blockUnless.probability",
        ),
        ("model-selection", {"model": MODEL, "choices": CHOICES}, "choices[1].name"),
        ("tool-search", {"search": {"topK": 0}}, "search.topK"),
        ("token-cost-control", {"limits": {"maxTotalTokens": "many"}}, "limits.maxTotalTokens"),
        ("token-cost-control", {"limits": {"maxCost": 0}}, "limits.maxCost"),
    ],
    ids=range(11),
)
def test_a_setting_of_a_wrong_shape_is_refused_where_it_stands(id_: str, config: dict[str, Any], place: str) -> None:
    with pytest.raises(ValueError) as caught:
        declare({"id": id_, "config": config}, "spec.processors.input[0]", "input")
    assert str(caught.value).startswith(f"spec.processors.input[0].config.{place}: ")
