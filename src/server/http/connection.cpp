#include "server/http/connection.h"

#include <fmt/core.h>
#include <poll.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <exception>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "server/http/parse_head.h"

namespace sluice {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr size_t kBuffersPerWrite = 16;
constexpr double kHangupPollSeconds = 0.5;
constexpr double kNotHttpLogSeconds = 60;

}  // namespace

Connection::Connection(tcp::socket socket, HttpContext& context)
    : socket_(std::move(socket)),
      context_(context),
      deadline_(context.io),
      done_(context.io),
      poll_(context.io) {
  boost::system::error_code ignored;
  const auto endpoint = socket_.remote_endpoint(ignored);
  if (!ignored) address_ = endpoint.address();
  socket_.set_option(tcp::no_delay(true), ignored);
  socket_.non_blocking(true, ignored);
  context_.open_connections.fetch_add(1);
  ++context_.connections_by_address[address_];
}

Connection::~Connection() {
  if (exchange_) exchange_->Close(false);  // what watches it may hold it
}

void Connection::Leave() {
  if (std::exchange(left_, true)) return;
  context_.open_connections.fetch_sub(1);
  const auto it = context_.connections_by_address.find(address_);
  if (it != context_.connections_by_address.end() && --it->second == 0)
    context_.connections_by_address.erase(it);
}

void Connection::Start() {
  asio::co_spawn(context_.io, Run(), [self = shared_from_this()](const std::exception_ptr& error) {
    if (!error) return;
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {  // out of memory: this connection pays
      log::Error("connection ended: {}", e.what());
    }
    self->Abandon("server error");
    self->Leave();
  });
}

asio::awaitable<void> Connection::Run() {
  // Not `while (co_await ...)`: GCC 12 miscompiles a co_await in a loop's condition.
  bool more = true;
  while (more) more = co_await ServeOne();
  co_await Linger();
  Leave();
}

Connection::Awaitable Connection::ServeOne() {
  const HttpLimits& limits = context_.options.limits;
  HeadScanner scanner(limits.head);
  if (!co_await ReadHead(scanner)) co_return false;
  const HeadFrame frame = scanner.frame();
  auto request = ParseHead(std::string_view(input_).substr(frame.begin, frame.end - frame.begin));
  if (!request.ok()) {
    Refuse(400, request.status().message());
    co_return co_await AnswerRefusal();
  }
  input_.erase(0, frame.end);
  request->received_seconds = MonotonicSeconds();
  close_after_ = !request->keep_alive || ++served_ >= limits.requests_per_connection_max;

  auto early = context_.handler->Precheck(*request);
  if (early && frame.framing != BodyFraming::kNone) close_after_ = true;  // the body stays unread
  if (!early && !co_await ReadBody(frame, *request)) co_return false;
  co_await Answer(std::move(*request), std::move(early));
  co_return !close_after_ && socket_.is_open();
}

Connection::Awaitable Connection::ReadHead(HeadScanner& scanner) {
  const HttpLimits& limits = context_.options.limits;
  if (input_.empty()) {
    SetDeadline(limits.keep_alive_seconds);
    if (!co_await ReadMore(context_.scratch.size())) co_return false;  // idle too long, or closed
  }
  SetDeadline(limits.head_seconds_max);
  while (true) {
    switch (scanner.Advance(input_)) {
      case HeadScanner::State::kDone: ClearDeadline(); co_return true;
      case HeadScanner::State::kRefused:
        refusal_ = scanner.refusal();
        co_return co_await AnswerRefusal();
      case HeadScanner::State::kTls: LogNotHttp("a TLS hello"); co_return false;
      case HeadScanner::State::kHttp2: LogNotHttp("an HTTP/2 preface"); co_return false;
      case HeadScanner::State::kNeedMore: break;
    }
    if (!co_await ReadMore(context_.scratch.size())) {
      if (!timed_out_) co_return false;
      Refuse(408, fmt::format("the request head took longer than {} s", limits.head_seconds_max));
      co_return co_await AnswerRefusal();
    }
  }
}

