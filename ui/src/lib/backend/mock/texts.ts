import { randomFrom } from './random';

const experts = `A **Mixture-of-Experts** layer keeps many small feed-forward networks and asks only a few of them for each token. A *router* scores every expert and the best K answer.

## Why half can be enough

Most tokens are easy. After "The capital of France is" almost any part of the model knows what comes next, so half of the experts give the same word. MoBiLE uses that:

1. Decode the token with **K/2** experts.
2. Look at the highest probability of the result.
3. If it is at least γ, keep the token. Otherwise make it again with all K.

| policy | experts a token | regenerated |
| --- | ---: | ---: |
| All experts | 8 | none |
| Half of the experts | 4 | none |
| Half when sure | 4 or 8 | 21% |

The comparison itself is one line:

\`\`\`rust
fn is_unimportant(probabilities: &[f32], gamma: f32) -> bool {
    // The little pass stands when its best guess is confident enough.
    probabilities.iter().copied().fold(0.0, f32::max) >= gamma
}
\`\`\`

Set \`gamma\` higher for answers closer to the full model, lower for more speed. Where the experts fit in memory the gain is small; where they are read from the disk it is the largest, because a token that stands never asks for the missing half.`;

const short = `Paris has been the capital of France since the late tenth century, apart from short breaks in wartime. The city grew around the Île de la Cité, an island in the Seine.

- **Population:** about 2.1 million in the city
- **River:** the Seine
- **Known for:** museums, bread and long lunches`;

const paragraphs = [
  'A router is a single small matrix. It multiplies the hidden state of the token and gives one score for each expert, and the softmax of those scores is the weight with which the chosen experts are summed.',
  'Experts are not specialists in the human sense. They divide the work along lines that help the loss: punctuation here, the second half of long words there, indentation somewhere else.',
  'Reading weights costs more than multiplying them. A decode step touches every weight it needs exactly once, so the time of a token is close to the bytes it reads over the bandwidth of the memory.',
  'The confidence of the little model is a cheap and honest signal. It does not say that a token is right, but a low value is where a second look pays most.',
];

function longText(words: number): string {
  const random = randomFrom(7);
  const parts: string[] = [];
  let length = 0;
  for (let section = 1; length < words; section += 1) {
    const body = Array.from(
      { length: 4 },
      () => paragraphs[Math.floor(random() * paragraphs.length)] ?? '',
    );
    const code = `\`\`\`python\ndef layer_${section}(x, experts, k):\n    scores = router(x)\n    return sum(w * experts[i](x) for i, w in top(scores, k))\n\`\`\``;
    const text = [`## Part ${section}`, ...body, code].join('\n\n');
    parts.push(text);
    length += text.split(/\s+/).length;
  }
  return parts.join('\n\n');
}

// What breaks a layout: a script from right to left, words without an end, lines without one.
const awkward = `# ما هو خليط الخبراء؟

يختار **الموجّه** عددًا قليلًا من الخبراء لكل رمز، ولا يعمل الباقون.

1. نصف الخبراء أولًا.
2. ثم جميعهم عند الشك.

> الثقة إشارة رخيصة وصادقة.

${'Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft'.repeat(3)}

\`\`\`sh
mobile generate --model mlx-community/OLMoE-1B-7B-0125-Instruct-4bit --policy mobile --gamma 0.8 --json "Tell me a story about a fox." # one line
${'echo half\n'.repeat(40)}\`\`\`

| ${Array.from({ length: 9 }, (_, column) => `column ${column + 1}`).join(' | ')} |
| ${'--- | '.repeat(9)}
| ${'value | '.repeat(9)}`;

export const texts = {
  awkward,
  experts,
  short,
  long: () => longText(18_000),
};

/** Cuts text the way a tokenizer does: short pieces that begin with their space. */
export function pieces(text: string): string[] {
  return text.match(/\s*[\p{L}\p{N}]{1,7}|\s*[^\s\p{L}\p{N}]+|\s+/gu) ?? [];
}
