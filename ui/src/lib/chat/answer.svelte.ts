import type { ChatEvent, CommandError, Message, Stats } from '$lib/backend/contract';
import type { TokenRecord } from '$lib/backend/contract';
import { strings } from '$lib/strings';
import { type Block, MarkdownStream } from './markdown';

export type AnswerPhase = 'waiting' | 'streaming' | 'done';

/** A frame is 16 ms; drawing may take a quarter of the time between two drawings. */
const restPerWork = 3;

/** One answer, as it is written and as it was kept. */
export class Answer {
  readonly id: string;
  readonly role = 'assistant' as const;
  phase = $state<AnswerPhase>('waiting');
  blocks = $state.raw<Block[]>([]);
  started = $state.raw<{ promptTokens: number; cachedTokens: number } | null>(null);
  stats = $state.raw<Stats | null>(null);
  reason = $state<Message['reason']>(null);
  error = $state.raw<CommandError | null>(null);
  fallbacks = $state(0);
  /** Twenty thousand of them are not worth a proxy each: `blocks` tells when they changed. */
  readonly tokens: TokenRecord[] = [];
  #stream = new MarkdownStream();
  #due = false;
  #restUntil = 0;

  constructor(id: string) {
    this.id = id;
  }

  static restore(message: Message): Answer {
    const answer = new Answer(message.id);
    answer.#stream.append(message.content);
    answer.tokens.push(...(message.tokens ?? []));
    answer.stats = message.stats;
    answer.error = message.error;
    // It was still being written when it was last saved.
    if (message.reason === null) {
      answer.fail({ code: 'interrupted', message: strings.chat.interrupted });
    } else {
      answer.#end(message.reason);
    }
    return answer;
  }

  get content(): string {
    return this.#stream.text;
  }

  receive(event: ChatEvent): void {
    if (this.phase === 'done') return;
    switch (event.type) {
      case 'started':
        this.started = event;
        break;
      case 'token':
        this.#add(event);
        break;
      case 'finished':
        this.stats = event.stats;
        this.#end(event.reason);
        break;
      case 'failed':
        this.fail(event);
        break;
    }
  }

  fail({ code, message }: CommandError): void {
    this.error = { code, message };
    this.#end('failed');
  }

  cancel(): void {
    this.#end('cancelled');
  }

  toMessage(): Message {
    const { id, role, content, stats, reason, error } = this;
    return { id, role, content, tokens: [...this.tokens], stats, reason, error };
  }

  #add({ text, decision, confidence, ms }: TokenRecord): void {
    const clean = text.replaceAll('\r', '');
    this.tokens.push({ text: clean, decision, confidence, ms });
    this.#stream.append(clean);
    if (decision === 'fallback') this.fallbacks += 1;
    this.phase = 'streaming';
    this.#schedule();
  }

  #end(reason: Message['reason']): void {
    this.blocks = this.#stream.render(true);
    this.reason = reason;
    this.phase = 'done';
  }

  #schedule(): void {
    if (this.#due) return;
    this.#due = true;
    const wait = Math.max(0, this.#restUntil - performance.now());
    setTimeout(() => requestFrame(() => this.#draw()), wait);
  }

  #draw(): void {
    this.#due = false;
    if (this.phase === 'done') return;
    const began = performance.now();
    this.blocks = this.#stream.render();
    const now = performance.now();
    this.#restUntil = now + restPerWork * (now - began);
  }
}

/** Hidden windows get no frames, and a hidden chat still has to grow. */
function requestFrame(draw: () => void): void {
  if (document.hidden) setTimeout(draw, 100);
  else requestAnimationFrame(draw);
}
