"""Safetensors files with NumPy alone: F32, F16, BF16, F8_E4M3 and I32."""

import json
import struct

import numpy as np

import fp8


def round_bf16(x):
    """Nearest bfloat16, ties to even, as float64. Values must be finite."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    bits = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(np.float64)


def encode(values, dtype):
    """Bytes of an array whose values the dtype holds exactly."""
    if dtype == "BF16":
        raw = (np.ascontiguousarray(values, np.float32).view(np.uint32) >> np.uint32(16)).astype("<u2")
    elif dtype == "F8_E4M3":
        raw = fp8.encode(np.asarray(values))
    else:
        raw = np.ascontiguousarray(values, {"F32": "<f4", "F16": "<f2", "I32": "<i4"}[dtype])
    return raw.tobytes()


def write(path, tensors):
    """tensors: name -> (array, dtype)."""
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, (values, dtype) in tensors.items():
        blob = encode(values, dtype)
        header[name] = {"dtype": dtype, "shape": list(np.shape(values)),
                        "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def read_stored(path):
    """name -> (float64 or int64 array, dtype of the file)."""
    with open(path, "rb") as f:
        data = f.read()
    (size,) = struct.unpack("<Q", data[:8])
    out = {}
    for name, row in json.loads(data[8:8 + size]).items():
        if name == "__metadata__":
            continue
        blob = data[8 + size + row["data_offsets"][0]:8 + size + row["data_offsets"][1]]
        if row["dtype"] == "BF16":
            values = (np.frombuffer(blob, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif row["dtype"] == "F8_E4M3":
            values = fp8.decode(np.frombuffer(blob, np.uint8))
        else:
            values = np.frombuffer(blob, {"F32": "<f4", "F16": "<f2", "I32": "<i4"}[row["dtype"]])
        kind = np.int64 if row["dtype"] == "I32" else np.float64
        out[name] = (values.astype(kind).reshape(row["shape"]), row["dtype"])
    return out


def read(path):
    """name -> float64 (or int64) array."""
    return {name: values for name, (values, _) in read_stored(path).items()}
