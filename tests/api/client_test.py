#!/usr/bin/env python3
"""Real clients against the real server: openai-python (sync, async, streaming), curl, sockets.

    client_test.py SLUICE_BINARY MODEL_DIRECTORY

The model's answers need not be good: the tests look at shapes, equalities and errors.
"""

import asyncio
import json
import math
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
import urllib.request

import openai

from server_process import ServerProcess

BINARY, MODEL = sys.argv[1:3]
MESSAGES = [{"role": "user", "content": "What is 12 plus 30?"}]


def make_client(server, cls=openai.OpenAI):
    return cls(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=300)


class WithServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = ServerProcess(BINARY, MODEL, "--served-model-name", "tiny")
        cls.client = make_client(cls.server)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        assert cls.server.stop() == 0, "the server did not end cleanly"

    def wait_idle(self, seconds=5):
        end = time.monotonic() + seconds
        while self.server.running() > 0:
            self.assertLess(time.monotonic(), end, "requests are still running")
            time.sleep(0.02)


class Models(WithServer):
    def test_list_and_retrieve(self):
        models = self.client.models.list().data
        self.assertEqual([m.id for m in models], ["tiny"])
        self.assertEqual(self.client.models.retrieve("tiny").created, models[0].created)
        with self.assertRaises(openai.NotFoundError) as error:
            self.client.models.retrieve("other")
        self.assertEqual(error.exception.code, "model_not_found")


    def test_server_info_has_every_flag(self):
        info = json.loads(self.server.get("/get_server_info"))
        shown = subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True).stdout
        flags = re.findall(r"^  --([a-z-]+)", shown, re.MULTILINE)
        self.assertGreater(len(flags), 40)
        absent = [f for f in flags if f.replace("-", "_") not in info and f != "print-limits"]
        self.assertEqual(absent, [])
        self.assertEqual((info["served_model_name"], info["max_total_tokens"]), ("tiny", 65536))


