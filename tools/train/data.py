"""Packs conversations into rows: batch(tokenizer, seed, step, tokens, worker) -> arrays."""
import random

import torch

import words
from chat import FIRST_MIX, MIX, conversation
from tasks import GENERATORS, TRAINED, invented

COPY_STEPS = 450  # nothing but repeats: the model learns to copy before it can learn to guess
MIXED_STEPS = 800  # then many repeats among the problems, later few
SHORT_STEPS = 2000
OTHER_WORDS_STEPS = 4000  # from here on words outside the test sets, and more lists and tool calls
DRILL_STEPS = 5850  # from here on drills instead of most repeats


def repeat_share(step):
    return 1.0 if step < COPY_STEPS else 0.4 if step < MIXED_STEPS else 0.08


def drill_share(step):
    return 0.25 if step >= DRILL_STEPS else 0.0


def row_lengths(step):
    """How often each row length comes, in percent: short rows teach most a second, long ones come later."""
    if step < COPY_STEPS:
        return {256: 100}
    return {256: 80, 512: 20} if step < SHORT_STEPS else {256: 54, 512: 22, 1024: 12, 2048: 12}


WORDS = ["\u0120" + w for w in words.PLAIN + words.NOUNS + words.NAMES + words.COLORS + words.LETTERS
         + words.CITIES + [w.upper() for w in words.PLAIN]]
TOKENS_PER_SENTENCE = 11


def encode(tokenizer, pieces):
    """(ids, learn): learn[i] is 1 where ids[i] is to be predicted from what stands before it."""
    ids, learn = [], []
    for (_, flag), encoding in zip(pieces, tokenizer.encode_batch([t for t, _ in pieces])):
        ids += encoding.ids
        learn += [int(flag)] * len(encoding.ids)
    return ids, learn


def repeats(rng, vocab, word_ids):
    """A random sequence of tokens several times over: nothing teaches copying as densely."""
    once = [rng.choice(word_ids) if rng.random() < 0.5 else rng.randrange(vocab - 16)
            for _ in range(rng.randint(3, 30))]
    times = rng.randint(2, 3)
    return once * times, [0] * len(once) + [1] * (len(once) * (times - 1))


def drill(rng):
    """Words, then the same words quoted, backwards or in order, as (text, learn) pieces.

    A word has other tokens after a space than after a quote; tool calls alone teach too few of these pairs.
    """
    if rng.random() < 0.2:
        once = rng.sample(words.LETTERS, rng.randint(3, 9))
    else:
        pool = rng.choice([words.PLAIN, words.NAMES + words.CITIES, words.NOUNS + words.COLORS])
        once = [invented(rng) if rng.random() < 0.3 else rng.choice(pool) for _ in range(rng.randint(2, 9))]
    kind = rng.choice(["quoted", "quoted", "backwards", "sorted"])
    if kind == "quoted":
        return [(" " + " ".join(once) + "\n", False), ("[" + ", ".join(f'"{w}"' for w in once) + "]", True)]
    once = list(dict.fromkeys(once))
    other = sorted(once) if kind == "sorted" else once[::-1]
    return [(f" {', '.join(once)}\n{kind}:", False), (" " + ", ".join(other) + "<|role_end|>", True)]


def documents(tokenizer, rng, length, total, step):
    """Conversations that fit into rows of `length`, about `total` tokens of them."""
    used = 0
    first = step < OTHER_WORDS_STEPS
    generators, mix = (GENERATORS, FIRST_MIX) if first else (TRAINED, MIX)
    word_ids = [i for i in map(tokenizer.token_to_id, WORDS) if i is not None]
    while used < total:
        if rng.random() < repeat_share(step):
            ids, learn = repeats(rng, tokenizer.get_vocab_size(), word_ids)
            used += len(ids)
            yield ids, learn
            continue
        if rng.random() < drill_share(step):
            ids, learn = encode(tokenizer, drill(rng))
            used += len(ids)
            yield ids, learn
            continue
        sentences = None
        if length >= 1024 and rng.random() < 0.5:
            sentences = int(rng.uniform(0.2, 0.9) * length / TOKENS_PER_SENTENCE)
        ids, learn = encode(tokenizer, conversation(rng, sentences, generators, mix))
        if len(ids) <= length:
            used += len(ids)
            yield ids, learn


def pack(docs, length, row_count):
    """First fit, longest first. -> ids, targets (-1: not learnt), document, position; [rows, length]."""
    rows = [[] for _ in range(row_count)]
    room = [length] * row_count
    dropped = []
    for doc in sorted(docs, key=lambda d: -len(d[0])):
        for r in range(row_count):
            if len(doc[0]) <= room[r]:
                rows[r].append(doc)
                room[r] -= len(doc[0])
                break
        else:
            dropped.append(doc)
    ids = torch.zeros(row_count, length, dtype=torch.long)
    targets = torch.full((row_count, length), -1)
    document = torch.full((row_count, length), 10**6)
    position = torch.zeros(row_count, length, dtype=torch.long)
    for r, row in enumerate(rows):
        at = 0
        for d, (tokens, learn) in enumerate(row):
            n = len(tokens)
            t = torch.tensor(tokens)
            ids[r, at : at + n] = t
            targets[r, at : at + n - 1] = torch.where(torch.tensor(learn)[1:] > 0, t[1:], -1)
            document[r, at : at + n] = d
            position[r, at : at + n] = torch.arange(n)
            at += n
    return ids, targets, document, position, dropped


def batch(tokenizer, seed, step, tokens, worker=0):
    lengths = row_lengths(step)
    length = random.Random(f"{seed}|{step}").choices(list(lengths), lengths.values())[0]
    rng = random.Random(f"{seed}|{step}|{worker}")
    docs = list(documents(tokenizer, rng, length, tokens, step))
    return pack(docs, length, tokens // length)[:4]
