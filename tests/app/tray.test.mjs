// The menu at the tray's icon.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Harness } from './harness.mjs';
import { Menu } from './menu.mjs';
import { until } from './webdriver.mjs';

let app, menu;

before(async () => {
  app = await Harness.open();
  await app.start();
  menu = await Menu.of(await app.pid());
});

after(() => app?.close());

const item = (label) => menu.item(label);
const choose = (label) => menu.choose(label);

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
