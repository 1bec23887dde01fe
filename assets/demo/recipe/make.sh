#!/bin/sh
# Makes the demonstration's base model: sh make.sh PRECEPTOR OUT
set -eu
preceptor=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
python3 "$here/lessons.py" "$out"
"$preceptor" init --config "$here/config.json" --text "$out/words.txt" --seed 1 --out "$out/start"
"$preceptor" train "$here/base.toml" --set model.path="$out/start" --set data.train="$out/lessons.jsonl" \
    --set output.dir="$out/run"
sha256sum "$out/run/model/"*
