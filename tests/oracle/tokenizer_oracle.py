#!/usr/bin/env python3
"""Compares our tokenizer with the PyPI package `tokenizers`: every id and every decoded byte.

    tokenizer_oracle.py TOKENIZE_MAIN [--strings N] [--seed S] [--only CASE]

For each pre-tokenizer family it trains a small vocabulary on generated text, adds tokens of every
kind, and runs N random and adversarial strings through both. Prints one line a case; exit code 1 if
any case has a difference.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
LING = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
GPT4 = LING.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
            r'''[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+''' r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]


def split_then_bytes(*patterns, prefix_space=False):
    steps = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    return pre_tokenizers.Sequence(
        steps + [pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=False)])


# name, pre-tokenizer, NFC, ignore_merges, full byte alphabet, unk, adds a BOS
CASES = [
    ("gpt2", pre_tokenizers.ByteLevel(add_prefix_space=False), None, False, True, None, False),
    ("gpt2 prefix NFC unk", pre_tokenizers.ByteLevel(add_prefix_space=True), normalizers.NFC(), False, False,
     "<unk>", True),
    ("qwen NFC", split_then_bytes(QWEN), normalizers.NFC(), False, True, None, False),
    ("qwen few bytes", split_then_bytes(QWEN, prefix_space=True), None, False, False, None, False),
    ("llama3", split_then_bytes(LLAMA3), None, True, True, None, True),
    ("llama3 NFC", split_then_bytes(LLAMA3), normalizers.Sequence([normalizers.NFC()]), False, True, None, True),
    ("ling", split_then_bytes(LING), None, False, True, None, False),
    ("ling NFC", split_then_bytes(LING), normalizers.NFC(), True, True, None, False),
    ("gpt4", split_then_bytes(GPT4), None, True, True, None, False),
    ("deepseek", split_then_bytes(*DEEPSEEK), None, False, True, None, True),
    ("digits", pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                        pre_tokenizers.ByteLevel(add_prefix_space=False)]),
     None, False, True, None, False),
]

ADDED = [
    AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True),
    AddedToken("<|im_end|>>", special=True), AddedToken("<think>", special=False, normalized=False),
    AddedToken("</think>", special=False, normalized=False),
    AddedToken("[L]", special=True, lstrip=True), AddedToken("[R]", special=True, rstrip=True),
    AddedToken("[LR]", special=False, normalized=False, lstrip=True, rstrip=True),
    AddedToken("word", special=False, single_word=True, normalized=True),
    AddedToken("caf\u00e9", special=False, normalized=True),
    AddedToken("re\u0301sume\u0301", special=False, normalized=True),
    AddedToken("[norm]", special=True, normalized=True),
    AddedToken("   ", special=False, normalized=False), AddedToken("\u0120x", special=False, normalized=False),
]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("the of and to in a is that for it as was with be by on not he his but at are this have from or had an "
         "they which one you were all her she there would their we him been has when who will no more if out so "
         "up said what its about than into them can only other time new some could these two may first then do "
         "any like my now over such our man me even most made after also well did many must before back see "
         "through way where get much go good day very don't we'll I've she's he'd it's they're").split()
UNICODE = list("äöüßéèñçøåœſKÅıİǆǅŉﬀﬆ") + list("привет мир") + list("你好世界龥鿿") + list("こんにちはカタカナ゠ヿ゛") + \
    list("안녕하세요") + list("مرحبا") + list("हिन्दी") + list("ไทย") + list("🙂👍🏽👨‍👩‍👧🇩🇪") + \
    list("\u0301\u0323\u0308\u0345\u1161\u11a8\u1100\ud7a3\u0344\u2126\u212b\ufb1d\u1e9b\u0958\u2adc") + \
    list("\u07fd\u0898\u1ace\u1715\U00011938\U00011935\U00011930\U0001e4ec") + \
    list("\u00a0\u2003\u3000\u1680\u0085\u2028\u200b\u200c\u200d\ufeff\u180e\x0b\x0c\x1c\x1f\x00\x7f\u00ad") + \
    list("²½Ⅳ٣१๑①〇㊿𝟘🄀ⒶⓐＡ＿‿⁀") + list("\u1c89\ua7cb\U00010d40\U00016d6d\U0001fae9\U0002ebf0\U0001ccf0\u0897")
APOSTROPHES = ["'s", "'S", "'ſ", "'ſx", "'ſ'ſthe", "'t", "'T", "'re", "'RE", "'rE", "'ve", "'VE", "'m", "'ll", "'LL", "'lL", "'d",
               "'D", "'r", "'l", "'v", "''s", "'sx", "’s", "'ﬆ", "'ŉ"]
SPACES = [" ", "  ", "   ", "\n", "\r\n", "\n\n", "\r", "\t", " \n", "\n ", " \t \n  ", "\u00a0", "\u2003", "\u3000\n"]


def random_code_point(rng):
    while True:
        c = rng.choice((rng.randrange(0x80), rng.randrange(0x800), rng.randrange(0x10000), rng.randrange(0x110000)))
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def atom(rng):
    kind = rng.randrange(13)
    if kind <= 2:
        return rng.choice(WORDS)
    if kind == 3:
        return "".join(rng.choice(LETTERS) for _ in range(rng.randrange(1, 9)))
    if kind == 4:
        return rng.choice(SPACES)
    if kind == 5:
        return str(rng.randrange(10 ** rng.randrange(1, 12)))
    if kind == 6:
        return rng.choice(APOSTROPHES)
    if kind == 7:
        return "".join(rng.choice(UNICODE) for _ in range(rng.randrange(1, 5)))
    if kind == 8:
        return rng.choice("!?.,;:-_/\\()[]{}<>|@#$%^&*+=~`\"'") * rng.randrange(1, 4)
    if kind == 9:
        return random_code_point(rng)
    if kind == 10:
        content = rng.choice(ADDED).content
        return content if rng.random() < 0.8 else content[:rng.randrange(len(content))]
    if kind == 11:
        return rng.choice(WORDS).capitalize() + rng.choice(["", ".", ",", "\n", "'s", "'LL"])
    return " "


def random_string(rng):
    if rng.random() < 0.03:  # a long run of one thing
        return (atom(rng) or "x") * rng.randrange(1, 200)
    if rng.random() < 0.01:  # a long piece, over several merge windows
        return "".join(rng.choice(WORDS + ["e\u0301", "zq"]) for _ in range(rng.randrange(50, 500)))
    glue = rng.choice(["", "", " "])
    return glue.join(atom(rng) for _ in range(rng.randrange(0, 14)))


def conversation(rng, theirs):
    """Messages between control tokens, as a template writes them: (text, plain ranges, ids). The
    messages are full of control-token text, which must stay text."""
    start, end = theirs.token_to_id("<|im_start|>"), theirs.token_to_id("<|im_end|>")
    text, ranges, ids = "", [], []
    theirs.encode_special_tokens = True
    for _ in range(rng.randrange(1, 4)):
        message = random_string(rng)
        text += "<|im_start|>"
        begin = len(text.encode())
        text += message
        ranges += [begin, len(text.encode())]
        text += "<|im_end|>"
        ids += [start] + theirs.encode(message, add_special_tokens=False).ids + [end]
    theirs.encode_special_tokens = False
    return text, ranges, ids


def harmless(rng, theirs):
    """Messages without control-token text: marking them must change nothing."""
    text, ranges = "", []
    for _ in range(rng.randrange(1, 5)):
        text += rng.choice(["", "<|im_start|>user\n", "<|im_end|>\n", "[L]", "\n\n", " "])
        begin = len(text.encode())
        text += rng.choice(WORDS + APOSTROPHES + SPACES + UNICODE) * rng.randrange(1, 4)
        ranges += [begin, len(text.encode())]
    return text, ranges, theirs.encode(text, add_special_tokens=False).ids


def corpus(rng, lines):
    for _ in range(lines):
        line = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, 20)))
        if rng.random() < 0.3:
            line += random_string(rng)
        yield line


def build(case, rng, lines):
    name, pre, normalizer, ignore_merges, full_alphabet, unk, bos = case
    tokenizer = Tokenizer(models.BPE(unk_token=unk, ignore_merges=ignore_merges, fuse_unk="NFC" in name))
    tokenizer.pre_tokenizer = pre
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"] + ([unk] if unk else [])
    alphabet = pre_tokenizers.ByteLevel.alphabet() if full_alphabet else list("abcdefghijklmnopqrstuvwxyz\u0120")
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=special, initial_alphabet=alphabet,
                                  limit_alphabet=1000 if full_alphabet else 60, show_progress=False)
    tokenizer.train_from_iterator(corpus(rng, lines), trainer)
    tokenizer.add_tokens(ADDED)
    if bos:
        template = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A $B:1",
            special_tokens=[("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def as_legacy_merges(text):
    """The same file with merges as "a b" strings, as older files have them."""
    data = json.loads(text)
    data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
    return json.dumps(data, ensure_ascii=False)


class Ours:
    """Collects requests, sends them in one go, and hands out the answers in order."""

    def __init__(self, binary, path):
        self.command = [binary, str(path)]
        self.requests = []

    def ask(self, op, first, second, payload):
        self.requests.append(b"%s %d %d %d\n" % (op, first, second, len(payload)) + payload)

    def answers(self):
        done = subprocess.run(self.command, input=b"".join(self.requests), stdout=subprocess.PIPE, check=True)
        at = 0
        while at < len(done.stdout):
            end = done.stdout.index(b"\n", at)
            size = int(done.stdout[at:end])
            yield done.stdout[end + 1:end + 1 + size]
            at = end + 1 + size


def check_case(case, binary, rng, strings, folder):
    name = case[0]
    theirs = build(case, rng, 3000)
    text = theirs.to_str()
    path = pathlib.Path(folder) / "tokenizer.json"
    path.write_text(as_legacy_merges(text) if case[3] else text, encoding="utf-8")
    texts = [random_string(rng) for _ in range(strings)]
    ours = Ours(binary, path)
    expected = []
    vocab_size = theirs.get_vocab_size()
    for parse in (True, False):
        theirs.encode_special_tokens = not parse
        for string in texts:
            for add in (True, False):
                expected.append(("encode", add, parse, string,
                                 theirs.encode(string, add_special_tokens=add).ids))
                ours.ask(b"e", add, parse, string.encode())
    theirs.encode_special_tokens = False
    for _ in range(strings // 2):
        for make in (conversation, harmless):
            string, ranges, ids = make(rng, theirs)
            expected.append(("encode " + make.__name__, 0, 0, (string, ranges), ids))
            ours.ask(b"p", 0, 0, " ".join(map(str, ranges)).encode() + b"\n" + string.encode())
    for string in texts:
        ids = theirs.encode(string).ids if rng.random() < 0.5 else \
            [rng.randrange(vocab_size + 3) for _ in range(rng.randrange(30))]
        payload = " ".join(map(str, ids)).encode()
        for skip in (True, False):
            for op in (b"d", b"s"):
                expected.append(("decode " + op.decode(), skip, 0, ids, theirs.decode(ids, skip_special_tokens=skip)))
                ours.ask(op, skip, 0, payload)
    count = 0
    for (what, first, second, given, want), got in zip(expected, ours.answers(), strict=True):
        value = got.decode() if what.startswith("decode") else [int(i) for i in got.split()]
        if value != want:
            print(f"{name}: {what} {first} {second} of {given!r}\n  tokenizers {want!r}\n  sluice     {value!r}")
            if isinstance(want, list):
                print("  tokenizers", [theirs.id_to_token(i) for i in want])
                print("  sluice    ", [theirs.id_to_token(i) for i in value])
            return False
        count += 1
    print(f"{name}: {len(texts)} strings, {count} comparisons equal (vocabulary {vocab_size})")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="tokenize_main of the build")
    parser.add_argument("--strings", type=int, default=10000, help="strings a case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    args = parser.parse_args()
    print(f"tokenizers {tokenizers.__version__}, seed {args.seed}")
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if args.only in case[0]:
                rng = random.Random(f"{args.seed} {case[0]}")
                good = check_case(case, args.binary, rng, args.strings, folder)
                passed += good
                failed += not good
    print(f"tokenizer_oracle: {passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
