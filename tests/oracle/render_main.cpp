// Our chat-template engine behind a pipe, for tests/oracle/template_oracle.py. Reads one JSON
// object a line: {"template": TEXT, "inputs": {NAME: VALUE, ...}, "now": UNIX_SECONDS}. Writes one
// a line:
// {"text": TEXT, "trusted": BYTES} or {"error": MESSAGE}. A source is parsed once.
#include <boost/json.hpp>
#include <iostream>
#include <map>
#include <string>

#include "text/json_text.h"
#include "text/template/template.h"

namespace {

using sluice::ChatTemplate;
using sluice::Result;

boost::json::object Answer(const boost::json::object& request,
                           std::map<std::string, Result<ChatTemplate>>& parsed) {
  const std::string source(request.at("template").as_string());
  auto found = parsed.find(source);
  if (found == parsed.end()) found = parsed.emplace(source, ChatTemplate::Parse(source)).first;
  if (!found->second.ok()) return {{"error", found->second.status().message()}};
  sluice::TemplateInputs inputs;
  for (const auto& [name, value] : request.at("inputs").as_object()) inputs.AddData(name, value);
  inputs.now_unix_s = request.at("now").as_int64();
  const Result<sluice::RenderedText> rendered = found->second->Render(inputs);
  if (!rendered.ok()) return {{"error", rendered.status().message()}};
  size_t trusted = 0;
  for (const sluice::ByteRange& range : rendered->trusted) trusted += range.end - range.begin;
  return {{"text", rendered->text}, {"trusted", trusted}};
}

}  // namespace

int main() {
  std::map<std::string, Result<ChatTemplate>> parsed;
  for (std::string line; std::getline(std::cin, line);) {
    const Result<boost::json::value> request = sluice::ParseJsonText(line, 256);
    if (!request.ok()) return 1;
    std::cout << boost::json::serialize(Answer(request->as_object(), parsed)) << std::endl;
  }
}
