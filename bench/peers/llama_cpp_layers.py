#!/usr/bin/env python3
"""Times whole layers of Qwen3-30B-A3B in llama.cpp (PyPI `llama-cpp-python`), beside `sluice bench`.

    python3 -m venv venv && venv/bin/pip install gguf
    CMAKE_ARGS=-DGGML_NATIVE=ON venv/bin/pip install --no-binary=llama-cpp-python llama-cpp-python
    run="venv/bin/python bench/peers/llama_cpp_layers.py"
    $run write qwen3-bf16.gguf                      # random weights, real widths, 4 layers, vocabulary 256
    $run quantize qwen3-bf16.gguf qwen3-q8.gguf q8_0          # or q4_0, q4_k_m
    $run time qwen3-q8.gguf --threads 2
    $run pair qwen3-q8.gguf --threads 2 --sluice build/release/src/cli/sluice --quantization int8

`time` feeds random token ids: a prompt into an empty cache, then single tokens after an empty cache, as `sluice bench`
does. `pair` alternates the two programs, a process each, and prints both and the median of their ratios.
"""
import argparse
import ctypes
import os
import re
import shlex
import statistics
import subprocess
import sys
import time

import numpy as np

LAYERS, VOCABULARY = 4, 256
HIDDEN, HEADS, KV_HEADS, HEAD, EXPERTS, TOP_K, INTERMEDIATE = 2048, 32, 4, 128, 128, 8, 768
SLUICE_CONFIG = f'{{"num_hidden_layers": {LAYERS}, "vocab_size": {VOCABULARY}, "bos_token_id": 1, "eos_token_id": 2}}'
FIGURES = re.compile(r"(\d+) at a time: prefill (\d+) tokens/s, decode ([\d.]+) tokens/s")


def write(args):
    import gguf

    random = np.random.default_rng(1)

    def matrix(*shape):
        floats = (random.standard_normal(shape, dtype=np.float32) * 0.02).view(np.uint32)
        return ((floats + 0x8000) >> 16).astype(np.uint16).view(np.uint8)  # bfloat16, ties away from zero

    out = gguf.GGUFWriter(args.file, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.QWEN3MOE])
    out.add_block_count(LAYERS)
    out.add_context_length(40960)
    out.add_embedding_length(HIDDEN)
    out.add_feed_forward_length(6144)
    out.add_expert_feed_forward_length(INTERMEDIATE)
    out.add_expert_count(EXPERTS)
    out.add_expert_used_count(TOP_K)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_key_length(HEAD)
    out.add_value_length(HEAD)
    out.add_rope_freq_base(1e6)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_vocab_size(VOCABULARY)
    out.add_tokenizer_model("none")
    out.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)

    def add(name, values):
        out.add_tensor(f"{name}.weight", values, raw_dtype=gguf.GGMLQuantizationType.BF16)

    def add_floats(name, values):
        out.add_tensor(f"{name}.weight", values.astype(np.float32))

    add("token_embd", matrix(VOCABULARY, HIDDEN))
    add("output", matrix(VOCABULARY, HIDDEN))
    add_floats("output_norm", np.ones(HIDDEN))
    # All layers have the same experts: one copy in memory, one a layer in the file and in what is read back.
    up, down = matrix(EXPERTS, INTERMEDIATE, HIDDEN), matrix(EXPERTS, HIDDEN, INTERMEDIATE)
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        for norm, width in [("attn_norm", HIDDEN), ("ffn_norm", HIDDEN), ("attn_q_norm", HEAD), ("attn_k_norm", HEAD)]:
            add_floats(name + norm, np.ones(width))
        add(name + "attn_q", matrix(HEADS * HEAD, HIDDEN))
        add(name + "attn_k", matrix(KV_HEADS * HEAD, HIDDEN))
        add(name + "attn_v", matrix(KV_HEADS * HEAD, HIDDEN))
        add(name + "attn_output", matrix(HIDDEN, HEADS * HEAD))
        add_floats(name + "ffn_gate_inp", random.standard_normal((EXPERTS, HIDDEN)) * 0.02)
        add(name + "ffn_gate_exps", up)
        add(name + "ffn_up_exps", up)
        add(name + "ffn_down_exps", down)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def quantize(args):
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = os.cpu_count()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{args.type.upper()}")
    if llama_cpp.llama_model_quantize(args.source.encode(), args.file.encode(), ctypes.byref(params)) != 0:
        sys.exit(f"{args.source}: not quantised to {args.type}")


def load(args):
    import llama_cpp

    if not args.verbose:
        load.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)  # the library keeps the pointer
        llama_cpp.llama_log_set(load.quiet, None)
    llama_cpp.llama_backend_init()
    print(llama_cpp.llama_print_system_info().decode())
    params = llama_cpp.llama_model_default_params()
    params.load_mode = 1 if args.mmap else 0
    params.use_extra_bufts = not args.no_repack
    return llama_cpp.llama_model_load_from_file(args.file.encode(), params)


