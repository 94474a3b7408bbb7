"""A mixture-of-experts layer in Triton, of the structure that vLLM and SGLang serve with: pairs sorted by expert and
padded to blocks, a grouped product that gathers its rows by index, silu and multiplication, a second grouped product
that scales by the routing weight, a sum over each token's experts. Written for `cuda_moe.py` from that description.

Where those programs differ, this takes what is faster: fp8 rows are quantised by the same launch that activates, and
a shared expert of the routed experts' width is one more expert of every token.
"""
import os

import torch
import triton
import triton.language as tl

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@triton.jit
def _lay_out(counts, cursor, block_experts, rows, experts, EXPERTS: tl.constexpr, BLOCK: tl.constexpr):
    """From pairs an expert: where its padded rows begin (into cursor), each block's expert, all rows."""
    e = tl.arange(0, EXPERTS)
    count = tl.load(counts + e, mask=e < experts, other=0)
    padded = tl.cdiv(count, BLOCK) * BLOCK
    begin = tl.cumsum(padded, 0) - padded
    tl.store(cursor + e, begin, mask=e < experts)
    tl.store(rows, tl.sum(padded, 0))
    blocks = padded // BLOCK
    most = tl.max(blocks, 0)
    for i in range(0, most):
        tl.store(block_experts + begin // BLOCK + i, e, mask=i < blocks)


@triton.jit
def _pad(sorted_pairs, count, begin, pairs, BLOCK: tl.constexpr):
    """Names no pair in what is left of the last block of experts: count and begin [n, 1]."""
    row = count + tl.arange(0, BLOCK)[None, :]
    tl.store(sorted_pairs + begin + row, row * 0 + pairs, mask=row < tl.cdiv(count, BLOCK) * BLOCK)


@triton.jit(do_not_specialize=["pairs"])
def sort_small_kernel(ids, counts, cursor, next_row, sorted_pairs, block_experts, rows, pairs, experts,
                      PAIRS: tl.constexpr, EXPERTS: tl.constexpr, BLOCK: tl.constexpr):
    """All of it in one program."""
    e = tl.arange(0, EXPERTS)
    tl.store(counts + e, tl.zeros([EXPERTS], tl.int32), mask=e < experts)
    tl.debug_barrier()
    i = tl.arange(0, PAIRS)
    expert = tl.load(ids + i, mask=i < pairs, other=0)
    tl.atomic_add(counts + expert, 1, mask=i < pairs)
    tl.debug_barrier()
    _lay_out(counts, cursor, block_experts, rows, experts, EXPERTS, BLOCK)
    tl.debug_barrier()
    begin = tl.load(cursor + e, mask=e < experts, other=0)
    _pad(sorted_pairs, tl.load(counts + e, mask=e < experts, other=0)[:, None], begin[:, None], pairs, BLOCK)
    tl.store(next_row + e, begin, mask=e < experts)
    tl.debug_barrier()
    row = tl.atomic_add(next_row + expert, 1, mask=i < pairs)
    tl.store(sorted_pairs + row, i, mask=i < pairs)


@triton.jit(do_not_specialize=["pairs"])
def count_kernel(ids, counts, pairs, CHUNK: tl.constexpr):
    i = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    expert = tl.load(ids + i, mask=i < pairs, other=0)
    tl.atomic_add(counts + expert, 1, mask=i < pairs)


@triton.jit
def lay_out_kernel(counts, cursor, next_row, block_experts, rows, experts, EXPERTS: tl.constexpr, BLOCK: tl.constexpr):
    _lay_out(counts, cursor, block_experts, rows, experts, EXPERTS, BLOCK)
    tl.debug_barrier()
    e = tl.arange(0, EXPERTS)
    tl.store(next_row + e, tl.load(cursor + e, mask=e < experts, other=0), mask=e < experts)


@triton.jit(do_not_specialize=["pairs"])
def place_kernel(ids, counts, cursor, next_row, sorted_pairs, pairs, experts, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    one = tl.program_id(0)
    if one < experts:
        zero = tl.zeros([1, 1], tl.int32)
        _pad(sorted_pairs, tl.load(counts + one) + zero, tl.load(cursor + one) + zero, pairs, BLOCK)
    i = one * CHUNK + tl.arange(0, CHUNK)
    expert = tl.load(ids + i, mask=i < pairs, other=0)
    row = tl.atomic_add(next_row + expert, 1, mask=i < pairs)
    tl.store(sorted_pairs + row, i, mask=i < pairs)


@triton.jit
def quantize_kernel(x, codes, scales, width, WIDTH: tl.constexpr):
    """One row: codes of row * 448 / its largest magnitude."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, WIDTH)
    values = tl.load(x + row * width + c, mask=c < width, other=0).to(tl.float32)
    largest = tl.maximum(tl.max(tl.abs(values), 0), 1e-30)
    tl.store(codes + row * width + c, (values * (448.0 / largest)).to(codes.dtype.element_ty), mask=c < width)
    tl.store(scales + row, largest / 448.0)


@triton.jit
def activate_kernel(gate_up, out, scales, width, QUANTIZE: tl.constexpr, WIDTH: tl.constexpr):
    """One row: silu(gate) * up, rounded where eager PyTorch rounds; quantised if asked."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, WIDTH)
    gate = tl.load(gate_up + row * 2 * width + c, mask=c < width, other=0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * width + width + c, mask=c < width, other=0).to(tl.float32)
    values = ((gate / (1 + tl.exp(-gate))).to(tl.bfloat16).to(tl.float32) * up).to(tl.bfloat16)
    if QUANTIZE:
        values = values.to(tl.float32)
        largest = tl.maximum(tl.max(tl.abs(values), 0), 1e-30)
        values = values * (448.0 / largest)
        tl.store(scales + row, largest / 448.0)
    tl.store(out + row * width + c, values.to(out.dtype.element_ty), mask=c < width)


@triton.jit(do_not_specialize=["pairs"])
def grouped_product_kernel(a, a_scales, b, b_scales, out, weights, sorted_pairs, block_experts, rows, pairs, N, K,
                           ROWS_OF_A: tl.constexpr, WEIGHTED: tl.constexpr, FP8: tl.constexpr, BLOCK_M: tl.constexpr,
                           BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr, WIDEN: tl.constexpr):
    """out[pair] = a[pair // ROWS_OF_A] b[expert]^T for one block of pairs and outputs. N and K: multiples of the
    blocks. Blocks of GROUP_M consecutive row blocks share their weights in L2. WIDEN: multiply floats, since the
    interpreter has no product of bf16 or fp8."""
    live_rows = tl.load(rows)
    blocks_m = tl.cdiv(live_rows, BLOCK_M)
    blocks_n = N // BLOCK_N
    program = tl.program_id(0)
    if program >= blocks_m * blocks_n:
        return
    group = program // (GROUP_M * blocks_n)
    group_m = min(blocks_m - group * GROUP_M, GROUP_M)
    within = program % (GROUP_M * blocks_n)
    block_m = group * GROUP_M + within % group_m
    block_n = within // group_m

    pair = tl.load(sorted_pairs + block_m * BLOCK_M + tl.arange(0, BLOCK_M))
    live = pair < pairs
    expert = tl.load(block_experts + block_m).to(tl.int64)
    n = block_n * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    a_at = a + (pair // ROWS_OF_A).to(tl.int64)[:, None] * K + k[None, :]
    b_at = b + expert * N * K + n[None, :] * K + k[:, None]
    sums = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for _ in range(0, K, BLOCK_K):
        left = tl.load(a_at, mask=live[:, None], other=0.0)
        right = tl.load(b_at)
        if WIDEN:
            left, right = left.to(tl.float32), right.to(tl.float32)
        sums = tl.dot(left, right, sums)
        a_at += BLOCK_K
        b_at += BLOCK_K
    if FP8:
        of_row = tl.load(a_scales + pair // ROWS_OF_A, mask=live, other=0.0)
        of_output = tl.load(b_scales + expert * N + n)
        sums = sums * of_row[:, None] * of_output[None, :]
    if WEIGHTED:
        sums = sums * tl.load(weights + pair, mask=live, other=0.0)[:, None]
    tl.store(out + pair.to(tl.int64)[:, None] * N + n[None, :], sums.to(out.dtype.element_ty), mask=live[:, None])


@triton.jit
def add_experts_kernel(rows, out, width, TOP_K: tl.constexpr, WIDTH: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    sums = tl.zeros([WIDTH], tl.float32)
    for j in range(0, TOP_K):
        sums += tl.load(rows + (token * TOP_K + j) * width + c, mask=c < width, other=0).to(tl.float32)
    tl.store(out + token * width + c, sums.to(out.dtype.element_ty), mask=c < width)


def tiles(fp8):
    """(BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M, warps, stages) for few, some and many rows an expert."""
    k = 128 if fp8 else 64
    return ([(16, 64, 2 * k, 1, 4, 4), (16, 128, 128, 1, 4, 4), (16, 128, 2 * k, 1, 8, 3)],
            [(16, 128, 128, 1, 4, 4), (32, 128, 128, 1, 4, 3), (64, 128, 128, 1, 4, 3), (64, 128, k, 8, 4, 4)],
            [(64, 256, k, 16, 4, 3), (128, 128, k, 16, 4, 4), (128, 256, k, 16, 8, 3), (128, 256, k, 64, 8, 4)])


def candidates(pairs, experts, fp8):
    """Tiles worth trying for so many rows an expert."""
    few, some, many = tiles(fp8)
    return few if pairs <= 24 * experts else some if pairs <= 96 * experts else many


class TritonMoe:
    """Buffers for one layer and one number of rows; run() enqueues the layer. gate_up [E, 2I, H] (all of gate, then
    all of up) and down [E, H, I], fp8 with scales [E, 2I] and [E, H]; ids and weights [T, k]."""

    SMALL_PAIRS, CHUNK = 1024, 1024

    def __init__(self, x, ids, weights, gate_up, down, gate_up_scales, down_scales, tile):
        self.x, self.ids, self.weights = x, ids.contiguous(), weights.contiguous()
        self.gate_up, self.down, self.scales = gate_up, down, (gate_up_scales, down_scales)
        self.tile = tile
        tokens, self.top_k = ids.shape
        self.experts, outputs, self.hidden = gate_up.shape
        self.width = outputs // 2
        self.pairs = tokens * self.top_k
        self.fp8 = gate_up.dtype == torch.float8_e4m3fn
        device, element = x.device, gate_up.dtype
        self.blocks = min(self.pairs, self.pairs // tile[0] + self.experts)

        def ints(count):
            return torch.empty(count, dtype=torch.int32, device=device)

        def rows(count, columns, dtype):
            return torch.empty((count, columns), dtype=dtype, device=device)

        self.counts, self.cursor, self.next_row = ints(self.experts), ints(self.experts), ints(self.experts)
        self.sorted_pairs, self.block_experts, self.rows = ints(self.blocks * tile[0]), ints(self.blocks), ints(1)
        self.codes = rows(tokens, self.hidden, element) if self.fp8 else x
        self.code_scales = torch.empty(tokens, device=device)
        self.middle = rows(self.pairs, 2 * self.width, torch.bfloat16)
        self.activated = rows(self.pairs, self.width, element)
        self.activated_scales = torch.empty(self.pairs, device=device)
        self.expert_rows = rows(self.pairs, self.hidden, torch.bfloat16)
        self.y = rows(tokens, self.hidden, torch.bfloat16)

    def sort(self):
        block, power = self.tile[0], triton.next_power_of_2(self.experts)
        if self.pairs <= self.SMALL_PAIRS:
            sort_small_kernel[(1,)](self.ids, self.counts, self.cursor, self.next_row, self.sorted_pairs,
                                    self.block_experts, self.rows, self.pairs, self.experts,
                                    PAIRS=triton.next_power_of_2(max(self.pairs, 32)), EXPERTS=power, BLOCK=block)
            return
        chunks = triton.cdiv(self.pairs, self.CHUNK)
        self.counts.zero_()
        count_kernel[(chunks,)](self.ids, self.counts, self.pairs, CHUNK=self.CHUNK)
        lay_out_kernel[(1,)](self.counts, self.cursor, self.next_row, self.block_experts, self.rows, self.experts,
                             EXPERTS=power, BLOCK=block)
        place_kernel[(max(chunks, self.experts),)](self.ids, self.counts, self.cursor, self.next_row,
                                                   self.sorted_pairs, self.pairs, self.experts, CHUNK=self.CHUNK,
                                                   BLOCK=block)

    def _product(self, a, a_scales, b, b_scales, out, rows_of_a, weighted):
        m, n, k, group, warps, stages = self.tile
        outputs, inputs = b.shape[1:]
        n, k = min(n, outputs), min(k, inputs)
        if outputs % n or inputs % k:
            raise ValueError(f"{outputs} x {inputs} is no multiple of the tile {n} x {k}")
        grouped_product_kernel[(self.blocks * (outputs // n),)](
            a, a_scales, b, b_scales, out, self.weights, self.sorted_pairs, self.block_experts, self.rows, self.pairs,
            outputs, inputs, ROWS_OF_A=rows_of_a, WEIGHTED=weighted, FP8=self.fp8, BLOCK_M=m, BLOCK_N=n, BLOCK_K=k,
            GROUP_M=group, WIDEN=INTERPRETED, num_warps=warps, num_stages=stages)

    def run(self):
        self.sort()
        tokens = self.x.shape[0]
        if self.fp8:
            quantize_kernel[(tokens,)](self.x, self.codes, self.code_scales, self.hidden,
                                       WIDTH=triton.next_power_of_2(self.hidden), num_warps=8)
        self._product(self.codes, self.code_scales, self.gate_up, self.scales[0], self.middle, self.top_k, False)
        activate_kernel[(self.pairs,)](self.middle, self.activated, self.activated_scales, self.width,
                                       QUANTIZE=self.fp8, WIDTH=triton.next_power_of_2(self.width), num_warps=4)
        self._product(self.activated, self.activated_scales, self.down, self.scales[1], self.expert_rows, 1, True)
        width = min(1024, triton.next_power_of_2(self.hidden))
        add_experts_kernel[(tokens, triton.cdiv(self.hidden, width))](self.expert_rows, self.y, self.hidden,
                                                                      TOP_K=self.top_k, WIDTH=width)
        return self.y
