"""Starts `sluice serve` on a free port and stops it again."""

import os
import signal
import subprocess
import threading
import time
import urllib.request

READY = "The server is fired up and ready to roll!"


class ServerProcess:
    def __init__(self, binary, model, *flags, environment=None):
        self.lines = []
        self.process = subprocess.Popen(
            [binary, "serve", "--model-path", model, "--port", "0", "--log-level", "warning",
             "--drain-seconds", "0", "--max-total-tokens", "65536", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **(environment or {})})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._wait(lambda: any(READY in line for line in self.lines))
        self.url = next(l.split()[-1] for l in self.lines if l.startswith("Listening on "))
        self.port = int(self.url.rsplit(":", 1)[1])

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def _wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise RuntimeError("the server did not start:\n" + "\n".join(self.lines))
            time.sleep(0.02)

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=20) as response:
            return response.read().decode()

    def running(self):
        """Requests in the engine."""
        for line in self.get("/metrics").splitlines():
            if line.startswith("sglang:num_running_reqs{"):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError("no num_running_reqs in /metrics")

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, seconds=30):
        return self.process.wait(seconds)

    def stop(self):
        if self.process.poll() is None:
            self.signal()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        self._reader.join(5)
        self.process.stdout.close()
        return self.process.returncode
