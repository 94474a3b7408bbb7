#!/usr/bin/env python3
"""What the program says to wrong flags: exit status 2, one line that names the flag and the value.

    flags_test.py SLUICE_BINARY MODEL_DIRECTORY
"""

import os
import subprocess
import sys
import unittest

BINARY, MODEL = sys.argv[1:3]
SERVE = ["serve", "--model-path", MODEL, "--port", "0"]
MOE = ["bench", "moe", "--geometry", "64x32x8x2"]
LINEAR = ["bench", "linear", "--shapes", "64x64"]

# arguments, what standard error says
REFUSED = [
    ([], "A subcommand is required"),
    (["serv"], 'unknown command "serv"; did you mean serve?'),
    (["serve"], "--model-path is required"),
    (["serve", "--modl-path", "x"], "unknown flag --modl-path; did you mean --model-path?"),
    (["inspect", "--tensor", "x"], "unknown flag --tensor; did you mean --tensors?"),
    (SERVE + ["extra"], "unexpected argument 'extra'"),
    (SERVE + ["--port=70000"], "--port"),
    (SERVE + ["--tp-size", "2"], '--tensor-parallel-size "2" is not supported'),
    (SERVE + ["--enable-lora"], "--enable-lora is not supported"),
    (SERVE + ["--drain-timeout", "-1"], "--drain-timeout: -1 is negative"),
    (SERVE + ["--max-head-seconds", "0"], "--max-head-seconds: 0 is not above 0"),
    (SERVE + ["--random-seed", "-1"], "--random-seed: -1 is negative"),
    (SERVE + ["--trace", "/no/such/folder/trace"], "--trace"),
    (SERVE + ["--log-level", "loud"], "--log-level"),
    (SERVE + ["--chat-template", "/no/such/template"], "/no/such/template"),
    (SERVE + ["--tokenizer-path", "/no/such/tokenizer"], "/no/such/tokenizer"),
    (SERVE + ["--context-length", "100000"], "context-length is 100000, the model allows up to"),
    (SERVE + ["--preferred-sampling-params", "[]"], "--preferred-sampling-params: must be a JSON object"),
    (SERVE + ["--preferred-sampling-params", '{"top_p": 2}'], "--preferred-sampling-params: top_p must be in"),
    (["serve", "--model-path", "/no/such/model", "--port", "0"], "/no/such/model"),
    (SERVE + ["--quantization-group-size", "x"], "--quantization-group-size: x not in {32,64,128}"),
    (["bench", "layer"], "'layer', allowed are machine, moe, linear"),
    (["bench", "machine", "--threads", "5000"], "--threads: Value 5000 not in range 0 to 4096"),
    (["bench", "moe"], "--geometry is required"),
    (["bench", "moe", "--geometry", "Qwen9"], '"Qwen9" is neither a directory nor the name of a shipped geometry'),
    (["bench", "moe", "--geometry", "64x32x8x9"], '"64x32x8x9", which is not HIDDENxINTERMEDIATExEXPERTSxTOP_K'),
    (MOE + ["--tokens", "1,many"], "--tokens: Value many not in range 1 to 1048576"),
    (MOE + ["--tokens", "99999999999999999999"], "--tokens: Value 99999999999999999999 not in range"),
    (MOE + ["--format", "fp9"], '"fp9", allowed are bf16, fp8, fp8_block, int8, int4'),
    (MOE + ["--group-size", "48"], "48 not in {32,64,128}"),
    (MOE + ["--activation-quantization", "fp8"], '"fp8", allowed are auto, none, int8'),
    (MOE + ["--cpu-isa", "sse"], '"sse", allowed are auto, avx2, avx_vnni, avx512, vnni, avx512_vbmi, avx512_bf16, amx'),
    (MOE + ["--runs", "8"], "--runs: Value 8 not in range 9 to 10000"),
    (MOE + ["--seconds-max", "nan"], "--seconds-max: nan is no number from 0 up"),
    (MOE + ["--seed", "-1"], "--seed: -1 is negative"),
    (MOE + ["--backend", "fast"], '"fast", allowed are auto, epmoe, fused, fused_v2'),
    (MOE + ["--backend", "fused_v2", "--ablate", "speed"], '"speed", allowed are shared, prefetch, residency, overlap'),
    (MOE + ["--backend", "epmoe", "--ablate", "prefetch"], "prefetch, which only fused_v2 and fused can do without"),
    (MOE + ["--backend", "fused_v2", "--ablate", "codes"], "codes, and no format here has rows that are quantised"),
    (MOE + ["--routing", "cold"], '"cold", allowed are uniform, zipf, hot'),
    (MOE + ["--experts", "some"], '"some", allowed are all, routed'),
    (MOE + ["--ep-share", "1/3"], "--ep-share is 1/3, but 64x32x8x2 has 8 experts"),
    (MOE + ["--device", "tpu"], '"tpu", allowed are cpu, cuda'),
    (MOE + ["--ranks", "2"], "--ranks is 2"),
    (MOE + ["--trace", "/no/such/folder/trace"], "--trace"),
    (MOE + ["--plot", "plot.svg", "--format", "bf16,fp8"], "--plot draws one layer"),
    (MOE + ["--tune", "--tune-file", "/no/such/folder/lines"], "--tune-file"),
    (MOE + ["--tune", "--plot", "plot.svg"], "excludes"),
    (["bench", "linear"], "--geometry or --shapes is needed"),
    (["bench", "linear", "--shapes", "4096"], '"4096" is not OUTPUTSxINPUTS'),
    (LINEAR + ["--copies", "0"], "--copies: Value 0 not in range 1 to 10000"),
    (LINEAR + ["--routing", "hot"], "unknown flag --routing"),
]


