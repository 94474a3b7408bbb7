"""Conversations as chat templates meet them, and what the templates of Ling 2.0 and Qwen3 make of them,
written by hand from the descriptions of their formats: so the templates here are checked, too."""

WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "Tells the weather <here> & \"there\".",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "tage": {
        "type": "integer", "minimum": 1}}, "required": ["city"]}}}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {}}}
WEATHER_JSON = ('{"type": "function", "function": {"name": "weather", "description": "Tells the weather <here> & '
                '\\"there\\".", "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "tage": '
                '{"type": "integer", "minimum": 1}}, "required": ["city"]}}}')
CLOCK_JSON = '{"type": "function", "function": {"name": "clock", "parameters": {}}}'
TOOLS_TEXT = ("# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
              "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
              f"{WEATHER_JSON}\n{CLOCK_JSON}\n</tools>\n\nFor each function call, return a json object with function "
              "name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
              '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>')


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments):
    return {"id": "call_" + name, "type": "function", "function": {"name": name, "arguments": arguments}}


HI = [said("user", "Hi")]
TURNS = [said("system", "Be brief."), said("user", "1+1?"),
         said("assistant", "<think>\nEasy.\n</think>\n\n2"), said("user", "And 2+2?")]
THOUGHT = TURNS + [said("assistant", "\n4", reasoning_content="\nTwo\n\nand two.\n")]
CALLED = [said("user", "Wetter in Zürich?"),
          said("assistant", "Let me look.", reasoning_content="I need tools.", tool_calls=[
              call("weather", {"city": "Zürich", "tage": 2}), call("clock", "{\"zone\": null}")]),
          said("tool", "{\"sky\": \"grey\"}"), said("tool", "12:00")]
EMPTY_CALL = [said("user", "Time?"), said("assistant", "", tool_calls=[call("clock", {})]),
              said("tool", "12:00"), said("assistant", "Noon."), said("user", "Thanks")]
WRAPPED = [said("user", "Time?"), said("assistant", "<think>\nlook\n</think>\n\nOne moment."),
           said("user", "<tool_response>\n12:00\n</tool_response>"), said("assistant", "Noon.")]

