"""The chain runs in its order, once per write, and what it refuses is not stored."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from kastra.api.errors import Cause, Forbidden, Invalid, NotFound
from kastra.apiserver.admission import Attributes, Operation
from kastra.client.interface import WriteOptions
from tests.contract.client import WIDGETS, at, widget


@pytest.fixture(autouse=True)
async def widgets(client) -> None:
    await client.create(WIDGETS)


@pytest.fixture
def chain(plane):
    return plane.server.registry.admission


class Mutating:
    """A mutating hook that always has something to do."""

    def __init__(self, mutate: Callable[[Attributes], Awaitable[None]]) -> None:
        self._mutate = mutate

    def applies(self, attributes: Attributes) -> bool:
        return True

    async def __call__(self, attributes: Attributes) -> None:
        await self._mutate(attributes)


async def test_each_step_sees_what_the_one_before_left(chain, client) -> None:
    order: list[str] = []

    async def mutate(attributes: Attributes) -> None:
        order.append(f"mutating {attributes.object['spec']}")
        attributes.object["spec"] = {"color": "red", "bogus": 1}

    def validate(obj: Mapping[str, Any]) -> Sequence[Cause]:
        order.append(f"validate {obj['spec']}")
        return ()

    async def policy(attributes: Attributes) -> None:
        order.append("policy")

    async def validating(attributes: Attributes) -> None:
        order.append("validating")

    chain.mutating.append(Mutating(mutate))
    chain.validators[("example.com", "Widget")] = validate
    chain.policies.append(policy)
    chain.validating.append(validating)
    made = await client.create(widget("a", unknown=1))
    assert order == [
        "mutating {'size': 1}",
        "validate {'color': 'red', 'size': 1}",
        "policy",
        "validating",
    ]
    assert made.spec == {"color": "red", "size": 1}


async def test_a_hook_may_replace_the_object(chain, client) -> None:
    async def replace(attributes: Attributes) -> None:
        attributes.object = {**attributes.object, "spec": {"color": "green"}}

    chain.mutating.append(Mutating(replace))
    assert (await client.create(widget("a"))).spec == {"color": "green", "size": 1}


async def test_attributes_say_who_does_what_to_which_object(chain, plane, client) -> None:
    seen: list[tuple[Any, ...]] = []

    async def look(attributes: Attributes) -> None:
        seen.append(
            (
                attributes.operation,
                attributes.resource.plural,
                attributes.namespace,
                attributes.name,
                attributes.subresource,
                attributes.dry_run,
                attributes.user.name,
                attributes.object is not None,
                attributes.old_object is not None,
            )
        )

    chain.validating.append(look)
    await client.create(widget("a"))
    await client.patch(at("a"), {"status": {"phase": "x"}}, options=WriteOptions(dry_run=True), subresource="status")
    await client.delete(at("a"))
    who = "system:apiserver"
    assert seen == [
        (Operation.CREATE, "widgets", "default", "a", "", False, who, True, False),
        (Operation.UPDATE, "widgets", "default", "a", "status", True, who, True, True),
        (Operation.DELETE, "widgets", "default", "a", "", False, who, False, True),
    ]


async def test_what_the_kinds_validate_finds_is_told_as_causes(chain, client) -> None:
    chain.validators[("example.com", "Widget")] = lambda obj: [Cause("FieldValueInvalid", "no", "spec.color")]
    with pytest.raises(Invalid, match=r'Widget.example.com "a" is invalid: spec.color: no'):
        await client.create(widget("a"))
    with pytest.raises(NotFound):
        await client.get(at("a"))


async def test_it_is_not_asked_when_the_schema_has_refused_already(chain, client) -> None:
    asked: list[Any] = []
    chain.validators[("example.com", "Widget")] = lambda obj: asked.append(obj) or ()
    with pytest.raises(Invalid):
        await client.create(widget("a", size="big"))
    assert asked == []


async def test_stored_objects_that_it_would_refuse_today_stay_usable(chain, client) -> None:
    await client.create(widget("a"))
    chain.validators[("example.com", "Widget")] = lambda obj: [Cause("FieldValueInvalid", "no", "spec")]
    await client.patch(at("a"), {"status": {"phase": "x"}}, subresource="status")
    await client.patch(at("a"), {"metadata": {"labels": {"x": "y"}}})
    with pytest.raises(Invalid):
        await client.patch(at("a"), {"spec": {"color": "red"}})


async def test_a_refusal_of_a_policy_is_the_callers(chain, client) -> None:
    async def refuse(attributes: Attributes) -> None:
        raise Forbidden(f"{attributes.user.name} may not")

    chain.policies.append(refuse)
    with pytest.raises(Forbidden, match="system:apiserver may not"):
        await client.create(widget("a"))


async def test_a_policy_may_add_causes_instead(chain, client) -> None:
    async def complain(attributes: Attributes) -> None:
        attributes.causes.append(Cause("FieldValueForbidden", "not here", "spec.color"))

    chain.policies.append(complain)
    with pytest.raises(Invalid, match=r"spec\.color: not here"):
        await client.create(widget("a", color="red"))


async def test_a_hook_may_warn(chain, plane, client) -> None:
    async def warn(attributes: Attributes) -> None:
        attributes.call.warnings.append("mind the gap")

    chain.validating.append(warn)
    await client.create(widget("a"))
    assert plane.warnings == ["mind the gap"]


async def test_a_tightened_schema_does_not_refuse_what_an_update_leaves_alone(client) -> None:
    await client.create(widget("a", size=100))
    definition = (await client.list("crd")).items[0].to_dict()
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["size"]["maximum"] = 10
    await client.update(definition)
    assert (await client.patch(at("a"), {"spec": {"color": "red"}})).spec == {"size": 100, "color": "red"}
    with pytest.raises(Invalid, match=r"spec\.size"):
        await client.patch(at("a"), {"spec": {"size": 101}})


async def test_rules_see_old_and_new(client) -> None:
    definition = (await client.list("crd")).items[0].to_dict()
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["x-kubernetes-validations"] = [
        {"rule": "self.size >= oldSelf.size", "message": "may only grow"}
    ]
    await client.update(definition)
    await client.create(widget("a", size=3))
    assert (await client.patch(at("a"), {"spec": {"size": 4}})).spec["size"] == 4
    with pytest.raises(Invalid, match="may only grow"):
        await client.patch(at("a"), {"spec": {"size": 1}})
