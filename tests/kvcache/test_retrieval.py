import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from labcore.kvcache import Policy, needle_prompt, passkey_prompt, retrieval_grid, retrieval_rows
from tests.kvcache.conftest import tiny_llama

TEMPLATE = (
    "<user>{% for m in messages %}{{ m['content'] }}{% endfor %}</user>"
    "{% if add_generation_prompt %}<reply>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=TEMPLATE)


@pytest.mark.parametrize("depth", [0, 0.3, 1])
@pytest.mark.parametrize("length", [260, 600])
def test_passkeys_have_the_asked_length_and_mark_their_digits(tokenizer, length, depth):
    prompt = passkey_prompt(tokenizer, length, depth=depth, seed=3)
    assert prompt.context.shape == (1, length)
    key = tokenizer.decode(prompt.answer[0]).strip()
    assert len(key) == 5
    marked = tokenizer.decode(prompt.context[0, prompt.evidence])
    assert marked == key * 2
    assert prompt.text.endswith(f"What is the pass key? The pass key is {key}")
    assert f" The pass key is {key}. Remember it." in tokenizer.decode(prompt.context[0])


def test_depth_and_seed_decide_place_and_key(tokenizer):
    prompts = [passkey_prompt(tokenizer, 600, depth=d, seed=0) for d in (0, 0.5, 1)]
    places = [prompt.evidence[0].item() for prompt in prompts]
    assert places == sorted(places)
    assert places[2] - places[0] > 300
    assert all(torch.equal(prompt.answer, prompts[0].answer) for prompt in prompts)
    assert not torch.equal(
        passkey_prompt(tokenizer, 600, depth=0, seed=1).answer, prompts[0].answer
    )


def test_needles_stand_after_a_full_stop(tokenizer):
    text = "Call me Ishmael. Some years ago. Never mind how long. " * 20
    prompt = needle_prompt(
        tokenizer, 300, depth=0.5, text=text, needle=" The cook hid a pearl.",
        question=" What did the cook hide?", answer=" A pearl",
    )  # fmt: skip
    context = tokenizer.decode(prompt.context[0])
    before, after = context.split(" The cook hid a pearl.")
    assert before.endswith(".")
    assert after
    assert context[prompt.evidence[0] : prompt.evidence[-1] + 1] == " The cook hid a pearl."


def test_chat_puts_the_question_in_the_users_turn(tokenizer):
    prompt = passkey_prompt(tokenizer, 400, depth=0.5, seed=0, chat=True)
    assert prompt.context.shape == (1, 400)
    assert prompt.text.startswith("<user>There is an important info")
    assert tokenizer.decode(prompt.question[0]).endswith(
        "What is the pass key?</user><reply>The pass key is"
    )


def test_prose_filler(tokenizer):
    prompt = passkey_prompt(
        tokenizer, 400, depth=0, seed=0, filler="prose", text="It was a dark night. " * 40
    )
    assert "dark night" in prompt.text
    assert "grass" not in prompt.text


def test_grid_has_one_row_a_trial(tokenizer):
    model = tiny_llama(vocab_size=300)
    calls = []
    table = retrieval_grid(
        model,
        tokenizer,
        lengths=[260, 300],
        depths=[0.0, 1.0],
        keep_ratios=[0.5, 0.25],
        policies={"full": None, "low": Policy(), "observation": Policy("observation")},
        skip_layers=(0, 1),
        window=16,
        progress=lambda *step: calls.append(step),
    )
    assert len(table) == 2 * 2 * (1 + 2 + 2)
    assert calls[-1][:2] == (4, 4)
    for row in table:
        assert row["filler"] == "repeat"
        assert 0 <= row["accuracy"] <= 1
        assert row["exact"] == (row["accuracy"] == 1)
        if row["policy"] == "full":
            assert (row["keep_ratio"], row["overall_kept"]) == (1, 1)
        else:
            assert row["overall_kept"] == pytest.approx((1 + row["keep_ratio"]) / 2)


@pytest.mark.parametrize("question", ["after", "inside"])
def test_full_cache_rows_agree_with_generate(tokenizer, question):
    model = tiny_llama(vocab_size=300)
    prompt = passkey_prompt(tokenizer, 260, depth=0.5, seed=0)
    whole = torch.cat([prompt.context, prompt.question], dim=1)
    tokens = prompt.answer.shape[1]
    said = model.generate(whole, max_new_tokens=tokens, do_sample=False)[:, whole.shape[1] :]
    import dataclasses

    sure = dataclasses.replace(prompt, answer=said)
    (row,) = retrieval_rows(
        model, sure, keep_ratios=[0.5], policies={"full": None}, question=question
    )
    assert row["exact"]
    assert row["question"] == question


def test_bad_input(tokenizer, model):
    with pytest.raises(ValueError, match="depth must be in 0..1, got 1.5"):
        passkey_prompt(tokenizer, 300, depth=1.5, seed=0)
    with pytest.raises(ValueError, match="length=100 tokens are too short: 2"):
        passkey_prompt(tokenizer, 100, depth=0.5, seed=0)
    with pytest.raises(ValueError, match="filler='prose' needs text="):
        passkey_prompt(tokenizer, 300, depth=0.5, seed=0, filler="prose")
    with pytest.raises(ValueError, match="text holds 5 tokens"):
        needle_prompt(tokenizer, 90, depth=0, text="Short", needle="x", question="?", answer="x")
    with pytest.raises(ValueError, match="its window of 64 queries .* got n_keep=26"):
        retrieval_grid(
            model, tokenizer, lengths=[260], depths=[0.5], keep_ratios=[0.1],
            policies={"o": Policy("observation")},
        )  # fmt: skip
