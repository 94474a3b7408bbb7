"""Writes the held-out test sets: make_eval.py MODEL_FOLDER -> MODEL_FOLDER/eval/*.jsonl and filler.json

Only problems on the test side of the split (tasks.held_out). Format: models/sluice-tiny/eval/README.md.
"""
import json
import pathlib
import random
import sys

from tokenizers import Tokenizer

import chat
from tasks import (GENERATORS, RECALL_ASK, draw, fact_question, fact_sentence, filler_sentence,
                   held_out, make_facts)

ITEMS = 200
FILLER = 509  # a prime, so that every stride walks through all sentences


def item(task, number, problem, thinking=False, check=None, max_tokens=160):
    line = {"id": f"{task}-{number:03d}", "messages": chat.prompt_messages(problem)}
    if problem.tools:
        line["tools"] = problem.tools
    if thinking:
        line["chat_template_kwargs"] = {"enable_thinking": True}
    return line | {"check": check or problem.check, "max_tokens": max_tokens,
                   "reference": chat.target(problem, thinking)}


def plain_set(task, rng):
    seen, lines = set(), []
    while len(lines) < ITEMS:
        thinking = task == "think"
        source = rng.choice(["arithmetic", "arithmetic", "lists"]) if thinking else task
        problem = draw(GENERATORS[source], rng, test=True)
        if problem.key in seen or (task == "tool" and problem.check["kind"] != "json_tool_call"):
            continue
        seen.add(problem.key)
        if thinking:
            check = {"kind": "think_" + problem.check["kind"], "value": problem.check["value"]}
            lines.append(item(task, len(lines), problem, True, check))
        else:
            lines.append(item(task, len(lines), problem))
    return lines


def expand(context, filler):
    """The text of a context: the reference for the rule in eval/README.md."""
    out, inserts = [], context["insert"]
    for i in range(context["count"]):
        out += [text for at, text in inserts if at == i]
        out.append(filler[(context["start"] + i * context["stride"]) % len(filler)])
    return " ".join(out)


def recall_set(tokens, rng, filler, tokenizer):
    """One fact asked for, up to three others; the prompt fills `tokens` up to one sentence."""
    seen, lines = set(), []
    while len(lines) < ITEMS:
        facts = make_facts(rng, rng.randint(1, 4))
        key = "recall|" + "|".join(facts[0])
        if not held_out(key) or key in seen:
            continue
        seen.add(key)
        content = RECALL_ASK.format("{context}", fact_question(facts[0]))
        start, stride = rng.randrange(FILLER), rng.randrange(1, FILLER)
        places = [rng.random() for _ in facts]

        def context(count):
            insert = [[int(place * count), fact_sentence(f)] for place, f in zip(places, facts)]
            return {"start": start, "stride": stride, "count": count, "insert": sorted(insert)}

        def length(count):
            text = content.replace("{context}", expand(context(count), filler))
            return len(tokenizer.encode(chat.render([{"role": "user", "content": text}])).ids)

        count = tokens // 11
        while length(count) > tokens:
            count -= 1
        while length(count + 1) <= tokens:
            count += 1
        lines.append({"id": f"recall-{tokens}-{len(lines):03d}",
                      "messages": [{"role": "user", "content": content}], "context": context(count),
                      "check": {"kind": "contains", "value": facts[0][2]}, "max_tokens": 40,
                      "reference": fact_sentence(facts[0])})
    return lines


def main(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    out = folder / "eval"
    out.mkdir(exist_ok=True)
    rng = random.Random("eval")
    filler = []
    while len(filler) < FILLER:
        sentence = filler_sentence(rng)
        if sentence not in filler:
            filler.append(sentence)
    (out / "filler.json").write_text(json.dumps(filler, indent=0) + "\n")
    sets = {task: plain_set(task, rng) for task in ("arithmetic", "lists", "about", "tool", "think")}
    sets |= {f"recall-{n}": recall_set(n, rng, filler, tokenizer) for n in (1024, 2048, 4096)}
    for name, lines in sets.items():
        (out / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
