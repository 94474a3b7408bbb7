// Engine events as JSON: one format an API. A format belongs to one call and is used by one thread
// at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/api/call.h"
#include "server/api/text_service.h"
#include "sluice/engine.h"

namespace sluice {

class AnswerFormat {
 public:
  /// `text` may be null (ids only); both are borrowed.
  AnswerFormat(const Call& call, const TextService* text) : call_(call), text_(text) {}
  virtual ~AnswerFormat() = default;

  /// Whether frames about events without new text make sense.
  virtual bool streams_ids() const = 0;
  /// Appends the frames for what generation `i` newly has. `total` holds all of it, new included.
  virtual void AppendFrames(size_t i, const GenerateEvent& news, const GenerateResult& total,
                            bool finished, std::string& out) = 0;
  /// Appends what comes after all generations have finished, before [DONE].
  virtual void AppendEnd(const std::vector<GenerateResult>& results, std::string& out) = 0;
  /// The answer in one piece.
  virtual std::string Whole(const std::vector<GenerateResult>& results) = 0;

 protected:
  const Call& call_;
  const TextService* const text_;
};

std::unique_ptr<AnswerFormat> MakeNativeFormat(const Call& call, const TextService* text,
                                               bool incremental);
std::unique_ptr<AnswerFormat> MakeCompletionFormat(const Call& call, const TextService* text);
std::unique_ptr<AnswerFormat> MakeChatFormat(const Call& call, const TextService* text);

}  // namespace sluice
