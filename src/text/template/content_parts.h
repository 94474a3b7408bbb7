// Does a template loop over the parts of a message's content?
#pragma once

#include "text/template/syntax.h"

namespace sluice::jinja {

/// True if some `for` runs over x.content or x['content'], over a variable set to that, or, in a
/// macro, over a parameter called content.
bool IteratesContentParts(const Body& body);

}  // namespace sluice::jinja
