import type { StreamName } from '../backend';
import type { CommandError, Streams } from '../contract';
import { MockAnswer } from './chat';
import { calibration, livePeriod, points } from './live';
import type { Scenario } from './scenario';
import { error, type MockPull, type MockState } from './state';

export type StreamHandlers = {
  [S in StreamName]: (args: Streams[S]['args'], emit: (event: Streams[S]['event']) => void) => void;
};

const busy: Scenario[] = ['streaming', 'long'];
const pullTick = 120;
const pullSteps = 60;

export function streamHandlers(state: MockState): StreamHandlers {
  return {
    chat_send: (request, emit) => {
      const { scenario, tick } = state.options;
      if (state.engine.state !== 'ready') throw error('no_model', 'No model is loaded.');
      const id = request.conversationId;
      const answer = new MockAnswer(request, scenario, state.engine.model ?? '', (event) => {
        if (event.type === 'finished' || event.type === 'failed') state.answers.delete(id);
        emit(event);
      });
      state.answers.set(id, answer);
      answer.start(tick);
    },
    model_pull: ({ id }, emit) => {
      const total = state.models.find((model) => model.id === id)?.bytes ?? 1e9;
      const progress = {
        status: 'running' as const,
        file: 'model-00001-of-00002.safetensors',
        bytes: 0,
        total,
        bytesPerSecond: null,
        secondsLeft: null,
        error: null,
      };
      run(state, id, { progress, timer: undefined, emit });
    },
    pull_resume: ({ id }, emit) => {
      const pull = state.pulls.get(id);
      if (!pull) throw error('not_found', 'There is no download to go on with.');
      pull.progress = { ...pull.progress, status: 'running', error: null };
      run(state, id, { ...pull, emit });
    },
    live_subscribe: (_, emit) => {
      const { scenario } = state.options;
      clearInterval(state.liveTimer);
      const next = () => {
        const generating = busy.includes(scenario) || state.answers.size > 0;
        emit(state.live.next(state.settings.policy.gamma, generating));
      };
      // As after a minute of decoding.
      if (scenario === 'long') for (let n = 0; n < 60_000 / livePeriod; n += 1) next();
      state.liveTimer = setInterval(next, livePeriod);
    },
    calibrate: (_, emit) => {
      let done = 0;
      state.calibrationEnd = () => emit({ type: 'stopped' });
      state.calibrationTimer = setInterval(() => {
        const point = points[done] ?? null;
        done += 1;
        const total = points.length;
        emit({ type: 'progress', done, total, share: done / total, point });
        if (done < points.length) return;
        clearInterval(state.calibrationTimer);
        state.calibration = calibration;
        emit({ type: 'finished', calibration });
      }, 150);
    },
  };
}

const failures: Partial<Record<Scenario, CommandError>> = {
  downloadfail: error('network', 'The connection to the hub was lost.'),
  fulldisk: error(
    'disk',
    'model-00001-of-00002.safetensors: 8.1 GB are needed and 1.2 GB are free',
  ),
};

function run(state: MockState, id: string, pull: MockPull): void {
  clearInterval(pull.timer);
  const { total } = pull.progress;
  const step = total / pullSteps;
  const failure = failures[state.options.scenario];
  pull.timer = setInterval(() => {
    const bytes = Math.min(total, pull.progress.bytes + step);
    const bytesPerSecond = (step / pullTick) * 1000;
    const secondsLeft = (total - bytes) / bytesPerSecond;
    pull.progress = { ...pull.progress, bytes, bytesPerSecond, secondsLeft };
    if (failure && bytes > total / 4) {
      pull.progress = { ...pull.progress, status: 'failed', bytesPerSecond: null, error: failure };
      clearInterval(pull.timer);
    } else if (bytes >= total) {
      pull.progress = { ...pull.progress, status: 'done' };
      clearInterval(pull.timer);
      state.pulls.delete(id);
      const model = state.models.find((entry) => entry.id === id);
      if (model) model.installed = true;
    }
    pull.emit(pull.progress);
  }, pullTick);
  state.pulls.set(id, pull);
}
