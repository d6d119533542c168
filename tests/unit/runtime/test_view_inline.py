"""Which view reads a spec that stands inside of another object."""

import subprocess
import sys

DECLARED_FIRST = """
from kastra.runtime.view import View
class Impostor(View, kind="Agent"): pass
from kastra.controllers.agent import AgentView
from kastra.runtime.view_inline import view_of_kind
assert view_of_kind("Agent") is AgentView
"""


def test_what_else_is_declared_for_a_built_in_kind_does_not_change_how_its_inline_specs_are_read() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DECLARED_FIRST], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