class Context:
    """A cache for `sequences` sequences of `tokens` positions."""

    def __init__(self, args, model, tokens, sequences):
        import llama_cpp

        self.llama = llama_cpp
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = tokens * sequences, sequences
        params.n_batch, params.n_ubatch = max(tokens, sequences), args.ubatch
        params.n_threads = params.n_threads_batch = args.threads
        params.flash_attn_type = {"auto": -1, "off": 0, "on": 1}[args.flash]
        self.context = llama_cpp.llama_init_from_model(model, params)
        self.batch = llama_cpp.llama_batch_init(max(tokens, sequences), 0, 1)
        self.random = np.random.default_rng(2)

    def clear(self):
        self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)

    def decode(self, rows):
        """One call with `rows` of (position, sequence, whether it has logits) and random ids."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (position, sequence, logits) in enumerate(rows):
            batch.token[i], batch.pos[i] = int(self.random.integers(VOCABULARY)), position
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, sequence, logits
        if self.llama.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")
        self.llama.llama_synchronize(self.context)


def rate(context, tokens, rows_of_calls):
    context.clear()
    begin = time.perf_counter()
    for rows in rows_of_calls:
        context.decode(rows)
    return tokens / (time.perf_counter() - begin)


def time_layers(args):
    model = load(args)
    for sequences in args.sequences:
        context = Context(args, model, max(args.prompt, args.decode), sequences)
        prompt = [[(p, 0, p == args.prompt - 1) for p in range(args.prompt)]]
        answers = [[(p, s, True) for s in range(sequences)] for p in range(args.decode)]
        prefill, decode = [], []
        for run in range(args.runs + 1):  # the first one warms up
            prefill.append(rate(context, args.prompt, prompt))
            decode.append(rate(context, sequences * args.decode, answers))
        prefill, decode = (statistics.median(rates[1:]) for rates in (prefill, decode))
        print(f"{sequences} at a time: prefill {prefill:.0f} tokens/s, decode {decode:.1f} tokens/s", flush=True)


def figures(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}: {done.stderr}")
    ceilings = re.findall(r"ceilings .*", done.stdout)
    rates = {}
    for sequences, prefill, decode in FIGURES.findall(done.stdout):
        # Of several requests only the answers are compared: prompts of several go into one step here, one by one there.
        rates |= {f"decode of {sequences}": float(decode)} | ({"prefill": float(prefill)} if sequences == "1" else {})
    return rates, ceilings


def pair(args):
    before = shlex.split(args.before)
    shape = [f"--{name}={getattr(args, name)}" for name in ["threads", "runs", "flash", "ubatch", "prompt", "decode"]]
    theirs = [sys.executable, __file__, "time", args.file, *shape, f"--sequences={','.join(map(str, args.sequences))}"]
    ours = [args.sluice, "bench", "--model-path", "Qwen3-30B-A3B", "--load-format", "dummy", "--skip-tokenizer-init"]
    ours += ["--json-model-override-args", SLUICE_CONFIG, "--context-length", "4096", f"--threads={args.threads}"]
    ours += [f"--quantization={args.quantization}", f"--runs={args.runs}", f"--decode-tokens={args.decode}"]
    ours += [f"--prompt-tokens={args.prompt}", "--concurrency", ",".join(map(str, args.sequences)), *shlex.split(args.options)]
    runs = []
    for i in range(args.pairs):
        measured = {}
        for who in ["llama.cpp", "sluice"][:: 1 if i % 2 == 0 else -1]:
            measured[who], ceilings = figures(before + (ours if who == "sluice" else theirs))
            print(f"{who}: {measured[who]}", *ceilings, sep="\n  ", flush=True)
        runs.append(measured)
    print(f"{os.path.basename(args.file)} / {args.quantization} {args.options}, {args.threads} threads")
    for name in runs[0]["sluice"]:
        ours, theirs = ([run[who][name] for run in runs] for who in ("sluice", "llama.cpp"))
        ratios = [a / b for a, b in zip(ours, theirs)]
        print(
            f"  {name}: llama.cpp {statistics.median(theirs):.1f}, sluice {statistics.median(ours):.1f} tokens/s, "
            f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("write")
    command.add_argument("file")
    command.set_defaults(run=write)
    command = commands.add_parser("quantize")
    command.add_argument("source")
    command.add_argument("file")
    command.add_argument("type", help="q8_0, q4_0, q4_k_m, ...")
    command.set_defaults(run=quantize)
    for name, run in [("time", time_layers), ("pair", pair)]:
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("file")
        command.add_argument("--threads", type=int, default=2)
        command.add_argument("--prompt", type=int, default=512)
        command.add_argument("--decode", type=int, default=32)
        command.add_argument("--sequences", default=[1], type=lambda text: [int(n) for n in text.split(",")])
        command.add_argument("--runs", type=int, default=5)
        command.add_argument("--flash", choices=["auto", "on", "off"], default="auto")
        command.add_argument("--ubatch", type=int, default=512)
        if name == "time":
            command.add_argument("--mmap", action="store_true", help="weights stay in the file's pages")
            command.add_argument("--no-repack", action="store_true")
            command.add_argument("--verbose", action="store_true", help="llama.cpp's own log")
        else:
            command.add_argument("--sluice", default="sluice")
            command.add_argument("--quantization", choices=["none", "fp8", "int8", "int4"], required=True)
            command.add_argument("--options", default="", help="more options of sluice bench, in one string")
            command.add_argument("--pairs", type=int, default=3)
            command.add_argument("--before", default="", help="put before each command, as `taskset -c 0,1`")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
