#!/usr/bin/env python3
"""Times one mixture-of-experts layer of KTransformers' kt-kernel (PyPI), beside `sluice bench moe`.

    python3 -m venv venv && venv/bin/pip install torch && venv/bin/pip download --no-deps kt-kernel
    python3 -m zipfile -e kt_kernel-*.whl kt
    venv/bin/python bench/peers/kt_kernel_moe.py kt --format bf16 --threads 1 --tokens 1,8,32,512

Uniform random routing, drawn anew for every call; medians of --runs calls. The caller spins while the workers work, so on
two processors only --threads 1 gives every worker one of its own. Outputs of up to 8 tokens are compared with torch.
"""
import argparse
import importlib.util
import os
import pathlib
import statistics
import time

import torch


CLASSES = {
    "bf16": "AMXBF16_MOE",
    "fp8": "AMXFP8PerChannel_MOE",
    "int8": "AMXInt8_MOE",
    "int4": "AMXInt4_MOE",
    "int4_group": "AMXInt4_KGroup_MOE",
}


def load_extension(folder, variant):
    (path,) = pathlib.Path(folder, "kt_kernel").glob(f"_kt_kernel_ext_{variant}.*.so")
    spec = importlib.util.spec_from_file_location("kt_kernel_ext", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Matrix:
    """Random weights [outputs, inputs] as bf16, as e4m3 codes with a scale an output, or as 4-bit codes with a scale a group."""

    def __init__(self, outputs, inputs, form, group):
        w = torch.randn(outputs, inputs) * 0.02
        self.scales = None
        if form == "fp8":
            self.scales = (w.abs().amax(1) / 448).contiguous()
            codes = (w / self.scales[:, None]).to(torch.float8_e4m3fn)
            self.stored, self.values = codes.view(torch.uint8).contiguous(), codes.float() * self.scales[:, None]
        elif form == "int4_group":
            groups = w.view(outputs, -1, group)
            self.scales = (groups.abs().amax(2) / 7).to(torch.bfloat16).contiguous()
            codes = (groups / self.scales.float()[:, :, None]).round().clamp(-8, 7)
            self.values = (codes * self.scales.float()[:, :, None]).view(outputs, inputs)
            codes = (codes + 8).to(torch.uint8).view(outputs, -1, 2)
            self.stored = (codes[:, :, 0] | codes[:, :, 1] << 4).contiguous()
        else:  # the kernel itself quantises for int8 and int4
            self.stored = w.to(torch.bfloat16).contiguous()
            self.values = self.stored.float()

    def __matmul__(self, x):
        return self.values @ x


def error(experts, ids, weights, x, y):
    expected = torch.zeros(x.shape)
    for t in range(x.shape[0]):
        for j, e in enumerate(ids[t]):
            gate, up, down = experts[e]
            row = x[t].float()
            expected[t] += weights[t, j] * (down @ (torch.nn.functional.silu(gate @ row) * (up @ row)))
    return ((y.float() - expected).norm() / expected.norm()).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="where the wheel was unpacked")
    parser.add_argument("--variant", default="avx512_bf16", help="amx, avx512_bf16, avx512_vnni, avx2, ...")
    parser.add_argument("--format", choices=list(CLASSES), default="bf16", help="int4: a scale an output; int4_group: a scale a --group")
    parser.add_argument("--group", type=int, default=32)
    parser.add_argument("--kernel", help="another class of the extension that takes the same weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", default="1,8,32,512")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--experts", type=int, default=128)
    parser.add_argument("--top-k", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--intermediate", type=int, default=768)
    args = parser.parse_args()
    tokens = [int(t) for t in args.tokens.split(",")]

    torch.manual_seed(0)
    h, i = args.hidden, args.intermediate
    made = [[Matrix(*shape, args.format, args.group) for shape in [(i, h), (i, h), (h, i)]] for _ in range(8)]
    experts = [made[e % len(made)] for e in range(args.experts)]  # the kernel packs a copy of each

    kt = load_extension(args.folder, args.variant)
    workers = kt.WorkerPoolConfig()
    workers.subpool_count, workers.subpool_numa_map, workers.subpool_thread_count = 1, [0], [args.threads]
    cpu = kt.CPUInfer(workers)
    on_gpu = torch.zeros(args.experts, dtype=torch.bool)
    config = kt.moe.MOEConfig(args.experts, args.top_k, h, i, on_gpu.data_ptr())
    config.layer_idx, config.pool, config.max_len = 0, cpu.backend_, (max(tokens) + 63) // 64 * 64
    whole = []  # alive until the kernel has packed them
    for n, name in enumerate(["gate", "up", "down"]):
        if args.format in ("int8", "int4"):
            whole.append(torch.stack([e[n].stored for e in experts]))
            setattr(config, f"{name}_proj", whole[-1].data_ptr())
            continue
        setattr(config, f"{name}_projs", [[e[n].stored.data_ptr() for e in experts]])
        if args.format != "bf16":
            setattr(config, f"{name}_scales", [[e[n].scales.data_ptr() for e in experts]])
    config.save = config.load = False
    quantised = config.quant_config
    if args.format == "fp8":
        quantised.bits, quantised.per_channel, quantised.zero_point = 8, True, False
    elif args.format == "int4_group":
        quantised.bits, quantised.group_size, quantised.zero_point = 4, args.group, False
    layer = getattr(kt.moe, args.kernel or CLASSES[args.format])(config)
    order = torch.arange(args.experts, dtype=torch.int64)
    cpu.submit(layer.load_weights_task(order.data_ptr()))
    cpu.sync()
    whole.clear()

    for count in tokens:
        size = torch.tensor([count], dtype=torch.int32)
        ms = []
        for run in range(args.runs + 1):  # the first one warms up
            ids = torch.stack([torch.randperm(args.experts)[: args.top_k] for _ in range(count)])
            weights = torch.rand(count, args.top_k)
            x = torch.randn(count, h).to(torch.bfloat16)
            y = torch.empty(count, h, dtype=torch.bfloat16)
            begin = time.perf_counter()
            cpu.submit(
                layer.forward_task(
                    size.data_ptr(), args.top_k, ids.data_ptr(), weights.data_ptr(), x.data_ptr(), y.data_ptr(), False
                )
            )
            cpu.sync()
            if run > 0:
                ms.append((time.perf_counter() - begin) * 1e3)
        wrong = f", error {error(experts, ids, weights, x, y):.1e}" if count <= 8 else ""
        print(f"{args.format}, {args.threads} threads, {count} tokens: median {statistics.median(ms):.2f} ms, min {min(ms):.2f}{wrong}")
    os._exit(0)  # its threads do not end by themselves


if __name__ == "__main__":
    main()
