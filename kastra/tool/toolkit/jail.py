"""How are files of one folder used without ever leaving it?

Every path is walked from the folder's own descriptor, one `openat` per component with O_NOFOLLOW, so that neither `..`, an
absolute path nor a symbolic link leads out, not even one that is put in place between a check and its use: there is no
check, only the walk. Links are refused wherever they lead. The server's own data folder (its store and its key) is recognised by
device and inode and never entered, whatever its name. Files are replaced whole, by renaming; only regular files are opened.

Source: openat(2), and the safe-open rules of systemd's `chase`. Read next: `kastra.tool.toolkit.files`.
"""

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from kastra.tool.interface import ToolError
from kastra.tool.toolkit.builtin import forbidden, missing, unfit

MAX_PATH = 1024
MAX_LEVELS = 32
MAX_ENTRIES = 10_000
"""Files and folders that a walk looks at."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Jail:
    """A folder below the project's, and what is in it. Paths are relative to it, with `/`.

    Args:
        project: the project's folder.
        folder: of the jail, relative to the project; made when something is first written.
        private: folders that are never entered.
        max_bytes: of a file that is read or written.

    Raises:
        ValueError: `folder` isn't a relative path below the project.
    """

    def __init__(self, project: Path, folder: str, private: Sequence[Path] = (), max_bytes: int = 1 << 22) -> None:
        try:
            self._folder = parts_of(folder)
        except ToolError as error:
            raise ValueError(f"spec.builtin.folder: {error.message}") from None
        self.name = "/".join(self._folder) or "."
        self.max_bytes = max_bytes
        self._project = project
        self._private = tuple(private)

    # --- folders ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def folder(self, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """The descriptor of a folder.

        Args:
            parts: of its path.
            make: whether folders that aren't there are made.

        Raises:
            ToolError: it isn't there, is no folder, or a link is in the way.
        """
        try:
            current = os.open(self._project, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ToolError(f"the project folder can't be opened: {error.strerror}", retryable=False) from None
        try:
            self._enter(current)
            for index, part in enumerate([*self._folder, *parts]):
                below = max(0, index + 1 - len(self._folder))
                following = self._step(current, part, "/".join(parts[:below]), make=make)
                os.close(current)
                current = following
                self._enter(current)
            yield current
        finally:
            os.close(current)

    def _step(self, current: int, part: str, shown: str, *, make: bool) -> int:
        where = f"{shown!r}" if shown else f"the folder {self.name!r} of this tool"
        for _ in range(2):
            try:
                return os.open(part, _FOLDER, dir_fd=current)
            except FileNotFoundError:
                if not make:
                    raise missing(f"{where} does not exist") from None
            except OSError as error:
                raise _refusal(error, where) from None
            try:
                os.mkdir(part, 0o755, dir_fd=current)
            except FileExistsError:
                continue
            except OSError as error:
                raise _refusal(error, where) from None
        raise missing(f"{where} does not exist")

    def _enter(self, descriptor: int) -> None:
        if self.is_private(os.fstat(descriptor)):
            raise forbidden("this folder belongs to the server itself and is not for tools")

    def is_private(self, found: os.stat_result) -> bool:
        """Whether a folder is one of those that are never entered."""
        for folder in self._private:
            with contextlib.suppress(OSError):
                own = folder.stat()
                if (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino):
                    return True
        return False

    @contextlib.contextmanager
    def parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The descriptor of the folder that holds `path`, and the last part of the path. Raises ToolError."""
        parts = parts_of(path)
        if not parts:
            raise unfit("path: this is the folder itself; name something in it")
        with self.folder(parts[:-1], make=make) as descriptor:
            yield descriptor, parts[-1]

    # --- files -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def opened(self, path: str, flags: int = os.O_RDONLY, *, make: bool = False) -> Iterator[int]:
        """The descriptor of a regular file.

        Args:
            path: of the file.
            flags: of open(2).
            make: whether folders on the way are made.

        Raises:
            ToolError: it isn't there, or is something else.
        """
        with self.parent(path, make=make) as (folder, name):
            with _named(path):
                descriptor = os.open(name, flags | _FILE, 0o644, dir_fd=folder)
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
                    raise unfit(f"{path!r} is {kind}")
                yield descriptor
            finally:
                os.close(descriptor)

    def read(self, path: str, limit: int | None = None) -> bytes:
        """The bytes of a file.

        Args:
            path: of the file.
            limit: bytes; `max_bytes` when absent.

        Raises:
            ToolError: also when it is larger.
        """
        allowed = self.max_bytes if limit is None else limit
        with self.opened(path) as descriptor:
            size = os.fstat(descriptor).st_size
            if size > allowed:
                raise unfit(
                    f"{path!r} has {size:,} bytes; at most {allowed:,} are read at once (files.read_lines reads parts)"
                )
            with os.fdopen(os.dup(descriptor), "rb") as file:
                data = file.read(allowed + 1)
        if len(data) > allowed:
            raise unfit(f"{path!r} grew beyond {allowed:,} bytes while it was read")
        return data

    def text(self, path: str, limit: int | None = None) -> str:
        """The text of a UTF-8 file. Raises ToolError, also when it isn't text."""
        data = self.read(path, limit)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise unfit(f"{path!r} is not UTF-8 text (byte {error.start})") from None
        if "\0" in text:
            raise unfit(f"{path!r} is not a text file")
        return text

    def write(self, path: str, data: bytes, *, overwrite: bool = True) -> None:
        """Put a file in place, whole or not at all, and durably.

        Raises:
            ToolError: it is too large, is there and must not be replaced, or can't be written.
        """
        if len(data) > self.max_bytes:
            raise unfit(f"{path!r} would have {len(data):,} bytes; at most {self.max_bytes:,} are written")
        with self.parent(path, make=True) as (folder, name), _named(path):
            if not overwrite and self._holds(folder, name, data):
                # What a call that a crash interrupted left behind, most likely.
                return
            self._replaceable(folder, name, path, overwrite=overwrite)
            temporary = f".{uuid.uuid4().hex}.part"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o644, dir_fd=folder)
            try:
                try:
                    _write_all(descriptor, data)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                if overwrite:
                    os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                else:
                    # A link fails if the name is taken, which a rename doesn't.
                    os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
                    os.unlink(temporary, dir_fd=folder)
                os.fsync(folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise

    def append(self, path: str, data: bytes) -> int:
        """Add to the end of a file, which is made if need be. Returns its size.

        Raises:
            ToolError: it would become too large, or can't be written.
        """
        with self.opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, make=True) as descriptor, _named(path):
            size = os.fstat(descriptor).st_size + len(data)
            if size > self.max_bytes:
                raise unfit(f"{path!r} would have {size:,} bytes; at most {self.max_bytes:,} are written")
            _write_all(descriptor, data)
            os.fsync(descriptor)
            return size

    def move(self, source: str, target: str, *, overwrite: bool) -> None:
        """Give a file or folder another path. Raises ToolError."""
        with (
            self.parent(source) as (from_folder, from_name),
            self.parent(target, make=True) as (to_folder, to_name),
        ):
            with _named(source):
                found = os.stat(from_name, dir_fd=from_folder, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode) and self._leads_to_private(found):
                raise forbidden("this folder belongs to the server itself, or holds one that does")
            with _named(target):
                self._replaceable(to_folder, to_name, target, overwrite=overwrite)
                os.rename(from_name, to_name, src_dir_fd=from_folder, dst_dir_fd=to_folder)

    def _leads_to_private(self, found: os.stat_result) -> bool:
        for private in self._private:
            for folder in (private, *private.parents):
                with contextlib.suppress(OSError):
                    own = folder.stat()
                    if (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino):
                        return True
        return False

    def _holds(self, folder: int, name: str, data: bytes) -> bool:
        """Whether a regular file is there with just this content."""
        try:
            descriptor = os.open(name, os.O_RDONLY | _FILE, dir_fd=folder)
        except OSError:
            return False
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            return stat.S_ISREG(found.st_mode) and found.st_size == len(data) and file.read(len(data) + 1) == data

    def _replaceable(self, folder: int, name: str, shown: str, *, overwrite: bool) -> None:
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            raise unfit(f"{shown!r} is a folder")
        if not overwrite:
            raise unfit(f"{shown!r} exists already; set overwrite to replace it")

    def stat(self, path: str) -> os.stat_result:
        """What is known of a file, folder or link; a link isn't followed. Raises ToolError."""
        parts = parts_of(path)
        if not parts:
            with self.folder(()) as descriptor:
                return os.fstat(descriptor)
        with self.parent(path) as (folder, name), _named(path):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    # --- walking ---------------------------------------------------------------------------------------------------

    def walk(self, path: str = "") -> Iterator[tuple[str, int, str, os.stat_result]]:
        """Everything below a folder: path, descriptor of the folder that it is in, name, what is known of it.

        In order of names, folders before what is in them. Folders of the server are left out, links aren't followed. The descriptor
        is good until the next one is asked for.

        Raises:
            ToolError: there is no such folder, or too much in it.
        """
        parts = parts_of(path)
        with self.folder(parts) as descriptor:
            budget = [MAX_ENTRIES]
            yield from self._below(descriptor, "/".join(parts), budget, 0)

    def _below(
        self, folder: int, path: str, budget: list[int], level: int
    ) -> Iterator[tuple[str, int, str, os.stat_result]]:
        for name in sorted(os.listdir(folder)):
            budget[0] -= 1
            if budget[0] < 0:
                raise unfit(f"more than {MAX_ENTRIES:,} entries; name a folder that holds fewer")
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                continue
            inner = f"{path}/{name}" if path else name
            if not stat.S_ISDIR(found.st_mode):
                yield inner, folder, name, found
                continue
            try:
                descriptor = os.open(name, _FOLDER, dir_fd=folder)
            except OSError:
                # Replaced, removed, or not ours to read: nothing that could be shown.
                continue
            try:
                if self.is_private(os.fstat(descriptor)):
                    continue
                yield inner, folder, name, found
                if level < MAX_LEVELS:
                    yield from self._below(descriptor, inner, budget, level + 1)
            finally:
                os.close(descriptor)


