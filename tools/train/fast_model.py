"""The same mathematics as model.py in the form that trains fast on a CPU.

Differences of form, not of result (check_fast.py compares them): matrices are multiplied in bfloat16
with float32 accumulation; the linear layers use the chunked form; all routed experts and the shared one
are computed for every token as one wide SwiGLU whose hidden units are multiplied by the routing weight
(zero for experts not chosen), which on small experts is cheaper than sorting tokens; independent
conversations are packed into rows, and neither attention kind looks across their borders.
"""
import torch
import torch.nn.functional as F

from model import is_linear, linear_decay

CHUNK = 64


def parameters_from(config, seed):
    """Fresh float32 parameters, experts stacked: the shared expert is the last one of each stack."""
    g = torch.Generator().manual_seed(seed)
    H, heads, D = config["hidden_size"], config["num_attention_heads"], config["head_dim"]
    E, M = config["num_experts"], config["moe_intermediate_size"]
    nope, rope, vdim = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    ql, kl = config["q_lora_rank"], config["kv_lora_rank"]

    def matrix(*shape, scale=0.7):
        return torch.randn(*shape, generator=g) * scale * shape[-1] ** -0.5

    p = {"embed": torch.randn(config["vocab_size"], H, generator=g),
         "head": matrix(config["vocab_size"], H, scale=0.1), "norm": torch.ones(H)}
    for i in range(config["num_hidden_layers"]):
        n = f"{i}."
        p |= {n + "norm_in": torch.ones(H), n + "norm_post": torch.ones(H)}
        if is_linear(config, i):
            p |= {n + "q": matrix(heads * D, H), n + "k": matrix(heads * D, H), n + "v": matrix(heads * D, H),
                  n + "q_norm": torch.ones(D), n + "k_norm": torch.ones(D), n + "g": matrix(heads * D, H),
                  n + "g_norm": torch.ones(heads * D), n + "out": matrix(H, heads * D, scale=0.1)}
        else:
            p |= {n + "q_a": matrix(ql, H), n + "q_a_norm": torch.ones(ql),
                  n + "q_b": matrix(heads * (nope + rope), ql), n + "kv_a": matrix(kl + rope, H),
                  n + "kv_a_norm": torch.ones(kl), n + "k_b": matrix(heads * nope, kl),
                  n + "v_b": matrix(heads * vdim, kl), n + "out": matrix(H, heads * vdim, scale=0.1)}
        if i < config["first_k_dense_replace"]:
            I = config["intermediate_size"]
            p |= {n + "gate": matrix(I, H), n + "up": matrix(I, H), n + "down": matrix(H, I, scale=0.1)}
        else:
            p |= {n + "router": matrix(E, H, scale=0.3), n + "gate": matrix(E + 1, M, H),
                  n + "up": matrix(E + 1, M, H), n + "down": matrix(E + 1, H, M, scale=0.1)}
    return p


def norm(x, weight, eps=1e-6):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def linear_before(x, w_in, wq, wk, wv, qn, kn, cos, sin, heads):
    """Residual stream [N, H] -> normed input and q, k, v [N, heads, D] in bfloat16."""
    h = norm(x, w_in).bfloat16()
    q, k, v = (F.linear(h, w.bfloat16()).view(len(x), heads, -1) for w in (wq, wk, wv))
    q, k = norm(q.float(), qn), norm(k.float(), kn)
    half = cos.shape[-1]
    c, s = cos[:, None], sin[:, None]

    def turn(y):
        a, b, rest = y[..., :half], y[..., half : 2 * half], y[..., 2 * half :]
        return torch.cat([a * c - b * s, b * c + a * s, rest], -1).bfloat16()

    return h, turn(q), turn(k), v


def chunk_products(q, k, v, inside, writes, reads, decays, write_decay, read_decay):
    """What a chunk does by itself. q, k, v: [N, heads, D] in bfloat16, cut into chunks of CHUNK tokens.

    -> o [chunks, heads, CHUNK, D] without the incoming state, u [chunks, heads, D, D] added to the state,
    and the decayed queries that will read the incoming state.
    """
    q, k, v = (y.unflatten(0, (-1, CHUNK)).transpose(1, 2) for y in (q, k, v))
    scores = (q @ k.transpose(-1, -2)).float() * decays * inside[:, None]
    o = scores.bfloat16() @ v
    kw = (k.float() * (write_decay * writes[:, None])[..., None]).bfloat16()
    qr = (q.float() * (read_decay * reads[:, None])[..., None]).bfloat16()
    return o, (kw.transpose(-1, -2) @ v).float(), qr


