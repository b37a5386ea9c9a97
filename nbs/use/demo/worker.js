// The model in the reader's browser, in a thread of its own: downloads it, cuts texts into tokens, computes probabilities.
//
// Takes {load: files.json's content} and {text}; answers {received}, {ready} and {text, probabilities, tokens}, or {error}.

import * as ort from "./onnxruntime.js";
import { Tokenizer } from "./tokenizers.js";

ort.env.wasm.numThreads = 1; // several would need headers that a static server does not send

// Where the library differs from Python's tokenizers, which the model was trained with: it does not set apart Chinese
// characters beyond U+FFFF, and lower-cases a sigma at the end of a word to its final form.
const RARE_CHINESE = /[\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;
const likePython = (text) => text.replaceAll("Σ", "σ").replace(RARE_CHINESE, " $& ");

let tokenizer, session, maxLength;
let received = 0;

function count(bytes) {
  received += bytes;
  postMessage({ received });
}

/** The content of a gzipped file, as an ArrayBuffer. */
async function download(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} cannot be downloaded (HTTP status ${response.status})`);
  const counter = new TransformStream({
    transform(chunk, controller) {
      count(chunk.byteLength);
      controller.enqueue(chunk);
    },
  });
  const stream = response.body.pipeThrough(counter).pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function load({ files, max_length }) {
  count(files["onnxruntime.js"] + files["tokenizers.js"]); // they are here already
  const [vocabulary, runtime, model] = await Promise.all(
    ["tokenizer.json.gz.bin", "onnxruntime.wasm.gz.bin", "model.onnx.gz.bin"].map(download),
  );
  tokenizer = new Tokenizer(JSON.parse(new TextDecoder().decode(vocabulary)), {});
  maxLength = max_length;
  ort.env.wasm.wasmBinary = runtime;
  session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  postMessage({ ready: true });
}

/** Token ids from [CLS] to [SEP]; a text that is too long loses its end. */
function encode(text) {
  const { ids } = tokenizer.encode(likePython(text));
  return ids.length > maxLength ? [...ids.slice(0, maxLength - 1), ids.at(-1)] : ids;
}

async function predict({ text }) {
  const ids = encode(text);
  const row = (numbers) => new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, ids.length]);
  const { probabilities } = await session.run({ input_ids: row(ids), attention_mask: row(ids.map(() => 1)) });
  postMessage({ text, probabilities: [...probabilities.data], tokens: ids });
}

onmessage = async ({ data }) => {
  try {
    await (data.load ? load(data.load) : predict(data));
  } catch (error) {
    postMessage({ error: String(error.message ?? error) });
  }
};
