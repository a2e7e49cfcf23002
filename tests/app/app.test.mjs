// The app in a real window: the debug build, its own web view, the embedded model.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { Harness, answer, done, exists, message } from './harness.mjs';
import { freePort, keys, until } from './webdriver.mjs';

let app;

before(async () => (app = await Harness.open()));
after(() => app?.close());
afterEach(() => app.stop());

const start = () => app.start();
const ask = (text) => app.ask(text);
const shot = (name) => app.shot(name);
const invoke = (command, args) => app.invoke(command, args);

test('an answer streams in from the embedded model', async () => {
  await start();
  await shot('empty');
  assert.equal((await invoke('engine_state')).model, 'olmoe-tiny');
  await ask('Tell me a story about a fox.');
  // It grows while it is being written.
  const early = await until('the first words', async () => (await app.session.text(answer)) || null);
  await app.session.find(done, 30_000);
  const whole = await app.session.text(answer);
  assert.ok(whole.length > early.length, `${early} … ${whole}`);
  await until('the summary', async () => /\d tok\/s/.test(await app.session.text('.answer footer')));
  await shot('answer');
});

test('the conversation is there again after a restart', async () => {
  await start();
  await app.session.click('button[aria-label="Conversations"]');
  const list = await until('the list', async () => {
    const found = await invoke('conversations_list');
    return found.length > 0 && found;
  });
  assert.equal(list[0].title, 'Tell me a story about a fox.');
  const kept = await invoke('conversation_get', { id: list[0].id });
  assert.equal(kept.messages.length, 2);
  assert.equal(kept.messages[1].tokens.map((token) => token.text).join(''), kept.messages[1].content);
  assert.ok((await invoke('conversations_search', { query: 'FOX' })).length === 1);
  await until('the title is listed', async () => {
    const listed = await app.session.run('return document.body.innerText');
    return listed.includes('Tell me a story about a fox.');
  });
});

test('a threshold that changes while an answer streams changes the rest of it', async () => {
  await start();
  const settings = await invoke('settings_get');
  const policy = { ...settings.policy, kind: 'mobile', gamma: 0 };
  await invoke('settings_set', {
    settings: { ...settings, policy, chat: { ...settings.chat, temperature: 0, maxTokens: 400 } },
  });
  await app.session.run('location.reload()');
  await app.session.find(message);
  await app.ready();
  await app.session.click('button[aria-label="Options for this conversation"]');
  await ask('Count from one to fifty, then tell me a long story about the sea.');
  await until('the first words', async () => (await app.session.text(answer)) || null);
  // The live panel's samples: the share of fallbacks among the tokens of the last two seconds.
  await app.session.run(`window.rates = [];
    const take = ({ message }) => message && window.rates.push(message.fallbackRate);
    const channel = '__CHANNEL__:' + window.__TAURI_INTERNALS__.transformCallback(take);
    window.__TAURI_INTERNALS__.invoke('live_subscribe', { channel });`);
  const rates = async () => (await app.session.run('return window.rates')).filter((rate) => rate !== null);
  const before = await until('a rate', async () => (await rates()).at(-1));
  assert.equal(before, 0);
  await app.session.type('input[type="range"][aria-valuetext*="γ"]', keys.end);
  await until('the rate moves', async () => (await rates()).at(-1) > 0.3);
  await invoke('live_unsubscribe');
  await app.session.find(done, 45_000);
  const kept = await app.kept();
  assert.equal(kept.policy.gamma, 1);
  const decisions = kept.messages[1].tokens.map((token) => token.decision);
  const turn = decisions.indexOf('fallback');
  assert.ok(turn > 1, 'little tokens first, then some that were computed again');
  // The first token comes from the prompt, which all experts read.
  assert.ok(decisions.slice(1, turn).every((decision) => decision === 'little'));
  const { importantTokens, unimportantTokens, tokensGenerated } = kept.messages[1].stats;
  assert.equal(importantTokens + unimportantTokens, tokensGenerated);
});

