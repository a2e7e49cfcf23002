// What is broken, full or gone: the app says so, keeps what there was, and goes on.
import assert from 'node:assert/strict';
import { cp, mkdir, readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Harness, done, execute, exists } from './harness.mjs';
import { until } from './webdriver.mjs';

const embedded = fileURLToPath(new URL('../../src-tauri/resources/olmoe-tiny', import.meta.url));
let app;

before(async () => (app = await Harness.open()));
after(() => app?.close());
afterEach(() => app.stop());

const page = () => app.session.run('return document.body.innerText');
const press = (name) =>
  app.session.run(`[...document.querySelectorAll('button')].find((b) => b.innerText === arguments[0]).click()`, name);

test('a damaged conversation is kept aside and the others are there', async () => {
  await app.start();
  await app.ask('What is the capital of France?');
  await app.session.find(done, 30_000);
  const { id, messages } = await app.kept();
  await app.stop();
  const broken = join(app.env.MOBILE_HOME, 'conversations', 'broken.json');
  await writeFile(broken, '{"id":"broken","title":"Half a fi');
  // A title that can be read over messages that cannot.
  const hollow = join(app.env.MOBILE_HOME, 'conversations', 'hollow.json');
  await writeFile(hollow, '{"id":"hollow","title":"Hollow","updatedAt":1,"messages":3}');
  await app.start();
  const listed = (await app.invoke('conversations_list')).map((one) => one.id);
  assert.deepEqual(listed, [id, 'hollow']);
  assert.equal(await readFile(`${broken}.corrupt`, 'utf8'), '{"id":"broken","title":"Half a fi');
  await app.session.click('button[aria-label="Conversations"]');
  await until('it is listed', async () => (await page()).includes('Hollow'));
  await app.session.run(`[...document.querySelectorAll('button')].find((b) => b.innerText.startsWith('Hollow')).click()`);
  await until('it is said', async () => (await page()).includes("This conversation's file is damaged"));
  assert.ok(await exists(`${hollow}.corrupt`));
  assert.deepEqual((await app.invoke('conversation_get', { id })).messages, messages);
});

test('a full disk loses neither what was kept nor the answer', async (t) => {
  const home = app.env.MOBILE_HOME;
  const copy = `${home}.full`;
  await cp(home, copy, { recursive: true });
  try {
    await execute('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', home]);
  } catch {
    return t.skip('mounting a small file system takes a privilege');
  }
  try {
    await cp(copy, home, { recursive: true });
    await app.start();
    await app.ask('What is the capital of France?');
    await app.session.find(done, 30_000);
    const { id, messages } = await app.kept();
    const { bavail, bsize } = await statfs(home);
    await writeFile(join(home, 'filling'), Buffer.alloc(bavail * bsize));
    await app.ask('And of Italy?');
    await until('it is said', async () => (await page()).includes('This conversation could not be saved'));
    await app.shot('disk-full');
    await until('the answer is there all the same', async () =>
      (await app.session.run(`return document.querySelectorAll('.answer[aria-busy="false"] footer').length`)) === 2, 30_000);
    assert.deepEqual((await app.invoke('conversation_get', { id })).messages, messages);
    await rm(join(home, 'filling'));
    await press('Try again');
    const whole = await app.kept(3);
    assert.deepEqual(whole.messages.slice(0, 2), messages);
    assert.equal(whole.messages[2].content, 'And of Italy?');
    assert.ok(!(await page()).includes('This conversation could not be saved'));
  } finally {
    await app.stop();
    await until('it is let go', () => execute('umount', [home]).then(() => true));
  }
});

test('a model whose folder is gone is missed by name, and another is loaded', async () => {
  const folder = join(app.home, 'models', 'borrowed');
  await mkdir(join(app.home, 'models'));
  await cp(embedded, folder, { recursive: true });
  await app.start();
  const { id, name } = await app.invoke('model_import', { path: folder });
  await app.invoke('model_load', { id });
  await until('it is loaded', async () => (await app.invoke('engine_state')).model === id);
  await app.ready();
  await app.stop();
  await rm(folder, { recursive: true });
  await app.launch('--show');
  const failed = await until('it failed', async () => {
    const state = await app.invoke('engine_state');
    return state.state === 'error' && state;
  });
  assert.equal(failed.model, id);
  await until('it is said', async () => (await page()).includes(failed.message));
  await app.shot('model-gone');
  const list = await app.invoke('models_list');
  assert.ok(!list.some((model) => model.installed && model.name === name), 'it is not offered any more');
  await app.invoke('model_load', { id: 'olmoe-tiny' });
  await app.ready();
  await app.ask('What is the capital of France?');
  await app.session.find(done, 30_000);
});
