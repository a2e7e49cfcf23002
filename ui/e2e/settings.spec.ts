import { expect, open, settingsSize, test } from './app';

test.use({ viewport: settingsSize });

test('a model is pulled with pause and resume, then loaded', async ({ page }) => {
  await open(page, 'settings/models');
  const name = 'Qwen1.5-MoE A2.7B Chat';
  await page.getByRole('button', { name: `Get ${name}` }).click();
  await expect(page.getByText(/of 8.10 GB · .*\/s · .* left/)).toBeVisible();
  await page.getByRole('button', { name: `Pause ${name}` }).click();
  const line = page.getByText(/^Paused/);
  const before = await line.textContent();
  await page.waitForTimeout(400);
  await expect(line).toHaveText(before ?? '');
  await page.getByRole('button', { name: `Resume ${name}` }).click();
  await page.getByRole('button', { name: `Load ${name}`, exact: true }).click({ timeout: 15_000 });
  await expect(page.getByText('In use · 8.10 GB')).toBeVisible();
});

test('a failed download says so and goes on', async ({ page }) => {
  await open(page, 'settings/models', { mock: 'downloadfail' });
  await page.getByRole('button', { name: 'Get Qwen1.5-MoE A2.7B Chat' }).click();
  await expect(page.getByText('The connection to the hub was lost.')).toBeVisible();
  await expect(page.getByText('What arrived is kept.')).toBeVisible();
  await page.getByRole('button', { name: 'Try again' }).click();
  await expect(page.getByText('What arrived is kept.')).toBeHidden();
});

test('a model too large is got only after a second thought', async ({ page }) => {
  await open(page, 'settings/models');
  await page.getByRole('button', { name: 'Get Mixtral 8x7B Instruct' }).last().click();
  await expect(page.getByRole('dialog')).toContainText('too large to run');
  await page.keyboard.press('Escape');
  await expect(page.getByRole('dialog')).toHaveCount(0);
});

