// The real HTTP server and routes over the fake engine.
#pragma once

#include <gtest/gtest.h>

#include "server/app.h"
#include "server/testing/fake_engine.h"
#include "server/testing/socket_client.h"

namespace sluice {

struct TestServerOptions {
  double step_seconds = 0.0005;
  bool with_text = true;
  HttpLimits limits;
  ApiConfig api;
  Phase phase = Phase::kReady;
  bool check_host = false;
  std::vector<std::string> allowed_hosts;
};

class TestServer {
 public:
  explicit TestServer(const TestServerOptions& options = {})
      : app_(AppOptionsFrom(options)), engine_(std::make_unique<FakeEngine>(options.step_seconds)) {
    app_.SetEngine(engine_.get(), options.with_text ? &text_ : nullptr);
    app_.SetPhase(options.phase);
    auto http = HttpServer::Start({.host = "127.0.0.1", .port = 0, .limits = options.limits}, app_);
    EXPECT_TRUE(http.ok()) << http.status().message();
    http_ = std::move(*http);
  }
  ~TestServer() {
    http_->Stop();
    app_.Stop();
    engine_.reset();
  }

  int port() const { return http_->port(); }
  App& app() { return app_; }
  FakeEngine& engine() { return *engine_; }
  HttpServer& http() { return *http_; }
  FakeText& text() { return text_; }

  SimpleResponse Post(std::string_view path, std::string_view body, std::string_view fields = {}) {
    return Fetch(port(), "POST", path, body, fields);
  }
  SimpleResponse Get(std::string_view path) { return Fetch(port(), "GET", path); }

 private:
  static AppOptions AppOptionsFrom(const TestServerOptions& options) {
    AppOptions app;
    app.served_model_name = "org/fake";
    app.api = options.api;
    app.flags_json = R"({"model_path":"fake","port":0})";
    app.health_timeout_seconds = 2;
    app.check_host = options.check_host;
    app.allowed_hosts = options.allowed_hosts;
    return app;
  }

  std::unique_ptr<HttpServer> http_;  // outlives the engine's exchanges
  FakeText text_;
  App app_;
  std::unique_ptr<FakeEngine> engine_;
};

}  // namespace sluice
