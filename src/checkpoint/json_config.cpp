#include "checkpoint/json_config.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cmath>
#include <limits>

#include "base/mapped_file.h"
#include "checkpoint/strict_json.h"

namespace sluice {
namespace {

using boost::json::value;

constexpr size_t kReportedErrorsMax = 20;

// A value as an error message shows it: short whatever the file holds.
std::string Printed(const value& found) {
  switch (found.kind()) {
    case boost::json::kind::null: return "null";
    case boost::json::kind::bool_: return found.get_bool() ? "true" : "false";
    case boost::json::kind::int64: return fmt::format("{}", found.get_int64());
    case boost::json::kind::uint64: return fmt::format("{}", found.get_uint64());
    case boost::json::kind::double_: return fmt::format("{}", found.get_double());
    case boost::json::kind::string: return Quoted(found.get_string());
    case boost::json::kind::array: return fmt::format("an array of {}", found.get_array().size());
    case boost::json::kind::object:
      return fmt::format("an object of {} fields", found.get_object().size());
  }
  return "?";
}

std::string AllowedInts(int64_t min, int64_t max) {
  if (max == std::numeric_limits<int64_t>::max())
    return fmt::format("allowed are integers from {}", min);
  return fmt::format("allowed are integers from {} to {}", min, max);
}

std::string AllowedDoubles(double min, double max) {
  if (std::isinf(min) && std::isinf(max)) return "allowed are numbers";
  if (std::isinf(max)) return fmt::format("allowed are numbers from {}", min);
  return fmt::format("allowed are numbers from {} to {}", min, max);
}

std::optional<int64_t> AsInt(const value& v, int64_t min, int64_t max) {
  int64_t i = 0;
  if (v.is_int64()) {
    i = v.get_int64();
  } else if (v.is_double()) {
    const double d = v.get_double();
    if (d != std::floor(d) || std::fabs(d) >= 0x1.0p63) return {};
    i = static_cast<int64_t>(d);
  } else {
    return {};  // a uint64 here is over the range of int64
  }
  if (i < min || i > max) return {};
  return i;
}

std::optional<double> AsDouble(const value& v, double min, double max) {
  double d = 0;
  if (v.is_double())
    d = v.get_double();
  else if (v.is_int64())
    d = static_cast<double>(v.get_int64());
  else if (v.is_uint64())
    d = static_cast<double>(v.get_uint64());
  else
    return {};
  if (!(d >= min && d <= max)) return {};
  return d;
}

// A present result of `take` for every element of an array (or for a single value), or nothing.
template <class T, class Take>
std::optional<std::vector<T>> AsVector(const value& v, Take&& take) {
  std::vector<T> out;
  const auto add = [&](const value& element) {
    std::optional<T> taken = take(element);
    if (taken) out.push_back(std::move(*taken));
    return taken.has_value();
  };
  if (!v.is_array()) return add(v) ? std::optional(out) : std::nullopt;
  for (const value& element : v.get_array())
    if (!add(element)) return {};
  return out;
}

std::optional<std::string> AsString(const value& v) {
  if (!v.is_string()) return {};
  return std::string(v.get_string());
}

}  // namespace

JsonObject::JsonObject()
    : document_(std::make_shared<value>(boost::json::object())),
      object_(&document_->get_object()) {}

JsonObject::JsonObject(std::shared_ptr<const value> document, const boost::json::object* object,
                       std::string source)
    : document_(std::move(document)), object_(object), source_(std::move(source)) {}

Result<JsonObject> JsonObject::Parse(std::string_view text, std::string source) {
  if (text.size() > kJsonConfigBytesMax)
    return Error(Code::kTooLarge, "{}: {} bytes, allowed are {}", source, text.size(),
                 kJsonConfigBytesMax);
  TRY(value parsed, ParseStrictJson(text, source));
  if (!parsed.is_object())
    return Error(Code::kInvalidArgument, "{}: {}, expected is an object", source, Printed(parsed));
  auto document = std::make_shared<const value>(std::move(parsed));
  const boost::json::object* object = &document->get_object();
  return JsonObject(std::move(document), object, std::move(source));
}

Result<JsonObject> JsonObject::Read(const std::string& path) {
  TRY(const std::string text, ReadFile(path, kJsonConfigBytesMax));
  return Parse(text, path);
}

JsonObject JsonObject::WithOverrides(const JsonObject& patch) const {
  boost::json::object merged = *object_;
  JsonObject out;
  for (const auto& [key, replacement] : *patch.object_) {
    if (replacement.is_null())
      merged.erase(key);
    else
      merged[key] = replacement;
    out.overridden_.emplace_back(key);
  }
  out.document_ = std::make_shared<const value>(std::move(merged));
  out.object_ = &out.document_->get_object();
  out.source_ = source_;
  return out;
}

const value* JsonObject::Find(std::string_view key) const {
  const value* found = object_->if_contains(key);
  return found && !found->is_null() ? found : nullptr;
}

bool JsonObject::Has(std::string_view key) const { return Find(key) != nullptr; }

bool JsonObject::IsNull(std::string_view key) const {
  const value* found = object_->if_contains(key);
  return found && found->is_null();
}

std::vector<std::string> JsonObject::Keys() const {
  std::vector<std::string> keys;
  for (const auto& member : *object_)
    if (!member.value().is_null()) keys.emplace_back(member.key());
  return keys;
}

Status JsonObject::Wrong(std::string_view key, const value* found, std::string_view allowed) const {
  const bool overridden =
      std::find(overridden_.begin(), overridden_.end(), key) != overridden_.end();
  const std::string where =
      fmt::format("{}: {}{}", source_, key, overridden ? " (overridden)" : "");
  if (!found) return ParamError(Code::kMissingParameter, key, "{} is missing, {}", where, allowed);
  return ParamError(Code::kInvalidArgument, key, "{} is {}, {}", where, Printed(*found), allowed);
}

Status JsonObject::Contradiction(std::string_view key, std::string_view why) const {
  Status wrong = Wrong(key, Find(key), why);
  return Status(Code::kInvalidArgument, wrong.message(), wrong.param());
}

Result<int64_t> JsonObject::Int(std::string_view key, int64_t min, int64_t max) const {
  const value* found = Find(key);
  const std::optional<int64_t> taken = found ? AsInt(*found, min, max) : std::nullopt;
  if (taken) return *taken;
  return Wrong(key, found, AllowedInts(min, max));
}

Result<int64_t> JsonObject::Int(std::string_view key, int64_t min, int64_t max,
                                int64_t otherwise) const {
  if (!Has(key)) return otherwise;
  return Int(key, min, max);
}

Result<double> JsonObject::Double(std::string_view key, double min, double max) const {
  const value* found = Find(key);
  const std::optional<double> taken = found ? AsDouble(*found, min, max) : std::nullopt;
  if (taken) return *taken;
  return Wrong(key, found, AllowedDoubles(min, max));
}

Result<double> JsonObject::Double(std::string_view key, double min, double max,
                                  double otherwise) const {
  if (!Has(key)) return otherwise;
  return Double(key, min, max);
}

Result<bool> JsonObject::Bool(std::string_view key) const {
  const value* found = Find(key);
  if (found && found->is_bool()) return found->get_bool();
  return Wrong(key, found, "allowed are true and false");
}

Result<bool> JsonObject::Bool(std::string_view key, bool otherwise) const {
  if (!Has(key)) return otherwise;
  return Bool(key);
}

Result<std::string> JsonObject::String(std::string_view key) const {
  const value* found = Find(key);
  if (found && found->is_string()) return std::string(found->get_string());
  return Wrong(key, found, "allowed are strings");
}

Result<std::string> JsonObject::String(std::string_view key, std::string otherwise) const {
  if (!Has(key)) return otherwise;
  return String(key);
}

Result<JsonObject> JsonObject::Object(std::string_view key) const {
  const value* found = Find(key);
  if (found && found->is_object())
    return JsonObject(document_, &found->get_object(), fmt::format("{}: {}", source_, key));
  return Wrong(key, found, "allowed are objects");
}

Result<std::vector<int64_t>> JsonObject::Ints(std::string_view key, int64_t min,
                                              int64_t max) const {
  const value* found = Find(key);
  if (!found) return std::vector<int64_t>();
  auto taken = AsVector<int64_t>(*found, [&](const value& v) { return AsInt(v, min, max); });
  if (taken) return *std::move(taken);
  return Wrong(key, found, "in an array " + AllowedInts(min, max));
}

Result<std::vector<double>> JsonObject::Doubles(std::string_view key, double min,
                                                double max) const {
  const value* found = Find(key);
  if (!found) return std::vector<double>();
  auto taken = AsVector<double>(*found, [&](const value& v) { return AsDouble(v, min, max); });
  if (taken) return *std::move(taken);
  return Wrong(key, found, "in an array " + AllowedDoubles(min, max));
}

Result<std::vector<std::string>> JsonObject::Strings(std::string_view key) const {
  const value* found = Find(key);
  if (!found) return std::vector<std::string>();
  auto taken = AsVector<std::string>(*found, AsString);
  if (taken) return *std::move(taken);
  return Wrong(key, found, "in an array allowed are strings");
}

template <class T>
T FieldReader::Keep(Result<T> result, T otherwise) {
  if (result.ok()) return *std::move(result);
  errors_.push_back(result.status());
  return otherwise;
}

int64_t FieldReader::Int(std::string_view key, int64_t min, int64_t max) {
  return Keep(object_.Int(key, min, max), min);
}
int64_t FieldReader::Int(std::string_view key, int64_t min, int64_t max, int64_t otherwise) {
  return Keep(object_.Int(key, min, max, otherwise), otherwise);
}
double FieldReader::Double(std::string_view key, double min, double max) {
  return Keep(object_.Double(key, min, max), min);
}
double FieldReader::Double(std::string_view key, double min, double max, double otherwise) {
  return Keep(object_.Double(key, min, max, otherwise), otherwise);
}
bool FieldReader::Bool(std::string_view key) { return Keep(object_.Bool(key), false); }
bool FieldReader::Bool(std::string_view key, bool otherwise) {
  return Keep(object_.Bool(key, otherwise), otherwise);
}
std::string FieldReader::String(std::string_view key) {
  return Keep(object_.String(key), std::string());
}
std::string FieldReader::String(std::string_view key, const std::string& otherwise) {
  return Keep(object_.String(key, otherwise), otherwise);
}
JsonObject FieldReader::Object(std::string_view key) {
  return Has(key) ? Keep(object_.Object(key), JsonObject()) : JsonObject();
}
std::vector<int64_t> FieldReader::Ints(std::string_view key, int64_t min, int64_t max) {
  return Keep(object_.Ints(key, min, max), {});
}
std::vector<double> FieldReader::Doubles(std::string_view key, double min, double max) {
  return Keep(object_.Doubles(key, min, max), {});
}
std::vector<std::string> FieldReader::Strings(std::string_view key) {
  return Keep(object_.Strings(key), {});
}

void FieldReader::Contradiction(std::string_view key, std::string_view why) {
  errors_.push_back(object_.Contradiction(key, why));
}

void FieldReader::Add(Status status) {
  if (!status.ok()) errors_.push_back(std::move(status));
}

Status FieldReader::status() const {
  if (errors_.empty()) return {};
  std::string message = errors_[0].message();
  for (size_t i = 1; i < errors_.size() && i < kReportedErrorsMax; ++i)
    message += "\n" + errors_[i].message();
  if (errors_.size() > kReportedErrorsMax)
    message += fmt::format("\nand {} more", errors_.size() - kReportedErrorsMax);
  return Status(errors_[0].code(), message, errors_[0].param());
}

Result<JsonObject> ReadModelConfig(const std::string& path, std::string_view overrides) {
  TRY(JsonObject config, JsonObject::Read(path));
  if (overrides.empty()) return config;
  TRY(const JsonObject patch, JsonObject::Parse(overrides, "--json-model-override-args"));
  return config.WithOverrides(patch);
}

}  // namespace sluice
