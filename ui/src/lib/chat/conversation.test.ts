import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Streams } from '$lib/backend/contract';
import { breakable, mockShell } from '$lib/backend/mock/testing';
import { strings } from '$lib/strings';
import { Answer } from './answer.svelte';
import { Chats, defaultChatSettings } from './chats.svelte';
import { titleFrom } from './conversation.svelte';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const minute = 60_000;
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function chatsOn(shell = mockShell()) {
  return new Chats(shell, () => null);
}

function lastAnswer({ current }: Chats): Answer {
  const last = current.entries.at(-1);
  if (!(last instanceof Answer)) throw new Error('the last entry is not an answer');
  return last;
}

describe('a conversation', () => {
  it('is answered, and kept with its tokens and numbers', async () => {
    const shell = mockShell();
    const chats = chatsOn(shell);
    const asked = chats.current.ask('What is the capital of France?');
    await vi.advanceTimersByTimeAsync(minute);
    await asked;
    const answer = lastAnswer(chats);
    expect(answer.reason).toBe('stop');
    expect(answer.tokens.map(({ text }) => text).join('')).toBe(answer.content);
    expect(answer.stats?.tokensGenerated).toBe(answer.tokens.length);
    expect(answer.stats?.fallbacks).toBe(answer.fallbacks);
    const kept = shell.state.conversations.get(chats.current.id);
    expect(kept?.title).toBe('What is the capital of France?');
    expect(kept?.messages[1]?.content).toBe(answer.content);
  });

  it('keeps what was written when it is stopped', async () => {
    const chats = chatsOn();
    void chats.current.ask('Why half of the experts?');
    await vi.advanceTimersByTimeAsync(600);
    expect(lastAnswer(chats).phase).toBe('streaming');
    void chats.current.stop.run();
    await vi.advanceTimersByTimeAsync(100);
    expect(lastAnswer(chats).reason).toBe('cancelled');
    expect(lastAnswer(chats).content).not.toBe('');
    expect(chats.current.answering).toBeNull();
  });

  it('is stopped before the engine knows of it', async () => {
    const shell = mockShell();
    const stream = vi.spyOn(shell, 'stream');
    const chats = chatsOn(shell);
    void chats.current.ask('Why half of the experts?');
    void chats.current.stop.run();
    await vi.advanceTimersByTimeAsync(minute);
    expect(lastAnswer(chats).reason).toBe('cancelled');
    expect(stream).not.toHaveBeenCalled();
    void chats.current.regenerate();
    await vi.advanceTimersByTimeAsync(minute);
    expect(lastAnswer(chats).reason).toBe('stop');
  });

  it('is stopped while the engine is being asked', async () => {
    const shell = mockShell();
    const stream = shell.stream.bind(shell);
    shell.stream = async (...args) => {
      await wait(100);
      await stream(...args);
    };
    const chats = chatsOn(shell);
    void chats.current.ask('Why half of the experts?');
    await vi.advanceTimersByTimeAsync(50);
    void chats.current.stop.run();
    await vi.advanceTimersByTimeAsync(minute);
    expect(lastAnswer(chats).reason).toBe('cancelled');
  });

  it('is on the disk while it is written, and says that it was broken off', async () => {
    const shell = mockShell('long');
    const chats = chatsOn(shell);
    const { id } = chats.current;
    void chats.current.ask('Write a very long answer.');
    await vi.advanceTimersByTimeAsync(6000);
    const kept = shell.state.conversations.get(id)?.messages[1];
    expect(kept?.content).not.toBe('');
    expect(kept?.reason).toBeNull();
    // Where it was killed now, the app starts with this.
    const restarted = chatsOn(shell);
    void restarted.open.run(id);
    await vi.advanceTimersByTimeAsync(100);
    expect(lastAnswer(restarted).content).toBe(kept?.content);
    expect(lastAnswer(restarted).reason).toBe('failed');
    expect(lastAnswer(restarted).error?.message).toBe(strings.chat.interrupted);
  });

  it('is saved in order, and no more often than it can be', async () => {
    const shell = mockShell();
    const chats = chatsOn(shell);
    void chats.open.run('paris');
    await vi.advanceTimersByTimeAsync(100);
    const call = shell.call.bind(shell);
    const saved: unknown[] = [];
    shell.call = async (command, args) => {
      if (command === 'conversation_save') {
        saved.push(args);
        // The first takes longest.
        await wait(saved.length === 1 ? 500 : 10);
      }
      return call(command, args);
    };
    for (let step = 1; step <= 20; step += 1) {
      chats.current.setSettings({ temperature: step / 20 });
      await vi.advanceTimersByTimeAsync(5);
    }
    expect(saved).toHaveLength(1);
    expect(chats.current.save.running).toBe(true);
    await vi.advanceTimersByTimeAsync(1000);
    expect(saved).toHaveLength(2);
    expect(chats.current.save.running).toBe(false);
    expect(shell.state.conversations.get('paris')?.settings.temperature).toBe(1);
  });

  it('changes its policy between two tokens', async () => {
    const chats = chatsOn();
    void chats.current.ask('Why half of the experts?');
    await vi.advanceTimersByTimeAsync(600);
    const before = lastAnswer(chats).tokens.length;
    void chats.current.setPolicy.run({ ...chats.current.policy, kind: 'full' });
    await vi.advanceTimersByTimeAsync(minute);
    const decisions = lastAnswer(chats).tokens.map(({ decision }) => decision);
    expect(decisions.slice(0, before)).not.toContain('big');
    expect(decisions.at(-1)).toBe('big');
  });

  it('goes with the settings until it has a policy of its own', async () => {
    const chats = chatsOn();
    const before = chats.current.policy;
    chats.followPolicy(before, { ...before, gamma: 0.3 });
    expect(chats.current.policy.gamma).toBe(0.3);
    await chats.current.setPolicy.run({ ...before, kind: 'full' });
    chats.followPolicy({ ...before, gamma: 0.3 }, { ...before, gamma: 0.9 });
    expect(chats.current.policy).toEqual({ ...before, kind: 'full' });
  });

  it('drops what followed an edited message', async () => {
    const chats = chatsOn();
    void chats.current.ask('One');
    await vi.advanceTimersByTimeAsync(minute);
    const first = chats.current.entries[0];
    void chats.current.ask('Two');
    await vi.advanceTimersByTimeAsync(minute);
    void chats.current.resend(first?.id ?? '', 'Three');
    await vi.advanceTimersByTimeAsync(minute);
    expect(chats.current.entries.map(({ role }) => role)).toEqual(['user', 'assistant']);
    expect(chats.current.entries[0]?.content).toBe('Three');
  });

  it('ends with the error when the engine fails', async () => {
    const chats = chatsOn(mockShell('error'));
    void chats.current.ask('Why half of the experts?');
    await vi.advanceTimersByTimeAsync(minute);
    expect(lastAnswer(chats).error?.code).toBe('out_of_memory');
    expect(lastAnswer(chats).content).not.toBe('');
  });

  it('ends with the error when nothing answers', async () => {
    const chats = chatsOn(mockShell('nomodel'));
    void chats.current.ask('Hello');
    await vi.advanceTimersByTimeAsync(minute);
    expect(lastAnswer(chats).error?.code).toBe('no_model');
  });

  it('asks with a prompt and a sampling of its own, after a restart too', async () => {
    const shell = mockShell();
    const stream = vi.spyOn(shell, 'stream');
    const chats = chatsOn(shell);
    const { id } = chats.current;
    const own = { system: 'Be brief.', temperature: 0.2, topP: 0.5, maxTokens: 64, seed: 7 };
    chats.current.setSettings(own);
    const ask = async (where: Chats) => {
      void where.current.ask('Who are you?');
      await vi.advanceTimersByTimeAsync(minute);
      return stream.mock.calls.at(-1)?.[1] as Streams['chat_send']['args'];
    };
    const asked = await ask(chats);
    expect(asked.settings).toEqual(own);
    expect(asked.messages[0]).toEqual({ role: 'system', content: 'Be brief.' });
    chats.fresh();
    const other = await ask(chats);
    expect(other.settings).toEqual(defaultChatSettings);
    expect(other.messages.map(({ role }) => role)).toEqual(['user']);
    const restarted = chatsOn(shell);
    void restarted.open.run(id);
    await vi.advanceTimersByTimeAsync(100);
    const again = await ask(restarted);
    expect(again.conversationId).toBe(id);
    expect(again.settings).toEqual(own);
    expect(again.messages.map(({ role }) => role)).toEqual(['system', 'user', 'assistant', 'user']);
  });

  it('goes on while another one is open', async () => {
    const chats = chatsOn();
    const { id } = chats.current;
    void chats.current.ask('Why half of the experts?');
    await vi.advanceTimersByTimeAsync(500);
    void chats.open.run('paris');
    await vi.advanceTimersByTimeAsync(minute);
    expect(chats.current.id).toBe('paris');
    void chats.open.run(id);
    await vi.advanceTimersByTimeAsync(100);
    expect(lastAnswer(chats).reason).toBe('stop');
  });

  it('is not brought back by an answer that ends after it was deleted', async () => {
    const shell = mockShell();
    const chats = chatsOn(shell);
    const { id } = chats.current;
    void chats.current.ask('Why half of the experts?');
    await vi.advanceTimersByTimeAsync(500);
    void chats.remove.run(id);
    await vi.advanceTimersByTimeAsync(minute);
    expect(shell.state.conversations.has(id)).toBe(false);
    expect(chats.current.entries).toEqual([]);
  });

  it('goes on where it could not be deleted', async () => {
    const { shell, broken } = breakable('conversation_delete');
    const chats = chatsOn(shell);
    const { id } = chats.current;
    void chats.current.ask('Hello');
    await vi.advanceTimersByTimeAsync(minute);
    broken.error = { code: 'disk', message: 'The disk cannot be written to.' };
    void chats.remove.run(id);
    await vi.advanceTimersByTimeAsync(100);
    expect(chats.remove.error?.code).toBe('disk');
    expect(chats.current.id).toBe(id);
    void chats.current.ask('Still there?');
    await vi.advanceTimersByTimeAsync(minute);
    expect(shell.state.conversations.get(id)?.messages).toHaveLength(4);
  });

  it('stays loaded until it could be saved', async () => {
    const { shell, broken } = breakable('conversation_save');
    broken.error = { code: 'disk_full', message: 'The disk is full.' };
    const chats = chatsOn(shell);
    const { id } = chats.current;
    void chats.current.ask('Hello');
    await vi.advanceTimersByTimeAsync(minute);
    chats.fresh();
    void chats.open.run(id);
    await vi.advanceTimersByTimeAsync(100);
    expect(lastAnswer(chats).reason).toBe('stop');
    broken.error = null;
    void chats.current.save.run();
    await vi.advanceTimersByTimeAsync(100);
    expect(chats.current.save.error).toBeNull();
    expect(shell.state.conversations.get(id)?.messages).toHaveLength(2);
  });

  it('says when it could not be saved', async () => {
    const { shell, broken } = breakable('conversation_save');
    broken.error = { code: 'disk_full', message: 'The disk is full.' };
    const chats = chatsOn(shell);
    void chats.current.ask('Hello');
    await vi.advanceTimersByTimeAsync(minute);
    expect(chats.current.save.error?.code).toBe('disk_full');
    expect(lastAnswer(chats).reason).toBe('stop');
  });
});

describe('titleFrom', () => {
  it('cuts between words', () => {
    expect(titleFrom('Short\nand more')).toBe('Short');
    expect(titleFrom('word '.repeat(20))).toBe(`${'word '.repeat(9).trimEnd()}…`);
  });
});