class Chat(WithServer):
    def ask(self, **more):
        more = {"max_tokens": 12, "seed": 5, **more}
        return self.client.chat.completions.create(model="tiny", messages=MESSAGES, **more)

    def test_answer_and_usage(self):
        answer = self.ask()
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))
        usage = answer.usage
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertLessEqual(usage.completion_tokens, 12)
        self.assertEqual(usage.prompt_tokens_details.cached_tokens, 0)

    def test_stream_equals_whole_answer(self):
        whole = self.ask(logprobs=True, top_logprobs=2)
        stream = self.ask(logprobs=True, top_logprobs=2, stream=True,
                          stream_options={"include_usage": True})
        text, tokens, reasons, usage = "", [], [], None
        for frame in stream:
            if not frame.choices:
                usage = frame.usage
                continue
            choice = frame.choices[0]
            text += choice.delta.content or ""
            tokens += choice.logprobs.content if choice.logprobs else []
            reasons += [choice.finish_reason] if choice.finish_reason else []
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(reasons, [whole.choices[0].finish_reason])
        self.assertEqual(tokens, whole.choices[0].logprobs.content)
        self.assertEqual(usage, whole.usage)

    def test_seed_reproduces_and_choices_differ(self):
        # Hot and unfiltered, so that a model that is sure of itself still draws.
        def texts(**more):
            return [c.message.content for c in
                    self.ask(temperature=2.0, top_p=1.0, extra_body={"top_k": -1}, max_tokens=32,
                             **more).choices]
        self.assertEqual(texts(seed=1), texts(seed=1))
        self.assertNotEqual(texts(seed=1), texts(seed=2))
        several = texts(seed=1, n=3)
        self.assertEqual(len(several), 3)
        self.assertEqual(several[:1], texts(seed=1))  # choice 0 is the single answer
        self.assertGreater(len(set(several)), 1)
        self.assertEqual(several, texts(seed=1, n=3))

    def test_streamed_choices(self):
        whole = self.ask(temperature=1.0, n=3)
        texts, ends = ["", "", ""], [0, 0, 0]
        for frame in self.ask(temperature=1.0, n=3, stream=True):
            choice = frame.choices[0]
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] += choice.finish_reason is not None
        self.assertEqual(texts, [c.message.content for c in whole.choices])
        self.assertEqual(ends, [1, 1, 1])

    def test_logprobs_are_probabilities_of_true_bytes(self):
        choice = self.ask(temperature=0, logprobs=True, top_logprobs=5).choices[0]
        bytes_of_tokens = b"".join(bytes(t.bytes) for t in choice.logprobs.content)
        for token in choice.logprobs.content:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(len(token.top_logprobs), 5)
            tops = [t.logprob for t in token.top_logprobs]
            self.assertEqual(tops, sorted(tops, reverse=True))
            self.assertLessEqual(sum(math.exp(t) for t in tops), 1.0001)
            self.assertAlmostEqual(token.logprob, tops[0], places=5)  # greedy
        self.assertIn(choice.message.content or "", bytes_of_tokens.decode(errors="replace"))

    def test_stop_string_is_cut_off(self):
        text = self.ask(temperature=0, max_tokens=24).choices[0].message.content
        middle = next(text[i:i + 3] for i in range(len(text) // 3, len(text) - 2)
                      if "\ufffd" not in text[i:i + 3])
        choice = self.ask(temperature=0, max_tokens=24, stop=[middle]).choices[0]
        self.assertEqual(choice.finish_reason, "stop")
        self.assertEqual(choice.message.content or "", text[:text.index(middle)])
        self.assertEqual(choice.model_extra["matched_stop"], middle)

    def test_logit_bias_forces_a_token(self):
        ids = self.server_post("/tokenize", {"prompt": "a"})["tokens"]
        choice = self.ask(temperature=0, max_tokens=4, logit_bias={str(ids[0]): 100}).choices[0]
        self.assertEqual(choice.message.content, "aaaa")

    def server_post(self, path, body):
        request = urllib.request.Request(self.server.url + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    def test_text_of_special_tokens_in_a_message_stays_text(self):
        plain = self.ask(max_tokens=1).usage.prompt_tokens
        info = json.loads(self.server.get("/tokenizer_info"))
        longer = self.client.chat.completions.create(
            model="tiny", max_tokens=1,
            messages=[{"role": "user", "content": MESSAGES[0]["content"] + info["eos_token"]}])
        self.assertGreater(longer.usage.prompt_tokens, plain + 1)  # several text tokens, not one


class Completions(WithServer):
    def complete(self, prompt, **more):
        more = {"max_tokens": 8, "temperature": 0, **more}
        return self.client.completions.create(model="tiny", prompt=prompt, **more)

    def test_text_ids_and_batches_agree(self):
        ids = json.loads(subprocess.run(
            ["curl", "-sf", self.server.url + "/tokenize", "-d", '{"prompt": "Hello there"}'],
            check=True, capture_output=True).stdout)["tokens"]
        single = self.complete("Hello there").choices[0].text
        self.assertEqual(self.complete(ids).choices[0].text, single)
        batch = self.complete([ids, ids[:1]])
        self.assertEqual([c.index for c in batch.choices], [0, 1])
        self.assertEqual(batch.choices[0].text, single)
        self.assertEqual(batch.usage.prompt_tokens, len(ids) + 1)

    def test_echo_with_logprobs_scores_the_prompt(self):
        for max_tokens in (0, 3):
            answer = self.complete("The cat sat", echo=True, logprobs=2, max_tokens=max_tokens)
            choice = answer.choices[0]
            self.assertTrue(choice.text.startswith("The cat sat"))
            count = answer.usage.prompt_tokens + answer.usage.completion_tokens
            self.assertEqual(len(choice.logprobs.tokens), count)
            self.assertIsNone(choice.logprobs.token_logprobs[0])
            self.assertTrue(all(x <= 0 for x in choice.logprobs.token_logprobs[1:]))
            self.assertEqual(choice.logprobs.text_offset[0], 0)
            self.assertEqual("".join(choice.logprobs.tokens)[:11], "The cat sat")

    def test_stream_equals_whole_answer(self):
        whole = self.complete("Once", max_tokens=20).choices[0]
        frames = list(self.complete("Once", max_tokens=20, stream=True))
        self.assertEqual("".join(f.choices[0].text for f in frames), whole.text)
        self.assertEqual(frames[-1].choices[0].finish_reason, whole.finish_reason)


class Native(WithServer):
    def curl(self, body, *flags):
        return subprocess.run(["curl", "-sSN", *flags, self.server.url + "/generate", "-d",
                               json.dumps(body)], check=True, capture_output=True).stdout.decode()

    def test_curl_whole_and_streamed(self):
        body = {"text": "Hello", "sampling_params": {"max_new_tokens": 10, "temperature": 0}}
        whole = json.loads(self.curl(body))
        lines = self.curl({**body, "stream": True}).split("\n\n")
        self.assertEqual(lines[-2:], ["data: [DONE]", ""])
        frames = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
        self.assertEqual(frames[-1]["text"], whole["text"])
        self.assertEqual(frames[-1]["output_ids"], whole["output_ids"])
        self.assertIsNone(frames[0]["meta_info"]["finish_reason"])
        counts = [f["meta_info"]["completion_tokens"] for f in frames]
        self.assertEqual(counts, sorted(counts))

    def test_curl_sends_a_large_body_with_expect(self):
        ids = [5] * 600_000  # over 1 MiB: curl waits for 100 Continue
        code = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", self.server.url + "/generate",
             "-d", "@-"], input=json.dumps({"input_ids": ids}).encode(), check=True,
            capture_output=True).stdout.decode()
        self.assertEqual(code, "400")  # read, and found too long for the context

    def test_prompt_logprobs_equal_those_of_generation(self):
        answer = json.loads(self.curl({
            "text": "Hello", "return_logprob": True,
            "sampling_params": {"max_new_tokens": 6, "temperature": 0, "ignore_eos": True}}))
        prompt = json.loads(subprocess.run(
            ["curl", "-sf", self.server.url + "/tokenize", "-d", '{"prompt": "Hello"}'],
            check=True, capture_output=True).stdout)["tokens"]
        scored = json.loads(self.curl({
            "input_ids": prompt + answer["output_ids"], "return_logprob": True,
            "logprob_start_len": len(prompt) - 1, "sampling_params": {"max_new_tokens": 0}}))
        generated = answer["meta_info"]["output_token_logprobs"]
        again = scored["meta_info"]["input_token_logprobs"][1:]
        self.assertEqual([g[1] for g in generated], [a[1] for a in again])
        for one, other in zip(generated, again):
            self.assertAlmostEqual(one[0], other[0], delta=0.15)  # bf16, another MLA form


