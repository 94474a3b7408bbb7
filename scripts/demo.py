#!/usr/bin/env python3
"""Serves the bundled model, asks it a few things over HTTP, shows answers and tokens per second.

usage: demo.py SLUICE_BINARY. Exit status 0 only if every answer is right.
"""
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODEL = os.path.join(ROOT, "models", "sluice-tiny")

# (question, what the answer must contain, streamed?, thinking?)
QUESTIONS = [
    ("What is sluice?", "server", False, False),
    ("Emma owns 92 hats. She finds 7 more. Then Bruno takes 12. How many hats does Emma have now?",
     "87", True, False),
    ("Wendy has 35 stamps. After that she picks up 99. Later she gives 28 to Sam. How many stamps are "
     "there now?", "The answer is 106", False, True),
    ("Read this text and answer the question.\n\nThe baker made fresh coffee. The code of the red lantern "
     "is 4711. A sailor looked at the sky by the sea.\n\nWhat is the code of the red lantern?",
     "4711", False, False),
    ("How can I chat in the terminal?", "sluice chat", False, False),
]


def post(base, path, body):
    request = urllib.request.Request(
        base + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=120)


def ask(base, question, thinking):
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0,
            "max_tokens": 200, "chat_template_kwargs": {"enable_thinking": thinking}}
    start = time.monotonic()
    answer = json.load(post(base, "/v1/chat/completions", body))
    seconds = time.monotonic() - start
    text = answer["choices"][0]["message"]["content"] or ""
    return text, answer["usage"]["completion_tokens"], seconds


def ask_streaming(base, question, thinking):
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0,
            "max_tokens": 200, "stream": True, "stream_options": {"include_usage": True},
            "chat_template_kwargs": {"enable_thinking": thinking}}
    start = time.monotonic()
    text, tokens, done = "", 0, False
    for line in post(base, "/v1/chat/completions", body):
        line = line.decode()
        if not line.startswith("data: "):
            continue
        if line.strip() == "data: [DONE]":
            done = True
            break
        frame = json.loads(line[len("data: "):])
        for choice in frame["choices"]:
            piece = choice["delta"].get("content") or ""
            print(piece, end="", flush=True)
            text += piece
        if frame.get("usage"):
            tokens = frame["usage"]["completion_tokens"]
    return text if done else "", tokens, time.monotonic() - start


def start_server(binary):
    server = subprocess.Popen(
        [binary, "serve", "--model-path", MODEL, "--served-model-name", "sluice-tiny",
         "--port", "0", "--drain-seconds", "0", "--log-level", "warning"],
        stdout=subprocess.PIPE, text=True)
    base = None
    for line in server.stdout:
        print("  " + line.rstrip())
        found = re.search(r"http://[0-9.]+:\d+", line)
        base = base or (found and found.group(0))
        if "ready to roll" in line:
            return server, base
    raise SystemExit("the server ended before it was ready")


def main():
    print("starting the server on the bundled model")
    server, base = start_server(sys.argv[1])
    failures = 0
    try:
        for question, wanted, streamed, thinking in QUESTIONS:
            print(f"\n? {question}" + (" (streamed)" if streamed else "") + (" (thinking)" if thinking else ""))
            print("> ", end="")
            if streamed:
                text, tokens, seconds = ask_streaming(base, question, thinking)
                print()
            else:
                text, tokens, seconds = ask(base, question, thinking)
                print(text.strip().replace("\n", "\n  "))
            right = wanted.lower() in text.lower()
            failures += not right
            print(f"  [{tokens} tokens, {tokens / seconds:.0f} tokens/s, "
                  f"{'right' if right else 'WRONG: expected ' + repr(wanted)}]")
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(timeout=60)
    print(f"\nserver stopped with status {status}; {len(QUESTIONS) - failures} of {len(QUESTIONS)} answers right")
    return 1 if failures or status else 0


if __name__ == "__main__":
    sys.exit(main())
