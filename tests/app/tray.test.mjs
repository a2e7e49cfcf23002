// The menu at the tray's icon, over D-Bus as a desktop shows it (com.canonical.dbusmenu).
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Harness, execute } from './harness.mjs';
import { until } from './webdriver.mjs';

let app, connection, path;

before(async () => {
  app = await Harness.open();
  await app.start();
  ({ connection, path } = await until('the menu is on the bus', () => menuOf(app)));
});

after(() => app?.close());

async function gdbus(...args) {
  // In the locale C it writes letters beyond ASCII as numbers.
  const { stdout } = await execute('gdbus', args, { env: { ...process.env, LC_ALL: 'C.UTF-8' } });
  return stdout;
}

/** Where the app's process serves a menu. */
async function menuOf(harness) {
  const pid = await harness.pid();
  const bus = ['call', '--session', '--dest', 'org.freedesktop.DBus', '--object-path', '/org/freedesktop/DBus'];
  const names = await gdbus(...bus, '--method', 'org.freedesktop.DBus.ListNames');
  for (const [name] of names.matchAll(/:\d+\.\d+/g)) {
    const owner = await gdbus(...bus, '--method', 'org.freedesktop.DBus.GetConnectionUnixProcessID', name).catch(() => '');
    if (Number(/uint32 (\d+)/.exec(owner)?.[1]) !== pid) continue;
    const tree = ['introspect', '--session', '--recurse', '--only-properties', '--dest', name];
    const found = await gdbus(...tree, '--object-path', '/org/ayatana/NotificationItem').catch(() => '');
    const menu = /node (\/\S*Menu) \{/.exec(found);
    if (menu) return { connection: name, path: menu[1] };
  }
  return null;
}

const menu = (method, ...args) =>
  gdbus('call', '--session', '--dest', connection, '--object-path', path, '--method', `com.canonical.dbusmenu.${method}`, ...args);

/** Every item with its number, words and mark. */
async function items() {
  const layout = await menu('GetLayout', '0', '--', '-1', '[]');
  return [...layout.matchAll(/\((\d+), \{([^}]*)\}/g)].map(([, id, properties]) => ({
    id,
    label: /'label': <'([^']*)'>/.exec(properties)?.[1],
    on: /'toggle-state': <1>/.test(properties),
  }));
}

const item = (label) =>
  until(`the menu has ${label}`, async () => (await items()).find((one) => one.label?.replace('_', '') === label));

async function choose(label) {
  const { id } = await item(label);
  await menu('Event', id, 'clicked', '<int32 0>', '0');
}

test('it says what is loaded and offers what can be done', async () => {
  await item('olmoe-tiny');
  for (const label of ['Open Chat', 'Model', 'Policy', 'Settings…', 'Start at Login', 'Quit MoBiLE']) await item(label);
  assert.equal((await item('Share on Local Network')).on, false);
  assert.equal((await item('Automatic')).on, true);
});

test('it changes the policy and shares on the network', async () => {
  await choose('Half of the experts');
  await until('the policy is another', async () => (await app.invoke('settings_get')).policy.kind === 'little');
  await until('the mark moved', async () => (await item('Half of the experts')).on && !(await item('Automatic')).on);
  await choose('Share on Local Network');
  await until('it is shared', async () => (await app.invoke('network_status')).lan);
  await until('the mark is set', async () => (await item('Share on Local Network')).on);
  await choose('Share on Local Network');
  await until('it is closed', async () => !(await app.invoke('network_status')).lan);
});

test('it opens the settings', async () => {
  assert.equal((await app.session.handles()).length, 1);
  await choose('Settings…');
  await until('a second window', async () => (await app.session.handles()).length === 2);
});

test('it quits', async () => {
  await choose('Quit MoBiLE');
  await app.ended();
  await app.stop();
});
