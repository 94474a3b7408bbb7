"""The training and test problems of the bundled model.

Every generator draws one problem from a random.Random and returns a Problem. A problem has a key, a
canonical text of what has to be solved (the numbers, not the names around them); the problems whose
sha256(key) is 0 modulo 64 are never trained on and make up the shipped test sets. All answers are a
function of the prompt, so that exact match is a fair test.
"""
import dataclasses
import hashlib
import json
import random

from words import (ADJECTIVES, CITIES, COLORS, FEMALE, FILLER_DID, FILLER_WHEN, FILLER_WHERE,
                   FILLER_WHO, LETTERS, NAMES, NOUNS, PLAIN, THINGS)
from about import ABOUT, PREFIXES, SUFFIXES


@dataclasses.dataclass
class Problem:
    task: str
    key: str
    user: str
    answer: str  # what follows the reasoning, or the only text when the answer has no steps
    steps: str = ""  # worked steps: before the answer in the open, or inside <think>
    check: dict = None
    tools: list = None
    more: list = dataclasses.field(default_factory=list)  # (user or tool turn, answer) that follow
    system: str = ""


def held_out(key):
    return hashlib.sha256(key.encode()).digest()[-1] % 64 == 0


SYLLABLES = [a + b for a in "b c d f g h j k l m n p r s t v w z st br tr".split() for b in "a e i o u an el or".split()]


