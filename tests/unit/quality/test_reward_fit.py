"""The reward model on a very small Llama: packing changes nothing, training learns, files are standard."""

from pathlib import Path

import pytest
import torch

from flywheel.config import RewardModelConfig
from flywheel.errors import ModelError
from flywheel.quality.folds import make_folds
from flywheel.quality.packing import answer_scores, encode_row, pack
from flywheel.quality.pairs import AnswerPool
from flywheel.quality.reward import fold_choices, fold_id, folder_hash
from flywheel.quality.reward_fit import Choice, Scorer, fit, load

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
PROMPT = [{"role": "user", "content": "please bring the crimson one"}]
ANSWERS = ['{"colour":"red"}', '{"colour":"blue"}', "a longer answer in words"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *alphabet])}
    core = Tokenizer(models.BPE(vocabulary, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>",
                            chat_template=TEMPLATE).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=2, max_position_embeddings=256, pad_token_id=0, eos_token_id=1,
                         tie_word_embeddings=True)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_packed_scores_equal_plain_sequence_classification(base):
    torch.manual_seed(1)
    model, tokenizer = load(base)
    model.eval()
    prompt, answers = encode_row(tokenizer, PROMPT, ANSWERS)
    short, other = encode_row(tokenizer, [{"role": "user", "content": "hi"}], ANSWERS[:1])
    rows = [pack(prompt, answers, eos=1, max_length=200), pack(short, other, eos=1, max_length=200)]
    with torch.inference_mode():
        packed = torch.cat(answer_scores(model, rows, pad=0))
        plain = [model(input_ids=torch.tensor([head + answer + [1]])).logits[0, 0]
                 for head, some in ((prompt, answers), (short, other)) for answer in some]  # fmt: skip
    assert packed.tolist() == pytest.approx([float(value) for value in plain], abs=1e-5)


def test_long_rows_are_cut_to_the_limit():
    row = pack(list(range(10, 100)), [[5] * 300, [6, 7]], eos=1, max_length=50)
    assert max(row.positions) < 50
    assert [row.ids[end] for end in row.ends] == [1, 1]


def test_training_learns_repeats_and_saves_safetensors(base, tmp_path):
    words = {"red": "scarlet crimson ruby", "blue": "azure navy cobalt"}
    choices = [
        Choice([{"role": "user", "content": f"{lead} the {word} one"}],
               [f'{{"colour":"{colour}"}}', f'{{"colour":"{other}"}}'])
        for colour, other in (("red", "blue"), ("blue", "red"))
        for word in words[colour].split()
        for lead in ("bring", "please send", "I want", "where is")
    ]  # fmt: skip
    config = RewardModelConfig(epochs=25, batch_size=8, learning_rate=5e-3)
    runs = [fit(choices, base=base, out=tmp_path / str(run), config=config, seed=3) for run in range(2)]
    assert runs[0] == runs[1]
    assert runs[0].last_loss < runs[0].first_loss
    assert runs[0].accuracy > 0.9
    assert (tmp_path / "0" / "model.safetensors").exists()
    assert not list((tmp_path / "0").glob("*.bin"))
    assert folder_hash(tmp_path / "0") == folder_hash(tmp_path / "1")
    unseen = Choice([{"role": "user", "content": "we need the navy one"}], ['{"colour":"blue"}', '{"colour":"red"}'])
    right, wrong = Scorer(tmp_path / "0", 192)([unseen])[0]
    assert right > wrong


def test_base_without_chat_template_is_refused(base, tmp_path):
    import shutil

    folder = shutil.copytree(base, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="chat template"):
        load(folder)
    with pytest.raises(ModelError, match="reward"):
        load(tmp_path / "nothing")


def test_choices_put_target_first_and_repeat(colours):
    rows, _ = colours(80)
    folds = make_folds(rows, 2)
    config = RewardModelConfig(negatives=2)
    made = fold_choices(rows, folds, 0, config, seed=0)
    assert len(made) == len(folds.train[0])
    by_text = {row.messages[0].content: row for row in rows}
    for choice in made:
        row = by_text[choice.messages[0]["content"]]
        assert choice.answers[:2] == [row.target, row.answer]
        assert len(set(choice.answers)) == len(choice.answers) == 4
    assert fold_id(made) == fold_id(fold_choices(rows, folds, 0, config, seed=0))
    assert AnswerPool.of(rows).answers