def linear_after(x, h, o, qr, S, g_norm, wg, wout, groups):
    """x + dense(group_norm(o + qr S) * sigmoid(gate))."""
    n = len(x)
    o = (o.float() + (qr @ S).float()).transpose(1, 2).reshape(n, groups, -1) * o.shape[-1] ** -0.5
    o = norm(o, g_norm.view(groups, -1)).view(n, -1)
    o = o * torch.sigmoid(F.linear(h, wg.bfloat16()).float())
    return x + F.linear(o.bfloat16(), wout.bfloat16()).float()


def latent_before(x, w_in, wqa, qan, wqb, wkva, kvan, wkb, wvb, cos, sin, heads, nope, rope, rank):
    """Residual stream -> q, k [N, heads, nope + rope], v [N, heads, v] in bfloat16."""
    n = len(x)
    h = norm(x, w_in).bfloat16()
    cq = norm(F.linear(h, wqa.bfloat16()).float(), qan).bfloat16()
    q = F.linear(cq, wqb.bfloat16()).view(n, heads, nope + rope)
    kv = F.linear(h, wkva.bfloat16()).float()
    latent = norm(kv[:, :rank], kvan).bfloat16()
    k = F.linear(latent, wkb.bfloat16()).view(n, heads, nope)
    v = F.linear(latent, wvb.bfloat16()).view(n, heads, -1)
    c, s = cos[:, None], sin[:, None]

    def turn(y):
        y = y.float().unflatten(-1, (-1, 2))
        a, b = y[..., 0], y[..., 1]
        return torch.stack([a * c - b * s, b * c + a * s], -1).flatten(-2).bfloat16()

    q = torch.cat([q[..., :nope], turn(q[..., nope:])], -1)
    k = torch.cat([k, turn(kv[:, None, rank:]).expand(n, heads, rope)], -1)
    return q, k, v


def latent_after(x, o, wout):
    return x + F.linear(o, wout.bfloat16()).float()


def dense_ffn(x, w_post, gate, up, down):
    h = norm(x, w_post).bfloat16()
    a = F.silu(F.linear(h, gate.bfloat16()).float()) * F.linear(h, up.bfloat16()).float()
    return x + F.linear(a.bfloat16(), down.bfloat16()).float()


def route(x, w_post, router, bias, groups, topk_group, k, scale):
    """Normed rows, the weight of every expert [N, E] (zero where not chosen), and who was chosen."""
    h = norm(x, w_post)
    scores = torch.sigmoid(F.linear(h, router))
    n, experts = scores.shape
    grouped = (scores.detach() + bias).view(n, groups, -1)
    group_score = grouped.topk(2, -1).values.sum(-1)
    threshold = group_score.topk(topk_group, -1).values[:, -1:]
    choice = torch.where((group_score >= threshold)[:, :, None], grouped, -1e9).view(n, experts)
    mask = (choice >= choice.topk(k, -1).values[:, -1:]).float()
    chosen = scores * mask
    return h.bfloat16(), chosen / chosen.sum(-1, keepdim=True) * scale, mask


def expert_products(x, h, weight, gate, up, down):
    """Routed and shared experts added to the residual stream."""
    n = len(x)
    a = F.silu(F.linear(h, gate.flatten(0, 1).bfloat16()).float())
    a = a * F.linear(h, up.flatten(0, 1).bfloat16()).float()
    weight = torch.cat([weight, torch.ones_like(weight[:, :1])], -1)
    a = (a.view(n, weight.shape[1], -1) * weight[:, :, None]).view(n, -1).bfloat16()
    return x + F.linear(a, down.permute(1, 0, 2).flatten(1).bfloat16()).float()


