// The wire itself: what the server does with the bytes of hostile, hasty, slow and vanishing peers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "base/clock.h"
#include "server/testing/test_server.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kGet = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";

std::string Generate(int tokens, bool stream, std::string_view fields = {}) {
  const std::string body = fmt::format(
      R"({{"text":"hi","stream":{},"sampling_params":{{"max_new_tokens":{}}}}})", stream, tokens);
  return fmt::format("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n{}\r\n{}",
                     body.size(), fields, body);
}

template <class Condition>
bool Within(double seconds, Condition condition) {
  const double end = MonotonicSeconds() + seconds;
  while (!condition() && MonotonicSeconds() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return condition();
}

struct Smuggle {
  const char* name;
  std::string bytes;
  int status;
};

// What follows each message must never be taken for a second request.
const Smuggle kSmuggles[] = {
    {"CL and TE",
     "POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: "
     "chunked\r\n\r\n0\r\n\r\n",
     400},
    {"CL 0 and TE",
     "POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: "
     "chunked\r\n\r\n0\r\n\r\n",
     400},
    {"two CL",
     "POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 4\r\n\r\n", 400},
    {"TE gzip", "POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
    {"TE xchunked", "POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
     501},
    {"TE in 1.0", "POST /generate HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
    {"bare LF", "POST /generate HTTP/1.1\nHost: a\n\n", 400},
    {"fold", "POST /generate HTTP/1.1\r\nHost: a\r\nX: a\r\n Content-Length: 5\r\n\r\n", 400},
    {"space colon", "POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
     400},
    {"signed chunk",
     "POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+0\r\n\r\n", 400},
    {"chunk overflow",
     "POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
     "chunked\r\n\r\n10000000000000000\r\n\r\n",
     400},
    {"LF in extension",
     "POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;a\nb\r\n\r\n", 400},
    {"no host", "POST /generate HTTP/1.1\r\n\r\n", 400},
    {"long line", "GET /" + std::string(10000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n", 414},
    {"huge field", "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(40000, 'a') + "\r\n\r\n", 431},
};

TEST(HttpWire, AnswersAFramingErrorOnceAndCloses) {
  TestServer server;
  for (const Smuggle& smuggle : kSmuggles) {
    SocketClient client(server.port());
    client.Send(smuggle.bytes + kGet + kGet);
    std::string bytes = client.ReadAll();
    EXPECT_TRUE(client.closed_by_peer()) << smuggle.name;
    const SimpleResponse response = TakeResponse(bytes);
    EXPECT_EQ(response.status, smuggle.status) << smuggle.name;
    EXPECT_EQ(response.fields.at("connection"), "close") << smuggle.name;
    EXPECT_THAT(response.body, HasSubstr("\"error\":{\"message\"")) << smuggle.name;
    EXPECT_EQ(bytes, "") << smuggle.name << ": a second answer";
  }
}

TEST(HttpWire, AnswersPipelinedRequestsInOrder) {
  TestServer server;
  SocketClient client(server.port());
  std::string requests;
  for (int i = 0; i < 500; ++i)
    requests += fmt::format("GET /v1/models/{} HTTP/1.1\r\nHost: a\r\n\r\n", i);
  client.Send(requests + "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  std::string bytes = client.ReadAll(10);
  for (int i = 0; i < 500; ++i) {
    const SimpleResponse response = TakeResponse(bytes);
    ASSERT_EQ(response.status, 404) << i;
    ASSERT_THAT(response.body, HasSubstr(fmt::format("The model \\\"{}\\\" does", i)));
  }
  EXPECT_EQ(TakeResponse(bytes).status, 200);
  EXPECT_EQ(bytes, "");
}

TEST(HttpWire, DoesNotReadTheBodyAsARequest) {
  TestServer server;
  SocketClient client(server.port());
  const std::string body = kGet;
  client.Send(fmt::format("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{}",
                          body.size(), body) +
              "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  std::string bytes = client.ReadAll();
  EXPECT_EQ(TakeResponse(bytes).status, 400);  // the body is no JSON
  EXPECT_EQ(TakeResponse(bytes).status, 200);
  EXPECT_EQ(bytes, "");
}

TEST(HttpWire, ClosesAfterAThousandRequests) {
  TestServerOptions options;
  options.limits.requests_per_connection_max = 3;
  TestServer server(options);
  SocketClient client(server.port());
  for (int i = 0; i < 4; ++i) client.Send(kGet);
  std::string bytes = client.ReadAll();
  EXPECT_EQ(TakeResponse(bytes).status, 200);
  EXPECT_EQ(TakeResponse(bytes).status, 200);
  EXPECT_EQ(TakeResponse(bytes).fields.at("connection"), "close");
  EXPECT_EQ(bytes, "");
}

TEST(HttpWire, ReadsChunkedBodiesAndExpectations) {
  TestServer server;
  SocketClient client(server.port());
  client.Send(
      "POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
      "Expect: 100-continue\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), StartsWith("HTTP/1.1 100 Continue\r\n\r\n"));
  client.Send("8\r\n{\"text\":\r\n");
  client.Send("4;x=y\r\n\"a\"}\r\n0\r\nTrailer: x\r\n\r\n");
  std::string bytes = client.ReadAll().substr(25);
  EXPECT_EQ(TakeResponse(bytes).status, 200);
}

TEST(HttpWire, RefusesABodyThatIsTooLargeBeforeItIsSent) {
  TestServerOptions options;
  options.limits.body.body_bytes_max = 1000;
  TestServer server(options);
  EXPECT_EQ(server.Post("/generate", std::string(1001, ' ')).status, 413);
  EXPECT_EQ(server.Post("/generate", std::string(1000, ' ')).status, 400);  // read: no JSON in it
  SocketClient client(server.port());
  client.Send(
      "POST /generate HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
      "Content-Length: 99999999999\r\n\r\n");
  std::string bytes = client.ReadAll();
  EXPECT_EQ(TakeResponse(bytes).status, 413);
}

TEST(HttpWire, EndsSlowHeadsAndBodiesAtAnAbsoluteDeadline) {
  TestServerOptions options;
  options.limits.head_seconds_max = 0.3;
  options.limits.body_seconds_base = 0.3;
  options.limits.keep_alive_seconds = 0.3;
  TestServer server(options);
  for (const char* start :
       {"GET / HT", "POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
        "POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1"}) {
    SocketClient client(server.port());
    client.Send(start);
    const double begin = MonotonicSeconds();
    std::string bytes;
    while (MonotonicSeconds() - begin < 2 && bytes.empty()) {
      client.Send("1");  // every byte comes in time for an idle timeout
      bytes = client.ReadUntil("\r\n\r\n", 0.05);
    }
    EXPECT_THAT(bytes, StartsWith("HTTP/1.1 408")) << start;
    EXPECT_LT(MonotonicSeconds() - begin, 1.0) << start;
  }
  SocketClient idle(server.port());
  EXPECT_EQ(idle.ReadAll(2), "");
  EXPECT_TRUE(idle.closed_by_peer());
}

TEST(HttpWire, ClosesWhatIsNotHttpWithoutAWord) {
  TestServer server;
  for (const char* hello : {"\x16\x03\x01\x02", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}) {
    SocketClient client(server.port());
    client.Send(hello);
    EXPECT_EQ(client.ReadAll(), "");
    EXPECT_TRUE(client.closed_by_peer());
  }
}

TEST(HttpWire, KnowsHeadOptionsAbsoluteTargetsAndOddPaths) {
  TestServer server;
  SimpleResponse response = Fetch(server.port(), "HEAD", "/v1/models");
  EXPECT_EQ(response.status, 200);
  EXPECT_NE(response.fields.at("content-length"), "0");
  EXPECT_EQ(response.body, "");
  response = Fetch(server.port(), "OPTIONS", "/v1/chat/completions", "",
                   "Origin: http://b\r\nAccess-Control-Request-Headers: authorization\r\n");
  EXPECT_EQ(response.status, 204);
  EXPECT_EQ(response.fields.at("access-control-allow-origin"), "*");
  EXPECT_EQ(response.fields.at("access-control-allow-headers"), "authorization");
  EXPECT_EQ(server.Get("http://a/livez").status, 200);
  EXPECT_EQ(server.Get("//livez").status, 404);
  EXPECT_EQ(server.Get("/v1/%2e%2e/livez").status, 404);
  EXPECT_EQ(server.Get("/livez?x=1").status, 200);
  response = Fetch(server.port(), "DELETE", "/generate");
  EXPECT_EQ(response.status, 405);
  EXPECT_EQ(response.fields.at("allow"), "POST, PUT");
  response = Fetch(server.port(), "GET", "/livez", "", "X-Request-ID: abc-1\r\n");
  EXPECT_EQ(response.fields.at("x-request-id"), "abc-1");
}

TEST(HttpWire, ServesHttp10WithoutChunks) {
  TestServer server;
  SocketClient client(server.port());
  const std::string body = R"({"text":"hi","stream":true,"sampling_params":{"max_new_tokens":2}})";
  client.Send(
      fmt::format("POST /generate HTTP/1.0\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
  const std::string bytes = client.ReadAll();
  EXPECT_TRUE(client.closed_by_peer());
  EXPECT_THAT(bytes, Not(HasSubstr("chunked")));
  EXPECT_THAT(bytes, HasSubstr("\r\n\r\ndata: {"));
  EXPECT_THAT(bytes, ::testing::EndsWith("data: [DONE]\n\n"));
}

TEST(HttpWire, CancelsWhatALeavingClientAskedFor) {
  TestServerOptions options;
  options.step_seconds = 0.002;
  TestServer server(options);
  for (const int way : {0, 1, 2}) {
    for (const bool stream : {false, true}) {
      SocketClient client(server.port());
      client.Send(Generate(4000, stream));
      ASSERT_TRUE(Within(2, [&] { return server.engine().live() == 1; }));
      if (stream) client.ReadUntil("data: ");
      way == 0 ? client.Close() : way == 1 ? client.Reset() : client.ShutdownSend();
      EXPECT_TRUE(Within(0.5, [&] { return server.engine().live() == 0; })) << way << stream;
    }
  }
  EXPECT_TRUE(Within(1, [&] { return server.http().active_requests() == 0; }));
  EXPECT_THAT(server.Get("/metrics").body, HasSubstr("sglang:x_client_disconnects_total{"));
}

TEST(HttpWire, CancelsAllChoicesOfALeavingClientWithPipelinedRequests) {
  TestServerOptions options;
  options.step_seconds = 0.002;
  options.limits.read_ahead_bytes_max = 64;  // the rest stays in the socket: the hang-up is polled
  TestServer server(options);
  SocketClient client(server.port());
  const std::string body = R"({"text":"hi","sampling_params":{"max_new_tokens":4000,"n":3}})";
  client.Send(fmt::format("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{}",
                          body.size(), body));
  ASSERT_TRUE(Within(2, [&] { return server.engine().live() == 3; }));
  for (int i = 0; i < 20; ++i) client.Send(kGet);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  client.Close();
  EXPECT_TRUE(Within(2, [&] { return server.engine().live() == 0; }));
}

TEST(HttpWire, HoldsAndThenCancelsAStreamThatIsNotRead) {
  TestServerOptions options;
  options.step_seconds = 0.0002;
  options.limits.unsent_bytes_max = 16 * 1024;
  options.limits.stalled_seconds_max = 0.5;
  TestServer server(options);
  SocketClient client(server.port());
  client.SetReceiveBuffer(4096);
  // Cumulative frames: 4,000 tokens are 40 MB in all, far more than the kernel buffers.
  client.Send(Generate(4000, true));
  ASSERT_TRUE(Within(2, [&] { return server.http().active_requests() == 1; }));
  EXPECT_EQ(server.Get("/livez").status, 200);  // others do not notice
  EXPECT_TRUE(Within(5, [&] { return server.http().active_requests() == 0; }));
  EXPECT_TRUE(Within(1, [&] { return server.engine().live() == 0; }));
}

TEST(HttpWire, MergesFramesForASlowReaderAndLosesNothing) {
  TestServerOptions options;
  options.step_seconds = 0;
  options.limits.unsent_bytes_max = 1024;
  TestServer server(options);
  SocketClient client(server.port());
  client.SetReceiveBuffer(4096);
  const std::string body = R"({"prompt":"hi","stream":true,"max_tokens":3000})";
  client.Send(
      fmt::format("POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: "
                  "application/json\r\nContent-Length: {}\r\n\r\n{}",
                  body.size(), body));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  // Through the small buffer what lies in the kernel's queues would crawl: a window in 200 ms.
  client.SetReceiveBuffer(1 << 20);
  std::string bytes = client.ReadAll(10);
  const SimpleResponse response = TakeResponse(bytes);
  EXPECT_THAT(response.body, ::testing::EndsWith("data: [DONE]\n\n"));
  size_t letters = 0;
  for (size_t at = 0; (at = response.body.find("\"text\":\"", at)) != std::string::npos;) {
    at += 8;
    letters += response.body.find('"', at) - at;
  }
  EXPECT_EQ(letters, 3000u);
}

TEST(HttpWire, LimitsConnectionsOfAnAddress) {
  TestServerOptions options;
  options.limits.connections_per_address_max = 4;
  TestServer server(options);
  std::vector<std::unique_ptr<SocketClient>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<SocketClient>(server.port()));
    clients.back()->Send(kGet);
    EXPECT_THAT(clients.back()->ReadUntil("\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  }
  SocketClient fifth(server.port());
  EXPECT_THAT(fifth.ReadAll(), StartsWith("HTTP/1.1 503"));
  clients.clear();
  EXPECT_TRUE(Within(2, [&] { return server.Get("/livez").status == 200; }));
}

/// What this process holds in memory, in bytes.
int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * 4096;
}

double ProcessorSeconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Lets the process have as many descriptors as it may, or `count`, until the end of a scope.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t count = RLIM_INFINITY) {
    getrlimit(RLIMIT_NOFILE, &before_);
    Set(std::min(count, before_.rlim_max));
  }
  ~DescriptorLimit() { Set(before_.rlim_cur); }
  rlim_t count() const { return count_; }

 private:
  void Set(rlim_t count) {
    const rlimit limit{count_ = count, before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  rlimit before_{};
  rlim_t count_ = 0;
};

constexpr bool kSanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;  // memory and time mean nothing then
#else
    false;
#endif

TEST(HttpWire, KeepsIdleConnectionsInLittleMemoryAndServesThemAllAtOnce) {
  const DescriptorLimit limit;
  const char* asked = std::getenv("SLUICE_IDLE_CONNECTIONS");
  const int64_t count = std::min<int64_t>(asked ? std::atoll(asked) : 1000,
                                          static_cast<int64_t>(limit.count()) / 2 - 100);
  TestServerOptions options;
  options.limits.connections_per_address_max = count + 1;
  TestServer server(options);
  const auto serve_all = [](auto& clients) {
    for (auto& client : clients) client->Send(kGet);
    for (auto& client : clients)
      ASSERT_THAT(client->ReadUntil("\r\n\r\n", 20), StartsWith("HTTP/1.1 200"));
  };
  std::vector<std::unique_ptr<SocketClient>> clients;
  for (int64_t i = 0; i < 50; ++i) clients.push_back(std::make_unique<SocketClient>(server.port()));
  serve_all(clients);  // what the first requests allocate for good
  const int64_t before = ResidentBytes();
  const double begin = MonotonicSeconds();
  while (static_cast<int64_t>(clients.size()) < count)
    clients.push_back(std::make_unique<SocketClient>(server.port()));
  serve_all(clients);
  const double seconds = MonotonicSeconds() - begin;
  const int64_t each = (ResidentBytes() - before) / (count - 50);
  fmt::print("{} idle connections: {} bytes each, {:.2f} s to open and serve\n", count, each,
             seconds);
  if (!kSanitized) {
    EXPECT_LE(each, 16 * 1024);
  }
  const double cpu = ProcessorSeconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  if (!kSanitized) {
    EXPECT_LT(ProcessorSeconds() - cpu, 0.1);  // idle costs no time
  }
  EXPECT_EQ(server.Get("/livez").status, 200);
  serve_all(clients);
}

TEST(HttpWire, RefusesWhileDescriptorsAreUsedUpAndServesAgainAfterwards) {
  TestServer server;
  EXPECT_EQ(server.Get("/livez").status, 200);
  const int free_descriptor = dup(0);
  close(free_descriptor);
  {
    const DescriptorLimit limit(static_cast<rlim_t>(free_descriptor) + 1);
    SocketClient client(server.port());  // has the last one
    ASSERT_TRUE(client.connected());
    const double cpu = ProcessorSeconds();
    EXPECT_THAT(client.ReadAll(), StartsWith("HTTP/1.1 503"));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    if (!kSanitized) {
      EXPECT_LT(ProcessorSeconds() - cpu, 0.15);  // accepting pauses instead of spinning
    }
  }
  EXPECT_TRUE(Within(2, [&] { return server.Get("/livez").status == 200; }));
}

TEST(HttpWire, RefusesAPortThatIsTaken) {
  TestServer server;
  const auto second = HttpServer::Start({"127.0.0.1", server.port(), {}}, server.app());
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.status().message(), HasSubstr("choose another --port"));
}

}  // namespace
}  // namespace sluice
