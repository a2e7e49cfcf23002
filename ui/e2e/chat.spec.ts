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
  await expect(page.getByText('1 conversation found.')).toBeAttached();
  await page.getByRole('button', { name: 'Rename What is the capital of France?' }).click();
  await page.getByLabel('Name', { exact: true }).fill('Paris');
  await page.getByRole('dialog').getByRole('button', { name: 'Rename' }).click();
  await page.getByLabel('Search conversations').fill('');
  await page.getByRole('button', { name: /^Paris/ }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Paris');
  await page.keyboard.press('Control+k');
  await page.getByRole('listitem').filter({ hasText: 'Paris' }).getByLabel('Delete Paris').click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByRole('listitem')).toHaveCount(3);
});

test('an Enter that confirms a composition sends nothing', async ({ page }) => {
  await open(page, 'chat');
  const message = page.getByLabel('Message', { exact: true });
  await message.fill('にほん');
  const enter = { key: 'Enter', bubbles: true, cancelable: true };
  // As WebKit sends it.
  await message.dispatchEvent('keydown', { ...enter, keyCode: 229 });
  await expect(message).toHaveValue('にほん');
  await message.dispatchEvent('keydown', { ...enter, keyCode: 13 });
  await expect(message).toHaveValue('');
});

test('a seed that is no whole number, or too large for one, is not taken', async ({ page }) => {
  await open(page, 'chat');
  await page.getByRole('button', { name: 'Options for this conversation' }).click();
  const seed = page.getByLabel('Seed');
  const invalid = async (text: string) => {
    await seed.fill(text);
    await seed.press('Tab');
    return (await seed.getAttribute('aria-invalid')) === 'true';
  };
  expect(await invalid('7')).toBe(false);
  expect(await invalid('1.5')).toBe(true);
  expect(await invalid('9007199254740992')).toBe(true);
  // What was taken last is still what holds.
  await page.getByRole('button', { name: 'Close' }).click();
  await page.getByRole('button', { name: 'Options for this conversation' }).click();
  await expect(seed).toHaveValue('7');
});

test('a model that is refused is not shown as the one in use', async ({ page }) => {
  await open(page, 'chat', { mock: 'loadfail' });
  const picker = page.getByLabel('Model', { exact: true });
  const before = await picker.inputValue();
  await picker.selectOption('Tiny MoE');
  await expect(page.getByText('Memory is too short to load this model.')).toBeVisible();
  await expect(picker).toHaveValue(before);
});

test('Markdown from a model cannot run anything', async ({ page }) => {
  await open(page, 'chat', { tick: 0.5 });
  await ask(page, '<img src=x onerror="document.title=\'bad\'"> [a](javascript:alert(1))');
  await expect(page.getByRole('button', { name: 'Regenerate' })).toBeVisible();
  await expect(page.locator('article img')).toHaveCount(0);
});