def run(arguments, seconds=30, environment=None):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=seconds,
                          env={**os.environ, **(environment or {})})


class Flags(unittest.TestCase):
    def test_what_is_wrong_is_named(self):
        for arguments, says in REFUSED:
            with self.subTest(arguments=arguments):
                result = run(arguments)
                self.assertEqual(result.returncode, 2)
                self.assertIn(says, result.stderr)

    def test_what_needs_no_weights_is_refused_before_they_are_read(self):
        for flag, value in (("--context-length", "100000"), ("--chat-template", "/no/such")):
            output = run(SERVE + [flag, value])
            self.assertNotIn("loading", output.stdout + output.stderr)

    def test_what_means_the_same_gives_the_same_answer(self):
        prompt = ["run", "What is sluice?", "--model-path", MODEL, "--temperature", "0",
                  "--max-new-tokens", "8", "--no-timing"]
        answer = run(prompt)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        for flags, says in ((["--dtype", "half"], "bfloat16 instead"),
                            (["--dtype=float16"], "bfloat16 instead"),
                            (["--page-size", "1"], ""),
                            (["--max-new-tokens", "3", "--max-new-tokens=8"], ""),
                            (["--no-skip-tokenizer-init", "--threads=1"], "")):
            result = run(prompt + flags)
            self.assertEqual(result.stdout, answer.stdout, flags)
            self.assertIn(says, result.stderr)
        longer = run(prompt + ["--context-length", "9000"],
                     environment={"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"})
        self.assertEqual(longer.stdout, answer.stdout)

    def test_limits_are_shown_without_a_model(self):
        result = run(["serve", "--print-limits"])
        self.assertEqual(result.returncode, 0)
        self.assertIn("queued requests", result.stdout)

    def test_every_command_explains_itself(self):
        for command in ("serve", "run", "chat", "bench", "inspect", "eval"):
            result = run([command, "--help"])
            self.assertEqual(result.returncode, 0)
            self.assertIn("--", result.stdout)


if __name__ == "__main__":
    outcome = unittest.main(argv=sys.argv[:1], exit=False).result
    failed = len(outcome.failures) + len(outcome.errors)
    print(f"{outcome.testsRun - failed} passed, {failed} failed")
    sys.exit(failed != 0)
