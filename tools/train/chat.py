"""Conversations as text: the shipped Jinja template, and the conversations the trainer learns from."""
import json
import pathlib
import random

import jinja2.sandbox

from tasks import SYSTEMS, TRAINED, draw

TEMPLATE = (pathlib.Path(__file__).parent / "chat_template.jinja").read_text()


def compile_template(text=TEMPLATE):
    """The environment that Hugging Face renders chat templates in."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
    return environment.from_string(text)


_template = compile_template()


def render(messages, tools=None, thinking=False, add_generation_prompt=True):
    return _template.render(messages=messages, tools=tools, enable_thinking=thinking,
                            add_generation_prompt=add_generation_prompt)


def target(problem, thinking):
    """What the assistant says after its role tag, without the end of turn."""
    if thinking and problem.steps:
        return f"\n<think>\n{problem.steps}\n</think>\n\n{problem.answer}"
    if problem.task == "arithmetic":
        return f"{problem.steps} {problem.answer}"
    return problem.answer


def prompt_messages(problem):
    system = [{"role": "system", "content": problem.system}] if problem.system else []
    return system + [{"role": "user", "content": problem.user}]


# How often each task starts a conversation, at first and later (data.py says when).
FIRST_MIX = {"arithmetic": 36, "recall": 24, "lists": 24, "about": 6, "tool": 10}
MIX = {"arithmetic": 34, "recall": 15, "lists": 32, "about": 6, "tool": 13}


def conversation(rng, sentence_count=None, generators=TRAINED, mix=MIX):
    """Pieces (text, learn) of one training conversation; learnt pieces are assistant turns.

    Most hold one problem; some go on with further ones, as a user would. Reasoning of earlier turns is
    dropped by the template, so a thinking conversation has one turn.
    """
    if sentence_count:
        problem = draw(lambda r: TRAINED["recall"](r, sentence_count, r.randint(3, 8)), rng)
    else:
        problem = draw(generators[rng.choices(list(mix), mix.values())[0]], rng)
    thinking = bool(problem.steps) and rng.random() < 0.2
    if rng.random() < 0.1:
        problem.system = rng.choice(SYSTEMS)
    pieces = [(render(prompt_messages(problem), problem.tools, thinking), False),
              (target(problem, thinking) + "<|role_end|>", True)]
    if thinking and problem.task != "tool":
        return pieces
    turns = list(problem.more)
    if not problem.tools and not sentence_count and rng.random() < 0.15:
        for _ in range(rng.randint(1, 2)):
            task = rng.choice(["arithmetic", "lists", "about"])
            other = draw(generators[task], rng)
            turns.append(("user", other.user, target(other, False)))
    if thinking:
        turns = []
    for role, text, answer in turns:
        if role == "tool":
            text = f"<role>OBSERVATION</role>\n<tool_response>\n{text}\n</tool_response>"
        else:
            text = f"<role>HUMAN</role>{text}"
        pieces.append((text + "<|role_end|><role>ASSISTANT</role>", False))
        pieces.append((answer + "<|role_end|>", True))
    return pieces


if __name__ == "__main__":
    generator = random.Random(1)
    for _ in range(30):
        print("".join(f"[[{text}]]" if learn else text for text, learn in conversation(generator)), "\n---")
