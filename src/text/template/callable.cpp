#include "text/template/callable.h"

#include <algorithm>

namespace sluice::jinja {

Result<BoundArguments> BoundArguments::Bind(const Arguments& args,
                                            std::initializer_list<std::string_view> names,
                                            size_t required) {
  BoundArguments bound;
  bound.names_ = names;
  bound.values_.resize(names.size());
  if (args.positional.size() > names.size())
    return Error(Code::kInvalidArgument, "takes {} arguments, not {}", names.size(),
                 args.positional.size());
  for (size_t i = 0; i < args.positional.size(); ++i) bound.values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end())
      return Error(Code::kInvalidArgument, "has no argument {}", Quoted(name));
    const Value*& slot = bound.values_[static_cast<size_t>(found - names.begin())];
    if (slot) return Error(Code::kInvalidArgument, "argument {} is given twice", Quoted(name));
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i)
    if (!bound.values_[i])
      return Error(Code::kInvalidArgument, "argument '{}' is missing", bound.names_[i]);
  return bound;
}

const Value* BoundArguments::GetUnlessNone(size_t parameter) const {
  const Value* value = values_[parameter];
  return value && value->IsNone() ? nullptr : value;
}

bool BoundArguments::Truth(size_t parameter, bool otherwise) const {
  return values_[parameter] ? values_[parameter]->Truth() : otherwise;
}

Result<Int> BoundArguments::GetInt(size_t parameter, Int otherwise) const {
  if (!values_[parameter]) return otherwise;
  Int storage;
  const Int* value = values_[parameter]->AsInt(storage);
  if (!value)
    return Error(Code::kInvalidArgument, "argument '{}' is a {}, not an int", names_[parameter],
                 values_[parameter]->TypeName());
  return *value;
}

Result<const TracedText*> BoundArguments::GetText(size_t parameter) const {
  const Value* value = GetUnlessNone(parameter);
  if (!value) return nullptr;
  const TracedText* text = value->AsText();
  if (!text)
    return Error(Code::kInvalidArgument, "argument '{}' is a {}, not a str", names_[parameter],
                 value->TypeName());
  return text;
}

}  // namespace sluice::jinja
