#include "cli/bench/layer_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "bench/machine_ceilings.h"
#include "server/json/json_writer.h"

namespace sluice {
namespace {

using bench::Median;

Spread SpreadOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values.front(), values[values.size() / 2], values.back()};
}

// Lines of a table come one by one, also into a file.
template <class... Args>
void Print(fmt::format_string<Args...> format, Args&&... args) {
  fmt::print(format, std::forward<Args>(args)...);
  std::fflush(stdout);
}

std::string Remark(const bench::SteadyRuns& runs) {
  if (!runs.steady) return "  disturbed";
  return runs.rejected ? fmt::format("  {} repeated", runs.rejected) : "";
}

void PrintStages(const std::vector<LayerFigures>& figures) {
  std::vector<StageBreakdown> calls;
  for (const LayerFigures& f : figures)
    if (f.stages) calls.push_back(*f.stages);
  if (calls.empty()) return;
  Print(
      "\nstages of a traced call, ms (means of the lanes), and the work inside its products\n"
      "{:<26} {:>6} {:>9}",
      "", "tokens", "ms");
  for (size_t i = 0; i < std::size(kStageNames); ++i)
    if (AnyHas(calls, i)) Print(" {:>10}", kStageNames[i]);
  Print(" | {:>10} {:>9} {:>9} {:>9}\n", "arithmetic", "reading", "unpacking", "hidden");
  for (const LayerFigures& f : figures) {
    if (!f.stages) continue;
    const StageBreakdown& s = *f.stages;
    Print("{:<26} {:>6} {:>9.3f}", f.line, f.tokens, s.seconds * 1e3);
    for (size_t i = 0; i < std::size(kStageNames); ++i)
      if (AnyHas(calls, i)) Print(" {:>10.3f}", s.stages[i].seconds * 1e3);
    Print(" | {:>10.3f} {:>9.3f} {:>9.3f} {:>9.3f}\n", s.work.arithmetic * 1e3,
          s.work.reading * 1e3, s.work.unpacking * 1e3, s.hidden_seconds() * 1e3);
  }
}

void WriteStages(JsonWriter& json, const StageBreakdown& s) {
  json.Key("stages").BeginObject().Key("seconds").Number(s.seconds);
  for (size_t i = 0; i < std::size(kStageNames); ++i) {
    json.Key(std::string(kStageNames[i])).BeginObject();
    json.Key("seconds").Number(s.stages[i].seconds);
    json.Key("beside_waiting").Number(s.stages[i].beside_waiting).EndObject();
  }
  json.Key("arithmetic_s").Number(s.work.arithmetic).Key("reading_s").Number(s.work.reading);
  json.Key("unpacking_in_registers_s").Number(s.work.unpacking);
  json.Key("hidden_s").Number(s.hidden_seconds()).EndObject();
}

void WriteLine(JsonWriter& json, const LayerFigures& f) {
  const LayerSummary s = Summarise(f);
  json.BeginObject().Key("line").String(f.line).Key("tokens").Int(f.tokens);
  json.Key("seconds").BeginObject().Key("min").Number(s.seconds.min);
  json.Key("median").Number(s.seconds.median).Key("max").Number(s.seconds.max).EndObject();
  json.Key("runs").Uint(f.runs.seconds.size()).Key("rejected").Int(f.runs.rejected);
  json.Key("disturbed").Bool(!f.runs.steady).Key("active_experts").Number(s.active);
  json.Key("weight_bytes").Number(s.bytes).Key("flop").Number(s.flop);
  json.Key("bytes_per_s").Number(s.bytes / s.seconds.median);
  json.Key("flop_per_s").Number(s.flop / s.seconds.median);
  json.Key("ceiling_bytes_per_s").Number(s.bandwidth).Key("ceiling_flop_per_s").Number(s.flops);
  json.Key("bandwidth_share").Number(s.byte_share).Key("peak_share").Number(s.flop_share);
  json.Key("roofline_share").Number(s.roofline_share);
  json.Key("seconds_beyond_roofline").Number(s.beyond_seconds);
  json.Key("pace_of_first");
  f.pace > 0 ? json.Number(f.pace) : json.Null();
  json.Key("error").Number(f.error);
  if (f.stages) WriteStages(json, *f.stages);
  json.EndObject();
}

}  // namespace

