import type { ChatEvent, Policy, Stats, Streams, TokenRecord } from '../contract';
import { randomFrom } from './random';
import type { Scenario } from './scenario';
import { pieces, texts } from './texts';

function textFor(scenario: Scenario, prompt: string): string {
  if (scenario === 'long') return texts.long();
  return /expert|moe|mobile|half/i.test(prompt) ? texts.experts : texts.short;
}

/** A token as the policy would have made it. */
export function decide(text: string, policy: Policy, random: () => number): TokenRecord {
  const confidence = Math.min(0.999, 0.2 + 0.85 * Math.sqrt(random()));
  const little = 5.6 + random();
  if (policy.kind === 'full') return { text, decision: 'big', confidence: null, ms: little * 1.4 };
  const judged = policy.kind === 'mobile' || policy.kind === 'auto';
  const unsure = judged && policy.fallback && confidence < policy.gamma;
  return {
    text,
    decision: unsure ? 'fallback' : 'little',
    confidence,
    ms: little * (unsure ? 2.3 : 1),
  };
}

export function statsOf(tokens: TokenRecord[], policy: Policy, model: string): Stats {
  const fallbacks = tokens.filter(({ decision }) => decision === 'fallback').length;
  const big = tokens.filter(({ decision }) => decision === 'big').length;
  const seconds = tokens.reduce((sum, { ms }) => sum + ms, 0) / 1000;
  const half = 4 * 16;
  return {
    elapsedSeconds: seconds + 0.21,
    tokensGenerated: tokens.length,
    tokensPerSecond: tokens.length / Math.max(seconds, 1e-6),
    promptTokens: 128,
    prefillSeconds: 0.21,
    importantTokens: fallbacks,
    unimportantTokens: tokens.length - fallbacks,
    fallbacks,
    expertsComputed: tokens.length * half + fallbacks * 2 * half + big * half,
    expertsFull: tokens.length * 2 * half,
    cacheHits: 0,
    peakMemoryBytes: 4.6e9,
    device: 'gpu',
    model,
    policy: policy.kind,
    chosen: policy.kind === 'auto' ? 'mobile' : null,
    why: policy.kind === 'auto' ? '1.24× the speed of all experts in the last 200 tokens.' : null,
  };
}

/** One running answer of the fake engine. */
export class MockAnswer {
  policy: Policy;
  readonly #queue: string[];
  readonly #tokens: TokenRecord[] = [];
  readonly #random: () => number;
  readonly #emit: (event: ChatEvent) => void;
  readonly #model: string;
  readonly #failAt: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    request: Streams['chat_send']['args'],
    scenario: Scenario,
    model: string,
    emit: (event: ChatEvent) => void,
  ) {
    const prompt = request.messages.at(-1)?.content ?? '';
    this.policy = request.policy;
    this.#queue = pieces(textFor(scenario, prompt));
    this.#failAt = scenario === 'error' ? 40 : Infinity;
    this.#random = randomFrom(request.messages.length * 31 + prompt.length);
    this.#emit = emit;
    this.#model = model;
  }

  start(tick: number, first = 250): void {
    this.#timer = setTimeout(() => {
      this.#emit({ type: 'started', promptTokens: 128, cachedTokens: 96 });
      this.#step(tick);
    }, first);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#finish('cancelled');
  }

  #step(tick: number): void {
    // Timers do not fire more often than every few milliseconds; a fast run sends several at once.
    const batch = tick >= 4 ? 1 : Math.ceil(16 / Math.max(tick, 0.05));
    for (let i = 0; i < batch; i += 1) if (!this.#token()) return;
    this.#timer = setTimeout(() => this.#step(tick), tick);
  }

  #token(): boolean {
    const text = this.#queue.shift();
    if (text === undefined) {
      this.#finish('stop');
      return false;
    }
    if (this.#tokens.length >= this.#failAt) {
      const message = 'The GPU ran out of memory while reading layer 11.';
      this.#emit({ type: 'failed', code: 'out_of_memory', message });
      return false;
    }
    const token = decide(text, this.policy, this.#random);
    this.#tokens.push(token);
    this.#emit({ type: 'token', id: this.#tokens.length, ...token });
    return true;
  }

  #finish(reason: 'stop' | 'cancelled'): void {
    this.#emit({
      type: 'finished',
      reason,
      stats: statsOf(this.#tokens, this.policy, this.#model),
    });
  }
}
