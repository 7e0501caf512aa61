import hashlib

import pytest

from registry.manifest import Entry, PathError, check_path, digest


def test_digest__files_in_any_order__is_over_their_sorted_lines() -> None:
    a, b = Entry("a.txt", "1" * 64, 3), Entry("b/c.txt", "2" * 64, 5)
    lines = f"a.txt\0{'1' * 64}\x003\nb/c.txt\0{'2' * 64}\x005\n"
    assert digest([b, a]) == digest([a, b]) == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    "path", ["model.skops", "docs/read me.md", "a..b", "ünïcode.txt", "<b>&.txt", "100%.txt", "-rf", "日本.md"]
)
def test_check_path__plain_name__is_accepted(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", "a" * 201, ".", "..", "../a", "a/../b", "a/..", "./a", "a//b", "/etc/passwd", "a/", "~/a", "..\\a",
        "a\\..\\b", "\\\\host\\share", "C:\\a", "C:a", "c:/a", "a:stream",
        "%2e%2e/a", "a%2Fb", "..%5ca", "%252e%252e", "a\0b",
        "a\nb", "a\u202etxt.exe", "a\u200b", "\u2024\u2024/a", "\uff0e\uff0e/a", "a\uff0fb", "a\u2028b", "\ufeffa",
        "a /b", " a", "a.", ".. /a", "a/. /b", "e\u0301.txt", "\ud800",
    ],
)  # fmt: skip
def test_check_path__another_place_in_any_spelling__is_refused(path: str) -> None:
    with pytest.raises(PathError):
        check_path(path)