test('system prompt and sampling belong to one conversation, and outlast a restart', async () => {
  await start();
  const options = () => app.session.click('button[aria-label="Options for this conversation"]');
  const fields = ['.system textarea', 'input[aria-label="Temperature"]', 'label:nth-child(2) input', 'label:nth-child(3) input'];
  const [system, temperature, most, seed] = fields.map((css) => `.options ${css}`);
  const set = (css, value) =>
    app.session.run(
      `const field = document.querySelector(arguments[0]);
       field.value = arguments[1];
       for (const told of ['input', 'change']) field.dispatchEvent(new Event(told, { bubbles: true }));`,
      css,
      value,
    );
  const shown = () =>
    app.session.run('return [...arguments].map((css) => document.querySelector(css).value)', system, temperature, most, seed);
  const answered = async () => {
    await app.ask('Tell me a story about a fox.');
    return app.kept();
  };

  const own = {
    system: 'You are a pirate and speak of nothing but the sea.',
    temperature: 1.5,
    topP: 0.95,
    maxTokens: 6,
    seed: 7,
  };
  await options();
  await app.session.type(system, own.system);
  await set(temperature, '1.5');
  await set(most, '6');
  await set(seed, '7');
  const pirate = await answered();
  assert.deepEqual(pirate.settings, own);
  assert.equal(pirate.messages[1].stats.tokensGenerated, 6);

  await app.session.click('button[aria-label="New conversation"]');
  const defaults = (await invoke('settings_get')).chat;
  assert.deepEqual(await shown(), ['', String(defaults.temperature), String(defaults.maxTokens), '']);
  await set(most, '9');
  const plain = await answered();
  assert.notEqual(plain.id, pirate.id);
  assert.deepEqual(plain.settings, { ...defaults, maxTokens: 9 });
  assert.equal(plain.messages[1].stats.tokensGenerated, 9);
  // The question is the same, so what the first read more of is its system prompt.
  assert.ok(pirate.messages[1].stats.promptTokens > plain.messages[1].stats.promptTokens + 5);

  await app.stop();
  await start();
  const values = new Map([
    [pirate, [own.system, '1.5', '6', '7']],
    [plain, ['', String(defaults.temperature), '9', '']],
  ]);
  await options();
  for (const [kept, wanted] of values) {
    await app.session.click('button[aria-label="Conversations"]');
    // The one that was answered last stands first, and that is each time the other.
    await app.session.click('nav li:nth-child(2) .open');
    await until('what it is set to is shown', async () => String(await shown()) === String(wanted));
    await app.session.click('button[aria-label="Regenerate"]');
    const again = await until('it is answered anew', async () => {
      const found = await invoke('conversation_get', { id: kept.id });
      return found.messages[1]?.stats && found.updatedAt > kept.updatedAt && found;
    });
    assert.deepEqual(again.settings, kept.settings);
    const [before, now] = [kept, again].map(({ messages }) => messages[1]);
    assert.equal(now.stats.promptTokens, before.stats.promptTokens);
    assert.equal(now.stats.tokensGenerated, before.stats.tokensGenerated);
    // Drawn with the same seed at the same temperature, the answer is the same.
    if (kept === pirate) assert.equal(now.content, before.content);
  }
});

test('an answer can be stopped', async () => {
  await start();
  await ask('Tell me a very long story.');
  await until('the first words', async () => (await app.session.text(answer)) || null);
  await app.session.click('button[aria-label="Stop"]');
  await until('it stopped', async () => (await app.session.text('.answer footer')).includes('Stopped'), 5_000);
});

test('settings are kept, and refused where they make no sense', async () => {
  await start();
  const settings = await invoke('settings_get');
  const policy = { ...settings.policy, kind: 'mobile', gamma: 0.55 };
  const kept = await invoke('settings_set', { settings: { ...settings, policy, appearance: 'dark' } });
  assert.deepEqual(kept.policy, policy);
  await shot('dark');
  await assert.rejects(
    invoke('settings_set', { settings: { ...kept, lan: { ...kept.lan, port: 80 } } }),
    { code: 'invalid' },
  );
  await app.stop();
  await start();
  assert.deepEqual(await invoke('settings_get'), kept);
  await invoke('settings_set', { settings: { ...kept, appearance: 'light' } });
});

