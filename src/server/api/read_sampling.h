// The sampling fields that the routes share.
#pragma once

#include <initializer_list>

#include "server/api/call.h"
#include "server/json/json_reader.h"

namespace sluice {

constexpr int64_t kChoicesMax = 128;   // n
constexpr int64_t kPromptsMax = 1024;  // a batch
constexpr int64_t kAnswersMax = 1024;  // of one call: prompts times n
constexpr size_t kPromptIdsMax = size_t{2} << 20;
constexpr size_t kStopsMax = 16;
constexpr size_t kStopBytesMax = 256;
constexpr size_t kLogitBiasMax = 1024;
constexpr size_t kTokenIdsLogprobMax = 256;
constexpr size_t kRidBytesMax = 128;
constexpr int32_t kTopLogprobsMax = 256;  // native
constexpr size_t kMessagesMax = 4096;
constexpr size_t kToolsMax = 128;

/// temperature, top_p, ..., stop, logit_bias: those that have one name everywhere. Then the ranges
/// (ValidateSampling).
Status ReadCommonSampling(const FieldReader& fields, SamplingParams& sampling);
/// `seed` or `sampling_seed`.
Status ReadSeed(const FieldReader& fields, std::string_view name, SamplingParams& sampling);
/// The ranges; errors carry the reader's prefix.
Status CheckSampling(const FieldReader& fields, const SamplingParams& sampling,
                     const ApiConfig& config);

/// kUnsupported for the first of `names` that is there and is neither false, empty nor zero.
Status RefuseUnsupported(const FieldReader& fields, std::initializer_list<std::string_view> names);

/// stream, stream_options, n, rid, model and so on, of the OpenAI routes.
Status ReadOpenAiCommon(const FieldReader& fields, const ApiConfig& config, CallRequest& call);
Status ReadModel(const FieldReader& fields, const ApiConfig& config, std::string& model);
Status ReadRid(const FieldReader& fields, std::vector<std::string>& rids);
/// Prompts times n within kAnswersMax, before anything is made for each answer. `n_name`: its
/// field.
Status CheckAnswers(const CallRequest& call, std::string_view n_name);

}  // namespace sluice
