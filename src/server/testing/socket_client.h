// A raw TCP client: tests say exactly which bytes go out, and see exactly which come back.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace sluice {

class SocketClient {
 public:
  explicit SocketClient(int port);
  ~SocketClient();
  SocketClient(const SocketClient&) = delete;
  SocketClient& operator=(const SocketClient&) = delete;

  bool connected() const { return fd_ >= 0; }
  /// False if the peer has closed.
  bool Send(std::string_view bytes);
  /// Everything until the peer closes, or `seconds` have passed.
  std::string ReadAll(double seconds = 5);
  /// Until `text` has come, the end, or the time is over; all that came.
  std::string ReadUntil(std::string_view text, double seconds = 5);
  bool closed_by_peer() const { return closed_; }
  void Close();
  /// Closes with a reset instead of an orderly end.
  void Reset();
  void ShutdownSend();
  void SetReceiveBuffer(int bytes);

 private:
  int fd_ = -1;
  bool closed_ = false;
  std::string received_;
};

struct SimpleResponse {
  int status = 0;
  std::map<std::string, std::string> fields;  // names in lower case
  std::string body;                           // chunks joined
};

/// Splits the first response off `bytes`; status 0 if there is none.
SimpleResponse TakeResponse(std::string& bytes);
/// One request on a connection of its own.
SimpleResponse Fetch(int port, std::string_view method, std::string_view path,
                     std::string_view body = {}, std::string_view more_fields = {});

}  // namespace sluice
