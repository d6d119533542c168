"""A webhook is asked about what its rules name, may change or refuse it, and its failure is what its policy says."""

import copy
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from kastra.api.errors import BadRequest, Forbidden, InternalError, Invalid
from kastra.api.meta import ObjectRef
from kastra.client.interface import PatchType, WriteOptions
from kastra.netguard import Guard, Policy
from tests.contract.client import WIDGETS, at, widget
from tests.support.webhook_server import WebhookServer, patch, webhook_server

RULE = {"operations": ["*"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["widgets"]}


@pytest.fixture(scope="module")
def shared_hook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebhookServer]:
    with webhook_server(tmp_path_factory.mktemp("webhook")) as hook:
        yield hook


@pytest.fixture
def hook(shared_hook: WebhookServer) -> WebhookServer:
    shared_hook.requests.clear()
    shared_hook.paths.clear()
    shared_hook.answer = lambda request: {"allowed": True}
    return shared_hook


@pytest.fixture(autouse=True)
async def outbound(plane, client) -> AsyncIterator[None]:
    async with Guard(Policy(allow_private_hosts=("127.0.0.1",))) as guard:
        plane.server.registry.outbound = lambda: guard
        await client.create(WIDGETS)
        yield


def webhook(hook: WebhookServer, name: str = "a.example.com", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "clientConfig": hook.config(),
        "rules": [RULE],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }


def configuration(kind: str, *webhooks: dict[str, Any], name: str = "test") -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": list(webhooks),
    }


async def test_a_validating_webhook_refuses_with_its_own_words(hook, client) -> None:
    hook.answer = lambda request: {
        "allowed": False,
        "status": {"message": "too small", "code": 403, "reason": "Forbidden"},
    }
    await client.create(configuration("Validating", webhook(hook)))
    with pytest.raises(Forbidden, match=r'^admission webhook "a.example.com" denied the request: too small$'):
        await client.create(widget("a"))
    hook.answer = lambda request: {"allowed": False}
    with pytest.raises(BadRequest, match=r'admission webhook "a.example.com" denied the request without explanation'):
        await client.create(widget("a"))


async def test_a_review_says_who_does_what_to_which_object(hook, client) -> None:
    await client.create(configuration("Validating", webhook(hook)))
    await client.create(widget("a"), WriteOptions(dry_run=True))
    assert hook.paths == ["/?timeout=10s"]
    (request,) = hook.requests
    assert request.pop("uid")
    shown = request.pop("object")
    assert (shown["kind"], shown["spec"], shown["metadata"]["name"]) == ("Widget", {"size": 1}, "a")
    assert request == {
        "kind": {"group": "example.com", "version": "v1", "kind": "Widget"},
        "resource": {"group": "example.com", "version": "v1", "resource": "widgets"},
        "requestKind": {"group": "example.com", "version": "v1", "kind": "Widget"},
        "requestResource": {"group": "example.com", "version": "v1", "resource": "widgets"},
        "operation": "CREATE",
        "name": "a",
        "namespace": "default",
        "userInfo": {"username": "system:apiserver", "groups": ["system:masters"]},
        "oldObject": None,
        "dryRun": True,
        "options": {
            "kind": "CreateOptions",
            "apiVersion": "meta.k8s.io/v1",
            "dryRun": ["All"],
            "fieldManager": "tester",
            "fieldValidation": "Warn",
        },
    }


async def test_updates_show_both_states_and_deletions_the_last(hook, client) -> None:
    await client.create(configuration("Validating", webhook(hook)))
    made = await client.create(widget("a"))
    await client.patch(at("a"), {"spec": {"color": "red"}}, PatchType.MERGE)
    await client.delete(at("a"))
    _, changed, gone = hook.requests
    assert changed["operation"] == "UPDATE"
    assert changed["object"]["spec"] == {"size": 1, "color": "red"}
    assert changed["object"]["metadata"]["resourceVersion"] == made.resource_version
    assert changed["oldObject"]["spec"] == {"size": 1}
    assert (gone["operation"], gone["object"], gone["oldObject"]["spec"]["color"]) == ("DELETE", None, "red")


