"""Trains the byte-level BPE vocabulary: make_tokenizer.py OUTPUT_FOLDER

The corpus is the training conversations plus the language reference that every Python installation
carries (pydoc_data.topics), so that ordinary English does not fall apart into letters.
"""
import json
import pathlib
import random
import sys
from pydoc_data import topics

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import words
from chat import TEMPLATE, conversation

VOCAB = 2048
PATTERN = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
           r"|\s*[\r\n]|\s+(?!\S)|\s+")
SPECIAL = ["<|startoftext|>", "<|endoftext|>", "<|role_end|>"]
TAGS = ["<role>", "</role>", "<think>", "</think>", "<tool_call>", "</tool_call>",
        "<tool_response>", "</tool_response>"]


def corpus():
    rng = random.Random(7)
    for _ in range(20000):
        yield " ".join(text for text, _ in conversation(rng))
    for text in topics.topics.values():
        yield text
    single = words.NAMES + words.THINGS + words.ADJECTIVES + words.NOUNS + words.COLORS + words.PLAIN
    single += words.CITIES + words.LETTERS
    for word in single:
        yield " " + " ".join([word] * 3000)
    for word in words.PLAIN:
        yield " " + " ".join([word.upper()] * 3000)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(SPECIAL) - len(TAGS), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in TAGS])
    assert tokenizer.get_vocab_size() == VOCAB
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {str(tokenizer.token_to_id(t)): {
        "content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
        "special": t in SPECIAL} for t in SPECIAL + TAGS}
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "add_eos_token": False,
        "added_tokens_decoder": added, "bos_token": "<|startoftext|>", "eos_token": "<|role_end|>",
        "pad_token": "<|endoftext|>", "clean_up_tokenization_spaces": False,
        "model_max_length": 8192, "chat_template": TEMPLATE}, indent=2) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
