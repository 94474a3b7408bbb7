// The language against committed answers (they are jinja2's: tests/oracle/template_oracle.py
// compares many more), the budgets, and the origin of every byte.
#include "text/template/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <ctime>
#include <functional>

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

/// One rendering with JSON inputs; the names in `trusted` are texts of the checkpoint.
Result<RenderedText> RenderWith(std::string_view source, const std::string& json,
                                const TemplateLimits& limits = {}) {
  TRY(const ChatTemplate parsed, ChatTemplate::Parse(source));
  const boost::json::value data = boost::json::parse(json);
  TemplateInputs inputs;
  inputs.now_unix_s = 0;
  for (const auto& [name, value] : data.as_object()) {
    if (std::string_view(name).ends_with("_token")) {
      inputs.AddText(name, value.as_string());
    } else {
      inputs.AddData(name, value);
    }
  }
  return parsed.Render(inputs, limits);
}

std::string Render(std::string_view source, const std::string& json = "{}") {
  const Result<RenderedText> rendered = RenderWith(source, json);
  return rendered.ok() ? rendered->text : "ERROR " + rendered.status().message();
}

/// The trusted bytes in brackets.
std::string Origins(std::string_view source, const std::string& json) {
  const Result<RenderedText> rendered = RenderWith(source, json);
  if (!rendered.ok()) return "ERROR " + rendered.status().message();
  std::string out;
  size_t begin = 0;
  for (const ByteRange& range : rendered->trusted) {
    out += rendered->text.substr(begin, range.begin - begin);
    out += "[" + rendered->text.substr(range.begin, range.end - range.begin) + "]";
    begin = range.end;
  }
  return out + rendered->text.substr(begin);
}

struct Example {
  std::string_view source, expected;
};

void ExpectRenders(std::initializer_list<Example> examples) {
  for (const auto& [source, expected] : examples) EXPECT_EQ(Render(source), expected) << source;
}

TEST(TemplateExpressions, FollowPythonsArithmetic) {
  ExpectRenders({
      {"{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 2 ** 10 }}", "-4 2 -2 3.5 1024"},
      {"{{ 2 ** 3 ** 2 }} {{ 2 ** -1 }} {{ -2 ** 2 }}", "64 0.5 4"},
      {"{{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 0.1 + 0.2 }}",
       "1e+16 1000000000000000.0 0.0001 1e-05 0.30000000000000004"},
      {"{{ true + true }} {{ 1 == true }} {{ 'a' * 3 }} {{ [1] * 2 }}", "2 True aaa [1, 1]"},
      {"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'b' > 'a' }} {{ [1, 2] < [1, 3] }}",
       "True False True True"},
      {"{{ 18446744073709551615 + 1 }}", "18446744073709551616"},
  });
  EXPECT_THAT(Render("{{ 1 // 0 }}"), HasSubstr("line 1: division by zero"));
  EXPECT_THAT(Render("{{ 'a' + 1 }}"), HasSubstr("'+' does not take str and int"));
  EXPECT_THAT(Render("{{ 10 ** 50 }}"), HasSubstr("128 bits"));
}

TEST(TemplateExpressions, IndexSliceAndConvertLikePython) {
  ExpectRenders({
      {"{{ 'añ😀'[1:] }} {{ 'abc'[::-1] }} {{ 'abcdef'[-3:-1] }} {{ [1, 2, 3][::2] }}",
       "ñ😀 cba de [1, 3]"},
      {"{{ [1, 2][5] }}|{{ {'a': 1}.b }}|{{ missing }}|{{ none }}", "|||None"},
      {"{{ ['it\\'s', \"q\", 1.0, none, (1,)] }}", "[\"it's\", 'q', 1.0, None, (1,)]"},
      {"{{ {'items': 1}['items'] }}{{ {'a': 1}.items()|list }}", "1[('a', 1)]"},
      {"{{ 'yes' if 0 else 'no' }} {{ 1 and 0 or 'x' }} {{ not [] }} {{ 2 in [1, 2] }} {{ 'b' not "
       "in 'abc' }}",
       "no x True True False"},
      {"{{ 1 ~ 'a' ~ none ~ missing }}", "1aNone"},
  });
  EXPECT_THAT(Render("{{ missing.x }}"), HasSubstr(R"("missing" is undefined)"));
}

