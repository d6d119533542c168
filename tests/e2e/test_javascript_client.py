"""The JavaScript client `@kubernetes/client-node`, unchanged, over TLS with a token."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

from .conftest import Server

PACKAGE = Path(__file__).parent / "javascript"
CACHE = ROOT / ".cache" / "javascript"


@pytest.fixture(scope="module")
def package() -> Path:
    """The script with its client installed, once per lock file."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed here")
    lock = (PACKAGE / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PACKAGE / name, folder / name)
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            pytest.skip(f"the client can't be installed here: {done.stderr[-300:]}")
        (folder / "installed").touch()
    shutil.copy(PACKAGE / "client.mjs", folder / "client.mjs")
    return folder


@pytest.mark.timeout(200)
def test_the_javascript_client_creates_lists_patches_watches_informs_and_deletes(server: Server, package: Path) -> None:
    done = subprocess.run(
        ["node", "client.mjs"],
        cwd=package, env={**os.environ, "KUBECONFIG": str(server.kubeconfig)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-3000:]


def test_the_table_of_compatibility_names_the_version_that_is_run_here() -> None:
    lock = (PACKAGE / "package-lock.json").read_text()
    version = lock.partition('"node_modules/@kubernetes/client-node"')[2].partition('"version": "')[2].partition('"')[0]
    page = (ROOT / "docs" / "compatibility.md").read_text()
    assert f"| @kubernetes/client-node | {version.rpartition('.')[0]} |" in page
