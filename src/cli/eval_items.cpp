#include "cli/eval_items.h"

#include <boost/json.hpp>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "base/mapped_file.h"

namespace sluice {
namespace {

namespace json = boost::json;

constexpr uint64_t kEvalFileBytesMax = 64 << 20;

std::string Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == text.npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1));
}

// The walk through the filler sentences, with the planted ones in their places.
std::string ExpandContext(const json::object& context, const json::array& filler) {
  const auto number = [&](const char* key) { return context.at(key).to_number<size_t>(); };
  const size_t start = number("start"), stride = number("stride"), count = number("count");
  const json::array& insert = context.at("insert").as_array();
  std::string out;
  const auto append = [&](const json::value& sentence) {
    if (!out.empty()) out += ' ';
    out += std::string_view(sentence.as_string());
  };
  for (size_t i = 0; i < count; ++i) {
    for (const json::value& pair : insert)
      if (pair.at(0).to_number<size_t>() == i) append(pair.at(1));
    append(filler.at((start + i * stride) % filler.size()));
  }
  return out;
}

void Replace(json::string& text, std::string_view what, std::string_view with) {
  const size_t at = std::string_view(text).find(what);
  if (at != std::string_view::npos) text.replace(at, what.size(), with);
}

EvalItem ReadItem(std::string_view line, const json::array& filler) {
  const json::value item = json::parse(line);
  json::value messages = item.at("messages");
  if (const json::value* context = item.as_object().if_contains("context")) {
    const std::string text = ExpandContext(context->as_object(), filler);
    for (json::value& message : messages.as_array())
      Replace(message.at("content").as_string(), "{context}", text);
  }
  json::object request = {
      {"messages", messages}, {"temperature", 0}, {"max_tokens", item.at("max_tokens")}};
  for (const char* key : {"tools", "chat_template_kwargs"})
    if (const json::value* value = item.as_object().if_contains(key)) request[key] = *value;
  return {.id = std::string(item.at("id").as_string()),
          .request = json::serialize(request),
          .check_kind = std::string(item.at("check").at("kind").as_string()),
          .check_value = json::serialize(item.at("check").at("value"))};
}

std::string FinalNumber(const std::string& text) {
  const size_t last = text.find_last_of("0123456789");
  if (last == text.npos) return "";
  const size_t before = text.find_last_not_of("0123456789", last);
  return text.substr(before + 1, last - before);
}

bool IsToolCall(const EvalAnswer& answer, const json::value& expected) {
  constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>";
  const std::string& text = answer.content;
  if (!text.starts_with(kOpen) || !text.ends_with(kClose) || text.rfind(kOpen) != 0) return false;
  boost::system::error_code error;
  const json::value call =
      json::parse(text.substr(kOpen.size(), text.size() - kOpen.size() - kClose.size()), error);
  return !error && call == expected;
}

Result<EvalSet> ReadEvalSet(const std::filesystem::path& path, const json::array& filler) {
  TRY(const std::string text, ReadFile(path, kEvalFileBytesMax));
  EvalSet set{.name = path.stem(), .items = {}};
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (Trimmed(line).empty()) continue;
    try {
      set.items.push_back(ReadItem(line, filler));
    } catch (const std::exception& error) {
      return Error(Code::kInvalidArgument, "{}:{}: {}", path.string(), number, error.what());
    }
  }
  return set;
}

}  // namespace

Result<std::vector<EvalSet>> ReadEvalSets(const std::string& directory) {
  std::error_code error;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    if (entry.path().extension() == ".jsonl") paths.push_back(entry.path());
  if (error || paths.empty())
    return Error(Code::kNotFound, "{}: no *.jsonl file here{}", directory,
                 error ? ": " + error.message() : "");
  std::sort(paths.begin(), paths.end());
  json::array filler;
  const std::string filler_path = directory + "/filler.json";
  if (std::filesystem::exists(filler_path)) {
    TRY(const std::string text, ReadFile(filler_path, kEvalFileBytesMax));
    boost::system::error_code bad;
    const json::value value = json::parse(text, bad);
    if (bad || !value.is_array() || value.as_array().empty())
      return Error(Code::kInvalidArgument, "{}: not an array of sentences", filler_path);
    filler = value.as_array();
  }
  std::vector<EvalSet> sets;
  for (const auto& path : paths) {
    TRY(EvalSet set, ReadEvalSet(path, filler));
    sets.push_back(std::move(set));
  }
  return sets;
}

Result<EvalAnswer> ReadEvalAnswer(const std::string& body) {
  boost::system::error_code error;
  const json::value value = json::parse(body, error);
  const json::value* message = error ? nullptr : value.find_pointer("/choices/0/message", error);
  if (!message || !message->is_object())
    return Error(Code::kInternal, "not a chat completion: {}", Quoted(body));
  const auto text = [&](const char* key) -> std::string {
    const json::value* found = message->as_object().if_contains(key);
    return found && found->is_string() ? std::string(found->as_string()) : "";
  };
  EvalAnswer answer{Trimmed(text("content")), Trimmed(text("reasoning_content"))};
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  const size_t close = answer.content.find(kClose);
  if (answer.content.starts_with(kOpen) && close != std::string::npos) {
    answer.reasoning = Trimmed(answer.content.substr(kOpen.size(), close - kOpen.size()));
    answer.content = Trimmed(answer.content.substr(close + kClose.size()));
  }
  return answer;
}

bool Passes(const EvalItem& item, const EvalAnswer& answer) {
  const json::value expected = json::parse(item.check_value);
  std::string_view kind = item.check_kind;
  if (kind.starts_with("think_")) {
    if (answer.reasoning.empty()) return false;
    kind.remove_prefix(6);
  }
  if (kind == "json_tool_call") return IsToolCall(answer, expected);
  if (!expected.is_string()) return false;
  const std::string_view value = expected.as_string();
  if (kind == "exact") return answer.content == value;
  if (kind == "contains") return answer.content.find(value) != std::string::npos;
  if (kind == "final_number") return FinalNumber(answer.content) == value;
  return false;
}

}  // namespace sluice
