#include "text/json_text.h"

#include <boost/json.hpp>
#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <limits>
#include <string>

namespace sluice {
namespace {

/// Builds values as the library's own handler does, but reads doubles from their text.
class Handler {
 public:
  static constexpr size_t max_object_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_array_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_key_size = std::numeric_limits<size_t>::max();
  static constexpr size_t max_string_size = std::numeric_limits<size_t>::max();

  Handler() { stack_.reset(); }
  boost::json::value Release() { return stack_.release(); }

  using ErrorCode = boost::json::error_code;
  bool on_document_begin(ErrorCode&) { return true; }
  bool on_document_end(ErrorCode&) { return true; }
  bool on_object_begin(ErrorCode&) { return true; }
  bool on_object_end(size_t count, ErrorCode&) { return stack_.push_object(count), true; }
  bool on_array_begin(ErrorCode&) { return true; }
  bool on_array_end(size_t count, ErrorCode&) { return stack_.push_array(count), true; }
  bool on_key_part(boost::json::string_view part, size_t, ErrorCode&) {
    return stack_.push_chars(part), true;
  }
  bool on_key(boost::json::string_view part, size_t, ErrorCode&) {
    return stack_.push_key(part), true;
  }
  bool on_string_part(boost::json::string_view part, size_t, ErrorCode&) {
    return stack_.push_chars(part), true;
  }
  bool on_string(boost::json::string_view part, size_t, ErrorCode&) {
    return stack_.push_string(part), true;
  }
  bool on_number_part(boost::json::string_view part, ErrorCode&) {
    number_.append(part);
    return true;
  }
  bool on_int64(int64_t value, boost::json::string_view, ErrorCode&) {
    number_.clear();
    return stack_.push_int64(value), true;
  }
  bool on_uint64(uint64_t value, boost::json::string_view, ErrorCode&) {
    number_.clear();
    return stack_.push_uint64(value), true;
  }
  bool on_double(double value, boost::json::string_view part, ErrorCode&) {
    number_.append(part);
    // Out of range leaves the parser's infinity or zero, which are right.
    std::from_chars(number_.data(), number_.data() + number_.size(), value);
    number_.clear();
    return stack_.push_double(value), true;
  }
  bool on_bool(bool value, ErrorCode&) { return stack_.push_bool(value), true; }
  bool on_null(ErrorCode&) { return stack_.push_null(), true; }
  bool on_comment_part(boost::json::string_view, ErrorCode&) { return true; }
  bool on_comment(boost::json::string_view, ErrorCode&) { return true; }

 private:
  boost::json::value_stack stack_;
  std::string number_;  // the parts of a number so far
};

}  // namespace

boost::json::value ParseJsonText(std::string_view text, size_t depth_max,
                                 boost::system::error_code& error, size_t& error_byte) {
  boost::json::parse_options options;
  options.max_depth = depth_max;
  boost::json::basic_parser<Handler> parser(options);
  error_byte = parser.write_some(false, text.data(), text.size(), error);
  if (!error && error_byte < text.size()) error = boost::json::error::extra_data;
  return error ? boost::json::value() : parser.handler().Release();
}

Result<boost::json::value> ParseJsonText(std::string_view text, size_t depth_max) {
  boost::system::error_code error;
  size_t error_byte = 0;
  boost::json::value value = ParseJsonText(text, depth_max, error, error_byte);
  if (error) return Error(Code::kInvalidArgument, "not JSON: {}", error.message());
  return value;
}

}  // namespace sluice
