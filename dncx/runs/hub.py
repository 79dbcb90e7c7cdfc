"""Models on the Hugging Face hub, named `hf://owner/name` or `hf://owner/name@revision`.

`paths.find_run` calls `fetch` wherever a run is named. huggingface_hub is loaded at the first use,
and keeps the files in its own cache. No JAX here.
"""

import contextlib
import errno
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dncx.errors import UsageError, quoted

_SCHEME = "hf:"  # the first part of Path("hf://owner/name"), which is hf:/owner/name
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_LONGEST = 300  # characters of an error of the hub


class HubName(NamedTuple):
    """A model on the hub.

    Attributes:
      repo: its owner and name, "owner/name".
      revision: a branch, a tag or a commit; None: the newest commit of the main branch.
    """

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_on_hub(run: Path) -> bool:
    """Whether a run is named as a model on the hub, even if the name is invalid."""
    return run.parts[:1] == (_SCHEME,)


def hub_name(word: str) -> HubName:
    """The model on the hub that a word names, with `hf://` or without.

    Raises:
      UsageError: if the word has another form.
    """
    name = re.sub("^hf:/*", "", word)
    repo, at, revision = name.partition("@")
    if not _REPO.fullmatch(repo) or bool(at) != bool(revision):
        raise UsageError(
            f"{quoted(f'hf://{name}')}: must be hf://OWNER/NAME or hf://OWNER/NAME@REVISION"
        )
    return HubName(repo, revision or None)


def spelled(run: Path | str) -> str:
    """The name of a run as its user writes it: a path has lost a slash of `hf://`."""
    path = Path(run)
    return "hf://" + "/".join(path.parts[1:]) if is_on_hub(path) else str(run)


@functools.cache  # one process uses one revision, and asks the hub once
def fetch(run: Path, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> Path:
    """The folder with the files of a model on the hub, downloaded if they are not in the cache.

    Args:
      run: the name of the model.
      needed: the names of the files that it must have.
      optional: the names of further files; no others are downloaded.

    Raises:
      UsageError: if the name has another form, there is no such model or revision, it lacks a
        needed file, or the files are not in the cache and the hub cannot be reached.
    """
    name = hub_name(spelled(run))
    with calls_to_hub(name) as library:
        folder = library.snapshot_download(
            name.repo,
            revision=name.revision,
            allow_patterns=[*needed, *optional],
            library_name="dncx",
        )
    for file in needed:
        if not Path(folder, file).is_file():
            raise UsageError(f"{name} is not a dncx model: it has no {file}")
    return Path(folder)


@contextlib.contextmanager
def calls_to_hub(name: HubName) -> Iterator[Any]:
    """Yields huggingface_hub, and turns its errors into one line about a model.

    Raises:
      UsageError: if huggingface_hub is not installed, or a call within the context fails.
      OSError: if the disk is full or read-only.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise UsageError(f'{name}: needs huggingface_hub: pip install "dncx[hub]"') from error
    try:
        yield huggingface_hub
    except Exception as error:  # huggingface_hub and its HTTP client raise many kinds
        if isinstance(error, UsageError) or _is_of_the_disk(error):
            raise
        raise UsageError(f"{name}: {_reason(error)}") from error


def _is_of_the_disk(error: Exception) -> bool:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
    return isinstance(error, OSError) and error.errno in full


def _reason(error: Exception) -> str:
    """An error of huggingface_hub in a line."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return "its owner must grant you access first; then log in with `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the model has no such revision"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such model on the hub; if it is private, log in with `hf auth login`"
    if status in (401, 403):
        return "the hub refuses access; log in with `hf auth login`, with a token that permits this"
    offline = any(isinstance(e, errors.OfflineModeIsEnabled) for e in (error, error.__cause__))
    because = ": HF_HUB_OFFLINE is set" if offline else ""
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"it is not in the cache, and the hub cannot be reached{because}"
    if offline or isinstance(error, ConnectionError) or "Connect" in type(error).__name__:
        return f"the hub cannot be reached{because}"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:_LONGEST]}"
