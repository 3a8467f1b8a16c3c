import pytest

from flywheel.text.refusals import OPENING, refuses


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can\u2019t help with that.",
        "Sorry, I cannot really assist with this request.",
        "As an AI language model, I am unable to have opinions.",
        "I must decline.",
        "I'm not able to provide that.",
        "We can't discuss other customers.",
        "That is against our policies.",
        "Ich kann Ihnen dabei leider nicht helfen.",
        "Je ne peux pas vous aider.",
        "Lo siento, no puedo ayudarte con eso.",
    ],
)
def test_refusals(answer):
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "You can't return it after 30 days.",
        "I can't find your order; please send its number.",
        "I can help with that!",
        '{"intent":"refund"}',
        "You will not be charged. I can assist further.",
        "x" * OPENING + " I cannot help with that.",
    ],
)
def test_no_refusals(answer):
    assert not refuses(answer)
