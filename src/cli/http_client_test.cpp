#include "cli/http_client.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <thread>

namespace sluice {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

/// Takes one connection and lets `answer` write to it.
class OneAnswer {
 public:
  explicit OneAnswer(std::function<void(int)> answer) : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(listener_, any, bytes), 0);
    EXPECT_EQ(listen(listener_, 1), 0);
    EXPECT_EQ(getsockname(listener_, any, &bytes), 0);
    url_ = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this, answer = std::move(answer)] {
      const int peer = accept(listener_, nullptr, nullptr);
      char request[4096];
      EXPECT_GT(read(peer, request, sizeof request), 0);
      answer(peer);
      close(peer);
    });
  }
  ~OneAnswer() {
    thread_.join();
    close(listener_);
  }
  Result<HttpAnswer> Get(int timeout_seconds) const {
    return HttpClient::To(url_)->Get("/x", timeout_seconds);
  }

 private:
  const int listener_;
  std::string url_;
  std::thread thread_;
};

void Write(int peer, std::string_view text) {
  EXPECT_EQ(write(peer, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  std::this_thread::sleep_for(milliseconds(20));
}

TEST(HttpClient, JoinsAnAnswerThatComesInPieces) {
  const OneAnswer length([](int peer) {
    Write(peer, "HTTP/1.1 201 Created\r\nContent-Le");
    Write(peer, "ngth: 6\r\n\r\nab");
    Write(peer, "cdef");
  });
  const auto answer = length.Get(10);
  ASSERT_TRUE(answer.ok()) << answer.status().message();
  EXPECT_EQ(answer->status, 201);
  EXPECT_EQ(answer->body, "abcdef");
  const OneAnswer to_the_end([](int peer) {
    Write(peer, "HTTP/1.1 200 OK\r\n\r\nab");
    Write(peer, "cd");
  });
  EXPECT_EQ(to_the_end.Get(10)->body, "abcd");
}

TEST(HttpClient, SaysWhatBroke) {
  const OneAnswer cut(
      [](int peer) { Write(peer, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"); });
  EXPECT_THAT(cut.Get(10).status().message(), HasSubstr("/x: partial message"));
  const OneAnswer noise([](int peer) { Write(peer, "SSH-2.0-x\r\n"); });
  EXPECT_THAT(noise.Get(10).status().message(), HasSubstr("/x: bad version"));
}

TEST(HttpClient, WaitsNoLongerThanItIsTold) {
  const OneAnswer silent([](int) { std::this_thread::sleep_for(milliseconds(1300)); });
  EXPECT_THAT(silent.Get(1).status().message(), HasSubstr("no answer for 1 s"));
}

TEST(HttpClient, ASignalDoesNotEndTheWait) {
  struct sigaction action = {};
  action.sa_handler = [](int) {};  // without SA_RESTART: the wait is interrupted
  sigaction(SIGUSR1, &action, nullptr);
  const pthread_t client = pthread_self();
  const OneAnswer patient([client](int peer) {
    for (int i = 0; i < 3; ++i) {
      std::this_thread::sleep_for(milliseconds(20));
      pthread_kill(client, SIGUSR1);
    }
    Write(peer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  });
  const auto answer = patient.Get(10);
  EXPECT_TRUE(answer.ok()) << answer.status().message();
}

}  // namespace
}  // namespace sluice
