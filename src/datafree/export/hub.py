"""The last step of a result: its folder as a repository of the Hugging Face hub, by huggingface_hub."""

from pathlib import Path
from typing import Literal

from datafree.teachers.origins import IDENTIFIER
from datafree.types import InputError

Kind = Literal["model", "dataset"]
"""what a repository holds"""


def require_repository(name: str) -> None:
    """Check, before any work, that a folder could be uploaded. No request is made.

    Args:
        name: `OWNER/NAME`.

    Raises:
        InputError: If it is no name of a repository, or there is no login on this machine.
    """
    from huggingface_hub import get_token

    if not IDENTIFIER.fullmatch(name) or ".." in name or "--" in name:
        raise InputError(f"{name!r} is no repository of the Hugging Face hub; write OWNER/NAME")
    if not get_token():
        raise InputError("no login to the Hugging Face hub is on this machine; log in with `hf auth login`")


def push_to_hub(folder: str | Path, name: str, kind: Kind = "model") -> str:
    """Upload a folder to a repository of the hub. A repository that does not exist is created, and is private.

    Args:
        folder: The folder, with its card.
        name: `OWNER/NAME`.
        kind: Whether it holds a network or an image set.

    Returns:
        The address of the repository.

    Raises:
        InputError: If it cannot be uploaded; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    require_repository(name)
    api = HfApi()
    try:
        address = api.create_repo(name, repo_type=kind, private=True, exist_ok=True)
        api.upload_folder(folder_path=str(folder), repo_id=name, repo_type=kind, commit_message="Upload with datafree")
    except Exception as fault:  # the hub may raise anything
        why = str(fault).strip().splitlines()[0][:200] if str(fault).strip() else type(fault).__name__
        raise InputError(
            f"{folder} is complete, but could not be uploaded to {name} ({why}); repeat this step with "
            f"`hf upload {name} {folder} --repo-type {kind}`"
        ) from fault
    return str(address)