test('the settings window opens at its page', async () => {
  await start();
  await app.settings('policy');
  for (const page of ['models', 'policy', 'memory', 'network', 'general', 'live']) {
    await app.session.click(`nav a[href="#settings/${page}"]`);
    await app.session.find(`nav a[aria-current="page"][href="#settings/${page}"]`);
    await shot(`settings-${page}`);
  }
});

test('the endpoint answers this computer, and others only while it is shared', async () => {
  await start();
  const health = (url) => fetch(`${url}/health`, { signal: AbortSignal.timeout(2_000) });
  const settings = await invoke('settings_get');
  // The port that is the default, where nothing else has it.
  const port = await freePort(8090).catch(() => settings.lan.port);
  await invoke('settings_set', { settings: { ...settings, lan: { ...settings.lan, port } } });
  const closed = await until('it listens', async () => {
    const status = await invoke('network_status');
    return status.listening && status.port === port && status;
  });
  assert.equal(closed.lan, false);
  assert.deepEqual(await listening(port), ['127.0.0.1']);
  assert.equal((await (await health(closed.urls[0].url)).json()).model, 'olmoe-tiny');
  const open = await invoke('lan_set', { enabled: true });
  assert.equal(open.lan, true);
  assert.deepEqual(await listening(port), ['0.0.0.0']);
  const [, other] = open.urls;
  if (other) assert.equal((await health(other.url)).ok, true);
  await invoke('lan_set', { enabled: false });
  assert.deepEqual(await listening(port), ['127.0.0.1']);
  if (other) await assert.rejects(health(other.url));
  const { key, secret } = await invoke('key_create', { name: 'Gateway' });
  assert.ok(secret.length > 20);
  assert.deepEqual(await invoke('keys_list'), [key]);
  await invoke('key_revoke', { id: key.id });
  assert.deepEqual(await invoke('keys_list'), []);
  await invoke('settings_set', { settings });
});

/** The addresses at which the system listens on a port, as the kernel lists them. */
async function listening(port) {
  const lines = (await readFile('/proc/net/tcp', 'utf8')).split('\n').slice(1);
  const sockets = lines.map((line) => line.trim().split(/\s+/)).filter(([, , , state]) => state === '0A');
  const found = sockets.map(([, local]) => local.split(':')).filter(([, hex]) => parseInt(hex, 16) === port);
  return found.map(([address]) => Buffer.from(address, 'hex').reverse().join('.'));
}

test('starting at login is a file that comes and goes', async () => {
  await start();
  const file = join(app.env.XDG_CONFIG_HOME, 'autostart', 'MoBiLE.desktop');
  const other = join(app.home, '.config', 'autostart', 'MoBiLE.desktop');
  const there = async () => (await exists(file)) || (await exists(other));
  assert.equal(await there(), false);
  await invoke('autostart_set', { enabled: true });
  assert.equal(await there(), true);
  assert.equal((await invoke('settings_get')).autostart, true);
  await invoke('autostart_set', { enabled: false });
  assert.equal(await there(), false);
});

test('a second start ends at once and brings the window of the first to the front', async () => {
  await app.launch('--hidden');
  await app.ready();
  const hidden = () => app.session.run('return document.hidden');
  assert.equal(await hidden(), true);
  const second = spawn(process.env.APP, [], { env: app.env, stdio: 'ignore' });
  const [code] = await Promise.race([once(second, 'exit'), until('it ends', () => null, 10_000)]);
  assert.equal(code, 0);
  await until('the window is there', async () => !(await hidden()));
  assert.equal((await invoke('engine_state')).state, 'ready');
  await app.session.type(message, `${keys.control}w`);
  await until('the window is hidden', hidden);
});

test('damaged settings are set aside', async () => {
  const file = join(app.env.MOBILE_HOME, 'settings.json');
  await writeFile(file, '{"policy": ');
  await start();
  assert.equal((await invoke('settings_get')).policy.gamma, 0.7);
  assert.equal(await readFile(`${file}.corrupt`, 'utf8'), '{"policy": ');
  assert.ok((await invoke('conversations_list')).length >= 1);
});
