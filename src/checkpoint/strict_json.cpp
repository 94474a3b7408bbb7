#include "checkpoint/strict_json.h"

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/value_stack.hpp>
#include <cmath>
#include <new>
#include <unordered_set>
#include <vector>

#include "checkpoint/sax.h"

namespace sluice {
namespace {

// Builds a value like Boost's own parser, and looks at each key and number on the way.
class StrictHandler : public SaxBase {
 public:
  boost::json::value Release() { return stack_.release(); }

  bool on_document_begin(error_code&) {
    stack_.reset();
    return true;
  }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) {
    keys_.emplace_back();
    return true;
  }
  bool on_object_end(size_t n, error_code&) {
    keys_.pop_back();
    stack_.push_object(n);
    return true;
  }
  bool on_array_begin(error_code&) { return true; }
  bool on_array_end(size_t n, error_code&) {
    stack_.push_array(n);
    return true;
  }
  bool on_key_part(string_view s, size_t, error_code&) {
    key_.append(s);
    stack_.push_chars(s);
    return true;
  }
  bool on_key(string_view s, size_t, error_code& ec) {
    key_.append(s);
    stack_.push_key(s);
    if (!keys_.back().insert(key_).second)
      return Fail(ec, fmt::format("duplicate key {}", Quoted(key_)));
    key_.clear();
    return true;
  }
  bool on_string_part(string_view s, size_t, error_code&) {
    stack_.push_chars(s);
    return true;
  }
  bool on_string(string_view s, size_t, error_code&) {
    stack_.push_string(s);
    return true;
  }
  bool on_number_part(string_view, error_code&) { return true; }
  bool on_int64(int64_t i, string_view, error_code&) {
    stack_.push_int64(i);
    return true;
  }
  bool on_uint64(uint64_t u, string_view, error_code&) {
    stack_.push_uint64(u);
    return true;
  }
  bool on_double(double d, string_view, error_code& ec) {
    if (!std::isfinite(d)) return Fail(ec, "a number over the range of a double");
    stack_.push_double(d);
    return true;
  }
  bool on_bool(bool b, error_code&) {
    stack_.push_bool(b);
    return true;
  }
  bool on_null(error_code&) {
    stack_.push_null();
    return true;
  }

 private:
  boost::json::value_stack stack_;
  std::string key_;                                    // of a key that comes in parts
  std::vector<std::unordered_set<std::string>> keys_;  // of every open object
};

}  // namespace

Result<boost::json::value> ParseStrictJson(std::string_view text, const std::string& source) {
  try {
    boost::json::parse_options options;
    options.max_depth = kJsonDepthMax;
    boost::json::basic_parser<StrictHandler> parser(options);
    RETURN_IF_ERROR(RunSax(parser, text, source, Code::kInvalidArgument));
    return parser.handler().Release();
  } catch (const std::bad_alloc&) {
    return Error(Code::kOutOfMemory, "{}: no memory for {} bytes of JSON", source, text.size());
  }
}

}  // namespace sluice
