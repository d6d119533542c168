"""Namespaces apart, the built-in kinds behave as in Kubernetes where they differ from custom ones."""

import base64
from typing import Any

import pytest

from kastra.api.errors import BadRequest, Invalid
from kastra.api.meta import ObjectRef
from kastra.client.interface import WriteOptions
from kastra.store.interface import Key


def core(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


def rbac(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, **fields}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def fields_refused(client, obj: dict[str, Any]) -> set[str]:
    with pytest.raises(Invalid) as refused:
        await client.create(obj)
    return {cause.field for cause in refused.value.causes}


async def test_every_kind_is_found_by_the_names_kubectl_knows(client) -> None:
    for name, kind in {
        "ns": "Namespace",
        "cm": "ConfigMap",
        "secrets": "Secret",
        "ev": "Event",
        "lease": "Lease",
        "sa": "ServiceAccount",
        "crd": "CustomResourceDefinition",
        "crds": "CustomResourceDefinition",
        "role": "Role",
        "clusterrolebindings": "ClusterRoleBinding",
    }.items():
        assert client.scheme.find(name).kind == kind


class TestSecrets:
    async def test_plain_strings_become_base64_and_are_not_kept(self, client) -> None:
        made = await client.create(core("Secret", "s", data={"a": b64("1")}, stringData={"b": "2"}))
        assert made.data["data"] == {"a": b64("1"), "b": b64("2")}
        assert made.data["type"] == "Opaque"
        assert "stringData" not in made.data
        changed = await client.patch(made.ref, {"stringData": {"a": "3"}})
        assert changed.data["data"] == {"a": b64("3"), "b": b64("2")}

    async def test_what_is_not_base64_is_refused_without_being_quoted(self, client) -> None:
        with pytest.raises(BadRequest, match="illegal base64 data") as refused:
            await client.create(core("Secret", "s", data={"a": "hunter2!"}))
        assert "hunter2" not in str(refused.value)

    async def test_the_type_is_for_good(self, client) -> None:
        made = await client.create(core("Secret", "s"))
        with pytest.raises(Invalid, match=r"type: .*field is immutable"):
            await client.patch(made.ref, {"type": "example.com/other"})

    async def test_an_immutable_one_stays_as_it_is(self, client) -> None:
        made = await client.create(core("Secret", "s", stringData={"a": "1"}, immutable=True))
        for patch in ({"stringData": {"a": "2"}}, {"immutable": False}):
            with pytest.raises(Invalid, match="field is immutable when `immutable` is set"):
                await client.patch(made.ref, patch)
        assert (await client.patch(made.ref, {"metadata": {"labels": {"x": "y"}}})).labels == {"x": "y"}

    async def test_well_known_types_need_their_keys(self, client) -> None:
        incomplete = core("Secret", "s", type="kubernetes.io/tls", stringData={"tls.crt": "x"})
        assert await fields_refused(client, incomplete) == {"data[tls.key]"}

    async def test_they_can_be_selected_by_type(self, client) -> None:
        await client.create(core("Secret", "a"))
        await client.create(core("Secret", "b", type="example.com/x"))
        listed = await client.list("secrets", field_selector="type=example.com/x")
        assert [obj.name for obj in listed.items] == ["b"]


class TestConfigMaps:
    @pytest.mark.parametrize("key", ["", "a/b", "..", "..data"])
    async def test_keys_are_file_names(self, client, key: str) -> None:
        assert await fields_refused(client, core("ConfigMap", "c", data={key: "x"})) == {f"data[{key}]"}

    async def test_a_key_is_text_or_bytes(self, client) -> None:
        both = core("ConfigMap", "c", data={"a": "x"}, binaryData={"a": b64("x")})
        assert await fields_refused(client, both) == {"data[a]"}

    async def test_values_are_strings(self, client) -> None:
        assert await fields_refused(client, core("ConfigMap", "c", data={"a": 1})) == {"data[a]"}

    async def test_size_is_limited(self, client) -> None:
        with pytest.raises(Invalid, match="may not be more than 1048576 bytes"):
            await client.create(core("ConfigMap", "c", data={"a": "x" * 1_048_577}))

    async def test_immutable_ones_stay(self, client) -> None:
        made = await client.create(core("ConfigMap", "c", data={"a": "1"}, immutable=True))
        with pytest.raises(Invalid) as refused:
            await client.patch(made.ref, {"data": {"a": "2"}})
        assert [cause.field for cause in refused.value.causes] == ["data"]

    async def test_unknown_fields_are_found(self, client) -> None:
        with pytest.raises(
            BadRequest, match=r'ConfigMap in version "v1" .* strict decoding error: unknown field "bogus"'
        ):
            await client.create(core("ConfigMap", "c", bogus=1), WriteOptions(field_validation="Strict"))


class TestEvents:
    def event(self, namespace: str = "default", **fields: Any) -> dict[str, Any]:
        involved = {"kind": "Agent", "name": "a", "namespace": namespace, "uid": "u-1"}
        return core("Event", "e", involvedObject=involved, reason="Resolved", message="ok", type="Normal", **fields)

    async def test_they_expire_an_hour_after_their_last_write(self, plane, client) -> None:
        made = await client.create(self.event())
        key = Key("events", "default", "e")
        first = plane.store.get(key).expires_at
        assert first == (plane.clock.now().timestamp() + 3600) * 1000
        await plane.clock.advance(600)
        await client.patch(made.ref, {"count": 2})
        assert plane.store.get(key).expires_at == first + 600_000

    async def test_they_are_in_the_namespace_of_what_they_speak_of(self, client) -> None:
        assert await fields_refused(client, self.event(namespace="other")) == {"involvedObject.namespace"}

    async def test_they_are_found_by_what_they_speak_of(self, client) -> None:
        await client.create(self.event(source={"component": "tester"}))
        for selector in ("involvedObject.uid=u-1", "involvedObject.kind=Agent,reason=Resolved", "source=tester"):
            assert len((await client.list("events", field_selector=selector)).items) == 1
        assert not (await client.list("events", field_selector="involvedObject.uid=u-2")).items


class TestLeases:
    async def test_durations_are_positive(self, client) -> None:
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}}
        assert await client.create(lease | {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 15}})
        lease = lease | {"metadata": {"name": "m"}, "spec": {"leaseDurationSeconds": 0}}
        assert await fields_refused(client, lease) == {"spec.leaseDurationSeconds"}


