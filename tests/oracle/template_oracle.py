#!/usr/bin/env python3
"""Compares our chat-template engine with jinja2, set up as transformers sets it up.

    template_oracle.py RENDER_MAIN [--random N] [--seed S] [--show K]

Four parts: hand-written snippets (snippets.txt), whole templates over the conversations of
conversations.py (some with the text that must come out) and over random ones, and random expressions. Both sides must give the same bytes, or both an error. Prints a summary line and
up to K differences; exit code 1 if there is one.
"""
import argparse
import datetime
import json
import pathlib
import random
import subprocess
import sys
import time
import warnings

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from conversations import CONVERSATIONS

HERE = pathlib.Path(__file__).resolve().parent
NOW = 1790000000


class Generation(jinja2.ext.Extension):
    """The tag that transformers defines to mark what the assistant wrote."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_inside")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _inside(self, caller):
        return caller()


def make_environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime.fromtimestamp(NOW).strftime(f)
    return env


class Jinja:
    def __init__(self):
        self.env = make_environment()
        self.parsed = {}

    def render(self, source, inputs):
        try:
            if source not in self.parsed:
                self.parsed[source] = self.env.from_string(source)
            return self.parsed[source].render(**inputs), None
        except Exception as error:  # any failure counts: which one is not compared
            return None, f"{type(error).__name__}: {error}"


class Ours:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, source, inputs):
        line = json.dumps({"template": source, "inputs": inputs, "now": NOW})
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"the engine died on: {line}")
        answer = json.loads(answer)
        return answer.get("text"), answer.get("error")


TEXTS = ["", " ", "hi", "Hello, world!", "line\nbreak", "\n\nlead and trail\n\n", "quote ' and \"", "back\\slash",
         "<think>\nhm\n</think>\n\nanswer", "</think>x", "<tool_response>\n1\n</tool_response>", "日本語テキスト", "Straße ΑΣ ß",
         "e\u0301 combining", "\U0001f600 emoji", "tab\there", "a\r\nb", "{{ not a template }}", "{% raw %}", "\u00a0nbsp\u2003",
         "control \x01\x1f\x7f", "\u2028sep\u2029", "0", "3.14", "-7", "1e5", "true", "ǆ ŉ ﬃ", "<|im_start|>x"]


def random_text(rng):
    if rng.random() < 0.5:
        return rng.choice(TEXTS)
    alphabet = "abc XYZ 123\n\t'\"\\<>/|{}%#-éßΣ日\u00a0\U0001f600"
    return "".join(rng.choice(alphabet) for _ in range(rng.randrange(60)))


def random_json(rng, depth=3):
    kind = rng.randrange(9 if depth else 6)
    if kind == 0:
        return None
    if kind == 1:
        return rng.random() < 0.5
    if kind == 2:
        return rng.choice([0, 1, -1, 7, 2**31, -2**63, 2**64 - 1, rng.randrange(-1000, 1000)])
    if kind == 3:
        return rng.choice([0.0, -0.0, 1.5, 0.1, 1e16, 1e-5, 123456789.125, 1e22, 3e300, rng.uniform(-10, 10),
                           5e-324, 1e15, 100000.0, 0.0001])
    if kind in (4, 5):
        return random_text(rng)
    if kind == 6:
        return [random_json(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(["a", "b", "name", "type", "items", "x y", "ключ", "enum", random_text(rng)]): random_json(rng, depth - 1)
            for _ in range(rng.randrange(5))}


def random_message(rng):
    role = rng.choice(["user", "user", "assistant", "assistant", "system", "tool", "tool", "other"])
    message = {"role": role, "content": random_text(rng) if rng.random() < 0.93 else rng.choice(
        [None, [{"type": "text", "text": random_text(rng)}], random_json(rng)])}
    if role == "assistant":
        if rng.random() < 0.3:
            message["reasoning_content"] = random_text(rng)
        if rng.random() < 0.4:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": random_text(rng), "arguments": random_json(rng)}}
                for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))]
    if rng.random() < 0.1:
        del message["content"]
    return message


def random_conversation(rng):
    messages = [random_message(rng) for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 9]))]
    if messages and rng.random() < 0.7:
        messages[0]["role"] = rng.choice(["system", "user"])
    inputs = {"messages": messages, "add_generation_prompt": rng.random() < 0.5, "bos_token": "<|begin_of_text|>",
              "eos_token": "<|eot_id|>"}
    if rng.random() < 0.4:
        inputs["tools"] = rng.choice([None, [{"type": "function", "function": {
            "name": random_text(rng), "description": random_text(rng), "parameters": random_json(rng)}}
            for _ in range(rng.randrange(3))]])
    if rng.random() < 0.4:
        inputs["enable_thinking"] = inputs["thinking"] = rng.random() < 0.5
    return inputs


class Expressions:
    """Random expressions: mostly sensible, sometimes of the wrong type."""
    NAMES = ["s", "t", "n", "f", "l", "d", "u", "b", "e", "x", "nothing", "msgs"]
    FILTERS = ["trim", "upper", "lower", "capitalize", "title", "length", "count", "first", "last", "list", "string", "int",
               "float", "abs", "round", "tojson", "sort", "unique|list", "reverse|list", "join", "join(', ')", "min", "max",
               "sum", "default('dflt')", "d(1, true)", "items|list", "dictsort", "replace('a', 'bb')", "replace('', '-')", "wordcount",
               "indent(2)", "indent(2, true, true)", "tojson(indent=2)", "tojson(sort_keys=true)", "map('string')|list",
               "map('upper')|join", "map(attribute='a')|list", "map(attribute='0')|list", "select('string')|list",
               "reject('none')|list", "selectattr('a')|list", "rejectattr('a', 'defined')|list", "selectattr('role', 'eq', 'user')|list",
               "map('length')|list", "sort(reverse=true)", "sort(attribute='a')", "batch(2)|list", "slice(2)|list", "batch(3, 0)|list",
               "groupby('a')", "urlencode", "center(9)", "truncate(8)", "truncate(5, true, '')", "round(2)", "round(1, 'floor')",
               "int(5)", "int(base=16)", "float(1.5)", "trim('ab')", "select|list", "reject|list", "map('default', 3)|list",
               "sum(start=10)", "sum(attribute='a')", "max(attribute='a')", "sort(case_sensitive=true)", "dictsort(by='value')",
               "dictsort(reverse=true)", "string|list", "format(1, 2)", "attr('a')", "unique(attribute='a')|list"]
    TESTS = ["defined", "undefined", "none", "string", "mapping", "sequence", "iterable", "number", "integer", "float", "boolean",
             "true", "false", "odd", "even", "divisibleby 3", "divisibleby(2)", "callable", "eq 1", "eq('a')", "ne none", "lt 3",
             "gt(2)", "le 2.5", "ge 'b'", "in [1, 2, 'a']", "in 'abc'", "lower", "upper", "sameas true", "equalto 'a'", "escaped",
             "== 1", "filter", "test"]
    METHODS = ["upper()", "lower()", "strip()", "lstrip()", "rstrip()", "strip('ab ')", "split()", "split(' ')", "split('a', 1)",
               "rsplit(' ', 1)", "rsplit()", "split(none, 1)", "splitlines()", "startswith('a')", "endswith(('b', 'c'))",
               "startswith('b', 1)", "replace('a', 'x')", "replace('', '.')", "replace('b', '', 1)", "title()", "capitalize()", "find('b')", "rfind('a')",
               "count('a')", "join(['x', 'y'])", "join(s)", "items()|list", "keys()|list", "values()|list", "get('a')", "get('zz', 5)",
               "get(1)", "index('a')", "index(2)", "count(1)", "append(1)", "pop()", "update({})", "partition('b')", "rpartition(' ')",
               "removeprefix('a')", "removesuffix('c')", "isdigit()", "isalpha()", "isspace()", "isupper()", "islower()", "zfill(6)",
               "center(7)", "ljust(5, '.')", "rjust(8)", "isalnum()", "format(1)", "find('', 2)", "find('c', -2)", "nothing()", "a", "b", "role",
               "isnumeric()", "isdecimal()", "isascii()", "copy()"]

    def __init__(self, rng):
        self.rng = rng

    def literal(self):
        r = self.rng
        return r.choice(["1", "0", "-3", "2.5", "1e3", "true", "false", "none", "'a'", "'b c'", "''", "\"it's\"", "'ab\\ncd'", "[]", "[1, 2, 3]",
                         "['b', 'a', 'B']", "{}", "{'a': 1, 'b': [2]}", "(1, 2)", "(1,)", "()", "[{'a': 2}, {'a': 1}]", "'\\u00e9x'", "100000000000000000000",
                         "{1: 'i', 'k': none}", "range(4)", "range(5, 0, -2)", "[[1, 2], [3]]", "'%s-%d'", "1_000", "0x1F", "12"])

    def make(self, depth):
        r = self.rng
        if depth <= 0 or r.random() < 0.12:
            return r.choice(self.NAMES) if r.random() < 0.6 else self.literal()
        kind = r.randrange(16)
        sub = lambda: self.make(depth - 1 - r.randrange(2))
        if kind < 4:
            return f"({sub()})|{r.choice(self.FILTERS)}"
        if kind < 6:
            return f"({sub()}).{r.choice(self.METHODS)}"
        if kind < 8:
            return f"({sub()} {r.choice(['+', '-', '*', '/', '//', '%', '**', '~', '~', '+'])} {sub()})"
        if kind == 8:
            return f"({sub()} {r.choice(['==', '!=', '<', '<=', '>', '>=', 'in', 'not in'])} {sub()})"
        if kind == 9:
            return f"({sub()} {r.choice(['and', 'or'])} {sub()})"
        if kind == 10:
            return f"({sub()} is {r.choice(['', 'not '])}{r.choice(self.TESTS)})"
        if kind == 11:
            return f"({sub()} if {sub()} else {sub()})"
        if kind == 12:
            index = r.choice(["0", "-1", "1", "'a'", "'items'", "1:", ":-1", "::-1", "::2", "1:3", "-3:", "5:1:-2", "n", "99", "n:", ":n"])
            return f"({sub()})[{index}]"
        if kind == 13:
            return f"[{', '.join(sub() for _ in range(r.randrange(4)))}]"
        if kind == 14:
            return "{" + ", ".join(f"'{k}': {sub()}" for k in r.sample(["a", "b", "role"], r.randrange(3))) + "}"
        return r.choice(["not ", "-", "+"]) + f"({sub()})"

    def inputs(self):
        r = self.rng
        return {"s": random_text(r), "t": random_text(r), "n": r.randrange(-3, 6), "f": r.choice([0.5, -1.25, 2.0, 1e20, 3.0000001]),
                "l": r.choice([[1, 2, 3], ["b", "a", "C"], [], [None, 1, "x"], [{"a": 1}, {"a": "z"}], [[1], [2, 3]], [3, 1, 2, 1]]),
                "d": r.choice([{"a": 1, "b": "x"}, {}, {"items": 5, "a": {"a": 2}}, {"b": [1], "a": None, "C": 2}]),
                "b": r.random() < 0.5, "e": "", "x": random_json(r), "msgs": [random_message(r) for _ in range(r.randrange(4))]}


STATEMENTS = [
    "{{ %s }}", "{%% if %s %%}yes{%% else %%}no{%% endif %%}", "{%% for i in %s %%}{{ loop.index }}:{{ i }};{%% else %%}empty{%% endfor %%}",
    "{%% set v = %s %%}{{ v }}|{{ v is defined }}", "{%% for a, b in %s %%}{{ a }}={{ b }},{%% endfor %%}",
    "{%% for i in [1, 2, 3] if %s %%}{{ i }}{%% endfor %%}", "{%% macro m(p, q=%s) %%}{{ p }}/{{ q }}{%% endmacro %%}{{ m(1) }}{{ m(s, q=2) }}",
    "{%% set ns = namespace(v=0) %%}{%% for i in [1, 2] %%}{%% set ns.v = %s %%}{%% endfor %%}{{ ns.v }}",
    "{%% with w = %s %%}{{ w }}{%% endwith %%}", "{%% set v %%}<{{ %s }}>{%% endset %%}{{ v|length }}{{ v }}",
]

# What differs on purpose, each in README.md of src/text/template: integers over 127 bits, things that
# print a memory address or a laziness that only errors show, and limits of ours.
DELIBERATE = ("more than 128 bits", "can not be printed", "is not supported", "more than 64", "more than 100000",
              "format width over", "the template makes a text", "can not be told apart", "tuple can not be a key",
              "has no slices")


class Comparison:
    def __init__(self, program, show):
        self.jinja, self.ours = Jinja(), Ours(program)
        self.show = show
        self.count = self.errors = self.deliberate = self.different = 0

    def check(self, source, inputs, line=None, must_be=None):
        self.count += 1
        expected, error = self.jinja.render(source, inputs)
        if must_be is not None and expected != must_be:
            self.different += 1
            print(f"DIFFERENT {line}: the template itself\n  expected: {must_be!r}\n  jinja2:   {expected!r} {error or ''}")
            return
        text, our_error = self.ours.render(source, inputs)
        if expected == text:
            self.errors += expected is None
            return
        lone_surrogate = expected is not None and not encodable(expected)
        address = expected is not None and (" at 0x" in expected or "<built-in method" in expected or "<bound method" in expected)
        if our_error and (address or lone_surrogate or any(mark in our_error for mark in DELIBERATE)):
            self.deliberate += 1
            return
        self.different += 1
        if self.different <= self.show:
            inputs = json.dumps(inputs, ensure_ascii=False)
            start = 0  # where the texts part, less a little
            if expected is not None and text is not None:
                start = next((i for i, (a, b) in enumerate(zip(expected, text)) if a != b), min(len(text), len(expected)))
                start = max(0, start - 40)
            cut = lambda value: repr(value if value is None else value[start:start + 200])
            print(f"DIFFERENT {line or ''} at character {start}\n  template: {source[:400]!r}\n  inputs:   {inputs[:600]}\n"
                  f"  jinja2:   {cut(expected)} {error or ''}\n  ours:     {cut(text)} {our_error or ''}")


def encodable(text):
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False


def read_snippets():
    """Snippets are separated by lines of dashes."""
    return [s for s in (HERE / "snippets.txt").read_text().split("\n---\n") if s]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--random", type=int, default=12000, help="half conversations, half expressions")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--show", type=int, default=10)
    args = parser.parse_args()
    warnings.simplefilter("ignore", SyntaxWarning)  # of the Python that jinja2 compiles to
    began = time.time()
    comparison = Comparison(args.program, args.show)
    fixed = Expressions(random.Random(1)).inputs()
    fixed.update(s="Hello World", t="a,b,,c", n=3, f=2.5, l=[3, 1, 2], d={"b": 1, "a": "x", "C": None}, x=None,
                 msgs=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo", "a": 1}])
    snippets = read_snippets()
    for number, snippet in enumerate(snippets):
        comparison.check(snippet, fixed, f"snippet {number}")
    rng = random.Random(args.seed)
    templates = {path.stem: path.read_text() for path in sorted((HERE / "templates").glob("*.jinja"))}
    for name, (inputs, texts) in CONVERSATIONS.items():
        for template, source in templates.items():
            comparison.check(source, {"add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", **inputs},
                             f"{template}: {name}", texts.get(template))
    for _ in range(args.random // 2):
        comparison.check(rng.choice(list(templates.values())), random_conversation(rng))
    expressions = Expressions(rng)
    for _ in range(args.random // 2):
        comparison.check(rng.choice(STATEMENTS) % expressions.make(rng.randrange(1, 5)), expressions.inputs())
    print(f"{len(snippets)} snippets, seed {args.seed}: {comparison.errors} errors on both sides, "
          f"{comparison.deliberate} refused by us on purpose, {time.time() - began:.1f} s")
    print(f"template_oracle: {comparison.count - comparison.different} passed, {comparison.different} failed")
    return 1 if comparison.different else 0


if __name__ == "__main__":
    sys.exit(main())