async def test_a_mutating_webhook_changes_what_is_stored_under_the_same_rules_as_everybody(hook, client) -> None:
    hook.answer = lambda request: patch(
        {"op": "add", "path": "/spec/color", "value": "red"},
        {"op": "add", "path": "/spec/bogus", "value": 1},
        {"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}},
        {"op": "replace", "path": "/metadata/uid", "value": "mine"},
        {"op": "replace", "path": "/metadata/name", "value": "b"},
    )
    await client.create(configuration("Mutating", webhook(hook)))
    made = await client.create(widget("a"))
    assert (made.name, made.spec, made.labels) == ("a", {"color": "red", "size": 1}, {"seen": "yes"})
    assert made.uid != "mine"
    hook.answer = lambda request: patch({"op": "add", "path": "/spec/size", "value": "large"})
    with pytest.raises(Invalid, match=r"spec.size"):
        await client.create(widget("b"))
    hook.answer = lambda request: patch({"op": "add", "path": "/metadata/labels", "value": {"a b": "c"}})
    with pytest.raises(Invalid, match=r"metadata.labels"):
        await client.create(widget("b"))


async def test_a_write_to_status_stays_one_whatever_a_webhook_adds(hook, client) -> None:
    await client.create(widget("a"))
    hook.answer = lambda request: patch(
        {"op": "add", "path": "/spec/color", "value": "red"}, {"op": "add", "path": "/status/ready", "value": True}
    )
    rule = RULE | {"resources": ["widgets/status"]}
    await client.create(configuration("Mutating", webhook(hook, rules=[rule])))
    stored = await client.patch(at("a"), {"status": {"phase": "x"}}, PatchType.MERGE, subresource="status")
    assert stored.spec == {"size": 1}
    assert [request["subResource"] for request in hook.requests] == ["status"]


async def test_mutating_webhooks_come_in_order_and_once_more_where_they_ask_for_it(hook, client) -> None:
    seen: list[tuple[str, str]] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        path = hook.paths[-1].partition("?")[0]
        color = request["object"]["spec"].get("color", "")
        seen.append((path, color))
        return patch({"op": "add", "path": "/spec/color", "value": "green" if path == "/second" else color or "red"})

    hook.answer = answer
    first = webhook(hook, clientConfig=hook.config("/first"), reinvocationPolicy="IfNeeded")
    second = webhook(hook, "b.example.com", clientConfig=hook.config("/second"))
    await client.create(configuration("Mutating", second, name="z"))
    await client.create(configuration("Mutating", first, name="a"))
    assert (await client.create(widget("a"))).spec["color"] == "green"
    assert seen == [("/first", ""), ("/second", "red"), ("/first", "green")]


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        ({}, True),
        ({"operations": ["UPDATE"]}, False),
        ({"apiGroups": ["*"], "resources": ["*"]}, True),
        ({"apiGroups": [""]}, False),
        ({"apiVersions": ["v2"]}, False),
        ({"resources": ["widgets/status"]}, False),
        ({"resources": ["*/*"]}, True),
        ({"scope": "Cluster"}, False),
        ({"scope": "Namespaced"}, True),
    ],
    ids=["exact", "operation", "stars", "group", "version", "subresource", "everything", "cluster", "namespaced"],
)  # fmt: skip
async def test_rules_say_what_concerns_a_webhook(hook, client, rule: dict[str, Any], asked: bool) -> None:
    await client.create(configuration("Validating", webhook(hook, rules=[RULE | rule])))
    await client.create(widget("a"))
    assert bool(hook.requests) is asked


async def test_selectors_narrow_by_labels_of_the_object_and_of_its_namespace(hook, client) -> None:
    selectors = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
        "objectSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]},
    }
    await client.create(configuration("Validating", webhook(hook, **selectors)))
    await client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    await client.create(widget("a"))
    await client.create(labelled("b"))
    await client.create(labelled("c", namespace="other"))
    assert [request["name"] for request in hook.requests] == ["b"]