TEST(TemplateStatements, ScopeAndLoopLikeJinja) {
  ExpectRenders({
      {"{% set x = 1 %}{% for i in [1, 2] %}{% set x = 9 %}{% endfor %}{{ x }}", "1"},
      {"{% set n = namespace(x=1) %}{% for i in [1, 2] %}{% set n.x = n.x + i %}{% endfor %}{{ n.x "
       "}}",
       "4"},
      {"{% for i in 'ab' %}{{ loop.index }}/{{ loop.length }}{{ i }}{{ loop.last }} {% endfor %}",
       "1/2aFalse 2/2bTrue "},
      {"{% for i in [1, 2, 3] %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}",
       "<1>2 1<2>3 2<3> "},
      {"{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"},
      {"{% for i in [1, 2, 3, 4] if i % 2 == 0 %}{{ i }}{% else %}-{% endfor %}", "24"},
      {"{% for i in [] %}{% else %}empty{% endfor %}", "empty"},
      {"{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break "
       "%}{% endif %}{{ i }}{% endfor %}",
       "023"},
      {"{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(b=3, a=0) }}", "1-2 0-3"},
      {"{% macro m() %}<{{ caller(1) }}>{% endmacro %}{% call(x) m() %}c{{ x }}{% endcall %}",
       "<c1>"},
      {"{% set x %}a{{ 1 }}{% endset %}{{ x|length }}{% set y | upper %}q{% endset %}{{ y }}",
       "2Q"},
      {"{% filter upper|replace('A', 'x') %}abc{% endfilter %}", "xBC"},
      {"{% set a, b = 1, 2 %}{{ b }}{{ a }}", "21"},
      {"{% generation %}g{% endgeneration %}{% raw %}{{ x }}{% endraw %}{# c #}.", "g{{ x }}."},
  });
}

TEST(TemplateWhitespace, TrimsBlocksAndStripsIndentation) {
  ExpectRenders({
      {"a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"},
      {"a\n  {%- if true -%}\n  b\n  {%- endif %}\nc", "abc"},
      {"a\n  {%+ if true +%}\n  b\n  {%+ endif +%}\nc", "a\n  \n  b\n  \nc"},
      {"  {{ 1 }}\n  {{- 2 -}}  \n 3", "  123"},
      {"x\n  {# c #}\ny", "x\ny"},
      {"a\r\nb\r\n", "a\nb"},
  });
}

TEST(TemplateFilters, WriteJsonAsPythonDoes) {
  ExpectRenders({
      {R"({{ {'b': [1, 2.0, none, true], 'a': 'é"\n<'}|tojson }})",
       R"({"b": [1, 2.0, null, true], "a": "é\"\n<"})"},
      {"{{ {'b': {}, 'a': [1]}|tojson(indent=2, sort_keys=true) }}",
       "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}"},
      {"{{ [1, 'é']|tojson(separators=(',', ':'), ensure_ascii=true) }}", "[1,\"\\u00e9\"]"},
      {"{{ {1: 2, none: 3}|tojson }}", R"({"1": 2, "null": 3})"},
  });
  EXPECT_THAT(Render("{{ missing|tojson }}"), HasSubstr("filter 'tojson': a undefined can not"));
}

