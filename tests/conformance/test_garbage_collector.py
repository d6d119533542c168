"""Garbage collection: what becomes of dependents when their owner is deleted, in each of the ways to ask for it.

Kubernetes' tests wait half a minute to see that nothing is deleted that should stay. Here a pair of an owner and a dependent
that is deleted in the background afterwards tells that the collector has been through what came before.
"""

from collections.abc import Iterable

import pytest

from .api import Api, Json

FINALIZER = "e2e.example.com/hold"


class Objects:
    """Owners and dependents in a namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self._base = f"/apis/mastra.ai/v1/namespaces/{namespace}"

    def path(self, obj: Json) -> str:
        return f"{self._base}/{obj['kind'].lower()}s/{obj['metadata']['name']}"

    def _create(self, kind: str, name: str, spec: Json, owners: Iterable[Json], finalizers: Iterable[str] = ()) -> Json:
        metadata = {"name": name, "ownerReferences": list(owners), "finalizers": list(finalizers)}
        obj = {"apiVersion": "mastra.ai/v1", "kind": kind, "metadata": metadata, "spec": spec}
        made: Json = self.api.create(f"{self._base}/{kind.lower()}s", obj)
        return made

    def agent(self, name: str, *owners: Json) -> Json:
        return self._create("Agent", name, {"description": "Waits.", "instructions": "You wait."}, owners)

    def workflow(self, name: str) -> Json:
        steps = [{"id": "only", "set": {"done": True}}]
        return self._create("Workflow", name, {"steps": steps}, ())

    def run(self, name: str, *owners: Json, finalizers: Iterable[str] = ()) -> Json:
        return self._create("Run", name, {"target": {"kind": "Workflow", "name": "not-there"}}, owners, finalizers)

    def runs(self, count: int, *owners: Json) -> list[Json]:
        return [self.run(f"run-{number}", *owners) for number in range(count)]

    def delete(self, obj: Json, policy: str) -> None:
        options = {"propagationPolicy": policy, "preconditions": {"uid": obj["metadata"]["uid"]}}
        self.api.delete(self.path(obj), options)

    def until_gone(self, *objects: Json) -> None:
        for obj in objects:
            self.api.until_gone(self.path(obj))

    def until_collector_was_there(self) -> None:
        """A pair that is created now is deleted now."""
        owner = self.agent("late-owner")
        dependent = self.run("late-run", controlled_by(owner))
        self.delete(owner, "Background")
        self.until_gone(owner, dependent)

    def metadata(self, obj: Json) -> Json:
        found: Json = self.api.get(self.path(obj))["metadata"]
        return found


def controlled_by(owner: Json) -> Json:
    return {**owned_by(owner), "controller": True}


def owned_by(owner: Json) -> Json:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": True,
    }


@pytest.fixture
def objects(api: Api, namespace: str) -> Objects:
    return Objects(api, namespace)


@pytest.mark.conformance(
    "[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning [Conformance]"
)
def test_dependents_go_after_their_owner(objects: Objects) -> None:
    owner = objects.agent("owner")
    runs = objects.runs(2, controlled_by(owner))
    objects.delete(owner, "Background")
    objects.until_gone(owner, *runs)


@pytest.mark.conformance(
    "[sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning [Conformance]"
)
def test_dependents_of_dependents_go_too(objects: Objects) -> None:
    workflow = objects.workflow("deployment")
    agent = objects.agent("replicas", controlled_by(workflow))
    runs = objects.runs(2, controlled_by(agent))
    objects.delete(workflow, "Background")
    objects.until_gone(workflow, agent, *runs)


@pytest.mark.conformance(
    "[sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so [Conformance]"
)
def test_orphaned_dependents_stay_and_forget_their_owner(objects: Objects) -> None:
    owner = objects.agent("owner")
    runs = objects.runs(10, controlled_by(owner))
    objects.delete(owner, "Orphan")
    objects.until_gone(owner)
    objects.until_collector_was_there()
    for run in runs:
        metadata = objects.metadata(run)
        assert "ownerReferences" not in metadata
        assert "deletionTimestamp" not in metadata


@pytest.mark.conformance(
    "[sig-api-machinery] Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is "
    "Orphan [Conformance]"
)
def test_an_orphaned_dependent_keeps_its_own_dependents(objects: Objects) -> None:
    workflow = objects.workflow("deployment")
    agent = objects.agent("replicas", controlled_by(workflow))
    runs = objects.runs(2, controlled_by(agent))
    objects.delete(workflow, "Orphan")
    objects.until_gone(workflow)
    objects.until_collector_was_there()
    assert not any(owner.get("controller") for owner in objects.metadata(agent).get("ownerReferences", ()))
    for run in runs:
        assert objects.metadata(run)["ownerReferences"] == [controlled_by(agent)]


@pytest.mark.conformance(
    "[sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions "
    "says so [Conformance]"
)
def test_an_owner_that_is_deleted_in_the_foreground_waits_for_its_dependents(objects: Objects) -> None:
    owner = objects.agent("owner")
    runs = objects.runs(10, controlled_by(owner))
    held = objects.run("held", controlled_by(owner), finalizers=[FINALIZER])
    objects.delete(owner, "Foreground")
    objects.until_gone(*runs)
    objects.api.until(objects.path(held), lambda run: run is not None and "deletionTimestamp" in run["metadata"])
    waiting = objects.metadata(owner)
    assert waiting["deletionTimestamp"]
    assert waiting["finalizers"] == ["foregroundDeletion"]

    kept = [name for name in objects.metadata(held)["finalizers"] if name != FINALIZER]
    objects.api.patch(objects.path(held), {"metadata": {"finalizers": kept or None}})
    objects.until_gone(owner)
    assert not objects.api.exists(objects.path(held))


@pytest.mark.conformance(
    "[sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's waiting "
    "for dependents to be deleted [Conformance]"
)
def test_dependents_that_have_another_owner_stay(objects: Objects) -> None:
    waiting, valid = objects.agent("to-be-deleted"), objects.agent("to-stay")
    mine = [objects.run(f"mine-{number}", controlled_by(waiting)) for number in range(5)]
    shared = [objects.run(f"shared-{number}", controlled_by(waiting), owned_by(valid)) for number in range(5)]
    objects.delete(waiting, "Foreground")
    objects.until_gone(*mine, waiting)
    objects.until_collector_was_there()
    assert "deletionTimestamp" not in objects.metadata(valid)
    for run in shared:
        metadata = objects.metadata(run)
        assert "deletionTimestamp" not in metadata
        assert metadata["ownerReferences"] == [owned_by(valid)]


@pytest.mark.conformance(
    "[sig-api-machinery] Garbage collector should not be blocked by dependency circle [Conformance]"
)
def test_a_circle_of_owners_goes_as_a_whole(objects: Objects) -> None:
    first, second, third = (objects.run(f"pod{number}") for number in "123")
    for dependent, owner in ((first, third), (second, first), (third, second)):
        patch = {"metadata": {"ownerReferences": [controlled_by(owner)]}}
        assert objects.api.patch(objects.path(dependent), patch)["metadata"]["ownerReferences"] == [
            controlled_by(owner)
        ]
    objects.delete(first, "Foreground")
    objects.until_gone(first, second, third)