Connection::Awaitable Connection::ReadBody(const HeadFrame& frame, HttpRequest& request) {
  const HttpLimits& limits = context_.options.limits;
  if (frame.framing == BodyFraming::kNone) co_return true;
  if (frame.framing == BodyFraming::kLength && frame.content_length > limits.body.body_bytes_max) {
    Refuse(413, fmt::format("the request body has {} bytes, allowed are {}", frame.content_length,
                            limits.body.body_bytes_max));
    co_return co_await AnswerRefusal();
  }
  if (frame.expects_continue && input_.empty()) {
    co_await asio::async_write(socket_, asio::buffer("HTTP/1.1 100 Continue\r\n\r\n", 25), kAwait);
  }
  const double begin = MonotonicSeconds();
  ChunkDecoder decoder(limits.body);
  while (true) {
    if (frame.framing == BodyFraming::kLength) {
      const size_t taken =
          std::min<size_t>(input_.size(), frame.content_length - request.body.size());
      request.body.append(input_, 0, taken);
      input_.erase(0, taken);
      if (request.body.size() == frame.content_length) break;
    } else {
      std::string_view rest = input_;
      const auto state = decoder.Advance(rest, request.body);
      input_.erase(0, input_.size() - rest.size());
      if (state == ChunkDecoder::State::kDone) break;
      if (state == ChunkDecoder::State::kRefused) {
        refusal_ = decoder.refusal();
        co_return co_await AnswerRefusal();
      }
    }
    const uint64_t bytes =
        frame.framing == BodyFraming::kLength ? frame.content_length : request.body.size();
    const double allowed =
        limits.body_seconds_base + static_cast<double>(bytes) / limits.body_bytes_per_second;
    SetDeadline(begin + allowed - MonotonicSeconds());
    if (!co_await ReadMore(context_.scratch.size())) {
      if (!timed_out_) co_return false;
      Refuse(408, fmt::format("the request body took longer than {:.0f} s", allowed));
      co_return co_await AnswerRefusal();
    }
  }
  ClearDeadline();
  co_return true;
}

Connection::Awaitable Connection::ReadMore(size_t bytes_max) {
  while (true) {
    const auto [wait_error] = co_await socket_.async_wait(tcp::socket::wait_read, kAwait);
    if (wait_error) co_return false;
    boost::system::error_code error;
    const size_t bytes = socket_.read_some(
        asio::buffer(context_.scratch.data(), std::min(bytes_max, context_.scratch.size())), error);
    if (error == asio::error::would_block) continue;
    if (error) co_return false;
    input_.append(context_.scratch.data(), bytes);
    co_return true;
  }
}

void Connection::Refuse(int status, std::string message) {
  refusal_ = {status, std::move(message)};
}

Connection::Awaitable Connection::AnswerRefusal() {
  ClearDeadline();
  close_after_ = true;
  HttpRequest nothing;
  nothing.method = "-";
  nothing.received_seconds = MonotonicSeconds();
  std::optional<HttpResponse> response =
      context_.handler->Refusal(refusal_.status, refusal_.message);
  co_await Answer(std::move(nothing), std::move(response));
  co_return false;
}

asio::awaitable<void> Connection::Answer(HttpRequest request, std::optional<HttpResponse> early) {
  context_.active_requests.fetch_add(1);
  exchange_ =
      std::make_shared<ExchangeImpl>(weak_from_this(), context_, std::move(request), close_after_);
  const auto exchange = exchange_;
  last_sent_ = stalled_ = false;
  status_ = 0;
  ++exchange_generation_;
  done_.expires_at(asio::steady_timer::time_point::max());
  if (early) {
    exchange->Respond(std::move(*early));
  } else {
    Monitor();
    try {
      context_.handler->Handle(exchange);
    } catch (const std::exception& e) {
      log::Error("{} {}: {}", exchange->request().method, Quoted(exchange->request().path),
                 e.what());
      if (!exchange->answered_) exchange->Respond(context_.handler->Refusal(500, "internal error"));
    }
  }
  while (exchange_) co_await done_.async_wait(kAwait);
}

asio::awaitable<void> Connection::Linger() {
  boost::system::error_code ignored;
  if (socket_.is_open()) {
    // Closing with unread bytes would reset the connection and could destroy our last answer on its
    // way; so the peer gets a moment to read it and to close first.
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    if (close_after_) {
      SetDeadline(context_.options.limits.linger_seconds);
      bool more = true;
      while (more) {
        more = co_await ReadMore(context_.scratch.size());
        input_.clear();
      }
      ClearDeadline();
    }
  }
  socket_.close(ignored);
}

void Connection::LogNotHttp(const char* what) {
  const double now = MonotonicSeconds();
  if (now - context_.last_not_http_log_seconds < kNotHttpLogSeconds) return;
  context_.last_not_http_log_seconds = now;
  log::Warning("closed a connection from {}: {} instead of HTTP/1.1 (logged once a minute)",
               address_.to_string(), what);
}

void Connection::SetDeadline(double seconds) {
  timed_out_ = false;
  deadline_.expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(
      std::chrono::duration<double>(std::max(seconds, 0.0))));
  deadline_.async_wait([weak = weak_from_this(), generation = ++deadline_generation_](auto error) {
    const auto self = weak.lock();
    if (!error && self && self->deadline_generation_ == generation) self->OnDeadline();
  });
}

void Connection::ClearDeadline() {
  ++deadline_generation_;
  deadline_.cancel();
}

