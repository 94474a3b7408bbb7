#!/usr/bin/env bash
# Serves the bundled model and says what to try.
set -euo pipefail
cd "$(dirname "$0")/.."
port=${PORT:-30000}
cat <<EOF
Serving models/sluice-tiny on http://127.0.0.1:$port (Ctrl-C stops it). Try:

  curl -N http://127.0.0.1:$port/v1/chat/completions -H 'Content-Type: application/json' -d \\
    '{"messages": [{"role": "user", "content": "What is sluice?"}], "stream": true}'

  from openai import OpenAI
  client = OpenAI(base_url="http://127.0.0.1:$port/v1", api_key="none")
  print(client.chat.completions.create(model="sluice-tiny",
        messages=[{"role": "user", "content": "What is sluice?"}]).choices[0].message.content)

EOF
exec "$1" serve --model-path models/sluice-tiny --served-model-name sluice-tiny --port "$port"
