#!/usr/bin/env python3
"""Compares our reading of tokenizer.tok.json with the PyPI package `tiktoken`: every id.

    tok_json_oracle.py TOKENIZE_MAIN [--strings N] [--seed S]
    tok_json_oracle.py --fixture FOLDER      writes a small file and expected ids, for the unit test

The vocabularies are synthetic: trained on generated text, then damaged (tokens removed, ranks moved),
so that tokens exist which no sequence of merges makes. Exit code 1 if anything differs.
"""
import argparse
import json
import pathlib
import random
import sys
import tempfile

import tiktoken
import tokenizers
from tokenizers import pre_tokenizers

from tokenizer_oracle import GPT4, LLAMA3, QWEN, Ours, corpus, random_string, split_then_bytes

SPECIAL = ["<|pad|>", "<|separator|>", "<|eos|>", "<|reserved_3|>", "<|control1|>", "<|control12|>", "<|control12|>>",
           "caf\u00e9>"]


def alphabet():
    """The byte of each character of the byte-level alphabet."""
    chars = [c for c in range(256) if 33 <= c <= 126 or 161 <= c <= 255 and c != 173]
    of = {chr(c): c for c in chars}
    for n, byte in enumerate(b for b in range(256) if b not in chars):
        of[chr(256 + n)] = byte
    return of


def train(rng, size, lines):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = split_then_bytes(QWEN)
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                             limit_alphabet=1000, show_progress=False)
    tokenizer.train_from_iterator(corpus(rng, lines), trainer)
    of = alphabet()
    tokens = [bytes(of[c] for c in text) for text, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    kept = [t for t in tokens if len(t) == 1 or rng.random() > 0.05]
    for _ in range(len(kept) // 10):  # ranks that no training gives
        i, j = rng.randrange(len(kept)), rng.randrange(len(kept))
        kept[i], kept[j] = kept[j], kept[i]
    return kept


def make_file(regular, pattern=None):
    special = [{"bytes": list(text.encode()), "token": len(regular) + i} for i, text in enumerate(SPECIAL)]
    out = {"regular_tokens": [{"bytes": list(t), "token": i} for i, t in enumerate(regular)],
           "special_tokens": special, "word_split": "V1", "vocab_size": len(regular) + len(SPECIAL),
           "default_allowed_special": [list(text.encode()) for text in SPECIAL[:3]]}
    if pattern:
        out["pat_str"] = pattern
    return out


def theirs_of(data):
    return tiktoken.Encoding(
        name="test", pat_str=data.get("pat_str", QWEN),
        mergeable_ranks={bytes(t["bytes"]): t["token"] for t in data["regular_tokens"]},
        special_tokens={bytes(t["bytes"]).decode(): t["token"] for t in data["special_tokens"]},
        explicit_n_vocab=data["vocab_size"])


def strings(rng, count):
    for _ in range(count):
        text = random_string(rng)
        if rng.random() < 0.3:
            special = rng.choice(SPECIAL[:6])
            text += special[:rng.randrange(len(special) + 1)] + rng.choice([special, "", " "]) + random_string(rng)
        if "<|control12|>>" not in text:  # tiktoken prefers one of two that fit in no fixed order
            yield text


def check(name, data, binary, rng, count):
    theirs = theirs_of(data)
    expected = []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "tokenizer.tok.json"
        path.write_text(json.dumps(data))
        ours = Ours(binary, path)
        for text in strings(rng, count):
            for parse in (True, False):
                expected.append((text, parse, theirs.encode(text, allowed_special="all") if parse
                                 else theirs.encode_ordinary(text)))
                ours.ask(b"e", False, parse, text.encode())
        for (text, parse, want), got in zip(expected, ours.answers(), strict=True):
            ids = [int(i) for i in got.split()]
            if ids != want:
                print(f"{name}: parse_special {parse} of {text!r}\n  tiktoken {want}\n  sluice   {ids}")
                return False
    print(f"{name}: {len(expected)} comparisons equal (vocabulary {data['vocab_size']})")
    return True


def write_fixture(folder):
    rng = random.Random(7)
    data = make_file(train(rng, 420, 200))
    theirs = theirs_of(data)
    cases = []
    for text in list(strings(rng, 60)) + ["Human: hi<|separator|>\n\nAssistant:", "<|eos|>", ""]:
        if len(text) < 200:
            cases.append({"text": text, "ids": theirs.encode(text, allowed_special="all"),
                          "plain": theirs.encode_ordinary(text)})
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.tok.json").write_text(json.dumps(data, separators=(",", ":")) + "\n")
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (folder / "expected.json").write_text("[" + lines + "]\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?", help="tokenize_main of the build")
    parser.add_argument("--strings", type=int, default=10000, help="strings a case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fixture", help="folder to write")
    args = parser.parse_args()
    if args.fixture:
        return write_fixture(args.fixture)
    print(f"tiktoken {tiktoken.__version__}, seed {args.seed}")
    passed = failed = 0
    for name, size, pattern in (("V1", 3000, None), ("small", 300, None), ("three digits", 1500, LLAMA3),
                                ("GPT-4", 1500, GPT4)):
        rng = random.Random(f"{args.seed} {name}")
        good = check(name, make_file(train(rng, size, 3000), pattern), args.binary, rng, args.strings)
        passed += good
        failed += not good
    print(f"tok_json_oracle: {passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