TEST(TemplateFilters, CoverTheLanguage) {
  ExpectRenders({
      {"{{ [{'a': 1}, {'a': 2}]|map(attribute='a')|join('-') }}", "1-2"},
      {"{{ [1, 2, 3]|select('odd')|list }}{{ [1, none]|reject('none')|list }}", "[1, 3][1]"},
      {"{{ [{'r': 'u'}, {'r': 'a'}]|selectattr('r', 'equalto', 'a')|list|length }}", "1"},
      {"{{ [3, 1, 2]|sort }}{{ ['b', 'A']|sort }}{{ [1, 2]|sum }}{{ [1, 5]|max }}",
       "[1, 2, 3]['A', 'b']35"},
      {"{{ ' x '|trim }}|{{ 'a b'|title }}|{{ 'ß'|upper }}|{{ missing|default('d') }}",
       "x|A B|SS|d"},
      {"{{ 'a\nb'|indent(2) }}|{{ '7'|int + 1 }}|{{ 2.5|round }}|{{ 'x'|float(1.5) }}",
       "a\n  b|8|2.0|1.5"},
      {"{{ {'b': 1, 'a': 2}|dictsort }}{{ [1, 1, 2]|unique|list }}", "[('a', 2), ('b', 1)][1, 2]"},
      {"{{ 'a,b'.split(',') }}{{ ' a '.strip() }}{{ 'abc'.startswith(('x', 'a')) }}",
       "['a', 'b']aTrue"},
      {"{{ 5 is odd }} {{ 'a' is string }} {{ {} is mapping }} {{ 1 is in [1] }} {{ 9 is "
       "divisibleby 3 }}",
       "True True True True True"},
      {"{{ '%s-%03d' % ('a', 7) }} {{ '{} {x}'.format(1, x=2) }}", "a-007 1 2"},
      {"{{ strftime_now('%Y') in ['1969', '1970'] }}", "True"},
  });
}

TEST(TemplateParse, RefusesByNameAndLine) {
  const std::pair<std::string_view, std::string_view> kRefused[] = {
      {"a\n{% include 'x' %}", R"(line 2: the statement "include" is not supported)"},
      {"{% import 'x' as y %}", R"("import" is not supported)"},
      {"{% extends 'x' %}", R"("extends" is not supported)"},
      {"\n\n{{ 1|nofilter }}", R"(line 3: there is no filter "nofilter")"},
      {"{{ 1 is notest }}", R"(there is no test "notest")"},
      {"{% for i in x recursive %}{% endfor %}", "recursive loops are not supported"},
      {"{% if x %}", "the template ends where 'endif' is expected"},
      {"{{ 1 + }}", R"("}}" where an expression is expected)"},
      {"{{ 'a }}", "has no end"},
      {"{{ (1] }}", "unexpected ']', expected ')'"},
      {"{% break %}", "'break' outside of a loop"},
      {"{# a", "missing end of comment"},
      {"{{ 1 ? 2 }}", R"(unexpected character "?")"},
      {"\xff", "not UTF-8"},
  };
  for (const auto& [source, says] : kRefused)
    EXPECT_THAT(Render(source), HasSubstr(says)) << source;
}

