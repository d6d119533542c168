"""What did each file of a project declare, and what of it did this process apply? The manifests' half of `kastra dev`.

A file is checked and sent as a whole: if anything in it is wrong nothing of it is sent, and what it declared before stays.
It is tried again whenever something else changes, since that may be what it lacked. What an object's file no longer
declares is deleted, if it was applied here, is still the same object, and no other file declares it. Runs stay: they are
records of what was done.

Everything is sent as `kastra apply` sends it: same checks, same order, same field manager. Read next:
`kastra.app.applying`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio.to_thread

from kastra.api.errors import Cause, Conflict, NotFound, StatusError
from kastra.api.meta import GROUP, ObjectRef
from kastra.manifest.loader import Loaded, Manifest, load
from kastra.manifest.position import NOWHERE
from kastra.manifest.problem import Problem

from .applying import Applied
from .code_problem import shown
from .embedded import Kastra
from .project_files import ProjectFiles


@dataclass(slots=True)
class Declared:
    """What came of some files.

    Args:
        applied: every object that was sent or deleted.
        problems: errors and warnings with their places.
        mended: files that were broken and aren't any more.
    """

    applied: list[Applied] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    mended: list[Path] = field(default_factory=list)


class ManifestFiles:
    """The manifests of a project, file by file.

    Args:
        kastra: where they are applied.
        files: of the project; what lies outside is refused.
    """

    def __init__(self, kastra: Kastra, files: ProjectFiles) -> None:
        self._kastra = kastra
        self._files = files
        self._applied: dict[Path, dict[ObjectRef, str]] = {}
        self._created: dict[Path, list[dict[str, Any]]] = {}
        self._broken: set[Path] = set()

    @property
    def broken(self) -> Collection[Path]:
        """The files with errors."""
        return self._broken

    async def apply(self, changed: Iterable[Path]) -> Declared:
        """Make the changed files, and those that were broken, the desired state."""
        outcome = Declared()
        paths = sorted({*changed, *self._broken})
        present: dict[str, Path] = {}
        for path in paths:
            if not path.is_file():
                continue
            if not self._files.holds(path):
                what = "link that leads out of the project; its content is not read"
                outcome.problems.append(Problem("error", shown(path), NOWHERE, "", what))
            present[shown(path)] = path
        readable = [name for name, path in present.items() if self._files.holds(path)]
        loaded = await anyio.to_thread.run_sync(load, readable)
        sent = await self._send(loaded, present, outcome)
        await self._prune(paths, present, sent, outcome)
        failing = {present[p.file] for p in outcome.problems if p.severity == "error" and p.file in present}
        outcome.mended = [path for path in sorted(self._broken) if path not in failing and path.is_file()]
        self._broken = failing
        return outcome

    async def _send(self, loaded: Loaded, present: dict[str, Path], outcome: Declared) -> dict[Path, list[Manifest]]:
        """Apply what is sound; the manifests of each file that is sound as a whole."""
        elsewhere = {ref: path for path, refs in self._applied.items() if path not in present.values() for ref in refs}
        problems = list(loaded.problems)
        for manifest in loaded.manifests:
            other = elsewhere.get(self._ref(manifest))
            if other is not None and other.is_file():
                message = f'{manifest.object["kind"]} "{manifest.ref.name}" is already declared in {shown(other)}'
                problems.append(manifest.problem(Cause("", message, "metadata.name")))
        errors = await self._kastra.validator().check_in_turns(loaded.manifests, self._kastra.namespace)
        problems += [problem for found in errors for problem in found]
        unsound = {problem.file for problem in problems if problem.severity == "error"}
        sound = [manifest for manifest in loaded.manifests if manifest.file not in unsound]
        outcome.problems += problems
        new = [manifest for manifest in sound if not self._is_created(manifest, present)]
        if new:
            # Warnings are told already.
            report = await self._kastra.apply(replace(loaded, manifests=new, problems=[]))
            outcome.applied += report.applied
            outcome.problems += report.problems
            refused = {problem.file for problem in report.problems if problem.severity == "error"}
        else:
            refused = set()
        declared: dict[Path, list[Manifest]] = {
            path: [] for name, path in present.items() if name not in unsound and self._files.holds(path)
        }
        for manifest in sound:
            declared[present[manifest.file]].append(manifest)
        for name, path in present.items():
            if name not in unsound | refused:
                unnamed = [m.object for m in declared.get(path, ()) if not m.ref.name]
                self._created[path] = unnamed
        return declared

    def _is_created(self, manifest: Manifest, present: dict[str, Path]) -> bool:
        """Whether an object whose name is generated was created from this document before: not once more per save."""
        return not manifest.ref.name and manifest.object in self._created.get(present[manifest.file], ())

    async def _prune(
        self, paths: Iterable[Path], present: dict[str, Path], sent: dict[Path, list[Manifest]], outcome: Declared
    ) -> None:
        uids = {one.ref: one.object.uid for one in outcome.applied if one.object is not None}
        gone: dict[ObjectRef, str] = {}
        for path in paths:
            before = self._applied.get(path, {})
            if path in sent:
                refs = [self._ref(manifest) for manifest in sent[path] if manifest.ref.name]
                now = {ref: uids.get(ref) or before.get(ref, "") for ref in refs}
                self._applied[path] = {ref: uid for ref, uid in now.items() if uid}
            elif path in present.values():
                continue  # broken: what it declared stays
            else:
                self._applied.pop(path, None)
                self._created.pop(path, None)
                now = {}
            gone.update((ref, uid) for ref, uid in before.items() if ref not in now)
        kept = {ref for refs in self._applied.values() for ref in refs}
        # What refers goes before what it refers to, as it came after it.
        for ref, uid in reversed(gone.items()):
            if ref not in kept and ref.kind != f"Run.{GROUP}":
                await self._delete(ref, uid, outcome)

    async def _delete(self, ref: ObjectRef, uid: str, outcome: Declared) -> None:
        try:
            await self._kastra.client.delete(ref, uid=uid)
        except (NotFound, Conflict):
            return  # somebody else deleted it, or put another one in its place
        except StatusError as error:
            name = f"{ref.kind.partition('.')[0]} {ref.name}"
            outcome.problems.append(Problem("error", "", NOWHERE, "", f"{name} can't be deleted: {error.message}"))
            return
        outcome.applied.append(Applied(ref, "pruned"))

    def _ref(self, manifest: Manifest) -> ObjectRef:
        """The object's address as it is stored."""
        ref = manifest.ref
        resource = self._kastra.client.scheme.for_kind(manifest.object["apiVersion"], manifest.object["kind"])
        if resource is not None and not resource.namespaced:
            return ObjectRef(ref.kind, ref.name)
        return ref if ref.namespace else ObjectRef(ref.kind, ref.name, self._kastra.namespace)
