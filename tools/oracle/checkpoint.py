"""Reads a checkpoint folder as the published ones are laid out."""

import glob
import json

import numpy as np

import fp8
import safetensors_io


def read_config(directory):
    with open(directory + "/config.json") as f:
        return json.load(f)


def join(name, pieces):
    """Pre-sharded experts: w1 and w3 are cut along their outputs, w2 along its inputs."""
    if len(pieces) == 1:
        return pieces[0]
    values = np.concatenate([v for v, _ in pieces], -1 if name.endswith("w2.weight") else 0)
    return values, pieces[0][1]


def load(directory):
    """-> (config, tensors as float64). Tensors that several files hold are joined in file order."""
    found = {}
    for path in sorted(glob.glob(directory + "/*.safetensors")):
        for name, tensor in safetensors_io.read_stored(path).items():
            found.setdefault(name, []).append(tensor)
    return read_config(directory), fp8.dequantised(
        {name: join(name, pieces) for name, pieces in found.items()})
