#include "text/chat_messages.h"

#include <boost/json.hpp>
#include <string>

#include "text/json_text.h"

namespace sluice {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;

/// What the JSON kind is called in messages.
std::string_view KindName(const value& json) {
  switch (json.kind()) {
    case boost::json::kind::null: return "null";
    case boost::json::kind::bool_: return "a boolean";
    case boost::json::kind::string: return "a string";
    case boost::json::kind::array: return "a list";
    case boost::json::kind::object: return "an object";
    default: return "a number";
  }
}

template <class... Args>
Status Bad(const std::string& param, fmt::format_string<Args...> format, Args&&... args) {
  return Status(Code::kInvalidArgument,
                fmt::format("{}: {}", param, fmt::format(format, std::forward<Args>(args)...)),
                param);
}

Result<std::string> Role(const object& message, const std::string& at) {
  const value* role = message.if_contains("role");
  const std::string param = at + ".role";
  if (!role) return Bad(param, "is missing");
  if (!role->is_string()) return Bad(param, "must be a string, not {}", KindName(*role));
  std::string name(role->get_string());
  for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  if (name == "developer") name = "system";
  if (name == "function") name = "tool";
  for (const std::string_view known : {"system", "user", "assistant", "tool"})
    if (name == known) return name;
  return Bad(param,
             "{} is unknown; roles are system, developer, user, assistant, tool and function",
             Quoted(std::string_view(role->get_string())));
}

// Text parts, either as they are or joined.
Result<value> Parts(const array& parts, const std::string& at, bool keep_parts) {
  array kept;
  std::string joined;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string param = fmt::format("{}[{}]", at, i);
    if (!parts[i].is_object()) return Bad(param, "must be an object, not {}", KindName(parts[i]));
    const object& part = parts[i].get_object();
    const value* type = part.if_contains("type");
    if (!type || !type->is_string()) return Bad(param + ".type", "must be a string");
    if (type->get_string() != "text")
      return Status(Code::kUnsupported,
                    fmt::format("{}.type: {} needs a multimodal model; this one takes text", param,
                                Quoted(std::string_view(type->get_string()))),
                    param + ".type");
    const value* text = part.if_contains("text");
    if (!text || !text->is_string()) return Bad(param + ".text", "must be a string");
    if (i) joined += ' ';
    joined.append(text->get_string());
    kept.push_back(object{{"type", "text"}, {"text", *text}});
  }
  if (keep_parts) return value(std::move(kept));
  return value(joined);
}

Result<value> Content(const object& message, std::string_view role, const std::string& at,
                      bool keep_parts) {
  const value* content = message.if_contains("content");
  const std::string param = at + ".content";
  if (!content || content->is_null()) {
    if (role == "assistant") return value("");
    return Bad(param, "is missing; only an assistant may have none");
  }
  if (content->is_string()) return *content;
  if (content->is_array()) return Parts(content->get_array(), param, keep_parts);
  return Bad(param, "must be a string or a list of parts, not {}", KindName(*content));
}

// A JSON text in the request, an object for the template.
Result<value> ToolArguments(const value& arguments, const std::string& param) {
  if (arguments.is_object()) return arguments;
  if (!arguments.is_string()) return Bad(param, "must be a string, not {}", KindName(arguments));
  const std::string_view text = arguments.get_string();
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return value(object{});
  Result<value> decoded = ParseJsonText(text);
  if (!decoded.ok()) return Bad(param, "{}: {}", decoded.status().message(), Quoted(text));
  if (!decoded->is_object())
    return Bad(param, "must hold a JSON object, not {}", KindName(*decoded));
  return decoded;
}

Result<array> ToolCalls(const value& calls, const std::string& at) {
  if (!calls.is_array()) return Bad(at, "must be a list, not {}", KindName(calls));
  array out;
  for (size_t i = 0; i < calls.get_array().size(); ++i) {
    const std::string param = fmt::format("{}[{}]", at, i);
    if (!calls.get_array()[i].is_object()) return Bad(param, "must be an object");
    object call = calls.get_array()[i].get_object();
    value* function = call.if_contains("function");
    if (!function || !function->is_object()) return Bad(param + ".function", "must be an object");
    const value* name = function->get_object().if_contains("name");
    if (!name || !name->is_string()) return Bad(param + ".function.name", "must be a string");
    const value* arguments = function->get_object().if_contains("arguments");
    TRY(value decoded, arguments && !arguments->is_null()
                           ? ToolArguments(*arguments, param + ".function.arguments")
                           : Result<value>(value(object{})));
    function->get_object()["arguments"] = std::move(decoded);
    out.push_back(std::move(call));
  }
  return out;
}

Result<object> NormalizeMessage(const value& json, const std::string& at, bool keep_parts) {
  if (!json.is_object()) return Bad(at, "must be an object, not {}", KindName(json));
  const object& message = json.get_object();
  TRY(const std::string role, Role(message, at));
  object out{{"role", role}};
  TRY(out["content"], Content(message, role, at, keep_parts));
  for (const auto& [key, field] : message) {
    if (field.is_null() || key == "role" || key == "content") continue;
    if (key == "tool_calls") {
      TRY(array calls, ToolCalls(field, at + ".tool_calls"));
      if (!calls.empty()) out["tool_calls"] = std::move(calls);
    } else if (key == "reasoning" && !message.contains("reasoning_content")) {
      out["reasoning_content"] = field;
    } else {
      out[key] = field;
    }
  }
  return out;
}

}  // namespace

Result<array> NormalizeMessages(const value& messages, bool keep_parts) {
  if (!messages.is_array()) return Bad("messages", "must be a list, not {}", KindName(messages));
  const array& list = messages.get_array();
  if (list.empty()) return Bad("messages", "must not be empty");
  if (list.size() > kMessagesMax)
    return Bad("messages", "{} messages; at most {} are allowed", list.size(), kMessagesMax);
  array out;
  out.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    TRY(object message, NormalizeMessage(list[i], fmt::format("messages[{}]", i), keep_parts));
    out.push_back(std::move(message));
  }
  return out;
}

Status CheckTools(const value& tools) {
  if (!tools.is_array()) return Bad("tools", "must be a list, not {}", KindName(tools));
  const array& list = tools.get_array();
  if (list.size() > kToolsMax)
    return Bad("tools", "{} tools; at most {} are allowed", list.size(), kToolsMax);
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string at = fmt::format("tools[{}]", i);
    if (!list[i].is_object()) return Bad(at, "must be an object, not {}", KindName(list[i]));
    const value* type = list[i].get_object().if_contains("type");
    if (!type || !type->is_string() || type->get_string() != "function")
      return Bad(at + ".type", "must be \"function\"");
    const value* function = list[i].get_object().if_contains("function");
    if (!function || !function->is_object()) return Bad(at + ".function", "must be an object");
    const value* name = function->get_object().if_contains("name");
    if (!name || !name->is_string() || name->get_string().empty())
      return Bad(at + ".function.name", "must be a string that is not empty");
  }
  return {};
}

}  // namespace sluice