def invented(rng):
    """A word that means nothing: what stands in a prompt has to be copied, not guessed."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3)))


def draw(generator, rng, test=False):
    """The next problem of `generator` on the wanted side of the split."""
    while True:
        problem = generator(rng)
        if held_out(problem.key) == test:
            return problem


# --- arithmetic ------------------------------------------------------------------------------------

def worked_sum(a, b):
    """Tens and ones apart, so that each step is a fact about digits: 47 + 38 = 70 + 15 = 85."""
    if a < 10 and b < 10:
        return f"{a} + {b} = {a + b}"
    return f"{a} + {b} = {(a // 10 + b // 10) * 10} + {a % 10 + b % 10} = {a + b}"


def worked_difference(a, b):
    if a < 10 and b < 10:
        return f"{a} - {b} = {a - b}"
    tens, ones = (a // 10 - b // 10) * 10, a % 10 - b % 10
    return f"{a} - {b} = {tens} {'+' if ones >= 0 else '-'} {abs(ones)} = {a - b}"


def worked_product(a, b):
    if a < 10 and b < 10:
        return f"{a} * {b} = {a * b}"
    a, b = min(a, b), max(a, b)
    return f"{a} * {b} = {a * (b // 10 * 10)} + {a * (b % 10)} = {a * b}"


WORKED = {"+": worked_sum, "-": worked_difference, "*": worked_product}
APPLY = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}

GAIN = ["{he} buys {n} more.", "{he} finds {n} more.", "{other} gives {him} {n} more.",
        "Then {he} gets {n} more.", "Later {he} wins {n} more.", "After that {he} picks up {n}."]
LOSS = ["{he} gives away {n}.", "{he} loses {n}.", "{he} sells {n}.", "Then {other} takes {n}.",
        "Later {he} gives {n} to {other}.", "{n} of them break."]
START = ["{name} has {n} {things}.", "{name} owns {n} {things}.", "{name} starts with {n} {things}.",
         "There are {n} {things} on the table of {name}."]
BOXES = ["{name} has {a} bags with {b} {things} each.", "{name} buys {a} boxes of {b} {things}.",
         "{name} fills {a} baskets with {b} {things} each."]
ASK = ["How many {things} does {name} have now?", "How many {things} does {name} have in the end?",
       "How many {things} are there now?"]


def arithmetic(rng):
    while True:
        first, second = rng.choice("+-+-+-*"), rng.choice("+-")
        if first == "*":
            a, b = rng.randint(2, 9), rng.choice([rng.randint(2, 9), rng.randint(2, 19)])
        else:
            a, b = rng.randint(1, 99), rng.randint(1, 99)
        c = rng.randint(1, 99)
        middle = APPLY[first](a, b)
        if middle < 0 or APPLY[second](middle, c) < 0:
            continue
        result = APPLY[second](middle, c)
        break
    if rng.random() < 0.15:
        user = rng.choice(["What is {}?", "Calculate {}.", "Compute {}."])
        user = user.format(f"{a} {first} {b} {second} {c}")
    else:
        name, other = rng.sample(NAMES, 2)
        he, him = ("she", "her") if name in FEMALE else ("he", "him")
        words = dict(name=name, other=other, he=he, him=him, things=rng.choice(THINGS))

        def sentence(choices, **numbers):
            text = rng.choice(choices).format(**words, **numbers)
            return text[0].upper() + text[1:]

        def change(op, n):
            return sentence(GAIN if op == "+" else LOSS, n=n)

        if first == "*":
            parts = [sentence(BOXES, a=a, b=b)]
        else:
            parts = [sentence(START, n=a), change(first, b)]
        user = " ".join(parts + [change(second, c), sentence(ASK)])
    steps = f"{WORKED[first](a, b)}. {WORKED[second](middle, c)}."
    return Problem("arithmetic", f"arithmetic|{a}{first}{b}{second}{c}", user,
                   f"The answer is {result}.", steps, {"kind": "final_number", "value": str(result)})


# --- recall ----------------------------------------------------------------------------------------

def filler_sentence(rng):
    parts = [rng.choice(FILLER_WHO), rng.choice(FILLER_DID)]
    if rng.random() < 0.6:
        parts.append(rng.choice(FILLER_WHERE))
    if rng.random() < 0.5:
        parts.append(rng.choice(FILLER_WHEN))
    return " ".join(parts) + "."


def make_facts(rng, count):
    """`count` facts about different nouns: (what, of which thing, value)."""
    facts = []
    for noun in rng.sample(NOUNS, count):
        what = rng.choice(["code", "code", "number", "color", "owner"])
        value = {"code": lambda: "".join(rng.choice("0123456789") for _ in range(4)),
                 "number": lambda: str(rng.randint(10, 99)),
                 "color": lambda: rng.choice(COLORS), "owner": lambda: rng.choice(NAMES)}[what]()
        facts.append((what, f"{rng.choice(ADJECTIVES)} {noun}", value))
    return facts


def fact_sentence(fact):
    return "The {} of the {} is {}.".format(*fact)


def fact_question(fact):
    return "What is the {} of the {}?".format(*fact)


RECALL_ASK = "Read this text and answer the question.\n\n{}\n\n{}"


def recall_from(sentences, facts, asked):
    """A recall problem over given sentences; `asked`: indices of the facts asked for, in order."""
    first, *rest = [facts[i] for i in asked]
    problem = Problem("recall", "recall|" + "|".join(first),
                      RECALL_ASK.format(" ".join(sentences), fact_question(first)),
                      fact_sentence(first), "", {"kind": "contains", "value": first[2]})
    problem.more = [("user", fact_question(f), fact_sentence(f)) for f in rest]
    return problem


def recall(rng, sentence_count=None, questions=None):
    """About 9 tokens a sentence. Several facts and questions, so that a long text teaches more."""
    count = sentence_count or rng.randint(0, 16)
    facts = make_facts(rng, rng.randint(1, 6 if count < 20 else 12))
    sentences = [filler_sentence(rng) for _ in range(count)]
    for fact in facts:
        sentences.insert(rng.randint(0, len(sentences)), fact_sentence(fact))
    asked = rng.sample(range(len(facts)), min(len(facts), questions or rng.randint(1, 4)))
    if any(held_out("recall|" + "|".join(facts[i])) for i in asked[1:]):
        return recall(rng, sentence_count, questions)  # the first one is checked by draw()
    return recall_from(sentences, facts, asked)


# --- lists and strings -----------------------------------------------------------------------------

OTHER_WORDS = NOUNS + ADJECTIVES + COLORS[6:] + THINGS


def lists(rng, other_words=0.0):
    """`other_words`: how often a list is made of words that the test sets do not have."""
    words = PLAIN
    if other_words and rng.random() < other_words:
        words = rng.choice([OTHER_WORDS, [invented(rng) for _ in range(12)]])
    kind = rng.choice(["sort_numbers", "sort_numbers", "sort_words", "sort_letters", "reverse_words",
                       "reverse_letters", "count_words", "count_letter", "upper", "lower", "first",
                       "last", "nth", "largest", "smallest", "unique"])
    steps = ""
    if kind in ("sort_numbers", "largest", "smallest"):
        items = [str(n) for n in rng.sample(range(100), rng.randint(3, 6))]
        down = rng.random() < 0.3
        if kind == "sort_numbers":
            user = rng.choice(["Sort these numbers from large to small:", "Sort in descending order:"]
                              if down else ["Sort these numbers:", "Sort in ascending order:",
                                            "Sort these numbers from small to large:"])
            answer = "Sorted: " + ", ".join(sorted(items, key=int, reverse=down))
            kind += "_down" if down else ""
        else:
            user = rng.choice([f"Which number is the {kind}?", f"Find the {kind} number:"])
            answer = f"{kind.capitalize()}: " + (max if kind == "largest" else min)(items, key=int)
    elif kind in ("sort_letters", "reverse_letters"):
        items = rng.sample(LETTERS, rng.randint(3, 7))
        if kind == "sort_letters":
            user = rng.choice(["Sort these letters:", "Put these letters in order:"])
            answer = "Sorted: " + ", ".join(sorted(items))
        else:
            user = rng.choice(["Reverse these letters:", "Write these letters backwards:"])
            answer = "Reversed: " + ", ".join(reversed(items))
    elif kind == "count_letter":
        some = rng.sample(LETTERS, 3)
        items = [rng.choice(some) for _ in range(rng.randint(4, 9))]
        user = f"How often does the letter {some[0]} occur?"
        answer = f"Count: {items.count(some[0])}"
        steps = "Found: " + (", ".join(f"{i + 1}" for i in range(items.count(some[0]))) or "none")
    else:
        items = rng.sample(words, rng.randint(2, 9) if kind == "count_words" else rng.randint(3, 6))
        if kind == "sort_words":
            user = rng.choice(["Sort these words:", "Sort alphabetically:"])
            answer = "Sorted: " + ", ".join(sorted(items))
        elif kind == "reverse_words":
            user = rng.choice(["Reverse this list:", "Write this list backwards:"])
            answer = "Reversed: " + ", ".join(reversed(items))
        elif kind == "count_words":
            user = rng.choice(["How many words are in this list?", "Count the words:"])
            answer = f"Count: {len(items)}"
        elif kind == "upper":
            user = rng.choice(["Write in upper case:", "Convert to upper case:"])
            answer = "Upper case: " + ", ".join(items).upper()
        elif kind == "lower":
            user = rng.choice(["Write in lower case:", "Convert to lower case:"])
            answer, items = "Lower case: " + ", ".join(items), [w.upper() for w in items]
        elif kind in ("first", "last"):
            user = rng.choice([f"What is the {kind} word?", f"Give the {kind} word:"])
            answer = f"{kind.capitalize()}: {items[0 if kind == 'first' else -1]}"
        elif kind == "nth":
            n = rng.randint(2, 4 if len(items) > 3 else 3)
            ordinal = {2: "second", 3: "third", 4: "fourth"}[n]
            user, answer = f"What is the {ordinal} word?", f"{ordinal.capitalize()}: {items[n - 1]}"
            kind += ordinal
        else:
            items = items[: rng.randint(2, 4)]
            items += [rng.choice(items) for _ in range(rng.randint(1, 3))]
            rng.shuffle(items)
            user = rng.choice(["Remove the duplicates:", "Keep each word once:"])
            answer = "Unique: " + ", ".join(dict.fromkeys(items))
    text = ", ".join(items)
    steps = steps or "Items: " + " ".join(f"{i + 1}: {item}" for i, item in enumerate(items))
    return Problem("lists", f"lists|{kind}|{user}|{text}", f"{user} {text}", answer, steps,
                   {"kind": "exact", "value": answer})


# --- questions about the project -------------------------------------------------------------------

def about(rng):
    questions, answer = rng.choice(ABOUT)
    user = rng.choice(questions)
    prefix, suffix = rng.choice(PREFIXES), rng.choice(SUFFIXES)
    user = (prefix + (user if not prefix or prefix.endswith((". ", "! ")) else
                      user[0].lower() + user[1:] if not user.startswith("I ") else user) + suffix)
    return Problem("about", f"about|{user}", user, answer, "This is a question about sluice.",
                   {"kind": "exact", "value": answer})


# --- tool calls ------------------------------------------------------------------------------------

def tool_specs(rng, other_words):
    """(names, description, {parameter: type}, draw arguments, requests) per tool."""
    def one_of(words):
        if other_words and rng.random() < other_words:
            word = invented(rng)
            return word.capitalize() if words[0][0].isupper() else word
        return rng.choice(words)

    def some_of(words, most):
        if other_words and rng.random() < other_words:
            return " ".join(one_of(OTHER_WORDS) for _ in range(rng.randint(1, most)))
        return " ".join(rng.sample(words, rng.randint(1, most)))

    city = lambda: {"city": one_of(CITIES)}
    return [
        (["get_weather", "weather_now", "fetch_weather"], "Get the weather of a city",
         {"city": "string"}, city,
         ["What is the weather in {city}?", "How is the weather in {city} today?"]),
        (["get_time", "city_time", "local_time"], "Get the local time of a city",
         {"city": "string"}, city, ["What time is it in {city}?", "Tell me the time in {city}."]),
        (["add_numbers", "sum_of", "add"], "Add two numbers", {"a": "integer", "b": "integer"},
         lambda: {"a": rng.randint(1, 999), "b": rng.randint(1, 999)},
         ["Add {a} and {b} with the tool.", "Use the tool to add {a} and {b}."]),
        (["set_timer", "start_timer", "timer"], "Start a timer", {"minutes": "integer"},
         lambda: {"minutes": rng.randint(1, 90)},
         ["Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes."]),
        (["send_message", "message", "write_to"], "Send a message to a person",
         {"to": "string", "text": "string"},
         lambda: {"to": one_of(NAMES), "text": some_of(PLAIN, 4)},
         ["Send {to} the message: {text}", "Write to {to}: {text}"]),
        (["get_price", "price_of", "find_price"], "Get the price of a thing", {"item": "string"},
         lambda: {"item": one_of(PLAIN)},
         ["What is the price of {item}?", "How much is {item}?"]),
        (["search_files", "find_files", "search"], "Search files for words", {"query": "string"},
         lambda: {"query": some_of(PLAIN, 3)},
         ["Search the files for: {query}", "Find files about: {query}"]),
        (["switch_light", "set_light", "light"], "Switch the light of a room",
         {"room": "string", "on": "boolean"},
         lambda: {"room": one_of(["kitchen", "library", "garden", "hall", "office"]),
                  "on": rng.random() < 0.5},
         ["Switch the light in the {room} {on}.", "Turn the {room} light {on}."]),
        (["book_table", "reserve_table", "table"], "Book a table for some people",
         {"name": "string", "people": "integer"},
         lambda: {"name": one_of(NAMES), "people": rng.randint(2, 9)},
         ["Book a table for {people} people for {name}.",
          "Reserve a table for {name} and {people} people."]),
    ]


def tool(rng, other_words=0.0):
    specs = rng.sample(tool_specs(rng, other_words), rng.choice([1, 2, 2, 3]))
    names = [rng.choice(spec[0]) for spec in specs]
    if other_words and rng.random() < other_words:
        names = [f"{name}_{invented(rng)}" if rng.random() < 0.5 else f"{invented(rng)}_{name}" for name in names]
    tools = [{"type": "function", "function": {
        "name": name, "description": spec[1],
        "parameters": {"type": "object", "properties": {k: {"type": t} for k, t in spec[2].items()},
                       "required": list(spec[2])}}} for name, spec in zip(names, specs)]
    chosen = rng.randrange(len(specs))
    if rng.random() < 0.12:  # tools are there, but the question needs none
        problem = rng.choice([arithmetic, lists])(rng)
        problem.tools = tools
        return problem
    name, (_, _, _, make, requests) = names[chosen], specs[chosen]
    arguments = make()
    shown = {k: ("on" if v else "off") if isinstance(v, bool) else v for k, v in arguments.items()}
    user = rng.choice(requests).format(**shown)
    call = json.dumps({"name": name, "arguments": arguments})
    problem = Problem("tool", f"tool|{name}|{json.dumps(arguments)}", user,
                      f"<tool_call>\n{call}\n</tool_call>", f"I can call {name}.",
                      {"kind": "json_tool_call", "value": {"name": name, "arguments": arguments}},
                      tools)
    if rng.random() < 0.4:
        result = rng.choice([str(rng.randint(1, 999)), rng.choice(PLAIN), "done",
                             f"{rng.randint(1, 30)} degrees"])
        problem.more = [("tool", result, f"The result is {result}.")]
    return problem


GENERATORS = {"arithmetic": arithmetic, "recall": recall, "lists": lists, "about": about, "tool": tool}
# What is trained on: the same, and in tool calls and lists words from outside the test sets. With the few
# words of these alone a model learns which combinations never come: the ones held out.
TRAINED = GENERATORS | {"lists": lambda rng: lists(rng, 0.5), "tool": lambda rng: tool(rng, 0.5)}
SYSTEMS = ["You are a helpful assistant.", "Answer in one sentence.", "You are the assistant of sluice.",
           "Be short and exact."]
