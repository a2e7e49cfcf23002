import type { Conversation, ConversationSummary, Message } from '../contract';
import { decide, statsOf } from './chat';
import { olmoe } from './models';
import { randomFrom } from './random';
import type { Scenario } from './scenario';
import { initialSettings } from './settings';
import { pieces, texts } from './texts';

const hour = 3_600_000;

function question(id: string, content: string): Message {
  return { id, role: 'user', content, tokens: null, stats: null, reason: null, error: null };
}

function answer(id: string, content: string, seed: number): Message {
  const { policy } = initialSettings;
  const random = randomFrom(seed);
  const tokens = pieces(content).map((text) => decide(text, policy, random));
  const stats = statsOf(tokens, policy, olmoe);
  return { id, role: 'assistant', content, tokens, stats, reason: 'stop', error: null };
}

export function conversationsFor(scenario: Scenario): Map<string, Conversation> {
  if (scenario === 'empty' || scenario === 'nomodel') return new Map();
  const now = Date.now();
  const { chat: settings, policy } = initialSettings;
  const make = (id: string, title: string, age: number, messages: Message[]): Conversation => {
    const time = now - age;
    return { id, title, createdAt: time, updatedAt: time, messages, settings, policy };
  };
  const all = [
    make('moe', 'Why half of the experts is enough', 0.2 * hour, [
      question('q1', 'Why can half of the experts be enough?'),
      answer('a1', texts.experts, 3),
    ]),
    make('paris', 'What is the capital of France?', 30 * hour, [
      question('q2', 'What is the capital of France?'),
      answer('a2', texts.short, 5),
    ]),
    make('letter', 'A letter to the landlord about the heating', 80 * hour, []),
    make('trip', 'Packing for a week in the mountains', 400 * hour, []),
  ];
  if (scenario === 'crowded') {
    all.push(
      make('awkward', 'سؤال عن الخبراء', 0.1 * hour, [
        question('q3', `ما هو خليط الخبراء؟ ${'a'.repeat(200)}`),
        answer('a3', texts.awkward, 9),
      ]),
    );
    for (let n = 1; n <= 200; n += 1) {
      all.push(
        make(
          `more${n}`,
          `${'A long title that goes on '.repeat(1 + (n % 4))}${n}`,
          n * 9 * hour,
          [],
        ),
      );
    }
  }
  return new Map(all.map((conversation) => [conversation.id, conversation]));
}

export function summaries(
  conversations: Iterable<Conversation>,
  query: string,
): ConversationSummary[] {
  const wanted = query.toLowerCase();
  return [...conversations]
    .map(({ id, title, updatedAt, messages }) => {
      const hit = messages.find(({ content }) => content.toLowerCase().includes(wanted));
      const at = hit?.content.toLowerCase().indexOf(wanted) ?? 0;
      const excerpt = query && hit ? hit.content.slice(Math.max(0, at - 20), at + 60) : null;
      const matches = title.toLowerCase().includes(wanted) || hit !== undefined;
      return { id, title, updatedAt, excerpt, matches };
    })
    .filter(({ matches }) => matches)
    .map(({ id, title, updatedAt, excerpt }) => ({ id, title, updatedAt, excerpt }))
    .sort((a, b) => b.updatedAt - a.updatedAt);
}
