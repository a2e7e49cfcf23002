import type { CommandName } from '../backend';
import type { Commands } from '../contract';
import { summaries } from './conversations';
import { doctor, initialSettings, memoryPlan, networkFor } from './settings';
import { error, type MockState } from './state';

export type CallHandlers = {
  [C in CommandName]: (
    args: Commands[C]['args'],
  ) => Commands[C]['result'] | Promise<Commands[C]['result']>;
};

export function callHandlers(state: MockState): CallHandlers {
  return { ...chat(state), ...models(state), ...settings(state), ...network(state) };
}

function chat(state: MockState) {
  const find = (id: string) => {
    const found = state.conversations.get(id);
    if (!found) throw error('not_found', 'This conversation no longer exists.');
    return found;
  };
  return {
    chat_stop: ({ id }) => {
      state.answers.get(id)?.stop();
      return null;
    },
    chat_set_policy: ({ id, policy }) => {
      const answer = state.answers.get(id);
      if (answer) answer.policy = policy;
      return null;
    },
    conversations_list: () => summaries(state.conversations.values(), ''),
    conversations_search: ({ query }) => summaries(state.conversations.values(), query),
    conversation_get: ({ id }) => find(id),
    conversation_save: ({ conversation }) => {
      state.conversations.set(conversation.id, conversation);
      return null;
    },
    conversation_rename: ({ id, title }) => {
      find(id).title = title;
      return null;
    },
    conversation_delete: ({ id }) => {
      state.conversations.delete(id);
      return null;
    },
  } satisfies Partial<CallHandlers>;
}

function models(state: MockState) {
  const find = (id: string) => state.models.find((model) => model.id === id);
  return {
    models_list: () => state.models,
    model_load: async ({ id }) => {
      if (state.options.scenario === 'loadfail' && state.settings.contextTokens > 2048) {
        throw error('busy', 'Memory is too short to load this model.');
      }
      state.setEngine({ state: 'loading', model: id, progress: 0, message: null });
      for (let step = 1; step <= 5; step += 1) {
        await new Promise((resolve) => setTimeout(resolve, 60));
        if (state.engine.state !== 'loading' || state.engine.model !== id) return null;
        state.setEngine({ progress: step / 5 });
      }
      state.loadedMemory = state.settings.expertMemory;
      state.setEngine({ state: 'ready', progress: null, memoryBytes: find(id)?.bytes ?? null });
      return null;
    },
    model_unload: () => {
      state.setEngine({ state: 'empty', model: null, progress: null, memoryBytes: null });
      return null;
    },
    model_delete: ({ id }) => {
      const model = find(id);
      if (model?.inPlace) state.models.splice(state.models.indexOf(model), 1);
      else if (model) model.installed = false;
      return null;
    },
    model_import: ({ path }) => {
      const template = state.models[0];
      if (!template) throw error('not_found', 'No checkpoint was found in this folder.');
      const name = path.split('/').at(-1) ?? path;
      const own = { id: `local/${name}`, name, installed: true, embedded: false, inPlace: true };
      const model = { ...template, ...own };
      state.models.push(model);
      return model;
    },
    pull_pause: ({ id }) => {
      const pull = state.pulls.get(id);
      if (pull) {
        clearInterval(pull.timer);
        pull.progress = { ...pull.progress, status: 'paused', bytesPerSecond: null };
        pull.emit(pull.progress);
      }
      return null;
    },
    pull_cancel: ({ id }) => {
      clearInterval(state.pulls.get(id)?.timer);
      state.pulls.delete(id);
      return null;
    },
    engine_state: () => state.engine,
    memory_plan: ({ expertMemory }) => {
      if (state.engine.state === 'error') throw error('no_model', 'The model could not be loaded.');
      return memoryPlan(expertMemory, state.loadedMemory);
    },
  } satisfies Partial<CallHandlers>;
}

function settings(state: MockState) {
  const keep = (next: typeof state.settings) => {
    state.settings = next;
    state.emit('settings', next);
    return next;
  };
  return {
    settings_get: () => state.settings,
    settings_set: ({ settings: next }) => keep(next),
    settings_reset: () => keep(structuredClone(initialSettings)),
    autostart_set: ({ enabled }) => {
      state.settings = { ...state.settings, autostart: enabled };
      return null;
    },
    look_get: () => ({ accent: state.options.accent, vibrancy: false }),
    folder_choose: () => '/Volumes/Models/my-olmoe',
    link_open: () => null,
    logs_open: () => null,
    window_open: ({ window: name, page }) => {
      window.location.hash = page === null ? name : `${name}/${page}`;
      return null;
    },
    window_close: () => null,
    calibration_get: () => state.calibration,
    calibrate_stop: () => {
      clearInterval(state.calibrationTimer);
      state.calibrationEnd?.();
      return null;
    },
    live_unsubscribe: () => {
      clearInterval(state.liveTimer);
      return null;
    },
    doctor: () => doctor,
  } satisfies Partial<CallHandlers>;
}

function network(state: MockState) {
  return {
    network_status: () => networkFor(state.settings, state.options.scenario),
    lan_set: ({ enabled }) => {
      state.settings = { ...state.settings, lan: { ...state.settings.lan, enabled } };
      state.emit('settings', state.settings);
      const status = networkFor(state.settings, state.options.scenario);
      state.emit('network', status);
      return status;
    },
    keys_list: () => state.keys,
    key_create: ({ name }) => {
      const id = `k${state.keys.length + 1}`;
      const key = { id, name, createdAt: Date.now(), lastUsedAt: null };
      state.keys = [...state.keys, key];
      return { key, secret: 'mob_4f7c1d0a93e84b6fb2a15c3d' };
    },
    key_revoke: ({ id }) => {
      state.keys = state.keys.filter((key) => key.id !== id);
      return null;
    },
  } satisfies Partial<CallHandlers>;
}
