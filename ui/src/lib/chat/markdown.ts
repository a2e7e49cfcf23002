import DOMPurify from 'dompurify';
import { Marked, type Token, type Tokens } from 'marked';
import { strings } from '$lib/strings';
import { highlight } from './highlight';

/** One top-level piece of Markdown: `html` is safe, and final once `closed`. */
export interface Block {
  key: number;
  /** Where it lies in the source. */
  start: number;
  end: number;
  html: string;
  closed: boolean;
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escape = (text: string) => text.replace(/[&<>"]/g, (c) => entities[c] ?? c);

// An answer's headings stand below the title of the window.
const headingShift = 1;

const options = {
  gfm: true,
  renderer: {
    html: ({ text }: Tokens.HTML | Tokens.Tag) => escape(text),
    image: ({ text, href }: Tokens.Image) => escape(text || href),
    checkbox: ({ checked }: Tokens.Checkbox) => (checked ? '☑ ' : '☐ '),
    code: ({ text, lang, escaped }: Tokens.Code) => codeHtml(text, lang ?? '', escaped === true),
  },
};

const marked = new Marked(options);
marked.use({
  renderer: {
    link({ href, tokens }) {
      const text = this.parser.parseInline(tokens);
      return /^https?:/i.test(href) ? `<a href="${escape(href)}">${text}</a>` : text;
    },
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + headingShift);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
  },
});

function codeHtml(text: string, info: string, open: boolean): string {
  const language = info.trim().split(/\s/)[0] ?? '';
  // Colouring an unfinished block again at every token would cost its length squared.
  const body = (open ? null : highlight(text, language)) ?? escape(text);
  return (
    `<div class="code" dir="ltr"><div class="code-bar"><span>${escape(language || strings.chat.code)}</span>` +
    `<button type="button" class="copy-code">${strings.chat.copyCode}</button></div>` +
    `<pre tabindex="0"><code>${body}</code></pre></div>`
  );
}

function toHtml(token: Token, closed: boolean): string {
  if (token.type === 'code') token.escaped = !closed;
  // A wide one is scrolled, by those who have no pointer too.
  const html = marked.parser([token]).replaceAll('<table>', '<table tabindex="0">');
  return DOMPurify.sanitize(html, {
    USE_PROFILES: { html: true },
    FORBID_ATTR: ['style'],
    FORBID_TAGS: ['style', 'form', 'input', 'textarea', 'select', 'img', 'video', 'audio'],
  });
}

/**
 * Markdown that grows at its end. Every block but the last is rendered once, so the work of a new
 * token depends on the length of the block it falls in and not on that of the answer.
 */
export class MarkdownStream {
  blocks: Block[] = [];
  #text = '';
  #tail = 0;
  #closed = 0;
  #depth = 0;

  get text(): string {
    return this.#text;
  }

  append(delta: string): void {
    this.#text += delta;
  }

  /** Brings `blocks` up to date; after `final` the last one is closed too. */
  render(final = false): Block[] {
    const tokens = marked.lexer(this.#text.slice(this.#tail));
    let last = tokens.length - 1;
    while (last >= 0 && tokens[last]?.type === 'space') last -= 1;
    const blocks = this.blocks.slice(0, this.#closed);
    let at = this.#tail;
    tokens.forEach((token, index) => {
      const end = at + token.raw.length;
      if (token.type !== 'space' && token.type !== 'def') {
        const closed = final || index < last;
        // Models begin at any level and skip some; those who listen for headings need the order.
        if (token.type === 'heading') {
          token.depth = Math.min(Number(token.depth), this.#depth + 1);
          if (closed) this.#depth = token.depth;
        }
        blocks.push({ key: blocks.length, start: at, end, html: toHtml(token, closed), closed });
        if (closed) this.#closed = blocks.length;
      }
      at = end;
      if (final || index < last) this.#tail = at;
    });
    this.blocks = blocks;
    return blocks;
  }
}

export function renderMarkdown(text: string): Block[] {
  const stream = new MarkdownStream();
  stream.append(text);
  return stream.render(true);
}