class FastModel:
    def __init__(self, config, compiled=False):
        self.c = c = config
        self.rotary = int(c["head_dim"] * c["partial_rotary_factor"])
        wrap = torch.compile if compiled else (lambda f: f)
        self.linear_before, self.linear_after = wrap(linear_before), wrap(linear_after)
        self.latent_before, self.latent_after = wrap(latent_before), wrap(latent_after)
        self.dense_ffn, self.expert_products = wrap(dense_ffn), wrap(expert_products)
        self.route, self.chunk_products = wrap(route), wrap(chunk_products)
        i = torch.arange(CHUNK).float()
        self.decays = {}
        for layer in range(c["num_hidden_layers"]):
            gamma = linear_decay(c, layer).float()[:, None]
            between = i[:, None] - i[None, :]
            inside = torch.exp(gamma[..., None] * between.clamp(min=0)) * (between >= 0)
            self.decays[layer] = inside, torch.exp(gamma * (CHUNK - 1 - i)), torch.exp(gamma * (i + 1))
        limit = c["max_position_embeddings"]
        self.tables = {}
        for name, dim in (("linear", self.rotary), ("latent", c["qk_rope_head_dim"])):
            inverse = c["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
            phase = torch.arange(limit).double()[:, None] * inverse
            self.tables[name] = phase.cos().float(), phase.sin().float()

    def prepare(self, document, position):
        """What depends on the packing alone. document, position: [rows, T]."""
        rows, T = document.shape
        flat = position.flatten()
        batch = {name: (cos[flat], sin[flat]) for name, (cos, sin) in self.tables.items()}
        row = torch.arange(rows)[:, None].expand(rows, T)
        batch["segments"] = (row * 10**7 + document).flatten().unique_consecutive(return_counts=True)[1].tolist()
        if T <= 256:
            future = torch.ones(T, T, dtype=torch.bool).triu(1)
            batch["hidden"] = (future | (document[:, :, None] != document[:, None, :]))[:, None]
        chunks = T // CHUNK
        d = document.view(rows, chunks, CHUNK)
        inside = (d[..., :, None] == d[..., None, :]).float().flatten(0, 1)  # [rows * chunks, C, C]
        last = d[:, :, -1]
        before = torch.cat([torch.full_like(last[:, :1], -1), last[:, :-1]], 1)
        reads = (d == before[:, :, None]).float()  # tokens that see the incoming state
        writes = (d == last[:, :, None]).float()  # tokens that survive into the next chunk
        batch["inside"] = inside, writes.flatten(0, 1), reads.flatten(0, 1)
        batch["carry"] = before[:, :, None] == last[:, None, :]  # state read at c holds writes of c'
        batch["shape"] = rows, T
        return batch

    def incoming(self, u, layer, batch):
        """State before each chunk, [chunks, heads, D, D], from what each chunk adds."""
        rows, T = batch["shape"]
        chunks, (_, heads, D, _) = T // CHUNK, u.shape
        n = torch.arange(chunks)
        step = (n[:, None] - 1 - n[None, :]).float()
        gamma = linear_decay(self.c, layer).float()[:, None, None]
        M = torch.exp(gamma * CHUNK * step.clamp(min=0)) * (step >= 0) * batch["carry"][:, None]
        u = u.view(rows, chunks, heads, D * D).transpose(1, 2)
        return (M @ u).transpose(1, 2).reshape(-1, heads, D, D).bfloat16()

    def attention(self, q, k, v, batch):
        """Causal attention inside each conversation: [N, heads, D] -> [N, heads * v]."""
        if "hidden" in batch:  # short rows: all at once is cheaper than one conversation after the other
            q, k, v = (y.view(*batch["shape"], *y.shape[1:]).transpose(1, 2) for y in (q, k, v))
            scores = (q @ k.mT) * q.shape[-1] ** -0.5
            scores = scores.masked_fill(batch["hidden"], -1e9).softmax(-1, dtype=torch.float32)
            return (scores.to(v.dtype) @ v).transpose(1, 2).flatten(0, 1).flatten(1)
        out = []
        for q, k, v in zip(*(y.split(batch["segments"]) for y in (q, k, v))):
            q, k, v = (y.transpose(0, 1)[None] for y in (q, k, v))
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=q.shape[-1] ** -0.5)
            out.append(o[0].transpose(0, 1).flatten(1))
        return torch.cat(out)

    def hidden(self, p, bias, ids, batch):
        """Final normed rows [N, H] and the load of every expert, [layers, E] as a share of tokens."""
        c = self.c
        heads = c["num_attention_heads"]
        x = p["embed"][ids.flatten()]
        loads = {}
        for i in range(c["num_hidden_layers"]):
            def w(*names):
                return [p[f"{i}.{name}"] for name in names]
            if is_linear(c, i):
                h, q, k, v = self.linear_before(x, *w("norm_in", "q", "k", "v", "q_norm", "k_norm"),
                                                *batch["linear"], heads)
                o, u, qr = self.chunk_products(q, k, v, *batch["inside"], *self.decays[i])
                x = self.linear_after(x, h, o, qr, self.incoming(u, i, batch), *w("g_norm", "g", "out"), c["group_norm_size"])
            else:
                q, k, v = self.latent_before(
                    x, *w("norm_in", "q_a", "q_a_norm", "q_b", "kv_a", "kv_a_norm", "k_b", "v_b"),
                    *batch["latent"], heads, c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["kv_lora_rank"])
                x = self.latent_after(x, self.attention(q, k, v, batch), *w("out"))
            if i < c["first_k_dense_replace"]:
                x = self.dense_ffn(x, *w("norm_post", "gate", "up", "down"))
            else:
                h, weight, mask = self.route(x, *w("norm_post", "router"), bias[i], c["n_group"],
                                             c["topk_group"], c["num_experts_per_tok"],
                                             c["routed_scaling_factor"])
                x = self.expert_products(x, h, weight, *w("gate", "up", "down"))
                loads[i] = mask.mean(0)
        return norm(x, p["norm"]), loads
