// Exports spans in batches of ten until its input ends, and prints what became of each: `accepted ID` or `failed ID`.
// Usage: node export.js proto|http|grpc URL

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [kind, url] = process.argv.slice(2);
const load = createRequire(pathToFileURL(`${process.cwd()}/package.json`));
const { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } = load("@opentelemetry/sdk-trace-base");
const { OTLPTraceExporter } = load(`@opentelemetry/exporter-trace-otlp-${kind}`);

const CALL = {
  "gen_ai.operation.name": "chat",
  "gen_ai.provider.name": "openai",
  "gen_ai.request.model": "gpt-4o-mini",
  "gen_ai.usage.input_tokens": 1000,
  "gen_ai.usage.output_tokens": 100,
};

const memory = new InMemorySpanExporter();
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(memory)] });
const tracer = provider.getTracer("test.emitter");

async function madeSpans(count) {
  for (let number = 0; number < count; number++) {
    tracer.startSpan("chat gpt-4o-mini", { kind: 2, attributes: CALL }).end();
  }
  await provider.forceFlush();
  const spans = memory.getFinishedSpans().slice();
  memory.reset();
  return spans;
}

const exporter = new OTLPTraceExporter({ url });
let ended = false;
process.stdin.on("end", () => { ended = true; }).resume();
while (!ended) {
  const spans = await madeSpans(10);
  const result = await new Promise((resolve) => exporter.export(spans, resolve));
  const outcome = result.code === 0 ? "accepted" : "failed";
  for (const span of spans) console.log(`${outcome} ${span.spanContext().spanId}`);
  await new Promise((resolve) => setTimeout(resolve, 100));
}
await exporter.shutdown();
