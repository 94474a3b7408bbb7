"""Packs conversations into rows: batch(tokenizer, seed, step, tokens, worker) -> arrays."""
import random

import torch

from chat import LATER_MIX, MIX, conversation

SHORT_STEPS = 800
FIRST_MIX_STEPS = 604


def row_lengths(step):
    """How often each row length comes, in percent: short rows teach most a second, long ones come later."""
    return {256: 80, 512: 20} if step < SHORT_STEPS else {256: 50, 512: 26, 1024: 14, 2048: 10}


TOKENS_PER_SENTENCE = 11


def encode(tokenizer, pieces):
    """(ids, learn): learn[i] is 1 where ids[i] is to be predicted from what stands before it."""
    ids, learn = [], []
    for (_, flag), encoding in zip(pieces, tokenizer.encode_batch([t for t, _ in pieces])):
        ids += encoding.ids
        learn += [int(flag)] * len(encoding.ids)
    return ids, learn


def documents(tokenizer, rng, length, total, mix):
    """Conversations that fit into rows of `length`, about `total` tokens of them."""
    used = 0
    while used < total:
        sentences = None
        if length >= 1024 and rng.random() < 0.5:
            sentences = int(rng.uniform(0.2, 0.9) * length / TOKENS_PER_SENTENCE)
        ids, learn = encode(tokenizer, conversation(rng, sentences, mix))
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
    mix = MIX if step < FIRST_MIX_STEPS else LATER_MIX
    return pack(list(documents(tokenizer, rng, length, tokens, mix)), length, tokens // length)[:4]
