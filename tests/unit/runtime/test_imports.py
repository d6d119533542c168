"""The runtime is cheap to import, and what it exports is there."""

import subprocess
import sys

import kastra.runtime


def test_importing_the_runtime_loads_no_heavy_library() -> None:
    code = (
        "import sys, kastra.runtime as r; r.Manager, r.controller; "
        "print(sorted({'pydantic', 'prometheus_client', 'httpx2', 'jsonschema'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_exported_name_exists() -> None:
    assert [name for name in kastra.runtime.__all__ if not hasattr(kastra.runtime, name)] == []
