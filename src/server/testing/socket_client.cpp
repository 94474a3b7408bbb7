#include "server/testing/socket_client.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>

#include "base/clock.h"

namespace sluice {

SocketClient::SocketClient(int port) {
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Close();
}

SocketClient::~SocketClient() { Close(); }

void SocketClient::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void SocketClient::Reset() {
  const linger now{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  Close();
}

void SocketClient::ShutdownSend() { shutdown(fd_, SHUT_WR); }

void SocketClient::SetReceiveBuffer(int bytes) {
  setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

bool SocketClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

std::string SocketClient::ReadUntil(std::string_view text, double seconds) {
  const double end = MonotonicSeconds() + seconds;
  while (!closed_ && (text.empty() || received_.find(text) == std::string::npos)) {
    const double left = end - MonotonicSeconds();
    if (left <= 0) break;
    pollfd ready{fd_, POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(left * 1000) + 1) <= 0) continue;
    char buffer[65536];
    const ssize_t count = recv(fd_, buffer, sizeof(buffer), 0);
    if (count <= 0) {
      closed_ = true;
    } else {
      received_.append(buffer, static_cast<size_t>(count));
    }
  }
  return received_;
}

std::string SocketClient::ReadAll(double seconds) { return ReadUntil({}, seconds); }

SimpleResponse TakeResponse(std::string& bytes) {
  SimpleResponse response;
  const size_t head_end = bytes.find("\r\n\r\n");
  if (!bytes.starts_with("HTTP/1.1 ") || head_end == std::string::npos) return response;
  response.status = std::atoi(bytes.c_str() + 9);
  size_t line = bytes.find("\r\n") + 2;
  while (line < head_end + 2) {
    const size_t end = bytes.find("\r\n", line);
    const size_t colon = bytes.find(':', line);
    std::string name = bytes.substr(line, colon - line);
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    response.fields[name] = bytes.substr(colon + 2, end - colon - 2);
    line = end + 2;
  }
  bytes.erase(0, head_end + 4);
  if (response.fields.contains("content-length")) {
    const size_t length = std::strtoull(response.fields["content-length"].c_str(), nullptr, 10);
    response.body = bytes.substr(0, length);
    bytes.erase(0, length);
  } else if (response.fields["transfer-encoding"] == "chunked") {
    while (true) {
      const size_t length = std::strtoull(bytes.c_str(), nullptr, 16);
      const size_t begin = bytes.find("\r\n") + 2;
      response.body += bytes.substr(begin, length);
      bytes.erase(0, begin + length + 2);
      if (length == 0 || bytes.empty()) break;
    }
  }
  return response;
}

SimpleResponse Fetch(int port, std::string_view method, std::string_view path,
                     std::string_view body, std::string_view more_fields) {
  SocketClient client(port);
  client.Send(
      fmt::format("{} {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: "
                  "application/json\r\nContent-Length: {}\r\n{}\r\n{}",
                  method, path, body.size(), more_fields, body));
  std::string bytes = client.ReadAll(20);
  return TakeResponse(bytes);
}

}  // namespace sluice
