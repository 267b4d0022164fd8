// Reads {"tokenizer": ..., "texts": [...]} and writes the token ids of each.
import { readFileSync } from "node:fs";

import { Tokenizer } from "../dist-test/internals.js";

const { tokenizer, texts } = JSON.parse(readFileSync(0, "utf8"));
const made = new Tokenizer(tokenizer);
const ids = texts.map((text) => made.assemble(made.encode(text)).ids);
process.stdout.write(JSON.stringify(ids));