class TestRBAC:
    async def test_names_are_free(self, client) -> None:
        assert await client.create(rbac("ClusterRole", "system:admin", rules=[]))
        assert await fields_refused(client, rbac("ClusterRole", "a/b", rules=[])) == {"metadata.name"}

    @pytest.mark.parametrize(
        ("rule", "fields"),
        [
            ({"verbs": [], "apiGroups": [""], "resources": ["pods"]}, {"rules[0].verbs"}),
            ({"verbs": ["get"]}, {"rules[0].apiGroups", "rules[0].resources"}),
            ({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}, {"rules[0].nonResourceURLs"}),
        ],
    )
    async def test_rules_say_what_on_what(self, client, rule: dict[str, Any], fields: set[str]) -> None:
        assert await fields_refused(client, rbac("Role", "r", rules=[rule])) == fields

    async def test_api_groups_of_bindings_are_filled_in(self, client) -> None:
        made = await client.create(
            rbac(
                "RoleBinding",
                "b",
                roleRef={"kind": "Role", "name": "r"},
                subjects=[
                    {"kind": "User", "name": "u"},
                    {"kind": "ServiceAccount", "name": "s", "namespace": "default"},
                ],
            )
        )
        assert made.data["roleRef"]["apiGroup"] == "rbac.authorization.k8s.io"
        assert [subject.get("apiGroup") for subject in made.data["subjects"]] == ["rbac.authorization.k8s.io", None]

    async def test_bindings_are_checked(self, client) -> None:
        wrong = rbac(
            "ClusterRoleBinding",
            "b",
            roleRef={"kind": "Role", "name": "r"},
            subjects=[{"kind": "Robot", "name": "x"}, {"kind": "ServiceAccount", "name": "s"}],
        )
        assert await fields_refused(client, wrong) == {"roleRef.kind", "subjects[0].kind", "subjects[1].namespace"}

    async def test_the_role_of_a_binding_is_for_good(self, client) -> None:
        made = await client.create(rbac("RoleBinding", "b", roleRef={"kind": "Role", "name": "r"}))
        with pytest.raises(Invalid, match="roleRef: Invalid value: cannot change roleRef"):
            await client.patch(made.ref, {"roleRef": {"name": "other"}})


class TestColumns:
    """Cells that no JSONPath can tell."""

    def cells(self, plane, client, obj) -> list[Any]:
        resource = client.scheme.for_kind(obj.api_version, obj.kind)
        found = plane.server.registry.served(resource).strategy.cells(obj.data)
        assert len(found) == len(resource.columns)
        return list(found)

    async def test_secrets_show_type_and_number_of_keys(self, plane, client) -> None:
        made = await client.create(core("Secret", "s", stringData={"a": "1", "b": "2"}))
        assert self.cells(plane, client, made) == ["Opaque", 2, "2026-01-01T00:00:00Z"]

    async def test_config_maps_show_the_number_of_keys(self, plane, client) -> None:
        made = await client.create(core("ConfigMap", "c", data={"a": "1"}, binaryData={"b": b64("2")}))
        assert self.cells(plane, client, made)[0] == 2

    async def test_events_show_what_happened_to_what(self, plane, client) -> None:
        made = await client.create(TestEvents().event(lastTimestamp="2026-01-01T00:00:05Z", count=3))
        assert self.cells(plane, client, made) == [
            "2026-01-01T00:00:05Z", "Normal", "Resolved", "agent/a", "", "", "ok", "2026-01-01T00:00:00Z", 3, "e",
        ]  # fmt: skip

    async def test_bindings_show_role_and_subjects(self, plane, client) -> None:
        made = await client.create(
            rbac(
                "RoleBinding",
                "b",
                roleRef={"kind": "ClusterRole", "name": "view"},
                subjects=[
                    {"kind": "User", "name": "u"},
                    {"kind": "ServiceAccount", "name": "s", "namespace": "default"},
                ],
            )
        )
        assert self.cells(plane, client, made) == ["ClusterRole/view", "2026-01-01T00:00:00Z", "u", "", "default/s"]

    async def test_service_accounts_show_their_secrets(self, plane, client) -> None:
        made = await client.create(core("ServiceAccount", "s", secrets=[{"name": "a"}]))
        assert self.cells(plane, client, made)[0] == 1


async def test_strategic_merge_knows_the_keys_of_lists(client) -> None:
    from kastra.client.interface import PatchType

    made = await client.create(core("ServiceAccount", "s", secrets=[{"name": "a"}]))
    patched = await client.patch(made.ref, {"secrets": [{"name": "b"}]}, PatchType.STRATEGIC)
    assert [secret["name"] for secret in patched.data["secrets"]] == ["a", "b"]
    assert await client.get(ObjectRef("sa", "s", "default")) == patched
