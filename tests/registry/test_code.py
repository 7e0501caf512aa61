import hashlib
import subprocess
from pathlib import Path

import pytest

from registry.code import code_digest, code_state


def repository(folder: Path) -> Path:
    code = folder / "code"
    code.mkdir()
    (code / "train.py").write_text("print(1)\n")
    git = ["git", "-C", str(folder), "-c", "user.name=Alice", "-c", "user.email=alice@example.com"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *arguments], check=True)
    return code


def test_code_digest__one_file__is_that_of_the_sha256sum_listing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x")
    listing = f"{hashlib.sha256(b'x').hexdigest()}  a.py\n"
    assert code_digest(tmp_path) == hashlib.sha256(listing.encode()).hexdigest()


def test_code_digest__caches_and_hidden_files__do_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x")
    before = code_digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"y")
    (tmp_path / ".hidden").write_bytes(b"y")
    assert code_digest(tmp_path) == before


def test_code_digest__renamed_file__changes(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x")
    before = code_digest(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert code_digest(tmp_path) != before


def test_code_state__clean_checkout__has_its_commit(tmp_path: Path) -> None:
    state = code_state(repository(tmp_path))
    assert len(state.commit) == 40
    assert not state.dirty


def test_code_state__uncommitted_change__is_dirty(tmp_path: Path) -> None:
    code = repository(tmp_path)
    (code / "train.py").write_text("print(2)\n")
    assert code_state(code).dirty


def test_code_state__no_repository__has_a_digest_and_no_commit(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x")
    state = code_state(tmp_path)
    assert (state.commit, state.dirty, state.code_digest) == ("", False, code_digest(tmp_path))


def test_code_state__no_folder__is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="absent"):
        code_state(tmp_path / "absent")
