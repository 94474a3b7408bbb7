"""How often greedy decoding writes the reference answer: evaluate.py MODEL_FOLDER [SET ...]

Runs the exported checkpoint over MODEL_FOLDER/eval. Instead of decoding, every token of the reference is
compared with the model's first choice after the true beginning: all equal means that greedy decoding
would write exactly the reference. That is never more than what a run through the server passes.
"""
import argparse
import json
import pathlib
import time

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import chat
import data
from export import parameters_of
from fast_model import FastModel
from make_eval import expand
from train import exact_match

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("sets", nargs="*", help="default: all")
parser.add_argument("--float32", action="store_true", help="multiply in float32, not bfloat16")
parser.add_argument("--limit", type=int, help="only the first so many items of a set")
parser.add_argument("--threads", type=int, default=1)
args = parser.parse_args()
torch.set_num_threads(args.threads)
if args.float32:
    torch.Tensor.bfloat16 = lambda self: self
config = json.loads((args.folder / "config.json").read_text())
tokenizer = Tokenizer.from_file(str(args.folder / "tokenizer.json"))
p, bias = parameters_of(config, load_file(args.folder / "model.safetensors"))
model = FastModel(config)
filler = json.loads((args.folder / "eval/filler.json").read_text())
for path in sorted((args.folder / "eval").glob("*.jsonl")):
    if args.sets and path.stem not in args.sets:
        continue
    began, docs = time.time(), []
    for line in path.read_text().splitlines()[: args.limit]:
        row = json.loads(line)
        messages = row["messages"]
        if "context" in row:
            text = expand(row["context"], filler)
            messages = [m | {"content": m["content"].replace("{context}", text)} for m in messages]
        prompt = chat.render(messages, row.get("tools"), "chat_template_kwargs" in row)
        docs.append(data.encode(tokenizer, [(prompt, False), (row["reference"] + "<|role_end|>", True)]))
    share, _ = exact_match(model, p, bias, list(docs), 4096 if len(docs[0][0]) < 3800 else 8192)
    print(f"{path.stem:12s} {100 * share:5.1f} %  of {len(docs)}  ({time.time() - began:.0f} s)", flush=True)
