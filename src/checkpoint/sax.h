// What our Boost.JSON event handlers share: limits that Boost wants declared, how a handler says
// why it stops, and the loop that turns the outcome into a Status. Internal to this folder; include
// after basic_parser_impl.hpp, in .cpp files only.
#pragma once

#include <boost/json/basic_parser.hpp>
#include <boost/json/error.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace sluice {

class SaxBase {
 public:
  using error_code = boost::json::error_code;
  using string_view = boost::json::string_view;

  // Text sizes are bounded by whoever reads the file.
  static constexpr size_t max_array_size = size_t(-1);
  static constexpr size_t max_object_size = size_t(-1);
  static constexpr size_t max_string_size = size_t(-1);
  static constexpr size_t max_key_size = size_t(-1);

  /// Why the handler stopped; empty if the JSON itself is at fault.
  const std::string& why() const { return why_; }

  bool on_comment_part(string_view, error_code&) { return true; }
  bool on_comment(string_view, error_code&) { return true; }

 protected:
  /// Ends the parse: `return Fail(ec, "...")`.
  bool Fail(error_code& ec, std::string why) {
    why_ = std::move(why);
    ec = boost::json::error::syntax;
    return false;
  }

 private:
  std::string why_;
};

/// Feeds the whole text to a basic_parser over a SaxBase handler. Trailing text is an error.
template <class Parser>
Status RunSax(Parser& parser, std::string_view text, const std::string& source, Code code) {
  SaxBase::error_code ec;
  const size_t used = parser.write_some(false, text.data(), text.size(), ec);
  if (ec && !parser.handler().why().empty())
    return Error(code, "{}: {}, at byte {}", source, parser.handler().why(), used);
  if (ec) return Error(code, "{}: not valid JSON at byte {}: {}", source, used, ec.message());
  if (used < text.size())
    return Error(code, "{}: unexpected text after the JSON, at byte {}", source, used);
  return {};
}

}  // namespace sluice