void Connection::OnDeadline() {
  timed_out_ = true;
  if (exchange_) {
    Abandon("the peer reads too slowly");
  } else {
    boost::system::error_code ignored;
    socket_.cancel(ignored);  // the read that waits returns
  }
}

// Watches for the peer's end while a request is served. Bytes of pipelined requests are kept up to
// a limit; beyond it they stay in the socket, and the hang-up is polled for instead.
void Connection::Monitor() {
  socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this(),
                                              generation = exchange_generation_](auto wait_error) {
    if (wait_error || !self->exchange_ || self->exchange_generation_ != generation) return;
    const size_t limit = self->context_.options.limits.read_ahead_bytes_max;
    if (self->input_.size() >= limit) return self->PollHangup();
    auto& scratch = self->context_.scratch;
    boost::system::error_code error;
    const size_t bytes = self->socket_.read_some(
        asio::buffer(scratch.data(), std::min(scratch.size(), limit - self->input_.size())), error);
    if (error && error != asio::error::would_block) return self->Abandon("the peer went away");
    self->input_.append(scratch.data(), bytes);
    self->Monitor();
  });
}

void Connection::PollHangup() {
  poll_.expires_after(std::chrono::milliseconds(static_cast<int>(kHangupPollSeconds * 1000)));
  poll_.async_wait([self = shared_from_this(), generation = exchange_generation_](auto error) {
    if (error || !self->exchange_ || self->exchange_generation_ != generation) return;
    pollfd state{self->socket_.native_handle(), POLLRDHUP, 0};
    if (poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)))
      return self->Abandon("the peer went away");
    self->PollHangup();
  });
}

void Connection::Send(ExchangeImpl& exchange, std::string bytes, bool last, int status,
                      bool close) {
  if (exchange_.get() != &exchange) return;  // abandoned meanwhile
  if (status_ == 0) status_ = status;
  if (close) close_after_ = true;
  if (!bytes.empty()) output_.push_back(std::move(bytes));
  last_sent_ = last_sent_ || last;
  const HttpLimits& limits = context_.options.limits;
  const size_t unsent = exchange.unsent_bytes_.load();
  if (last_sent_) {
    SetDeadline(limits.stalled_seconds_max +
                static_cast<double>(unsent) / limits.body_bytes_per_second);
  } else if (unsent > limits.unsent_bytes_max && !stalled_) {
    stalled_ = true;
    SetDeadline(limits.stalled_seconds_max);
  }
  if (!writing_) StartWrite();
}

void Connection::StartWrite() {
  if (output_.empty()) {
    if (last_sent_) EndExchange();
    return;
  }
  std::array<asio::const_buffer, kBuffersPerWrite> buffers;
  const size_t count = std::min(output_.size(), buffers.size());
  for (size_t i = 0; i < count; ++i) buffers[i] = asio::buffer(output_[i]);
  buffers[0] += output_offset_;
  writing_ = true;
  socket_.async_write_some(buffers, [self = shared_from_this(), generation = exchange_generation_](
                                        auto error, size_t bytes) {
    if (!self->exchange_ || self->exchange_generation_ != generation) return;
    self->writing_ = false;
    if (error) return self->Abandon("the peer went away");
    self->OnWritten(bytes);
  });
}

void Connection::OnWritten(size_t bytes) {
  const auto exchange = exchange_;
  size_t left = bytes;
  while (left > 0 && !output_.empty()) {
    const size_t front = output_.front().size() - output_offset_;
    if (left < front) {
      output_offset_ += left;
      break;
    }
    left -= front;
    output_offset_ = 0;
    output_.pop_front();
  }
  const size_t before = exchange->unsent_bytes_.fetch_sub(bytes);
  const size_t limit = context_.options.limits.unsent_bytes_max;
  if (before > limit && before - bytes <= limit) {
    if (stalled_ && !last_sent_) ClearDeadline();
    stalled_ = false;
    exchange->Drained();
  }
  StartWrite();
}

void Connection::Abandon(const char* why) {
  boost::system::error_code ignored;
  socket_.close(ignored);
  if (!exchange_) return;
  log::Debug("{} {}: 499, {}", exchange_->request().method, Quoted(exchange_->request().path), why);
  status_ = 499;
  EndExchange();
}

void Connection::EndExchange() {
  const auto exchange = std::move(exchange_);
  exchange_ = nullptr;
  ++exchange_generation_;
  writing_ = false;
  output_.clear();
  output_offset_ = 0;
  ClearDeadline();
  poll_.cancel();
  boost::system::error_code ignored;
  if (socket_.is_open()) socket_.cancel(ignored);  // the monitor's wait
  exchange->Close(status_ == 499);
  const bool has_head = exchange->request().method != "-";
  context_.handler->Completed(has_head ? &exchange->request() : nullptr, status_);
  context_.active_requests.fetch_sub(1);
  done_.cancel();
}

}  // namespace sluice
