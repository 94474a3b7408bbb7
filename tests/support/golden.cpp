#include "support/golden.h"

#include <boost/json.hpp>

#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/mapped_file.h"

namespace sluice {
namespace {

template <class T>
std::vector<T> Numbers(const boost::json::value& array) {
  std::vector<T> out;
  for (const auto& item : array.as_array()) out.push_back(boost::json::value_to<T>(item));
  return out;
}

}  // namespace

Result<Golden> Golden::Open(const std::string& directory, const std::string& mode) {
  TRY(const std::string text, ReadFile(directory + "/golden.json", 64 << 20));
  TRY(Checkpoint tensors, Checkpoint::Open(directory));
  Golden golden(std::move(tensors));
  golden.mode_ = mode;
  const boost::json::value json = boost::json::parse(text);
  const auto& prompts = json.at("prompts").as_array();
  const auto& in_mode = json.at("modes").at(mode).at("prompts").as_array();
  for (size_t i = 0; i < prompts.size(); ++i)
    golden.prompts_.push_back({Numbers<int32_t>(prompts[i].at("ids")),
                               Numbers<int64_t>(prompts[i].at("logit_positions")),
                               Numbers<int32_t>(in_mode[i].at("greedy"))});
  if (const auto* debug = json.as_object().if_contains("debug_prompt"))
    golden.debug_prompt_ = Numbers<int32_t>(*debug);
  if (const auto* statistics = json.as_object().if_contains("statistics"))
    for (const auto& [name, value] : statistics->as_object())
      if (value.is_number())
        golden.statistics_.emplace_back(name, boost::json::value_to<double>(value));
  return golden;
}

double Golden::Statistic(const std::string& name, double otherwise) const {
  for (const auto& [key, value] : statistics_)
    if (key == name) return value;
  return otherwise;
}

std::vector<float> Golden::Tensor(const std::string& name) const {
  const TensorInfo* info = tensors_.Find(mode_ + "/" + name);
  if (!info) return {};
  std::vector<float> out;
  const Status status = tensors_.WithBytes(*info, [&](std::span<const std::byte> bytes) {
    out.resize(bytes.size() / 4);
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return Status();
  });
  CHECK(status.ok());
  if (info->dtype == DType::kI32)
    for (float& value : out) value = static_cast<float>(std::bit_cast<int32_t>(value));
  return out;
}

}  // namespace sluice
