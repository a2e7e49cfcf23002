// The app at rest and at its start, beside a hello-world. app.sh prepares and starts this.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { execute, newHome, removeHome } from '../app/harness.mjs';
import { Menu } from '../app/menu.mjs';
import { pause, until } from '../app/webdriver.mjs';
import { threads, used } from './processes.mjs';
import { Screen } from './screen.mjs';

const { positionals } = parseArgs({ allowPositionals: true });
const [what = 'all', runs = '5'] = positionals;
const { APP, HELLO, SCREEN } = process.env;
/** Between two looks at the screen, in ms. */
const LOOK = 3;
/** For everything that a start begins to be done, in ms. */
const SETTLE = 10_000;
const MINUTE = 60;

const screen = new Screen(SCREEN);

class Program {
  static async start(binary, ...args) {
    const made = await newHome();
    screen.clear();
    const began = performance.now();
    const child = spawn(binary, args, { env: made.env, stdio: 'ignore' });
    return Object.assign(new Program(), made, { began, child });
  }

  since = () => performance.now() - this.began;

  /** Milliseconds until a window is there, and until something is drawn in it. */
  async painted() {
    let shown;
    for (;;) {
      const { window, drawn } = screen.look();
      if (window) shown ??= this.since();
      if (drawn) return { shown, drawn: this.since() };
      if (this.since() > 30_000) throw new Error('nothing was drawn within 30 s');
      await pause(LOOK);
    }
  }

  /** Milliseconds until the first token of an answer, asked for as soon as the endpoint takes a request. */
  async answered() {
    const body = { model: 'olmoe-tiny', messages: [{ role: 'user', content: 'Tell me a story.' }], stream: true };
    const request = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
    const url = `http://127.0.0.1:${this.port}/v1/chat/completions`;
    const answer = await until('an answer begins', async () => {
      const sent = await fetch(url, request);
      return sent.ok && sent;
    }, 30_000);
    const text = new TextDecoder();
    let seen = '';
    for await (const chunk of answer.body) {
      seen += text.decode(chunk, { stream: true });
      if (/"content":"[^"]/.test(seen)) return this.since();
    }
    throw new Error(`an answer without a token: ${seen}`);
  }

  /** What was used in a minute. */
  async rest() {
    await pause(SETTLE);
    const [before, from] = [threads(this.child.pid), performance.now()];
    await pause(MINUTE * 1000);
    return used(before, threads(this.child.pid), (performance.now() - from) / 1000);
  }

  async end() {
    const gone = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await gone;
    await removeHome(this.home);
    await pause(500);
  }
}

async function repeat(measure) {
  const all = [];
  for (let run = 0; run < Number(runs); run += 1) all.push(await measure());
  return all;
}

const median = (numbers) => {
  const sorted = numbers.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};
const rounded = (number) => (number >= 100 ? number.toFixed(0) : number.toFixed(number >= 10 ? 1 : 2));

/** A line of the table: medians, the range of the app's, and the ratio where there is something to divide by. */
function line(name, unit, app, hello) {
  const [ours, theirs] = [median(app), hello && median(hello)];
  const range = `${rounded(Math.min(...app))}–${rounded(Math.max(...app))}`;
  const ratio = theirs > 0 ? `${(ours / theirs).toFixed(2)} ×` : '–';
  console.log(`| ${name} | ${rounded(ours)} ${unit} (${range}) | ${hello ? `${rounded(theirs)} ${unit}` : '–'} | ${ratio} |`);
}

async function launches() {
  const hello = await repeat(async () => {
    const program = await Program.start(HELLO);
    const painted = await program.painted();
    await program.end();
    return painted;
  });
  const app = await repeat(async () => {
    const program = await Program.start(APP, '--show');
    const [painted, token] = await Promise.all([program.painted(), program.answered()]);
    await program.end();
    return { ...painted, token };
  });
  const hidden = await repeat(async () => {
    const program = await Program.start(APP, '--hidden');
    const token = await program.answered();
    const menu = await Menu.of(program.child.pid);
    await pause(3000);
    const opened = async () => {
      const item = await menu.item('Open Chat');
      program.began = performance.now();
      const [painted] = await Promise.all([program.painted(), menu.click(item)]);
      return painted;
    };
    const painted = await opened();
    await pause(1000);
    await execute('xdotool', ['key', 'alt+F4']);
    await until('the window is gone', () => !screen.look().window);
    await pause(1000);
    const again = await opened();
    await program.end();
    return { ...painted, again: again.drawn, token };
  });
  const of = (measured, key) => measured.map((one) => one[key]);
  const gap = (measured) => measured.map(({ shown, drawn }) => drawn - shown);
  line('launch to first paint', 'ms', of(app, 'drawn'), of(hello, 'drawn'));
  line('of that, window to first paint', 'ms', gap(app), gap(hello));
  line('*Open Chat* to first paint, already running', 'ms', of(hidden, 'drawn'));
  line('the same, after it was closed', 'ms', of(hidden, 'again'));
  line('launch to first token, with the window', 'ms', of(app, 'token'), of(hello, 'drawn'));
  line('launch to first token, without', 'ms', of(hidden, 'token'), of(hello, 'drawn'));
}

async function rests() {
  const states = [
    { state: 'no window', argument: '--hidden' },
    // The caret of the app's field blinks, so the other has one too.
    { state: 'the window in front', argument: '--show', field: true },
    // Without the focus there is no caret that blinks.
    { state: 'another window in front', argument: '--show', behind: true },
  ];
  for (const { state, argument, field, behind } of states) {
    const measure = async (binary) => {
      const program = await Program.start(binary, argument, ...(field && binary === HELLO ? ['--field'] : []));
      if (behind) await pause(SETTLE / 2);
      const other = behind && (await Program.start(HELLO));
      const rest = await program.rest();
      await Promise.all([program, other].map((one) => one && one.end()));
      return rest;
    };
    const hello = await repeat(() => measure(HELLO));
    const app = await repeat(() => measure(APP));
    line(`share of a core, ${state}`, '%', app.map(({ cpu }) => cpu), hello.map(({ cpu }) => cpu));
    line(`wake-ups a second, ${state}`, '', app.map(({ wakeups }) => wakeups), hello.map(({ wakeups }) => wakeups));
    const last = [...app.at(-1).each].filter(([, one]) => one.wakeups > 0.05);
    for (const [name, one] of last.toSorted(([, a], [, b]) => b.wakeups - a.wakeups)) {
      console.error(`  ${name}: ${one.wakeups.toFixed(2)} wake-ups a second, ${one.cpu.toFixed(3)} %`);
    }
  }
}

console.log('| | app: median (range) | hello-world | ratio |\n|---|---|---|---|');
if (what !== 'idle') await launches();
if (what !== 'launch') await rests();
