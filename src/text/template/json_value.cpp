#include "text/template/json_value.h"

#include <boost/json.hpp>

namespace sluice::jinja {
namespace {

Value Text(std::string_view text) {
  return TextPtr(std::make_shared<const TracedText>(TracedText::Untrusted(text)));
}

Result<Value> Convert(const boost::json::value& json, int depth, uint64_t& bytes) {
  if (depth > Budget::kValueDepthMax)
    return Error(Code::kInvalidArgument, "JSON nested deeper than {}", Budget::kValueDepthMax);
  bytes += 8;
  switch (json.kind()) {
    case boost::json::kind::null: return Value(NoneValue{});
    case boost::json::kind::bool_: return Value(json.get_bool());
    case boost::json::kind::int64: return Value(Int{json.get_int64()});
    case boost::json::kind::uint64: return Value(Int{json.get_uint64()});
    case boost::json::kind::double_: return Value(json.get_double());
    case boost::json::kind::string:
      bytes += json.get_string().size();
      return Text(json.get_string());
    case boost::json::kind::array: {
      auto list = std::make_shared<List>();
      list->items.reserve(json.get_array().size());
      for (const boost::json::value& item : json.get_array()) {
        TRY(Value value, Convert(item, depth + 1, bytes));
        list->depth = std::max(list->depth, 1 + value.Depth());
        list->items.push_back(std::move(value));
      }
      return Value(ListPtr(std::move(list)));
    }
    case boost::json::kind::object: break;
  }
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, item] : json.get_object()) {
    bytes += key.size();
    TRY(Value value, Convert(item, depth + 1, bytes));
    dict->Set(Text(key), std::move(value));
  }
  return Value(DictPtr(std::move(dict)));
}

}  // namespace

Result<Value> FromJson(const boost::json::value& json, uint64_t& bytes) {
  return Convert(json, 1, bytes);
}

}  // namespace sluice::jinja
