// One app in a home of its own, driven through its window.
import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Session, freePort, startDriver, until } from './webdriver.mjs';

export const execute = promisify(execFile);
const { APP, TAURI_DRIVER, SHOTS } = process.env;

export const message = 'textarea[aria-label="Message"]';
export const answer = '.answer .markdown';
export const done = '.answer[aria-busy="false"] footer';

/** The name by which a second instance knows that there is a first. */
const INSTANCE = 'com.cherokee.mobile.SingleInstance';

/** A home that nothing has lived in yet, the environment that makes it the app's, and the port of its endpoint. */
export async function newHome() {
  const home = await mkdtemp(join(tmpdir(), 'mobile-app-'));
  const env = { ...process.env, HOME: home, MOBILE_HOME: join(home, 'app'), HF_HOME: join(home, 'hub') };
  for (const name of ['CONFIG', 'DATA', 'CACHE']) env[`XDG_${name}_HOME`] = join(home, name.toLowerCase());
  await mkdir(env.MOBILE_HOME);
  const lan = { enabled: false, port: await freePort(), requireKey: true };
  await writeFile(join(env.MOBILE_HOME, 'settings.json'), JSON.stringify({ lan }));
  return { home, env, port: lan.port };
}

/** The web view writes to its cache for a moment longer than the app lives. */
export const removeHome = (home) => rm(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });

export class Harness {
  session;

  static async open() {
    const harness = new Harness();
    const made = await newHome();
    if (SHOTS) await mkdir(SHOTS, { recursive: true });
    return Object.assign(harness, made, { driver: await startDriver(TAURI_DRIVER, made.env) });
  }

  /** Gives the app that is started next these variables too. */
  async restartDriver(more) {
    await this.driver.stop();
    Object.assign(this.env, more);
    this.driver = await startDriver(TAURI_DRIVER, this.env);
  }

  async close() {
    await this.driver.stop();
    await removeHome(this.home);
  }

  async start() {
    await this.launch('--show');
    await this.ready();
  }

  /** Starts it without waiting for a model. */
  async launch(...args) {
    this.session = await Session.open(this.driver.url, APP, args);
    await this.session.find(message);
  }

  ready() {
    const isReady = async () => (await this.invoke('engine_state')).state === 'ready';
    return until('the model is ready', isReady, 30_000);
  }

  stop = async () => {
    // The app may have been killed, and its session with it.
    await this.session?.close().catch(() => {});
    this.session = undefined;
    // The driver does not wait for the app to end, and what starts before that takes itself for a second instance.
    await this.ended();
  };

  /** Ends the app as a crash would. */
  async kill() {
    process.kill(await this.pid(), 'SIGKILL');
    await this.stop();
  }

  ended() {
    return until('the app has ended', async () => !(await bus('NameHasOwner', INSTANCE)).includes('true'));
  }

  async pid() {
    return Number(/uint32 (\d+)/.exec(await bus('GetConnectionUnixProcessID', INSTANCE))[1]);
  }

  invoke(command, args) {
    return this.session.invoke(command, args);
  }

  async ask(text) {
    await this.session.type(message, text);
    await this.session.click('button[aria-label="Send"]:not([disabled])');
  }

  /** What is kept of the latest conversation, once its answer number `at` has ended. */
  async kept(at = 1) {
    const [{ id }] = await this.invoke('conversations_list');
    return until('the answer is kept', async () => {
      const found = await this.invoke('conversation_get', { id });
      return found.messages[at]?.stats && found;
    });
  }

  async shot(name) {
    if (SHOTS) await this.session.screenshot(join(SHOTS, `${name}.png`));
  }

  /** Opens the settings at a page and goes on there; gives the chat's window. */
  async settings(page) {
    const [chat] = await this.session.handles();
    await this.invoke('window_open', { window: 'settings', page });
    const other = async () => (await this.session.handles()).find((handle) => handle !== chat);
    await this.session.switchTo(await until('a second window', other));
    await this.session.find(`nav a[aria-current="page"][href="#settings/${page}"]`);
    return chat;
  }
}

async function bus(method, name) {
  const call = ['--session', '--print-reply', '--dest=org.freedesktop.DBus', '/', `org.freedesktop.DBus.${method}`];
  const { stdout } = await execute('dbus-send', [...call, `string:${name}`]);
  return stdout;
}

export async function exists(path) {
  return access(path).then(
    () => true,
    () => false,
  );
}
