import pytest

from flywheel.text.language import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("my order never arrived and I want a refund", "en"),
        ("Wo ist mein Paket geblieben?", "de"),
        ("Où est passée ma commande de mardi ?", "fr"),
        ("注文が届きません。いつ届きますか、教えてください", "ja"),
        ("hi", None),
        ("", None),
        ("1234 5678 1234 5678 1234", None),
    ],
)
def test_a_text_has_a_language_where_it_is_long_enough_to_tell(text, language):
    assert language_of(text) == language
