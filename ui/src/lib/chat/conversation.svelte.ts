import { Action } from '$lib/backend/action.svelte';
import { asCommandError, type Backend } from '$lib/backend/backend';
import type { ChatSettings, Conversation as Kept, Message } from '$lib/backend/contract';
import type { Policy, PromptMessage } from '$lib/backend/contract';
import { newId } from '$lib/ui/id';
import { Answer } from './answer.svelte';

export interface Question {
  id: string;
  role: 'user';
  content: string;
}

export type Entry = Question | Answer;

const titleLength = 48;

/** An app that is killed loses at most this much of an answer, in milliseconds. */
const savePeriod = 5000;

/** A title from the first words of a conversation, cut between two of them. */
export function titleFrom(text: string): string {
  const line = text.trim().split('\n')[0] ?? '';
  if (line.length <= titleLength) return line;
  const cut = line.slice(0, titleLength);
  return `${cut.slice(0, Math.max(cut.lastIndexOf(' '), titleLength / 2)).trimEnd()}…`;
}

/** One conversation: what was said, how to answer, and the answer being written. */
export class Conversation {
  readonly id: string;
  readonly createdAt: number;
  title = $state('');
  entries = $state.raw<Entry[]>([]);
  settings = $state.raw<ChatSettings>() as ChatSettings;
  policy = $state.raw<Policy>() as Policy;
  readonly save: Action;
  readonly setPolicy: Action<[Policy]>;
  readonly stop: Action;
  readonly answering = $derived.by(() => {
    const last = this.entries.at(-1);
    return last instanceof Answer && last.phase !== 'done' ? last : null;
  });
  readonly #backend: Backend;
  #abandoned = false;
  #stopped = false;
  #written: Promise<void> = Promise.resolve();
  #waiting: Promise<void> | null = null;

  constructor(backend: Backend, kept: Kept) {
    this.#backend = backend;
    this.id = kept.id;
    this.createdAt = kept.createdAt;
    this.title = kept.title;
    this.settings = kept.settings;
    this.policy = kept.policy;
    this.entries = kept.messages.flatMap(entryFrom);
    this.save = new Action(() => this.#write());
    this.stop = new Action(() => {
      this.#stopped = true;
      return backend.call('chat_stop', { id: this.id });
    });
    this.setPolicy = new Action(async (policy: Policy) => {
      this.policy = policy;
      if (this.answering) await backend.call('chat_set_policy', { id: this.id, policy });
      else if (this.entries.length > 0) await this.save.run();
    });
  }

  async ask(text: string): Promise<void> {
    if (this.answering || text.trim() === '') return;
    if (this.title === '') this.title = titleFrom(text);
    this.entries = [...this.entries, { id: newId(), role: 'user', content: text }];
    await this.#answer();
  }

  /** Says something else at an earlier place; what followed it is dropped. */
  async resend(id: string, text: string): Promise<void> {
    const at = this.entries.findIndex((entry) => entry.id === id);
    if (this.answering || at < 0) return;
    this.entries = this.entries.slice(0, at);
    await this.ask(text);
  }

  async regenerate(): Promise<void> {
    if (this.answering || this.entries.length === 0) return;
    if (this.entries.at(-1) instanceof Answer) this.entries = this.entries.slice(0, -1);
    await this.#answer();
  }

  /**
   * Has `remove` delete the conversation, which neither a save under way nor an answer that ends later may bring back;
   * where it cannot be deleted, it goes on.
   */
  async abandon(remove: () => Promise<unknown>): Promise<void> {
    this.#abandoned = true;
    if (this.answering) await this.stop.run();
    await this.#written;
    try {
      await remove();
    } catch (reason) {
      this.#abandoned = false;
      void this.save.run();
      throw reason;
    }
  }

  setSettings(part: Partial<ChatSettings>): void {
    this.settings = { ...this.settings, ...part };
    if (this.entries.length > 0) void this.save.run();
  }

  toKept(): Kept {
    const { id, title, createdAt, settings, policy } = this;
    const messages = this.entries.map(toMessage);
    return { id, title, createdAt, updatedAt: Date.now(), messages, settings, policy };
  }

  async #answer(): Promise<void> {
    const messages = this.#prompt();
    const answer = new Answer(newId());
    this.entries = [...this.entries, answer];
    this.#stopped = false;
    await this.save.run();
    const saving = setInterval(() => {
      // A disk that is full is said once, not again and again.
      if (answer.phase === 'streaming' && !this.save.error) void this.save.run();
    }, savePeriod);
    try {
      if (this.#stopped) answer.cancel();
      else await this.#send(messages, answer);
    } catch (reason) {
      answer.fail(asCommandError(reason));
    }
    clearInterval(saving);
    await this.save.run();
  }

  /** Resolves when the answer has ended. */
  #send(messages: PromptMessage[], answer: Answer): Promise<void> {
    const { id: conversationId, settings, policy } = this;
    return new Promise((resolve, reject) => {
      this.#backend
        .stream('chat_send', { conversationId, messages, settings, policy }, (event) => {
          answer.receive(event);
          if (answer.phase === 'done') resolve();
        })
        // Before now there was nothing the engine could have stopped.
        .then(() => (this.#stopped ? this.stop.run() : undefined))
        .catch(reject);
    });
  }

  /** One write at a time, so that an older state is never the last; one more waits, and takes what is newest. */
  #write(): Promise<void> {
    if (this.#waiting) return this.#waiting;
    const write = this.#written.then(async () => {
      this.#waiting = null;
      if (this.#abandoned) return;
      await this.#backend.call('conversation_save', { conversation: this.toKept() });
      // What an earlier write failed to keep is kept now.
      this.save.dismiss();
    });
    this.#waiting = write;
    this.#written = write.catch(() => undefined);
    return write;
  }

  #prompt(): PromptMessage[] {
    const system = this.settings.system.trim();
    const said = this.entries
      .map(({ role, content }) => ({ role, content }))
      .filter(({ content }) => content !== '');
    return system === '' ? said : [{ role: 'system', content: system }, ...said];
  }
}

function entryFrom(message: Message): Entry[] {
  if (message.role === 'assistant') return [Answer.restore(message)];
  if (message.role === 'user') {
    return [{ id: message.id, role: 'user', content: message.content }];
  }
  return [];
}

function toMessage(entry: Entry): Message {
  if (entry instanceof Answer) return entry.toMessage();
  return { ...entry, tokens: null, stats: null, reason: null, error: null };
}
