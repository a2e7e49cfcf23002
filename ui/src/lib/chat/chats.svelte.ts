import { SvelteMap } from 'svelte/reactivity';
import { Action } from '$lib/backend/action.svelte';
import type { Backend } from '$lib/backend/backend';
import type { ChatSettings, ConversationSummary, Policy } from '$lib/backend/contract';
import { Resource } from '$lib/backend/resource.svelte';
import { defaultPolicy, samePolicy } from '$lib/policy/policy';
import { newId } from '$lib/ui/id';
import { Conversation } from './conversation.svelte';

export const defaultChatSettings: ChatSettings = {
  system: '',
  temperature: 0.7,
  topP: 0.95,
  maxTokens: 2048,
  seed: null,
};

interface Defaults {
  settings: ChatSettings;
  policy: Policy;
}

/** All conversations, and the one that is open. */
export class Chats {
  query = $state('');
  current = $state.raw<Conversation>() as Conversation;
  readonly list: Resource<ConversationSummary[]>;
  readonly open: Action<[string]>;
  readonly rename: Action<[string, string]>;
  readonly remove: Action<[string]>;
  readonly #backend: Backend;
  readonly #defaults: () => Defaults | null;
  // An answer goes on while another conversation is open.
  readonly #loaded = new SvelteMap<string, Conversation>();

  constructor(backend: Backend, defaults: () => Defaults | null) {
    this.#backend = backend;
    this.#defaults = defaults;
    this.list = new Resource(() => {
      const query = this.query.trim();
      return query === ''
        ? backend.call('conversations_list', {})
        : backend.call('conversations_search', { query });
    });
    this.open = new Action(async (id: string) => {
      this.current = this.#loaded.get(id) ?? (await this.#load(id));
    });
    this.rename = new Action(async (id: string, title: string) => {
      await backend.call('conversation_rename', { id, title });
      const loaded = this.#loaded.get(id);
      if (loaded) loaded.title = title;
      await this.list.refresh();
    });
    this.remove = new Action(async (id: string) => {
      const remove = () => backend.call('conversation_delete', { id });
      await (this.#loaded.get(id)?.abandon(remove) ?? remove());
      this.#loaded.delete(id);
      if (this.current.id === id) this.fresh();
      await this.list.refresh();
    });
    this.fresh();
  }

  fresh(): void {
    const { settings, policy } = this.#defaults() ?? {
      settings: defaultChatSettings,
      policy: defaultPolicy,
    };
    const now = Date.now();
    this.#keep({
      id: newId(),
      title: '',
      createdAt: now,
      updatedAt: now,
      messages: [],
      settings,
      policy,
    });
  }

  /** A conversation whose policy was never made its own goes with the settings, even now. */
  followPolicy(before: Policy, after: Policy): void {
    if (samePolicy(before, after) || !samePolicy(this.current.policy, before)) return;
    void this.current.setPolicy.run(after);
  }

  search(query: string): void {
    this.query = query;
    void this.list.refresh();
  }

  async #load(id: string): Promise<Conversation> {
    return this.#keep(await this.#backend.call('conversation_get', { id }));
  }

  #keep(kept: ConstructorParameters<typeof Conversation>[1]): Conversation {
    for (const [id, { answering, save }] of this.#loaded) {
      // What is not on the disk is nowhere else.
      if (!answering && !save.running && !save.error) this.#loaded.delete(id);
    }
    const conversation = new Conversation(this.#backend, kept);
    this.#loaded.set(conversation.id, conversation);
    this.current = conversation;
    return conversation;
  }
}
