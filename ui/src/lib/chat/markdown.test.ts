import { describe, expect, it } from 'vitest';
import { MarkdownStream, renderMarkdown } from './markdown';

const text = `# Title

A *paragraph* with \`code\` and a [link](https://example.org).

- one
- two

\`\`\`rust
fn main() {}
\`\`\`

| a | b |
| - | - |
| 1 | 2 |

The end.`;

const html = (source: string) =>
  renderMarkdown(source)
    .map((block) => block.html)
    .join('');

describe('a growing answer', () => {
  it('ends as if it had been rendered at once', () => {
    const stream = new MarkdownStream();
    for (const character of text) {
      stream.append(character);
      stream.render();
    }
    expect(stream.render(true)).toEqual(renderMarkdown(text));
  });

  it('leaves closed blocks alone', () => {
    const stream = new MarkdownStream();
    stream.append('First.\n\nSecond');
    const [first, second] = stream.render();
    stream.append(' goes on.\n\nThird');
    const later = stream.render();
    expect(later[0]).toBe(first);
    expect(later[1]).not.toBe(second);
    expect(later.map((block) => block.closed)).toEqual([true, true, false]);
  });

  it('colours code only once it is whole', () => {
    const stream = new MarkdownStream();
    stream.append('```rust\nfn main() {}\n');
    expect(stream.render()[0]?.html).not.toContain('hljs-keyword');
    stream.append('```\n\nDone.');
    expect(stream.render()[0]?.html).toContain('hljs-keyword');
  });

  it('knows where each block lies in the source', () => {
    const blocks = renderMarkdown('One.\n\nTwo.');
    expect(blocks.map(({ start, end }) => 'One.\n\nTwo.'.slice(start, end).trim())).toEqual([
      'One.',
      'Two.',
    ]);
  });
});

describe('what a model may write', () => {
  it.each([
    ['<script>alert(1)</script>', '<script'],
    ['<img src=x onerror=alert(1)>', '<img'],
    ['![picture](https://example.org/track.png)', '<img'],
    ['[a](javascript:alert(1))', 'href'],
    ['<a href="data:text/html,x">a</a>', '<a '],
    ['```x"onload="y\ncode\n```', 'onload="y"'],
    ['- [ ] todo', '<input'],
    ['<p style="position:fixed">x</p>', '<p style'],
  ])('%s', (source, forbidden) => {
    expect(html(source)).not.toContain(forbidden);
  });

  it('keeps links to web pages, the only ones that are opened', () => {
    expect(html('[a](https://example.org)')).toContain('href="https://example.org"');
    expect(html('write to ada@example.org')).not.toContain('href');
  });

  it('keeps what tables, lists and long code need', () => {
    expect(html('| a |\n| -: |\n| 1 |')).toContain('align="right"');
    expect(html('3. three')).toContain('start="3"');
    expect(html('```\ncode\n```')).toContain('<pre tabindex="0">');
  });

  it('never skips a level of heading', () => {
    const levels = html('### a\n\n##### b\n\n# c').match(/<h\d/g);
    expect(levels).toEqual(['<h2', '<h3', '<h2']);
  });
});
