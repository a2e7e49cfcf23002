// What a program and all it has started have used, from /proc.
import { readFileSync, readdirSync } from 'node:fs';

const read = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // It has ended.
  }
};
const numbers = (path) => readdirSync(path).filter((name) => /^\d+$/.test(name));

/** The processes of a tree. */
function tree(root) {
  const parents = new Map();
  for (const pid of numbers('/proc')) {
    const stat = read(`/proc/${pid}/stat`);
    parents.set(Number(pid), Number(stat.slice(stat.lastIndexOf(')') + 4).split(' ')[0]));
  }
  const found = [root];
  for (const pid of found) for (const [child, parent] of parents) if (parent === pid) found.push(child);
  return found;
}

/** For every thread: its name, nanoseconds on a core, and how often it was put on one. */
export function threads(root) {
  const all = new Map();
  for (const pid of tree(root)) {
    const process = read(`/proc/${pid}/comm`).trim();
    for (const tid of numbers(`/proc/${pid}/task`)) {
      const at = `/proc/${pid}/task/${tid}`;
      const [ran] = read(`${at}/schedstat`).split(' ');
      const switches = [...read(`${at}/status`).matchAll(/ctxt_switches:\s+(\d+)/g)].map(([, n]) => Number(n));
      const name = `${process}/${read(`${at}/comm`).trim()}`;
      all.set(Number(tid), { name, ns: Number(ran), switches: switches.reduce((a, b) => a + b, 0) });
    }
  }
  return all;
}

/** What was used between two looks. */
export function used(before, after, seconds) {
  const each = new Map();
  for (const [tid, { name, ns, switches }] of after) {
    const then = before.get(tid) ?? { ns: 0, switches: 0 };
    const sum = each.get(name) ?? { cpu: 0, wakeups: 0 };
    sum.cpu += (ns - then.ns) / 1e7 / seconds;
    sum.wakeups += (switches - then.switches) / seconds;
    each.set(name, sum);
  }
  const total = (key) => [...each.values()].reduce((sum, one) => sum + one[key], 0);
  return { cpu: total('cpu'), wakeups: total('wakeups'), each };
}
