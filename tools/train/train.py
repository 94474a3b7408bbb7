"""Trains the bundled model: train.py --run FOLDER --steps N. Interrupted runs continue where they stopped.

Muon for the matrices, Adam for embeddings, norms and routers; constant rate with a linear decay over the
last 30 % of the steps. The expert bias follows the load (no auxiliary loss). Batches are a function of
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
TOKENS = 8192  # in a batch, whatever the row length


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


class Optimizer:
    def __init__(self, parameters):
        self.p = parameters
        self.adam = [n for n, t in parameters.items() if t.ndim == 1 or n.split(".")[-1] in ("embed", "head", "router")]
        self.muon = [n for n in parameters if n not in self.adam]
        self.state = {n: torch.zeros_like(t) for n, t in parameters.items()}
        self.second = {n: torch.zeros_like(parameters[n]) for n in self.adam}

    @torch.no_grad()
    def step(self, t, scale):
        by_shape = {}
        for n in self.muon:
            g, m = self.p[n].grad, self.state[n]
            m.lerp_(g, 0.05)
            update = g.lerp(m, 0.95)
            by_shape.setdefault(update.shape[-2:], []).append((n, update))
        for (rows, cols), group in by_shape.items():
            stacked = newton_schulz(torch.cat([u.reshape(-1, rows, cols) for _, u in group]))
            stacked *= 0.02 * scale * max(1, rows / cols) ** 0.5
            for (n, u), update in zip(group, stacked.split([u.numel() // (rows * cols) for _, u in group])):
                self.p[n].mul_(1 - 0.0005 * scale).sub_(update.view_as(u))
        for n in self.adam:
            g, m, v = self.p[n].grad, self.state[n], self.second[n]
            m.lerp_(g, 0.1)
            v.lerp_(g * g, 0.02)
            rate = (0.005 if n in ("embed", "head") else 0.003) * scale
            self.p[n].sub_(rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.98**t)).sqrt() + 1e-9))
        for t_ in self.p.values():
            t_.grad = None


def rate(step, steps):
    decay = max(1, int(0.3 * steps))
    return min(1.0, (step + 1) / 60, max(0.0, (steps - step) / decay))


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


def exact_match(model, p, bias, docs):
    """Share of documents whose every target is the model's first choice: greedy decoding would write it."""
    right, total = 0, len(docs)
    while docs:
        length = next(n for n in (256, 512, 1024, 2048, 4096) if n >= max(len(d[0]) for d in docs))
        ids, targets, document, position, rest = data.pack(docs, length, TOKENS // length)
        with torch.no_grad():
            hidden, _ = model.hidden(p, bias, ids, model.prepare(document, position))
            flat = targets.flatten()
            at = (flat >= 0).nonzero()[:, 0]
            wrong = F.linear(hidden[at], p["head"]).argmax(-1) != flat[at]
        row = torch.arange(TOKENS // length)[:, None].expand(-1, length).flatten()
        key = (row * 10**7 + document.flatten())[at]
        right += len(key.unique()) - len(key[wrong].unique())
        docs = rest
    return right / total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--config", type=pathlib.Path, default=HERE / "config.json")
    parser.add_argument("--tokenizer", default=str(HERE / "../../models/sluice-tiny/tokenizer.json"))
    parser.add_argument("--evaluate-every", type=int, default=250)
    parser.add_argument("--save-every-s", type=float, default=180)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    config = json.loads(args.config.read_text())
    tokenizer = Tokenizer.from_file(args.tokenizer)
    model = FastModel(config, compiled=True)
    checkpoint = args.run / "checkpoint.pt"
    p = parameters_from(config, args.seed)
    optimizer = Optimizer(p)
    bias = {i: torch.zeros(config["num_experts"]) for i in range(config["num_hidden_layers"])}
    average = {n: t.clone() for n, t in p.items()}
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        first = saved["step"]
        for mine, theirs in ((p, saved["p"]), (average, saved["average"]), (bias, saved["bias"]),
                             (optimizer.state, saved["state"]), (optimizer.second, saved["second"])):
            for n in mine:
                mine[n].copy_(theirs[n])
    for t in p.values():
        t.requires_grad_(True)
    log = open(args.run / "log.txt", "a", buffering=1)

    def say(text):
        print(text, flush=True)
        log.write(text + "\n")

    say(f"{sum(t.numel() for t in p.values()) / 1e6:.2f} M parameters, from step {first} to {args.steps}")
    tests = test_documents(tokenizer, 64)
    saved_at, began, window, seen = time.time(), time.time(), [], 0

    def save(step):
        torch.save({"step": step, "p": p, "average": average, "bias": bias, "state": optimizer.state,
                    "second": optimizer.second, "config": config}, str(checkpoint) + ".new")
        pathlib.Path(str(checkpoint) + ".new").replace(checkpoint)

    for step in range(first, args.steps):
        ids, targets, document, position = data.batch(tokenizer, args.seed, step, TOKENS)
        hidden, loads = model.hidden(p, bias, ids, model.prepare(document, position))
        flat = targets.flatten()
        at = (flat >= 0).nonzero()[:, 0]
        logits = F.linear(hidden[at].bfloat16(), p["head"].bfloat16()).float()
        loss = F.cross_entropy(logits, flat[at])
        loss.backward()
        scale = rate(step, args.steps)
        optimizer.step(step + 1, scale)
        with torch.no_grad():
            for i, load in loads.items():
                bias[i] += 0.003 * scale * torch.sign(load.mean() - load)
            keep = min(0.995, (step + 1) / (step + 20))
            torch._foreach_lerp_(list(average.values()), [t.detach() for t in p.values()], 1 - keep)
        window.append(loss.item())
        seen += 1
        if (step + 1) % 25 == 0:
            worst = max((load.max() / load.mean()).item() for load in loads.values())
            say(f"step {step + 1} loss {sum(window) / len(window):.4f} rate {scale:.2f} "
                f"{seen * TOKENS / (time.time() - began):.0f} tok/s worst expert load {worst:.1f}")
            window = []
        if (step + 1) % args.evaluate_every == 0 or step + 1 == args.steps:
            began_test = time.time()
            scores = {task: exact_match(model, average, bias, docs) for task, docs in tests.items()}
            say(f"step {step + 1} EVAL " + " ".join(f"{t} {100 * s:.0f}" for t, s in scores.items()))
            began += time.time() - began_test
        if time.time() - saved_at > args.save_every_s or step + 1 == args.steps:
            save(step + 1)
            saved_at = time.time()
    say("done")


if __name__ == "__main__":
    main()
