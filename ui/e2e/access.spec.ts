import AxeBuilder from '@axe-core/playwright';
import type { Page } from '@playwright/test';
import { ask, expect, open, settingsSize, test } from './app';

async function noViolation(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.html).join('\n')}`);
  expect(found).toEqual([]);
}

const pages = ['models', 'policy', 'memory', 'network', 'general', 'live'];
const states = ['empty', 'loading', 'offline', 'unavailable', 'lan', 'streaming', 'crowded'];

// Colour is what differs in the dark, so there the fullest states are enough.
const inTheDark = ['lan', 'streaming'];

for (const colorScheme of ['light', 'dark'] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test('chat', async ({ page }) => {
      for (const mock of ['default', 'nomodel', 'loading', 'offline']) {
        await open(page, 'chat', { mock });
        await page.waitForTimeout(400);
        await noViolation(page);
      }
      await open(page, 'chat', { tick: 0.5 });
      await ask(page, 'Why can half of the experts be enough?');
      await page.getByRole('button', { name: 'Show decisions' }).click();
      await page.getByRole('button', { name: 'Options for this conversation' }).click();
      await page.getByText(/regenerated ·/).click();
      await noViolation(page);
      await page.getByRole('button', { name: 'Conversations' }).click();
      await page.getByRole('button', { name: 'Delete' }).first().click();
      await noViolation(page);
    });

    test('chat, crowded', async ({ page }) => {
      await open(page, 'chat', { mock: 'crowded' });
      await page.getByRole('button', { name: 'Conversations' }).click();
      await page.getByRole('button', { name: /^سؤال عن الخبراء/ }).click();
      await noViolation(page);
    });

    for (const mock of colorScheme === 'light' ? states : inTheDark) {
      test(`settings, ${mock}`, async ({ page }) => {
        await page.setViewportSize(settingsSize);
        for (const name of pages) {
          await open(page, `settings/${name}`, { mock });
          await page.waitForTimeout(450);
          await noViolation(page);
        }
      });
    }
  });
}

test('every control is reached by the keyboard alone', async ({ page }) => {
  await page.setViewportSize(settingsSize);
  for (const name of ['chat', ...pages.map((each) => `settings/${each}`)]) {
    await open(page, name, { mock: 'lan' });
    await page.waitForTimeout(450);
    const count = await page.evaluate(() => {
      const controls = 'a[href], button, input, select, textarea, summary, [tabindex="0"]';
      const all = [...document.querySelectorAll<HTMLElement>(controls)].filter(
        (control) =>
          control.checkVisibility() &&
          !control.matches(':disabled') &&
          // Arrow keys go from one radio button of a group to the next.
          !control.matches('[type="radio"]:not(:checked)'),
      );
      all.forEach((control) => (control.dataset['missed'] = ''));
      document.addEventListener('focusin', ({ target }) => {
        delete (target as HTMLElement).dataset['missed'];
      });
      (document.activeElement as HTMLElement).blur();
      return all.length;
    });
    for (let press = 0; press <= count + 3; press += 1) await page.keyboard.press('Tab');
    const left = page.locator('[data-missed]');
    expect(await left.evaluateAll((found) => found.map((one) => one.outerHTML)), name).toEqual([]);
  }
});

test('the keyboard goes to the list of conversations and back to the message', async ({ page }) => {
  await open(page, 'chat');
  const message = page.getByLabel('Message', { exact: true });
  const search = page.getByLabel('Search conversations');
  await expect(message).toBeFocused();
  await page.keyboard.press('Control+k');
  await expect(search).toBeFocused();
  await page.keyboard.press('Escape');
  await expect(message).toBeFocused();
  await page.keyboard.press('Control+k');
  await expect(search).toBeFocused();
  const remove = page.getByRole('button', { name: 'Delete' }).first();
  await remove.focus();
  await page.keyboard.press('Enter');
  await page.keyboard.press('Escape');
  await expect(remove).toBeFocused();
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).press('Enter');
  await expect(remove).toBeFocused();
  await search.focus();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await expect(page.getByText('Why half can be enough')).toBeVisible();
  await expect(message).toBeFocused();
  await page.keyboard.press('Control+k');
  await page.keyboard.press('Control+n');
  await expect(page.getByText('Ask anything')).toBeVisible();
  await expect(message).toBeFocused();
});

test('a dialog asked for right after another was closed is shown', async ({ page }) => {
  await open(page, 'chat');
  await page.keyboard.press('Control+k');
  const remove = page.getByRole('button', { name: 'Delete' }).first();
  await remove.click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Cancel' }).focus();
  // Before the event that a closed dialog sends later.
  await remove.evaluate(async (button) => {
    (document.activeElement as HTMLElement).click();
    await Promise.resolve();
    (button as HTMLElement).click();
  });
  await page.waitForTimeout(100);
  await expect(dialog).toBeVisible();
});
