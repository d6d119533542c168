"""Lists in chunks: whatever the sizes of the pages, together they are the list as it was at the first one."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.conftest import Server

from .api import Api

TOTAL, AT_ONCE = 400, 20


@pytest.fixture(scope="module")
def path(server: Server) -> str:
    """Where there are four hundred objects."""
    path = "/api/v1/namespaces/chunking/configmaps"

    def create(first: int) -> None:
        api = Api(str(server.kubeconfig))
        for number in range(first, TOTAL, AT_ONCE):
            api.create(path, {"metadata": {"name": f"template-{number:04}"}, "data": {"image": "test2"}})
        api.close()

    api = Api(str(server.kubeconfig))
    api.create("/api/v1/namespaces", {"metadata": {"name": "chunking"}})
    api.close()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(create, range(AT_ONCE)))
    return path


def names(listed: dict[str, list[dict[str, dict[str, str]]]]) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


def pages(api: Api, path: str, *, found: int, token: str = "", limit: int = 0) -> str:
    """Read all pages from a token on, and check each; their one version. No limit stands for one by chance per page."""
    chance = random.Random(found)
    version = ""
    while True:
        size = limit or chance.randint(1, TOTAL // 10)
        listed = api.get(path, limit=size, **({"continue": token} if token else {}))
        metadata = listed["metadata"]
        version = version or metadata["resourceVersion"]
        assert metadata["resourceVersion"] == version
        assert names(listed) == [f"template-{number:04}" for number in range(found, min(found + size, TOTAL))]
        found += len(listed["items"])
        token = metadata.get("continue", "")
        if not token:
            assert "remainingItemCount" not in metadata
            break
        assert metadata["remainingItemCount"] + found == TOTAL
    assert found == TOTAL
    return version


@pytest.mark.conformance(
    "[sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls [Conformance]"
)
def test_pages_of_any_size_make_the_whole_list(api: Api, path: str) -> None:
    for _ in range(3):
        pages(api, path, found=0)
    whole = api.get(path, limit=TOTAL + 1)
    assert len(whole["items"]) == TOTAL
    assert "continue" not in whole["metadata"]


@pytest.mark.conformance(
    "[sig-api-machinery] Servers with support for API chunking should support continue listing from the last key if the "
    "original version has been compacted away, though the list is inconsistent [Slow] [Conformance]"
)
def test_a_list_goes_on_from_its_last_key_when_its_version_is_forgotten(api: Api, path: str) -> None:
    tenth = TOTAL // 10
    first = api.get(path, limit=tenth)
    assert first["metadata"]["remainingItemCount"] + len(first["items"]) == TOTAL
    token = first["metadata"]["continue"]

    # The server keeps what lists under way began with for five minutes, but of no more than 256 lists.
    expired = None
    for change in range(300):
        api.patch(f"{path}/template-0000", {"data": {"change": str(change)}})
        api.get(path, limit=1)
        if change >= 250:
            expired = api.ask("GET", f"{path}?limit={tenth}&continue={token}")
            if expired.status != 200:
                break
    assert expired is not None
    assert (expired.status, expired.json["reason"]) == (410, "Expired")
    inconsistent = expired.json["metadata"]["continue"]
    assert inconsistent not in ("", token)

    second = api.get(path, limit=tenth, **{"continue": inconsistent})
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    assert names(second) == [f"template-{number:04}" for number in range(tenth, 2 * tenth)]
    assert second["metadata"]["remainingItemCount"] + 2 * tenth == TOTAL
    rest = pages(api, path, found=2 * tenth, token=second["metadata"]["continue"], limit=tenth)
    assert rest == second["metadata"]["resourceVersion"]
