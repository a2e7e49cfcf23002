// Models come, stay and go: downloads from the hub of the tests, the expert budget, thresholds that are measured.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Harness, answer, done } from './harness.mjs';
import { until } from './webdriver.mjs';

const embedded = fileURLToPath(new URL('../../src-tauri/resources/olmoe-tiny', import.meta.url));
const models = ['test/first', 'test/second'];
/** Slow enough to be caught halfway: about four seconds for the weights. */
const bytesPerSecond = 6_000_000;

let app, hub;

before(async () => {
  app = await Harness.open();
  for (const id of models) {
    await mkdir(join(app.home, 'served', 'test'), { recursive: true });
    await cp(embedded, join(app.home, 'served', id), { recursive: true });
  }
  hub = spawn(process.env.HUB, [join(app.home, 'served'), '0', `slow=model.safetensors=${bytesPerSecond}`]);
  const [address] = await once(hub.stdout, 'data');
  // Only now is its address known, and the driver hands its own environment to the app.
  await app.restartDriver({ HF_ENDPOINT: String(address).trim() });
});

after(async () => {
  hub?.kill();
  await app?.close();
});

afterEach(() => app.stop());

const entry = async (id) => (await app.invoke('models_list')).find((model) => model.id === id);
const arrived = async (id) => (await entry(id))?.pull?.bytes ?? 0;

async function get(id) {
  const chat = await app.settings('models');
  await app.session.type('input[aria-label="Hub name"]', id);
  await app.session.click('form button[type="submit"]:not([disabled])');
  return chat;
}

/** A download that is under way, and halfway. */
const halfway = () =>
  until('some of the weights are here', async () => {
    const text = await app.session.run('return document.body.innerText');
    const [, here] = /([\d.]+) MB of 23\.9 MB/.exec(text) ?? [];
    return Number(here) > 3 && text.includes('/s');
  }, 20_000);

test('a model is pulled with pause and resume, and answers', async () => {
  const [id] = models;
  await app.start();
  const chat = await get(id);
  await halfway();
  await app.shot('downloading');
  await app.session.click(`button[aria-label="Pause ${id}"]`);
  await app.session.find(`button[aria-label="Resume ${id}"]`);
  const paused = await app.session.text('.line');
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(await app.session.text('.line'), paused);
  assert.match(paused, /^Paused/);
  assert.equal((await entry(id))?.installed ?? false, false);
  await app.session.click(`button[aria-label="Resume ${id}"]`);
  await until('it is there', async () => (await entry(id))?.installed, 30_000);
  await app.session.switchTo(chat);
  await choose(id);
  await app.ask('What is the capital of France?');
  await app.session.find(done, 30_000);
  assert.equal((await app.kept()).messages[1].stats.model, id);
  await choose('olmoe-tiny');
});

/** Takes another model where the chat says which one answers. */
async function choose(id) {
  await app.session.click(`select[aria-label="Model"] option[value="${id}"]`);
  await until('it is loaded', async () => {
    const { state, model } = await app.invoke('engine_state');
    return state === 'ready' && model === id;
  }, 30_000);
}

test('an app that is killed during a download goes on where it was', async () => {
  const id = models[1];
  await app.start();
  const before = await app.invoke('settings_get');
  await get(id);
  await halfway();
  await app.kill();
  await app.start();
  const found = await entry(id);
  assert.equal(found.installed, false);
  assert.equal(found.pull.status, 'paused');
  assert.ok(found.pull.bytes > 3e6, `${found.pull.bytes} bytes were kept`);
  assert.deepEqual(await app.invoke('settings_get'), before);
  await app.settings('models');
  await app.session.click(`button[aria-label="Resume ${found.name}"]`);
  const went = await until('it goes on', async () => (await arrived(id)) || null);
  assert.ok(went >= found.pull.bytes - 1e5, `${went} of ${found.pull.bytes}`);
  await until('it is there', async () => (await entry(id))?.installed, 30_000);
  await app.invoke('model_delete', { id });
  assert.equal(await entry(id), undefined);
});

test('an app that is killed during an answer keeps what was said before', async () => {
  await app.start();
  await app.ask('What is the capital of France?');
  await app.session.find(done, 30_000);
  const finished = await app.kept();
  await app.ask('Tell me a very long story.');
  await until('the second answer begins', async () => (await app.session.run(
    "return document.querySelectorAll('.answer .markdown')[1]?.innerText ?? ''",
  )).length > 0);
  await app.kill();
  await app.start();
  const kept = await app.invoke('conversation_get', { id: finished.id });
  assert.deepEqual(kept.messages.slice(0, 2), finished.messages);
  assert.equal(kept.messages[2].content, 'Tell me a very long story.');
});

test('a budget for experts streams the rest, and the answers go on', async () => {
  await app.start();
  const all = await app.invoke('memory_plan', { expertMemory: null });
  assert.deepEqual([all.mode, all.residentExperts, all.pending], ['resident', all.totalExperts, false]);
  const settings = await app.invoke('settings_get');
  const expertMemory = Math.round(all.expertBytes / 4);
  await app.invoke('settings_set', { settings: { ...settings, expertMemory } });
  const chat = await app.settings('memory');
  await app.shot('memory-budget');
  const quarter = await app.invoke('memory_plan', { expertMemory });
  assert.deepEqual([quarter.mode, quarter.pending], ['streamed', true]);
  assert.equal(quarter.residentExperts, all.totalExperts / 4);
  await app.session.click('.pending button');
  await until('it is loaded again', async () => !(await app.invoke('memory_plan', { expertMemory })).pending, 30_000);
  await app.session.switchTo(chat);
  await app.ask('Tell me a story about a fox.');
  await until('the first words', async () => (await app.session.text(answer)) || null);
  await app.session.find(done, 30_000);
  const kept = await app.kept();
  assert.ok(kept.messages[1].stats.cacheHits > 0, 'experts were found in memory');
  await app.invoke('settings_set', { settings });
});

test('thresholds are measured with progress and stopped early; a kill loses none that were kept', async () => {
  await app.start();
  assert.equal(await app.invoke('calibration_get'), null);
  await app.settings('policy');
  await app.session.click('main .notice button:not([disabled]), main button.button:not([disabled])');
  const shown = async (pattern) => pattern.test(await app.session.run('return document.body.innerText'));
  await until('some thresholds are known', () => shown(/Measuring, [2-9] of 12/), 180_000);
  await app.shot('measuring');
  const stop = `[...document.querySelectorAll('button')].find((b) => b.innerText === 'Stop').click()`;
  await app.session.run(stop);
  await until('it ended', async () => !(await shown(/Measuring/)));
  const kept = await app.invoke('calibration_get');
  if (kept) {
    assert.deepEqual([kept.model, kept.complete], ['olmoe-tiny', false]);
    assert.ok(kept.points.length >= 1 && kept.points.length < 11, `${kept.points.length} thresholds`);
  }
  await app.session.run(`[...document.querySelectorAll('button')].find((b) => /^Measure/.test(b.innerText)).click()`);
  await until('it is measured again', () => shown(/Measuring, [1-9] of 12/), 180_000);
  await app.kill();
  await app.start();
  assert.deepEqual(await app.invoke('calibration_get'), kept);
});
