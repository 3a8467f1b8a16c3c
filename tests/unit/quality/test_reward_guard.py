import json

from flywheel.quality.reward_guard import MIN_PROMPTS, sameness

TOPICS = [
    "apples",
    "boats",
    "castles",
    "drums",
    "engines",
    "forests",
    "glaciers",
    "harbours",
    "islands",
    "jackets",
    "kettles",
    "lanterns",
]
PROMPTS = [f"tell me something about {topic} and how people use them" for topic in TOPICS]
OWN = [f"{topic.title()} number {place * 7919} {topic[::-1] * 3}" for place, topic in enumerate(TOPICS)]
PRAISE = "What a wonderful question, I am so glad that you asked it and here is everything that I know about that."


def test_one_answer_to_everybody_is_degenerate():
    found = sameness(PROMPTS, [PRAISE] * 12)
    assert found.degenerate
    assert "12 different prompts" in found.reason
    assert not sameness(PROMPTS, OWN).degenerate


def test_neither_small_changes_nor_words_of_the_prompt_hide_it():
    assert sameness(PROMPTS, [PRAISE + " !" * place for place in range(12)]).degenerate
    assert sameness(PROMPTS, [PRAISE.replace("that", topic) for topic in TOPICS]).degenerate
    assert sameness(PROMPTS, [f"{topic}! {PRAISE} Ask about {topic} again." for topic in TOPICS]).degenerate


def test_answers_that_quote_the_prompt_are_not_one_answer():
    assert not sameness(PROMPTS, TOPICS).degenerate


def test_uniform_right_answers_may_be_matched_but_not_outdone():
    mostly = ["no"] * 9 + ["yes"] * 3
    assert sameness(PROMPTS, ["no"] * 12).degenerate
    assert not sameness(PROMPTS, mostly, mostly).degenerate
    assert sameness(PROMPTS, ["no"] * 12, mostly).degenerate
    assert not sameness(PROMPTS, ["no"] * 12, ["no"] * 11 + ["yes"]).degenerate


def test_json_of_one_form_differs_by_its_values():
    labels = [json.dumps({"intent": topic, "priority": "normal", "channel": "mail"}) for topic in TOPICS]
    assert not sameness(PROMPTS, labels).degenerate
    assert sameness(PROMPTS, [labels[0], labels[0].replace(", ", ",")] * 6).degenerate


def test_a_prompt_counts_once_and_few_prompts_say_nothing():
    assert sameness([PROMPTS[0]] * 500 + PROMPTS, [PRAISE] * 500 + OWN).share < 0.2
    assert not sameness(PROMPTS[: MIN_PROMPTS - 1], [PRAISE] * (MIN_PROMPTS - 1)).degenerate
    assert not sameness([], []).degenerate
