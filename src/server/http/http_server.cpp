#include "server/http/http_server.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "server/http/connection.h"

namespace sluice {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr auto kAcceptPause = std::chrono::milliseconds(100);
constexpr double kExhaustedLogSeconds = 60;
constexpr int kBacklog = 4096;

class HttpServerImpl final : public HttpServer {
 public:
  HttpServerImpl(const HttpServerOptions& options, HttpHandler& handler) : acceptor_(context_.io) {
    context_.options = options;
    context_.handler = &handler;
  }

  ~HttpServerImpl() override {
    Stop();
    if (reserve_ >= 0) close(reserve_);
  }

  Status Listen();

  int port() const override { return port_; }
  std::string url() const override {
    const std::string& host = context_.options.host;
    const bool v6 = host.find(':') != std::string::npos;
    return fmt::format("http://{}{}{}:{}", v6 ? "[" : "", host, v6 ? "]" : "", port_);
  }
  int64_t active_requests() const override { return context_.active_requests; }
  int64_t open_connections() const override { return context_.open_connections; }
  void StopKeepAlive() override { context_.keep_alive = false; }
  void Stop() override {
    context_.io.stop();
    if (thread_.joinable()) thread_.join();
  }

 private:
  asio::awaitable<void> AcceptAll();
  void Admit(tcp::socket socket);
  void RefuseFromReserve();
  void RefuseBusy(tcp::socket& socket);
  void RunThread();

  HttpContext context_;
  tcp::acceptor acceptor_;
  int port_ = 0;
  int reserve_ = -1;  // given up for a moment when the process is out of descriptors
  double last_exhausted_log_seconds_ = -1e9;
  std::thread thread_;
};

Status HttpServerImpl::Listen() {
  const HttpServerOptions& options = context_.options;
  boost::system::error_code error;
  tcp::resolver resolver(context_.io);
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, error);
  if (error || found.empty())
    return ParamError(Code::kInvalidArgument, "--host", "--host {}: {}", Quoted(options.host),
                      error ? error.message() : "no address");
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(kBacklog, error);
  if (error)
    return ParamError(Code::kInvalidArgument, "--port",
                      "cannot listen on {} port {}: {}; choose another --port, or 0 for a free one",
                      options.host, options.port, error.message());
  port_ = acceptor_.local_endpoint(error).port();
  reserve_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
  asio::co_spawn(context_.io, AcceptAll(), asio::detached);
  thread_ = std::thread([this] { RunThread(); });
  return Status();
}

void HttpServerImpl::RunThread() {
  while (true) {
    try {
      context_.io.run();
      return;
    } catch (const std::exception& e) {  // out of memory in a handler: the others go on
      log::Error("I/O thread: {}", e.what());
    }
  }
}

asio::awaitable<void> HttpServerImpl::AcceptAll() {
  asio::steady_timer pause(context_.io);
  while (true) {
    auto [error, socket] = co_await acceptor_.async_accept(kAwait);
    if (error == asio::error::operation_aborted) co_return;
    if (!error) {
      Admit(std::move(socket));
      continue;
    }
    // Without a pause a full descriptor table would make this loop spin.
    RefuseFromReserve();
    pause.expires_after(kAcceptPause);
    co_await pause.async_wait(kAwait);
  }
}

void HttpServerImpl::Admit(tcp::socket socket) {
  const HttpLimits& limits = context_.options.limits;
  boost::system::error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  if (error) return;
  const auto known = context_.connections_by_address.find(endpoint.address());
  const int64_t from_address = known == context_.connections_by_address.end() ? 0 : known->second;
  if (context_.open_connections >= limits.connections_max ||
      from_address >= limits.connections_per_address_max)
    return RefuseBusy(socket);
  std::make_shared<Connection>(std::move(socket), context_)->Start();
}

void HttpServerImpl::RefuseBusy(tcp::socket& socket) {
  boost::system::error_code ignored;
  socket.non_blocking(true, ignored);
  static constexpr std::string_view kBusy =
      "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\n"
      "Connection: close\r\n\r\n";
  socket.write_some(asio::buffer(kBusy.data(), kBusy.size()), ignored);
  context_.handler->Completed(nullptr, 503);
}

void HttpServerImpl::RefuseFromReserve() {
  const double now = MonotonicSeconds();
  if (now - last_exhausted_log_seconds_ > kExhaustedLogSeconds) {
    last_exhausted_log_seconds_ = now;
    log::Warning("out of file descriptors: new connections wait; raise the limit (ulimit -n)");
  }
  if (reserve_ < 0) return;
  close(reserve_);
  const int fd = accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0) {
    tcp::socket socket(context_.io, tcp::v4(), fd);
    RefuseBusy(socket);
  }
  reserve_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                      HttpHandler& handler) {
  auto server = std::make_unique<HttpServerImpl>(options, handler);
  RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace sluice