# name: (inputs beside add_generation_prompt = True, {template: text})
CONVERSATIONS = {
    "one user turn": ({"messages": HI}, {
        "ling": "<role>SYSTEM</role>detailed thinking off<|role_end|><role>HUMAN</role>Hi<|role_end|>"
                "<role>ASSISTANT</role>",
        "ling_base": "<role>HUMAN</role>Hi<role>ASSISTANT</role>",
        "qwen3_chat": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"}),
    "thinking on": ({"messages": HI, "enable_thinking": True, "thinking": True}, {
        "ling": "<role>SYSTEM</role>detailed thinking on<|role_end|><role>HUMAN</role>Hi<|role_end|>"
                "<role>ASSISTANT</role>",
        "qwen3_chat": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"}),
    "thinking off": ({"messages": HI, "enable_thinking": False, "thinking": False}, {
        "ling": "<role>SYSTEM</role>detailed thinking off<|role_end|><role>HUMAN</role>Hi<|role_end|>"
                "<role>ASSISTANT</role>",
        "qwen3_chat": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"}),
    "several turns, old reasoning left out": ({"messages": TURNS}, {
        "ling": "<role>SYSTEM</role>Be brief.\ndetailed thinking off<|role_end|><role>HUMAN</role>1+1?<|role_end|>"
                "<role>ASSISTANT</role>2<|role_end|><role>HUMAN</role>And 2+2?<|role_end|><role>ASSISTANT</role>",
        "qwen3_chat": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n"
                      "<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\nAnd 2+2?<|im_end|>\n"
                      "<|im_start|>assistant\n"}),
    "reasoning of the answer kept": ({"messages": THOUGHT, "add_generation_prompt": False}, {
        "ling": "<role>SYSTEM</role>Be brief.\ndetailed thinking off<|role_end|><role>HUMAN</role>1+1?<|role_end|>"
                "<role>ASSISTANT</role>2<|role_end|><role>HUMAN</role>And 2+2?<|role_end|>"
                "<role>ASSISTANT</role>\n<think>\nTwo\n\nand two.\n</think>\n\n4<|role_end|>",
        "qwen3_chat": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n"
                      "<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\nAnd 2+2?<|im_end|>\n"
                      "<|im_start|>assistant\n<think>\nTwo\n\nand two.\n</think>\n\n4<|im_end|>\n"}),
    "tools": ({"messages": [said("system", "Be kind.")] + HI, "tools": [WEATHER, CLOCK]}, {
        "ling": f"<role>SYSTEM</role>Be kind.\n{TOOLS_TEXT}\ndetailed thinking off<|role_end|>"
                "<role>HUMAN</role>Hi<|role_end|><role>ASSISTANT</role>",
        "qwen3_chat": f"<|im_start|>system\nBe kind.\n\n{TOOLS_TEXT}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                      "<|im_start|>assistant\n"}),
    "tools, thinking off": ({"messages": HI, "tools": [WEATHER, CLOCK], "enable_thinking": False}, {
        "qwen3_chat": f"<|im_start|>system\n{TOOLS_TEXT}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                      "<|im_start|>assistant\n<think>\n\n</think>\n\n"}),
    "two calls and their results": ({"messages": CALLED, "tools": [WEATHER, CLOCK]}, {
        "ling": f"<role>SYSTEM</role>{TOOLS_TEXT}\ndetailed thinking off<|role_end|>"
                "<role>HUMAN</role>Wetter in Zürich?<|role_end|><role>ASSISTANT</role>\n<think>\nI need tools.\n"
                "</think>\n\nLet me look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Zürich\", "
                "\"tage\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"clock\", \"arguments\": {\"zone\": null}}\n"
                "</tool_call><|role_end|><role>OBSERVATION</role>\n<tool_response>\n{\"sky\": \"grey\"}\n"
                "</tool_response>\n<tool_response>\n12:00\n</tool_response><|role_end|><role>ASSISTANT</role>",
        "qwen3_chat": f"<|im_start|>system\n{TOOLS_TEXT}<|im_end|>\n<|im_start|>user\nWetter in Zürich?<|im_end|>\n"
                      "<|im_start|>assistant\n<think>\nI need tools.\n</think>\n\nLet me look.\n<tool_call>\n"
                      "{\"name\": \"weather\", \"arguments\": {\"city\": \"Zürich\", \"tage\": 2}}\n</tool_call>\n"
                      "<tool_call>\n{\"name\": \"clock\", \"arguments\": {\"zone\": null}}\n</tool_call><|im_end|>\n"
                      "<|im_start|>user\n<tool_response>\n{\"sky\": \"grey\"}\n</tool_response>\n<tool_response>\n"
                      "12:00\n</tool_response><|im_end|>\n<|im_start|>assistant\n"}),
    "a call without words, then another turn": ({"messages": EMPTY_CALL}, {
        "ling": "<role>SYSTEM</role>detailed thinking off<|role_end|><role>HUMAN</role>Time?<|role_end|>"
                "<role>ASSISTANT</role><tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call><|role_end|>"
                "<role>OBSERVATION</role>\n<tool_response>\n12:00\n</tool_response><|role_end|>"
                "<role>ASSISTANT</role>Noon.<|role_end|><role>HUMAN</role>Thanks<|role_end|><role>ASSISTANT</role>",
        "qwen3_chat": "<|im_start|>user\nTime?<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{\"name\": \"clock\", "
                      "\"arguments\": {}}\n</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n12:00\n"
                      "</tool_response><|im_end|>\n<|im_start|>assistant\nNoon.<|im_end|>\n"
                      "<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n"}),
    "a result that the client wrapped is no question": ({"messages": WRAPPED, "add_generation_prompt": False}, {
        "ling": "<role>SYSTEM</role>detailed thinking off<|role_end|><role>HUMAN</role>Time?<|role_end|>"
                "<role>ASSISTANT</role>\n<think>\nlook\n</think>\n\nOne moment.<|role_end|>"
                "<role>HUMAN</role><tool_response>\n12:00\n</tool_response><|role_end|>"
                "<role>ASSISTANT</role>Noon.<|role_end|>",
        "qwen3_chat": "<|im_start|>user\nTime?<|im_end|>\n<|im_start|>assistant\n<think>\nlook\n</think>\n\n"
                      "One moment.<|im_end|>\n<|im_start|>user\n<tool_response>\n12:00\n</tool_response><|im_end|>\n"
                      "<|im_start|>assistant\n<think>\n\n</think>\n\nNoon.<|im_end|>\n"}),
    "a system message later": ({"messages": HI + [said("system", "Be loud.")]}, {
        "ling": "<role>SYSTEM</role>detailed thinking off<|role_end|><role>HUMAN</role>Hi<|role_end|>"
                "<role>SYSTEM</role>Be loud.<|role_end|><role>ASSISTANT</role>",
        "ling_base": "<role>HUMAN</role>Hi<role>SYSTEM</role>Be loud.<role>ASSISTANT</role>",
        "qwen3_chat": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>system\nBe loud.<|im_end|>\n"
                      "<|im_start|>assistant\n"}),
}
