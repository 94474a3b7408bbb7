#!/usr/bin/env python3
"""`sluice run`, `chat` and `inspect` as a user meets them: in a terminal, with Ctrl-C and pipes.

    terminal_test.py SLUICE_BINARY MODEL_DIRECTORY
"""

import os
import pty
import re
import select
import subprocess
import sys
import time
import unittest

BINARY, MODEL = sys.argv[1:3]
QUESTION = "What is sluice?"


def run(*arguments, text=None):
    return subprocess.run([BINARY, *arguments], input=text, capture_output=True, text=True, timeout=60)


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(BINARY, [BINARY, *arguments])
        self.status = None

    def until(self, pattern, seconds=60):
        """What it writes up to `pattern`."""
        text, end = "", time.monotonic() + seconds
        while not re.search(pattern, text):
            if time.monotonic() > end:
                raise AssertionError(f"no {pattern!r} in {text!r}")
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    text += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:  # it has ended
                    if re.search(pattern, text):
                        break
                    raise AssertionError(f"the end before {pattern!r} in {text!r}") from None
        return text

    def say(self, text):
        os.write(self.fd, text.encode())

    def wait(self):
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return self.status

    def kill(self):
        if self.status is None:
            os.kill(self.pid, 9)
            self.wait()


class Run(unittest.TestCase):
    def test_the_answer_goes_to_standard_output_and_nothing_else(self):
        answer = run("run", QUESTION, "--model-path", MODEL, "--temperature", "0")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertRegex(answer.stderr, r"^\d+ \+ \d+ tokens, first after [0-9.]+ s")
        piped = run("run", "-", "--model-path", MODEL, "--temperature", "0", "--no-timing", text=QUESTION)
        self.assertEqual((piped.stdout, piped.stderr), (answer.stdout, ""))

    def test_ids_in_ids_out(self):
        flags = ("--model-path", MODEL, "--skip-tokenizer-init", "--temperature", "0", "--max-new-tokens", "4")
        answer = run("run", "--input-ids", "5, 6,7", *flags)
        self.assertRegex(answer.stdout, r"^\d+(,\d+){0,3}\n$")
        for ids, says in (("1,9999", "outside the vocabulary"), ("1,a", '"a"'), ("1,,2", '""')):
            refused = run("run", "--input-ids", ids, *flags)
            self.assertEqual(refused.returncode, 2)
            self.assertIn(says, refused.stderr)
        self.assertIn("--input-ids", run("run", "text", *flags).stderr)


class Chat(unittest.TestCase):
    def start(self, *flags):
        try:
            terminal = Terminal("chat", "--model-path", MODEL, *flags)
        except OSError as error:  # a container without /dev/pts
            self.skipTest(f"this machine gives no terminal: {error}")
        self.addCleanup(terminal.kill)
        return terminal, terminal.until("> $")

    def test_a_conversation_remembers_and_forgets(self):
        terminal, greeting = self.start("--temperature", "0")
        self.assertRegex(greeting, r"loading .*\[#+\] .*100 %")  # a bar, as this is a terminal

        def prompt_tokens(line):
            terminal.say(line + "\n")
            return int(re.search(r"\[(\d+) \+ \d+ tokens", terminal.until(r"tokens.*\n> $")).group(1))

        first = prompt_tokens(QUESTION)
        self.assertGreater(prompt_tokens(QUESTION), first)
        terminal.say("/clear\n")
        terminal.until("> $")
        self.assertEqual(prompt_tokens(QUESTION), first)
        terminal.say("/system Be brief.\n")
        terminal.until("> $")
        self.assertGreater(prompt_tokens(QUESTION), first)
        terminal.say("/surprise\n")
        self.assertIn("/help", terminal.until("> $"))
        terminal.say("/exit\n")
        self.assertEqual(terminal.wait(), 0)

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        terminal, _ = self.start("--ignore-eos")
        terminal.say("Say something.\n")
        terminal.until(r"something\.\r\n.")  # the first of some 8,000 tokens
        terminal.say("\x03")
        self.assertIn("[stopped]", terminal.until("> $"))
        for _ in range(20):  # with nothing to stop, also just before it waits for a line
            terminal.say("\x03")
            self.assertIn("Ctrl-D", terminal.until("> $"))
        terminal.say("\x04")
        self.assertEqual(terminal.wait(), 0)

    def test_lines_from_a_pipe(self):
        answer = run("run", QUESTION, "--model-path", MODEL, "--temperature", "0", "--no-timing")
        piped = run("chat", "--model-path", MODEL, "--temperature", "0", "--no-timing", text=QUESTION)
        self.assertEqual((piped.returncode, piped.stdout), (0, answer.stdout))

    def test_without_a_template_there_is_no_conversation(self):
        refused = run("chat", "--model-path", MODEL, "--skip-tokenizer-init")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("no tokenizer", refused.stderr)


class Inspect(unittest.TestCase):
    def test_says_what_it_is_and_what_it_needs(self):
        shown = run("inspect", MODEL, "--context", "1000", "--concurrency", "3")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        for line in (r"architecture +BailingMoeV2_5ForCausalLM", r"layers +8 \(6 linear attention, 2 full",
                     r"q_b_proj.weight \[256, 64\] +2 x", r"files: 1 with 443 tensors",
                     r"memory at 3 requests of 1000 tokens", r"recurrent states +720 KiB"):
            self.assertRegex(shown.stdout, line)

    def test_geometries_are_found_in_any_case(self):
        shown = run("inspect", "ling-2.6-1t", "--context", "32768")
        self.assertRegex(shown.stdout, r"parameters +1\.012T \(63\.58B active a token\)")
        self.assertIn("no weights here", shown.stdout)
        refused = run("inspect", "no-such-model")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("Ling-2.6-flash", refused.stderr)


if __name__ == "__main__":
    outcome = unittest.main(argv=[sys.argv[0], *sys.argv[3:]], exit=False).result
    failed, skipped = len(outcome.failures) + len(outcome.errors), len(outcome.skipped)
    print(f"{outcome.testsRun - failed - skipped} passed, {failed} failed")
    for _, reason in outcome.skipped:
        print(f"[  SKIPPED ] 1 test: {reason}")
    sys.exit(failed != 0)
