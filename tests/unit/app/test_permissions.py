"""What controllers need to be allowed to do follows from what they say of themselves."""

import pytest

from kastra import Context, Result, View, controller
from kastra.api.scheme import Resource, Scheme
from kastra.app.clusters import builtin_resources
from kastra.app.permissions import roles, rules_of
from kastra.runtime import ControllerSpec


class Plate(View, kind="Plate", group="example.com"):
    pass


@controller(Plate, owns=["ConfigMap"], watches=["Secret"])
async def plates(plate: Plate, ctx: Context) -> Result:
    return ctx.ready()


@plates.finalizer()
async def wash(plate: Plate, ctx: Context) -> None:
    pass


@controller(Plate, name="bare")
async def bare(plate: Plate, ctx: Context) -> Result:
    return ctx.ready()


def scheme(*, namespaced: bool = True, has_status: bool = True) -> Scheme:
    made = Scheme()
    for resource in builtin_resources():
        made.register(resource)
    made.register(
        Resource(
            "example.com", "v1", "Plate", "plates", "plate", "PlateList", namespaced=namespaced, has_status=has_status
        )
    )
    return made


def needed(spec: ControllerSpec, **options: bool) -> dict[str, str]:
    return {rule.resource: " ".join(rule.verbs) for rule in rules_of([spec], scheme(**options))}


def test_owning_watching_and_finalizing_need_what_they_do() -> None:
    assert needed(plates) == {
        "configmaps": "create delete get list patch watch",
        "events": "create patch",
        "plates": "list patch watch",
        "plates/finalizers": "update",
        "plates/status": "patch",
        "secrets": "get list watch",
    }


def test_without_children_or_a_finalizer_reading_and_the_status_are_enough() -> None:
    assert needed(bare) == {"events": "create patch", "plates": "list watch", "plates/status": "patch"}


def test_where_the_status_is_part_of_the_object_the_object_is_patched() -> None:
    assert needed(bare, has_status=False)["plates"] == "list patch watch"


def test_a_kind_that_is_not_there_yet_needs_nothing_yet() -> None:
    empty = Scheme()
    for resource in builtin_resources():
        empty.register(resource)
    assert [rule.resource for rule in rules_of([bare], empty)] == ["events"]


@pytest.mark.parametrize(
    ("namespace", "election", "namespaced", "expected"),
    [
        ("", "ops", True, [("ClusterRole", ""), ("Role", "ops")]),
        ("", "", True, [("ClusterRole", "")]),
        ("team", "team", True, [("Role", "team")]),
        ("team", "ops", True, [("Role", "ops"), ("Role", "team")]),
        ("team", "team", False, [("ClusterRole", ""), ("Role", "team")]),
    ],
    ids=["everywhere", "no-election", "one-namespace", "election-elsewhere", "cluster-scoped-kind"],
)
def test_one_namespace_needs_no_role_beyond_it_unless_its_kinds_are_in_none(
    namespace: str, election: str, namespaced: bool, expected: list[tuple[str, str]]
) -> None:
    made = roles(rules_of([bare], scheme(namespaced=namespaced)), "plates", namespace, election)
    assert [(role["kind"], role["metadata"].get("namespace", "")) for role in made] == expected
    assert ("leases" in str(made)) == bool(election)
