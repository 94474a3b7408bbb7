#!/usr/bin/env bash
# No object file built for a faster instruction set may define a function that the linker could
# merge into the rest of the program: it would crash machines without that instruction set.
# usage: isa_symbols.sh BUILD_DIR
set -euo pipefail
checked=0 bad=0
while IFS= read -r object; do
  checked=$((checked + 1))
  weak=$(nm -C "$object" | grep -E ' [WVu] ' | grep -v 'DW.ref.__gxx_personality_v0' || true)
  if [[ -n $weak ]]; then
    echo "$object defines mergeable symbols:"
    echo "$weak"
    bad=$((bad + 1))
  fi
done < <(find "$1/src" \( -name '*avx512*.cpp.o' -o -name '*amx*.cpp.o' \) ! -name '*test*' ! -name '*emulated*')
[[ $checked -gt 0 ]] || { echo "no such object file below $1"; exit 1; }
echo "$((checked - bad)) passed, $bad failed"
exit $((bad > 0))
