"""Text of strangers: whatever it holds, showing it changes nothing around it."""

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.text.visible import one_line, visible


def test_controls_are_named_and_ordinary_text_is_kept():
    assert visible("a\x00b\x1b[31mred") == "a[U+0000]b[U+001B][31mred"
    assert visible("pay \u202e0001\u202c now") == "pay [U+202E]0001[U+202C] now"
    assert visible("half \ud83d of a pair") == "half [U+D83D] of a pair"
    text = "naïve\tЖ 中文 שלום 👩\u200d👧\nnext"
    assert visible(text) == text


def test_windows_line_ends_are_line_ends():
    assert visible("a\r\nb\rc") == "a\nb[U+000D]c"


def test_a_long_text_says_how_much_is_missing():
    assert visible("x" * 1_500, limit=10) == "x" * 10 + "\u2026 (and 1,490 characters)"
    assert visible("x" * 10, limit=10) == "x" * 10


def test_one_line_has_no_line_break():
    assert one_line(" a\n b\tc ") == "a b c"


@settings(max_examples=50)
@given(st.text(st.characters(), max_size=50))
def test_nothing_that_moves_or_hides_text_is_left(text):
    shown = visible(text)
    shown.encode()
    left = {char for char in shown if unicodedata.category(char) in {"Cc", "Cs"}} - {"\n", "\t"}
    assert not left
    assert not any(unicodedata.bidirectional(char) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
                   for char in shown)  # fmt: skip


@settings(max_examples=30)
@given(st.text(max_size=30))
def test_what_is_visible_already_stays(text):
    assert visible(visible(text)) == visible(text)
