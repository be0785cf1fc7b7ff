"""Reading of files: regular ones of a bounded size only."""

import errno
import os
import socket
from pathlib import Path

import pytest

from datafree.files import open_regular, parse_json, read_bytes, read_json, read_text, reading, sha256_of
from datafree.types import InputError


class TestOpening:
    def test_a_regular_file(self, tmp_path: Path):
        (tmp_path / "a").write_bytes(b"abc")
        assert read_bytes(tmp_path / "a") == read_bytes(tmp_path / "a", 3) == b"abc"
        with open_regular(str(tmp_path / "a")) as file:
            assert file.read() == b"abc"

    @pytest.mark.parametrize("follow", [True, False])
    def test_what_is_no_regular_file_is_refused_at_once(self, tmp_path: Path, follow: bool):
        os.mkfifo(tmp_path / "pipe")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "socket"))
            for path in (tmp_path, tmp_path / "pipe", tmp_path / "socket", Path("/dev/zero"), Path("/dev/null")):
                with pytest.raises(InputError, match="regular file"):
                    read_bytes(path, follow_links=follow)

    @pytest.mark.parametrize("follow", [True, False])
    @pytest.mark.parametrize(("name", "why"), [("none", "does not exist"), ("x" * 300, "too long"), ("\0", "null")])
    def test_paths_without_a_file_are_refused(self, tmp_path: Path, name: str, why: str, follow: bool):
        with pytest.raises(InputError, match=why):
            read_bytes(tmp_path / name, follow_links=follow)
        (tmp_path / "a").touch()
        with pytest.raises(InputError, match="cannot be read"):
            read_bytes(tmp_path / "a" / "b", follow_links=follow)

    def test_the_size_is_bounded(self, tmp_path: Path):
        (tmp_path / "a").write_bytes(b"abcd")
        with pytest.raises(InputError, match="larger than 3 bytes"):
            read_bytes(tmp_path / "a", 3)
        with (tmp_path / "holes").open("wb") as file:
            file.truncate(2**40)
        with pytest.raises(InputError, match="larger than 16 MiB"):
            read_text(tmp_path / "holes")

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
    def test_a_file_that_says_it_is_empty_is_bounded_too(self):
        assert os.stat("/proc/self/status").st_size == 0
        with pytest.raises(InputError, match="larger than 10 bytes"):
            read_bytes("/proc/self/status", 10)

    def test_a_fault_of_the_disk_stays_an_os_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "a").touch()

        def broken(*_: object, **__: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(reading.os, "open", broken)
        with pytest.raises(OSError, match="Input/output") as fault:
            read_bytes(tmp_path / "a", follow_links=True)
        assert not isinstance(fault.value, InputError)

    def test_no_descriptor_is_left_open(self, tmp_path: Path):
        os.mkfifo(tmp_path / "pipe")
        before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
        for path in (tmp_path, tmp_path / "pipe", tmp_path / "none"):
            with pytest.raises(InputError):
                read_bytes(path)
        assert not before or len(os.listdir("/proc/self/fd")) == before


class TestLinks:
    def test_a_link_is_followed_only_if_allowed(self, tmp_path: Path):
        (tmp_path / "secret").write_text("x")
        (tmp_path / "link").symlink_to(tmp_path / "secret")
        with pytest.raises(InputError, match="symbolic link"):
            read_text(tmp_path / "link")
        assert read_text(tmp_path / "link", follow_links=True) == "x"

    def test_a_link_to_a_device_is_refused(self, tmp_path: Path):
        (tmp_path / "link").symlink_to("/dev/zero")
        with pytest.raises(InputError, match="regular file"):
            read_bytes(tmp_path / "link", follow_links=True)

    def test_a_link_in_circles_is_refused(self, tmp_path: Path):
        (tmp_path / "link").symlink_to("link")
        for follow in (True, False):
            with pytest.raises(InputError, match="symbolic link"):
                read_bytes(tmp_path / "link", follow_links=follow)

    @pytest.mark.parametrize("without_flags", [False, True])
    def test_no_folder_below_the_root_is_a_link(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_flags: bool
    ):
        if without_flags:  # as on Windows
            monkeypatch.setattr(reading, "NO_LINK", 0)
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "secret").write_text("x")
        (tmp_path / "run" / "real").mkdir(parents=True)
        (tmp_path / "run" / "real" / "a").write_text("y")
        (tmp_path / "run" / "synthetic").symlink_to(tmp_path / "home")
        (tmp_path / "way to run").symlink_to(tmp_path / "run")
        assert read_text(tmp_path / "run" / "real" / "a", root=tmp_path / "run") == "y"
        assert read_text(tmp_path / "way to run" / "real" / "a", root=tmp_path / "way to run") == "y"
        with pytest.raises(InputError, match="symbolic link"):
            read_text(tmp_path / "run" / "synthetic" / "secret", root=tmp_path / "run")
        for outside in (tmp_path / "home" / "secret", tmp_path / "run" / ".." / "home" / "secret"):
            with pytest.raises(InputError, match="outside"):
                read_text(outside, root=tmp_path / "run")


class TestText:
    def test_text_is_utf_8(self, tmp_path: Path):
        (tmp_path / "a").write_bytes("é".encode())
        assert read_text(tmp_path / "a") == "é"
        (tmp_path / "a").write_bytes(b"\xff")
        with pytest.raises(InputError, match="UTF-8"):
            read_text(tmp_path / "a")

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "Expecting value"),
            ("{", "Expecting property"),
            ('{"a": 1, "a": 2}', "duplicate key 'a'"),
            ('{"a": NaN}', "not finite"),
            ("[-Infinity]", "not finite"),
            ("[1e400]", "not finite"),
            ("9" * 5000, "digits"),
            ("[" * 100_000, "nested too deeply"),
            ("\ufeff{}", "BOM"),
        ],
    )
    def test_json_is_strict(self, tmp_path: Path, text: str, why: str):
        (tmp_path / "a.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=rf"a.json is not valid JSON .*{why}"):
            read_json(tmp_path / "a.json")

    def test_json_values(self):
        assert parse_json('{"a": [1, 2.5, null, true, "x"]}', "line 1") == {"a": [1, 2.5, None, True, "x"]}

    def test_the_hash_of_a_pipe_is_refused(self, tmp_path: Path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError, match="regular file"):
            sha256_of(tmp_path / "pipe")
