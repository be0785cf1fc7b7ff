"""Uploading a folder as the last step, against a hub that is not there."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from datafree.export.hub import push_to_hub, require_repository
from datafree.types import InputError


class Hub:
    """Notes what is uploaded."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fault = fault

    def create_repo(self, name: str, **settings: Any) -> str:
        self.calls.append(("create", {"name": name, **settings}))
        return f"https://hub.example/{name}"

    def upload_folder(self, **settings: Any) -> None:
        if self.fault:
            raise self.fault
        names = sorted(path.name for path in Path(settings["folder_path"]).iterdir())
        self.calls.append(("upload", {**settings, "files": names}))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text("card")
    return tmp_path


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_folder_becomes_a_private_repository(hub: Hub, folder: Path, kind: Any):
    assert push_to_hub(folder, "me/student", kind) == "https://hub.example/me/student"
    (_, created), (_, uploaded) = hub.calls
    assert created == {"name": "me/student", "repo_type": kind, "private": True, "exist_ok": True}
    assert uploaded["files"] == ["README.md"] and uploaded["repo_id"] == "me/student" and uploaded["repo_type"] == kind


@pytest.mark.parametrize("fault", [OSError("no route to host\nmore"), ValueError()])
def test_a_failure_says_what_is_there_and_how_to_repeat_the_step(hub: Hub, folder: Path, fault: Exception):
    hub.fault = fault
    why = "no route to host" if str(fault) else "ValueError"
    with pytest.raises(
        InputError,
        match=rf"is complete, but could not be uploaded to me/x \({why}\); repeat this step with `hf upload me/x",
    ):
        push_to_hub(folder, "me/x")


@pytest.mark.parametrize("name", ["", "student", "a/b/c", "a/..", "/x", "a b/c", "https://hub/a/b", "a/-", "a--b/c"])
def test_names_are_checked_before_any_work(hub: Hub, name: str):
    with pytest.raises(InputError, match=r"is no repository of the Hugging Face hub; write OWNER/NAME$"):
        require_repository(name)


def test_a_login_is_needed(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(
        InputError, match="^no login to the Hugging Face hub is on this machine; log in with `hf auth login`$"
    ):
        require_repository("me/x")
