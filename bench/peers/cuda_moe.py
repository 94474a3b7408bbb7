#!/usr/bin/env python3
"""Times one mixture-of-experts layer on an NVIDIA GPU in PyTorch's grouped products and in Triton (`triton_moe.py`),
and puts the figures beside those of `sluice bench moe --device cuda`.

    python3 bench/peers/cuda_moe.py time > theirs.jsonl               # a JSON line a figure; notes go to stderr
    sluice bench moe --device cuda ... --json > ours.json
    python3 bench/peers/cuda_moe.py join theirs.jsonl ours.json ...   # a table; `table ours.json`: ours alone
    TRITON_INTERPRET=1 python3 bench/peers/cuda_moe.py check          # both against float64 on small layers, also
                                                                      # without a GPU

Random weights, rows and routing; CUDA graph replays, the L2 cache overwritten before each, medians. Quantised layers:
a scale an output, rows quantised with one scale each. Triton runs with the best of a few tiles, chosen here by time.
Without PyTorch, Triton or a GPU the script says so and ends with status 3.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

FP8_MAX = 448.0
# geometry, ep-share: experts, experts a row, hidden, intermediate, shared expert's width
LAYERS = {
    ("Ling-2.6-1T", "1/32"): (8, 1, 8192, 2048, 2048),
    ("Qwen3-30B-A3B", "1/1"): (128, 8, 2048, 768, 0),
    ("Ling-mini-2.0", "1/1"): (256, 8, 2048, 512, 512),
}
# In order of worth: a run that is cut short has the first ones.
CASES = [("Ling-2.6-1T", "1/32", 128), ("Ling-2.6-1T", "1/32", 4096)] + [
    ("Qwen3-30B-A3B", "1/1", tokens) for tokens in (1, 16, 64, 256, 4096, 4, 1024, 16384)]


def note(text):
    print(text, file=sys.stderr, flush=True)


def missing(text):
    note(f"cuda_moe.py: {text}")
    sys.exit(3)


def import_torch():
    try:
        import torch
    except ImportError as error:
        missing(f"no PyTorch here ({error}): nothing of the peers can be timed")
    return torch


def import_triton():
    try:
        import triton_moe
        return triton_moe
    except ImportError as error:
        note(f"cuda_moe.py: no Triton here ({error}): PyTorch alone")
        return None


class Layer:
    """Weights, rows and routing. A shared expert is the last of `gate_up` and `down`, and the last of every token."""

    def __init__(self, torch, shape, tokens, format, device, seed=1):
        self.experts, self.top_k, self.hidden, self.width, shared = shape
        if shared not in (0, self.width):
            raise ValueError(f"shared expert of {shared}, routed ones of {self.width}: allowed is the same or none")
        self.shared, self.tokens, self.fp8 = shared > 0, tokens, format == "fp8"
        self.torch = torch
        generator = torch.Generator(device=device).manual_seed(seed)
        count = self.experts + self.shared

        def uniform(*dims):
            return torch.rand(dims, generator=generator, device=device) * 2 - 1

        def weights(outputs, inputs):
            scale = inputs ** -0.5
            out = torch.empty((count, outputs, inputs), device=device,
                              dtype=torch.float8_e4m3fn if self.fp8 else torch.bfloat16)
            for one in out:  # expert by expert: floats of a whole layer may not fit
                one.copy_(uniform(outputs, inputs) * (FP8_MAX if self.fp8 else scale))
            scales = torch.full((count, outputs), scale / FP8_MAX, device=device) if self.fp8 else None
            return out, scales

        self.gate_up, self.gate_up_scales = weights(2 * self.width, self.hidden)
        self.down, self.down_scales = weights(self.hidden, self.width)
        self.x = (uniform(tokens, self.hidden) * 2).bfloat16()
        chosen = torch.rand((tokens, self.experts), generator=generator, device=device).topk(self.top_k, 1).indices
        self.ids = chosen.int()
        self.weights = torch.full((tokens, self.top_k), 1 / self.top_k, device=device)
        if self.shared:
            last = torch.full((tokens, 1), self.experts, dtype=torch.int32, device=device)
            self.ids = torch.cat([self.ids, last], 1)
            self.weights = torch.cat([self.weights, torch.ones((tokens, 1), device=device)], 1)

    def dense(self, expert):
        """Gate and up, and down, in float64."""
        gate_up, down = self.gate_up[expert].double(), self.down[expert].double()
        if self.fp8:
            gate_up, down = gate_up * self.gate_up_scales[expert, :, None], down * self.down_scales[expert, :, None]
        return gate_up, down

    def reference(self, rows):
        """Of some rows; quantised where the layer quantises."""
        torch = self.torch

        def as_stored(values):
            if not self.fp8:
                return values.bfloat16().double()
            values = values.bfloat16().float()
            scale = values.abs().amax(1, keepdim=True).clamp(min=1e-30) / FP8_MAX
            return (values / scale).to(torch.float8_e4m3fn).double() * scale.double()

        out = torch.zeros((len(rows), self.hidden), dtype=torch.float64, device=self.x.device)
        x = as_stored(self.x[rows])
        for i, row in enumerate(rows):
            for expert, weight in zip(self.ids[row].tolist(), self.weights[row].double()):
                gate_up, down = self.dense(expert)
                gate, up = (gate_up @ x[i]).bfloat16().double().chunk(2)
                middle = as_stored((torch.nn.functional.silu(gate) * up)[None])[0]
                out[i] += weight * (down @ middle)
        return out

    def error(self, y):
        """Relative 2-norm of the worst of a few rows."""
        rows = sorted({0, self.tokens // 2, self.tokens - 1})
        expected = self.reference(rows)
        return float(((y[rows].double() - expected).norm(dim=1) / expected.norm(dim=1)).max())


class TorchMoe:
    """Sorting and gathering by PyTorch's own operations, its two grouped products between them. A shared expert is
    one more group. With Triton, rows are quantised and activated by its kernels (eager operations would take longer)."""

    def __init__(self, layer, triton_moe):
        torch = layer.torch
        self.layer, self.triton_moe, self.torch = layer, triton_moe, torch
        functional = torch.nn.functional
        self.grouped = getattr(torch, "_grouped_mm", None) or getattr(functional, "grouped_mm", None)
        self.scaled = getattr(torch, "_scaled_grouped_mm", None)
        if (self.scaled if layer.fp8 else self.grouped) is None:
            raise NotImplementedError(f"PyTorch {torch.__version__} has no grouped product of this format")
        self.groups = torch.arange(layer.gate_up.shape[0], device=layer.x.device, dtype=torch.int32)

    def quantized(self, rows):
        torch = self.torch
        codes = torch.empty(rows.shape, dtype=torch.float8_e4m3fn, device=rows.device)
        scales = torch.empty(rows.shape[0], device=rows.device)
        if self.triton_moe:
            width = rows.shape[1]
            self.triton_moe.quantize_kernel[(rows.shape[0],)](rows, codes, scales, width, num_warps=8,
                                                              WIDTH=1 << (width - 1).bit_length())
            return codes, scales
        scale = rows.float().abs().amax(1, keepdim=True).clamp(min=1e-30) / FP8_MAX
        return (rows / scale).to(torch.float8_e4m3fn), scale[:, 0].contiguous()

    def product(self, rows, weights, scales, ends):
        columns = weights.transpose(-2, -1)
        if not self.layer.fp8:
            return self.grouped(rows, columns, offs=ends)
        codes, row_scales = self.quantized(rows)
        return self.scaled(codes, columns, row_scales, scales, offs=ends, out_dtype=self.torch.bfloat16,
                           use_fast_accum=True)

    def activated(self, middle):
        if not self.triton_moe:
            gate, up = middle.chunk(2, 1)
            return self.torch.nn.functional.silu(gate) * up
        out = self.torch.empty((middle.shape[0], middle.shape[1] // 2), dtype=middle.dtype, device=middle.device)
        self.triton_moe.activate_kernel[(out.shape[0],)](middle, out, out, out.shape[1], QUANTIZE=False,
                                                         WIDTH=1 << (out.shape[1] - 1).bit_length())
        return out

    def run(self):
        torch, layer = self.torch, self.layer
        top_k = layer.ids.shape[1]
        sorted_ids, order = layer.ids.flatten().sort(stable=True)
        ends = torch.searchsorted(sorted_ids, self.groups, right=True, out_int32=True)
        middle = self.product(layer.x[order // top_k], layer.gate_up, layer.gate_up_scales, ends)
        rows = self.product(self.activated(middle), layer.down, layer.down_scales, ends)
        back = torch.empty_like(order)
        back[order] = torch.arange(order.numel(), device=order.device)
        rows = rows[back].view(layer.tokens, top_k, layer.hidden)
        return torch.bmm(layer.weights.to(rows.dtype)[:, None, :], rows)[:, 0]


class Timer:
    def __init__(self, torch, runs):
        self.torch, self.runs = torch, runs
        l2_bytes = torch.cuda.get_device_properties(0).L2_cache_size
        self.flush = torch.empty(2 * l2_bytes, dtype=torch.uint8, device="cuda")

    def times(self, run):
        """Milliseconds of graph replays, sorted, and what the last one made."""
        torch = self.torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # compiles, chooses algorithms
                run()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                y = run()
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            times = []
            for i in range(self.runs + 3):
                self.flush.fill_(i % 251)
                begin.record()
                graph.replay()
                end.record()
                end.synchronize()
                if i >= 3:
                    times.append(begin.elapsed_time(end))
        return sorted(times), y


def time_triton(triton_moe, layer, timer):
    """The fastest of the tiles: its times, rows, name."""
    best = None
    pairs, experts = layer.ids.numel(), layer.gate_up.shape[0]
    for tile in triton_moe.candidates(pairs, experts, layer.fp8):
        try:
            moe = triton_moe.TritonMoe(layer.x, layer.ids, layer.weights, layer.gate_up, layer.down,
                                       layer.gate_up_scales, layer.down_scales, tile)
            times, y = timer.times(moe.run)
        except Exception as error:  # a tile that needs too much shared memory, say
            note(f"  triton, tile {tile}: {type(error).__name__}: {str(error).splitlines()[0][:160]}")
            continue
        if best is None or statistics.median(times) < statistics.median(best[0]):
            best = times, y.clone(), "x".join(map(str, tile))
    if best is None:
        raise RuntimeError("no tile ran")
    return best


def warm(args):
    """Compiles every `of`-th kernel into Triton's cache, by running it on a small layer with the constants of the
    timed ones."""
    torch, triton_moe = import_torch(), import_triton()
    runs = [(shape, format, tile) for shape in [(8, 1, 512, 256, 256), (128, 8, 512, 256, 0)]
            for format in args.format.split(",") for tile in sorted({t for some in triton_moe.tiles(format == "fp8")
                                                                     for t in some})]
    for shape, format, tile in runs[args.part::args.of]:
        layer = Layer(torch, shape, 4 if tile[0] == 16 else 300, format, "cuda")
        try:
            triton_moe.TritonMoe(layer.x, layer.ids, layer.weights, layer.gate_up, layer.down, layer.gate_up_scales,
                                 layer.down_scales, tile).run()
        except Exception as error:  # time_triton meets it again
            note(f"  tile {tile}, {format}: {type(error).__name__}")
    torch.cuda.synchronize()


def warm_all(args):
    """All of warm, side by side: compiling one after another would take minutes of the GPU's time."""
    begin, count = time.monotonic(), max(1, min(8, (os.cpu_count() or 1) // 2))
    workers = [subprocess.Popen([sys.executable, __file__, "warm", "--format", args.format, "--part", str(i), "--of",
                                 str(count)], stdout=subprocess.DEVNULL) for i in range(count)]
    for worker in workers:
        worker.wait()
    note(f"compiled by {count} processes in {time.monotonic() - begin:.0f} s")


def measure(args):
    torch = import_torch()
    if not torch.cuda.is_available():
        missing(f"PyTorch {torch.__version__} sees no GPU")
    triton_moe = import_triton()
    note(f"{torch.cuda.get_device_name(0)}, PyTorch {torch.__version__}, "
         f"Triton {triton_moe.triton.__version__ if triton_moe else 'none'}")
    end = time.monotonic() + args.seconds
    if triton_moe:
        warm_all(args)
    timer = Timer(torch, args.runs)
    for geometry, share, tokens in CASES:
        for format in args.format.split(","):
            if time.monotonic() > end:
                note(f"{args.seconds} s are over: {geometry}, {tokens} tokens, {format} and what follows not timed")
                return
            layer = Layer(torch, LAYERS[geometry, share], tokens, format, "cuda")
            for program in ["triton", "torch"]:
                try:
                    if program == "torch":
                        (times, y), tile = timer.times(TorchMoe(layer, triton_moe).run), None
                    elif triton_moe:
                        times, y, tile = time_triton(triton_moe, layer, timer)
                    else:
                        continue
                except Exception as error:
                    note(f"{program}, {geometry}, {tokens} tokens, {format}: {type(error).__name__}: "
                         f"{str(error).splitlines()[0][:200]}")
                    continue
                print(json.dumps({
                    "program": program, "geometry": geometry, "ep-share": share, "format": format, "tokens": tokens,
                    "seconds": {"min": times[0] / 1e3, "median": statistics.median(times) / 1e3,
                                "max": times[-1] / 1e3},
                    "runs": len(times), "tile": tile, "error": layer.error(y)}), flush=True)
            del layer
            torch.cuda.empty_cache()


def check(args):
    """Every part on layers that the interpreter can afford. The interpreter cuts bf16 off instead of rounding, and rounds
    fp8 coarsely: there, the bounds only tell right from wrong."""
    torch = import_torch()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    triton_moe = import_triton()
    failed = 0
    for shape, tokens in [((4, 2, 128, 64, 0), 5), ((8, 2, 256, 128, 128), 70), ((4, 1, 128, 128, 0), 1100)]:
        for format in args.format.split(","):
            layer = Layer(torch, shape, tokens, format, device)
            runs = [("torch", TorchMoe(layer, triton_moe if device == "cuda" else None).run)]
            if triton_moe:
                tile = (16, 64, 64, 2, 4, 2)
                runs.append(("triton", triton_moe.TritonMoe(
                    layer.x, layer.ids, layer.weights, layer.gate_up, layer.down, layer.gate_up_scales,
                    layer.down_scales, tile).run))
            for name, run in runs:
                try:
                    error = layer.error(run())
                except (NotImplementedError, RuntimeError) as problem:
                    print(f"{name:7} {format} {shape} {tokens}: not run here: {str(problem).splitlines()[0][:120]}")
                    continue
                bound = 1e-2 if device == "cuda" or name == "torch" else {"bf16": 3e-2, "fp8": 0.15}[format]
                failed += not error <= bound
                print(f"{name:7} {format} {shape} {tokens}: error {error:.1e}{'' if error <= bound else '  WRONG'}")
    sys.exit(failed > 0)


def our_lines(paths):
    """(geometry, share, format, tokens) -> the line of `sluice bench moe --json`, of the first file that has it."""
    out = {}
    for path in paths:
        with open(path) as file:
            layers = json.load(file)["layers"]
        for layer in layers:
            for line in layer["lines"]:
                if line["line"] in ("fused_v2", "auto", "fused_v2 all"):
                    out.setdefault((layer["geometry"], layer["ep-share"], layer["format"], line["tokens"]), line)
    return out


def table(args):
    """Every line of our JSON, since `sluice bench moe --json` prints no table."""
    for path in args.ours:
        with open(path) as file:
            document = json.load(file)
        for layer in document["layers"]:
            print(f"{layer['geometry']} {layer['ep-share']}, {layer['format']}, {document['processor']}")
            for line in layer["lines"]:
                seconds = line["seconds"]
                print(f"  {line['line']:36} {line['tokens']:6} {seconds['median'] * 1e3:9.4f} ms "
                      f"({seconds['min'] * 1e3:.4f} - {seconds['max'] * 1e3:.4f}) "
                      f"{line['flop_per_s'] * 1e-12:7.1f} TFLOP/s {line['bytes_per_s'] * 1e-12:5.2f} TB/s "
                      f"{100 * line['roofline_share']:5.1f}% of {line['ceiling_flop_per_s'] * 1e-12:.0f}, "
                      f"{line['ceiling_bytes_per_s'] * 1e-12:.2f}; pace {line['pace_of_first'] or 0:.3f}, "
                      f"error {line['error']:.1e}{' disturbed' if line['disturbed'] else ''}")


def join(args):
    with open(args.theirs) as file:
        theirs = {}
        for text in file:
            line = json.loads(text)
            key = line["geometry"], line["ep-share"], line["format"], line["tokens"]
            theirs.setdefault(key, {})[line["program"]] = line
    ours = our_lines(args.ours)
    print(f"{'layer':24} {'format':6} {'tokens':>6} {'fused_v2 ms':>12} {'of roof':>8} "
          f"{'triton ms':>10} {'ratio':>6} {'torch ms':>10} {'ratio':>6}")
    for key in sorted(set(theirs) | set(ours)):
        geometry, share, format, tokens = key
        own = ours.get(key)
        median = own["seconds"]["median"] * 1e3 if own else None
        text = f"{geometry + ' ' + share:24} {format:6} {tokens:6} "
        text += f"{median:12.4f} {100 * own['roofline_share']:7.1f}% " if own else f"{'-':>12} {'-':>8} "
        for program in ["triton", "torch"]:
            line = theirs.get(key, {}).get(program)
            if not line:
                text += f"{'-':>10} {'-':>6} "
                continue
            peer = line["seconds"]["median"] * 1e3
            text += f"{peer:10.4f} " + (f"{peer / median:6.2f} " if own else f"{'-':>6} ")
            if not line["error"] <= 2e-2:
                text += f"(wrong: {line['error']:.1e}) "
        print(text.rstrip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in [("time", measure), ("check", check), ("warm", warm)]:
        command = commands.add_parser(name)
        command.add_argument("--format", default="fp8,bf16")
        command.set_defaults(run=run)
        if name == "warm":
            command.add_argument("--part", type=int, default=0)
            command.add_argument("--of", type=int, default=1)
        if name == "time":
            command.add_argument("--runs", type=int, default=21)
            command.add_argument("--seconds", type=float, default=240, help="begin no figure after so many")
    command = commands.add_parser("table")
    command.add_argument("ours", nargs="+")
    command.set_defaults(run=table)
    command = commands.add_parser("join")
    command.add_argument("theirs")
    command.add_argument("ours", nargs="+")
    command.set_defaults(run=join)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