class Errors(WithServer):
    def test_each_class(self):
        def chat(**more):
            self.client.chat.completions.create(
                **{"model": "tiny", "messages": MESSAGES, **more})
        cases = [
            (openai.BadRequestError, "invalid_value", {"temperature": -1}),
            (openai.BadRequestError, "invalid_value", {"extra_body": {"top_k": "x"}}),
            (openai.BadRequestError, "invalid_value", {"n": 1000}),
            (openai.BadRequestError, "invalid_value", {"messages": []}),
            (openai.BadRequestError, "invalid_value", {"logit_bias": {"99999999": 1}}),
            (openai.BadRequestError, "context_length_exceeded", {"max_tokens": 2**30}),
            (openai.BadRequestError, "unsupported_parameter",
             {"response_format": {"type": "json_object"}}),
        ]
        for cls, code, more in cases:
            for stream in (False, True):
                with self.assertRaises(cls, msg=str(more)) as error:
                    chat(stream=stream, **more)
                self.assertEqual(error.exception.code, code, more)
                self.assertEqual(error.exception.type, "BadRequestError")
        with self.assertRaises(openai.NotFoundError):
            self.client.embeddings.create(model="tiny", input="x")

    def test_the_parameter_is_named(self):
        with self.assertRaises(openai.BadRequestError) as error:
            self.client.chat.completions.create(model="tiny", messages=MESSAGES, top_p=2)
        self.assertEqual(error.exception.param, "top_p")
        self.assertIn("top_p must be in (0, 1]", str(error.exception))


class Concurrency(WithServer):
    def test_sixteen_streams_equal_their_solo_runs(self):
        async def one(client, i):
            stream = await client.chat.completions.create(
                model="tiny", seed=i, temperature=1.0, max_tokens=32, stream=True,
                messages=[{"role": "user", "content": f"Count to {i}"}],
                extra_body={"ignore_eos": True})
            return "".join([f.choices[0].delta.content or "" async for f in stream])

        async def run():
            async with make_client(self.server, openai.AsyncOpenAI) as client:
                together = await asyncio.gather(*(one(client, i) for i in range(16)))
                alone = [await one(client, i) for i in range(16)]
                return together, alone

        together, alone = asyncio.run(run())
        self.assertEqual(together, alone)
        self.assertEqual(len(together), 16)

    def test_a_closed_stream_frees_the_engine(self):
        for _ in range(5):
            stream = self.client.completions.create(
                model="tiny", prompt="x", max_tokens=8000, stream=True,
                extra_body={"ignore_eos": True})
            next(iter(stream))
            stream.close()
        self.wait_idle()

    def test_a_lost_connection_frees_the_engine(self):
        body = json.dumps({"text": "x", "sampling_params": {
            "max_new_tokens": 8000, "ignore_eos": True, "n": 4}}).encode()
        for way in ("close", "half"):
            with socket.create_connection(("127.0.0.1", self.server.port)) as connection:
                connection.sendall(b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                                   % len(body) + body)
                end = time.monotonic() + 5
                while self.server.running() == 0 and time.monotonic() < end:
                    time.sleep(0.01)
                self.assertGreater(self.server.running(), 0)
                if way == "half":
                    connection.shutdown(socket.SHUT_WR)
                    self.wait_idle()
            self.wait_idle()