std::vector<double> RooflineShares(const LayerFigures& f) {
  std::vector<double> out;
  for (size_t i = 0; i < f.work.size(); ++i)
    out.push_back(RooflineShare(f.work[i], f.runs.seconds[i], f.runs.ceilings[i].flops,
                                f.runs.ceilings[i].bytes));
  return out;
}

LayerSummary Summarise(const LayerFigures& f) {
  std::vector<double> bytes, active, flop, flops, bandwidth, byte_shares, flop_shares, beyond;
  const std::vector<double> shares = RooflineShares(f);
  for (size_t i = 0; i < f.work.size(); ++i) {
    const LayerWork& work = f.work[i];
    const bench::Ceilings& ceilings = f.runs.ceilings[i];
    const double seconds = f.runs.seconds[i];
    bytes.push_back(work.bytes);
    active.push_back(work.active_experts);
    flop.push_back(work.flop);
    flops.push_back(ceilings.flops);
    bandwidth.push_back(ceilings.bytes);
    byte_shares.push_back(work.bytes / seconds / ceilings.bytes);
    flop_shares.push_back(work.flop / seconds / ceilings.flops);
    beyond.push_back(seconds * (1 - shares[i]));
  }
  return {SpreadOf(f.runs.seconds),
          Median(bytes),
          Median(active),
          Median(flop),
          Median(flops),
          Median(bandwidth),
          Median(byte_shares),
          Median(flop_shares),
          Median(shares),
          Median(beyond)};
}

ReportedMachine ReportCpu(const Machine& machine, int threads) {
  return {ProcessorName(), DescribeFeatures(machine), threads};
}

LayerReport::LayerReport(bool json, ReportedMachine machine)
    : json_(json),
      machine_(std::move(machine)),
      rate_(machine_.threads > 0 ? 1e9 : 1e12),
      bytes_digits_(machine_.threads > 0 ? 1 : 2),
      flops_unit_(machine_.threads > 0 ? "GFLOP/s" : "TFLOP/s"),
      bytes_unit_(machine_.threads > 0 ? "GB/s" : "TB/s") {
  if (json_) return;
  const std::string threads =
      machine_.threads > 0 ? fmt::format("{} threads, ", machine_.threads) : "";
  Print("{}, {}{}\n", machine_.processor, threads, machine_.features);
}

void LayerReport::PrintLine(const LayerFigures& f) const {
  const LayerSummary s = Summarise(f);
  Print(
      "{:<26} {:>6} {:>9.4f} {:>9.4f} {:>9.4f} {:>6.0f} {:>8.2f} {:>6.{}f} {:>5.1f}% {:>7.1f} "
      "{:>5.1f}% {:>6.1f}% {:>9.4f} {:>6} {:>8.1e}{}\n",
      f.line, f.tokens, s.seconds.min * 1e3, s.seconds.median * 1e3, s.seconds.max * 1e3, s.active,
      s.bytes * 1e-6, s.bytes / s.seconds.median / rate_, bytes_digits_, 100 * s.byte_share,
      s.flop / s.seconds.median / rate_, 100 * s.flop_share, 100 * s.roofline_share,
      s.beyond_seconds * 1e3, f.pace > 0 ? fmt::format("{:.3f}", f.pace) : "-", f.error,
      Remark(f.runs));
}

void LayerReport::Begin(std::string subject, std::string format, std::string_view title,
                        Settings settings, std::string peak) {
  layers_.push_back(
      {std::move(subject), std::move(format), std::move(settings), std::move(peak), {}});
  if (json_) return;
  Print("\n{}\n", title);
  Print(
      "{:<26} {:>6} {:>9} {:>9} {:>9} {:>6} {:>8} {:>6} {:>6} {:>7} {:>6} {:>7} {:>9} {:>6} "
      "{:>8}\n",
      "", "tokens", "min ms", "median", "max", "active", "MB read", bytes_unit_, "share",
      flops_unit_, "share", "roof", "beyond ms", "pace", "error");
}

