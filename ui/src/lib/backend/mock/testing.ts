import type { CommandError } from '../contract';
import { MockShell } from './shell';
import type { MockOptions, Scenario } from './scenario';

export function mockShell(scenario: Scenario = 'default', options: Partial<MockOptions> = {}) {
  return new MockShell({ scenario, tick: 4, accent: null, ...options });
}

/** A shell that rejects one command once `broken.error` is set. */
export function breakable(command: string, shell = mockShell()) {
  const broken: { error: CommandError | null } = { error: null };
  const refuse = shell.state.refuse.bind(shell.state);
  shell.state.refuse = (name) => {
    if (name === command && broken.error) throw broken.error;
    refuse(name);
  };
  return { shell, broken };
}
