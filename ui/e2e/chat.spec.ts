import { ask, expect, open, test } from './app';

const question = 'Why can half of the experts be enough?';

test('an answer streams in, and its line of numbers follows', async ({ page }) => {
  await open(page, 'chat', { tick: 0.5 });
  await ask(page, question);
  await expect(page.getByRole('article', { name: 'Answer' })).toContainText('Mixture-of-Experts');
  await expect(
    page.getByText(/tok\/s · \d+% half · \d+ regenerated · \d+% fewer experts/),
  ).toBeVisible();
  await expect(page.locator('code .hljs-keyword').first()).toHaveText('fn');
});

test('stop keeps what was written', async ({ page }) => {
  await open(page, 'chat', { tick: 30 });
  await ask(page, question);
  await expect(page.getByText('Mixture-of-Experts')).toBeVisible();
  await page.getByRole('button', { name: 'Stop', exact: true }).click();
  await expect(page.getByText('Stopped', { exact: true })).toBeVisible();
  await expect(page.getByText('Mixture-of-Experts')).toBeVisible();
});

test('regenerate makes one new answer; edit drops what followed', async ({ page }) => {
  await open(page, 'chat', { tick: 0.5 });
  await ask(page, 'What is the capital of France?');
  await page.getByRole('button', { name: 'Regenerate' }).click();
  await expect(page.getByRole('button', { name: 'Regenerate' })).toBeVisible();
  await expect(page.getByRole('article', { name: 'Answer' })).toHaveCount(1);
  await ask(page, question);
  await expect(page.getByRole('article', { name: 'Answer' })).toHaveCount(2);
  await expect(page.getByRole('button', { name: 'Regenerate' })).toBeVisible();
  await page.getByRole('button', { name: 'Edit' }).first().click();
  await page.getByLabel('Edit message').fill('Only this');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('article', { name: 'You' })).toHaveText('Only this');
});

test('the threshold moves while an answer streams, and so does the share made again', async ({
  page,
}) => {
  await open(page, 'chat', { tick: 8 });
  await page.getByRole('button', { name: 'Options for this conversation' }).click();
  const threshold = page.getByLabel('Regenerate when confidence is below');
  await threshold.fill('0');
  await ask(page, question);
  await page.getByRole('button', { name: 'Close' }).click();
  await expect(page.getByText('Why half can be enough')).toBeVisible();
  await page.getByRole('button', { name: 'Options for this conversation' }).click();
  await threshold.fill('1');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Show decisions' }).click({ timeout: 15_000 });
  const decisions = await page
    .locator('.token')
    .evaluateAll((tokens) => tokens.map((token) => token.classList.contains('fallback')));
  const early = decisions.slice(0, 40);
  const late = decisions.slice(-40);
  expect(early.filter(Boolean)).toHaveLength(0);
  expect(late.filter(Boolean)).toHaveLength(40);
});

test('arrow keys read the regenerated tokens', async ({ page }) => {
  await open(page, 'chat', { tick: 0.5 });
  await ask(page, question);
  await page.getByRole('button', { name: 'Show decisions' }).click();
  await page.getByRole('group', { name: /Arrow keys/ }).focus();
  await page.keyboard.press('ArrowRight');
  await expect(page.getByText(/Regenerated · confidence 0\.\d\d · \d+\.\d ms/)).toBeVisible();
});

test('conversations are searched, renamed, deleted and opened again', async ({ page }) => {
  await open(page, 'chat');
  await page.keyboard.press('Control+k');
  await page.getByLabel('Search conversations').fill('Seine');
  await expect(page.getByRole('listitem')).toHaveCount(1);
  await page.getByRole('button', { name: 'Rename' }).click();
  await page.getByLabel('Name', { exact: true }).fill('Paris');
  await page.getByRole('dialog').getByRole('button', { name: 'Rename' }).click();
  await page.getByLabel('Search conversations').fill('');
  await page.getByRole('button', { name: /^Paris/ }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Paris');
  await page.keyboard.press('Control+k');
  await page.getByRole('listitem').filter({ hasText: 'Paris' }).getByLabel('Delete').click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByRole('listitem')).toHaveCount(3);
});

test('Markdown from a model cannot run anything', async ({ page }) => {
  await open(page, 'chat', { tick: 0.5 });
  await ask(page, '<img src=x onerror="document.title=\'bad\'"> [a](javascript:alert(1))');
  await expect(page.getByRole('button', { name: 'Regenerate' })).toBeVisible();
  await expect(page.locator('article img')).toHaveCount(0);
});

test('twenty thousand tokens stay smooth', async ({ page }) => {
  test.setTimeout(90_000);
  await open(page, 'chat', { mock: 'long', tick: 0.1 });
  await page.evaluate(() => {
    const frames: number[] = [];
    let before = performance.now();
    const count = (now: number) => {
      frames.push(now - before);
      before = now;
      requestAnimationFrame(count);
    };
    requestAnimationFrame(count);
    Object.assign(window, { frames });
  });
  await ask(page, 'Write a very long answer.');
  await expect(page.getByRole('button', { name: 'Regenerate' })).toBeVisible({ timeout: 60_000 });
  const frames = await page.evaluate(() => (window as unknown as { frames: number[] }).frames);
  const sorted = frames.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? 0;
  test.info().annotations.push({
    type: 'frames',
    description: `median ${at(0.5).toFixed(1)} ms, 95% ${at(0.95).toFixed(1)} ms`,
  });
  // A software renderer on a busy machine; the work itself must not grow with the answer.
  const half = Math.floor(frames.length / 2);
  const mean = (part: number[]) => part.reduce((sum, x) => sum + x, 0) / part.length;
  expect(mean(frames.slice(half))).toBeLessThan(3 * mean(frames.slice(0, half)) + 20);
  await page.getByText(/tok\/s/).click();
  const tokens = await page.locator('dt:text-is("Tokens") + dd').textContent();
  expect(Number(tokens?.replace(',', ''))).toBeGreaterThan(20_000);
});
