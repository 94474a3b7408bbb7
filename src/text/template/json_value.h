// JSON to values of the template language.
#pragma once

#include <boost/json/fwd.hpp>

#include "text/template/value.h"

namespace sluice::jinja {

/// Copies `json`; its text is untrusted. Adds the bytes that it holds to `bytes` (text and keys as
/// they are, 8 for every other value). Errors: nesting over Budget::kValueDepthMax.
Result<Value> FromJson(const boost::json::value& json, uint64_t& bytes);

}  // namespace sluice::jinja
