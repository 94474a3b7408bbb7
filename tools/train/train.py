"""Trains the bundled model: train.py --run FOLDER --steps N. Interrupted runs continue where they stopped.

Muon for the matrices (half the step for those that write into the residual stream), Adam for embeddings,
norms and routers; constant rate with a linear decay over the last 30 % of the steps. The expert bias follows the load (no auxiliary loss). Batches are a function of
(seed, step), so a resumed run sees what an uninterrupted one would have seen.
"""
import argparse
import json
import pathlib
import random
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import chat
import data
from fast_model import FastModel, parameters_from
from tasks import GENERATORS, draw, recall

HERE = pathlib.Path(__file__).parent
TOKENS = 4096  # in a batch of all workers, whatever the row length
TIMEOUT_S = 900


def newton_schulz(g, steps=5):
    """Nearly the nearest orthogonal matrix of each matrix of a stack (the quintic of Muon)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    flip = x.shape[-2] > x.shape[-1]
    if flip:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        y = x @ x.mT
        x = a * x + (b * y + c * y @ y) @ x
    return (x.mT if flip else x).float()


def is_adam(name, tensor):
    return tensor.ndim == 1 or name.split(".")[-1] in ("embed", "head", "router")


class Optimizer:
    """Updates the parameters `names`, whose gradients are the means over the workers' buffers."""

    def __init__(self, shared, names):
        self.p, self.m, self.v, self.average = (shared[k] for k in ("p", "m", "v", "average"))
        self.gradients = shared["gradients"]
        self.adam = [n for n in names if is_adam(n, self.p[n])]
        self.muon = [n for n in names if n not in self.adam]

    def mean(self, name):
        return sum(buffer[name] for buffer in self.gradients) / len(self.gradients)

    @torch.no_grad()
    def step(self, t, scale):
        by_shape = {}
        for n in self.muon:
            g, m = self.mean(n), self.m[n]
            m.lerp_(g, 0.05)
            update = g.lerp(m, 0.95)
            by_shape.setdefault(update.shape[-2:], []).append((n, update))
        for (rows, cols), group in by_shape.items():
            stacked = newton_schulz(torch.cat([u.reshape(-1, rows, cols) for _, u in group]))
            stacked *= 0.02 * scale * max(1, rows / cols) ** 0.5
            for (n, u), update in zip(group, stacked.split([u.numel() // (rows * cols) for _, u in group])):
                part = 0.5 if n.split(".")[-1] in ("out", "down") else 1.0
                self.p[n].mul_(1 - 0.002 * scale).sub_(update.view_as(u) * part)
        for n in self.adam:
            g, m, v = self.mean(n), self.m[n], self.v[n]
            m.lerp_(g, 0.1)
            v.lerp_(g * g, 0.02)
            speed = (0.005 if n in ("embed", "head") else 0.003) * scale
            self.p[n].sub_(speed * (m / (1 - 0.9**t)) / ((v / (1 - 0.98**t)).sqrt() + 1e-9))
        keep = min(0.99, t / (t + 19))
        for n in self.adam + self.muon:
            self.average[n].lerp_(self.p[n], 1 - keep)


def rate(step, steps):
    decay = max(1, int(0.3 * steps))
    return min(1.0, (step + 1) / 100, max(0.0, (steps - step) / decay))


def test_documents(tokenizer, count):
    """Held-out problems by task, {task: [document]}; one answer each."""
    rng = random.Random("test")
    tests = {}
    for task in ("arithmetic", "lists", "about", "tool", "recall", "think", "recall1024", "recall2048"):
        docs = tests[task] = []
        while len(docs) < (16 if task == "recall2048" else 32 if task == "recall1024" else count):
            if task.startswith("recall1") or task.startswith("recall2"):
                limit = int(task[6:])
                problem = draw(lambda r: recall(r, int(limit * 0.9 / data.TOKENS_PER_SENTENCE), 1), rng, True)
            else:
                problem = draw(GENERATORS["arithmetic" if task == "think" else task], rng, True)
            thinking = task == "think"
            pieces = [(chat.render(chat.prompt_messages(problem), problem.tools, thinking), False),
                      (chat.target(problem, thinking) + "<|role_end|>", True)]
            docs.append(data.encode(tokenizer, pieces))
    return tests


def exact_match(model, p, bias, docs, tokens):
    """Share of documents whose every target is the model's first choice (greedy decoding would write it).

    -> that share, and the same share of single tokens.
    """
    right, total, tokens_right, tokens_total = 0, len(docs), 0, 0
    while docs:
        length = next(n for n in (64, 128, 256, 512, 1024, 2048, 4096, 8192) if n >= max(len(d[0]) for d in docs))
        ids, targets, document, position, rest = data.pack(docs, length, tokens // length)
        with torch.no_grad():
            hidden, _ = model.hidden(p, bias, ids, model.prepare(document, position))
            flat = targets.flatten()
            at = (flat >= 0).nonzero()[:, 0]
            wrong = F.linear(hidden[at], p["head"]).argmax(-1) != flat[at]
        row = torch.arange(tokens // length)[:, None].expand(-1, length).flatten()
        key = (row * 10**7 + document.flatten())[at]
        right += len(key.unique()) - len(key[wrong].unique())
        tokens_right, tokens_total = tokens_right + int((~wrong).sum()), tokens_total + len(wrong)
        docs = rest
    return right / total, tokens_right / tokens_total


def worker(rank, args, config, shared, barrier):
    """One of the processes that train together: own batches, a share of the optimizer's work.

    Each has one thread: they meet twice a step instead of in every product, so that other programs on
    the machine delay them little.
    """
    torch.set_num_threads(1)
    workers = args.workers
    tokens = TOKENS // workers
    tokenizer = Tokenizer.from_file(args.tokenizer)
    model = FastModel(config, compiled=True)
    bias = shared["bias"]
    p = {n: t.detach().requires_grad_(True) for n, t in shared["p"].items()}  # same memory
    order = sorted(p, key=lambda n: (is_adam(n, p[n]), -p[n].numel()))
    optimizer = Optimizer(shared, order[rank::workers])
    tests = test_documents(tokenizer, 64)
    log = open(args.run / "log.txt", "a", buffering=1)

    def say(text):
        if rank == 0:
            print(text, flush=True)
            log.write(text + "\n")

    first = int(shared["step"])
    say(f"{sum(t.numel() for t in p.values()) / 1e6:.2f} M parameters, from step {first} to {args.steps}")
    saved_at, began, window, seen = time.time(), time.time(), [], 0
    for step in range(first, 10**9):
        if step >= int(shared["steps"]):
            break
        steps = int(shared["steps"])
        ids, targets, document, position = data.batch(tokenizer, args.seed, step, tokens, rank)
        hidden, loads = model.hidden(p, bias, ids, model.prepare(document, position))
        flat = targets.flatten()
        at = (flat >= 0).nonzero()[:, 0]
        logits = F.linear(hidden[at].bfloat16(), p["head"].bfloat16()).float()
        loss = F.cross_entropy(logits, flat[at])
        loss.backward()
        with torch.no_grad():
            for n, t in p.items():
                shared["gradients"][rank][n].copy_(t.grad)
                t.grad = None
            for i, load in loads.items():
                shared["loads"][rank, i] = load
        barrier.wait(TIMEOUT_S)
        scale = rate(step, steps)
        optimizer.step(step + 1, scale)
        if rank == 0:
            load = shared["loads"].mean(0)
            for i in loads:
                bias[i] += 0.003 * scale * torch.sign(load[i].mean() - load[i])
        barrier.wait(TIMEOUT_S)
        window.append(loss.item())
        seen += 1
        if (step + 1) % 50 == 0:
            busy = load[list(loads)] if rank == 0 else torch.ones(1)
            say(f"step {step + 1} loss {sum(window) / len(window):.4f} rate {scale:.2f} "
                f"{seen * TOKENS / (time.time() - began):.0f} tok/s "
                f"worst expert load {(busy.max() / busy.mean()).item():.1f}")
            window = []
        if (step + 1) % args.evaluate_every == 0 or step + 1 == steps:
            began_test = time.time()
            for number, (task, docs) in enumerate(tests.items()):
                if number % workers == rank:
                    shared["scores"][number] = torch.tensor(exact_match(model, shared["average"], bias, docs, tokens))
            barrier.wait(TIMEOUT_S)
            say(f"step {step + 1} EVAL " + " ".join(
                f"{t} {100 * s:.0f} ({100 * single:.1f})" for t, (s, single) in zip(tests, shared["scores"].tolist())))
            began += time.time() - began_test
        shared["step"].fill_(step + 1)
        if rank == 0 and (time.time() - saved_at > args.save_every_s or step + 1 == steps):
            new = args.run / "checkpoint.pt.new"
            keys = ("step", "p", "m", "v", "average", "bias")
            torch.save({"config": config} | {k: shared[k] for k in keys}, new)
            new.replace(args.run / "checkpoint.pt")
            saved_at = time.time()
        if rank == 0 and (args.run / "steps").exists():  # a changed mind about the length of the run
            shared["steps"].fill_(int((args.run / "steps").read_text()))
        barrier.wait(TIMEOUT_S)
    say("done")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--steps", type=int, required=True, help="a number in RUN/steps, even later, wins")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="part of the seed, as batches depend on it")
    parser.add_argument("--config", type=pathlib.Path, default=HERE / "config.json")
    parser.add_argument("--tokenizer", default=str(HERE / "../../models/sluice-tiny/tokenizer.json"))
    parser.add_argument("--evaluate-every", type=int, default=500)
    parser.add_argument("--save-every-s", type=float, default=180)
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    config = json.loads(args.config.read_text())
    p = parameters_from(config, args.seed)

    def zeros():
        return {n: torch.zeros_like(t) for n, t in p.items()}

    layers, experts = config["num_hidden_layers"], config["num_experts"]
    shared = {"p": p, "average": {n: t.clone() for n, t in p.items()}, "m": zeros(), "v": zeros(),
              "gradients": [zeros() for _ in range(args.workers)], "step": torch.zeros(1, dtype=torch.long),
              "steps": torch.tensor([args.steps]),
              "bias": torch.zeros(layers, experts), "loads": torch.zeros(args.workers, layers, experts),
              "scores": torch.zeros(16, 2)}
    if (args.run / "checkpoint.pt").exists():
        saved = torch.load(args.run / "checkpoint.pt")
        for key in ("p", "average", "m", "v"):
            for n in p:
                shared[key][n].copy_(saved[key][n])
        shared["bias"].copy_(saved["bias"])
        shared["step"].copy_(saved["step"])
    context = torch.multiprocessing.get_context("spawn")
    barrier = context.Barrier(args.workers)
    processes = [context.Process(target=worker, args=(r, args, config, shared, barrier))
                 for r in range(args.workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
