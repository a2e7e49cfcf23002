// The second computer, and the cable to it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { execute } from '../app/harness.mjs';
import { until } from '../app/webdriver.mjs';

export const here = '10.90.0.1';
export const there = '10.90.0.2';

/** A network namespace that this one's `left` is joined to. It lasts as long as a process in it. */
export class Computer {
  #holder;

  static async join(name) {
    const computer = new Computer();
    const hold = 'mount -t sysfs sysfs /sys && exec sleep infinity';
    computer.#holder = spawn('unshare', ['--net', '--uts', '--mount', 'sh', '-c', hold], { stdio: 'ignore' });
    const { pid } = computer.#holder;
    await until('there is another network', async () => (await readFile(`/proc/${pid}/comm`, 'utf8')) === 'sleep\n');
    await computer.rename(name);
    await execute('ip', ['link', 'add', 'left', 'type', 'veth', 'peer', 'name', 'right', 'netns', String(pid)]);
    await execute('ip', ['address', 'add', `${here}/24`, 'dev', 'left']);
    await execute('ip', ['link', 'set', 'left', 'up']);
    await computer.run('ip', 'link', 'set', 'lo', 'up');
    await computer.run('ip', 'address', 'add', `${there}/24`, 'dev', 'right');
    await computer.plug(true);
    return computer;
  }

  #enter(command) {
    return ['--target', String(this.#holder.pid), '--net', '--uts', '--mount', ...command];
  }

  /** Runs a command there to its end; gives what it wrote. */
  async run(...command) {
    return (await execute('nsenter', this.#enter(command))).stdout;
  }

  /** Starts a program there; the signals sent to what this gives reach the program itself. */
  start(env, ...command) {
    return spawn('nsenter', this.#enter(command), { env, stdio: 'ignore' });
  }

  rename(name) {
    return this.run('hostname', name);
  }

  /** Puts the cable in, or pulls it. */
  plug(isIn) {
    return this.run('ip', 'link', 'set', 'right', isIn ? 'up' : 'down');
  }

  async end() {
    this.#holder.kill('SIGKILL');
    await once(this.#holder, 'exit');
  }
}