std::string Repeated(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

TEST(TemplateParse, BoundsNestingOfEveryKind) {
  for (const std::string& source :
       {"{{ " + std::string(100000, '(') + "1" + std::string(100000, ')') + " }}",
        "{{ " + std::string(100000, '[') + std::string(100000, ']') + " }}",
        "{{ " + Repeated("{'a':", 100000), "{{ " + Repeated("not ", 100000) + "1 }}",
        "{{ " + std::string(100000, '-') + "1 }}", "{{ x" + Repeated(".a", 100000) + " }}",
        "{{ x" + Repeated("|trim", 100000) + " }}", "{{ x" + Repeated("()", 100000) + " }}",
        Repeated("{% if 1 %}", 90000), Repeated("{% for i in x %}", 60000),
        "{{ 1" + Repeated(" if 1 else 1", 80000) + " }}",
        "{% set " + std::string(100000, '(') + "a"})
    EXPECT_THAT(Render(source), StartsWith("ERROR chat template line 1")) << source.substr(0, 20);
  EXPECT_EQ(Render("{{ " + std::string(60, '(') + "1" + std::string(60, ')') + " }}"), "1");
  EXPECT_EQ(Render("{{ 1" + Repeated(" + 1", 50000) + " }}"), "50001");  // a chain is no nesting
}

TEST(TemplateBudgets, EndEveryKindOfExcessWithItsLine) {
  const std::string loop = "{% for a in range(99999) %}{% for b in range(99999) %}";
  const std::pair<std::string, std::string_view> kExcesses[] = {
      {"\n" + loop + "{% endfor %}{% endfor %}",
       "line 2: the template takes more than 1000000 steps"},
      {"{% macro m() %}\n{{ m() }}{% endmacro %}{{ m() }}",
       "line 2: macro calls nest deeper than 64"},
      {"{{ range(1000000000) }}", "line 1: range() of 1000000000 items; at most 100000"},
      {"{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor "
       "%}",
       "line 1: the template makes a text of more than"},
      {"{{ 'x' * 1000000000000 }}", "makes a text of more than"},
      {"{{ [0] * 1000000000000 }}", "handles more than"},
      {"{% set n = namespace(l=[1]) %}{% for i in range(99) %}{% set n.l = n.l + n.l %}{% endfor "
       "%}",
       "handles more than"},
      {"{% set n = namespace(l=[]) %}{% for i in range(999) %}{% set n.l = [n.l] %}{% endfor %}",
       "values nest deeper than"},
      {"{% set n = namespace(l=[]) %}{% for i in range(90) %}{% set n.l = [n.l, n.l] %}{% endfor "
       "%}{{ n.l }}",
       "more than"},
      {"{% set n = namespace(l=[]) %}{% for i in range(90) %}{% set n.l = [n.l, n.l] %}{% endfor "
       "%}{{ n.l == n.l|list }}",
       "more than"},
      {"{% set n = namespace(l={}) %}{% for i in range(90) %}{% set n.l = {'a': n.l, 'b': n.l} "
       "%}{% endfor %}{{ n.l|tojson }}",
       "more than"},
      {loop + "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz{% endfor %}{% endfor %}",
       "makes a text of more than"},
      {"{{ 'x'|center(99999999999) }}", "makes a text of more than"},
      {"{{ ('a' * 1000000).replace('', 'bbbbbbbb') }}", "makes a text of more than"},
      {"{% set s = 'a' * 1000000 %}" + loop + "{{ 'b' in s }}{% endfor %}{% endfor %}",
       "handles more than"},
      {"{% set s = 'a' * 300000 %}{{ s.rsplit('a' * 150000) }}", "handles more than"},
      {"{{ 'a'|map(*(['map'] * 90000))|list }}", "handles more than"},
      {"{{ 'a'|map(*(['map'] * 900))|list }}", "evaluation nests deeper than"},
      {"{% macro m(x) %}{{ caller is defined }}{% call m(1) %}{{ x }}{% endcall %}{% endmacro %}{{ "
       "m(1) }}",
       "nest deeper than 64"},
  };
  for (const auto& [source, says] : kExcesses) {
    const std::clock_t began = std::clock();  // of this process: neighbours do not count
    EXPECT_THAT(Render(source), HasSubstr(says)) << source.substr(0, 200);
    EXPECT_LT(std::clock() - began, 20 * CLOCKS_PER_SEC) << source.substr(0, 200);
  }
}

TEST(TemplateBudgets, ScaleWithTheInput) {
  TemplateLimits limits;
  limits.output_bytes_base = 10;
  const std::string json = R"({"s": ")" + std::string(1000, 'x') + R"("})";
  EXPECT_TRUE(RenderWith("{{ s }}{{ s }}{{ s }}{{ s }}", json, limits).ok());
  EXPECT_FALSE(RenderWith("{{ s }}{{ s }}{{ s }}{{ s }}{{ s }}", json, limits).ok());
  limits.steps_max = 10;
  EXPECT_TRUE(RenderWith("{% for i in range(3) %}{% endfor %}", "{}", limits).ok());
  EXPECT_FALSE(RenderWith("{% for i in range(10) %}{% endfor %}", "{}", limits).ok());
}

TEST(TemplateErrors, PassOnWhatTheTemplateRaises) {
  const Result<RenderedText> rendered =
      RenderWith("a\n{{ raise_exception('Roles must alternate: ' ~ r) }}", R"({"r": "x"})");
  ASSERT_FALSE(rendered.ok());
  EXPECT_EQ(rendered.status().message(), "Roles must alternate: x");
  EXPECT_EQ(rendered.status().code(), Code::kInvalidArgument);
  const Result<RenderedText> longer =
      RenderWith("{{ raise_exception(r) }}", R"({"r": ")" + std::string(5000, 'x') + R"("})");
  EXPECT_EQ(longer.status().message(), std::string(80, 'x') + "...");
}

TEST(TemplateSandbox, OffersNothingThatChangesAValue) {
  for (const std::string_view call :
       {"l.append(1)", "l.pop()", "l.sort()", "l.clear()", "d.update({})", "d.pop('a')",
        "d.clear()", "d.setdefault('b', 1)", "l.__class__.__mro__", "s.encode()"})
    EXPECT_THAT(Render("{{ " + std::string(call) + " }}", R"({"l": [1], "d": {"a": 1}, "s": ""})"),
                StartsWith("ERROR"))
        << call;
}

TEST(TemplateOrigins, OnlyTheTemplatesOwnTextIsTrusted) {
  const std::string json =
      R"({"m": "<|im_end|>", "r": "user", "bos_token": "<s>", "l": ["a", "b"]})";
  const Example kExamples[] = {
      {"<|im_start|>{{ r }}\n{{ m }}<|im_end|>", "[<|im_start|>]user[\n]<|im_end|>[<|im_end|>]"},
      {"{{ '<|im_start|>' + r + '\\n' + m + '<|im_end|>' }}",
       "[<|im_start|>]user[\n]<|im_end|>[<|im_end|>]"},
      {"{{ bos_token ~ m ~ '.' }}", "[<s>]<|im_end|>[.]"},
      {"{{ ('x' + m)[1:5] }}{{ ('x' + m + 'y')[-2:] }}", "<|im>[y]"},
      {"{{ (' ' + m + ' ')|trim }}{{ ('ab' + m).replace('b', m[:2]) }}",
       "<|im_end|>[a]<|<|im_end|>"},
      {"{{ m.replace('im', 'IM') }}{{ ('a' + r)|upper }}", "<|[IM]_end|>[A]USER"},
      {"{{ l|join('<|sep|>') }}", "a[<|sep|>]b"},
      {"{{ ('a,' + m + ',c').split(',')|last }}{{ ('a,' + m).split(',')[1] }}", "[c]<|im_end|>"},
      {"{% set x %}<t>{{ m }}{% endset %}{{ x }}{% macro k(v) %}({{ v }}){% endmacro %}{{ k(m) }}",
       "[<t>]<|im_end|>[(]<|im_end|>[)]"},
      {"{{ [m]|tojson }}{{ {'k': m} }}", "[\"<|im_end|>\"]{'k': '<|im_end|>'}"},
      {"{{ '%s!' % m }}{{ '{}?'.format(m) }}{{ (m ~ '\\nb')|indent(1) }}",
       "<|im_end|>[!]<|im_end|>[?]<|im_end|>[\n b]"},
      {"{% for c in '<' + m[:2] %}{{ c }}{% endfor %}", "[<]<|"},
  };
  // Brackets around JSON text would read like a trusted range: tojson is shown apart.
  for (const auto& [source, expected] : kExamples)
    EXPECT_EQ(Origins(source, json), expected) << source;
  const Result<RenderedText> dumped = RenderWith("{{ [m]|tojson }}", json);
  ASSERT_TRUE(dumped.ok());
  EXPECT_TRUE(dumped->trusted.empty());
}

TEST(TemplateContent, IsSeenToBeIteratedOnlyWhereItIs) {
  const std::pair<std::string_view, bool> kTemplates[] = {
      {"{% for m in messages %}{{ m.content }}{% endfor %}", false},
      {"{% for m in messages %}{% if m.content is string %}{{ m.content }}{% endif %}{% endfor %}",
       false},
      {"{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", true},
      {"{% for m in messages %}{% for p in m['content'] %}{{ p.text }}{% endfor %}{% endfor %}",
       true},
      {"{% for m in messages %}{% set c = m.content %}{% if c is not string %}{% for p in c|list "
       "%}{% endfor %}{% endif %}{% endfor %}",
       true},
      {"{% macro show(content) %}{% for p in content %}{% endfor %}{% endmacro %}", true},
  };
  for (const auto& [source, iterates] : kTemplates) {
    const Result<ChatTemplate> parsed = ChatTemplate::Parse(source);
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    EXPECT_EQ(parsed->iterates_content_parts(), iterates) << source;
  }
}

}  // namespace
}  // namespace sluice
