"""A disk that fails or dies within its n-th operation, in place of the one that all files of a run go through."""

from pathlib import Path
from typing import Any

from sppo_ray.run_folder import remote
from sppo_ray.run_folder.storage import Disk


class Killed(BaseException):
    """The end of a process, as its code would see it if it could."""


class FaultyDisk(Disk):
    """Raises at its n-th operation, which is half done: half of the bytes are written, half of a folder is removed.

    lasting: every operation from then on fails as well: a dead process does nothing more, a full disk stays full.
    """

    def __init__(self, at: int, error: BaseException, lasting: bool = True) -> None:
        self._left, self._error, self._lasting = at, error, lasting
        self.operations: list[str] = []

    @property
    def failed(self) -> bool:
        return self._left <= 0

    def _step(self, name: str) -> bool:
        """Count an operation; whether it is the one that fails."""
        if self.failed and self._lasting:
            raise self._error
        self._left -= 1
        self.operations.append(name)
        return self._left == 0

    def make_folder(self, path: Path) -> None:
        if self._step("make_folder"):
            raise self._error
        super().make_folder(path)

    def write(self, path: Path, data: bytes) -> None:
        fails = self._step("write")
        if not (fails and remote(path)):  # a put is all or nothing
            super().write(path, data[: len(data) // 2] if fails else data)
        if fails:
            raise self._error

    def fill(self, path: Path, save: Any) -> None:
        fails = self._step("fill")
        super().fill(path, save)
        if fails:
            raise self._error

    def sync(self, path: Path) -> None:
        if self._step("sync"):
            raise self._error
        super().sync(path)

    def rename(self, old: Path, new: Path) -> None:
        if self._step("rename"):
            raise self._error
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        fails = self._step("remove")
        parts = sorted(path.iterdir()) if fails and path.is_dir() else []
        for part in parts[: len(parts) // 2]:
            super().remove(part)
        if fails:
            raise self._error
        super().remove(path)

    def upload(self, file: Path, path: Path) -> None:
        if self._step("upload"):
            raise self._error
        super().upload(file, path)