def labelled(name: str, **metadata: str) -> dict[str, Any]:
    obj = widget(name)
    obj["metadata"] |= {"labels": {"team": "x"}, **metadata}
    return obj


async def test_conditions_settle_whether_to_ask(hook, client) -> None:
    conditions = [
        {"name": "big", "expression": "object.spec.size > 5"},
        {"name": "not-a-node", "expression": "!('system:nodes' in request.userInfo.groups)"},
        {"name": "may", "expression": "authorizer.group('').resource('secrets').check('get').allowed()"},
    ]
    await client.create(configuration("Validating", webhook(hook, matchConditions=conditions)))
    await client.create(widget("small", size=1))
    await client.create(widget("big", size=9))
    assert [request["name"] for request in hook.requests] == ["big"]


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
async def test_a_condition_that_fails_counts_as_the_failure_policy_says(hook, client, policy: str) -> None:
    conditions = [{"name": "odd", "expression": "object.spec.nothing.here == 1"}]
    await client.create(configuration("Validating", webhook(hook, matchConditions=conditions, failurePolicy=policy)))
    if policy == "Ignore":
        await client.create(widget("a"))
    else:
        with pytest.raises(Forbidden, match=r"odd: no such key"):
            await client.create(widget("a"))
    assert not hook.requests


UNUSABLE = {
    "silence": None,
    "no JSON": b"{",
    "nested too deeply": b"[" * 100_000,
    "another uid": {"uid": "x", "allowed": True},
    "no review": b"{}",
    "too large": b'"' + b"x" * (4 << 20) + b'"',
    "patch of another type": {"allowed": True, "patch": "W10=", "patchType": "Merge"},
    "patch that isn't base64": {"allowed": True, "patch": "?", "patchType": "JSONPatch"},
    "patch that can't be applied": patch({"op": "remove", "path": "/spec/missing"}),
    "patch of the kind": patch({"op": "replace", "path": "/kind", "value": "Gadget"}),
    "patch of everything": patch({"op": "replace", "path": "", "value": {}}),
}


@pytest.mark.parametrize("answer", UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
async def test_an_unusable_answer_counts_as_the_failure_policy_says(hook, client, policy: str, answer: Any) -> None:
    hook.answer = lambda request: answer
    await client.create(configuration("Mutating", webhook(hook, failurePolicy=policy)))
    if policy == "Ignore":
        assert (await client.create(widget("a"))).spec == {"size": 1}
    else:
        with pytest.raises(InternalError, match=r'^Internal error occurred: failed calling webhook "a.example.com": '):
            await client.create(widget("a"))


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize("kind", ["Mutating", "Validating"])
async def test_a_webhook_that_hangs_is_given_its_time_and_holds_up_nobody_else(
    hook, client, policy: str, kind: str
) -> None:
    slow = webhook(hook, failurePolicy=policy, timeoutSeconds=1, clientConfig=hook.config("/slow"))
    await client.create(configuration(kind, slow))
    hook.answer = hook.hang
    ended = anyio.Event()

    async def write() -> None:
        if policy == "Ignore":
            await client.create(widget("a"))
        else:
            words = r'"a.example.com": Post "https://127.0.0.1:\d+/slow\?timeout=1s": context deadline exceeded'
            with pytest.raises(InternalError, match=words):
                await client.create(widget("a"))
        ended.set()

    async with anyio.create_task_group() as tasks:
        begun = time.monotonic()
        tasks.start_soon(write)
        while not hook.requests:
            await anyio.sleep(0.01)
        await client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "meanwhile"}})
        assert not ended.is_set()
        await ended.wait()
        assert time.monotonic() - begun < 3


async def test_validating_webhooks_are_asked_all_at_once(hook, client) -> None:
    waiting = 0

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal waiting
        waiting += 1
        deadline = time.monotonic() + 5
        while waiting < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        return {"allowed": waiting == 3, "warnings": [f"seen by {hook.paths[-1][:2]}"]}

    hook.answer = answer
    hooks = [webhook(hook, f"{name}.example.com") for name in ("a1", "a2", "a3")]
    await client.create(configuration("Validating", *hooks))
    await client.create(widget("a"))
    assert waiting == 3