def parts_of(path: str) -> list[str]:
    """The components of a path, without `.` and empty ones.

    Raises:
        ToolError: it is absolute, leads upwards, or can't be a path.
    """
    if len(path) > MAX_PATH or "\0" in path or any(len(part.encode()) > 255 for part in path.split("/")):
        raise unfit(f"path: at most {MAX_PATH} characters, 255 bytes between slashes, and no NUL")
    if path.startswith("/") and path.strip("/"):
        raise unfit(f"path {path[:200]!r}: must be relative to the tool's folder, without a slash in front")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise unfit(f"path {path[:200]!r}: '..' is not allowed; paths stay below their folder")
    if len(parts) > MAX_LEVELS:
        raise unfit(f"path: more than {MAX_LEVELS} levels")
    return parts


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Errors of the operating system as errors that name the path as it was given."""
    try:
        yield
    except OSError as error:
        raise _refusal(error, repr(path)) from None


def _refusal(error: OSError, where: str) -> ToolError:
    if isinstance(error, FileNotFoundError):
        return missing(f"{where} does not exist")
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return forbidden(f"{where} is a symbolic link; links are not followed")
    if isinstance(error, NotADirectoryError):
        # On Linux this is also what O_DIRECTORY with O_NOFOLLOW says of a link.
        return forbidden(f"{where} is no folder (or a symbolic link, which is not followed)")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return ToolError(f"{where}: {error.strerror}")
    return ToolError(f"{where}: {error.strerror or type(error).__name__}", retryable=False)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
