#!/usr/bin/env bash
# @huggingface/tokenizers (JavaScript): the truncation and the padding that a tokenizer.json asks for are ignored.
#
# The file tokenizer.json holds a tokenizer whole, its truncation and padding among the rest, and tokenizers in Python and
# Rust apply both. The JavaScript package of the same authors reads the same file. One would expect the same ids, or an
# error where a section of the file is not supported. @huggingface/tokenizers 0.2.0 returns every token and no padding,
# and says nothing; a model with 512 positions then gets more of them than it has.
#
# Seen, for a file that truncates to 4 tokens and pads to 6:
#   Python      8 words: 4 ids and 2 of padding      JavaScript  8 words: 8 ids
#
# The script writes such a file with tokenizers 0.23.3 and encodes eight words by both. It fails where JavaScript
# truncates, pads, or raises an error. It needs node and npm.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install -q tokenizers==0.23.3
npm init -y >/dev/null
npm install --silent --no-package-lock @huggingface/tokenizers@0.2.0

venv/bin/python - <<'PY'
from tokenizers import Tokenizer, models, pre_tokenizers

tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "word": 2}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.enable_truncation(4)
tokenizer.enable_padding(length=6, pad_id=1, pad_token="[PAD]")
tokenizer.save("tokenizer.json")
ids = Tokenizer.from_file("tokenizer.json").encode("word " * 8).ids
print("Python    ", ids)
assert ids == [2, 2, 2, 2, 1, 1], ids
PY

cat > run.mjs <<'JS'
import fs from "fs";
import { Tokenizer } from "@huggingface/tokenizers";
const tokenizer = new Tokenizer(JSON.parse(fs.readFileSync("tokenizer.json")), {});
const ids = Array.from(tokenizer.encode("word ".repeat(8)).ids, Number);
console.log("JavaScript", ids.join(" "));
if (ids.join() !== "2,2,2,2,2,2,2,2") {
  console.log("changed: truncation or padding is applied");
  process.exit(1);
}
JS
node run.mjs
echo "as stated: JavaScript ignores the truncation and the padding of tokenizer.json"
