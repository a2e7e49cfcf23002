// Computers find each other on the network, lose each other, and reach each other only while that is wanted.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { Harness, removeHome } from '../app/harness.mjs';
import { pause, until } from '../app/webdriver.mjs';
import { Computer, here, there } from './network.mjs';

const program = join(dirname(process.env.APP), 'mobile');
const port = 8090;

let app, other, home, node;

before(async () => {
  other = await Computer.join('lan-two');
  home = await mkdtemp(join(tmpdir(), 'mobile-lan-'));
  app = await Harness.open();
  await app.start();
  const settings = await app.invoke('settings_get');
  await app.invoke('settings_set', { settings: { ...settings, lan: { enabled: true, port, requireKey: false } } });
  await until('it is shared', async () => (await app.invoke('network_status')).lan);
});

after(async () => {
  node?.kill('SIGKILL');
  await app?.stop();
  await app?.close();
  await other?.end();
  if (home) await removeHome(home);
});

const env = () => ({ ...process.env, HOME: home, MOBILE_HOME: home });

/** Starts the endpoint of the other computer. */
const serve = () => {
  const args = ['serve', '--lan', '--no-key', '--port', String(port), '--policy', 'full'];
  node = other.start(env(), program, ...args);
};

/** Ends it with a signal: by one that it hears, or by one that lets it say nothing. */
async function end(signal) {
  const gone = once(node, 'exit');
  node.kill(signal);
  await gone;
}

/** The computers that the app shows. */
const found = async () => (await app.invoke('network_status')).nodes;

/** What the other computer finds of this one after `seconds`. */
async function seen(seconds = 3) {
  const nodes = JSON.parse(await other.run(program, 'nodes', '--json', '--seconds', String(seconds)));
  return nodes.filter((one) => one.addresses.includes(here));
}

const reach = () => other.run('curl', '--silent', '--fail', '--max-time', '5', `http://${here}:${port}/health`);

test('each computer finds the other with its model', async () => {
  serve();
  const listed = await until('the other is found', async () => (await found()).find((one) => one.model), 60_000);
  assert.deepEqual(listed, { name: 'lan-two', url: `http://${there}:${port}`, model: 'olmoe-tiny', load: 0 });
  const [self, ...more] = await seen();
  assert.deepEqual(more, []);
  const { name, model, load, addresses } = self;
  assert.deepEqual([name, model, load, addresses], ['lan-one', 'olmoe-tiny', 0, [here]]);
  const chat = await app.settings('network');
  await until('its page shows it', async () => {
    const text = await app.session.run('return document.body.innerText');
    return /lan-two\s+olmoe-tiny\s+Idle/.test(text);
  });
  await app.shot('lan-node');
  await app.session.switchTo(chat);
});

test('each sees how busy the other is', async () => {
  const ask = (ip) => ({
    url: `http://${ip}:${port}/generate`,
    body: JSON.stringify({ prompt: 'Tell me a very long story.', max_tokens: 2000 }),
  });
  const cancel = new AbortController();
  const { url, body } = ask(there);
  const headers = { 'content-type': 'application/json' };
  const asked = [1, 2, 3].map(() =>
    fetch(url, { method: 'POST', headers, body, signal: cancel.signal }).catch(() => null));
  await until('it is busy', async () => (await found())[0]?.load === 3, 30_000);
  cancel.abort();
  await Promise.all(asked);
  await until('it is at rest', async () => (await found())[0]?.load === 0, 30_000);

  const mine = ask(here);
  const header = ['--header', 'content-type: application/json'];
  const asking = other.start(env(), 'curl', '--silent', ...header, '--data', mine.body, mine.url);
  await until('it is seen that this one is busy', async () => (await seen(1))[0]?.load === 1, 30_000);
  const { clients } = await app.invoke('network_status');
  assert.deepEqual(clients, [{ address: there, key: null, requests: 1 }]);
  asking.kill();
});

test('one that is killed, one that ends and one that is cut off disappear', async () => {
  const isGone = (patience) => until('it is gone', async () => (await found()).length === 0, patience);
  const isBack = () => until('it is back', async () => (await found()).some((one) => one.model), 60_000);
  await end('SIGKILL');
  await isGone(20_000);
  serve();
  await isBack();
  // This one says goodbye.
  await end('SIGTERM');
  await isGone(5_000);
  serve();
  await isBack();
  await other.plug(false);
  await isGone(30_000);
  await other.plug(true);
  await isBack();
});

test('what is no longer shared is neither found nor reached', async () => {
  assert.equal(JSON.parse(await reach()).model, 'olmoe-tiny');
  // One search goes on while the app closes, another begins after it.
  const watching = seen(8);
  await pause(2_500);
  await app.invoke('lan_set', { enabled: false });
  await assert.rejects(reach(), { code: 7 }, 'curl is refused');
  assert.deepEqual(await watching, []);
  assert.deepEqual(await seen(), []);
  const closed = await app.invoke('network_status');
  assert.deepEqual([closed.lan, closed.nodes], [false, []]);
  await app.invoke('lan_set', { enabled: true });
  assert.equal(JSON.parse(await reach()).status, 'healthy');
  await until('it is found again', async () => (await seen()).length === 1, 30_000);
});

test('two computers of one name are told apart', async () => {
  await end('SIGTERM');
  await other.rename('lan-one');
  serve();
  const listed = await until('the other is found', async () => (await found()).find((one) => one.model), 60_000);
  assert.equal(listed.url, `http://${there}:${port}`);
  assert.equal((await seen()).length, 1);
  await end('SIGTERM');
  await until('it is gone', async () => (await found()).length === 0, 5_000);
});