void LayerReport::Add(const LayerFigures& figures) {
  if (!json_) PrintLine(figures);
  layers_.back().figures.push_back(figures);
}

void LayerReport::End() {
  const Layer& layer = layers_.back();
  std::vector<double> flops, bandwidth;
  for (const LayerFigures& f : layer.figures)
    for (const bench::Ceilings& c : f.runs.ceilings) {
      flops.push_back(c.flops);
      bandwidth.push_back(c.bytes);
    }
  if (json_ || flops.empty()) return;
  PrintStages(layer.figures);
  Print("ceilings (medians): {:.1f} {} {}, {:.{}f} {} read\n", Median(flops) / rate_, flops_unit_,
        layer.peak, Median(bandwidth) / rate_, bytes_digits_, bytes_unit_);
}

void LayerReport::Finish() const { json_ ? PrintJson() : PrintShares(); }

std::vector<LayerFigures> LayerReport::figures() const {
  std::vector<LayerFigures> out;
  for (const Layer& layer : layers_)
    out.insert(out.end(), layer.figures.begin(), layer.figures.end());
  return out;
}

// A row for each line of each subject, a column for each format.
void LayerReport::PrintShares() const {
  std::vector<std::string> formats, subjects;
  const auto note = [](std::vector<std::string>& names, const std::string& name) {
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  };
  for (const Layer& layer : layers_) {
    note(formats, layer.format);
    note(subjects, layer.subject);
  }
  if (formats.size() < 2) return;
  Print("\nshare of the roofline, % (*: disturbed)\n{:<44} {:>6}", "", "tokens");
  for (const std::string& format : formats) Print(" {:>15}", format);
  Print("\n");
  for (const std::string& subject : subjects) {
    const auto first = std::ranges::find(layers_, subject, &Layer::subject);
    for (size_t i = 0; i < first->figures.size(); ++i) {
      const LayerFigures& f = first->figures[i];
      Print("{:<44} {:>6}", subject + ", " + f.line, f.tokens);
      for (const std::string& format : formats) {
        const auto layer = std::ranges::find_if(layers_, [&](const Layer& l) {
          return l.subject == subject && l.format == format && i < l.figures.size();
        });
        if (layer == layers_.end()) {
          Print(" {:>15}", "-");
          continue;
        }
        const LayerFigures& of = layer->figures[i];
        Print(" {:>14.1f}{}", 100 * Median(RooflineShares(of)), of.runs.steady ? ' ' : '*');
      }
      Print("\n");
    }
  }
}

void LayerReport::PrintJson() const {
  JsonWriter json;
  json.BeginObject().Key("processor").String(machine_.processor);
  json.Key("threads").Int(machine_.threads);
  json.Key("features").String(machine_.features).Key("layers").BeginArray();
  for (const Layer& layer : layers_) {
    json.BeginObject();
    for (const auto& [key, value] : layer.settings) json.Key(key).String(value);
    json.Key("format").String(layer.format);
    json.Key("peak").String(layer.peak);
    json.Key("lines").BeginArray();
    for (const LayerFigures& f : layer.figures) WriteLine(json, f);
    json.EndArray().EndObject();
  }
  Print("{}\n", json.EndArray().EndObject().text());
}

LayerReport::Settings ShapeSettings(const MoeShape& shape, const std::string& ep_share) {
  return {{"geometry", shape.name},
          {"ep-share", ep_share},
          {"hidden", std::to_string(shape.hidden)},
          {"intermediate", std::to_string(shape.intermediate)},
          {"experts", std::to_string(shape.experts)},
          {"top-k", std::to_string(shape.top_k)},
          {"shared", std::to_string(shape.shared)}};
}

}  // namespace sluice
