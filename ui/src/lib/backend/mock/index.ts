import type { Backend } from '../backend';
import { MockShell } from './shell';
import { optionsFrom } from './scenario';

export const backend: Backend = new MockShell(optionsFrom(window.location.search));