class Life(unittest.TestCase):
    def start(self, *flags, **more):
        server = ServerProcess(BINARY, MODEL, *flags, **more)
        self.addCleanup(server.process.kill)  # a failed test leaves nothing running
        return server

    def start_request(self, server, tokens):
        result = {}

        def run():
            with make_client(server) as client:
                try:
                    answer = client.completions.create(
                        model="x", prompt="x", max_tokens=tokens, extra_body={"ignore_eos": True})
                    result["tokens"] = answer.usage.completion_tokens
                    result["reason"] = answer.choices[0].finish_reason
                except openai.OpenAIError as error:
                    result["error"] = error
        thread = threading.Thread(target=run)
        thread.start()
        end = time.monotonic() + 10
        while server.running() == 0 and time.monotonic() < end:
            time.sleep(0.01)
        return thread, result

    def test_sigterm_finishes_what_runs_and_refuses_what_comes(self):
        server = self.start()
        thread, result = self.start_request(server, 2000)
        server.signal(signal.SIGTERM)
        time.sleep(0.1)
        with self.assertRaises(openai.InternalServerError) as error, make_client(server) as client:
            client.completions.create(model="x", prompt="y", max_tokens=1)
        self.assertEqual(error.exception.status_code, 503)
        self.assertEqual(error.exception.code, "draining")
        thread.join(300)
        self.assertEqual(result.get("tokens"), 2000, result)
        self.assertEqual(server.wait(60), 0)
        server.stop()

    def expect_a_signal_ends_requests(self, server, thread, result):
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        self.assertLess(time.monotonic() - begin, 5)
        server.stop()
        thread.join(10)
        self.assertIsInstance(result.get("error"), openai.InternalServerError, result)
        self.assertEqual(result["error"].status_code, 503)
        self.assertEqual(result["error"].code, "draining")

    def test_a_second_signal_ends_requests_with_an_error(self):
        server = self.start()
        thread, result = self.start_request(server, 8000)
        server.signal(signal.SIGTERM)
        time.sleep(0.1)
        self.expect_a_signal_ends_requests(server, thread, result)

    def test_one_signal_is_enough_where_the_environment_says_so(self):
        server = self.start("--drain-seconds", "60", environment={"SGL_FORCE_SHUTDOWN": "1"})
        thread, result = self.start_request(server, 8000)
        self.expect_a_signal_ends_requests(server, thread, result)

    def test_start_up_errors_are_one_line_and_status_2(self):
        for flags, says in ((["--model-path", "/no/such/model"], "/no/such/model"),
                            (["--model-path", MODEL, "--prot", "5"], "did you mean --port?"),
                            (["--model-path", MODEL, "--api-key", "k"], "--api-key"),
                            (["--model-path", MODEL, "--host", "256.1.1.1"], "--host")):
            done = subprocess.run([BINARY, "serve", "--port", "0", "--log-level", "off", *flags],
                                  capture_output=True, text=True, timeout=30)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(says, done.stderr)
            self.assertIn("sluice: error: ", done.stderr.splitlines()[0])

    def test_ids_only(self):
        server = self.start("--skip-tokenizer-init")
        with make_client(server) as client:
            answer = client.completions.create(model="x", prompt=[5, 6], max_tokens=3, temperature=0,
                                               extra_body={"return_token_ids": True,
                                                           "ignore_eos": True})
            self.assertEqual(len(answer.choices[0].model_extra["token_ids"]), 3)
            with self.assertRaises(openai.BadRequestError) as error:
                client.completions.create(model="x", prompt="text", max_tokens=3)
            self.assertEqual(error.exception.code, "unsupported_parameter")
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    outcome = unittest.main(argv=[sys.argv[0], *sys.argv[3:]], exit=False).result
    failed = len(outcome.failures) + len(outcome.errors)
    print(f"{outcome.testsRun - failed} passed, {failed} failed")
    sys.exit(failed != 0)
