// The menu at the tray's icon, over D-Bus as a desktop shows it (com.canonical.dbusmenu).
import { execute } from './harness.mjs';
import { until } from './webdriver.mjs';

async function gdbus(...args) {
  // In the locale C it writes letters beyond ASCII as numbers.
  const { stdout } = await execute('gdbus', args, { env: { ...process.env, LC_ALL: 'C.UTF-8' } });
  return stdout;
}

/** Where a process serves a menu: the name of its connection and the object's path; null where it has none yet. */
async function served(pid) {
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

export class Menu {
  static async of(pid) {
    return Object.assign(new Menu(), await until('the menu is on the bus', () => served(pid)));
  }

  #call(method, ...args) {
    const { connection, path } = this;
    const to = ['--dest', connection, '--object-path', path, '--method', `com.canonical.dbusmenu.${method}`];
    return gdbus('call', '--session', ...to, ...args);
  }

  /** Every item with its number, words and mark. */
  async items() {
    const layout = await this.#call('GetLayout', '0', '--', '-1', '[]');
    return [...layout.matchAll(/\((\d+), \{([^}]*)\}/g)].map(([, id, properties]) => ({
      id,
      label: /'label': <'([^']*)'>/.exec(properties)?.[1],
      on: /'toggle-state': <1>/.test(properties),
    }));
  }

  item(label) {
    const named = (one) => one.label?.replace('_', '') === label;
    return until(`the menu has ${label}`, async () => (await this.items()).find(named));
  }

  async choose(label) {
    await this.click(await this.item(label));
  }

  click({ id }) {
    return this.#call('Event', id, 'clicked', '<int32 0>', '0');
  }
}