async def test_warnings_reach_the_caller(hook, plane, client) -> None:
    hook.answer = lambda request: {"allowed": True, "warnings": ["think again"]}
    await client.create(configuration("Validating", webhook(hook)))
    await client.create(widget("a"))
    assert plane.warnings == ["think again"]


async def test_no_private_address_is_called_unless_the_operator_said_so(hook, plane, client) -> None:
    async with Guard(Policy()) as guard:
        plane.server.registry.outbound = lambda: guard
        await client.create(configuration("Validating", webhook(hook)))
        with pytest.raises(InternalError, match=r"loopback addresses are not called.*KASTRA_ALLOW_PRIVATE_HOSTS"):
            await client.create(widget("a"))
    assert not hook.requests


async def test_a_server_that_its_certificate_authority_does_not_know_is_not_trusted(hook, tmp_path, client) -> None:
    with webhook_server(tmp_path) as stranger:
        config = {"url": hook.url, "caBundle": stranger.ca_bundle}
        await client.create(configuration("Validating", webhook(hook, clientConfig=config)))
        with pytest.raises(InternalError, match=r"no connection"):
            await client.create(widget("a"))
    assert not hook.requests


async def test_a_configuration_can_always_be_removed(hook, client) -> None:
    hook.answer = lambda request: {"allowed": False}
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
    await client.create(configuration("Validating", webhook(hook, rules=[everything])))
    with pytest.raises(BadRequest):
        await client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
    await client.delete(ObjectRef("ValidatingWebhookConfiguration", "test"))
    await client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})


WRONG = {
    "webhooks[0].name": {"name": "short"},
    "webhooks[0].clientConfig.service": {"clientConfig": {"service": {"namespace": "a", "name": "b"}}},
    "webhooks[0].clientConfig.url": {"clientConfig": {"url": "http://example.com"}},
    "webhooks[0].clientConfig.caBundle": {"clientConfig": {"url": "https://example.com", "caBundle": "eA=="}},
    "webhooks[0].sideEffects": {"sideEffects": "Some"},
    "webhooks[0].timeoutSeconds": {"timeoutSeconds": 31},
    "webhooks[0].admissionReviewVersions": {"admissionReviewVersions": ["v1beta1"]},
    "webhooks[0].rules[0].operations": {"rules": [RULE | {"operations": ["CREATE", "*"]}]},
    "webhooks[0].objectSelector": {
        "objectSelector": {"matchExpressions": [{"key": "a", "operator": "Maybe"}]},
    },
    "webhooks[0].matchConditions[0].expression": {"matchConditions": [{"name": "a", "expression": "object.x =="}]},
}


@pytest.mark.parametrize("path", WRONG)
async def test_what_can_not_work_is_refused_with_its_place(hook, client, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        await client.create(configuration("Validating", webhook(hook, **WRONG[path])))
    assert path in [cause.field for cause in refused.value.causes]


@pytest.mark.parametrize(("policy", "shown"), [("Equivalent", "example.com/v1"), ("Exact", None)])
async def test_a_rule_for_one_version_may_concern_the_others(
    hook, client, plane, policy: str, shown: str | None
) -> None:
    spec = copy.deepcopy(WIDGETS["spec"])
    spec["versions"].append({**spec["versions"][0], "name": "v2", "storage": False})
    await client.patch(ObjectRef("CustomResourceDefinition", "widgets.example.com"), {"spec": spec}, PatchType.MERGE)
    await client.create(configuration("Mutating", webhook(hook, matchPolicy=policy)))
    hook.answer = lambda request: patch({"op": "add", "path": "/spec/color", "value": "red"})
    made = await client.create({**widget("a"), "apiVersion": "example.com/v2"})
    assert made.data["apiVersion"] == "example.com/v2"
    assert [request["object"]["apiVersion"] for request in hook.requests] == ([shown] if shown else [])
    assert made.spec.get("color") == ("red" if shown else None)
    assert [request["requestKind"]["version"] for request in hook.requests] == (["v2"] if shown else [])
