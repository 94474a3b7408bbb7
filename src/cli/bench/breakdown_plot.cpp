// The bars of StageBreakdowns as SVG.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "cli/bench/stage_breakdown.h"

namespace sluice {
namespace {

constexpr double kBarX = 190, kBarWidth = 760, kWidth = kBarX + kBarWidth + 30;
constexpr double kTop = 84, kRow = 78, kBarHeight = 26, kWorkHeight = 12;

// Of kStageNames, then of the parts of ProductWork.
constexpr const char* kColours[] = {"#8c6d31", "#e7ba52", "#d6616b", "#3b6fb6", "#7b4173",
                                    "#6baed6", "#4a90d9", "#31a354", "#c7c7c7", "#ededed"};
constexpr const char* kWorkNames[] = {"arithmetic at peak", "reading at bandwidth",
                                      "unpacking in registers"};
constexpr const char* kWorkColours[] = {"#9ecae1", "#74c476", "#fc9272"};
static_assert(std::size(kColours) == std::size(kStageNames));

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (static_cast<unsigned char>(c) >= ' ')
      out += c;
  }
  return out;
}

class Svg {
 public:
  explicit Svg(double height) {
    out_ = fmt::format(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {0} {1}' width='{0}' height='{1}' "
        "font-family='sans-serif' font-size='12'>\n<rect width='100%' height='100%' "
        "fill='white'/>\n"
        "<defs><pattern id='hidden' width='5' height='5' patternUnits='userSpaceOnUse' "
        "patternTransform='rotate(45)'><rect width='1.5' height='5' "
        "fill='#333'/></pattern></defs>\n",
        kWidth, height);
  }
  void Rect(double x, double y, double width, double height, std::string_view fill,
            std::string_view says) {
    out_ += fmt::format(
        "<rect x='{:.1f}' y='{:.1f}' width='{:.2f}' height='{:.1f}' fill='{}'>"
        "<title>{}</title></rect>\n",
        x, y, width, height, fill, Escaped(says));
  }
  void Text(double x, double y, std::string_view text, std::string_view style = "") {
    out_ += fmt::format("<text x='{:.1f}' y='{:.1f}' {}>{}</text>\n", x, y, style, Escaped(text));
  }
  std::string Finish() { return out_ + "</svg>\n"; }

 private:
  std::string out_;
};

void DrawLegend(Svg& svg, std::span<const StageBreakdown> calls) {
  double x = 12;
  const auto entry = [&](double y, std::string_view name, std::string_view colour) {
    svg.Rect(x, y - 9, 10, 10, colour, name);
    svg.Text(x + 14, y, name);
    x += 30 + 6.6 * static_cast<double>(name.size());
  };
  for (size_t s = 0; s < std::size(kStageNames); ++s)
    if (AnyHas(calls, s)) entry(44, kStageNames[s], kColours[s]);
  x = 12;
  for (size_t w = 0; w < std::size(kWorkNames); ++w) entry(64, kWorkNames[w], kWorkColours[w]);
  entry(64, "hidden: more work than the products took time", "url(#hidden)");
}

// Two bars on one scale: the stages, and below them the work inside the products.
void DrawCall(Svg& svg, const StageBreakdown& call, double y) {
  const double parts[] = {call.work.arithmetic, call.work.reading, call.work.unpacking};
  const double work = parts[0] + parts[1] + parts[2];
  const double scale = kBarWidth / std::max({call.seconds, work, 1e-12});
  svg.Text(12, y + 12, call.label, "font-weight='bold'");
  svg.Text(12, y + 28, fmt::format("{:.3f} ms", call.seconds * 1e3));
  double x = kBarX;
  for (size_t s = 0; s < std::size(kStageNames); ++s) {
    const double width = call.stages[s].seconds * scale;
    const double share = call.seconds > 0 ? 100 * call.stages[s].seconds / call.seconds : 0;
    svg.Rect(x, y, width, kBarHeight, kColours[s],
             fmt::format("{}: {:.3f} ms, {:.1f} %; {:.3f} ms of it while another lane waited",
                         kStageNames[s], call.stages[s].seconds * 1e3, share,
                         call.stages[s].beside_waiting * 1e3));
    if (width > 34) svg.Text(x + 3, y + 17, fmt::format("{:.0f} %", share));
    x += width;
  }
  x = kBarX;
  for (size_t w = 0; w < std::size(parts); ++w) {
    svg.Rect(x, y + kBarHeight + 3, parts[w] * scale, kWorkHeight, kWorkColours[w],
             fmt::format("{}: {:.3f} ms", kWorkNames[w], parts[w] * 1e3));
    x += parts[w] * scale;
  }
  const double hidden = call.hidden_seconds() * scale;
  svg.Rect(x - hidden, y + kBarHeight + 3, hidden, kWorkHeight, "url(#hidden)",
           fmt::format("hidden: {:.3f} ms", call.hidden_seconds() * 1e3));
}

}  // namespace

Status PlotBreakdowns(std::string_view title, std::span<const StageBreakdown> calls,
                      const std::string& path) {
  Svg svg(kTop + kRow * static_cast<double>(calls.size()));
  svg.Text(12, 22, title, "font-size='15' font-weight='bold'");
  DrawLegend(svg, calls);
  for (size_t i = 0; i < calls.size(); ++i)
    DrawCall(svg, calls[i], kTop + kRow * static_cast<double>(i));
  std::ofstream file(path);
  file << svg.Finish();
  file.close();
  if (!file) return Error(Code::kInvalidArgument, "plot file {} cannot be written", path);
  return {};
}

}  // namespace sluice
