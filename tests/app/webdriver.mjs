// The few commands of https://www.w3.org/TR/webdriver2/ that the tests need, over plain HTTP.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { writeFile } from 'node:fs/promises';

const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';
const PATIENCE = 15_000;

export const keys = { control: '\uE009', enter: '\uE007', escape: '\uE00C', right: '\uE014', left: '\uE012', home: '\uE011', end: '\uE010' };

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks until the answer is neither null nor false. */
export async function until(what, ask, patience = PATIENCE) {
  const end = Date.now() + patience;
  let last;
  while (Date.now() < end) {
    try {
      const found = await ask();
      if (found !== null && found !== false && found !== undefined) return found;
      last = undefined;
    } catch (error) {
      last = error;
    }
    await pause(40);
  }
  throw new Error(`${what}: not within ${patience / 1000} s`, { cause: last });
}

/** A port that nothing listens on; rejects where that is wanted of one that is taken. */
export async function freePort(wanted = 0) {
  const server = createServer().listen(wanted, '0.0.0.0');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Starts tauri-driver; gives its address and a function that ends it. */
export async function startDriver(binary, env) {
  const [port, native] = [await freePort(), await freePort()];
  const args = ['--port', port, '--native-port', native, '--native-driver', '/usr/bin/WebKitWebDriver'].map(String);
  const child = spawn(binary, args, { env, stdio: ['ignore', 'inherit', 'inherit'] });
  const url = `http://127.0.0.1:${port}`;
  await until('tauri-driver answers', async () => (await fetch(`${url}/status`)).ok);
  const stop = async () => {
    child.kill('SIGTERM');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  };
  return { url, stop };
}

export class Session {
  #base;

  static async open(url, application, args) {
    const options = { capabilities: { alwaysMatch: { 'tauri:options': { application, args } } } };
    const { sessionId } = await request('POST', `${url}/session`, options);
    const session = new Session();
    session.#base = `${url}/session/${sessionId}`;
    return session;
  }

  close() {
    return request('DELETE', this.#base);
  }

  async find(css, patience = PATIENCE) {
    return until(`there is a ${css}`, () => this.first(css), patience);
  }

  /** The first match now, or null. */
  async first(css) {
    const found = await request('POST', `${this.#base}/elements`, { using: 'css selector', value: css });
    return found[0]?.[ELEMENT] ?? null;
  }

  async click(css) {
    const element = await this.find(css);
    await request('POST', `${this.#base}/element/${element}/click`, {});
  }

  async type(css, text) {
    const element = await this.find(css);
    await request('POST', `${this.#base}/element/${element}/value`, { text });
  }

  async text(css) {
    const element = await this.find(css);
    return request('GET', `${this.#base}/element/${element}/text`);
  }

  run(script, ...args) {
    return request('POST', `${this.#base}/execute/sync`, { script, args });
  }

  /** Calls a command of the shell as the page would. */
  async invoke(command, args = {}) {
    const script = `const done = arguments[arguments.length - 1];
      window.__TAURI_INTERNALS__.invoke(arguments[0], arguments[1])
        .then((ok) => done({ ok }), (error) => done({ error }));`;
    const answer = await request('POST', `${this.#base}/execute/async`, { script, args: [command, args] });
    if ('error' in answer) throw Object.assign(new Error(answer.error.message ?? answer.error), answer.error);
    return answer.ok;
  }

  handles() {
    return request('GET', `${this.#base}/window/handles`);
  }

  async switchTo(handle) {
    await request('POST', `${this.#base}/window`, { handle });
  }

  async screenshot(path) {
    await writeFile(path, Buffer.from(await request('GET', `${this.#base}/screenshot`), 'base64'));
  }
}

async function request(method, url, body) {
  const command = `${method} ${url.replace(/^.*\/session\/[^/]*/, '')}`;
  const sent = fetch(url, {
    method,
    headers: { 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(20_000),
  });
  const answer = await sent.catch((cause) => {
    throw new Error(`${command}: ${cause.message}`, { cause });
  });
  const { value } = await answer.json();
  if (!answer.ok) throw new Error(`${command}: ${value.error}: ${value.message}`);
  return value;
}
