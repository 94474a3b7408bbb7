#!/usr/bin/env bash
# Installs what building and testing need: Debian packages (as root), and a Python environment in
# .venv for the client tests. Does nothing where everything is there already.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  g++ cmake ninja-build make git pkg-config curl ca-certificates python3 python3-venv
  libboost1.81-dev libboost-json1.81-dev libcli11-dev libspdlog-dev libfmt-dev
  prometheus-cpp-dev libutf8proc-dev libre2-dev libgtest-dev libgmock-dev libbenchmark-dev
  clang libclang-rt-14-dev clang-format clang-tidy
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
  if [[ $(id -u) != 0 ]]; then
    echo "Packages are missing. Run this once, then try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install -y ${missing[*]}" >&2
    exit 1
  fi
  echo "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q > /dev/null
  apt-get install -y -q --no-install-recommends "${missing[@]}" > /dev/null
fi

# The environment is made anew whenever the list of Python packages changes.
stamp=.venv/requirements.sha256
wanted=$(sha256sum < tests/requirements.txt)
if [[ ! -f $stamp || $(cat "$stamp") != "$wanted" ]]; then
  echo "making .venv from tests/requirements.txt"
  rm -rf .venv
  /usr/bin/python3 -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
  echo "$wanted" > "$stamp"
fi
