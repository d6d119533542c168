"""Watchers: every one sees its changes, all of them, and all watchers see them in the same order.

Each event must be the very next one of its watch, so whatever a watcher should not see would be found out by the next that
it should. At the end of a test every watch sees one more object made for that.
"""

import random
import threading
from collections.abc import Callable

import pytest

from .api import Api, Json, Watch

LABEL = "watch-this-configmap"


def configmaps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def configmap(name: str, label: str = "") -> Json:
    return {"metadata": {"name": name, **({"labels": {LABEL: label}} if label else {})}}


def setting(key: str, value: str) -> Callable[[Json], None]:
    return lambda obj: obj.setdefault("data", {}).update({key: value})


def labelling(value: str) -> Callable[[Json], None]:
    return lambda obj: obj["metadata"]["labels"].update({LABEL: value})


def watch(api: Api, namespace: str, *labels: str, version: str = "") -> Watch:
    return api.watch(configmaps(namespace), labelSelector=f"{LABEL} in ({','.join(labels)})", resourceVersion=version)


def expect_nothing_more(api: Api, namespace: str, label: str, *watches: Watch) -> None:
    """The next thing that happens is the next thing they see."""
    last = api.create(configmaps(namespace), configmap("last", label))
    for each in watches:
        each.expect("ADDED", last)
        each.close()


@pytest.mark.conformance(
    "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps [Conformance]"
)
def test_watchers_see_what_their_selectors_select(api: Api, namespace: str) -> None:
    path = configmaps(namespace)
    watch_a, watch_b = watch(api, namespace, "multiple-watchers-A"), watch(api, namespace, "multiple-watchers-B")
    watch_ab = watch(api, namespace, "multiple-watchers-A", "multiple-watchers-B")

    created = api.create(path, configmap("e2e-watch-test-configmap-a", "multiple-watchers-A"))
    watch_a.expect("ADDED", created)
    watch_ab.expect("ADDED", created)
    changed = created
    for value in "12":
        changed = api.change(f"{path}/e2e-watch-test-configmap-a", setting("mutation", value))
        watch_a.expect("MODIFIED", changed)
        watch_ab.expect("MODIFIED", changed)
    api.delete(f"{path}/e2e-watch-test-configmap-a")
    for each in (watch_a, watch_ab):
        gone = each.expect("DELETED")
        assert gone["data"] == changed["data"]
        assert int(gone["metadata"]["resourceVersion"]) > int(changed["metadata"]["resourceVersion"])

    created = api.create(path, configmap("e2e-watch-test-configmap-b", "multiple-watchers-B"))
    watch_b.expect("ADDED", created)
    watch_ab.expect("ADDED", created)
    api.delete(f"{path}/e2e-watch-test-configmap-b")
    watch_b.expect("DELETED")
    watch_ab.expect("DELETED")
    watch_b.close()
    expect_nothing_more(api, namespace, "multiple-watchers-A", watch_a, watch_ab)


@pytest.mark.conformance(
    "[sig-api-machinery] Watchers should be able to start watching from a specific resource version [Conformance]"
)
def test_a_watch_begins_after_the_version_that_it_names(api: Api, namespace: str) -> None:
    label = "from-resource-version"
    path = f"{configmaps(namespace)}/e2e-watch-test-resource-version"
    api.create(configmaps(namespace), configmap("e2e-watch-test-resource-version", label))
    first = api.change(path, setting("mutation", "1"))
    second = api.change(path, setting("mutation", "2"))
    api.delete(path)
    watched = watch(api, namespace, label, version=first["metadata"]["resourceVersion"])
    watched.expect("MODIFIED", second)
    watched.expect("DELETED")
    expect_nothing_more(api, namespace, label, watched)


@pytest.mark.conformance(
    "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the "
    "previous watch [Conformance]"
)
def test_a_watch_goes_on_where_another_ended(api: Api, namespace: str) -> None:
    label = "watch-closed-and-restarted"
    path = f"{configmaps(namespace)}/e2e-watch-test-watch-closed"
    broken = watch(api, namespace, label)
    created = api.create(configmaps(namespace), configmap("e2e-watch-test-watch-closed", label))
    api.change(path, setting("mutation", "1"))
    broken.expect("ADDED", created)
    last = broken.expect("MODIFIED")
    broken.close()
    second = api.change(path, setting("mutation", "2"))
    restarted = watch(api, namespace, label, version=last["metadata"]["resourceVersion"])
    api.delete(path)
    restarted.expect("MODIFIED", second)
    restarted.expect("DELETED")
    expect_nothing_more(api, namespace, label, restarted)


@pytest.mark.conformance(
    "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector "
    "[Conformance]"
)
def test_what_is_selected_no_longer_is_deleted_for_the_watcher(api: Api, namespace: str) -> None:
    label = "label-changed-and-restored"
    path = f"{configmaps(namespace)}/e2e-watch-test-label-changed"
    watched = watch(api, namespace, label)
    created = api.create(configmaps(namespace), configmap("e2e-watch-test-label-changed", label))
    first = api.change(path, setting("mutation", "1"))
    api.change(path, labelling("wrong-value"))
    watched.expect("ADDED", created)
    watched.expect("MODIFIED", first)
    watched.expect("DELETED")

    api.change(path, setting("mutation", "2"))
    restored = api.change(path, labelling(label))
    third = api.change(path, setting("mutation", "3"))
    api.delete(path)
    watched.expect("ADDED", restored)
    watched.expect("MODIFIED", third)
    watched.expect("DELETED")
    expect_nothing_more(api, namespace, label, watched)


@pytest.mark.conformance(
    "[sig-api-machinery] Watchers should receive events on concurrent watches in same order [Conformance]"
)
def test_a_hundred_watches_see_the_same_order(api: Api, namespace: str) -> None:
    path = configmaps(namespace)
    version = api.get(path)["metadata"]["resourceVersion"]
    enough, failed = threading.Event(), list[BaseException]()
    writer = threading.Thread(target=produce, args=(api.again(), path, enough, failed))
    writer.start()
    watches: list[Watch] = []
    try:
        for _ in range(100):
            watches.append(api.watch(path, resourceVersion=version))
            version, *others = [each.next()[1]["metadata"]["resourceVersion"] for each in watches]
            assert set(others) <= {version}
    finally:
        enough.set()
        writer.join()
        for each in watches:
            each.close()
    assert failed == []


def produce(api: Api, path: str, enough: threading.Event, failed: list[BaseException]) -> None:
    """Create, update and delete at random, at most 200 times a second."""
    chance = random.Random(1)
    existing: list[str] = []
    made = 0
    try:
        while not enough.wait(0.005):
            operation = chance.choice(("create", "update", "delete")) if existing else "create"
            if operation == "create":
                api.create(path, configmap(f"cm-{made}"))
                existing.append(f"cm-{made}")
                made += 1
            elif operation == "update":
                name = chance.choice(existing)
                api.update(f"{path}/{name}", {**configmap(name), "data": {"changed": str(chance.random())}})
            else:
                api.delete(f"{path}/{existing.pop(chance.randrange(len(existing)))}")
    except BaseException as error:
        failed.append(error)
    finally:
        api.close()