test('a model that was imported is removed from the list, not from its folder', async ({
  page,
}) => {
  await open(page, 'settings/models');
  await page.getByRole('button', { name: 'Import a folder…' }).click();
  await page.getByRole('button', { name: 'Remove my-olmoe' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('Remove my-olmoe?');
  await expect(dialog).toContainText('Your folder stays where it is.');
  await dialog.getByRole('button', { name: 'Remove' }).click();
  await expect(page.getByText('my-olmoe')).toHaveCount(0);
});

test('what kept a model from being loaded can be changed, or the model deleted', async ({
  page,
}) => {
  await open(page, 'settings/models', { mock: 'loadfail' });
  await expect(page.getByRole('button', { name: 'Delete OLMoE 1B-7B Instruct' })).toBeEnabled();
  await page.getByRole('link', { name: 'Memory' }).click();
  await expect(page.getByText(/^Keys and values for 4,096 tokens/)).toBeVisible();
  await page.getByLabel('For experts').fill('1828125000');
  await expect(page.getByRole('switch', { name: 'Automatic' })).not.toBeChecked();
  await page.getByLabel('Context').selectOption('2048');
  await page.getByRole('button', { name: 'Load again' }).click();
  await expect(page.getByText(/of 1,024 experts in memory/)).toBeVisible();
});

test('the curve is measured once, with progress', async ({ page }) => {
  await open(page, 'settings/policy', { mock: 'streaming' });
  await expect(page.getByText('78.0 tok/s · 1.008× perplexity · 28% regenerated')).toBeVisible();
  await page.getByRole('slider').fill('0.5');
  await expect(page.getByText(/89\.\d tok\/s .* \d+% regenerated/)).toBeVisible();
  await page.getByRole('button', { name: 'Measure again' }).click();
  await expect(page.getByText(/Measuring, \d+ of 11/)).toBeVisible();
  // It goes on while another page is looked at.
  await page.getByRole('link', { name: 'Memory' }).click();
  await page.getByRole('link', { name: 'MoBiLE' }).click();
  await expect(page.getByText(/Measuring, \d+ of 11/)).toBeVisible();
  await expect(page.getByRole('button', { name: 'Measure again' })).toBeVisible();
  await page.getByRole('button', { name: 'Use γ 0.60' }).click();
  await expect(page.getByRole('slider')).toHaveValue('0.6');
  await expect(page.getByRole('button', { name: 'Use γ 0.60' })).toBeHidden();
});

test('sharing shows addresses, and without keys asks first', async ({ page }) => {
  await open(page, 'settings/network');
  await page.getByRole('switch', { name: 'Ask for a key' }).click();
  await page.getByRole('switch', { name: 'Share on the local network' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Share without keys' }).click();
  await expect(page.getByText('http://192.168.1.24:8090')).toBeVisible();
  await page.getByRole('button', { name: 'Show QR code' }).nth(1).click();
  await expect(page.getByRole('img', { name: /QR code for http:\/\/192/ })).toBeVisible();
  await page.getByRole('switch', { name: 'Share on the local network' }).click();
  await expect(page.getByText('http://192.168.1.24:8090')).toBeHidden();
});

test('a new key is shown once', async ({ page }) => {
  await open(page, 'settings/network');
  await page.getByLabel('Name of the new key').fill('Phone');
  await page.getByRole('button', { name: 'Create key' }).click();
  await expect(page.getByText(/^mob_/)).toBeVisible();
  await page.getByRole('button', { name: 'Revoke Phone' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await expect(page.getByText('Phone', { exact: true })).toBeHidden();
});

test('the expert budget shows what would stay in memory', async ({ page }) => {
  await open(page, 'settings/memory');
  await expect(page.getByText('All experts in memory')).toBeVisible();
  await page.getByLabel('For experts').fill('1800000000');
  await expect(page.getByText('512 of 1,024 experts in memory')).toBeVisible();
  await expect(page.getByRole('switch', { name: 'Automatic' })).not.toBeChecked();
  await page.getByRole('button', { name: 'Load again' }).click();
  await expect(page.getByRole('button', { name: 'Load again' })).toBeHidden();
});

test('a system without a language shows every page', async ({ page }) => {
  await page.addInitScript(() => {
    Object.defineProperty(Navigator.prototype, 'language', { get: () => 'C' });
  });
  for (const name of ['policy', 'network', 'live']) {
    await open(page, `settings/${name}`, { mock: 'streaming' });
    await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
  }
});

test('a build that cannot says so, and does not spin', async ({ page }) => {
  await open(page, 'settings/general', { mock: 'unavailable' });
  await expect(page.getByText('The hardware assessment is not part of this build.')).toBeVisible();
  await page.getByRole('switch', { name: 'Start at login' }).click();
  await expect(page.getByText('This build cannot do that.')).toBeVisible();
  await expect(page.getByRole('switch', { name: 'Start at login' })).not.toBeChecked();
});

test('appearance, accent and shortcut', async ({ page }) => {
  await open(page, 'settings/general', { accent: 'ffcc00' });
  await page.getByLabel('Appearance').selectOption('dark');
  await expect(page.locator('html')).toHaveAttribute('data-appearance', 'dark');
  await expect(page.locator('body')).toHaveCSS('background-color', 'rgb(30, 30, 32)');
  await expect(page.getByRole('link', { name: 'General' })).toHaveCSS('color', 'rgb(0, 0, 0)');
  await page.getByRole('button', { name: /Shortcut to open/ }).click();
  await page.keyboard.press('Control+Shift+M');
  await expect(page.getByRole('button', { name: /Control \+ Shift \+ M/ })).toBeVisible();
});

test('the live view draws what comes in, and a legend hides a line', async ({ page }) => {
  await open(page, 'settings/live', { mock: 'streaming' });
  const legend = page.getByRole('button', { name: /^Important/ });
  await legend.click();
  await expect(legend).toHaveAttribute('aria-pressed', 'false');
});

test('the heat map tells what an expert did by pointer, by key and as a table', async ({
  page,
}) => {
  await page.setViewportSize({ width: 920, height: 1400 });
  await open(page, 'settings/live', { mock: 'streaming' });
  const group = page.getByRole('region', { name: 'Experts at work' });
  const little = group.getByRole('img', { name: 'Fewer experts' });
  await little.hover({ position: { x: 3, y: 3 } });
  await expect(group.getByText(/^Layer 1, expert 1: \d/)).toBeVisible();
  const big = group.getByRole('img', { name: 'All experts' });
  await big.focus();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowRight');
  await expect(group.getByText(/^Layer 2, expert 2: \d/)).toBeVisible();
  await group.getByText('Busiest experts of each layer').click();
  await expect(group.getByRole('row')).toHaveCount(17);
  await expect(group.getByRole('row').nth(1)).toContainText(/^1\s*\d+ \(\d+%\), /);
});

test('the heat map of a model at rest is not shown', async ({ page }) => {
  await open(page, 'settings/live');
  await expect(page.getByText('Nothing is being generated')).toBeVisible();
  await expect(page.getByText('Experts at work')).toBeHidden();
});

test('a model that is being loaded can be given up, and loaded after all', async ({ page }) => {
  await open(page, 'settings/models', { mock: 'loading' });
  await page.getByRole('button', { name: /^Cancel loading / }).click();
  await expect(page.getByRole('progressbar')).toHaveCount(0);
  await page.getByRole('button', { name: /^Load OLMoE/ }).click();
  await expect(page.getByRole('button', { name: 'Unload' })).toBeVisible();
});

test('another model can be chosen while one is being loaded', async ({ page }) => {
  await open(page, 'settings/models', { mock: 'loading' });
  await page.getByRole('button', { name: 'Load Tiny MoE' }).click();
  await expect(page.getByRole('button', { name: 'Unload' })).toBeVisible();
  await expect(page.getByRole('button', { name: /^Load OLMoE/ })).toBeVisible();
});
