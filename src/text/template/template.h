// Chat templates: the Jinja language as Hugging Face templates use it, under budgets, with a record
// of which output bytes the template itself wrote. What is supported: README.md beside this file.
//
// The oracle is jinja2's ImmutableSandboxedEnvironment with trim_blocks, lstrip_blocks, loop
// controls and json.dumps as `tojson`, the way transformers sets it up
// (tests/oracle/template_oracle.py).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/status.h"
#include "text/byte_range.h"

namespace boost::json {
class value;
}

namespace sluice {

/// Budgets of one rendering. What exceeds one ends with kInvalidArgument and the template's line.
struct TemplateLimits {
  uint64_t steps_max = 1'000'000;  // statements, or eight expression nodes each
  int depth_max = 64;              // macro calls within each other
  // Output, and every single string on the way, may have
  // output_bytes_base + output_input_factor * (bytes of the inputs).
  uint64_t output_bytes_base = uint64_t{1} << 20;
  uint64_t output_input_factor = 4;
  // Bytes read or copied in all: work_bytes_base + work_input_factor * (bytes of the inputs). A
  // template touches a message about a dozen times.
  uint64_t work_bytes_base = uint64_t{256} << 20;
  uint64_t work_input_factor = 64;
};

/// What a template wrote.
struct RenderedText {
  std::string text;  // UTF-8
  /// The bytes that came from the template (or from trusted inputs): sorted, disjoint, not
  /// adjacent. Only these may become control tokens. Bytes whose origin was lost on the way are not
  /// in here.
  std::vector<ByteRange> trusted;
};

/// The variables of one rendering. Values are borrowed: they must outlive Render.
class TemplateInputs {
 public:
  /// Data of a client: its text is never trusted.
  void AddData(std::string_view name, const boost::json::value& value);
  /// Text of the checkpoint, such as bos_token: trusted.
  void AddText(std::string_view name, std::string_view text);
  void AddFlag(std::string_view name, bool value);
  void AddNone(std::string_view name);

  /// Unix seconds that strftime_now shows (in local time); default: now.
  std::optional<int64_t> now_unix_s;

  struct None {};
  using Entry = std::variant<None, bool, std::string, const boost::json::value*>;
  const std::vector<std::pair<std::string, Entry>>& entries() const { return entries_; }

 private:
  std::vector<std::pair<std::string, Entry>> entries_;
};

/// A parsed template. Immutable, copied cheaply, rendered by several threads at once.
class ChatTemplate {
 public:
  static constexpr size_t kSourceBytesMax = 1 << 20;

  /// Errors: kInvalidArgument with the line: syntax, nesting over 64 levels, a statement, filter
  /// or test that we do not have (named), a source over kSourceBytesMax or not UTF-8.
  static Result<ChatTemplate> Parse(std::string_view source);

  /// Errors: kInvalidArgument: what the template raised (raise_exception: its message as it is), an
  /// operation that Python would refuse, or an exceeded budget, the latter two with the line.
  Result<RenderedText> Render(const TemplateInputs& inputs,
                              const TemplateLimits& limits = {}) const;

  /// Whether the template loops over the parts of a message's `content`; otherwise the front joins
  /// them into a string before rendering.
  bool iterates_content_parts() const;

 private:
  struct Program;
  explicit ChatTemplate(std::shared_ptr<const Program> program);
  std::shared_ptr<const Program> program_;
};

}  // namespace sluice
