#!/usr/bin/env python3
"""Tokens per second of many requests at once against one, over HTTP, with and without streaming.

    bench/http_streams.py SLUICE MODEL [--streams 16] [--tokens 1000] [--rounds 7]

Starts `SLUICE serve` on MODEL. One request and many take turns, so that a disturbance meets both; the
client is one loop over plain sockets on the same machine and only counts bytes.
"""
import argparse
import json
import selectors
import socket
import statistics
import subprocess
import time


def request_bytes(index: int, tokens: int, stream: bool) -> bytes:
    body = {"prompt": [5 + index, 6, 7], "max_tokens": tokens, "ignore_eos": True, "temperature": 0,
            "stream": stream, "model": "m"}
    data = json.dumps(body).encode()
    head = ("POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n")
    return head.encode() + data


def tokens_per_second(port: int, streams: int, tokens: int, stream: bool) -> float:
    begin = time.monotonic()
    selector = selectors.DefaultSelector()
    heads = {}
    for index in range(streams):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(request_bytes(index, tokens, stream))
        selector.register(connection, selectors.EVENT_READ)
        heads[connection] = b""
    while selector.get_map():
        for key, _ in selector.select(60):
            data = key.fileobj.recv(1 << 20)
            if len(heads[key.fileobj]) < 16:
                heads[key.fileobj] += data[:16]
            if not data:
                selector.unregister(key.fileobj)
                key.fileobj.close()
    seconds = time.monotonic() - begin
    for head in heads.values():
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a request failed: {head!r}")
    return streams * tokens / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sluice")
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([args.sluice, "serve", "--model-path", args.model, "--port", str(port),
                               "--served-model-name", "m", "--log-level", "warning",
                               "--drain-seconds", "0"], stdout=subprocess.PIPE, text=True)
    try:
        while "ready" not in (line := server.stdout.readline()):
            if not line:
                raise SystemExit("the server did not start")
        for stream in (False, True):
            pairs = []
            for _ in range(args.rounds + 1):  # the first one warms up
                pairs.append([tokens_per_second(port, n, args.tokens, stream)
                              for n in (1, args.streams)])
            one, many = (statistics.median(column) for column in zip(*pairs[1:]))
            ratio = statistics.median(pair[1] / pair[0] for pair in pairs[1:])
            print(f"{'streaming' if stream else 'whole answers'}: 1 at a time {one:.0f} tokens/s, "
                  f"{args.streams} at a time {many:.0f}, median of the pairs' ratios {ratio:.2f}",
                  flush=True)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
