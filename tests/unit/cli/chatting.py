"""Chats over a pipe, for the tests of `kastra chat`."""

from .conftest import Kastra, Result


def with_manifests(project: Kastra, manifests: str) -> Kastra:
    """The project, once these are applied in it."""
    (project.folder / "chat.yaml").write_text(manifests)
    applied = project("apply", "-f", "chat.yaml")
    assert applied.code == 0, applied.stderr
    return project


def chat(project: Kastra, agent: str, *said: str, options: tuple[str, ...] = ()) -> Result:
    """A chat in which this is said, a line each."""
    return project("chat", agent, *options, stdin="".join(f"{line}\n" for line in said))
